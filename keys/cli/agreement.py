"""`tocsin-keys agreement`: what both parties sign: who may publish and read what, and within which bounds."""

from pathlib import Path
from typing import Annotated, Final

import typer

from keys import documents, terms, words
from keys.cli import book as books
from keys.cli import files, ready, record, signing
from keys.cli.book import Book, HeldFiles
from keys.cli.terminal import DryRun, Json, answer, now_ms, say, show
from keys.documents import Document
from keys.errors import UsageError
from keys.v1 import documents_pb2 as pb

TYPE: Final = "tocsin/1/agreement"
MAX_TERMS_BYTES: Final = 256 * 1024
SIGNING_MS: Final = 7 * 86_400_000

group = typer.Typer(
    no_args_is_help=True,
    help="What both parties sign: channels, who may publish and read them, and the bounds. Signed by the roots of every"
    " party, each on their own machine.",
)
signing.add_commands(group, TYPE)


@group.command("example")
def example(
    out: Annotated[Path | None, typer.Option("--out", help="Write it here instead of printing it.")] = None,
) -> None:
    """Print a commented example of the terms, to be edited and given to `agreement draft`."""
    text = Path(__file__).with_name("agreement.toml").read_text(encoding="utf-8")
    if out is None:
        show(*text.splitlines())
        return
    files.write(out, text.encode())
    say(f"edit {out}, then draft the agreement from it")


@group.command("draft")
def draft(
    terms_file: Annotated[Path, typer.Argument(metavar="TERMS", help="The terms, TOML; see `agreement example`.")],
    out: Annotated[Path, typer.Option("--out", help="Where to write the draft.")],
    held: HeldFiles = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Draft the agreement from readable terms. The other party drafts nothing: it reads this draft and signs it, or not.

    The first one needs the party documents of every party; a later one the bundle of the exchange. It takes effect no
    sooner than R after it is published, so that everybody has it by then; where the terms say nothing, R and a week from
    now.
    """
    now = now_ms()
    book = books.load(held, now_ms=now)
    body = _body(terms_file, book, now)
    document = documents.make(body)
    ready.require(document, book, now_ms=now)
    if not dry_run:
        files.write(out, document.encode())
        record.note("drafted", document=signing.subject(document), digest=document.digest.hex(), terms=str(terms_file))
    shown = signing.see(document, book)
    say("the draft binds nobody yet; both sides read it with `agreement show`" if not dry_run else "dry run")
    answer({**shown.result(), "file": str(out), "written": not dry_run}, shown.text(), as_json=as_json)


@group.command("diff")
def diff(
    old: Annotated[Path, typer.Argument(help="The older agreement, or a bundle that holds it.")],
    new: Annotated[Path, typer.Argument(help="The newer one.")],
    as_json: Json = False,
) -> None:
    """Who gains and who loses which channel, marking or duty between two agreements, in words."""
    lines = terms.diff(_newest(old), _newest(new))
    answer(lines, lines or ["no difference"], as_json=as_json)


@group.command("publish")
def publish(
    file: signing.DocumentFile,
    out: signing.BundleOut,
    held: HeldFiles = None,
    as_json: Json = False,
) -> None:
    """Check the signed agreement as every node will, and write it with all documents before it into one bundle.

    The bundle is what nodes, desks and the other party are handed; its lineage is what `tocsin node init` and
    `tocsin desk init` ask for.
    """
    now = now_ms()
    document = files.load_one(file, TYPE)
    before = books.load(held, now_ms=now)
    ready.require(document, before, now_ms=now)
    lineage = before.trust.lineage if before.trust else document.digest
    book = books.extend(before, document, now_ms=now)
    files.save_bundle(out, list(book.documents), fresh=True)
    record.note("published", document=signing.subject(document), digest=document.digest.hex(), lineage=lineage.hex())
    say(f"{len(book.documents)} documents in {out}; give both sides the same file")
    result = {"file": str(out), "lineage": lineage.hex(), "words": list(words.words(lineage))}
    answer(result, [f"lineage {lineage.hex()}", *(f"  {row}" for row in words.rows(lineage))], as_json=as_json)


def terms_of(terms_file: Path, *, now_ms: int) -> pb.Agreement:
    """The agreement a file of terms describes, version 1 without its parties; in effect at `now_ms` unless it says when.

    Raises:
        UsageError: Names the file, the line and the key.
    """
    from keys import term_sheet  # its parser costs more than all the rest, and every other command would pay

    return term_sheet.parse(_text(terms_file), name=str(terms_file), now_ms=now_ms)


def _body(terms_file: Path, book: Book, now: int) -> pb.Agreement:
    if book.trust is None:
        body = terms_of(terms_file, now_ms=now)
        for party, (first, _) in sorted(book.firsts.items()):
            body.parties.add(party=party, first_party=first.digest)
        if len(body.parties) < 2:
            raise UsageError("an agreement needs the party documents of every party", hint="give each with --held")
        return body
    newest = book.newest(TYPE)
    if newest is None:
        raise UsageError("the documents held lack the agreement before", hint="give the whole bundle with --held")
    before = documents.body(newest, pb.Agreement)
    # R for everybody to get it, and a week before that for its holders to sign.
    body = terms_of(terms_file, now_ms=now + before.revocation_ms + SIGNING_MS)
    body.version, body.lineage, body.previous = before.version + 1, book.trust.lineage, newest.digest
    body.parties.extend(before.parties)
    body.dead_lineages.extend(before.dead_lineages)
    return body


def _text(file: Path) -> str:
    try:
        return files.read(file, MAX_TERMS_BYTES).decode()
    except UnicodeDecodeError:
        raise UsageError(f"{file} is not UTF-8 text", hint="is it the right file?") from None


def _newest(path: Path) -> pb.Agreement:
    found: list[Document] = [d for d in files.load(path) if d.type == TYPE]
    bodies = [documents.body(d, pb.Agreement) for d in found]
    if not bodies:
        raise UsageError(f"{path} holds no agreement", hint="is it the right file?")
    return max(bodies, key=lambda body: body.version)
