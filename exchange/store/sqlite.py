"""The embedded store: SQLite, WAL, synchronous=FULL, one writing connection, a few reading ones.

A commit appends and nothing else: `log` gets a narrow row per entry, the tree its new hashes in tiles of 256, `blob`
the bytes of small entries; those of large ones are in files beside it (exchange/store/segments.py), flushed first. Who may read a row depends on its lane (channel, sender, audience), of which there are few. What it takes
to search by id, stream or lane is derived and kept aside (exchange/store/index.py), so that a commit costs the same
however long the log is, and memory stays bounded.
"""

import contextlib
import fcntl
import hashlib
import itertools
import json
import sqlite3
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Final, NamedTuple

from exchange import merkle
from exchange.errors import LimitError, StoreError
from exchange.store.connections import Connections, failing
from exchange.store.contract import ForkRecord, NewEntry, Parked, RefusalRecord, Row
from exchange.store.index import FLUSHED_ROWS, MAX_WAITING_ROWS, Index, Indexed
from exchange.store.segments import SEGMENT_MIN, Segments, sync_directory
from keys.encoding import pae

TILE: Final = 256
HASH: Final = 32
CACHED_TILES: Final = 1024  # 8 KiB each
CACHED_EDGES: Final = 8
CACHED_LANES: Final = 4096
CACHED_READERS: Final = 256
MAX_PARKED: Final = 1024
MAX_PARKED_BYTES: Final = 64_000_000
MAX_REFUSALS: Final = 10_000
MAX_FORKS: Final = 1000
# Up to this many lanes a read merges the lanes' ranges of the index; above it a scan of the narrow rows is cheaper.
MERGED_LANES: Final = 64
# A scan ends after this many rows (some 10 ms), found something or not: the caller goes on from the position returned.
SCANNED_ROWS: Final = 32_768
PRUNED_AT_ONCE: Final = 64
ENTRIES: Final = 4096
# Copying the WAL back inside a commit stalls it for 5 to 15 ms, so another thread does it each 4 MB; under constant
# writing that thread cannot start the WAL anew, so above 64 MB the writer does, with next to nothing left to copy.
CHECKPOINT_BYTES: Final = 4_000_000
PAGE: Final = 16_384  # suits blobs of 100 KB
RESTART_FRAMES: Final = 64_000_000 // PAGE
APPLICATION: Final = 0x544F4353
VERSION: Final = 4
SCHEMA: Final = f"""
BEGIN;
CREATE TABLE log (
    position INTEGER PRIMARY KEY, kind INTEGER NOT NULL, id BLOB NOT NULL, stream BLOB NOT NULL, seq INTEGER NOT NULL,
    lane INTEGER NOT NULL, create_time_ms INTEGER NOT NULL, bytes INTEGER NOT NULL, segment INTEGER, start INTEGER,
    pruned INTEGER NOT NULL DEFAULT 0, row_sum INTEGER, data_sum INTEGER);
CREATE TABLE segment (number INTEGER PRIMARY KEY, end INTEGER NOT NULL, live INTEGER NOT NULL);
CREATE TABLE wipe (segment INTEGER NOT NULL, start INTEGER NOT NULL, bytes INTEGER NOT NULL);
CREATE TABLE blob (position INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE lane (
    number INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, channel TEXT NOT NULL, sender TEXT NOT NULL,
    audience TEXT NOT NULL, origin TEXT NOT NULL);
CREATE TABLE member (desk TEXT NOT NULL, lane INTEGER NOT NULL, PRIMARY KEY (desk, lane)) WITHOUT ROWID;
CREATE TABLE tile (level INTEGER NOT NULL, tile INTEGER NOT NULL, hashes BLOB NOT NULL, sum INTEGER, PRIMARY KEY (level, tile));
CREATE TABLE cursor (origin TEXT PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE note (origin TEXT PRIMARY KEY, note BLOB NOT NULL);
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE refusal (number INTEGER PRIMARY KEY AUTOINCREMENT, origin TEXT NOT NULL, position INTEGER NOT NULL,
    id BLOB NOT NULL, rule TEXT NOT NULL, time_ms INTEGER NOT NULL, UNIQUE (origin, position, id));
CREATE TABLE fork (number INTEGER PRIMARY KEY AUTOINCREMENT, stream BLOB NOT NULL, seq INTEGER NOT NULL,
    sender TEXT NOT NULL, channel TEXT NOT NULL, first BLOB NOT NULL, second BLOB NOT NULL, time_ms INTEGER NOT NULL,
    UNIQUE (first, second));
CREATE TABLE parked (number INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE, data BLOB NOT NULL,
    origin TEXT NOT NULL, position INTEGER NOT NULL, reason TEXT NOT NULL);
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
COMMIT;
"""
# What version 3 wrote has no sums, and is read unchecked.
UPGRADE: Final = f"""
BEGIN;
ALTER TABLE log ADD COLUMN row_sum INTEGER;
ALTER TABLE log ADD COLUMN data_sum INTEGER;
ALTER TABLE tile ADD COLUMN sum INTEGER;
PRAGMA user_version = {VERSION};
COMMIT;
"""
ROW: Final = (
    "SELECT log.position, kind, id, data, channel, sender, create_time_ms, pruned, segment, start, bytes, stream, seq, "
    "lane, row_sum, data_sum FROM log "
    "LEFT JOIN blob ON blob.position = log.position LEFT JOIN lane ON lane.number = log.lane WHERE log.position = ?"
)
GROWN: Final = (
    "INSERT INTO segment (number, end, live) VALUES (?, ?, ?) "
    "ON CONFLICT DO UPDATE SET end = excluded.end, live = live + excluded.live"
)
LANES: Final = """
SELECT number FROM lane WHERE number > :seen AND number <= :top AND (:without = '' OR origin != :without) AND
    (channel = '' OR :channels IS NULL OR channel IN (SELECT value FROM json_each(:channels))) AND
    (audience = '[]' OR :desks IS NULL OR number IN (
        SELECT lane FROM member WHERE desk IN (SELECT value FROM json_each(:desks)) AND lane > :seen))
"""
Lane = tuple[str, str, tuple[str, ...], str]
Wanted = tuple[frozenset[str] | None, frozenset[str] | None, str]
NOTE: Final = "INSERT INTO note (origin, note) VALUES (?, ?) ON CONFLICT DO UPDATE SET note = excluded.note"


class Dropped(NamedTuple):
    """What the retention rule drops: an entry, and where its bytes are, if not in the database."""

    position: int
    data: bytes
    segment: int | None
    start: int | None
    bytes: int


class SqliteStore:
    """See exchange.store.contract.Store. Any thread may call any method; writes queue behind each other.

    Args:
        path: Database file; made if absent, 0600. Its index (`.index`), large entries (`.<number>.blobs`) and a lock
            file (`.lock`), which keeps other processes out, are beside it.

    Raises:
        StoreError: The file is damaged, of another version, or open elsewhere.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._cache_lock = threading.Lock()
        self._tiles: dict[tuple[int, int], bytes] = {}
        self._edges: dict[int, list[bytes]] = {}
        self._lanes: dict[Lane, int] = {}
        self._readable: dict[Wanted, tuple[int, list[int], str]] = {}
        self._pruning = threading.Lock()
        self._uncopied_bytes = 0
        self.regrown = 0
        """How often a part of the tree was made again because the disk had changed it."""
        self._restart_due = False
        self._closing = False
        self._work_due = threading.Event()
        self._copying = threading.Lock()
        self._keeper: threading.Thread | None = None
        with contextlib.ExitStack() as undo, failing("open"):
            held = undo.enter_context(_hold(path))
            _make(path)
            self._file = Connections(path, page_size=PAGE, synchronous="FULL", autocheckpoint=0, cache_kib=8192)
            undo.callback(self._file.close)
            self._prepare()
            ends = self._file.write.execute("SELECT number, end FROM segment").fetchall()
            self._segments = Segments(path, dict(ends))
            self._size = self._checked_size()
            self._wipe()
            self._top_lane: int = self._file.write.execute("SELECT coalesce(max(number), 0) FROM lane").fetchone()[0]
            index = path.with_name(path.name + ".index")
            _make(index)
            self._index = Index(index, rows=self._indexed, size=self._size)
            self._held: IO[bytes] = held
            undo.pop_all()

    # ---- opening

    def _prepare(self) -> None:
        write = self._file.write
        # What retention drops shall not linger in free pages; nothing but retention and parking deletes.
        write.execute("PRAGMA secure_delete = ON")
        # A crash while the file was being made leaves it without any table, never with some of them.
        if write.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
            write.executescript(SCHEMA)
        if write.execute("PRAGMA user_version").fetchone()[0] == VERSION - 1:
            write.executescript(UPGRADE)
        marks = [write.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
        if marks != [APPLICATION, VERSION]:
            raise StoreError(
                f"{self._path.name} is no store of this version", hint="upgrade, or restore the right file"
            )

    def _checked_size(self) -> int:
        """Rows in the log, once rows, bytes and tree agree on the newest tile.

        Raises:
            StoreError: They do not. The whole file is not read: that takes minutes, and readers check what they get.
        """
        one = self._file.write.execute
        size: int = one("SELECT coalesce(max(position) + 1, 0) FROM log").fetchone()[0]
        whole = one(
            "SELECT count(*) FROM log LEFT JOIN blob ON blob.position = log.position "
            "WHERE log.position = ? AND (data IS NOT NULL OR segment IS NOT NULL)",
            (size - 1,),
        ).fetchone()[0]
        last = one("SELECT tile, length(hashes) FROM tile WHERE level = 0 ORDER BY tile DESC LIMIT 1").fetchone()
        leaves = last[0] * TILE + last[1] // HASH if last else 0
        start = max(size - 1, 0) // TILE * TILE
        newest = one(
            "SELECT row_sum, position, kind, id, stream, seq, lane, create_time_ms FROM log WHERE position >= ? "
            "ORDER BY position",
            (start,),
        ).fetchall()
        # A row that the disk changed is known by its sum; the tree has its leaf.
        ids = [row[2] if held in (None, row_sum(*row)) else self._node_at(0, row[0]) for held, *row in newest]
        sound = size == leaves and whole == min(size, 1) and len(ids) == size - start
        if sound:
            nodes = merkle.new_nodes(start, ids, self._node_at)
            sound = all(self._node_at(level, index) == value for level, index, value in nodes)
        if not sound:
            raise StoreError(
                f"{self._path.name} is damaged: {size} rows, {leaves} leaves, bytes of the last: {whole}",
                hint="restore it, or delete it and fetch the log again from the peers",
            )
        return size

    def _indexed(self, first: int, end: int) -> list[Indexed]:
        sql = "SELECT position, id, stream, seq, lane, bytes FROM log WHERE position >= ? AND position < ?"
        with self._file.reading() as read:
            return [Indexed(*row) for row in read.execute(f"{sql} ORDER BY position", (first, end))]

    # ---- appending

    def append(
        self,
        entries: Sequence[NewEntry],
        *,
        cursors: Mapping[str, int] | None = None,
        notes: Mapping[str, bytes] | None = None,
        refusals: Sequence[RefusalRecord] = (),
        forks: Sequence[ForkRecord] = (),
    ) -> list[int]:
        """See Store."""
        if self._restart_due:
            self._restart_wal()
        if self._index.waiting > MAX_WAITING_ROWS:
            self._index.flush()
        with self._file.lock:
            size = self._size
            positions, fresh = self._place(entries, size)
            lanes: dict[Lane, int] = {}
            large = [position for position, entry in enumerate(fresh, size) if len(entry.data) >= SEGMENT_MIN]
            with failing("append"):
                places = self._segments.append([fresh[position - size].data for position in large])
            at = dict(zip(large, places, strict=True))
            with self._file.transaction("append") as write:
                rows = [
                    Indexed(position, entry.id, entry.stream, entry.seq, self._lane(entry, lanes), len(entry.data))
                    for position, entry in enumerate(fresh, size)
                ]
                write.executemany(
                    "INSERT INTO log (position, id, stream, seq, lane, bytes, kind, create_time_ms, pruned, segment, start, "
                    "row_sum, data_sum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    [
                        (
                            *(*row, entry.kind, entry.create_time_ms, entry.pruned),
                            *at.get(row.position, (None, None)),
                            row_sum(
                                row.position, entry.kind, row.id, row.stream, row.seq, row.lane, entry.create_time_ms
                            ),
                            zlib.crc32(entry.data),
                        )
                        for row, entry in zip(rows, fresh, strict=True)
                    ],
                )
                write.executemany(
                    "INSERT INTO blob (position, data) VALUES (?, ?)",
                    [(position, entry.data) for position, entry in enumerate(fresh, size) if position not in at],
                )
                if at:
                    write.execute(GROWN, (*self._segments.pending, len(at)))
                tiles = self._grow(size, [entry.id for entry in fresh])
                write.executemany(
                    "INSERT INTO cursor (origin, position) VALUES (?, ?) "
                    "ON CONFLICT DO UPDATE SET position = excluded.position",
                    (cursors or {}).items(),
                )
                write.executemany(NOTE, (notes or {}).items())
                _record(write, refusals, forks)
            # Nothing is remembered before it is durable: a failed commit leaves no trace here either.
            if at:
                self._segments.keep()
            self._keep_tiles(tiles)
            self._keep_lanes(lanes)
            self._index.add(rows)
            self._size = size + len(fresh)
            self._written(sum(PAGE + (0 if row.position in at else row.bytes) for row in rows))
            return positions

    def _place(self, entries: Sequence[NewEntry], size: int) -> tuple[list[int], list[NewEntry]]:
        """The position of each entry, and those that are new."""
        positions: list[int] = []
        fresh: dict[bytes, tuple[int, NewEntry]] = {}
        if any(len(entry.id) != HASH for entry in entries):
            raise StoreError("an entry's id is not 32 bytes")
        known = self._positions_of([entry.id for entry in entries])
        for entry, position in zip(entries, known, strict=True):
            if position is None:
                position, _ = fresh.setdefault(entry.id, (size + len(fresh), entry))
            positions.append(position)
        return positions, [entry for _, entry in fresh.values()]

    def _lane(self, entry: NewEntry, made: dict[Lane, int]) -> int:
        lane = (entry.channel, entry.sender, entry.audience, entry.origin)
        number = self._lanes.get(lane) or made.get(lane)
        if number is not None:
            return number
        write = self._file.write
        key = hashlib.sha256(pae(entry.origin, entry.channel, entry.sender, *entry.audience)).digest()
        row = write.execute("SELECT number FROM lane WHERE key = ?", (key,)).fetchone()
        if row is None:
            row = write.execute(
                "INSERT INTO lane (key, channel, sender, audience, origin) VALUES (?, ?, ?, ?, ?) RETURNING number",
                (key, entry.channel, entry.sender, json.dumps(entry.audience, ensure_ascii=False), entry.origin),
            ).fetchone()
            # A sender reads its own: it must know its newest envelopes after a restart.
            desks = {*entry.audience, entry.sender} - {""}
            write.executemany("INSERT INTO member (desk, lane) VALUES (?, ?)", [(desk, row[0]) for desk in desks])
        made[lane] = number = int(row[0])
        return number

    def _keep_lanes(self, lanes: Mapping[Lane, int]) -> None:
        if len(self._lanes) + len(lanes) > CACHED_LANES:
            self._lanes.clear()
        self._lanes.update(lanes)
        self._top_lane = max((self._top_lane, *lanes.values()))

    def _grow(self, size: int, leaves: Sequence[bytes]) -> dict[tuple[int, int], bytes]:
        """Write the tree's new nodes; returns the tiles that changed."""
        changed: dict[tuple[int, int], bytearray] = {}
        for level, index, value in merkle.new_nodes(size, leaves, self._node_at):
            key = (level, index // TILE)
            if key not in changed:
                changed[key] = bytearray(self._tile(*key) if index % TILE else b"")
            changed[key] += value
        tiles = {key: bytes(hashes) for key, hashes in changed.items()}
        self._file.write.executemany(
            "INSERT INTO tile (level, tile, hashes, sum) VALUES (?, ?, ?, ?) "
            "ON CONFLICT DO UPDATE SET hashes = excluded.hashes, sum = excluded.sum",
            [(*key, hashes, zlib.crc32(hashes)) for key, hashes in tiles.items()],
        )
        return tiles

    # ---- the tree

    def size(self) -> int:
        """See Store."""
        return self._size

    def root(self, size: int) -> bytes:
        """See Store."""
        return self._edge(size)[-1] if size else merkle.EMPTY_ROOT

    def inclusion(self, position: int, size: int) -> list[bytes]:
        """See Store."""
        return merkle.inclusion(position, size, self._node_at, edge=self._edge(size))

    def consistency(self, old: int, new: int) -> list[bytes]:
        """See Store."""
        self._check_size(new)
        return merkle.consistency(old, new, self._node_at)

    def _check_size(self, size: int) -> None:
        if not 0 <= size <= self._size:
            raise LimitError(f"the log has {self._size} entries, not {size}")

    def _edge(self, size: int) -> list[bytes]:
        """The incomplete right edge, the same for all proofs in one tree."""
        self._check_size(size)
        edge = self._edges.get(size)
        if edge is None:
            edge = merkle.right_edge(size, self._node_at)
            with self._cache_lock:
                while len(self._edges) >= CACHED_EDGES:
                    del self._edges[next(iter(self._edges))]
                self._edges[size] = edge
        return edge

    def _node_at(self, level: int, index: int) -> bytes:
        start = index % TILE * HASH
        value = self._tile(level, index // TILE)[start : start + HASH]
        if len(value) != HASH:
            raise StoreError("the tree on disk is shorter than the log", hint="restore the store")
        return value

    def _tile(self, level: int, tile: int) -> bytes:
        cached = self._tiles.get((level, tile))
        if cached is not None:
            return cached
        row = self._file.one("SELECT hashes, sum FROM tile WHERE level = ? AND tile = ?", level, tile)
        hashes: bytes = row[0] if row else b""
        if row and row[1] not in (None, zlib.crc32(hashes)):
            hashes = self._regrown(level, tile, len(hashes) // HASH)
        if len(hashes) == TILE * HASH:
            # A growing tile is kept by the writer alone: a reader's copy could be older than the one already here.
            self._keep_tiles({(level, tile): hashes})
        return hashes

    def _regrown(self, level: int, tile: int, count: int) -> bytes:
        """A tile that the disk changed, made again from what it was made of."""
        self.regrown += 1
        first = tile * TILE
        if level:
            below = [
                (self._node_at(level - 1, 2 * k), self._node_at(level - 1, 2 * k + 1))
                for k in range(first, first + count)
            ]
            return b"".join(merkle.parent(left, right) for left, right in below)
        with self._file.reading() as read:
            sql = "SELECT id FROM log WHERE position >= ? AND position < ? ORDER BY position"
            return b"".join(row[0] for row in read.execute(sql, (first, first + count)).fetchall())

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
        return self._positions_of([identity])[0]

    def _positions_of(self, identities: Sequence[bytes]) -> list[int | None]:
        return [
            # The index knows the beginning of an id.
            next((position for position in places if self._id_at(position) == identity), None)
            for identity, places in zip(identities, self._index.positions_of(identities), strict=True)
        ]

    def last_in_stream(self, stream: bytes) -> tuple[int, bytes] | None:
        """See Store."""
        head = self._index.head(stream)
        return (head[0], self._id_at(head[1])) if head else None

    def find(self, stream: bytes, seq: int) -> bytes | None:
        """See Store."""
        position = self._index.at(stream, seq)
        return self._id_at(position) if position is not None else None

    def _id_at(self, position: int) -> bytes:
        row = self._file.one("SELECT id FROM log WHERE position = ?", position)
        if row is None:
            raise StoreError("the index names an entry the log has not", hint="delete the .index file and start again")
        return bytes(row[0])

    def get(self, position: int) -> Row | None:
        """See Store."""
        with self._file.reading() as read:
            return self._row(read, position)

    def read(
        self,
        position: int,
        *,
        limit_bytes: int,
        limit_rows: int,
        desks: frozenset[str] | None,
        channels: frozenset[str] | None,
        without: str = "",
    ) -> tuple[list[Row], int]:
        """See Store."""
        end = self._size
        if position >= end:
            return [], position
        with contextlib.ExitStack() as stack:
            found, searched = self._candidates(stack, position, end, limit_rows + 1, (desks, channels, without))
            read = stack.enter_context(self._file.reading())
            rows: list[Row] = []
            size = 0
            for at, length in found:
                if rows and (size + length > limit_bytes or len(rows) >= limit_rows):
                    return rows, at
                # No row of the log goes away by itself.
                rows.append(self._row(read, at) or Row(at, 0, b"", b"", "", "", 0, False, damaged=True))
                size += length
            return rows, searched

    def entries(self, position: int, *, limit_bytes: int) -> list[NewEntry]:
        """See Store."""
        rows, _ = self.read(position, limit_bytes=limit_bytes, limit_rows=ENTRIES, desks=None, channels=None)
        with self._file.reading() as read:
            placed = read.execute(
                "SELECT stream, seq, audience, origin FROM log JOIN lane ON lane.number = log.lane "
                "WHERE position >= ? AND position < ? ORDER BY position",
                (position, position + len(rows)),
            ).fetchall()
        return [
            NewEntry(
                kind=row.kind,
                id=row.id,
                data=row.data,
                stream=stream,
                seq=seq,
                channel=row.channel,
                audience=tuple(json.loads(audience)),
                sender=row.sender,
                create_time_ms=row.create_time_ms,
                origin=origin,
                pruned=row.pruned,
            )
            for row, (stream, seq, audience, origin) in zip(rows, placed, strict=True)
        ]

    def _row(self, read: sqlite3.Connection, position: int) -> Row | None:
        while True:
            generation = self._segments.generation
            found = read.execute(ROW, (position,)).fetchone()
            if found is None:
                return None
            segment, start, length, stream, seq, lane, held_row, held_data = found[8:]
            data: bytes | None = found[3]
            if data is None and segment is not None:
                data = self._segments.read(segment, start, length)
                if generation != self._segments.generation:
                    # Dropped by the retention rule meanwhile, perhaps this one: its row says what is left.
                    continue
            position, kind, identity, _, channel, sender, create_time_ms, pruned = found[:8]
            whole = (
                data is not None
                and channel is not None
                and len(data) == length
                and held_data in (None, zlib.crc32(data))
                and held_row in (None, row_sum(position, kind, identity, stream, seq, lane, create_time_ms))
            )
            who = (channel or "", sender or "")
            return Row(position, kind, identity, data or b"", *who, create_time_ms, bool(pruned), damaged=not whole)

    def leaf(self, position: int) -> bytes:
        """See Store."""
        return self._node_at(0, position)

    def mend(self, position: int, data: bytes) -> bool:
        """See Store."""
        identity = self.leaf(position)
        with self._file.lock:
            write = self._file.write
            found = write.execute(
                "SELECT kind, stream, seq, lane, create_time_ms, segment, start, bytes, row_sum, data_sum FROM log "
                "WHERE position = ?",
                (position,),
            ).fetchone()
            if found is None:
                return False
            kind, stream, seq, lane, create_time_ms, segment, start, length, held_row, held_data = found
            fresh = Indexed(position, identity, stream, seq, lane, len(data))
            right = row_sum(position, kind, identity, stream, seq, lane, create_time_ms)
            if held_row not in (None, right) or held_data not in (None, zlib.crc32(data)):
                return False
            with self._file.transaction("mend"):
                write.execute(
                    "INSERT INTO blob (position, data) VALUES (?, ?) ON CONFLICT DO UPDATE SET data = excluded.data",
                    (position, data),
                )
                write.execute(
                    "UPDATE log SET id = ?, segment = NULL, start = NULL, bytes = ? WHERE position = ?",
                    (identity, len(data), position),
                )
                if segment is not None:
                    write.execute("INSERT INTO wipe (segment, start, bytes) VALUES (?, ?, ?)", (segment, start, length))
                    write.execute("UPDATE segment SET live = live - 1 WHERE number = ?", (segment,))
            # The index may have been made from the changed row meanwhile.
            self._index.add([fresh])
            self._written(len(data))
        self._wipe()
        return True

    def _candidates(
        self,
        stack: contextlib.ExitStack,
        position: int,
        end: int,
        limit: int,
        wanted: Wanted,
    ) -> tuple[Iterator[tuple[int, int]], int]:
        """(position, length) of the entries wanted, in order, and the position up to which they were looked for."""
        if wanted == (None, None, ""):
            return self._scan(position, end, limit, None), end
        lanes, as_json = self._lanes_of(wanted)
        if len(lanes) > MERGED_LANES:
            end = min(end, position + SCANNED_ROWS)
            return self._scan(position, end, limit, as_json), end
        # The index first, then the rows it has not taken yet, if they are reached.
        split = min(max(position, self._index.size), end)
        indexed = stack.enter_context(self._index.places(lanes, position, split, limit))
        return itertools.chain(indexed, self._scan(split, end, limit, as_json)), end

    def _scan(self, first: int, end: int, limit: int, lanes: str | None) -> Iterator[tuple[int, int]]:
        sql = "SELECT position, bytes FROM log WHERE position >= ? AND position < ?"
        if lanes is not None:
            sql += " AND lane IN (SELECT value FROM json_each(?))"
        values = (first, end) if lanes is None else (first, end, lanes)
        with self._file.reading() as read:
            found = read.execute(f"{sql} ORDER BY position LIMIT {limit:d}", values).fetchall()
        yield from found

    def _lanes_of(self, wanted: Wanted) -> tuple[list[int], str]:
        top = self._top_lane
        desks, channels, without = wanted
        seen, lanes, as_json = self._readable.get(wanted, (0, [], "[]"))
        if seen < top:
            # A lane never changes, so only new ones are looked at.
            values = {
                "without": without,
                "seen": seen,
                "top": top,
                "desks": None if desks is None else json.dumps(sorted(desks)),
                "channels": None if channels is None else json.dumps(sorted(channels)),
            }
            with self._file.reading() as read:
                lanes = lanes + [number for (number,) in read.execute(LANES, values)]
            as_json = json.dumps(lanes)
            with self._cache_lock:
                if len(self._readable) >= CACHED_READERS:
                    self._readable.clear()
                self._readable[wanted] = (top, lanes, as_json)
        return lanes, as_json

    # ---- what is remembered

    def cursor(self, origin: str) -> int:
        """See Store."""
        row = self._file.one("SELECT position FROM cursor WHERE origin = ?", origin)
        return row[0] if row else 0

    def cursors(self) -> dict[str, int]:
        """See Store."""
        with self._file.reading() as read:
            return dict(read.execute("SELECT origin, position FROM cursor ORDER BY origin").fetchall())

    def note(self, origin: str) -> bytes | None:
        """See Store."""
        row = self._file.one("SELECT note FROM note WHERE origin = ?", origin)
        return row[0] if row else None

    def notes(self) -> dict[str, bytes]:
        """See Store."""
        with self._file.reading() as read:
            return dict(read.execute("SELECT origin, note FROM note ORDER BY origin").fetchall())

    def set_note(self, origin: str, note: bytes) -> None:
        """See Store."""
        self._do((NOTE, origin, note))

    def meta(self, key: str) -> bytes | None:
        """See Store."""
        row = self._file.one("SELECT value FROM meta WHERE key = ?", key)
        return row[0] if row else None

    def set_meta(self, key: str, value: bytes) -> None:
        """See Store."""
        sql = "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"
        self._do((sql, key, value))

    def refusals(self) -> list[RefusalRecord]:
        """See Store."""
        with self._file.reading() as read:
            rows = read.execute("SELECT origin, position, id, rule, time_ms FROM refusal ORDER BY number").fetchall()
        return [RefusalRecord(*row) for row in rows]

    def forks(self) -> list[ForkRecord]:
        """See Store."""
        with self._file.reading() as read:
            rows = read.execute(
                "SELECT stream, seq, sender, channel, first, second, time_ms FROM fork ORDER BY number"
            ).fetchall()
        return [ForkRecord(*row) for row in rows]

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
                "sum(length(data)) OVER (ORDER BY number DESC) AS size, "
                "row_number() OVER (ORDER BY number DESC) AS place FROM parked) WHERE size > ? OR place > ?)",
                MAX_PARKED_BYTES,
                MAX_PARKED,
            ),
        )

    def parked(self) -> list[Parked]:
        """See Store."""
        with self._file.reading() as read:
            rows = read.execute("SELECT id, data, origin, position, reason FROM parked ORDER BY number").fetchall()
        return [Parked(*row) for row in rows]

    def unpark(self, identity: bytes) -> None:
        """See Store."""
        self._do(("DELETE FROM parked WHERE id = ?", identity))

    def prune(self, channel: str, before_ms: int, strip: Callable[[bytes], bytes]) -> int:
        """See Store."""
        with self._file.reading() as read:
            found = read.execute("SELECT number FROM lane WHERE channel = ? AND channel != ''", (channel,)).fetchall()
        lanes = json.dumps([number for (number,) in found])
        mark = f"pruned {channel}"
        count = 0
        with self._pruning:
            # All of the channel below the mark was pruned before. Times are the senders': they do not follow positions.
            start = int(self.meta(mark) or b"0")
            position: int | None = start
            while position is not None:
                rows, position = self._prunable(lanes, position, before_ms)
                self._prune(rows, strip)
                count += len(rows)
            if count:
                self._wipe()
                whole = self._file.one(
                    "SELECT position FROM log WHERE position >= ? AND NOT pruned "
                    "AND lane IN (SELECT value FROM json_each(?)) ORDER BY position LIMIT 1",
                    start,
                    lanes,
                )
                self.set_meta(mark, str(whole[0] if whole else self._size).encode())
        return count

    def _prunable(self, lanes: str, position: int, before_ms: int) -> tuple[list[Dropped], int | None]:
        """Some rows to prune with their data, and where to look on; None = that was all."""
        with self._file.reading() as read:
            rows = read.execute(
                "SELECT log.position, data, segment, start, bytes, data_sum FROM log LEFT JOIN blob "
                "ON blob.position = log.position WHERE log.position >= ? AND create_time_ms < ? AND NOT pruned "
                "AND lane IN (SELECT value FROM json_each(?)) ORDER BY log.position LIMIT ?",
                (position, before_ms, lanes, PRUNED_AT_ONCE),
            ).fetchall()
            held = []
            for at, data, *place, held_data in rows:
                if data is None:
                    data = self._segments.read(*place)
                # What is damaged cannot be stripped; it is dropped once it was mended.
                if data is not None and len(data) == place[2] and held_data in (None, zlib.crc32(data)):
                    held.append(Dropped(at, data, *place))
        return held, rows[-1][0] + 1 if len(rows) == PRUNED_AT_ONCE else None

    def _prune(self, rows: Sequence[Dropped], strip: Callable[[bytes], bytes]) -> None:
        """One transaction for some, so that a publish waits for these and not for all."""
        kept = [(row.position, strip(row.data)) for row in rows]
        lengths = [(len(data), zlib.crc32(data), position) for position, data in kept]
        large = [row for row in rows if row.segment is not None]
        with self._file.lock:
            with self._file.transaction("prune") as write:
                write.executemany(
                    "INSERT INTO blob (position, data) VALUES (?, ?) ON CONFLICT DO UPDATE SET data = excluded.data",
                    kept,
                )
                write.executemany(
                    "UPDATE log SET pruned = 1, segment = NULL, start = NULL, bytes = ?, data_sum = ? WHERE position = ?",
                    lengths,
                )
                write.executemany(
                    "INSERT INTO wipe (segment, start, bytes) VALUES (?, ?, ?)",
                    [(row.segment, row.start, row.bytes) for row in large],
                )
                write.executemany(
                    "UPDATE segment SET live = live - 1 WHERE number = ?", [(row.segment,) for row in large]
                )
            self._written(sum(row.bytes for row in rows))

    def _wipe(self) -> None:
        """Overwrite what was dropped, then forget that it must be; a file of which nothing is left goes away."""
        with self._file.lock, failing("wipe"):
            places = self._file.write.execute("SELECT segment, start, bytes FROM wipe").fetchall()
            if not places:
                return
            self._segments.wipe(places)
            with self._file.transaction("wipe") as write:
                write.execute("DELETE FROM wipe")
                dead = write.execute(
                    "DELETE FROM segment WHERE live = 0 AND number < ? RETURNING number", (self._segments.current,)
                ).fetchall()
            for (number,) in dead:
                self._segments.drop(number)

    # ---- life

    def close(self) -> None:
        """See Store."""
        with self._file.lock:
            self._closing = True
        self._work_due.set()
        if self._keeper is not None:
            self._keeper.join()
        # What the index misses is read from the log again.
        with contextlib.suppress(StoreError):
            self._index.flush()
        self._index.close()
        with self._file.lock:
            self._file.close()
            self._segments.close()
        self._held.close()

    def _written(self, count: int) -> None:
        """Have the WAL copied back and the index filled once enough was written. The caller holds the writing lock."""
        self._uncopied_bytes += count
        waiting = self._index.waiting
        if (self._uncopied_bytes < CHECKPOINT_BYTES and waiting < FLUSHED_ROWS) or self._closing:
            return
        if self._keeper is None:
            self._keeper = threading.Thread(target=self._keep, name="store-keeper", daemon=True)
            self._keeper.start()
        self._work_due.set()

    def _keep(self) -> None:
        while not self._closing:
            self._work_due.wait()
            self._work_due.clear()
            # A failure here loses nothing: WAL and memory have it all, and the next commit on a broken disk says so.
            with contextlib.suppress(StoreError):
                if self._index.waiting >= FLUSHED_ROWS:
                    self._index.flush()
            with contextlib.suppress(StoreError):
                if self._uncopied_bytes >= CHECKPOINT_BYTES:
                    self._copy_wal()

    def _copy_wal(self) -> None:
        self._uncopied_bytes = 0
        with self._copying, self._file.reading() as connection:
            _, frames, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        self._restart_due = frames > RESTART_FRAMES

    def _restart_wal(self) -> None:
        with failing("checkpoint"), self._file.lock, self._copying:
            self._file.write.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
            self._restart_due = False

    def _do(self, *statements: tuple[object, ...]) -> None:
        with self._file.lock:
            with self._file.transaction("write") as write:
                for sql, *values in statements:
                    write.execute(str(sql), values)
            self._written(PAGE)


def row_sum(position: int, kind: int, identity: bytes, stream: bytes, seq: int, lane: int, create_time_ms: int) -> int:
    """What shows that the disk changed a row. Not against people: for them there are leaves and signatures."""
    numbers = f"{position} {kind} {seq} {lane} {create_time_ms} {len(identity)} "
    return zlib.crc32(numbers.encode() + identity + stream)


def _record(write: sqlite3.Connection, refusals: Sequence[RefusalRecord], forks: Sequence[ForkRecord]) -> None:
    if refusals:
        write.executemany(
            "INSERT OR IGNORE INTO refusal (origin, position, id, rule, time_ms) VALUES (?, ?, ?, ?, ?)",
            [(one.origin, one.position, one.id, one.rule, one.time_ms) for one in refusals],
        )
        write.execute("DELETE FROM refusal WHERE number <= (SELECT max(number) FROM refusal) - ?", (MAX_REFUSALS,))
    if forks:
        write.executemany(
            "INSERT OR IGNORE INTO fork (stream, seq, sender, channel, first, second, time_ms) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(one.stream, one.seq, one.sender, one.channel, one.first, one.second, one.time_ms) for one in forks],
        )
        write.execute("DELETE FROM fork WHERE number <= (SELECT max(number) FROM fork) - ?", (MAX_FORKS,))


def _hold(path: Path) -> IO[bytes]:
    """Keep other processes out while the file returned is open. A lock on the database itself would undo SQLite's."""
    held = path.with_name(path.name + ".lock").open("ab")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        held.close()
        raise StoreError(f"{path.name} is open in another process", hint="stop the other node first") from None
    return held


def _make(path: Path) -> None:
    """Make the file if it is not there, private, and its name durable."""
    if path.exists():
        return
    path.touch(mode=0o600)
    sync_directory(path.parent)
