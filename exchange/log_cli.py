"""`tocsin node new-log`, `accept-log`, `clashes`: logs that came back from a backup, and logs that contradict themselves."""

import asyncio
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from exchange import files
from exchange.desk import Desk
from exchange.node.clashes import export
from exchange.node.renewal import new_log
from exchange.options_cli import Json, PassphraseFile, emit
from exchange.pouch.cli import carry_out
from exchange.pouch.orders import Order
from exchange.text import printable
from keys.errors import UsageError

err: Final = Console(stderr=True)

NodeDir = Annotated[Path, typer.Argument(help="Directory of the node; it may be running.")]
DeskDir = Annotated[Path, typer.Argument(help="Directory of the desk, which does not run.")]
Origin = Annotated[str, typer.Argument(help="The log that was refused, such as tocsin/nl.seoul-1/2.")]
Out = Annotated[Path, typer.Option("--out", help="Directory to write the signed heads to.")]


def node_new_log(
    directory: Annotated[Path, typer.Argument(help="Directory of the node, which does not run.")],
    without: Annotated[
        list[str] | None,
        typer.Option(help="A peer that does not answer: what only it took since the backup stays lost."),
    ] = None,
    head: Annotated[
        list[Path] | None, typer.Option(help="A head of this node that a desk or peer kept, signed: a file.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what others saw; change nothing.")] = False,
    as_json: Json = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Go on in a new log after the disk came back from a backup: what is here, and what peers took since.

    No way back: peers never follow the old log again. If the newer disk exists, start the node with that one instead.
    """
    try:
        shown = [path.read_bytes() for path in head or ()]
    except OSError as error:
        raise UsageError(f"cannot read the head: {error}") from None
    done = asyncio.run(
        new_log(
            directory, passphrase=files.passphrase(passphrase_file), without=without or (), shown=shown, dry_run=dry_run
        )
    )
    if as_json:
        emit({**asdict(done), "dry_run": dry_run})
        return
    for peer, saw in done.shown_by.items():
        _tell(f"{peer} saw {saw}")
    for origin, size in done.heads.items():
        _tell(f"{done.origin} continues {origin}, which was seen with {size} entries")
    _tell(f"{done.kept} entries are here" + ("" if dry_run else f"; {done.fetched} came from peers; start the node"))


def node_accept_log(
    directory: NodeDir, origin: Origin, as_json: Json = False, passphrase_file: PassphraseFile = None
) -> None:
    """Follow a peer's new log though it denies what was seen of the old one. Ask its operator first; the evidence stays."""
    asyncio.run(carry_out(directory, Order(do="accept", file=origin), files.passphrase(passphrase_file)))
    _accepted(origin, as_json=as_json)


def desk_accept_log(
    directory: DeskDir, origin: Origin, as_json: Json = False, passphrase_file: PassphraseFile = None
) -> None:
    """Read the node's new log though it denies what was seen of the old one. Ask its operator first; the evidence stays."""
    desk = Desk.open(directory, passphrase=files.passphrase(passphrase_file))
    try:
        desk.accept_log(origin)
    finally:
        desk.close()
    _accepted(origin, as_json=as_json)


def node_clashes(directory: NodeDir, out: Out, as_json: Json = False, passphrase_file: PassphraseFile = None) -> None:
    """Write the pairs of signed heads by which followed logs contradict themselves: proof to anyone with the log's key."""
    order = Order(do="clashes", file=str(out.absolute()))
    done = asyncio.run(carry_out(directory, order, files.passphrase(passphrase_file)))
    _written(done["files"], as_json=as_json)


def desk_clashes(directory: DeskDir, out: Out, as_json: Json = False, passphrase_file: PassphraseFile = None) -> None:
    """Write the pairs of signed heads by which the node's log contradicts itself: proof to anyone with the log's key."""
    desk = Desk.open(directory, passphrase=files.passphrase(passphrase_file))
    try:
        found = [(clash.rule, clash.seen, clash.shown) for clash in desk.archive.clashes()]
    finally:
        desk.close()
    _written([str(path) for path in export(out, found)], as_json=as_json)


def _accepted(origin: str, *, as_json: bool) -> None:
    if as_json:
        emit({"accepted": origin})
    else:
        _tell(f"{origin} is accepted; it is read from its beginning")


def _written(written: list[str], *, as_json: bool) -> None:
    if as_json:
        emit({"files": written})
        return
    for path in written:
        sys.stdout.write(path + "\n")
    _tell(f"{len(written) // 2} pairs of heads")


def _tell(text: str) -> None:
    err.print(printable(text), markup=False, highlight=False)
