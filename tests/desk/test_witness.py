"""A desk holds its node to one history, across sessions: rolled back, forked, rewritten (DESIGN: every reader a witness)."""

import asyncio
from pathlib import Path

import pytest

from exchange import checkpoint, history
from exchange.desk import Desk, witness
from exchange.desk.events import Clash
from exchange.errors import LogForkError, LogRollbackError, ProofError
from exchange.node import clashes
from exchange.v1 import exchange_pb2 as pb
from tests.desk import memory
from tests.desk.memory import Exchange, exchange
from tests.desk.test_desk import said, texts
from tests.world import found

HAGUE, SEOUL = "kr.the-hague/economic", "nl.seoul/economic"


@pytest.fixture
async def world(tmp_path: Path) -> Exchange:
    made = exchange(tmp_path, found(weeks=0), HAGUE, SEOUL)
    await made.synchronise()
    return made


async def say(world: Exchange, *words: str) -> None:
    async with world.open(HAGUE) as desk:
        for word in words:
            await desk.publish("minerals", said(word))
        assert await desk.flush(20) == 0


async def read(desk: Desk) -> list[str]:
    return texts([delivery async for delivery in desk.subscribe("minerals", follow=False)])


async def seen_two(world: Exchange) -> None:
    await say(world, "one", "two")
    async with world.open(SEOUL) as reader:
        assert await read(reader) == ["one", "two"]


async def test_a_log_that_goes_on_is_taken_in_the_next_session(world: Exchange) -> None:
    await seen_two(world)
    await say(world, "three")
    async with world.open(SEOUL) as reader:
        assert await read(reader) == ["three"]
        assert reader.events() == []
        assert reader.archive.clashes() == []


async def test_a_log_rolled_back_between_sessions_is_refused_and_both_heads_prove_it(
    world: Exchange, tmp_path: Path
) -> None:
    await seen_two(world)
    del world.log.entries[-1]
    async with world.open(SEOUL) as reader:
        with pytest.raises(LogRollbackError):
            await read(reader)
        [event] = reader.events()
        assert isinstance(event, Clash)
        assert event.rule == "LOG_ROLLBACK"
        # Told once, however often it is seen.
        with pytest.raises(LogRollbackError):
            await read(reader)
        assert reader.events() == []
        [clash] = reader.archive.clashes()
    seen, shown = clashes.export(tmp_path / "proof", [(clash.rule, clash.seen, clash.shown)])
    heads = [checkpoint.parse(path.read_bytes()) for path in (seen, shown)]
    assert heads[0].size == heads[1].size + 1
    node = world.world.log_keys[heads[0].origin.split("/")[1]]
    for path in (seen, shown):
        checkpoint.verify(path.read_bytes(), node.suite, node.public, name=heads[0].origin.split("/")[1])


@pytest.mark.parametrize("more", [0, 2])
async def test_a_rewritten_log_is_refused_whatever_its_length(world: Exchange, more: int) -> None:
    await seen_two(world)
    leaf, kind, data = world.log.entries[-1]
    world.log.entries[-1] = (bytes(32), kind, data)
    world.log.hide = lambda data: True
    world.log.entries += [(bytes([n]) * 32, kind, data) for n in range(more)]
    async with world.open(SEOUL) as reader:
        with pytest.raises(LogForkError):
            await read(reader)
        assert [type(event) for event in reader.events()] == [Clash]
        # Who only sends asks before anything else.
        reader.archive.clashes()
    world.log.entries[-1 - more] = (leaf, kind, data)


async def test_a_reader_who_follows_is_told_and_goes_on_when_the_log_is_repaired(world: Exchange) -> None:
    await seen_two(world)
    lost = world.log.entries.pop()
    async with world.open(SEOUL) as reader:
        got: list[str] = []

        async def follow() -> None:
            async for delivery in reader.subscribe("minerals"):
                got.extend(texts([delivery]))

        task = asyncio.create_task(follow())
        async with asyncio.timeout(20):
            while not reader._own.events:
                await asyncio.sleep(0.05)
            assert not task.done()
            world.log.entries.append(lost)
            await say(world, "three")
            while got != ["three"]:
                await asyncio.sleep(0.05)
        task.cancel()


async def test_a_sender_gives_nothing_to_a_rolled_back_log(world: Exchange) -> None:
    await say(world, "one", "two")
    async with world.open(HAGUE) as desk:
        assert await read(desk) == []
    del world.log.entries[-1]
    async with world.open(HAGUE) as desk:
        await desk.publish("minerals", said("three"))
        assert await desk.flush(1) == 1
        assert [type(event) for event in desk.events()] == [Clash]
        assert "LOG_ROLLBACK" in desk.state


async def test_without_the_check_a_rolled_back_log_is_taken(world: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    await seen_two(world)
    del world.log.entries[-1]
    monkeypatch.setattr(history, "require_extends", lambda seen, shown, proof: None)
    async with world.open(SEOUL) as reader:
        assert await read(reader) == []
        assert reader.events() == []


def test_a_log_of_another_node_is_none() -> None:
    assert history.number_of("tocsin/kr.x-1/12", "kr.x-1") == 12
    for origin in ("tocsin/kr.x-1/0", "tocsin/kr.x-1/", "tocsin/kr.y-1/1", "tocsin/kr.x-1/1/2", "tocsin/kr.x-1/01"):
        with pytest.raises(ProofError):
            history.number_of(origin, "kr.x-1")


@pytest.mark.parametrize("origin", ["", "tocsin", "tocsin/nl.x-1", "other/nl.x-1/1", "tocsin/nl.x-1/x", "tocsin/a/b/1"])
def test_an_origin_names_a_node(origin: str) -> None:
    assert history.node_of("tocsin/nl.x-1/12") == "nl.x-1"
    with pytest.raises(ProofError):
        history.node_of(origin)


@pytest.mark.parametrize("lie", ["names a later log", "counts beyond its checkpoint"])
async def test_a_node_that_lies_is_asked_no_more_than_once(
    world: Exchange, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    async with world.open(SEOUL) as desk:
        [_ async for _ in desk.subscribe("minerals", follow=False)]
        cursor, asked, truth = desk.archive.cursor("minerals"), 0, memory.Log.read

        def lying(log: memory.Log, node: str, request: pb.SubscribeRequest) -> pb.SubscribeResponse:
            nonlocal asked
            answer, asked = truth(log, node, request), asked + bool(request.channels)
            if request.channels and lie == "names a later log":
                answer.checkpoint = b"tocsin/nl.seoul-1/999\n"
            if request.channels and lie == "counts beyond its checkpoint":
                answer.next_position += 2**63
            return answer

        monkeypatch.setattr(memory.Log, "read", lying)
        with pytest.raises(ProofError):
            [_ async for _ in desk.subscribe("minerals", follow=False)]
        assert (asked, desk.archive.cursor("minerals")) == (1, cursor)


async def test_a_node_of_many_logs_is_remembered_within_bounds(
    world: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(witness, "MAX_CLASHES", 3)
    key = world.world.log_keys["nl.seoul-1"]
    async with world.open(SEOUL) as desk:
        kept = witness.Witness(desk._own)
        for n in range(5):
            note = checkpoint.sign("tocsin/nl.seoul-1/1", 9, bytes([n]) * 32, key, name="nl.seoul-1", time_ms=1)
            for _ in range(2):
                kept._keep(LogForkError("two roots", seen=note, shown=note))
        assert len(desk.events()) == 5, "each is told, once"
        assert len(kept._told) == 3
