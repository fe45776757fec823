"""What counts as an event in a back-test: a rise of a price, by two labels (docs/WATCH.md section 5).

Label A, shortage: a 6-month rise of 30 % or more, and the price above 1.05 times the median of the 36 months before.
A rise that only comes back from a crash has no shortage behind it, so such months count neither way.
Label B, unusual: a 6-month rise of at least 20 %, and at least 2.5 times the sd of the 60 rises before.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from exchange.watch import rolling
from exchange.watch.rolling import Floats

LABELS: Final = ("A", "B")
RISE_MONTHS: Final = 6
SHORTAGE_RISE: Final = 0.30
SHORTAGE_LEVEL: Final = 1.05
LEVEL_MONTHS: Final = 36
UNUSUAL_RISE: Final = 0.20
UNUSUAL_SDS: Final = 2.5
SD_MONTHS: Final = 60
SD_LEAST: Final = 24  # a series that starts late is judged by two years of rises, not left out for five
CLOSE_MONTHS: Final = 6  # an event closes after so many months in a row below its bound


@dataclass(frozen=True, slots=True)
class Labelled:
    """The events of one series.

    Args:
        starts: Months (positions in the series) at which events start, ascending.
        running: Whether an event runs, by month, its last CLOSE_MONTHS included.
        rebound: Months of label A that count neither way.
    """

    starts: tuple[int, ...]
    running: NDArray[np.bool_]
    rebound: NDArray[np.bool_]


def rise(price: Floats) -> Floats:
    """The 6-month rise: 0.3 = 30 % up. NaN where either end is absent or not above zero."""
    sound = np.where(price > 0, price, np.nan)
    return sound / rolling.lagged(sound, RISE_MONTHS) - 1


def unusual_bound(price: Floats) -> Floats:
    """The rise that label B asks for in a month, from the 60 rises before it; NaN before that history is there."""
    spread = rolling.lagged(rolling.sd(rise(price), SD_MONTHS, least=SD_LEAST), 1)
    return np.maximum(UNUSUAL_RISE, UNUSUAL_SDS * spread)


def shortage_level(price: Floats) -> Floats:
    """The price that label A asks for in a month."""
    return SHORTAGE_LEVEL * rolling.lagged(rolling.median(price, LEVEL_MONTHS, least=LEVEL_MONTHS), 1)


def label(price: Floats, which: str) -> Labelled:
    """The events of one series, shape (months,), by label "A" or "B"."""
    up = rise(price)
    nothing = np.zeros(price.shape, dtype=np.bool_)
    # A comparison with NaN is False: no value, no event.
    with np.errstate(invalid="ignore"):
        if which == "A":
            steep = up >= SHORTAGE_RISE
            starting = steep & (price > shortage_level(price))
            return _runs(starting, rebound=steep & ~starting)
        return _runs(up >= unusual_bound(price), rebound=nothing)


def _runs(above: NDArray[np.bool_], *, rebound: NDArray[np.bool_]) -> Labelled:
    starts: list[int] = []
    running = np.zeros(above.shape, dtype=np.bool_)
    open_, below = False, 0
    for month, is_above in enumerate(above.tolist()):
        if open_:
            running[month] = True
            below = 0 if is_above else below + 1
            open_ = below < CLOSE_MONTHS
        elif is_above:
            starts.append(month)
            running[month] = True
            open_, below = True, 0
    return Labelled(tuple(starts), running, rebound)
