"""The board: every series known, scored and pooled, kept up to date report by report.

`take` files one report and gives what changed; `alarms` gives who is in alarm over an item now. Values go in and
values come out: storing the series (exchange.watch.stored) and sending alerts is the desk's.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np

from exchange.units import NO_RATES, ConversionError, Rates
from exchange.v1 import report_pb2 as pb
from exchange.watch import intake, pooling
from exchange.watch.cadence import conflicts
from exchange.watch.defaults import DEFAULTS
from exchange.watch.errors import ObservationError
from exchange.watch.months import month_text
from exchange.watch.notices import Notice, NoticeKind
from exchange.watch.pooling import Pooled
from exchange.watch.rolling import Floats
from exchange.watch.screens import Screen, screens
from exchange.watch.series import Observation, Series, SeriesKey
from exchange.watch.thresholds import Thresholds
from exchange.watch.views import WINDOW_MONTHS, View

VALID_MONTHS: Final = 6  # an alarm on an older month is no news
POOL_MONTHS: Final = 3
ORDERS_DOUBT: Final = 0.5
LARGE_REVISION: Final = 0.5  # of the value before
OLD_MONTHS: Final = 13  # a revision of something older is shown, though customs do it every year
MAX_SERIES_OF_REPORTER: Final = 20_000


class Group(NamedTuple):
    """Series that are pooled: one item, indicator and market. Places may differ, for each mission sees its own."""

    item: str
    indicator: int
    market: int


def group_of(key: SeriesKey) -> Group:
    """The group of a series."""
    return Group(key.item, key.indicator, key.market)


@dataclass(frozen=True, slots=True)
class Alarm:
    """One series, or one pool, in alarm in its newest month.

    Args:
        group: What it is about.
        screen: "rise", "fall", "surge" or "collapse".
        month: "2023-11".
        pooled: Of many voices, or of one series.
        voices: Who is in alarm, since which month; oldest first.
        tail: Chance of it in an ordinary month, for a pool; 1 for a single series.
        confidence: 0 to 1: the Admiralty weight behind it, lowered by conflicts and missing reports.
        reports: Ids of the reports behind the newest values, sorted.
        reason: In words.
    """

    group: Group
    screen: str
    month: str
    pooled: bool
    voices: tuple[tuple[str, str], ...]
    tail: float
    confidence: float
    reports: tuple[bytes, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Update:
    """What one report changed: groups to look at again, and what was noticed."""

    groups: tuple[Group, ...]
    notices: tuple[Notice, ...]


class Board:
    """All series of one desk.

    Args:
        thresholds: Of the annex, or the built-in ones.
        rates: For money in another currency than a series has.
    """

    def __init__(self, thresholds: Thresholds = DEFAULTS, rates: Rates = NO_RATES) -> None:
        self._thresholds, self._rates = thresholds, rates
        self._series: dict[SeriesKey, Series] = {}
        self._groups: dict[Group, dict[SeriesKey, None]] = defaultdict(dict)
        self._of_reporter: dict[str, int] = defaultdict(int)
        self._by_report: dict[bytes, list[SeriesKey]] = {}
        self._views: dict[SeriesKey, View] = {}

    def restore(self, series: Iterable[Series]) -> None:
        """Take series from the archive; what is known of them already is replaced."""
        for one in series:
            self._put(one)
            for observation in one.observations:
                self._remember(observation.report, one.key)

    def drop(self, group: Group) -> None:
        """Forget a group, so that memory stays bounded; `restore` brings it back."""
        for key in self._groups.pop(group, {}):
            self._of_reporter[key.reporter] -= 1
            for observation in self._series.pop(key).observations:
                keys = self._by_report.get(observation.report)
                if keys is not None and key in keys:
                    keys.remove(key)
                    if not keys:
                        del self._by_report[observation.report]
            self._views.pop(key, None)

    def series(self, key: SeriesKey) -> Series | None:
        """One series."""
        return self._series.get(key)

    def of_group(self, group: Group) -> list[Series]:
        """The series of a group, in the order in which they were first heard."""
        return [self._series[key] for key in self._groups.get(group, ())]

    def groups(self) -> list[Group]:
        """Every group there is."""
        return list(self._groups)

    def take(self, report: pb.Report, *, sender: str, received_ms: int, now_ms: int) -> Update:
        """File a report. Never raises for what it says: what is not taken is a notice."""
        taken = intake.readings(report, sender=sender, received_ms=received_ms, now_ms=now_ms)
        notices = list(taken.notices)
        touched: dict[Group, None] = {}
        reporter = intake.mission_of(sender)
        for reading in taken.readings:
            notices += self._file(reading, touched, now_ms)
        for old in intake.replaced(report):
            for key in self._by_report.get(old, ()):
                # A mission takes back what it said itself, never what another did.
                if key.reporter == reporter:
                    self._put(self._series[key].without(old, known_ms=received_ms, by=bytes(report.id)))
                    touched[group_of(key)] = None
        for group in touched:
            notices += conflicts(view.said for view in self._views_of(group))
        return Update(tuple(touched), tuple(notices))

    def _file(self, reading: intake.Reading, touched: dict[Group, None], now_ms: int) -> list[Notice]:
        key = reading.key
        known = self._series.get(key)
        try:
            if known is None:
                known = self._opened(reading)
            joined, notices = intake.into_series(reading, unit=known.unit, currency=known.currency, rates=self._rates)
            series, added = known.add(joined.observation)
        except (ConversionError, ObservationError) as error:
            text = f"{key.reporter}, {reading.observation.period}: {error}"
            return [Notice(NoticeKind.REFUSED, text, key.reporter, key, reading.observation.report)]
        if added.what != "repeated":
            self._put(series)
            self._remember(joined.observation.report, key)
            touched[group_of(key)] = None
        return notices + _noticed(key, joined.observation, added.what, added.before, now_ms)

    def _opened(self, reading: intake.Reading) -> Series:
        if self._of_reporter[reading.key.reporter] >= MAX_SERIES_OF_REPORTER:
            raise ObservationError(f"{reading.key.reporter} has {MAX_SERIES_OF_REPORTER} series already")
        return Series(reading.key, reading.unit, reading.currency)

    def _put(self, series: Series) -> None:
        if series.key not in self._series:
            self._of_reporter[series.key.reporter] += 1
        self._series[series.key] = series
        self._groups[group_of(series.key)][series.key] = None
        self._views.pop(series.key, None)

    def _remember(self, report: bytes, key: SeriesKey) -> None:
        keys = self._by_report.setdefault(report, [])
        if key not in keys:
            keys.append(key)

    def _view(self, key: SeriesKey) -> View:
        if key not in self._views:
            self._views[key] = View(self._series[key], self._thresholds)
        return self._views[key]

    def _views_of(self, group: Group) -> list[View]:
        """Of the series of a group that have a standing value."""
        views = (self._view(key) for key in self._groups.get(group, ()))
        return [view for view in views if view.newest is not None]

    def pool(self, group: Group, screen: str) -> "GroupPool | None":
        """The pool of a group; None if nothing can be scored."""
        return _pool(self._views_of(group), screen)

    def alarms(self, group: Group, *, missing: Mapping[str, float] | None = None) -> list[Alarm]:
        """What is in alarm over a group: the pool first, then each series. Nothing older than VALID_MONTHS.

        Args:
            group: Which.
            missing: Share of what each mission owes that is overdue, 0 to 1 (exchange.watch.cadence).
        """
        views = self._views_of(group)
        own, caveat = _doubt_of_kind(group)
        doubt = 1 - (1 - _doubt(views, missing or {})) * (1 - own)
        newest = max((view.last for view in views), default=0)
        out: list[Alarm] = []
        for screen in screens(group.indicator, self._thresholds.for_item(group.item)):
            pooled = _pool(views, screen.name)
            if pooled is not None:
                out += _pool_alarm(group, screen, pooled, views, doubt)
            fresh = (view for view in views if view.last > newest - VALID_MONTHS)
            out += [_single_alarm(group, screen, view, doubt) for view in fresh if screen.name in view.alarms]
        return [replace(alarm, reason=alarm.reason + caveat) for alarm in out] if caveat else out


class GroupPool(NamedTuple):
    """The pool of a group: number of its first month, voices, their flags (voices, months), and the pool by month."""

    first: int
    voices: Sequence[pooling.Voice]
    flags: Floats
    pooled: Pooled


def _pool(all_views: Sequence[View], screen: str) -> GroupPool | None:
    views = [view for view in all_views if screen in view.flags and view.values.size]
    if not views:
        return None
    end = max(view.last for view in views) + 1
    start = max(min(view.first for view in views), end - WINDOW_MONTHS)
    matrix = np.full((len(views), end - start), np.nan)
    for row, view in zip(matrix, views, strict=True):
        part = view.flags[screen][max(start - view.first, 0) :]
        at = max(view.first - start, 0)
        row[at : at + part.size] = part
    voices = pooling.voices([view.vote for view in views])
    merged = pooling.merged(matrix, voices)
    return GroupPool(start, voices, merged, pooling.pool(merged, np.array([voice.weight for voice in voices])))


def _pool_alarm(group: Group, screen: Screen, pool: GroupPool, views: Sequence[View], doubt: float) -> list[Alarm]:
    # Not the newest month alone: there the first to report would stand by itself, and silence all the others.
    recent = np.flatnonzero(pool.pooled.alarm)
    if not recent.size or recent[-1] < pool.flags.shape[1] - POOL_MONTHS:
        return []
    month = int(recent[-1])
    named = pooling.in_alarm(pool.flags, [voice.name for voice in pool.voices], month, pool.first)
    on = [voice for row, voice in enumerate(pool.voices) if pool.flags[row, month] > 0]
    weight = sum(voice.weight for voice in on) / len(on)
    reporters = {name for voice in on for name in voice.reporters}
    return [
        Alarm(
            group,
            screen.name,
            month_text(pool.first + month),
            pooled=True,
            voices=tuple((one.name, month_text(one.since)) for one in named),
            tail=float(pool.pooled.tail[month]),
            confidence=weight * (1 - doubt),
            reports=_reports(view for view in views if view.vote.reporter in reporters),
            reason=pooling.explain(pool.pooled, month, named),
        )
    ]


def _single_alarm(group: Group, screen: Screen, view: View, doubt: float) -> Alarm:
    since, reason = view.alarms[screen.name]
    return Alarm(
        group,
        screen.name,
        month_text(view.last),
        pooled=False,
        voices=((view.vote.reporter, month_text(since)),),
        tail=1.0,
        confidence=view.vote.weight * (1 - doubt),
        reports=_reports([view]),
        reason=reason,
    )


def _reports(views: Iterable[View]) -> tuple[bytes, ...]:
    return tuple(sorted({view.newest.report for view in views if view.newest is not None}))


def _doubt_of_kind(group: Group) -> tuple[float, str]:
    """Doubt that lies in the indicator itself, and why."""
    if group.indicator == pb.INDICATOR_KIND_ORDERS:
        # In a shortage buyers order twice from two sellers and cancel one: orders say more than is needed.
        return ORDERS_DOUBT, "; orders may be placed twice, so compare imports and stocks"
    return 0.0, ""


def _doubt(views: Sequence[View], missing: Mapping[str, float]) -> float:
    """How much confidence conflicts and missing reports cost, 0 to 0.75: lowered, never taken away altogether."""
    reporters = {view.vote.reporter for view in views}
    owed = sum(missing.get(name, 0.0) for name in reporters) / max(len(reporters), 1)
    disagreement = 0.5 if conflicts(view.said for view in views) else 0.0
    return 1 - (1 - min(owed, 1.0) / 2) * (1 - disagreement)


def _noticed(key: SeriesKey, one: Observation, what: str, before: float | None, now_ms: int) -> list[Notice]:
    if what == "backfilled":
        text = f"{key.reporter}: {one.period} came after newer months"
        return [Notice(NoticeKind.BACKFILLED, text, key.reporter, key, one.report)]
    if what != "revised" or before is None or one.value is None:
        return []
    large = abs(one.value - before) > LARGE_REVISION * abs(before)
    age = intake.age_months(one.period, now_ms)
    if not large and age <= OLD_MONTHS:
        return []
    text = f"{key.reporter}: {one.period} revised from {before:g} to {one.value:g}, {age} months after"
    return [Notice(NoticeKind.REVISED, text, key.reporter, key, one.report)]
