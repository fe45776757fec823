"""A desk whose people say that another exchange took its one's place: it says nothing more, and forgets nothing."""

import asyncio
from pathlib import Path

import pytest

from exchange import envelope, retirement
from exchange.evidence import verify
from exchange.v1 import exchange_pb2 as pb
from exchange.v1 import report_pb2 as rep
from keys import founding
from keys.trust import DeadLineageError
from tests.desk import memory
from tests.desk.memory import Exchange
from tests.desk.test_couriers import HAGUE, SEOUL, read, said, send
from tests.world import NOON, World, found


@pytest.fixture(scope="module")
def world() -> World:
    return found(weeks=0)


@pytest.fixture
async def exchange(tmp_path: Path, world: World) -> Exchange:
    made = memory.exchange(tmp_path, world, HAGUE, SEOUL)
    await made.synchronise()
    return made


def retire(exchange: Exchange, desk: str) -> bytes:
    """As `tocsin desk retire`: Korea drew new roots; the new lineage."""
    kr = founding.found_party("kr", now_ms=NOON)
    body = founding.standard_agreement(now_ms=NOON, title="anew")
    body.dead_lineages.append(exchange.world.lineage)
    signed = founding.agreement(body, [kr, exchange.world.parties["nl"]])
    encoded = [d.encode() for d in (kr.document, exchange.world.parties["nl"].document, signed)]
    opened = exchange.open(desk)
    retirement.retire(opened.directory, opened.trust, desk, encoded, signed.digest, now_ms=exchange.clock())
    opened.close()
    return signed.digest


async def test_it_publishes_nothing_more_and_what_it_holds_stays_good(exchange: Exchange) -> None:
    identity = await send(exchange, "plenty")
    async with exchange.open(SEOUL) as reader:
        assert await read(reader) == ["plenty"]
    new, other = retire(exchange, SEOUL), retire(exchange, HAGUE)
    async with exchange.open(HAGUE) as desk:
        with pytest.raises(DeadLineageError) as refused:
            await desk.publish("minerals", said("scarce"))
        assert other.hex() in refused.value.hint
        # Nothing else of it is said either: not an answer, not what a timer would say.
        with pytest.raises(DeadLineageError):
            await desk.publish("minerals", rep.Item(acknowledgement=rep.Acknowledgement()), answers=identity)
        header = desk.archive.header_of(identity)
        assert header is not None
        outcome = await desk._sending.sealing.seal_expired([(identity, header)])
        assert isinstance(outcome[0][1], DeadLineageError)
        assert await desk.flush(1) == 0
    # What is held is read and proved as before, for ever.
    async with exchange.open(SEOUL) as reader:
        assert reader.trust.death is not None, "kept"
        assert reader.trust.death.successor == new
        [delivery] = reader.inbox("minerals")
        data, _ = await reader.evidence(delivery.envelope, 0, ask=False)
    proof = verify.verify(data, exchange.world.lineage)
    assert rep.Item.FromString(proof.item).report.summary[0].text == "plenty"


async def test_a_node_that_was_told_first_keeps_a_desk_waiting_and_says_why(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(request: pb.PublishRequest) -> pb.PublishResponse:
        response = pb.PublishResponse()
        for data in request.envelopes:
            response.results.add(id=envelope.parse(data).id, rule="LINEAGE_DEAD", text="another took its place")
        return response

    monkeypatch.setattr(memory._Stub, "Publish", lambda _: memory._Call(refuse))
    async with exchange.open(HAGUE) as desk:
        identity = await desk.publish("minerals", said("scarce"))
        async with asyncio.timeout(20):
            while "LINEAGE_DEAD" not in desk.state:
                await asyncio.sleep(0.02)
        # It is not sealed again and again: no seal of it is ever taken there.
        assert [row.id for row in desk.archive.outgoing(0, 16)] == [identity]
        assert desk.state == "LINEAGE_DEAD: another took its place"
