"""Back-test of single-series rules on monthly history, by the rules of docs/WATCH.md section 5.

An alert is raised where the score reaches the threshold outside a running event, and is valid VALID months; none is
raised meanwhile; what is still on afterwards is raised anew. It hits if an event starts within those months, at least
one after it. Months that count neither way (exchange.watch.labels) excuse an alert, they do not make it a hit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from exchange.watch import labels
from exchange.watch.labels import Labelled
from exchange.watch.rolling import Floats
from exchange.watch.rules import RULES, explain, score
from exchange.watch.tables import Monthly

BURN_IN: Final = 48
FROM: Final = 2000 * 12
VALID: Final = 6
RESAMPLES: Final = 1000
_STEPS: Final = 600  # thresholds tried in a sweep


@dataclass(frozen=True, slots=True)
class RaisedAlert:
    """One alert of a back-test; months are positions in its series.

    Args:
        series: Index of the series.
        month: When it was raised.
        outcome: "hit", "false", "neither" (a rebound followed), or "open" (the data end within its months).
        event: Start of the event it hit; -1 if none.
    """

    series: int
    month: int
    outcome: str
    event: int = -1

    @property
    def lead(self) -> int:
        """Months from alert to event; 0 if it hit none."""
        return self.event - self.month if self.event >= 0 else 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one rule did at one threshold.

    Args:
        events: (series, month) of each event that counts.
        alerts: In order of series and month.
        quiet_months: Months without a running event, over all series.
    """

    events: tuple[tuple[int, int], ...]
    alerts: tuple[RaisedAlert, ...]
    quiet_months: int

    @property
    def leads(self) -> dict[tuple[int, int], int]:
        """Lead in months of each event that was hit; the earliest alert counts."""
        out: dict[tuple[int, int], int] = {}
        for alert in self.alerts:
            if alert.event >= 0:
                key = (alert.series, alert.event)
                out[key] = max(out.get(key, 0), alert.lead)
        return {key: lead for key, lead in out.items() if key in set(self.events)}

    @property
    def recall(self) -> float:
        """Share of events hit, 0 to 1; 0 where there is no event."""
        return len(self.leads) / max(len(self.events), 1)

    @property
    def median_lead(self) -> float:
        """Months, over the events hit."""
        return float(np.median(list(self.leads.values()))) if self.leads else 0.0

    @property
    def false_per_year(self) -> float:
        """False alarms per quiet series-year."""
        return 12 * sum(alert.outcome == "false" for alert in self.alerts) / max(self.quiet_months, 1)


class Bench:
    """Series with their events and scores, worked out once for many thresholds.

    Args:
        series: The series.
        which: Label "A" or "B".
        lag: Months from a month's end until its value is published: prices 0, trade and output 1.
    """

    def __init__(self, series: Sequence[Monthly], which: str, *, lag: int = 0) -> None:
        self.series = tuple(series)
        self.lag = lag
        self._labelled: tuple[Labelled, ...] = tuple(labels.label(one.values, which) for one in self.series)
        self._first = tuple(max(BURN_IN, FROM - one.first) for one in self.series)
        self._scores: dict[str, list[Floats]] = {}

    def labelled(self, series: int) -> Labelled:
        """The events of a series."""
        return self._labelled[series]

    def first(self, series: int) -> int:
        """First month of a series that counts."""
        return self._first[series]

    def scores(self, rule: str) -> list[Floats]:
        """The scores of a rule, one array a series, at the month they can be known."""
        if rule not in self._scores:
            found = [score(RULES[rule], one.values) for one in self.series]
            self._scores[rule] = [_known(one, self.lag) for one in found]
        return self._scores[rule]

    def run(self, rule: str, threshold: float) -> Outcome:
        """What the rule would have done."""
        events: list[tuple[int, int]] = []
        alerts: list[RaisedAlert] = []
        quiet = 0
        for index, scores in enumerate(self.scores(rule)):
            first, labelled = self._first[index], self._labelled[index]
            events += [(index, month) for month in labelled.starts if month >= first]
            quiet += int((~labelled.running[first:]).sum())
            with np.errstate(invalid="ignore"):
                alerts += _alerts(index, scores >= threshold, first, labelled)
        return Outcome(tuple(events), tuple(alerts), quiet)

    def tune(self, rule: str, budget: float) -> float | None:
        """The lowest threshold that keeps to the budget, and above which every higher one does too.

        None if the rule gives no score, or no threshold keeps to the budget. Asking for the whole tail, and not for
        the one best threshold, does not pick a lucky one.
        """
        found = np.concatenate([one[self._first[i] :] for i, one in enumerate(self.scores(rule))])
        found = found[np.isfinite(found)]
        if not found.size:
            return None
        kept: float | None = None
        for candidate in np.quantile(found, np.linspace(1.0, 0.5, _STEPS)):
            if self.run(rule, float(candidate)).false_per_year > budget:
                break
            kept = float(candidate)
        return kept


def _known(scores: Floats, lag: int) -> Floats:
    out = np.full_like(scores, np.nan)
    out[lag:] = scores[: scores.size - lag]
    return out


def _alerts(index: int, on: np.ndarray, first: int, labelled: Labelled) -> list[RaisedAlert]:
    out: list[RaisedAlert] = []
    free_from = first
    for month in np.flatnonzero(on).tolist():
        if month < free_from or labelled.running[month]:
            continue
        free_from = month + VALID
        out.append(_outcome(index, month, labelled))
    return out


def _outcome(index: int, month: int, labelled: Labelled) -> RaisedAlert:
    ahead = [event for event in labelled.starts if 1 <= event - month <= VALID]
    if ahead:
        return RaisedAlert(index, month, "hit", ahead[0])
    if labelled.rebound[month : month + VALID + 1].any():
        return RaisedAlert(index, month, "neither")
    return RaisedAlert(index, month, "false" if month + VALID < labelled.running.size else "open")


@dataclass(frozen=True, slots=True)
class Interval:
    """95 % interval of recall and of false alarms per quiet series-year."""

    recall: tuple[float, float]
    false_per_year: tuple[float, float]


def bootstrap(outcome: Outcome, bench: Bench, *, seed: int = 1) -> Interval:
    """Intervals by resampling calendar quarters: one rally lifts many series at once, so series are not independent."""
    quarters: dict[int, int] = {}

    def slot(series: int, month: int) -> int:
        return quarters.setdefault((bench.series[series].first + month) // 3, len(quarters))

    quiet: list[int] = []
    for index, one in enumerate(bench.series):
        running = bench.labelled(index).running
        quiet += [slot(index, m) for m in range(bench.first(index), one.values.size) if not running[m]]
    events = [slot(*event) for event in outcome.events]
    hits = [slot(*event) for event in outcome.leads]
    false = [slot(alert.series, alert.month) for alert in outcome.alerts if alert.outcome == "false"]
    counts = np.stack(
        [np.bincount(np.array(one, dtype=int), minlength=len(quarters)) for one in (events, hits, false, quiet)]
    )
    draws = np.random.default_rng(seed).integers(0, max(len(quarters), 1), (RESAMPLES, len(quarters)))
    total = counts[:, draws].sum(axis=2)
    recall = total[1] / np.maximum(total[0], 1)
    rate = 12 * total[2] / np.maximum(total[3], 1)

    def interval(x: Floats) -> tuple[float, float]:
        low, high = np.quantile(x, [0.025, 0.975])
        return float(low), float(high)

    return Interval(interval(recall), interval(rate))


def sentence(bench: Bench, rule: str, alert: RaisedAlert, threshold: float) -> str:
    """Why an alert was raised."""
    return explain(RULES[rule], float(bench.scores(rule)[alert.series][alert.month]), threshold)


def summary(outcome: Outcome) -> Mapping[str, float]:
    """The figures of an outcome by name."""
    return {
        "events": len(outcome.events),
        "hits": len(outcome.leads),
        "recall": round(outcome.recall, 4),
        "median_lead_months": outcome.median_lead,
        "false_alarms": sum(alert.outcome == "false" for alert in outcome.alerts),
        "quiet_series_years": round(outcome.quiet_months / 12, 2),
        "false_per_year": round(outcome.false_per_year, 4),
    }
