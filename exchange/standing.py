"""Standing: does an envelope under a key that ended still count (docs/PROTOCOL.md section 4.7). No I/O.

A stolen key backdates and an owner repudiates; what neither can move is the place of the envelope in a log of another
party, under a head that the owner's own side cosigned before the word that ended the key came into that log.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Final

from exchange import checkpoint
from exchange.checkpoint import Checkpoint
from exchange.errors import ProofError
from exchange.history import node_of
from exchange.merkle import verify_consistency, verify_inclusion
from exchange.v1 import envelope_pb2 as pb
from exchange.v1 import evidence_pb2 as evidence
from keys.trust import Ending, Trust, party_of

MAX_HEADS: Final = 8
MAX_PLACES: Final = 8


class Verdict(Enum):
    """What an envelope is worth after its key ended."""

    COUNTED = "counted"
    DISPUTED = "disputed"
    """It counts; its party claims that the key was lost before. Claims move nothing."""
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Standing:
    """A verdict and why, in words."""

    verdict: Verdict
    reason: str

    @property
    def counts(self) -> bool:
        """Whether the envelope is to be relied on."""
        return self.verdict is not Verdict.REFUSED


@dataclass(frozen=True, slots=True)
class Head:
    """A head of a log with its cosignatures; `consistency` proves that it extends the head before it."""

    note: bytes
    consistency: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a leaf is: position and inclusion proof in the last head's tree."""

    leaf: bytes
    position: int
    proof: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Position:
    """What is shown of one log: heads by ascending size, places in the last one's tree. Unverified."""

    heads: tuple[Head, ...]
    places: tuple[Place, ...]

    @classmethod
    def from_view(cls, view: evidence.LogView) -> "Position":
        """As a node answers and as evidence carries it."""
        return cls(
            tuple(Head(head.note, tuple(head.consistency)) for head in view.heads[: MAX_HEADS + 1]),
            tuple(Place(place.leaf, place.position, tuple(place.proof)) for place in view.places[: MAX_PLACES + 1]),
        )

    def view(self) -> evidence.LogView:
        """The same as a message."""
        view = evidence.LogView()
        for head in self.heads:
            view.heads.add(note=head.note, consistency=head.consistency)
        for place in self.places:
            view.places.add(leaf=place.leaf, position=place.position, proof=place.proof)
        return view


def standing(header: pb.Header, identity: bytes, position: Position | None, trust: Trust) -> Standing:
    """Whether an envelope counts by the newest documents held and its place in a log.

    Args:
        header: Verified, with the pinned rights checked.
        identity: The envelope's id, 32 bytes.
        position: What is shown of a log of another party than the sender's; None when nothing is.
        trust: The documents held.
    """
    endings = trust.endings(header.sender, header.key)
    if not endings:
        return Standing(Verdict.COUNTED, "its key has not ended")
    words = f"the key of {header.sender} is {endings[0].why}"
    if position is None:
        return Standing(Verdict.REFUSED, f"{words}, and no log of another party is shown that held it before")
    try:
        place = _derive(header, identity, position, endings, trust)
    except ProofError as error:
        return Standing(Verdict.REFUSED, f"{words}: {error}")
    claimed = min(ending.claimed_ms for ending in endings)
    if claimed <= header.create_time_ms:
        return Standing(Verdict.DISPUTED, f"{words} and claimed lost before it was made; {place}")
    return Standing(Verdict.COUNTED, f"{words} since; {place}")


def _derive(header: pb.Header, identity: bytes, position: Position, endings: Sequence[Ending], trust: Trust) -> str:
    party = party_of(header.sender)
    heads, node = _heads(position, trust)
    if party_of(node) == party:
        raise ProofError(f"the log of {node} is its own party's: it proves nothing", log=node)
    places = _places(position, heads[-1])
    if identity not in places:
        raise ProofError(f"its place in the log of {node} is not shown", log=node)
    if any(ending.document not in places for ending in endings):
        raise ProofError(f"the log of {node} is not shown to hold what ended the key", log=node)
    at, ended_at = places[identity], min(places[ending.document] for ending in endings)
    for shown, head in zip(position.heads, heads, strict=True):
        if covers(head.size, at, ended_at) and (cosigner := _cosigner(shown.note, head, party, trust)):
            return f"{node} held it at {at}, below the {head.size} that {cosigner} cosigned before"
    raise ProofError(f"no node of {party} cosigned a head of {node} that holds it before the key ended", log=node)


def _heads(position: Position, trust: Trust) -> tuple[list[Checkpoint], str]:
    """The heads, each signed by the log's node and extending the one before."""
    if not 1 <= len(position.heads) <= MAX_HEADS:
        raise ProofError(f"a log is shown by 1 to {MAX_HEADS} heads")
    heads = [checkpoint.parse(head.note) for head in position.heads]
    node = node_of(heads[0].origin)
    for shown, head in zip(position.heads, heads, strict=True):
        if head.origin != heads[0].origin:
            raise ProofError("the heads are of two logs")
        _require_signed(shown.note, node, trust)
    for (old, new), shown in zip(pairwise(heads), position.heads[1:], strict=True):
        verify_consistency(old.size, new.size, old.root, new.root, shown.consistency)
    return heads, node


def covers(size: int, position: int, ended: int) -> bool:
    """Whether a head of that size holds the envelope, and was there before what ended the key."""
    return position < size <= ended


def _require_signed(note: bytes, node: str, trust: Trust) -> None:
    for key in trust.log_keys(node):
        try:
            checkpoint.verify(note, key.suite, key.key, name=node)
        except ProofError:
            continue
        return
    raise ProofError(f"the head is not signed by {node}", signer=node)


def _cosigner(note: bytes, head: Checkpoint, party: str, trust: Trust) -> str | None:
    """A node of the party that validly cosigned the head."""
    for name in dict.fromkeys(name for name, _, _ in head.signatures if party_of(name) == party):
        for key in trust.log_keys(name):
            try:
                checkpoint.verify_cosignature(note, key.suite, key.key, name=name)
            except ProofError:
                continue
            return name
    return None


def _places(position: Position, head: Checkpoint) -> dict[bytes, int]:
    """Position by leaf, each proved; of a leaf shown twice the first in the log."""
    if not 1 <= len(position.places) <= MAX_PLACES:
        raise ProofError(f"a log is shown with 1 to {MAX_PLACES} places")
    places: dict[bytes, int] = {}
    for place in position.places:
        verify_inclusion(place.leaf, place.position, head.size, place.proof, head.root)
        places[place.leaf] = min(place.position, places.get(place.leaf, place.position))
    return places
