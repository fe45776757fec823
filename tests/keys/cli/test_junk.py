"""Files come from others: whatever is in them, a command ends with a reason, never with a traceback."""

import json
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keys import audit, documents, term_sheet, transcript
from keys.cli import book as books
from keys.cli import files, parts, requests, sight
from keys.cli.terminal import now_ms
from keys.documents import Document
from keys.encoding import canonical_bytes
from keys.errors import TocsinError
from keys.v1 import documents_pb2 as pb
from tests.keys.cli.office import Office

FUZZ = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda kids: st.lists(kids, max_size=3),
    max_leaves=5,
)
VALUES: st.SearchStrategy[Any] = JSON | st.dictionaries(st.text(max_size=8), JSON, max_size=3)


@FUZZ
@given(data=st.binary(max_size=300))
def test_junk_in_any_file(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "junk"
    path.write_bytes(data)
    for read in (
        lambda: files.load(path),
        lambda: parts.load(path),
        lambda: requests.desk(path, lineage=bytes(32)),
        lambda: requests.node(path, lineage=bytes(32)),
        lambda: transcript.parse(data),
        lambda: books.load([path], now_ms=1),
    ):
        with suppress(TocsinError):
            read()


@FUZZ
@given(field=st.sampled_from(["format", "party", "role", "holder", "suite", "key", "possession"]), value=VALUES)
def test_a_part_with_any_field_changed(founding_directory: Path, tmp_path: Path, field: str, value: Any) -> None:
    part = json.loads((founding_directory / "kr-first.part").read_text())
    if part[field] == value:
        return
    path = tmp_path / "part"
    path.write_text(json.dumps({**part, field: value}))
    with pytest.raises(TocsinError):
        parts.load(path)


@FUZZ
@given(line=st.sampled_from(["n", "time_ms", "what", "facts", "previous"]), value=VALUES)
def test_a_transcript_line_with_any_field_changed(line: str, value: Any) -> None:
    good = transcript.next_line([], "note", {"text": "x"}, now_ms=5)
    changed = json.dumps({**json.loads(good), line: value}).encode() + b"\n"
    with suppress(TocsinError):
        assert transcript.head(transcript.parse(changed)) != transcript.head(transcript.parse(good)) or changed == good


@FUZZ
@given(data=st.data())
def test_terms_with_any_value_changed(founding_directory: Path, data: st.DataObject) -> None:
    """Every key of the example, given any value TOML can say."""
    text = (founding_directory / "terms.toml").read_text()
    keys = [number for number, line in enumerate(text.splitlines()) if " = " in line and not line.startswith("#")]
    lines = text.splitlines()
    at = data.draw(st.sampled_from(keys))
    value = data.draw(
        st.sampled_from(
            [
                *(
                    "-1",
                    "0",
                    "1.5",
                    "true",
                    '""',
                    '"x"',
                    "[]",
                    "[1, 2]",
                    '["kr", 5]',
                    "{}",
                    "{ a = 1 }",
                    '"9999999999d"',
                ),
                *("2026-01-01", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "99999999999999999999", "[4294967296]"),
                *("[" * 500 + "]" * 500, '{ government = "RED", everyone = 5 }', '"\\u202e"', "[[1]]", "nan", "inf"),
            ]
        )
    )
    lines[at] = lines[at].partition(" = ")[0] + " = " + value
    with suppress(TocsinError):
        body = term_sheet.parse("\n".join(lines), name="terms.toml", now_ms=1_790_000_000_000)
        canonical_bytes(body)


@FUZZ
@given(text=st.text(max_size=200))
def test_terms_that_are_any_text(text: str) -> None:
    with suppress(TocsinError):
        term_sheet.parse(text, name="t", now_ms=1)
    with suppress(tomllib.TOMLDecodeError):
        tomllib.loads(text)


@settings(parent=FUZZ, max_examples=60)
@given(at=st.integers(0, 10**6), flip=st.integers(1, 255), which=st.integers(0, 6))
def test_a_bundle_with_any_byte_changed(staffed_directory: Path, at: int, flip: int, which: int) -> None:
    """Whatever is changed in one document, the audit says so or the document is not taken; nothing falls over."""
    bundle = pb.Bundle.FromString((staffed_directory / "exchange.bundle").read_bytes())
    data = bytearray(bundle.documents[which])
    data[at % len(data)] ^= flip
    held: list[Document] = []
    for index, each in enumerate(bundle.documents):
        with suppress(TocsinError):
            held.append(documents.decode(bytes(data) if index == which else each))
    now = now_ms()
    with suppress(TocsinError):
        book = books.verify(held, now_ms=now)
        trust = book.founded()
        assert audit.audit(held, trust, book.refused, now_ms=now)
    for document in held:
        with suppress(TocsinError):
            sight.see(document, books.Book((), {}, None, ()))


def test_an_amendment_of_a_party_nobody_knows(staffed: Office) -> None:
    bundle = pb.Bundle.FromString(staffed.path("exchange.bundle").read_bytes())
    agreement = next(d for d in map(documents.decode, bundle.documents) if d.type == "tocsin/1/agreement")
    body = documents.body(agreement, pb.Agreement)
    body.parties.add(party="zz", first_party=bytes(32))
    staffed.path("odd").write_bytes(documents.make(body).encode())
    body.version, body.lineage, body.previous = 2, agreement.digest, agreement.digest
    staffed.path("odd2").write_bytes(documents.make(body).encode())
    done = staffed.run("audit", "exchange.bundle", "odd2")
    assert done.code == 1
    assert "DOCUMENT_THRESHOLD" in done.out
    staffed.refused("audit", "exchange.bundle", "odd")
