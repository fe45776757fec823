"""`tocsin track`: how far what was sent has come, for each reader, with what proves it."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from exchange import files, policy
from exchange.desk import Desk
from exchange.desk.tenure import DeskInUseError
from exchange.desk.tracked import EXPLAINED, ReaderStages, Step, Tracked
from exchange.options_cli import Json, PassphraseFile, emit
from exchange.text import printable
from keys.audit import Finding
from keys.errors import UsageError

out: Final = Console()
err: Final = Console(stderr=True)
ENVELOPE_DIGITS: Final = 64


def track(
    report: Annotated[str, typer.Argument(metavar="REPORT", help="Report id, or the id of an envelope.")],
    desk: Annotated[Path, typer.Option("--desk", help="Directory of the desk that sent it.")],
    verify: Annotated[
        bool, typer.Option("--verify", help="Verify every kept proof again, offline; exit 1 when one does not hold.")
    ] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Ask nobody; show what is known here.")] = False,
    as_json: Json = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Show for each reader what became of a report: taken, delivered, opened or refused, when, and by which node's word."""
    passphrase = files.passphrase(passphrase_file)

    async def run() -> tuple[list[Tracked], list[str], dict[bytes, list[Finding]]]:
        opened = Desk.open(desk, passphrase=passphrase)
        try:
            envelopes = _envelopes(opened, report)
            problems = [] if offline or verify else await _ask(opened, envelopes)
            found = {one: await opened.verify_stages(one) for one in envelopes} if verify else {}
            return [opened.track(one) for one in envelopes], problems, found
        finally:
            await opened.disconnect()
            opened.close()

    tracked, problems, found = asyncio.run(run())
    for problem in problems:
        err.print(f"note: {printable(problem)}", markup=False, highlight=False)
    if as_json:
        emit([_facts(one) | ({"verified": _lines(found[one.id])} if verify else {}) for one in tracked])
    else:
        for one in tracked:
            _show(one, found.get(one.id))
        for stage, proves in EXPLAINED.items():
            err.print(f"{stage}: {proves}", highlight=False)
    if any(finding.bad for findings in found.values() for finding in findings):
        raise typer.Exit(1)


async def _ask(opened: Desk, envelopes: list[bytes]) -> list[str]:
    try:
        return await opened.ask_stages(envelopes)
    except DeskInUseError as error:
        return [f"{error}; it asks by itself, and what it knows is shown"]


def _envelopes(opened: Desk, text: str) -> list[bytes]:
    """What this desk sent under an id, oldest first."""
    try:
        wanted = bytes.fromhex(text.replace("-", ""))
    except ValueError:
        raise UsageError(f"{text!r} is no id", hint="hex digits, as `tocsin publish --json` prints them") from None
    if len(text) == ENVELOPE_DIGITS:
        return [wanted]
    sent = [one.envelope for one in opened.find_report(wanted) if one.sender == opened.name]
    if not sent:
        raise UsageError(f"{opened.name} sent no report {text}", hint="whoever sent it can track it")
    return list(dict.fromkeys(sent))


def _show(tracked: Tracked, findings: list[Finding] | None) -> None:
    marking = policy.MARKING_NAMES.get(tracked.marking, "?")
    out.print(
        f"envelope {tracked.id.hex()} on {tracked.channel}, TLP:{marking}, sealed {_utc(tracked.create_time_ms)}",
        highlight=False,
        soft_wrap=True,
    )
    if tracked.taken is None:
        out.print("not taken yet: it waits in the outbox of this desk", style="yellow")
    else:
        out.print(f"taken by {_step(tracked.taken, tracked.taken.node)}", highlight=False)
    if tracked.again is not None:
        out.print(
            f"expired {_utc(tracked.expire_time_ms)} before all had it: sealed again as {tracked.again.hex()}",
            style="yellow",
            highlight=False,
            soft_wrap=True,
        )
    table = Table("reader", "its node", "delivered", "opened", box=box.SIMPLE_HEAD)
    for reader in tracked.readers:
        table.add_row(
            printable(reader.desk),
            printable(reader.node) or Text("in no roster now", "yellow"),
            _delivered(tracked, reader),
            _opened(tracked, reader),
        )
    out.print(table)
    for finding in findings or ():
        text = f"{'BAD' if finding.bad else 'ok '} {finding.subject}: {finding.text}"
        out.print(printable(text), style="red" if finding.bad else "", highlight=False, markup=False)


def _delivered(tracked: Tracked, reader: ReaderStages) -> Text:
    if reader.refused is not None:
        said = reader.refused
        return Text(printable(f"refused {_utc(said.time_ms)} by {said.rule}: {said.text}"), "red")
    if reader.delivered is not None:
        return Text(f"{_utc(reader.delivered.time_ms)}, position {reader.delivered.position}")
    if tracked.taken is None:
        return Text("overdue: not taken" if reader.overdue == "taken" else "", "yellow")
    return Text("overdue" if reader.overdue == "delivered" else "not yet", "yellow")


def _opened(tracked: Tracked, reader: ReaderStages) -> Text:
    if reader.opened is not None:
        return Text(_utc(reader.opened.time_ms))
    if not tracked.acknowledge:
        return Text("not asked for on this channel", "dim")
    return Text("overdue" if reader.overdue == "opened" else "not yet", "yellow")


def _step(step: Step, node: str) -> str:
    return f"{node} {_utc(step.time_ms)}, position {step.position}"


def _utc(time_ms: int) -> str:
    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _lines(findings: list[Finding]) -> list[dict[str, Any]]:
    return [{"bad": each.bad, "subject": each.subject, "text": each.text} for each in findings]


def _facts(tracked: Tracked) -> dict[str, Any]:
    return {
        "envelope": tracked.id.hex(),
        "channel": tracked.channel,
        "marking": policy.MARKING_NAMES.get(tracked.marking, "?"),
        "sealed_ms": tracked.create_time_ms,
        "expires_ms": tracked.expire_time_ms,
        "sealed_again_as": tracked.again.hex() if tracked.again else None,
        "acknowledge": tracked.acknowledge,
        "pending": tracked.pending,
        "taken": _place(tracked.taken),
        "readers": [
            {
                "desk": each.desk,
                "node": each.node or None,
                "delivered": _place(each.delivered),
                "opened_ms": each.opened.time_ms if each.opened else None,
                "refused": None
                if each.refused is None
                else {"rule": each.refused.rule, "text": each.refused.text, "time_ms": each.refused.time_ms},
                "overdue": each.overdue or None,
            }
            for each in tracked.readers
        ],
    }


def _place(step: Step | None) -> dict[str, Any] | None:
    return {"node": step.node, "position": step.position, "time_ms": step.time_ms} if step else None
