"""Taking rosters: a party's people and machines, by its own word (docs/PROTOCOL.md section 4.4)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from keys import documents, suite
from keys.documents import Document
from keys.errors import BadKeyError, SignatureError, UnknownSuiteError
from keys.trust.claims import Claims
from keys.trust.errors import RollbackError, TrustError
from keys.trust.held import Held, PartyChain, check_chain
from keys.trust.names import mission_of, name_ok, party_of
from keys.trust.views import Desk, DeskKey, RosterView
from keys.v1 import documents_pb2 as pb

MAX_ROSTER_MS: Final = 90 * 24 * 3600 * 1000
MAX_KEYS_PER_DESK: Final = 8
KINDS: Final = frozenset(pb.MissionKind.values()) - {pb.MISSION_KIND_UNSPECIFIED}
KeyFault = (BadKeyError, SignatureError, UnknownSuiteError)


def take(held: Held, document: Document, now_ms: int) -> tuple[str, ...]:
    """Take the next roster of a party; a desk or node with a bad key is disabled alone."""
    chain = held.claimed_chain(document)
    documents.require(document, chain.current.roster, role="roster")
    reading, view = _read(held, chain, document, now_ms)
    reading.claims.commit()
    chain.append(view)
    held.rosters[document.digest] = view
    for desk in view.desks.values():
        held.keys_by_id.update((key.id, (desk.name, key)) for key in desk.keys.values())
    held.hold(document)
    if view.body.issue_time_ms + reading.agreement.hold_ms < now_ms:
        # The hold counts from the issue time, so that all compute one audience: a late arrival eats it up.
        reading.events.append(f"{view.party}: this roster arrives later than the hold after its issue")
    return tuple(reading.events)


def rehearse(held: Held, document: Document, now_ms: int) -> tuple[str, ...]:
    """What taking a roster would say if it were signed; nothing is held or claimed.

    Raises:
        TrustError: It would be refused, signed or not.
    """
    chain = held.claimed_chain(document)
    reading, _ = _read(held, chain, document, now_ms)
    return tuple(reading.events)


def _read(held: Held, chain: PartyChain, document: Document, now_ms: int) -> tuple["_Reading", RosterView]:
    party = chain.current
    body = documents.body(document, pb.Roster)
    held.require_lineage(body.lineage, "roster")
    if body.party != party.party:
        raise TrustError("a roster names another party than its signers'", party=body.party)
    generation = party.roster.generation
    if body.generation != generation:
        raise RollbackError(f"{body.party} roster of generation {body.generation}; now is {generation}")
    before = next((view for view in reversed(chain.rosters) if view.body.generation == generation), None)
    known = next((v.document.digest for v in chain.rosters if v.number == (generation, body.version)), None)
    check_chain(
        f"{body.party} roster",
        body.version,
        body.previous,
        before.body.version if before else 0,
        before.document.digest if before else b"",
        known,
        document,
    )
    # As of its issue, not of its arrival: everybody reads the same caps, suites and hold from it.
    agreement = held.agreement(body.issue_time_ms).body
    _check_times(body, chain.newest, agreement, now_ms)
    reading = _Reading(held.lineage, body, chain.newest, agreement, Claims(held.components))
    return reading, reading.view(document)


def _check_times(body: pb.Roster, newest: RosterView | None, agreement: pb.Agreement, now_ms: int) -> None:
    if body.issue_time_ms > now_ms + agreement.skew_ms:
        raise TrustError(f"the {body.party} roster is issued in the future; check the clocks")
    if not body.issue_time_ms < body.expire_time_ms <= body.issue_time_ms + MAX_ROSTER_MS:
        raise TrustError("a roster ends after it is issued and within 90 days")
    if newest and body.issue_time_ms < newest.body.issue_time_ms:
        raise TrustError("a roster is issued no earlier than the one before")


def check_desk_suite(suite_id: int, agreement: pb.Agreement, desk: str) -> None:
    """A desk signs and is sealed to with suites that the agreement lists, and that can do both.

    Raises:
        UnknownSuiteError: Another one.
    """
    if suite_id not in agreement.suites or suite.suite(suite_id).wrap_size is None:
        raise UnknownSuiteError(
            f"{desk} uses suite {suite_id}, which agreement {agreement.version} does not list", suite=suite_id
        )


@dataclass(slots=True)
class _Reading:
    """One roster being read, against the one before it."""

    lineage: bytes
    body: pb.Roster
    previous: RosterView | None
    agreement: pb.Agreement
    claims: Claims
    widens: bool = False
    events: list[str] = field(default_factory=list)
    disabled: dict[str, str] = field(default_factory=dict)

    def view(self, document: Document) -> RosterView:
        """The roster, indexed.

        Raises:
            TrustError: It breaks a rule as a whole.
        """
        missions = {m.mission: m for m in self.body.missions}
        nodes = {n.node: n for n in self.body.nodes}
        self._check_names(missions, nodes)
        self.events.append(f"{self.body.party}: roster {self.body.generation}.{self.body.version} taken")
        for name in list(nodes):
            try:
                self._check_log_key(nodes[name])
            except KeyFault as error:
                del nodes[name]
                self.events.append(f"{name}: disabled, {error}")
        desks = self._desks(missions)
        self._check_caps(missions, desks)
        # From the bytes, not from the desks: a desk that is disabled for another key still ends the keys it ends.
        ended: dict[int, set[bytes]] = {pb.KEY_STATE_TAINTED: set(), pb.KEY_STATE_REVOKED: set()}
        for listed in (listed for entry in self.body.desks for listed in entry.keys):
            if listed.state in ended:
                ended[listed.state].add(suite.key_id(listed.key.suite, "desk", listed.key.key))
        revoked = frozenset(r.key for r in self.body.revocations) | ended[pb.KEY_STATE_REVOKED]
        tainted = frozenset(ended[pb.KEY_STATE_TAINTED])
        return RosterView(document, self.body, desks, missions, nodes, revoked, tainted, self.disabled, self.widens)

    def _check_names(self, missions: Mapping[str, pb.Mission], nodes: Mapping[str, pb.Node]) -> None:
        body = self.body
        for what, names in (
            ("missions", [m.mission for m in body.missions]),
            ("desks", [d.desk for d in body.desks]),
            ("nodes", [n.node for n in body.nodes]),
        ):
            if names != sorted(set(names)) or any(party_of(n) != body.party or not name_ok(n) for n in names):
                raise TrustError(f"{what} of a roster are sorted, unique, well-formed and of the issuing party")
        if any(m.kind not in KINDS or m.node not in nodes for m in missions.values()):
            raise TrustError("each mission has a kind this version knows and a node of this roster")
        if any(relay not in missions for n in nodes.values() for relay in n.relays):
            raise TrustError("a node relays only missions of its own roster")

    def _check_log_key(self, node: pb.Node) -> None:
        key = node.log_key
        if key.suite != suite.DESK_SUITE:
            raise UnknownSuiteError(f"{node.node} has a log key of suite {key.suite}", suite=key.suite)
        suite.check_signing_key(key.suite, key.key)
        suite.check_possession(
            key.suite,
            key.key,
            key.possession,
            lineage=self.lineage,
            party=self.body.party,
            name=node.node,
            role="log",
        )
        self.claims.add(key, node.node, "log")

    def _desks(self, missions: Mapping[str, pb.Mission]) -> dict[str, Desk]:
        desks: dict[str, Desk] = {}
        for entry in self.body.desks:
            mission = missions.get(mission_of(entry.desk))
            if mission is None:
                raise TrustError(f"desk {entry.desk} belongs to no mission of the roster", desk=entry.desk)
            try:
                keys = self._desk_keys(entry)
            except KeyFault as error:
                # A bad key disables its desk alone; the roster and everybody else go on.
                self.disabled[entry.desk] = str(error)
                self.events.append(f"{entry.desk}: disabled, {error}")
                continue
            desks[entry.desk] = Desk(entry.desk, mission.mission, keys, self._held_until(entry.desk, mission))
        return desks

    def _held_until(self, desk: str, mission: pb.Mission) -> int:
        """From when a desk may enter audiences: later than now for one that is new or whose mission changed its kind."""
        if self.previous is None:
            return 0
        before = self.previous.desks.get(desk)
        if before and self.previous.missions[before.mission].kind == mission.kind:
            return before.held_until_ms
        self.widens = True
        self.events.append(f"{desk}: new or re-kinded, enters audiences after the hold")
        return self.body.issue_time_ms + self.agreement.hold_ms

    def _check_caps(self, missions: Mapping[str, pb.Mission], desks: Mapping[str, Desk]) -> None:
        caps = {cap.kind: cap.desks for cap in self.agreement.caps}
        for name, mission in missions.items():
            count = sum(desk.mission == name for desk in desks.values())
            if mission.kind in caps and count > caps[mission.kind]:
                raise TrustError(f"{name} has {count} desks; the agreement allows {caps[mission.kind]}", mission=name)

    def _desk_keys(self, entry: pb.Desk) -> dict[bytes, DeskKey]:
        if not 0 < len(entry.keys) <= MAX_KEYS_PER_DESK:
            raise BadKeyError(f"{entry.desk} lists {len(entry.keys)} keys; 1 to {MAX_KEYS_PER_DESK}", desk=entry.desk)
        previous = self.previous
        before = previous.desks[entry.desk].keys if previous and entry.desk in previous.desks else {}
        same_generation = previous is not None and previous.body.generation == self.body.generation
        keys: dict[bytes, DeskKey] = {}
        for listed in entry.keys:
            key = listed.key
            if not pb.KEY_STATE_PREPARED <= listed.state <= pb.KEY_STATE_REVOKED:
                raise BadKeyError(f"a key of {entry.desk} is in no state this version knows", desk=entry.desk)
            identity = suite.key_id(key.suite, "desk", key.key)
            if identity not in before:
                self._check_new_key(entry.desk, key)
            elif same_generation and listed.state < before[identity].state:
                raise BadKeyError(f"a key of {entry.desk} goes back to an earlier state", desk=entry.desk)
            keys[identity] = DeskKey(
                identity, key.suite, key.key, listed.state, listed.first_use_ms, listed.last_use_ms
            )
        return keys

    def _check_new_key(self, desk: str, key: pb.PublicKey) -> None:
        check_desk_suite(key.suite, self.agreement, desk)
        suite.check_signing_key(key.suite, key.key)
        suite.check_possession(
            key.suite, key.key, key.possession, lineage=self.lineage, party=self.body.party, name=desk, role="desk"
        )
        self.claims.add(key, desk, "desk")
