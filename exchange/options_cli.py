"""What many commands of `tocsin` take, and how they answer a program."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

DeskDir = Annotated[Path, typer.Option("--desk", help="Directory of the desk.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
PassphraseFile = Annotated[
    Path | None,
    typer.Option("--passphrase-file", help="File with the keystore's passphrase; none = machine-local key."),
]


def emit(value: Any) -> None:
    """One line of JSON on stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
