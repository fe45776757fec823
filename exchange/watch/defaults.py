"""Built-in thresholds and which rules are tried on what.

Measured by `tocsin watch tune --prices examples/data/world_bank_prices.csv`; tests/watch holds them to it.
"""

from typing import Final

from exchange.watch.labels import LABELS
from exchange.watch.thresholds import BUDGETS, Thresholds

SURGE: Final = 1.8
COLLAPSE: Final = 0.5
PRICE_RULES: Final = ("W1", "W2", "W3", "W4", "W5", "W6", "W7")  # of which a back-test on prices knows events
POOL_RULES: Final = (("W8", SURGE), ("W9", COLLAPSE))
# The rule whose alerts are shown for a label, unless others are asked for.
LEADING: Final = {"A": "W1", "B": "W2"}

# Rule: label A at 0.2 and 0.5 false alarms per quiet series-year, label B at 0.2 and 0.5.
_MEASURED: Final[dict[str, tuple[float, float, float, float]]] = {
    "W1": (-0.8084, -1.4059, -0.2627, -1.0392),
    "W2": (-1.1879, -1.7391, -1.0622, -1.6438),
    "W3": (0.1545, 0.0854, 0.1962, 0.1204),
    "W4": (0.0859, 0.0618, 0.1152, 0.0755),
    "W5": (1.6257, 1.0921, 1.7504, 1.1348),
    "W6": (1.4897, 1.0242, 1.7512, 1.2071),
    "W7": (1.1398, 0.6629, 1.2844, 0.7461),
}

DEFAULTS: Final = Thresholds(
    {
        (rule, which, budget): values[2 * place + order]
        for rule, values in _MEASURED.items()
        for place, which in enumerate(LABELS)
        for order, budget in enumerate(BUDGETS)
    },
    source="built in: World Bank prices of eight materials, 1990 to 2026",
)
