"""Whatever bytes come from elsewhere, a parser answers with one of our errors, in bounded time. Attack 24.

Every parser of foreign bytes is in PARSERS, fuzzed here or where it says; a new one belongs there too.
"""

import contextlib
import io
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf.message import DecodeError, Message
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exchange import attachment, refusal, tls
from exchange.admission import Admission
from exchange.desk.deliveries import is_control
from exchange.envelope import Parsed
from exchange.node import entries
from exchange.pouch import format as pouch_format
from exchange.standing import Position, standing
from exchange.v1 import envelope_pb2 as env
from exchange.v1 import evidence_pb2, pouch_pb2
from exchange.v1 import exchange_pb2 as pb
from keys import documents, plan, suite, words
from keys.encoding import canonical_bytes, digest
from keys.errors import TocsinError
from keys.keystore import Keystore
from keys.trust import Trust
from keys.v1 import documents_pb2 as docs
from keys.windows import Kind
from tests import chains, mail
from tests.attacks.marks import attack
from tests.keys.rotating import fresh, plan_of
from tests.notary import Log
from tests.world import NOON, SENDER, world

ROOT = Path(__file__).parents[2]
KEY = bytes(range(32))

PARSERS = {
    "envelope": "tests/exchange/test_envelope.py::test_no_bytes_raise_anything_but_a_peer_error",
    "header": "tests/exchange/test_envelope.py::test_mutated_headers_signed_by_an_insider_raise_nothing_but_a_peer_error",
    "document": "tests/keys/test_documents.py::test_no_bytes_raise_anything_but_a_peer_error",
    "body of a document": "tests/attacks/test_parsers.py::test_24_a_signed_body_of_junk",
    "bundle": "tests/keys/cli/test_junk.py::test_a_bundle_with_any_byte_changed",
    "checkpoint": "tests/exchange/test_checkpoint.py::test_no_bytes_raise_anything_but_a_proof_error",
    "evidence": "tests/evidence/test_hostile.py::test_junk_raises_nothing_but_our_errors",
    "pouch": "tests/attacks/test_parsers.py::test_24_a_pouch_of_junk",
    "attachment": "tests/attacks/test_parsers.py::test_24_an_attachment_of_junk",
    "courier sheet": "tests/keys/test_courier.py::test_junk_is_refused_and_nothing_else",
    "term sheet": "tests/keys/cli/test_junk.py::test_terms_that_are_any_text",
    "plan": "tests/attacks/test_parsers.py::test_24_a_plan_of_junk",
    "transcript": "tests/keys/cli/test_junk.py::test_a_transcript_line_with_any_field_changed",
    "report reader": "tests/exchange/test_report.py::test_no_file_raises_anything_but_row_errors",
    "item": "tests/exchange/test_report.py::test_foreign_bytes_never_break_rules_or_cleaning",
    "keystore": "tests/attacks/test_parsers.py::test_24_a_keystore_of_junk",
    "position": "tests/attacks/test_parsers.py::test_24_a_position_of_junk",
    "refusal": "tests/attacks/test_parsers.py::test_24_a_refusal_of_junk",
    "certificate": "tests/attacks/test_parsers.py::test_24_a_certificate_of_junk",
    "signature, key, wrap": "tests/keys/test_suite.py::test_junk_signatures_and_keys",
    "words": "tests/attacks/test_parsers.py::test_24_words_of_junk",
    "table of a series": "tests/watch/test_tables.py::test_no_table_raises_anything_but_an_input_error",
    "kept series": "tests/watch/test_series.py::test_junk_is_no_series",
}


@attack(24)
@pytest.mark.parametrize("parser", PARSERS)
def test_24_every_parser_of_foreign_bytes_is_fuzzed(parser: str) -> None:
    file, _, name = PARSERS[parser].partition("::")
    source = (ROOT / file).read_text()
    assert f"def {name}(" in source
    before = source[: source.index(f"def {name}(")].rstrip().rsplit("\n\n", 1)[-1]
    assert "@given(" in before, "it is no fuzz test"


def mutations(sound: bytes) -> st.SearchStrategy[bytes]:
    """Junk, and what is sound but for a byte changed, a piece cut out, or something put in."""
    where, junk = st.integers(0, max(0, len(sound) - 1)), st.binary(max_size=40)

    def changed(at: int, count: int, put: bytes) -> bytes:
        return sound[:at] + put + sound[at + count :]

    return st.one_of(st.binary(max_size=400), st.builds(changed, where, st.integers(0, 300), junk))


def ours(parse: Callable[[bytes], object], data: bytes) -> bool:
    """Whether it was refused; anything but an error of ours comes through."""
    try:
        parse(data)
    except TocsinError:
        return True
    return False


# ---- documents


HELD = {document.type: document.body for document in world().documents}


@attack(24)
@settings(max_examples=150)
@given(st.sampled_from(sorted(documents.BODIES)), st.data())
def test_24_a_signed_body_of_junk(kind: str, data: st.DataObject) -> None:
    """By an insider: validly signed by every key there is, so that the body is reached."""
    body = data.draw(mutations(HELD.get(kind, b"\x0a\x20" + bytes(32))))
    document = documents.Document(kind, body, (), documents.document_digest(kind, body))
    with pytest.MonkeyPatch.context() as patch:
        for check in ("require", "require_key"):
            patch.setattr(documents, check, lambda *_, **__: None)
        held = TRUST[0]
        before = len(held.documents())
        if not ours(lambda _: held.take(document, now_ms=NOON), body):
            # Taken: it was sound, and signed. The next example starts afresh.
            TRUST[0] = world().trust()
        else:
            assert len(held.documents()) == before, "what is refused changes nothing"


TRUST: list[Trust] = [world().trust()]


# ---- files


MANIFEST = pouch_pb2.Manifest(lineage=KEY, sender="kr.the-hague-1", receiver="nl.seoul-1")


def pouch(manifest: bytes, tail: bytes, *, lie: bool) -> bytes:
    head = digest(b"lie") if lie else digest(manifest)
    return pouch_format.MAGIC + len(manifest).to_bytes(8, "little") + head + manifest + tail


@attack(24)
@given(mutations(canonical_bytes(MANIFEST)), st.binary(max_size=60), st.booleans())
@example(pouch_format.MAGIC, b"\xff" * 48, False)
def test_24_a_pouch_of_junk(manifest: bytes, tail: bytes, lie: bool) -> None:
    for data in (manifest, pouch(manifest, tail, lie=lie)):
        file = io.BytesIO(data)
        with contextlib.suppress(TocsinError):
            for part in pouch_format.read_parts(file, pouch_format.read_manifest(file)):
                assert part


SEALED = list(attachment.seal_chunks(KEY, [b"a file of some length"]))


@attack(24)
@given(st.lists(mutations(SEALED[0]), max_size=3), st.integers(0, 2**31))
def test_24_an_attachment_of_junk(chunks: list[bytes], size: int) -> None:
    def opened(_: bytes) -> None:
        came = b"".join(attachment.open_chunks(KEY, size, chunks))
        assert came == b"a file of some length", "nothing is opened that was not sealed"

    ours(opened, b"")


@attack(24)
@settings(deadline=None)
@given(mutations(b"tocsin/1/keystore machine \n" + bytes(80)))
def test_24_a_keystore_of_junk(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path, key = Path(directory) / "desk.keys", Path(directory) / "desk.keys.key"
        for file, content in ((path, data), (key, data[:32].ljust(32))):
            file.touch(0o600)
            file.write_bytes(content)
        assert ours(lambda _: Keystore.open(path, b""), data)


PLAN: list[bytes] = []


def a_plan() -> bytes:
    if not PLAN:
        PLAN.append(plan_of(world(), world().trust(), Kind.DESK, fresh(world(), Kind.DESK)).encode())
    return PLAN[0]


@attack(24)
@given(st.data())
def test_24_a_plan_of_junk(data: st.DataObject) -> None:
    with contextlib.suppress(TocsinError):
        read = plan.decode(data.draw(mutations(a_plan())))
        assert plan.decode(read.encode()) == read


@attack(24)
@given(st.text(max_size=200) | st.lists(st.sampled_from(words.words(KEY)), max_size=26).map(" ".join))
def test_24_words_of_junk(text: str) -> None:
    with contextlib.suppress(TocsinError):
        assert words.read(" ".join(words.words(words.read(text)))) == words.read(text)


# ---- what a peer answers


@attack(24)
@settings(max_examples=60)
@given(st.data())
def test_24_a_position_of_junk(data: st.DataObject) -> None:
    """A place in a log, of a key that ended: nothing of it may raise anything but our errors, nor make it count."""
    trust, parsed, view = _ended()
    bent = evidence_pb2.LogView()
    with contextlib.suppress(DecodeError):
        bent.ParseFromString(data.draw(mutations(view.SerializeToString())))
    if bent == view:
        return
    header = env.Header.FromString(parsed.outer.header)
    with contextlib.suppress(TocsinError):
        standing(header, parsed.id, Position.from_view(bent), trust)


ENDED: list[tuple[Trust, Parsed, evidence_pb2.LogView]] = []


def _ended() -> tuple[Trust, Parsed, evidence_pb2.LogView]:
    if not ENDED:
        trust = world().trust()
        parsed = mail.honest(trust)
        key = suite.key_id(1, "desk", world().desks[SENDER].public)
        roster = chains.next_roster(world(), "kr", lambda body: body.revocations.add(key=key))
        trust.take(roster, now_ms=NOON)
        log = Log()
        log.fill(2)
        log.add(parsed.id, roster.digest)
        ENDED.append((trust, parsed, log.show(parsed.id, roster.digest, cosigned=3).view()))
    return ENDED[0]


REFUSAL = refusal.sign(
    pb.NodeRefusal(origin="tocsin/kr.the-hague-1/1", id=KEY, rule="POLICY", node="nl.seoul-1", desk="kr.motie/supply"),
    world().log_keys["nl.seoul-1"],
)


@attack(24)
@given(mutations(REFUSAL))
def test_24_a_refusal_of_junk(data: bytes) -> None:
    if data != REFUSAL:
        assert ours(lambda bent: refusal.verify(bent, TRUST[0]), data)


CERTIFICATE = tls.pem(tls.make_ca("nl.seoul-1", tls.new_key(), now_ms=NOON))


@attack(24)
@given(mutations(CERTIFICATE), mutations(tls.request("nl.bz/supply", tls.new_key())))
def test_24_a_certificate_of_junk(pem: bytes, der: bytes) -> None:
    assert ours(lambda bent: tls.caller_name(bent, TRUST[0], now_ms=NOON), pem)
    assert tls.pinned_ca(docs.Node(node="nl.seoul-1", tls_ca=der)) is None


@attack(24)
@given(st.binary(max_size=200))
def test_24_what_is_only_hinted_at_never_raises(junk: bytes) -> None:
    """Read before any signature is checked, to choose a row or a key."""
    assert isinstance(is_control(junk), bool)
    assert isinstance(entries.claimed_sender(junk), str)
    trust = TRUST[0]
    assert Admission(trust).endings(junk) == ()
    assert isinstance(documents.peek(documents.Document("tocsin/1/roster", junk, (), KEY)), Message | None)
