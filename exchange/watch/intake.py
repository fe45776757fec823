"""From a report to observations: which series each number belongs to, in which unit, and what was refused.

Pure: nothing is stored here. What the rules of docs/PROTOCOL.md section 10 refuse is refused number by number, by
name of the field; the sound numbers of a report with one bad number still count.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from exchange.report import problems
from exchange.report.periods import period_start_ms
from exchange.text import printable
from exchange.units import BASE_UNITS, NO_RATES, UNITS, ConversionError, Rates, convert, convert_price
from exchange.v1 import report_pb2 as pb
from exchange.watch.months import month_of_ms, month_text
from exchange.watch.notices import Notice, NoticeKind
from exchange.watch.series import Grade, Observation, SeriesKey

# A fault there spoils that part alone.
SEPARABLE: Final = ("indicators[", "events[", "summary", "attachments", "sources[")


@dataclass(frozen=True, slots=True)
class Reading:
    """One observation with the series it belongs to, and the unit and currency it is in."""

    key: SeriesKey
    unit: str
    currency: str
    observation: Observation


@dataclass(frozen=True, slots=True)
class Taken:
    """What a report gave: readings, and what was noticed."""

    readings: tuple[Reading, ...]
    notices: tuple[Notice, ...]


def item_of(subject: pb.Subject) -> str:
    """The item of a subject: its code, with the tariff where the code is national, or its name in one case."""
    if subject.hs:
        return f"{subject.hs}/{subject.hs_country}" if len(subject.hs) > 6 else str(subject.hs)
    return "name:" + " ".join(subject.item.casefold().split())


def heading_of(item: str) -> str:
    """The six digits that a national code extends: "811292" of "81129289/CN"; the item itself if it has no code."""
    return item if item.startswith("name:") else item[:6]


def mission_of(sender: str) -> str:
    """The mission of a desk: "nl.seoul" of "nl.seoul/economic"."""
    return sender.partition("/")[0]


def readings(report: pb.Report, *, sender: str, received_ms: int, now_ms: int) -> Taken:
    """The numbers of a report as observations, in base units; what cannot be taken, as notices.

    Args:
        report: As opened. It need not be valid.
        sender: Desk that signed it.
        received_ms: When it was received here, ms UTC: from then on it is known.
        now_ms: Milliseconds UTC; periods after it are refused.
    """
    reporter = mission_of(sender)
    found = problems(report, now_ms=now_ms)
    notices = [_refused(reporter, report, f"{one.field or 'report'}: {one.text}") for one in found]
    bad = {one.field for one in found}
    if any(not field.startswith(SEPARABLE) for field in bad):
        return Taken((), tuple(notices))  # no subject, no place, no id: nothing to file it under
    origin, grade = _source(report, reporter)
    out: list[Reading] = []
    for index, indicator in enumerate(report.indicators):
        if any(field.startswith(f"indicators[{index}]") for field in bad):
            continue
        unit, value = _base(indicator)
        key = SeriesKey(item_of(report.subject), indicator.kind, indicator.market, _place(report), reporter)
        observation = Observation(
            indicator.period, value, received_ms, bytes(report.id), origin, grade, indicator.estimate
        )
        out.append(Reading(key, unit, indicator.currency, observation))
    return Taken(tuple(out), tuple(notices))


def _refused(reporter: str, report: pb.Report, text: str) -> Notice:
    said = printable(text, max_chars=400)
    return Notice(NoticeKind.REFUSED, f"{reporter}, {said}", reporter, report=bytes(report.id[:16]))


def _place(report: pb.Report) -> str:
    return str(report.place.locode or report.place.country)


def _source(report: pb.Report, reporter: str) -> tuple[str, Grade]:
    """Origin and grade of the best source; a report that names none is its mission's own word."""
    best: tuple[int, str, Grade] | None = None
    for source in report.sources:
        rank = (source.reliability or 7) + (source.credibility or 7)
        if best is None or rank < best[0]:
            best = (rank, source.origin or source.name, Grade(source.reliability, source.credibility))
    return (best[1].casefold(), best[2]) if best else (reporter, Grade(0, 0))


def _base(indicator: pb.Indicator) -> tuple[str, float]:
    """The value in the base unit of its dimension, so that tonnes and kilograms are one series."""
    if not indicator.unit:
        return "", indicator.value
    base = BASE_UNITS[UNITS[indicator.unit].dimension]
    change = convert_price if indicator.kind == pb.INDICATOR_KIND_PRICE else convert
    return base, change(indicator.value, indicator.unit, base)


def into_series(reading: Reading, *, unit: str, currency: str, rates: Rates = NO_RATES) -> tuple[Reading, list[Notice]]:
    """A reading in the unit and currency of the series it joins.

    Args:
        reading: Already in a base unit.
        unit: Unit of the series.
        currency: Currency of the series.
        rates: For money in another currency.

    Raises:
        ConversionError: Another dimension, or no rate for the month: it is not guessed.
    """
    if reading.unit != unit:
        raise ConversionError(f"{reading.unit or 'money'} in a series of {unit or 'money'}")
    if reading.currency == currency:
        return reading, []
    start = period_start_ms(reading.observation.period)
    value = reading.observation.value
    if start is None or value is None:
        raise ConversionError(f"no month in {reading.observation.period}")
    month = month_text(month_of_ms(start))
    changed = rates.convert(value, reading.currency, currency, month)
    text = f"{reading.key.reporter}: {reading.currency} as {currency} at the mean rate of {month} ({rates.source})"
    notice = Notice(NoticeKind.CONVERTED, text, reading.key.reporter, reading.key, reading.observation.report)
    return Reading(reading.key, unit, currency, reading.observation._replace(value=changed)), [notice]


def replaced(report: pb.Report) -> Sequence[bytes]:
    """Ids of the reports that this one takes back or takes the place of."""
    return [bytes(one) for one in (*report.withdraws, *report.supersedes)][:128]


def age_months(period: str, now_ms: int) -> int:
    """Whole months from the start of a period to now."""
    start = period_start_ms(period)
    return 0 if start is None else month_of_ms(now_ms) - month_of_ms(start)
