"""`tocsin-keys roster`: a party's people and machines, drafted, signed and published."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import typer

from keys import documents, drafts, terms
from keys.ceremony import NotReadyError
from keys.cli import book as books
from keys.cli import files, ready, signing
from keys.cli.book import HeldFiles
from keys.cli.terminal import Json, answer, now_ms, say
from keys.errors import UsageError
from keys.trust import MAX_ROSTER_MS, Trust
from keys.v1 import documents_pb2 as pb

TYPE: Final = "tocsin/1/roster"

group = typer.Typer(
    no_args_is_help=True,
    help="A party's people and machines, signed by its roster holders. Draft the next one, change the draft with"
    " `mission`, `desk`, `node` and `suspend`, then sign, combine and publish it.",
)
signing.add_commands(group, TYPE)

DraftFile = Annotated[Path, typer.Argument(metavar="DRAFT", help="The draft of the roster; changed in place.")]


@group.command("draft")
def draft(
    party: Annotated[str, typer.Argument(help="Two letters, such as kr.")],
    out: Annotated[Path, typer.Option("--out", help="Where to write the draft.")],
    held: HeldFiles = None,
    life: Annotated[str, typer.Option(help="How long it will hold once signed, at most 90d.")] = "90d",
    as_json: Json = False,
) -> None:
    """Draft the next roster: a copy of the newest one held, or an empty first one.

    What the status suspended meanwhile is copied too; `suspend --lift` takes it out.
    """
    now = now_ms()
    book = books.load(held, now_ms=now)
    trust = book.founded()
    life_ms = _life(life)
    if party not in trust.parties:
        raise UsageError(f"{party} is no party of this exchange", hint=f"one of {', '.join(trust.parties)}")
    if trust.has_roster(party):
        document = drafts.next_roster(trust, party, lambda _: None, now_ms=now, life_ms=life_ms)
    else:
        generation = trust.party_document(party).roster.generation
        document = documents.make(
            pb.Roster(
                lineage=trust.lineage,
                party=party,
                generation=generation,
                version=1,
                issue_time_ms=now,
                expire_time_ms=now + life_ms,
            )
        )
    files.write(out, document.encode())
    shown = signing.see(document, book)
    say(f"{shown.subject} drafted in {out}; change it, then each roster holder signs it")
    answer({**shown.result(), "file": str(out)}, shown.text(), as_json=as_json)


@group.command("publish")
def publish(
    file: signing.DocumentFile,
    out: signing.BundleOut,
    held: HeldFiles = None,
    replace: signing.Replace = False,
    as_json: Json = False,
) -> None:
    """Check the signed roster as every node will, and write it with all documents before it into one bundle.

    A status must follow: until one names the new roster, nobody can tell that it is the newest.
    """
    then = f"; now issue a status: `tocsin-keys status issue --bundle {out}`"
    signing.publish(file, TYPE, held, out, replace=replace, as_json=as_json, then=then)


def bundle(
    inputs: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Bundles and documents of one exchange.")],
    out: signing.BundleOut,
    replace: signing.Replace = False,
    as_json: Json = False,
) -> None:
    """Put the documents of several files into one bundle: your own and those the other party handed over.

    Each is checked as any node checks it; what no node would take is left out, and said.
    """
    book = books.load(inputs, now_ms=now_ms())
    trust = book.founded()
    files.save_bundle(out, list(book.documents), fresh=not replace)
    for document, error in book.refused:
        say(f"left out: {signing.subject(document)}: {error}")
    names = [signing.subject(document) for document in book.documents]
    answer({"file": str(out), "lineage": trust.lineage.hex(), "documents": names}, names, as_json=as_json)


def edit(
    path: Path,
    held: list[Path] | None,
    change: Callable[[pb.Roster, Trust], None],
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Change a draft in place, and show what it now changes against the newest roster.

    Raises:
        NotReadyError: It is signed already.
        TocsinError: Every node would refuse the result; the draft stays as it was.
    """
    now = now_ms()
    with files.locked(path):
        document = files.load_one(path, TYPE)
        if document.signatures:
            raise NotReadyError(
                f"{path} is signed: a change would void the signatures", hint="change the draft instead"
            )
        book = books.load(held, now_ms=now)
        trust = book.founded()
        body = documents.body(document, pb.Roster)
        life_ms = body.expire_time_ms - body.issue_time_ms
        change(body, trust)
        for listed in (body.missions, body.desks, body.nodes, body.revocations):
            listed.sort(key=_sort_key)
        # The hold of a new desk counts from here: a draft must not grow old before it is signed.
        body.issue_time_ms = max(now, body.issue_time_ms)
        body.expire_time_ms = body.issue_time_ms + life_ms
        changed = documents.make(body)
        ready.require(changed, book, now_ms=now)
        if not dry_run:
            files.write(path, changed.encode(), fresh=False)
    shown = signing.see(changed, book)
    say("dry run: the draft stays as it was" if dry_run else f"{path} is changed")
    answer({**shown.result(), "file": str(path), "written": not dry_run}, shown.text(), as_json=as_json)


def _sort_key(message: pb.Mission | pb.Desk | pb.Node | pb.Revocation) -> bytes:
    if isinstance(message, pb.Mission):
        return message.mission.encode()
    if isinstance(message, pb.Desk):
        return message.desk.encode()
    return message.node.encode() if isinstance(message, pb.Node) else bytes(message.key)


def _life(text: str) -> int:
    life_ms = terms.milliseconds(text)
    if not 0 < life_ms <= MAX_ROSTER_MS:
        raise UsageError(f"a roster holds for at most {terms.duration(MAX_ROSTER_MS)}, not {text}", hint="give less")
    return life_ms
