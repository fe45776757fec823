"""`tocsin inbox`, `tocsin follow`: what was received and opened, from the archive and as it comes."""

import asyncio
import contextlib
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from exchange import files, policy, report
from exchange.desk import Delivery, Desk, Event
from exchange.options_cli import DeskDir, Json, PassphraseFile, emit
from exchange.text import printable

out: Final = Console()
err: Final = Console(stderr=True)


def inbox(
    desk: DeskDir,
    channel: Annotated[str | None, typer.Option(help="One channel; all by default.")] = None,
    last: Annotated[int, typer.Option(help="Only the newest N; 0 = all.")] = 40,
    as_json: Json = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """What was received and opened here, from the archive; needs no network."""
    opened = Desk.open(desk, passphrase=files.passphrase(passphrase_file))
    deliveries = opened.inbox(channel)
    warnings = _standing(opened)
    opened.close()
    _show(deliveries[-last:] if last else deliveries, as_json=as_json)
    for warning in warnings:
        err.print(Text.assemble(("warning: ", "yellow"), printable(warning)))
    if not as_json:
        err.print(f"{len(deliveries)} items in the archive of {opened.name}")


def _standing(opened: Desk) -> list[str]:
    """What is overdue of what this desk sent, as far as it asked when it last ran, and what it owes others."""
    warnings = [str(late) for late in opened.overdue()]
    if owed := opened.unacknowledged():
        warnings.append(f"{owed} envelopes were read here and are not acknowledged yet; `tocsin follow` does that")
    return warnings


def follow(
    channel: Annotated[str, typer.Argument(help="Channel to follow.")],
    desk: DeskDir,
    once: Annotated[bool, typer.Option("--once", help="Fetch what is new and stop.")] = False,
    as_json: Json = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Receive a channel as it comes: verified, opened, in order. Gaps and staleness are said, not hidden."""

    async def run() -> None:
        async with Desk.open(desk, passphrase=files.passphrase(passphrase_file)) as opened:
            async for delivery in opened.subscribe(channel, follow=not once):
                _show([delivery], as_json=as_json, header=False)
                for event in opened.events():
                    _say_event(event)

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run())


def _say_event(event: Event) -> None:
    # Its words may be those of another node, or of another mission.
    err.print(Text.assemble(("event: ", "yellow"), printable(str(event))))


def _show(deliveries: list[Delivery], *, as_json: bool, header: bool = True) -> None:
    if as_json:
        for delivery in deliveries:
            emit(_row(delivery))
        return
    table = Table("sent (UTC)", "from", "channel", "marking", "what", show_header=header)
    for delivery in deliveries:
        row = _row(delivery)
        table.add_row(row["sent"], row["sender"], row["channel"], row["marking"], Text(printable(_what(delivery))))
    out.print(table)


def _what(delivery: Delivery) -> str:
    if delivery.kind == "report" and delivery.report.summary:
        passed_on = f" (passed on by {delivery.reshared_by})" if delivery.reshared_by else ""
        return delivery.report.summary[0].text + passed_on
    return delivery.kind or "an item newer than this version reads"


def _row(delivery: Delivery) -> dict[str, Any]:
    sent = datetime.fromtimestamp(delivery.create_time_ms / 1000, UTC)
    return {
        "sent": f"{sent:%Y-%m-%d %H:%M:%S}",
        "sender": delivery.sender,
        "passed_on_by": delivery.reshared_by,
        "channel": delivery.channel,
        "marking": policy.MARKING_NAMES.get(delivery.marking, "?"),
        "envelope": delivery.envelope.hex(),
        "position": delivery.receipt.position,
        "kind": delivery.kind,
        "report": report.to_dict(delivery.report) if delivery.kind == "report" else None,
        "warnings": list(delivery.warnings),
    }
