"""What is derived from the log to search it: ids, stream numbers, lanes. Losing this file loses nothing.

Ids are random, so each would dirty a page of its own in the commit that everyone waits for. Instead the newest rows are
looked up in memory and go to a file of their own some thousands at a time, sorted, without fsync, off the commit path.
The file says up to where it goes; what it misses after a crash is read from the log again.
"""

import contextlib
import heapq
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from exchange.store.connections import Connections, failing

FLUSHED_ROWS: Final = 16_384
# Memory held when the disk of the index is slower than the log, some 300 bytes a row: above it a commit waits for it.
MAX_WAITING_ROWS: Final = 8 * FLUSHED_ROWS
REBUILT_ROWS: Final = 4 * FLUSHED_ROWS
# 4 KiB: the pages are dirtied one by one. An id's first eight bytes do; whoever asks compares the whole.
SCHEMA: Final = """
BEGIN;
CREATE TABLE IF NOT EXISTS known (
    prefix INTEGER NOT NULL, position INTEGER NOT NULL, PRIMARY KEY (prefix, position)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS number (stream BLOB NOT NULL, seq INTEGER NOT NULL, position INTEGER NOT NULL,
    PRIMARY KEY (stream, seq, position)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS place (lane INTEGER NOT NULL, position INTEGER NOT NULL, bytes INTEGER NOT NULL,
    PRIMARY KEY (lane, position)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS done (one INTEGER PRIMARY KEY CHECK (one = 1), size INTEGER NOT NULL, last BLOB NOT NULL);
PRAGMA user_version = 1;
COMMIT;
"""


class Indexed(NamedTuple):
    """What the index takes of a row."""

    position: int
    id: bytes
    stream: bytes
    seq: int
    lane: int
    bytes: int


@dataclass(slots=True)
class _Waiting:
    """Rows that are not in the file yet, and how to find them."""

    rows: list[Indexed] = field(default_factory=list)
    positions: dict[bytes, int] = field(default_factory=dict)
    numbers: dict[tuple[bytes, int], int] = field(default_factory=dict)
    heads: dict[bytes, tuple[int, int]] = field(default_factory=dict)

    def add(self, row: Indexed) -> None:
        self.positions[row.id] = row.position
        if row.stream:
            # Of two entries at one number the first in the log is the one that is found.
            self.numbers.setdefault((row.stream, row.seq), row.position)
            head = self.heads.get(row.stream)
            if head is None or head[0] < row.seq:
                self.heads[row.stream] = (row.seq, row.position)
        self.rows.append(row)


class Index:
    """The index of one log.

    Args:
        path: Its file; made if absent, remade if it is not of this log.
        rows: (first, end) -> rows of the log, in order.
        size: Rows in the log.

    Raises:
        StoreError: The disk or database failed.
    """

    def __init__(self, path: Path, *, rows: Callable[[int, int], Sequence[Indexed]], size: int) -> None:
        self._path = path
        self._waiting = (_Waiting(), _Waiting())
        self._swap = threading.Lock()
        with failing("open the index"):
            self._open(rows, size)
        while self.size < size:
            self.add(rows(self.size, min(size, self.size + REBUILT_ROWS)))
            self.flush()

    def _open(self, rows: Callable[[int, int], Sequence[Indexed]], size: int) -> None:
        for attempt in (1, 2):
            try:
                self._file = Connections(
                    self._path, page_size=4096, synchronous="NORMAL", autocheckpoint=1000, cache_kib=8192
                )
                self._file.write.executescript(SCHEMA)
                done = self._file.write.execute("SELECT size, last FROM done").fetchone()
                self.size = done[0] if done else 0
                if done is None or (self.size <= size and rows(self.size - 1, self.size)[0].id == done[1]):
                    return
                self._file.close()
            except sqlite3.DatabaseError:
                if attempt == 2:
                    raise
            # Another log's, or garbage: the log has it all.
            for suffix in ("", "-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)

    # ---- filling

    def add(self, rows: Iterable[Indexed]) -> None:
        """Take rows that are durable in the log."""
        with self._swap:
            for row in rows:
                self._waiting[0].add(row)

    @property
    def waiting(self) -> int:
        """Rows that are only in memory."""
        return sum(len(part.rows) for part in self._waiting)

    def flush(self) -> None:
        """Move the rows in memory to the file.

        Raises:
            StoreError: The disk or database failed; the rows stay in memory.
        """
        with self._file.lock:
            with self._swap:
                # Readers take the pair at once: a row is in one of the two until the file has it. The second is not
                # empty when the flush before failed.
                if not self._waiting[1].rows:
                    self._waiting = (_Waiting(), self._waiting[0])
            rows = self._waiting[1].rows
            if not rows:
                return
            with self._file.transaction("write the index") as write:
                write.executemany(
                    "INSERT OR IGNORE INTO known (prefix, position) VALUES (?, ?)",
                    sorted((_prefix(row.id), row.position) for row in rows),
                )
                write.executemany(
                    "INSERT OR IGNORE INTO number (stream, seq, position) VALUES (?, ?, ?)",
                    sorted((row.stream, row.seq, row.position) for row in rows if row.stream),
                )
                write.executemany(
                    "INSERT OR IGNORE INTO place (lane, position, bytes) VALUES (?, ?, ?)",
                    sorted((row.lane, row.position, row.bytes) for row in rows),
                )
                # In order, but for an old one that was mended.
                newest = max(rows, key=lambda row: row.position)
                size = max(self.size, newest.position + 1)
                if size > self.size:
                    write.execute("INSERT OR REPLACE INTO done (one, size, last) VALUES (1, ?, ?)", (size, newest.id))
            with self._swap:
                self.size = size
                self._waiting = (self._waiting[0], _Waiting())

    # ---- searching

    def positions_of(self, identities: Sequence[bytes]) -> list[list[int]]:
        """For each id where it may be: the one place it is, or places of other ids that begin alike."""
        waiting = self._waiting
        found: list[list[int]] = []
        with self._file.reading() as read:
            # One snapshot for all: taking it costs more than a lookup.
            read.execute("BEGIN")
            try:
                for identity in identities:
                    held = [part.positions[identity] for part in waiting if identity in part.positions]
                    if not held:
                        rows = read.execute("SELECT position FROM known WHERE prefix = ?", (_prefix(identity),))
                        held = [position for (position,) in rows]
                    found.append(held)
            finally:
                read.execute("COMMIT")
        return found

    def head(self, stream: bytes) -> tuple[int, int] | None:
        """(seq, position) of the highest number of a stream."""
        waiting = self._waiting
        top = self._file.one(
            "SELECT seq, min(position) FROM number "
            "WHERE stream = ?1 AND seq = (SELECT max(seq) FROM number WHERE stream = ?1) GROUP BY seq",
            stream,
        )
        # Oldest first, so that of two entries at one number the first in the log stays.
        found: tuple[int, int] | None = (top[0], top[1]) if top else None
        for part in waiting[::-1]:
            head = part.heads.get(stream)
            if head is not None and (found is None or head[0] > found[0]):
                found = head
        return found

    def at(self, stream: bytes, seq: int) -> int | None:
        """Position of the first entry at a number of a stream."""
        waiting = self._waiting
        row = self._file.one("SELECT min(position) FROM number WHERE stream = ? AND seq = ?", stream, seq)
        if row and row[0] is not None:
            return int(row[0])
        return next((found for part in waiting[::-1] if (found := part.numbers.get((stream, seq))) is not None), None)

    def last(self, lanes: str) -> int | None:
        """The last position below `size` in some lanes, as JSON."""
        row = self._file.one(
            "SELECT max((SELECT max(position) FROM place WHERE lane = value)) FROM json_each(?)", lanes
        )
        return int(row[0]) if row and row[0] is not None else None

    @contextlib.contextmanager
    def places(self, lanes: Iterable[int], first: int, end: int, limit: int) -> Iterator[Iterator[tuple[int, int]]]:
        """(position, bytes) of rows in those lanes, in order, at most `limit` a lane; only rows below `size`."""
        with self._file.reading() as read, contextlib.ExitStack() as cursors:
            sql = (
                "SELECT position, bytes FROM place WHERE lane = ? AND position >= ? AND position < ? "
                "ORDER BY position LIMIT ?"
            )
            # An open cursor pins the WAL: each is closed before the connection goes back.
            found = [read.execute(sql, (lane, first, end, limit)) for lane in lanes]
            for cursor in found:
                cursors.enter_context(contextlib.closing(cursor))
            yield heapq.merge(*found)

    def close(self) -> None:
        """Release the file."""
        self._file.close()


def _prefix(identity: bytes) -> int:
    return int.from_bytes(identity[:8], "big", signed=True)
