"""Pooling: how unusual is the share of voices in alarm, against what these voices usually do.

One reporter alone raises a flag every few months; most of them at once, hardly ever. That is why missions share.
A voice is one origin, however many missions quote it, and one mission, however many origins or places it reports on.
The tail is beta-binomial: voices move together even in quiet times, and the history says how much.

Source: docs/WATCH.md section 4.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from exchange.watch import rolling
from exchange.watch.months import month_text
from exchange.watch.rolling import Floats

HISTORY_MONTHS: Final = 60
LEAST_HISTORY: Final = 12
LEAST_VOICES: Final = 4.0  # effective voices; with fewer, a share means nothing
MAX_VOICES: Final = 1024
BUDGET: Final = 0.2  # false pooled alarms a year
TAIL: Final = BUDGET / 12  # a month's share of it
SHRINK_MONTHS: Final = 6.0  # a voice with a short history is taken for an ordinary one
RATE_BOUNDS: Final = (0.02, 0.5)  # neither never nor always: an invented history moves its owner's own voice only
RHO_BOUNDS: Final = (0.02, 0.5)
RHO_PRIOR: Final = (0.08, 12.0)  # overdispersion before there is history, and the months it counts for
_WINSOR: Final = 9.0  # a squared deviation counts up to three sd: one true alarm must not deafen the pool for years

_RELIABILITY: Final = {1: 1.0, 2: 0.8, 3: 0.6, 4: 0.4, 5: 0.2}
_CANNOT_JUDGE: Final = 0.5  # F and 6 say nothing bad; so does a source without a grade


def admiralty_weight(reliability: int, credibility: int) -> float:
    """Weight of a source in (0, 1]: the product of its two axes; A1 = 1, "cannot judge" and "not said" = 0.5 each."""
    return _RELIABILITY.get(reliability, _CANNOT_JUDGE) * _RELIABILITY.get(credibility, _CANNOT_JUDGE)


@dataclass(frozen=True, slots=True)
class Vote:
    """Whose word one series is.

    Args:
        reporter: Mission.
        origin: Where it was first said; the same string at every mission that quotes it.
        weight: Admiralty weight, 0 to 1.
    """

    reporter: str
    origin: str
    weight: float


@dataclass(frozen=True, slots=True)
class Voice:
    """Series that count as one.

    Args:
        name: The mission, or the origin that several missions quote.
        reporters: Missions behind it.
        weight: 0 to 1.
        rows: Positions of its series, each with its part in the voice's word.
    """

    name: str
    reporters: tuple[str, ...]
    weight: float
    rows: tuple[tuple[int, float], ...]


def voices(votes: Sequence[Vote]) -> list[Voice]:
    """Series as voices: each origin is one, and each mission has a weight of at most one in all of them together.

    A mission splits its weight over the origins it names, so naming many gains nothing: neither more say of its own,
    nor say over what others quote. What several missions quote has the weight of the one that stands behind it most.
    """
    named: dict[str, set[str]] = defaultdict(set)
    rows_of: dict[str, dict[str, list[int]]] = {}
    for row, vote in enumerate(votes[:MAX_VOICES]):
        named[vote.reporter].add(vote.origin)
        rows_of.setdefault(vote.origin, {}).setdefault(vote.reporter, []).append(row)
    out: list[Voice] = []
    for origin, by_reporter in sorted(rows_of.items()):
        reporters = tuple(sorted(by_reporter))
        split: list[tuple[int, float]] = []
        weight = 0.0
        for name, rows in by_reporter.items():
            parts = len(named[name])
            split += [(row, votes[row].weight / parts / len(rows)) for row in rows]
            weight = max(weight, *(votes[row].weight / parts for row in rows))
        out.append(Voice(origin if len(reporters) > 1 else reporters[0], reporters, weight, tuple(split)))
    return out


def merged(flags: Floats, of: Sequence[Voice]) -> Floats:
    """The flags of series, shape (series, months), as flags of voices: the weighted share of its series in alarm."""
    out = np.full((len(of), flags.shape[-1]), np.nan)
    for index, voice in enumerate(of):
        if len(voice.rows) == 1:
            out[index] = flags[voice.rows[0][0]]
            continue
        part = flags[[row for row, _ in voice.rows]]
        weight = np.where(np.isfinite(part), np.array([share for _, share in voice.rows])[:, None], 0.0)
        total = weight.sum(axis=0)
        said = (weight * np.nan_to_num(part)).sum(axis=0)
        out[index] = np.divide(said, total, out=np.full_like(total, np.nan), where=total > 0)
    return out


@dataclass(frozen=True, slots=True, eq=False)
class Pooled:
    """The pool by month; every array has shape (..., months).

    Args:
        effective: Voices, as if all had equal weight.
        share: Weighted share of them in alarm, 0 to 1; NaN without voices.
        expected: Share that these voices usually show.
        rho: Overdispersion, 0 = voices independent, 1 = they speak as one.
        tail: Chance of a share as high, one voice in alarm set aside; 1 where the pool is too small or too young.
    """

    effective: Floats
    share: Floats
    expected: Floats
    rho: Floats
    tail: Floats

    @property
    def alarm(self) -> NDArray[np.bool_]:
        """Whether the pool is in alarm."""
        on: NDArray[np.bool_] = self.tail <= TAIL
        return on


def pool(flags: Floats, weights: Floats) -> Pooled:
    """Pool the flags of voices.

    Args:
        flags: Shape (..., voices, months); 1 in alarm, 0 not, between = shared voice in part; NaN = absent.
        weights: Shape (..., voices) or (..., voices, months); Admiralty weights.
    """
    there = np.isfinite(flags)
    weight = np.where(there, weights if weights.ndim == flags.ndim else weights[..., None], 0.0)
    on = np.where(there, flags, 0.0)
    total = weight.sum(axis=-2)
    safe = np.where(total > 0, total, np.nan)
    squares = (weight**2).sum(axis=-2)
    effective = np.divide(total**2, squares, out=np.zeros_like(total), where=squares > 0)
    share = (weight * on).sum(axis=-2) / safe
    expected = (weight * _own_rates(on, there)).sum(axis=-2) / safe
    rho, months = _overdispersion(share, expected, effective)
    ripe = (effective >= LEAST_VOICES) & (months >= LEAST_HISTORY)
    # No single voice may decide: the strongest one in alarm is set aside before the tail is taken.
    loudest = (weight * on).max(axis=-2, initial=0.0) / safe
    voices_left = np.round(effective) - 1
    in_alarm = np.ceil((share - loudest) / np.maximum(1 - loudest, 1e-9) * voices_left - 1e-9)
    tail = _tail(np.nan_to_num(in_alarm), voices_left, np.nan_to_num(expected, nan=0.5), rho)
    return Pooled(effective, share, expected, rho, np.where(ripe, tail, 1.0))


def _own_rates(on: Floats, there: NDArray[np.bool_]) -> Floats:
    """How often each voice was in alarm before each month, shrunk to what all were."""
    alarms = _before(on)
    said = _before(there.astype(float))
    all_rate = (alarms.sum(axis=-2) + 1) / (said.sum(axis=-2) + 10)
    rates = (alarms + SHRINK_MONTHS * all_rate[..., None, :]) / (said + SHRINK_MONTHS)
    out: Floats = np.clip(rates, *RATE_BOUNDS)
    return out


def _before(x: Floats) -> Floats:
    """Sum over the HISTORY_MONTHS before each month."""
    sums = np.cumsum(x, axis=-1)
    out: Floats = np.nan_to_num(rolling.lagged(sums, 1)) - np.nan_to_num(rolling.lagged(sums, HISTORY_MONTHS + 1))
    return out


def _overdispersion(share: Floats, expected: Floats, effective: Floats) -> tuple[Floats, Floats]:
    """Rho from the months before, and how many there were."""
    variance = expected * (1 - expected) / np.maximum(effective, 1)
    usable = np.isfinite(share) & (effective >= LEAST_VOICES)
    squared = np.where(usable, np.minimum((share - expected) ** 2 / variance, _WINSOR), 0.0)
    # With n voices, the squared deviation in units of the binomial variance is 1 + (n - 1) rho on average.
    excess = np.where(usable, (squared - 1) / np.maximum(effective - 1, 1), 0.0)
    months = _before(usable.astype(float))
    rho = (_before(excess) + RHO_PRIOR[0] * RHO_PRIOR[1]) / (months + RHO_PRIOR[1])
    return np.clip(rho, *RHO_BOUNDS), months


def _tail(alarms: Floats, n: Floats, rate: Floats, rho: Floats) -> Floats:
    """P(at least `alarms` of n) of a beta-binomial with mean `rate` and intra-class correlation `rho`."""
    strength = 1 / rho - 1
    a, b = rate * strength, (1 - rate) * strength
    most = int(max(n.max(initial=0), 0))
    k = np.arange(most)
    room = n[..., None] - k
    # pmf(k + 1) / pmf(k); beyond n it is 0.
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(room * (a[..., None] + k)) - np.log((k + 1) * (b[..., None] + room - 1))
    logs = np.cumsum(np.where(room > 0, ratio, -np.inf), axis=-1)
    logs = np.concatenate([np.zeros((*n.shape, 1)), logs], axis=-1)
    mass = np.exp(logs - logs.max(axis=-1, keepdims=True))
    counted = np.where(np.arange(most + 1) >= alarms[..., None], mass, 0.0).sum(axis=-1)
    out: Floats = counted / mass.sum(axis=-1)
    return out


@dataclass(frozen=True, slots=True)
class Named:
    """A voice in alarm, and the month since which it is without a break."""

    name: str
    since: int


def in_alarm(flags: Floats, names: Sequence[str], month: int, first: int) -> list[Named]:
    """Who is in alarm in a month, since when; the longest first. `flags` as in `pool`, shape (voices, months)."""
    out: list[Named] = []
    for row, name in enumerate(names):
        since = month
        if not flags[row, month] > 0:
            continue
        while since > 0 and flags[row, since - 1] > 0:
            since -= 1
        out.append(Named(name, first + since))
    return sorted(out, key=lambda named: (named.since, named.name))


def explain(pooled: Pooled, month: int, named: Sequence[Named]) -> str:
    """How unusual the pool is, and who is in alarm since when, in one sentence. For shape (months,)."""
    share, expected = float(pooled.share[month]), float(pooled.expected[month])
    if not np.isfinite(share):
        return "no voice in this month"
    tail = float(pooled.tail[month])
    # Beyond ten thousand months the model says more than its history can.
    often = f"once in {1 / tail:,.0f} months" if tail > 1e-4 else "less than once in 10,000 months"
    how = "not unusual" if tail >= 0.5 else f"a share as high comes {often}"
    who = ", ".join(f"{one.name} since {month_text(one.since)}" for one in named[:8])
    more = f" and {len(named) - 8} more" if len(named) > 8 else ""
    return f"{share:.0%} of {float(pooled.effective[month]):.0f} voices in alarm, {expected:.0%} is usual; {how}: {who}{more}"
