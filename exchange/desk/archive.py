"""The archive: envelopes that were opened, what of them their reader has, and where reading stands."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from google.protobuf.message import DecodeError

from exchange import envelope
from exchange.desk.deskfile import failing, key_id
from exchange.desk.moves import Moves
from exchange.desk.outbox import Outbox
from exchange.desk.passing import Passing
from exchange.desk.sheets import Sheets
from exchange.desk.stages import Stages
from exchange.v1 import envelope_pb2 as env
from keys.encoding import digest
from keys.errors import OpenError, UsageError

ID_BYTES: Final = 16
MAX_SHELF: Final = 200
"""Envelopes of one sender, of at most 1 MB each, that wait for a courier key; the node keeps all of them in any case."""
SENDER_TAG_BYTES: Final = 8
MAX_CLASHES: Final = 64
"""Pairs of contradicting heads that are kept; one is proof enough."""
AFTER_ALL: Final = b"\xff" * 64


@dataclass(frozen=True, slots=True)
class Received:
    """An opened envelope; `outer` and `salt_seed` as in `Content`."""

    id: bytes
    position: int
    channel: str
    sender: str
    marking: int
    seq: int
    create_time_ms: int
    header: bytes
    items: tuple[bytes, ...] = field(repr=False)
    proof: tuple[bytes, ...]
    checkpoint: bytes
    outer: bytes
    salt_seed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Clashed:
    """Two signed heads of one log that are not of one history, the one seen first and the one shown later: evidence."""

    time_ms: int
    rule: str
    seen: bytes
    shown: bytes


class Archive(Outbox, Sheets, Stages, Moves, Passing):
    """The desk's file: what it sent and what it read."""

    def relock(self) -> None:
        """Put everything under the new key; what was put there before a cut stays as it is. Then the old one opens nothing.

        Raises:
            StoreError: The disk failed; some is under the new key, the rest under the old one.
        """
        self.relock_contents()
        self.relock_sheets()
        with self.transaction():
            self._db.execute("UPDATE key SET id = ?", (key_id(self._key),))
        with failing(), self._lock:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def header_of(self, identity: bytes) -> bytes | None:
        """Header of an envelope sent, received, or admitted and not opened."""
        with failing(), self._lock:
            row = self._db.execute(
                "SELECT header FROM sent WHERE id = ? UNION ALL SELECT header FROM received WHERE id = ?"
                " UNION ALL SELECT header FROM shut WHERE id = ?",
                (identity, identity, identity),
            ).fetchone()
        return row[0] if row else None

    def keep_received(self, envelope: Received) -> None:
        """Archive an opened envelope; inside a transaction."""
        self._db.execute(
            "INSERT INTO received VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                envelope.id, envelope.position, envelope.channel, envelope.sender, envelope.marking, envelope.seq,
                envelope.create_time_ms, envelope.header, b"".join(envelope.proof), envelope.checkpoint,
            ),
        )  # fmt: skip
        self._keep_received_content(envelope.id, envelope.outer, envelope.salt_seed, envelope.items)

    def find_received(self, identity: bytes) -> Received | None:
        """One opened envelope."""
        with failing(), self._lock:
            held = self._db.execute("SELECT 1 FROM received WHERE id = ?", (identity,)).fetchone()
        return self._received(identity) if held else None

    def received(self, channel: str | None = None) -> Iterator[Received]:
        """Opened envelopes in log order; but those that the disk changed, which are `damaged` from then on."""
        with failing(), self._lock:
            rows = self._db.execute(
                "SELECT id FROM received WHERE ? IS NULL OR channel = ? ORDER BY position", (channel, channel)
            ).fetchall()
        for (identity,) in rows:
            if (held := self._whole(identity)) is not None:
                yield held

    def _whole(self, identity: bytes) -> Received | None:
        try:
            return self._received(identity)
        except (OpenError, UsageError, DecodeError):
            # One that is lost must not cost all others. One that went meanwhile is no loss.
            if not self.is_gone(identity):
                self.damaged.add(identity)
            return None

    def _received(self, identity: bytes) -> Received:
        with failing(), self._lock:
            row = self._db.execute(
                "SELECT position, channel, sender, marking, seq, create_time_ms, header, proof, checkpoint"
                " FROM received WHERE id = ?",
                (identity,),
            ).fetchone()
        if row is None:
            raise UsageError(f"no envelope {identity.hex()} in this archive", hint="see `tocsin inbox`")
        position, channel, sender, marking, seq, created, header, proof, checkpoint = row
        hashes = tuple(proof[k : k + 32] for k in range(0, len(proof), 32))
        held = self.content(identity)
        outer = env.Pruned.FromString(held.outer)
        if envelope.pruned_id(outer) != identity or outer.header != header:
            raise OpenError("the disk changed what the archive holds of it")
        return Received(
            identity, position, channel, sender, marking, seq, created, header, held.items, hashes, checkpoint,
            held.outer, held.salt_seed,
        )  # fmt: skip

    def set_unread(self, identity: bytes, channel: str, items: Sequence[int]) -> None:
        """Which items of an opened envelope its reader was not given yet; inside a transaction."""
        if not items:
            self._db.execute("DELETE FROM unread WHERE id = ?", (identity,))
            return
        packed = b"".join(index.to_bytes(2, "little") for index in items)
        self._db.execute(
            "INSERT INTO unread (id, channel, items) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET items = excluded.items",
            (identity, channel, packed),
        )

    def unread(self, channel: str) -> list[tuple[Received, tuple[int, ...]]]:
        """Opened envelopes of a channel with items not given yet, in log order."""
        with failing(), self._lock:
            rows = self._db.execute("SELECT id, items FROM unread WHERE channel = ?", (channel,)).fetchall()
        whole = [(self._whole(identity), _indexes(items)) for identity, items in rows]
        found = [(received, indexes) for received, indexes in whole if received is not None]
        return sorted(found, key=lambda one: one[0].position)

    def said(self, sender: str, named: Sequence[tuple[bytes, bytes]]) -> list[str] | None:
        """Note items by (the id that they bear, digest of the item); in a transaction.

        Returns for each "repeat" (same sender, id and text), "conflict" (same id, another text, whoever sent it) or
        "new"; None when all are new, as they nearly always are. Only a repeat may be dropped: else whoever uses an id
        first could silence its owner.
        """
        tag = digest(sender.encode())[:SENDER_TAG_BYTES]
        keys = [
            (report if len(report) == ID_BYTES else digest(report)[:ID_BYTES]) + text + tag for report, text in named
        ]
        ids = {key[:ID_BYTES] for key in keys}
        if len(ids) == len(keys) and not self._any_said(ids):
            self._note_said(sorted(keys))
            return None
        outcomes = []
        for key in keys:
            outcomes.append(self._outcome(key))
            if outcomes[-1] != "repeat":
                self._note_said([key])
        return outcomes

    def _any_said(self, ids: set[bytes]) -> bool:
        if not ids:
            return False
        # Ids begin with their time, so those of one envelope lie together, and usually little else between them.
        between, most = "SELECT key FROM said WHERE key > ? AND key < ? LIMIT ?", 4 * len(ids)
        rows = self._db.execute(between, (min(ids), max(ids) + AFTER_ALL, most)).fetchall()
        if len(rows) < most:
            return any(key[:ID_BYTES] in ids for (key,) in rows)
        return any(self._db.execute(between, (one, one + AFTER_ALL, 1)).fetchone() for one in ids)

    def _outcome(self, key: bytes) -> str:
        if self._db.execute("SELECT 1 FROM said WHERE key = ?", (key,)).fetchone():
            return "repeat"
        report, text = key[:ID_BYTES], key[ID_BYTES:-SENDER_TAG_BYTES]
        other = self._db.execute(
            "SELECT 1 FROM said WHERE key > ? AND key < ? AND NOT (key > ? AND key < ?) LIMIT 1",
            (report, report + AFTER_ALL, report + text, report + text + AFTER_ALL),
        ).fetchone()
        return "conflict" if other else "new"

    def _note_said(self, keys: Sequence[bytes]) -> None:
        self._db.executemany("INSERT INTO said (key) VALUES (?)", zip(keys))

    def cursor(self, channel: str) -> int:
        """Next log position wanted for a channel."""
        with failing(), self._lock:
            row = self._db.execute("SELECT position FROM cursor WHERE channel = ?", (channel,)).fetchone()
            return int(row[0]) if row else 0

    def set_cursor(self, channel: str, position: int) -> None:
        """Move a cursor; inside a transaction."""
        self._db.execute(
            "INSERT INTO cursor VALUES (?, ?) ON CONFLICT DO UPDATE SET position = excluded.position",
            (channel, position),
        )

    def drained_ms(self, channel: str) -> int:
        """Until when a channel was read to the end of the node's log, ms UTC; 0 for never."""
        with failing(), self._lock:
            row = self._db.execute("SELECT time_ms FROM drained WHERE channel = ?", (channel,)).fetchone()
            return int(row[0]) if row else 0

    def set_drained(self, channel: str, time_ms: int) -> None:
        """A channel was read to the end as of a time; inside a transaction."""
        self._db.execute(
            "INSERT INTO drained VALUES (?, ?) ON CONFLICT DO UPDATE SET time_ms = max(time_ms, excluded.time_ms)",
            (channel, time_ms),
        )

    def shelve(self, sender: str, channel: str, entry: bytes, note: bytes) -> None:
        """Keep an entry that a courier key yet to come will open; a sender's oldest go beyond MAX_SHELF; in a transaction."""
        kept = self._db.execute("INSERT INTO shelf (channel, entry, note) VALUES (?, ?, ?)", (channel, entry, note))
        self.bound("shelf", kept.lastrowid or 0, sender, MAX_SHELF)

    def shelf(self, channel: str) -> list[tuple[int, bytes, bytes]]:
        """(number, entry, note) of what a channel keeps for later, in log order."""
        with failing(), self._lock:
            return self._db.execute(
                "SELECT number, entry, note FROM shelf WHERE channel = ? ORDER BY number", (channel,)
            ).fetchall()

    def shelved(self) -> int:
        """How many entries wait for a courier key."""
        with failing(), self._lock:
            return int(self._db.execute("SELECT count(*) FROM shelf").fetchone()[0])

    def take_from_shelf(self, number: int) -> None:
        """An entry was opened, or never will be; inside a transaction."""
        self._db.execute("DELETE FROM shelf WHERE number = ?", (number,))
        self._db.execute("DELETE FROM laid WHERE place = 'shelf' AND number = ?", (number,))

    def note(self, origin: str) -> bytes | None:
        """Newest checkpoint seen of a log."""
        with failing(), self._lock:
            row = self._db.execute("SELECT note FROM note WHERE origin = ?", (origin,)).fetchone()
            return row[0] if row else None

    def origins(self) -> list[str]:
        """Logs of which a checkpoint was seen."""
        with failing(), self._lock:
            return [origin for (origin,) in self._db.execute("SELECT origin FROM note").fetchall()]

    def set_note(self, origin: str, note: bytes) -> None:
        """Remember a checkpoint; inside a transaction."""
        self._db.execute(
            "INSERT INTO note VALUES (?, ?) ON CONFLICT DO UPDATE SET note = excluded.note", (origin, note)
        )

    def clashes(self) -> list[Clashed]:
        """Pairs of heads of one log that contradict each other, oldest first."""
        with failing(), self._lock:
            rows = self._db.execute("SELECT time_ms, rule, seen, shown FROM clash ORDER BY number").fetchall()
        return [Clashed(*row) for row in rows]

    def keep_clash(self, clash: Clashed) -> None:
        """Keep a pair as evidence; the first MAX_CLASHES stay."""
        with self.transaction():
            self._db.execute(
                "INSERT INTO clash (time_ms, rule, seen, shown) SELECT ?, ?, ?, ? WHERE (SELECT count(*) FROM clash) < ?",
                (clash.time_ms, clash.rule, clash.seen, clash.shown, MAX_CLASHES),
            )


def _indexes(packed: bytes) -> tuple[int, ...]:
    return tuple(int.from_bytes(packed[k : k + 2], "little") for k in range(0, len(packed), 2))
