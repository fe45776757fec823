"""`tocsin attachment`: send a file for a report, fetch the files of a report."""

import asyncio
import json
import mimetypes
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from exchange import files, report
from exchange.desk import Desk
from exchange.options_cli import DeskDir, PassphraseFile
from exchange.text import printable
from exchange.v1 import report_pb2 as rep
from keys.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="Files that travel sealed beside the reports that name them.")
err: Final = Console(stderr=True)


@app.command("send")
def send(
    file: Annotated[Path, typer.Argument(help="File of at most 1 GiB.")],
    desk: DeskDir,
    output: Annotated[
        Path, typer.Option("-o", "--output", help='JSON for the "attachments" of a report; its key opens the file.')
    ],
    media_type: Annotated[str, typer.Option(help="Such as application/pdf; guessed from the name.")] = "",
    passphrase_file: PassphraseFile = None,
) -> None:
    """Seal a file and send it to the node; write what the report must say of it. Run it again to go on after a failure."""
    if not file.is_file():
        raise UsageError(f"{file} is no file")
    kind = media_type or mimetypes.guess_type(file.name)[0] or "application/octet-stream"

    async def run() -> rep.Attachment:
        async with Desk.open(desk, passphrase=files.passphrase(passphrase_file)) as opened:
            return await opened.attach(file, media_type=kind)

    said = asyncio.run(run())
    files.save_private(output, json.dumps([report.to_dict(said, with_keys=True)], ensure_ascii=False).encode())
    err.print(f"{file.name}: {said.size} bytes sent, sealed; {output} goes into the report", markup=False)


@app.command("fetch")
def fetch(
    item: Annotated[str, typer.Argument(metavar="REPORT", help="Report id.")],
    desk: DeskDir,
    to: Annotated[Path, typer.Option(help="Directory for the files; made if absent.")],
    passphrase_file: PassphraseFile = None,
) -> None:
    """Fetch and open every file of a report that was read or sent here. Run it again to go on after a failure."""
    try:
        wanted = bytes.fromhex(item.replace("-", ""))
    except ValueError:
        raise UsageError(f"{item!r} is no report id", hint="see `tocsin inbox --json`") from None
    files.private_directory(to)

    async def run() -> int:
        async with Desk.open(desk, passphrase=files.passphrase(passphrase_file)) as opened:
            places = opened.find_report(wanted)
            said = {a.digest: a for p in places for a in _attachments(opened, p.envelope, p.index)}
            for number, one in enumerate(said.values(), 1):
                target = to / _name(one.name, number)
                await opened.fetch(one, target)
                err.print(f"{printable(str(target))}: {one.size} bytes", markup=False, highlight=False)
            return len(said)

    if not asyncio.run(run()):
        raise UsageError(f"no report {item} with files in the archive", hint="see `tocsin inbox --json`")


def _attachments(opened: Desk, envelope: bytes, index: int) -> list[rep.Attachment]:
    # Found by its report id, so it parses.
    return list(rep.Item.FromString(opened.archive.content(envelope).items[index]).report.attachments)


def _name(name: str, number: int) -> str:
    """The name a sender gave, only as far as it can do no harm here."""
    plain = "".join(c for c in name[:100] if c.isalnum() or c in " ._-").strip(" .")
    return f"{number}-{plain}" if plain else str(number)
