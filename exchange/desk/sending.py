"""Sending: the outbox to the node, receipts back; what is refused is sealed again or left to a person."""

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import grpc

from exchange import merkle
from exchange.desk.events import Refused
from exchange.desk.holdings import Holdings
from exchange.desk.link import Link, forever
from exchange.desk.lost import answered_and_lost
from exchange.desk.moving import move
from exchange.desk.outbox import Waiting
from exchange.desk.restored import renew_streams
from exchange.desk.sealing import Sealing
from exchange.desk.witness import Witness
from exchange.errors import ProofError
from exchange.v1 import exchange_pb2 as pb
from exchange.v1 import exchange_pb2_grpc as rpc
from keys.trust import MissingDocumentError

IN_FLIGHT: Final = 16
MESSAGE_BYTES: Final = 1_000_000
SAME_AGAIN: Final = frozenset({"LIMIT", "STORE_FAILED", "UNREACHABLE", "STATUS_STALE", "LINEAGE_DEAD"})
"""Refusals that say nothing against the envelope itself: the same bytes are sent again later."""


class Sending:
    """Empties the outbox.

    Args:
        holdings: What the desk holds.
        link: To the node.
        witness: Of its log.
        taken: Called when envelopes have their receipts.
    """

    def __init__(
        self, holdings: Holdings, link: Link, witness: Witness, *, taken: Callable[[], None] = lambda: None
    ) -> None:
        self._own, self._link, self._witness = holdings, link, witness
        self.sealing = Sealing(holdings, grew=self.grew)
        self._taken = taken
        self._outbox_grew = asyncio.Event()
        self._outbox_empty = asyncio.Event()

    def grew(self) -> None:
        """There is more in the outbox."""
        self._outbox_grew.set()

    async def run(self) -> None:
        """Send, for as long as the desk runs."""
        self.grew()
        await forever(self._own, self._send)

    async def flush(self, timeout_s: float | None = None) -> int:
        """See Desk.flush."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.sealing.queued or self._own.archive.waiting() > self._own.archive.stuck():
                    self._outbox_empty.clear()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(0.2):
                            await self._outbox_empty.wait()
        return self._own.archive.waiting()

    async def _send(self) -> None:
        """One Publish stream, until it fails or an envelope must be sealed again."""
        await self._link.synchronise()
        stub = await self._link.stub()
        await self._witness.compare(stub)
        await move(self._own, self.sealing, self._witness, stub)
        await renew_streams(
            self._own, self.sealing, stub, failed=lambda i, error: self._own.event(Refused(i, error.reason, str(error)))
        )
        self._own.state = "connected"
        call = stub.Publish()
        in_flight: deque[Waiting] = deque()
        room = asyncio.Semaphore(IN_FLIGHT)

        async def write() -> None:
            last = 0
            while True:
                self._outbox_grew.clear()
                rows = deque(await self._own.workers.run(self._own.archive.outgoing, last, IN_FLIGHT))
                found = bool(rows)
                while rows:
                    request = pb.PublishRequest()
                    size = 0
                    # What waits goes in one message, up to its limit: one commit, one checkpoint, one receipt for all.
                    while rows and (not size or size + len(rows[0].envelope) <= MESSAGE_BYTES):
                        if size and room.locked():
                            break
                        await room.acquire()
                        row = rows.popleft()
                        in_flight.append(row)
                        request.envelopes.append(row.envelope)
                        size += len(row.envelope)
                        last = row.number
                    await call.write(request)
                if not found:
                    await self._outbox_grew.wait()

        writing = asyncio.create_task(write())
        try:
            while (response := await self._read_or_fail(call, writing)) is not None:
                answered = [(in_flight.popleft(), result) for result in response.results]
                taken = list(itertools.takewhile(lambda one: not one[1].rule, answered))
                for _ in answered:
                    room.release()
                if taken:
                    if not await self._own.workers.run(self._settle, taken, response.checkpoint):
                        self._outbox_empty.set()
                    self._taken()
                if len(taken) < len(answered):
                    await self._refused(stub, *answered[len(taken)])
                    return
        finally:
            writing.cancel()
            call.cancel()

    async def _read_or_fail(
        self, call: "grpc.aio.StreamStreamCall[pb.PublishRequest, pb.PublishResponse]", writing: asyncio.Task[None]
    ) -> pb.PublishResponse | None:
        reading = asyncio.ensure_future(call.read())
        # When we are cancelled here its failure is of no interest, and not to be reported as forgotten.
        reading.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.wait({reading, writing}, return_when=asyncio.FIRST_COMPLETED)
        if writing.done() and not reading.done():
            reading.cancel()
            writing.result()
        response = await reading
        return response if isinstance(response, pb.PublishResponse) else None

    def _settle(self, taken: Sequence[tuple[Waiting, pb.PublishResult]], note: bytes) -> int:
        """Check receipts, empty the outbox of their envelopes; returns how many still wait."""
        head = self._own.verify_note(note)
        for row, result in taken:
            if result.id != row.id:
                raise ProofError("the receipt is for another envelope")
            merkle.verify_inclusion(row.id, result.position, head.size, list(result.proof), head.root)
        # A receipt lost with the power is asked for again: the envelope still waits, and the node knows it.
        with self._own.archive.transaction(durable=False):
            receipts = [(result.id, result.position, list(result.proof)) for _, result in taken]
            self._own.archive.settle(receipts, note)
            return self._own.archive.waiting()

    async def _refused(self, stub: rpc.ExchangeStub, row: Waiting, result: pb.PublishResult) -> None:
        """Seal again under the documents of today, in a new stream, in order; after some tries leave it to a person."""
        if result.rule in SAME_AGAIN:
            self._own.state = f"{result.rule}: {result.text}"
            return
        await self._link.synchronise()
        lost, streams = frozenset[bytes](), [self._own.archive.stream_that_waits(row.id)]
        if result.rule == MissingDocumentError.reason:
            lost, others = await answered_and_lost(self._own, stub)
            streams = list(dict.fromkeys(streams + others))
        # That the node lost what is answered needs nobody to act: its sender says it again.
        if not lost:
            self._own.event(Refused(row.id, result.rule, result.text))
        # Only these streams: what another has under way may be taken, and is sent again as it is.
        for stream in streams:
            for identity, error in await self.sealing.seal_again(stream, row.id, lost):
                self._own.event(Refused(identity, error.reason, str(error)))
