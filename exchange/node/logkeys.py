"""A node's log keys: usually one signs; two while one replaces the other (keys/node_keys.py says when which)."""

from collections.abc import Callable, Sequence
from typing import Final

from exchange import checkpoint
from keys import node_keys
from keys.suite import Signer
from keys.trust import Trust

MAX_LINES: Final = 4
"""A note has 16 lines for its log and all witnesses together."""


class LogKeys:
    """Signs heads and all else that the log says. `refresh` on the event loop alone; signing anywhere.

    Args:
        name: The node.
        trust: Whose rosters name the keys.
        keys: Those at hand; at least one.
        clock: Milliseconds UTC.
    """

    def __init__(self, name: str, trust: Trust, keys: Sequence[Signer], *, clock: Callable[[], int]) -> None:
        self._name, self._trust, self._clock = name, trust, clock
        self._held, self._signing, self._known = tuple(keys), tuple(keys[:1]), keys[0]

    @property
    def first(self) -> Signer:
        """The key that the newest roster names, once there is one."""
        return self._signing[0]

    @property
    def known(self) -> Signer:
        """The key that everybody knows, also who lacks the newest roster: for what has one signature."""
        return self._known

    @property
    def signing(self) -> tuple[Signer, ...]:
        """Every key that signs heads now, the first one first."""
        return self._signing

    def hold(self, keys: Sequence[Signer]) -> None:
        """Other keys are at hand now."""
        self._held = tuple(keys)
        self.refresh()

    def refresh(self) -> None:
        """Choose again: a roster came, or time went by."""
        if not self._trust.founded:
            return
        have = {key.public: key for key in self._held}
        chosen = node_keys.log_keys_signing(self._trust, self._name, now_ms=self._clock(), have=have)
        # With none left that counts, it signs as before and is refused: that shows where the fault is.
        if chosen:
            self._signing = tuple(have[public] for public in chosen)[:MAX_LINES]
            known = node_keys.log_key_known(self._trust, self._name, now_ms=self._clock(), have=have)
            self._known = have[known] if known is not None else self._signing[0]

    def sign(self, origin: str, size: int, root: bytes) -> bytes:
        """A head with a line of each key; blocks."""
        first, *more = self._signing
        note = checkpoint.sign(origin, size, root, first, name=self._name, time_ms=self._clock())
        for key in more:
            note = checkpoint.sign_also(note, key, name=self._name)
        return note

    def cosign(self, note: bytes) -> bytes:
        """Another log's head with a line of each key; blocks."""
        for key in self._signing:
            note = checkpoint.cosign(note, key, name=self._name)
        return note

    def ever(self) -> list[tuple[int, bytes]]:
        """(suite, public key) of every key that may have signed heads of this log."""
        return [(key.suite, key.public) for key in self._signing] + listed(self._trust, self._name)

    def counting(self) -> list[tuple[int, bytes]]:
        """Those of `ever` that have not ended: a thief of another can sign what he likes."""
        ever = self.ever()
        if not self._trust.founded:
            return ever
        have = [public for _, public in ever]
        now = node_keys.log_keys_signing(self._trust, self._name, now_ms=self._clock(), have=have)
        return [key for key in ever if key[1] in now]


def listed(trust: Trust, node: str) -> list[tuple[int, bytes]]:
    """(suite, public key) of every log key that a roster lists for a node, for what was signed once and is kept."""
    return [(key.suite, key.key) for key in trust.log_keys(node)]
