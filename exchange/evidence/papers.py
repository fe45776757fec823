"""The documents of a file of evidence, verified in its order. A part of `exchange.evidence.verify`, as independent as it."""

from dataclasses import dataclass, field
from typing import Final, TypeVar

from google.protobuf.message import DecodeError, Message

from exchange.errors import EvidenceError
from keys import suite
from keys.encoding import leaf_digest, pae, parse_canonical
from keys.errors import TocsinError
from keys.v1 import documents_pb2 as docs

M = TypeVar("M", bound=Message)
MAX_SIGNATURES: Final = 64
ENDED: Final = frozenset({docs.KEY_STATE_TAINTED, docs.KEY_STATE_REVOKED})


@dataclass(slots=True)
class Papers:
    """The documents of a file, taken in its order: what each needs comes before it."""

    lineage: bytes
    agreements: dict[bytes, docs.Agreement] = field(default_factory=dict)
    newest: docs.Agreement | None = None
    newest_digest: bytes = b""
    parties: dict[str, tuple[bytes, docs.Party]] = field(default_factory=dict)
    first: dict[bytes, docs.Party] = field(default_factory=dict)
    rosters: dict[bytes, docs.Roster] = field(default_factory=dict)
    statuses: dict[str, docs.Status] = field(default_factory=dict)
    renounced: dict[bytes, tuple[bytes, int]] = field(default_factory=dict)

    def take(self, data: bytes) -> None:
        """Verify one document under those before it."""
        need(len(data) <= 1_000_000, "a document is too long")
        signed = parse_canonical(docs.Signed, data)
        need(len(signed.signatures) <= MAX_SIGNATURES, "a document has too many signatures")
        identity = leaf_digest(pae("tocsin/1/document", signed.type, signed.body))
        takers = {"agreement": self._agreement, "party": self._party, "roster": self._roster, "status": self._status,
                  "renunciation": self._renunciation}  # fmt: skip
        taker = takers.get(signed.type.removeprefix("tocsin/1/"))
        if taker is None:
            raise EvidenceError(f"a document of type {signed.type[:64]} is no evidence")
        taker(signed, identity)

    def _agreement(self, signed: docs.Signed, identity: bytes) -> None:
        if self.newest is None:
            need(
                identity == self.lineage,
                "the first agreement is not the one compared: another exchange, or a false one",
            )
            body = parse_canonical(docs.Agreement, signed.body)
            for member in body.parties:
                need(member.first_party in self.first, f"the first party document of {member.party} is missing")
                party = self.first[member.first_party]
                need(party.party == member.party, f"the party document of {member.party} names another party")
                self.parties[member.party] = (member.first_party, party)
        for _, party in self.parties.values():
            require(signed, party.root, "root")
        body = parse_canonical(docs.Agreement, signed.body)
        if self.newest is not None:
            need(body.lineage == self.lineage, "an agreement of another exchange")
            chained = (body.version, body.previous) == (self.newest.version + 1, self.newest_digest)
            need(chained, f"agreement {body.version} does not follow the one before")
        self.newest, self.newest_digest, self.agreements[identity] = body, identity, body

    def _party(self, signed: docs.Signed, identity: bytes) -> None:
        body = hint(docs.Party, signed.body)
        held_id, held = self.parties.get(body.party, (b"", body))
        require(signed, held.root, "root")
        require(signed, body.root, "root")
        body = parse_canonical(docs.Party, signed.body)
        if self.newest is None:
            need(body.version == 1 and not body.lineage, "a first party document has version 1 and no lineage")
            self.first[identity] = body
            return
        need(body.party in self.parties and body.lineage == self.lineage, "a party document of another exchange")
        chained = (body.version, body.previous) == (held.version + 1, held_id)
        need(chained, f"{body.party} party document {body.version} does not follow the one before")
        self.parties[body.party] = (identity, body)

    def _of(self, name: str) -> docs.Party:
        need(name in self.parties, f"a document of {name[:64]}, which is no party")
        return self.parties[name][1]

    def _roster(self, signed: docs.Signed, identity: bytes) -> None:
        party = self._of(hint(docs.Roster, signed.body).party)
        require(signed, party.roster, "roster")
        body = parse_canonical(docs.Roster, signed.body)
        ours = (body.lineage, body.party, body.generation) == (self.lineage, party.party, party.roster.generation)
        need(ours, "a roster of another exchange, party or generation")
        self.rosters[identity] = body

    def _status(self, signed: docs.Signed, _: bytes) -> None:
        party = self._of(hint(docs.Status, signed.body).party)
        require(signed, party.status, "status")
        body = parse_canonical(docs.Status, signed.body)
        ours = (body.lineage, body.party, body.generation) == (self.lineage, party.party, party.status.generation)
        need(ours, "a status of another exchange, party or generation")
        self.statuses[body.party] = body

    def _renunciation(self, signed: docs.Signed, identity: bytes) -> None:
        named = hint(docs.Renunciation, signed.body)
        key = next((k for r in self.rosters.values() if (k := desk_key(r, named.desk, named.key))), None)
        if key is None:
            raise EvidenceError("a renunciation of a key that no roster here lists")
        require(signed, docs.RoleKeys(threshold=1, keys=[docs.HolderKey(holder="desk", key=key.key)]), "desk")
        body = parse_canonical(docs.Renunciation, signed.body)
        need(body.lineage == self.lineage, "a renunciation of another exchange")
        self.renounced[body.key] = (identity, body.time_ms)

    def roster_of(self, party: str) -> docs.Roster | None:
        """The newest roster of a party in the file."""
        ours = [r for r in self.rosters.values() if r.party == party]
        return max(ours, key=lambda r: (r.generation, r.version), default=None)

    def log_keys(self, node: str) -> list[docs.PublicKey]:
        """Every log key that a roster of its party's newest generation shown here lists for a node."""
        newest = self.roster_of(party_of(node))
        number = (newest.party, newest.generation) if newest else None
        ours = [r for r in self.rosters.values() if (r.party, r.generation) == number]
        return [n.log_key for r in ours for n in r.nodes if n.node == node]

    def endings(self, sender: str, key: bytes) -> tuple[bool, set[bytes], int]:
        """Whether a key ended; the documents that ended it first; the earliest time that is claimed for it.

        Where the file does not show which roster was the first, that set is empty: no position can be derived.
        """
        found, claims = set(), []
        if key in self.renounced:
            identity, time_ms = self.renounced[key]
            found.add(identity)
            claims.append(time_ms)
        newest = self.roster_of(party_of(sender))
        number = (newest.party, newest.generation) if newest else None
        ours = {d: r for d, r in self.rosters.items() if (r.party, r.generation) == number}
        ending = {d: r for d, r in ours.items() if lists_end(r, sender, key)}
        claims += [r.time_ms for roster in ending.values() for r in roster.revocations if r.key == key and r.time_ms]
        if ending:
            identity, first = min(ending.items(), key=lambda one: one[1].version)
            claims.append(first.issue_time_ms)
            if first.version > 1 and first.previous not in ours:
                return True, set(), min(claims)
            found.add(identity)
        return bool(found), found, min(claims, default=0)


def need(holds: bool, text: str) -> None:
    """Refuse unless it holds."""
    if not holds:
        raise EvidenceError(text)


def hint(kind: type[M], body: bytes) -> M:
    """Read an unverified body only to choose which keys to try."""
    try:
        return kind.FromString(body)
    except DecodeError:
        raise EvidenceError("a document does not parse") from None


def party_of(name: str) -> str:
    """Party of a desk or node."""
    return name.partition(".")[0]


def signed_by(key: docs.PublicKey, message: bytes, signature: bytes, ctx: str) -> bool:
    """Whether a signature holds."""
    try:
        suite.verify(key.suite, key.key, message, signature, ctx=ctx)
    except TocsinError:
        return False
    return True


def require(signed: docs.Signed, role: docs.RoleKeys, name: str) -> None:
    """Refuse a document that fewer holders signed than the role's threshold."""
    message = pae("tocsin/1/document", signed.type, signed.body)
    by_id = {suite.key_id(k.key.suite, name, k.key.key): k for k in role.keys}
    holders = {
        holder.holder
        for s in signed.signatures
        if (holder := by_id.get(s.key)) and signed_by(holder.key, message, s.signature, signed.type)
    }
    need(
        1 <= role.threshold <= len(holders), f"{signed.type}: {len(holders)} of {role.threshold} {name} holders signed"
    )


def desk_key(roster: docs.Roster, desk: str, key: bytes) -> docs.DeskKey | None:
    """A desk's key by its identity."""
    listed = (k for d in roster.desks if d.desk == desk for k in d.keys)
    return next((k for k in listed if suite.key_id(k.key.suite, "desk", k.key.key) == key), None)


def lists_end(roster: docs.Roster, desk: str, key: bytes) -> bool:
    """Whether a roster ends a key."""
    listed = desk_key(roster, desk, key)
    return any(r.key == key for r in roster.revocations) or (listed is not None and listed.state in ENDED)
