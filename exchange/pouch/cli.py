"""`tocsin pouch`: pack, look into and unpack a file that goes where no network does."""

import asyncio
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from exchange import files
from exchange.clock import now_ms
from exchange.desk import Desk
from exchange.node import directory as nodes
from exchange.node.app import App
from exchange.options_cli import Json, PassphraseFile, emit
from exchange.pouch import format as pouch
from exchange.pouch.orders import Order, hand_in, perform
from exchange.pouch.pack import Packed, pack_outbox, packed
from exchange.text import printable
from keys.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="Carry documents and envelopes in a file, where no network is.")
err: Final = Console(stderr=True)

NodeDir = Annotated[Path | None, typer.Option("--node", help="Directory of the node; it may be running.")]


@app.command("pack")
def pack(
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write.")],
    node: NodeDir = None,
    to: Annotated[str, typer.Option(help="The node or desk it is for; a desk packs for its own node.")] = "",
    desk: Annotated[Path | None, typer.Option("--desk", help="Directory of a desk: pack its outbox.")] = None,
    position: Annotated[
        int | None, typer.Option("--from", help="First log position; by default where the last pouch for it ended.")
    ] = None,
    seen: Annotated[
        int | None, typer.Option(help="Size of the newest head of this log it has seen; by default the same.")
    ] = None,
    as_json: Json = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Pack what a peer or a desk lacks from a node's log, or what waits in a desk's outbox."""
    if (node is None) == (desk is None):
        raise UsageError("a pouch is packed from one node or one desk", hint="give --node or --desk")
    if desk is not None:
        made = _shown(_pack_desk(desk, output, files.passphrase(passphrase_file)))
    else:
        assert node is not None  # noqa: S101 - one of the two is given
        if not to:
            raise UsageError("for whom is the pouch?", hint="give --to, a node or a desk")
        order = Order(do="pack", file=str(output.absolute()), receiver=to, position=position, seen=seen)
        made = asyncio.run(carry_out(node, order, files.passphrase(passphrase_file)))
    if as_json:
        emit(made)
        return
    counts = ", ".join(f"{count} {name}" for name, count in made["counts"].items()) or "nothing"
    err.print(f"{output}: {counts}; {made['total']} bytes; the next pouch goes on from {made['next_position']}")


def _pack_desk(directory: Path, output: Path, passphrase: bytes) -> Packed:
    desk = Desk.open(directory, passphrase=passphrase)
    try:
        desk.make_cards()
        waiting = desk.archive.outgoing(0, pouch.MAX_PARTS)
        return pack_outbox(
            desk.trust, desk.name, desk.settings.node, output, envelopes=[w.envelope for w in waiting], now_ms=now_ms()
        )
    finally:
        desk.close()


@app.command("inspect")
def inspect(file: Annotated[Path, typer.Argument(help="The pouch.")], as_json: Json = False) -> None:
    """Say what a pouch holds, from whom and for whom, and which parts are damaged. Takes nothing."""
    try:
        with file.open("rb") as opened:
            manifest = pouch.read_manifest(opened)
            faults = [part for part in pouch.read_parts(opened, manifest) if part.fault]
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error}") from None
    facts = {
        "lineage": manifest.lineage.hex(),
        "sender": manifest.sender,
        "receiver": manifest.receiver,
        "create_time_ms": manifest.create_time_ms,
        "position": manifest.position,
        "next_position": manifest.next_position,
        "from_size": manifest.from_size,
        "counts": packed(manifest).counts,
        "total": manifest.total,
        "damaged": [{"number": p.number, "what": pouch.name_of(p.kind), "text": p.fault} for p in faults],
    }
    if as_json:
        emit(facts)
    else:
        for name, value in facts.items():
            sys.stdout.write(
                f"{name}: {printable(json.dumps(value) if isinstance(value, (dict, list)) else str(value))}\n"
            )
    if faults:
        raise typer.Exit(1)


@app.command("unpack")
def unpack(
    file: Annotated[Path, typer.Argument(help="The pouch.")],
    node: NodeDir = None,
    desk: Annotated[
        Path | None, typer.Option("--desk", help="Directory of the desk; the pouch is from its node.")
    ] = None,
    as_json: Json = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Take a pouch into a node or a desk, by the rules of live traffic. Doing it again changes nothing."""
    if (node is None) == (desk is None):
        raise UsageError("a pouch is for one node or one desk", hint="give --node or --desk")
    if desk is not None:
        _unpack_desk(file, desk, files.passphrase(passphrase_file), as_json=as_json)
        return
    assert node is not None  # noqa: S101 - one of the two is given
    order = Order(do="unpack", file=str(file.absolute()))
    done = asyncio.run(carry_out(node, order, files.passphrase(passphrase_file)))
    if as_json:
        emit(done)
    else:
        _tell(file, done)
    if done["damaged"] or any(one["what"] != "document" for one in done["refused"]):
        raise typer.Exit(1)


def _unpack_desk(file: Path, directory: Path, passphrase: bytes, *, as_json: bool) -> None:
    desk = Desk.open(directory, passphrase=passphrase)
    try:
        done = desk.take_pouch(file)
        events = [str(event) for event in desk.events()]
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from None
    finally:
        desk.close()
    if as_json:
        emit({**asdict(done), "events": events})
    else:
        err.print(f"{file}: {done.entries} entries, {done.documents} documents", markup=False)
        for text in (*done.damaged, *events):
            err.print(printable(text), markup=False, highlight=False)
    if done.damaged:
        raise typer.Exit(1)


def _tell(file: Path, done: dict[str, Any]) -> None:
    err.print(
        f"{file}: {done['taken']} taken, {done['known']} known, {done['documents']} documents new, {done['parked']} wait, "
        f"{len(done['delivered'])} receipts of ours; the place in the log of {printable(done['sender'])} "
        f"{'moved' if done['moved'] else 'is as before'}",
        markup=False,
        highlight=False,
    )
    if done["damaged"]:
        first = done["damaged"][0]
        err.print(f"first bad part: {first['number']} ({first['what']}): {first['text']}", markup=False)
    for kind in ("damaged", "refused"):
        for one in done[kind]:
            text = f"{kind}: part {one['number']} ({one['what']}): {one['rule']}: {one['text']}"
            err.print(printable(text), markup=False, highlight=False)
    for text in done["notes"]:
        err.print(f"note: {printable(text)}", markup=False, highlight=False)


async def carry_out(directory: Path, order: Order, passphrase: bytes) -> dict[str, Any]:
    """By the tray of a node that serves; else here, on a node that is started for it and serves nobody."""
    if _serves(directory) and (done := await hand_in(directory, order, serves=lambda: _serves(directory))) is not None:
        return done
    async with App(directory, passphrase).standing() as node:
        return await perform(node, order, now_ms, directory)


def _serves(directory: Path) -> bool:
    """Whether the process that last wrote the node's status is there and still writes it."""
    if not (directory / nodes.STATUS).exists():
        return False
    said = nodes.status(directory)
    try:
        os.kill(int(str(said["pid"])), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # It is there, under another user.
        pass
    return bool(said["running"])


def _shown(made: Packed) -> dict[str, Any]:
    return {"counts": made.counts, "next_position": made.next_position, "total": made.total}
