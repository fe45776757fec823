"""Thresholds: one for each rule, label and false-alarm budget, measured, never chosen as a number of sigmas."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from exchange.watch.errors import WatchInputError
from exchange.watch.intake import heading_of
from exchange.watch.labels import LABELS
from exchange.watch.rules import RULES

VERSION: Final = 1
BUDGETS: Final = (0.2, 0.5)  # false alarms per quiet series-year


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Score from which a rule alarms, by (rule id, label, budget).

    Args:
        values: The thresholds.
        source: Where they were measured, in words.
        items: Those of single items, as in exchange.watch.intake.item_of; they go before `values`.
    """

    values: Mapping[tuple[str, str, float], float]
    source: str = ""
    items: Mapping[str, Mapping[tuple[str, str, float], float]] = field(default_factory=dict)

    def for_item(self, item: str) -> "Thresholds":
        """What holds for an item: its own, else those of the heading that its national code extends, else all items'."""
        own = {**self.items.get(heading_of(item), {}), **self.items.get(item, {})}
        return Thresholds({**self.values, **own}, self.source) if own else self

    def of(self, rule: str, label: str, budget: float) -> float | None:
        """The threshold; None = this rule has none, so it never alarms."""
        return self.values.get((rule, label, budget))

    def to_json(self) -> dict[str, Any]:
        """As a JSON object: {"version", "source", "thresholds": [{rule, label, budget, threshold}]}."""
        rows = [
            {"rule": rule, "label": label, "budget": budget, "threshold": value}
            for (rule, label, budget), value in sorted(self.values.items(), key=str)
        ]
        return {"version": VERSION, "source": self.source, "thresholds": rows}


def from_json(text: str) -> Thresholds:
    """Thresholds from what `to_json` gave.

    Raises:
        WatchInputError: Not that shape, an unknown rule, label or budget, or a threshold that is no finite number.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise WatchInputError("the thresholds are not JSON") from None
    if not isinstance(data, dict) or data.get("version") != VERSION or not isinstance(data.get("thresholds"), list):
        raise WatchInputError(f'the thresholds are no object with "version": {VERSION} and a list "thresholds"')
    values: dict[tuple[str, str, float], float] = {}
    for place, row in enumerate(data["thresholds"]):
        where = f"thresholds[{place}]"
        if not isinstance(row, dict) or str(row.get("rule")) not in RULES or str(row.get("label")) not in LABELS:
            raise WatchInputError(f"{where}: rule is not one of {', '.join(RULES)}, or label not A or B")
        if row.get("budget") not in BUDGETS:
            raise WatchInputError(f"{where}.budget is not one of {', '.join(map(str, BUDGETS))}")
        value = row.get("threshold")
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise WatchInputError(f"{where}.threshold is not a finite number")
        values[str(row["rule"]), str(row["label"]), float(row["budget"])] = float(value)
    return Thresholds(values, str(data.get("source", ""))[:400])
