"""Sheets: what a service of this desk keeps for itself, encrypted, beside the archive; and what it has worked through."""

import os
from collections.abc import Iterable
from typing import Final

from exchange.desk.deskfile import DeskFile, failing

SALT_BYTES: Final = 16


class Sheets(DeskFile):
    """The part of the desk's file for services such as the watch. Names are not readable in the file either."""

    def sheet(self, kind: str, name: str) -> bytes | None:
        """One sheet."""
        tag = self._tag(kind, name)
        with failing(), self._lock:
            row = self._db.execute("SELECT salt, locked FROM sheet WHERE tag = ?", (tag,)).fetchone()
        return self._opened(tag, *row) if row else None

    def sheets(self, kind: str, bucket: str) -> list[bytes]:
        """All sheets of a bucket, in the order in which they were first put."""
        with failing(), self._lock:
            rows = self._db.execute(
                "SELECT tag, salt, locked FROM sheet WHERE bucket = ? ORDER BY rowid",
                (self._tag(kind, f"all {bucket}"),),
            ).fetchall()
        return [self._opened(*row) for row in rows]

    def put_sheet(self, kind: str, name: str, data: bytes, *, bucket: str = "") -> None:
        """Write a sheet in place of what it said before; inside a transaction."""
        self._db.execute(
            "INSERT INTO sheet (tag, bucket, salt, locked) VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET bucket = excluded.bucket, salt = excluded.salt, locked = excluded.locked",
            self._row(data, kind.encode(), name.encode(), bucket.encode()),
        )

    def relock_sheets(self) -> None:
        """Put what is still under the key that is left under the new one: names and buckets too."""

        def relock(number: int, tag: bytes, salt: bytes, locked: bytes) -> None:
            if (parts := self._unlock_left(b"sheet" + tag + salt, locked)) is not None:
                self._db.execute(
                    "UPDATE sheet SET tag = ?, bucket = ?, salt = ?, locked = ? WHERE rowid = ?",
                    (*self._row(*parts), number),
                )

        self._each("SELECT rowid, tag, salt, locked FROM sheet", relock)

    def drop_sheet(self, kind: str, name: str) -> None:
        """Remove a sheet; inside a transaction."""
        self._db.execute("DELETE FROM sheet WHERE tag = ?", (self._tag(kind, name),))

    def unfiled(self, most: int) -> list[tuple[bytes, bool]]:
        """(id, sent by this desk) of envelopes a service has not worked through, oldest first; at most that many."""
        with failing(), self._lock:
            received = self._db.execute(
                "SELECT id FROM received WHERE NOT EXISTS (SELECT 1 FROM filed WHERE filed.id = received.id)"
                " ORDER BY rowid LIMIT ?",
                (most,),
            ).fetchall()
            sent = self._db.execute(
                "SELECT id FROM sent WHERE NOT EXISTS (SELECT 1 FROM filed WHERE filed.id = sent.id)"
                " AND EXISTS (SELECT 1 FROM content WHERE content.id = sent.id) ORDER BY rowid LIMIT ?",
                (most - len(received),),
            ).fetchall()
        return [(identity, False) for (identity,) in received] + [(identity, True) for (identity,) in sent]

    def set_filed(self, identities: Iterable[bytes]) -> None:
        """A service has worked through envelopes; inside a transaction."""
        self._db.executemany("INSERT OR IGNORE INTO filed (id) VALUES (?)", ((one,) for one in identities))

    def sealed(self) -> list[tuple[bytes, bytes]]:
        """(id, header) of every envelope this desk sealed and stands by, sent or waiting, oldest first."""
        with failing(), self._lock:
            return self._db.execute(
                "SELECT id, header FROM sent WHERE EXISTS (SELECT 1 FROM content WHERE content.id = sent.id) ORDER BY rowid"
            ).fetchall()

    def _row(self, data: bytes, kind: bytes, name: bytes, bucket: bytes) -> tuple[bytes, bytes, bytes, bytes]:
        tag, salt = self._tag(kind.decode(), name.decode()), os.urandom(SALT_BYTES)
        # A key seals one text only, so each version has a key of its own. The names go along for the next archive key.
        locked = self._lock_up(b"sheet" + tag + salt, [data, kind, name, bucket])
        return tag, self._tag(kind.decode(), f"all {bucket.decode()}"), salt, locked

    def _tag(self, kind: str, name: str) -> bytes:
        return self._key_of(b"sheet name" + f"{kind}\n{name}".encode())

    def _opened(self, tag: bytes, salt: bytes, locked: bytes) -> bytes:
        data, *_ = self._unlock(b"sheet" + tag + salt, locked)
        return data
