"""The embedded store: SQLite, WAL, synchronous=FULL, one writing connection, a few reading ones.

What is searched is small, what is big is read once: `log` holds a narrow row per entry, `blob` the bytes. Who may read a
row depends on its lane (channel, sender, audience), of which there are few; so a row costs one index entry however many
desks read it. Tree hashes live on disk in tiles of 256, and memory stays bounded however long the log is.
"""

import contextlib
import fcntl
import hashlib
import heapq
import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

from exchange import merkle
from exchange.errors import LimitError, StoreError
from exchange.store.contract import NewEntry, Parked, RefusalRecord, Row
from keys.encoding import pae

TILE: Final = 256
HASH: Final = 32
CACHED_TILES: Final = 1024  # 8 KiB each
CACHED_LANES: Final = 4096
CACHED_READERS: Final = 256
MAX_PARKED: Final = 1024
MAX_PARKED_BYTES: Final = 64_000_000
MAX_REFUSALS: Final = 10_000
# Up to this many lanes a read merges the lanes' index ranges; above it a scan of the narrow rows is cheaper.
MERGED_LANES: Final = 64
# A scan ends after this many rows (some 10 ms), found something or not: the caller goes on from the position returned.
SCANNED_ROWS: Final = 32_768
PRUNED_AT_ONCE: Final = 64
# Checkpointing inside a commit stalls it for 5 to 15 ms, so another thread does it each 4 MB; it cannot restart the WAL
# under constant writing, so above 64 MB the writer does, with next to nothing left to copy.
CHECKPOINT_BYTES: Final = 4_000_000
RESTART_FRAMES: Final = 4096
PAGE: Final = 16_384
APPLICATION: Final = 0x544F4353
SCHEMA: Final = f"""
BEGIN;
CREATE TABLE log (
    position INTEGER PRIMARY KEY, kind INTEGER NOT NULL, id BLOB NOT NULL, stream BLOB, seq INTEGER NOT NULL,
    lane INTEGER NOT NULL, create_time_ms INTEGER NOT NULL, bytes INTEGER NOT NULL, pruned INTEGER NOT NULL DEFAULT 0);
CREATE INDEX log_lane ON log (lane, position);
CREATE INDEX log_stream ON log (stream, seq) WHERE stream IS NOT NULL;
CREATE INDEX log_whole ON log (lane, create_time_ms) WHERE NOT pruned;
CREATE TABLE blob (position INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE known (prefix INTEGER NOT NULL, position INTEGER NOT NULL, PRIMARY KEY (prefix, position)) WITHOUT ROWID;
CREATE TABLE lane (
    number INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, channel TEXT NOT NULL, sender TEXT NOT NULL,
    audience TEXT NOT NULL);
CREATE TABLE member (desk TEXT NOT NULL, lane INTEGER NOT NULL, PRIMARY KEY (desk, lane)) WITHOUT ROWID;
CREATE TABLE tile (level INTEGER NOT NULL, tile INTEGER NOT NULL, hashes BLOB NOT NULL, PRIMARY KEY (level, tile));
CREATE TABLE cursor (origin TEXT PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE note (origin TEXT PRIMARY KEY, note BLOB NOT NULL);
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE refusal (number INTEGER PRIMARY KEY AUTOINCREMENT, origin TEXT NOT NULL, position INTEGER NOT NULL,
    id BLOB NOT NULL, rule TEXT NOT NULL, time_ms INTEGER NOT NULL, UNIQUE (origin, position, id));
CREATE TABLE parked (number INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE, data BLOB NOT NULL,
    origin TEXT NOT NULL, position INTEGER NOT NULL, reason TEXT NOT NULL);
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = 1;
COMMIT;
"""
ROW: Final = (
    "SELECT log.position, kind, id, data, channel, sender, create_time_ms, pruned "
    "FROM log JOIN blob ON blob.position = log.position JOIN lane ON lane.number = log.lane WHERE log.position = ?"
)
LANES: Final = """
SELECT number FROM lane WHERE number > :seen AND number <= :top AND (channel = '' OR (
    (:channels IS NULL OR channel IN (SELECT value FROM json_each(:channels))) AND
    (:desks IS NULL OR number IN (
        SELECT lane FROM member WHERE desk IN (SELECT value FROM json_each(:desks)) AND lane > :seen))))
"""


class SqliteStore:
    """See exchange.store.contract.Store. Any thread may call any method; writes queue behind each other.

    Args:
        path: Database file; made if absent, 0600. A lock file beside it keeps other processes out.

    Raises:
        StoreError: The file is damaged, of another version, or open elsewhere.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._cache_lock = threading.Lock()
        self._readers: list[sqlite3.Connection] = []
        self._tiles: dict[tuple[int, int], bytes] = {}
        self._lanes: dict[tuple[str, str, tuple[str, ...]], int] = {}
        self._readable: dict[tuple[frozenset[str] | None, frozenset[str] | None], tuple[int, list[int], str]] = {}
        self._uncheckpointed = 0
        self._restart_due = False
        self._closing = False
        self._checkpoint_due = threading.Event()
        self._checkpointing = threading.Lock()
        self._checkpointer: threading.Thread | None = None
        with contextlib.ExitStack() as undo, _failing("open"):
            self._held = _hold(path)
            undo.callback(self._held.close)
            new = not path.exists()
            if new:
                path.touch(mode=0o600)
                _sync_directory(path.parent)
            self._write = self._connect()
            undo.callback(self._write.close)
            # What retention drops shall not linger in free pages; nothing but retention and parking deletes.
            self._write.execute("PRAGMA secure_delete = ON")
            self._write.execute("PRAGMA cache_size = -32000")
            self._prepare()
            undo.callback(self._close_readers)
            self._size = 0
            self._size = self._checked_size()
            self._top_lane: int = self._write.execute("SELECT coalesce(max(number), 0) FROM lane").fetchone()[0]
            undo.pop_all()

    # ---- opening

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=10)
        # The page size holds only if it is set before the journal mode. 16 KiB suits blobs of 100 KB.
        connection.execute(f"PRAGMA page_size = {PAGE}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute(f"PRAGMA journal_size_limit = {RESTART_FRAMES * PAGE}")
        return connection

    def _prepare(self) -> None:
        # A crash while the file was being made leaves it without any table, never with some of them.
        if self._write.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
            self._write.executescript(SCHEMA)
        application = self._write.execute("PRAGMA application_id").fetchone()[0]
        version = self._write.execute("PRAGMA user_version").fetchone()[0]
        if (application, version) != (APPLICATION, 1):
            raise StoreError(
                f"{self._path.name} is no store of this version", hint="upgrade, or restore the right file"
            )

    def _checked_size(self) -> int:
        """Rows in the log, once rows, bytes, ids and tree agree on the newest tile.

        Raises:
            StoreError: They do not. The whole file is not read: that takes minutes, and readers check what they get.
        """
        one = self._write.execute
        size: int = one("SELECT coalesce(max(position) + 1, 0) FROM log").fetchone()[0]
        blobs = one("SELECT coalesce(max(position) + 1, 0) FROM blob").fetchone()[0]
        last = one("SELECT tile, length(hashes) FROM tile WHERE level = 0 ORDER BY tile DESC LIMIT 1").fetchone()
        leaves = last[0] * TILE + last[1] // HASH if last else 0
        start = max(size - 1, 0) // TILE * TILE
        ids = [row[0] for row in one("SELECT id FROM log WHERE position >= ? ORDER BY position", (start,))]
        sound = size == blobs == leaves and len(ids) == size - start
        if sound:
            nodes = merkle.new_nodes(start, ids, self._node_at)
            sound = all(self._node_at(level, index) == value for level, index, value in nodes)
        if not sound:
            raise StoreError(
                f"{self._path.name} is damaged: {size} rows, {blobs} blobs, {leaves} leaves",
                hint="restore it, or delete it and fetch the log again from the peers",
            )
        return size

    # ---- appending

    def append(self, entries: Sequence[NewEntry], *, cursors: Mapping[str, int] | None = None) -> list[int]:
        """See Store."""
        if self._restart_due:
            self._restart_wal()
        with _failing("append"), self._lock:
            size, lanes = self._size, dict[tuple[str, str, tuple[str, ...]], int]()
            with self._transaction() as write:
                positions, fresh = self._place(entries, size)
                rows = [
                    (
                        position,
                        entry.kind,
                        entry.id,
                        entry.stream or None,
                        entry.seq,
                        self._lane(entry, lanes),
                        entry.create_time_ms,
                        len(entry.data),
                    )
                    for position, entry in enumerate(fresh, size)
                ]
                write.executemany(
                    "INSERT INTO log (position, kind, id, stream, seq, lane, create_time_ms, bytes) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    rows,
                )
                write.executemany(
                    "INSERT INTO blob (position, data) VALUES (?, ?)",
                    [(position, entry.data) for position, entry in enumerate(fresh, size)],
                )
                # In the order of the keys, so that neighbours share a page while it is at hand.
                write.executemany(
                    "INSERT INTO known (prefix, position) VALUES (?, ?)",
                    sorted((_prefix(entry.id), position) for position, entry in enumerate(fresh, size)),
                )
                tiles = self._grow(size, [entry.id for entry in fresh])
                write.executemany(
                    "INSERT INTO cursor (origin, position) VALUES (?, ?) "
                    "ON CONFLICT DO UPDATE SET position = excluded.position",
                    (cursors or {}).items(),
                )
            # Nothing is remembered before it is durable: a failed commit leaves no trace here either.
            self._keep_tiles(tiles)
            self._keep_lanes(lanes)
            self._size = size + len(fresh)
            self._written(sum(len(entry.data) + PAGE for entry in fresh))
            return positions

    def _place(self, entries: Sequence[NewEntry], size: int) -> tuple[list[int], list[NewEntry]]:
        """The position of each entry, and those that are new."""
        positions: list[int] = []
        fresh: dict[bytes, tuple[int, NewEntry]] = {}
        for entry in entries:
            if len(entry.id) != HASH:
                raise StoreError("an entry's id is not 32 bytes")
            position = _position_of(self._write, entry.id)
            if position is None:
                position, _ = fresh.setdefault(entry.id, (size + len(fresh), entry))
            positions.append(position)
        return positions, [entry for _, entry in fresh.values()]

    def _lane(self, entry: NewEntry, made: dict[tuple[str, str, tuple[str, ...]], int]) -> int:
        lane = (entry.channel, entry.sender, entry.audience)
        number = self._lanes.get(lane) or made.get(lane)
        if number is not None:
            return number
        key = hashlib.sha256(pae(entry.channel, entry.sender, *entry.audience)).digest()
        row = self._write.execute("SELECT number FROM lane WHERE key = ?", (key,)).fetchone()
        if row is None:
            row = self._write.execute(
                "INSERT INTO lane (key, channel, sender, audience) VALUES (?, ?, ?, ?) RETURNING number",
                (key, entry.channel, entry.sender, json.dumps(entry.audience, ensure_ascii=False)),
            ).fetchone()
            # A sender reads its own: it must know its newest envelopes after a restart.
            desks = {*entry.audience, entry.sender} - {""}
            self._write.executemany("INSERT INTO member (desk, lane) VALUES (?, ?)", [(desk, row[0]) for desk in desks])
        made[lane] = number = int(row[0])
        return number

    def _grow(self, size: int, leaves: Sequence[bytes]) -> dict[tuple[int, int], bytes]:
        """Write the tree's new nodes; returns the tiles that changed."""
        changed: dict[tuple[int, int], bytearray] = {}

        def node_at(level: int, index: int) -> bytes:
            return _slice(self._tile(self._write, level, index // TILE), index)

        for level, index, value in merkle.new_nodes(size, leaves, node_at):
            key = (level, index // TILE)
            if key not in changed:
                changed[key] = bytearray(self._tile(self._write, *key) if index % TILE else b"")
            changed[key] += value
        tiles = {key: bytes(hashes) for key, hashes in changed.items()}
        self._write.executemany(
            "INSERT INTO tile (level, tile, hashes) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET hashes = excluded.hashes",
            [(*key, hashes) for key, hashes in tiles.items()],
        )
        return tiles

    def _keep_lanes(self, lanes: Mapping[tuple[str, str, tuple[str, ...]], int]) -> None:
        if len(self._lanes) + len(lanes) > CACHED_LANES:
            self._lanes.clear()
        self._lanes.update(lanes)
        self._top_lane = max((self._top_lane, *lanes.values()))

    # ---- the tree

    def size(self) -> int:
        """See Store."""
        return self._size

    def root(self, size: int) -> bytes:
        """See Store."""
        self._check_size(size)
        return merkle.subtree(0, size, self._node_at)

    def inclusion(self, position: int, size: int) -> list[bytes]:
        """See Store."""
        self._check_size(size)
        return merkle.inclusion(position, size, self._node_at)

    def consistency(self, old: int, new: int) -> list[bytes]:
        """See Store."""
        self._check_size(new)
        return merkle.consistency(old, new, self._node_at)

    def _check_size(self, size: int) -> None:
        if not 0 <= size <= self._size:
            raise LimitError(f"the log has {self._size} entries, not {size}")

    def _node_at(self, level: int, index: int) -> bytes:
        tile = self._tiles.get((level, index // TILE))
        if tile is None:
            with self._reading() as read:
                tile = self._tile(read, level, index // TILE)
        return _slice(tile, index)

    def _tile(self, connection: sqlite3.Connection, level: int, tile: int) -> bytes:
        cached = self._tiles.get((level, tile))
        if cached is not None:
            return cached
        row = connection.execute("SELECT hashes FROM tile WHERE level = ? AND tile = ?", (level, tile)).fetchone()
        hashes: bytes = row[0] if row else b""
        if len(hashes) == TILE * HASH:
            # A growing tile is kept by the writer alone: a reader's copy could be older than the one already here.
            self._keep_tiles({(level, tile): hashes})
        return hashes

    def _keep_tiles(self, tiles: Mapping[tuple[int, int], bytes]) -> None:
        with self._cache_lock:
            for key, hashes in tiles.items():
                self._tiles.pop(key, None)
                self._tiles[key] = hashes
            while len(self._tiles) > CACHED_TILES:
                del self._tiles[next(iter(self._tiles))]

    # ---- reading

    def position_of(self, identity: bytes) -> int | None:
        """See Store."""
        with self._reading() as read:
            return _position_of(read, identity)

    def last_in_stream(self, stream: bytes) -> tuple[int, bytes] | None:
        """See Store."""
        row = self._one("SELECT seq, id FROM log WHERE stream = ? ORDER BY seq DESC, position LIMIT 1", stream)
        return (row[0], row[1]) if row else None

    def find(self, stream: bytes, seq: int) -> bytes | None:
        """See Store."""
        row = self._one("SELECT id FROM log WHERE stream = ? AND seq = ? ORDER BY position LIMIT 1", stream, seq)
        return row[0] if row else None

    def get(self, position: int) -> Row | None:
        """See Store."""
        row = self._one(ROW, position)
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
        end = self._size
        if position >= end:
            return [], position
        with self._reading() as read, contextlib.ExitStack() as cursors:
            # An open cursor pins the WAL; each is closed before the connection goes back.
            found, searched = self._candidates(read, cursors, position, end, limit_rows + 1, desks, channels)
            rows: list[Row] = []
            size = 0
            for at, length in found:
                if rows and (size + length > limit_bytes or len(rows) >= limit_rows):
                    return rows, at
                rows.append(_row(read.execute(ROW, (at,)).fetchone()))
                size += length
            return rows, searched

    def _candidates(
        self,
        read: sqlite3.Connection,
        cursors: contextlib.ExitStack,
        position: int,
        end: int,
        limit: int,
        desks: frozenset[str] | None,
        channels: frozenset[str] | None,
    ) -> tuple[Iterable[tuple[int, int]], int]:
        """(position, length) of the entries wanted, in order, and the position up to which they were looked for."""

        def run(sql: str, *values: object) -> sqlite3.Cursor:
            return cursors.enter_context(contextlib.closing(read.execute(sql, values)))

        span = "SELECT position, bytes FROM log WHERE position >= ? AND position < ?"
        if desks is None and channels is None:
            return run(f"{span} ORDER BY position LIMIT ?", position, end, limit), end
        lanes, as_json = self._lanes_of(read, desks, channels)
        if len(lanes) <= MERGED_LANES:
            each = f"{span} AND lane = ? ORDER BY position LIMIT ?"
            return heapq.merge(*(run(each, position, end, lane, limit) for lane in lanes)), end
        end = min(end, position + SCANNED_ROWS)
        scan = f"{span} AND +lane IN (SELECT value FROM json_each(?)) ORDER BY position LIMIT ?"  # noqa: S608 - constants
        return run(scan, position, end, as_json, limit), end

    def _lanes_of(
        self, read: sqlite3.Connection, desks: frozenset[str] | None, channels: frozenset[str] | None
    ) -> tuple[list[int], str]:
        top = self._top_lane
        seen, lanes, as_json = self._readable.get((desks, channels), (0, [], "[]"))
        if seen < top:
            # A lane never changes, so only new ones are looked at.
            wanted = {
                "seen": seen,
                "top": top,
                "desks": None if desks is None else json.dumps(sorted(desks)),
                "channels": None if channels is None else json.dumps(sorted(channels)),
            }
            lanes = lanes + [number for (number,) in read.execute(LANES, wanted)]
            as_json = json.dumps(lanes)
            with self._cache_lock:
                if len(self._readable) >= CACHED_READERS:
                    self._readable.clear()
                self._readable[(desks, channels)] = (top, lanes, as_json)
        return lanes, as_json

    # ---- what is remembered

    def cursor(self, origin: str) -> int:
        """See Store."""
        row = self._one("SELECT position FROM cursor WHERE origin = ?", origin)
        return row[0] if row else 0

    def cursors(self) -> dict[str, int]:
        """See Store."""
        with _failing("read"):
            return dict(self._read.execute("SELECT origin, position FROM cursor ORDER BY origin").fetchall())

    def note(self, origin: str) -> bytes | None:
        """See Store."""
        row = self._one("SELECT note FROM note WHERE origin = ?", origin)
        return row[0] if row else None

    def set_note(self, origin: str, note: bytes) -> None:
        """See Store."""
        sql = "INSERT INTO note (origin, note) VALUES (?, ?) ON CONFLICT DO UPDATE SET note = excluded.note"
        self._do((sql, origin, note))

    def meta(self, key: str) -> bytes | None:
        """See Store."""
        row = self._one("SELECT value FROM meta WHERE key = ?", key)
        return row[0] if row else None

    def set_meta(self, key: str, value: bytes) -> None:
        """See Store."""
        sql = "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"
        self._do((sql, key, value))

    def record_refusal(self, record: RefusalRecord) -> None:
        """See Store."""
        self._do(
            (
                "INSERT OR IGNORE INTO refusal (origin, position, id, rule, time_ms) VALUES (?, ?, ?, ?, ?)",
                record.origin,
                record.position,
                record.id,
                record.rule,
                record.time_ms,
            ),
            ("DELETE FROM refusal WHERE number <= (SELECT max(number) FROM refusal) - ?", MAX_REFUSALS),
        )

    def refusals(self) -> list[RefusalRecord]:
        """See Store."""
        with self._reading() as read:
            rows = read.execute("SELECT origin, position, id, rule, time_ms FROM refusal ORDER BY number").fetchall()
        return [RefusalRecord(*row) for row in rows]

    def park(self, identity: bytes, data: bytes, origin: str, position: int, reason: str) -> None:
        """See Store."""
        self._do(
            (
                "INSERT OR IGNORE INTO parked (id, data, origin, position, reason) VALUES (?, ?, ?, ?, ?)",
                identity,
                data,
                origin,
                position,
                reason,
            ),
            (
                "DELETE FROM parked WHERE number <= (SELECT max(number) FROM (SELECT number, "
                "sum(length(data)) OVER (ORDER BY number DESC) AS size, row_number() OVER (ORDER BY number DESC) AS place "
                "FROM parked) WHERE size > ? OR place > ?)",
                MAX_PARKED_BYTES,
                MAX_PARKED,
            ),
        )

    def parked(self) -> list[Parked]:
        """See Store."""
        with self._reading() as read:
            rows = read.execute("SELECT id, data, origin, position, reason FROM parked ORDER BY number").fetchall()
        return [Parked(*row) for row in rows]

    def unpark(self, identity: bytes) -> None:
        """See Store."""
        self._do(("DELETE FROM parked WHERE id = ?", identity))

    def prune(self, channel: str, before_ms: int, strip: Callable[[bytes], bytes]) -> int:
        """See Store."""
        with self._reading() as read:
            lanes = read.execute("SELECT number FROM lane WHERE channel = ? AND channel != ''", (channel,)).fetchall()
        count = 0
        for (lane,) in lanes:
            while pruned := self._prune(lane, before_ms, strip):
                count += pruned
        return count

    def _prune(self, lane: int, before_ms: int, strip: Callable[[bytes], bytes]) -> int:
        """Prune some of a lane in one transaction, so that a publish waits for these and not for all."""
        with _failing("prune"), self._lock, self._transaction() as write:
            found = write.execute(
                "SELECT position, (SELECT data FROM blob WHERE blob.position = log.position) FROM log "
                "WHERE lane = ? AND create_time_ms < ? AND NOT pruned ORDER BY create_time_ms LIMIT ?",
                (lane, before_ms, PRUNED_AT_ONCE),
            ).fetchall()
            kept = [(strip(data), position) for position, data in found]
            write.executemany("UPDATE blob SET data = ? WHERE position = ?", kept)
            lengths = [(len(data), position) for data, position in kept]
            write.executemany("UPDATE log SET pruned = 1, bytes = ? WHERE position = ?", lengths)
            self._written(sum(len(data) for _, data in found))
            return len(found)

    # ---- life

    def close(self) -> None:
        """See Store."""
        with self._lock:
            self._closing = True
        self._checkpoint_due.set()
        if self._checkpointer is not None:
            self._checkpointer.join()
        with _failing("close"), self._lock:
            self._close_readers()
            self._write.close()
            self._held.close()

    def _close_readers(self) -> None:
        with self._cache_lock:
            readers, self._readers = self._readers, []
        for connection in readers:
            connection.close()

    def _written(self, count: int) -> None:
        self._uncheckpointed += count
        if self._uncheckpointed < CHECKPOINT_BYTES or self._closing:
            return
        self._uncheckpointed = 0
        if self._checkpointer is None:
            self._checkpointer = threading.Thread(target=self._checkpoint_forever, name="store-checkpoint", daemon=True)
            self._checkpointer.start()
        self._checkpoint_due.set()

    def _checkpoint_forever(self) -> None:
        while not self._closing:
            self._checkpoint_due.wait()
            self._checkpoint_due.clear()
            # A failure here loses nothing: the WAL has it all, and the next commit on a broken disk says so.
            with contextlib.suppress(StoreError), self._checkpointing, self._reading() as connection:
                _, frames, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                self._restart_due = frames > RESTART_FRAMES

    def _restart_wal(self) -> None:
        with _failing("checkpoint"), self._lock, self._checkpointing:
            self._write.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
            self._restart_due = False

    # ---- connections

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._write.execute("BEGIN IMMEDIATE")
        try:
            yield self._write
            self._write.execute("COMMIT")
        except BaseException:
            # SQLite has rolled back by itself after some errors.
            if self._write.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    self._write.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with _failing("read"):
            with self._cache_lock:
                connection = self._readers.pop() if self._readers else None
            if connection is None:
                if self._closing:
                    raise StoreError(f"{self._path.name} is closed")
                connection = self._connect()
            try:
                yield connection
            finally:
                with self._cache_lock:
                    if self._closing:
                        connection.close()
                    else:
                        self._readers.append(connection)

    def _one(self, sql: str, *values: object) -> tuple[Any, ...] | None:
        with self._reading() as read:
            row: tuple[Any, ...] | None = read.execute(sql, values).fetchone()
            return row

    def _do(self, *statements: tuple[object, ...]) -> None:
        with _failing("write"), self._lock, self._transaction() as write:
            for sql, *values in statements:
                write.execute(str(sql), values)
            self._written(PAGE)


def _hold(path: Path) -> IO[bytes]:
    """Keep other processes out while the file returned is open. Locking the database itself would undo SQLite's locks."""
    held = path.with_name(path.name + ".lock").open("ab")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        held.close()
        raise StoreError(f"{path.name} is open in another process", hint="stop the other node first") from None
    return held


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _prefix(identity: bytes) -> int:
    """Eight bytes of an id as SQLite's integer: a quarter of the index. The whole id is compared where they meet."""
    return int.from_bytes(identity[:8], "big", signed=True)


def _position_of(connection: sqlite3.Connection, identity: bytes) -> int | None:
    found = connection.execute(
        "SELECT known.position FROM known JOIN log ON log.position = known.position WHERE prefix = ? AND id = ?",
        (_prefix(identity), identity),
    ).fetchone()
    return found[0] if found else None


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
