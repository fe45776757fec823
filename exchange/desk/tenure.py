"""One process works with a desk at a time: two would give two envelopes one number, which readers take for a fork."""

import fcntl
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final

from exchange.text import printable
from keys.errors import UsageError

MAX_NAME: Final = 200


class DeskInUseError(UsageError):
    """Another process works with this desk; names it."""

    reason = "DESK_IN_USE"


class Tenure:
    """The right to work with a desk; ends with the process, however that ends.

    Args:
        path: The desk's file; the lock is a file beside it, for a lock on the database itself would undo SQLite's.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.with_suffix(".lock")
        self._held: IO[bytes] | None = None

    def begin(self) -> None:
        """Take it.

        Raises:
            DeskInUseError: Another has it.
            OSError: The lock cannot be written.
        """
        if self._held is not None:
            return
        held = os.fdopen(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b")
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = printable(held.read(MAX_NAME).decode(errors="replace")) or "another process"
            held.close()
            raise DeskInUseError(
                f"the desk in {self._path.parent} is at work already: {who}",
                hint="end that first, or give this work a desk of its own: two at once would send two envelopes of one number",
            ) from None
        held.truncate()
        held.write(
            f"{_command()}, process {os.getpid()}, since {datetime.now(UTC):%Y-%m-%dT%H:%MZ}".encode()[:MAX_NAME]
        )
        held.flush()
        self._held = held

    def end(self) -> None:
        """Give it back."""
        if self._held is not None:
            self._held.close()
            self._held = None


def _command() -> str:
    """This process in words, without its arguments: "tocsin watch run"."""
    words = [Path(sys.argv[0]).name, *sys.argv[1:3]]
    options = next((at for at, word in enumerate(words) if at and not word.isalpha()), len(words))
    return " ".join(words[:options])
