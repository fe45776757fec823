"""Names of parties, missions, desks and nodes, and calendar weeks (docs/PROTOCOL.md sections 1.4 and 1.6)."""

from typing import Final

WEEK_MS: Final = 7 * 24 * 3600 * 1000
# 1970-01-05 was the first Monday; weeks are calendar weeks for everyone, whenever a card was made.
FIRST_MONDAY_MS: Final = 4 * 24 * 3600 * 1000
MAX_NAME_BYTES: Final = 64


def week_of(time_ms: int) -> int:
    """The calendar week a time falls in: [Monday 00:00 UTC, next Monday)."""
    return (time_ms - FIRST_MONDAY_MS) // WEEK_MS


def mission_of(desk: str) -> str:
    """Mission part of a desk's name: kr.the-hague/economic -> kr.the-hague."""
    return desk.partition("/")[0]


def party_of(name: str) -> str:
    """Party of a mission, desk or node name."""
    return name.partition(".")[0]


def name_ok(name: str) -> bool:
    """Lower-case ASCII letters, digits, `-`, `.` and `/`, 1 to 64 bytes."""
    plain = name.replace(".", "").replace("-", "").replace("/", "")
    return 0 < len(name) <= MAX_NAME_BYTES and plain.isascii() and plain.isalnum() and name == name.lower()
