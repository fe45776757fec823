"""What a report must keep to."""

import math
import re
from collections.abc import Iterable
from functools import cache
from typing import Final, NamedTuple

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from exchange.report.cleaning import MULTILINE_FIELDS, text_limit
from exchange.report.companies import company_problems
from exchange.report.faults import MAX_PROBLEMS, Problem
from exchange.report.periods import date_start_ms, period_start_ms
from exchange.text import is_clean
from exchange.units import COUNTRIES, CURRENCIES, TARIFFS, UNITS, Dimension
from exchange.v1 import report_pb2 as pb

MAX_REPORT_BYTES: Final = 256 * 1024  # a quarter of an envelope: a batch always has room for others
MAX_LIST: Final = 64
MAX_LAG_DAYS: Final = 1000  # annual figures of a survey come two years late; more is a slip of the keyboard
# It is tomorrow in Seoul while it is still today in UTC; the earliest zone is 14 hours ahead.
DATE_SLACK_MS: Final = 14 * 3_600_000

_HS: Final = re.compile(r"[0-9]{6}(?:[0-9]{2}){0,2}\Z")
LOCODE: Final = re.compile(r"[A-Z]{2}[A-Z2-9]{3}\Z")
LANGUAGE: Final = re.compile(r"[a-z]{2,3}(?:-[A-Z][a-z]{3})?(?:-(?:[A-Z]{2}|[0-9]{3}))?\Z")
URL: Final = re.compile(r"https?://[!#-&(-;=?-\[\]-_a-~]+\Z")  # printable ASCII without quotes, <, >, backslash
_MEDIA_TYPE: Final = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,63}\Z")

_QUANTITY: Final = frozenset(
    [Dimension.MASS, Dimension.VOLUME, Dimension.AREA, Dimension.LENGTH, Dimension.ENERGY, Dimension.COUNT]
)
_TIME: Final = frozenset([Dimension.TIME])
_SHARE: Final = frozenset([Dimension.SHARE])
_COUNT: Final = frozenset([Dimension.COUNT])


class KindRule(NamedTuple):
    """What one indicator kind allows: unit dimensions, "needs" / "may" / "no" currency, least and greatest value."""

    dimensions: frozenset[Dimension]
    currency: str
    least: float
    greatest: float


KINDS: Final[dict[int, KindRule]] = {
    # A price may go below zero (oil, April 2020; electricity often); a stock cannot.
    pb.INDICATOR_KIND_PRICE: KindRule(_QUANTITY, "needs", -math.inf, math.inf),
    pb.INDICATOR_KIND_STOCK: KindRule(_QUANTITY, "no", 0, math.inf),
    pb.INDICATOR_KIND_COVER: KindRule(_TIME, "no", 0, math.inf),
    pb.INDICATOR_KIND_OUTPUT: KindRule(_QUANTITY, "no", 0, math.inf),
    pb.INDICATOR_KIND_CAPACITY: KindRule(_QUANTITY, "no", 0, math.inf),
    # Above 100 % happens for a while, when capacity is "sustainable"; 200 % is a slip of the keyboard.
    pb.INDICATOR_KIND_UTILISATION: KindRule(_SHARE, "no", 0, 200),
    pb.INDICATOR_KIND_IMPORTS: KindRule(_QUANTITY, "may", 0, math.inf),
    pb.INDICATOR_KIND_EXPORTS: KindRule(_QUANTITY, "may", 0, math.inf),
    pb.INDICATOR_KIND_ORDERS: KindRule(_QUANTITY, "may", 0, math.inf),
    pb.INDICATOR_KIND_DEMAND: KindRule(_QUANTITY, "no", 0, math.inf),
    pb.INDICATOR_KIND_LEAD_TIME: KindRule(_TIME, "no", 0, math.inf),
    pb.INDICATOR_KIND_TRANSIT_TIME: KindRule(_TIME, "no", 0, math.inf),
    pb.INDICATOR_KIND_SUPPLIER_SHARE: KindRule(_SHARE, "no", 0, 100),
    pb.INDICATOR_KIND_CONCENTRATION: KindRule(_COUNT, "no", 0, 1),
}


def new_report_id(now_ms: int, random: bytes) -> bytes:
    """A UUIDv7 of RFC 9562, 16 bytes: sorts by time of making.

    Args:
        now_ms: Milliseconds UTC since 1970, in [0, 2**48).
        random: At least 10 fresh random bytes; the first 10 are used.

    Raises:
        ValueError: A time outside the range or too few random bytes.
    """
    if not 0 <= now_ms < 1 << 48 or len(random) < 10:
        raise ValueError("a UUIDv7 needs a time within 48 bits and 10 random bytes")
    tail = bytearray(random[:10])
    tail[0] = tail[0] & 0x0F | 0x70
    tail[2] = tail[2] & 0x3F | 0x80
    return now_ms.to_bytes(6, "big") + bytes(tail)


def is_report_id(data: bytes) -> bool:
    """Whether the bytes are a UUIDv7."""
    return len(data) == 16 and data[6] >> 4 == 7 and data[8] >> 6 == 2


def problems(report: pb.Report, *, now_ms: int) -> list[Problem]:
    """Everything that is wrong with a report, at most MAX_PROBLEMS; empty = it may be sent."""
    found: list[Problem] = []
    for problem in _all_problems(report, now_ms):
        found.append(problem)
        if len(found) == MAX_PROBLEMS:
            break
    return found


def _all_problems(report: pb.Report, now_ms: int) -> Iterable[Problem]:
    if not is_report_id(report.id):
        yield Problem("id", "is not a UUIDv7 of 16 bytes")
    if report.ByteSize() > MAX_REPORT_BYTES:
        yield Problem("", f"{report.ByteSize()} bytes, above {MAX_REPORT_BYTES}")
        return  # the rest is bounded by size
    if not shape_is_sound(report):
        yield from shape_problems(report, "")
    for name in ("supersedes", "withdraws"):
        for i, other in enumerate(getattr(report, name)):
            if not is_report_id(other) or other == report.id:
                yield Problem(f"{name}[{i}]", "is not the id of another report")
    says_nothing = not (report.level or report.indicators or report.events)
    if not (report.withdraws and says_nothing):
        if report.HasField("subject"):
            yield from subject_problems(report.subject)
        else:
            yield Problem("subject", "is missing")
        if not report.level:
            yield Problem("level", "is missing; one of normal, watch, strained, disrupted, halted")
    if report.HasField("place"):
        yield from _place_problems(report.place)
    for i, indicator in enumerate(report.indicators):
        yield from _indicator_problems(indicator, f"indicators[{i}].", now_ms)
    for i, event in enumerate(report.events):
        yield from event_problems(event, f"events[{i}].", now_ms)
    for i, source in enumerate(report.sources):
        if not source.name:
            yield Problem(f"sources[{i}].name", "is missing")
        if source.url and not URL.match(source.url):
            yield Problem(f"sources[{i}].url", "is not an http or https address")
        if source.time_ms > now_ms + DATE_SLACK_MS:
            yield Problem(f"sources[{i}].time_ms", "lies in the future")
    yield from text_problems(report.summary, "summary")
    for i, file in enumerate(report.attachments):
        yield from _attachment_problems(file, f"attachments[{i}].")
    yield from company_problems(report.companies, "companies")
    if report.observe_time_ms > now_ms + DATE_SLACK_MS:
        yield Problem("observe_time_ms", "lies in the future")


COUNTS: Final[dict[str, int]] = {
    "sources": 16,
    "attachments": 16,
    "hs": 256,
    "evidence": 1024,
    "rules": 32,
    "affected_steps": 256,
    **dict.fromkeys(["summary", "description", "headline", "instruction", "cancel_condition"], 8),
    **dict.fromkeys(["impact", "cause", "duration", "sectors", "measures", "help"], 8),
}


class _Shape(NamedTuple):
    """What `shape_problems` asks of one field, worked out once."""

    most: int
    limit: int
    lines: bool
    values: frozenset[int] | None
    is_message: bool


@cache  # one entry for each field of report.proto
def _shape_of(field: FieldDescriptor) -> _Shape:
    return _Shape(
        COUNTS.get(field.name, MAX_LIST) if field.is_repeated else 0,
        text_limit(field.name) if field.type == FieldDescriptor.TYPE_STRING else 0,
        field.name in MULTILINE_FIELDS,
        frozenset(field.enum_type.values_by_number) if field.enum_type is not None else None,
        field.type == FieldDescriptor.TYPE_MESSAGE,
    )


def shape_is_sound(message: Message) -> bool:
    """Whether lists, texts and enum values of a message and its parts are as they must be."""
    for field, value in message.ListFields():
        most, limit, lines, values, is_message = _shape_of(field)
        if most:
            if len(value) > most:
                return False
        elif limit:
            if not is_clean(value, max_chars=limit, lines=lines):
                return False
            continue
        elif not is_message:
            if values is not None and value not in values:
                return False
            continue
        for one in value if most else (value,):
            if limit:
                if not is_clean(one, max_chars=limit, lines=lines):
                    return False
            elif is_message:
                if not shape_is_sound(one):
                    return False
            elif values is not None and one not in values:
                return False
    return True


def shape_problems(message: Message, path: str) -> Iterable[Problem]:
    """Length of lists, harmless text, known enum values: the same for every message."""
    for field, value in message.ListFields():
        where = path + field.name
        if field.is_repeated and len(value) > COUNTS.get(field.name, MAX_LIST):
            yield Problem(where, f"{len(value)} entries, at most {COUNTS.get(field.name, MAX_LIST)}")
            continue
        for i, one in enumerate(value if field.is_repeated else [value]):
            place = f"{where}[{i}]" if field.is_repeated else where
            if field.type == FieldDescriptor.TYPE_STRING:
                if not is_clean(one, max_chars=text_limit(field.name), lines=field.name in MULTILINE_FIELDS):
                    yield Problem(
                        place,
                        f"longer than {text_limit(field.name)} characters, or holds control or hidden ones",
                    )
            elif field.type == FieldDescriptor.TYPE_ENUM:
                if field.enum_type is not None and one not in field.enum_type.values_by_number:
                    yield Problem(place, f"{one} is not a value this version knows")
            elif field.type == FieldDescriptor.TYPE_MESSAGE:
                yield from shape_problems(one, place + ".")


def hs_problem(code: str) -> str:
    """What is wrong with an HS code without dots, in words; empty = nothing."""
    if not _HS.match(code):
        lost = "; a spreadsheet may have dropped the leading zero" if code.isascii() and len(code) in (5, 7, 9) else ""
        return f"is not an HS code of 6, 8 or 10 digits{lost}"
    # 77 is reserved in the Harmonized System; 98 and 99 are national and say nothing to the other side.
    if code[:2] in ("00", "77", "98", "99"):
        return f"HS 2022 has no chapter {code[:2]}"
    return ""


def subject_problems(subject: pb.Subject) -> Iterable[Problem]:
    """What is wrong with a subject beyond its shape."""
    if not subject.item:
        yield Problem("subject.item", "is missing")
    if subject.hs and (wrong := hs_problem(subject.hs)):
        yield Problem("subject.hs", wrong)
    elif len(subject.hs) > 6 and subject.hs_country not in TARIFFS:
        yield Problem("subject.hs_country", "digits after the sixth need the country of the tariff, or EU")
    if len(subject.hs) <= 6 and subject.hs_country:
        yield Problem("subject.hs_country", "only for codes with digits after the sixth")


def _place_problems(place: pb.Place) -> Iterable[Problem]:
    if place.country and place.country not in COUNTRIES:
        yield Problem("place.country", "is not an ISO 3166-1 alpha-2 code in upper case")
    if place.locode and (not LOCODE.match(place.locode) or place.locode[:2] != place.country):
        yield Problem("place.locode", "is not a UN/LOCODE of five characters in that country")


def _number_problems(value: float, where: str) -> Iterable[Problem]:
    if not math.isfinite(value):
        yield Problem(where, "is not a finite number")
    elif value == 0 and math.copysign(1, value) < 0:
        yield Problem(where, "is minus zero; write 0")


def _indicator_problems(indicator: pb.Indicator, path: str, now_ms: int) -> Iterable[Problem]:
    rule = KINDS.get(indicator.kind)
    if rule is None:
        yield Problem(path + "kind", "is missing or unknown")
    yield from _number_problems(indicator.value, path + "value")
    if indicator.HasField("baseline"):
        yield from _number_problems(indicator.baseline, path + "baseline")
    if indicator.unit and indicator.unit not in UNITS:
        yield Problem(path + "unit", "is not a Recommendation 20 code known here, such as TNE, KGM, WEE, P1, C62")
    if indicator.currency and indicator.currency not in CURRENCIES:
        yield Problem(path + "currency", "is not an ISO 4217 code known here, such as EUR, KRW, USD")
    if rule is not None:
        yield from _kind_problems(indicator, rule, path)
    start = period_start_ms(indicator.period)
    if start is None:
        yield Problem(path + "period", 'is not "2023", "2023-11", "2023-W47" or "2023-11-20"')
    elif start > now_ms + DATE_SLACK_MS:
        yield Problem(path + "period", f"{indicator.period} lies in the future")
    if indicator.publication_lag_days > MAX_LAG_DAYS:
        yield Problem(path + "publication_lag_days", f"is above {MAX_LAG_DAYS}")


def _kind_problems(indicator: pb.Indicator, rule: KindRule, path: str) -> Iterable[Problem]:
    kind = pb.IndicatorKind.Name(indicator.kind).removeprefix("INDICATOR_KIND_").lower()
    money = bool(indicator.currency)
    if rule.currency == "needs" and not money:
        yield Problem(path + "currency", f"{kind} needs a currency per unit, such as USD per TNE")
    elif rule.currency == "no" and money:
        yield Problem(path + "currency", f"{kind} is not in money")
    elif rule.currency == "may" and money and indicator.unit:
        yield Problem(path + "unit", f"{kind} is a quantity with a unit or money with a currency, not both")
    if not indicator.unit:
        if not (rule.currency == "may" and money):
            yield Problem(path + "unit", "is missing")
    elif indicator.unit in UNITS and UNITS[indicator.unit].dimension not in rule.dimensions:
        allowed = ", ".join(sorted(dimension.value for dimension in rule.dimensions))
        yield Problem(path + "unit", f"{indicator.unit} does not fit {kind}, which is in units of {allowed}")
    for name in ("value", "baseline"):
        value: float = getattr(indicator, name)
        # `not (a <= x)` would also catch NaN, which is named already.
        if value < rule.least or value > rule.greatest:
            bound = f"below {rule.least:g}" if value < rule.least else f"above {rule.greatest:g}"
            yield Problem(path + name, f"{kind} is {bound}")


def event_problems(event: pb.Event, path: str, now_ms: int) -> Iterable[Problem]:
    """What is wrong with one event beyond its shape."""
    if not event.kind:
        yield Problem(path + "kind", "is missing")
    starts: dict[str, int | None] = {}
    for name in ("public_date", "start_date", "end_date"):
        text: str = getattr(event, name)
        starts[name] = date_start_ms(text)
        if text and starts[name] is None:
            yield Problem(path + name, 'is not a date "2023-11-20" or "2023-11"')
    if not event.public_date and not event.start_date:
        yield Problem(path + "public_date", "is missing, and start_date too: an event has a date")
    public, start, end = starts["public_date"], starts["start_date"], starts["end_date"]
    if public is not None and public > now_ms + DATE_SLACK_MS:
        yield Problem(path + "public_date", "lies in the future")
    # "2024-04" may end what began on 2024-04-03, so compare only what both dates say.
    shared = min(len(event.start_date), len(event.end_date))
    if start is not None and end is not None and event.end_date[:shared] < event.start_date[:shared]:
        yield Problem(path + "end_date", "is before start_date")
    for name in ("actors", "affected"):
        for i, country in enumerate(getattr(event, name)):
            if country not in COUNTRIES:
                yield Problem(f"{path}{name}[{i}]", "is not an ISO 3166-1 alpha-2 code in upper case")
    for i, code in enumerate(event.hs):
        if wrong := hs_problem(code):
            yield Problem(f"{path}hs[{i}]", wrong)
    yield from company_problems(event.companies, path + "companies")
    yield from text_problems(event.description, path + "description")


def text_problems(texts: Iterable[pb.Text], path: str) -> Iterable[Problem]:
    """What is wrong with texts in several languages."""
    seen: set[str] = set()
    for i, text in enumerate(texts):
        if not LANGUAGE.match(text.language):
            yield Problem(f"{path}[{i}].language", "is not a language tag such as en, ko, nl, zh-Hant")
        elif text.language in seen:
            yield Problem(f"{path}[{i}].language", f"{text.language} is there twice")
        seen.add(text.language)
        if not text.text:
            yield Problem(f"{path}[{i}].text", "is empty")


def _attachment_problems(file: pb.Attachment, path: str) -> Iterable[Problem]:
    if len(file.digest) != 32:
        yield Problem(path + "digest", "is not 32 bytes")
    if len(file.key) != 32:
        yield Problem(path + "key", "is not 32 bytes")
    if not _MEDIA_TYPE.match(file.media_type):
        yield Problem(path + "media_type", "is not a media type such as application/pdf")
    if not file.name or "/" in file.name or "\\" in file.name or file.name.startswith("."):
        yield Problem(path + "name", "is not a plain file name")
