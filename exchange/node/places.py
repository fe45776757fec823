"""Where logs hold leaves, and what a stream holds at its numbers: stages and gaps are proved from these answers.

Source: docs/PROTOCOL.md sections 8.3 and 9.6.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Final

import grpc

from exchange import wire
from exchange.envelope import MAX_SEQ
from exchange.errors import LimitError
from exchange.node.entries import entry_message, header_of, stream_name
from exchange.store.contract import Store
from exchange.v1 import exchange_pb2 as pb
from exchange.v1 import exchange_pb2_grpc as rpc
from exchange.workers import Workers
from keys.errors import TocsinError

MAX_LEAVES: Final = 256
MAX_NUMBERS: Final = 64
NUMBERS_BYTES: Final = 2_500_000
ASK_S: Final = 8.0
MAX_RELAYS: Final = 2
"""Nodes that are asked to pass a question on to one that does not answer."""


class Places:
    """What a node shows of its log, and asks of a peer's for its desks.

    Args:
        store: The log.
        workers: Read it.
        head: The newest signed note and its size.
        readable: Whose envelopes a caller may have.
        is_node: Whether a name is a node of the rosters.
        relaying: Which nodes relay for a mission that one of two nodes hosts.
        name: This node.
    """

    def __init__(
        self,
        store: Store,
        workers: Workers,
        *,
        head: Callable[[], tuple[bytes, int]],
        readable: Callable[[str], frozenset[str]],
        is_node: Callable[[str], bool],
        relaying: Callable[[str, str], Sequence[str]],
        name: str,
    ) -> None:
        self._store, self._workers, self._head = store, workers, head
        self._readable, self._is_node, self._relaying, self._name = readable, is_node, relaying, name
        self.connect: Callable[[str], grpc.aio.Channel] | None = None
        """Opens a channel to a peer; None where peers are not asked."""

    async def show(self, leaves: Sequence[bytes], node: str, *, by: str) -> pb.GetPlacesResponse:
        """Places of leaves in our log, or in that of a peer, which is asked once.

        A desk's question goes on by way of those that relay, if the peer does not answer us itself.

        Raises:
            LimitError: Too many leaves, no such peer, or a node asks for one that we do not relay to.
            TocsinError: The peer does not answer.
        """
        if len(leaves) > MAX_LEAVES or any(len(leaf) != 32 for leaf in leaves):
            raise LimitError(f"at most {MAX_LEAVES} leaves of 32 bytes a call")
        if not node:
            return await self._workers.run(self._own, list(leaves), *self._head())
        desk = "/" in by
        if not self._is_node(node) or not (desk or self._name in self._relaying(by, node)):
            raise LimitError("a node asks a node of the rosters for its desks, and for those it relays for or to")
        request = pb.GetPlacesRequest(leaves=leaves)
        try:
            return await self._ask(node, request)
        except TocsinError:
            if not desk:
                raise
            request.node = node
            for relay in self._relaying(self._name, node)[:MAX_RELAYS]:
                with contextlib.suppress(TocsinError):
                    return await self._ask(relay, request)
            raise

    async def _ask(self, peer: str, request: pb.GetPlacesRequest) -> pb.GetPlacesResponse:
        if self.connect is None:
            raise LimitError("no peer is asked here")
        with wire.answering():
            async with self.connect(peer) as channel:
                answer: pb.GetPlacesResponse = await rpc.ExchangeStub(channel).GetPlaces(request, timeout=ASK_S)
                return answer

    def _own(self, leaves: Sequence[bytes], note: bytes, size: int) -> pb.GetPlacesResponse:
        response = pb.GetPlacesResponse(checkpoint=note)
        for leaf in leaves:
            position = self._store.position_of(leaf)
            if position is not None and position < size:
                response.places.add(leaf=leaf, position=position, proof=self._store.inclusion(position, size))
        return response

    async def proof(self, leaf: bytes, size: int, from_size: int) -> pb.GetProofResponse:
        """Inclusion and consistency proofs.

        Raises:
            LimitError: A size beyond the log.
        """
        _, signed = self._head()
        size = size or signed
        response = pb.GetProofResponse(size=size)
        if size > signed or from_size > size:
            raise LimitError("the log is shorter than that")
        if leaf:
            position = await self._workers.run(self._store.position_of, leaf)
            if position is None or position >= size:
                raise LimitError("the leaf is not in that tree")
            response.position = position
            response.inclusion.extend(await self._workers.run(self._store.inclusion, position, size))
        if from_size:
            response.consistency.extend(await self._workers.run(self._store.consistency, from_size, size))
        return response

    async def prove(self, positions: Sequence[int]) -> tuple[list[tuple[bytes, ...]], bytes]:
        """Inclusion proofs of several entries in the newest signed tree, and its note."""
        note, size = self._head()
        proofs = await self._workers.run(
            lambda: [tuple(self._store.inclusion(position, size)) for position in positions]
        )
        return proofs, note

    async def numbers(self, request: pb.GetNumbersRequest, *, by: str) -> pb.GetNumbersResponse:
        """What we hold of a stream that the caller may read, at some of its numbers."""
        return await self._workers.run(self._numbers, request, self._readable(by), *self._head())

    def _numbers(
        self, request: pb.GetNumbersRequest, desks: frozenset[str], note: bytes, size: int
    ) -> pb.GetNumbersResponse:
        response = pb.GetNumbersResponse(checkpoint=note)
        if not request.stream:
            self._newest(request, desks, size, response)
            return response
        stream = stream_name(request.sender, request.stream)
        last = self._store.last_in_stream(stream)
        if last is None or not self._entry(last[1], desks, None):
            return response
        response.last_seq, response.last_id = last
        held_bytes, first, end = 0, min(request.first_seq, MAX_SEQ), min(request.last_seq, MAX_SEQ) + 1
        # One sender, fixed readers: who may read one number may read all. Asked again for each all the same.
        for seq in range(first, end)[: MAX_NUMBERS if first else 0]:
            identity = self._store.find(stream, seq)
            entry = self._entry(identity, desks, size) if identity else None
            if entry is None:
                continue
            held_bytes += len(entry.data)
            if response.entries and held_bytes > NUMBERS_BYTES:
                break
            response.entries.append(entry)
        return response

    def _newest(
        self, request: pb.GetNumbersRequest, desks: frozenset[str], size: int, response: pb.GetNumbersResponse
    ) -> None:
        """The newest envelope of the caller, or of a desk that the calling node hosts: nobody else learns when one spoke."""
        identity = self._store.newest_of(request.sender) if request.sender in desks else None
        entry = self._entry(identity, desks, size if request.first_seq else None) if identity else None
        if entry is None:
            return
        response.last_id, response.last_seq = entry.leaf, header_of(entry.data, pruned=entry.pruned).seq
        if request.first_seq:
            response.entries.append(entry)

    def _entry(self, identity: bytes, desks: frozenset[str], size: int | None) -> pb.Entry | None:
        """An entry that one of some desks sent or may read; proved where a tree size is given, and in that tree."""
        position = self._store.position_of(identity)
        row = self._store.get(position) if position is not None else None
        if row is None or row.damaged or (size is not None and row.position >= size):
            return None
        header = header_of(row.data, pruned=row.pruned)
        if not desks & {row.sender, *(reader.desk for reader in header.audience)}:
            return None
        return entry_message(row, self._store.inclusion(row.position, size) if size else ())


class PlaceCalls(rpc.ExchangeServicer):
    """The two calls of the service."""

    places: Places

    async def _caller(self, context: wire.Context) -> str:
        raise NotImplementedError

    async def GetPlaces(  # noqa: N802 - the name is the protocol's
        self, request: pb.GetPlacesRequest, context: wire.Context
    ) -> pb.GetPlacesResponse:
        """Where a log holds leaves."""
        caller = await self._caller(context)
        try:
            return await self.places.show(request.leaves, request.node[:64], by=caller)
        except TocsinError as error:
            await wire.abort(context, error)

    async def GetNumbers(  # noqa: N802
        self, request: pb.GetNumbersRequest, context: wire.Context
    ) -> pb.GetNumbersResponse:
        """What a stream holds at its numbers."""
        caller = await self._caller(context)
        return await self.places.numbers(request, by=caller)
