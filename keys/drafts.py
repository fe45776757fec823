"""The next document of a chain, unsigned: made from the newest one held, so that nothing it says is lost. No I/O, no keys."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from keys import documents
from keys.documents import Document
from keys.errors import UsageError
from keys.trust import MAX_ROSTER_MS, MissingDocumentError, Trust
from keys.v1 import documents_pb2 as pb

ROLES: Final = ("root", "roster", "status")


def next_roster(
    trust: Trust,
    party: str,
    change: Callable[[pb.Roster], None],
    *,
    now_ms: int,
    base: bytes = b"",
    life_ms: int = MAX_ROSTER_MS,
) -> Document:
    """The roster after the newest one held, or the first under new roster keys: a copy with one change.

    What the party suspended by its status since goes into it: a roster lifts those suspensions, and nobody who changes
    a key means to lift one.

    Args:
        trust: What is held.
        party: Whose roster.
        change: Changes the copy.
        now_ms: Issue time; raised to that of the roster before, whose clock may be ahead.
        base: Digest of an earlier roster to copy instead: what a thief of the roster keys wrote is left behind.
        life_ms: Until its end, at most 90 days.

    Raises:
        MissingDocumentError: The party has no roster yet, or `base` is not held.
    """
    before = trust.roster(party)
    body = pb.Roster()
    body.CopyFrom(trust.find_roster(base).body if base else before.body)
    generation = trust.party_document(party).roster.generation
    if generation == before.body.generation:
        body.version, body.previous = before.body.version + 1, before.document.digest
    else:
        body.generation, body.version, body.previous = generation, 1, b""
    body.issue_time_ms = max(now_ms, before.body.issue_time_ms)
    body.expire_time_ms = body.issue_time_ms + life_ms
    status = trust.status(party)
    if status is not None and (status.roster.generation, status.roster.version) >= before.number:
        held = [s.SerializeToString(deterministic=True) for s in body.suspensions]
        body.suspensions.extend(s for s in status.suspensions if s.SerializeToString(deterministic=True) not in held)
    change(body)
    for desk in body.desks:
        desk.keys.sort(key=lambda listed: listed.key.key)
    body.missions.sort(key=lambda mission: mission.mission)
    body.desks.sort(key=lambda desk: desk.desk)
    body.nodes.sort(key=lambda node: node.node)
    body.revocations.sort(key=lambda revocation: revocation.key)
    return documents.make(body)


def next_party(trust: Trust, party: str, *, role: str, keys: pb.RoleKeys, now_ms: int) -> Document:
    """The Party document after the newest one held, with the keys of one role replaced and its generation raised.

    Args:
        trust: What is held.
        party: Whose.
        role: "root", "roster" or "status".
        keys: Holders, keys with proofs of possession, and threshold; the generation is filled in.
        now_ms: Issue time.

    Raises:
        UsageError: No such role, or the very keys the role has.
    """
    if role not in ROLES:
        raise UsageError(f"no role {role!r}", hint=f"one of {', '.join(ROLES)}")
    held = trust.party_document(party)
    body = pb.Party()
    body.CopyFrom(held)
    before: pb.RoleKeys = getattr(held, role)
    after: pb.RoleKeys = getattr(body, role)
    after.CopyFrom(keys)
    after.keys.sort(key=lambda holder: holder.holder)
    after.generation = before.generation + 1
    if [k.key.key for k in before.keys] == [k.key.key for k in after.keys] and before.threshold == after.threshold:
        raise UsageError(f"these are the {role} keys that {party} has", hint="draw new ones first")
    reference = party_reference(trust, party)
    body.lineage, body.version, body.previous = trust.lineage, held.version + 1, reference.digest
    body.issue_time_ms = now_ms
    return documents.make(body)


def next_status(
    trust: Trust, party: str, *, now_ms: int, suspensions: Iterable[pb.Suspension] = (), after: int = 0
) -> Document:
    """The status that names the newest documents held, repeats what must be repeated, and says what is held of others.

    Args:
        trust: What is held.
        party: Whose status.
        now_ms: Issue time; raised to that of the status before.
        suspensions: New ones, urgent.
        after: Highest version issued as far as its issuer knows, if it may be more than is held.

    Raises:
        MissingDocumentError: No agreement or no roster of the party is held.
    """
    roster = trust.roster(party)
    agreement = trust.agreement(now_ms)
    newest = trust.agreement(2**63)
    held = trust.status(party)
    body = pb.Status(
        lineage=trust.lineage,
        party=party,
        generation=trust.party_document(party).status.generation,
        version=max(held.version if held else 0, after) + 1,
        issue_time_ms=max(now_ms, held.issue_time_ms if held else 0),
        party_document=party_reference(trust, party),
        roster=roster_reference(trust, party),
        seen=seen(trust, party),
    )
    named = newest if newest.body.version > agreement.body.version else agreement
    body.agreement.version, body.agreement.digest = named.body.version, named.digest
    if held is not None:
        if (held.roster.generation, held.roster.version) == roster.number:
            body.suspensions.extend(held.suspensions)
        if held.HasField("annex"):
            body.annex.CopyFrom(held.annex)
    known = [s.SerializeToString(deterministic=True) for s in body.suspensions]
    body.suspensions.extend(s for s in suspensions if s.SerializeToString(deterministic=True) not in known)
    return documents.make(body)


def seen(trust: Trust, party: str) -> list[pb.Seen]:
    """What is held of every other party, for `party` to say in its status."""
    found = []
    for other in trust.parties:
        if other == party:
            continue
        one = pb.Seen(party=other, party_document=party_reference(trust, other))
        with suppress(MissingDocumentError):
            one.roster.CopyFrom(roster_reference(trust, other))
        found.append(one)
    return found


def party_reference(trust: Trust, party: str) -> pb.Reference:
    """Number and digest of the newest Party document of a party."""
    body = trust.party_document(party)
    # Held bodies are canonical: these are the bytes that were signed.
    return pb.Reference(version=body.version, digest=documents.make(body).digest)


def roster_reference(trust: Trust, party: str) -> pb.Reference:
    """Number and digest of the newest roster of a party.

    Raises:
        MissingDocumentError: It has none.
    """
    view = trust.roster(party)
    return pb.Reference(generation=view.body.generation, version=view.body.version, digest=view.document.digest)
