"""What verified documents say, as values: indexed once, never changed."""

from collections.abc import Mapping
from dataclasses import dataclass

from keys.documents import Document
from keys.v1 import documents_pb2 as pb


@dataclass(frozen=True, slots=True)
class DeskKey:
    """A desk's signing key as a roster lists it; times in ms UTC, `last_use_ms` 0 = open."""

    id: bytes
    suite: int
    public: bytes
    state: int
    first_use_ms: int
    last_use_ms: int


@dataclass(frozen=True, slots=True)
class Desk:
    """A desk with its good keys. `held_until_ms`: when it may enter audiences."""

    name: str
    mission: str
    keys: Mapping[bytes, DeskKey]
    held_until_ms: int


@dataclass(frozen=True, slots=True)
class RosterView:
    """A verified roster, indexed."""

    document: Document
    body: pb.Roster
    desks: Mapping[str, Desk]
    missions: Mapping[str, pb.Mission]
    nodes: Mapping[str, pb.Node]
    revoked: frozenset[bytes]
    tainted: frozenset[bytes]
    disabled: Mapping[str, str]
    """Desks none of whose keys passed the admission checks, and why; they alone are out."""
    widens: bool
    """Whether a desk is new, or its mission of another kind, against the roster before: more may read."""

    @property
    def party(self) -> str:
        """The issuing party."""
        return self.body.party

    @property
    def number(self) -> tuple[int, int]:
        """Generation and version: what rosters of a party are ordered by."""
        return self.body.generation, self.body.version


@dataclass(frozen=True, slots=True)
class AgreementView:
    """A verified agreement, its rules by channel."""

    document: Document
    body: pb.Agreement
    channels: Mapping[str, pb.ChannelRule]

    @property
    def digest(self) -> bytes:
        """Its identity, 32 bytes."""
        return self.document.digest


@dataclass(frozen=True, slots=True)
class Card:
    """A verified key card."""

    digest: bytes
    desk: str
    week: int
    public: bytes
    signed_by: bytes
    taken_ms: int


@dataclass(frozen=True, slots=True)
class Ending:
    """A document that ended a key. `claimed_ms` is the earliest time it names for that: a claim, no more."""

    document: bytes
    claimed_ms: int
    why: str


@dataclass(frozen=True, slots=True)
class Death:
    """People said on this machine, at `told_ms` (ms UTC), that the exchange of lineage `successor` took this one's place."""

    successor: bytes
    told_ms: int


@dataclass(frozen=True, slots=True)
class Taken:
    """What taking a document changed: `new` False when it was held already; `events` are for people and alarms."""

    document: Document
    new: bool
    events: tuple[str, ...] = ()
