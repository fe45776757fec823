"""Which log of each peer is followed: a peer that was restored from a backup goes on in a new one."""

import contextlib

from exchange import history
from exchange.errors import ProofError
from exchange.history import node_of
from exchange.node.clashes import Clashes
from exchange.node.writer import Writer
from exchange.store.contract import Store
from keys.errors import UsageError


class Followed:
    """The log of each peer that is followed: its first, or the newest that was found to continue it.

    Args:
        store: Remembers how far each was followed.
        clashes: Logs that deny what was seen of the one before.
        writer: Makes a person's decision durable.
    """

    def __init__(self, store: Store, clashes: Clashes, writer: Writer) -> None:
        self._store, self._clashes, self._writer = store, clashes, writer
        self._origins: dict[str, str] = {}

    def load(self) -> None:
        """Take from the store which were followed; blocks."""
        for origin in self._store.cursors():
            peer = node_of(origin)
            if history.number_of(origin, peer) > history.number_of(self.of(peer), peer):
                self._origins[peer] = origin

    def of(self, peer: str) -> str:
        """Origin of the log of a peer that is followed."""
        return self._origins.get(peer, history.origin_of(peer, 1))

    def go_on(self, peer: str, origin: str) -> None:
        """Another log of a peer is followed from now on; its cursor and checkpoint are durable."""
        self._origins[peer] = origin

    def after(self, origin: str) -> str:
        """The log of another node that is followed in place of one of its logs; that one itself when it is not over."""
        with contextlib.suppress(ProofError):
            return self._origins.get(node_of(origin), origin)
        return origin

    async def accept(self, origin: str) -> None:
        """Follow a peer's log though it does not continue the one that was seen: a person decided. The evidence stays.

        Raises:
            UsageError: No such log was refused.
        """
        shown = [clash.shown for clash in self._clashes.held if clash.shown.head.origin == origin]
        if not shown or self._overtaken(origin):
            raise UsageError(
                f"no log {origin!r} after the one that is followed was refused",
                hint="see `clashes` of `tocsin node status`",
            )
        newest = max(shown, key=lambda seen: seen.head.size)
        await self._writer.enqueue(None, {origin: 0}, {origin: newest.note}).durable
        self.go_on(node_of(origin), origin)

    def _overtaken(self, origin: str) -> bool:
        peer = node_of(origin)
        return history.number_of(origin, peer) <= history.number_of(self.of(peer), peer)
