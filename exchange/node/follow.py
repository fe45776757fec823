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
from exchange.errors import ProofError
from exchange.merkle import verify_consistency, verify_inclusion
from exchange.node.core import HEARTBEAT_S, Node, Receipt
from exchange.v1 import exchange_pb2 as pb
from exchange.v1 import exchange_pb2_grpc as rpc
from keys import documents
from keys.errors import TocsinError
from keys.trust import MissingDocumentError

BACKOFF_S: Final = (0.2, 60.0)
COSIGN_EVERY_S: Final = 1.0
Connect = Callable[[str], grpc.aio.Channel]
"""Opens a mutual-TLS channel to a node by name."""

log = structlog.get_logger("tocsin.follow")


class Follower:
    """Follows one peer until cancelled."""

    def __init__(self, node: Node, peer: str, *, connect: Connect, clock: Callable[[], int]) -> None:
        self._node, self.peer, self._connect, self._clock = node, peer, connect, clock
        self._head: checkpoint.Checkpoint | None = None
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
            except TocsinError as error:
                self.state = f"stopped: {error.reason}: {error}"
                log.warning("following failed", peer=self.peer, reason=error.reason, text=str(error))
            if self.position != before:
                before, delay = self.position, BACKOFF_S[0]
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
            delay = min(2 * delay, BACKOFF_S[1])

    async def _stream(self, stub: rpc.ExchangeStub) -> None:
        origin = f"tocsin/{self.peer}/1"
        self.position = await self._node.cursor(origin)
        stored = await self._node.stored_checkpoint(origin)
        self._head = checkpoint.parse(stored) if stored else None
        if self._head is not None:
            await self._catch_up(stub, origin)
        call = stub.Subscribe(pb.SubscribeRequest(position=self.position, follow=True))
        cosigned = 0.0
        try:
            while True:
                response = await asyncio.wait_for(call.read(), 3 * HEARTBEAT_S)
                if response is grpc.aio.EOF:
                    return
                self.state = "following"
                await self._take(origin, response)
                now = asyncio.get_running_loop().time()
                if now - cosigned >= COSIGN_EVERY_S and response.checkpoint:
                    cosigned = now
                    await stub.AddCosignature(
                        pb.AddCosignatureRequest(checkpoint=self._node.cosign(response.checkpoint)), timeout=10
                    )
        finally:
            call.cancel()

    async def _catch_up(self, stub: rpc.ExchangeStub, origin: str) -> None:
        """The peer's log must extend what we saw of it before: a rolled-back or forked log is caught here."""
        assert self._head is not None  # noqa: S101 - the caller checked
        answer = await stub.GetCheckpoint(pb.GetCheckpointRequest(), timeout=10)
        fresh = self._verify_note(answer.checkpoint, origin)
        if fresh.size < self._head.size:
            raise ProofError(f"the log of {self.peer} shrank from {self._head.size} to {fresh.size}: fork or restore")
        if fresh.size > self._head.size > 0:
            proof = await stub.GetProof(pb.GetProofRequest(size=fresh.size, from_size=self._head.size), timeout=10)
            verify_consistency(self._head.size, fresh.size, self._head.root, fresh.root, list(proof.consistency))
        elif fresh.size == self._head.size and fresh.root != self._head.root:
            raise ProofError(f"the log of {self.peer} has two roots at size {fresh.size}: fork")

    def _verify_note(self, note: bytes, origin: str) -> checkpoint.Checkpoint:
        entry = self._node.trust.node(self.peer)
        if entry is None:
            raise ProofError(f"{self.peer} is in no roster any more")
        verified = checkpoint.verify(note, entry.log_key.suite, entry.log_key.key, name=self.peer)
        if verified.origin != origin:
            raise ProofError(f"{self.peer} signed a checkpoint of another log")
        return verified

    async def _take(self, origin: str, response: pb.SubscribeResponse) -> None:
        head = self._verify_note(response.checkpoint, origin)
        if response.consistency and self._head is not None:
            verify_consistency(self._head.size, head.size, self._head.root, head.root, list(response.consistency))
        taken = []
        for entry in response.entries:
            verify_inclusion(entry.leaf, entry.position, head.size, list(entry.proof), head.root)
            try:
                if entry.kind == pb.ENTRY_KIND_DOCUMENT:
                    await self._document(entry)
                elif entry.kind == pb.ENTRY_KIND_ENVELOPE and not entry.pruned:
                    taken.append(await self._envelope(entry))
            except MissingDocumentError as error:
                await self._node.park(entry, origin, error)
            except TocsinError as error:
                await self._node.record_refusal(entry, origin, error)
                log.warning("entry refused", peer=self.peer, position=entry.position, reason=error.reason, text=str(error))
        await asyncio.gather(*taken)
        if response.entries or response.next_position != self.position:
            await self._node.move_cursor(origin, response.next_position)
            await self._node.remember_checkpoint(origin, response.checkpoint)
            self.position = response.next_position
        self._head = head

    async def _document(self, entry: pb.Entry) -> None:
        document = documents.decode(entry.data)
        if document.digest != entry.leaf:
            raise ProofError("the leaf is not that document")
        [(_, error)] = await self._node.take_documents([entry.data], now_ms=self._clock())
        if error is not None:
            raise error
        await self._node.retry_parked(self._clock())

    async def _envelope(self, entry: pb.Entry) -> asyncio.Future[Receipt]:
        return await self._node.publish(entry.data, by=None, now_ms=self._clock())
