"""Taking agreements: signed by the current root threshold of every party (docs/PROTOCOL.md section 4.4)."""

from typing import Final

from keys import documents
from keys.documents import Document
from keys.trust.claims import Claims
from keys.trust.errors import MissingDocumentError, TrustError, WrongLineageError
from keys.trust.held import Held, PartyChain, check_chain
from keys.trust.views import AgreementView
from keys.v1 import documents_pb2 as pb

MAX_PARTIES: Final = 16
MAX_DEAD: Final = 16
LINEAGE_BYTES: Final = 32


def take(held: Held, document: Document, now_ms: int) -> tuple[str, ...]:
    """Take the first agreement or the next."""
    body = _amended(held, document) if held.agreements else _founded(held, document)
    held.agreements.append(AgreementView(document, body, {rule.channel: rule for rule in body.channels}))
    held.hold(document)
    return (f"agreement version {body.version} taken",)


def _founded(held: Held, document: Document) -> pb.Agreement:
    if document.digest != held.lineage:
        raise WrongLineageError("this is not the first agreement of this exchange", digest=document.digest.hex())
    body = documents.body(document, pb.Agreement)
    chains = {}
    for member in body.parties:
        if member.first_party not in held.candidates:
            raise MissingDocumentError(f"the party document of {member.party} comes first", party=member.party)
        first, party = held.candidates[member.first_party]
        if party.party != member.party:
            raise TrustError(f"the party document of {member.party} names {party.party}", party=member.party)
        chains[member.party] = PartyChain([(first, party)])
        documents.require(document, party.root, role="root")
    check(body, None)
    claims = Claims(held.components)
    for chain in chains.values():
        claims.add_role_keys(chain.current)
    claims.commit()
    held.chains = chains
    for chain in chains.values():
        held.hold(chain.parties[0][0])
    held.candidates.clear()
    return body


def _amended(held: Held, document: Document) -> pb.Agreement:
    before = held.newest_agreement()
    for chain in held.chains.values():
        documents.require(document, chain.current.root, role="root")
    body = documents.body(document, pb.Agreement)
    held.require_lineage(body.lineage, "agreement")
    known = held.agreements[body.version - 1].digest if 0 < body.version <= before.body.version else None
    check_chain("agreement", body.version, body.previous, before.body.version, before.digest, known, document)
    check(body, before.body)
    return body


def check(body: pb.Agreement, held: pb.Agreement | None) -> None:
    """The rules of an agreement by itself, and against the one it amends.

    Raises:
        TrustError: Says which.
    """
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
    dead = list(body.dead_lineages)
    if dead != sorted(set(dead)) or len(dead) > MAX_DEAD or any(len(each) != LINEAGE_BYTES for each in dead):
        raise TrustError(f"dead lineages are of {LINEAGE_BYTES} bytes, sorted, unique and at most {MAX_DEAD}")
    if held is None:
        if body.version != 1 or body.lineage or body.previous:
            raise TrustError("a first agreement has version 1, no lineage and no previous")
        return
    if [(p.party, p.first_party) for p in held.parties] != [(p.party, p.first_party) for p in body.parties]:
        raise TrustError("a change of parties needs a new lineage")
    if body.drill != held.drill:
        raise TrustError("a drill never becomes production, nor production a drill: found another exchange")
    if dead != list(held.dead_lineages):
        raise TrustError("an amendment declares no lineage dead: people compare the words of a first agreement alone")
    if body.effective_time_ms <= held.effective_time_ms:
        raise TrustError("an amendment takes effect after what it amends")
    if body.grace_ms < body.lifetime_ms + 2 * body.skew_ms:
        raise TrustError("grace is at least L + 2S, or mail under way would be refused")
