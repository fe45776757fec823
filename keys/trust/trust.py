"""Trust, the face of the chains: who is this key, what may it, since and until when."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from threading import Lock
from typing import Final

from keys.documents import Document, peek
from keys.errors import PeerError
from keys.trust import agreement, annex, cards, party, roster, status
from keys.trust.errors import DeadLineageError, MissingDocumentError, TrustError, WrongLineageError
from keys.trust.held import Held, PartyChain
from keys.trust.names import MAX_NAME_BYTES, mission_of, party_of
from keys.trust.views import AgreementView, Card, Death, DeskKey, Ending, RosterView, Taken
from keys.v1 import documents_pb2 as pb

TAKERS: Final[Mapping[str, Callable[[Held, Document, int], tuple[str, ...]]]] = {
    "tocsin/1/agreement": agreement.take,
    "tocsin/1/party": party.take,
    "tocsin/1/roster": roster.take,
    "tocsin/1/status": status.take,
    "tocsin/1/annex": annex.take,
    "tocsin/1/card": cards.take,
    "tocsin/1/renunciation": cards.take_renunciation,
}

GIVE_RIGHTS: Final = frozenset({"tocsin/1/agreement", "tocsin/1/party", "tocsin/1/roster", "tocsin/1/annex"})


class Trust:
    """Everything a node or a desk knows of who is who in one exchange.

    Args:
        lineage: Digest of agreement version 1, compared out of band, all 32 bytes.
    """

    def __init__(self, lineage: bytes) -> None:
        if len(lineage) != 32:
            raise WrongLineageError("a lineage is 32 bytes")
        self.lineage = lineage
        self.version = 0
        """Raised with every change; caches key on it."""
        self.death: Death | None = None
        """Set once people said that the exchange is dead."""
        self._held = Held(lineage)
        # A desk takes documents in whichever thread they arrive: of the same one in two threads one is new.
        self._taking = Lock()

    # ---- taking

    def take(self, document: Document, *, now_ms: int, taken_ms: int | None = None) -> Taken:
        """Verify a document, and hold it if it extends its chain.

        Args:
            document: From anyone.
            now_ms: Milliseconds UTC.
            taken_ms: When this side took it first, where a machine of ours knows: its own disk, its node; else now.

        Raises:
            TrustError: Or another PeerError, saying which rule; nothing changes then.

        Source: docs/PROTOCOL.md section 4; TUF 5.3 and 6.1 for rollback, freeze, fast-forward, mix-and-match.
        """
        with self._taking:
            return self._take(document, now_ms, taken_ms)

    def _take(self, document: Document, now_ms: int, taken_ms: int | None) -> Taken:
        came_ms = now_ms if taken_ms is None else min(taken_ms, now_ms)
        if document.digest in self._held.digests or document.digest in self._held.candidates:
            # A status that a newer one replaced is known, and nobody asks any more when it came.
            if taken_ms is not None and document.digest in self._held.arrivals:
                self._held.arrivals[document.digest] = min(came_ms, self._held.arrivals[document.digest])
            return Taken(document, new=False)
        if self.death is not None and document.type in GIVE_RIGHTS:
            # Whoever finds the lost roots could else give himself desks and nodes here, or end those of others.
            raise DeadLineageError(self.death.successor, "takes no document that gives rights any more")
        taker = TAKERS.get(document.type)
        if taker is None:
            raise TrustError(f"{document.type} is not taken by this version")
        try:
            self._held.arrivals[document.digest] = came_ms
            events = taker(self._held, document, now_ms)
        except PeerError as error:
            del self._held.arrivals[document.digest]
            _name_document(error, document)
            raise
        self.version += 1
        return Taken(document, new=True, events=events)

    def end(self, successor: bytes, *, told_ms: int) -> None:
        """The exchange is dead: from now on it takes no document that gives rights, and admission no new envelope.

        Args:
            successor: Lineage of the exchange that took its place (`keys.succession.verify`).
            told_ms: When people said so on this machine, ms UTC.

        Raises:
            DeadLineageError: Another one took its place already.
        """
        if self.death is not None and self.death.successor != successor:
            raise DeadLineageError(self.death.successor, "no third one can replace")
        if self.death is None:
            self.death = Death(successor, told_ms)
            self.version += 1

    def rehearse(self, document: Document, *, now_ms: int) -> tuple[str, ...]:
        """What taking a roster would say if it were signed, so that nobody signs one that is refused. Nothing changes.

        Raises:
            TrustError: Or another PeerError: it would be refused, signed or not.
        """
        return roster.rehearse(self._held, document, now_ms)

    # ---- reading

    def documents(self) -> Sequence[Document]:
        """Every document held, in an order in which another Trust can take them."""
        return tuple(self._held.order)

    def holds(self, digest: bytes) -> bool:
        """Whether a document is held."""
        return digest in self._held.digests

    def taken_ms(self, digest: bytes) -> int:
        """When a document that is held came to this side, ms UTC."""
        return self._held.arrivals[digest]

    @property
    def founded(self) -> bool:
        """Whether the first agreement is held."""
        return bool(self._held.agreements)

    @property
    def parties(self) -> tuple[str, ...]:
        """The parties of the newest agreement, sorted."""
        return tuple(p.party for p in self._held.newest_agreement().body.parties)

    @property
    def agreements(self) -> tuple[AgreementView, ...]:
        """Every agreement held, oldest first."""
        return tuple(self._held.agreements)

    def agreement(self, now_ms: int) -> AgreementView:
        """The agreement in force at a time: the newest whose effective time has come, else the first.

        Raises:
            MissingDocumentError: None is held.
        """
        return self._held.agreement(now_ms)

    def annex(self, now_ms: int) -> pb.Annex | None:
        """The annex in force at a time; None before the first."""
        in_force = [body for _, body in self._held.annexes if body.effective_time_ms <= now_ms]
        return in_force[-1] if in_force else None

    def find_agreement(self, digest: bytes) -> AgreementView:
        """A held agreement by digest.

        Raises:
            MissingDocumentError: Not held.
        """
        for view in reversed(self._held.agreements):
            if view.digest == digest:
                return view
        raise MissingDocumentError("the pinned agreement is not held", digest=digest.hex())

    def agreement_ends_ms(self, view: AgreementView) -> int:
        """From when (exclusive) envelopes pinning it are refused: the successor's effective time + grace, or expiry."""
        index = view.body.version
        if index < len(self._held.agreements):
            successor = self._held.agreements[index].body
            return min(view.body.expire_time_ms, successor.effective_time_ms + successor.grace_ms)
        return view.body.expire_time_ms

    def roster(self, party: str) -> RosterView:
        """The newest roster of a party.

        Raises:
            MissingDocumentError: None is held.
        """
        chain = self._held.chains.get(party)
        if chain is None or not chain.rosters:
            raise MissingDocumentError(f"no roster of {party} is held", party=party)
        return chain.rosters[-1]

    def has_roster(self, party: str) -> bool:
        """Whether any roster of a party is held."""
        return party in self._held.chains and bool(self._held.chains[party].rosters)

    def find_roster(self, digest: bytes) -> RosterView:
        """A held roster by digest, newest or not.

        Raises:
            MissingDocumentError: Not held.
        """
        view = self._held.rosters.get(digest)
        if view is None:
            raise MissingDocumentError("a pinned roster is not held", digest=digest.hex())
        return view

    def superseded_ms(self, view: RosterView) -> int | None:
        """When the next roster of the party was issued or came here, whichever is later; None while this is the newest.

        By its issue alone, one dated back would refuse at once all that was sealed before anyone could know of it.
        """
        rosters = self._held.chains[view.party].rosters
        for older, newer in pairwise(rosters):
            if older is view:
                return max(newer.body.issue_time_ms, self.taken_ms(newer.document.digest))
        return None

    def roster_to_pin(self, party: str, *, by: str, now_ms: int) -> RosterView:
        """The roster of a party that a sender of party `by` pins now.

        The newest, but of another party none that widens readership before this side has had it for the hold: an issue
        time can be dated back, our own clock cannot. What is pinned still fixes one audience for everybody.

        Raises:
            MissingDocumentError: None is held.

        Source: docs/PROTOCOL.md section 6.4.
        """
        newest = self.roster(party)
        bounds = self.agreement(now_ms).body
        rosters = self._held.chains[party].rosters
        chosen = len(rosters) - 1
        for index in range(len(rosters) - 1, 0, -1):
            if self.taken_ms(rosters[index].document.digest) + bounds.hold_ms <= now_ms:
                break
            if rosters[index].widens and party != by:
                chosen = index - 1
        view = rosters[chosen]
        accepted_ms = bounds.revocation_ms + bounds.lifetime_ms + 2 * bounds.skew_ms
        replaced_ms = self.superseded_ms(view)
        usable = replaced_ms is None or now_ms < min(view.body.expire_time_ms, replaced_ms + accepted_ms)
        if self.voided(view):
            usable = usable and view.desks.keys() <= newest.desks.keys()
        return view if usable else newest

    def party_document(self, party: str) -> pb.Party:
        """The newest Party document of a party.

        Raises:
            MissingDocumentError: None is held.
        """
        if party not in self._held.chains:
            raise MissingDocumentError(f"no party document of {party} is held", party=party)
        return self._held.chains[party].current

    def status(self, party: str) -> pb.Status | None:
        """The newest status of a party."""
        chain = self._held.chains.get(party)
        return chain.status[1] if chain and chain.status else None

    def stale(self, now_ms: int) -> tuple[str, ...]:
        """Parties whose last word is older than R: their revocations may be unknown to us.

        Their last word is their status; after a Party document with another status key that document, until the first
        status under the new key.
        """
        limit = self.agreement(now_ms).body.revocation_ms
        return tuple(party for party in self.parties if self._last_word_ms(party) + limit < now_ms)

    def _last_word_ms(self, party: str) -> int:
        status, chain = self.status(party), self._held.chains.get(party)
        if status is not None:
            return status.issue_time_ms
        return chain.voided_ms if chain else 0

    def desk_key(self, key: bytes) -> tuple[str, DeskKey] | None:
        """The desk and key behind a key identity, in any roster held; ended or not."""
        return self._held.keys_by_id.get(key)

    def held_card(self, desk: str, week: int) -> Card | None:
        """The card held for a week even if its signing key ended since: what an earlier sender could use."""
        return self._held.cards.get((desk, week))

    def card(self, desk: str, week: int) -> Card | None:
        """The card of a desk for a week; cards die with their signing key."""
        card = self._held.cards.get((desk, week))
        return None if card is None or self.key_ended(desk, card.signed_by) else card

    def key_ended(self, desk: str, key: bytes) -> str | None:
        """Why a signing key counts no longer by the newest documents; None while it does.

        Source: docs/PROTOCOL.md section 4.6 ("revocation by the newest").
        """
        return self._held.key_ended(desk, key)

    def endings(self, desk: str, key: bytes) -> tuple[Ending, ...]:
        """What ended a signing key: its renunciation, the first roster that ends it; none while it counts.

        Source: docs/PROTOCOL.md section 4.7.
        """
        return self._held.endings(desk, key)

    def party_endings(self, party: str) -> frozenset[bytes]:
        """The newest roster of a party that ended a key, and renunciations of keys that no roster ended.

        A log that holds that roster holds those before it: it takes a chain in order.
        """
        chain = self._held.chains.get(party)
        newest, ended = b"", frozenset[bytes]()
        for view in chain.standing if chain else []:
            if not view.revoked | view.tainted <= ended:
                newest, ended = view.document.digest, ended | view.revoked | view.tainted
        found = {newest} if newest else set()
        for key, document in self._held.renounced.items():
            desk, _ = self._held.keys_by_id[key]
            if party_of(desk) == party and key not in ended:
                found.add(document.digest)
        return frozenset(found)

    def log_keys(self, node: str) -> tuple[pb.PublicKey, ...]:
        """Every log key that a roster of its party lists for a node, the newest first; void rosters list none."""
        chain = self._held.chain_of(node)
        listed = (view.nodes[node].log_key for view in reversed(chain.standing if chain else []) if node in view.nodes)
        return tuple({key.key: key for key in listed}.values())

    def voided(self, view: RosterView) -> bool:
        """Whether the party replaced its roster keys since and issued a roster under the new ones."""
        return view.body.generation != self._held.chains[view.party].rosters[-1].body.generation

    def suspended(self, *, desk: str, channel: str) -> str | None:
        """Why a desk's traffic on a channel is suspended by any party; None when it is not.

        A party may suspend a channel for all, but names only of its own people.
        """
        for issuer, chain in self._held.chains.items():
            for suspension in _suspensions(chain):
                if suspension.channel not in ("", channel) or suspension.name not in ("", desk, mission_of(desk)):
                    continue
                if suspension.name and party_of(suspension.name) != issuer:
                    continue
                if not suspension.name and not suspension.channel and party_of(desk) != issuer:
                    continue
                return f"suspended by {issuer}: {suspension.reason}"
        return None

    def node(self, name: str) -> pb.Node | None:
        """A node of the newest roster of its party."""
        view = self._newest_roster(name)
        return view.nodes.get(name) if view else None

    def nodes(self) -> Iterator[pb.Node]:
        """Every node of every newest roster."""
        for name in self.parties:
            view = self._held.chains[name].newest
            yield from view.nodes.values() if view else ()

    def hosted(self, node: str) -> frozenset[str]:
        """Desks whose mission a node hosts, by the newest roster of the node's party."""
        view = self._newest_roster(node)
        if view is None:
            return frozenset()
        missions = {name for name, mission in view.missions.items() if mission.node == node}
        return frozenset(name for name, desk in view.desks.items() if desk.mission in missions)

    def relaying(self, one: str, other: str) -> list[str]:
        """Nodes that relay for a mission that one of two nodes hosts, by the newest rosters of their parties; sorted."""
        found = set()
        for node in (one, other):
            view = self._newest_roster(node)
            if view is not None:
                hosted = {name for name, mission in view.missions.items() if mission.node == node}
                found |= {entry.node for entry in view.nodes.values() if not hosted.isdisjoint(entry.relays)}
        return sorted(found - {one, other})

    def _newest_roster(self, name: str) -> RosterView | None:
        chain = self._held.chain_of(name)
        return chain.newest if chain else None


def _name_document(error: PeerError, document: Document) -> None:
    """Every refusal names its document and version, as claimed: nothing of it may have been verified."""
    claimed = peek(document)
    kind = document.type.removeprefix("tocsin/1/")
    whose = getattr(claimed, "party", "") or getattr(claimed, "desk", "")
    error.metadata.setdefault("document", f"{whose[:MAX_NAME_BYTES]} {kind}".strip())
    error.metadata.setdefault("version", str(getattr(claimed, "version", getattr(claimed, "week", 1))))


def _suspensions(chain: PartyChain) -> list[pb.Suspension]:
    """Of the newest roster, and of the status until the next roster."""
    body = chain.newest.body if chain.newest else None
    said = chain.status[1] if chain.status else None
    sticky = said.suspensions if said and (body is None or status.sticks(said, body)) else ()
    return [*(body.suspensions if body else ()), *sticky]
