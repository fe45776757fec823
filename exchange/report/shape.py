"""Reports (and every other item) as plain dictionaries: the JSON that people write and tools read.

    {"id": "018bd1c0-6d00-7abc-8def-0123456789ab",            made when left out on reading
     "subject": {"hs": "250410", "item": "natural graphite", "stage": "mineral"},
     "place": {"country": "CN", "locode": "CNSHA", "name": "..."},
     "level": "watch",
     "indicators": [{"kind": "price", "market": "world", "value": 712.5, "unit": "TNE", "currency": "USD",
                     "period": "2023-11", "baseline": 650.0, "baseline_note": "...", "estimate": true}],
     "events": [{"kind": "export_control", "public_date": "2023-10-20", "start_date": "2023-12-01",
                 "actors": ["CN"], "affected": [], "hs": ["250410"], "description": {"en": "..."}, "reference": "..."}],
     "sources": [{"name": "...", "origin": "...", "reliability": "B", "credibility": "2", "url": "https://..."}],
     "summary": {"en": "...", "ko": "..."},
     "observe_time_ms": 1700000000000,
     "supersedes": ["018b..."], "withdraws": ["018b..."]}

Names are those of report.proto. Enum values lose their prefix and are in lower case (Admiralty letters in upper).
Ids of 16 bytes are UUIDs, other bytes hexadecimal. Texts are an object by language; one string means English. HS codes
may be written with dots. Fields at their default are left out. Nothing unknown is accepted on reading.
"""

import math
import uuid
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from exchange.report.cleaning import FIELD_CHARS, MULTILINE_FIELDS, text_limit
from exchange.report.faults import Problem, ReportError
from exchange.report.rules import problems
from exchange.text import clean, printable
from exchange.v1 import report_pb2 as pb

M = TypeVar("M", bound=Message)

MAX_LIST_READ: Final = 4096  # lists longer than any rule allows are refused before they are walked
_UUID_FIELDS: Final = frozenset(["id", "thread", "in_reply_to", "supersedes", "withdraws", "stream", "continued_by"])
_SECRET_FIELDS: Final = frozenset([("Attachment", "key")])
_UINT_TYPES: Final[dict[int, int]] = {FieldDescriptor.TYPE_UINT32: 1 << 32, FieldDescriptor.TYPE_UINT64: 1 << 64}


def enum_prefix(enum: EnumDescriptor) -> str:
    """STATUS_LEVEL_ for StatusLevel."""
    return str(enum.values[0].name).removesuffix("UNSPECIFIED")


def enum_word(enum: EnumDescriptor, number: int) -> str:
    """The short word of an enum value: "watch", "A"; the number itself when this version does not know it."""
    value = enum.values_by_number.get(number)
    if value is None:
        return str(number)
    word = str(value.name).removeprefix(enum_prefix(enum))
    return word if len(word) == 1 else word.lower()


def enum_number(enum: EnumDescriptor, word: str) -> int | None:
    """The enum value of a short word, in any case; None if there is none."""
    if not word.isascii():
        return None
    value = enum.values_by_name.get(enum_prefix(enum) + word.strip().upper().replace("-", "_").replace(" ", "_"))
    return None if value is None or value.number == 0 else int(value.number)


def enum_words(enum: EnumDescriptor) -> str:
    """All short words of an enum, for messages."""
    return ", ".join(enum_word(enum, value.number) for value in enum.values if value.number)


def to_dict(message: Message, *, with_keys: bool = False) -> dict[str, Any]:
    """A report, or any other item, in the JSON shape of this module.

    Args:
        message: A message of report.proto, cleaned first if it came from elsewhere.
        with_keys: Also give the keys of attachments; otherwise they are left out, so that listings may be passed on.
    """
    out: dict[str, Any] = {}
    for field, value in message.ListFields():
        if (message.DESCRIPTOR.name, field.name) in _SECRET_FIELDS and not with_keys:
            continue
        if field.message_type is not None and field.message_type.name == "Text":
            out[field.name] = {text.language: text.text for text in value}
        elif field.is_repeated:
            out[field.name] = [_plain(field, one, with_keys) for one in value]
        else:
            out[field.name] = _plain(field, value, with_keys)
    return out


def _plain(field: FieldDescriptor, value: Any, with_keys: bool) -> Any:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return to_dict(value, with_keys=with_keys)
    if field.enum_type is not None:
        return enum_word(field.enum_type, value)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return str(uuid.UUID(bytes=value)) if field.name in _UUID_FIELDS and len(value) == 16 else value.hex()
    return value


def from_dict(data: Mapping[str, Any], *, now_ms: int, new_id: bytes) -> pb.Report:
    """The report in a dictionary of the shape above, cleaned and validated.

    Args:
        data: Usually from JSON.
        now_ms: Milliseconds UTC; see validate.
        new_id: Id for a report that brings none, from new_report_id.

    Raises:
        ReportError: Lists every field that is wrong.
    """
    report, found = report_of(data, new_id=new_id)
    if not found:
        found = problems(report, now_ms=now_ms)
    if found:
        raise ReportError(found)
    return report


def report_of(data: Mapping[str, Any], *, new_id: bytes) -> tuple[pb.Report, list[Problem]]:
    """The report as far as it can be read, and what could not be; the rules of `validate` are not applied yet."""
    report = pb.Report()
    found: list[Problem] = []
    _fill(report, data, "", found)
    if not report.id:
        report.id = new_id
    return report, found


def _fill(message: Message, data: Mapping[str, Any], path: str, found: list[Problem]) -> None:
    fields = message.DESCRIPTOR.fields_by_name
    for name, value in data.items():
        # The descriptor maps of protobuf break on lone surrogates; no name of ours has other than ASCII.
        field: FieldDescriptor | None = fields.get(name) if name.isascii() else None  # type: ignore[assignment]
        where = path + printable(str(name), max_chars=60)
        if field is None:
            found.append(Problem(where, f"is not a field; known: {', '.join(fields)}"))
        elif value is None:
            continue
        elif field.message_type is not None and field.message_type.name == "Text":
            _fill_texts(getattr(message, field.name), value, where, found)
        elif field.is_repeated:
            if not isinstance(value, list) or len(value) > MAX_LIST_READ:
                found.append(Problem(where, f"is not a list of at most {MAX_LIST_READ}"))
                continue
            target = getattr(message, field.name)
            for i, one in enumerate(value):
                if field.type == FieldDescriptor.TYPE_MESSAGE:
                    _fill_part(target.add(), one, f"{where}[{i}]", found)
                elif (parsed := _parsed(field, one, f"{where}[{i}]", found)) is not None:
                    target.append(parsed)
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            part = getattr(message, field.name)
            part.SetInParent()
            _fill_part(part, value, where, found)
        elif (parsed := _parsed(field, value, where, found)) is not None:
            setattr(message, field.name, parsed)


def _fill_part(part: Message, value: object, where: str, found: list[Problem]) -> None:
    if isinstance(value, Mapping):
        _fill(part, value, where + ".", found)
    else:
        found.append(Problem(where, "is not an object"))


def _fill_texts(target: Any, value: object, where: str, found: list[Problem]) -> None:
    texts = {"en": value} if isinstance(value, str) else value
    if not isinstance(texts, Mapping) or len(texts) > MAX_LIST_READ:
        found.append(Problem(where, 'is not a text, nor texts by language such as {"en": "..."}'))
        return
    for language, text in texts.items():
        if not isinstance(text, str):
            found.append(Problem(f"{where}.{printable(str(language), max_chars=20)}", "is not a text"))
            continue
        one = target.add()
        one.language = clean(str(language), max_chars=FIELD_CHARS)
        one.text = _text("text", text, where, found)


def _text(name: str, value: str, where: str, found: list[Problem]) -> str:
    limit = text_limit(name)
    if len(value) > limit:
        # An over-long text of our own user is named, never cut in silence.
        found.append(Problem(where, f"{len(value)} characters, at most {limit}"))
    return clean(value, max_chars=limit, lines=name in MULTILINE_FIELDS)


def _parsed(field: FieldDescriptor, value: object, where: str, found: list[Problem]) -> object:
    """The value as the field takes it, or None with the problem noted."""
    wrong = ""
    if field.type == FieldDescriptor.TYPE_STRING:
        if isinstance(value, str):
            text = value.replace(".", "").replace(" ", "") if field.name == "hs" else value
            return _text(field.name, text, where, found)
        wrong = "is not a text" if field.name != "hs" else "is not a text; put quotes around HS codes"
    elif field.enum_type is not None:
        word = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
        number = enum_number(field.enum_type, word)
        if number is not None:
            return number
        wrong = f"is not one of {enum_words(field.enum_type)}"
    elif field.type == FieldDescriptor.TYPE_BYTES:
        data = _bytes(value)
        if data is not None:
            return data
        wrong = "is not a UUID" if field.name in _UUID_FIELDS else "is not hexadecimal"
    elif field.type == FieldDescriptor.TYPE_BOOL:
        if isinstance(value, bool):
            return value
        wrong = "is not true or false"
    elif field.type == FieldDescriptor.TYPE_DOUBLE:
        number_or_none = _number(value)
        if number_or_none is not None:
            return number_or_none
        wrong = "is not a finite number"
    elif isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _UINT_TYPES[field.type]:
        return value
    else:
        wrong = "is not a whole number of milliseconds or bytes, 0 or more"
    found.append(Problem(where, wrong))
    return None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _bytes(value: object) -> bytes | None:
    if not isinstance(value, str) or len(value) > 128:
        return None
    try:
        return bytes.fromhex(value.replace("-", ""))
    except ValueError:
        return None
