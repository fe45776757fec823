"""The usual report, passed in one look, at a fifth of the time that `rules.problems` takes to find nothing wrong.

`is_plain` says yes only when the rules would find nothing. Whatever it does not say yes to, the rules judge, and they
alone give the reasons. A test holds the two together.
"""

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from exchange.report.cleaning import FIELD_CHARS, text_limit
from exchange.report.faults import ReportError
from exchange.report.periods import period_start_ms
from exchange.report.rules import (
    COUNTS,
    DATE_SLACK_MS,
    KINDS,
    LANGUAGE,
    LOCODE,
    MAX_LAG_DAYS,
    MAX_LIST,
    MAX_REPORT_BYTES,
    URL,
    event_problems,
    hs_problem,
    is_report_id,
    problems,
    shape_is_sound,
)
from exchange.text import is_clean
from exchange.units import COUNTRIES, CURRENCIES, TARIFFS, UNITS
from exchange.v1 import report_pb2 as pb

_STAGES: Final = frozenset(pb.Stage.values())
_LEVELS: Final = frozenset(pb.StatusLevel.values()) - {pb.STATUS_LEVEL_UNSPECIFIED}
_MARKETS: Final = frozenset(pb.Market.values())
_RELIABILITIES: Final = frozenset(pb.Reliability.values())
_CREDIBILITIES: Final = frozenset(pb.Credibility.values())
_UNITS_OF: Final = {
    kind: frozenset(code for code, unit in UNITS.items() if unit.dimension in rule.dimensions)
    for kind, rule in KINDS.items()
}
_TEXT_CHARS: Final = text_limit("text")


def validate(report: pb.Report, *, now_ms: int) -> None:
    """Refuse a report that this desk must not send.

    Args:
        report: The report.
        now_ms: Milliseconds UTC; periods and publication dates after it are refused.

    Raises:
        ReportError: Names the first field that is wrong, and lists all.
    """
    _validate(report, report.ByteSize(), now_ms)


def encode(report: pb.Report, *, now_ms: int) -> bytes:
    """The encoded Item that says a report, validated.

    Raises:
        ReportError: See validate.
    """
    encoded = report.SerializeToString()
    _validate(report, len(encoded), now_ms)
    # What Item(report=report) encodes to, without the copy: field 1, length, content.
    length = len(encoded)
    head = bytearray(b"\x0a")
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head) + encoded


def _validate(report: pb.Report, size: int, now_ms: int) -> None:
    if not is_plain(report, size=size, now_ms=now_ms) and (found := problems(report, now_ms=now_ms)):
        raise ReportError(found)


def is_plain(report: pb.Report, *, size: int, now_ms: int) -> bool:
    """Whether nothing is wrong with a report, and it is of the usual kind.

    Args:
        report: The report.
        size: Its encoded length, bytes.
        now_ms: Milliseconds UTC.
    """
    latest_ms = now_ms + DATE_SLACK_MS
    return (
        is_report_id(report.id)
        and size <= MAX_REPORT_BYTES
        and report.level in _LEVELS
        and report.observe_time_ms <= latest_ms
        and report.HasField("subject")
        and _subject(report.subject)
        and (not report.HasField("place") or _place(report.place))
        and _indicators(report.indicators, latest_ms)
        and _sources(report.sources, latest_ms)
        and _texts(report.summary)
        and _events(report.events, now_ms)
        # These are rare, and left to the rules.
        and not report.attachments
        and not report.supersedes
        and not report.withdraws
        and not report.companies
    )


@lru_cache(4096)  # names of items, places and sources come again and again
def _name(text: str) -> bool:
    return is_clean(text, max_chars=FIELD_CHARS)


@lru_cache(4096)
def _hs(code: str) -> bool:
    return not hs_problem(code)


@lru_cache(256)
def _language(tag: str) -> bool:
    return LANGUAGE.match(tag) is not None


def _subject(subject: pb.Subject) -> bool:
    item, hs, country = subject.item, subject.hs, subject.hs_country
    return (
        item != ""
        and _name(item)
        and (not hs or _hs(hs))
        and (country in TARIFFS if len(hs) > 6 else not country)
        and subject.stage in _STAGES
    )


def _place(place: pb.Place) -> bool:
    country, locode, name = place.country, place.locode, place.name
    return (
        (not country or country in COUNTRIES)
        and (not locode or (locode[:2] == country and LOCODE.match(locode) is not None))
        and (not name or _name(name))
    )


def _indicators(indicators: Iterable[pb.Indicator], latest_ms: int) -> bool:
    for number, one in enumerate(indicators):
        kind, unit, currency, value, baseline = one.kind, one.unit, one.currency, one.value, one.baseline
        rule = KINDS.get(kind)
        if rule is None or number >= MAX_LIST or one.market not in _MARKETS:
            return False
        if currency:
            if rule.currency == "no" or currency not in CURRENCIES:
                return False
            if rule.currency == "may":
                if unit:
                    return False
            elif unit not in _UNITS_OF[kind]:
                return False
        elif rule.currency == "needs" or unit not in _UNITS_OF[kind]:
            return False
        # Nothing is negative but a price, and minus zero and what is not finite are no numbers of ours.
        if not (0 < value <= rule.greatest and value < math.inf) and (value or math.copysign(1, value) < 0):
            return False
        if not (0 < baseline <= rule.greatest and baseline < math.inf) and (baseline or math.copysign(1, baseline) < 0):
            return False
        start_ms = period_start_ms(one.period)
        if start_ms is None or start_ms > latest_ms:
            return False
        if (note := one.baseline_note) and not _name(note):
            return False
        if one.publication_lag_days > MAX_LAG_DAYS:
            return False
    return True


def _sources(sources: Iterable[pb.Source], latest_ms: int) -> bool:
    for number, source in enumerate(sources):
        name = source.name
        if not name or not _name(name) or number >= COUNTS["sources"] or source.time_ms > latest_ms:
            return False
        if source.reliability not in _RELIABILITIES or source.credibility not in _CREDIBILITIES:
            return False
        if (origin := source.origin) and not _name(origin):
            return False
        if (credit := source.credit) and not _name(credit):
            return False
        if (url := source.url) and not (len(url) <= text_limit("url") and URL.match(url)):
            return False
    return True


def _texts(texts: Iterable[pb.Text]) -> bool:
    seen: set[str] = set()
    for one in texts:
        language, text = one.language, one.text
        if language in seen or not _language(language) or not text:
            return False
        if not is_clean(text, max_chars=_TEXT_CHARS, lines=True):
            return False
        seen.add(language)
    return len(seen) <= COUNTS["summary"]


def _events(events: Iterable[pb.Event], now_ms: int) -> bool:
    for number, event in enumerate(events):
        if number >= MAX_LIST or not shape_is_sound(event) or any(True for _ in event_problems(event, "", now_ms)):
            return False
    return True
