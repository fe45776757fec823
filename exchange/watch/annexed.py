"""Thresholds of the annex, over the built-in ones: rule "W1 A 0.2" is rule W1, label A, budget 0.2; micro is in millionths."""

from exchange.text import printable
from exchange.watch.defaults import DEFAULTS
from exchange.watch.labels import LABELS
from exchange.watch.rules import RULES
from exchange.watch.thresholds import BUDGETS, Thresholds
from keys.v1 import documents_pb2 as docs

_MICRO = 1_000_000
_NAMED = {f"{rule} {label} {budget}": (rule, label, budget) for rule in RULES for label in LABELS for budget in BUDGETS}


def thresholds_of(annex: docs.Annex | None) -> tuple[Thresholds, list[str]]:
    """The thresholds in force, and what of the annex this version does not use, in words.

    A threshold of one item alone is not used: pools of one item hold reporters of both countries to one bound.
    """
    if annex is None:
        return DEFAULTS, []
    values, unused = dict(DEFAULTS.values), []
    for one in annex.thresholds:
        key = _NAMED.get(one.rule)
        if key is None or one.item:
            unused.append(f"annex {annex.version}: {printable(one.rule)} {printable(one.item)} is not used here")
            continue
        values[key] = one.micro / _MICRO
    return Thresholds(values, f"annex version {annex.version}"), unused
