"""Next documents of the chains of a World, well-formed unless a test bends them before signing."""

from collections.abc import Callable

from keys import documents, founding, suite
from keys.documents import Document
from keys.v1 import documents_pb2 as pb
from tests.world import NOON, World

Bend = Callable[..., None]
HOUR = founding.HOUR_MS
DAY = founding.DAY_MS


def unbent(_body: object) -> None:
    """Leave the body as it is."""


def next_roster(
    world: World,
    party: str,
    bend: Callable[[pb.Roster], None] = unbent,
    *,
    after: Document | None = None,
    now_ms: int = NOON,
) -> Document:
    """The roster after `after` (the world's first by default)."""
    after = after or world.rosters[party]
    body = documents.body(after, pb.Roster)
    body.version += 1
    body.previous = after.digest
    body.issue_time_ms, body.expire_time_ms = now_ms, now_ms + 90 * DAY
    bend(body)
    return world.parties[party].sign(documents.make(body), "roster")


def next_status(
    world: World,
    party: str,
    bend: Callable[[pb.Status], None] = unbent,
    *,
    version: int = 2,
    roster: Document | None = None,
    now_ms: int = NOON,
) -> Document:
    """A status of the party that names the world's documents."""
    made = founding.status(
        world.parties[party],
        lineage=world.lineage,
        agreement=world.agreement,
        roster=roster or world.rosters[party],
        version=version,
        now_ms=now_ms,
    )
    body = documents.body(made, pb.Status)
    bend(body)
    return world.parties[party].sign(documents.make(body), "status")


def next_agreement(
    world: World,
    bend: Callable[[pb.Agreement], None] = unbent,
    *,
    signers: tuple[str, ...] = ("kr", "nl"),
    effective_ms: int = NOON + 4 * DAY,
    after: Document | None = None,
) -> Document:
    """The agreement after `after` (version 1 by default), signed by the roots of `signers`."""
    after = after or world.agreement
    body = documents.body(after, pb.Agreement)
    body.version += 1
    body.lineage, body.previous = world.lineage, after.digest
    body.effective_time_ms = effective_ms
    bend(body)
    document = documents.make(body)
    for party in signers:
        document = world.parties[party].sign(document, "root")
    return document


def role_keys(
    party: str, role: str, keys: dict[str, suite.SigningKey], *, threshold: int, generation: int, lineage: bytes
) -> pb.RoleKeys:
    """Keys of a role with their proofs."""
    out = pb.RoleKeys(generation=generation, threshold=threshold)
    for holder, key in sorted(keys.items()):
        out.keys.add(holder=holder).key.CopyFrom(
            founding.public_key(key, lineage=lineage, party=party, name=holder, role=role)
        )
    return out


def next_party(
    world: World,
    party: str,
    replace: dict[str, dict[str, suite.SigningKey]],
    bend: Callable[[pb.Party], None] = unbent,
) -> Document:
    """Party document version 2 with the keys of some roles replaced; signed by all old and new roots."""
    old = world.parties[party]
    body = documents.body(old.document, pb.Party)
    body.lineage, body.version, body.previous, body.issue_time_ms = world.lineage, 2, old.document.digest, NOON
    for role, keys in replace.items():
        before = getattr(body, role)
        before.CopyFrom(
            role_keys(
                party,
                role,
                keys,
                threshold=min(before.threshold, len(keys)),
                generation=before.generation + 1,
                lineage=world.lineage,
            )
        )
    bend(body)
    document = old.sign(documents.make(body), "root")
    for key in replace.get("root", {}).values():
        document = documents.sign(document, key, role="root")
    return document


def with_roles(
    world: World, party: str, document: Document, replace: dict[str, dict[str, suite.SigningKey]]
) -> founding.PartyKeys:
    """The party's keys after `next_party`."""
    old = world.parties[party]
    return founding.PartyKeys(party, {**old.keys, **replace}, document)
