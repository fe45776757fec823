"""What is held of one exchange, and the questions that the takers ask of it."""

from dataclasses import dataclass, field

from keys import documents
from keys.documents import Document
from keys.trust.claims import Components
from keys.trust.errors import EquivocationError, GapError, MissingDocumentError, RollbackError, WrongLineageError
from keys.trust.names import party_of
from keys.trust.views import AgreementView, Card, DeskKey, Ending, RosterView
from keys.v1 import documents_pb2 as pb


@dataclass(slots=True)
class PartyChain:
    """One party's documents, oldest first; of statuses the newest alone."""

    parties: list[tuple[Document, pb.Party]] = field(default_factory=list)
    rosters: list[RosterView] = field(default_factory=list)
    status: tuple[Document, pb.Status] | None = None
    status_issues_ms: list[int] = field(default_factory=list)
    """Issue times of the statuses of the last day that were taken."""
    voided_ms: int = 0
    """When the Party document was issued that voided the last status; 0 = never. It stands in until the next status."""
    ended: dict[bytes, RosterView] = field(default_factory=dict)
    """Keys that the newest generation ended, and the first roster that did."""

    def append(self, view: RosterView) -> None:
        """The next roster. A new generation starts afresh, so that a thief of the roster keys ends nobody."""
        if self.rosters and self.rosters[-1].body.generation != view.body.generation:
            self.ended.clear()
        self.rosters.append(view)
        for key in view.revoked | view.tainted:
            self.ended.setdefault(key, view)

    @property
    def current(self) -> pb.Party:
        """The newest Party document."""
        return self.parties[-1][1]

    @property
    def newest(self) -> RosterView | None:
        """The newest roster."""
        return self.rosters[-1] if self.rosters else None

    @property
    def standing(self) -> list[RosterView]:
        """Rosters of the newest roster's generation: those of earlier ones are void."""
        return [view for view in self.rosters if view.body.generation == self.rosters[-1].body.generation]


@dataclass(slots=True)
class Held:
    """Every document held, indexed. Only takers write; what is refused has changed nothing."""

    lineage: bytes
    agreements: list[AgreementView] = field(default_factory=list)
    annexes: list[tuple[Document, pb.Annex]] = field(default_factory=list)
    chains: dict[str, PartyChain] = field(default_factory=dict)
    candidates: dict[bytes, tuple[Document, pb.Party]] = field(default_factory=dict)
    rosters: dict[bytes, RosterView] = field(default_factory=dict)
    cards: dict[tuple[str, int], Card] = field(default_factory=dict)
    renounced: dict[bytes, Document] = field(default_factory=dict)
    keys_by_id: dict[bytes, tuple[str, DeskKey]] = field(default_factory=dict)
    components: Components = field(default_factory=dict)
    digests: set[bytes] = field(default_factory=set)
    arrivals: dict[bytes, int] = field(default_factory=dict)
    """When each document came to this side, ms UTC."""
    order: list[Document] = field(default_factory=list)

    def hold(self, document: Document) -> None:
        """Hold a verified document."""
        self.digests.add(document.digest)
        self.order.append(document)

    def require_lineage(self, lineage: bytes, what: str) -> None:
        """Refuse a document of another exchange.

        Raises:
            WrongLineageError: It is.
        """
        if lineage != self.lineage:
            raise WrongLineageError(f"the {what} belongs to another exchange", lineage=lineage.hex())

    def newest_agreement(self) -> AgreementView:
        """The agreement with the highest version, in force or not yet.

        Raises:
            MissingDocumentError: None is held.
        """
        if not self.agreements:
            raise MissingDocumentError("no agreement held yet")
        return self.agreements[-1]

    def agreement(self, now_ms: int) -> AgreementView:
        """The agreement in force at a time: the newest whose effective time has come, else the first.

        Raises:
            MissingDocumentError: None is held.
        """
        self.newest_agreement()
        in_force = [a for a in self.agreements if a.body.effective_time_ms <= now_ms]
        return in_force[-1] if in_force else self.agreements[0]

    def claimed_chain(self, document: Document) -> PartyChain:
        """The chain of the party an unverified document names.

        Raises:
            MissingDocumentError: It is no party, or the agreement is not held yet.
        """
        chain = self.chains.get(getattr(documents.peek(document), "party", ""))
        if chain is None:
            raise MissingDocumentError("a document of a country that is no party, or before the agreement")
        return chain

    def chain_of(self, name: str) -> PartyChain | None:
        """The chain of the party of a mission, desk or node."""
        return self.chains.get(party_of(name))

    def key_ended(self, desk: str, key: bytes) -> str | None:
        """Why a signing key counts no longer by the newest documents; None while it does.

        Source: docs/PROTOCOL.md section 4.6 ("revocation by the newest").
        """
        endings = self.endings(desk, key)
        return endings[0].why if endings else None

    def endings(self, desk: str, key: bytes) -> tuple[Ending, ...]:
        """The renunciation of a key and the first roster that ends it; what came later changes nothing."""
        found = []
        if key in self.renounced:
            document = self.renounced[key]
            claimed_ms = documents.body(document, pb.Renunciation).time_ms
            found.append(Ending(document.digest, claimed_ms, "renounced by its desk"))
        chain = self.chain_of(desk)
        first = chain.ended.get(key) if chain else None
        if chain is not None and first is not None:
            # Never undone within a generation, whatever later rosters list.
            standing = chain.standing
            revoked = any(key in view.revoked for view in standing)
            why = "revoked by its party" if revoked else "tainted: its party suspects it"
            claims = [r.time_ms for view in standing for r in view.body.revocations if r.key == key and r.time_ms]
            found.append(Ending(first.document.digest, min([first.body.issue_time_ms, *claims]), why))
        return tuple(found)


def check_chain(
    what: str, version: int, previous: bytes, held: int, held_digest: bytes, known: bytes | None, document: Document
) -> None:
    """A chain goes up by exactly one and names the digest before (docs/PROTOCOL.md section 4.3).

    Args:
        what: "agreement", "kr roster", for the message.
        version: Claimed by the document.
        previous: Claimed by the document.
        held: Newest version held, 0 = none.
        held_digest: Its digest, empty = none.
        known: Digest held at the claimed version, if any.
        document: The one to take.

    Raises:
        RollbackError: Not above what is held.
        GapError: Something in between is missing.
        EquivocationError: Another document, or another predecessor, at a version that is held.
    """
    if version == held + 1 and previous == held_digest:
        return
    if version <= held:
        if known is not None and known != document.digest:
            raise EquivocationError(f"two documents claim {what} version {version}; the first stays")
        raise RollbackError(f"{what} version {version}; held is {held}")
    if version > held + 1:
        raise GapError(f"{what} version {version} comes after {held}: a chain goes up by one")
    raise EquivocationError(f"{what} version {version} names another predecessor than the one held")
