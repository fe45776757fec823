"""The tables of a log's file, and how the file comes to be: private, held by one process, of this version."""

import fcntl
from pathlib import Path
from typing import IO, Final

from exchange.errors import StoreError
from exchange.store.connections import Connections
from exchange.store.segments import sync_directory

PAGE: Final = 16_384  # suits blobs of 100 KB
APPLICATION: Final = 0x544F4353
VERSION: Final = 4
SCHEMA: Final = f"""
BEGIN;
CREATE TABLE log (
    position INTEGER PRIMARY KEY, kind INTEGER NOT NULL, id BLOB NOT NULL, stream BLOB NOT NULL, seq INTEGER NOT NULL,
    lane INTEGER NOT NULL, create_time_ms INTEGER NOT NULL, bytes INTEGER NOT NULL, segment INTEGER, start INTEGER,
    pruned INTEGER NOT NULL DEFAULT 0, row_sum INTEGER, data_sum INTEGER);
CREATE TABLE segment (number INTEGER PRIMARY KEY, end INTEGER NOT NULL, live INTEGER NOT NULL);
CREATE TABLE wipe (segment INTEGER NOT NULL, start INTEGER NOT NULL, bytes INTEGER NOT NULL);
CREATE TABLE blob (position INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE lane (
    number INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, channel TEXT NOT NULL, sender TEXT NOT NULL,
    audience TEXT NOT NULL, origin TEXT NOT NULL);
CREATE TABLE member (desk TEXT NOT NULL, lane INTEGER NOT NULL, PRIMARY KEY (desk, lane)) WITHOUT ROWID;
CREATE TABLE tile (level INTEGER NOT NULL, tile INTEGER NOT NULL, hashes BLOB NOT NULL, sum INTEGER, PRIMARY KEY (level, tile));
CREATE TABLE cursor (origin TEXT PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE note (origin TEXT PRIMARY KEY, note BLOB NOT NULL);
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE refusal (number INTEGER PRIMARY KEY AUTOINCREMENT, origin TEXT NOT NULL, position INTEGER NOT NULL,
    id BLOB NOT NULL, rule TEXT NOT NULL, time_ms INTEGER NOT NULL, UNIQUE (origin, position, id));
CREATE TABLE fork (number INTEGER PRIMARY KEY AUTOINCREMENT, stream BLOB NOT NULL, seq INTEGER NOT NULL,
    sender TEXT NOT NULL, channel TEXT NOT NULL, first BLOB NOT NULL, second BLOB NOT NULL, time_ms INTEGER NOT NULL,
    UNIQUE (first, second));
CREATE TABLE parked (number INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE, data BLOB NOT NULL,
    origin TEXT NOT NULL, position INTEGER NOT NULL, reason TEXT NOT NULL);
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
COMMIT;
"""
# What version 3 wrote has no sums, and is read unchecked.
UPGRADE: Final = f"""
BEGIN;
ALTER TABLE log ADD COLUMN row_sum INTEGER;
ALTER TABLE log ADD COLUMN data_sum INTEGER;
ALTER TABLE tile ADD COLUMN sum INTEGER;
PRAGMA user_version = {VERSION};
COMMIT;
"""


def hold(path: Path) -> IO[bytes]:
    """Keep other processes out while the file returned is open. A lock on the database itself would undo SQLite's."""
    held = path.with_name(path.name + ".lock").open("ab")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        held.close()
        raise StoreError(f"{path.name} is open in another process", hint="stop the other node first") from None
    return held


def make(path: Path) -> None:
    """Make the file if it is not there, private, and its name durable."""
    if path.exists():
        return
    path.touch(mode=0o600)
    sync_directory(path.parent)


def prepare(file: Connections, name: str) -> None:
    """Make the tables if there are none, or bring them to this version.

    Raises:
        StoreError: They are of another version, or of another program; `name` says which file that is.
    """
    write = file.write
    # What retention drops shall not linger in free pages; nothing but retention and parking deletes.
    write.execute("PRAGMA secure_delete = ON")
    # A crash while the file was being made leaves it without any table, never with some of them.
    if write.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
        write.executescript(SCHEMA)
    if write.execute("PRAGMA user_version").fetchone()[0] == VERSION - 1:
        write.executescript(UPGRADE)
    marks = [write.execute(f"PRAGMA {pragma}").fetchone()[0] for pragma in ("application_id", "user_version")]
    if marks != [APPLICATION, VERSION]:
        raise StoreError(f"{name} is no store of this version", hint="upgrade, or restore the right file")
