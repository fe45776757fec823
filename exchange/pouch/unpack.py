"""Unpacking into a node: the admission of live traffic, from a file (PROTOCOL.md section 14.3).

Documents first. An entry counts as what a followed log holds once its proof leads to a head that the packer's log key
signed; an envelope that no log holds is judged like one that its desk publishes now. Whatever is refused, parked or
damaged is named, and stops nothing else. Doing it again changes nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from google.protobuf.message import DecodeError

from exchange import checkpoint, envelope
from exchange.checkpoint import Checkpoint
from exchange.errors import LimitError, LogClashError, PouchError, ProofError
from exchange.history import Seen, number_of, require_extends
from exchange.merkle import verify_consistency, verify_inclusion
from exchange.node.core import WAITS, Node
from exchange.node.entries import hinted
from exchange.node.writer import Receipt
from exchange.pouch import format as pouch
from exchange.pouch.format import ReadPart
from exchange.v1 import evidence_pb2 as ev
from exchange.v1 import exchange_pb2 as api
from exchange.v1 import pouch_pb2 as pb
from keys import documents
from keys.errors import PeerError

IN_FLIGHT: Final = 64
IN_FLIGHT_BYTES: Final = 8_000_000
QUOTA_TRIES: Final = 60
QUOTA_PAUSE_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class NotTaken:
    """A part that was not taken: its number in the pouch, what it is, and why."""

    number: int
    what: str
    rule: str
    text: str


@dataclass(slots=True)
class Unpacked:
    """What became of a pouch. `linked`: its head extends the newest one seen of that log."""

    sender: str
    taken: int = 0
    known: int = 0
    documents: int = 0
    parked: int = 0
    delivered: list[bytes] = field(default_factory=list)
    cosigned: bool = False
    linked: bool = False
    moved: bool = False
    damaged: list[NotTaken] = field(default_factory=list)
    refused: list[NotTaken] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


async def unpack(node: Node, path: Path, *, clock: Callable[[], int]) -> Unpacked:
    """Take what a pouch holds into a node that was started.

    Args:
        node: The receiver.
        path: The file.
        clock: Milliseconds UTC.

    Raises:
        PouchError: Not a pouch, not for this node, or its manifest is damaged; nothing was taken.
        ProofError: Its head belies what was seen of the packer's log: a fork. Nothing but documents was taken.
        StoreError: Our disk failed; do it again.
    """
    with path.open("rb") as file:
        manifest = pouch.read_manifest(file)
        if manifest.lineage != node.trust.lineage:
            raise PouchError("the pouch is of another exchange", hint="a drill and production never mix")
        if manifest.receiver != node.name:
            raise PouchError(f"the pouch is for {manifest.receiver}, this is {node.name}", hint="pass it on")
        return await _Unpacking(node, manifest, clock).run(file)


class _Unpacking:
    def __init__(self, node: Node, manifest: pb.Manifest, clock: Callable[[], int]) -> None:
        self._node, self._manifest, self._clock = node, manifest, clock
        self._origin = node.followed.of(manifest.sender)
        self._head: Checkpoint | None = None
        self._flight: list[tuple[ReadPart, str, asyncio.Future[object]]] = []
        self._done = Unpacked(manifest.sender)

    async def run(self, file: BinaryIO) -> Unpacked:
        documents_over = False
        for part in pouch.read_parts(file, self._manifest):
            if part.kind != pb.PART_KIND_DOCUMENT and not documents_over:
                documents_over = True
                await self._begin()
            await self._part(part)
            if len(self._flight) >= IN_FLIGHT or sum(len(p.data) for p, _, _ in self._flight) > IN_FLIGHT_BYTES:
                await self._land()
        if not documents_over:
            await self._begin()
        await self._land()
        await self._end()
        return self._done

    async def _begin(self) -> None:
        """The documents are in: the packer's key is known, and its log is compared with what was seen of it."""
        await self._node.retry_parked(self._clock())
        if not self._manifest.checkpoint:
            return
        entry = self._node.trust.node(self._manifest.sender)
        if entry is None:
            raise PouchError(f"{self._manifest.sender} is in no roster held", hint="take its party's documents first")
        key = entry.log_key
        head = checkpoint.verify(self._manifest.checkpoint, key.suite, key.key, name=self._manifest.sender)
        stored = await self._node.stored_checkpoint(self._origin)
        if head.origin != self._origin:
            await self._another_log(head, stored)
        self._head = head
        self._done.linked = self._extends(checkpoint.parse(stored) if stored else None, head)

    async def _another_log(self, head: Checkpoint, stored: bytes) -> None:
        """A pouch does not show how a log continues another: where one was seen, the network does, or a person accepts it."""
        number_of(head.origin, self._manifest.sender)
        if stored:
            try:
                require_extends(Seen.of(stored), Seen(head, self._manifest.checkpoint), ())
            except LogClashError as error:
                await self._node.clashes.keep(error)
                error.hint = (
                    f"follow it over the network, or ask its operator and `tocsin node accept-log DIR {head.origin}`"
                )
                raise
        self._origin = head.origin

    def _extends(self, held: Checkpoint | None, head: Checkpoint) -> bool:
        if held is None or not held.size:
            return True
        if held.size == head.size:
            if held.root != head.root:
                raise ProofError(f"the log of {self._manifest.sender} has two roots at size {head.size}: fork")
            return True
        if head.size < held.size:
            self._done.notes.append(f"an older pouch: the log was seen up to {held.size}, this one has {head.size}")
            return False
        if self._manifest.from_size != held.size:
            self._done.notes.append(
                f"the pouch starts from a head of {self._manifest.from_size}, the newest seen here is {held.size}; "
                "ask for one packed from there to see that the log only grew"
            )
            return False
        verify_consistency(held.size, head.size, held.root, head.root, list(self._manifest.consistency))
        return True

    async def _part(self, part: ReadPart) -> None:
        what = pouch.name_of(part.kind)
        if part.fault:
            self._done.damaged.append(NotTaken(part.number, what, "POUCH_BAD", part.fault))
            return
        takers: dict[int, Callable[[ReadPart], Awaitable[None]]] = {
            pb.PART_KIND_DOCUMENT: self._document,
            pb.PART_KIND_ENTRY: self._entry,
            pb.PART_KIND_ENVELOPE: self._envelope,
            pb.PART_KIND_RECEIPT: self._receipt,
            pb.PART_KIND_COSIGNATURE: self._cosignature,
        }
        try:
            await takers[part.kind](part)
        except DecodeError:
            self._done.refused.append(NotTaken(part.number, what, "POUCH_BAD", "the part does not parse"))
        except PeerError as error:
            self._done.refused.append(NotTaken(part.number, what, error.reason, str(error)))

    async def _document(self, part: ReadPart) -> None:
        identity = documents.decode(part.data).digest
        held = self._node.trust.holds(identity)
        # Without the log it came from: that it is in the packer's log was not shown.
        [(_, error)] = await self._node.take_documents([part.data], now_ms=self._clock())
        if error is not None:
            raise error
        self._done.documents += not held

    async def _entry(self, part: ReadPart) -> None:
        entry = api.Entry.FromString(part.data)
        self._proved(entry.leaf, entry.position, list(entry.proof))
        if self._node.store.position_of(entry.leaf) is not None:
            self._done.known += 1
            return
        try:
            if entry.kind == api.ENTRY_KIND_REFUSAL:
                waiting = await self._node.refusals.take(entry, self._origin)
            elif entry.kind == api.ENTRY_KIND_ENVELOPE and not entry.pruned:
                waiting = await self._node.follow(entry.data, entry.leaf, origin=self._origin, now_ms=self._clock())
            else:
                self._done.notes.append(f"part {part.number}: pruned at its origin, or of a kind that is not carried")
                return
        except WAITS as error:
            await self._node.park(entry, self._origin, error)
            self._done.parked += 1
            self._done.notes.append(f"part {part.number} waits for documents: {error}")
            return
        except PeerError as error:
            await (await self._node.refusals.refuse(entry, self._origin, error)).durable
            raise
        if waiting is None:
            self._done.known += 1
        else:
            self._flight.append((part, "entry", asyncio.ensure_future(waiting.durable)))

    async def _envelope(self, part: ReadPart) -> None:
        parsed = envelope.parse(part.data)
        known = self._node.store.position_of(parsed.id) is not None
        # The carrier is not the desk; its signature, checked there, is what speaks for it.
        receipt = await self._publish(part.data, hinted(parsed).sender)
        if known:
            self._done.known += 1
        else:
            self._flight.append((part, "envelope", asyncio.ensure_future(receipt)))

    async def _publish(self, data: bytes, desk: str) -> asyncio.Future[Receipt]:
        """A bag brings in a moment what a desk sealed in days: what its quota refuses is tried again, for a while."""
        for _ in range(QUOTA_TRIES):
            try:
                return (await self._node.publish(data, by=desk, now_ms=self._clock()))[1]
            except LimitError:
                await self._land()
                await asyncio.sleep(QUOTA_PAUSE_S)
        return (await self._node.publish(data, by=desk, now_ms=self._clock()))[1]

    async def _receipt(self, part: ReadPart) -> None:
        place = ev.LogPlace.FromString(part.data)
        self._proved(place.leaf, place.position, list(place.proof))
        self._done.delivered.append(place.leaf)

    async def _cosignature(self, part: ReadPart) -> None:
        await self._node.witnesses.add(part.data, by=self._manifest.sender)
        self._done.cosigned = True

    def _proved(self, leaf: bytes, position: int, proof: list[bytes]) -> None:
        if self._head is None:
            raise ProofError("an entry without a head of the log that holds it")
        verify_inclusion(leaf, position, self._head.size, proof, self._head.root)

    async def _land(self) -> None:
        """Wait until what was queued is durable."""
        flight, self._flight = self._flight, []
        results = await asyncio.gather(*(future for _, _, future in flight), return_exceptions=True)
        for (part, what, _), result in zip(flight, results, strict=True):
            if isinstance(result, PeerError):
                self._done.refused.append(NotTaken(part.number, what, result.reason, str(result)))
            elif isinstance(result, BaseException):
                raise result
            else:
                self._done.taken += 1

    async def _end(self) -> None:
        """Move the cursor, as a follower does, but only past what is whole and joins what was followed before."""
        if self._head is None or not self._done.linked:
            return
        cursor, manifest = await self._node.cursor(self._origin), self._manifest
        if cursor < manifest.position:
            self._done.notes.append(
                f"positions {cursor} to {manifest.position - 1} of {manifest.sender} are missing: ask for a pouch from {cursor}"
            )
        elif self._done.damaged:
            self._done.notes.append("parts are damaged: the place in the log is kept, so that they are fetched again")
        elif manifest.next_position > cursor:
            if manifest.next_position > self._head.size:
                raise ProofError(f"{manifest.sender} counts beyond its own head")
            await self._node.move_cursor(self._origin, manifest.next_position, manifest.checkpoint).durable
            self._node.followed.go_on(manifest.sender, self._origin)
            self._done.moved = True
