"""The exchange that takes the place of a dead one: its first agreement drafted from the old terms, and told to a machine.

A party below its root threshold can change nothing any more: the parties meet and found anew. Whoever is told to believe
that must be told by its own people: anyone can sign an 'agreement' that lists our lineage as dead. No I/O, no clock.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from keys import documents, suite
from keys.documents import Document
from keys.errors import PeerError, UsageError
from keys.trust import AgreementView, Trust
from keys.trust.claims import ROLES
from keys.v1 import documents_pb2 as pb

NEVER_MIXED: Final = "an exercise never takes the place of production, nor production that of an exercise"


class NotSuccessorError(PeerError):
    """An agreement that does not take the place of this exchange, or is not the one that people compared."""

    status, reason = "FAILED_PRECONDITION", "CEREMONY_NOT_SUCCESSOR"
    hint = "compare all 24 words of the new agreement with those of its ceremony"


@dataclass(frozen=True, slots=True)
class Successor:
    """The exchange that took another's place.

    Attributes:
        agreement: Its first agreement.
        documents: The party documents that came before it, and it: what proves it.
    """

    agreement: AgreementView
    documents: tuple[Document, ...]

    @property
    def lineage(self) -> bytes:
        """Its identity, 32 bytes."""
        return self.agreement.digest


def draft(
    old: Trust, firsts: Mapping[str, Document], *, lost: Collection[str], terms: pb.Agreement | None, now_ms: int
) -> pb.Agreement:
    """The first agreement of the exchange that takes the place of `old`, with its lineage listed as dead.

    Args:
        old: What is held of the dead exchange.
        firsts: First party documents of the new one by party, verified.
        lost: Parties that lost their roots; none of their old root keys comes back.
        terms: Other terms than those of the newest agreement; then it lasts as long as those say.
        now_ms: When it takes effect, ms UTC; under the old terms it lasts as long as the old one was to.

    Raises:
        UsageError: Other parties, first documents that bring back what was lost or replaced, an exercise for production.
    """
    before = old.agreements[-1].body
    if list(old.parties) != sorted(firsts):
        raise UsageError(
            f"the old exchange is of {', '.join(old.parties)}, the party documents are of {', '.join(sorted(firsts))}",
            hint="give the first party document of each party of the new exchange with --held",
        )
    if unknown := sorted(set(lost) - set(old.parties)):
        raise UsageError(f"{unknown[0]} is no party of the old exchange", hint=f"one of {', '.join(old.parties)}")
    if terms is not None and terms.drill != before.drill:
        raise UsageError(NEVER_MIXED, hint="correct `drill` in the terms")
    if not lost:
        raise UsageError("which party lost its roots?", hint="name it with --lost")
    for party, document in firsts.items():
        _require_fit(old, party, document, lost=party in lost)
    body = pb.Agreement()
    if terms is None:
        body.CopyFrom(before)
        body.effective_time_ms = now_ms
        body.expire_time_ms = now_ms + before.expire_time_ms - before.effective_time_ms
    else:
        body.CopyFrom(terms)
    body.version, body.lineage, body.previous = 1, b"", b""
    del body.parties[:], body.dead_lineages[:]
    for party, document in sorted(firsts.items()):
        body.parties.add(party=party, first_party=document.digest)
    body.dead_lineages.extend(sorted({old.lineage, *before.dead_lineages}))
    return body


def verify(found: Iterable[Document], *, lineage: bytes, old: Trust, party: str, now_ms: int) -> Successor:
    """The successor of an exchange, as its people compared it.

    Args:
        found: Documents of the new exchange, among them its first agreement; others are left aside.
        lineage: Digest of that agreement, from its 24 words: what people compared.
        old: What is held of the exchange that is to be dead.
        party: Whose machine is told.
        now_ms: Milliseconds UTC.

    Raises:
        UsageError: Nothing is held of the old exchange.
        NotSuccessorError: Another agreement, or one that does not list the old lineage as dead.
        TrustError: Or another PeerError: it is not signed by the roots of every party, or breaks a rule.
    """
    if not old.founded:
        raise UsageError(
            "no agreement is held of the exchange that is to be dead", hint="put the ministry's bundle there first"
        )
    firsts, agreement = [], None
    for document in found:
        body = documents.peek(document)
        if isinstance(body, pb.Party) and body.version == 1:
            firsts.append(document)
        elif isinstance(body, pb.Agreement) and body.version == 1:
            agreement = document
            if document.digest != lineage:
                raise NotSuccessorError(f"the first agreement in the file, {document.digest.hex()}, has other words")
    if agreement is None:
        raise NotSuccessorError("the file holds no first agreement", hint="give the bundle of the new exchange")
    new = Trust(lineage)
    for document in (*firsts, agreement):
        new.take(document, now_ms=now_ms)
    view, before = new.agreements[0], old.agreements[0].body
    if old.lineage not in view.body.dead_lineages:
        raise NotSuccessorError(f"the new agreement does not list lineage {old.lineage.hex()} as dead")
    if view.body.drill != before.drill:
        raise NotSuccessorError(NEVER_MIXED, hint="which directory is it for?")
    if party not in new.parties:
        raise NotSuccessorError(f"{party} is no party of the new agreement")
    return Successor(view, tuple(new.documents()))


def listed_as_dead(document: Document) -> tuple[bytes, ...]:
    """What a document says is dead; nothing of it is verified."""
    body = documents.peek(document)
    return tuple(body.dead_lineages) if isinstance(body, pb.Agreement) else ()


def _require_fit(old: Trust, party: str, first: Document, *, lost: bool) -> None:
    """Keys may go on into the new exchange, in the role and hands they had last; lost roots may not.

    Every signature but those under first documents is over a body that names its lineage, so one given in the old
    exchange counts in no other. Keys of desks and nodes never go on: proofs and log origins (docs/PROTOCOL.md 4.8).
    """
    chain = [documents.body(d, pb.Party) for d in old.documents() if _is_party(d, party)]
    held = {half: owner for body in chain for owner, half in _halves(body)}
    current = {half for _, half in _halves(chain[-1])}
    for owner, half in _halves(documents.body(first, pb.Party)):
        role, holder = owner
        if half not in held:
            continue
        if lost and "root" in (role, held[half][0]):
            raise UsageError(
                f"the new party document of {party} has a root key of the dead exchange, that of {holder}",
                hint="draw all root keys of the party that lost its roots anew: nobody knows who has the others",
            )
        if half not in current or held[half] != owner:
            raise UsageError(
                f"the {role} key of {holder} in the new party document of {party} was replaced in the dead exchange, or"
                " belonged to another role or holder",
                hint="`key part` for the keys of today, or new ones, then `party draft`",
            )


def _halves(body: pb.Party) -> Iterator[tuple[tuple[str, str], bytes]]:
    for role in ROLES:
        for holder in getattr(body, role).keys:
            for half in suite.components(holder.key.suite, holder.key.key):
                yield (role, holder.holder), half


def _is_party(document: Document, party: str) -> bool:
    return document.type == "tocsin/1/party" and getattr(documents.peek(document), "party", "") == party
