"""Documents: taken into what is trusted, then into the log, and shown once the log holds them."""

import asyncio
import itertools
from collections.abc import Iterable

from exchange.node.entries import document_entry
from exchange.node.intake import Counters
from exchange.node.logkeys import LogKeys
from exchange.node.positions import Positions
from exchange.node.quota import Quotas
from exchange.node.writer import Writer
from exchange.store.contract import Store
from exchange.workers import Workers
from keys import documents
from keys.encoding import digest
from keys.errors import TocsinError
from keys.trust import Trust


class Documents:
    """The documents of a node.

    Args:
        store: Its log.
        trust: Says which count.
        positions: Keep what was cosigned before a document that ends a key.
        log_keys: Chosen again when a roster comes.
        writer: Puts them into the log.
        quotas: How many one caller may offer.
        counters: Count what is refused.
        workers: Read the store.
    """

    def __init__(
        self,
        store: Store,
        trust: Trust,
        *,
        positions: Positions,
        log_keys: LogKeys,
        writer: Writer,
        quotas: Quotas,
        counters: Counters,
        workers: Workers,
    ) -> None:
        self._store, self._trust, self._positions, self._log_keys = store, trust, positions, log_keys
        self._writer, self._quotas, self._counters, self._workers = writer, quotas, counters, workers

    async def take(
        self, encoded: Iterable[bytes], *, now_ms: int, by: str = "", origin: str = ""
    ) -> list[tuple[bytes, TocsinError | None]]:
        """Take documents into trust and log; each is answered for itself, one bad one stops no other.

        Args:
            encoded: Signed documents.
            now_ms: Milliseconds UTC.
            by: The caller that offers them; empty when they are our own or a followed log's.
            origin: The followed log that holds them.

        Raises:
            StoreError: The disk failed.
        """
        if (barred := self._writer.barred) is not None:
            # An answer, not a failed call: who offers them goes on, and tells us what it saw of our log.
            return [(digest(data), barred) for data in encoded]
        results: list[tuple[bytes, TocsinError | None]] = []
        kept = []
        for data in encoded:
            try:
                if by:
                    self._quotas.take(by, {"documents": 1}, now_ms)
                taken = self._trust.take(documents.decode(data), now_ms=now_ms)
            except TocsinError as error:
                self._counters.refuse(error.reason)
                results.append((digest(data), error))
                continue
            if taken.new or await self._unlogged(taken.document.digest):
                await self._positions.freeze(taken.document.digest)
                if taken.document.type == "tocsin/1/roster":
                    self._log_keys.refresh()
                kept += [
                    self._writer.enqueue(document_entry(document, taken_ms=now_ms, origin=origin)).durable
                    for document in self._newly_held(taken.document)
                ]
            results.append((taken.document.digest, None))
        if kept:
            await asyncio.gather(*kept)
        return results

    def kept(self) -> list[documents.Document]:
        """The documents up to the first that the log does not hold yet: what is shown must not be gone after a crash."""
        held = self._trust.documents()
        return list(itertools.takewhile(lambda document: document.digest not in self._writer.unkept, held))

    async def _unlogged(self, identity: bytes) -> bool:
        """Whether a document is held in memory only: the disk failed when it came."""
        if identity in self._writer.pending or not self._trust.holds(identity):
            return False
        return (
            await self._workers.run(self._store.position_of, identity) is None and identity not in self._writer.pending
        )

    def _newly_held(self, document: documents.Document) -> list[documents.Document]:
        """What a document brought into the log: the first agreement brings the party documents it waited for."""
        if not self._trust.holds(document.digest):
            return []
        if document.type == "tocsin/1/agreement" and document.digest == self._trust.lineage:
            return list(self._trust.documents())
        return [document]
