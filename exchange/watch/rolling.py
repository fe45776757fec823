"""Trailing windows over the last axis of an array, months oldest first. NaN = absent; absent months are left out.

Every window ends at its month, inclusive; `lagged` moves it back where a value must not be compared with itself.
"""

from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MAD_TO_SD: Final = 1.4826  # a normal sample's standard deviation over its median absolute deviation


def lagged(x: Floats, months: int) -> Floats:
    """The value of `months` earlier; NaN where there is none."""
    if months == 0:
        return x
    out = np.full_like(x, np.nan)
    out[..., months:] = x[..., :-months]
    return out


def _windows(x: Floats, months: int) -> Floats:
    pad = np.full((*x.shape[:-1], months - 1), np.nan)
    view: Floats = sliding_window_view(np.concatenate([pad, x], axis=-1), months, axis=-1)
    return view


def _count(x: Floats, months: int) -> NDArray[np.int64]:
    """How many values of the window are there."""
    total = np.cumsum(np.isfinite(x), axis=-1)
    total[..., months:] -= total[..., :-months].copy()
    return total


def median(x: Floats, months: int, *, least: int) -> Floats:
    """Median of the window; NaN where fewer than `least` values are there. numpy's nanmedian is 20 times slower."""
    return _middle(_windows(x, months), _count(x, months), least)


def _middle(windows: Floats, count: NDArray[np.int64], least: int) -> Floats:
    # Absent values sort last, so the middle of what is there is found by its count. Sorting whole windows is faster
    # here than finding their middles: the sort is vectorised, the partition is not.
    ordered = np.sort(windows, axis=-1)
    low = np.take_along_axis(ordered, np.maximum(count - 1, 0)[..., None] // 2, axis=-1)[..., 0]
    high = np.take_along_axis(ordered, np.minimum(count // 2, windows.shape[-1] - 1)[..., None], axis=-1)[..., 0]
    out: Floats = np.where(count >= least, (low + high) / 2, np.nan)
    return out


def mean(x: Floats, months: int, *, least: int) -> Floats:
    """Mean of the window; NaN where fewer than `least` values are there."""
    count = _count(x, months)
    filled = np.where(np.isfinite(x), x, 0.0)
    pad = np.zeros((*x.shape[:-1], months - 1))
    # Summed window by window: running sums would carry the rounding of one huge value through the whole series.
    total = sliding_window_view(np.concatenate([pad, filled], axis=-1), months, axis=-1).sum(axis=-1)
    out: Floats = np.where(count >= least, total / np.maximum(count, 1), np.nan)
    return out


def sd(x: Floats, months: int, *, least: int) -> Floats:
    """Sample standard deviation of the window; NaN where fewer than `least` values are there."""
    count = _count(x, months)
    windows = _windows(x, months)
    centred = np.nan_to_num(windows - mean(x, months, least=1)[..., None], posinf=0.0, neginf=0.0)
    squares = np.einsum("...i,...i->...", centred, centred)
    out: Floats = np.where(count >= max(least, 2), np.sqrt(squares / np.maximum(count - 1, 1)), np.nan)
    return out


def mad(x: Floats, months: int, *, least: int) -> Floats:
    """Median absolute deviation of the window from its own median, scaled to a standard deviation."""
    deviations = np.abs(_windows(x, months) - median(x, months, least=1)[..., None])
    return MAD_TO_SD * _middle(deviations, _count(x, months), least)
