"""What comes in: one envelope at a time, from a desk or from a followed log, checked and queued for the log."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar, TypeVarTuple

from exchange import envelope
from exchange.admission import Admission, check_stream
from exchange.errors import IdentityError, LimitError, ProofError, StoreError, StreamError
from exchange.node.entries import envelope_entry, header_of, hinted, stream_of
from exchange.node.forks import Forks
from exchange.node.quota import Quotas
from exchange.node.reading import Readers
from exchange.node.writer import Receipt, Waiting, Writer
from exchange.standing import Position
from exchange.store.contract import ForkRecord, NewEntry, Store
from exchange.v1 import envelope_pb2 as env
from exchange.v1 import exchange_pb2 as pb
from exchange.workers import Workers
from keys.encoding import digest
from keys.errors import PeerError, TocsinError

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")
MAX_WAITING: Final = 512
MAX_WAITING_BYTES: Final = 64_000_000
CACHED_STREAMS: Final = 10_000


@dataclass(slots=True)
class Counters:
    """What the node did since it started."""

    duplicates: int = 0
    refused: dict[str, int] = field(default_factory=dict)

    def refuse(self, reason: str) -> None:
        """Count a refusal by its rule."""
        self.refused[reason] = self.refused.get(reason, 0) + 1


@dataclass(frozen=True, slots=True)
class Preview:
    """What was found of an envelope that came early: `entry` is None when it is held already or was refused."""

    id: bytes
    entry: NewEntry | None
    error: PeerError | None
    version: int


class Intake:
    """Admission, streams and receipts over one log.

    Args:
        store: The log.
        writer: Appends to it.
        admission: The rules.
        readers: Who may see an envelope early.
        quotas: How much one caller may ask for over time.
        counters: What is counted.
        workers: Read the store.
    """

    def __init__(
        self,
        *,
        store: Store,
        writer: Writer,
        admission: Admission,
        readers: Readers,
        quotas: Quotas,
        counters: Counters,
        workers: Workers,
    ) -> None:
        self.store, self._writer, self.admission, self.readers = store, writer, admission, readers
        self.quotas, self.counters, self._workers = quotas, counters, workers
        self.forks = Forks(store, workers, pending=writer.pending.values)
        self._heads: OrderedDict[bytes, tuple[int, bytes]] = OrderedDict()

    def forget(self) -> None:
        """The disk failed: a resend is judged by it, not by what we believed of its streams."""
        self._heads.clear()

    async def _read(self, call: Callable[[*Arguments], T], *args: *Arguments) -> T:
        return await self._workers.run(call, *args)

    async def publish(self, data: bytes, *, by: str, now_ms: int) -> tuple[bytes, asyncio.Future[Receipt]]:
        """Check one envelope of a desk and queue it; returns its id and a future that resolves once it is durable.

        Args:
            data: Encoded Envelope.
            by: The calling desk, which must be the sender.
            now_ms: Milliseconds UTC.

        Raises:
            PeerError: Names the rule; nothing is kept.
        """
        try:
            # Before anything is looked at: what is refused is counted too.
            self.quotas.take(by, {"envelopes": 1, "bytes": len(data)}, now_ms)
            parsed = envelope.parse(data)
            return parsed.id, await self._publish(parsed, by, now_ms)
        except TocsinError as error:
            self.counters.refuse(error.reason)
            raise

    async def _publish(self, parsed: envelope.Parsed, by: str, now_ms: int) -> asyncio.Future[Receipt]:
        if (known := await self._receipt_of(parsed)) is not None:
            return known
        if self._writer.waiting >= MAX_WAITING or self._writer.waiting_bytes >= MAX_WAITING_BYTES:
            raise LimitError(f"{self._writer.waiting} envelopes wait for the disk")
        header = self.admission.admit(parsed, now_ms=now_ms, answered=(await self._answered(parsed)).get).header
        if header.sender != by:
            raise IdentityError(f"{by} publishes an envelope signed by another desk", caller=by)
        head = await self._head(stream_of(header))
        # While the disk was read the same envelope may have come on another stream of the same desk.
        if parsed.id in self._writer.pending:
            return self._writer.pending[parsed.id].receipt
        try:
            check_stream(header, head)
        except StreamError:
            if (known := await self._receipt_of(parsed, surely=True)) is not None:
                return known
            raise
        entry = envelope_entry(parsed, header)
        self.readers.offer(entry)
        return self._keep(entry, head).receipt

    def _keep(
        self,
        entry: NewEntry,
        head: tuple[int, bytes] | None,
        *,
        forks: Sequence[ForkRecord] = (),
        losses: int | None = None,
    ) -> Waiting:
        # No waiting between the check of a stream and this.
        waiting = self._writer.enqueue(entry, forks=forks, losses=losses)
        self._remember(entry, head)
        return waiting

    async def preview(self, data: bytes, *, origin: str, now_ms: int) -> Preview:
        """Check an envelope that a peer sent early, and pass it on; nothing is kept before the peer's log proves it."""
        version = self.admission.trust.version
        identity = digest(data)
        try:
            parsed = envelope.parse(data)
            identity = parsed.id
            return Preview(identity, await self._followed(parsed, origin, now_ms), None, version)
        except PeerError as error:
            return Preview(identity, None, error, version)

    async def follow(
        self,
        data: bytes,
        identity: bytes,
        *,
        origin: str,
        now_ms: int,
        preview: Preview | None = None,
        place: Position | None = None,
        losses: int | None = None,
    ) -> Waiting | None:
        """Check an envelope that a followed log holds and queue it; None when it is in our log already.

        Args:
            data: Encoded Envelope.
            identity: The id the followed log claims.
            origin: That log.
            now_ms: Milliseconds UTC.
            preview: What was found when the same bytes came early; it holds while no document came since.
            place: Where a log of another party than the sender's holds it, when its key ended since.
            losses: See Writer.enqueue.

        Raises:
            PeerError: Names the rule; nothing is kept.
        """
        try:
            if preview is not None and preview.version == self.admission.trust.version:
                if preview.error is not None:
                    raise preview.error
                entry = preview.entry
            else:
                parsed = envelope.parse(data)
                if identity != parsed.id:
                    raise ProofError("the leaf is not that envelope")
                entry = await self._followed(parsed, origin, now_ms, place)
        except TocsinError as error:
            self.counters.refuse(error.reason)
            raise
        if entry is None:
            self.counters.duplicates += 1
            return self._writer.pending.get(identity)
        head = await self._head(entry.stream)
        fork = await self.forks.found(entry, head, now_ms=now_ms)
        forks = [fork] if fork else []
        return self._writer.pending.get(identity) or self._keep(entry, head, forks=forks, losses=losses)

    async def _followed(
        self, parsed: envelope.Parsed, origin: str, now_ms: int, place: Position | None = None
    ) -> NewEntry | None:
        """An envelope of a followed log as an entry, admitted; None when it is queued or kept."""
        if parsed.id in self._writer.pending or await self._position_of(parsed) is not None:
            return None
        answered = await self._answered(parsed)
        header = self.admission.admit(
            parsed, now_ms=now_ms, answered=answered.get, from_log=True, position=place
        ).header
        entry = envelope_entry(parsed, header, origin=origin)
        self.readers.offer(entry)
        return entry

    async def _answered(self, parsed: envelope.Parsed) -> dict[bytes, env.Header]:
        """The header an answer names, read before admission, which does no I/O. Unverified bytes only choose a row."""
        answers = hinted(parsed).answers
        if len(answers) != 32:
            return {}
        queued = self._writer.pending.get(answers)
        if queued is not None and queued.entry is not None:
            # What is answered often comes just before its answer, from a log that is caught up with.
            return {answers: header_of(queued.entry.data)} if queued.entry.kind == pb.ENTRY_KIND_ENVELOPE else {}
        position = await self._read(self.store.position_of, answers)
        if position is None:
            return {}
        row = await self._read(self.store.get, position)
        if row is None or row.damaged or row.kind != pb.ENTRY_KIND_ENVELOPE:
            return {}
        return {answers: header_of(row.data, pruned=row.pruned)}

    async def _head(self, stream: bytes) -> tuple[int, bytes] | None:
        if stream in self._heads:
            return self._heads[stream]
        last: tuple[int, bytes] | None = await self._read(self.store.last_in_stream, stream)
        # Another publish of the same stream may have been queued while the disk was read.
        return self._heads.get(stream, last)

    def _remember(self, entry: NewEntry, head: tuple[int, bytes] | None) -> None:
        """Note the highest number of a stream, of which `head` was it before."""
        held = self._heads.get(entry.stream, head)
        self._heads[entry.stream] = held if held and held[0] >= entry.seq else (entry.seq, entry.id)
        self._heads.move_to_end(entry.stream)
        while len(self._heads) > CACHED_STREAMS:
            self._heads.popitem(last=False)

    async def _position_of(self, parsed: envelope.Parsed, *, surely: bool = False) -> int | None:
        """Position of an envelope in the log; the disk is not asked where its number is above all that the stream holds.

        The header is not verified yet: a false number costs its sender the verification that would have come anyway.
        """
        if not surely and parsed.outer.header:
            claimed = hinted(parsed)
            held = self._heads.get(stream_of(claimed))
            if held is not None and claimed.seq > held[0]:
                return None
        return await self._read(self.store.position_of, parsed.id)

    async def _receipt_of(self, parsed: envelope.Parsed, *, surely: bool = False) -> asyncio.Future[Receipt] | None:
        """The receipt of an envelope that is queued or kept."""
        if parsed.id in self._writer.pending:
            return self._writer.pending[parsed.id].receipt
        position = await self._position_of(parsed, surely=surely)
        # Durable, but the checkpoint that covers it is not yet published: the writer is about to answer.
        if parsed.id in self._writer.pending:
            return self._writer.pending[parsed.id].receipt
        if position is None:
            return None
        self.counters.duplicates += 1
        note, size = self._writer.note, self._writer.size
        if position >= size:
            raise StoreError("the entry is kept, and its checkpoint is not signed yet", hint="send it again")
        proof = tuple(await self._read(self.store.inclusion, position, size))
        done: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        done.set_result(Receipt(parsed.id, position, proof, note))
        return done
