"""Positions: where this log holds an envelope, and under which cosigned head it did before its key ended.

Source: docs/PROTOCOL.md section 4.7.
"""

from collections.abc import Callable, Sequence

from exchange import checkpoint
from exchange.errors import LimitError
from exchange.node.witness import Witnesses
from exchange.standing import MAX_PLACES, Head, Place, Position, covers
from exchange.store.contract import Store
from exchange.workers import Workers
from keys.trust import Trust


class Positions:
    """What a node shows of its own log.

    Args:
        store: The log.
        trust: Says what ends a key.
        witnesses: Cosignatures of other parties' nodes.
        workers: Read the store.
        head: The newest signed note and its size.
    """

    def __init__(
        self,
        store: Store,
        trust: Trust,
        witnesses: Witnesses,
        workers: Workers,
        head: Callable[[], tuple[bytes, int]],
    ) -> None:
        self._store, self._trust, self._witnesses, self._workers, self._head = store, trust, witnesses, workers, head

    async def freeze(self, document: bytes) -> None:
        """Keep what a party cosigned, before a document that ends a key of it enters the log.

        Args:
            document: Digest of a document that Trust has taken and the log has not.
        """
        for party in self._trust.parties if self._trust.founded else ():
            if document in self._trust.party_endings(party):
                await self._witnesses.freeze(party, document)

    async def show(self, leaf: bytes, endings: Sequence[bytes]) -> Position:
        """The newest head that was cosigned before any of the endings came, the newest head, and the places.

        Args:
            leaf: Envelope id.
            endings: Digests of the documents that ended its sender's key.

        Raises:
            LimitError: One of them is not in the log, or more are asked for than are shown.
        """
        if not 1 <= len(endings) < MAX_PLACES:
            raise LimitError(f"a position is shown with 1 to {MAX_PLACES - 1} endings")
        note, size = self._head()
        return await self._workers.run(self._show, leaf, tuple(endings), note, size)

    def at_once(self, leaf: bytes, endings: tuple[bytes, ...]) -> Position:
        """Like `show`, for whoever is in a thread already; blocks."""
        note, size = self._head()
        return self._show(leaf, endings, note, size)

    def _show(self, leaf: bytes, endings: tuple[bytes, ...], note: bytes, size: int) -> Position:
        places = [self._place(identity, size) for identity in (leaf, *endings)]
        ended = min(place.position for place in places[1:])
        kept = [found for ending in endings if (found := self._witnesses.before(ending))]
        sizes = [checkpoint.parse(found).size for found in kept]
        usable = [one for one in zip(sizes, kept, strict=True) if covers(one[0], places[0].position, ended)]
        if not usable:
            return Position((Head(note),), tuple(places))
        cosigned, before = max(usable)
        grown = Head(note, tuple(self._store.consistency(cosigned, size)))
        return Position((Head(before), grown), tuple(places))

    def _place(self, identity: bytes, size: int) -> Place:
        position = self._store.position_of(identity)
        if position is None or position >= size:
            raise LimitError("this log does not hold that entry, or what ended its key")
        return Place(identity, position, tuple(self._store.inclusion(position, size)))
