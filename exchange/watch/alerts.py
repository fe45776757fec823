"""Alerts: from an alarm, or from an event that somebody reported, to a warning in CAP 1.2 terms, with its reasons in words.

Pure. What follows on an alert is made here too (update, cancel, acknowledgement); what all of it means is alerts_life.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from exchange.report import new_report_id, to_dict
from exchange.units import UNITS
from exchange.v1 import report_pb2 as pb
from exchange.watch.assess import in_short
from exchange.watch.assessment import Assessment
from exchange.watch.board import VALID_MONTHS, Alarm
from exchange.watch.crisis import crisis_of
from exchange.watch.months import month_number, month_start_ms
from exchange.watch.rules import Direction, direction
from exchange.watch.shocks import ShockKey, key_of
from keys.v1 import documents_pb2 as docs

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
VALID_MS: Final = VALID_MONTHS * 30 * DAY_MS
MAX_EVIDENCE: Final = 1024
MAX_REFERENCES: Final = 64
SINGLE_PRECISION: Final = 0.5  # half of the alarms of one series are false by design (docs/WATCH.md section 5)
# Measured on two items of trade, docs/WATCH.md section 5: why trade is pooled, and said of a series that has no pool.
ALONE_FALSE: Final = {"surge": 1.2, "collapse": 0.7}
LIKELY: Final = 0.5
OPEN: Final = docs.MARKING_GREEN
"""Up to this marking a report may go on to others than those who read it."""
EVENT: Final = "event"
EVENT_RULE: Final = "E1"
_SCREEN_RULES: Final = {"surge": ("W8",), "collapse": ("W9",)}
_SCREEN_WORDS: Final = {"rise": "rise", "fall": "fall", "surge": "surge: buying ahead", "collapse": "collapse"}
_THREATS: Final = {
    "rise": "supply gets dearer or slower; shortage may follow",
    "fall": "less is made or held than usual",
    "surge": "buyers lay in stock before something; what is left for others gets less",
    "collapse": "what came does not come any more",
}


@dataclass(frozen=True, slots=True)
class Cited:
    """A report that an alert rests on.

    Args:
        reference: Sender, id and digest of the item.
        marking: Of its envelope, as in documents.proto.
        report: Cleaned.
        named: Desks that may read it, for RED.
    """

    reference: pb.Reference
    marking: int
    report: pb.Report = field(repr=False)
    named: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Setting:
    """What is the same for all alerts of one desk at one moment."""

    status: pb.AlertStatus
    now_ms: int
    annex_version: int = 0


def strictest(cited: Iterable[Cited]) -> tuple[int, tuple[str, ...]]:
    """The marking that an alert on this evidence takes, and for RED the desks that may read all of the RED part."""
    some = list(cited)
    marking = max((one.marking for one in some), default=int(docs.MARKING_AMBER))
    red = [one.named for one in some if one.marking == docs.MARKING_RED]
    return marking, tuple(sorted(frozenset.intersection(*red))) if red else ()


def probability_of(alarm: Alarm) -> float:
    """Behind `certainty`: Admiralty weight, lowered by conflicts and missing reports, and how unusual the pool is.

    For a pool the chance that not every voice in alarm is wrong; a mission has split its weight over what it names.
    """
    weight = max(0.0, min(1.0, alarm.confidence))
    if alarm.pooled:
        return round((1 - (1 - weight) ** len(alarm.voices)) * (1 - alarm.tail), 3)
    return round(SINGLE_PRECISION * weight, 3)


def of_alarm(
    alarm: Alarm,
    cited: Sequence[Cited],
    setting: Setting,
    *,
    random: bytes,
    assessed: Sequence[Assessment] = (),
    figures: Sequence[Cited] = (),
    doubts: Sequence[str] = (),
) -> pb.Alert:
    """The alert for an alarm.

    Args:
        alarm: Of `Board.alarms`.
        cited: The reports behind it, at least one; the first MAX_EVIDENCE are named.
        setting: Status, time, version of the annex.
        random: 10 fresh random bytes.
        assessed: What it does to each country of the exchange, the one that is hit hardest first; none = not assessed.
        figures: The reports behind the assessment.
        doubts: Missing, conflicting and stale reports, in words.
    """
    subject = cited[0].report.subject
    probability = probability_of(alarm)
    what = _indicator_words(alarm.group.indicator, alarm.group.market)
    who = f"{len(alarm.voices)} voices" if alarm.pooled else alarm.voices[0][0]
    assessment = assessed[0] if assessed else None
    rests_on = with_figures(cited, figures)
    alert = _begun(subject, setting, random, assessment)
    alert.certainty = pb.CERTAINTY_LIKELY if probability > LIKELY else pb.CERTAINTY_POSSIBLE
    alert.probability = probability
    month = month_number(alarm.month)
    alert.onset_time_ms = month_start_ms(month) if month is not None else 0
    alert.basis.indicator = alarm.group.indicator  # type: ignore[assignment]
    alert.basis.market = alarm.group.market  # type: ignore[assignment]
    alert.basis.screen, alert.basis.period, alert.basis.pooled = alarm.screen, alarm.month, alarm.pooled
    alert.basis.reporter = "" if alarm.pooled else alarm.voices[0][0]
    alert.rules.extend(_SCREEN_RULES.get(alarm.screen, ("W1", "W2") if alarm.screen == "rise" else ("W5",)))
    _say(alert.headline, f"{named(subject)}: {what}, {_SCREEN_WORDS[alarm.screen]}, {alarm.month}, {who}")
    if not alarm.pooled and alarm.screen in ALONE_FALSE:
        doubts = [
            *doubts,
            f"one mission alone; this rule by itself raised {ALONE_FALSE[alarm.screen]} false alarms a quiet year",
        ]
    lines = [
        f"Seen: {what} of {named(subject)}, {_SCREEN_WORDS[alarm.screen]}, in {alarm.month}.",
        f"By whom, how unusual: {alarm.reason}.",
        f"Threatens: {_threat(assessed) or _THREATS[alarm.screen]}.",
        f"When: {_when(assessment) or 'not known; weeks of cover and of transit were not reported'}.",
        _confidence(probability, [*doubts, *_unknown(assessment)]),
        _rests_on(rests_on),
    ]
    _say(alert.description, "\n".join(lines))
    back = "rise above" if direction(alarm.group.indicator, alarm.group.market) is Direction.DOWN else "fall below"
    if alarm.screen == "surge":
        back = "fall below"
    _say(
        alert.cancel_condition,
        f"{what} {back} the threshold of {' or '.join(alert.rules)} for two months in a row, or the reports are withdrawn.",
    )
    _ended(alert, rests_on, assessment)
    _put_crisis(alert, assessment)
    return alert


def of_event(
    event: pb.Event,
    cited: Sequence[Cited],
    setting: Setting,
    *,
    random: bytes,
    assessed: Sequence[Assessment] = (),
    figures: Sequence[Cited] = (),
    doubts: Sequence[str] = (),
) -> pb.Alert:
    """The alert that an event raises by itself: prices give no lead before a policy shock. The rest as in `of_alarm`."""
    first = cited[0].report
    subject, kind = first.subject, event_words(event)
    assessment = assessed[0] if assessed else None
    rests_on = with_figures(cited, figures)
    alert = _begun(subject, setting, random, assessment)
    in_force = bool(event.start_date) and event.start_date <= date_of(setting.now_ms)
    alert.certainty = pb.CERTAINTY_OBSERVED if in_force else pb.CERTAINTY_LIKELY
    if assessment is not None:
        alert.certainty = assessment.certainty  # type: ignore[assignment]
    alert.onset_time_ms = _date_ms(event.start_date)
    alert.basis.screen, alert.basis.period = EVENT, event.public_date
    alert.basis.hs = event.hs[0] if event.hs else ""
    alert.rules.append(EVENT_RULE)
    for country in event.affected[:64]:
        alert.areas.add(country=country)
    actors = ", ".join(event.actors) or "nobody named"
    starts = f"in force from {event.start_date}" if event.start_date else "start not said"
    _say(alert.headline, f"{named(subject)}: {kind} by {actors}, {starts}")
    told = event.description[0].text if event.description else kind
    impact = _threat(assessed) or f"{kind} on {', '.join(event.hs[:8]) or named(subject)}"
    lines = [
        f"Seen: {told}.",
        f"By whom: {_origins(cited)}; public on {event.public_date or 'a date not said'}"
        + (f", {event.reference}." if event.reference else "."),
        "How unusual: a notice alarms by itself.",
        f"Threatens: {impact}; hit: {', '.join(event.affected[:16]) or 'everybody'}.",
        f"When: {starts}{f', until {event.end_date}' if event.end_date else ', end open'}"
        + f"; {_when(assessment) or 'weeks of cover are not known'}.",
        _confidence(None, [*doubts, *_unknown(assessment)]),
        _rests_on(rests_on),
    ]
    _say(alert.description, "\n".join(lines))
    lifted = "The measure is lifted, eased or not applied, or the report is withdrawn."
    _say(alert.cancel_condition, (assessment.cancel_condition if assessment else "") or lifted)
    _ended(alert, rests_on, assessment)
    _put_crisis(alert, assessment)
    return alert


def event_of(key: ShockKey, cited: Iterable[Cited]) -> pb.Event | None:
    """The event of these reports that a shock is; None if none of them tells of it."""
    return next((e for one in cited for e in one.report.events if key_of(e, one.report) == key), None)


def _begun(subject: pb.Subject, setting: Setting, random: bytes, assessed: Assessment | None) -> pb.Alert:
    alert = pb.Alert(
        id=new_report_id(setting.now_ms, random),
        type=pb.ALERT_TYPE_ALERT,
        status=setting.status,
        subject=subject,
        effective_time_ms=setting.now_ms,
        expire_time_ms=setting.now_ms + VALID_MS,
        annex_version=setting.annex_version,
    )
    alert.basis.known_until_ms = setting.now_ms
    if assessed is not None:
        alert.severity, alert.urgency = assessed.severity, assessed.urgency  # type: ignore[assignment]
        alert.affected_steps.extend(one[:200] for one in assessed.affected_steps[:256])
        for name in ("need_share", "cover_weeks", "impact_weeks"):
            value = getattr(assessed, name)
            if value is not None:
                setattr(alert, name, value)
    return alert


def _put_crisis(alert: pb.Alert, assessment: Assessment | None) -> None:
    crisis = crisis_of(assessment) if assessment else None
    if crisis is not None:
        alert.crisis.CopyFrom(crisis)


def _ended(alert: pb.Alert, cited: Sequence[Cited], assessment: Assessment | None) -> None:
    alert.evidence.extend(one.reference for one in cited[:MAX_EVIDENCE])
    if assessment is not None and assessment.spared:
        _say(alert.instruction, "For information: no country of this exchange is touched by what is known.")
        return
    advice = "Acknowledge; compare with what your firms report; open a consultation if you see it too"
    urgent = alert.urgency == pb.URGENCY_IMMEDIATE
    _say(alert.instruction, f"{advice}, today: little time is left." if urgent else f"{advice}.")


def _say(texts: Any, text: str) -> None:
    texts.add(language="en", text=text[:4000])


def named(subject: pb.Subject) -> str:
    """The item with its code: "natural graphite (HS 250410)"."""
    return f"{subject.item} (HS {subject.hs})" if subject.hs else str(subject.item)


def _indicator_words(indicator: int, market: int) -> str:
    words = to_dict(pb.Indicator(kind=indicator, market=market))  # type: ignore[arg-type]
    where = f" ({words['market']} market)" if market else ""
    return str(words.get("kind", "")).replace("_", " ") + where


def event_words(event: pb.Event) -> str:
    """What kind of event it is: "export control"."""
    return str(to_dict(event).get("kind", "event")).replace("_", " ")


def _threat(assessed: Sequence[Assessment]) -> str:
    """What it does to the country that is hit hardest in full, to the others in short."""
    if not assessed:
        return ""
    hardest, *others = assessed
    if hardest.spared:
        return f"no country of this exchange: {'; '.join(map(in_short, assessed))}"
    return "; ".join([hardest.sentence.rstrip("."), *map(in_short, others)])


def _unknown(assessment: Assessment | None) -> tuple[str, ...]:
    return tuple(one.rstrip(".") for one in assessment.unknown) if assessment else ()


def _when(assessment: Assessment | None) -> str:
    """Weeks to the effect and of stock, where they are known."""
    parts = []
    if assessment is not None and assessment.impact_weeks is not None:
        parts.append(f"the effect arrives in {assessment.weeks_until_effect + assessment.impact_weeks:.0f} weeks")
    if assessment is not None and assessment.cover_weeks is not None:
        parts.append(f"stocks last {assessment.cover_weeks:.0f} weeks")
    return ", ".join(parts)


def _confidence(probability: float | None, doubts: Sequence[str]) -> str:
    said = "Confidence: the word of its sources" if probability is None else f"Confidence: {probability:.0%}"
    return f"{said}; lowered: {'; '.join(doubts[:8])}." if doubts else f"{said}."


def _origins(cited: Sequence[Cited]) -> str:
    names = dict.fromkeys(source.origin or source.name for one in cited for source in one.report.sources)
    senders = dict.fromkeys(one.reference.sender for one in cited)
    return f"{', '.join(list(senders)[:8])}{' from ' + ', '.join(list(names)[:4]) if names else ''}"


def with_figures(cited: Sequence[Cited], figures: Sequence[Cited]) -> list[Cited]:
    """The reports that an alert rests on, each once: those that raise it, then those behind its assessment."""
    seen = {(one.reference.sender, one.reference.id) for one in cited}
    return [*cited, *(one for one in figures if (one.reference.sender, one.reference.id) not in seen)]


def _rests_on(cited: Sequence[Cited]) -> str:
    shown = "; ".join(
        f"{one.reference.sender} {one.reference.id.hex()[:13]}: {_figure(one.report)}" for one in cited[:6]
    )
    more = f"; and {len(cited) - 6} more" if len(cited) > 6 else ""
    return f"Rests on {len(cited)} report{'s' if len(cited) > 1 else ''}: {shown}{more}."


def _figure(report: pb.Report) -> str:
    """The first number of a report with its unit and period, or its first event with its date."""
    for one in report.indicators:
        unit = UNITS[one.unit].name if one.unit in UNITS else one.unit
        money = f"{one.currency}/{unit}" if one.currency and unit else one.currency or unit
        return f"{_indicator_words(one.kind, 0)} {one.value:,.6g} {money} in {one.period}"
    for event in report.events:
        return f"{event_words(event)}, {event.public_date}"
    return "no number"


def date_of(time_ms: int) -> str:
    """The day of a time, "2023-10-20", UTC."""
    return f"{datetime.fromtimestamp(time_ms // 1000, UTC):%Y-%m-%d}"


def _date_ms(date: str) -> int:
    """First millisecond of "2023-12-01" or "2023-12"; 0 for anything else."""
    month = month_number(date[:7])
    if month is None:
        return 0
    day = int(date[8:10]) - 1 if len(date) == 10 and date[8:10].isdigit() else 0
    return month_start_ms(month) + max(day, 0) * DAY_MS


# ---- what follows on an alert


def updated(fresh: pb.Alert, before: Sequence[pb.Reference], *, why: str, escalate: bool = False) -> pb.Alert:
    """A fresh alert as the update of those before it."""
    out = pb.Alert()
    out.CopyFrom(fresh)
    out.type = pb.ALERT_TYPE_UPDATE
    out.step = pb.ALERT_STEP_ESCALATED if escalate else pb.ALERT_STEP_UNSPECIFIED
    del out.references[:]
    out.references.extend(before[-MAX_REFERENCES:])
    del out.note[:]
    _say(out.note, why)
    return out


def cancelled(
    current: pb.Alert, before: Sequence[pb.Reference], setting: Setting, *, why: str, step: int, random: bytes
) -> pb.Alert:
    """The end of an alert: cancelled, resolved or a false alarm, by `step`."""
    return _short(pb.ALERT_TYPE_CANCEL, current, before, setting, why, step, random)


def acknowledged(
    current: pb.Alert, before: Sequence[pb.Reference], setting: Setting, *, why: str, escalate: bool, random: bytes
) -> pb.Alert:
    """An acknowledgement; with `escalate` also the wish that those above look at it."""
    step = pb.ALERT_STEP_ESCALATED if escalate else pb.ALERT_STEP_UNSPECIFIED
    return _short(pb.ALERT_TYPE_ACK, current, before, setting, why, step, random)


def _short(
    kind: pb.AlertType,
    current: pb.Alert,
    before: Sequence[pb.Reference],
    setting: Setting,
    why: str,
    step: int,
    random: bytes,
) -> pb.Alert:
    out = pb.Alert(
        id=new_report_id(setting.now_ms, random),
        type=kind,
        # An exercise is answered by an exercise, whoever answers.
        status=current.status,
        references=list(before)[-MAX_REFERENCES:],
        subject=current.subject,
        step=step,  # type: ignore[arg-type]
        effective_time_ms=setting.now_ms,
    )
    if why:
        _say(out.note, why)
    return out


def same_facts(a: pb.Alert, b: pb.Alert) -> bool:
    """Whether two alerts say the same to whoever acts on them: an update is worth sending only if they do not."""

    def facts(one: pb.Alert) -> tuple[object, ...]:
        return (one.severity, one.urgency, one.certainty, one.basis.period, tuple(one.affected_steps))

    return facts(a) == facts(b)
