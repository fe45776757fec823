"""What a store remembers beside the log: cursors, notes, single values, refusals, forks, and what is parked."""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from exchange.store.connections import Connections
from exchange.store.contract import ForkRecord, Parked, RefusalRecord
from exchange.store.schema import PAGE

MAX_PARKED: Final = 1024
MAX_PARKED_BYTES: Final = 64_000_000
MAX_REFUSALS: Final = 10_000
MAX_FORKS: Final = 1000
NOTE: Final = "INSERT INTO note (origin, note) VALUES (?, ?) ON CONFLICT DO UPDATE SET note = excluded.note"


class Remembered:
    """The tables of it. But for `add`, the methods are those of exchange.store.contract.Store.

    Args:
        file: The log's file.
        written: Told how many bytes a write was, under the writing lock.
    """

    def __init__(self, file: Connections, written: Callable[[int], None]) -> None:
        self._file = file
        self._written = written

    def add(
        self,
        write: sqlite3.Connection,
        *,
        cursors: Mapping[str, int],
        notes: Mapping[str, bytes],
        refusals: Sequence[RefusalRecord],
        forks: Sequence[ForkRecord],
    ) -> None:
        """Remember these in the caller's transaction, with the entries they came with."""
        write.executemany(
            "INSERT INTO cursor (origin, position) VALUES (?, ?) "
            "ON CONFLICT DO UPDATE SET position = excluded.position",
            cursors.items(),
        )
        write.executemany(NOTE, notes.items())
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
        self._write((NOTE, origin, note))

    def meta(self, key: str) -> bytes | None:
        """See Store."""
        row = self._file.one("SELECT value FROM meta WHERE key = ?", key)
        return row[0] if row else None

    def set_meta(self, key: str, value: bytes) -> None:
        """See Store."""
        sql = "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"
        self._write((sql, key, value))

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
        self._write(
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
        self._write(("DELETE FROM parked WHERE id = ?", identity))

    def _write(self, *statements: tuple[object, ...]) -> None:
        with self._file.lock:
            with self._file.transaction("write") as write:
                for sql, *values in statements:
                    write.execute(str(sql), values)
            self._written(PAGE)
