"""Screens: which rules flag a series of which kind, at which thresholds."""

from dataclasses import dataclass
from typing import Final

from exchange.v1 import report_pb2 as pb
from exchange.watch.defaults import COLLAPSE, DEFAULTS, SURGE
from exchange.watch.thresholds import BUDGETS, Thresholds

CONCENTRATION_RISE: Final = 0.1
SHARE_RISE: Final = 10.0  # percentage points

_TRADED: Final = frozenset(
    [
        *(pb.INDICATOR_KIND_IMPORTS, pb.INDICATOR_KIND_EXPORTS),
        *(pb.INDICATOR_KIND_ORDERS, pb.INDICATOR_KIND_DEMAND),
    ]
)


@dataclass(frozen=True, slots=True)
class Screen:
    """What makes a series of one kind flag: any of its rules at or above its threshold.

    Args:
        name: "rise", "fall", "surge" or "collapse": pools of different screens are never mixed.
        rules: Rule ids with thresholds.
    """

    name: str
    rules: tuple[tuple[str, float], ...]


def screens(kind: int, thresholds: Thresholds = DEFAULTS, *, budget: float = min(BUDGETS)) -> tuple[Screen, ...]:
    """The screens of an indicator kind. A rule without a threshold is left out, as is a screen without a rule."""

    def screen(name: str, *rules: tuple[str, str]) -> Screen:
        found = ((rule, thresholds.of(rule, which, budget)) for rule, which in rules)
        return Screen(name, tuple((rule, value) for rule, value in found if value is not None))

    def fixed(rule: str, built_in: float) -> tuple[str, float]:
        value = thresholds.of(rule, "A", budget)
        return rule, built_in if value is None else value

    if kind == pb.INDICATOR_KIND_PRICE:
        out = [screen("rise", ("W1", "A"), ("W2", "B"))]
    elif kind in _TRADED:
        out = [Screen("surge", (fixed("W8", SURGE),)), Screen("collapse", (fixed("W9", COLLAPSE),))]
    elif kind == pb.INDICATOR_KIND_CONCENTRATION:
        out = [Screen("rise", (("W10", CONCENTRATION_RISE),))]
    elif kind == pb.INDICATOR_KIND_SUPPLIER_SHARE:
        out = [Screen("rise", (("W10", SHARE_RISE),))]
    elif kind in (pb.INDICATOR_KIND_LEAD_TIME, pb.INDICATOR_KIND_TRANSIT_TIME):
        out = [screen("rise", ("W2", "B"))]
    else:
        out = [screen("fall", ("W5", "B"))]
    return tuple(one for one in out if one.rules)
