"""What a store is: one Protocol and one test suite, tests/store/test_contract.py. A store that passes is a store.

Methods block and may be called from any thread. Readers see an entry once it is durable, and never wait for a commit.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class NewEntry:
    """An entry to append: `kind` is an EntryKind of exchange.proto, `id` its leaf hash, 32 bytes.

    Documents and heads have an empty stream, channel, audience and sender. What has no audience is for everybody; what
    has one and no channel comes to it on every channel. `origin` is the followed log it was taken from; empty = none.
    `pruned` when its ciphertext was dropped by the retention rule in the log that this one continues.
    """

    kind: int
    id: bytes
    data: bytes
    stream: bytes = b""
    seq: int = 0
    channel: str = ""
    audience: tuple[str, ...] = ()
    sender: str = ""
    create_time_ms: int = 0
    origin: str = ""
    pruned: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A stored entry; `pruned` when its ciphertext was dropped by the retention rule.

    `damaged` when the disk does not hold it as it was written: no field but `position` is to be relied on.
    """

    position: int
    kind: int
    id: bytes
    data: bytes
    channel: str
    sender: str
    create_time_ms: int
    pruned: bool
    damaged: bool = False


@dataclass(frozen=True, slots=True)
class RefusalRecord:
    """An entry of another log that was refused."""

    origin: str
    position: int
    id: bytes
    rule: str
    time_ms: int


@dataclass(frozen=True, slots=True)
class ForkRecord:
    """Two envelopes of one sender that cannot both stand: at number `seq` of a stream, or the second denies the first."""

    stream: bytes
    seq: int
    sender: str
    channel: str
    first: bytes
    second: bytes
    time_ms: int


@dataclass(frozen=True, slots=True)
class Parked:
    """An entry of another log that waits for documents."""

    id: bytes
    data: bytes
    origin: str
    position: int
    reason: str


class Store(Protocol):
    """An append-only log with its Merkle tree, cursors into other logs, and what is remembered about them."""

    def append(
        self,
        entries: Sequence[NewEntry],
        *,
        cursors: Mapping[str, int] | None = None,
        notes: Mapping[str, bytes] | None = None,
        refusals: Sequence[RefusalRecord] = (),
        forks: Sequence[ForkRecord] = (),
    ) -> list[int]:
        """Append in one durable transaction; return positions. A known id keeps its position for ever.

        Two entries at one number of a stream are both kept: they are evidence. `find` tells beforehand.

        Args:
            entries: In the order they shall have.
            cursors: Origin -> next position wanted of that log, moved in the same transaction.
            notes: Origin -> newest checkpoint seen of that log, kept in the same transaction; see `set_note`.
            refusals: Kept in the same transaction, once per origin, position and id; the newest 10,000 stay.
            forks: Kept in the same transaction, once per pair; the newest 1,000 stay.

        Raises:
            StoreError: Nothing was kept. After a power cut a group whose commit failed may be there all the same: the
                disk failed while it confirmed. Nobody holds a receipt for it then.
        """

    def size(self) -> int:
        """Entries in the log."""

    def root(self, size: int) -> bytes:
        """RFC 6962 root of the first `size` entries.

        Raises:
            LimitError: The log is shorter.
        """

    def inclusion(self, position: int, size: int) -> list[bytes]:
        """Inclusion proof, from the leaf up.

        Raises:
            LimitError: The log is shorter than `size`.
            ProofError: The position is not below `size`.
        """

    def consistency(self, old: int, new: int) -> list[bytes]:
        """Consistency proof.

        Raises:
            LimitError: The log is shorter than `new`.
            ProofError: Not 0 < old <= new.
        """

    def position_of(self, identity: bytes) -> int | None:
        """Position of an id, for ever, pruned or not."""

    def last_in_stream(self, stream: bytes) -> tuple[int, bytes] | None:
        """(seq, id) of the highest number of a stream; of two entries at that number, the first in the log."""

    def newest_of(self, sender: str) -> bytes | None:
        """Id of the last envelope of a sender in the log."""

    def find(self, stream: bytes, seq: int) -> bytes | None:
        """Id of the first entry at a number of a stream."""

    def get(self, position: int) -> Row | None:
        """One entry."""

    def leaf(self, position: int) -> bytes:
        """The leaf at a position, from the tree."""

    def mend(self, position: int, data: bytes) -> bool:
        """Put an entry's bytes, which the caller found to be those of its leaf, in the place of damaged ones.

        Returns:
            False when they are not what was written, or when more than the bytes and the id of the entry is damaged.
        """

    def read(
        self,
        position: int,
        *,
        limit_bytes: int,
        limit_rows: int,
        desks: frozenset[str] | None,
        channels: frozenset[str] | None,
        without: str = "",
    ) -> tuple[list[Row], int]:
        """Entries from a position on, and the position to go on from: all below it was looked at.

        There may be no row and yet a higher position, where a search took too long: go on from there. The end of the
        log is reached when the position returned is the one given. One row is returned whatever its length.

        Args:
            position: First position wanted.
            limit_bytes: Bytes of data at most.
            limit_rows: Rows at most.
            desks: Only entries whose audience or sender is among these; None = all. What is for everybody always comes.
            channels: Only entries on these channels or on none; None = all.
            without: Nothing taken from this log; empty = everything.
        """

    def entries(self, position: int, *, limit_bytes: int) -> list[NewEntry]:
        """Entries from a position on, as they are appended to another log; at least one unless there is none."""

    def cursor(self, origin: str) -> int:
        """Next position wanted of another log."""

    def cursors(self) -> dict[str, int]:
        """Every cursor, by origin."""

    def note(self, origin: str) -> bytes | None:
        """The checkpoint remembered of a log."""

    def notes(self) -> dict[str, bytes]:
        """Every checkpoint remembered."""

    def set_note(self, origin: str, note: bytes) -> None:
        """Remember a checkpoint, durably."""

    def meta(self, key: str) -> bytes | None:
        """A value the node keeps across restarts."""

    def set_meta(self, key: str, value: bytes) -> None:
        """Keep a value, durably."""

    def refusals(self) -> list[RefusalRecord]:
        """Refusals remembered, oldest first."""

    def forks(self) -> list[ForkRecord]:
        """Forks remembered, oldest first."""

    def park(self, identity: bytes, data: bytes, origin: str, position: int, reason: str) -> None:
        """Keep an entry that waits for documents; the oldest go when more than 1,024 or 64 MB wait."""

    def parked(self) -> list[Parked]:
        """Entries that wait, oldest first."""

    def unpark(self, identity: bytes) -> None:
        """Forget one."""

    def prune(self, channel: str, before_ms: int, strip: Callable[[bytes], bytes]) -> int:
        """Replace the data of a channel's envelopes made before `before_ms` by `strip(data)`; leaf and row stay.

        Returns:
            How many were pruned now.
        """

    def close(self) -> None:
        """Release everything."""
