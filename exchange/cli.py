"""`tocsin`: run a node, use a desk. Results on stdout, talk on stderr; exit 0 done, 1 refused, 2 misused.

This is the index of its commands; each group has a module.
"""

import asyncio
import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final, NoReturn, TextIO, cast

import structlog
import typer
from rich.console import Console

from exchange import (
    attachment_cli,
    desk_cli,
    documents_cli,
    incident_cli,
    log_cli,
    node_cli,
    publish_cli,
    reading_cli,
    reshare_cli,
    retire_cli,
    track_cli,
)
from exchange.evidence import cli as evidence_cli
from exchange.options_cli import Json, emit
from exchange.pouch import cli as pouch_cli
from exchange.talk import Talk
from exchange.text import printable
from exchange.watch import alerts_cli, talks_cli
from exchange.watch import cli as watch_cli
from keys.errors import TocsinError, UsageError

out: Final = Console()
err: Final = Console(stderr=True)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Missions tell each other how the supply of chips and critical materials stands.",
    pretty_exceptions_enable=False,
)
app.add_typer(node_cli.app, name="node")
app.add_typer(desk_cli.app, name="desk")
app.add_typer(documents_cli.app, name="documents")
app.add_typer(evidence_cli.app, name="evidence")
app.add_typer(pouch_cli.app, name="pouch")
app.add_typer(attachment_cli.app, name="attachment")
watch_cli.app.command("run")(alerts_cli.run)
for command in (talks_cli.consultations, talks_cli.ask, talks_cli.reply):
    alerts_cli.app.command()(command)
app.add_typer(watch_cli.app, name="watch")
app.add_typer(alerts_cli.app, name="alerts")
app.command("publish")(publish_cli.publish)
app.command("inbox")(reading_cli.inbox)
app.command("follow")(reading_cli.follow)
app.command("explain")(publish_cli.explain)
app.command("track")(track_cli.track)
app.command("push")(incident_cli.push)
app.command("audit")(incident_cli.audit)
desk_cli.app.command("panic")(incident_cli.panic)
desk_cli.app.command("reshare")(reshare_cli.reshare)
node_cli.app.command("touched")(incident_cli.touched)
node_cli.app.command("new-log")(log_cli.node_new_log)
node_cli.app.command("retire")(retire_cli.node_retire)
node_cli.app.command("accept-log")(log_cli.node_accept_log)
node_cli.app.command("clashes")(log_cli.node_clashes)
desk_cli.app.command("retire")(retire_cli.desk_retire)
desk_cli.app.command("accept-log")(log_cli.desk_accept_log)
desk_cli.app.command("clashes")(log_cli.desk_clashes)


@app.command()
def demo(
    directory: Annotated[Path, typer.Option("--dir", help="Where to found the demo; replaced if it is one.")] = Path(
        "demo"
    ),
    as_json: Json = False,
) -> None:
    """Two countries, two nodes, six desks, real input; leaves the directory for a look around."""
    from exchange.demo.run import demo as run

    outcome = asyncio.run(run(directory, err if as_json else out))
    if as_json:
        emit(
            {"published": outcome.published, "opened": outcome.opened, "refused": outcome.refused, "lost": outcome.lost}
        )
    if outcome.lost or outcome.problems:
        raise typer.Exit(1)


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except TocsinError as error:
        err.print(f"tocsin: error: {printable(str(error))}", markup=False, highlight=False)
        if error.hint:
            err.print(f"tocsin: hint: {printable(error.hint)}", markup=False, highlight=False)
        sys.exit(2 if isinstance(error, UsageError) else 1)


def main() -> NoReturn:
    """Entry point."""
    sys.stderr = cast("TextIO", Talk(sys.stderr))
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    with _errors():
        app()
    sys.exit(0)
