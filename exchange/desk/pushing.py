"""Documents handed to the own node at once: a revocation, a renunciation, what the ministry sent by hand."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import grpc

from exchange import wire
from exchange.desk.link import ANSWER_S, CHANNEL_CLOSED, Link
from exchange.v1 import exchange_pb2 as pb

MAX_DOCUMENTS: Final = 256
MAX_BYTES: Final = 2_000_000
"""A call carries at most 4 MiB."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """What the node said of one document: taken (or known) when `rule` is empty."""

    digest: bytes
    rule: str
    text: str


async def push(link: Link, encoded: Sequence[bytes]) -> list[Pushed]:
    """Give documents to the node that hosts the desk, in their order.

    Raises:
        TocsinError: The node does not answer, or its disk failed; what it took before stays.
    """
    stub = await link.stub()
    results: list[Pushed] = []
    try:
        for batch in batches(encoded):
            answer = await stub.PutDocuments(pb.PutDocumentsRequest(documents=batch), timeout=ANSWER_S)
            results += [Pushed(each.digest, each.rule, each.text) for each in answer.results]
    except grpc.aio.AioRpcError as failure:
        raise wire.error_from(failure) from None
    except grpc.aio.UsageError:
        raise wire.UnreachableError(CHANNEL_CLOSED) from None
    return results


def batches(encoded: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Documents in calls of a bounded size."""
    batch: list[bytes] = []
    for data in encoded:
        if batch and (len(batch) >= MAX_DOCUMENTS or sum(map(len, batch)) + len(data) > MAX_BYTES):
            yield batch
            batch = []
        batch.append(data)
    if batch:
        yield batch
