"""Refusals that go back: a node that refuses an envelope of a followed log says so in its own log, to the sender alone.

The sender's node, which follows back, keeps the refusal for its desk (docs/PROTOCOL.md section 8.5).
"""

from collections.abc import Callable
from typing import Final

from exchange import refusal
from exchange.errors import IdentityError, LimitError, ProofError
from exchange.history import node_of
from exchange.node.entries import claimed_sender
from exchange.node.logkeys import LogKeys
from exchange.node.quota import Quotas
from exchange.node.writer import Waiting, Writer
from exchange.store.contract import NewEntry, RefusalRecord, Store
from exchange.v1 import exchange_pb2 as pb
from exchange.workers import Workers
from keys.errors import TocsinError
from keys.trust import Trust

MAX_TEXT: Final = 500


def entry(data: bytes, origin: str = "") -> NewEntry:
    """A SignedRefusal, our own or verified, as a log entry for its desk alone; `origin`: the followed log that held it."""
    body = refusal.body_of(data)
    desk = pb.NodeRefusal.FromString(body).desk
    return NewEntry(kind=pb.ENTRY_KIND_REFUSAL, id=refusal.leaf_of(body), data=data, audience=(desk,), origin=origin)


def refused_id(data: bytes) -> bytes:
    """Which envelope a SignedRefusal that was verified refuses."""
    return pb.NodeRefusal.FromString(refusal.body_of(data)).id


class Refusals:
    """Makes and takes refusals, within bounds: a flood of bad envelopes must not become a flood of log entries.

    Args:
        name: This node.
        trust: Says who is who.
        keys: The log's.
        quotas: Bound what is said about one peer, and what one peer may say.
        readable: Desks for which a node may speak.
        store: The log.
        writer: Puts them into the log.
        workers: Read the store.
        signer: Sign; one call at a time.
        clock: Milliseconds UTC.
    """

    def __init__(
        self,
        name: str,
        *,
        trust: Trust,
        keys: LogKeys,
        quotas: Quotas,
        readable: Callable[[str], frozenset[str]],
        store: Store,
        writer: Writer,
        workers: Workers,
        signer: Workers,
        clock: Callable[[], int],
    ) -> None:
        self._name, self._trust, self._keys, self._quotas, self._readable = name, trust, keys, quotas, readable
        self._store, self._writer, self._workers, self._signer, self._clock = store, writer, workers, signer, clock

    async def refuse(self, refused: pb.Entry, origin: str, error: TocsinError) -> Waiting:
        """Keep the fact that a followed entry was refused, and tell its sender through our log."""
        now_ms, peer = self._clock(), node_of(origin)
        record = RefusalRecord(origin, refused.position, refused.leaf, error.reason, now_ms)
        draft = self._draft(refused, origin, peer, self._readable(peer), error, now_ms)
        said = await self._signer.run(self._sign, draft) if draft else None
        return self._writer.enqueue(said, refusals=[record])

    async def take(self, shown: pb.Entry, origin: str) -> Waiting | None:
        """Keep for a desk of ours that another node refused its envelope; None when it is kept already.

        Raises:
            PeerError: Not a refusal of an envelope of that desk that we hold.
        """
        if shown.leaf in self._writer.pending or await self._position(shown.leaf) is not None:
            return self._writer.pending.get(shown.leaf)
        taken = self._take(shown, origin, node_of(origin), self._readable(self._name), self._clock())
        (desk,) = taken.audience
        position = await self._position(refused_id(taken.data))
        row = None if position is None else await self._workers.run(self._store.get, position)
        if row is None or row.sender != desk:
            raise ProofError("the refusal is of an envelope that the desk did not send through this node")
        return self._writer.pending.get(taken.id) or self._writer.enqueue(taken)

    async def _position(self, identity: bytes) -> int | None:
        return await self._workers.run(self._store.position_of, identity)

    def _draft(
        self, refused: pb.Entry, origin: str, peer: str, desks: frozenset[str], error: TocsinError, now_ms: int
    ) -> pb.NodeRefusal | None:
        """What to tell the sender; None when there is nobody to tell, or enough was said about this peer.

        Args:
            refused: The entry.
            origin: The log that holds it.
            peer: Its node.
            desks: Whom that node may speak for. The sender of an envelope that was refused may be a lie: nobody else
                is told, so that one node cannot have another's desks bothered.
            error: Why.
            now_ms: Milliseconds UTC.
        """
        desk = claimed_sender(refused.data)
        if refused.kind != pb.ENTRY_KIND_ENVELOPE or desk not in desks:
            return None
        if self._quotas.wait_ms(peer, "refusals", 1, now_ms):
            return None
        text = error.words()
        return pb.NodeRefusal(
            origin=origin,
            position=refused.position,
            id=refused.leaf,
            rule=error.reason,
            text=text[:MAX_TEXT],
            time_ms=now_ms,
            node=self._name,
            desk=desk,
        )

    def _sign(self, said: pb.NodeRefusal) -> NewEntry:
        """The refusal as our log entry; blocks for a signature."""
        return entry(refusal.sign(said, self._keys.known))

    def _take(self, shown: pb.Entry, origin: str, peer: str, desks: frozenset[str], now_ms: int) -> NewEntry:
        """A refusal that a followed log holds, as an entry for the desk it is for.

        Args:
            shown: Entry of the followed log.
            origin: That log.
            peer: Its node.
            desks: For whom we take any.
            now_ms: Milliseconds UTC.

        Raises:
            PeerError: It is none, or none for us, or too many came.
        """
        opened = refusal.verify(shown.data, self._trust)
        if opened.leaf != shown.leaf:
            raise ProofError("the leaf is not that refusal")
        if opened.refusal.desk not in desks:
            raise IdentityError("the refusal is for a desk that this node does not serve")
        if self._quotas.wait_ms(f"{peer} to us", "refusals", 1, now_ms):
            raise LimitError(f"{peer} sends too many refusals")
        return entry(shown.data, origin)
