"""What a store is: one Protocol, one contract test suite (tests/store/test_contract.py). A store that passes is a store.

Methods block. `append` is called from one writer thread, everything else from one reader thread.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class NewEntry:
    """An entry to append: `kind` is an EntryKind of exchange.proto, `id` its leaf hash, 32 bytes.

    Documents and heads have an empty stream, channel, audience and sender.
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


@dataclass(frozen=True, slots=True)
class Row:
    """A stored entry; `pruned` when its ciphertext was dropped by the retention rule."""

    position: int
    kind: int
    id: bytes
    data: bytes
    channel: str
    sender: str
    create_time_ms: int
    pruned: bool


@dataclass(frozen=True, slots=True)
class RefusalRecord:
    """An entry of another log that was refused."""

    origin: str
    position: int
    id: bytes
    rule: str
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

    def append(self, entries: Sequence[NewEntry], *, cursors: Mapping[str, int] | None = None) -> list[int]:
        """Append in one durable transaction; return positions. A known id keeps its position for ever.

        Raises:
            StoreError: Nothing was kept.
        """

    def size(self) -> int:
        """Entries in the log."""

    def root(self, size: int) -> bytes:
        """RFC 6962 root of the first `size` entries."""

    def inclusion(self, position: int, size: int) -> list[bytes]:
        """Inclusion proof."""

    def consistency(self, old: int, new: int) -> list[bytes]:
        """Consistency proof."""

    def position_of(self, identity: bytes) -> int | None:
        """Position of an id, for ever, pruned or not."""

    def last_in_stream(self, stream: bytes) -> tuple[int, bytes] | None:
        """(seq, id) of the highest number of a stream."""

    def get(self, position: int) -> Row | None:
        """One entry."""

    def read(
        self,
        position: int,
        *,
        limit_bytes: int,
        limit_rows: int,
        desks: frozenset[str] | None,
        channels: frozenset[str] | None,
    ) -> tuple[list[Row], int]:
        """Entries from a position on, and the position to go on from.

        Args:
            desks: Only envelopes whose audience or sender is among these; None = all. Documents and heads always.
            channels: Only envelopes on these channels; None = all.
        """

    def cursor(self, origin: str) -> int:
        """Next position wanted of another log."""

    def note(self, origin: str) -> bytes | None:
        """The checkpoint remembered of a log."""

    def set_note(self, origin: str, note: bytes) -> None:
        """Remember a checkpoint, durably."""

    def record_refusal(self, record: RefusalRecord) -> None:
        """Remember a refusal; the newest MAX_REFUSALS are kept."""

    def refusals(self) -> list[RefusalRecord]:
        """Refusals remembered, oldest first."""

    def park(self, identity: bytes, data: bytes, origin: str, position: int, reason: str) -> None:
        """Keep an entry that waits for documents; the oldest goes when MAX_PARKED wait."""

    def parked(self) -> list[Parked]:
        """Entries that wait, oldest first."""

    def unpark(self, identity: bytes) -> None:
        """Forget one."""

    def prune(self, channel: str, before_ms: int, strip: Callable[[bytes], bytes]) -> int:
        """Replace the data of a channel's older envelopes by what proves them; leaf and row stay. Returns how many."""

    def close(self) -> None:
        """Release everything."""
