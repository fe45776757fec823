"""How much one verified caller may ask of a node: over time, in token buckets by name; at once, in open calls.

No clock: `now_ms` comes in.
"""

from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Final

from exchange.errors import LimitError

HOUR_MS: Final = 3_600_000
# Only rostered names come this far; some thousands of desks and nodes at most.
MAX_NAMES: Final = 16_384
# An honest desk has one for each channel, one for what it sends, and some that end at once; a link that broke leaves its
# own behind until it is noticed.
MAX_OPEN: Final = 128


@dataclass(frozen=True, slots=True)
class Rate:
    """`amount` in each `per_ms` on average, `burst` at once."""

    amount: float
    per_ms: int
    burst: float

    def wait_ms(self, missing: float) -> int:
        """Until so much is there."""
        return 1 + int(missing * self.per_ms / self.amount)


@dataclass(slots=True)
class Bucket:
    """What is left of a rate. A clock that goes back adds nothing."""

    rate: Rate
    left: float
    at_ms: int

    @classmethod
    def full(cls, rate: Rate, now_ms: int) -> "Bucket":
        """Nothing was taken yet."""
        return cls(rate, rate.burst, now_ms)

    def take(self, amount: float, now_ms: int) -> int:
        """Take so much; returns 0, or how many ms to wait until it is there, and takes nothing."""
        grown = self.rate.amount * max(0, now_ms - self.at_ms) / self.rate.per_ms
        self.left, self.at_ms = min(self.rate.burst, self.left + grown), now_ms
        # More than ever fits is let through when all is there: a limit slows, it does not stop for good.
        if (missing := min(amount, self.rate.burst) - self.left) > 0:
            return self.rate.wait_ms(missing)
        self.left -= amount
        return 0


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one desk or on one peer node.

    Args:
        envelopes_per_s: Taken or refused, ten seconds' worth at once.
        bytes_per_s: Of envelopes, ten seconds' worth at once.
        documents_per_hour: Taken or refused, an hour's worth at once.
        refusals_per_hour: What is said in our log about one peer's envelopes, and what one peer says about ours; an
            hour's worth at once.
    """

    envelopes_per_s: float
    bytes_per_s: float
    documents_per_hour: float
    refusals_per_hour: float = 100

    def rates(self) -> dict[str, Rate]:
        """By what is counted."""
        return {
            "envelopes": Rate(self.envelopes_per_s, 1000, 10 * self.envelopes_per_s),
            "bytes": Rate(self.bytes_per_s, 1000, 10 * self.bytes_per_s),
            "documents": Rate(self.documents_per_hour, HOUR_MS, self.documents_per_hour),
            "refusals": Rate(self.refusals_per_hour, HOUR_MS, self.refusals_per_hour),
        }


# Far above honest traffic: one desk that seals each report alone reaches some 280 envelopes/s, full batches 30 MB/s;
# a peer's log is caught up at some 500 envelopes/s.
DESK_LIMITS: Final = Limits(500, 50_000_000, 2_000)
PEER_LIMITS: Final = Limits(5_000, 200_000_000, 20_000)


class Quotas:
    """The buckets of all callers, the longest silent forgotten first.

    Args:
        desk: Bounds on each desk.
        peer: Bounds on each node.
    """

    def __init__(self, desk: Limits = DESK_LIMITS, peer: Limits = PEER_LIMITS) -> None:
        self._rates = {True: desk.rates(), False: peer.rates()}
        self._buckets: OrderedDict[tuple[str, str], Bucket] = OrderedDict()

    def wait_ms(self, name: str, what: str, amount: float, now_ms: int) -> int:
        """Take from a caller's bucket; returns 0, or how many ms until there is enough, and takes nothing."""
        key = (name, what)
        bucket = self._buckets.get(key)
        if bucket is None:
            # "/" is in the name of every desk and of no node.
            bucket = self._buckets[key] = Bucket.full(self._rates["/" in name][what], now_ms)
        self._buckets.move_to_end(key)
        if len(self._buckets) > MAX_NAMES:
            self._buckets.popitem(last=False)
        return bucket.take(amount, now_ms)

    def take(self, name: str, amounts: dict[str, float], now_ms: int) -> None:
        """Take from a caller's buckets.

        Raises:
            LimitError: It asks too much; `retry_after_ms` in the metadata says when there is enough.
        """
        for what, amount in amounts.items():
            if wait_ms := self.wait_ms(name, what, amount, now_ms):
                raise LimitError(
                    f"{name} sends more {what} than this node takes from one caller",
                    hint=f"send again in {wait_ms} ms",
                    retry_after_ms=wait_ms,
                )


class Open:
    """The calls that each caller has open."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._calls = Counter[str]()

    def enter(self, name: str) -> None:
        """One more.

        Raises:
            LimitError: It has too many.
        """
        if self._calls[name] >= self._most:
            raise LimitError(f"{name or 'unknown callers'}: {self._most} calls are open already", hint="close some")
        self._calls[name] += 1

    def leave(self, name: str) -> None:
        """One less."""
        self._calls[name] -= 1
        if not self._calls[name]:
            del self._calls[name]
