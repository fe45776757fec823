"""Taking statuses: a party's daily word on what is newest (docs/PROTOCOL.md section 4.4)."""

from typing import Final

from keys import documents
from keys.documents import Document
from keys.trust.errors import EquivocationError, RollbackError, TrustError
from keys.trust.held import Held, PartyChain
from keys.v1 import documents_pb2 as pb

MAX_STATUSES: Final = 100
"""A status is kept in every log for ever; a party that issues one a day, and one for each suspension, needs far fewer."""
DAY_MS: Final = 86_400_000


def take(held: Held, document: Document, now_ms: int) -> tuple[str, ...]:
    """Take a status that is newer than the one held; it takes that one's place."""
    chain = held.claimed_chain(document)
    documents.require(document, chain.current.status, role="status")
    body = documents.body(document, pb.Status)
    held.require_lineage(body.lineage, "status")
    if body.party != chain.current.party:
        raise TrustError("a status names another party than its signers'", party=body.party)
    if body.generation != chain.current.status.generation:
        raise RollbackError(f"{body.party} status of generation {body.generation}", **_facts(body))
    if chain.status:
        _check_after(body, chain.status[1])
    if body.issue_time_ms > now_ms + held.agreement(now_ms).body.skew_ms:
        raise TrustError(f"the {body.party} status is issued in the future; check the clocks", **_facts(body))
    day = [issued_ms for issued_ms in chain.status_issues_ms if issued_ms > body.issue_time_ms - DAY_MS]
    if len(day) >= MAX_STATUSES:
        raise TrustError(
            f"{body.party} issued {MAX_STATUSES} statuses within a day; the next is taken a day after the first of them",
            hint="if its status key is stolen, its roots replace it: tocsin-keys plan rotate status --emergency",
            **_facts(body),
        )
    events = [f"{body.party}: status {body.version} taken", *_check_named(held, chain, body), *_check_seen(held, body)]
    if chain.status:
        # Only the newest status is worth keeping: it replaces the one before in what is handed on.
        held.order.remove(chain.status[0])
        del held.arrivals[chain.status[0].digest]
    chain.status = (document, body)
    chain.status_issues_ms = [*day, body.issue_time_ms]
    held.hold(document)
    return tuple(events)


def sticks(status: pb.Status, roster: pb.Roster) -> bool:
    """Urgent suspensions last until the party's next roster."""
    return (status.roster.generation, status.roster.version) >= (roster.generation, roster.version)


def _facts(body: pb.Status) -> dict[str, str]:
    return {"document": f"{body.party} status", "version": str(body.version)}


def _check_after(body: pb.Status, held: pb.Status) -> None:
    """Against the status before: newer, and lifting nothing."""
    if body.version == held.version:
        raise EquivocationError(f"two {body.party} statuses at version {body.version}", **_facts(body))
    if body.version < held.version or body.issue_time_ms < held.issue_time_ms:
        raise RollbackError(f"{body.party} status {body.version}; held is {held.version}", **_facts(body))
    # Sticky: the holder of a status key, or its thief, lifts nothing; the next roster does.
    if (body.roster.generation, body.roster.version) == (held.roster.generation, held.roster.version):
        kept = [s.SerializeToString(deterministic=True) for s in body.suspensions]
        if any(s.SerializeToString(deterministic=True) not in kept for s in held.suspensions):
            raise TrustError(
                f"{body.party} status {body.version} lifts a suspension; only the next roster does", **_facts(body)
            )


def _check_named(held: Held, chain: PartyChain, body: pb.Status) -> list[str]:
    """Mix and match: what it names is what is held, or newer; newer ones are told."""
    events = []
    newest = chain.newest
    if newest is not None:
        listed = (body.roster.generation, body.roster.version)
        if listed < newest.number:
            raise RollbackError(
                f"{body.party} status names roster {listed}, older than the {newest.number} held", **_facts(body)
            )
        if listed == newest.number and body.roster.digest != newest.document.digest:
            raise EquivocationError(
                f"{body.party} status names another roster {listed} than the one held", **_facts(body)
            )
        if listed > newest.number:
            events.append(f"{body.party}: a newer roster {listed} exists; fetch it")
    document, party = chain.parties[-1]
    if body.party_document.version < party.version:
        raise RollbackError(
            f"{body.party} status names party document {body.party_document.version}, an older one", **_facts(body)
        )
    if body.party_document.version == party.version and body.party_document.digest != document.digest:
        raise EquivocationError(f"{body.party} status names another party document than the one held", **_facts(body))
    if body.party_document.version > party.version:
        events.append(f"{body.party}: party document {body.party_document.version} exists; fetch it")
    agreement = held.newest_agreement()
    if body.agreement.version == agreement.body.version and body.agreement.digest != agreement.digest:
        raise EquivocationError(f"{body.party} status names another agreement than the one held", **_facts(body))
    if body.agreement.version < agreement.body.version and body.issue_time_ms > agreement.body.effective_time_ms:
        raise RollbackError(
            f"{body.party} status names agreement {body.agreement.version}, no longer in force", **_facts(body)
        )
    if body.agreement.version > agreement.body.version:
        events.append(f"{body.party}: agreement {body.agreement.version} exists; fetch it")
    return events + _check_annex(held, body)


def _check_annex(held: Held, body: pb.Status) -> list[str]:
    """An annex it names is the one held, or a newer one. It may name an older one: others may not have signed with it."""
    if not body.HasField("annex"):
        return []
    known = next((d.digest for d, annex in held.annexes if annex.version == body.annex.version), None)
    if known is not None and known != body.annex.digest:
        raise EquivocationError(f"{body.party} status names another annex {body.annex.version} than the one held")
    events = []
    if known is None:
        events.append(f"{body.party}: annex {body.annex.version} exists; fetch it")
    return events


def _check_seen(held: Held, body: pb.Status) -> list[str]:
    """What it says it holds of the others: two documents at one number are told, and both stay evidence."""
    names = [seen.party for seen in body.seen]
    if names != sorted(set(names)) or body.party in names or not set(names) <= held.chains.keys():
        raise TrustError(
            f"{body.party} status {body.version}: seen parties are sorted, unique and others", **_facts(body)
        )
    events = []
    for seen in body.seen:
        chain = held.chains[seen.party]
        parties = {party.version: document.digest for document, party in chain.parties}
        rosters = {view.number: view.document.digest for view in chain.rosters}
        party_document, roster = seen.party_document, seen.roster
        same = (
            parties.get(party_document.version, party_document.digest) == party_document.digest
            and rosters.get((roster.generation, roster.version), roster.digest) == roster.digest
        )
        if not same:
            events.append(f"{body.party} holds other documents of {seen.party} than we do: compare both")
    return events
