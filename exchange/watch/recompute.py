"""Compute an alert again from what this desk had when it was issued, and say where the two differ.

The time cut is double: what stood in this desk's log before the alert, and of that what was sealed before the issuer
reckoned. Named evidence that was sealed later, or that is another text here, is missing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from exchange.desk.archive import Archive
from exchange.v1 import report_pb2 as pb
from exchange.watch.alerts import EVENT, Cited, Setting, event_of, of_alarm, of_event
from exchange.watch.alerts_life import Chain
from exchange.watch.assess import assess_all
from exchange.watch.assessment import Assessment, Shock
from exchange.watch.board import Alarm, Board, Group, group_of
from exchange.watch.cadence import conflicts, said
from exchange.watch.filing import FIGURES, Report, cited_of
from exchange.watch.graph_data import shipped_facts, shipped_graph
from exchange.watch.intake import item_of, mission_of
from exchange.watch.letters import LAST, letters, reports_in
from exchange.watch.series import Series
from exchange.watch.shocks import ShockKey, Shocks
from exchange.watch.thresholds import Thresholds
from keys.v1 import documents_pb2 as docs

_VALUES: Final = ("severity", "urgency", "certainty", "rules", "affected_steps")
_NUMBERS: Final = ("need_share", "probability", "cover_weeks", "impact_weeks")
_TEXTS: Final = ("headline", "cancel_condition", "instruction")

Reports = dict[tuple[str, bytes], Report]
"""By mission and id of the report, in the order of the log."""


@dataclass(frozen=True, slots=True)
class Recomputed:
    """An alert computed again: `alert` is None if the evidence held here does not raise it; `differences` in words."""

    alert: pb.Alert | None
    differences: tuple[str, ...]
    missing: tuple[str, ...]


def known_until(chain: Chain) -> int:
    """Until when what was received counted for what stands, ms UTC: as the issuer says, but never after it was sent."""
    claimed = int(chain.alert.basis.known_until_ms)
    return min(claimed, chain.current.time_ms) if claimed else chain.current.time_ms


def position_of(archive: Archive, chain: Chain) -> int:
    """Number in the node's log of the message that first said what stands; LAST if none of them has one.

    An escalation repeats what was reckoned before it: its own place would let in all that came since.
    """
    told = [chain.root.said, *(heard.said for heard in chain.said if isinstance(heard.said, pb.Alert))]
    reckoned = chain.alert.basis.known_until_ms
    same = {bytes(one.id) for one in told if isinstance(one, pb.Alert) and one.basis.known_until_ms == reckoned}
    found = LAST
    for one in letters(archive, frozenset(["alerts"])):
        if any(bytes(pb.Item.FromString(raw).alert.id) in same for raw in one.items):
            found = min(found, one.position)
    return found


def held_before(archive: Archive, position: int, *, sealed_by_ms: int, highest: int = docs.MARKING_RED) -> Reports:
    """Reports that stood in the node's log before a position and were sealed by a time; of markings up to `highest`."""
    found = sorted(
        (
            one
            for one in letters(archive)
            if one.position < position and one.header.create_time_ms <= sealed_by_ms and one.header.marking <= highest
        ),
        key=lambda one: one.position,
    )
    out: Reports = {}
    for one in found:
        for report in reports_in(one):
            out.setdefault((mission_of(report.sender), bytes(report.report.id)), report)
    return out


def again(
    chain: Chain, reports: Reports, thresholds: Thresholds, *, countries: Sequence[str], random: bytes
) -> Recomputed:
    """The alert that stands from these reports alone, compared with what was said.

    Args:
        chain: The alert with its updates.
        reports: Of `held_before`.
        thresholds: Of the annex that it names.
        countries: Those of the exchange.
        random: 10 fresh random bytes.
    """
    alert, known_ms = chain.alert, known_until(chain)
    named = [(mission_of(one.sender), bytes(one.id)) for one in alert.evidence]
    missing = tuple(
        f"{one.sender} {one.id.hex()[:13]} is not here, is another text, or came after the alert"
        for one, key in zip(alert.evidence, named, strict=True)
        if key not in reports or reports[key].digest != one.digest
    )
    if alert.basis.screen == EVENT:
        told = [key for key in named if key in reports]
        found = _event_alerts(alert, told, reports, countries, known_ms, random)
        why = "the reports held here do not raise it: none of its evidence tells of an event that stood then"
    else:
        found = _alarm_alerts(alert, reports, thresholds, countries, known_ms, random)
        why = "these reports raise no such alarm"
    # Of several that the same evidence raises, the one that was meant is the one that is most like it.
    best = min(found, key=lambda one: len(list(_differences(alert, one))), default=None)
    if best is None:
        return Recomputed(None, (why,), missing)
    return Recomputed(best, tuple(_differences(alert, best)), missing)


def _setting(alert: pb.Alert, known_ms: int) -> Setting:
    return Setting(alert.status, known_ms, alert.annex_version)


def _event_alerts(
    alert: pb.Alert,
    named: Sequence[tuple[str, bytes]],
    reports: Reports,
    countries: Sequence[str],
    known_ms: int,
    random: bytes,
) -> list[pb.Alert]:
    shocks = Shocks()
    for one in reports.values():
        shocks.take(one.report, sender=one.sender, now_ms=known_ms)
    standing = shocks.current(now_ms=known_ms)
    keys = dict.fromkeys(key for _, report in named for key in shocks.told_by(report))
    out = []
    for key in keys:
        shock = shocks.shock(key, now_ms=known_ms)
        if shock is None or shock not in standing:
            continue
        fresh = _event_alert(alert, key, shock, reports, countries, known_ms, random)
        if fresh is not None and (fresh.basis.period, fresh.basis.hs) == (alert.basis.period, alert.basis.hs):
            out.append(fresh)
    return out


def _event_alert(
    alert: pb.Alert,
    key: ShockKey,
    shock: Shock,
    reports: Reports,
    countries: Sequence[str],
    known_ms: int,
    random: bytes,
) -> pb.Alert | None:
    places = [(mission, report) for mission in shock.reporters for report in shock.report_ids]
    cited = [cited_of(reports[place]) for place in places if place in reports]
    event = event_of(key, cited)
    if event is None:
        return None
    assessed = _assessed(shock, reports, countries, known_ms)
    figures = _cited(assessed, reports)
    return of_event(event, cited, _setting(alert, known_ms), random=random, assessed=assessed, figures=figures)


def _alarm_alerts(
    alert: pb.Alert,
    reports: Reports,
    thresholds: Thresholds,
    countries: Sequence[str],
    known_ms: int,
    random: bytes,
) -> list[pb.Alert]:
    group = Group(item_of(alert.subject), alert.basis.indicator, alert.basis.market)
    board = _board(reports.values(), known_ms, thresholds)
    found = [series.as_of(known_ms) for series in board.of_group(group)]
    board = Board(thresholds)
    board.restore(series for series in found if group_of(series.key) == group)
    out = []
    for alarm in board.alarms(group):
        if not _same(alarm, alert):
            continue
        cited: list[Cited] = [cited_of(reports[key]) for report in alarm.reports for key in reports if key[1] == report]
        doubts = [one.text for one in conflicts(said(series) for series in found)]
        assessed = _assessed(alarm, reports, countries, known_ms)
        setting, figures = _setting(alert, known_ms), _cited(assessed, reports)
        out.append(of_alarm(alarm, cited, setting, random=random, assessed=assessed, figures=figures, doubts=doubts))
    return out


def _same(alarm: Alarm, alert: pb.Alert) -> bool:
    basis = alert.basis
    who = "" if alarm.pooled else alarm.voices[0][0]
    return (alarm.screen, alarm.month, alarm.pooled, who) == (basis.screen, basis.period, basis.pooled, basis.reporter)


def _board(reports: Iterable[Report], known_ms: int, thresholds: Thresholds) -> Board:
    """What these reports say, all known by one time: the log's order is their order."""
    board = Board(thresholds)
    for one in reports:
        board.take(one.report, sender=one.sender, received_ms=known_ms, now_ms=known_ms)
    return board


def _assessed(
    cause: Shock | Alarm, reports: Reports, countries: Sequence[str], known_ms: int
) -> tuple[Assessment, ...]:
    told = (_without_red(one) for one in reports.values() if _figures_in(one.report))
    board, graph = _board(told, known_ms, Thresholds({})), shipped_graph()
    series: list[Series] = [one for group in board.groups() for one in board.of_group(group)]
    figures = [one for one in series if one.key.indicator in FIGURES]
    facts = shipped_facts().with_reports(figures, graph, now_ms=known_ms)
    return assess_all(cause, graph, facts, countries=countries, now_ms=known_ms)


def _cited(assessed: Iterable[Assessment], reports: Reports) -> list[Cited]:
    refs = dict.fromkeys(ref for one in assessed for ref in one.figures)
    return [cited_of(reports[ref]) for ref in refs if ref in reports]


def _without_red(one: Report) -> Report:
    """RED figures count for no assessment (exchange.watch.filing); what a RED report takes back is taken back."""
    if one.marking != docs.MARKING_RED:
        return one
    left = pb.Report()
    left.CopyFrom(one.report)
    left.ClearField("indicators")
    return replace(one, report=left)


def _figures_in(report: pb.Report) -> bool:
    takes_back = bool(report.withdraws or report.supersedes)
    return takes_back or any(one.kind in FIGURES for one in report.indicators)


def _differences(old: pb.Alert, new: pb.Alert) -> Iterable[str]:
    """Everything that readers act on, and every word; not ids, times of sending, notes and steps of its life."""
    for name in _VALUES:
        was, now = getattr(old, name), getattr(new, name)
        if was != now:
            yield f"{name} was {_words(old, name)}, is {_words(new, name)}"
    for name in _NUMBERS:
        before, after = _number(old, name), _number(new, name)
        if before != after:
            yield f"{name} was {before}, is {after}"
    had, has = sorted(bytes(one.id) for one in old.evidence), sorted(bytes(one.id) for one in new.evidence)
    if had != has:
        yield f"evidence was {len(had)} reports, is {len(has)}; {len({*had} ^ {*has})} are in one alone"
    for name in _TEXTS:
        if [one.text for one in getattr(old, name)] != [one.text for one in getattr(new, name)]:
            yield f"{name} has other words: {' '.join(one.text for one in getattr(new, name))}"
    yield from _line_differences(_lines(old), _lines(new))


def _words(alert: pb.Alert, name: str) -> str:
    if name in ("rules", "affected_steps"):
        return ", ".join(getattr(alert, name)) or "none"
    kinds = {"severity": pb.Severity, "urgency": pb.Urgency, "certainty": pb.Certainty}
    word = kinds[name].Name(getattr(alert, name)).removeprefix(f"{name.upper()}_").lower()
    return "unknown" if word == "unspecified" else str(word)


def _number(alert: pb.Alert, name: str) -> str:
    return f"{getattr(alert, name):.2f}" if alert.HasField(name) else "unknown"


def _lines(alert: pb.Alert) -> dict[str, str]:
    """The description by line: "Threatens" to what it says."""
    lines = (line.partition(":") for one in alert.description for line in one.text.split("\n"))
    return {head: rest.strip() for head, _, rest in lines}


def _line_differences(old: dict[str, str], new: dict[str, str]) -> Iterable[str]:
    for head in dict.fromkeys((*old, *new)):
        if old.get(head) != new.get(head):
            yield f'description, "{head}": now {new.get(head, "not there")}'
