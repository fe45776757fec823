"""`tocsin-keys lineage`: found anew after a party lost its roots, with the old exchange listed as dead."""

from pathlib import Path
from typing import Annotated

import typer

from keys import documents, succession, terms
from keys.cli import agreement, book, files, ready, record, signing
from keys.cli.book import HeldFiles
from keys.cli.sight import Shown
from keys.cli.terminal import DryRun, Json, answer, now_ms, say
from keys.trust import WrongLineageError

group = typer.Typer(
    no_args_is_help=True, help="An exchange founded anew, after a party lost so many roots that it can sign no more."
)


@group.command("new")
def new(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="A bundle of the exchange that is to be dead.")],
    lost: Annotated[list[str], typer.Option("--lost", help="A party that lost its roots; may be given again.")],
    out: Annotated[Path, typer.Option("--out", help="Where to write the draft.")],
    held: HeldFiles = None,
    terms_file: Annotated[
        Path | None, typer.Option("--terms", help="Other terms than the old ones, TOML; see `agreement example`.")
    ] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Draft agreement 1 of the exchange that takes the place of a dead one: the same channels and bounds, as long again.

    Give with --held the first party document of each party in the new exchange: of a party that lost its roots one with
    new root keys; of another one the document that it has, or a new one if its keys were replaced since. The draft is
    then shown, signed, combined and published as any first agreement (`ceremony script --lost`). It ends nothing by
    itself: each node and desk is told by its own people, `tocsin node retire` and `tocsin desk retire`.
    """
    now = now_ms()
    dead = book.load([old], now_ms=now).founded()
    fresh = book.load(held, now_ms=now)
    if fresh.trust is not None:
        raise WrongLineageError(
            "the documents given with --held are of an exchange that was founded", hint="give party documents alone"
        )
    changed = agreement.terms_of(terms_file, now_ms=now) if terms_file is not None else None
    firsts = {party: document for party, (document, _) in fresh.firsts.items()}
    body = succession.draft(dead, firsts, lost=lost, terms=changed, now_ms=now)
    document = documents.make(body)
    ready.require(document, fresh, now_ms=now)
    before = dead.agreements[-1]
    if not dry_run:
        files.write(out, document.encode())
        record.note(
            "drafted", document=signing.subject(document), digest=document.digest.hex(), dead=dead.lineage.hex()
        )
    against = f"{signing.subject(before.document)} of the exchange that is to be dead"
    shown = Shown(signing.subject(document), document.digest, against, tuple(terms.diff(before.body, body)))
    say("the draft binds nobody yet; both sides read it whole with `agreement show`" if not dry_run else "dry run")
    answer({**shown.result(), "file": str(out), "written": not dry_run}, shown.text(), as_json=as_json)
