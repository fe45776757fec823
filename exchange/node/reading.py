"""What subscribers get: entries of the signed log, with proofs, in order; then what comes, as it comes.

Who asks for it is also sent envelopes early: verified, not yet durable (docs/PROTOCOL.md section 9.5). Nothing follows
from them: the same envelope comes again as an entry, then without its bytes, once a checkpoint covers it.
"""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from exchange import checkpoint
from exchange.errors import LimitError, StoreError
from exchange.node.mending import Mending
from exchange.store.contract import NewEntry, Row, Store
from exchange.workers import Workers

READ_BYTES: Final = 1_000_000
READ_ROWS: Final = 256
HEARTBEAT_S: Final = 10.0
# Growth that brings the caller nothing still moves its cursor, but not at the price of a signature checked each time.
QUIET_S: Final = 1.0
# Sent early and not yet confirmed, of one call: what its reader has to hold.
EARLY_BYTES: Final = 4_000_000
EARLY_ENTRIES: Final = 256
# One for each channel is honest; each holds a batch in memory while its reader is slow, some four times over. So those of
# one caller share what one call may have.
MAX_CALLS: Final = 64
LEAST_BYTES: Final = 32_768


@dataclass(frozen=True, slots=True)
class Batch:
    """What a subscriber gets next."""

    rows: Sequence[tuple[Row, tuple[bytes, ...]]]
    checkpoint: bytes
    consistency: tuple[bytes, ...]
    next_position: int
    early: Sequence[bytes] = ()
    damaged: Sequence[int] = ()
    """Positions that are left out, because the disk changed what is there."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries a subscriber may and wants to have."""

    desks: frozenset[str]
    channels: frozenset[str] | None
    without: str

    def has(self, entry: NewEntry) -> bool:
        """Whether an entry is among them, as Store.read chooses: a sender reads its own."""
        return (
            (not entry.origin or entry.origin != self.without)
            and (not entry.channel or self.channels is None or entry.channel in self.channels)
            and (not entry.audience or entry.sender in self.desks or not self.desks.isdisjoint(entry.audience))
        )


@dataclass(slots=True, eq=False)
class Feed:
    """One live call: what wakes it, and what goes to it early."""

    caller: str
    wanted: Callable[[], Wanted]
    early: bool
    live: bool = False
    asked: Wanted | None = None
    """What was wanted when the store was last read. It changes by documents alone, and those concern everybody."""
    news: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: deque[NewEntry] = field(default_factory=deque)
    unconfirmed: dict[bytes, int] = field(default_factory=dict)
    lost: bool = False
    calls: Callable[[], int] = lambda: 1
    """How many calls its caller has open."""

    def share(self, amount: int) -> int:
        """This call's part of what one caller may have."""
        return max(LEAST_BYTES, amount // self.calls())

    def concerned(self, grown: Iterable[NewEntry]) -> bool:
        """Whether there may be something for this call in what the log grew by; a node cosigns every head."""
        is_node = "/" not in self.caller
        return is_node or not self.live or self.asked is None or any(map(self.asked.has, grown))

    def offer(self, entry: NewEntry) -> None:
        """Send an entry early, if it is for this call and there is room; if not, it comes in its time."""
        held = sum(self.unconfirmed.values()) + len(entry.data)
        if (
            not self.live
            or entry.id in self.unconfirmed
            or len(self.unconfirmed) >= EARLY_ENTRIES
            or held > self.share(EARLY_BYTES)
        ):
            return
        wanted = self.wanted()
        # Its sender knows it.
        if wanted.has(entry) and not wanted.desks.isdisjoint(entry.audience):
            self.unconfirmed[entry.id] = len(entry.data)
            self.waiting.append(entry)
            self.news.set()

    def confirm(self, row: Row) -> Row:
        """A row without the bytes that were sent early."""
        if self.unconfirmed.pop(row.id, None) is None:
            return row
        sent = [entry for entry in self.waiting if entry.id == row.id]
        for entry in sent:
            # Its checkpoint overtook it: it goes once, as an entry.
            self.waiting.remove(entry)
        return row if sent else replace(row, data=b"")


class Readers:
    """The live readers of a log.

    Args:
        store: The log.
        workers: Read it.
        head: The newest signed checkpoint.
        mending: Knows how to get back what the disk changed.
    """

    def __init__(self, store: Store, workers: Workers, *, head: Callable[[], bytes], mending: Mending) -> None:
        self._store, self._workers, self._head, self._mending = store, workers, head, mending
        # Not a set: who came first is woken first, so that a simulation repeats.
        self._feeds: dict[Feed, None] = {}
        self._calls = Counter[str]()
        self._ending = False

    def wake(self, grown: Sequence[NewEntry]) -> None:
        """A new head was signed over these entries. Whom none concerns sees it with its next heartbeat.

        So that a thousand idle calls are not a thousand reads of the store at each commit.
        """
        alike = {(entry.channel, entry.sender, entry.audience, entry.origin): entry for entry in grown}.values()
        for feed in self._feeds:
            if feed.concerned(alike):
                feed.news.set()

    def end(self) -> None:
        """End live subscriptions."""
        self._ending = True
        for feed in self._feeds:
            feed.news.set()

    def offer(self, entry: NewEntry) -> None:
        """Send an entry that was verified to whoever wants it early."""
        for feed in self._feeds:
            if feed.early:
                feed.offer(entry)

    def cut(self, identities: Sequence[bytes] | None = None) -> None:
        """End the calls that were sent any of these early, or anything: it will not be confirmed."""
        for feed in self._feeds:
            sent = feed.unconfirmed if identities is None else feed.unconfirmed.keys() & set(identities)
            if sent:
                feed.lost = True
                feed.news.set()

    async def subscribe(
        self,
        caller: str,
        desks: Callable[[], frozenset[str]],
        *,
        position: int,
        channels: frozenset[str] | None,
        without: str,
        follow: bool,
        early: bool = False,
        seen_size: int = 0,
    ) -> AsyncGenerator[Batch, None]:
        """Entries from a position on, each with its inclusion proof in the batch's checkpoint; then live.

        An empty batch says that nothing happened, or that what happened is none of the caller's.

        Args:
            caller: Who reads.
            desks: Whose envelopes the caller may have, asked before each batch.
            position: First position wanted.
            channels: Only these; None = all.
            without: Not what was taken from this log; empty = everything.
            follow: Go on at the newest entry.
            early: Also what is verified and not yet durable.
            seen_size: Of the head with which the first answer proves consistency; 0 = none.

        Raises:
            LimitError: The caller has too many calls open.
            StoreError: What was sent early is lost.
        """
        feed = Feed(caller, lambda: Wanted(desks(), channels, without), early, calls=lambda: self._calls[caller])
        if self._calls[caller] >= MAX_CALLS:
            raise LimitError(f"{caller} has {MAX_CALLS} subscriptions open", hint="close some")
        self._feeds[feed] = None
        self._calls[caller] += 1
        try:
            # Closed with this one, not when memory is next tidied up.
            async with contextlib.aclosing(self._batches(feed, position, follow, seen_size)) as batches:
                async for batch in batches:
                    yield batch
        finally:
            del self._feeds[feed]
            self._calls[caller] -= 1
            if not self._calls[caller]:
                del self._calls[caller]

    async def _batches(self, feed: Feed, position: int, follow: bool, seen_size: int) -> AsyncGenerator[Batch, None]:
        loop = asyncio.get_running_loop()
        sent_size: int | None = None
        sent_at = 0.0
        while not self._ending:
            feed.news.clear()
            if feed.lost:
                raise StoreError("the disk failed: what was sent early is not kept", hint="subscribe again")
            if feed.waiting:
                ready, feed.waiting = feed.waiting, deque()
                yield Batch((), b"", (), position, [entry.data for entry in ready])
            note = self._head()
            size = checkpoint.parse(note).size
            if size == sent_size and feed.live:
                batch = Batch((), note, (), position)
            else:
                before = seen_size if sent_size is None else sent_size
                most = feed.share(READ_BYTES)
                feed.asked = feed.wanted()
                asked = (position, note, size, before, feed.asked, most)
                batch = await self._workers.run(self._batch, *asked)
                if batch.damaged and await self._mending.mend(batch.damaged):
                    batch = await self._workers.run(self._batch, *asked)
            batch = replace(batch, rows=[(feed.confirm(row), proof) for row, proof in batch.rows])
            moved = batch.next_position > position
            feed.live = batch.next_position >= size
            quiet = moved and not batch.rows and follow and sent_size is not None and position >= sent_size
            if batch.rows or sent_size is None or (moved and not (quiet and loop.time() < sent_at + QUIET_S)):
                yield batch
                sent_size, sent_at, position = size, loop.time(), batch.next_position
                continue
            if not follow:
                return
            try:
                async with asyncio.timeout(QUIET_S if moved else HEARTBEAT_S):
                    await feed.news.wait()
            except TimeoutError:
                if not moved:
                    yield Batch((), note, (), position)
                    sent_at = loop.time()

    def _batch(self, position: int, note: bytes, size: int, sent_size: int, wanted: Wanted, most_bytes: int) -> Batch:
        """All that a batch needs of the store, in one visit to its thread."""
        rows, after = self._store.read(
            position,
            limit_bytes=most_bytes,
            limit_rows=READ_ROWS,
            desks=wanted.desks,
            channels=wanted.channels,
            without=wanted.without,
        )
        damaged = self._mending.note(rows)
        whole = [row for row in rows if row.position < size and not row.damaged]
        proved = [(row, tuple(self._store.inclusion(row.position, size))) for row in whole]
        consistency = tuple(self._store.consistency(sent_size, size)) if 0 < sent_size < size else ()
        return Batch(proved, note, consistency, max(min(after, size), position), damaged=damaged)
