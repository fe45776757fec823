"""The node behind its service: admission, the writer, documents, witnesses. Knows nothing of gRPC, TLS or threads.

The event loop checks envelopes and hands them to the writer (exchange/node/writer.py), which commits all that wait in one
transaction, signs one checkpoint, and answers everyone in the group. Receipts exist only after that.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Final, TypeVar, TypeVarTuple

import structlog

from exchange import checkpoint, history
from exchange.admission import Admission
from exchange.errors import StaleError, StoreError
from exchange.node.claims import Claims, Hearing
from exchange.node.clashes import Clashes
from exchange.node.documents import Documents
from exchange.node.followed import Followed
from exchange.node.forks import ShownFork
from exchange.node.intake import Counters, Intake, Preview
from exchange.node.logkeys import LogKeys
from exchange.node.mending import Mending
from exchange.node.places import Places
from exchange.node.positions import Positions
from exchange.node.quota import Quotas
from exchange.node.reading import Batch, Readers
from exchange.node.refusals import Refusals
from exchange.node.witness import Witnesses
from exchange.node.writer import Receipt, Waiting, Writer
from exchange.standing import Position
from exchange.store.contract import Store
from exchange.v1 import exchange_pb2 as pb
from exchange.workers import Workers
from keys import documents
from keys.errors import PeerError, TocsinError
from keys.suite import Signer
from keys.trust import MissingDocumentError, Trust, party_of

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")
log = structlog.get_logger("tocsin.node")
LOADED_BYTES: Final = 1_000_000
LOADED_ROWS: Final = 256
CACHED_NODES: Final = 256
WAITS: Final = (MissingDocumentError, StaleError)
"""Refusals that a document to come can lift."""


class Node:
    """One node: its log, its documents, its readers.

    Args:
        name: "kr.the-hague-1".
        store: Its log; the node closes it.
        trust: Documents held; the node takes new ones into it and into the log.
        log_key: Signs checkpoints; `log_keys.hold` brings others.
        clock: Milliseconds UTC.
        workers: Read the store.
        disk: Commit; one call at a time. `workers` when absent.
        signer: Sign checkpoints; one call at a time. `workers` when absent.
        quotas: How much one caller may ask for over time.
    """

    def __init__(
        self,
        name: str,
        *,
        store: Store,
        trust: Trust,
        log_key: Signer,
        clock: Callable[[], int],
        workers: Workers,
        disk: Workers | None = None,
        signer: Workers | None = None,
        quotas: Quotas | None = None,
    ) -> None:
        self.name = name
        self.origin = origin_in(store, name)
        self.store = store
        self.trust = trust
        self.admission = Admission(trust)
        self.counters = Counters()
        self._readable: dict[tuple[str, int], frozenset[str]] = {}
        self._awaited: dict[str, asyncio.Event] = {}
        self.log_keys = LogKeys(name, trust, [log_key], clock=clock)
        self.witnesses = Witnesses(name, self.origin, store=store, trust=trust, log_keys=self.log_keys, workers=workers)
        self._clock = clock
        self._workers = workers
        self._signer = signer or workers
        self.quotas = quotas or Quotas()
        self.claims = Claims(self.origin, store)
        self.clashes = Clashes(store, workers)
        self.mending = Mending(store, workers, peers=self._peers, mended=self._regain)
        self.readers = Readers(store, workers, head=lambda: self._writer.note, mending=self.mending)
        self._writer = Writer(
            store,
            sign=self._sign,
            disk=disk or workers,
            signer=self._signer,
            grown=self.readers.wake,
            lost=self._forget,
        )
        self._intake = Intake(
            store=store,
            writer=self._writer,
            admission=self.admission,
            readers=self.readers,
            quotas=self.quotas,
            counters=self.counters,
            workers=workers,
        )
        self.followed = Followed(store, self.clashes, self._writer)
        self.refusals = Refusals(
            name,
            trust=trust,
            keys=self.log_keys,
            quotas=self.quotas,
            readable=self.readable_by,
            store=store,
            writer=self._writer,
            workers=workers,
            signer=self._signer,
            clock=clock,
        )
        self.hearing = Hearing(
            name,
            self.origin,
            store=store,
            claims=self.claims,
            witnesses=self.witnesses,
            log_keys=self.log_keys,
            writer=self._writer,
            workers=workers,
        )
        self.places = Places(
            store,
            workers,
            head=lambda: (self._writer.note, self._writer.size),
            readable=self.readable_by,
            is_node=lambda peer: self.trust.node(peer) is not None,
            relaying=trust.relaying,
            name=name,
        )
        self.positions = Positions(
            store, trust, self.witnesses, workers, head=lambda: (self._writer.note, self._writer.size)
        )
        self.documents = Documents(
            store,
            trust,
            positions=self.positions,
            log_keys=self.log_keys,
            writer=self._writer,
            quotas=self.quotas,
            counters=self.counters,
            workers=workers,
        )

    # ---- life

    async def start(self) -> None:
        """Load the documents from the log, sign the head, start the writer."""
        await self._workers.run(self._load)
        self.log_keys.refresh()
        await self._writer.start()

    def _load(self) -> None:
        position = 0
        while True:
            rows, position_after = self.store.read(
                position, limit_bytes=LOADED_BYTES, limit_rows=LOADED_ROWS, desks=frozenset(), channels=None
            )
            self.mending.note(rows)
            for row in rows:
                if row.kind == pb.ENTRY_KIND_DOCUMENT and not row.damaged:
                    try:
                        taken_ms = row.create_time_ms or None
                        self.trust.take(documents.decode(row.data), now_ms=self._clock(), taken_ms=taken_ms)
                    except PeerError as error:
                        # A status older than one already held, or a card of a past week: it was right in its time.
                        self.counters.refuse(error.reason)
            if position_after <= position:
                break
            position = position_after
        self.followed.load()
        self.witnesses.load()
        self.clashes.load()
        self.hearing.load()

    async def stop(self) -> None:
        """Finish what waits, then close the store."""
        await self._writer.stop()
        self.readers.end()
        await self._workers.run(self.store.close)

    def wake_readers(self) -> None:
        """End live subscriptions: the node is about to stop."""
        self.readers.end()

    def _forget(self) -> None:
        """The disk failed: a resend is judged by it, not by what we believed, and what was sent early is lost."""
        self._intake.forget()
        self.readers.cut()

    def _sign(self, size: int) -> bytes:
        return self.log_keys.sign(self.origin, size, self.store.root(size))

    @property
    def barred(self) -> StoreError | None:
        """Why nothing is appended: others saw more of our log than we hold; None = all is well."""
        return self._writer.barred

    # ---- taking

    async def publish(self, data: bytes, *, by: str, now_ms: int) -> tuple[bytes, asyncio.Future[Receipt]]:
        """See Intake.publish."""
        self._writer.require_open()
        return await self._intake.publish(data, by=by, now_ms=now_ms)

    async def preview(self, data: bytes, *, origin: str, now_ms: int) -> Preview:
        """See Intake.preview."""
        return await self._intake.preview(data, origin=origin, now_ms=now_ms)

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
        """See Intake.follow."""
        self._writer.require_open()
        return await self._intake.follow(
            data, identity, origin=origin, now_ms=now_ms, preview=preview, place=place, losses=losses
        )

    @property
    def losses(self) -> int:
        """See Writer.losses."""
        return self._writer.losses

    def move_cursor(self, origin: str, position: int, note: bytes, *, losses: int | None = None) -> Waiting:
        """Remember how far another log was followed and the checkpoint seen there, no earlier than what was queued before.

        The log may never shrink or fork afterwards.
        """
        return self._writer.enqueue(None, {origin: position}, {origin: note}, losses=losses)

    def pass_by(self, origin: str, position: int, note: bytes) -> None:
        """Like `move_cursor`, past nothing of ours: kept soon, not at once."""
        self._writer.remember(origin, position, note)

    # ---- documents

    async def take_documents(
        self, encoded: Iterable[bytes], *, now_ms: int, by: str = "", origin: str = ""
    ) -> list[tuple[bytes, TocsinError | None]]:
        """See Documents.take."""
        return await self.documents.take(encoded, now_ms=now_ms, by=by, origin=origin)

    def _peers(self) -> list[str]:
        nodes = self.trust.nodes() if self.trust.founded else ()
        return sorted({node.node for node in nodes} - {self.name})

    async def _regain(self, kind: int, data: bytes) -> None:
        """An entry is whole again that was not when the documents were loaded."""
        if kind == pb.ENTRY_KIND_DOCUMENT:
            await self.take_documents([data], now_ms=self._clock())

    async def holds(self, leaf: bytes) -> bool:
        """Whether the log has an entry on disk."""
        return await self._read(self.store.position_of, leaf) is not None

    # ---- proofs

    async def _read(self, call: Callable[[*Arguments], T], *args: *Arguments) -> T:
        return await self._workers.run(call, *args)

    @property
    def taken(self) -> int:
        """Entries taken since the start."""
        return self._writer.taken

    @property
    def forks(self) -> int:
        """Forks of streams found since the start."""
        return self._intake.forks.count

    async def shown_forks(self, caller: str, start: int) -> tuple[list[ShownFork], int, bytes]:
        """Forks of which a caller may read both envelopes, from a number on; the number to go on from, and a checkpoint."""
        note, size = self._writer.note, self._writer.size
        shown, after = await self._read(self._intake.forks.shown, self.readable_by(caller), start, size)
        return shown, after, note

    @property
    def checkpoint(self) -> bytes:
        """The newest signed head of this log."""
        return self._writer.note

    async def stored_checkpoint(self, origin: str) -> bytes:
        """The newest checkpoint of a log: our own, or the last we saw of another; empty when unknown."""
        if origin in ("", self.origin):
            return self.witnesses.under(self._writer.note)
        return await self._read(self.store.note, origin) or b""

    async def later_checkpoint(self, origin: str) -> bytes:
        """The newest checkpoint seen of the log that continues one of another node; empty when that one is not over."""
        newest = self.followed.after(origin)
        return await self.stored_checkpoint(newest) if newest != origin else b""

    def own_endings(self) -> frozenset[bytes]:
        """What a log must hold before this node cosigns it: the documents that ended keys of its own party."""
        return self.trust.party_endings(party_of(self.name))

    def cosign(self, note: bytes) -> bytes:
        """Our signature under another log's checkpoint, which the follower verified and persisted."""
        return self.log_keys.cosign(note)

    # ---- other logs

    async def pause(self, peer: str, seconds: float, *, unreached: bool) -> bool:
        """Wait before a peer is asked again; whether it ended early, because the peer asked us: it is back.

        Only where it could not be reached: two nodes that refuse each other's logs must not drive each other on.
        """
        back = asyncio.Event()
        if unreached:
            self._awaited[peer] = back
        try:
            async with asyncio.timeout(seconds):
                await back.wait()
            return True
        except TimeoutError:
            return False
        finally:
            self._awaited.pop(peer, None)

    async def cursor(self, origin: str) -> int:
        """Next position wanted of another log."""
        return await self._read(self.store.cursor, origin)

    async def park(self, entry: pb.Entry, origin: str, error: TocsinError) -> None:
        """Keep an entry whose documents are missing, bounded, until they come."""
        await self._read(self.store.park, entry.leaf, entry.data, origin, entry.position, error.reason)

    async def retry_parked(self, now_ms: int) -> None:
        """Try the parked entries again after a document came."""
        for parked in await self._read(self.store.parked):
            try:
                taken = await self.follow(parked.data, parked.id, origin=parked.origin, now_ms=now_ms)
                if taken is not None:
                    await taken.durable
            except WAITS:
                continue
            except PeerError as error:
                log.warning("parked entry refused", origin=parked.origin, reason=error.reason)
                entry = pb.Entry(
                    position=parked.position, kind=pb.ENTRY_KIND_ENVELOPE, data=parked.data, leaf=parked.id
                )
                await (await self.refusals.refuse(entry, parked.origin, error)).durable
            await self._read(self.store.unpark, parked.id)

    async def prune(self, channel: str, before_ms: int, strip: Callable[[bytes], bytes]) -> int:
        """Apply the retention rule of a channel; leaves stay."""
        return await self._read(self.store.prune, channel, before_ms, strip)

    # ---- reading

    def readable_by(self, caller: str) -> frozenset[str]:
        """Desks whose envelopes a caller may fetch: itself; for a node, the desks of missions it hosts or relays."""
        if "/" in caller:
            return frozenset({caller})
        # Asked for each envelope and each reader; it changes with a roster.
        key = (caller, self.trust.version)
        if key not in self._readable:
            if len(self._readable) >= CACHED_NODES:
                self._readable.clear()
            self._readable[key] = self._readable_by_node(caller)
        return self._readable[key]

    def _readable_by_node(self, caller: str) -> frozenset[str]:
        node = self.trust.node(caller)
        hosted = self.trust.hosted(caller)
        if node is None or not node.relays:
            return hosted
        view = self.trust.roster(party_of(caller))
        return hosted | {desk.name for desk in view.desks.values() if desk.mission in node.relays}

    def subscribe(
        self,
        caller: str,
        *,
        position: int,
        channels: frozenset[str] | None,
        follow: bool,
        echo: bool = False,
        early: bool = False,
        seen_size: int = 0,
    ) -> AsyncGenerator[Batch, None]:
        """Entries from a position on, each with its inclusion proof in the batch's checkpoint; then live.

        Ends at the newest entry unless `follow`. A node is not sent what this one took from its own log, but for `echo`.
        What is verified and not yet durable comes too where `early`. The first answer proves consistency with `seen_size`.
        """
        if seen_size > self._writer.size:
            self.claims.note(caller, seen_size, self._writer.size)
        if caller in self._awaited:
            self._awaited[caller].set()
        without = "" if "/" in caller or echo else self.followed.of(caller)
        return self.readers.subscribe(
            caller,
            lambda: self.readable_by(caller),
            position=position,
            channels=channels,
            without=without,
            follow=follow,
            early=early,
            seen_size=seen_size,
        )


def origin_in(store: Store, node: str) -> str:
    """The name of a node's log in a store: it begins with the head of the log before it, or it is the first. Blocks.

    Raises:
        StoreError: The disk changed that entry, so nothing says which log this is.
    """
    first = store.get(0)
    if first is not None and first.damaged and first.kind != pb.ENTRY_KIND_DOCUMENT:
        raise StoreError("the disk changed the first entry of the log", hint="restore the store")
    if first is None or first.kind != pb.ENTRY_KIND_HEAD:
        return history.origin_of(node, 1)
    before = checkpoint.parse(first.data).origin
    return history.origin_of(node, history.number_of(before, node) + 1)
