"""The one writer of a node's log: groups what waits, commits it with one fsync, signs the head, and only then answers.

Commits and signatures overlap: while a head is signed the next group goes to disk. Both start at once when idle and
at least PACE_S apart under load, so that groups form. A receipt exists only after both.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from exchange.errors import StoreError
from exchange.store.contract import ForkRecord, NewEntry, RefusalRecord, Store
from exchange.v1 import exchange_pb2 as pb
from exchange.workers import Workers

log = structlog.get_logger("tocsin.node")
GROUP_BYTES: Final = 4_000_000
PACE_S: Final = 0.01
# A cursor that moved past nothing of ours costs a commit of its own; losing it costs that stretch fetched again.
REMEMBERED_S: Final = 1.0
RETRY_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that the node took an entry: its leaf is at `position` of the tree the checkpoint heads."""

    id: bytes
    position: int
    proof: tuple[bytes, ...]
    checkpoint: bytes


@dataclass(slots=True)
class Waiting:
    """What is queued: `durable` resolves with the commit, `receipt` with the signature over it."""

    entry: NewEntry | None
    durable: asyncio.Future[None]
    receipt: asyncio.Future[Receipt]
    cursors: dict[str, int] = field(default_factory=dict)
    notes: dict[str, bytes] = field(default_factory=dict)
    refusals: Sequence[RefusalRecord] = ()
    forks: Sequence[ForkRecord] = ()
    position: int = 0

    @property
    def size(self) -> int:
        """Bytes of its entry."""
        return len(self.entry.data) if self.entry else 0

    def fail(self, error: StoreError) -> None:
        """Answer with an error whoever was not answered yet."""
        for future in (self.durable, self.receipt):
            if not future.done():
                future.set_exception(error)
                # Seen here: whoever waits for one of the two need not look at the other.
                future.exception()


class Writer:
    """The only one that appends to a log.

    Args:
        store: The log.
        sign: Signs the head of the first `size` entries; blocks.
        disk: Runs commits, one at a time.
        signer: Runs signatures, one at a time.
        grown: Called after a new head was published, with the entries that came under it.
        lost: Called when entries that were queued will not be kept: the disk failed.
    """

    def __init__(
        self,
        store: Store,
        *,
        sign: Callable[[int], bytes],
        disk: Workers,
        signer: Workers,
        grown: Callable[[Sequence[NewEntry]], None],
        lost: Callable[[], None],
    ) -> None:
        self._store, self._sign, self._disk, self._signer = store, sign, disk, signer
        self._grown, self._lost = grown, lost
        self._queue: deque[Waiting] = deque()
        self._durable: list[Waiting] = []
        self._remembered: tuple[dict[str, int], dict[str, bytes]] = ({}, {})
        self._flushing: asyncio.TimerHandle | None = None
        self._to_commit, self._to_sign = asyncio.Event(), asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._committing = True
        self._closing = False
        self.barred: StoreError | None = None
        """Why nothing is taken any more; None = all is well."""
        self.pending: dict[bytes, Waiting] = {}
        self.unkept: dict[bytes, NewEntry] = {}
        """Documents that the log does not hold yet, by digest: queued, or lost when the disk failed."""
        self.note = b""
        self.size = 0
        self.durable_size = 0
        self.groups = 0
        self.taken = 0
        self.losses = 0
        """How often what was queued was lost."""

    @property
    def waiting(self) -> int:
        """How many wait for the disk."""
        return len(self._queue)

    @property
    def waiting_bytes(self) -> int:
        """How much waits for the disk."""
        return sum(waiting.size for waiting in self._queue)

    # ---- life

    async def start(self) -> None:
        """Sign the head of what the log holds, then take entries."""
        self.size = self.durable_size = self._store.size()
        self.note = await self._signer.run(self._sign, self.size)
        self._tasks = [asyncio.create_task(self._commit_forever()), asyncio.create_task(self._sign_forever())]

    async def stop(self) -> None:
        """Commit and answer what waits."""
        self._flush_remembered()
        self._closing = True
        self._to_commit.set()
        self._to_sign.set()
        await asyncio.gather(*self._tasks)

    # ---- queueing

    def bar(self, error: StoreError) -> None:
        """Take nothing from now on, and say why; what was queued before goes to disk."""
        if self.barred is None:
            log.error("nothing is appended any more", text=str(error))
        self.barred = error

    def require_open(self) -> None:
        """Raise what `bar` was given.

        Raises:
            StoreError: Nothing is taken any more.
        """
        if self.barred is not None:
            raise self.barred.with_traceback(None)

    def enqueue(
        self,
        entry: NewEntry | None,
        cursors: Mapping[str, int] | None = None,
        notes: Mapping[str, bytes] | None = None,
        *,
        refusals: Sequence[RefusalRecord] = (),
        forks: Sequence[ForkRecord] = (),
        losses: int | None = None,
    ) -> Waiting:
        """Queue an entry whose id is neither pending nor in the log, and what goes with it, for one commit or none.

        Args:
            losses: As they stood when what must come before it was queued; None = it stands alone.

        Raises:
            StoreError: Nothing is taken any more; or what must come before it was lost.
        """
        self.require_open()
        if losses not in (None, self.losses):
            raise StoreError("what comes before it was not kept", hint="send it again, in order")
        waiting = self._waiting(entry, cursors, notes, refusals, forks)
        for origin in waiting.cursors:
            # Older than what is queued now: it must not come after it.
            self._remembered[0].pop(origin, None)
            self._remembered[1].pop(origin, None)
        self._queue.append(waiting)
        self._to_commit.set()
        return waiting

    def _waiting(
        self,
        entry: NewEntry | None,
        cursors: Mapping[str, int] | None = None,
        notes: Mapping[str, bytes] | None = None,
        refusals: Sequence[RefusalRecord] = (),
        forks: Sequence[ForkRecord] = (),
    ) -> Waiting:
        new = asyncio.get_running_loop().create_future
        waiting = Waiting(entry, new(), new(), dict(cursors or {}), dict(notes or {}), refusals, forks)
        if entry is not None:
            self.pending[entry.id] = waiting
            if entry.kind == pb.ENTRY_KIND_DOCUMENT:
                self.unkept[entry.id] = entry
        return waiting

    def remember(self, origin: str, position: int, note: bytes) -> None:
        """Move a cursor that passed nothing to keep: with the next commit, or within REMEMBERED_S."""
        cursors, notes = self._remembered
        cursors[origin], notes[origin] = position, note
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_later(REMEMBERED_S, self._flush_remembered)

    def _flush_remembered(self) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        (cursors, notes), self._remembered = self._remembered, ({}, {})
        if cursors and self.barred is None:
            self.enqueue(None, cursors, notes)

    # ---- committing

    async def _commit_forever(self) -> None:
        began = -PACE_S
        while self._queue or not self._closing:
            if not self._queue:
                self._to_commit.clear()
                await self._to_commit.wait()
                continue
            began = await self._pace(began)
            self._flush_remembered()
            group = self._next_group()
            try:
                positions = await self._disk.run(self._append, group)
            except Exception as cause:  # whatever it was, everyone who waits is told
                self._lose(group, cause)
                continue
            self.groups += 1
            self._kept(group, positions)
        self._committing = False
        self._to_sign.set()

    async def _pace(self, began: float) -> float:
        loop = asyncio.get_running_loop()
        pause = began + PACE_S - loop.time()
        if pause > 0 and not self._closing:
            await asyncio.sleep(pause)
        return loop.time()

    def _next_group(self) -> list[Waiting]:
        # Documents that the disk lost are believed all the same: they go before whatever may pin them.
        lost = [entry for identity, entry in self.unkept.items() if identity not in self.pending]
        group = [self._waiting(entry) for entry in lost]
        size = sum(waiting.size for waiting in group)
        while self._queue and (not group or size + self._queue[0].size <= GROUP_BYTES):
            group.append(self._queue.popleft())
            size += group[-1].size
        return group

    def _append(self, group: Sequence[Waiting]) -> list[int]:
        cursors = {origin: position for waiting in group for origin, position in waiting.cursors.items()}
        notes = {origin: note for waiting in group for origin, note in waiting.notes.items()}
        return self._store.append(
            [w.entry for w in group if w.entry],
            cursors=cursors,
            notes=notes,
            refusals=[refusal for w in group for refusal in w.refusals],
            forks=[fork for w in group for fork in w.forks],
        )

    def _kept(self, group: Sequence[Waiting], positions: Sequence[int]) -> None:
        self.durable_size = self._store.size()
        places = iter(positions)
        for waiting in group:
            if waiting.entry is not None:
                waiting.position = next(places)
                self.unkept.pop(waiting.entry.id, None)
                self._durable.append(waiting)
            elif not waiting.receipt.done():
                waiting.receipt.set_result(Receipt(b"", 0, (), self.note))
            if not waiting.durable.done():
                waiting.durable.set_result(None)
        if self._durable:
            self._to_sign.set()

    def _lose(self, group: list[Waiting], cause: Exception) -> None:
        error = cause if isinstance(cause, StoreError) else StoreError(f"the writer failed: {cause}")
        self.losses += 1
        # What waits was checked against what was just lost; it is lost with it.
        group += self._queue
        self._queue.clear()
        log.error("cannot write the log", text=str(error), entries=len(group))
        for waiting in group:
            if waiting.entry is not None:
                self.pending.pop(waiting.entry.id, None)
            waiting.fail(error)
        self._lost()

    # ---- signing

    async def _sign_forever(self) -> None:
        began = -PACE_S
        while self._durable or self._committing:
            if not self._durable:
                self._to_sign.clear()
                await self._to_sign.wait()
                continue
            began = await self._pace(began)
            group, self._durable = self._durable, []
            size = self.durable_size
            try:
                note, receipts = await self._signer.run(self._prove, size, group)
            except Exception as cause:  # whatever it was, everyone who waits is told
                await self._unproved(group, cause)
                continue
            self._publish(size, note, group, receipts)

    def _prove(self, size: int, group: Sequence[Waiting]) -> tuple[bytes, list[Receipt]]:
        note = self._sign(size)
        return note, [
            Receipt(w.entry.id, w.position, tuple(self._store.inclusion(w.position, size)), note)
            for w in group
            if w.entry is not None
        ]

    def _publish(self, size: int, note: bytes, group: Sequence[Waiting], receipts: Sequence[Receipt]) -> None:
        self.size, self.note = size, note
        self.taken += len(receipts)
        for waiting, receipt in zip(group, receipts, strict=True):
            self.pending.pop(receipt.id, None)
            if not waiting.receipt.done():
                waiting.receipt.set_result(receipt)
        self._grown([waiting.entry for waiting in group if waiting.entry is not None])

    async def _unproved(self, group: list[Waiting], cause: Exception) -> None:
        """Durable, but without a signed head: who sends again is told to wait until the next head is signed."""
        error = cause if isinstance(cause, StoreError) else StoreError(f"the head was not signed: {cause}")
        log.error("cannot sign the head", text=str(error), entries=len(group))
        for waiting in group:
            if waiting.entry is not None:
                self.pending.pop(waiting.entry.id, None)
            waiting.fail(error)
        await asyncio.sleep(0 if self._closing else RETRY_S)
        # Answered already; kept here so that a head over them is signed though nothing else comes.
        if not self._closing:
            self._durable += group
