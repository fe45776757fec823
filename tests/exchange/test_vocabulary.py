"""The vocabulary beyond the usual report: firms, publication lag, conversions, alerts and the six crisis points."""

import math
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from exchange.report import (
    ReportError,
    RowErrors,
    alert_problems,
    from_dict,
    new_report_id,
    problems,
    read_csv,
    to_dict,
    validate,
    validate_alert,
)
from exchange.report.alerts import CRISIS_POINTS
from exchange.report.companies import lei_problem
from exchange.units import BASE_UNITS, UNITS, ConversionError, Dimension, Rates, convert, convert_price
from exchange.v1 import report_pb2 as pb

NOW = int(datetime(2024, 1, 15, 12, tzinfo=UTC).timestamp() * 1000)
ID = new_report_id(NOW, bytes(range(10)))
LEI = "529900T8BM49AURSDO55"  # of a public registry page: the check digits are real


def fields(message: pb.Report) -> list[str]:
    return [problem.field for problem in problems(message, now_ms=NOW)]


def report() -> pb.Report:
    return pb.Report(id=ID, subject=pb.Subject(hs="811292", item="gallium"), level=pb.STATUS_LEVEL_WATCH)


def test_a_lei_has_check_digits() -> None:
    assert lei_problem(LEI) == ""
    assert "mistyped" in lei_problem("529900T8BM49AURSDO65")
    for wrong in ("", LEI[:-1], LEI.lower(), LEI + "0", LEI[:-1] + "\u0661"):
        assert "is not a LEI" in lei_problem(wrong)


def test_firms_of_reports_and_events_are_checked_by_field() -> None:
    one = report()
    one.companies.add(lei=LEI)
    one.companies.add(name="a firm without one")
    one.events.add(kind=pb.EVENT_KIND_CORPORATE, public_date="2024-01").companies.add(lei=LEI)
    assert fields(one) == []
    one.companies.add()
    one.companies[0].lei = "X"
    one.events[0].companies[0].lei = "Y"
    assert set(fields(one)) == {"companies[0].lei", "companies[2].name", "events[0].companies[0].lei"}


def test_a_bad_firm_is_not_waved_through_with_the_usual_report() -> None:
    one = report()
    one.companies.add()
    with pytest.raises(ReportError, match="companies"):
        validate(one, now_ms=NOW)


def test_a_publication_lag_is_bounded_and_zero_is_said() -> None:
    one = report()
    indicator = one.indicators.add(
        kind=pb.INDICATOR_KIND_STOCK, value=1, unit="TNE", period="2023-11", publication_lag_days=0
    )
    assert fields(one) == []
    assert to_dict(one)["indicators"][0]["publication_lag_days"] == 0
    assert from_dict(to_dict(one), now_ms=NOW, new_id=ID) == one
    indicator.publication_lag_days = 1001
    assert fields(one) == ["indicators[0].publication_lag_days"]


def test_csv_carries_firms_and_lags() -> None:
    head = "hs,item,stage,country,level,indicator,value,unit,period,publication_lag_days,company,lei\n"
    row = f"811292,gallium,material,CN,watch,stock,5,TNE,2023-11,45,a firm,{LEI}\n"
    (one,) = read_csv(head + row, now_ms=NOW)
    assert one.indicators[0].publication_lag_days == 45
    assert (one.companies[0].name, one.companies[0].lei) == ("a firm", LEI)
    with pytest.raises(RowErrors, match="publication_lag_days: is not a whole number"):
        read_csv(head + row.replace(",45,", ",-1,"), now_ms=NOW)
    with pytest.raises(RowErrors, match="lei: is not a LEI"):
        read_csv(head + row.replace(LEI, "X"), now_ms=NOW)


def test_quantities_and_prices_convert_within_a_dimension() -> None:
    assert convert(2, "TNE", "KGM") == 2000
    assert convert_price(2, "KGM", "TNE") == 2000
    assert convert(4, "WEE", "DAY") == 28
    assert convert_price(31.1034768, "APZ", "GRM") == pytest.approx(1)
    for unit, about in UNITS.items():
        assert convert(
            convert(7.0, unit, BASE_UNITS[about.dimension]), BASE_UNITS[about.dimension], unit
        ) == pytest.approx(7)
    for one, other in (("TNE", "C62"), ("XXX", "TNE"), ("TNE", "")):
        with pytest.raises(ConversionError):
            convert(1, one, other)
    assert set(BASE_UNITS) == set(Dimension)


def test_money_converts_at_the_rate_of_its_month_or_not_at_all() -> None:
    rates = Rates({("EUR", "2024-01"): 0.8, ("KRW", "2024-01"): 1300.0, ("JPY", "2024-01"): math.nan}, "made up")
    assert rates.convert(8, "EUR", "USD", "2024-01") == 10
    assert rates.convert(8, "EUR", "KRW", "2024-01") == 13_000
    assert rates.convert(1.95583, "BGN", "EUR", "2024-01") == pytest.approx(1)
    assert rates.convert(3.6725, "AED", "USD", "1999-01") == 1
    for currency, month in (("EUR", "2024-02"), ("JPY", "2024-01"), ("CNY", "2024-01")):
        with pytest.raises(ConversionError, match=f"no rate for {currency} in {month}"):
            rates.convert(1, currency, "USD", month)


def alert() -> pb.Alert:
    text = [pb.Text(language="en", text="words"), pb.Text(language="ko", text="말")]
    return pb.Alert(
        id=ID, type=pb.ALERT_TYPE_ALERT, status=pb.ALERT_STATUS_EXERCISE,
        subject=pb.Subject(hs="250410", item="natural graphite"), effective_time_ms=NOW, expire_time_ms=NOW + 1,
        headline=text, description=text, cancel_condition=text, probability=0.7, need_share=0.3, cover_weeks=4,
        evidence=[pb.Reference(sender="nl.seoul/a", id=ID, digest=bytes(32))] * 70,
        crisis=pb.Crisis(impact=text, cause=text, duration=text, sectors=text, measures=text, help=text),
    )  # fmt: skip


def test_a_sound_alert_has_no_problems() -> None:
    assert alert_problems(alert()) == []
    validate_alert(alert())


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda a: a.ClearField("id"), "id"),
        (lambda a: a.ClearField("type"), "type"),
        (lambda a: a.ClearField("status"), "status"),
        (lambda a: a.ClearField("subject"), "subject"),
        (lambda a: a.subject.ClearField("item"), "subject.item"),
        (lambda a: a.ClearField("headline"), "headline"),
        (lambda a: a.ClearField("cancel_condition"), "cancel_condition"),
        (lambda a: setattr(a, "expire_time_ms", NOW), "expire_time_ms"),
        (lambda a: setattr(a, "probability", 1.1), "probability"),
        (lambda a: setattr(a, "need_share", math.nan), "need_share"),
        (lambda a: setattr(a, "cover_weeks", -1), "cover_weeks"),
        (lambda a: setattr(a, "impact_weeks", math.inf), "impact_weeks"),
        (lambda a: setattr(a, "type", pb.ALERT_TYPE_UPDATE), "references"),
        (lambda a: setattr(a, "severity", 9), "severity"),
        (lambda a: setattr(a.evidence[3], "digest", b"x"), "evidence[3]"),
        (lambda a: a.headline.add(language="en", text="again"), "headline[2].language"),
        (lambda a: setattr(a.description[0], "text", "a\x1b[2Jb"), "description[0].text"),
        *((lambda a, p=point: a.crisis.ClearField(p), f"crisis.{point}") for point in CRISIS_POINTS),
    ],
)
def test_a_faulty_alert_is_refused_by_field(change: Callable[[pb.Alert], None], field: str) -> None:
    one = alert()
    change(one)
    with pytest.raises(ReportError) as refused:
        validate_alert(one)
    assert [problem.field for problem in refused.value.problems] == [field]


def test_a_cancel_needs_no_more_than_what_it_cancels() -> None:
    reference = pb.Reference(sender="nl.seoul/a", id=ID, digest=bytes(32))
    assert alert_problems(
        pb.Alert(id=ID, type=pb.ALERT_TYPE_CANCEL, status=pb.ALERT_STATUS_ACTUAL, references=[reference])
    ) == []  # fmt: skip
