"""What every command shares: options, talk and results, passphrases, the clock. No command lives here."""

import getpass
import json
import stat
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from keys import signer, suite
from keys.errors import UsageError
from keys.keystore import MAX_PASSPHRASE_BYTES, Keystore

# Width by the terminal, but never below what 24 words in rows of six need; text is never parsed as markup.
out = Console(markup=False, highlight=False, soft_wrap=True)
err = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)

Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, say what would happen, change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask; for scripts. Read what is shown first.")]
KeystoreFile = Annotated[Path, typer.Option("--keystore", help="The holder's keystore file.")]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        help="File with the keystore's passphrase, mode 0600; asked for when not given. A keystore with a key file"
        " beside it needs none.",
    ),
]

_MACHINE: Final = b"tocsin/1/keystore machine "


def now_ms() -> int:
    """The clock of this machine, ms UTC."""
    return time.time_ns() // 1_000_000


def printable(text: str) -> str:
    """Text of a document for a terminal: what could move the cursor, turn the direction or hide is shown as its code."""
    return "".join(c if c.isprintable() else f"\\u{{{ord(c):x}}}" for c in text)


def say(*lines: str) -> None:
    """Talk, to stderr."""
    for line in lines:
        err.print(printable(line))


def show(*lines: str) -> None:
    """Results for people, to stdout."""
    for line in lines:
        out.print(printable(line))


def emit(value: Any) -> None:
    """Results for machines: one line of JSON on stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


def answer(value: Any, lines: Sequence[str], *, as_json: bool) -> None:
    """The result of a command, as JSON or in words."""
    if as_json:
        emit(value)
    else:
        show(*lines)


def open_keystore(path: Path, passphrase_file: Path | None) -> Keystore:
    """An existing keystore, with its passphrase from the file or the prompt.

    Raises:
        KeystoreError: It does not open.
        UsageError: No passphrase to be had.
    """
    return Keystore.open(path, b"" if opens_by_itself(path) else passphrase(passphrase_file, what=str(path)))


def opens_by_itself(path: Path) -> bool:
    """Whether a key file beside the keystore opens it."""
    try:
        with path.open("rb") as stream:
            return stream.read(len(_MACHINE)) == _MACHINE
    except OSError:
        return False


def load_key(store: Keystore, name: str, suite_id: int) -> suite.Signer:
    """A signing key of a keystore: from its seed, or from the token it refers to, whose PIN is asked for.

    Raises:
        TocsinError: No such key, or the token does not answer.
    """
    return signer.load(store, name, suite_id, ask_pin=_pin)


def _pin(token: str) -> bytes:
    return passphrase(None, what=f"token {token}, its PIN")


def passphrase(file: Path | None, *, what: str, new: bool = False) -> bytes:
    """A passphrase from a file or the prompt; never from arguments or the environment, where others can read it.

    Args:
        file: Its last line end is not part of it.
        what: What it opens, for the prompt.
        new: Ask twice.

    Raises:
        UsageError: A file others can read, an empty passphrase, two that differ, no terminal to ask at.
    """
    if file is not None:
        return _from_file(file)
    if not sys.stdin.isatty():
        raise UsageError("no terminal to ask for the passphrase at", hint="give it with --passphrase-file")
    typed = getpass.getpass(f"passphrase of {what}: ")
    if new and getpass.getpass("again: ") != typed:
        raise UsageError("the two passphrases differ", hint="try again")
    if not typed:
        raise UsageError("the passphrase is empty", hint="choose one of at least four random words")
    return typed.encode()


def _from_file(file: Path) -> bytes:
    try:
        status = file.stat()
        with file.open("rb") as stream:
            data = stream.read(MAX_PASSPHRASE_BYTES + 2)
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from None
    if stat.S_ISREG(status.st_mode) and status.st_mode & 0o077:
        raise UsageError(f"other users have rights on {file}", hint=f"chmod 600 {file}")
    found = data.removesuffix(b"\n").removesuffix(b"\r")
    if not found:
        raise UsageError(f"the passphrase in {file} is empty", hint="choose one of at least four random words")
    return found
