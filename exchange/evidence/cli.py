"""`tocsin evidence`: make a file that proves one item to a stranger, and check one."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from google.protobuf.message import DecodeError
from rich.console import Console

from exchange import files, report
from exchange.desk import Desk
from exchange.evidence import verify as verifier
from exchange.options_cli import Json, PassphraseFile, emit
from exchange.text import printable
from exchange.v1 import report_pb2 as rep
from keys import words
from keys.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="Prove one item to a stranger: what was said, by whom, in which log.")
err: Final = Console(stderr=True)


@app.command("export")
def export(
    item: Annotated[str, typer.Argument(metavar="REPORT", help="Report id, or ENVELOPE:INDEX for any item.")],
    desk: Annotated[Path, typer.Option("--desk", help="Directory of the desk that sent or read it.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write.")],
    offline: Annotated[
        bool, typer.Option("--offline", help="Do not ask the node for cosignatures; use the archive alone.")
    ] = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Write evidence of one item. It shows that item, its envelope's header and the rosters; nothing else of the batch."""
    passphrase = files.passphrase(passphrase_file)

    async def run() -> tuple[bytes, list[str]]:
        opened = Desk.open(desk, passphrase=passphrase)
        identity, index = _place(opened, item)
        if offline:
            made = await opened.evidence(identity, index, ask=False)
            opened.close()
            return made
        async with opened:
            return await opened.evidence(identity, index)

    data, missing = asyncio.run(run())
    files.save_private(output, data)
    for text in missing:
        err.print(f"note: {printable(text)}", markup=False, highlight=False)
    err.print(f"{output}: {len(data)} bytes; `tocsin evidence verify` or `python -m exchange.evidence.verify` reads it")


def _place(opened: Desk, text: str) -> tuple[bytes, int]:
    try:
        if ":" in text:
            identity, _, index = text.partition(":")
            return bytes.fromhex(identity), int(index)
        wanted = bytes.fromhex(text.replace("-", ""))
    except ValueError:
        raise UsageError(f"{text!r} is no report id and no ENVELOPE:INDEX", hint="see `tocsin inbox --json`") from None
    found = opened.find_report(wanted)
    if not found:
        raise UsageError(f"no report {text} in the archive of {opened.name}", hint="see `tocsin inbox --json`")
    if len(found) > 1:
        places = ", ".join(f"{one.envelope.hex()}:{one.index} from {one.sender}" for one in found)
        raise UsageError(f"{len(found)} items carry that id: {places}", hint="give ENVELOPE:INDEX")
    return found[0].envelope, found[0].index


@app.command("verify")
def verify(
    file: Annotated[Path, typer.Argument(help="File of evidence.")],
    lineage: Annotated[str, typer.Option(help="The exchange: 24 words or 64 hex digits, compared out of band.")],
    as_json: Json = False,
) -> None:
    """Say what a file proves and what it does not. Needs no desk, no key and no network."""
    wanted = words.read(lineage)
    try:
        data = file.read_bytes() if file.stat().st_size <= verifier.MAX_BYTES else b""
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error}") from None
    proof = verifier.verify(data, wanted)
    said = rep.Item()
    try:
        said.ParseFromString(proof.item)
    except DecodeError:
        said = rep.Item()
    shown = report.to_dict(report.clean_message(said.report)) if said.WhichOneof("kind") == "report" else None
    if as_json:
        emit(_facts(proof) | {"report": shown})
    else:
        sys.stdout.write(f"{printable_lines(verifier.told(proof))}\n")
        if shown is not None:
            emit(shown)
        else:
            sys.stdout.write(
                f"{said.WhichOneof('kind') or 'an item newer than this version reads'}: {proof.item.hex()}\n"
            )
    if proof.standing == "refused":
        raise typer.Exit(1)


def printable_lines(text: str) -> str:
    """Text that may hold names from elsewhere, made inert line by line."""
    return "\n".join(printable(line) for line in text.split("\n"))


def _facts(proof: verifier.Proof) -> dict[str, Any]:
    return {
        "sender": proof.header.sender,
        "channel": proof.header.channel,
        "envelope": proof.id.hex(),
        "item": proof.item.hex(),
        "index": proof.index,
        "count": proof.count,
        "agreement": proof.agreement.version,
        "standing": proof.standing,
        "logs": [
            {
                "node": w.node,
                "position": w.position,
                "size": w.size,
                "time_ms": w.time_ms,
                "cosigners": list(w.cosigners),
            }
            for w in proof.witnesses
        ],
        "proved": list(proof.proved),
        "not_proved": list(proof.not_proved),
    }
