"""The node behind its service: admission, one writer, receipts, live readers. Knows nothing of gRPC or TLS.

The event loop checks envelopes and hands them to one writer thread, which commits all that wait in one transaction
(one fsync for the group), signs one checkpoint, and answers everyone in the group. Receipts exist only after that.
"""

import asyncio
import threading
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, TypeVar

import structlog
from google.protobuf.message import DecodeError

from exchange import checkpoint, envelope
from exchange.admission import Admission, check_stream
from exchange.errors import IdentityError, LimitError, ProofError, StaleError, StoreError, StreamError
from exchange.store.contract import NewEntry, RefusalRecord, Row, Store
from exchange.v1 import envelope_pb2 as env
from exchange.v1 import exchange_pb2 as pb
from keys import documents
from keys.encoding import digest, parse_canonical
from keys.errors import PeerError, TocsinError
from keys.suite import SigningKey
from keys.trust import MissingDocumentError, Trust, party_of

T = TypeVar("T")
log = structlog.get_logger("tocsin.node")
GROUP_BYTES: Final = 4_000_000
MAX_WAITING: Final = 512
CACHED_STREAMS: Final = 10_000
READ_BYTES: Final = 1_000_000
READ_ROWS: Final = 256
HEARTBEAT_S: Final = 10.0
WAITS: Final = (MissingDocumentError, StaleError)
"""Refusals that a document to come can lift."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that the node took an entry: its leaf is at `position` of the tree the checkpoint heads."""

    id: bytes
    position: int
    proof: tuple[bytes, ...]
    checkpoint: bytes


@dataclass(slots=True)
class _Waiting:
    entry: NewEntry | None
    done: asyncio.Future[Receipt]
    cursors: dict[str, int] = field(default_factory=dict)
    notes: dict[str, bytes] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return len(self.entry.data) if self.entry else 0


@dataclass(frozen=True, slots=True)
class Batch:
    """What a subscriber gets next."""

    rows: Sequence[tuple[Row, tuple[bytes, ...]]]
    checkpoint: bytes
    consistency: tuple[bytes, ...]
    next_position: int


@dataclass(slots=True)
class Counters:
    """What the node did since it started."""

    taken: int = 0
    duplicates: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    groups: int = 0

    def refuse(self, reason: str) -> None:
        """Count a refusal by its rule."""
        self.refused[reason] = self.refused.get(reason, 0) + 1


class Node:
    """One node: its log, its documents, its readers.

    Args:
        name: "kr.the-hague-1".
        store: Its log; the node closes it.
        trust: Documents held; the node takes new ones into it and into the log.
        log_key: Signs checkpoints.
        clock: Milliseconds UTC.
    """

    def __init__(self, name: str, *, store: Store, trust: Trust, log_key: SigningKey, clock: Callable[[], int]) -> None:
        self.name = name
        self.origin = f"tocsin/{name}/1"
        self.store = store
        self.trust = trust
        self.admission = Admission(trust)
        self.counters = Counters()
        self._log_key = log_key
        self._clock = clock
        self._queue: deque[_Waiting] = deque()
        self._pending: dict[bytes, asyncio.Future[Receipt]] = {}
        self._heads: OrderedDict[bytes, tuple[int, bytes]] = OrderedDict()
        self._wake = threading.Condition()
        self._closing = False
        self._ending = False
        self._grown = asyncio.Event()
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="store-read")
        self._writer = threading.Thread(target=self._write_forever, name="store-write", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._note = b""
        # The writer thread's own: the loop learns of it a moment later, and must never be handed an older one.
        self._signed = b""
        self._failed: StoreError | None = None

    # ---- life

    async def start(self) -> None:
        """Load the documents from the log, sign the head, start the writer."""
        self._loop = asyncio.get_running_loop()
        await self._loop.run_in_executor(self._reader, self._load)
        self._writer.start()

    def _load(self) -> None:
        position = 0
        while True:
            rows, position_after = self.store.read(
                position, limit_bytes=READ_BYTES, limit_rows=READ_ROWS, desks=frozenset(), channels=None
            )
            for row in rows:
                if row.kind == pb.ENTRY_KIND_DOCUMENT:
                    try:
                        self.trust.take(documents.decode(row.data), now_ms=self._clock())
                    except PeerError as error:
                        # A status older than one already held, or a card of a past week: it was right in its time.
                        self.counters.refuse(error.reason)
            if position_after <= position:
                break
            position = position_after
        self._note = self._signed = self._sign(self.store.size())

    async def stop(self) -> None:
        """Finish what waits, then close the store."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        loop = asyncio.get_running_loop()
        if self._writer.is_alive():
            await loop.run_in_executor(None, self._writer.join)
        self._grown.set()
        self._reader.shutdown(wait=True)
        self.store.close()

    # ---- taking

    async def publish(
        self, data: bytes, *, by: str | None, now_ms: int, identity: bytes | None = None
    ) -> tuple[bytes, asyncio.Future[Receipt]]:
        """Check one envelope and queue it; returns its id and a future that resolves once it is durable.

        Args:
            data: Encoded Envelope.
            by: The calling desk, which must be the sender; None when a followed log brought it.
            now_ms: Milliseconds UTC.
            identity: The id it must have, when a followed log claims one.

        Raises:
            PeerError: Names the rule; nothing is kept.
        """
        try:
            parsed = envelope.parse(data)
            if identity not in (None, parsed.id):
                raise ProofError("the leaf is not that envelope")
            return parsed.id, await self._publish(parsed, by, now_ms)
        except TocsinError as error:
            self.counters.refuse(error.reason)
            raise

    def move_cursor(self, origin: str, position: int, note: bytes) -> asyncio.Future[Receipt]:
        """Remember how far another log was followed and the checkpoint seen there, no earlier than what was queued before.

        The log may never shrink or fork afterwards.
        """
        return self._enqueue(None, {origin: position}, {origin: note})

    async def _publish(self, parsed: envelope.Parsed, by: str | None, now_ms: int) -> asyncio.Future[Receipt]:
        if (known := await self._known(parsed.id)) is not None:
            return known
        # A followed log is not turned away: its follower waits for each batch before it takes the next.
        if by is not None and len(self._queue) >= MAX_WAITING:
            raise LimitError(f"{len(self._queue)} envelopes wait for the disk")
        answered = await self._answered(parsed) if parsed.outer.header else {}
        admitted = self.admission.admit(parsed, now_ms=now_ms, answered=answered.get, from_log=by is None)
        header = admitted.header
        if by is not None:
            if header.sender != by:
                raise IdentityError(f"{by} publishes an envelope signed by another desk", caller=by)
            head = await self._head(header.stream)
        # While the disk was read the same envelope may have come on another stream of the same desk.
        if parsed.id in self._pending:
            return self._pending[parsed.id]
        if by is not None:
            try:
                check_stream(header, head)
            except StreamError:
                if (known := await self._known(parsed.id)) is not None:
                    return known
                raise
        # No waiting from here on: what was checked is what is queued.
        self._remember(header.stream, header.seq, parsed.id)
        return self._enqueue(
            NewEntry(
                kind=pb.ENTRY_KIND_ENVELOPE,
                id=parsed.id,
                data=parsed.data,
                stream=header.stream,
                seq=header.seq,
                channel=header.channel,
                audience=tuple(reader.desk for reader in header.audience),
                sender=header.sender,
                create_time_ms=header.create_time_ms,
            ),
        )

    async def _answered(self, parsed: envelope.Parsed) -> dict[bytes, env.Header]:
        """The header an answer names, read before admission, which does no I/O. Unverified bytes only choose a row."""
        hint = env.Header()
        try:
            hint.ParseFromString(parsed.outer.header)
        except DecodeError:
            return {}
        if len(hint.answers) != 32:
            return {}
        position = await self._read(self.store.position_of, hint.answers)
        if position is None:
            return {}
        row = await self._read(self.store.get, position)
        return {hint.answers: parse_canonical(env.Header, header_bytes(row))} if row else {}

    async def take_documents(self, encoded: Iterable[bytes], *, now_ms: int) -> list[tuple[bytes, TocsinError | None]]:
        """Take documents into trust and log; each is answered for itself, one bad one stops no other."""
        results: list[tuple[bytes, TocsinError | None]] = []
        receipts = []
        for data in encoded:
            try:
                taken = self.trust.take(documents.decode(data), now_ms=now_ms)
            except TocsinError as error:
                self.counters.refuse(error.reason)
                results.append((digest(data), error))
                continue
            if taken.new or await self._unlogged(taken.document.digest):
                receipts += [self._enqueue(_document_entry(document)) for document in self._newly_held(taken.document)]
            results.append((taken.document.digest, None))
        if receipts:
            await asyncio.gather(*receipts)
        return results

    async def _unlogged(self, identity: bytes) -> bool:
        """Whether a document is held in memory only: the disk failed when it came."""
        if identity in self._pending or not self.trust.holds(identity):
            return False
        return await self._read(self.store.position_of, identity) is None and identity not in self._pending

    def _newly_held(self, document: documents.Document) -> list[documents.Document]:
        """What a document brought into the log: the first agreement brings the party documents it waited for."""
        if not self.trust.holds(document.digest):
            return []
        if document.type == "tocsin/1/agreement" and document.digest == self.trust.lineage:
            return list(self.trust.documents())
        return [document]

    def _enqueue(
        self, entry: NewEntry | None, cursors: dict[str, int] | None = None, notes: dict[str, bytes] | None = None
    ) -> asyncio.Future[Receipt]:
        assert self._loop is not None  # noqa: S101 - start() sets it
        done: asyncio.Future[Receipt] = self._loop.create_future()
        if entry is not None:
            self._pending[entry.id] = done
        waiting = _Waiting(entry, done, cursors or {}, notes or {})
        with self._wake:
            if (error := self._failed) is None:
                self._queue.append(waiting)
                self._wake.notify()
        if error is not None:
            self._fail([waiting], error)
        return done

    async def _head(self, stream: bytes) -> tuple[int, bytes] | None:
        if stream in self._heads:
            return self._heads[stream]
        last: tuple[int, bytes] | None = await self._read(self.store.last_in_stream, stream)
        # Another publish of the same stream may have been queued while the disk was read.
        return self._heads.get(stream, last)

    def _remember(self, stream: bytes, seq: int, identity: bytes) -> None:
        held = self._heads.get(stream)
        if held is None or held[0] < seq:
            self._heads[stream] = (seq, identity)
        self._heads.move_to_end(stream)
        while len(self._heads) > CACHED_STREAMS:
            self._heads.popitem(last=False)

    async def _known(self, identity: bytes) -> asyncio.Future[Receipt] | None:
        """The receipt of an envelope that is queued or kept."""
        assert self._loop is not None  # noqa: S101 - start() sets it
        if identity in self._pending:
            return self._pending[identity]
        position = await self._read(self.store.position_of, identity)
        # Durable, but the checkpoint that covers it is not yet published: the writer is about to answer.
        if identity in self._pending:
            return self._pending[identity]
        if position is None:
            return None
        self.counters.duplicates += 1
        note = self._note
        size = checkpoint.parse(note).size
        proof = tuple(await self._read(self.store.inclusion, position, size))
        done: asyncio.Future[Receipt] = self._loop.create_future()
        done.set_result(Receipt(identity, position, proof, note))
        return done

    # ---- the writer thread

    def _write_forever(self) -> None:
        while True:
            with self._wake:
                while not self._queue and not self._closing:
                    self._wake.wait()
                if not self._queue:
                    return
                group: list[_Waiting] = []
                size = 0
                while self._queue and (not group or size + self._queue[0].size <= GROUP_BYTES):
                    group.append(self._queue.popleft())
                    size += group[-1].size
            self._write(group)

    def _write(self, group: list[_Waiting]) -> None:
        assert self._loop is not None  # noqa: S101 - start() sets it
        cursors = {origin: position for waiting in group for origin, position in waiting.cursors.items()}
        try:
            notes = {origin: note for waiting in group for origin, note in waiting.notes.items()}
            entries = [waiting.entry for waiting in group if waiting.entry]
            positions = iter(self.store.append(entries, cursors=cursors, notes=notes))
            size = self.store.size()
            # Compared with what was signed, not with the size before: an append may have held and its signing failed.
            if size != checkpoint.parse(self._signed).size:
                self._signed = self._sign(size)
            note = self._signed
            receipts = [self._receipt(waiting.entry, positions, size, note) for waiting in group]
        except Exception as cause:
            error = cause if isinstance(cause, StoreError) else StoreError(f"the writer failed: {cause}")
            with self._wake:
                # What waits was checked against what was just lost; nothing more is queued until that is forgotten.
                self._failed = error
                group += self._queue
                self._queue.clear()
            self._loop.call_soon_threadsafe(self._recover, group, error)
            return
        self._loop.call_soon_threadsafe(self._written, group, receipts, note)

    def _receipt(self, entry: NewEntry | None, positions: Iterator[int], size: int, note: bytes) -> Receipt:
        if entry is None:
            return Receipt(b"", 0, (), note)
        position = next(positions)
        return Receipt(entry.id, position, tuple(self.store.inclusion(position, size)), note)

    def _sign(self, size: int) -> bytes:
        return checkpoint.sign(
            self.origin, size, self.store.root(size), self._log_key, name=self.name, time_ms=self._clock()
        )

    def _written(self, group: list[_Waiting], receipts: list[Receipt], note: bytes) -> None:
        grown = note is not self._note
        self._note = note
        self.counters.groups += 1
        self.counters.taken += sum(waiting.entry is not None for waiting in group)
        for waiting, receipt in zip(group, receipts, strict=True):
            if waiting.entry is not None:
                self._pending.pop(waiting.entry.id, None)
            if not waiting.done.done():
                waiting.done.set_result(receipt)
        if grown:
            self._grown.set()
            self._grown = asyncio.Event()

    def _recover(self, group: list[_Waiting], error: StoreError) -> None:
        log.error("cannot write the log", text=str(error), entries=len(group))
        self._fail(group, error)
        self._failed = None

    def _fail(self, group: list[_Waiting], error: StoreError) -> None:
        # Nothing of the group was kept; forget what we believed of its streams, so that a resend is judged by the disk.
        self._heads.clear()
        for waiting in group:
            if waiting.entry is not None:
                self._pending.pop(waiting.entry.id, None)
            if not waiting.done.done():
                waiting.done.set_exception(error)

    # ---- reading

    async def _read(self, call: Callable[..., T], *args: object) -> T:
        assert self._loop is not None  # noqa: S101 - start() sets it
        return await self._loop.run_in_executor(self._reader, call, *args)

    @property
    def checkpoint(self) -> bytes:
        """The newest signed head of this log."""
        return self._note

    async def stored_checkpoint(self, origin: str) -> bytes:
        """The newest checkpoint of a log: our own, or the last we saw of another; empty when unknown."""
        if origin in ("", self.origin):
            return self._note
        return await self._read(self.store.note, origin) or b""

    async def proof(self, leaf: bytes, size: int, from_size: int) -> pb.GetProofResponse:
        """Inclusion and consistency proofs.

        Raises:
            LimitError: A size beyond the log.
        """
        size = size or checkpoint.parse(self._note).size
        response = pb.GetProofResponse(size=size)
        if size > checkpoint.parse(self._note).size or from_size > size:
            raise LimitError("the log is shorter than that")
        if leaf:
            position = await self._read(self.store.position_of, leaf)
            if position is None or position >= size:
                raise LimitError("the leaf is not in that tree")
            response.position = position
            response.inclusion.extend(await self._read(self.store.inclusion, position, size))
        if from_size:
            response.consistency.extend(await self._read(self.store.consistency, from_size, size))
        return response

    async def prove(self, positions: Sequence[int]) -> tuple[list[tuple[bytes, ...]], bytes]:
        """Inclusion proofs of several entries in the newest signed tree, and its note."""
        note = self._note
        size = checkpoint.parse(note).size
        proofs = await self._read(lambda: [tuple(self.store.inclusion(position, size)) for position in positions])
        return proofs, note

    async def add_cosignature(self, note: bytes, *, by: str) -> None:
        """Keep another node's signature under one of our checkpoints.

        Raises:
            IdentityError: The caller is no node of another party.
            ProofError: Not one of our checkpoints, or not signed by the caller.
        """
        cosigner = self.trust.node(by)
        if cosigner is None or party_of(by) == party_of(self.name):
            raise IdentityError("only a node of another party cosigns", caller=by)
        seen = checkpoint.verify(note, self._log_key.suite, self._log_key.public, name=self.name)
        checkpoint.verify_cosignature(note, cosigner.log_key.suite, cosigner.log_key.key, name=by)
        size = await self._read(self.store.size)
        if seen.origin != self.origin or seen.size > size or await self._read(self.store.root, seen.size) != seen.root:
            raise ProofError("the cosigned checkpoint is none of this log")
        await self._read(self.store.set_note, f"{self.origin}+{by}", note)

    async def cursor(self, origin: str) -> int:
        """Next position wanted of another log."""
        return await self._read(self.store.cursor, origin)

    def cosign(self, note: bytes) -> bytes:
        """Our signature under another log's checkpoint, which the follower verified and persisted."""
        return checkpoint.cosign(note, self._log_key, name=self.name)

    async def park(self, entry: pb.Entry, origin: str, error: TocsinError) -> None:
        """Keep an entry whose documents are missing, bounded, until they come."""
        await self._read(self.store.park, entry.leaf, entry.data, origin, entry.position, error.reason)

    async def retry_parked(self, now_ms: int) -> None:
        """Try the parked entries again after a document came."""
        for parked in await self._read(lambda: list(self.store.parked())):
            try:
                _, receipt = await self.publish(parked.data, by=None, now_ms=now_ms, identity=parked.id)
                await receipt
            except WAITS:
                continue
            except PeerError as error:
                log.warning("parked entry refused", origin=parked.origin, reason=error.reason)
            await self._read(self.store.unpark, parked.id)

    async def record_refusal(self, entry: pb.Entry, origin: str, error: TocsinError) -> None:
        """Keep the fact that a followed entry was refused: position, id and rule."""
        record = RefusalRecord(origin, entry.position, entry.leaf, error.reason, self._clock())
        await self._read(self.store.record_refusal, record)

    async def prune(self, channel: str, before_ms: int, strip: Callable[[bytes], bytes]) -> int:
        """Apply the retention rule of a channel; leaves stay."""
        return await self._read(self.store.prune, channel, before_ms, strip)

    def wake_readers(self) -> None:
        """End live subscriptions: the node is about to stop."""
        self._ending = True
        self._grown.set()

    def readable_by(self, caller: str) -> frozenset[str]:
        """Desks whose envelopes a caller may fetch: itself; for a node, the desks of missions it hosts or relays."""
        if "/" in caller:
            return frozenset({caller})
        node = self.trust.node(caller)
        hosted = self.trust.hosted(caller)
        if node is None or not node.relays:
            return hosted
        view = self.trust.roster(party_of(caller))
        return hosted | {desk.name for desk in view.desks.values() if desk.mission in node.relays}

    async def subscribe(
        self, caller: str, *, position: int, channels: frozenset[str] | None, follow: bool
    ) -> AsyncGenerator[Batch, None]:
        """Entries from a position on, each with its inclusion proof in the batch's checkpoint; then live.

        Ends at the newest entry unless `follow`. Sends an empty batch as a heartbeat when nothing happens.
        """
        sent_size: int | None = None
        while not self._ending:
            grown = self._grown
            note = self._note
            size = checkpoint.parse(note).size
            desks = self.readable_by(caller)
            batch = await self._read(self._batch, position, note, size, sent_size or 0, desks, channels)
            if batch.rows or batch.next_position > position or sent_size is None:
                yield batch
                sent_size, position = size, batch.next_position
                continue
            if not follow:
                return
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await grown.wait()
            except TimeoutError:
                yield Batch((), note, (), position)

    def _batch(
        self,
        position: int,
        note: bytes,
        size: int,
        sent_size: int,
        desks: frozenset[str],
        channels: frozenset[str] | None,
    ) -> Batch:
        """All that a batch needs of the store, in one visit to its thread."""
        rows, after = self.store.read(
            position, limit_bytes=READ_BYTES, limit_rows=READ_ROWS, desks=desks, channels=channels
        )
        proved = [(row, tuple(self.store.inclusion(row.position, size))) for row in rows if row.position < size]
        consistency = tuple(self.store.consistency(sent_size, size)) if 0 < sent_size < size else ()
        return Batch(proved, note, consistency, max(min(after, size), position))


def header_bytes(row: Row) -> bytes:
    """The header of a stored envelope, whole or pruned."""
    kind = env.Pruned if row.pruned else env.Envelope
    message = kind()
    message.ParseFromString(row.data)
    return message.header


def _document_entry(document: documents.Document) -> NewEntry:
    return NewEntry(
        kind=pb.ENTRY_KIND_DOCUMENT,
        id=document.digest,
        data=document.encode(),
        stream=b"",
        seq=0,
        channel="",
        audience=(),
        sender="",
        create_time_ms=0,
    )
