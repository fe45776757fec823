"""Shocks: events of reports, each known once, however many missions tell of it.

Two statements are of one shock if they name the same kind, items, actors and affected. Items are never joined over
statements: nobody widens what another mission said. A statement is taken back by its own mission alone.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from exchange.report import problems
from exchange.report.faults import MAX_PROBLEMS
from exchange.report.periods import date_start_ms
from exchange.units import COUNTRIES
from exchange.v1 import report_pb2 as pb
from exchange.watch import intake
from exchange.watch.assessment import Shock
from exchange.watch.board import Alarm
from exchange.watch.months import month_number, month_start_ms
from exchange.watch.notices import Notice, NoticeKind
from exchange.watch.pooling import admiralty_weight

MAX_STATEMENTS_OF_REPORTER: Final = 2_000
MAX_STATEMENTS_OF_SHOCK: Final = 256
_DAY_MS: Final = 86_400_000

# What a government does: its own country goes on being supplied.
MEASURES: Final = frozenset(
    [
        pb.EVENT_KIND_EXPORT_CONTROL,
        pb.EVENT_KIND_EXPORT_BAN,
        pb.EVENT_KIND_EXPORT_RESTRICTION,
        pb.EVENT_KIND_SANCTIONS,
        pb.EVENT_KIND_EASING,
    ]
)
# More is wanted, but nothing is taken away: the board's series have to show it.
NO_LOSS: Final = frozenset([pb.EVENT_KIND_DEMAND_SURGE])


class ShockKey(NamedTuple):
    """What makes two statements one shock."""

    kind: int
    items: tuple[str, ...]
    places: tuple[str, ...]
    affected: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Statement:
    """One event as one mission told it."""

    key: ShockKey
    report: bytes
    reporter: str
    origin: str
    weight: float
    start_ms: int
    end_ms: int
    reference: str


@dataclass(frozen=True, slots=True)
class ShockUpdate:
    """What one report changed: shocks to assess again, and what was noticed."""

    keys: tuple[ShockKey, ...]
    notices: tuple[Notice, ...]


class Shocks:
    """All shocks that a desk knows of, kept up to date report by report. `take` every report that the board takes."""

    def __init__(self) -> None:
        self._said: dict[ShockKey, list[_Statement]] = {}
        self._of_reporter: dict[str, int] = {}
        self._by_report: dict[bytes, tuple[ShockKey, ...]] = {}

    def take(self, report: pb.Report, *, sender: str, now_ms: int) -> ShockUpdate:
        """File the events of a report. Never raises for what it says: what is not taken is a notice."""
        reporter = intake.mission_of(sender)
        found, notices = _statements(report, reporter, now_ms)
        touched: dict[ShockKey, None] = {}
        for old in intake.replaced(report):
            for key in self._by_report.get(old, ()):
                if self._take_back(key, old, reporter):
                    touched[key] = None
        for one in found:
            if why := self._full(one):
                notices.append(Notice(NoticeKind.REFUSED, f"{reporter}: {why}", reporter, report=one.report))
            elif self._put(one):
                touched[one.key] = None
        return ShockUpdate(tuple(touched), tuple(notices))

    def _take_back(self, key: ShockKey, report: bytes, reporter: str) -> bool:
        said = self._said.get(key, [])
        left = [one for one in said if one.report != report or one.reporter != reporter]
        self._of_reporter[reporter] = self._of_reporter.get(reporter, 0) - (len(said) - len(left))
        self._said[key] = left
        return len(left) < len(said)

    def _full(self, one: _Statement) -> str:
        if self._of_reporter.get(one.reporter, 0) >= MAX_STATEMENTS_OF_REPORTER:
            return f"{MAX_STATEMENTS_OF_REPORTER} events of it stand already"
        if len(self._said.get(one.key, ())) >= MAX_STATEMENTS_OF_SHOCK:
            return f"{MAX_STATEMENTS_OF_SHOCK} reports tell of this event already"
        return ""

    def _put(self, one: _Statement) -> bool:
        said = self._said.setdefault(one.key, [])
        if one in said:
            return False
        said.append(one)
        self._of_reporter[one.reporter] = self._of_reporter.get(one.reporter, 0) + 1
        self._by_report[one.report] = tuple(dict.fromkeys((*self._by_report.get(one.report, ()), one.key)))
        return True

    def told_by(self, report: bytes) -> tuple[ShockKey, ...]:
        """The shocks that a report tells of."""
        return self._by_report.get(report, ())

    def shock(self, key: ShockKey, *, now_ms: int) -> Shock | None:
        """A shock as it stands; None if nobody says so any more."""
        said = self._said.get(key)
        return self._standing(key, said, self._easings(now_ms), now_ms) if said else None

    def _easings(self, now_ms: int) -> list[Shock]:
        """Easings, one for each date: an earlier one does not stand for a later one of the same measure."""
        out = []
        for key, said in self._said.items():
            if key.kind == pb.EVENT_KIND_EASING:
                for start in {one.start_ms for one in said}:
                    out.append(_joined(key, [one for one in said if one.start_ms == start], now_ms))
        return out

    def _standing(self, key: ShockKey, said: list[_Statement], easings: Iterable[Shock], now_ms: int) -> Shock:
        """A shock; what was said of it before it was eased counts no more once it was taken anew."""
        eased = 0
        for easing in easings:
            before = [one for one in said if one.start_ms <= easing.start_ms]
            if before and eases(easing, _joined(key, before, now_ms)):
                eased = max(eased, easing.start_ms)
        anew = [one for one in said if one.start_ms > eased] if eased else []
        return replace(_joined(key, anew, now_ms), eased_ms=eased) if anew else _joined(key, said, now_ms)

    def current(self, *, now_ms: int) -> list[Shock]:
        """Shocks that have not ended and are not eased, in the order in which they were first heard."""
        easings = self._easings(now_ms)
        known = [self._standing(key, said, easings, now_ms) for key, said in self._said.items() if said]
        out = []
        for one in known:
            over = 0 < one.expected_end_ms <= now_ms or any(eases(easing, one) for easing in easings)
            if not over and one.kind != pb.EVENT_KIND_EASING and one.kind not in NO_LOSS:
                out.append(one)
        return out


def key_of(event: pb.Event, report: pb.Report) -> ShockKey:
    """Which shock an event of a report is."""
    places = _places(event, report)
    return ShockKey(event.kind, _items(event, report.subject), places, tuple(sorted(set(event.affected))))


def eases(easing: Shock, shock: Shock) -> bool:
    """Whether an easing ends a shock: in force, later, by one who imposed it or all of them, on every item of it.

    It has to be believed at least as much as the shock: a lone word must not call off what many confirm.
    """
    if easing.kind != pb.EVENT_KIND_EASING or not easing.in_force or easing.start_ms < shock.start_ms:
        return False
    covered = {intake.heading_of(item) for item in easing.items}
    items = all(intake.heading_of(item) in covered for item in shock.items)
    hit = not easing.affected or (bool(shock.affected) and set(shock.affected) <= set(easing.affected))
    return items and hit and set(shock.places) <= set(easing.places) and easing.probability >= shock.probability


def shock_of_alarm(alarm: Alarm) -> Shock:
    """An alarm of the board as a shock: the place is not known, the probability is its confidence."""
    month = month_number(alarm.month)
    return Shock(
        kind=0,
        items=(alarm.group.item,),
        market=alarm.group.market,
        start_ms=month_start_ms(month) if month is not None else 0,
        report_ids=alarm.reports,
        probability=alarm.confidence,
        reporters=tuple(sorted({name for name, _ in alarm.voices})),
        reference=alarm.reason,
    )


def _statements(report: pb.Report, reporter: str, now_ms: int) -> tuple[list[_Statement], list[Notice]]:
    found = problems(report, now_ms=now_ms)
    bad = {one.field for one in found}
    # With so many faults the list is cut off, and what is behind it was not looked at.
    if not report.events or len(found) >= MAX_PROBLEMS or any(not f.startswith(intake.SEPARABLE) for f in bad):
        return [], []  # the board has said why
    origin, weight = _belief(report, reporter)
    out: list[_Statement] = []
    notices: list[Notice] = []
    for index, event in enumerate(report.events):
        # Faults of events are the board's to show; a bad event does not count.
        if any(field.startswith(f"events[{index}]") for field in bad):
            continue
        key = key_of(event, report)
        start, end = _dates(event)
        out.append(_Statement(key, bytes(report.id), reporter, origin, weight, start, end, str(event.reference)))
        if not key.places:
            text = f"{reporter}: the event names no country whose supply is lost; the share at risk is not known"
            notices.append(Notice(NoticeKind.CONFLICT, text, reporter, report=bytes(report.id)))
    return out, notices


def _belief(report: pb.Report, reporter: str) -> tuple[str, float]:
    best = max(report.sources, key=lambda s: admiralty_weight(s.reliability, s.credibility), default=None)
    if best is None:
        return reporter, admiralty_weight(0, 0)
    return (best.origin or best.name).casefold(), admiralty_weight(best.reliability, best.credibility)


def _items(event: pb.Event, subject: pb.Subject) -> tuple[str, ...]:
    if not event.hs:
        return (intake.item_of(subject),)
    # The digits after the sixth are of the tariff that the report names, if it names one.
    tariff = f"/{subject.hs_country}" if subject.hs_country else ""
    return tuple(sorted({code + tariff if len(code) > 6 else code for code in event.hs}))


def _places(event: pb.Event, report: pb.Report) -> tuple[str, ...]:
    """Whose supply is lost: who acts, for measures; where it happened, for all else."""
    place = report.place.country or report.place.locode[:2]
    here = (place,) if place in COUNTRIES else ()
    actors = tuple(sorted(set(event.actors)))
    return actors or here if event.kind in MEASURES else here or actors


def _dates(event: pb.Event) -> tuple[int, int]:
    """First ms of the effect, and first ms after its end; 0 = not said."""
    start = date_start_ms(event.start_date or event.public_date)
    end = date_start_ms(event.end_date) if event.end_date else None
    if end is not None:
        month = month_number(event.end_date)
        end = end + _DAY_MS if month is None else month_start_ms(month + 1)
    return start or 0, end or 0


def _joined(key: ShockKey, said: Iterable[_Statement], now_ms: int) -> Shock:
    said = sorted(said, key=lambda one: (-one.weight, one.report))
    first = said[0]
    return Shock(
        kind=key.kind,
        items=key.items,
        places=key.places,
        affected=key.affected,
        # Dates are those of the best graded statement: a worse one moves nothing.
        start_ms=first.start_ms,
        expected_end_ms=first.end_ms,
        report_ids=tuple(sorted({one.report for one in said})),
        in_force=first.start_ms <= now_ms and not 0 < first.end_ms <= now_ms,
        probability=_believed(said),
        reporters=tuple(sorted({one.reporter for one in said})),
        reference=next((one.reference for one in said if one.reference), ""),
    )


def _believed(said: Iterable[_Statement]) -> float:
    """Chance that not every origin is wrong: each origin once, and each mission once, however many it names."""
    best: dict[str, float] = {}
    missions: dict[str, str] = {}
    for one in said:  # best weight first
        if one.origin in best or one.reporter in missions:
            continue
        best[one.origin] = one.weight
        missions[one.reporter] = one.origin
    wrong = 1.0
    for weight in best.values():
        wrong *= 1 - weight
    return 1 - wrong
