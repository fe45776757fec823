"""Heartbeats that were read: a newer one of the same stream takes their place, else they would fill the disk for ever.

The identity of what went stays known: a repeat of it says nothing. What is evidence of two logs stays.
"""

from typing import Final

from google.protobuf.message import DecodeError

from exchange.desk.contents import Contents
from exchange.desk.deskfile import failing
from exchange.reshare import kind_of
from exchange.v1 import envelope_pb2 as env
from keys.errors import OpenError, UsageError

PASSING_MS: Final = 24 * 3_600_000
"""So much older than the newest one a heartbeat goes: what answers one that is not the newest may be under way."""
SWEPT_AT_ONCE: Final = 32


class Passing(Contents):
    """The part of the desk's file about heartbeats of others; what changes anything is called inside a transaction."""

    def knows(self, identity: bytes) -> bool:
        """Whether an envelope was opened before."""
        with failing(), self._lock:
            held = "SELECT 1 FROM received WHERE id = ?1 UNION ALL SELECT 1 FROM gone WHERE id = ?1"
            return self._db.execute(held, (identity,)).fetchone() is not None

    def is_gone(self, identity: bytes) -> bool:
        """Whether an envelope was opened, and a newer heartbeat took its place."""
        with failing(), self._lock:
            return self._db.execute("SELECT 1 FROM gone WHERE id = ?", (identity,)).fetchone() is not None

    def keep_beat(self, header: env.Header, identity: bytes) -> None:
        """An archived envelope says nothing but a heartbeat: older ones of its stream go."""
        key = (header.sender, header.stream)
        self._db.execute(
            "INSERT OR IGNORE INTO beaten (id, sender, stream, seq, create_time_ms) VALUES (?, ?, ?, ?, ?)",
            (identity, *key, header.seq, header.create_time_ms),
        )
        every = "SELECT id, seq, create_time_ms FROM beaten WHERE sender = ? AND stream = ? ORDER BY seq"
        *older, newest = self._db.execute(every, key).fetchall()
        for old, _, made_ms in older:
            # One that came late goes with the next: what it says of logs is looked at yet.
            if old != identity and made_ms < newest[2] - PASSING_MS:
                self._db.execute("INSERT OR IGNORE INTO gone VALUES (?)", (old,))
                for table in ("received", "content", "beaten"):
                    self._db.execute(f"DELETE FROM {table} WHERE id = ?", (old,))  # noqa: S608 - constants above

    def keep_as_evidence(self, identity: bytes) -> None:
        """A heartbeat contradicts what this desk was shown: it stays."""
        self._db.execute("DELETE FROM beaten WHERE id = ?", (identity,))

    def sweep(self) -> None:
        """Look through some of what an older version archived, for heartbeats that may go."""
        row = self._db.execute("SELECT after, last FROM swept").fetchone()
        if row is None:
            self._db.execute("INSERT INTO swept SELECT 0, coalesce(max(rowid), 0) FROM received")
            return
        after, last = row
        if after >= last:
            return
        some = self._db.execute(
            "SELECT rowid, id, header FROM received WHERE rowid > ? AND rowid <= ? ORDER BY rowid LIMIT ?",
            (after, last, SWEPT_AT_ONCE),
        ).fetchall()
        for _, identity, header in some:
            try:
                items = self.content(identity).items
            except (OpenError, UsageError, DecodeError):
                # What the disk changed is told when it is looked at.
                continue
            if all(kind_of(item) == "heartbeat" for item in items):
                self.keep_beat(env.Header.FromString(header), identity)
        self._db.execute("UPDATE swept SET after = ?", (some[-1][0] if some else last,))
