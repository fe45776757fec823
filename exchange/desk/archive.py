"""Outbox and archive of a desk: one SQLite file, contents encrypted with a key from the keystore.

What is said is encrypted; who wrote when on which channel is not (the node knows it too). Each blob has its own key,
derived from the archive key and the blob's name, so a nonce is never used twice.
"""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from exchange.errors import StoreError
from keys import suite
from keys.encoding import pae
from keys.errors import UsageError

MAX_TRIES: Final = 4
"""An envelope refused this often stays in the outbox, is not sent again, and is shown as stuck."""
ASKED_AT_ONCE: Final = 500
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS outbox (number INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE, channel TEXT NOT NULL,
    marking INTEGER NOT NULL, envelope BLOB NOT NULL, named TEXT NOT NULL, answers BLOB NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS sent (id BLOB PRIMARY KEY, header BLOB NOT NULL, position INTEGER, proof BLOB, checkpoint BLOB) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS content (id BLOB PRIMARY KEY, outer BLOB NOT NULL, locked BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sending (channel TEXT NOT NULL, marking INTEGER NOT NULL, audience TEXT NOT NULL, stream BLOB NOT NULL,
    seq INTEGER NOT NULL, id BLOB NOT NULL, PRIMARY KEY (channel, marking, audience)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reading (stream BLOB PRIMARY KEY, seq INTEGER NOT NULL, id BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS received (id BLOB PRIMARY KEY, position INTEGER NOT NULL, channel TEXT NOT NULL, sender TEXT NOT NULL,
    marking INTEGER NOT NULL, seq INTEGER NOT NULL, create_time_ms INTEGER NOT NULL, header BLOB NOT NULL,
    proof BLOB NOT NULL, checkpoint BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS received_channel ON received (channel, position);
CREATE TABLE IF NOT EXISTS said (report BLOB NOT NULL, sender TEXT NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (report, sender, digest)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS unread (id BLOB PRIMARY KEY, channel TEXT NOT NULL, items BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS cursor (channel TEXT PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS drained (channel TEXT PRIMARY KEY, time_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS note (origin TEXT PRIMARY KEY, note BLOB NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A sealed envelope that has no receipt yet; `Archive.items_of` gives the items to seal again if it is refused."""

    number: int
    id: bytes
    channel: str
    marking: int
    envelope: bytes
    named: tuple[str, ...]
    answers: bytes
    tries: int


@dataclass(frozen=True, slots=True)
class Received:
    """An opened envelope. `outer` is its outside as `Pruned`; with the salt seed it makes evidence of one item."""

    id: bytes
    position: int
    channel: str
    sender: str
    marking: int
    seq: int
    create_time_ms: int
    header: bytes
    items: tuple[bytes, ...]
    proof: tuple[bytes, ...]
    checkpoint: bytes
    outer: bytes
    salt_seed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Content:
    """What an envelope said and its outside as `Pruned`, sent or received; see `Received`."""

    outer: bytes
    items: tuple[bytes, ...] = field(repr=False)
    salt_seed: bytes = field(repr=False)


class Archive:
    """The desk's file.

    Args:
        path: Made if absent, 0600.
        key: 32-byte archive key.

    Raises:
        StoreError: The disk failed; nothing of the transaction was kept.
    """

    def __init__(self, path: Path, key: bytes) -> None:
        self._key = key
        self._lock = threading.RLock()
        with _failing():
            path.touch(mode=0o600)
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            # Before the journal mode, or it does not hold. 16 KiB suits blobs of 100 KB.
            self._db.execute("PRAGMA page_size = 16384")
            self._db.execute("PRAGMA journal_mode = WAL")
            # What leaves the outbox is encrypted; writing zeros over it would only write it to disk once more.
            self._db.execute("PRAGMA secure_delete = FAST")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(SCHEMA)

    def __repr__(self) -> str:
        """Never the key."""
        return "Archive(...)"

    @contextlib.contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[None]:
        """All or nothing, durable when the block ends.

        Args:
            durable: False for what may be lost with the power, since it would only be done again.
        """
        with _failing(), self._lock:
            self._db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    # ---- outbox

    def keep_sealed(
        self, *, envelope: bytes, identity: bytes, header: bytes, channel: str, marking: int, items: Sequence[bytes],
        named: Sequence[str], answers: bytes, audience: str, stream: bytes, seq: int, tries: int, outer: bytes,
        salt_seed: bytes,
    ) -> None:  # fmt: skip
        """Put an envelope into the outbox and move its stream; inside a transaction."""
        self._db.execute(
            "INSERT INTO outbox (id, channel, marking, envelope, named, answers, tries) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (identity, channel, marking, envelope, "\n".join(named), answers, tries),
        )
        # Stays when the envelope leaves the outbox: what was said can be shown and proved later.
        self._keep_content(identity, outer, salt_seed, items)
        self._db.execute("INSERT INTO sent (id, header) VALUES (?, ?)", (identity, header))
        self._db.execute(
            "INSERT INTO sending VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET stream = excluded.stream, seq = excluded.seq, id = excluded.id",
            (channel, marking, audience, stream, seq, identity),
        )

    def outgoing(self, after: int = 0, limit: int = 64) -> list[Outgoing]:
        """Envelopes without a receipt, oldest first."""
        with _failing(), self._lock:
            rows = self._db.execute(
                "SELECT number, id, channel, marking, envelope, named, answers, tries FROM outbox WHERE number > ? AND tries < ? ORDER BY number LIMIT ?",
                (after, MAX_TRIES, limit),
            ).fetchall()
        return [
            Outgoing(n, i, c, m, e, tuple(filter(None, named.split("\n"))), a, t) for n, i, c, m, e, named, a, t in rows
        ]

    def items_of(self, outgoing: Outgoing) -> tuple[bytes, ...]:
        """The items in an envelope that waits."""
        return self.content(outgoing.id).items

    def waiting(self) -> int:
        """How many envelopes have no receipt yet."""
        with _failing(), self._lock:
            return int(self._db.execute("SELECT count(*) FROM outbox").fetchone()[0])

    def stuck(self) -> int:
        """How many envelopes were refused too often and wait for a person."""
        with _failing(), self._lock:
            return int(self._db.execute("SELECT count(*) FROM outbox WHERE tries >= ?", (MAX_TRIES,)).fetchone()[0])

    def give_up(self, identity: bytes) -> None:
        """Leave an envelope in the outbox as stuck; inside a transaction."""
        self._db.execute("UPDATE outbox SET tries = ? WHERE id = ?", (MAX_TRIES, identity))

    def receipt(self, identity: bytes) -> tuple[int, tuple[bytes, ...], bytes] | None:
        """(position, proof, checkpoint) of an envelope that was sent and taken."""
        with _failing(), self._lock:
            row = self._db.execute(
                "SELECT position, proof, checkpoint FROM sent WHERE id = ? AND position IS NOT NULL", (identity,)
            ).fetchone()
        return (row[0], tuple(row[1][k : k + 32] for k in range(0, len(row[1]), 32)), row[2]) if row else None

    def settle(
        self, identity: bytes, *, position: int | None = None, proof: Sequence[bytes] = (), checkpoint: bytes = b""
    ) -> None:
        """An envelope has its receipt, or was sealed again: it leaves the outbox; inside a transaction."""
        self._db.execute("DELETE FROM outbox WHERE id = ?", (identity,))
        if position is None:
            self._db.execute("DELETE FROM content WHERE id = ?", (identity,))
        else:
            self._db.execute(
                "UPDATE sent SET position = ?, proof = ?, checkpoint = ? WHERE id = ?",
                (position, b"".join(proof), checkpoint, identity),
            )

    def stream_of(self, channel: str, marking: int, audience: str) -> tuple[bytes, int, bytes] | None:
        """(stream, seq, id) of the last envelope sealed for an audience."""
        with _failing(), self._lock:
            row: tuple[bytes, int, bytes] | None = self._db.execute(
                "SELECT stream, seq, id FROM sending WHERE channel = ? AND marking = ? AND audience = ?",
                (channel, marking, audience),
            ).fetchone()
            return row

    def forget_stream(self, stream: bytes) -> None:
        """The next envelope to its audience starts a new stream; inside a transaction."""
        self._db.execute("DELETE FROM sending WHERE stream = ?", (stream,))

    def header_of(self, identity: bytes) -> bytes | None:
        """Header of an envelope sent or received."""
        with _failing(), self._lock:
            row = self._db.execute(
                "SELECT header FROM sent WHERE id = ? UNION ALL SELECT header FROM received WHERE id = ?",
                (identity, identity),
            ).fetchone()
        return row[0] if row else None

    # ---- archive

    def knows(self, identity: bytes) -> bool:
        """Whether an envelope was opened before."""
        with _failing(), self._lock:
            return self._db.execute("SELECT 1 FROM received WHERE id = ?", (identity,)).fetchone() is not None

    def keep_received(self, envelope: Received) -> None:
        """Archive an opened envelope; inside a transaction."""
        self._db.execute(
            "INSERT INTO received VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                envelope.id, envelope.position, envelope.channel, envelope.sender, envelope.marking, envelope.seq,
                envelope.create_time_ms, envelope.header, b"".join(envelope.proof), envelope.checkpoint,
            ),
        )  # fmt: skip
        self._keep_content(envelope.id, envelope.outer, envelope.salt_seed, envelope.items)

    def received(self, channel: str | None = None) -> Iterator[Received]:
        """Opened envelopes in log order."""
        with _failing(), self._lock:
            rows = self._db.execute(
                "SELECT id FROM received WHERE ? IS NULL OR channel = ? ORDER BY position", (channel, channel)
            ).fetchall()
        for (identity,) in rows:
            yield self._received(identity)

    def _received(self, identity: bytes) -> Received:
        with _failing(), self._lock:
            row = self._db.execute(
                "SELECT position, channel, sender, marking, seq, create_time_ms, header, proof, checkpoint"
                " FROM received WHERE id = ?",
                (identity,),
            ).fetchone()
        position, channel, sender, marking, seq, created, header, proof, checkpoint = row
        hashes = tuple(proof[k : k + 32] for k in range(0, len(proof), 32))
        held = self.content(identity)
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
        with _failing(), self._lock:
            rows = self._db.execute("SELECT id, items FROM unread WHERE channel = ?", (channel,)).fetchall()
        found = [
            (
                self._received(identity),
                tuple(int.from_bytes(items[k : k + 2], "little") for k in range(0, len(items), 2)),
            )
            for identity, items in rows
        ]
        return sorted(found, key=lambda one: one[0].position)

    def said(self, sender: str, named: Sequence[tuple[bytes, bytes]]) -> list[str]:
        """Note items by (report id, digest of the item); in a transaction.

        Returns for each "repeat" (same sender, id and text), "conflict" (same id, another text, whoever sent it) or
        "new". Only a repeat may be dropped: else whoever uses an id first could silence its owner.
        """
        known: dict[bytes, set[tuple[str, bytes]]] = {}
        for start in range(0, len(named), ASKED_AT_ONCE):
            ids = [report for report, _ in named[start : start + ASKED_AT_ONCE]]
            marks = ",".join("?" * len(ids))
            rows = self._db.execute(f"SELECT report, sender, digest FROM said WHERE report IN ({marks})", ids)  # noqa: S608
            for report, who, digest in rows:
                known.setdefault(report, set()).add((who, digest))
        outcomes, fresh = [], []
        for report, digest in named:
            held = known.setdefault(report, set())
            if (sender, digest) in held:
                outcomes.append("repeat")
                continue
            outcomes.append("conflict" if any(other != digest for _, other in held) else "new")
            held.add((sender, digest))
            fresh.append((report, sender, digest))
        self._db.executemany("INSERT INTO said (report, sender, digest) VALUES (?, ?, ?)", fresh)
        return outcomes

    def last_read(self, stream: bytes) -> tuple[int, bytes] | None:
        """(seq, id) of the newest envelope of a stream that was read."""
        with _failing(), self._lock:
            row: tuple[int, bytes] | None = self._db.execute(
                "SELECT seq, id FROM reading WHERE stream = ?", (stream,)
            ).fetchone()
            return row

    def set_last_read(self, stream: bytes, seq: int, identity: bytes) -> None:
        """Move a stream; inside a transaction."""
        self._db.execute(
            "INSERT INTO reading VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET seq = excluded.seq, id = excluded.id",
            (stream, seq, identity),
        )

    def cursor(self, channel: str) -> int:
        """Next log position wanted for a channel."""
        with _failing(), self._lock:
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
        with _failing(), self._lock:
            row = self._db.execute("SELECT time_ms FROM drained WHERE channel = ?", (channel,)).fetchone()
            return int(row[0]) if row else 0

    def set_drained(self, channel: str, time_ms: int) -> None:
        """A channel was read to the end as of a time; inside a transaction."""
        self._db.execute(
            "INSERT INTO drained VALUES (?, ?) ON CONFLICT DO UPDATE SET time_ms = max(time_ms, excluded.time_ms)",
            (channel, time_ms),
        )

    def note(self, origin: str) -> bytes | None:
        """Newest checkpoint seen of a log."""
        with _failing(), self._lock:
            row = self._db.execute("SELECT note FROM note WHERE origin = ?", (origin,)).fetchone()
            return row[0] if row else None

    def set_note(self, origin: str, note: bytes) -> None:
        """Remember a checkpoint; inside a transaction."""
        self._db.execute(
            "INSERT INTO note VALUES (?, ?) ON CONFLICT DO UPDATE SET note = excluded.note", (origin, note)
        )

    def close(self) -> None:
        """Release the file."""
        with _failing(), self._lock:
            self._db.close()

    def content(self, identity: bytes) -> Content:
        """What an envelope said.

        Raises:
            UsageError: None of that id was sealed or opened here.
        """
        with _failing(), self._lock:
            row = self._db.execute("SELECT outer, locked FROM content WHERE id = ?", (identity,)).fetchone()
        if row is None:
            raise UsageError(f"no envelope {identity.hex()} in this archive", hint="see `tocsin inbox`")
        seed, *items = self._unlock(b"content" + identity, row[1])
        return Content(row[0], tuple(items), seed)

    def sent(self) -> list[bytes]:
        """Ids of the envelopes that were sent and taken."""
        with _failing(), self._lock:
            rows = self._db.execute("SELECT id FROM sent WHERE position IS NOT NULL").fetchall()
        return [identity for (identity,) in rows]

    def find_received(self, identity: bytes) -> Received | None:
        """One opened envelope."""
        return self._received(identity) if self.knows(identity) else None

    def _keep_content(self, identity: bytes, outer: bytes, salt_seed: bytes, items: Sequence[bytes]) -> None:
        locked = self._lock_up(b"content" + identity, [salt_seed, *items])
        self._db.execute("INSERT INTO content (id, outer, locked) VALUES (?, ?, ?)", (identity, outer, locked))

    def _lock_up(self, name: bytes, items: Sequence[bytes]) -> bytes:
        return suite.aead_seal(self._key_of(name), pae(*items), name)

    def _unlock(self, name: bytes, blob: bytes) -> tuple[bytes, ...]:
        data = suite.aead_open(self._key_of(name), blob, name)
        items, at = [], 8
        for _ in range(int.from_bytes(data[:8], "little")):
            length = int.from_bytes(data[at : at + 8], "little")
            items.append(data[at + 8 : at + 8 + length])
            at += 8 + length
        return tuple(items)

    def _key_of(self, name: bytes) -> bytes:
        return suite.hkdf_expand(self._key, pae("tocsin/1/archive", name), 32)


@contextlib.contextmanager
def _failing() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"the desk's file failed: {error}") from error
