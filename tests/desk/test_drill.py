"""A drill beside production on one machine: the same names, another lineage; nothing passes from one to the other."""

from pathlib import Path

from exchange.clock import now_ms
from exchange.demo.found import found
from exchange.desk import Desk
from exchange.node.app import App
from exchange.v1 import exchange_pb2 as pb
from tests.desk.test_desk import HAGUE, SEOUL, said, texts


async def test_a_drill_runs_beside_production_and_stays_apart(tmp_path: Path) -> None:
    drill, real = (
        found(tmp_path / name, title=name, drill=name == "drill", clock=lambda: now_ms() - 60_000)
        for name in ("drill", "real")
    )
    async with (
        App(drill.node("kr")).serving() as drilled,
        App(real.node("kr")).serving() as kept,
        App(drill.node("nl")).serving(),
        App(real.node("nl")).serving(),
        Desk.open(drill.desk(HAGUE)) as trainee,
        Desk.open(real.desk(HAGUE)) as attache,
    ):
        exercise = await trainee.publish("minerals", said("exercise"))
        await attache.publish("minerals", said("in earnest"))
        assert await trainee.flush(20) == await attache.flush(20) == 0
        for where, words in ((drill, "exercise"), (real, "in earnest")):
            async with Desk.open(where.desk(SEOUL)) as reader:
                async for delivery in reader.subscribe("minerals"):
                    assert texts([delivery]) == [words]
                    break
        # What a careless hand sends to the other node is refused there, though sender and readers bear the same names.
        position = drilled.node.store.position_of(exercise)
        assert position is not None
        row = drilled.node.store.get(position)
        assert row is not None
        stub = await attache._link.stub()
        size = kept.node.store.size()
        [answer] = [one async for one in stub.Publish(iter([pb.PublishRequest(envelopes=[row.data])]), timeout=10)]
        assert [result.rule for result in answer.results] == ["SENDER_UNKNOWN"]
        assert kept.node.store.size() == size
