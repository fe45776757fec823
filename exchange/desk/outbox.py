"""The outbox: envelopes that are sealed and have no receipt yet, and where each stream of ours stands.

An envelope with its receipt leaves the outbox and is followed until every log that should hold it does: see `stages`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, cast

from exchange.desk.contents import whole_of
from exchange.desk.deskfile import failing
from exchange.desk.streams import Streams
from keys.v1 import documents_pb2 as docs

MAX_TRIES: Final = 4
"""An envelope refused this often stays in the outbox, is not sent again, and is shown as stuck."""


MAX_STREAMS: Final = 256


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An envelope just sealed. `shell` is all but its ciphertext; what stays when it is sent is `Content`, opened by `prk`."""

    id: bytes
    channel: str
    marking: int
    shell: bytes
    ciphertext: bytes
    header: bytes
    outer: bytes
    prk: bytes = field(repr=False)
    named: tuple[str, ...]
    answers: bytes
    audience: str
    stream: bytes
    seq: int
    tries: int


class Waiting(NamedTuple):
    """An envelope without a receipt; `number` orders the outbox."""

    number: int
    id: bytes
    envelope: bytes


class Unsealed(NamedTuple):
    """What is needed to seal an envelope again."""

    channel: str
    marking: docs.Marking
    named: tuple[str, ...]
    answers: bytes
    tries: int
    items: tuple[bytes, ...]


class Outbox(Streams):
    """The sending part of the desk's file."""

    def keep_sealed(self, row: Outgoing) -> None:
        """Put an envelope into the outbox and move its stream; inside a transaction."""
        self._db.execute(
            "INSERT INTO outbox (id, channel, marking, shell, named, answers, stream, tries)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                row.id,
                row.channel,
                row.marking,
                row.shell,
                "\n".join(row.named),
                row.answers,
                row.stream,
                row.tries,
            ),
        )
        # Stays when the envelope leaves the outbox: what was said can be shown and proved later.
        self._keep_sent_content(row.id, row.outer, row.ciphertext, row.prk)
        self._db.execute("INSERT INTO sent (id, header) VALUES (?, ?)", (row.id, row.header))
        self._db.execute(
            "INSERT INTO sending VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET stream = excluded.stream, seq = excluded.seq, id = excluded.id",
            (row.channel, row.marking, row.audience, row.stream, row.seq, row.id),
        )

    def outgoing(self, after: int = 0, limit: int = 64) -> list[Waiting]:
        """Envelopes without a receipt, oldest first, but for those that are stuck."""
        with failing(), self._lock:
            rows = self._db.execute(
                "SELECT number, id, shell, ciphertext FROM outbox JOIN content USING (id)"
                " WHERE number > ? AND tries < ? ORDER BY number LIMIT ?",
                (after, MAX_TRIES, limit),
            ).fetchall()
        return [Waiting(number, identity, whole_of(shell, text)) for number, identity, shell, text in rows]

    def stream_that_waits(self, identity: bytes) -> bytes:
        """Stream of an envelope in the outbox."""
        with failing(), self._lock:
            row = self._db.execute("SELECT stream FROM outbox WHERE id = ?", (identity,)).fetchone()
        return bytes(row[0]) if row else b""

    def waiting_in(self, stream: bytes) -> list[bytes]:
        """Ids of the envelopes of a stream that wait and are not stuck, in order."""
        with failing(), self._lock:
            rows = self._db.execute(
                "SELECT id FROM outbox WHERE stream = ? AND tries < ? ORDER BY number", (stream, MAX_TRIES)
            ).fetchall()
        return [identity for (identity,) in rows]

    def answering(self) -> list[tuple[bytes, bytes, bytes]]:
        """(id, stream, id of what it answers) of each answer that waits and is not stuck, in order."""
        with failing(), self._lock:
            return self._db.execute(
                "SELECT id, stream, answers FROM outbox WHERE answers != x'' AND tries < ? ORDER BY number",
                (MAX_TRIES,),
            ).fetchall()

    def unsealed(self, identity: bytes) -> Unsealed:
        """An envelope that waits, opened, to be sealed again."""
        with failing(), self._lock:
            channel, marking, named, answers, tries = self._db.execute(
                "SELECT channel, marking, named, answers, tries FROM outbox WHERE id = ?", (identity,)
            ).fetchone()
        items = self.content(identity).items
        return Unsealed(
            channel, cast("docs.Marking", marking), tuple(filter(None, named.split("\n"))), answers, tries, items
        )

    def waiting(self) -> int:
        """How many envelopes have no receipt yet."""
        with failing(), self._lock:
            return int(self._db.execute("SELECT count(*) FROM outbox").fetchone()[0])

    def stuck(self) -> int:
        """How many envelopes were refused too often and wait for a person."""
        with failing(), self._lock:
            return int(self._db.execute("SELECT count(*) FROM outbox WHERE tries >= ?", (MAX_TRIES,)).fetchone()[0])

    def give_up(self, identity: bytes) -> None:
        """Leave an envelope in the outbox as stuck; inside a transaction."""
        self._db.execute("UPDATE outbox SET tries = ? WHERE id = ?", (MAX_TRIES, identity))

    def receipt(self, identity: bytes) -> tuple[int, tuple[bytes, ...], bytes] | None:
        """(position, proof, checkpoint) of an envelope that was sent and taken."""
        with failing(), self._lock:
            row = self._db.execute(
                "SELECT position, proof, checkpoint FROM sent WHERE id = ? AND position IS NOT NULL", (identity,)
            ).fetchone()
        return (row[0], tuple(row[1][k : k + 32] for k in range(0, len(row[1]), 32)), row[2]) if row else None

    def settle(self, receipts: Iterable[tuple[bytes, int, Sequence[bytes]]], checkpoint: bytes) -> None:
        """Envelopes have their receipts, leave the outbox, and are awaited in other logs; inside a transaction.

        Args:
            receipts: (id, position, inclusion proof) of each.
            checkpoint: The signed note they are proved under.
        """
        for identity, position, proof in receipts:
            self._db.execute("DELETE FROM outbox WHERE id = ?", (identity,))
            # Without an index, for it is on the way of every envelope: what follows from it is worked out later, for many.
            self._db.execute("INSERT INTO unplaced (id) VALUES (?)", (identity,))
            self._db.execute(
                "UPDATE sent SET position = ?, proof = ?, checkpoint = ? WHERE id = ?",
                (position, b"".join(proof), checkpoint, identity),
            )

    def withdraw(self, identity: bytes) -> None:
        """An envelope was sealed again: it and its content go; inside a transaction."""
        self._db.execute("DELETE FROM outbox WHERE id = ?", (identity,))
        self._db.execute("DELETE FROM content WHERE id = ?", (identity,))

    def sent(self) -> list[bytes]:
        """Ids of the envelopes that were sent and taken."""
        with failing(), self._lock:
            rows = self._db.execute("SELECT id FROM sent WHERE position IS NOT NULL").fetchall()
        return [identity for (identity,) in rows]

    def stream_of(self, channel: str, marking: int, audience: str) -> tuple[bytes, int, bytes] | None:
        """(stream, seq, id) of the last envelope sealed for an audience."""
        with failing(), self._lock:
            row: tuple[bytes, int, bytes] | None = self._db.execute(
                "SELECT stream, seq, id FROM sending WHERE channel = ? AND marking = ? AND audience = ?",
                (channel, marking, audience),
            ).fetchone()
            return row

    def own_streams(self) -> list[tuple[bytes, int, bytes, str]]:
        """(stream, seq, id, channel) of the last envelope sealed in each stream in use, MAX_STREAMS at most."""
        with failing(), self._lock:
            return self._db.execute(
                "SELECT stream, seq, id, channel FROM sending ORDER BY stream LIMIT ?", (MAX_STREAMS,)
            ).fetchall()

    def forget_stream(self, stream: bytes) -> None:
        """The next envelope to its audience starts a new stream, and its readers are to be told; inside a transaction."""
        self.note_ended(stream)
        self._db.execute("DELETE FROM sending WHERE stream = ?", (stream,))
