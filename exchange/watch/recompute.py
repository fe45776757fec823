"""Compute an alert again from what this desk had when it was issued, and say where the two differ."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from exchange.desk.archive import Archive
from exchange.v1 import report_pb2 as pb
from exchange.watch.alerts import EVENT, Setting, of_alarm
from exchange.watch.alerts_life import Heard
from exchange.watch.board import Alarm, Board, Group, group_of
from exchange.watch.filing import Report, cited_of
from exchange.watch.intake import item_of, mission_of
from exchange.watch.letters import LAST, letters, reports_in
from exchange.watch.series import Series
from exchange.watch.thresholds import Thresholds
from keys.v1 import documents_pb2 as docs

_COMPARED: Final = ("certainty", "probability", "rules", "evidence")


@dataclass(frozen=True, slots=True)
class Recomputed:
    """An alert computed again: `alert` is None if the evidence held here does not raise it; `differences` in words."""

    alert: pb.Alert | None
    differences: tuple[str, ...]
    missing: tuple[str, ...]


def position_of(archive: Archive, identity: bytes) -> int:
    """Number in the node's log of the envelope that carries an alert; LAST if it has none."""
    for one in letters(archive, frozenset(["alerts"])):
        for raw in one.items:
            if pb.Item.FromString(raw).alert.id == identity:
                return one.position
    return LAST


def held_before(archive: Archive, position: int, *, highest: int = docs.MARKING_RED) -> dict[tuple[str, bytes], Report]:
    """Reports that stood in the node's log before a position, by mission and id, in order; of markings up to `highest`."""
    found = sorted(
        (one for one in letters(archive) if one.position < position and one.header.marking <= highest),
        key=lambda one: one.position,
    )
    out: dict[tuple[str, bytes], Report] = {}
    for one in found:
        for report in reports_in(one):
            out.setdefault((mission_of(report.sender), bytes(report.report.id)), report)
    return out


def again(
    heard: Heard, alert: pb.Alert, reports: dict[tuple[str, bytes], Report], thresholds: Thresholds, *, random: bytes
) -> Recomputed:
    """The alert from these reports alone, compared with what was said.

    Args:
        heard: The alert as it came.
        alert: What it says.
        reports: Of `held_before`.
        thresholds: Of the annex that it names.
        random: 10 fresh random bytes.
    """
    named = [(mission_of(one.sender), bytes(one.id)) for one in alert.evidence]
    missing = tuple(
        f"{one.sender} {one.id.hex()[:13]} is not here, or is another text"
        for one, key in zip(alert.evidence, named, strict=True)
        if key not in reports or reports[key].digest != one.digest
    )
    if alert.basis.screen == EVENT:
        told = [reports[key].report for key in named if key in reports]
        found = any(e.public_date == alert.basis.period for report in told for e in report.events)
        return Recomputed(alert if found else None, () if found else ("no report here tells of the event",), missing)
    group = Group(item_of(alert.subject), alert.basis.indicator, alert.basis.market)
    board = Board(thresholds)
    board.restore(_series(reports.values(), group, heard.time_ms, thresholds))
    alarm = next((one for one in board.alarms(group) if _same(one, alert)), None)
    if alarm is None:
        return Recomputed(None, ("these reports raise no such alarm",), missing)
    cited = [cited_of(reports[key]) for report in alarm.reports for key in reports if key[1] == report]
    setting = Setting(alert.status, alert.effective_time_ms, alert.annex_version)
    fresh = of_alarm(alarm, cited, setting, random=random)
    return Recomputed(fresh, tuple(_differences(alert, fresh)), missing)


def _same(alarm: Alarm, alert: pb.Alert) -> bool:
    basis = alert.basis
    who = "" if alarm.pooled else alarm.voices[0][0]
    return (alarm.screen, alarm.month, alarm.pooled, who) == (basis.screen, basis.period, basis.pooled, basis.reporter)


def _series(reports: Iterable[Report], group: Group, known_ms: int, thresholds: Thresholds) -> list[Series]:
    """What these reports say of a group, all known by one time: the log's order is their order."""
    board = Board(thresholds)
    for one in reports:
        board.take(one.report, sender=one.sender, received_ms=known_ms, now_ms=known_ms)
    return [series.as_of(known_ms) for series in board.of_group(group) if group_of(series.key) == group]


def _differences(old: pb.Alert, new: pb.Alert) -> Iterable[str]:
    for name in _COMPARED:
        was, now = getattr(old, name), getattr(new, name)
        if name == "evidence":
            was, now = sorted(bytes(one.id) for one in was), sorted(bytes(one.id) for one in now)
        if name == "probability":
            was, now = round(was, 2), round(now, 2)
        if was != now:
            yield f"{name} was {_words(was)}, is {_words(now)}"


def _words(value: object) -> str:
    return f"{len(value)} reports" if isinstance(value, list) else str(value)
