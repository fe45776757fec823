"""`tocsin node retire`, `tocsin desk retire`: people say, on this machine, that another exchange took its one's place."""

import asyncio
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from exchange import files, retirement
from exchange.desk import Desk
from exchange.options_cli import Json, PassphraseFile, emit
from exchange.pouch.cli import carry_out
from exchange.pouch.orders import Order
from exchange.text import printable
from keys import words

err: Final = Console(stderr=True)

NodeDir = Annotated[Path, typer.Argument(help="Directory of the node; it may be running.")]
DeskDir = Annotated[Path, typer.Argument(help="Directory of the desk, which does not run.")]
Successor = Annotated[
    Path, typer.Option("--successor", help="Bundle of the new exchange, as published at its ceremony.")
]
Lineage = Annotated[
    str,
    typer.Option("--lineage", help="Lineage of the new exchange, 24 words or 64 digits, as compared at its ceremony."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, change nothing.")]


def node_retire(
    directory: NodeDir,
    successor: Successor,
    lineage: Lineage,
    dry_run: DryRun = False,
    as_json: Json = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """End the exchange of this node: another one took its place. It takes nothing new and serves what it holds. No way back.

    First let it follow its peers to their ends (`tocsin node status`): documents that come later are refused.
    """
    order = Order(
        do="successor" if dry_run else "retire", file=str(successor.absolute()), key=words.read(lineage).hex()
    )
    done = asyncio.run(carry_out(directory, order, files.passphrase(passphrase_file)))
    _say({**done, "dry_run": dry_run}, as_json=as_json)


def desk_retire(
    directory: DeskDir,
    successor: Successor,
    lineage: Lineage,
    dry_run: DryRun = False,
    as_json: Json = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """End the exchange of this desk: another one took its place. It publishes nothing more; its archive stays. No way back.

    First let it send what waits: that is not sent any more.
    """
    encoded, wanted = files.load_documents(successor), words.read(lineage)
    desk = Desk.open(directory, passphrase=files.passphrase(passphrase_file))
    try:
        asked = (desk.trust, desk.name, encoded, wanted)
        if dry_run:
            found = retirement.check(*asked, now_ms=desk.clock())
        else:
            found = retirement.retire(desk.directory, *asked, now_ms=desk.clock())
        done = {"name": desk.name, "dead": desk.trust.lineage.hex(), "successor": found.lineage.hex()}
        waiting = desk.archive.waiting()
    finally:
        desk.close()
    _say({**done, "waiting": waiting, "dry_run": dry_run}, as_json=as_json)


def _say(done: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        emit(done)
        return
    takes = "would take" if done["dry_run"] else "takes"
    _tell(f"{done['name']} {takes} nothing new in lineage {done['dead']}; what it holds can be read as before")
    _tell(f"{done['successor']} {takes} its place: set it up there, in a new directory")
    if waiting := done.get("waiting"):
        _tell(f"{waiting} envelopes wait in the outbox; no node takes them any more")


def _tell(text: str) -> None:
    err.print(printable(text), markup=False, highlight=False)
