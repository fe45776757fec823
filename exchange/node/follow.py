"""Federation: a node follows each peer with the Subscribe that desks use (docs/PROTOCOL.md section 9.4).

Pull only: it resumes after any outage and works behind NAT. Documents come in log order, before the envelopes that pin
them. An envelope that is refused is recorded and the cursor moves; nothing blocks what comes after it.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Final

import grpc
import structlog

from exchange import checkpoint, wire
from exchange.errors import LimitError, LogClashError, ProofError, SenderEndedError
from exchange.history import Seen, require_extends
from exchange.merkle import verify_inclusion
from exchange.node import reading
from exchange.node.core import WAITS, Node, origin_of
from exchange.node.intake import Preview
from exchange.node.reading import HEARTBEAT_S
from exchange.node.writer import Waiting
from exchange.standing import Position
from exchange.v1 import exchange_pb2 as pb
from exchange.v1 import exchange_pb2_grpc as rpc
from keys import documents
from keys.errors import PeerError, TocsinError

BACKOFF_S: Final = (0.2, 60.0)
COSIGN_EVERY_S: Final = 1.0
CALL_S: Final = 10.0
# Keepalive and the heartbeat deadline go on while a peer is held back.
LONGEST_WAIT_MS: Final = 1000
# A little more than an honest peer sends ahead of its checkpoints.
EARLY_BYTES: Final = 2 * reading.EARLY_BYTES
EARLY_ENTRIES: Final = 2 * reading.EARLY_ENTRIES
# A peer that did not confirm what it sent early made us cut our readers: not again so soon.
NOT_EARLY_S: Final = 60.0
Connect = Callable[[str], grpc.aio.Channel]
"""Opens a mutual-TLS channel to a node by name."""

log = structlog.get_logger("tocsin.follow")


class Follower:
    """Follows one peer until cancelled."""

    def __init__(self, node: Node, peer: str, *, connect: Connect, clock: Callable[[], int]) -> None:
        self._node, self.peer, self._connect, self._clock = node, peer, connect, clock
        self._seen: Seen | None = None
        self._early: dict[bytes, tuple[bytes, Preview]] = {}
        self._early_from_s = 0.0
        self._shown: set[bytes] = set()
        self.state = "starting"
        self.position = 0

    async def run(self) -> None:
        """Follow, reconnecting with back-off and jitter, at most a minute apart."""
        delay, before = BACKOFF_S[0], self.position
        while True:
            try:
                async with self._connect(self.peer) as channel:
                    await self._stream(rpc.ExchangeStub(channel))
                delay = BACKOFF_S[0]
            except grpc.aio.AioRpcError as failure:
                self.state = f"down: {wire.error_from(failure)}"
            except TimeoutError:
                self.state = "down: no heartbeat"
            except TocsinError as error:
                if isinstance(error, LogClashError):
                    await self._node.clashes.keep(error)
                self.state = f"stopped: {error.reason}: {error}"
                log.warning("following failed", peer=self.peer, reason=error.reason, text=str(error))
            if self.position != before:
                before, delay = self.position, BACKOFF_S[0]
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
            delay = min(2 * delay, BACKOFF_S[1])

    async def _stream(self, stub: rpc.ExchangeStub) -> None:
        origin = origin_of(self.peer)
        self.position = await self._node.cursor(origin)
        stored = await self._node.stored_checkpoint(origin)
        self._seen = Seen.of(stored) if stored else None
        early = asyncio.get_running_loop().time() >= self._early_from_s
        echo = await self._restored(stub)
        request = pb.SubscribeRequest(
            position=self.position,
            follow=True,
            early=early,
            echo=echo,
            seen_size=self._seen.head.size if self._seen else 0,
        )
        call = stub.Subscribe(request)
        cosigning = asyncio.create_task(self._cosign(stub, origin))
        try:
            while True:
                # Not wait_for: before Python 3.12 it can swallow a cancellation, and the node would not stop.
                async with asyncio.timeout(3 * HEARTBEAT_S):
                    response = await call.read()
                if not isinstance(response, pb.SubscribeResponse):
                    return
                await self._take(stub, origin, response)
                self.state = "following"
        finally:
            cosigning.cancel()
            call.cancel()
            self._forget_early()

    async def _restored(self, stub: rpc.ExchangeStub) -> bool:
        """Whether the peer has seen more of our log than we hold: then what our own desks wrote is fetched back too."""
        request = pb.GetCheckpointRequest(origin=self._node.origin)
        seen = (await stub.GetCheckpoint(request, timeout=CALL_S)).checkpoint
        held = checkpoint.parse(self._node.checkpoint).size
        if not seen or checkpoint.parse(seen).size <= held:
            return False
        self._node.claims.note(self.peer, checkpoint.parse(seen).size, held)
        return True

    async def _pace(self, response: pb.SubscribeResponse) -> None:
        """A peer that sends too much is read slower: its own flow control holds it back."""
        sent = [*response.early, *(entry.data for entry in response.entries)]
        documents = sum(entry.kind == pb.ENTRY_KIND_DOCUMENT for entry in response.entries)
        amounts = {"envelopes": len(sent) - documents, "bytes": sum(map(len, sent)), "documents": documents}
        for what, amount in amounts.items():
            while wait_ms := self._node.quotas.wait_ms(self.peer, what, amount, self._clock()) if amount else 0:
                self.state = f"held back: too many {what}"
                await asyncio.sleep(min(wait_ms, LONGEST_WAIT_MS) / 1000)

    async def _preview(self, origin: str, data: bytes) -> None:
        """Check what came early, so that it need not be checked again, and pass it on."""
        held_bytes = sum(len(held) for held, _ in self._early.values())
        if len(self._early) >= EARLY_ENTRIES or held_bytes + len(data) > EARLY_BYTES:
            raise LimitError(f"{self.peer} sends more early than it confirms")
        preview = await self._node.preview(data, origin=origin, now_ms=self._clock())
        self._early[preview.id] = (data, preview)

    def _forget_early(self) -> None:
        """What a peer did not confirm in the call in which it was sent is worth nothing."""
        if self._early:
            self._node.readers.cut(list(self._early))
            self._early.clear()
            self._early_from_s = asyncio.get_running_loop().time() + NOT_EARLY_S

    async def _cosign(self, stub: rpc.ExchangeStub, origin: str) -> None:
        """Sign the newest head we verified and persisted, at most once a second."""
        signed = 0
        while True:
            await asyncio.sleep(COSIGN_EVERY_S)
            if self._seen is None or self._seen.head.size == signed:
                continue
            note = await self._node.stored_checkpoint(origin)
            try:
                if not await self._acknowledged(stub, checkpoint.parse(note)):
                    continue
                request = pb.AddCosignatureRequest(checkpoint=self._node.cosign(note))
                await stub.AddCosignature(request, timeout=CALL_S)
                signed = checkpoint.parse(note).size
            except (grpc.aio.AioRpcError, TocsinError) as error:
                # A peer that wants no cosignature loses only its own evidence.
                log.warning("cosignature not taken", peer=self.peer, text=str(error))

    async def _acknowledged(self, stub: rpc.ExchangeStub, head: checkpoint.Checkpoint) -> bool:
        """Whether the peer's log holds what ended keys of ours: until it does, a thief could have us cosign for him.

        Source: docs/PROTOCOL.md section 4.7.
        """
        for ending in self._node.own_endings() - self._shown:
            try:
                proof = await stub.GetProof(pb.GetProofRequest(leaf=ending, size=head.size), timeout=CALL_S)
            except grpc.aio.AioRpcError as failure:
                log.info("not cosigned: what ended a key is not there yet", peer=self.peer, text=failure.details())
                return False
            verify_inclusion(ending, proof.position, head.size, list(proof.inclusion), head.root)
            self._shown.add(ending)
        return True

    def _verify_note(self, note: bytes, origin: str) -> checkpoint.Checkpoint:
        entry = self._node.trust.node(self.peer)
        if entry is None:
            raise ProofError(f"{self.peer} is in no roster any more")
        verified = checkpoint.verify(note, entry.log_key.suite, entry.log_key.key, name=self.peer)
        if verified.origin != origin:
            raise ProofError(f"{self.peer} signed a checkpoint of another log")
        return verified

    async def _take(self, stub: rpc.ExchangeStub, origin: str, response: pb.SubscribeResponse) -> None:
        await self._pace(response)
        for data in response.early:
            await self._preview(origin, data)
        if response.early and not response.checkpoint:
            return
        head = self._verify_note(response.checkpoint, origin)
        shown = Seen(head, response.checkpoint)
        # A rolled-back or forked log is caught here.
        require_extends(self._seen, shown, response.consistency)
        if not self.position <= response.next_position <= head.size:
            raise ProofError(f"{self.peer} counts beyond its own checkpoint, or backwards")
        taken: list[Waiting] = []
        for entry in response.entries:
            verify_inclusion(entry.leaf, entry.position, head.size, list(entry.proof), head.root)
            try:
                if entry.kind == pb.ENTRY_KIND_DOCUMENT:
                    await self._document(entry, origin)
                elif entry.kind == pb.ENTRY_KIND_ENVELOPE and not entry.pruned:
                    waiting = await self._envelope(stub, entry, origin)
                    taken += [waiting] if waiting else []
                elif entry.kind == pb.ENTRY_KIND_REFUSAL:
                    refused = await self._node.take_refusal(entry, origin)
                    taken += [refused] if refused else []
            except WAITS as error:
                await self._node.park(entry, origin, error)
            except PeerError as error:
                # Only what the peer got wrong; a failure of our own disk must not move the cursor.
                taken.append(await self._node.refuse(entry, origin, error))
                log.warning(
                    "entry refused", peer=self.peer, position=entry.position, reason=error.reason, text=str(error)
                )
        # Queued behind the entries, so usually in their transaction. If one of them was lost already, nothing moves;
        # if one will be lost, so will the cursor that waits behind it.
        for waiting in taken:
            if waiting.durable.done():
                waiting.durable.result()
        if response.entries:
            taken.append(self._node.move_cursor(origin, response.next_position, response.checkpoint))
        elif response.next_position != self.position or self._seen is None or head.size > self._seen.head.size:
            self._node.pass_by(origin, response.next_position, response.checkpoint)
        await asyncio.gather(*(waiting.durable for waiting in taken))
        self.position, self._seen = response.next_position, shown

    async def _envelope(self, stub: rpc.ExchangeStub, entry: pb.Entry, origin: str) -> Waiting | None:
        early, preview = self._early.pop(entry.leaf, (b"", None))
        entry.data = entry.data or early
        now_ms = self._clock()
        try:
            return await self._node.follow(entry.data, entry.leaf, origin=origin, now_ms=now_ms, preview=preview)
        except SenderEndedError as error:
            # The key ended. Whether only after the peer's log had the envelope, the peer can show.
            endings = self._node.admission.endings(entry.data)
            try:
                request = pb.GetPositionRequest(leaf=entry.leaf, endings=endings)
                shown = await stub.GetPosition(request, timeout=CALL_S) if endings else None
            except grpc.aio.AioRpcError:
                shown = None
            if shown is None:
                raise error from None
            place = Position.from_view(shown.log)
            return await self._node.follow(entry.data, entry.leaf, origin=origin, now_ms=now_ms, place=place)

    async def _document(self, entry: pb.Entry, origin: str) -> None:
        document = documents.decode(entry.data)
        if document.digest != entry.leaf:
            raise ProofError("the leaf is not that document")
        [(_, error)] = await self._node.take_documents([entry.data], now_ms=self._clock(), origin=origin)
        if error is not None:
            raise error
        await self._node.retry_parked(self._clock())
