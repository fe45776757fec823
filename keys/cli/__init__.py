"""`tocsin-keys`: found an exchange, change it, replace every key in it. Files travel by hand; no network is needed.

Results on stdout (`--json` for machines), talk on stderr; exit 0 done, 1 refused, 2 misused.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from keys.cli import (
    agreement,
    annex,
    audit,
    backup,
    ceremony,
    courier,
    fingerprint,
    incident,
    keyring,
    lineage,
    party,
    record,
    roster,
    rotate,
    staffing,
    status,
    token,
)
from keys.cli.terminal import err, printable
from keys.errors import TocsinError, UsageError

app = typer.Typer(
    name="tocsin-keys",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Found an exchange of two countries, change it, and replace every key in it. Needs no network: files travel by"
    " hand, and each holder signs on a machine of their own.",
)


@app.callback()
def _root(
    transcript: Annotated[
        Path | None,
        typer.Option("--transcript", help="Note what this command does in the transcript of the ceremony."),
    ] = None,
) -> None:
    record.keep(transcript)
    record.lines()


app.add_typer(keyring.root_group, name="root")
app.add_typer(keyring.group, name="key")
app.add_typer(party.group, name="party")
app.command("fingerprint")(fingerprint.fingerprint)
app.add_typer(agreement.group, name="agreement")
app.add_typer(ceremony.group, name="ceremony")
app.add_typer(lineage.group, name="lineage")
app.add_typer(roster.group, name="roster")
app.add_typer(annex.group, name="annex")
app.add_typer(staffing.mission_group, name="mission")
app.add_typer(staffing.desk_group, name="desk")
app.add_typer(staffing.node_group, name="node")
app.command("bundle")(roster.bundle)
app.command("suspend")(status.suspend)
app.add_typer(status.group, name="status")
app.command("audit")(audit.audit)
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
app.add_typer(courier.group, name="courier")
app.add_typer(token.group, name="token")
app.add_typer(rotate.group, name="plan")
app.add_typer(incident.group, name="incident")


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except TocsinError as error:
        err.print(f"tocsin-keys: error: {printable(str(error))}")
        if error.hint:
            err.print(f"tocsin-keys: hint: {printable(error.hint)}")
        sys.exit(2 if isinstance(error, UsageError) else 1)


@cache
def _command() -> Callable[..., object]:
    """Built once: a process that runs many commands must not pay for it each time."""
    return typer.main.get_command(app)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Entry point; `arguments` are those of the process unless given."""
    with _errors():
        _command()(list(arguments) if arguments is not None else None, prog_name="tocsin-keys")
    sys.exit(0)
