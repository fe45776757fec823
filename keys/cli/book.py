"""What a holder was handed: the documents held, verified, and whose keys count under a document to sign."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from keys import documents
from keys.ceremony import Group, NotReadyError
from keys.cli import files
from keys.documents import Document
from keys.errors import TocsinError, UsageError
from keys.trust import MissingDocumentError, Trust, WrongLineageError
from keys.v1 import documents_pb2 as pb

HeldFiles = Annotated[
    list[Path] | None,
    typer.Option("--held", help="Documents to check against: a bundle, or party documents. May be given again."),
]
# One pass takes at least one document, or nothing more can be taken.
MAX_PASSES: Final = 64


@dataclass(frozen=True, slots=True)
class Book:
    """Documents that were verified on loading.

    Attributes:
        documents: In an order in which they can be taken.
        firsts: First party documents by party, before there is an agreement.
        trust: What the agreement and everything after it says; None before there is one.
        refused: What was not taken, with its reason: a status of last month, a key card of last year.
    """

    documents: tuple[Document, ...]
    firsts: dict[str, tuple[Document, pb.Party]]
    trust: Trust | None
    refused: tuple[tuple[Document, TocsinError], ...]

    def founded(self) -> Trust:
        """The trust behind an agreement.

        Raises:
            UsageError: No agreement among the documents.
        """
        if self.trust is None:
            raise UsageError("no agreement among the documents held", hint="give the bundle with --held")
        return self.trust

    def party(self, name: str) -> pb.Party:
        """The newest party document of a party.

        Raises:
            MissingDocumentError: None is held.
        """
        if self.trust is not None:
            return self.trust.party_document(name)
        if name not in self.firsts:
            raise MissingDocumentError(
                f"no party document of {name} is held", hint="give its file with --held", party=name
            )
        return self.firsts[name][1]

    def newest(self, type_: str, party: str = "") -> Document | None:
        """The last document of a type, of one party unless it is of all."""
        for document in reversed(self.documents):
            if document.type == type_ and (not party or getattr(documents.peek(document), "party", "") == party):
                return document
        return None


def load(paths: Sequence[Path] | None, *, now_ms: int) -> Book:
    """Read and verify documents; each is taken as any node takes it.

    Raises:
        UsageError: A file that holds no documents.
        TocsinError: A first party document or an agreement that does not verify.
    """
    found: dict[bytes, Document] = {}
    for path in paths or ():
        for document in files.load(path):
            found.setdefault(document.digest, document)
    return verify(list(found.values()), now_ms=now_ms)


def verify(found: list[Document], *, now_ms: int) -> Book:
    """Like `load`, of documents at hand."""
    firsts: dict[str, tuple[Document, pb.Party]] = {}
    agreements = [d for d in found if _is_first(d, pb.Agreement)]
    if len(agreements) > 1:
        raise WrongLineageError("the files hold two first agreements", hint="give the documents of one exchange")
    for document in found:
        if _is_first(document, pb.Party):
            # A Trust of no lineage checks first party documents in full, and takes nothing else.
            Trust(bytes(32)).take(document, now_ms=now_ms)
            body = documents.body(document, pb.Party)
            if body.party in firsts:
                raise NotReadyError(f"the files hold two first party documents of {body.party}: one was swapped")
            firsts[body.party] = (document, body)
    if not agreements:
        return Book(tuple(document for document, _ in firsts.values()), firsts, None, ())
    trust = Trust(agreements[0].digest)
    for document, _ in firsts.values():
        trust.take(document, now_ms=now_ms)
    trust.take(agreements[0], now_ms=now_ms)
    refused = _take_all(trust, [d for d in found if not trust.holds(d.digest)], now_ms=now_ms)
    return Book(tuple(trust.documents()), firsts, trust, refused)


def extend(book: Book, document: Document, *, now_ms: int) -> Book:
    """The book with one more document, taken as any node takes it.

    Raises:
        TocsinError: It is refused; says by which rule.
    """
    trust = book.trust
    if trust is None:
        trust = Trust(document.digest)
        for first, _ in book.firsts.values():
            trust.take(first, now_ms=now_ms)
    trust.take(document, now_ms=now_ms)
    return Book(tuple(trust.documents()), book.firsts, trust, book.refused)


def groups(document: Document, book: Book) -> tuple[Group, ...]:
    """Whose thresholds a document needs: its party's, or those of every party.

    Raises:
        MissingDocumentError: A party's document is not held.
        UsageError: A type no holder signs.
    """
    body = documents.body(document, documents.BODIES[document.type])
    if isinstance(body, pb.Party):
        own = [Group(f"{body.party} root", body.root, "root")]
        if body.version > 1:
            own.append(Group(f"{body.party} root of version {body.version - 1}", book.party(body.party).root, "root"))
        return tuple(own)
    if isinstance(body, pb.Agreement):
        return tuple(Group(f"{p.party} root", book.party(p.party).root, "root") for p in body.parties)
    if isinstance(body, pb.Roster):
        return (Group(f"{body.party} roster", book.party(body.party).roster, "roster"),)
    if isinstance(body, pb.Status):
        return (Group(f"{body.party} status", book.party(body.party).status, "status"),)
    if isinstance(body, pb.Annex):
        trust = book.founded()
        return tuple(Group(f"{p} roster", trust.party_document(p).roster, "roster") for p in trust.parties)
    raise UsageError(f"{files.noun(document.type)} is signed by a desk, not by a holder")


def _is_first(document: Document, kind: type[pb.Agreement] | type[pb.Party]) -> bool:
    body = documents.peek(document)
    return isinstance(body, kind) and body.version == 1


def _take_all(trust: Trust, waiting: list[Document], *, now_ms: int) -> tuple[tuple[Document, TocsinError], ...]:
    # In the order given, which in a bundle is one that works; sorted by kind, an agreement signed before its signers
    # replaced their roots would come after they did.
    refused: list[tuple[Document, TocsinError]] = []
    for _ in range(MAX_PASSES):
        refused, left = [], waiting
        waiting = []
        for document in left:
            try:
                trust.take(document, now_ms=now_ms)
            except TocsinError as error:
                refused.append((document, error))
                waiting.append(document)
        if not waiting or len(waiting) == len(left):
            break
    return tuple(refused)
