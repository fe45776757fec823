"""A desk that was restored from a backup, or copied: what its name sent and it does not know forces new streams.

Two envelopes at one number of a stream are a fork, and look to every reader like a lie. So a desk asks its node, each
time it connects to send, for the newest envelope of each of its streams. Source: docs/PROTOCOL.md section 5.7.
"""

from collections.abc import Callable
from typing import Final

import grpc
from google.protobuf.message import DecodeError

from exchange import wire
from exchange.desk import pruned
from exchange.desk.events import Restored
from exchange.desk.holdings import Holdings
from exchange.desk.sealing import Sealing
from exchange.v1 import exchange_pb2 as pb
from exchange.v1 import exchange_pb2_grpc as rpc
from keys.errors import PeerError, TocsinError

ANSWER_S: Final = 20


async def renew_streams(
    holdings: Holdings, sealing: Sealing, stub: rpc.ExchangeStub, *, failed: Callable[[bytes, TocsinError], None]
) -> None:
    """Give up every stream of this desk that the node holds further than the desk knows; what waits is sealed anew.

    Args:
        holdings: What the desk holds.
        sealing: Seals what waits in such a stream again, in a new one.
        stub: The node's service.
        failed: Called for an envelope that cannot be sealed again.

    Raises:
        TocsinError: The node does not answer.
    """
    archive = holdings.archive
    for stream, seq, identity, channel in archive.own_streams():
        try:
            request = pb.GetNumbersRequest(sender=holdings.name, stream=stream)
            answer = await stub.GetNumbers(request, timeout=ANSWER_S)
        except grpc.aio.AioRpcError as failure:
            raise wire.error_from(failure) from None
        if not answer.last_seq or answer.last_id == identity or archive.header_of(answer.last_id) is not None:
            continue
        shown = await _shown(holdings, stub, stream, answer)
        holdings.event(Restored(channel, stream, seq, answer.last_seq, shown))
        for stuck, error in await sealing.seal_again(stream, b""):
            failed(stuck, error)
        if shown:
            with archive.transaction():
                # What its readers are told is how far it went in truth.
                archive.set_ended(stream, answer.last_seq)


async def _shown(holdings: Holdings, stub: rpc.ExchangeStub, stream: bytes, said: pb.GetNumbersResponse) -> bool:
    """Whether the node shows the envelope that it names as the last of a stream, signed by a key of this desk."""
    request = pb.GetNumbersRequest(sender=holdings.name, stream=stream, first_seq=said.last_seq, last_seq=said.last_seq)
    try:
        answer = await stub.GetNumbers(request, timeout=ANSWER_S)
    except grpc.aio.AioRpcError as failure:
        raise wire.error_from(failure) from None
    named = (entry for entry in answer.entries if entry.leaf == said.last_id)
    return any(_is_ours(holdings, entry, stream, said) for entry in named)


def _is_ours(holdings: Holdings, entry: pb.Entry, stream: bytes, said: pb.GetNumbersResponse) -> bool:
    try:
        header = pruned.signed_header(holdings, entry)
    except (PeerError, DecodeError):
        return False
    return (header.sender, header.stream, header.seq) == (holdings.name, stream, said.last_seq)
