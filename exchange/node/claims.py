"""Who says that our log was longer than it is: it was restored from an older backup, or somebody lies.

A number alone proves nothing. A head that this node signed and no longer holds does: then nothing is appended any more,
or the log would have two histories (docs/PROTOCOL.md section 8.7).
"""

from typing import Final

import structlog

from exchange.checkpoint import Checkpoint
from exchange.history import Seen
from exchange.store.contract import Store
from keys.trust import party_of

log = structlog.get_logger("tocsin.node")
MAX_CLAIMS: Final = 256
"""Callers of one party that are remembered: no party pushes out what another says."""


class Claims:
    """The longest each caller says it saw, where that is more than we hold, and the newest head that proves it.

    Args:
        origin: Our log.
        store: Where the proof is kept.
    """

    def __init__(self, origin: str, store: Store) -> None:
        self._key, self._store = f"{origin}!", store
        self.sizes: dict[str, int] = {}
        self.doubted: dict[str, int] = {}
        self.proved: Seen | None = None

    def load(self) -> Seen | None:
        """Take from the store what was proved before; blocks."""
        note = self._store.note(self._key)
        self.proved = Seen.of(note) if note else None
        return self.proved

    def prove(self, seen: Seen) -> bool:
        """Keep a head that this node signed and does not hold; whether it is the newest. Blocks."""
        if self.proved is not None and _rank(self.proved) >= _rank(seen):
            return False
        self._store.set_note(self._key, seen.note)
        self.proved = seen
        return True

    def note(self, caller: str, seen_size: int, size: int) -> None:
        """A caller, or a peer that we ask, saw a longer log than ours; told once for each, loudly."""
        if not self._room(self.sizes, caller, seen_size):
            return
        self.sizes[caller] = seen_size
        log.error(
            "LOG_ROLLBACK: our log is shorter than it was seen: restored from a backup?",
            by=caller,
            seen=seen_size,
            size=size,
        )

    @staticmethod
    def _room(held: dict[str, int], caller: str, size: int) -> bool:
        if caller in held:
            return held[caller] < size
        party = party_of(caller)
        return sum(party_of(one) == party for one in held) < MAX_CLAIMS

    def doubt(self, caller: str, head: Checkpoint) -> None:
        """A caller showed a head that a log key which has ended signed, and no node vouches for: a thief may have made it."""
        if self._room(self.doubted, caller, head.size):
            self.doubted[caller] = head.size
            log.error(
                "a head of ours that we do not hold, under a log key that has ended: stolen, or restored from a backup?",
                by=caller,
                origin=head.origin,
                seen=head.size,
            )

    def still(self, size: int) -> dict[str, int]:
        """Claims beyond a size of our log."""
        return {caller: seen for caller, seen in self.sizes.items() if seen > size}


def _rank(seen: Seen) -> tuple[int, int]:
    """Later logs, then longer ones."""
    return int(seen.head.origin.rpartition("/")[2]), seen.head.size
