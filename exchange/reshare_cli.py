"""`tocsin desk reshare`: history for a colleague who was admitted late, or had no key card."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from exchange import files
from exchange.desk import Desk
from exchange.desk.resharing import PassedOn
from exchange.options_cli import Json, PassphraseFile, emit
from exchange.text import printable

err: Final = Console(stderr=True)


def reshare(
    colleague: Annotated[str, typer.Argument(help="The desk that could not read, such as kr.motie/supply.")],
    desk: Annotated[Path, typer.Option("--desk", help="Directory of your desk, which passes on.")],
    channel: Annotated[str, typer.Option(help="Channel of the agreement.")],
    since: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Nothing that was said before this day, UTC.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for receipts; the rest is sent later.")] = 30.0,
    as_json: Json = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Pass on to a desk of your country what it could not open: with first signatures, as far as it may read, never RED."""
    since_ms = int(since.replace(tzinfo=UTC).timestamp() * 1000) if since else 0
    passphrase = files.passphrase(passphrase_file)
    done, waiting = asyncio.run(_reshare(desk, passphrase, colleague, channel, since_ms, timeout))
    if as_json:
        emit({**done._asdict(), "waiting": waiting})
        return
    lines = [f"{done.items} items of {done.envelopes} envelopes passed on to {colleague}", *done.left]
    if waiting:
        lines.append(f"{waiting} envelopes wait in the outbox; they go out when the node is back")
    for line in lines:
        err.print(printable(line), markup=False, highlight=False)


async def _reshare(
    directory: Path, passphrase: bytes, colleague: str, channel: str, since_ms: int, timeout_s: float
) -> tuple[PassedOn, int]:
    async with Desk.open(directory, passphrase=passphrase) as desk:
        done = await desk.reshare(colleague, channel, since_ms=since_ms)
        return done, await desk.flush(timeout_s)
