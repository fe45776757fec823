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


def median(x: Floats, months: int, *, least: int) -> Floats:
    """Median of the window; NaN where fewer than `least` values are there."""
    # Sorting puts NaN last, so the middle of what is there can be taken by its count: nanmedian is 20 times slower.
    ordered = np.sort(_windows(x, months), axis=-1)
    count = np.isfinite(ordered).sum(axis=-1)
    low = np.take_along_axis(ordered, np.maximum(count - 1, 0)[..., None] // 2, axis=-1)[..., 0]
    high = np.take_along_axis(ordered, np.minimum(count // 2, months - 1)[..., None], axis=-1)[..., 0]
    out: Floats = np.where(count >= least, (low + high) / 2, np.nan)
    return out


def mean(x: Floats, months: int, *, least: int) -> Floats:
    """Mean of the window; NaN where fewer than `least` values are there."""
    total, count = _sums(x, months)
    return np.where(count >= least, total / np.maximum(count, 1), np.nan)


def sd(x: Floats, months: int, *, least: int) -> Floats:
    """Sample standard deviation of the window; NaN where fewer than `least` values are there."""
    windows = _windows(x, months)
    there = np.isfinite(windows)
    count = there.sum(axis=-1)
    filled = np.where(there, windows, 0.0)
    centre = filled.sum(axis=-1) / np.maximum(count, 1)
    squares = np.where(there, (filled - centre[..., None]) ** 2, 0.0).sum(axis=-1)
    out: Floats = np.where(count >= max(least, 2), np.sqrt(squares / np.maximum(count - 1, 1)), np.nan)
    return out


def mad(x: Floats, months: int, *, least: int) -> Floats:
    """Median absolute deviation of the window from its own median, scaled to a standard deviation."""
    windows = _windows(x, months)
    deviations = np.sort(np.abs(windows - median(x, months, least=1)[..., None]), axis=-1)
    count = np.isfinite(deviations).sum(axis=-1)
    low = np.take_along_axis(deviations, np.maximum(count - 1, 0)[..., None] // 2, axis=-1)[..., 0]
    high = np.take_along_axis(deviations, np.minimum(count // 2, months - 1)[..., None], axis=-1)[..., 0]
    out: Floats = np.where(count >= least, MAD_TO_SD * (low + high) / 2, np.nan)
    return out


def _sums(x: Floats, months: int) -> tuple[Floats, NDArray[np.int64]]:
    windows = _windows(x, months)
    there = np.isfinite(windows)
    return np.where(there, windows, 0.0).sum(axis=-1), there.sum(axis=-1)
