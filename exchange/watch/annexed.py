"""Thresholds of the annex, over the built-in ones: rule "W1 A 0.2" is rule W1, label A, budget 0.2; micro is in millionths."""

from typing import Final

from exchange.text import printable
from exchange.watch.defaults import DEFAULTS
from exchange.watch.thresholds import Thresholds
from keys.v1 import documents_pb2 as docs

_MICRO: Final = 1_000_000
# What the screens ask for (exchange.watch.screens); a threshold that nothing asks for is named, not taken in silence.
_USED: Final = {
    f"{rule} {label} 0.2": (rule, label, 0.2)
    for rule, label in (("W1", "A"), ("W2", "B"), ("W5", "B"), ("W8", "A"), ("W9", "A"))
}


def thresholds_of(annex: docs.Annex | None) -> tuple[Thresholds, list[str]]:
    """The thresholds in force, and what of the annex this version does not use, in words.

    One of a single item holds all who report on it, of both countries, to the bound that both have signed.
    """
    if annex is None:
        return DEFAULTS, []
    values, unused = dict(DEFAULTS.values), []
    items: dict[str, dict[tuple[str, str, float], float]] = {}
    for one in annex.thresholds:
        key = _USED.get(one.rule)
        if key is None:
            unused.append(f"annex {annex.version}: {printable(one.rule)} {printable(one.item)} is not used here")
            continue
        mine = items.setdefault(_item(one.item), {}) if one.item else values
        mine[key] = one.micro / _MICRO
    return Thresholds(values, f"annex version {annex.version}", items), unused


def _item(text: str) -> str:
    """An item as series name it: a code, with its tariff if it is national, or a name in one case."""
    return text if text[:1].isdigit() else "name:" + " ".join(text.casefold().split())
