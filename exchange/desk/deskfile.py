"""The desk's SQLite file: transactions, and blobs encrypted with a key from the keystore.

What is said is encrypted; who wrote when on which channel is not (the node knows it too). Each blob has its own key,
derived from the archive key and the blob's name, so a nonce is never used twice.
"""

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from exchange.desk.tenure import Tenure
from exchange.errors import StoreError
from keys import suite
from keys.encoding import pae
from keys.errors import OpenError, UsageError

FORMAT: Final = 3
"""Of the file; 1 kept the items of the outbox a second time, 2 had sheets that did not know their names."""
RELOCKED_AT_ONCE: Final = 32
"""Rows of one transaction when the key is replaced; each has at most about 1 MB."""
WAL_PAGES: Final = 16384
ID_BYTES: Final = 16
OTHERS_MS: Final = 1000
"""So long is waited for another program that may be about to end."""
# What is large is in tables in the order of its coming: under a random key each row would touch pages of its own.
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS outbox (number INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE, channel TEXT NOT NULL,
    marking INTEGER NOT NULL, shell BLOB NOT NULL, named TEXT NOT NULL, answers BLOB NOT NULL,
    stream BLOB NOT NULL, tries INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS sent (id BLOB NOT NULL UNIQUE, header BLOB NOT NULL, position INTEGER, proof BLOB, checkpoint BLOB);
CREATE TABLE IF NOT EXISTS content (id BLOB NOT NULL UNIQUE, outer BLOB NOT NULL, locked BLOB NOT NULL, ciphertext BLOB);
CREATE TABLE IF NOT EXISTS sending (channel TEXT NOT NULL, marking INTEGER NOT NULL, audience TEXT NOT NULL, stream BLOB NOT NULL,
    seq INTEGER NOT NULL, id BLOB NOT NULL, PRIMARY KEY (channel, marking, audience)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS heard (sender TEXT NOT NULL, stream BLOB NOT NULL, seq INTEGER NOT NULL, id BLOB NOT NULL,
    PRIMARY KEY (sender, stream)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS shut (number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, header BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS missing (number INTEGER PRIMARY KEY AUTOINCREMENT, sender TEXT NOT NULL, stream BLOB NOT NULL,
    channel TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, id BLOB NOT NULL, since_ms INTEGER NOT NULL,
    told INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS missing_stream ON missing (sender, stream);
CREATE TABLE IF NOT EXISTS promise (sender TEXT NOT NULL, stream BLOB NOT NULL, channel TEXT NOT NULL,
    next_by_ms INTEGER NOT NULL, told INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (sender, stream)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS closed (sender TEXT NOT NULL, stream BLOB NOT NULL, last_seq INTEGER NOT NULL,
    PRIMARY KEY (sender, stream)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lately (number INTEGER PRIMARY KEY, sender TEXT NOT NULL, stream BLOB NOT NULL,
    UNIQUE (sender, stream));
INSERT INTO lately (sender, stream) SELECT sender, stream FROM heard WHERE NOT EXISTS (SELECT 1 FROM lately);
CREATE TABLE IF NOT EXISTS beat (channel TEXT NOT NULL, audience TEXT NOT NULL, heads BLOB NOT NULL,
    beat_ms INTEGER NOT NULL, said_ms INTEGER NOT NULL, next_by_ms INTEGER NOT NULL,
    PRIMARY KEY (channel, audience)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS steering (id BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ended (stream BLOB PRIMARY KEY, channel TEXT NOT NULL, marking INTEGER NOT NULL,
    audience TEXT NOT NULL, seq INTEGER NOT NULL, id BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS received (id BLOB NOT NULL UNIQUE, position INTEGER NOT NULL, channel TEXT NOT NULL,
    sender TEXT NOT NULL,
    marking INTEGER NOT NULL, seq INTEGER NOT NULL, create_time_ms INTEGER NOT NULL, header BLOB NOT NULL,
    proof BLOB NOT NULL, checkpoint BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS received_channel ON received (channel, position);
CREATE TABLE IF NOT EXISTS beaten (id BLOB PRIMARY KEY, sender TEXT NOT NULL, stream BLOB NOT NULL,
    seq INTEGER NOT NULL, create_time_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS beaten_stream ON beaten (sender, stream);
CREATE TABLE IF NOT EXISTS gone (id BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS swept (after INTEGER NOT NULL, last INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS said (key BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS unread (id BLOB PRIMARY KEY, channel TEXT NOT NULL, items BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS cursor (channel TEXT PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS drained (channel TEXT PRIMARY KEY, time_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS shelf (number INTEGER PRIMARY KEY, channel TEXT NOT NULL, entry BLOB NOT NULL, note BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS laid (place TEXT NOT NULL, number INTEGER NOT NULL, sender TEXT NOT NULL,
    PRIMARY KEY (place, number)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS note (origin TEXT PRIMARY KEY, note BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS clash (number INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, rule TEXT NOT NULL, seen BLOB NOT NULL,
    shown BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS sheet (tag BLOB NOT NULL UNIQUE, bucket BLOB NOT NULL, salt BLOB NOT NULL, locked BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS sheet_bucket ON sheet (bucket);
CREATE TABLE IF NOT EXISTS key (id BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS moving (after INTEGER NOT NULL, last INTEGER);
CREATE TABLE IF NOT EXISTS filed (id BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS unplaced (number INTEGER PRIMARY KEY, id BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS awaited (number INTEGER PRIMARY KEY, id BLOB NOT NULL, node TEXT NOT NULL,
    since_ms INTEGER NOT NULL, expire_ms INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS awaited_node ON awaited (node, number);
CREATE INDEX IF NOT EXISTS awaited_id ON awaited (id);
CREATE TABLE IF NOT EXISTS head (number INTEGER PRIMARY KEY, note BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS delivered (id BLOB NOT NULL, node TEXT NOT NULL, position INTEGER NOT NULL, proof BLOB NOT NULL,
    head INTEGER NOT NULL, UNIQUE (id, node));
CREATE TABLE IF NOT EXISTS refused (id BLOB NOT NULL, node TEXT NOT NULL, time_ms INTEGER NOT NULL, data BLOB NOT NULL,
    UNIQUE (id, node));
CREATE TABLE IF NOT EXISTS again (old BLOB PRIMARY KEY, new BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS unopened (number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, channel TEXT NOT NULL,
    due_ms INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS opened (id BLOB NOT NULL, desk TEXT NOT NULL, time_ms INTEGER NOT NULL, by BLOB NOT NULL,
    UNIQUE (id, desk));
CREATE TABLE IF NOT EXISTS owed (number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, time_ms INTEGER NOT NULL);
"""


class DeskFile:
    """The file both outbox and archive are kept in.

    Args:
        path: Made if absent, 0600.
        key: 32-byte archive key.
        leaving: The key that what is in the file may still be under; then nobody else has the file open meanwhile.

    Raises:
        StoreError: The disk failed, nothing of the transaction was kept; the file is of another version or under another
            key; or somebody else has it open.
        DeskInUseError: `leaving`, and somebody works with the desk.
    """

    def __init__(self, path: Path, key: bytes, *, leaving: bytes | None = None) -> None:
        self._key, self._leaving = key, leaving
        self._lock = threading.RLock()
        self.damaged: set[bytes] = set()
        """Ids of envelopes that were looked at and are not as they were written: the disk changed them."""
        self._tenure = Tenure(path)
        with failing():
            path.touch(mode=0o600)
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            try:
                self._open(path)
            except BaseException:
                self._db.close()
                self._tenure.end()
                raise

    def _open(self, path: Path) -> None:
        if self._leaving is not None:
            self._keep_others_out(path)
        # Before the journal mode, or it does not hold. A commit writes whole pages, and most of its rows are small:
        # with 16 KiB a desk that sends envelopes of 256 reports writes a fifth more.
        self._db.execute("PRAGMA page_size = 4096")
        self._db.execute("PRAGMA journal_mode = WAL")
        # What leaves the outbox is encrypted; writing zeros over it would only write it to disk once more. What is under
        # a key that is left is to go, for that may have been stolen.
        self._db.execute(f"PRAGMA secure_delete = {'FAST' if self._leaving is None else 'ON'}")
        self._db.execute("PRAGMA synchronous = FULL")
        # Most of what passes through the outbox has left it before its pages would be copied into the file.
        self._db.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
        self._check_format(path)
        # One flush for all of it.
        self._db.executescript(f"BEGIN;{SCHEMA}COMMIT;")
        self._db.execute(f"PRAGMA user_version = {FORMAT}")
        self._check_key(path)

    def _keep_others_out(self, path: Path) -> None:
        # Who works with the desk is named by its tenure. Who only looks into it holds a shared lock for as long as he does.
        self.hold()
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._db.execute(f"PRAGMA busy_timeout = {OTHERS_MS}")
        try:
            self._db.execute("BEGIN EXCLUSIVE")
            self._db.execute("COMMIT")
        except sqlite3.OperationalError:
            raise StoreError(
                f"another program has {path} open", hint="stop everything that uses this desk, and run it again"
            ) from None

    def _check_key(self, path: Path) -> None:
        held = self._db.execute("SELECT id FROM key").fetchone()
        if held is None:
            self._db.execute("INSERT INTO key (id) SELECT ? WHERE NOT EXISTS (SELECT 1 FROM key)", (key_id(self._key),))
        elif held[0] != key_id(self._key) and (self._leaving is None or held[0] != key_id(self._leaving)):
            # Rows under two keys, one of which nobody has, would be the end of the archive.
            raise StoreError(
                f"{path} is under another archive key than the keystore has",
                hint="if it was replaced this moment, open it again; else restore desk.db and desk.keys of one backup",
            )

    def _check_format(self, path: Path) -> None:
        (found,) = self._db.execute("PRAGMA user_version").fetchone()
        used = self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'outbox'").fetchone()
        if used and found != FORMAT:
            raise StoreError(
                f"{path} has format {found or 1}, this version reads {FORMAT}",
                hint="move the file away: the node still has the log, and what waited is in the old file",
            )

    def __repr__(self) -> str:
        """Never the key."""
        return f"{type(self).__name__}(...)"

    @contextlib.contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[None]:
        """All or nothing, durable when the block ends.

        Args:
            durable: False for what may be lost with the power, since it would only be done again.
        """
        with failing(), self._lock:
            self._db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield
                self._db.execute("COMMIT")
            except BaseException:
                # After some errors SQLite has rolled back by itself; a commit that failed leaves the transaction open.
                if self._db.in_transaction:
                    with contextlib.suppress(sqlite3.Error):
                        self._db.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Release the file."""
        with failing(), self._lock:
            self._db.close()
            self._tenure.end()

    def hold(self) -> None:
        """Keep other processes from working with the desk until the file is closed; looking into it stays free.

        Raises:
            DeskInUseError: One is at work.
        """
        with failing():
            self._tenure.begin()

    def _lock_up(self, name: bytes, items: Sequence[bytes]) -> bytes:
        # PAE of the items; by hand, since it is done for every report.
        parts = [len(items).to_bytes(8, "little")]
        for item in items:
            parts += (len(item).to_bytes(8, "little"), item)
        return suite.aead_seal(self._key_of(name), b"".join(parts), name)

    def _unlock(self, name: bytes, blob: bytes) -> tuple[bytes, ...]:
        return _items(suite.aead_open(_key_of(self._key, name), blob, name))

    def _unlock_left(self, name: bytes, blob: bytes) -> tuple[bytes, ...] | None:
        """What is under the key that is left; None when it is under the new one, or damaged."""
        if self._leaving is None:
            raise UsageError("no key is left here")
        try:
            return _items(suite.aead_open(_key_of(self._leaving, name), blob, name))
        except OpenError:
            return None

    def _each(self, select: str, work: Callable[..., None]) -> None:
        """Give every row of a select that begins with the rowid to `work`, some in each transaction."""
        after = 0
        while True:
            with self.transaction():
                rows = self._db.execute(f"{select} WHERE rowid > ? ORDER BY rowid LIMIT {RELOCKED_AT_ONCE}", (after,))
                some = rows.fetchall()
                for row in some:
                    work(*row)
            if not some:
                return
            after = some[-1][0]

    def _key_of(self, name: bytes) -> bytes:
        return _key_of(self._key, name)


def _items(data: bytes) -> tuple[bytes, ...]:
    items, at = [], 8
    for _ in range(int.from_bytes(data[:8], "little")):
        length = int.from_bytes(data[at : at + 8], "little")
        items.append(data[at + 8 : at + 8 + length])
        at += 8 + length
    return tuple(items)


def _key_of(key: bytes, name: bytes) -> bytes:
    return suite.hkdf_expand(key, pae("tocsin/1/archive", name), 32)


def key_id(key: bytes) -> bytes:
    """Tells whether a key is the file's; nothing is sealed under it."""
    return _key_of(key, b"id")[:ID_BYTES]


@contextlib.contextmanager
def failing() -> Iterator[None]:
    """Failures of the disk as ours."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"the desk's file failed: {error}") from error
