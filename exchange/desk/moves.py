"""The part of the desk's file about moving to another log of the node: what has no place there yet, and its receipts."""

from collections.abc import Iterable, Sequence

from exchange.desk.deskfile import DeskFile, failing


class Moves(DeskFile):
    """What was taken under a log that the node gave up is looked for in the new one, once, oldest first."""

    def begin_log(self) -> None:
        """Another log of the node is read from its start, and every receipt is to get its place in it; in a transaction."""
        self._db.execute("DELETE FROM cursor")
        self._db.execute("DELETE FROM moving")
        self._db.execute("INSERT INTO moving (after, last) SELECT 0, max(rowid) FROM sent WHERE position IS NOT NULL")

    def newest_receipt(self) -> bytes | None:
        """The signed note of the newest receipt."""
        with failing(), self._lock:
            row = self._db.execute(
                "SELECT checkpoint FROM sent WHERE position IS NOT NULL ORDER BY rowid DESC LIMIT 1"
            ).fetchone()
        return row[0] if row else None

    def unmoved(self, limit: int) -> list[tuple[int, bytes, bytes]]:
        """(number, id, header) of envelopes whose place in the new log is to be asked for."""
        with failing(), self._lock:
            return self._db.execute(
                "SELECT sent.rowid, sent.id, header FROM moving JOIN sent ON sent.rowid > after AND sent.rowid <= last"
                " WHERE position IS NOT NULL ORDER BY sent.rowid LIMIT ?",
                (limit,),
            ).fetchall()

    def moved(self, number: int, places: Iterable[tuple[bytes, int, Sequence[bytes]]], note: bytes) -> None:
        """All up to a number was looked for; inside a transaction.

        Args:
            number: As `unmoved` gave it.
            places: (id, position, inclusion proof) of what was found.
            note: The signed note they are proved under.
        """
        self._db.executemany(
            "UPDATE sent SET position = ?, proof = ?, checkpoint = ? WHERE id = ?",
            [(position, b"".join(proof), note, identity) for identity, position, proof in places],
        )
        self._db.execute("UPDATE moving SET after = ?", (number,))
