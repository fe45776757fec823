"""What the watch noticed about its input: shown to people, and a reason to trust a figure less."""

from dataclasses import dataclass
from enum import Enum

from exchange.watch.series import SeriesKey


class NoticeKind(Enum):
    """What was noticed; the value is a stable id."""

    REFUSED = "refused"  # a value was not taken
    REPEATED_ORIGIN = "repeated-origin"  # two missions quote one origin: one voice
    REVISED = "revised"  # a value changed by more than REVISION_SHARE, or long after
    BACKFILLED = "backfilled"  # an old period came after newer ones
    CONVERTED = "converted"  # money was converted at a rate that is not the reporter's
    CONFLICT = "conflict"  # two origins or reporters disagree about one period
    MISSING = "missing"  # a report is overdue
    STALE = "stale"  # the same value again and again


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing noticed.

    Args:
        kind: What.
        text: In words, one sentence.
        reporter: Mission it is about; "" = none alone.
        key: Series it is about; None = no single one.
        report: Id of the report; empty = none.
    """

    kind: NoticeKind
    text: str
    reporter: str = ""
    key: SeriesKey | None = None
    report: bytes = b""
