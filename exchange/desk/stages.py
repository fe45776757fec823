"""Stages: how far each envelope that was sent has come, with what proves it, kept beside the archive.

*Taken* is the receipt in `sent`. *Delivered*, at each node that hosts readers, is the same leaf in that node's own log.
*Opened* is a reader's acknowledgement, *refused* a node's signed word. Source: docs/PROTOCOL.md section 8.3.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from exchange.desk.deskfile import DeskFile, failing

HOUR_MS: Final = 3_600_000
DELIVERED_WITHIN_MS: Final = HOUR_MS // 4
"""Nodes that run pass an envelope on within a second: after this long somebody should look."""
OPENED_WITHIN_MS: Final = 24 * HOUR_MS
"""A desk is read every working day."""
ALERT_OPENED_WITHIN_MS: Final = HOUR_MS
UNOPENED_KEPT_MS: Final = 14 * 24 * HOUR_MS
"""How long past its time a missing acknowledgement is still told: whoever has not read by then has been named daily."""


class Awaited(NamedTuple):
    """An envelope that a node has not proved to hold; `number` orders them."""

    number: int
    id: bytes


@dataclass(frozen=True, slots=True)
class Late:
    """How many envelopes are overdue at a node, or for a desk on a channel, and when the oldest was sealed, ms UTC."""

    name: str
    channel: str
    count: int
    since_ms: int


@dataclass(frozen=True, slots=True)
class Place:
    """A leaf in a node's log: proof under the signed note."""

    node: str
    position: int
    proof: tuple[bytes, ...] = field(repr=False)
    note: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A reader's word that it opened an envelope at a time, ms UTC; `by` is the envelope that says so, in the archive."""

    desk: str
    time_ms: int
    by: bytes


@dataclass(frozen=True, slots=True)
class Denied:
    """A node's SignedRefusal of an envelope, as carried."""

    node: str
    time_ms: int
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Owed:
    """An envelope whose items the reader was given at a time, ms UTC, and that is not acknowledged yet."""

    id: bytes
    sender: str
    channel: str
    marking: int
    time_ms: int


class Stages(DeskFile):
    """The part of the desk's file about what became of what was sent, and what is owed for what was read."""

    # ---- delivered, refused

    def unplaced(self, limit: int) -> list[tuple[int, bytes, bytes]]:
        """(number, id, header) of envelopes taken since it was last worked out who must get them."""
        with failing(), self._lock:
            return self._db.execute(
                "SELECT number, unplaced.id, header FROM unplaced JOIN sent USING (id) ORDER BY number LIMIT ?",
                (limit,),
            ).fetchall()

    def place(self, number: int, identity: bytes, nodes: Iterable[str], *, since_ms: int, expire_ms: int) -> None:
        """Await an envelope at some nodes; `number` as `unplaced` gave it. Inside a transaction."""
        self._db.execute("DELETE FROM unplaced WHERE number = ?", (number,))
        self._db.executemany(
            "INSERT INTO awaited (id, node, since_ms, expire_ms) VALUES (?, ?, ?, ?)",
            [(identity, node, since_ms, expire_ms) for node in nodes],
        )

    def nodes_awaited(self) -> list[str]:
        """Nodes that have not proved to hold all they should."""
        found = [""]
        with failing(), self._lock:
            # One look at the index for each node, however much waits.
            while row := self._db.execute("SELECT min(node) FROM awaited WHERE node > ?", (found[-1],)).fetchone():
                if row[0] is None:
                    break
                found.append(row[0])
        return found[1:]

    def awaited_at(self, node: str, after: int, limit: int) -> list[Awaited]:
        """What a node has not proved to hold, from a number on, oldest first."""
        with failing(), self._lock:
            rows = self._db.execute(
                "SELECT number, id FROM awaited WHERE node = ? AND number > ? ORDER BY number LIMIT ?",
                (node, after, limit),
            ).fetchall()
        return [Awaited(*row) for row in rows]

    def keep_delivered(self, node: str, note: bytes, places: Sequence[tuple[bytes, int, Sequence[bytes]]]) -> None:
        """A node proved to hold envelopes: (id, position, proof) of each under its note; inside a transaction."""
        head = self._db.execute("INSERT INTO head (note) VALUES (?)", (note,)).lastrowid
        self._db.executemany(
            "INSERT OR IGNORE INTO delivered (id, node, position, proof, head) VALUES (?, ?, ?, ?, ?)",
            [(identity, node, position, b"".join(proof), head) for identity, position, proof in places],
        )
        self._await_no_more(node, [identity for identity, _, _ in places])

    def keep_refused(self, identity: bytes, denied: Denied, *, final: bool) -> bool:
        """A node refused an envelope; whether that is news. `final`: it is not asked for it any more. In a transaction."""
        new = self._db.execute(
            "INSERT OR IGNORE INTO refused (id, node, time_ms, data) VALUES (?, ?, ?, ?)",
            (identity, denied.node, denied.time_ms, denied.data),
        ).rowcount
        if final:
            self._await_no_more(denied.node, [identity])
        return bool(new)

    def _await_no_more(self, node: str, identities: Iterable[bytes]) -> None:
        self._db.executemany(
            "DELETE FROM awaited WHERE node = ? AND id = ?", [(node, identity) for identity in identities]
        )

    def undelivered(self) -> int:
        """How many envelopes were taken and are not in every log they should be in."""
        with failing(), self._lock:
            counts = "SELECT (SELECT count(*) FROM unplaced) + (SELECT count(DISTINCT id) FROM awaited)"
            return int(self._db.execute(counts).fetchone()[0])

    def undelivered_at(self, identity: bytes) -> set[str]:
        """Nodes that have not proved to hold an envelope, as far as it was worked out who must."""
        with failing(), self._lock:
            rows = self._db.execute("SELECT node FROM awaited WHERE id = ?", (identity,)).fetchall()
        return {node for (node,) in rows}

    def late_nodes(self, now_ms: int) -> list[Late]:
        """Nodes where envelopes are overdue."""
        with failing(), self._lock:
            rows = self._db.execute(
                "SELECT node, '', count(*), min(since_ms) FROM awaited WHERE since_ms <= ? GROUP BY node",
                (now_ms - DELIVERED_WITHIN_MS,),
            ).fetchall()
        return [Late(*row) for row in rows]

    # ---- undelivered when their time ended

    def expired(self, now_ms: int, limit: int) -> list[tuple[bytes, bytes, set[str]]]:
        """(id, header, nodes) of envelopes that some nodes lack and no log takes any more, oldest first."""
        with failing(), self._lock:
            rows = self._db.execute(
                "SELECT id, header FROM sent WHERE id IN"
                " (SELECT id FROM awaited WHERE expire_ms <= ? ORDER BY number LIMIT ?) ORDER BY rowid",
                (now_ms, limit),
            ).fetchall()
        return [(identity, header, self.undelivered_at(identity)) for identity, header in rows]

    def expire(self, identity: bytes) -> None:
        """An envelope that is awaited is to be sealed again without waiting for its time; inside a transaction."""
        self._db.execute("UPDATE awaited SET expire_ms = 0 WHERE id = ?", (identity,))

    def says_again(self, identity: bytes) -> bool:
        """Whether an envelope says again what another said."""
        with failing(), self._lock:
            return self._db.execute("SELECT 1 FROM again WHERE new = ?", (identity,)).fetchone() is not None

    def keep_sealed_again(self, old: bytes, new: bytes) -> None:
        """Another envelope says what one said that will not arrive; that one is awaited no more; inside a transaction."""
        self._db.execute("INSERT OR IGNORE INTO again (old, new) VALUES (?, ?)", (old, new))
        self.give_up_on(old)

    def give_up_on(self, identity: bytes) -> None:
        """Nothing is awaited of an envelope any more; inside a transaction."""
        self._db.execute("DELETE FROM unplaced WHERE id = ?", (identity,))
        self._db.execute("DELETE FROM awaited WHERE id = ?", (identity,))
        self._db.execute("DELETE FROM unopened WHERE id = ?", (identity,))

    # ---- opened

    def await_opening(self, identity: bytes, channel: str, due_ms: int) -> None:
        """Readers are to acknowledge an envelope by a time; inside a transaction."""
        self._db.execute(
            "INSERT OR IGNORE INTO unopened (id, channel, due_ms) VALUES (?, ?, ?)", (identity, channel, due_ms)
        )

    def unopened(self, due_ms: int, limit: int) -> list[tuple[bytes, bytes]]:
        """(id, header) of envelopes that were to be acknowledged by a time and may not be, oldest first."""
        with failing(), self._lock:
            return self._db.execute(
                "SELECT unopened.id, header FROM unopened JOIN sent USING (id) WHERE due_ms <= ? ORDER BY number LIMIT ?",
                (due_ms, limit),
            ).fetchall()

    def channels_unopened(self) -> list[str]:
        """Channels on which an acknowledgement may still come."""
        with failing(), self._lock:
            return [channel for (channel,) in self._db.execute("SELECT DISTINCT channel FROM unopened").fetchall()]

    def forget_unopened(self, identities: Iterable[bytes], *, due_ms: int = 0) -> None:
        """These are acknowledged by all, and what was due before a time is told no more; inside a transaction."""
        self._db.executemany("DELETE FROM unopened WHERE id = ?", [(identity,) for identity in identities])
        self._db.execute("DELETE FROM unopened WHERE due_ms <= ?", (due_ms,))

    def keep_opened(self, identity: bytes, said: Acknowledged) -> None:
        """A reader acknowledged an envelope; its first word stays; inside a transaction."""
        self._db.execute(
            "INSERT OR IGNORE INTO opened (id, desk, time_ms, by) VALUES (?, ?, ?, ?)",
            (identity, said.desk, said.time_ms, said.by),
        )

    # ---- what is known of one envelope

    def delivered(self, identity: bytes) -> list[Place]:
        """Where it was proved to be, but for the hosting node."""
        with failing(), self._lock:
            rows = self._db.execute(
                "SELECT node, position, proof, note FROM delivered JOIN head ON head.number = head WHERE id = ? ORDER BY node",
                (identity,),
            ).fetchall()
        return [
            Place(node, position, tuple(proof[k : k + 32] for k in range(0, len(proof), 32)), note)
            for node, position, proof, note in rows
        ]

    def opened(self, identity: bytes) -> list[Acknowledged]:
        """Who acknowledged it."""
        with failing(), self._lock:
            rows = self._db.execute(
                "SELECT desk, time_ms, by FROM opened WHERE id = ? ORDER BY desk", (identity,)
            ).fetchall()
        return [Acknowledged(*row) for row in rows]

    def refused(self, identity: bytes) -> list[Denied]:
        """Who refused it."""
        with failing(), self._lock:
            rows = self._db.execute(
                "SELECT node, time_ms, data FROM refused WHERE id = ? ORDER BY node", (identity,)
            ).fetchall()
        return [Denied(*row) for row in rows]

    def sealed_again_as(self, identity: bytes) -> bytes | None:
        """The envelope that says again what this one said."""
        with failing(), self._lock:
            row = self._db.execute("SELECT new FROM again WHERE old = ?", (identity,)).fetchone()
        return row[0] if row else None

    # ---- owed for what was read

    def owe(self, identity: bytes, time_ms: int) -> None:
        """The reader was given an envelope that is to be acknowledged; inside a transaction."""
        self._db.execute("INSERT OR IGNORE INTO owed (id, time_ms) VALUES (?, ?)", (identity, time_ms))

    def owed(self, limit: int) -> list[Owed]:
        """What is to be acknowledged, oldest first."""
        with failing(), self._lock:
            rows = self._db.execute(
                "SELECT id, sender, channel, marking, time_ms FROM owed JOIN received USING (id) ORDER BY number LIMIT ?",
                (limit,),
            ).fetchall()
        return [Owed(*row) for row in rows]

    def owing(self) -> int:
        """How many envelopes are to be acknowledged."""
        with failing(), self._lock:
            return int(self._db.execute("SELECT count(*) FROM owed").fetchone()[0])

    def acknowledged(self, identities: Iterable[bytes]) -> None:
        """Envelopes are owed nothing any more; inside a transaction."""
        self._db.executemany("DELETE FROM owed WHERE id = ?", [(identity,) for identity in identities])
