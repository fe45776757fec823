"""The fast look at a report says yes only to what the rules find nothing wrong with."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.reports import report_item
from exchange import report
from exchange.report import plain
from exchange.v1 import report_pb2 as pb

NOW = 1_700_000_000_000
TEXTS = [
    *(
        "",
        "gallium, 4N",
        "갈륨",
        "two  spaces",
        " edge",
        "edge ",
        "tab\there",
        "line\nline",
        "\u202ebidi",
        "zero\u200bwidth",
    ),
    *("x" * 200, "x" * 201, "x" * 400, "x" * 401, "x" * 2001, "x" * 4000, "x" * 4001, "\u0000", "e\u0301", "\u3164"),
    *("KGM", "TNE", "P1", "DAY", "C62", "ZZZ", "kgm", "USD", "EUR", "XXX", "2023", "2023-11", "2023-W46", "2023-W60"),
    *(
        "2023-11-14",
        "2023-13-01",
        "2999-01",
        "CN",
        "NL",
        "EU",
        "ZZ",
        "cn",
        "CNSHA",
        "NLHAG",
        "CNSH1",
        "en",
        "ko",
        "zh-Hant",
    ),
    *("EN", "english", "811292", "8112.92", "00112233", "8112920000", "990000", "81129", "https://example.org/a?b=c"),
    *(
        "ftp://example.org",
        'https://example.org/"',
        "https://example.org/" + "x" * 2000,
        "a/b",
        ".hidden",
        "application/pdf",
    ),
]
NUMBERS = [0.0, -0.0, 1.0, -1.0, 0.5, 100.0, 100.5, 200.0, 200.5, 1e300, math.inf, -math.inf, math.nan]
TIMES = [0, NOW, NOW + 13 * 3_600_000, NOW + 15 * 3_600_000, 2**64 - 1]
BYTES = [b"", bytes(16), b"\x01" * 6 + b"\x70\x00\x80" + bytes(7), bytes(32), bytes(33)]


def usual() -> pb.Report:
    return pb.Item.FromString(report_item(7)).report


def with_all() -> pb.Report:
    """Every part there is, all of it sound."""
    said = usual()
    said.events.add(kind=pb.EVENT_KIND_OUTAGE, public_date="2023-11-10", actors=["CN"], hs=["811292"])
    said.events[0].description.add(language="en", text="A plant stands still.")
    said.attachments.add(digest=bytes(32), key=bytes(32), media_type="application/pdf", name="a.pdf", size=3)
    said.supersedes.append(b"\x01" * 6 + b"\x70\x00\x80" + bytes(7))
    said.sources[0].url = "https://example.org/a"
    return said


def values(field: FieldDescriptor) -> list[Any]:
    if field.enum_type is not None:
        return [*field.enum_type.values_by_number, 99]
    return {
        FieldDescriptor.TYPE_STRING: TEXTS,
        FieldDescriptor.TYPE_DOUBLE: NUMBERS,
        FieldDescriptor.TYPE_UINT64: TIMES,
        FieldDescriptor.TYPE_UINT32: [0, 1000, 1001, 2**32 - 1],
        FieldDescriptor.TYPE_BYTES: BYTES,
        FieldDescriptor.TYPE_BOOL: [False, True],
    }[field.type]


Change = Callable[[pb.Report], None]


def changes(message: Message, reach: Callable[[pb.Report], Any]) -> list[tuple[str, Change]]:
    """Every field of a message and of the parts it has, set to every value of the tables; and each list too long."""
    found: list[tuple[str, Change]] = []
    for field in message.DESCRIPTOR.fields:
        name, repeated = field.name, field.is_repeated
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            found.append((f"no {name}", lambda said, n=name: reach(said).ClearField(n)))
            if repeated:
                found += [
                    (f"{n} {name}", lambda said, n=n, f=name: many(reach(said), f, n)) for n in (8, 9, 16, 17, 64, 65)
                ]
                parts = getattr(message, name)
                inner = [(lambda said, i=i, f=name: getattr(reach(said), f)[i]) for i in range(len(parts))]
            else:
                parts, inner = [getattr(message, name)], [lambda said, f=name: getattr(reach(said), f)]
            for part, at in zip(parts, inner, strict=True):
                found += [(f"{name}.{what}", change) for what, change in changes(part, at)]
        elif repeated:
            found += [
                (f"{name}={v!r:.40}", lambda said, v=v, f=name: getattr(reach(said), f).append(v))
                for v in values(field)
            ]
            found.append(
                (
                    f"65 {name}",
                    lambda said, f=name: (
                        getattr(reach(said), f).extend(["CN"] * 65 if f != "hs" else ["811292"] * 257)
                        if f in ("actors", "affected", "hs")
                        else getattr(reach(said), f).extend([bytes(16)] * 65)
                    ),
                )
            )
        else:
            found += [
                (f"{name}={v!r:.40}", lambda said, v=v, f=name: setattr(reach(said), f, v)) for v in values(field)
            ]
    return found


def many(message: Any, name: str, count: int) -> None:
    entries = getattr(message, name)
    entries.add()
    first = type(entries[0])()
    first.CopyFrom(entries[0])
    message.ClearField(name)
    for number in range(count):
        one = getattr(message, name).add()
        one.CopyFrom(first)
        if isinstance(one, pb.Text):
            one.language = ("en", "ko", "nl", "de", "fr", "ja", "es", "it", "pt")[number % 9]


ALL = changes(with_all(), lambda said: said)


def looks(said: pb.Report) -> tuple[bool, bool]:
    """(the fast look says yes, the rules find nothing)."""
    return plain.is_plain(said, size=said.ByteSize(), now_ms=NOW), not report.problems(said, now_ms=NOW)


def test_the_usual_report_is_plain() -> None:
    assert looks(usual()) == (True, True)


def test_a_sound_report_of_the_rare_kind_is_left_to_the_rules() -> None:
    assert looks(with_all()) == (False, True)
    report.validate(with_all(), now_ms=NOW)


@pytest.mark.parametrize("start", [usual, with_all])
def test_each_field_at_each_value(start: Callable[[], pb.Report]) -> None:
    passed = wrong = 0
    for what, change in ALL:
        said = start()
        try:
            change(said)
        except IndexError:
            continue  # a part this report does not have
        fast, slow = looks(said)
        assert slow or not fast, what
        passed += fast
        wrong += not slow
        if not slow:
            with pytest.raises(report.ReportError):
                report.validate(said, now_ms=NOW)
            with pytest.raises(report.ReportError):
                report.encode(said, now_ms=NOW)
    assert wrong > 300
    assert passed > 100 or start is with_all


@given(st.lists(st.sampled_from(range(len(ALL))), min_size=1, max_size=6), st.sampled_from([usual, with_all]))
@settings(max_examples=300, deadline=None)
def test_any_fields_at_any_values(picked: list[int], start: Callable[[], pb.Report]) -> None:
    said = start()
    if start is with_all:
        said.ClearField("attachments")
        said.ClearField("supersedes")
    for index in picked:
        try:
            ALL[index][1](said)
        except IndexError:
            continue
    fast, slow = looks(said)
    assert slow or not fast


@pytest.mark.parametrize("start", [usual, with_all])
def test_encode_is_the_item_that_says_it(start: Callable[[], pb.Report]) -> None:
    assert report.encode(start(), now_ms=NOW) == pb.Item(report=start()).SerializeToString()


@pytest.mark.parametrize("length", [1, 40, 110, 130, 3000])
def test_encode_at_every_length_of_the_length(length: int) -> None:
    said = pb.Report(
        id=usual().id,
        subject=pb.Subject(item="x"),
        level=pb.STATUS_LEVEL_WATCH,
        summary=[pb.Text(language="en", text="x" * length)],
    )
    assert report.encode(said, now_ms=NOW) == pb.Item(report=said).SerializeToString()


@pytest.mark.parametrize(
    "check",
    [
        "_subject",
        "_place",
        "_indicators",
        "_sources",
        "_texts",
        "_events",
        "_name",
        "_hs",
        "_language",
        "is_report_id",
        "is_clean",
    ],
)
def test_each_part_of_the_look_is_needed(check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, check, lambda *_, **__: True)
    escaped = 0
    for _, change in ALL:
        said = with_all()
        said.ClearField("attachments")
        said.ClearField("supersedes")
        try:
            change(said)
        except IndexError:
            continue
        fast, slow = looks(said)
        escaped += fast and not slow
    assert escaped
