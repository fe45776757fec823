"""Forks: two envelopes of one sender that cannot both stand (docs/PROTOCOL.md section 5.7).

A desk's own node refuses the second. One that a followed log holds is taken all the same: both are kept, and the pair is
evidence of a copied key, a restored backup or a lying node.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import structlog

from exchange.node.entries import header_of
from exchange.node.writer import Waiting
from exchange.store.contract import ForkRecord, NewEntry, Row, Store
from exchange.workers import Workers
from keys.errors import TocsinError

log = structlog.get_logger("tocsin.node")
SHOWN_BYTES: Final = 2_500_000
SHOWN: Final = 64


@dataclass(frozen=True, slots=True)
class ShownFork:
    """A fork with both envelopes and their inclusion proofs."""

    record: ForkRecord
    first: tuple[Row, tuple[bytes, ...]]
    second: tuple[Row, tuple[bytes, ...]]


class Forks:
    """Finds forks in what followed logs bring.

    Args:
        store: The log.
        workers: Read it.
        pending: What is queued and not yet in the store.
    """

    def __init__(self, store: Store, workers: Workers, *, pending: Callable[[], Iterable[Waiting]]) -> None:
        self._store, self._workers, self._pending = store, workers, pending
        self.count = 0

    async def found(self, entry: NewEntry, head: tuple[int, bytes] | None, *, now_ms: int) -> ForkRecord | None:
        """The fork that an admitted envelope of a followed log makes; None when it makes none.

        Args:
            entry: The envelope.
            head: (seq, id) of the highest number of its stream that is held.
            now_ms: Milliseconds UTC.
        """
        if head is None:
            return None
        header = header_of(entry.data)
        other = await self._at(entry.stream, entry.seq, head)
        seq = entry.seq
        if other is None and header.prev_seq:
            # What it names as standing before it is not what stands there.
            seq, other = header.prev_seq, await self._at(entry.stream, header.prev_seq, head)
            if other == header.prev_id:
                other = None
        if other in (None, entry.id):
            return None
        self.count += 1
        log.error(
            "STREAM_FORK", sender=entry.sender, channel=entry.channel, seq=seq, first=other.hex(), second=entry.id.hex()
        )
        return ForkRecord(header.stream, seq, entry.sender, entry.channel, other, entry.id, now_ms)

    async def _at(self, stream: bytes, seq: int, head: tuple[int, bytes]) -> bytes | None:
        """Id of the first envelope at a number. A number above the head is free; one below it may come late, not twice."""
        if seq >= head[0]:
            return head[1] if seq == head[0] else None
        queued = self._queued(stream, seq)
        held: bytes | None = await self._workers.run(self._store.find, stream, seq)
        return held or queued or self._queued(stream, seq)

    def _queued(self, stream: bytes, seq: int) -> bytes | None:
        entries = (waiting.entry for waiting in self._pending())
        return next((e.id for e in entries if e is not None and (e.stream, e.seq) == (stream, seq)), None)

    def shown(self, desks: frozenset[str], start: int, size: int) -> tuple[list[ShownFork], int]:
        """Forks from a number on of which both envelopes may be read by one of `desks`, bounded; blocks.

        Returns:
            The forks, and the number to go on from; 0 = those were all.
        """
        records = self._store.forks()
        found: list[ShownFork] = []
        held_bytes = 0
        for number, record in enumerate(records[start:], start):
            try:
                pair = [self._proved(identity, desks, size) for identity in (record.first, record.second)]
            except TocsinError:
                continue
            first, second = pair
            if first is None or second is None:
                continue
            held_bytes += len(first[0].data) + len(second[0].data)
            if found and (held_bytes > SHOWN_BYTES or len(found) >= SHOWN):
                return found, number
            found.append(ShownFork(record, first, second))
        return found, 0

    def _proved(self, identity: bytes, desks: frozenset[str], size: int) -> tuple[Row, tuple[bytes, ...]] | None:
        position = self._store.position_of(identity)
        row = self._store.get(position) if position is not None and position < size else None
        if row is None or row.damaged:
            return None
        readers = {row.sender, *(reader.desk for reader in header_of(row.data, pruned=row.pruned).audience)}
        if not readers & desks:
            return None
        return row, tuple(self._store.inclusion(row.position, size))
