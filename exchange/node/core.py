"""The node behind its service: admission, the writer, documents, witnesses. Knows nothing of gRPC, TLS or threads.

The event loop checks envelopes and hands them to the writer (exchange/node/writer.py), which commits all that wait in one
transaction, signs one checkpoint, and answers everyone in the group. Receipts exist only after that.
"""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from typing import Final, TypeVar, TypeVarTuple

import structlog

from exchange import checkpoint, history
from exchange.admission import Admission
from exchange.errors import LimitError, ProofError, StaleError, StoreError
from exchange.history import Seen
from exchange.node.claims import Claims
from exchange.node.clashes import Clashes
from exchange.node.entries import document_entry
from exchange.node.forks import ShownFork
from exchange.node.intake import Counters, Intake, Preview
from exchange.node.logkeys import LogKeys
from exchange.node.mending import Mending
from exchange.node.places import Places
from exchange.node.positions import Positions
from exchange.node.quota import Quotas
from exchange.node.reading import Batch, Readers
from exchange.node.refusals import Refusals, refused_id
from exchange.node.witness import Witnesses
from exchange.node.writer import Receipt, Waiting, Writer
from exchange.standing import Position
from exchange.store.contract import RefusalRecord, Store
from exchange.v1 import exchange_pb2 as pb
from exchange.workers import Workers
from keys import documents
from keys.encoding import digest
from keys.errors import PeerError, TocsinError, UsageError
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
        self._followed: dict[str, str] = {}
        self._awaited: dict[str, asyncio.Event] = {}
        self.log_keys = LogKeys(name, trust, [log_key], clock=clock)
        self.witnesses = Witnesses(name, self.origin, store=store, trust=trust, log_keys=self.log_keys, workers=workers)
        self._clock = clock
        self._workers = workers
        self._signer = signer or workers
        self.quotas = quotas or Quotas()
        self.claims = Claims(self.origin, store)
        self.clashes = Clashes(store, workers)
        self._refusals = Refusals(name, trust=trust, keys=self.log_keys, quotas=self.quotas)
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

        self.places = Places(
            store,
            workers,
            head=lambda: (self._writer.note, self._writer.size),
            readable=self.readable_by,
            is_node=lambda peer: self.trust.node(peer) is not None,
        )
        self.positions = Positions(
            store, trust, self.witnesses, workers, head=lambda: (self._writer.note, self._writer.size)
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
        for origin in self.store.cursors():
            peer = node_of(origin)
            if history.number_of(origin, peer) > history.number_of(self.followed(peer), peer):
                self._followed[peer] = origin
        self.witnesses.load()
        self.clashes.load()
        held = self.claims.load()
        # It stands in a later log of ours, or the right disk is back.
        if held is not None and not self.holds_head(held.head):
            self._stand_back(held)

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

    # ---- heads of our own log that others saw

    async def heard(self, note: bytes, *, by: str) -> None:
        """Others show a head that this node signed. If our log does not hold it, nothing is appended any more.

        A head that an ended key signed and no node vouches for is only told to people (Witnesses.vouch).

        Args:
            note: A checkpoint of this node, as it is shown.
            by: Who shows it.

        Raises:
            ProofError: This node did not sign it.
        """
        head = checkpoint.parse(note)
        ours = history.number_of(self.origin, self.name)
        number = history.number_of(head.origin, self.name)
        if number < ours or (number == ours and await self._read(self.holds_head, head)):
            return
        checkpoint.verify_any(note, self.log_keys.ever(), name=self.name)
        if not self.witnesses.vouch(note, by=by):
            self.claims.doubt(by, head)
            return
        self.claims.note(by, head.size, self._writer.size)
        if await self._read(self.claims.prove, Seen(head, note)):
            self._stand_back(Seen(head, note))

    def holds_head(self, head: checkpoint.Checkpoint) -> bool:
        """Whether our log extends a head; blocks."""
        return head.origin == self.origin and head.size <= self.store.size() and self.store.root(head.size) == head.root

    def _stand_back(self, seen: Seen) -> None:
        held, head = self._writer.durable_size or self.store.size(), seen.head
        self._writer.bar(
            StoreError(
                f"{head.origin} was seen with {head.size} entries, signed by this node, and what is here, {held} of "
                f"{self.origin}, does not hold them: was the disk restored from a backup?",
                hint="stop the node, then `tocsin node new-log DIRECTORY`; see Disaster in docs/OPERATIONS.md",
            )
        )

    @property
    def barred(self) -> StoreError | None:
        """Why nothing is appended: others saw more of our log than we hold; None = all is well."""
        return self._writer.barred

    # ---- logs of others

    def followed(self, peer: str) -> str:
        """Origin of the log of a peer that is followed: the first, or the newest that was found to continue it."""
        return self._followed.get(peer, history.origin_of(peer, 1))

    def follows(self, peer: str, origin: str) -> None:
        """Another log of a peer is followed from now on; its cursor and checkpoint are durable."""
        self._followed[peer] = origin

    async def accept(self, origin: str) -> None:
        """Follow a peer's log though it does not continue the one that was seen: a person decided. The evidence stays.

        Raises:
            UsageError: No such log was refused.
        """
        peer = node_of(origin) if origin.count("/") == 2 else ""
        shown = [clash.shown for clash in self.clashes.held if clash.shown.head.origin == origin]
        ours = self.followed(peer)
        if not shown or history.number_of(origin, peer) <= history.number_of(ours, peer):
            raise UsageError(
                f"no log {origin!r} after {ours} was refused", hint="see `clashes` of `tocsin node status`"
            )
        newest = max(shown, key=lambda seen: seen.head.size)
        await self._writer.enqueue(None, {origin: 0}, {origin: newest.note}).durable
        self.follows(peer, origin)

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
        """Take documents into trust and log; each is answered for itself, one bad one stops no other.

        Args:
            encoded: Signed documents.
            now_ms: Milliseconds UTC.
            by: The caller that offers them; empty when they are our own or a followed log's.
            origin: The followed log that holds them.

        Raises:
            StoreError: The disk failed.
        """
        if (barred := self._writer.barred) is not None:
            # An answer, not a failed call: who offers them goes on, and tells us what it saw of our log.
            return [(digest(data), barred) for data in encoded]
        results: list[tuple[bytes, TocsinError | None]] = []
        kept = []
        for data in encoded:
            try:
                if by:
                    self.quotas.take(by, {"documents": 1}, now_ms)
                taken = self.trust.take(documents.decode(data), now_ms=now_ms)
            except TocsinError as error:
                self.counters.refuse(error.reason)
                results.append((digest(data), error))
                continue
            if taken.new or await self._unlogged(taken.document.digest):
                await self.positions.freeze(taken.document.digest)
                if taken.document.type == "tocsin/1/roster":
                    self.log_keys.refresh()
                kept += [
                    self._writer.enqueue(document_entry(document, taken_ms=now_ms, origin=origin)).durable
                    for document in self._newly_held(taken.document)
                ]
            results.append((taken.document.digest, None))
        if kept:
            await asyncio.gather(*kept)
        return results

    def _peers(self) -> list[str]:
        nodes = self.trust.nodes() if self.trust.founded else ()
        return sorted({node.node for node in nodes} - {self.name})

    async def _regain(self, kind: int, data: bytes) -> None:
        """An entry is whole again that was not when the documents were loaded."""
        if kind == pb.ENTRY_KIND_DOCUMENT:
            await self.take_documents([data], now_ms=self._clock())

    def kept_documents(self) -> list[documents.Document]:
        """The documents up to the first that the log does not hold yet: what is shown must not be gone after a crash."""
        held = self.trust.documents()
        return list(itertools.takewhile(lambda document: document.digest not in self._writer.unkept, held))

    async def holds(self, leaf: bytes) -> bool:
        """Whether the log has an entry on disk."""
        return await self._read(self.store.position_of, leaf) is not None

    async def _unlogged(self, identity: bytes) -> bool:
        """Whether a document is held in memory only: the disk failed when it came."""
        if identity in self._writer.pending or not self.trust.holds(identity):
            return False
        return await self._read(self.store.position_of, identity) is None and identity not in self._writer.pending

    def _newly_held(self, document: documents.Document) -> list[documents.Document]:
        """What a document brought into the log: the first agreement brings the party documents it waited for."""
        if not self.trust.holds(document.digest):
            return []
        if document.type == "tocsin/1/agreement" and document.digest == self.trust.lineage:
            return list(self.trust.documents())
        return [document]

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
        newest = self._followed.get(node_of(origin), origin) if origin.count("/") == 2 else origin
        return await self.stored_checkpoint(newest) if newest != origin else b""

    async def proof(self, leaf: bytes, size: int, from_size: int) -> pb.GetProofResponse:
        """Inclusion and consistency proofs.

        Raises:
            LimitError: A size beyond the log.
        """
        signed = self._writer.size
        size = size or signed
        response = pb.GetProofResponse(size=size)
        if size > signed or from_size > size:
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
        note, size = self._writer.note, self._writer.size
        proofs = await self._read(lambda: [tuple(self.store.inclusion(position, size)) for position in positions])
        return proofs, note

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
                await (await self.refuse(entry, parked.origin, error)).durable
            await self._read(self.store.unpark, parked.id)

    async def refuse(self, entry: pb.Entry, origin: str, error: TocsinError) -> Waiting:
        """Keep the fact that a followed entry was refused, and tell its sender through our log."""
        now_ms, peer = self._clock(), node_of(origin)
        record = RefusalRecord(origin, entry.position, entry.leaf, error.reason, now_ms)
        draft = self._refusals.draft(entry, origin, peer, self.readable_by(peer), error, now_ms)
        said = await self._signer.run(self._refusals.sign, draft) if draft else None
        return self._writer.enqueue(said, refusals=[record])

    async def take_refusal(self, entry: pb.Entry, origin: str) -> Waiting | None:
        """Keep for a desk of ours that another node refused its envelope; None when it is kept already.

        Raises:
            PeerError: Not a refusal of an envelope of that desk that we hold.
        """
        if entry.leaf in self._writer.pending or await self._read(self.store.position_of, entry.leaf) is not None:
            return self._writer.pending.get(entry.leaf)
        serves = self.readable_by(self.name)
        taken = self._refusals.take(entry, origin, node_of(origin), serves, self._clock())
        (desk,) = taken.audience
        refused = refused_id(taken.data)
        position = await self._read(self.store.position_of, refused)
        row = None if position is None else await self._read(self.store.get, position)
        if row is None or row.sender != desk:
            raise ProofError("the refusal is of an envelope that the desk did not send through this node")
        return self._writer.pending.get(taken.id) or self._writer.enqueue(taken)

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
        without = "" if "/" in caller or echo else self.followed(caller)
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


def node_of(origin: str) -> str:
    """The node that keeps a log."""
    return origin.split("/")[1]
