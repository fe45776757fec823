"""Taking annexes: watch thresholds and cadence details, signed for every party (docs/PROTOCOL.md section 4.4)."""

from keys import documents
from keys.documents import Document
from keys.trust.errors import MissingDocumentError, TrustError
from keys.trust.held import Held, check_chain
from keys.v1 import documents_pb2 as pb


def check(body: pb.Annex, before: pb.Annex) -> None:
    """What an annex must keep to by itself and after the one before, an empty one if there is none.

    Raises:
        TrustError: It does not.
    """
    if before.version and body.effective_time_ms <= before.effective_time_ms:
        raise TrustError("an annex takes effect after the one before")
    rules = [(threshold.rule, threshold.item) for threshold in body.thresholds]
    if rules != sorted(set(rules)) or not all(rule for rule, _ in rules):
        raise TrustError("the thresholds of an annex are named, sorted by rule and item, and unique")


def take(held: Held, document: Document, now_ms: int) -> tuple[str, ...]:
    """Take the next annex: the roster thresholds of all parties signed it."""
    if not held.agreements:
        raise MissingDocumentError("an annex comes after the agreement")
    for chain in held.chains.values():
        documents.require(document, chain.current.roster, role="roster")
    body = documents.body(document, pb.Annex)
    held.require_lineage(body.lineage, "annex")
    before_document, before = held.annexes[-1] if held.annexes else (None, pb.Annex())
    known = held.annexes[body.version - 1][0].digest if 0 < body.version <= before.version else None
    digest = before_document.digest if before_document else b""
    check_chain("annex", body.version, body.previous, before.version, digest, known, document)
    check(body, before)
    held.annexes.append((document, body))
    held.hold(document)
    return (f"annex version {body.version} taken",)
