"""Who says that our log was longer than it is: it was restored from an older backup, or somebody lies.

A number alone proves nothing. A head that this node signed and no longer holds does: then nothing is appended any more,
or the log would have two histories (docs/PROTOCOL.md section 8.7).
"""

from typing import Final

import structlog

from exchange import checkpoint, history
from exchange.checkpoint import Checkpoint
from exchange.errors import StoreError
from exchange.history import Seen
from exchange.node.logkeys import LogKeys
from exchange.node.witness import Witnesses
from exchange.node.writer import Writer
from exchange.store.contract import Store
from exchange.workers import Workers
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


class Hearing:
    """What others say of our log is heard, and the node stands back when that proves that it was restored from a backup.

    Args:
        name: This node.
        origin: Its log.
        store: That log.
        claims: Where it is remembered.
        witnesses: Vouch for heads under keys that ended.
        log_keys: What signed heads of ours.
        writer: Stops.
        workers: Read and write the store.
    """

    def __init__(
        self,
        name: str,
        origin: str,
        *,
        store: Store,
        claims: Claims,
        witnesses: Witnesses,
        log_keys: LogKeys,
        writer: Writer,
        workers: Workers,
    ) -> None:
        self._name, self._origin, self._store, self._claims = name, origin, store, claims
        self._witnesses, self._log_keys, self._writer, self._workers = witnesses, log_keys, writer, workers

    def load(self) -> None:
        """Stand back at once from what was proved before; blocks."""
        held = self._claims.load()
        # It stands in a later log of ours, or the right disk is back.
        if held is not None and not self.holds(held.head):
            self._stand_back(held)

    async def hear(self, note: bytes, *, by: str) -> None:
        """Others show a head that this node signed. If our log does not hold it, nothing is appended any more.

        A head that an ended key signed and no node vouches for is only told to people (Witnesses.vouch).

        Args:
            note: A checkpoint of this node, as it is shown.
            by: Who shows it.

        Raises:
            ProofError: This node did not sign it.
        """
        head = checkpoint.parse(note)
        ours = history.number_of(self._origin, self._name)
        number = history.number_of(head.origin, self._name)
        if number < ours or (number == ours and await self._workers.run(self.holds, head)):
            return
        checkpoint.verify_any(note, self._log_keys.ever(), name=self._name)
        if not self._witnesses.vouch(note, by=by):
            self._claims.doubt(by, head)
            return
        self._claims.note(by, head.size, self._writer.size)
        if await self._workers.run(self._claims.prove, Seen(head, note)):
            self._stand_back(Seen(head, note))

    def holds(self, head: Checkpoint) -> bool:
        """Whether our log extends a head; blocks."""
        return (
            head.origin == self._origin and head.size <= self._store.size() and self._store.root(head.size) == head.root
        )

    def _stand_back(self, seen: Seen) -> None:
        held, head = self._writer.durable_size or self._store.size(), seen.head
        self._writer.bar(
            StoreError(
                f"{head.origin} was seen with {head.size} entries, signed by this node, and what is here, {held} of "
                f"{self._origin}, does not hold them: was the disk restored from a backup?",
                hint="stop the node, then `tocsin node new-log DIRECTORY`; see Disaster in docs/OPERATIONS.md",
            )
        )


def _rank(seen: Seen) -> tuple[int, int]:
    """Later logs, then longer ones."""
    return int(seen.head.origin.rpartition("/")[2]), seen.head.size
