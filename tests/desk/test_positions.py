"""A desk reads what its node held before the sender's key ended, and nothing that came after. Attack 19."""

from typing import Any

import grpc
import pytest

from exchange import checkpoint, merkle
from exchange.desk import Refused
from exchange.v1 import exchange_pb2 as pb
from keys import suite
from keys.documents import Document
from tests import chains
from tests.desk import memory
from tests.desk.memory import Exchange
from tests.desk.test_couriers import HAGUE, SEOUL, read, send
from tests.world import NOON

KR, NL = "kr.the-hague-1", "nl.seoul-1"
HOUR = 3600_000


def revoke(exchange: Exchange) -> Document:
    """The roster that ends the sender's key comes into the log."""
    exchange.clock.now_ms = NOON + HOUR
    key = suite.key_id(1, "desk", exchange.world.desks[HAGUE].public)
    roster = chains.next_roster(
        exchange.world, "kr", lambda body: body.revocations.add(key=key), now_ms=exchange.clock()
    )
    exchange.log.take(roster.encode())
    return roster


def showing(exchange: Exchange, cosigned: bytes) -> Any:
    """GetPosition of the Dutch node."""

    async def answer(_: Any, request: pb.GetPositionRequest, timeout: float) -> pb.GetPositionResponse:
        leaves = [leaf for leaf, _, _ in exchange.log.entries]

        def node_at(level: int, index: int) -> bytes:
            return merkle.root_of(leaves[index << level : (index + 1) << level])

        response, size = pb.GetPositionResponse(), checkpoint.parse(cosigned).size
        response.log.heads.add(note=cosigned)
        response.log.heads.add(note=exchange.log.note(NL), consistency=merkle.consistency(size, len(leaves), node_at))
        for leaf in (request.leaf, *request.endings):
            at = leaves.index(leaf)
            response.log.places.add(leaf=leaf, position=at, proof=merkle.inclusion(at, len(leaves), node_at))
        return response

    return answer


async def silent(_: Any, request: pb.GetPositionRequest, timeout: float) -> pb.GetPositionResponse:
    raise grpc.aio.AioRpcError(grpc.StatusCode.UNIMPLEMENTED, grpc.aio.Metadata(), grpc.aio.Metadata())


@pytest.mark.parametrize("shown", [True, False])
@pytest.mark.parametrize("early", [True, False])
async def test_what_came_before_the_key_ended_is_read(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch, shown: bool, early: bool
) -> None:
    await send(exchange, "before")
    cosigned = checkpoint.cosign(exchange.log.note(NL), exchange.world.log_keys[KR], name=KR)
    await send(exchange, "between the last cosigned head and the revocation")
    revoke(exchange)
    answer = showing(exchange, cosigned) if shown else silent
    monkeypatch.setattr(memory._Stub, "GetPosition", answer, raising=False)
    if early:
        monkeypatch.setattr(memory._Stub, "Subscribe", memory.ahead)
    async with exchange.open(SEOUL) as desk:
        assert await read(desk) == (["before"] if shown else [])
        refused = [event for event in desk.events() if isinstance(event, Refused)]
        assert [event.rule for event in refused] == ["SENDER_ENDED"] * (1 if shown else 2)
