"""The back-test keeps to its rules; the built-in thresholds are what it measures."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from exchange.watch import backtest, labels, study
from exchange.watch.backtest import Bench
from exchange.watch.cli import app
from exchange.watch.defaults import DEFAULTS
from exchange.watch.tables import Monthly, read_prices
from exchange.watch.thresholds import Thresholds, from_json
from keys.errors import UsageError

PRICES = Path(__file__).parents[2] / "examples" / "data" / "world_bank_prices.csv"


def series(values: list[float], first: int = 2000 * 12) -> Monthly:
    return Monthly("x", first, np.array(values, dtype=float))


def flat_then(*after: float, months: int = 72) -> list[float]:
    return [100.0] * months + list(after)


def test_label_a_needs_a_steep_rise_to_an_unusual_level() -> None:
    assert labels.label(np.array(flat_then(129.9)), "A").starts == ()
    assert labels.label(np.array(flat_then(130.1)), "A").starts == (72,)
    # Back from a crash: as steep, yet no higher than the median of three years.
    crash = labels.label(np.array([100.0] * 60 + [50.0] * 7 + [104.0]), "A")
    assert crash.starts == ()
    assert crash.rebound[-1]


def test_label_b_asks_for_more_where_the_series_swings_more() -> None:
    swing = [100.0, 100, 100, 100, 100, 100, 118, 118, 118, 118, 118, 118] * 7
    assert labels.label(np.array([*swing, 130.0]), "B").starts == ()
    assert labels.label(np.array(flat_then(121, months=84)), "B").starts == (84,)


def test_an_event_closes_after_six_months_below() -> None:
    up = np.array(flat_then(*[140.0] * 6, *[140.0] * 6, 100))
    running = labels.label(up, "A").running
    # Steep for six months, then six months below, then closed.
    assert running[72:84].all()
    assert not running[84]


class FakeBench(Bench):
    """A bench whose scores are given."""

    def __init__(self, values: list[float], scores: list[float]) -> None:
        super().__init__([series(values)], "A")
        self._scores["W1"] = [np.array(scores)]


def run(months: list[int], values: list[float] | None = None) -> list[tuple[int, str]]:
    values = values or flat_then(*[100.0] * 20)
    scores = np.zeros(len(values))
    scores[months] = 1
    outcome = FakeBench(values, scores.tolist()).run("W1", 0.5)
    return [(alert.month, alert.outcome) for alert in outcome.alerts]


def test_no_alert_in_the_burn_in_and_one_in_six_months() -> None:
    assert run([47]) == []
    assert run([48, 49, 53, 54, 60]) == [(48, "false"), (54, "false"), (60, "false")]


@pytest.mark.parametrize(("month", "outcome"), [(65, "false"), (66, "hit"), (71, "hit")])
def test_a_hit_is_one_to_six_months_ahead(month: int, outcome: str) -> None:
    assert run([month], flat_then(*[140.0] * 20)) == [(month, outcome)]


def test_no_alert_while_an_event_runs_and_lead_zero_is_no_hit() -> None:
    assert run([72, 75], flat_then(*[140.0] * 20)) == []


def test_the_earliest_alert_gives_the_lead_and_the_end_of_the_data_excuses() -> None:
    assert run([88]) == [(88, "open")]
    values = flat_then(*[140.0] * 20)
    scores = np.zeros(len(values))
    scores[[67, 71]] = 1
    outcome = FakeBench(values, scores.tolist()).run("W1", 0.5)
    assert (outcome.recall, outcome.median_lead, outcome.false_per_year) == (1.0, 5.0, 0.0)


def test_a_rebound_excuses_an_alert_but_is_no_hit() -> None:
    values = [100.0] * 60 + [50.0] * 7 + [104.0] + [100.0] * 20
    assert run([64], values) == [(64, "neither")]


def test_a_lag_moves_the_score_to_when_it_is_known() -> None:
    one = series(flat_then(*[140.0] * 20))
    now, late = Bench([one], "A"), Bench([one], "A", lag=1)
    assert np.array_equal(late.scores("W3")[0][1:], now.scores("W3")[0][:-1], equal_nan=True)
    assert np.isnan(late.scores("W3")[0][0])


def test_no_score_sees_the_future() -> None:
    one = read_prices(PRICES.read_text())[3]
    cut = 300
    early = Monthly(one.name, one.first, one.values[:cut])
    for rule in study.PRICE_RULES:
        whole, part = Bench([one], "A").scores(rule)[0][:cut], Bench([early], "A").scores(rule)[0]
        assert np.array_equal(whole, part, equal_nan=True), rule


def test_a_threshold_keeps_to_its_budget_with_all_above_it() -> None:
    bench = Bench(read_prices(PRICES.read_text()), "A")
    threshold = bench.tune("W3", 0.2)
    assert threshold is not None
    for higher in (threshold, threshold + 0.01, threshold + 0.05):
        assert bench.run("W3", higher).false_per_year <= 0.2
    assert bench.tune("W3", -1.0) is None


def test_the_bootstrap_brackets_the_figure_and_repeats() -> None:
    bench = Bench(read_prices(PRICES.read_text()), "A")
    outcome = bench.run("W1", -0.8)
    one, again = backtest.bootstrap(outcome, bench), backtest.bootstrap(outcome, bench)
    assert one == again
    assert one.recall[0] < outcome.recall < one.recall[1]
    assert one.false_per_year[0] < outcome.false_per_year < one.false_per_year[1]


def test_the_built_in_thresholds_are_the_measured_ones_and_meet_the_targets() -> None:
    prices = read_prices(PRICES.read_text())
    assert study.tune(prices).values == DEFAULTS.values
    for which, rule, recall in (("A", "W1", 0.80), ("B", "W2", 0.75)):
        outcome = Bench(prices, which).run(rule, DEFAULTS.values[rule, which, 0.2])
        assert outcome.recall >= recall
        assert outcome.median_lead >= 2
        assert outcome.false_per_year <= 0.2


def test_a_price_that_never_moves_raises_nothing() -> None:
    result = study.of_prices([series([100.0] * 200)], DEFAULTS)
    assert all(row["alerts"] == [] for row in result["results"])


def test_thresholds_go_out_and_in() -> None:
    given = Thresholds({("W1", "A", 0.2): -0.5}, "here")
    assert from_json(json.dumps(given.to_json())) == given


@pytest.mark.parametrize(
    "row",
    [
        {"rule": "W99", "label": "A", "budget": 0.2, "threshold": 1},
        {"rule": [], "label": "A", "budget": 0.2, "threshold": 1},
        {"rule": "W1", "label": "C", "budget": 0.2, "threshold": 1},
        {"rule": "W1", "label": "A", "budget": 0.3, "threshold": 1},
        {"rule": "W1", "label": "A", "budget": 0.2, "threshold": float("nan")},
        {"rule": "W1", "label": "A", "budget": 0.2, "threshold": True},
        "W1",
    ],
)
def test_bad_thresholds_are_refused(row: object) -> None:
    with pytest.raises(UsageError, match=r"thresholds\[0\]"):
        from_json(json.dumps({"version": 1, "thresholds": [row]}))
    for text in ("", "[]", '{"version": 2, "thresholds": []}', "[" * 100_000):
        with pytest.raises(UsageError):
            from_json(text)


def test_the_command_tunes_freezes_and_draws(tmp_path: Path) -> None:
    cli, file, page = CliRunner(), tmp_path / "thresholds.json", tmp_path / "page.html"
    prices = tmp_path / "prices.csv"
    lines = PRICES.read_text().splitlines()
    prices.write_text("\n".join([lines[0], *(line for line in lines if ",tin," in line or ",copper," in line)]))
    assert cli.invoke(app, ["tune", "--prices", str(prices), "--output", str(file)]).exit_code == 0
    arguments = [
        "backtest",
        "--prices",
        str(prices),
        "--frozen",
        str(file),
        "--rule",
        "W1",
        "--html",
        str(page),
        "--json",
    ]
    done = cli.invoke(app, arguments)
    assert done.exit_code == 0
    result = json.loads(done.stdout)
    assert [(row["label"], row["budget"]) for row in result["prices"]["results"]] == [
        ("A", 0.2), ("A", 0.5), ("B", 0.2), ("B", 0.5),
    ]  # fmt: skip
    row = result["prices"]["results"][0]
    assert row["hits"] + len(row["missed"]) == row["events"]
    assert {"series", "month", "outcome", "event", "lead_months", "why"} <= set(row["alerts"][0])
    assert page.read_text().count("<svg") == 2
    assert "<script" not in page.read_text()
    shown = cli.invoke(app, ["backtest", "--prices", str(prices), "--frozen", "builtin", "--rule", "W3"])
    assert "W3 over the mean" in shown.stdout
    for wrong in (["--rule", "W99", "--prices", str(prices)], [], ["--prices", str(tmp_path / "none.csv")]):
        assert isinstance(cli.invoke(app, ["backtest", *wrong]).exception, UsageError)
