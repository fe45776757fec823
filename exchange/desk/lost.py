"""What the node lost is not answered: it takes no answer to what it does not hold, and whoever said that says it again.

A node that was restored from a backup lacks what it alone had acknowledged. Source: docs/PROTOCOL.md section 8.7.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from exchange.desk.archive import Archive
from exchange.desk.asking import PLACES_AT_ONCE, places
from exchange.desk.holdings import Holdings
from exchange.reshare import kind_of
from exchange.v1 import exchange_pb2_grpc as rpc
from exchange.v1 import report_pb2 as rep

CAN_GO: Final = frozenset({"acknowledgement", "closing"})


async def answered_and_lost(holdings: Holdings, stub: rpc.ExchangeStub) -> tuple[frozenset[bytes], list[bytes]]:
    """Ids of envelopes that answers in the outbox answer or acknowledge and the node does not hold; the streams of those answers.

    Raises:
        TocsinError: The node does not answer.
    """
    waiting = await holdings.workers.run(_answered, holdings.archive)
    wanted = list(dict.fromkeys(one for _, answered in waiting for one in answered))
    found = set[bytes]()
    for first in range(0, len(wanted), PLACES_AT_ONCE):
        answer = await places(stub, wanted[first : first + PLACES_AT_ONCE])
        found.update(place.leaf for place in answer.places)
    lost = frozenset(wanted) - found
    return lost, list(dict.fromkeys(stream for stream, answered in waiting if not lost.isdisjoint(answered)))


def _answered(archive: Archive) -> list[tuple[bytes, list[bytes]]]:
    """Of each answer that waits, and can go, its stream and what it answers."""
    found = list[tuple[bytes, list[bytes]]]()
    for identity, stream, answers in archive.answering():
        items = archive.unsealed(identity).items
        if all(kind_of(raw) in CAN_GO for raw in items):
            found.append((stream, [answers, *_acknowledged(items)]))
    return found


def _acknowledged(items: Iterable[bytes]) -> list[bytes]:
    return [
        said.acknowledgement.envelope for raw in items if (said := rep.Item.FromString(raw)).HasField("acknowledgement")
    ]


def replies_left(items: Sequence[bytes], answers: bytes, lost: frozenset[bytes]) -> tuple[Sequence[bytes], bytes]:
    """The items of an answer that still answer something, and what they answer: of acknowledgements of many, the last.

    A closing tells nothing to readers who lost what it answers. Anything else stays as it is.
    """
    if not lost:
        return items, answers
    left = [raw for raw in items if lost.isdisjoint(_acknowledged([raw]))]
    if answers not in lost:
        return left, answers
    if held := _acknowledged(left):
        return left, held[-1]
    return [raw for raw in left if kind_of(raw) != "closing"], answers
