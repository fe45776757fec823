"""`tocsin publish`, `tocsin explain`: reports go out, and who reads them by which rule."""

import asyncio
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from exchange import files, report
from exchange.clock import now_ms
from exchange.desk import Desk
from exchange.options_cli import DeskDir, Json, PassphraseFile, emit
from keys.errors import UsageError

out: Final = Console()
err: Final = Console(stderr=True)


class Marking(StrEnum):
    """TLP 2.0."""

    CLEAR = "CLEAR"
    GREEN = "GREEN"
    AMBER = "AMBER"
    STRICT = "AMBER+STRICT"
    RED = "RED"


def publish(
    channel: Annotated[str, typer.Argument(help="Channel of the agreement, such as minerals.")],
    file: Annotated[Path, typer.Argument(help="Reports: .json, .jsonl or .csv.")],
    desk: DeskDir,
    marking: Annotated[Marking, typer.Option(help="TLP 2.0 marking of all of them.")] = Marking.AMBER,
    to: Annotated[list[str] | None, typer.Option(help="Desks, for RED alone; may be given again.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for receipts; the rest is sent later.")] = 30.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the file, say who would read it, send nothing.")
    ] = False,
    as_json: Json = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Publish every report of a file, or none: one bad row, named with its column, and nothing is taken."""
    reader = {".json": report.read_json, ".jsonl": report.read_json_lines, ".csv": report.read_csv}.get(file.suffix)
    if reader is None:
        raise UsageError(f"{file.name} is neither .json, .jsonl nor .csv")
    reports = reader(_text(file), now_ms=now_ms())

    async def run() -> dict[str, Any]:
        opened = Desk.open(desk, passphrase=files.passphrase(passphrase_file))
        readers = [r.desk for r in opened.explain(channel, marking.value) if r.reads and (not to or r.desk in to)]
        if dry_run:
            opened.close()
            return {"reports": len(reports), "readers": readers, "published": 0, "waiting": 0}
        async with opened:
            ids = await opened.publish_all(channel, reports, marking=marking.value, to=to or ())
            waiting = await opened.flush(timeout)
            events = [str(event) for event in opened.events()]
            return {
                "reports": len(reports),
                "readers": readers,
                "published": len(ids),
                "envelopes": sorted({i.hex() for i in ids}),
                "waiting": waiting,
                "state": opened.state,
                "events": events,
            }

    result = asyncio.run(run())
    if as_json:
        emit(result)
    else:
        readers = ", ".join(result["readers"])
        out.print(f"{result['published']} of {result['reports']} reports published on {channel}, readable by {readers}")
        for event in result.get("events", []):
            err.print(f"[yellow]event:[/] {event}")
        if result["waiting"]:
            err.print(
                f"{result['waiting']} envelopes wait in the outbox ({result['state']}); they go out when the node is back"
            )


def explain(
    channel: Annotated[str, typer.Argument(help="Channel to explain.")],
    desk: DeskDir,
    marking: Annotated[Marking, typer.Option(help="TLP 2.0 marking.")] = Marking.AMBER,
    sender: Annotated[str | None, typer.Option(help="As if this desk published; yours by default.")] = None,
    as_json: Json = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Who reads a channel at a marking, who does not, and by which rule."""
    opened = Desk.open(desk, passphrase=files.passphrase(passphrase_file))
    readings = opened.explain(channel, marking.value, sender=sender)
    opened.close()
    if as_json:
        emit([{"desk": r.desk, "reads": r.reads, "why": r.why} for r in readings])
        return
    table = Table("desk", "reads", "why")
    for reading in readings:
        table.add_row(reading.desk, "yes" if reading.reads else "no", reading.why)
    out.print(table)


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {file}: {error}") from None
