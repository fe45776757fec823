"""What the retention rule drops: from the rows first, then, overwritten, from the files of large entries."""

import json
import threading
import zlib
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from exchange.store.connections import Connections, failing
from exchange.store.remembered import Remembered
from exchange.store.segments import Segments

PRUNED_AT_ONCE: Final = 64


class Dropped(NamedTuple):
    """What the retention rule drops: an entry, and where its bytes are, if not in the database."""

    position: int
    data: bytes
    segment: int | None
    start: int | None
    bytes: int


class Retention:
    """Dropping from one log.

    Args:
        file: The log's file.
        segments: Its large entries.
        remembered: Where it is kept up to where a channel was pruned.
        written: Told how many bytes a write was, under the writing lock.
    """

    def __init__(
        self, file: Connections, segments: Segments, remembered: Remembered, written: Callable[[int], None]
    ) -> None:
        self._file = file
        self._segments = segments
        self._remembered = remembered
        self._written = written
        self._pruning = threading.Lock()

    def prune(self, channel: str, before_ms: int, strip: Callable[[bytes], bytes], size: int) -> int:
        """See Store; `size`: entries in the log before this begins, beyond which no mark goes."""
        with self._file.reading() as read:
            found = read.execute("SELECT number FROM lane WHERE channel = ? AND channel != ''", (channel,)).fetchall()
        lanes = json.dumps([number for (number,) in found])
        mark = f"pruned {channel}"
        count = 0
        with self._pruning:
            # All of the channel below the mark was pruned before. Times are the senders': they do not follow positions.
            start = int(self._remembered.meta(mark) or b"0")
            position: int | None = start
            while position is not None:
                rows, position = self._prunable(lanes, position, before_ms)
                self._prune(rows, strip)
                count += len(rows)
            if count:
                self.wipe()
                whole = self._file.one(
                    "SELECT position FROM log WHERE position >= ? AND NOT pruned "
                    "AND lane IN (SELECT value FROM json_each(?)) ORDER BY position LIMIT 1",
                    start,
                    lanes,
                )
                self._remembered.set_meta(mark, str(whole[0] if whole else size).encode())
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

    def wipe(self) -> None:
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
