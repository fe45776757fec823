"""The embedded store: SQLite, WAL, synchronous=FULL, one writer connection, one reader connection.

Tree hashes live on disk in tiles of 256, so memory stays bounded however long the log is. Audiences are interned as
sets: one row per envelope, not one per reader.
"""

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from exchange import merkle
from exchange.errors import StoreError
from exchange.store.contract import NewEntry, Parked, RefusalRecord, Row

TILE: Final = 256
HASH: Final = 32
CACHED_TILES: Final = 1024
MAX_PARKED: Final = 1024
MAX_REFUSALS: Final = 10_000
WAL_PAGES: Final = 250
SCHEMA: Final = """
CREATE TABLE log (
    position INTEGER PRIMARY KEY, kind INTEGER NOT NULL, id BLOB NOT NULL, stream INTEGER, seq INTEGER, channel TEXT NOT NULL,
    audience INTEGER, sender TEXT NOT NULL, create_time_ms INTEGER NOT NULL, pruned INTEGER NOT NULL DEFAULT 0, data BLOB NOT NULL);
CREATE INDEX log_audience ON log (audience, position);
CREATE TABLE known (id BLOB PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE stream (number INTEGER PRIMARY KEY, stream BLOB NOT NULL UNIQUE, seq INTEGER NOT NULL, id BLOB NOT NULL);
CREATE TABLE audience (number INTEGER PRIMARY KEY, desks TEXT NOT NULL UNIQUE);
CREATE TABLE member (desk TEXT NOT NULL, audience INTEGER NOT NULL, PRIMARY KEY (desk, audience)) WITHOUT ROWID;
CREATE TABLE tile (level INTEGER NOT NULL, tile INTEGER NOT NULL, hashes BLOB NOT NULL, PRIMARY KEY (level, tile)) WITHOUT ROWID;
CREATE TABLE cursor (origin TEXT PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE note (origin TEXT PRIMARY KEY, note BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE refusal (number INTEGER PRIMARY KEY AUTOINCREMENT, origin TEXT NOT NULL, position INTEGER NOT NULL,
    id BLOB NOT NULL, rule TEXT NOT NULL, time_ms INTEGER NOT NULL);
CREATE TABLE parked (number INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE, data BLOB NOT NULL,
    origin TEXT NOT NULL, position INTEGER NOT NULL, reason TEXT NOT NULL);
PRAGMA user_version = 1;
"""
ROW: Final = "position, kind, id, data, channel, sender, create_time_ms, pruned"


class SqliteStore:
    """See exchange.store.contract.Store.

    Args:
        path: Database file; made if absent, 0600.

    Raises:
        StoreError: The file is damaged or of another version.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._tiles: dict[tuple[int, int], bytes] = {}
        self._sets: dict[tuple[str, ...], int] = {}
        with _failing("open"):
            new = not path.exists()
            if new:
                path.touch(mode=0o600)
            self._write = _connect(path, fresh=new)
            self._read = _connect(path, fresh=False)
            version = self._write.execute("PRAGMA user_version").fetchone()[0]
            self._size = self._write.execute("SELECT coalesce(max(position) + 1, 0) FROM log").fetchone()[0]
            count = self._write.execute("SELECT count(*) FROM known").fetchone()[0]
        if version != 1 or count != self._size:
            raise StoreError(f"{path.name} is damaged or of another version: {count} ids for {self._size} entries")

    # ---- appending

    def append(self, entries: Sequence[NewEntry], *, cursors: Mapping[str, int] | None = None) -> list[int]:
        """See Store."""
        try:
            with _failing("append"), self._lock:
                return self._append(entries, cursors or {})
        except StoreError:
            self._tiles.clear()
            self._sets.clear()
            raise

    def _append(self, entries: Sequence[NewEntry], cursors: Mapping[str, int]) -> list[int]:
        write = self._write
        write.execute("BEGIN IMMEDIATE")
        try:
            size = self._size
            positions: list[int] = []
            leaves: list[bytes] = []
            for entry in entries:
                known = write.execute("SELECT position FROM known WHERE id = ?", (entry.id,)).fetchone()
                if known:
                    positions.append(known[0])
                    continue
                position = size + len(leaves)
                self._insert(position, entry)
                leaves.append(entry.id)
                positions.append(position)
            tiles = self._grow(size, leaves)
            write.executemany("INSERT INTO cursor VALUES (?, ?) ON CONFLICT DO UPDATE SET position = excluded.position", cursors.items())
            write.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                write.execute("ROLLBACK")
            raise
        self._tiles.update(tiles)
        while len(self._tiles) > CACHED_TILES:
            del self._tiles[next(iter(self._tiles))]
        self._size = size + len(leaves)
        return positions

    def _insert(self, position: int, entry: NewEntry) -> None:
        write = self._write
        stream = None
        if entry.stream:
            # The highest number stands for the stream; lower ones that arrive late do not take its place.
            stream = write.execute(
                "INSERT INTO stream (stream, seq, id) VALUES (?, ?, ?) ON CONFLICT (stream) DO UPDATE SET "
                "id = iif(excluded.seq > seq, excluded.id, id), seq = max(seq, excluded.seq) RETURNING number",
                (entry.stream, entry.seq, entry.id),
            ).fetchone()[0]
        audience = self._audience(entry.audience) if entry.audience else None
        write.execute("INSERT INTO known VALUES (?, ?)", (entry.id, position))
        write.execute(
            "INSERT INTO log (position, kind, id, stream, seq, channel, audience, sender, create_time_ms, data) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                position,
                entry.kind,
                entry.id,
                stream,
                entry.seq,
                entry.channel,
                audience,
                entry.sender,
                entry.create_time_ms,
                entry.data,
            ),
        )

    def _audience(self, desks: tuple[str, ...]) -> int:
        if desks in self._sets:
            return self._sets[desks]
        key = "\n".join(desks)
        found = self._write.execute("SELECT number FROM audience WHERE desks = ?", (key,)).fetchone()
        if found is None:
            found = self._write.execute("INSERT INTO audience (desks) VALUES (?) RETURNING number", (key,)).fetchone()
            self._write.executemany("INSERT INTO member VALUES (?, ?)", [(desk, found[0]) for desk in desks])
        if len(self._sets) > CACHED_TILES:
            self._sets.clear()
        self._sets[desks] = found[0]
        return int(found[0])

    def _grow(self, size: int, leaves: Sequence[bytes]) -> dict[tuple[int, int], bytes]:
        changed: dict[tuple[int, int], bytearray] = {}

        def node_at(level: int, index: int) -> bytes:
            return _slice(self._tile(self._write, level, index // TILE), index)

        for level, index, value in merkle.new_nodes(size, leaves, node_at):
            key = (level, index // TILE)
            if key not in changed:
                changed[key] = bytearray(self._tile(self._write, *key))
            changed[key] += value
        tiles = {key: bytes(hashes) for key, hashes in changed.items()}
        self._write.executemany(
            "INSERT INTO tile VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET hashes = excluded.hashes",
            [(level, tile, hashes) for (level, tile), hashes in tiles.items()],
        )
        return tiles

    def _tile(self, connection: sqlite3.Connection, level: int, tile: int) -> bytes:
        cached = self._tiles.get((level, tile))
        if cached is not None:
            return cached
        row = connection.execute("SELECT hashes FROM tile WHERE level = ? AND tile = ?", (level, tile)).fetchone()
        return row[0] if row else b""

    # ---- the tree

    def size(self) -> int:
        """See Store."""
        return self._size

    def _node_at(self, level: int, index: int) -> bytes:
        return _slice(self._tile(self._read, level, index // TILE), index)

    def root(self, size: int) -> bytes:
        """See Store."""
        with _failing("read"), self._lock:
            return merkle.subtree(0, size, self._node_at)

    def inclusion(self, position: int, size: int) -> list[bytes]:
        """See Store."""
        with _failing("read"), self._lock:
            return merkle.inclusion(position, size, self._node_at)

    def consistency(self, old: int, new: int) -> list[bytes]:
        """See Store."""
        with _failing("read"), self._lock:
            return merkle.consistency(old, new, self._node_at)

    # ---- reading

    def position_of(self, identity: bytes) -> int | None:
        """See Store."""
        row = self._one("SELECT position FROM known WHERE id = ?", identity)
        return row[0] if row else None

    def last_in_stream(self, stream: bytes) -> tuple[int, bytes] | None:
        """See Store."""
        row = self._one("SELECT seq, id FROM stream WHERE stream = ?", stream)
        return (row[0], row[1]) if row else None

    def get(self, position: int) -> Row | None:
        """See Store."""
        row = self._one(f"SELECT {ROW} FROM log WHERE position = ?", position)  # noqa: S608 - a constant
        return _row(row) if row else None

    def read(
        self,
        position: int,
        *,
        limit_bytes: int,
        limit_rows: int,
        desks: frozenset[str] | None,
        channels: frozenset[str] | None,
    ) -> tuple[list[Row], int]:
        """See Store."""
        with _failing("read"):
            end = self._size
            sets = self._sets_of(desks) if desks is not None else None
            rows: list[Row] = []
            size = 0
            # Only the numbers are looked at to filter; the bytes of an envelope are read once it is wanted.
            cursor = self._read.execute(
                "SELECT position, audience, sender, channel, length(data) FROM log WHERE position >= ? AND position < ? ORDER BY position",
                (position, end),
            )
            after = position
            for at, audience, sender, channel, length in cursor:
                wanted = not channel or (
                    (sets is None or audience in sets or sender in (desks or ()))
                    and (channels is None or channel in channels)
                )
                if wanted and rows and (size + length > limit_bytes or len(rows) >= limit_rows):
                    return rows, after
                if wanted:
                    row = self._read.execute(f"SELECT {ROW} FROM log WHERE position = ?", (at,)).fetchone()  # noqa: S608
                    rows.append(_row(row))
                    size += length
                after = at + 1
            return rows, after

    def _sets_of(self, desks: frozenset[str]) -> set[int]:
        marks = ",".join("?" * len(desks))
        found = self._read.execute(f"SELECT DISTINCT audience FROM member WHERE desk IN ({marks})", tuple(desks))  # noqa: S608
        return {row[0] for row in found}

    # ---- what is remembered

    def cursor(self, origin: str) -> int:
        """See Store."""
        row = self._one("SELECT position FROM cursor WHERE origin = ?", origin)
        return row[0] if row else 0

    def note(self, origin: str) -> bytes | None:
        """See Store."""
        row = self._one("SELECT note FROM note WHERE origin = ?", origin)
        return row[0] if row else None

    def set_note(self, origin: str, note: bytes) -> None:
        """See Store."""
        self._do("INSERT INTO note VALUES (?, ?) ON CONFLICT DO UPDATE SET note = excluded.note", origin, note)

    def record_refusal(self, record: RefusalRecord) -> None:
        """See Store."""
        self._do(
            "INSERT INTO refusal (origin, position, id, rule, time_ms) VALUES (?, ?, ?, ?, ?)",
            record.origin,
            record.position,
            record.id,
            record.rule,
            record.time_ms,
        )
        self._do("DELETE FROM refusal WHERE number <= (SELECT max(number) FROM refusal) - ?", MAX_REFUSALS)

    def refusals(self) -> list[RefusalRecord]:
        """See Store."""
        with _failing("read"):
            rows = self._read.execute("SELECT origin, position, id, rule, time_ms FROM refusal ORDER BY number")
            return [RefusalRecord(*row) for row in rows]

    def park(self, identity: bytes, data: bytes, origin: str, position: int, reason: str) -> None:
        """See Store."""
        self._do(
            "INSERT OR IGNORE INTO parked (id, data, origin, position, reason) VALUES (?, ?, ?, ?, ?)",
            identity,
            data,
            origin,
            position,
            reason,
        )
        self._do("DELETE FROM parked WHERE number <= (SELECT max(number) FROM parked) - ?", MAX_PARKED)

    def parked(self) -> list[Parked]:
        """See Store."""
        with _failing("read"):
            rows = self._read.execute("SELECT id, data, origin, position, reason FROM parked ORDER BY number")
            return [Parked(*row) for row in rows]

    def unpark(self, identity: bytes) -> None:
        """See Store."""
        self._do("DELETE FROM parked WHERE id = ?", identity)

    def prune(self, channel: str, before_ms: int, strip: Callable[[bytes], bytes]) -> int:
        """See Store."""
        with _failing("prune"):
            found = self._read.execute(
                "SELECT position FROM log WHERE channel = ? AND create_time_ms < ? AND NOT pruned", (channel, before_ms)
            ).fetchall()
        for (position,) in found:
            row = self.get(position)
            if row is not None:
                self._do("UPDATE log SET data = ?, pruned = 1 WHERE position = ?", strip(row.data), position)
        return len(found)

    def close(self) -> None:
        """See Store."""
        with _failing("close"), self._lock:
            self._read.close()
            self._write.close()

    def _one(self, sql: str, *values: object) -> tuple[int, ...] | None:
        with _failing("read"):
            row: tuple[int, ...] | None = self._read.execute(sql, values).fetchone()
            return row

    def _do(self, sql: str, *values: object) -> None:
        with _failing("write"), self._lock:
            self._write.execute(sql, values)


def _connect(path: Path, *, fresh: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    if fresh:
        # The page size holds only if it is set before the journal mode.
        connection.execute("PRAGMA page_size = 16384")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
    if fresh:
        connection.executescript(SCHEMA)
    return connection


def _slice(tile: bytes, index: int) -> bytes:
    start = index % TILE * HASH
    value = tile[start : start + HASH]
    if len(value) != HASH:
        raise StoreError("the tree on disk is shorter than the log")
    return value


def _row(row: Sequence[object]) -> Row:
    position, kind, identity, data, channel, sender, create_time_ms, pruned = row
    return Row(position, kind, identity, data, channel, sender, create_time_ms, bool(pruned))  # type: ignore[arg-type]


@contextlib.contextmanager
def _failing(what: str) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"cannot {what}: {error}", operation=what) from error
