"""Courier keys: 32 random bytes that two countries carry to each other in the diplomatic bag, mixed into content keys.

A recorder who breaks the key wraps one day still lacks them. Each key belongs to one group of channels, and travels as
two sheets of paper, each worthless alone, that a person types in at the other end. No I/O.

Source: docs/PROTOCOL.md section 5.6.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from secrets import randbelow, token_bytes
from typing import Final

from keys.encoding import digest, pae
from keys.errors import TocsinError, UsageError
from keys.trust.names import MAX_NAME_BYTES, name_ok
from keys.windows import Bounds, iso

KEY_BYTES: Final = 32
ID_BYTES: Final = 16
LINES: Final = 8
MAX_SHEET_CHARS: Final = 4096

_LINE_BYTES: Final = KEY_BYTES // LINES
_DATA_DIGITS, _CHECK_DIGITS, _SPLIT_DIGITS = 10, 4, 8
_TITLE: Final = re.compile(r"Tocsin courier key, half ([12]) of 2")
_FIELDS: Final = ("group", "first use", "key id", "split", "check")


class SheetError(TocsinError):
    """A sheet was typed or copied wrongly; the text says which line."""

    status, reason = "INVALID_ARGUMENT", "COURIER_SHEET"
    hint = "compare that line with the paper, digit by digit"


@dataclass(frozen=True, slots=True)
class CourierKey:
    """One key of a group. It seals from `first_use_ms` until its successor's, and opens for L + 2S longer.

    Attributes:
        group: As the channel rules of the agreement name it.
        first_use_ms: ms UTC, whole seconds; the same at every member.
        key: KEY_BYTES bytes.
    """

    group: str
    first_use_ms: int
    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not name_ok(self.group):
            raise UsageError(f"a group has 1 to {MAX_NAME_BYTES} lower-case letters, digits, '.', '-' and '/'")
        if self.first_use_ms < 0 or self.first_use_ms % 1000:
            raise UsageError("the first use of a courier key is a whole second")
        key_id(self.key)

    @property
    def id(self) -> bytes:
        """What envelopes name it by, ID_BYTES bytes."""
        return key_id(self.key)


def key_id(key: bytes) -> bytes:
    """Id of a courier key: the first 16 bytes of H(PAE("tocsin/1/courier", key)).

    Raises:
        UsageError: Not 32 bytes, or all zero: that is what stands for "none".
    """
    if len(key) != KEY_BYTES or not any(key):
        raise UsageError(f"a courier key is {KEY_BYTES} bytes, not all zero")
    return digest(pae("tocsin/1/courier", key))[:ID_BYTES]


def new(group: str, *, first_use_ms: int) -> CourierKey:
    """Draw a key."""
    return CourierKey(group, first_use_ms, token_bytes(KEY_BYTES))


# ---- paper


@dataclass(frozen=True, slots=True)
class Sheet:
    """Half a key on paper. Alone it says nothing about the key: the other half is random.

    Attributes:
        number: 1 or 2.
        id: Of the whole key.
        split: Decimal digits that the two sheets of one printing share; sheets of two printings do not fit.
        half: KEY_BYTES bytes; the key is the exclusive or of both.
    """

    number: int
    group: str
    first_use_ms: int
    id: bytes
    split: str
    half: bytes = field(repr=False)

    def text(self) -> str:
        """The sheet as it is printed and typed; `parse_sheet` reads it."""
        lines = [
            f"Tocsin courier key, half {self.number} of 2",
            f"group: {self.group}",
            f"first use: {iso(self.first_use_ms)}",
            f"key id: {_grouped(self.id.hex(), 4)}",
            f"split: {_grouped(self.split, 4)}",
            f"check: {self._head_check()}",
        ]
        for line in range(1, LINES + 1):
            part = self.half[_LINE_BYTES * (line - 1) : _LINE_BYTES * line]
            data = f"{int.from_bytes(part, 'big'):0{_DATA_DIGITS}d}"
            lines.append(f"{line}: {_grouped(data, 5)} {line_check(self.number, self.split, line, part)}")
        return "\n".join(lines) + "\n"

    def _head_check(self) -> str:
        return _check("sheet", self.number, self.group, self.first_use_ms, self.id, self.split)


def split(key: CourierKey) -> tuple[Sheet, Sheet]:
    """Both sheets of a new printing: one half is random, the other is what is left."""
    first = token_bytes(KEY_BYTES)
    second = bytes(a ^ b for a, b in zip(first, key.key, strict=True))
    printing = f"{randbelow(10**_SPLIT_DIGITS):0{_SPLIT_DIGITS}d}"
    one, two = (
        Sheet(number, key.group, key.first_use_ms, key.id, printing, half) for number, half in ((1, first), (2, second))
    )
    return one, two


def join(one: Sheet, two: Sheet) -> CourierKey:
    """The key of two sheets.

    Raises:
        SheetError: They are not the two halves of one printing.
    """
    if {one.number, two.number} != {1, 2}:
        raise SheetError(f"this is half {one.number} twice", hint=f"half {3 - one.number} is needed as well")
    if (one.group, one.first_use_ms, one.id) != (two.group, two.first_use_ms, two.id):
        raise SheetError("the two halves are of different keys", hint="compare group, first use and key id of both")
    if one.split != two.split:
        raise SheetError("the two halves are of different printings", hint="find the two sheets with the same split")
    key = CourierKey(one.group, one.first_use_ms, bytes(a ^ b for a, b in zip(one.half, two.half, strict=True)))
    # The last word: whatever the check digits let pass shows here.
    if key.id != one.id:
        raise SheetError("the two halves do not make the key they name", hint="compare every line of both sheets")
    return key


def parse_sheet(text: str) -> Sheet:
    """Read a sheet, naming the line that is wrong. Empty lines, spaces between digits and comments (#) do not matter.

    Raises:
        SheetError: Not a sheet, or a line that does not fit its check digits.
    """
    if len(text) > MAX_SHEET_CHARS:
        raise SheetError(f"a sheet has at most {MAX_SHEET_CHARS} characters")
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    title = _TITLE.fullmatch(lines[0]) if lines else None
    if title is None:
        raise SheetError("the first line is not that of a sheet", hint="give the file as it was printed")
    said: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or name in said:
            raise SheetError(f"the line {name[:20]!r} is no line of a sheet, or comes twice")
        said[name] = value.strip()
    wanted = (*_FIELDS, *map(str, range(1, LINES + 1)))
    if missing := [name for name in wanted if name not in said]:
        raise SheetError(f"lines are missing: {', '.join(missing)}")
    if extra := [name for name in said if name not in wanted]:
        raise SheetError(f"lines that no sheet has: {', '.join(name[:20] for name in extra)}")
    number = int(title[1])
    head = parse_head(number, said)
    halves = [parse_line(said[str(line)], number=number, split=head.split, line=line) for line in range(1, LINES + 1)]
    return Sheet(number, head.group, head.first_use_ms, head.id, head.split, b"".join(halves))


def parse_head(number: int, said: dict[str, str]) -> Sheet:
    """The head of a sheet, with a half of no bytes: `said` by field name.

    Raises:
        SheetError: A field that is none, or that does not fit the check digits.
    """
    group, printing = said["group"], _digits(said["split"], _SPLIT_DIGITS, "split")
    if not name_ok(group):
        raise SheetError("the group is no name")
    identity = said["key id"].replace(" ", "").lower()
    if not re.fullmatch(f"[0-9a-f]{{{2 * ID_BYTES}}}", identity):
        raise SheetError(f"the key id is not {2 * ID_BYTES} hexadecimal digits")
    head = Sheet(number, group, parse_time(said["first use"]), bytes.fromhex(identity), printing, b"")
    if head._head_check() != _digits(said["check"], _CHECK_DIGITS, "check"):
        raise SheetError("group, first use, key id or split does not fit the check digits")
    return head


def parse_time(text: str) -> int:
    """Milliseconds UTC of a time like 2026-12-01T00:00:00Z.

    Raises:
        SheetError: Not such a time, or one without a zone: it would be read in the zone of whoever types.
    """
    try:
        time = datetime.fromisoformat(text)
        if time.tzinfo is not None and not time.microsecond and (time_ms := int(time.timestamp()) * 1000) >= 0:
            return time_ms
    except (ValueError, OverflowError):
        pass
    raise SheetError("the first use is not a time like 2026-12-01T00:00:00Z")


def parse_line(typed: str, *, number: int, split: str, line: int) -> bytes:
    """The bytes of one line of digits.

    Args:
        typed: Ten digits and four check digits; spaces do not matter.
        number: Of the half.
        split: Of the printing.
        line: 1 to LINES.

    Raises:
        SheetError: Names the line.
    """
    digits = _digits(typed, _DATA_DIGITS + _CHECK_DIGITS, f"line {line} of half {number}")
    value = int(digits[:_DATA_DIGITS])
    if value < 1 << (8 * _LINE_BYTES):
        part = value.to_bytes(_LINE_BYTES, "big")
        if line_check(number, split, line, part) == digits[_DATA_DIGITS:]:
            return part
    raise SheetError(f"line {line} of half {number} does not fit its check digits")


def line_check(number: int, split: str, line: int, part: bytes) -> str:
    """The check digits of a line: they also notice a line of the other half, another printing, or out of place."""
    return _check("line", number, split, line, part)


def _check(*parts: str | int | bytes) -> str:
    value = int.from_bytes(digest(pae("tocsin/1/courier", *parts))[:8], "big") % 10**_CHECK_DIGITS
    return f"{value:0{_CHECK_DIGITS}d}"


def _digits(text: str, count: int, what: str) -> str:
    digits = text.replace(" ", "")
    if not (digits.isascii() and digits.isdigit() and len(digits) == count):
        raise SheetError(f"{what} is not {count} digits")
    return digits


def _grouped(text: str, size: int) -> str:
    return " ".join(text[start : start + size] for start in range(0, len(text), size))


# ---- which key when; `keys` are those of one group, by first use


def sealing(keys: Sequence[CourierKey], *, now_ms: int) -> CourierKey | None:
    """The key to seal with: the newest in use."""
    in_use = [key for key in keys if key.first_use_ms <= now_ms]
    return in_use[-1] if in_use else None


def opens_until_ms(keys: Sequence[CourierKey], key: CourierKey, bounds: Bounds) -> int | None:
    """Until when envelopes made with a key may still have to be opened: A + L + 2S of its successor; None has none."""
    later = [other.first_use_ms for other in keys if other.first_use_ms > key.first_use_ms]
    return later[0] + bounds.in_flight_ms if later else None


def describe(keys: Sequence[CourierKey], *, now_ms: int) -> list[tuple[CourierKey, str]]:
    """Each key of a group and how it stands: "from ..." (not yet), "seals", or "opens" what is under way."""
    active = sealing(keys, now_ms=now_ms)
    stands = []
    for key in keys:
        if key == active:
            stands.append((key, "seals"))
        else:
            stands.append((key, f"from {iso(key.first_use_ms)}" if key.first_use_ms > now_ms else "opens"))
    return stands
