"""Who may read a row depends on its lane (channel, sender, audience, origin), of which there are few."""

import hashlib
import json
import sqlite3
import threading
from collections.abc import Mapping
from typing import Final

from exchange.store.connections import Connections
from exchange.store.contract import NewEntry
from keys.encoding import pae

CACHED_LANES: Final = 4096
CACHED_READERS: Final = 256
LANES: Final = """
SELECT number FROM lane WHERE number > :seen AND number <= :top AND (:without = '' OR origin != :without) AND
    (channel = '' OR :channels IS NULL OR channel IN (SELECT value FROM json_each(:channels))) AND
    (audience = '[]' OR :desks IS NULL OR number IN (
        SELECT lane FROM member WHERE desk IN (SELECT value FROM json_each(:desks)) AND lane > :seen))
"""
SENT: Final = "SELECT json_group_array(number) FROM lane JOIN member ON lane = number WHERE desk = ?1 AND sender = ?1"
# channel, sender, audience, origin
Lane = tuple[str, str, tuple[str, ...], str]
# desks and channels (None = all), and the origin whose rows are left out
Wanted = tuple[frozenset[str] | None, frozenset[str] | None, str]


class Lanes:
    """The lanes of the file's log, and which of them a reader wants."""

    def __init__(self, file: Connections) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._numbers: dict[Lane, int] = {}
        self._readable: dict[Wanted, tuple[int, list[int], str]] = {}
        self._top: int = file.write.execute("SELECT coalesce(max(number), 0) FROM lane").fetchone()[0]

    def number(self, write: sqlite3.Connection, entry: NewEntry, made: dict[Lane, int]) -> int:
        """Number of the entry's lane, made in the caller's transaction if it is new, and put into `made`."""
        lane = (entry.channel, entry.sender, entry.audience, entry.origin)
        number = self._numbers.get(lane) or made.get(lane)
        if number is not None:
            return number
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

    def keep(self, lanes: Mapping[Lane, int]) -> None:
        """Remember lanes that are durable; the caller holds the writing lock."""
        if len(self._numbers) + len(lanes) > CACHED_LANES:
            self._numbers.clear()
        self._numbers.update(lanes)
        self._top = max((self._top, *lanes.values()))

    def sent_by(self, sender: str) -> str:
        """Numbers of the lanes of a sender, as JSON."""
        row = self._file.one(SENT, sender)
        return str(row[0]) if row else "[]"

    def of(self, wanted: Wanted) -> tuple[list[int], str]:
        """Numbers of the lanes that a reader wants, rising, and the same as JSON."""
        top = self._top
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
            with self._lock:
                if len(self._readable) >= CACHED_READERS:
                    self._readable.clear()
                self._readable[wanted] = (top, lanes, as_json)
        return lanes, as_json
