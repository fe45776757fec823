"""What an alert must keep to before this desk sends it: the fields and bounds of report.proto, each fault by its field."""

import math
from collections.abc import Iterable
from typing import Final

from exchange.report.faults import MAX_PROBLEMS, Problem, ReportError
from exchange.report.rules import is_report_id, shape_problems, subject_problems, text_problems
from exchange.v1 import report_pb2 as pb

CRISIS_POINTS: Final = ("impact", "cause", "duration", "sectors", "measures", "help")
_CHAINED: Final = frozenset([pb.ALERT_TYPE_UPDATE, pb.ALERT_TYPE_CANCEL, pb.ALERT_TYPE_ACK])
_SHARES: Final = ("need_share", "probability")
_WEEKS: Final = ("cover_weeks", "impact_weeks")


def validate_alert(alert: pb.Alert) -> None:
    """Refuse an alert that this desk must not send.

    Raises:
        ReportError: Names the first field that is wrong, and lists all.
    """
    if found := alert_problems(alert):
        raise ReportError(found)


def alert_problems(alert: pb.Alert) -> list[Problem]:
    """Everything that is wrong with an alert, at most MAX_PROBLEMS; empty = it may be sent."""
    out: list[Problem] = []
    for problem in _problems(alert):
        out.append(problem)
        if len(out) == MAX_PROBLEMS:
            break
    return out


def _problems(alert: pb.Alert) -> Iterable[Problem]:
    yield from shape_problems(alert, "")
    if not is_report_id(alert.id):
        yield Problem("id", "is not a UUIDv7 of 16 bytes")
    if not alert.type:
        yield Problem("type", "is missing; one of alert, update, cancel, ack")
    if not alert.status:
        yield Problem("status", "is missing; one of actual, exercise, test")
    if alert.type in _CHAINED and not alert.references:
        yield Problem("references", "is empty: an update, a cancel and an ack name what they are about")
    for name in ("references", "evidence"):
        for i, one in enumerate(getattr(alert, name)):
            if not one.sender or not is_report_id(one.id) or len(one.digest) != 32:
                yield Problem(f"{name}[{i}]", "is not a sender, an id of 16 bytes and a digest of 32 bytes")
    if alert.type in (pb.ALERT_TYPE_ALERT, pb.ALERT_TYPE_UPDATE):
        yield from _warning_problems(alert)
    for name in ("headline", "description", "instruction", "cancel_condition"):
        yield from text_problems(getattr(alert, name), name)
    yield from _number_problems(alert)
    if alert.HasField("crisis"):
        yield from _crisis_problems(alert.crisis)


def _warning_problems(alert: pb.Alert) -> Iterable[Problem]:
    """What an alert and its updates say and a cancel or an acknowledgement need not."""
    if alert.HasField("subject"):
        yield from subject_problems(alert.subject)
    else:
        yield Problem("subject", "is missing")
    for name in ("headline", "description", "cancel_condition"):
        if not getattr(alert, name):
            yield Problem(name, "is missing: a warning says what, why, and what would end it")
    if not alert.effective_time_ms:
        yield Problem("effective_time_ms", "is missing")
    if alert.expire_time_ms <= alert.effective_time_ms:
        yield Problem("expire_time_ms", "is not after effective_time_ms: every warning ends unless it is updated")


def _number_problems(alert: pb.Alert) -> Iterable[Problem]:
    for name in _SHARES:
        value: float = getattr(alert, name)
        if alert.HasField(name) and not 0 <= value <= 1:
            yield Problem(name, "is not a share between 0 and 1")
    for name in _WEEKS:
        weeks: float = getattr(alert, name)
        if alert.HasField(name) and not (math.isfinite(weeks) and weeks >= 0):
            yield Problem(name, "is not a number of weeks, 0 or more")


def _crisis_problems(crisis: pb.Crisis) -> Iterable[Problem]:
    for name in CRISIS_POINTS:
        texts = getattr(crisis, name)
        if not texts:
            yield Problem(f"crisis.{name}", 'is missing: all six points are said, if only as "not known yet"')
        yield from text_problems(texts, f"crisis.{name}")
