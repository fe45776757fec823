"""One series: what one reporter says of one indicator of one item at one place, with everything it said before.

A series is a value. Nothing is overwritten: each observation keeps when it became known, so that `as_of` gives what
was known at any time. Times of knowledge are those of receipt here, never the sender's claim: nobody rewrites the past.
Zero is a value; absent is no observation.
"""

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np

from exchange.v1 import report_pb2 as pb
from exchange.watch.errors import ObservationError
from exchange.watch.months import month_number
from exchange.watch.rolling import Floats

MAX_OBSERVATIONS: Final = 4096  # 340 years of months, or 40 years of weeks with a revision each
MAX_ORIGINS: Final = 16
MAX_REVISIONS: Final = 16  # of one period from one origin; who needs more is flooding
MAX_MONTHS: Final = 12 * 200
LEAST_FLOW_DAYS: Final = 7  # of a month, before its flow is guessed from its weeks

FLOWS: Final = frozenset(
    [
        *(pb.INDICATOR_KIND_OUTPUT, pb.INDICATOR_KIND_IMPORTS, pb.INDICATOR_KIND_EXPORTS),
        *(pb.INDICATOR_KIND_ORDERS, pb.INDICATOR_KIND_DEMAND),
    ]
)


class SeriesKey(NamedTuple):
    """What a series is of.

    Args:
        item: HS code, "/" and tariff after the sixth digit ("81129289/CN"), or "name:" and the folded name.
        indicator: IndicatorKind.
        market: Market. Prices of two markets are two series: inside a controlled country they fall as they rise outside.
        place: UN/LOCODE or country; "" = the world.
        reporter: Mission, such as "nl.seoul".
    """

    item: str
    indicator: int
    market: int
    place: str
    reporter: str


class Grade(NamedTuple):
    """Admiralty grade: Reliability and Credibility numbers of report.proto; 0 = not said."""

    reliability: int
    credibility: int


class Observation(NamedTuple):
    """One value as it became known.

    Args:
        period: "2023-11", "2023-W47", "2023-11-20" or "2023".
        value: In the unit of the series; None = withdrawn.
        known_ms: When it was received here, ms UTC.
        report: Id of the report, 16 bytes.
        origin: Where it was first said.
        grade: How far to believe it.
        estimate: Estimated rather than counted.
    """

    period: str
    value: float | None
    known_ms: int
    report: bytes
    origin: str
    grade: Grade = Grade(0, 0)
    estimate: bool = False


@dataclass(frozen=True, slots=True)
class Added:
    """What an observation did: "new", "repeated", "revised", "backfilled" or "withdrawn", and the value before."""

    what: str
    before: float | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """One series.

    Args:
        key: What it is of.
        unit: Recommendation 20 code that all values are in; "" for money.
        currency: ISO 4217 code that all values are in; "" if not in money.
        observations: In the order in which they became known.
    """

    key: SeriesKey
    unit: str
    currency: str
    observations: tuple[Observation, ...] = ()

    def add(self, one: Observation) -> tuple["Series", Added]:
        """The series with one more observation.

        Raises:
            ObservationError: It is known before the last one, or a bound is reached.
        """
        before = self._latest(one.period, one.origin)
        if before is not None and before.value == one.value:
            return self, Added("repeated", before.value)
        if self.observations and one.known_ms < self.observations[-1].known_ms:
            raise ObservationError("is known earlier than the last one of its series")
        self._bounded(one)
        grown = replace(self, observations=(*self.observations, one))
        if before is not None:
            return grown, Added("withdrawn" if one.value is None else "revised", before.value)
        newest = max((_order(o.period) for o in self.observations), default="")
        return grown, Added("backfilled" if _order(one.period) < newest else "new")

    def _bounded(self, one: Observation) -> None:
        if len(self.observations) >= MAX_OBSERVATIONS:
            raise ObservationError(f"the series has {MAX_OBSERVATIONS} observations already")
        origins = {o.origin for o in self.observations}
        if one.origin not in origins and len(origins) >= MAX_ORIGINS:
            raise ObservationError(f"the series has {MAX_ORIGINS} origins already")
        same = sum(o.period == one.period and o.origin == one.origin for o in self.observations)
        # A withdrawal always gets through: it can only be as often as what it withdraws.
        if same >= MAX_REVISIONS and one.value is not None:
            raise ObservationError(f"{one.period} was revised {MAX_REVISIONS} times already")

    def _latest(self, period: str, origin: str) -> Observation | None:
        for one in reversed(self.observations):
            if one.period == period and one.origin == origin:
                return one
        return None

    def without(self, report: bytes, *, known_ms: int, by: bytes) -> "Series":
        """The series after a report was withdrawn or superseded by report `by`: what it said last no longer stands."""
        out = self
        for one in tuple(self.standing().values()):
            for each in one:
                if each.report == report:
                    gone = each._replace(value=None, known_ms=max(known_ms, out.observations[-1].known_ms), report=by)
                    out, _ = out.add(gone)
        return out

    def as_of(self, known_ms: int) -> "Series":
        """The series as it was known at a time, inclusive."""
        return replace(self, observations=tuple(o for o in self.observations if o.known_ms <= known_ms))

    def standing(self) -> dict[str, list[Observation]]:
        """What stands of each period: the newest of each origin, the best graded first. Two entries may conflict."""
        newest: dict[tuple[str, str], Observation] = {}
        for one in self.observations:
            newest[one.period, one.origin] = one
        out: dict[str, list[Observation]] = {}
        for one in newest.values():
            if one.value is not None:
                out.setdefault(one.period, []).append(one)
        for group in out.values():
            group.sort(key=_better)
        return out

    def monthly(self) -> tuple[int, Floats]:
        """Number of the first month, and the values by month; NaN = absent. Of each period the best graded origin counts.

        A month without a value of its own takes the mean of its weeks and days; a flow their daily rate, from seven days
        on, so that a month half reported does not look like a collapse. Years are no months and stay out.
        """
        cells: dict[int, float] = {}
        parts: dict[int, list[tuple[float, int]]] = {}
        for period, group in self.standing().items():
            value = group[0].value
            if value is None:
                continue
            number = month_number(period)
            if number is not None:
                cells[number] = value
            elif (span := _span(period)) is not None:
                parts.setdefault(span[0], []).append((value, span[1]))
        for number, some in parts.items():
            if number not in cells and (value := self._of_parts(number, some)) is not None:
                cells[number] = value
        return _grid(cells)

    def _of_parts(self, month: int, parts: list[tuple[float, int]]) -> float | None:
        days = sum(length for _, length in parts)
        if self.key.indicator not in FLOWS:
            return sum(value for value, _ in parts) / len(parts)
        if days < LEAST_FLOW_DAYS:
            return None
        following = date((month + 1) // 12, (month + 1) % 12 + 1, 1)
        length = (following - date(month // 12, month % 12 + 1, 1)).days
        return sum(value for value, _ in parts) / days * length

    def newest(self) -> Observation | None:
        """The standing observation of the newest period, best graded."""
        standing = self.standing()
        return standing[max(standing, key=_order)][0] if standing else None


def _better(one: Observation) -> tuple[int, int, int, int]:
    # "Cannot judge" and "not said" stand behind C3 and before D4; of equals the newest, and counted before estimated.
    def rank(grade: int) -> int:
        return 7 if grade in (0, 6) else 2 * grade

    return rank(one.grade.reliability) + rank(one.grade.credibility), one.estimate, -one.known_ms, 0


@lru_cache(4096)
def _span(period: str) -> tuple[int, int] | None:
    """Month and days of a week or a day; a week belongs to the month of its Thursday. None for years."""
    if "W" in period:
        thursday = datetime.fromisocalendar(int(period[:4]), int(period[6:8]), 4)
        return thursday.year * 12 + thursday.month - 1, 7
    if len(period) == 10:
        return int(period[:4]) * 12 + int(period[5:7]) - 1, 1
    return None


@lru_cache(4096)
def _order(period: str) -> str:
    """A text that sorts periods of any form by their start."""
    if "W" in period:
        return f"{datetime.fromisocalendar(int(period[:4]), int(period[6:8]), 1).replace(tzinfo=UTC):%Y-%m-%d}"
    return period


def _grid(cells: dict[int, float]) -> tuple[int, Floats]:
    if not cells:
        return 0, np.empty(0)
    # A stray old period must not make a grid of a million months.
    last = max(cells)
    first = max(min(cells), last - MAX_MONTHS + 1)
    values = np.full(last - first + 1, np.nan)
    for number, value in cells.items():
        if number >= first:
            values[number - first] = value
    return first, values
