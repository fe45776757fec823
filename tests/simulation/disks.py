"""What disks do: lose what was not flushed, keep half of a write, fail in the middle of one, fill up, come back older."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final

MOST_PAGES: Final = 1_073_741_823
"""SQLite's own limit."""
LONGEST_TEAR: Final = 20_000
Image = dict[str, bytes]
"""The files of one database, by name, as the disk holds them."""


def image_of(path: Path) -> Image:
    """A database with its log of writes, its index and its blobs; the shared memory dies with the process."""
    return {
        file.name: file.read_bytes()
        for file in sorted(path.parent.glob(f"{path.name}*"))
        if not file.name.endswith(("-shm", ".lock"))
    }


def put_back(path: Path, image: Image) -> None:
    """Make the disk hold an image and nothing newer."""
    for file in path.parent.glob(f"{path.name}*"):
        if not file.name.endswith(".lock"):
            file.unlink()
    for name, data in image.items():
        (path.parent / name).write_bytes(data)


def tear(image: Image, name: str, chance: Random, *, keep: int | None = None) -> None:
    """Leave the beginning of a write behind what was flushed.

    Args:
        image: Changed in place.
        name: The file that was being written.
        chance: Draws how much of it is there.
        keep: What was flushed, bytes; what is behind may be gone from any byte on. None = all.
    """
    data = image.get(name)
    if data is None:
        return
    if keep is not None and keep < len(data):
        data = data[: chance.randrange(keep, len(data) + 1)]
    image[name] = data + chance.randbytes(chance.choice((0, 0, 100, LONGEST_TEAR)))


def fail_once(connection: sqlite3.Connection, chance: Random) -> Callable[[], None]:
    """Let one statement of a transaction fail, after some steps of programs drawn by chance; returns the way to stop.

    Only while the transaction is open. Else it would strike what the simulation itself asks of the file, and the last step
    of a COMMIT: SQLite asks the handler once more when all is written, and would call it failed, as no disk does.
    """
    left = chance.randrange(1, 400)

    def interrupt() -> int:
        nonlocal left
        if not connection.in_transaction:
            return 0
        left -= 1
        if left == 0:
            connection.set_progress_handler(None, 1)
            return 1
        return 0

    connection.set_progress_handler(interrupt, 1)
    return lambda: connection.set_progress_handler(None, 1)


def fill(connection: sqlite3.Connection) -> Callable[[], None]:
    """Let the file grow no further; returns the way to make room again."""
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    return lambda: (connection.execute(f"PRAGMA max_page_count = {MOST_PAGES}"), None)[1]
