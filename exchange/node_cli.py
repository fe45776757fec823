"""`tocsin node`: make a node, prepare its next keys, run it, look at it."""

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from exchange import files
from exchange.clock import now_ms
from exchange.init_cli import (
    InitBundle,
    Lineage,
    Module,
    PinFile,
    TokenLabel,
    keep_bundle,
    lineage_of,
    show_words,
    token_for_key,
)
from exchange.node import authority
from exchange.node import directory as nodes
from exchange.node.app import App, serve
from exchange.options_cli import Json, PassphraseFile, emit
from keys import suite
from keys.encoding import canonical_bytes
from keys.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="The server that keeps envelopes; holds no key that opens them.")
out: Final = Console()
err: Final = Console(stderr=True)


@app.command("init")
def init(
    directory: Annotated[Path, typer.Argument(help="Where the node will live.")],
    name: Annotated[str, typer.Option(help="Its name, such as nl.seoul-1.")],
    endpoint: Annotated[str, typer.Option(help="host:port of the exchange service.")],
    enrol_endpoint: Annotated[str, typer.Option(help="host:port of the enrolment listener.")],
    lineage: Lineage = None,
    bundle: InitBundle = None,
    passphrase_file: PassphraseFile = None,
    module: Module = None,
    token: TokenLabel = None,
    pin_file: PinFile = None,
) -> None:
    """Make a node's keys and settings; prints its roster entry (hex) for the ministry."""
    settings = nodes.NodeSettings(
        name=name, lineage=lineage_of(lineage, bundle), endpoint=endpoint, enrol_endpoint=enrol_endpoint
    )
    with token_for_key(module, token, pin_file) as where:
        entry = nodes.init(directory, settings, passphrase=files.passphrase(passphrase_file), where=where)
    keep_bundle(bundle, directory)
    err.print(f"node {name} made in {directory}; give its entry to the ministry that signs the roster")
    show_words(f"log key of {name}", suite.key_id(entry.log_key.suite, "log", entry.log_key.key))
    sys.stdout.write(canonical_bytes(entry).hex() + "\n")


class NodeKey(StrEnum):
    """What a node replaces under a plan."""

    LOG = "log"
    TLS_CA = "tls-ca"


@app.command("prepare")
def prepare(
    kind: Annotated[NodeKey, typer.Argument(help="Which key comes.")],
    directory: Annotated[Path, typer.Argument(help="Directory of the node; it may run meanwhile.")],
    output: Annotated[
        Path, typer.Option("--out", help="Where to write the public half, for `tocsin-keys plan rotate`.")
    ],
    passphrase_file: PassphraseFile = None,
) -> None:
    """Draw the node's next log key or CA. A running node finds it within the hour and uses it by the rosters, by itself."""
    settings = files.load_settings(nodes.NodeSettings, directory / "node.toml")
    trust, _ = files.load_trust(directory / files.BUNDLE, bytes.fromhex(settings.lineage), now_ms=now_ms())
    if not trust.founded:
        raise UsageError(f"{directory} holds no documents", hint="put the ministry's bundle there first")
    nodes.require_newest(directory, trust, settings.name)
    with authority.open_keystore(directory, files.passphrase(passphrase_file)) as store:
        if kind is NodeKey.TLS_CA:
            data = authority.prepare(store, trust, settings.name, now_ms=now_ms())
            output.write_bytes(data)
            err.print(f"CA of {settings.name} in {output}")
            return
        key = authority.prepare_log_key(store, trust, settings.name)
    output.write_text(canonical_bytes(key).hex() + "\n")
    show_words(f"log key of {settings.name}", suite.key_id(key.suite, "log", key.key))


@app.command("run")
def run(
    directory: Annotated[Path, typer.Argument(help="Directory of the node.")], passphrase_file: PassphraseFile = None
) -> None:
    """Serve until interrupted."""
    running = App(directory, files.passphrase(passphrase_file))
    serve(
        running,
        ready=lambda: err.print(f"{running.settings.name} serves on {running.settings.endpoint}; Ctrl-C stops it"),
    )


@app.command("status")
def status(directory: Annotated[Path, typer.Argument(help="Directory of the node.")], as_json: Json = False) -> None:
    """Whether the node runs, what its log holds, how far it follows its peers, what it refused, whose status is stale."""
    status = nodes.status(directory)
    if as_json:
        emit(status)
        return
    table = Table(show_header=False)
    for key, value in status.items():
        table.add_row(key, json.dumps(value) if isinstance(value, (dict, list)) else str(value))
    out.print(table)
