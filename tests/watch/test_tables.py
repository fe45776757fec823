"""Tables are taken whole or not at all; pooled back-tests on made-up trade of the shape of published figures."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from exchange.watch import study
from exchange.watch.cli import app
from exchange.watch.errors import WatchInputError
from exchange.watch.months import month_text
from exchange.watch.tables import DatedEvent, read_events, read_prices, read_trade

HEAD = "month,series,value,unit,source\n"
TRADE = "month,hs6,partner,value_usd,quantity_kg\n"


def test_prices_keep_holes_as_absent_and_zero_as_zero() -> None:
    (one,) = read_prices(HEAD + "2024-01,tin,5,$/mt,WB\n2024-03,tin,0,$/mt,WB\n2024-04,tin,,$/mt,WB\n")
    assert (one.name, month_text(one.first), one.unit, one.source) == ("tin", "2024-01", "$/mt", "WB")
    assert np.array_equal(one.values, [5, np.nan, 0, np.nan], equal_nan=True)
    (bare,) = read_prices("month,series,value,unit\n2024-01,tin,5,$/mt\n")
    assert bare.source == ""


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", "row 1"),
        ("month,series,value\n", "row 1, unit"),
        (HEAD + "2024-13,tin,5,$/mt,WB", "row 2, month"),
        (HEAD + "2024-01,tin,NaN,$/mt,WB", "row 2, value"),
        (HEAD + "2024-01,tin,1_0,$/mt,WB", "row 2, value"),
        (HEAD + "2024-01,tin,x,$/mt,WB", "row 2, value"),
        (HEAD + "2024-01,tin,5,$/mt,WB\n2024-01,tin,6,$/mt,WB", "row 3, month"),
        (HEAD + "2024-01,tin,5,$/mt,WB\n2024-02,tin,6,$/toz,WB", "row 3, unit"),
        (HEAD + "2024-01,tin,5,$/mt", "row 2"),
        (HEAD + "1000-01,tin,5,$/mt,WB\n2024-01,tin,5,$/mt,WB", "spans more than"),
        (HEAD + '2024-01,"tin,5,$/mt,WB', "is not CSV"),
    ],
)
def test_a_faulty_table_is_refused_by_row(text: str, where: str) -> None:
    with pytest.raises(WatchInputError, match=where):
        read_prices(text)


def test_trade_below_zero_is_refused_and_values_stand_in_where_no_quantity_is() -> None:
    with pytest.raises(WatchInputError, match="quantity_kg: is below 0"):
        read_trade(TRADE + "2024-01,250410,KR,5,-1")
    (one,) = read_trade(TRADE + "2024-01,250410,KR,5,0\n2024-03,250410,NL,7,\n")
    assert (one.unit, one.reporters) == ("USD", ("KR", "NL"))
    assert np.array_equal(one.values, [[5, np.nan, np.nan], [np.nan, np.nan, 7]], equal_nan=True)


def test_events_need_dates() -> None:
    (event,) = read_events("event_id,public_date,effective_date,hs\nE1,2023-10-20,2023-12-01,250410;380110\n")
    assert event.hs == ("250410", "380110")
    with pytest.raises(WatchInputError, match="row 2"):
        read_events("event_id,public_date,effective_date,hs\nE1,soon,2023-12-01,250410\n")


@given(st.text(max_size=60))
def test_no_table_raises_anything_but_an_input_error(text: str) -> None:
    for read in (read_prices, read_trade, read_events):
        try:
            read(HEAD + text)
            read(text)
        except WatchInputError:
            pass


def trade_table(seed: int = 5) -> str:
    """Twenty-five partners over eight years; buying ahead in 2023-11, nothing from 2023-12 on for three months."""
    rng = np.random.default_rng(seed)
    rows = []
    for partner in range(25):
        size = 10 ** rng.uniform(3, 6)
        volume = size * np.exp(rng.normal(0, 0.5, 96))
        volume[[1 + 12 * year for year in range(8)]] *= 0.5  # Chinese New Year
        volume[82] = size * 3.4 if partner < 20 else volume[82]
        volume[83:86] *= 0.23
        rows += [f"{month_text(2017 * 12 + m)},250410,P{partner:02d},1,{v:.0f}" for m, v in enumerate(volume)]
    return TRADE + "\n".join(rows)


def test_buying_ahead_is_pooled_where_one_partner_alone_cries_often() -> None:
    (item,) = study.of_trade(read_trade(trade_table()))
    surge, collapse = item["pools"]
    assert [alarm["month"] for alarm in surge["alarms"]] == ["2023-11"]
    assert surge["alarms"][0]["known_at_end_of"] == "2023-12"
    assert surge["alone_flags_per_reporter_year"] > 1
    assert {alarm["month"] for alarm in collapse["alarms"]} <= {"2023-12", "2024-01", "2024-02", "2024-03"}
    assert collapse["alarms"]


@pytest.mark.parametrize("seed", range(8))
def test_no_pool_cries_in_quiet_years(seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    rows = []
    for partner in range(25):
        volume = 10 ** rng.uniform(3, 6) * np.exp(rng.normal(0, 0.6, 96) + np.repeat(rng.normal(0, 0.2, 8), 12))
        volume[[1 + 12 * year for year in range(8)]] *= 0.5
        rows += [f"{month_text(2017 * 12 + m)},250410,P{partner:02d},1,{v:.0f}" for m, v in enumerate(volume)]
    (item,) = study.of_trade(read_trade(TRADE + "\n".join(rows)))
    assert sum(len(pool["alarms"]) for pool in item["pools"]) <= 2


def test_the_command_pools_trade_and_holds_it_against_events(tmp_path: Path) -> None:
    trade, events, page = tmp_path / "trade.csv", tmp_path / "events.csv", tmp_path / "page.html"
    trade.write_text(trade_table())
    events.write_text("event_id,public_date,effective_date,hs\nE1,2023-10-20,2023-12-01,250410\n")
    arguments = ["backtest", "--trade", str(trade), "--events", str(events), "--html", str(page)]
    done = CliRunner().invoke(app, [*arguments, "--json"])
    (item,) = json.loads(done.stdout)["trade"]
    assert item["pools"][0]["alarms"][0]["events_near"] == ["E1"]
    assert {"reporter", "since"} <= set(item["pools"][0]["alarms"][0]["voices"][0])
    assert page.read_text().count("<svg") == 2
    assert "2023-11  known at the end of 2023-12 [E1]" in CliRunner().invoke(app, arguments).stdout


def test_names_from_a_table_do_not_write_into_the_page(tmp_path: Path) -> None:
    prices, page = tmp_path / "prices.csv", tmp_path / "page.html"
    rows = "\n".join(f"{month_text(2000 * 12 + m)},<script>x</script>,{100 + m % 7},$/mt,WB" for m in range(120))
    prices.write_text(HEAD + rows)
    CliRunner().invoke(app, ["backtest", "--prices", str(prices), "--frozen", "builtin", "--html", str(page)])
    assert "<script" not in page.read_text()
    assert "&lt;script" in page.read_text()


def test_false_alerts_of_trade_are_counted_in_quiet_months_alone() -> None:
    (table,) = read_trade(trade_table())
    event = DatedEvent("E", table.first + 20, table.first + 22, (table.hs,))
    quiet = study.quiet_months(table, [event])
    assert np.flatnonzero(~quiet).tolist() == list(range(14, 26))
    flags = np.zeros((2, quiet.size))
    flags[0, :9] = 1  # on for nine months: an alert, and one anew after six
    flags[1, 18] = 1  # near the event: neither way
    flags[1, :6] = np.nan
    false, years = study.alone_false(flags, quiet)
    assert (false, years) == (2, (2 * int(quiet.sum()) - 6) / 12)
    # Without the event it would be false.
    assert study.alone_false(flags, study.quiet_months(table, []))[0] == 3
