"""Refusals that go back: a node that refuses an envelope of a followed log says so in its own log, to the sender alone.

The sender's node, which follows back, keeps the refusal for its desk (docs/PROTOCOL.md section 8.5).
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError

from exchange.errors import IdentityError, LimitError, ProofError
from exchange.node.entries import claimed_sender
from exchange.node.logkeys import LogKeys
from exchange.node.quota import Quotas
from exchange.store.contract import NewEntry
from exchange.v1 import exchange_pb2 as pb
from keys import suite
from keys.encoding import digest, pae, parse_canonical
from keys.errors import SignatureError, TocsinError
from keys.suite import Signer
from keys.trust import Trust

LABEL: Final = "tocsin/1/refusal"
MAX_TEXT: Final = 500
MAX_BYTES: Final = 16_384


@dataclass(frozen=True, slots=True)
class Opened:
    """A refusal whose signature was checked, and its log leaf."""

    refusal: pb.NodeRefusal
    leaf: bytes


def sign(refusal: pb.NodeRefusal, key: Signer) -> NewEntry:
    """A refusal as a log entry for its desk alone."""
    body = refusal.SerializeToString(deterministic=True)
    signed = pb.SignedRefusal(refusal=body, signature=key.sign(pae(LABEL, body), ctx=LABEL))
    return _entry(signed.SerializeToString(deterministic=True), body, refusal.desk)


def verify(data: bytes, trust: Trust) -> Opened:
    """Read a SignedRefusal.

    Raises:
        NotCanonicalError: Not in canonical form.
        ProofError: Too long, or of a node that is in no roster.
        SignatureError: Not signed by that node's log key.
    """
    if len(data) > MAX_BYTES:
        raise ProofError("the refusal is too long")
    signed = parse_canonical(pb.SignedRefusal, data)
    hint = pb.NodeRefusal()
    try:
        # The name chooses the key; all else is read once the signature holds.
        hint.ParseFromString(signed.refusal)
    except DecodeError:
        raise ProofError("the bytes are no refusal") from None
    if trust.node(hint.node) is None:
        raise ProofError("the refusal is of a node that is in no roster")
    _require_signed(signed, trust, hint.node)
    return Opened(parse_canonical(pb.NodeRefusal, signed.refusal), leaf_of(signed.refusal))


def _require_signed(signed: pb.SignedRefusal, trust: Trust, node: str) -> None:
    # A follower that was away reads what was signed before the key was replaced.
    for key in trust.log_keys(node):
        with suppress(SignatureError):
            suite.verify(key.suite, key.key, pae(LABEL, signed.refusal), signed.signature, ctx=LABEL)
            return
    raise SignatureError(f"the refusal is signed by no log key of {node}")


def refused_id(data: bytes) -> bytes:
    """Which envelope a SignedRefusal that was verified refuses."""
    return pb.NodeRefusal.FromString(pb.SignedRefusal.FromString(data).refusal).id


def leaf_of(body: bytes) -> bytes:
    """The log leaf of a refusal: its signature is not part of it."""
    return digest(b"\x00" + pae(LABEL, body))


def _entry(data: bytes, body: bytes, desk: str, origin: str = "") -> NewEntry:
    return NewEntry(kind=pb.ENTRY_KIND_REFUSAL, id=leaf_of(body), data=data, audience=(desk,), origin=origin)


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

    def sign(self, refusal: pb.NodeRefusal) -> NewEntry:
        """The refusal as our log entry; blocks for a signature."""
        return sign(refusal, self._keys.known)

    def take(self, entry: pb.Entry, origin: str, peer: str, desks: frozenset[str], now_ms: int) -> NewEntry:
        """A refusal that a followed log holds, as an entry for the desk it is for.

        Args:
            entry: Of the followed log.
            origin: That log.
            peer: Its node.
            desks: For whom we take any.
            now_ms: Milliseconds UTC.

        Raises:
            PeerError: It is none, or none for us, or too many came.
        """
        opened = verify(entry.data, self._trust)
        if opened.leaf != entry.leaf:
            raise ProofError("the leaf is not that refusal")
        if opened.refusal.desk not in desks:
            raise IdentityError("the refusal is for a desk that this node does not serve")
        if self._quotas.wait_ms(f"{peer} to us", "refusals", 1, now_ms):
            raise LimitError(f"{peer} sends too many refusals")
        body = pb.SignedRefusal.FromString(entry.data).refusal
        return _entry(entry.data, body, opened.refusal.desk, origin)
