"""Moving to another log of the node: every receipt gets its place there, and what nobody took is sealed again.

A node that was restored from a backup has back what its peers took; what only it had acknowledged is gone with its disk.
Source: docs/PROTOCOL.md section 8.7.
"""

from exchange import merkle
from exchange.desk.asking import PLACES_AT_ONCE, places
from exchange.desk.events import NewLog, Refused
from exchange.desk.holdings import Holdings
from exchange.desk.sealing import Sealing
from exchange.desk.witness import Witness
from exchange.v1 import envelope_pb2 as env
from exchange.v1 import exchange_pb2 as pb
from exchange.v1 import exchange_pb2_grpc as rpc
from keys.encoding import parse_canonical
from keys.errors import TocsinError


async def move(holdings: Holdings, sealing: Sealing, witness: Witness, stub: rpc.ExchangeStub) -> None:
    """Ask the new log for everything this desk has a receipt for; goes on where it was interrupted.

    Args:
        holdings: What the desk holds.
        sealing: Seals again what is not there.
        witness: Reads the new log already.
        stub: The node's service.

    Raises:
        ProofError: What the node shows does not hold.
        TocsinError: It does not answer.
    """
    archive, run, again = holdings.archive, holdings.workers.run, 0
    while left := await run(archive.unmoved, PLACES_AT_ONCE):
        answer = await places(stub, [identity for _, identity, _ in left])
        shown = witness.verified(answer.checkpoint)
        await witness.compare(stub, shown)
        for place in answer.places:
            merkle.verify_inclusion(place.leaf, place.position, shown.head.size, list(place.proof), shown.head.root)
        found = {place.leaf for place in answer.places}
        lost = [
            (one, header)
            for _, one, header in left
            if one not in found and not archive.sealed_again_as(one) and _is_wanted(holdings, header)
        ]
        if lost:
            for identity, outcome in await sealing.seal_expired(lost):
                if isinstance(outcome, TocsinError):
                    holdings.event(Refused(identity, outcome.reason, str(outcome)))
                again += isinstance(outcome, bytes) and bool(outcome)
        await run(_note, holdings, left[-1][0], answer)
    if again:
        assert witness.newest is not None  # noqa: S101 - it was compared above
        holdings.event(NewLog(witness.newest.head.origin, again))


def _is_wanted(holdings: Holdings, header: bytes) -> bool:
    """Whether the retention rule would still keep it: what nodes have dropped is not sent anew."""
    said, now_ms = parse_canonical(env.Header, header), holdings.clock()
    rule = holdings.trust.agreement(now_ms).channels.get(said.channel)
    return rule is None or not rule.retention_ms or said.create_time_ms + rule.retention_ms > now_ms


def _note(holdings: Holdings, number: int, answer: pb.GetPlacesResponse) -> None:
    with holdings.archive.transaction():
        places = [(place.leaf, place.position, list(place.proof)) for place in answer.places]
        holdings.archive.moved(number, places, answer.checkpoint)
