"""Rules on a single series. Each gives a score a month, higher = more alarming, from that month and earlier alone.

A score is compared with a threshold that comes from a false-alarm budget (exchange.watch.thresholds), never from a
number of sigmas. All rules work on arrays of shape (..., months), oldest first, NaN = absent; a score is NaN where
the history is too short. Medians, not means, judge what is usual: one spike must not blind a rule for years.

Source: docs/WATCH.md section 3.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

import numpy as np

from exchange.v1 import report_pb2 as pb
from exchange.watch import labels, rolling
from exchange.watch.rolling import Floats

# Assessors repeat a quote for months, then step: without a floor the step is infinitely unusual (docs/WATCH.md section 2).
SD_FLOOR: Final = 0.04  # of a monthly log change
CARRY: Final = (
    0.25  # of a log change repeats next month: the autocorrelation of monthly means of a random walk (Working 1960)
)
USUAL_MONTHS: Final = 36
LEAST_MONTHS: Final = 18
SEASON_LEAST: Final = 0.6
ZERO_SHARE: Final = 0.01  # where a fall alarms, zero counts as this share of the usual: far down, yet finite


class Direction(Enum):
    """Which way is danger."""

    UP = "up"
    DOWN = "down"


_DOWN: Final = frozenset(
    [
        *(pb.INDICATOR_KIND_STOCK, pb.INDICATOR_KIND_COVER, pb.INDICATOR_KIND_OUTPUT, pb.INDICATOR_KIND_CAPACITY),
        *(pb.INDICATOR_KIND_UTILISATION, pb.INDICATOR_KIND_IMPORTS, pb.INDICATOR_KIND_EXPORTS),
    ]
)


def direction(kind: int, market: int) -> Direction:
    """Which way is danger for an indicator.

    Prices inside a country that stops its exports fall while they rise outside, so a domestic price alarms by its
    fall; every other price by its rise. What is used up, delivered or stocked alarms by its fall.
    """
    if kind == pb.INDICATOR_KIND_PRICE:
        return Direction.DOWN if market == pb.MARKET_DOMESTIC else Direction.UP
    return Direction.DOWN if kind in _DOWN else Direction.UP


def facing(x: Floats, way: Direction) -> Floats:
    """The series turned so that a rise is danger; what has no logarithm is absent, or far down where falls alarm."""
    if way is Direction.UP:
        return np.where(x > 0, x, np.nan)
    usual = rolling.median(np.where(x > 0, x, np.nan), USUAL_MONTHS, least=1)
    out: Floats = 1 / np.where(x == 0, ZERO_SHARE * usual, np.where(x > 0, x, np.nan))
    return out


def _changes(x: Floats, months: int = 1) -> Floats:
    logs = np.log(x)
    out: Floats = logs - rolling.lagged(logs, months)
    return out


def usual_change(x: Floats) -> Floats:
    """How far the series usually moves in a month, as a log change; never under SD_FLOOR."""
    change = rolling.MAD_TO_SD * rolling.median(np.abs(_changes(x)), USUAL_MONTHS, least=LEAST_MONTHS)
    return np.maximum(change, SD_FLOOR)


def _within_reach(x: Floats, bound: Floats | float, level: Floats | None) -> Floats:
    """How near a 6-month rise of `bound` is, in usual movements: the best of the next six months.

    In k months the price must stand above (1 + bound) times what it was 6 - k months ago, a number that is already
    known. The last change carries on by CARRY a month, fading; the rest must come from the usual movement.
    """
    logs, change, spread = np.log(x), np.nan_to_num(_changes(x)), usual_change(x)
    floor = np.full_like(logs, -np.inf) if level is None else np.log(level)
    best = np.full_like(logs, np.nan)
    for k in range(1, labels.RISE_MONTHS + 1):
        target = np.maximum(np.log1p(bound) + rolling.lagged(logs, labels.RISE_MONTHS - k), floor)
        drift = change * CARRY * (1 - CARRY**k) / (1 - CARRY)
        best = np.fmax(best, (logs + drift - target) / (spread * math.sqrt(k)))
    return best


def shortage_reach(x: Floats) -> Floats:
    """W1: how near a rise of 30 % over six months is, to a price above its usual."""
    level = labels.SHORTAGE_LEVEL * rolling.median(x, labels.LEVEL_MONTHS, least=LEAST_MONTHS)
    return _within_reach(x, labels.SHORTAGE_RISE, level)


def unusual_reach(x: Floats) -> Floats:
    """W2: how near a rise over six months is that this series rarely makes."""
    spread = rolling.sd(labels.rise(x), labels.SD_MONTHS, least=LEAST_MONTHS)
    return _within_reach(x, np.maximum(labels.UNUSUAL_RISE, labels.UNUSUAL_SDS * spread), None)


def over_mean(x: Floats) -> Floats:
    """W3: how far above the mean of the 12 months before, as a share."""
    return x / rolling.lagged(rolling.mean(x, 12, least=9), 1) - 1


def month_on_month(x: Floats) -> Floats:
    """W4: rise on the month before, as a share."""
    return x / rolling.lagged(x, 1) - 1


def robust_z(x: Floats) -> Floats:
    """W5: the 3-month change against the median and spread of those before, in robust standard deviations."""
    change = _changes(x, 3)
    centre = rolling.lagged(rolling.median(change, USUAL_MONTHS, least=LEAST_MONTHS), 1)
    spread = rolling.lagged(rolling.mad(change, USUAL_MONTHS, least=LEAST_MONTHS), 1)
    return (change - centre) / np.maximum(spread, SD_FLOOR)


def ewma(x: Floats) -> Floats:
    """W6: monthly changes, the newer the weightier (0.3 a month), in usual movements."""
    change = np.nan_to_num(_changes(x))
    smooth = np.zeros_like(change)
    for month in range(1, x.shape[-1]):
        smooth[..., month] = 0.7 * smooth[..., month - 1] + 0.3 * change[..., month]
    spread = rolling.lagged(usual_change(x), 1)
    # The variance of the average is 0.3 / (2 - 0.3) of a month's.
    return np.where(np.isfinite(x), smooth, np.nan) / (spread * math.sqrt(0.3 / 1.7))


def seasonal_residual(x: Floats) -> Floats:
    """W7: above the same month of the last three years, after the whole level has moved, in its own usual residuals."""
    logs = np.log(x)
    years = np.stack([rolling.lagged(logs, 12 * back) for back in (1, 2, 3)])
    levels = np.stack([rolling.lagged(rolling.mean(logs, 12, least=6), 12 * back) for back in (1, 2, 3)])
    there = np.isfinite(years - levels)
    count = there.sum(axis=0)
    season = np.where(there, years - levels, 0.0).sum(axis=0) / np.maximum(count, 1)
    residual = logs - rolling.lagged(rolling.mean(logs, 12, least=6), 1) - np.where(count > 0, season, np.nan)
    spread = rolling.lagged(rolling.mad(residual, USUAL_MONTHS, least=12), 1)
    return residual / np.maximum(spread, 3 * SD_FLOOR)  # trade volumes jump; prices seldom do


def surge(x: Floats) -> Floats:
    """W8: how many times the median of the 12 months before; 1.8 marks buying ahead."""
    return x / rolling.lagged(rolling.median(x, 12, least=6), 1)


def collapse(x: Floats) -> Floats:
    """W9: share of the usual that two months in a row together lack, 0 to 1.

    Two months, because one is often low for no reason that lasts: a holiday (Chinese New Year) or a missed ship. Where
    the same two months were low a year ago too, less is usual; but never under SEASON_LEAST of the median, so that a
    shortage a year ago hides no second one.
    """
    pair = (x + rolling.lagged(x, 1)) / 2
    median = rolling.lagged(rolling.median(x, 12, least=6), 2)
    season = np.clip(rolling.lagged(pair, 12), SEASON_LEAST * median, median)
    usual = np.where(np.isfinite(season), season, median)
    return 1 - pair / np.where(usual > 0, usual, np.nan)


def concentration(x: Floats) -> Floats:
    """W10: rise of the Herfindahl-Hirschman index over 12 months, in index points of 0 to 1."""
    return x - rolling.lagged(x, 12)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Args:
        id: Stable: "W1".
        name: Two or three words.
        sentence: Why it fires, in words, with {score} and {threshold}.
        score: Values of shape (..., months), danger upwards, to scores of the same shape.
        turned: Whether `facing` turns the values first; W8 to W10 read them as they are.
    """

    id: str
    name: str
    sentence: str
    score: Callable[[Floats], Floats]
    turned: bool = True


RULES: Final[dict[str, Rule]] = {
    rule.id: rule
    for rule in (
        Rule(
            "W1",
            "shortage within reach",
            "a rise of 30 % in six months is {score} (alarm from {threshold})",
            shortage_reach,
        ),
        Rule(
            "W2",
            "unusual rise within reach",
            "a six-month rise rare for this series is {score} (alarm from {threshold})",
            unusual_reach,
        ),
        Rule(
            "W3", "over the mean", "{score} above the mean of the 12 months before (alarm from {threshold})", over_mean
        ),
        Rule("W4", "month on month", "{score} above the month before (alarm from {threshold})", month_on_month),
        Rule(
            "W5",
            "robust z",
            "three-month change {score} robust deviations above its usual (alarm from {threshold})",
            robust_z,
        ),
        Rule("W6", "smoothed changes", "smoothed rise of {score} usual movements (alarm from {threshold})", ewma),
        Rule(
            "W7",
            "out of season",
            "{score} usual residuals above the same month of other years (alarm from {threshold})",
            seasonal_residual,
        ),
        Rule("W8", "surge", "{score} times the median of the 12 months before (alarm from {threshold})", surge, False),
        Rule("W9", "collapse", "two months lack {score} of the usual (alarm from {threshold})", collapse, False),
        Rule(
            "W10",
            "concentration",
            "concentration index up by {score} in 12 months (alarm from {threshold})",
            concentration,
            False,
        ),
    )
}
_SHARES: Final = frozenset(["W3", "W4", "W9"])
_COUNTDOWNS: Final = frozenset(["W1", "W2"])


def score(rule: Rule, x: Floats, *, way: Direction = Direction.UP) -> Floats:
    """The scores of a rule; values that the rule cannot use give NaN, never an error.

    Args:
        rule: One of RULES.
        x: Values of shape (..., months), oldest first, NaN = absent.
        way: See `direction`.
    """
    if not x.shape[-1]:
        return x
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return rule.score(facing(x, way) if rule.turned else x)


def explain(rule: Rule, value: float, threshold: float) -> str:
    """Why the rule fires, or does not, in one sentence."""
    if rule.id in _COUNTDOWNS:
        # The score is the distance still to go, counted down; at 0 the usual course of the price arrives by itself.
        away = "within its usual course" if value >= 0 else f"{-value:.2f} usual movements away"
        return rule.sentence.format(score=away, threshold=f"{-threshold:.2f}")
    form = "{:.0%}" if rule.id in _SHARES else "{:.2f}"
    return rule.sentence.format(score=form.format(value), threshold=form.format(threshold))
