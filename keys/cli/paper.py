"""Sheets of courier keys: written to a file or a printer only their owner can read, typed in line by line."""

import getpass
import os
import stat
import sys
from pathlib import Path
from typing import Final

from keys import courier
from keys.cli.terminal import say
from keys.courier import LINES, Sheet, SheetError
from keys.errors import UsageError

_HEAD: Final = ("group", "first use", "key id", "split", "check")


def require_room(*paths: Path) -> None:
    """Refuse names that are taken, before a key is drawn for them.

    Raises:
        UsageError: A file is there; a printer or pipe may be.
    """
    if len(set(paths)) != len(paths):
        raise UsageError("both halves would go into one file", hint="name a file of its own for each half")
    for path in paths:
        if path.exists() and stat.S_ISREG(path.stat().st_mode):
            raise UsageError(f"{path} exists already", hint="choose another name, or destroy the old sheet first")


def write(sheet: Sheet, path: Path) -> None:
    """Write a sheet to a new file, mode 0600, or to a printer or pipe that is there.

    Raises:
        UsageError: It cannot be written.
    """
    new = os.O_CREAT | os.O_EXCL if not path.exists() else 0
    try:
        descriptor = os.open(path, os.O_WRONLY | new | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(sheet.text())
            stream.flush()
            if new:
                os.fsync(descriptor)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None


def read(path: Path) -> Sheet:
    """A sheet from a file only its owner can read.

    Raises:
        UsageError: No such file, or others have rights on it.
        SheetError: Not a sheet; says which line.
    """
    try:
        with path.open(encoding="utf-8") as stream:
            status = os.fstat(stream.fileno())
            if stat.S_ISREG(status.st_mode) and status.st_mode & 0o077:
                raise UsageError(f"other users have rights on {path}", hint=f"chmod 600 {path}")
            text = stream.read(courier.MAX_SHEET_CHARS + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SheetError(f"{path} is no sheet") from None
    return courier.parse_sheet(text)


def ask(number: int) -> Sheet:
    """A sheet typed at the terminal; a line with an error is asked for again, and nothing typed is shown.

    Raises:
        UsageError: There is no terminal.
    """
    if not sys.stdin.isatty():
        raise UsageError("no terminal to type the sheet at", hint="give each half with --half FILE")
    say(f"half {number} of 2: type what stands after each name; what you type does not show")
    while True:
        said = {name: getpass.getpass(f"{name}: ").strip() for name in _HEAD}
        try:
            head = courier.parse_head(number, said)
            break
        except SheetError as error:
            say(f"{error}; once more")
    half = b"".join(_ask_line(head, line) for line in range(1, LINES + 1))
    return Sheet(number, head.group, head.first_use_ms, head.id, head.split, half)


def _ask_line(head: Sheet, line: int) -> bytes:
    while True:
        typed = getpass.getpass(f"{line}: ")
        try:
            return courier.parse_line(typed, number=head.number, split=head.split, line=line)
        except SheetError as error:
            say(f"{error}; once more")
