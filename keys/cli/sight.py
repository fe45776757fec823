"""A document as its signer sees it: what it says, or what it changes, and its whole fingerprint."""

from dataclasses import dataclass
from typing import Any

from keys import documents, holders, staff, terms, words
from keys.audit import subject
from keys.cli.book import Book
from keys.cli.terminal import now_ms, printable
from keys.documents import Document
from keys.v1 import documents_pb2 as pb


@dataclass(frozen=True, slots=True)
class Shown:
    """A document as its signer sees it: `subject` such as "kr roster 1.2", `lines` what it says or changes."""

    subject: str
    digest: bytes
    against: str
    lines: tuple[str, ...]

    def result(self) -> dict[str, Any]:
        """For machines."""
        return {
            "document": self.subject,
            "digest": self.digest.hex(),
            "words": list(words.words(self.digest)),
            "against": self.against,
            "says": list(self.lines),
        }

    def text(self) -> list[str]:
        """For people."""
        head = f"{self.subject}, what changes against {self.against}:" if self.against else f"{self.subject} says:"
        lines = [f"  {line}" for line in self.lines] or ["  no difference"]
        return [head, *lines, *fingerprint_text(self.digest)]


def fingerprint_text(digest: bytes) -> list[str]:
    """All 32 bytes, as words and as digits."""
    return ["fingerprint, as words:", *(f"  {row}" for row in words.rows(digest)), f"as digits: {words.digits(digest)}"]


def see(document: Document, book: Book) -> Shown:
    """What the document says; against the version before it where there is one.

    Raises:
        NotCanonicalError: It says something this version cannot show.
        MissingDocumentError: The version before is not held.
    """
    body = documents.body(document, documents.BODIES[document.type])
    against, lines = "", [""]
    if isinstance(body, pb.Party):
        against, lines = _see_party(body, book)
    elif isinstance(body, pb.Agreement):
        if body.version > 1:
            before = book.founded().find_agreement(body.previous)
            against, lines = subject(before.document), terms.diff(before.body, body)
        else:
            lines = terms.describe(body)
    elif isinstance(body, pb.Roster):
        against, lines = _see_roster(document, body, book)
    elif isinstance(body, pb.Status):
        lines = _see_status(body)
    elif isinstance(body, pb.Annex):
        lines = _see_annex(body)
    else:
        lines = str(body).splitlines()
    return Shown(subject(document), document.digest, against, tuple(lines))


def _see_party(body: pb.Party, book: Book) -> tuple[str, list[str]]:
    if body.version == 1:
        return "", holders.describe(body)
    return f"party document {body.version - 1}", holders.diff(book.party(body.party), body)


def _see_roster(document: Document, body: pb.Roster, book: Book) -> tuple[str, list[str]]:
    trust = book.founded()
    agreement = trust.agreement(now_ms()).body
    before = book.newest("tocsin/1/roster", body.party)
    if before is None or before.digest == document.digest:
        return "", staff.describe(agreement, body)
    return subject(before), staff.diff(agreement, trust.roster(body.party).body, body)


def _see_annex(body: pb.Annex) -> list[str]:
    lines = [f"in force from {terms.moment(body.effective_time_ms)}, in place of every threshold before"]
    for one in body.thresholds:
        lines.append(f"{printable(one.rule)} at {one.micro / 1e6:g}, {printable(one.item) or 'all items'}")
    return lines


def _see_status(body: pb.Status) -> list[str]:
    lines = [
        f"issued {terms.moment(body.issue_time_ms)}",
        f"newest agreement {body.agreement.version}, party document {body.party_document.version},"
        f" roster {body.roster.generation}.{body.roster.version}",
    ]
    return lines + [f"stops {staff.suspended(s)}: {s.reason}" for s in body.suspensions]
