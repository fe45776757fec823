"""Who owes what: missing reports, conflicting ones and stale ones are notices of their own, and lower confidence.

A report is missing once it is later than 1.5 times the agreed cadence, and later than this reporter's own habit:
median + 3 MAD of its gaps. Silence before a crisis looks like any other, so it is said, not guessed at.

Source: docs/WATCH.md section 6.
"""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from exchange.watch.notices import Notice, NoticeKind
from exchange.watch.rolling import MAD_TO_SD
from exchange.watch.series import Series

DAY_MS: Final = 86_400_000
LATE_FACTOR: Final = 1.5
HABIT_MADS: Final = 3.0
HABIT_GAPS: Final = 24  # the newest gaps that make a habit
LEAST_GAPS: Final = 4
CONFLICT_SHARE: Final = 0.05  # two figures for one flow that differ by more than rounding and late revisions do
CONFLICT_PERIODS: Final = 6  # the newest ones of each series are compared
STALE_REPEATS: Final = 4


@dataclass(frozen=True, slots=True)
class Duty:
    """What a mission owes.

    Args:
        reporter: Mission.
        what: In words: "monthly stock of gallium", or a channel.
        every_days: Agreed cadence; > 0.
        reports_ms: When its reports came, ms UTC, ascending.
        since_ms: When the duty began, for one that never reported.
    """

    reporter: str
    what: str
    every_days: float
    reports_ms: tuple[int, ...]
    since_ms: int = 0


def allowed_days(duty: Duty) -> float:
    """Days of silence after which a report is missing: the longer of agreement and habit.

    A habit counts no more than twice the agreed term, so that nobody earns silence by being late.
    """
    agreed = LATE_FACTOR * duty.every_days
    gaps = np.diff(np.array(duty.reports_ms[-HABIT_GAPS - 1 :], dtype=float)) / DAY_MS
    if gaps.size < LEAST_GAPS:
        return agreed
    middle = float(np.median(gaps))
    spread = MAD_TO_SD * float(np.median(np.abs(gaps - middle)))
    return min(max(agreed, middle + HABIT_MADS * spread), 2 * agreed)


def missing(duties: Iterable[Duty], *, now_ms: int) -> list[Notice]:
    """A notice for each duty that is overdue."""
    out: list[Notice] = []
    for duty in duties:
        last = duty.reports_ms[-1] if duty.reports_ms else duty.since_ms
        silent = (now_ms - last) / DAY_MS
        if silent > (allowed := allowed_days(duty)):
            never = "" if duty.reports_ms else ", never reported"
            text = f"{duty.reporter} owes {duty.what}: silent for {silent:.0f} days, {allowed:.0f} are allowed{never}"
            out.append(Notice(NoticeKind.MISSING, text, duty.reporter))
    return out


def overdue(duties: Sequence[Duty], *, now_ms: int) -> dict[str, float]:
    """Share of its duties that each mission is late with, 0 to 1; what `Board.alarms` takes."""
    late: dict[str, list[bool]] = defaultdict(list)
    for duty in duties:
        late[duty.reporter].append(bool(missing([duty], now_ms=now_ms)))
    return {name: sum(some) / len(some) for name, some in late.items()}


@dataclass(frozen=True, slots=True)
class Said:
    """What a series says of its newest periods, of each origin.

    Args:
        reporter: Mission.
        about: Place, unit and currency: what must be the same for two figures to be comparable.
        values: Period to (origin, value), for CONFLICT_PERIODS periods.
    """

    reporter: str
    about: tuple[str, str, str]
    values: Mapping[str, tuple[tuple[str, float], ...]]


def said(series: Series) -> Said:
    """What a series says of its newest periods."""
    standing = series.standing()
    values = {
        period: tuple((one.origin, one.value) for one in standing[period] if one.value is not None)
        for period in heapq.nlargest(CONFLICT_PERIODS, standing)
    }
    return Said(series.key.reporter, (series.key.place, series.unit, series.currency), values)


def conflicts(all_said: Iterable[Said]) -> list[Notice]:
    """Where origins disagree about the newest period that two speak of, at one place; of one item and market.

    Two official figures for one flow are both kept. Confidence goes down; nothing is averaged, nobody is silenced.
    """
    by_place: dict[tuple[str, str, str], dict[str, dict[str, tuple[float, str]]]] = {}
    for one in all_said:
        periods = by_place.setdefault(one.about, defaultdict(dict))
        for period, some in one.values.items():
            for origin, value in some:
                periods[period].setdefault(origin, (value, one.reporter))
    out: list[Notice] = []
    for (place, _, _), periods in by_place.items():
        shared = [period for period, by_origin in periods.items() if len(by_origin) > 1]
        # Each mission counts what crosses its own border; only at a named place do two speak of the same thing.
        if shared and place:
            out += _conflict(max(shared), periods[max(shared)], place)
    return out


def _conflict(period: str, values: Mapping[str, tuple[float, str]], place: str) -> list[Notice]:
    ordered = sorted(values.items(), key=lambda item: item[1][0])
    (low_origin, (low, low_reporter)), (high_origin, (high, high_reporter)) = ordered[0], ordered[-1]
    if high - low <= CONFLICT_SHARE * max(abs(low), abs(high)):
        return []
    text = (
        f"{period} at {place}: {low_reporter} says {low:g} ({low_origin}), "
        f"{high_reporter} says {high:g} ({high_origin}); both are kept"
    )
    return [Notice(NoticeKind.CONFLICT, text)]


def stale(series: Series) -> list[Notice]:
    """A notice where the newest months all repeat one value: a quote nobody renewed says less than it seems to."""
    _, values = series.monthly()
    recent = values[-STALE_REPEATS:]
    if recent.size < STALE_REPEATS or not np.isfinite(recent).all() or np.ptp(recent) > 0:
        return []
    text = f"{series.key.reporter}: the same value {recent[0]:g} for {STALE_REPEATS} months or more"
    return [Notice(NoticeKind.STALE, text, series.key.reporter, series.key)]
