"""Months as whole numbers (12 x year + month - 1), so that they can be counted and used as positions."""

import re
from datetime import UTC, datetime
from typing import Final

_MONTH: Final = re.compile(r"([12][0-9]{3})-(0[1-9]|1[0-2])\Z")


def month_number(text: str) -> int | None:
    """The number of "2023-11"; None if it is no month."""
    found = _MONTH.match(text)
    return int(found[1]) * 12 + int(found[2]) - 1 if found else None


def month_text(number: int) -> str:
    """The month as "2023-11"."""
    return f"{number // 12}-{number % 12 + 1:02d}"


def month_of_ms(time_ms: int) -> int:
    """The month (UTC) that holds a time in milliseconds since 1970."""
    at = datetime.fromtimestamp(time_ms // 1000, UTC)
    return at.year * 12 + at.month - 1


def month_start_ms(number: int) -> int:
    """First millisecond of a month."""
    return int(datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC).timestamp()) * 1000
