"""The trust core: the chains of documents -> who is this key, what may it, since and until when. No I/O.

Rights come from the documents an envelope pins, revocation from the newest documents held (docs/PROTOCOL.md section 4).
Nothing here reads a clock, a file or a socket; `now_ms` is passed in, documents are passed in, events are returned.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from keys import documents, suite
from keys.documents import Document
from keys.errors import BadKeyError, PeerError, SignatureError, UnknownSuiteError
from keys.v1 import documents_pb2 as pb

WEEK_MS: Final = 7 * 24 * 3600 * 1000
# 1970-01-05 was the first Monday; weeks are calendar weeks for everyone, whenever a card was made.
FIRST_MONDAY_MS: Final = 4 * 24 * 3600 * 1000
CARDS_AHEAD: Final = 5
MAX_ROSTER_MS: Final = 90 * 24 * 3600 * 1000
MAX_NAME_BYTES: Final = 64
MAX_KEYS_PER_DESK: Final = 8
MAX_PARTIES: Final = 16


class TrustError(PeerError):
    """A document breaks the rules of its chain."""

    status, reason = "FAILED_PRECONDITION", "DOCUMENT_RULE"
    hint = "compare `tocsin documents show` with the issuing party"


class RollbackError(TrustError):
    """An older version than the one held."""

    reason = "DOCUMENT_ROLLBACK"


class GapError(TrustError):
    """The chain goes up by exactly one; something in between is missing."""

    reason = "DOCUMENT_GAP"
    hint = "fetch the versions in between first"


class EquivocationError(TrustError):
    """Two different documents at one version: the first seen stays, both are evidence."""

    reason = "DOCUMENT_EQUIVOCATION"
    hint = "keep both and ask the issuing party; this must not happen"


class MissingDocumentError(TrustError):
    """A document refers to one that is not held."""

    reason = "DOCUMENT_MISSING"
    hint = "fetch the missing document, then try again"


class WrongLineageError(TrustError):
    """A document of another exchange."""

    reason = "DOCUMENT_LINEAGE"
    hint = "a drill and production never mix; check which exchange this is"


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

    @property
    def party(self) -> str:
        """The issuing party."""
        return self.body.party


@dataclass(frozen=True, slots=True)
class AgreementView:
    """A verified agreement; `superseded_ms` is the effective time of the next version, 0 while there is none."""

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
class Taken:
    """What taking a document changed: `new` False when it was held already; `events` are for people and alarms."""

    document: Document
    new: bool
    events: tuple[str, ...] = ()


@dataclass(slots=True)
class _PartyChain:
    parties: list[tuple[Document, pb.Party]] = field(default_factory=list)
    rosters: list[RosterView] = field(default_factory=list)
    status: tuple[Document, pb.Status] | None = None

    @property
    def current(self) -> pb.Party:
        return self.parties[-1][1]


def week_of(time_ms: int) -> int:
    """The calendar week a time falls in: [Monday 00:00 UTC, next Monday)."""
    return (time_ms - FIRST_MONDAY_MS) // WEEK_MS


def mission_of(desk: str) -> str:
    """Mission part of a desk's name: kr.the-hague/economic -> kr.the-hague."""
    return desk.partition("/")[0]


def party_of(name: str) -> str:
    """Party of a mission, desk or node name."""
    return name.partition(".")[0]


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
        self._agreements: list[AgreementView] = []
        self._chains: dict[str, _PartyChain] = {}
        self._candidates: dict[bytes, tuple[Document, pb.Party]] = {}
        self._rosters: dict[bytes, RosterView] = {}
        self._cards: dict[tuple[str, int], Card] = {}
        self._renounced: dict[bytes, Document] = {}
        self._keys_by_id: dict[bytes, tuple[str, DeskKey]] = {}
        self._components: dict[bytes, tuple[str, str, bytes]] = {}
        self._held: set[bytes] = set()
        self._order: list[Document] = []

    # ---- reading

    def documents(self) -> Sequence[Document]:
        """Every document held, in an order in which another Trust can take them."""
        return tuple(self._order)

    def holds(self, digest: bytes) -> bool:
        """Whether a document is held."""
        return digest in self._held

    @property
    def founded(self) -> bool:
        """Whether the first agreement is held."""
        return bool(self._agreements)

    @property
    def parties(self) -> tuple[str, ...]:
        """The parties of the newest agreement, sorted."""
        return tuple(p.party for p in self._newest().body.parties)

    def _newest(self) -> AgreementView:
        if not self._agreements:
            raise MissingDocumentError("no agreement held yet")
        return self._agreements[-1]

    def agreement(self, now_ms: int) -> AgreementView:
        """The agreement in force at a time: the newest whose effective time has come, else the first.

        Raises:
            MissingDocumentError: None is held.
        """
        self._newest()
        in_force = [a for a in self._agreements if a.body.effective_time_ms <= now_ms]
        return in_force[-1] if in_force else self._agreements[0]

    def find_agreement(self, digest: bytes) -> AgreementView:
        """A held agreement by digest.

        Raises:
            MissingDocumentError: Not held.
        """
        for view in reversed(self._agreements):
            if view.digest == digest:
                return view
        raise MissingDocumentError("the pinned agreement is not held", digest=digest.hex())

    def agreement_ends_ms(self, view: AgreementView) -> int:
        """From when (exclusive) envelopes pinning it are refused: the successor's effective time + grace, or expiry."""
        index = view.body.version
        if index < len(self._agreements):
            successor = self._agreements[index].body
            return min(view.body.expire_time_ms, successor.effective_time_ms + successor.grace_ms)
        return view.body.expire_time_ms

    def roster(self, party: str) -> RosterView:
        """The newest roster of a party.

        Raises:
            MissingDocumentError: None is held.
        """
        chain = self._chains.get(party)
        if chain is None or not chain.rosters:
            raise MissingDocumentError(f"no roster of {party} is held", party=party)
        return chain.rosters[-1]

    def find_roster(self, digest: bytes) -> RosterView:
        """A held roster by digest, newest or not.

        Raises:
            MissingDocumentError: Not held.
        """
        view = self._rosters.get(digest)
        if view is None:
            raise MissingDocumentError("a pinned roster is not held", digest=digest.hex())
        return view

    def superseded_ms(self, view: RosterView) -> int | None:
        """When the next roster of the party was issued; None while this is the newest."""
        rosters = self._chains[view.party].rosters
        for older, newer in pairwise(rosters):
            if older is view:
                return newer.body.issue_time_ms
        return None

    def party_document(self, party: str) -> pb.Party:
        """The newest Party document of a party.

        Raises:
            MissingDocumentError: None is held.
        """
        if party not in self._chains:
            raise MissingDocumentError(f"no party document of {party} is held", party=party)
        return self._chains[party].current

    def status(self, party: str) -> pb.Status | None:
        """The newest status of a party."""
        chain = self._chains.get(party)
        return chain.status[1] if chain and chain.status else None

    def stale(self, now_ms: int) -> tuple[str, ...]:
        """Parties whose status is older than R: their revocations may be unknown to us."""
        limit = self.agreement(now_ms).body.revocation_ms
        return tuple(
            party
            for party in self.parties
            if (status := self.status(party)) is None or status.issue_time_ms + limit < now_ms
        )

    def desk_key(self, key: bytes) -> tuple[str, DeskKey] | None:
        """The desk and key behind a key identity, in any roster held; ended or not."""
        return self._keys_by_id.get(key)

    def held_card(self, desk: str, week: int) -> Card | None:
        """The card held for a week even if its signing key ended since: what an earlier sender could use."""
        return self._cards.get((desk, week))

    def card(self, desk: str, week: int) -> Card | None:
        """The card of a desk for a week; cards die with their signing key."""
        card = self._cards.get((desk, week))
        return None if card is None or self.key_ended(desk, card.signed_by) else card

    def key_ended(self, desk: str, key: bytes) -> str | None:
        """Why a signing key counts no longer by the newest documents; None while it does.

        Source: docs/PROTOCOL.md section 4.6 ("revocation by the newest").
        """
        if key in self._renounced:
            return "renounced by its desk"
        chain = self._chains.get(party_of(desk))
        if chain is None or not chain.rosters:
            return None
        # Never undone within a generation; a new one starts afresh, so that a thief of the roster keys ends nobody.
        generation = chain.rosters[-1].body.generation
        views = [view for view in chain.rosters if view.body.generation == generation]
        if any(key in view.revoked for view in views):
            return "revoked by its party"
        return "tainted: its party suspects it" if any(key in view.tainted for view in views) else None

    def voided(self, view: RosterView) -> bool:
        """Whether the party replaced its roster keys since and issued a roster under the new ones."""
        return view.body.generation != self._chains[view.party].rosters[-1].body.generation

    def suspended(self, *, desk: str, channel: str) -> str | None:
        """Why a desk's traffic on a channel is suspended by any party; None when it is not.

        A party may suspend a channel for all, but names only of its own people.
        """
        for party, chain in self._chains.items():
            roster = chain.rosters[-1].body if chain.rosters else None
            status = chain.status[1] if chain.status else None
            sticky = status.suspensions if status and (roster is None or _still_sticks(status, roster)) else ()
            for suspension in (*(roster.suspensions if roster else ()), *sticky):
                if suspension.channel and suspension.channel != channel:
                    continue
                if suspension.name and suspension.name not in (desk, mission_of(desk)):
                    continue
                if suspension.name and party_of(suspension.name) != party:
                    continue
                if not suspension.name and not suspension.channel and party_of(desk) != party:
                    continue
                return f"suspended by {party}: {suspension.reason}"
        return None

    def node(self, name: str) -> pb.Node | None:
        """A node of the newest roster of its party."""
        chain = self._chains.get(party_of(name))
        return chain.rosters[-1].nodes.get(name) if chain and chain.rosters else None

    def nodes(self) -> Iterator[pb.Node]:
        """Every node of every newest roster."""
        for party in self.parties:
            chain = self._chains[party]
            if chain.rosters:
                yield from chain.rosters[-1].nodes.values()

    def hosted(self, node: str) -> frozenset[str]:
        """Desks whose mission a node hosts, by the newest roster of the node's party."""
        chain = self._chains.get(party_of(node))
        if chain is None or not chain.rosters:
            return frozenset()
        view = chain.rosters[-1]
        missions = {name for name, mission in view.missions.items() if mission.node == node}
        return frozenset(name for name, desk in view.desks.items() if desk.mission in missions)

    # ---- taking

    def take(self, document: Document, *, now_ms: int) -> Taken:
        """Verify a document, and hold it if it extends its chain.

        Raises:
            TrustError: Or another PeerError, saying which rule; nothing changes then.

        Source: docs/PROTOCOL.md section 4; TUF 5.3 and 6.1 for rollback, freeze, fast-forward, mix-and-match.
        """
        if document.digest in self._held or document.digest in self._candidates:
            return Taken(document, new=False)
        handler = {
            "tocsin/1/agreement": self._take_agreement,
            "tocsin/1/party": self._take_party,
            "tocsin/1/roster": self._take_roster,
            "tocsin/1/status": self._take_status,
            "tocsin/1/card": self._take_card,
            "tocsin/1/renunciation": self._take_renunciation,
        }.get(document.type)
        if handler is None:
            raise TrustError(f"{document.type} is not taken by this version")
        events = handler(document, now_ms)
        self.version += 1
        return Taken(document, new=True, events=events)

    def _hold(self, document: Document) -> None:
        self._held.add(document.digest)
        self._order.append(document)

    def _lineage(self, lineage: bytes, what: str) -> None:
        if lineage != self.lineage:
            raise WrongLineageError(f"the {what} belongs to another exchange")

    def _take_agreement(self, document: Document, now_ms: int) -> tuple[str, ...]:
        if not self._agreements:
            if document.digest != self.lineage:
                raise WrongLineageError(
                    "this is not the first agreement of this exchange", digest=document.digest.hex()
                )
            agreement = documents.body(document, pb.Agreement)
            chains = {}
            for member in agreement.parties:
                if member.first_party not in self._candidates:
                    raise MissingDocumentError(f"the party document of {member.party} comes first", party=member.party)
                first, body = self._candidates[member.first_party]
                if body.party != member.party:
                    raise TrustError(f"the party document of {member.party} names {body.party}")
                chains[member.party] = _PartyChain([(first, body)])
                documents.require(document, body.root, role="root")
            _check_agreement(agreement, None)
            claims = _Claims(self._components)
            for chain in chains.values():
                claims.add_role_keys(chain.current)
            claims.commit()
            self._chains = chains
            for chain in chains.values():
                self._hold(chain.parties[0][0])
            self._candidates.clear()
        else:
            held = self._newest()
            for chain in self._chains.values():
                documents.require(document, chain.current.root, role="root")
            agreement = documents.body(document, pb.Agreement)
            self._lineage(agreement.lineage, "agreement")
            known = (
                self._agreements[agreement.version - 1].digest if 0 < agreement.version <= held.body.version else None
            )
            _check_chain(
                "agreement", agreement.version, agreement.previous, held.body.version, held.digest, known, document
            )
            _check_agreement(agreement, held.body)
        self._agreements.append(AgreementView(document, agreement, {rule.channel: rule for rule in agreement.channels}))
        self._hold(document)
        return (f"agreement version {agreement.version} taken",)

    def _take_party(self, document: Document, now_ms: int) -> tuple[str, ...]:
        claimed = documents.peek(document)
        assert claimed is None or isinstance(claimed, pb.Party)  # noqa: S101 - narrows the type; the registry fixes it
        party_name = claimed.party if claimed is not None else ""
        if not self._agreements:
            # Before the agreement nobody is known: a few candidates are kept until it says which count.
            if len(self._candidates) >= MAX_PARTIES:
                raise TrustError("too many party documents before the agreement")
            body = documents.body(document, pb.Party)
            if body.version != 1 or body.lineage or body.previous:
                raise TrustError("a first party document has version 1, no lineage and no previous")
            _check_party(body, lineage=b"")
            documents.require(document, body.root, role="root")
            self._candidates[document.digest] = (document, body)
            return ()
        chain = self._chains.get(party_name)
        if chain is None:
            raise TrustError("a party document of a country that is no party")
        held_document, held = chain.parties[-1]
        documents.require(document, held.root, role="root")
        body = documents.body(document, pb.Party)
        documents.require(document, body.root, role="root")
        self._lineage(body.lineage, "party document")
        known = chain.parties[body.version - 1][0].digest if 0 < body.version <= held.version else None
        _check_chain("party document", body.version, body.previous, held.version, held_document.digest, known, document)
        _check_party(body, lineage=self.lineage)
        for role in ("root", "roster", "status"):
            old, new = getattr(held, role), getattr(body, role)
            changed = _publics(old) != _publics(new) or old.threshold != new.threshold
            if new.generation != old.generation + (1 if changed else 0):
                raise TrustError(f"the {role} generation goes up by one exactly when its keys or threshold change")
        claims = _Claims(self._components)
        claims.add_role_keys(body)
        claims.commit()
        chain.parties.append((document, body))
        self._hold(document)
        if body.status.generation != held.status.generation:
            # A thief of the status key may have frozen or suspended us: its word ends with it, the counter restarts.
            chain.status = None
        return (f"{body.party}: party document version {body.version} taken",)

    def _take_roster(self, document: Document, now_ms: int) -> tuple[str, ...]:
        chain = self._claimed_chain(document)
        documents.require(document, chain.current.roster, role="roster")
        body = documents.body(document, pb.Roster)
        self._lineage(body.lineage, "roster")
        if body.party != chain.current.party:
            raise TrustError("a roster names another party than its signers'")
        generation = chain.current.roster.generation
        if body.generation != generation:
            raise RollbackError(f"{body.party} roster of generation {body.generation}; now is {generation}")
        held = chain.rosters[-1] if chain.rosters and chain.rosters[-1].body.generation == generation else None
        known = next(
            (
                v.document.digest
                for v in chain.rosters
                if (v.body.generation, v.body.version) == (generation, body.version)
            ),
            None,
        )
        _check_chain(
            f"{body.party} roster",
            body.version,
            body.previous,
            held.body.version if held else 0,
            held.document.digest if held else b"",
            known,
            document,
        )
        agreement = self.agreement(now_ms).body
        if body.issue_time_ms > now_ms + agreement.skew_ms:
            raise TrustError(f"the {body.party} roster is issued in the future; check the clocks")
        if not body.issue_time_ms < body.expire_time_ms <= body.issue_time_ms + MAX_ROSTER_MS:
            raise TrustError("a roster ends after it is issued and within 90 days")
        previous = chain.rosters[-1] if chain.rosters else None
        if previous and body.issue_time_ms < previous.body.issue_time_ms:
            raise TrustError("a roster is issued no earlier than the one before")
        claims = _Claims(self._components)
        view, events = self._view(document, body, previous, agreement, claims)
        if body.issue_time_ms + agreement.hold_ms < now_ms:
            # The hold counts from the issue time, so that all compute one audience: a late arrival eats it up.
            events = (*events, f"{body.party}: this roster arrives later than the hold after its issue")
        claims.commit()
        chain.rosters.append(view)
        self._rosters[document.digest] = view
        for desk in view.desks.values():
            self._keys_by_id.update((key.id, (desk.name, key)) for key in desk.keys.values())
        self._hold(document)
        return events

    def _view(
        self,
        document: Document,
        body: pb.Roster,
        previous: RosterView | None,
        agreement: pb.Agreement,
        claims: "_Claims",
    ) -> tuple[RosterView, tuple[str, ...]]:
        missions = {m.mission: m for m in body.missions}
        nodes = {n.node: n for n in body.nodes}
        for what, names in (
            ("missions", list(missions)),
            ("desks", [d.desk for d in body.desks]),
            ("nodes", list(nodes)),
        ):
            if names != sorted(set(names)) or any(party_of(n) != body.party or not _name_ok(n) for n in names):
                raise TrustError(f"{what} of a roster are sorted, unique, well-formed and of the issuing party")
        if len(missions) != len(body.missions) or len(nodes) != len(body.nodes):
            raise TrustError("missions and nodes of a roster are unique")
        kinds = frozenset(pb.MissionKind.values()) - {pb.MISSION_KIND_UNSPECIFIED}
        if any(m.kind not in kinds or m.node not in nodes for m in missions.values()):
            raise TrustError("each mission has a kind this version knows and a node of this roster")
        if any(relay not in missions for n in nodes.values() for relay in n.relays):
            raise TrustError("a node relays only missions of its own roster")
        desks: dict[str, Desk] = {}
        disabled: dict[str, str] = {}
        events = [f"{body.party}: roster {body.generation}.{body.version} taken"]
        for name in list(nodes):
            try:
                self._check_log_key(body.party, nodes[name], claims)
            except (BadKeyError, SignatureError, UnknownSuiteError) as error:
                del nodes[name]
                events.append(f"{name}: disabled, {error}")
        for entry in body.desks:
            mission = missions.get(mission_of(entry.desk))
            if mission is None:
                raise TrustError(f"desk {entry.desk} belongs to no mission of the roster", desk=entry.desk)
            try:
                keys = self._desk_keys(body, entry, previous, claims)
            except (BadKeyError, SignatureError, UnknownSuiteError) as error:
                # A bad key disables its desk alone; the roster and everybody else go on.
                disabled[entry.desk] = str(error)
                events.append(f"{entry.desk}: disabled, {error}")
                continue
            before = previous.desks.get(entry.desk) if previous else None
            rekinded = before and previous and previous.missions[before.mission].kind != mission.kind
            if before and not rekinded:
                held_until = before.held_until_ms
            else:
                held_until = body.issue_time_ms + agreement.hold_ms if previous else 0
                if previous:
                    events.append(f"{entry.desk}: new or re-kinded, enters audiences after the hold")
            desks[entry.desk] = Desk(entry.desk, mission.mission, keys, held_until)
        caps = {cap.kind: cap.desks for cap in agreement.caps}
        for name, mission in missions.items():
            count = sum(desk.mission == name for desk in desks.values())
            if mission.kind in caps and count > caps[mission.kind]:
                raise TrustError(f"{name} has {count} desks; the agreement allows {caps[mission.kind]}", mission=name)
        # From the bytes, not from the desks: a desk that is disabled for another key still ends the keys it ends.
        ended: dict[int, set[bytes]] = {pb.KEY_STATE_TAINTED: set(), pb.KEY_STATE_REVOKED: set()}
        for listed in (listed for entry in body.desks for listed in entry.keys):
            if listed.state in ended:
                ended[listed.state].add(suite.key_id(listed.key.suite, "desk", listed.key.key))
        revoked = frozenset(r.key for r in body.revocations) | ended[pb.KEY_STATE_REVOKED]
        tainted = frozenset(ended[pb.KEY_STATE_TAINTED])
        return RosterView(document, body, desks, missions, nodes, revoked, tainted, disabled), tuple(events)

    def _check_log_key(self, party: str, node: pb.Node, claims: "_Claims") -> None:
        key = node.log_key
        if key.suite != suite.DESK_SUITE:
            raise UnknownSuiteError(f"{node.node} has a log key of suite {key.suite}", suite=key.suite)
        suite.check_signing_key(key.suite, key.key)
        suite.check_possession(
            key.suite, key.key, key.possession, lineage=self.lineage, party=party, name=node.node, role="log"
        )
        claims.add(key, node.node, "log")

    def _desk_keys(
        self, body: pb.Roster, entry: pb.Desk, previous: RosterView | None, claims: "_Claims"
    ) -> dict[bytes, DeskKey]:
        if not 0 < len(entry.keys) <= MAX_KEYS_PER_DESK:
            raise BadKeyError(f"{entry.desk} lists {len(entry.keys)} keys; 1 to {MAX_KEYS_PER_DESK}", desk=entry.desk)
        before = previous.desks[entry.desk].keys if previous and entry.desk in previous.desks else {}
        same_generation = previous is not None and previous.body.generation == body.generation
        keys: dict[bytes, DeskKey] = {}
        for listed in entry.keys:
            key = listed.key
            if not pb.KEY_STATE_PREPARED <= listed.state <= pb.KEY_STATE_REVOKED:
                raise BadKeyError(f"a key of {entry.desk} is in no state this version knows", desk=entry.desk)
            identity = suite.key_id(key.suite, "desk", key.key)
            if identity not in before:
                if key.suite != suite.DESK_SUITE:
                    raise UnknownSuiteError(f"{entry.desk} has a key of suite {key.suite}", suite=key.suite)
                suite.check_signing_key(key.suite, key.key)
                suite.check_possession(
                    key.suite,
                    key.key,
                    key.possession,
                    lineage=self.lineage,
                    party=body.party,
                    name=entry.desk,
                    role="desk",
                )
                claims.add(key, entry.desk, "desk")
            elif same_generation and listed.state < before[identity].state:
                raise BadKeyError(f"a key of {entry.desk} goes back to an earlier state", desk=entry.desk)
            keys[identity] = DeskKey(
                identity, key.suite, key.key, listed.state, listed.first_use_ms, listed.last_use_ms
            )
        return keys

    def _claimed_chain(self, document: Document) -> _PartyChain:
        claimed = documents.peek(document)
        party = getattr(claimed, "party", "")
        chain = self._chains.get(party)
        if chain is None:
            raise MissingDocumentError("a document of a country that is no party, or before the agreement")
        return chain

    def _take_status(self, document: Document, now_ms: int) -> tuple[str, ...]:
        chain = self._claimed_chain(document)
        documents.require(document, chain.current.status, role="status")
        body = documents.body(document, pb.Status)
        self._lineage(body.lineage, "status")
        if body.party != chain.current.party:
            raise TrustError("a status names another party than its signers'")
        if body.generation != chain.current.status.generation:
            raise RollbackError(f"{body.party} status of generation {body.generation}")
        if chain.status:
            _, held = chain.status
            if body.version == held.version:
                raise EquivocationError(f"two {body.party} statuses at version {body.version}")
            if body.version < held.version or body.issue_time_ms < held.issue_time_ms:
                raise RollbackError(f"{body.party} status {body.version}; held is {held.version}")
            # Sticky: the holder of a status key, or its thief, lifts nothing; the next roster does.
            if (body.roster.generation, body.roster.version) == (held.roster.generation, held.roster.version):
                kept = [s.SerializeToString(deterministic=True) for s in body.suspensions]
                if any(s.SerializeToString(deterministic=True) not in kept for s in held.suspensions):
                    raise TrustError(
                        f"{body.party} status {body.version} lifts a suspension; only the next roster does"
                    )
        if body.issue_time_ms > now_ms + self.agreement(now_ms).body.skew_ms:
            raise TrustError(f"the {body.party} status is issued in the future; check the clocks")
        events = [f"{body.party}: status {body.version} taken"]
        newest = chain.rosters[-1] if chain.rosters else None
        if newest is not None:
            listed = (body.roster.generation, body.roster.version)
            held_number = (newest.body.generation, newest.body.version)
            if listed < held_number:
                raise RollbackError(f"{body.party} status names roster {listed}, older than the {held_number} held")
            if listed == held_number and body.roster.digest != newest.document.digest:
                raise EquivocationError(f"{body.party} status names another roster {listed} than the one held")
            if listed > held_number:
                events.append(f"{body.party}: a newer roster {listed} exists; fetch it")
        party_document, party = chain.parties[-1]
        if body.party_document.version < party.version:
            raise RollbackError(f"{body.party} status names party document {body.party_document.version}, an older one")
        if body.party_document.version == party.version and body.party_document.digest != party_document.digest:
            raise EquivocationError(f"{body.party} status names another party document than the one held")
        if body.party_document.version > party.version:
            events.append(f"{body.party}: party document {body.party_document.version} exists; fetch it")
        agreement = self._newest()
        if body.agreement.version == agreement.body.version and body.agreement.digest != agreement.digest:
            raise EquivocationError(f"{body.party} status names another agreement than the one held")
        if body.agreement.version < agreement.body.version and body.issue_time_ms > agreement.body.effective_time_ms:
            raise RollbackError(f"{body.party} status names agreement {body.agreement.version}, no longer in force")
        if body.agreement.version > agreement.body.version:
            events.append(f"{body.party}: agreement {body.agreement.version} exists; fetch it")
        if chain.status:
            # Only the newest status is worth keeping: it replaces the one before in what is handed on.
            self._order.remove(chain.status[0])
        chain.status = (document, body)
        self._hold(document)
        return tuple(events)

    def _take_card(self, document: Document, now_ms: int) -> tuple[str, ...]:
        claimed = documents.peek(document)
        desk_name = getattr(claimed, "desk", "")
        listed = self.roster(party_of(desk_name)).desks.get(desk_name)
        if listed is None:
            raise TrustError("a key card of a desk no roster lists", hint="admit the desk first")
        signer = next((k for _, key, _ in document.signatures if (k := listed.keys.get(key))), None)
        if signer is None or len(document.signatures) != 1 or self.key_ended(desk_name, signer.id):
            raise SignatureError(f"the key card of {desk_name} is not signed by a current key of the desk")
        # Flood guard before any signature is checked: one card a week, eleven weeks, per desk (PROTOCOL 4.5).
        week = getattr(claimed, "week", 0)
        if not week_of(now_ms) - 4 <= week <= week_of(now_ms) + CARDS_AHEAD + 1:
            raise TrustError(f"a key card for week {week} is outside the weeks in use", desk=desk_name)
        # Checked before the alarm of two cards: junk must not raise it.
        documents.require_key(document, pb.PublicKey(suite=signer.suite, key=signer.public), role="desk")
        held = self._cards.get((desk_name, week))
        if held is not None and not self.key_ended(desk_name, held.signed_by):
            raise EquivocationError(f"two key cards of {desk_name} for week {week}", desk=desk_name)
        body = documents.body(document, pb.KeyCard)
        self._lineage(body.lineage, "key card")
        if body.suite != suite.DESK_SUITE:
            raise UnknownSuiteError(f"a key card of suite {body.suite}", suite=body.suite)
        suite.check_card_key(body.key)
        self._cards[(desk_name, week)] = Card(document.digest, desk_name, week, body.key, signer.id, now_ms)
        self._hold(document)
        return ()

    def _take_renunciation(self, document: Document, now_ms: int) -> tuple[str, ...]:
        claimed = documents.peek(document)
        desk_name, key_id = getattr(claimed, "desk", ""), getattr(claimed, "key", b"")
        chain = self._chains.get(party_of(desk_name))
        views = chain.rosters if chain else []
        key = next((k for v in reversed(views) if (d := v.desks.get(desk_name)) and (k := d.keys.get(key_id))), None)
        if key is None:
            raise TrustError("a renunciation of a key no roster lists")
        documents.require_key(document, pb.PublicKey(suite=key.suite, key=key.public), role="desk")
        body = documents.body(document, pb.Renunciation)
        self._lineage(body.lineage, "renunciation")
        if body.key in self._renounced:
            return ()
        self._renounced[body.key] = document
        self._hold(document)
        return (f"{body.desk}: renounced its key; do not trust it any more",)


class _Claims:
    """Who uses which component key, changed only as a whole: a document that is refused claims nothing.

    Component keys are never reused: each half belongs to one key, owner and role in the lineage.
    """

    def __init__(self, held: dict[bytes, tuple[str, str, bytes]]) -> None:
        self._held = held
        self._new: dict[bytes, tuple[str, str, bytes]] = {}

    def add(self, key: pb.PublicKey, owner: str, role: str) -> None:
        claim = (owner, role, suite.key_id(key.suite, role, key.key))
        halves = suite.components(key.suite, key.key)
        if any(self._held.get(half, self._new.get(half, claim)) != claim for half in halves):
            raise BadKeyError(f"a component key of {owner} ({role}) is in use elsewhere", owner=owner)
        self._new.update(dict.fromkeys(halves, claim))

    def add_role_keys(self, body: pb.Party) -> None:
        for role in ("root", "roster", "status"):
            for holder in getattr(body, role).keys:
                self.add(holder.key, f"{body.party}:{holder.holder}", role)

    def commit(self) -> None:
        self._held.update(self._new)


def _publics(keys: pb.RoleKeys) -> list[tuple[str, int, bytes]]:
    return [(k.holder, k.key.suite, k.key.key) for k in keys.keys]


def _still_sticks(status: pb.Status, roster: pb.Roster) -> bool:
    """Urgent suspensions last until the party's next roster."""
    return (status.roster.generation, status.roster.version) >= (roster.generation, roster.version)


def _name_ok(name: str) -> bool:
    plain = name.replace(".", "").replace("-", "").replace("/", "")
    return 0 < len(name) <= MAX_NAME_BYTES and plain.isascii() and plain.isalnum() and name == name.lower()


def _check_chain(
    what: str, version: int, previous: bytes, held: int, held_digest: bytes, known: bytes | None, document: Document
) -> None:
    if version == held + 1 and previous == held_digest:
        return
    if version <= held:
        if known is not None and known != document.digest:
            raise EquivocationError(f"two documents claim {what} version {version}; the first stays", version=version)
        raise RollbackError(f"{what} version {version}; held is {held}", version=version)
    if version > held + 1:
        raise GapError(f"{what} version {version} comes after {held}: a chain goes up by one", version=version)
    raise EquivocationError(f"{what} version {version} names another predecessor than the one held", version=version)


def _check_party(body: pb.Party, *, lineage: bytes) -> None:
    for role, wanted in (("root", suite.ROOT_SUITE), ("roster", suite.DESK_SUITE), ("status", suite.DESK_SUITE)):
        keys: pb.RoleKeys = getattr(body, role)
        holders = [k.holder for k in keys.keys]
        if holders != sorted(set(holders)) or not 1 <= keys.threshold <= len(holders) <= documents.MAX_SIGNATURES:
            raise TrustError(
                f"{body.party} {role} keys: holders sorted and unique, threshold between 1 and their number"
            )
        if keys.generation < 1:
            raise TrustError(f"{body.party} {role} keys: generations start at 1")
        for holder in keys.keys:
            if holder.key.suite != wanted:
                raise UnknownSuiteError(f"{body.party} {role} keys are of suite {wanted}", suite=holder.key.suite)
            suite.check_signing_key(holder.key.suite, holder.key.key)
            # Proofs carry the lineage at the time the key was made: none yet before the first agreement.
            _check_role_possession(body.party, role, holder, lineage)


def _check_role_possession(party: str, role: str, holder: pb.HolderKey, lineage: bytes) -> None:
    for known in dict.fromkeys((lineage, b"")):
        try:
            suite.check_possession(
                holder.key.suite,
                holder.key.key,
                holder.key.possession,
                lineage=known,
                party=party,
                name=holder.holder,
                role=role,
            )
        except SignatureError:
            continue
        return
    raise SignatureError(f"{party} {role} key of {holder.holder} lacks its proof of possession")


def _check_agreement(body: pb.Agreement, held: pb.Agreement | None) -> None:
    names = [p.party for p in body.parties]
    if names != sorted(set(names)) or not 2 <= len(names) <= MAX_PARTIES:
        raise TrustError("the parties of an agreement are sorted, unique and at least two")
    channels = [rule.channel for rule in body.channels]
    if channels != sorted(set(channels)) or not channels:
        raise TrustError("the channels of an agreement are sorted, unique and not none")
    if list(body.suites) != sorted(set(body.suites)) or not body.suites:
        raise TrustError("the suites of an agreement are ascending and not none")
    if not body.effective_time_ms < body.expire_time_ms:
        raise TrustError("an agreement ends after it takes effect")
    if not (0 < body.revocation_ms and 0 < body.lifetime_ms and 0 < body.skew_ms):
        raise TrustError("R, L and S are longer than nothing")
    if held is None:
        if body.version != 1 or body.lineage or body.previous:
            raise TrustError("a first agreement has version 1, no lineage and no previous")
        return
    if [(p.party, p.first_party) for p in held.parties] != [(p.party, p.first_party) for p in body.parties]:
        raise TrustError("a change of parties needs a new lineage")
    if body.effective_time_ms <= held.effective_time_ms:
        raise TrustError("an amendment takes effect after what it amends")
    if body.grace_ms < body.lifetime_ms + 2 * body.skew_ms:
        raise TrustError("grace is at least L + 2S, or mail under way would be refused")
