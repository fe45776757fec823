"""Text from elsewhere made harmless, in every field of every message."""

from functools import cache
from typing import Any, Final, NamedTuple, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from exchange.text import clean
from exchange.v1 import report_pb2 as pb

M = TypeVar("M", bound=Message)

FIELD_CHARS: Final = 200  # names, references, notes
LONG_FIELD_CHARS: Final[dict[str, int]] = {"url": 2000, "credit": 400, "text": 4000}
MULTILINE_FIELDS: Final = frozenset(["text"])


def text_limit(name: str) -> int:
    """Longest text of a field by that name, in characters."""
    return LONG_FIELD_CHARS.get(name, FIELD_CHARS)


def clean_message(message: M) -> M:
    """A copy whose every text is harmless: for alerts and consultation messages as for reports.

    Numbers, bytes, order and fields of a newer version stay. The signed original keeps its bytes; show this copy.
    """
    copy = type(message)()
    copy.CopyFrom(message)
    _clean_in_place(copy)
    return copy


class _TextField(NamedTuple):
    """A field that holds text, or messages that do."""

    name: str
    repeated: bool
    message: bool
    limit: int
    lines: bool


@cache  # one entry for each message type of report.proto; asking descriptors every time costs more than the cleaning
def _text_fields(kind: Any) -> tuple[_TextField, ...]:
    return tuple(
        _TextField(
            field.name,
            field.is_repeated,
            field.type == FieldDescriptor.TYPE_MESSAGE,
            text_limit(field.name),
            field.name in MULTILINE_FIELDS,
        )
        for field in kind.DESCRIPTOR.fields
        if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_MESSAGE)
    )


def _clean_in_place(message: Message) -> None:
    # Recursion ends: the message types do not contain themselves.
    kind: Any = type(message)  # mypy takes message classes for unhashable
    for name, repeated, is_message, limit, lines in _text_fields(kind):
        if is_message:
            if repeated:
                for part in getattr(message, name):
                    _clean_in_place(part)
            elif message.HasField(name):
                _clean_in_place(getattr(message, name))
            continue
        value = getattr(message, name)
        if not value:
            continue
        if repeated:
            value[:] = [clean(text, max_chars=limit, lines=lines) for text in value]
        elif (cleaned := clean(value, max_chars=limit, lines=lines)) != value:
            setattr(message, name, cleaned)


def clean_report(report: pb.Report) -> pb.Report:
    """A copy of a report from elsewhere whose texts are harmless in a terminal (see exchange.text.clean).

    Never refuses: what another country says is delivered. Use `problems` to say what is odd about it.
    """
    return clean_message(report)
