"""Attachments over the wire: pieces in, pieces out; what only another node has is fetched there (PROTOCOL.md section 15.2)."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final

import grpc
import structlog

from exchange import wire
from exchange.errors import AttachmentError, IdentityError, LimitError
from exchange.node.core import Node
from exchange.node.shelf import Held, Shelf
from exchange.v1 import exchange_pb2 as pb
from exchange.v1 import exchange_pb2_grpc as rpc
from exchange.workers import Workers
from keys.errors import TocsinError

PIECE_BYTES: Final = 1_000_000
MAX_OFFSET: Final = 2**40
# A peer that sends nothing for so long is not waited for.
SILENCE_S: Final = 30.0
Connect = Callable[[str], grpc.aio.Channel]
"""Opens a mutual-TLS channel to a node by name."""

log = structlog.get_logger("tocsin.node")


class Attaching:
    """Puts attachments on the shelf and hands them out.

    Args:
        node: Says who is who, and counts bytes.
        shelf: Where they lie.
        workers: Read and write the shelf.
        connect: To other nodes.
        clock: Milliseconds UTC.
    """

    def __init__(
        self, node: Node, shelf: Shelf, *, workers: Workers, connect: Connect, clock: Callable[[], int]
    ) -> None:
        self._node, self._shelf, self._workers = node, shelf, workers
        self._connect, self._clock = connect, clock
        self._busy: dict[bytes, asyncio.Lock] = {}

    async def put(self, caller: str, pieces: AsyncIterator[pb.PutAttachmentRequest]) -> int:
        """Take pieces of one attachment; returns how many bytes are held now.

        Raises:
            TocsinError: The rule.
        """
        if caller not in self._node.trust.hosted(self._node.name):
            raise IdentityError("attachments are taken from desks that this node hosts", caller=caller)
        first = await anext(pieces, None)
        if first is None:
            raise AttachmentError("no piece came")
        async with self._alone(first.digest):
            held = await self._workers.run(lambda: self._shelf.begin(first.digest, first.size, owner=caller))
            held = await self._piece(caller, first.digest, first, held)
            async for piece in pieces:
                held = await self._piece(caller, first.digest, piece, held)
        return held.bytes

    async def _piece(self, caller: str, digest: bytes, piece: pb.PutAttachmentRequest, held: Held) -> Held:
        if len(piece.data) > PIECE_BYTES:
            raise LimitError(f"a piece of {len(piece.data)} bytes; at most {PIECE_BYTES}")
        if not piece.data or held.whole:
            return held
        self._node.quotas.take(caller, {"bytes": len(piece.data)}, self._clock())
        return await self._workers.run(self._shelf.append, digest, piece.offset, piece.data)

    async def get(self, caller: str, digest: bytes, offset: int) -> AsyncIterator[pb.GetAttachmentResponse]:
        """Pieces of one attachment. A desk's is fetched from other nodes first; a node gets what is here.

        Raises:
            TocsinError: It is nowhere to be had, or an offset beyond it.
        """
        if len(digest) != 32 or offset > MAX_OFFSET:
            raise AttachmentError("an attachment is named by 32 bytes")
        held = await self._workers.run(self._shelf.held, digest)
        if not held.whole and "/" in caller:
            await self._fetch(digest)
            held = await self._workers.run(self._shelf.held, digest)
        if not held.whole or offset > held.size:
            raise AttachmentError("the attachment is not here", hint="ask again later: its sender may not have sent it")
        first = True
        while offset < held.size:
            data = await self._workers.run(self._shelf.read, digest, offset, PIECE_BYTES)
            yield pb.GetAttachmentResponse(size=held.size if first else 0, data=data)
            first, offset = False, offset + len(data)

    async def _fetch(self, digest: bytes) -> None:
        """From the first other node that has it, going on where an earlier try ended."""
        async with self._alone(digest):
            for peer in [node.node for node in self._node.trust.nodes() if node.node != self._node.name]:
                if (await self._workers.run(self._shelf.held, digest)).whole:
                    return
                try:
                    await self._fetch_from(peer, digest)
                except (grpc.aio.AioRpcError, TimeoutError, TocsinError) as failure:
                    error = wire.error_from(failure) if isinstance(failure, grpc.aio.AioRpcError) else failure
                    log.info("attachment not fetched", peer=peer, text=str(error))

    async def _fetch_from(self, peer: str, digest: bytes) -> None:
        held = await self._workers.run(self._shelf.held, digest)
        async with self._connect(peer) as channel:
            call = rpc.ExchangeStub(channel).GetAttachment(pb.GetAttachmentRequest(digest=digest, offset=held.bytes))
            try:
                while True:
                    async with asyncio.timeout(SILENCE_S):
                        piece = await call.read()
                    if not isinstance(piece, pb.GetAttachmentResponse):
                        return
                    if piece.size:
                        size = piece.size
                        held = await self._workers.run(lambda: self._shelf.begin(digest, size, owner=peer))  # noqa: B023 - awaited here
                    held = await self._workers.run(self._shelf.append, digest, held.bytes, piece.data)
            finally:
                call.cancel()

    def _alone(self, digest: bytes) -> asyncio.Lock:
        """One writer for each attachment."""
        for other in [key for key, lock in self._busy.items() if not lock.locked()]:
            del self._busy[other]
        return self._busy.setdefault(digest, asyncio.Lock())


class AttachmentCalls(rpc.ExchangeServicer):
    """The two calls of the service."""

    attaching: Attaching | None = None

    async def _caller(self, context: wire.Context) -> str:
        raise NotImplementedError

    async def PutAttachment(  # noqa: N802 - the name is the protocol's
        self, requests: AsyncIterator[pb.PutAttachmentRequest], context: wire.Context
    ) -> pb.PutAttachmentResponse:
        """Pieces in; how much is held."""
        caller = await self._caller(context)
        try:
            return pb.PutAttachmentResponse(held=await self._shelf().put(caller, requests))
        except TocsinError as error:
            await wire.abort(context, error)

    async def GetAttachment(  # noqa: N802
        self, request: pb.GetAttachmentRequest, context: wire.Context
    ) -> AsyncIterator[pb.GetAttachmentResponse]:
        """Pieces out."""
        caller = await self._caller(context)
        try:
            async for piece in self._shelf().get(caller, request.digest, request.offset):
                yield piece
        except TocsinError as error:
            await wire.abort(context, error)

    def _shelf(self) -> Attaching:
        if self.attaching is None:
            raise AttachmentError("this node carries no attachments", hint="send the sealed file another way")
        return self.attaching
