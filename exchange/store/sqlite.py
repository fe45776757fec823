"""The embedded store: SQLite, WAL, synchronous=FULL, one writing connection, a few reading ones.

A commit appends and nothing else: `log` gets a narrow row per entry, the tree its new hashes in tiles of 256, `blob`
the bytes of small entries; those of large ones are in files beside it (exchange/store/segments.py), flushed first.
What it takes to search by id, stream or lane is derived and kept aside (exchange/store/index.py), so that a commit
costs the same however long the log is, and memory stays bounded.

Here is what holds the parts together: opening and checking, the commit, and the choice of what to read. Each part is
over the same connections: rows, tiles, lanes, what is remembered, retention, and the keeper beside the writer.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Final

from exchange import merkle
from exchange.errors import LimitError, StoreError
from exchange.store import schema
from exchange.store.connections import Connections, failing
from exchange.store.contract import ForkRecord, NewEntry, Parked, RefusalRecord, Row
from exchange.store.index import Index, Indexed
from exchange.store.keeper import Keeper
from exchange.store.lanes import Lane, Lanes, Wanted
from exchange.store.remembered import Remembered
from exchange.store.retention import Retention
from exchange.store.rows import Rows, row_sum
from exchange.store.segments import SEGMENT_MIN, Segments
from exchange.store.tiles import HASH, TILE, Tiles

# Up to this many lanes a read merges the lanes' ranges of the index; above it a scan of the narrow rows is cheaper.
MERGED_LANES: Final = 64
# A scan ends after this many rows (some 10 ms), found something or not: the caller goes on from the position returned.
SCANNED_ROWS: Final = 32_768
ENTRIES: Final = 4096


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
        with contextlib.ExitStack() as undo, failing("open"):
            held = undo.enter_context(schema.hold(path))
            schema.make(path)
            self._file = Connections(path, page_size=schema.PAGE, synchronous="FULL", autocheckpoint=0, cache_kib=8192)
            undo.callback(self._file.close)
            schema.prepare(self._file, path.name)
            ends = self._file.write.execute("SELECT number, end FROM segment").fetchall()
            self._segments = Segments(path, dict(ends))
            self._rows = Rows(self._file, self._segments)
            self._tiles = Tiles(self._file)
            self._lanes = Lanes(self._file)
            self._size = self._checked_size()
            index = path.with_name(path.name + ".index")
            schema.make(index)
            self._index = Index(index, rows=self._rows.indexed, size=self._size)
            undo.callback(self._index.close)
            self._keeper = Keeper(self._file, self._index)
            self._remembered = Remembered(self._file, self._keeper.written)
            self._retention = Retention(self._file, self._segments, self._remembered, self._keeper.written)
            self._retention.wipe()
            self._held: IO[bytes] = held
            undo.pop_all()

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
        ids = [row[2] if held in (None, row_sum(*row)) else self._tiles.node_at(0, row[0]) for held, *row in newest]
        sound = size == leaves and whole == min(size, 1) and len(ids) == size - start
        if sound:
            nodes = merkle.new_nodes(start, ids, self._tiles.node_at)
            sound = all(self._tiles.node_at(level, index) == value for level, index, value in nodes)
        if not sound:
            raise StoreError(
                f"{self._path.name} is damaged: {size} rows, {leaves} leaves, bytes of the last: {whole}",
                hint="restore it, or delete it and fetch the log again from the peers",
            )
        return size

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
        self._keeper.make_room()
        with self._file.lock:
            size = self._size
            positions, fresh = self._place(entries, size)
            lanes: dict[Lane, int] = {}
            large = [position for position, entry in enumerate(fresh, size) if len(entry.data) >= SEGMENT_MIN]
            with failing("append"):
                taken = self._segments.append([fresh[position - size].data for position in large])
            places = dict(zip(large, taken, strict=True))
            with self._file.transaction("append") as write:
                rows = [
                    Indexed(
                        position,
                        entry.id,
                        entry.stream,
                        entry.seq,
                        self._lanes.number(write, entry, lanes),
                        len(entry.data),
                    )
                    for position, entry in enumerate(fresh, size)
                ]
                self._rows.add(write, rows, fresh, places)
                tiles = self._tiles.grow(write, size, [entry.id for entry in fresh])
                self._remembered.add(write, cursors=cursors or {}, notes=notes or {}, refusals=refusals, forks=forks)
            # Nothing is remembered before it is durable: a failed commit leaves no trace here either.
            if places:
                self._segments.keep()
            self._tiles.keep(tiles)
            self._lanes.keep(lanes)
            self._index.add(rows)
            self._size = size + len(fresh)
            self._keeper.written(sum(schema.PAGE + (0 if row.position in places else row.bytes) for row in rows))
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

    # ---- the tree

    def size(self) -> int:
        """See Store."""
        return self._size

    def root(self, size: int) -> bytes:
        """See Store."""
        self._check_size(size)
        return self._tiles.edge(size)[-1] if size else merkle.EMPTY_ROOT

    def inclusion(self, position: int, size: int) -> list[bytes]:
        """See Store."""
        self._check_size(size)
        return merkle.inclusion(position, size, self._tiles.node_at, edge=self._tiles.edge(size))

    def consistency(self, old: int, new: int) -> list[bytes]:
        """See Store."""
        self._check_size(new)
        return merkle.consistency(old, new, self._tiles.node_at)

    def _check_size(self, size: int) -> None:
        if not 0 <= size <= self._size:
            raise LimitError(f"the log has {self._size} entries, not {size}")

    def leaf(self, position: int) -> bytes:
        """See Store."""
        return self._tiles.node_at(0, position)

    # ---- reading

    def position_of(self, identity: bytes) -> int | None:
        """See Store."""
        return self._positions_of([identity])[0]

    def _positions_of(self, identities: Sequence[bytes]) -> list[int | None]:
        return [
            # The index knows the beginning of an id.
            next((position for position in places if self._rows.id_at(position) == identity), None)
            for identity, places in zip(identities, self._index.positions_of(identities), strict=True)
        ]

    def last_in_stream(self, stream: bytes) -> tuple[int, bytes] | None:
        """See Store."""
        head = self._index.head(stream)
        return (head[0], self._rows.id_at(head[1])) if head else None

    def newest_of(self, sender: str) -> bytes | None:
        """See Store."""
        lanes, split = self._lanes.sent_by(sender), self._index.size
        positions = (self._rows.last(lanes, split), self._index.last(lanes))
        found = next((position for position in positions if position is not None), None)
        return self._rows.id_at(found) if found is not None else None

    def find(self, stream: bytes, seq: int) -> bytes | None:
        """See Store."""
        position = self._index.at(stream, seq)
        return self._rows.id_at(position) if position is not None else None

    def get(self, position: int) -> Row | None:
        """See Store."""
        with self._file.reading() as read:
            return self._rows.at(read, position)

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
                rows.append(self._rows.at(read, at) or Row(at, 0, b"", b"", "", "", 0, False, damaged=True))
                size += length
            return rows, searched

    def entries(self, position: int, *, limit_bytes: int) -> list[NewEntry]:
        """See Store."""
        rows, _ = self.read(position, limit_bytes=limit_bytes, limit_rows=ENTRIES, desks=None, channels=None)
        return self._rows.entries(rows)

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
            return self._rows.scan(position, end, limit, None), end
        lanes, as_json = self._lanes.of(wanted)
        if len(lanes) > MERGED_LANES:
            end = min(end, position + SCANNED_ROWS)
            return self._rows.scan(position, end, limit, as_json), end
        # The index first, then the rows it has not taken yet, if they are reached.
        split = min(max(position, self._index.size), end)
        indexed = stack.enter_context(self._index.places(lanes, position, split, limit))
        return itertools.chain(indexed, self._rows.scan(split, end, limit, as_json)), end

    # ---- what the disk changed, and what is dropped

    def mend(self, position: int, data: bytes) -> bool:
        """See Store."""
        identity = self.leaf(position)
        with self._file.lock:
            row = self._rows.mend(position, identity, data)
            if row is None:
                return False
            # The index may have been made from the changed row meanwhile.
            self._index.add([row])
            self._keeper.written(len(data))
        self._retention.wipe()
        return True

    def prune(self, channel: str, before_ms: int, strip: Callable[[bytes], bytes]) -> int:
        """See Store."""
        return self._retention.prune(channel, before_ms, strip, self._size)

    # ---- what is remembered

    def cursor(self, origin: str) -> int:
        """See Store."""
        return self._remembered.cursor(origin)

    def cursors(self) -> dict[str, int]:
        """See Store."""
        return self._remembered.cursors()

    def note(self, origin: str) -> bytes | None:
        """See Store."""
        return self._remembered.note(origin)

    def notes(self) -> dict[str, bytes]:
        """See Store."""
        return self._remembered.notes()

    def set_note(self, origin: str, note: bytes) -> None:
        """See Store."""
        self._remembered.set_note(origin, note)

    def meta(self, key: str) -> bytes | None:
        """See Store."""
        return self._remembered.meta(key)

    def set_meta(self, key: str, value: bytes) -> None:
        """See Store."""
        self._remembered.set_meta(key, value)

    def refusals(self) -> list[RefusalRecord]:
        """See Store."""
        return self._remembered.refusals()

    def forks(self) -> list[ForkRecord]:
        """See Store."""
        return self._remembered.forks()

    def park(self, identity: bytes, data: bytes, origin: str, position: int, reason: str) -> None:
        """See Store."""
        self._remembered.park(identity, data, origin, position, reason)

    def parked(self) -> list[Parked]:
        """See Store."""
        return self._remembered.parked()

    def unpark(self, identity: bytes) -> None:
        """See Store."""
        self._remembered.unpark(identity)

    # ---- life

    def close(self) -> None:
        """See Store."""
        self._keeper.stop()
        # What the index misses is read from the log again.
        with contextlib.suppress(StoreError):
            self._index.flush()
        self._index.close()
        with self._file.lock:
            self._file.close()
            self._segments.close()
        self._held.close()
