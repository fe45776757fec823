"""A back-test as one JSON object: what `tocsin watch backtest` prints and plots.

Shapes: {"prices": {"series", "results"}, "trade": [items]}; docs/WATCH.md section 5 names every field.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from exchange.watch import backtest, pooling
from exchange.watch.backtest import Bench, Outcome
from exchange.watch.board import VALID_MONTHS
from exchange.watch.defaults import POOL_RULES, PRICE_RULES
from exchange.watch.labels import LABELS
from exchange.watch.months import month_text
from exchange.watch.rules import RULES, score
from exchange.watch.tables import DatedEvent, Monthly, TradeTable
from exchange.watch.thresholds import BUDGETS, Thresholds

TRADE_LAG: int = 1
EXPLAINED_BEFORE: int = 6  # an alarm so many months before a notice becomes public saw it coming
EXPLAINED_AFTER: int = 3  # so many after it took effect, it sees the effect


def tune(series: Sequence[Monthly], *, source: str = "") -> Thresholds:
    """Thresholds of every rule, label and budget from these series; a rule that cannot keep to a budget gets none."""
    values: dict[tuple[str, str, float], float] = {}
    for which in LABELS:
        bench = Bench(series, which)
        for rule in PRICE_RULES:
            for budget in BUDGETS:
                threshold = bench.tune(rule, budget)
                if threshold is not None:
                    # Rounded up, so that the written threshold keeps to the budget too.
                    values[rule, which, budget] = float(np.ceil(threshold * 1e4) / 1e4)
    return Thresholds(values, source)


def of_prices(
    series: Sequence[Monthly], thresholds: Thresholds, *, rules: Sequence[str] = PRICE_RULES, lag: int = 0
) -> dict[str, Any]:
    """Every rule, label and budget on price series, with one entry an alert."""
    results: list[dict[str, Any]] = []
    described: list[dict[str, Any]] = [_about(one) for one in series]
    for which in LABELS:
        bench = Bench(series, which, lag=lag)
        for index, about in enumerate(described):
            labelled, first = bench.labelled(index), series[index].first
            about["scored_from"] = month_text(first + bench.first(index))
            about[f"events_{which}"] = [month_text(first + m) for m in labelled.starts if m >= bench.first(index)]
        for rule in rules:
            for budget in BUDGETS:
                threshold = thresholds.of(rule, which, budget)
                if threshold is not None:
                    results.append(_result(bench, which, rule, budget, threshold))
    return {"series": described, "results": results}


def _about(one: Monthly) -> dict[str, Any]:
    return {
        "series": one.name,
        "unit": one.unit,
        "source": one.source,
        "first": month_text(one.first),
        "last": month_text(one.first + one.values.size - 1),
        "absent_months": int(np.isnan(one.values).sum()),
        "not_above_zero_months": int((one.values <= 0).sum()),
    }


def _result(bench: Bench, which: str, rule: str, budget: float, threshold: float) -> dict[str, Any]:
    outcome = bench.run(rule, threshold)
    interval = backtest.bootstrap(outcome, bench)
    return {
        "label": which,
        "rule": rule,
        "name": RULES[rule].name,
        "budget": budget,
        "threshold": threshold,
        **backtest.summary(outcome),
        "recall_95": [round(x, 3) for x in interval.recall],
        "false_per_year_95": [round(x, 3) for x in interval.false_per_year],
        "missed": _missed(bench, outcome),
        "alerts": [_alert(bench, rule, threshold, alert) for alert in outcome.alerts],
    }


def _missed(bench: Bench, outcome: Outcome) -> list[str]:
    return [
        f"{bench.series[index].name} {month_text(bench.series[index].first + month)}"
        for index, month in outcome.events
        if (index, month) not in outcome.leads
    ]


def _alert(bench: Bench, rule: str, threshold: float, alert: backtest.RaisedAlert) -> dict[str, Any]:
    one = bench.series[alert.series]
    return {
        "series": one.name,
        "month": month_text(one.first + alert.month),
        "outcome": alert.outcome,
        "event": month_text(one.first + alert.event) if alert.event >= 0 else None,
        "lead_months": alert.lead if alert.event >= 0 else None,
        "score": round(float(bench.scores(rule)[alert.series][alert.month]), 4),
        "why": backtest.sentence(bench, rule, alert, threshold),
    }


def of_trade(tables: Sequence[TradeTable], events: Sequence[DatedEvent] = ()) -> list[dict[str, Any]]:
    """The pooled alarms of each item, with what each reporter alone would have done beside them."""
    return [_item(table, [event for event in events if _about_item(event, table.hs)]) for table in tables]


def _about_item(event: DatedEvent, hs: str) -> bool:
    return any(hs.startswith(code) or code.startswith(hs) for code in event.hs if len(code) >= 4)


def _item(table: TradeTable, events: Sequence[DatedEvent]) -> dict[str, Any]:
    out: dict[str, Any] = {
        "hs": table.hs,
        "reporters": len(table.reporters),
        "unit": table.unit,
        "first": month_text(table.first),
        "last": month_text(table.first + table.values.shape[1] - 1),
        "events": [event.id for event in events],
        "publication_lag_months": TRADE_LAG,
        "pools": [],
    }
    for rule, threshold in POOL_RULES:
        scores = score(RULES[rule], table.values)
        flags = np.where(np.isfinite(scores), (scores >= threshold) * 1.0, np.nan)
        pooled = pooling.pool(flags, np.ones(len(table.reporters)))
        judged, quiet = np.isfinite(flags), quiet_months(table, events)
        alone, alone_years = alone_false(flags, quiet)
        out["pools"].append(
            {
                "rule": rule,
                "name": RULES[rule].name,
                "threshold": threshold,
                "tail": pooling.TAIL,
                # What a reporter alone would raise: the figure the pool has to beat.
                "alone_flags_per_reporter_year": round(12 * float(np.nansum(flags)) / max(int(judged.sum()), 1), 2),
                # Alerts as those of one series are counted: valid for six months, none meanwhile; events near count neither way.
                "alone_false": alone,
                "alone_quiet_years": round(alone_years, 1),
                "pooled_false": int((pooled.alarm & quiet).sum()),
                "pooled_quiet_years": round(float((np.isfinite(pooled.tail) & quiet).sum()) / 12, 1),
                "months": [month_text(table.first + m) for m in range(table.values.shape[1])],
                "share": [None if np.isnan(x) else round(float(x), 4) for x in pooled.share],
                "expected": [None if np.isnan(x) else round(float(x), 4) for x in pooled.expected],
                "alarms": [
                    _pool_alarm(table, flags, pooled, month, events) for month in np.flatnonzero(pooled.alarm).tolist()
                ],
            }
        )
    return out


def quiet_months(table: TradeTable, events: Sequence[DatedEvent]) -> np.ndarray:
    """Which months are far from every event of the item; shape (months,)."""
    quiet = np.ones(table.values.shape[1], dtype=bool)
    for event in events:
        first, last = event.public - EXPLAINED_BEFORE, event.effective + EXPLAINED_AFTER
        quiet[max(first - table.first, 0) : max(last + 1 - table.first, 0)] = False
    return quiet


def alone_false(flags: np.ndarray, quiet: np.ndarray) -> tuple[int, float]:
    """False alerts of reporters by themselves in quiet months, and the quiet reporter-years in which there was a score.

    Args:
        flags: Shape (reporters, months): 1, 0, or NaN where there is no score.
        quiet: Shape (months,).
    """
    false = 0
    for row in flags:
        until = -1
        for month in np.flatnonzero(row > 0).tolist():
            if month > until:
                until = month + VALID_MONTHS
                false += int(quiet[month])
    return false, float((np.isfinite(flags) & quiet).sum()) / 12


def _pool_alarm(
    table: TradeTable, flags: np.ndarray, pooled: pooling.Pooled, month: int, events: Sequence[DatedEvent]
) -> dict[str, Any]:
    number = table.first + month
    named = pooling.in_alarm(flags, table.reporters, month, table.first)
    near = [e.id for e in events if e.public - EXPLAINED_BEFORE <= number <= e.effective + EXPLAINED_AFTER]
    return {
        "month": month_text(number),
        "known_at_end_of": month_text(number + TRADE_LAG),
        "tail": float(f"{pooled.tail[month]:.3g}"),
        "share": round(float(pooled.share[month]), 4),
        "events_near": near,
        "voices": [{"reporter": one.name, "since": month_text(one.since)} for one in named],
        "why": pooling.explain(pooled, month, named),
    }
