"""Making documents: party keys, the first agreement, rosters, statuses, key cards. Draws keys; no files, no clock.

Each function returns documents signed by the keys it is given; whoever takes them verifies them like any other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from keys import documents, suite
from keys.documents import Document
from keys.trust import party_of
from keys.v1 import documents_pb2 as pb

HOUR_MS: Final = 3600 * 1000
DAY_MS: Final = 24 * HOUR_MS
ROLE_SUITES: Final = {"root": suite.ROOT_SUITE, "roster": suite.DESK_SUITE, "status": suite.DESK_SUITE}


@dataclass(slots=True)
class PartyKeys:
    """The private keys of one party by role and holder, and its Party document."""

    party: str
    keys: Mapping[str, Mapping[str, suite.SigningKey]] = field(repr=False)
    document: Document

    def sign(self, document: Document, role: str, holders: Sequence[str] | None = None) -> Document:
        """Sign with the keys of a role, of all holders unless named."""
        for holder in holders if holders is not None else self.keys[role]:
            document = documents.sign(document, self.keys[role][holder], role=role)
        return document


def public_key(key: suite.Signer, *, lineage: bytes, party: str, name: str, role: str) -> pb.PublicKey:
    """A public key with its proof of possession."""
    possession = suite.prove_possession(key, lineage=lineage, party=party, name=name, role=role)
    return pb.PublicKey(suite=key.suite, key=key.public, possession=possession)


def found_party(
    party: str,
    *,
    now_ms: int,
    holders: Mapping[str, Sequence[str]] | None = None,
    threshold: Mapping[str, int] | None = None,
) -> PartyKeys:
    """Draw the keys of a party and sign its first Party document.

    Args:
        party: ISO 3166-1 alpha-2 in lower case.
        now_ms: Issue time, ms UTC.
        holders: Holder names per role ("root", "roster", "status"); three roots, two of them needed, by default.
        threshold: How many holders sign, per role.
    """
    holders = holders or {"root": ("first", "second", "third"), "roster": ("staff",), "status": ("duty",)}
    threshold = threshold or {"root": 2, "roster": 1, "status": 1}
    keys = {
        role: {holder: suite.SigningKey.generate(ROLE_SUITES[role]) for holder in sorted(names)}
        for role, names in holders.items()
    }
    body = pb.Party(party=party, version=1, issue_time_ms=now_ms)
    for role, owned in keys.items():
        fill = getattr(body, role)
        fill.generation, fill.threshold = 1, threshold[role]
        for holder, key in owned.items():
            fill.keys.add(holder=holder).key.CopyFrom(public_key(key, lineage=b"", party=party, name=holder, role=role))
    document = documents.make(body)
    for key in keys["root"].values():
        document = documents.sign(document, key, role="root")
    return PartyKeys(party, keys, document)


def agreement(body: pb.Agreement, parties: Sequence[PartyKeys]) -> Document:
    """Sign an agreement with the root keys of every party; the first one's digest is the lineage."""
    if not body.parties:
        for party in sorted(parties, key=lambda p: p.party):
            body.parties.add(party=party.party, first_party=party.document.digest)
    document = documents.make(body)
    for party in parties:
        document = party.sign(document, "root")
    return document


def next_roster(
    party: PartyKeys,
    body: pb.Roster,
    *,
    lineage: bytes,
    previous: Document | None,
    now_ms: int,
    life_ms: int = 90 * DAY_MS,
) -> Document:
    """Number, date, sort and sign a roster.

    Args:
        body: Missions, desks, nodes, revocations and suspensions; the rest is filled in.
        previous: The roster before, of the same generation.
    """
    before = documents.body(previous, pb.Roster) if previous else None
    body.lineage, body.party, body.generation = lineage, party.party, before.generation if before else 1
    body.version = before.version + 1 if before else 1
    body.previous = previous.digest if previous else b""
    body.issue_time_ms, body.expire_time_ms = now_ms, now_ms + life_ms
    body.missions.sort(key=lambda mission: mission.mission)
    body.desks.sort(key=lambda desk: desk.desk)
    body.nodes.sort(key=lambda node: node.node)
    body.revocations.sort(key=lambda revocation: revocation.key)
    return party.sign(documents.make(body), "roster")


def desk_entry(desk: str, key: suite.Signer, *, lineage: bytes, first_use_ms: int = 0) -> pb.Desk:
    """A roster entry for a desk with one active key."""
    entry = pb.Desk(desk=desk)
    listed = entry.keys.add(state=pb.KEY_STATE_ACTIVE, first_use_ms=first_use_ms)
    party = party_of(desk)
    listed.key.CopyFrom(public_key(key, lineage=lineage, party=party, name=desk, role="desk"))
    return entry


def status(
    party: PartyKeys,
    *,
    lineage: bytes,
    agreement: Document,
    roster: Document,
    version: int,
    now_ms: int,
    suspensions: Sequence[pb.Suspension] = (),
    seen: Sequence[pb.Seen] = (),
) -> Document:
    """A party's word on what is newest; suspensions are repeated until the party's next roster.

    Args:
        seen: What is held of the others (`keys.drafts.seen`).
    """
    named_agreement = documents.body(agreement, pb.Agreement)
    named_party = documents.body(party.document, pb.Party)
    named_roster = documents.body(roster, pb.Roster)
    body = pb.Status(
        lineage=lineage,
        party=party.party,
        generation=named_party.status.generation,
        version=version,
        issue_time_ms=now_ms,
        agreement=pb.Reference(version=named_agreement.version, digest=agreement.digest),
        party_document=pb.Reference(version=named_party.version, digest=party.document.digest),
        roster=pb.Reference(generation=named_roster.generation, version=named_roster.version, digest=roster.digest),
        suspensions=suspensions,
        seen=seen,
    )
    return party.sign(documents.make(body), "status")


def key_card(desk: str, key: suite.Signer, card: suite.CardKey, *, lineage: bytes, week: int) -> Document:
    """A desk's encryption key for one calendar week, signed by the desk."""
    body = pb.KeyCard(lineage=lineage, desk=desk, week=week, suite=key.suite, key=card.public)
    return documents.sign(documents.make(body), key, role="desk")


def standard_agreement(*, now_ms: int, title: str, drill: bool = False, life_ms: int = 730 * DAY_MS) -> pb.Agreement:
    """A draft with the seven channels and the default bounds (R 72 h, L 14 d, S 5 min); parties are added when signing.

    Governments publish and read up to AMBER+STRICT or RED; companies and universities read up to GREEN on the
    open channels and publish nothing.
    """
    body = pb.Agreement(
        version=1,
        title=title,
        suites=[suite.DESK_SUITE],
        protocols=[1],
        revocation_ms=72 * HOUR_MS,
        lifetime_ms=14 * DAY_MS,
        skew_ms=5 * 60 * 1000,
        hold_ms=24 * HOUR_MS,
        effective_time_ms=now_ms,
        expire_time_ms=now_ms + life_ms,
        grace_ms=14 * DAY_MS + 10 * 60 * 1000,
        drill=drill,
    )
    government = (
        pb.MISSION_KIND_EMBASSY,
        pb.MISSION_KIND_CONSULATE,
        pb.MISSION_KIND_MINISTRY,
        pb.MISSION_KIND_AGENCY,
    )
    for kind, count in (
        *((kind, 32) for kind in government),
        (pb.MISSION_KIND_COMPANY, 4),
        (pb.MISSION_KIND_UNIVERSITY, 4),
    ):
        body.caps.add(kind=kind, desks=count)
    for channel in sorted(("minerals", "materials", "equipment", "chips", "logistics", "alerts", "consultation")):
        rule = body.channels.add(channel=channel, gap_wait_ms=0 if channel == "alerts" else 30_000)
        for kind in government:
            rule.publish.add(kind=kind)
            rule.read.add(highest=pb.MARKING_RED).who.kind = kind
        if channel not in ("alerts", "consultation"):
            rule.cadence_ms = 35 * DAY_MS
            for kind in (pb.MISSION_KIND_COMPANY, pb.MISSION_KIND_UNIVERSITY):
                rule.read.add(highest=pb.MARKING_GREEN).who.kind = kind
        else:
            rule.acknowledge = True
    return body
