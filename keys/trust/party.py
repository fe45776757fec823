"""Taking Party documents: a party replaces its own keys, alone (docs/PROTOCOL.md section 4.4)."""

from keys import documents, suite
from keys.documents import Document
from keys.errors import SignatureError, UnknownSuiteError
from keys.trust.agreement import MAX_PARTIES
from keys.trust.claims import ROLES, Claims
from keys.trust.errors import TrustError
from keys.trust.held import Held, check_chain
from keys.v1 import documents_pb2 as pb

SUITES = {"root": suite.ROOT_SUITE, "roster": suite.DESK_SUITE, "status": suite.DESK_SUITE}


def take(held: Held, document: Document, now_ms: int) -> tuple[str, ...]:
    """Keep a candidate before the agreement; afterwards take the next of a party's chain."""
    if not held.agreements:
        _candidate(held, document)
        return ()
    chain = held.chains.get(getattr(documents.peek(document), "party", ""))
    if chain is None:
        raise TrustError("a party document of a country that is no party")
    before_document, before = chain.parties[-1]
    documents.require(document, before.root, role="root")
    body = documents.body(document, pb.Party)
    documents.require(document, body.root, role="root")
    held.require_lineage(body.lineage, "party document")
    what = f"{before.party} party document"
    known = chain.parties[body.version - 1][0].digest if 0 < body.version <= before.version else None
    check_chain(what, body.version, body.previous, before.version, before_document.digest, known, document)
    check(body, lineage=held.lineage)
    for role in ROLES:
        old, new = getattr(before, role), getattr(body, role)
        changed = _publics(old) != _publics(new) or old.threshold != new.threshold
        if new.generation != old.generation + (1 if changed else 0):
            raise TrustError(f"the {role} generation goes up by one exactly when its keys or threshold change")
    claims = Claims(held.components)
    claims.add_role_keys(body)
    claims.commit()
    chain.parties.append((document, body))
    held.hold(document)
    if body.status.generation != before.status.generation:
        restart_status(held, body.party)
        # Its roots speak in it, as late as a status would: nobody was cut off from them because their key changed.
        chain.voided_ms = min(body.issue_time_ms, now_ms)
    return (f"{body.party}: party document version {body.version} taken",)


def restart_status(held: Held, party: str) -> None:
    """A thief of the status key may have frozen or suspended us: its word ends with it, the counter restarts."""
    held.chains[party].status, held.chains[party].status_issues_ms = None, []
    held.chains[party].status_issues_ms = []


def _candidate(held: Held, document: Document) -> None:
    # Before the agreement nobody is known: a few candidates are kept until it says which count.
    if len(held.candidates) >= MAX_PARTIES:
        raise TrustError("too many party documents before the agreement")
    body = documents.body(document, pb.Party)
    if body.version != 1 or body.lineage or body.previous:
        raise TrustError("a first party document has version 1, no lineage and no previous")
    check(body, lineage=b"")
    documents.require(document, body.root, role="root")
    held.candidates[document.digest] = (document, body)


def check(body: pb.Party, *, lineage: bytes) -> None:
    """The keys of each role: sorted holders, a threshold that can be met, sound keys with proofs.

    Raises:
        TrustError: Or UnknownSuiteError, BadKeyError, SignatureError for a key.
    """
    for role, wanted in SUITES.items():
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
            _check_possession(body.party, role, holder, lineage)


def _check_possession(party: str, role: str, holder: pb.HolderKey, lineage: bytes) -> None:
    key = holder.key
    for known in dict.fromkeys((lineage, b"")):
        try:
            suite.check_possession(
                key.suite, key.key, key.possession, lineage=known, party=party, name=holder.holder, role=role
            )
        except SignatureError:
            continue
        return
    raise SignatureError(f"{party} {role} key of {holder.holder} lacks its proof of possession")


def _publics(keys: pb.RoleKeys) -> list[tuple[str, int, bytes]]:
    return [(k.holder, k.key.suite, k.key.key) for k in keys.keys]
