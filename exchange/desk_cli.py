"""`tocsin desk`: make a desk, enrol it at its node, put its archive under a new key."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from exchange import desk as desks
from exchange import files
from exchange.desk import Desk, DeskSettings
from exchange.desk import holdings as desk_holdings
from exchange.desk import rekey as rekeying
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
from exchange.options_cli import DeskDir, PassphraseFile
from keys import founding, suite
from keys.encoding import canonical_bytes
from keys.keystore import Keystore

app = typer.Typer(no_args_is_help=True, help="One workplace: its keys and its place at a node.")
err: Final = Console(stderr=True)


@app.command("init")
def init(
    directory: Annotated[Path, typer.Argument(help="Where the desk will live.")],
    name: Annotated[str, typer.Option(help="Its name, such as nl.seoul/economic.")],
    node: Annotated[str, typer.Option(help="The node that hosts its mission.")],
    lineage: Lineage = None,
    bundle: InitBundle = None,
    passphrase_file: PassphraseFile = None,
    module: Module = None,
    token: TokenLabel = None,
    pin_file: PinFile = None,
) -> None:
    """Make a desk's keys; prints its roster entry (hex), with proof of possession, for the ministry.

    The ministry calls back and compares the words of the key before it admits the desk.
    """
    settings = DeskSettings(desk=name, lineage=lineage_of(lineage, bundle), node=node)
    with token_for_key(module, token, pin_file) as where:
        key = desks.init(directory, settings, passphrase=files.passphrase(passphrase_file), where=where)
        entry = founding.desk_entry(name, key, lineage=bytes.fromhex(settings.lineage))
    keep_bundle(bundle, directory)
    err.print(f"desk {name} made in {directory}; give its entry to the ministry that signs the roster")
    show_words(f"key of {name}", suite.key_id(key.suite, "desk", key.public))
    sys.stdout.write(canonical_bytes(entry).hex() + "\n")


@app.command("enrol")
def enrol(
    desk: DeskDir,
    bundle: Annotated[Path | None, typer.Option(help="Documents to take first, as a file from the ministry.")] = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Take the documents, get a certificate from the node, hand in the key cards."""

    async def run() -> None:
        opened = Desk.open(desk, passphrase=files.passphrase(passphrase_file))
        if bundle is not None:
            for error in opened.take_documents(files.load_bundle(bundle)):
                err.print(f"document refused: {error}")
        async with opened:
            await opened.enrol()
            await opened.synchronise()

    asyncio.run(run())
    err.print("enrolled: certificate and key cards are in place")


@app.command("rekey")
def rekey(desk: DeskDir, passphrase_file: PassphraseFile = None) -> None:
    """Put the archive under a new key and destroy the old one; stop the desk first. Run it again if it was cut off."""
    with Keystore.open(desk / "desk.keys", files.passphrase(passphrase_file)) as store:
        rekeying.rekey(store, desk / desk_holdings.FILE)
    err.print(
        "the archive is under a new key, and the old key is destroyed; older backups need the keystore of their time"
    )
