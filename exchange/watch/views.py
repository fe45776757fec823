"""What follows from one series alone: its months, flags, vote and alarms; worked out once after each change."""

from functools import cached_property
from typing import Final

import numpy as np

from exchange.watch import pooling
from exchange.watch.cadence import said
from exchange.watch.pooling import Vote
from exchange.watch.rolling import Floats
from exchange.watch.rules import RULES, direction, explain, score
from exchange.watch.screens import Screen, screens
from exchange.watch.series import Series
from exchange.watch.thresholds import Thresholds

WINDOW_MONTHS: Final = 144  # what is scored: the longest memory of a rule and of a pool, with room


def flags(values: Floats, kind: int, market: int, screen: Screen) -> Floats:
    """Which months a screen flags: 1 or 0, NaN where no rule of it has a score. Any leading shape, months last."""
    way = direction(kind, market)
    out = np.full(values.shape, np.nan)
    for rule, threshold in screen.rules:
        found = score(RULES[rule], values, way=way)
        out = np.fmax(out, np.where(np.isnan(found), np.nan, found >= threshold))
    return out


class View:
    """One series with what follows from it."""

    def __init__(self, series: Series, thresholds: Thresholds) -> None:
        self.series = series
        key = series.key
        first, values = series.monthly()
        self.first = first + max(values.size - WINDOW_MONTHS, 0)
        self.values = values[-WINDOW_MONTHS:]
        self.last = self.first + self.values.size - 1
        self.screens = screens(key.indicator, thresholds.for_item(key.item))
        self.newest = series.newest()
        self.said = said(series)
        self.vote = Vote(key.reporter, key.reporter, 0.0)
        if self.newest is not None:
            weight = pooling.admiralty_weight(*self.newest.grade)
            self.vote = Vote(key.reporter, self.newest.origin, weight)

    @cached_property
    def flags(self) -> dict[str, Floats]:
        """By screen, which months it flags. Worked out when first asked for: most reports come many at a time."""
        key = self.series.key
        return {one.name: flags(self.values, key.indicator, key.market, one) for one in self.screens}

    @cached_property
    def alarms(self) -> dict[str, tuple[int, str]]:
        """By screen in alarm in the newest month: since which month without a break, and why."""
        on = (one for one in self.screens if self.values.size and self.flags[one.name][-1] > 0)
        return {one.name: self._alarm(one) for one in on}

    def _alarm(self, screen: Screen) -> tuple[int, str]:
        """Month since which the newest month is in alarm without a break, and why it is."""
        key = self.series.key
        month = self.values.size - 1
        (named,) = pooling.in_alarm(self.flags[screen.name][None], [key.reporter], month, self.first)
        way = direction(key.indicator, key.market)
        reasons = []
        for rule, threshold in screen.rules:
            value = float(score(RULES[rule], self.values, way=way)[-1])
            if value >= threshold:
                reasons.append(explain(RULES[rule], value, threshold))
        return named.since, f"{key.reporter}: {'; '.join(reasons)}"
