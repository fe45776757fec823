"""Refusals that go back: a node that refuses an envelope of a followed log says so in its own log, to the sender alone.

The sender's node, which follows back, keeps the refusal for its desk (docs/PROTOCOL.md section 8.5).
"""

from typing import Final

from exchange import refusal
from exchange.errors import IdentityError, LimitError, ProofError
from exchange.node.entries import claimed_sender
from exchange.node.logkeys import LogKeys
from exchange.node.quota import Quotas
from exchange.store.contract import NewEntry
from exchange.v1 import exchange_pb2 as pb
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
    """

    def __init__(self, name: str, *, trust: Trust, keys: LogKeys, quotas: Quotas) -> None:
        self._name, self._trust, self._keys, self._quotas = name, trust, keys, quotas

    def draft(
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

    def sign(self, said: pb.NodeRefusal) -> NewEntry:
        """The refusal as our log entry; blocks for a signature."""
        return entry(refusal.sign(said, self._keys.known))

    def take(self, shown: pb.Entry, origin: str, peer: str, desks: frozenset[str], now_ms: int) -> NewEntry:
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
