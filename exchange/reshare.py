"""Re-shares: items of an earlier envelope for a colleague who could not open it, with its signature and their proofs. No I/O.

Whoever passes them on vouches for nothing: what its sender signed proves who said them, and that nothing was changed.
Source: docs/PROTOCOL.md section 10.1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError

from exchange import envelope, merkle
from exchange.admission import Admission
from exchange.errors import AudienceError, EnvelopeError, PolicyError
from exchange.evidence.build import path_of
from exchange.rights import Answered
from exchange.v1 import envelope_pb2 as env
from exchange.v1 import report_pb2 as rep
from keys.encoding import canonical_bytes, parse_canonical
from keys.trust import party_of
from keys.v1 import documents_pb2 as docs

KINDS: Final = frozenset({"report", "alert", "consultation"})
"""What may be passed on: what steers the exchange was for its first readers alone."""


@dataclass(frozen=True, slots=True)
class Reshared:
    """Items of an earlier envelope: (index, item as carried), by ascending index. `header` is the earlier one's."""

    id: bytes
    header: env.Header
    items: tuple[tuple[int, bytes], ...]


def make(outer: bytes, items: Sequence[bytes], salt_seed: bytes, indexes: Sequence[int]) -> rep.Reshare:
    """Pass on some items of an envelope.

    Args:
        outer: The envelope, pruned.
        items: Every item of it, in order.
        salt_seed: As `envelope.open_whole` or `envelope.seal` gave it.
        indexes: Of the items to pass on, ascending.
    """
    pruned = parse_canonical(env.Pruned, outer)
    shell = env.Envelope(
        suite=pruned.suite,
        key=pruned.key,
        header=pruned.header,
        commitment=pruned.commitment,
        items_root=pruned.items_root,
        signature=pruned.signature,
    )
    said = rep.Reshare(
        envelope=canonical_bytes(shell),
        wraps_digest=pruned.wraps_digest,
        ciphertext_digest=pruned.ciphertext_digest,
        ciphertext_length=pruned.ciphertext_length,
        item_count=len(items),
    )
    salts, leaves = envelope.salts_of(salt_seed, len(items)), envelope.item_leaves(salt_seed, items)
    for index in indexes:
        said.items.add(index=index, salt=salts[index], item=items[index], proof=path_of(leaves, index))
    return said


def read(said: rep.Reshare) -> Reshared:
    """What a re-share says, unverified: of one that was verified when it was archived.

    Raises:
        EnvelopeError: It has not the form of one.
    """
    shell = _shell(said)
    try:
        header = env.Header.FromString(shell.outer.header)
    except DecodeError:
        raise EnvelopeError("the header of what is passed on cannot be read") from None
    return Reshared(shell.id, header, tuple((one.index, one.item) for one in said.items))


def verify(
    said: rep.Reshare, carrier: env.Header, admission: Admission, *, reader: str, answered: Answered
) -> Reshared:
    """Check a re-share as its reader.

    Args:
        said: The item.
        carrier: Header of the envelope it came in, admitted.
        admission: The rules, over the reader's documents.
        reader: The desk that was given it.
        answered: Finds the header of a held envelope.

    Raises:
        PeerError: The subclass names the rule.
    """
    if not carrier.answers or party_of(carrier.sender) != party_of(reader):
        raise PolicyError("a re-share is an answer of a desk of the reader's own party", desk=carrier.sender)
    checked = admission.judge(_shell(said), answered=answered)
    header = checked.header
    # As an answer the carrier stands on the channel and at the marking of an envelope that the reader was meant to read.
    if (header.channel, header.marking) != (carrier.channel, carrier.marking):
        raise AudienceError("what is passed on is of another channel or marking than it is passed on at")
    if header.marking == docs.MARKING_RED or header.answers or header.sender == reader:
        raise PolicyError("RED and answers are not passed on, and nothing to its own sender", desk=carrier.sender)
    indexes = [one.index for one in said.items]
    if not indexes or indexes != sorted(set(indexes)) or said.item_count > envelope.MAX_ITEMS:
        raise EnvelopeError("the items passed on stand by ascending index")
    for one in said.items:
        if kind_of(one.item) not in KINDS:
            raise PolicyError("only reports, alerts and consultations are passed on", desk=carrier.sender)
        if len(one.salt) != envelope.SALT_BYTES:
            raise EnvelopeError(f"a salt is {envelope.SALT_BYTES} bytes")
        leaf, root = envelope.item_leaf(one.salt, one.item), checked.checked.parsed.outer.items_root
        merkle.verify_inclusion(leaf, one.index, said.item_count, list(one.proof), root)
    return Reshared(checked.id, header, tuple((one.index, one.item) for one in said.items))


def kind_of(raw: bytes) -> str:
    """The kind of an item; empty for what this version does not read."""
    item = rep.Item()
    try:
        item.ParseFromString(raw)
    except DecodeError:
        return ""
    return item.WhichOneof("kind") or ""


def _shell(said: rep.Reshare) -> envelope.Shell:
    return envelope.parse_shell(
        said.envelope,
        wraps_digest=said.wraps_digest,
        ciphertext_digest=said.ciphertext_digest,
        ciphertext_length=said.ciphertext_length,
    )
