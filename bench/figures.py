"""Figures from samples."""

from collections.abc import Sequence


def percentile(values: Sequence[float], share: float) -> float:
    """The value at or below which `share` (in [0, 1]) of the values lie; nearest rank.

    Raises:
        ValueError: There are no values.
    """
    if not values:
        raise ValueError("no values")
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]
