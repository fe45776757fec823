"""A desk that was restored from a backup, or copied: what its name sent and it does not know forces new streams.

Two envelopes at one number of a stream are a fork, and look to every reader like a lie; so does one in a stream that was
closed. So a desk asks its node, each time it connects to send, for the newest envelope of each of its streams, and for its
newest in any. Source: docs/PROTOCOL.md sections 5.7 and 9.6.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from exchange import wire
from exchange.desk import pruned
from exchange.desk.events import Restored
from exchange.desk.holdings import Holdings
from exchange.desk.sealing import Sealing
from exchange.v1 import envelope_pb2 as env
from exchange.v1 import exchange_pb2 as pb
from exchange.v1 import exchange_pb2_grpc as rpc
from keys.encoding import canonical_bytes
from keys.errors import PeerError, TocsinError

ANSWER_S: Final = 20


class Unknown(NamedTuple):
    """An envelope that the node says this desk sent; its header, if it was shown, signed by a key of the desk."""

    id: bytes
    seq: int
    header: env.Header | None


async def renew_streams(
    holdings: Holdings, sealing: Sealing, stub: rpc.ExchangeStub, *, failed: Callable[[bytes, TocsinError], None]
) -> None:
    """Give up streams of this desk if the node holds envelopes of it that it does not know; what waits is sealed anew.

    Args:
        holdings: What the desk holds.
        sealing: Seals what waits in such a stream again, in a new one.
        stub: The node's service.
        failed: Called for an envelope that cannot be sealed again.

    Raises:
        TocsinError: The node does not answer.
    """
    archive, told = holdings.archive, False
    streams = archive.own_streams()
    if not streams:
        return
    newest = await _unknown(holdings, stub, b"")
    for stream, seq, _, channel in streams:
        further = await _unknown(holdings, stub, stream)
        if further is not None:
            told = True
            holdings.event(Restored(channel, stream, seq, further.seq, further.header is not None))
        elif newest is None:
            continue
        # Also one that goes no further: whoever sent what is not known here may have closed it.
        for stuck, error in await sealing.seal_again(stream, b""):
            failed(stuck, error)
        if further is not None and further.header is not None:
            with archive.transaction():
                # What its readers are told is how far it went in truth.
                archive.set_ended(stream, further.seq)
    if newest is None:
        return
    if not told:
        named = newest.header or env.Header()
        holdings.event(Restored(named.channel, named.stream, 0, newest.seq, newest.header is not None))
    if newest.header is not None:
        with archive.transaction():
            # From now on it is known: it gives up no further streams.
            archive.keep_shut(holdings.name, newest.id, canonical_bytes(newest.header))


async def _unknown(holdings: Holdings, stub: rpc.ExchangeStub, stream: bytes) -> Unknown | None:
    """The newest envelope of this desk, in a stream or in any, that its node claims to hold; None if the desk knows it."""
    request = pb.GetNumbersRequest(sender=holdings.name, stream=stream)
    answer = await _numbers(stub, request)
    if not answer.last_seq or holdings.archive.header_of(answer.last_id) is not None:
        return None
    request.first_seq = request.last_seq = answer.last_seq
    for entry in (await _numbers(stub, request)).entries:
        header = _header(holdings, entry) if entry.leaf == answer.last_id else None
        if header is not None and header.seq == answer.last_seq and stream in (b"", header.stream):
            return Unknown(answer.last_id, answer.last_seq, header)
    return Unknown(answer.last_id, answer.last_seq, None)


async def _numbers(stub: rpc.ExchangeStub, request: pb.GetNumbersRequest) -> pb.GetNumbersResponse:
    with wire.answering():
        answer: pb.GetNumbersResponse = await stub.GetNumbers(request, timeout=ANSWER_S)
    return answer


def _header(holdings: Holdings, entry: pb.Entry) -> env.Header | None:
    """The header of an envelope of this desk; None if it is none."""
    try:
        header = pruned.signed_header(holdings, entry)
    except (PeerError, DecodeError):
        return None
    return header if header.sender == holdings.name else None
