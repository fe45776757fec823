"""Streams in the desk's file: how far each was read, what is missing of it, by when its sender promised to be heard.

And of the streams of this desk which of them ended, and when it last said how far they go.
A stream is its sender's: whoever puts another's stream id into a header of his own moves nothing of that other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from exchange.desk.contents import Contents
from exchange.desk.deskfile import failing
from exchange.envelope import MAX_SEQ
from exchange.v1 import envelope_pb2 as env

MAX_MISSING: Final = 1000
"""Ranges of missing numbers of one sender that are kept, to be asked for again; its oldest go first, and no other's."""
MAX_SHUT: Final = 1000
"""Headers, of some kilobytes each, of envelopes of one sender that could not be opened; its oldest go first."""

MAX_STREAMS_KEPT: Final = 1000
"""Streams of one sender that are remembered, more than an honest one begins in years; those silent longest go first."""

Key = tuple[str, bytes]
"""(sender, stream)."""


class Missing(NamedTuple):
    """Numbers that a sender stands by and this desk has not read; `id` is the envelope's at the last of them, if known."""

    number: int
    sender: str
    stream: bytes
    channel: str
    first: int
    last: int
    id: bytes
    since_ms: int
    told: bool


class Promise(NamedTuple):
    """A sender promised to be heard again in a stream by a time."""

    sender: str
    stream: bytes
    next_by_ms: int


class OwnStream(NamedTuple):
    """A stream of this desk and its last envelope; `audience` is its readers, one a line."""

    channel: str
    marking: int
    audience: str
    stream: bytes
    seq: int
    id: bytes


@dataclass(frozen=True, slots=True)
class Beat:
    """The last heartbeat to an audience: the ids of the heads of its streams then, its own among them; times in ms UTC."""

    heads: bytes
    beat_ms: int
    said_ms: int
    next_by_ms: int


class Streams(Contents):
    """The part of the desk's file about streams; what changes anything is called inside a transaction."""

    # ---- of others

    def last_read(self, sender: str, stream: bytes) -> tuple[int, bytes] | None:
        """(seq, id) of the newest envelope that was read of a stream, or that its sender said there is; id may be empty."""
        with failing(), self._lock:
            row: tuple[int, bytes] | None = self._db.execute(
                "SELECT seq, id FROM heard WHERE sender = ? AND stream = ?", (sender, stream)
            ).fetchone()
            return row

    def set_last_read(self, sender: str, stream: bytes, seq: int, identity: bytes) -> None:
        """Move a stream."""
        self._db.execute(
            "INSERT INTO heard VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET seq = excluded.seq, id = excluded.id",
            (sender, stream, seq, identity),
        )
        self._heard_of((sender, stream))

    def _heard_of(self, key: Key) -> None:
        """A stream is the one of its sender last heard of; beyond MAX_STREAMS_KEPT the one silent longest is forgotten."""
        moved = self._db.execute(
            "UPDATE lately SET number = (SELECT max(number) + 1 FROM lately) WHERE sender = ? AND stream = ?", key
        )
        if moved.rowcount:
            return
        self._db.execute("INSERT INTO lately (sender, stream) VALUES (?, ?)", key)
        silent = self._db.execute(
            "SELECT stream FROM lately WHERE sender = ? ORDER BY number DESC LIMIT -1 OFFSET ?",
            (key[0], MAX_STREAMS_KEPT),
        ).fetchall()
        for (gone,) in silent:
            for table in ("lately", "heard", "closed", "promise", "missing"):
                self._db.execute(f"DELETE FROM {table} WHERE sender = ? AND stream = ?", (key[0], gone))  # noqa: S608 - constants above

    def at_number(self, header: env.Header) -> bytes | None:
        """Id of an opened envelope at the number and in the stream that a header names; rarely asked, so not indexed."""
        with failing(), self._lock:
            rows = self._db.execute(
                "SELECT id, header FROM received WHERE sender = ? AND seq = ?", (header.sender, header.seq)
            ).fetchall()
        same = (bytes(identity) for identity, held in rows if env.Header.FromString(held).stream == header.stream)
        return next(same, None)

    def keep_shut(self, sender: str, identity: bytes, header: bytes) -> None:
        """An envelope cannot be opened, or is this desk's and its disk lost it: what answers it can still be judged."""
        kept = self._db.execute("INSERT OR IGNORE INTO shut (id, header) VALUES (?, ?)", (identity, header))
        if kept.rowcount and kept.lastrowid is not None:
            self.bound("shut", kept.lastrowid, sender, MAX_SHUT)

    def bound(self, place: str, number: int, sender: str, most: int) -> None:
        """A row of `shut` or `shelf` is a sender's: beyond so many his oldest go, and no other's."""
        self._db.execute("INSERT OR REPLACE INTO laid VALUES (?, ?, ?)", (place, number, sender))
        old = self._db.execute(
            "SELECT number FROM laid WHERE place = ? AND sender = ? ORDER BY number DESC LIMIT -1 OFFSET ?",
            (place, sender, most),
        ).fetchall()
        for (gone,) in old:
            self._db.execute(f"DELETE FROM {place} WHERE number = ?", (gone,))  # noqa: S608 - a constant of ours
            self._db.execute("DELETE FROM laid WHERE place = ? AND number = ?", (place, gone))

    def miss(self, key: Key, channel: str, first: int, last: int, identity: bytes, now_ms: int) -> None:
        """Numbers above the last read were not shown."""
        self._insert_missing(Missing(0, *key, channel, first, last, identity, now_ms, told=False))

    def _insert_missing(self, row: Missing) -> None:
        self._db.execute(
            "INSERT INTO missing (sender, stream, channel, first, last, id, since_ms, told)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*row[1:-1], int(row.told)),
        )
        self._db.execute(
            "DELETE FROM missing WHERE sender = ?1 AND number <="
            " (SELECT number FROM missing WHERE sender = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)",
            (row.sender, MAX_MISSING),
        )

    def found(self, key: Key, first: int, last: int) -> Missing | None:
        """Take numbers off the missing ones; the range the last of them was in, None when it was in none."""
        rows = [row for row in self.missing_in(*key) if row.first <= last and first <= row.last]
        hit = next((row for row in rows if row.first <= last <= row.last), None)
        if hit is None:
            return None
        for row in rows:
            self._db.execute("DELETE FROM missing WHERE number = ?", (row.number,))
            if row.first < first:
                self._insert_missing(row._replace(last=first - 1, id=b""))
            if last < row.last:
                self._insert_missing(row._replace(first=last + 1))
        return hit

    def set_gone(self, key: Key, first: int, last: int) -> bool:
        """Numbers that can be had no more count as told; whether any of them was waited for until now."""
        waited = [row for row in self.missing_in(*key) if row.first <= last and first <= row.last and not row.told]
        for row in waited:
            self._db.execute("DELETE FROM missing WHERE number = ?", (row.number,))
            gone = (max(first, row.first), min(last, row.last))
            for low, high, told in ((row.first, gone[0] - 1, False), (*gone, True), (gone[1] + 1, row.last, False)):
                if low <= high:
                    identity = row.id if high == row.last else b""
                    self._insert_missing(row._replace(first=low, last=high, id=identity, told=told))
        return bool(waited)

    def missing_in(self, sender: str, stream: bytes) -> list[Missing]:
        """What is missing of a stream, in order."""
        return self._missing("sender = ? AND stream = ? ORDER BY first", sender, stream)

    def missing(self, channel: str) -> list[Missing]:
        """What is missing of a channel, in the order in which it was missed."""
        return self._missing("channel = ? ORDER BY number", channel)

    def untold(self, channel: str) -> bool:
        """Whether numbers of a channel are missing that nobody was told of yet."""
        return bool(self._missing("channel = ? AND NOT told LIMIT 1", channel))

    def _missing(self, where: str, *values: object) -> list[Missing]:
        with failing(), self._lock:
            rows = self._db.execute(
                f"SELECT number, sender, stream, channel, first, last, id, since_ms, told FROM missing WHERE {where}",  # noqa: S608 - constants above
                values,
            ).fetchall()
        return [Missing(*row) for row in rows]

    def set_told(self, number: int) -> None:
        """People were told that numbers are missing."""
        self._db.execute("UPDATE missing SET told = 1 WHERE number = ?", (number,))

    def promise(self, key: Key, channel: str, next_by_ms: int) -> None:
        """A sender will be heard in a stream by then; 0 = it promises nothing more."""
        if not next_by_ms:
            self._db.execute("DELETE FROM promise WHERE sender = ? AND stream = ?", key)
            return
        self._db.execute(
            "INSERT INTO promise (sender, stream, channel, next_by_ms) VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET next_by_ms = excluded.next_by_ms, told = 0",
            (*key, channel, min(next_by_ms, MAX_SEQ)),
        )
        self._heard_of(key)

    def promised(self, key: Key) -> int:
        """By when a sender promised to be heard in a stream, ms UTC; 0 = it did not."""
        with failing(), self._lock:
            row = self._db.execute("SELECT next_by_ms FROM promise WHERE sender = ? AND stream = ?", key).fetchone()
        return int(row[0]) if row else 0

    def take_broken(self, channel: str, by_ms: int) -> list[Promise]:
        """Promises that ran out before a time; each is given once."""
        rows = self._db.execute(
            "SELECT sender, stream, next_by_ms FROM promise WHERE channel = ? AND next_by_ms < ? AND NOT told",
            (channel, by_ms),
        ).fetchall()
        if rows:
            self._db.execute("UPDATE promise SET told = 1 WHERE channel = ? AND next_by_ms < ?", (channel, by_ms))
        return [Promise(*row) for row in rows]

    def close_stream(self, key: Key, last_seq: int) -> None:
        """A sender ended a stream."""
        self._db.execute("INSERT OR IGNORE INTO closed VALUES (?, ?, ?)", (*key, last_seq))
        self._heard_of(key)

    def closed_at(self, key: Key) -> int | None:
        """The last number of a stream that its sender ended."""
        with failing(), self._lock:
            row = self._db.execute("SELECT last_seq FROM closed WHERE sender = ? AND stream = ?", key).fetchone()
        return int(row[0]) if row else None

    # ---- of this desk

    def streams_in_use(self) -> list[OwnStream]:
        """The streams that the next envelope to their readers goes on."""
        return self._own_streams("sending")

    def streams_ended(self) -> list[OwnStream]:
        """Streams that were given up, up to the last number that stands, and whose readers were not told yet."""
        return self._own_streams("ended")

    def _own_streams(self, table: str) -> list[OwnStream]:
        with failing(), self._lock:
            rows = self._db.execute(
                f"SELECT channel, marking, audience, stream, seq, id FROM {table} ORDER BY stream"  # noqa: S608 - constants above
            ).fetchall()
        return [OwnStream(*row) for row in rows]

    def note_ended(self, stream: bytes) -> None:
        """A stream is given up: its readers are to be told up to which number it stands."""
        row = self._db.execute(
            "SELECT channel, marking, audience, stream, seq, id FROM sending WHERE stream = ?", (stream,)
        ).fetchone()
        if row is None:
            return
        ended = OwnStream(*row)
        # What waits is sealed again elsewhere: the stream ends with what stood before it.
        waits = self._db.execute(
            "SELECT header FROM outbox JOIN sent USING (id) WHERE outbox.stream = ? ORDER BY number LIMIT 1", (stream,)
        ).fetchone()
        if waits:
            header = env.Header.FromString(waits[0])
            ended = ended._replace(seq=header.prev_seq, id=header.prev_id)
        if ended.seq:
            self._db.execute("INSERT OR REPLACE INTO ended VALUES (?, ?, ?, ?, ?, ?)", (stream, *ended[:3], *ended[4:]))

    def set_ended(self, stream: bytes, seq: int) -> None:
        """A stream that was given up went further than this desk knows."""
        self._db.execute("UPDATE ended SET seq = max(seq, ?) WHERE stream = ?", (min(seq, MAX_SEQ), stream))

    def told_ended(self, stream: bytes) -> None:
        """The readers of a stream were told that it ended; nothing goes on in it."""
        self._db.execute("DELETE FROM ended WHERE stream = ?", (stream,))
        self._db.execute("DELETE FROM sending WHERE stream = ?", (stream,))

    def beat(self, channel: str, audience: str) -> Beat | None:
        """The last heartbeat to an audience."""
        with failing(), self._lock:
            row = self._db.execute(
                "SELECT heads, beat_ms, said_ms, next_by_ms FROM beat WHERE channel = ? AND audience = ?",
                (channel, audience),
            ).fetchone()
        return Beat(*row) if row else None

    def set_beat(self, channel: str, audience: str, beat: Beat) -> None:
        """Note a heartbeat."""
        self._db.execute(
            "INSERT OR REPLACE INTO beat VALUES (?, ?, ?, ?, ?, ?)",
            (channel, audience, beat.heads, beat.beat_ms, beat.said_ms, beat.next_by_ms),
        )

    def steers(self, identity: bytes) -> bool:
        """Whether an envelope of this desk is a heartbeat or a closing: nobody acknowledges those."""
        with failing(), self._lock:
            return self._db.execute("SELECT 1 FROM steering WHERE id = ?", (identity,)).fetchone() is not None

    def keep_steering(self, identity: bytes) -> None:
        """An envelope of this desk is a heartbeat or a closing."""
        self._db.execute("INSERT INTO steering VALUES (?)", (identity,))

    def keep_beats(self, audiences: Sequence[tuple[str, str]]) -> None:
        """Forget heartbeats to all audiences but some (channel, audience)."""
        held = self._db.execute("SELECT channel, audience FROM beat").fetchall()
        for gone in set(held) - set(audiences):
            self._db.execute("DELETE FROM beat WHERE channel = ? AND audience = ?", gone)
