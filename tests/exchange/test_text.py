"""Attack 41: hostile text is inert (exchange/text.py, and every text field of every item)."""

import io
import unicodedata

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from exchange.report import clean_message, clean_report, problems
from exchange.text import MAX_MARKS, clean, is_clean, printable
from exchange.v1 import report_pb2 as pb

HOSTILE = {
    "terminal colour": "a\x1b[31mb",
    "terminal title": "a\x1b]0;owned\x07b",
    "hyperlink": "a\x1b]8;;http://evil\x1b\\b",
    "c1 csi": "a\x9b2Jb",
    "backspace": "no\x08\x08ok",
    "carriage return": "safe\rEVIL",
    "bidi override": "a\u202egnp.exe",
    "bidi isolate": "a\u2066b\u2069",
    "arabic letter mark": "a\u061cb",
    "zero width": "gal\u200blium\u200d\u2060\ufeff",
    "soft hyphen": "gal\u00adlium",
    "tag characters": "a\U000e0041\U000e0042",
    "variation selectors": "a\ufe0f\U000e0101",
    "hangul filler": "a\u3164\u115fb",
    "private use": "a\ue000b\U000f0000",
    "line separator": "a\u2028b\u2029c",
    "heap of marks": "a" + "\u0301" * 500,
    "nul": "a\0b",
}
MARKUP = ["<script>alert(1)</script>", "[red]x[/red]", "]]><x/>", "&lt;", "=cmd|' /C calc'!A0", "{{7*7}}", "$x$"]
BAD_CATEGORIES = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def assert_inert(text: str) -> None:
    bad = [char for char in text if char != "\n" and unicodedata.category(char) in BAD_CATEGORIES]
    assert not bad, [hex(ord(char)) for char in bad]


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_is_inert(text: str) -> None:
    assert not is_clean(text, max_chars=4000)
    for lines in (False, True):
        assert_inert(clean(text, max_chars=4000, lines=lines))
    assert "\n" not in clean(text, max_chars=4000)
    assert len(clean("a" + "\u0301" * 500, max_chars=4000)) <= 1 + MAX_MARKS


@pytest.mark.parametrize("text", MARKUP)
def test_markup_is_plain_text_here(text: str) -> None:
    assert clean(text, max_chars=4000) == text  # escaping is the business of the place that shows it
    out = io.StringIO()
    Console(file=out, force_terminal=True, width=200).print(Text(text))
    assert text in out.getvalue()


@pytest.mark.parametrize(
    "text", ["한국 주헤이그 대사관", "Coördinatie in ’s-Gravenhage", "氖气", "99.99 % 〈6N〉 ≥ µm²", "Việt Nam", "ไทยที่"]
)
def test_honest_text_is_kept(text: str) -> None:
    assert clean(text, max_chars=4000) == unicodedata.normalize("NFC", text)


def test_lines_and_length() -> None:
    assert clean("a\r\nb\n\n\n\nc ", max_chars=100, lines=True) == "a\nb\n\nc"
    assert clean("a\tb\u00a0 c", max_chars=100) == "a b c"
    assert clean("x" * 11, max_chars=10) == "x" * 9 + "…"
    assert clean("e\u0301", max_chars=10) == "é"


@given(st.text(max_size=300), st.booleans(), st.integers(1, 200))
def test_cleaning_ends_and_is_bounded(text: str, lines: bool, max_chars: int) -> None:
    once = clean(text, max_chars=max_chars, lines=lines)
    assert_inert(once)
    assert len(once) <= max_chars
    assert clean(once, max_chars=max_chars, lines=lines) == once
    assert unicodedata.is_normalized("NFC", once)


@given(st.text(max_size=300))
def test_printable_is_one_visible_line(text: str) -> None:
    assert_inert(printable(text))
    assert "\n" not in printable(text)


def test_printable_shows_what_it_hid() -> None:
    assert printable("a\x1b[31m\u202e") == "a\\x1b[31m\\u202e"


def poison(message: Message, text: str, depth: int = 0) -> int:
    """Put the text into every string field there is, and count them."""
    count = 0
    for field in message.DESCRIPTOR.fields:
        if field.type == FieldDescriptor.TYPE_STRING:
            if field.is_repeated:
                getattr(message, field.name).append(text)
            else:
                setattr(message, field.name, text)
            count += 1
        elif field.type == FieldDescriptor.TYPE_MESSAGE and depth < 6:
            part = getattr(message, field.name)
            count += poison(part.add() if field.is_repeated else part, text, depth + 1)
    return count


def texts(message: Message) -> list[str]:
    out: list[str] = []
    for field, value in message.ListFields():
        for one in value if field.is_repeated else [value]:
            if field.type == FieldDescriptor.TYPE_STRING:
                out.append(one)
            elif field.type == FieldDescriptor.TYPE_MESSAGE:
                out.extend(texts(one))
    return out


@pytest.mark.parametrize("kind", [pb.Report, pb.Alert, pb.Consultation, pb.Refusal, pb.Heartbeat])
@pytest.mark.parametrize("name", [name for name in HOSTILE if name != "heap of marks"])
def test_every_text_field_is_cleaned(kind: type[Message], name: str) -> None:
    message = kind()
    count = poison(message, HOSTILE[name])
    before = message.SerializeToString(deterministic=True)
    cleaned = clean_message(message)
    assert len(texts(cleaned)) == count
    for text in texts(cleaned):
        assert_inert(text)
    assert message.SerializeToString(deterministic=True) == before  # the signed original is untouched


@pytest.mark.parametrize("name", HOSTILE)
def test_our_own_report_with_hostile_text_is_refused(name: str) -> None:
    report = pb.Report()
    report.subject.item = HOSTILE[name]
    assert "subject.item" in [problem.field for problem in problems(report, now_ms=0)]
    assert "subject.item" not in [problem.field for problem in problems(clean_report(report), now_ms=0)]


def test_fields_of_a_newer_version_survive_cleaning() -> None:
    newer = pb.Report.FromString(pb.Report(id=b"x" * 16).SerializeToString() + b"\xfa\x7f\x03new")
    assert clean_report(newer).SerializeToString() == newer.SerializeToString()
