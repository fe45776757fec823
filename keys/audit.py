"""The audit of an exchange: every chain walked from its first document, every signature checked again. No I/O, no clock.

A node takes a document and goes on. An audit asks afterwards: who signed what, is any number missing or there twice,
what was handed in that nobody should have taken.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from keys import documents
from keys.ceremony import Group, progress
from keys.documents import Document
from keys.errors import TocsinError
from keys.lifetimes import DAY_MS
from keys.trust import RollbackError, Trust
from keys.v1 import documents_pb2 as pb

CHAINED: Final = ("tocsin/1/agreement", "tocsin/1/party", "tocsin/1/roster")
ROLES: Final = {"tocsin/1/party": "root", "tocsin/1/roster": "roster", "tocsin/1/status": "status"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        bad: Something to act on.
        subject: The document or chain, such as "kr roster 1.2".
        text: What was found.
    """

    bad: bool
    subject: str
    text: str


def subject(document: Document) -> str:
    """What a document is called: "agreement 1", "kr party document 2", "nl roster 1.3"."""
    body = documents.peek(document)
    party = getattr(body, "party", "") or getattr(body, "desk", "")
    number = str(getattr(body, "version", 0) or getattr(body, "week", 0))
    if generation := getattr(body, "generation", 0):
        number = f"{generation}.{number}"
    name = document.type.rpartition("/")[2]
    name = {"party": "party document", "card": "key card of week"}.get(name, name)
    return " ".join(part for part in (party, name, number) if part)


def audit(
    found: Sequence[Document], trust: Trust, refused: Sequence[tuple[Document, TocsinError]], *, now_ms: int
) -> list[Finding]:
    """The report over all documents handed in, in the order in which they can be taken.

    Args:
        found: Everything handed in, each digest once.
        trust: What was taken of it.
        refused: What was not, and why.
        now_ms: Milliseconds UTC.
    """
    report = [*_signatures(trust)]
    report += _twins(found, trust)
    report += _refusals(refused, trust)
    report += _now(trust, now_ms)
    return report


def groups_at(document: Document, trust: Trust) -> tuple[Group, ...]:
    """Whose thresholds signed a document, by the Party documents of its time; empty for what desks sign."""
    body = documents.peek(document)
    if isinstance(body, pb.Agreement):
        # By the first of every party's documents under which it is complete: roots may have been replaced since.
        return tuple(_agreement_group(document, trust, party.party) for party in body.parties)
    role = ROLES.get(document.type)
    if role is None:
        return ()
    party = getattr(body, "party", "")
    chain = [documents.body(d, pb.Party) for d in trust.documents() if _is_party(d, party)]
    if isinstance(body, pb.Party):
        keys = body.root
    else:
        generation = getattr(body, "generation", 0)
        keys = next((k for p in chain if (k := getattr(p, role)).generation == generation), pb.RoleKeys(threshold=1))
    return (Group(f"{party} {role}", keys, role),)


def _signatures(trust: Trust) -> Iterator[Finding]:
    """Every document held, with its signers; all that are held were complete when they were taken."""
    for document in trust.documents():
        groups = groups_at(document, trust)
        if not groups:
            continue
        who = progress(document, groups)
        signed = "; ".join(f"{group.name}: {', '.join(status.signed)}" for group, status in who.groups)
        yield Finding(not who.complete, subject(document), f"signed by {signed}; digest {document.digest.hex()}")


def _twins(found: Sequence[Document], trust: Trust) -> Iterator[Finding]:
    """Two documents at one number, both validly signed: their signers told two stories."""
    seen: dict[str, Document] = {}
    for document in found:
        if document.type not in (*CHAINED, "tocsin/1/status"):
            continue
        name = subject(document)
        other = seen.setdefault(name, document)
        if other.digest == document.digest:
            continue
        both = all(progress(d, groups_at(d, trust)).complete for d in (other, document))
        text = "two documents at this number, both validly signed: keep both as evidence and ask the party"
        if not both:
            text = "another document claims this number, without enough signatures"
        yield Finding(True, name, f"{text}; digests {other.digest.hex()} and {document.digest.hex()}")


def _refusals(refused: Sequence[tuple[Document, TocsinError]], trust: Trust) -> Iterator[Finding]:
    for document, error in refused:
        if document.type == "tocsin/1/status" and isinstance(error, RollbackError):
            # Only the newest status counts; older ones are history, if they are signed.
            if progress(document, groups_at(document, trust)).complete:
                yield Finding(False, subject(document), "an older status, validly signed")
            else:
                yield Finding(True, subject(document), "an older status without enough signatures")
        elif document.type == "tocsin/1/card":
            yield Finding(False, subject(document), f"not in use: {error}")
        else:
            yield Finding(True, subject(document), f"refused, {error.reason}: {error}")


def _now(trust: Trust, now_ms: int) -> Iterator[Finding]:
    for party in trust.stale(now_ms):
        yield Finding(True, f"{party} status", "older than R, or none: revocations may be unknown")
    for party in trust.parties:
        if not trust.has_roster(party):
            yield Finding(True, f"{party} roster", "none is held")
            continue
        body = trust.roster(party).body
        if body.expire_time_ms <= now_ms:
            days = (now_ms - body.expire_time_ms) // DAY_MS
            yield Finding(True, f"{party} roster {body.generation}.{body.version}", f"ended {days} days ago")
        for desk, why in trust.roster(party).disabled.items():
            yield Finding(True, desk, f"disabled: {why}")


def _agreement_group(document: Document, trust: Trust, party: str) -> Group:
    chain = [documents.body(d, pb.Party).root for d in trust.documents() if _is_party(d, party)]
    groups = [Group(f"{party} root", keys, "root") for keys in chain]
    # A party nobody knows: no key of it counts.
    groups.append(Group(f"{party} root", pb.RoleKeys(threshold=1), "root"))
    return next((g for g in groups if g.explain(document).complete), groups[0])


def _is_party(document: Document, party: str) -> bool:
    return document.type == "tocsin/1/party" and getattr(documents.peek(document), "party", "") == party
