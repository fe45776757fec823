"""Asking the node for numbers that are missing, and who can be shown to hold them (docs/PROTOCOL.md section 9.6)."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any, Final

import grpc

from exchange import checkpoint, history, merkle, tls, wire
from exchange.checkpoint import Checkpoint
from exchange.desk.events import Gap
from exchange.desk.holdings import Holdings
from exchange.desk.streams import Missing
from exchange.errors import ProofError
from exchange.v1 import exchange_pb2 as pb
from exchange.v1 import exchange_pb2_grpc as rpc
from exchange.v1 import report_pb2 as rep
from keys.errors import PeerError

ANSWER_S: Final = 20
HEARTBEAT_DEADLINE_S: Final = 30.0
AT_ONCE: Final = 64
PLACES_AT_ONCE: Final = 256
MAX_CALLS: Final = 16
"""A sender may claim any number: of a range, this many times AT_ONCE numbers are asked for."""


async def numbers(stub: rpc.ExchangeStub, row: Missing) -> AsyncIterator[pb.GetNumbersResponse]:
    """What the node gives at missing numbers, in answers of some; ends where it does not answer."""
    first = row.first
    for _ in range(MAX_CALLS):
        if first > row.last:
            return
        request = pb.GetNumbersRequest(
            sender=row.sender, stream=row.stream, first_seq=first, last_seq=min(row.last, first + AT_ONCE - 1)
        )
        try:
            answer = await stub.GetNumbers(request, timeout=ANSWER_S)
        except grpc.aio.AioRpcError:
            return
        if answer.entries:
            yield answer
        elif not answer.last_seq:
            # The node has nothing of the stream at all.
            return
        # An answer may end early, because of its size: what is left is asked for once, when the range is looked at again.
        first += AT_ONCE


async def places(stub: rpc.ExchangeStub, leaves: Sequence[bytes]) -> pb.GetPlacesResponse:
    """Where the log of the desk's node holds some leaves, at most PLACES_AT_ONCE; nothing is verified.

    Raises:
        TocsinError: The node does not answer.
    """
    with wire.answering():
        answer: pb.GetPlacesResponse = await stub.GetPlaces(pb.GetPlacesRequest(leaves=leaves), timeout=ANSWER_S)
    return answer


async def gap(holdings: Holdings, stub: rpc.ExchangeStub | None, row: Missing) -> Gap:
    """The event that numbers are missing, with the nodes that are shown to hold the last of them."""
    own = holdings.settings.node
    if stub is None:
        return Gap(row.sender, row.channel, row.stream, row.first, row.last)
    hosts = (tls.hosting_node(holdings.trust, row.sender), own)
    holders = []
    for node in dict.fromkeys(host for host in hosts if host) if row.id else ():
        # Who does not answer, or does not prove it, is not shown to hold anything.
        with suppress(grpc.aio.AioRpcError, PeerError):
            request = pb.GetPlacesRequest(leaves=[row.id], node="" if node == own else node)
            answer = await stub.GetPlaces(request, timeout=ANSWER_S)
            if _holds(holdings, node, row.id, answer):
                holders.append(node)
    return Gap(row.sender, row.channel, row.stream, row.first, row.last, own, tuple(holders))


def _holds(holdings: Holdings, node: str, leaf: bytes, answer: pb.GetPlacesResponse) -> bool:
    """Whether a node's log is shown to hold a leaf.

    Raises:
        ProofError: What is shown does not hold.
    """
    entry = holdings.trust.node(node)
    if entry is None:
        raise ProofError(f"{node} is in no roster")
    # It is asked now: a key that it had once, and somebody else may have today, shows nothing.
    head = checkpoint.verify(answer.checkpoint, entry.log_key.suite, entry.log_key.key, name=node)
    history.number_of(head.origin, node)
    for place in answer.places:
        if place.leaf == leaf:
            merkle.verify_inclusion(leaf, place.position, head.size, list(place.proof), head.root)
            return True
    return False


async def contradicts(stub: rpc.ExchangeStub, newest: Checkpoint, said: rep.LogHead) -> bool:
    """Whether a head that another desk saw is shown not to be of the history of the newest one seen here."""
    if newest.origin != said.origin or not 0 < said.size <= newest.size:
        return False
    if said.size == newest.size:
        return said.root != newest.root
    try:
        request = pb.GetProofRequest(from_size=said.size, size=newest.size)
        proof = list((await stub.GetProof(request, timeout=ANSWER_S)).consistency)
    except grpc.aio.AioRpcError:
        return False
    try:
        merkle.verify_consistency(said.size, newest.size, said.root, newest.root, proof)
    except ProofError:
        return True
    return False


class Answers:
    """What a call answers, one after the other; waiting for the next can be interrupted without losing it."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._reading: asyncio.Future[Any] | None = None
        self._due_s = 0.0

    async def next(self, within_s: float | None = None) -> Any:
        """The next answer; None when `within_s` seconds passed without one.

        Raises:
            TimeoutError: The node has been silent for HEARTBEAT_DEADLINE_S.
        """
        if self._reading is None and within_s is None:
            # Not wait_for: before Python 3.12 it can swallow a cancellation, and the desk would not stop.
            async with asyncio.timeout(HEARTBEAT_DEADLINE_S):
                return await self._call.read()
        loop = asyncio.get_running_loop()
        if self._reading is None:
            # A read that is cancelled cancels its call: it goes on by itself.
            self._reading = asyncio.ensure_future(self._call.read())
            self._due_s = loop.time() + HEARTBEAT_DEADLINE_S
        left_s = max(0.0, self._due_s - loop.time())
        done, _ = await asyncio.wait({self._reading}, timeout=left_s if within_s is None else min(within_s, left_s))
        if done:
            reading, self._reading = self._reading, None
            return reading.result()
        if loop.time() >= self._due_s:
            raise TimeoutError
        return None

    def close(self) -> None:
        """End the call."""
        if self._reading is not None:
            self._reading.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._reading.cancel()
        self._call.cancel()
