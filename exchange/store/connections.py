"""Connections to one SQLite file: one that writes, under a lock, and a few that read, lent to whoever asks."""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from exchange.errors import StoreError


class Connections:
    """All connections of this process to one file in WAL mode.

    Args:
        path: Database file; SQLite makes it if absent.
        page_size: Bytes; holds only for a file that is made now.
        synchronous: "FULL": a commit survives power loss. "NORMAL": it may be lost, the file stays sound.
        autocheckpoint: Pages of WAL after which a commit copies them back; 0 = never.
        cache_kib: Page cache of the writing connection, KiB.
    """

    def __init__(self, path: Path, *, page_size: int, synchronous: str, autocheckpoint: int, cache_kib: int) -> None:
        self._path = path
        # The page size must be set before the journal mode.
        self._pragmas = (
            f"page_size = {page_size}",
            "journal_mode = WAL",
            f"synchronous = {synchronous}",
            f"wal_autocheckpoint = {autocheckpoint}",
            "journal_size_limit = 64000000",
        )
        self._idle: list[sqlite3.Connection] = []
        self._idle_lock = threading.Lock()
        self._closed = False
        self.lock = threading.Lock()
        self.write = self._connect()
        self.write.execute(f"PRAGMA cache_size = -{cache_kib}")

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=10)
        for pragma in self._pragmas:
            connection.execute(f"PRAGMA {pragma}")
        return connection

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection for one thread's reads; close cursors that were not read to the end, they pin the WAL.

        Raises:
            StoreError: The disk or database failed, or the store is closed.
        """
        with failing("read"):
            with self._idle_lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                if self._closed:
                    raise StoreError(f"{self._path.name} is closed")
                connection = self._connect()
            try:
                yield connection
            finally:
                with self._idle_lock:
                    if not self._closed:
                        self._idle.append(connection)
                if self._closed:
                    connection.close()

    def one(self, sql: str, *values: object) -> tuple[Any, ...] | None:
        """The first row of a query."""
        with self.reading() as read:
            row: tuple[Any, ...] | None = read.execute(sql, values).fetchone()
            return row

    @contextlib.contextmanager
    def transaction(self, what: str) -> Iterator[sqlite3.Connection]:
        """One transaction on the writing connection; the caller holds `lock`. Any error rolls it back.

        Raises:
            StoreError: The disk or database failed.
        """
        with failing(what):
            try:
                self.write.execute("BEGIN IMMEDIATE")
                yield self.write
                self.write.execute("COMMIT")
            except BaseException:
                # After some errors SQLite has rolled back by itself.
                if self.write.in_transaction:
                    with contextlib.suppress(sqlite3.Error):
                        self.write.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close all; connections on loan close when they come back. The last one copies the WAL back."""
        with self._idle_lock:
            self._closed = True
            idle, self._idle = self._idle, []
        with failing("close"):
            for connection in (*idle, self.write):
                connection.close()


@contextlib.contextmanager
def failing(what: str) -> Iterator[None]:
    """SQLite's and the system's errors as ours."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"cannot {what}: {error}", operation=what) from error
