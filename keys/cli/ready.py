"""Is a document fit to be signed: what every node would refuse later is refused before anybody signs."""

from keys import documents, windows
from keys.ceremony import NotReadyError
from keys.cli.book import Book
from keys.documents import Document
from keys.trust import MissingDocumentError, Trust, WrongLineageError
from keys.trust import agreement as agreements
from keys.trust import annex as annexes
from keys.trust import party as parties
from keys.v1 import documents_pb2 as pb


def require(document: Document, book: Book, *, now_ms: int) -> None:
    """Refuse a document that breaks a rule, names others than those held, or has ended.

    Unknown fields are refused here: nobody signs what this version cannot show.

    Raises:
        TocsinError: Says which rule.
    """
    body = documents.body(document, documents.BODIES[document.type])
    if book.trust is not None and book.trust.holds(document.digest):
        return
    if isinstance(body, pb.Party):
        _party(body, document, book)
    elif isinstance(body, pb.Agreement):
        _agreement(body, book, now_ms)
    elif isinstance(body, pb.Roster | pb.Status | pb.Annex):
        trust = book.founded()
        if body.lineage != trust.lineage:
            raise WrongLineageError("the document belongs to another exchange")
        if isinstance(body, pb.Roster):
            _roster(body, document, trust, now_ms)
        if isinstance(body, pb.Annex):
            _annex(body, book)


def _party(body: pb.Party, document: Document, book: Book) -> None:
    if body.version == 1:
        if body.lineage or body.previous:
            raise NotReadyError("a first party document has no lineage and no previous")
        parties.check(body, lineage=b"")
        held = book.firsts.get(body.party)
        if held is not None and held[0].digest != document.digest:
            raise NotReadyError(f"another first party document of {body.party} is held: one was swapped")
        return
    trust = book.founded()
    before = book.newest("tocsin/1/party", body.party)
    if body.lineage != trust.lineage:
        raise WrongLineageError("the party document belongs to another exchange")
    if before is None or body.previous != before.digest or body.version != trust.party_document(body.party).version + 1:
        raise NotReadyError(f"party document {body.version} of {body.party} does not follow the newest one held")
    parties.check(body, lineage=trust.lineage)


def _agreement(body: pb.Agreement, book: Book, now_ms: int) -> None:
    if body.expire_time_ms <= now_ms:
        raise NotReadyError("the agreement has ended already", hint="correct its dates and draft it again")
    if body.version == 1:
        agreements.check(body, None)
        for member in body.parties:
            if member.party not in book.firsts:
                raise MissingDocumentError(
                    f"no party document of {member.party} is held", hint="give its file with --held", party=member.party
                )
            if book.firsts[member.party][0].digest != member.first_party:
                raise NotReadyError(
                    f"the agreement names another party document of {member.party} than the one held: one was swapped",
                    hint="compare the fingerprints of the party documents with the other side",
                )
        return
    trust = book.founded()
    newest = book.newest("tocsin/1/agreement")
    if newest is None:
        raise MissingDocumentError("the agreement before is not held", hint="give the bundle with --held")
    before = documents.body(newest, pb.Agreement)
    if body.lineage != trust.lineage:
        raise WrongLineageError("the agreement belongs to another exchange")
    if body.previous != newest.digest or body.version != before.version + 1:
        raise NotReadyError(f"agreement {body.version} does not follow the newest one held, {before.version}")
    agreements.check(body, before)
    # T is now: whoever signs late signs what can no longer be published in time, so it is refused here and not then.
    windows.check_amendment(
        publish_ms=now_ms,
        effective_ms=body.effective_time_ms,
        grace_ms=body.grace_ms,
        bounds=windows.Bounds(
            before.revocation_ms, max(before.lifetime_ms, body.lifetime_ms), max(before.skew_ms, body.skew_ms)
        ),
    )


def _annex(body: pb.Annex, book: Book) -> None:
    newest = book.newest("tocsin/1/annex")
    before = documents.body(newest, pb.Annex) if newest is not None else pb.Annex()
    if body.version != before.version + 1 or body.previous != (newest.digest if newest is not None else b""):
        raise NotReadyError(f"annex {body.version} does not follow the newest one held, {before.version}")
    annexes.check(body, before)


def _roster(body: pb.Roster, document: Document, trust: Trust, now_ms: int) -> None:
    if body.expire_time_ms <= now_ms:
        raise NotReadyError("the roster has ended already", hint="draft it again")
    # A plan's drafts are dated ahead, so that holders far apart can sign before the step is due; nobody takes one sooner.
    then_ms = max(now_ms, body.issue_time_ms)
    disabled = [event for event in trust.rehearse(document, now_ms=then_ms) if ": disabled, " in event]
    if disabled:
        raise NotReadyError(disabled[0], hint="take it out of the draft, or get a new request")
