"""What subscribers get: entries of the signed log, with proofs, in order; then what comes, as it comes."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from exchange import checkpoint
from exchange.store.contract import Row, Store
from exchange.workers import Workers

READ_BYTES: Final = 1_000_000
READ_ROWS: Final = 256
HEARTBEAT_S: Final = 10.0
# Growth that brings the caller nothing still moves its cursor, but not at the price of a signature checked each time.
QUIET_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Batch:
    """What a subscriber gets next."""

    rows: Sequence[tuple[Row, tuple[bytes, ...]]]
    checkpoint: bytes
    consistency: tuple[bytes, ...]
    next_position: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries a subscriber may and wants to have."""

    desks: frozenset[str]
    channels: frozenset[str] | None
    without: str


class Readers:
    """The live readers of a log.

    Args:
        store: The log.
        workers: Read it.
        head: The newest signed checkpoint.
    """

    def __init__(self, store: Store, workers: Workers, *, head: Callable[[], bytes]) -> None:
        self._store, self._workers, self._head = store, workers, head
        self._grown = asyncio.Event()
        self._ending = False

    def wake(self) -> None:
        """A new head was signed."""
        self._grown.set()
        self._grown = asyncio.Event()

    def end(self) -> None:
        """End live subscriptions."""
        self._ending = True
        self._grown.set()

    async def subscribe(
        self,
        desks: Callable[[], frozenset[str]],
        *,
        position: int,
        channels: frozenset[str] | None,
        without: str,
        follow: bool,
    ) -> AsyncGenerator[Batch, None]:
        """Entries from a position on, each with its inclusion proof in the batch's checkpoint; then live.

        An empty batch says that nothing happened, or that what happened is none of the caller's.

        Args:
            desks: Whose envelopes the caller may have, asked before each batch.
            position: First position wanted.
            channels: Only these; None = all.
            without: Not what was taken from this log; empty = everything.
            follow: Go on at the newest entry.
        """
        loop = asyncio.get_running_loop()
        sent_size: int | None = None
        sent_at = 0.0
        while not self._ending:
            grown, note = self._grown, self._head()
            size = checkpoint.parse(note).size
            wanted = Wanted(desks(), channels, without)
            batch = await self._workers.run(self._batch, position, note, size, sent_size or 0, wanted)
            moved = batch.next_position > position
            quiet = moved and not batch.rows and follow and sent_size is not None and position >= sent_size
            if batch.rows or sent_size is None or (moved and not (quiet and loop.time() < sent_at + QUIET_S)):
                yield batch
                sent_size, sent_at, position = size, loop.time(), batch.next_position
                continue
            if not follow:
                return
            try:
                async with asyncio.timeout(QUIET_S if moved else HEARTBEAT_S):
                    await grown.wait()
            except TimeoutError:
                if not moved:
                    yield Batch((), note, (), position)
                    sent_at = loop.time()

    def _batch(self, position: int, note: bytes, size: int, sent_size: int, wanted: Wanted) -> Batch:
        """All that a batch needs of the store, in one visit to its thread."""
        rows, after = self._store.read(
            position,
            limit_bytes=READ_BYTES,
            limit_rows=READ_ROWS,
            desks=wanted.desks,
            channels=wanted.channels,
            without=wanted.without,
        )
        proved = [(row, tuple(self._store.inclusion(row.position, size))) for row in rows if row.position < size]
        consistency = tuple(self._store.consistency(sent_size, size)) if 0 < sent_size < size else ()
        return Batch(proved, note, consistency, max(min(after, size), position))
