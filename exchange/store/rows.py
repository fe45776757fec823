"""The rows of a log on disk and their bytes: those of small entries beside them, those of large ones in segments."""

import json
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from exchange.errors import StoreError
from exchange.store.connections import Connections
from exchange.store.contract import NewEntry, Row
from exchange.store.index import Indexed
from exchange.store.segments import Segments

ROW: Final = (
    "SELECT log.position, kind, id, data, channel, sender, create_time_ms, pruned, segment, start, bytes, stream, seq, "
    "lane, row_sum, data_sum FROM log "
    "LEFT JOIN blob ON blob.position = log.position LEFT JOIN lane ON lane.number = log.lane WHERE log.position = ?"
)
GROWN: Final = (
    "INSERT INTO segment (number, end, live) VALUES (?, ?, ?) "
    "ON CONFLICT DO UPDATE SET end = excluded.end, live = live + excluded.live"
)


class Rows:
    """The rows of the file's log.

    Args:
        file: The log's file.
        segments: Its large entries.
    """

    def __init__(self, file: Connections, segments: Segments) -> None:
        self._file = file
        self._segments = segments

    def add(
        self,
        write: sqlite3.Connection,
        rows: Sequence[Indexed],
        entries: Sequence[NewEntry],
        places: Mapping[int, tuple[int, int]],
    ) -> None:
        """Write rows and their entries in the caller's transaction.

        Args:
            write: Where.
            rows: One for each entry.
            entries: What they hold.
            places: Segment and start of the large ones, by position, as the segments took them.
        """
        write.executemany(
            "INSERT INTO log (position, id, stream, seq, lane, bytes, kind, create_time_ms, pruned, segment, start, "
            "row_sum, data_sum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    *(*row, entry.kind, entry.create_time_ms, entry.pruned),
                    *places.get(row.position, (None, None)),
                    row_sum(row.position, entry.kind, row.id, row.stream, row.seq, row.lane, entry.create_time_ms),
                    zlib.crc32(entry.data),
                )
                for row, entry in zip(rows, entries, strict=True)
            ],
        )
        write.executemany(
            "INSERT INTO blob (position, data) VALUES (?, ?)",
            [
                (row.position, entry.data)
                for row, entry in zip(rows, entries, strict=True)
                if row.position not in places
            ],
        )
        if places:
            write.execute(GROWN, (*self._segments.pending, len(places)))

    def last(self, lanes: str, first: int) -> int | None:
        """The last position from `first` on in some lanes, as JSON."""
        row = self._file.one(
            "SELECT max(position) FROM log WHERE position >= ? AND lane IN (SELECT value FROM json_each(?))",
            first,
            lanes,
        )
        return int(row[0]) if row and row[0] is not None else None

    def id_at(self, position: int) -> bytes:
        """Id of the entry that the index names.

        Raises:
            StoreError: There is none.
        """
        row = self._file.one("SELECT id FROM log WHERE position = ?", position)
        if row is None:
            raise StoreError("the index names an entry the log has not", hint="delete the .index file and start again")
        return bytes(row[0])

    def indexed(self, first: int, end: int) -> list[Indexed]:
        """What the index takes of the rows first <= position < end, in order."""
        sql = "SELECT position, id, stream, seq, lane, bytes FROM log WHERE position >= ? AND position < ?"
        with self._file.reading() as read:
            return [Indexed(*row) for row in read.execute(f"{sql} ORDER BY position", (first, end))]

    def scan(self, first: int, end: int, limit: int, lanes: str | None) -> Iterator[tuple[int, int]]:
        """(position, bytes) of at most `limit` rows first <= position < end, in order, of the lanes (JSON; None = all)."""
        sql = "SELECT position, bytes FROM log WHERE position >= ? AND position < ?"
        if lanes is not None:
            sql += " AND lane IN (SELECT value FROM json_each(?))"
        values = (first, end) if lanes is None else (first, end, lanes)
        with self._file.reading() as read:
            found = read.execute(f"{sql} ORDER BY position LIMIT {limit:d}", values).fetchall()
        yield from found

    def at(self, read: sqlite3.Connection, position: int) -> Row | None:
        """One row with its bytes; None when the log has it not."""
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

    def entries(self, rows: Sequence[Row]) -> list[NewEntry]:
        """Rows that follow each other, as they were appended."""
        first = rows[0].position if rows else 0
        with self._file.reading() as read:
            placed = read.execute(
                "SELECT stream, seq, audience, origin FROM log JOIN lane ON lane.number = log.lane "
                "WHERE position >= ? AND position < ? ORDER BY position",
                (first, first + len(rows)),
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

    def mend(self, position: int, identity: bytes, data: bytes) -> Indexed | None:
        """Write what the disk changed, if these are its bytes; the caller holds the writing lock.

        Returns:
            The row as the index takes it, or None when there is no such row or it was another's.
        """
        found = self._file.write.execute(
            "SELECT kind, stream, seq, lane, create_time_ms, segment, start, bytes, row_sum, data_sum FROM log "
            "WHERE position = ?",
            (position,),
        ).fetchone()
        if found is None:
            return None
        kind, stream, seq, lane, create_time_ms, segment, start, length, held_row, held_data = found
        fresh = Indexed(position, identity, stream, seq, lane, len(data))
        right = row_sum(position, kind, identity, stream, seq, lane, create_time_ms)
        if held_row not in (None, right) or held_data not in (None, zlib.crc32(data)):
            return None
        with self._file.transaction("mend") as write:
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
        return fresh


def row_sum(position: int, kind: int, identity: bytes, stream: bytes, seq: int, lane: int, create_time_ms: int) -> int:
    """What shows that the disk changed a row. Not against people: for them there are leaves and signatures."""
    numbers = f"{position} {kind} {seq} {lane} {create_time_ms} {len(identity)} "
    return zlib.crc32(numbers.encode() + identity + stream)
