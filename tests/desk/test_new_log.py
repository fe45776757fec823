"""A desk whose node was restored from a backup: reads its new log, loses nothing it was given a receipt for, is not deceived."""

import asyncio
from pathlib import Path

import pytest

from exchange import checkpoint, history
from exchange.desk import NewLog
from exchange.desk.events import Clash
from exchange.desk.moves import Moves
from exchange.errors import LogRollbackError, StoreError
from exchange.v1 import exchange_pb2 as pb
from keys.errors import UsageError
from tests.cli.test_cli import tocsin
from tests.desk import memory
from tests.desk.memory import Exchange, exchange
from tests.desk.test_desk import said, texts
from tests.desk.test_witness import read, say
from tests.world import found

NODE = "kr.the-hague-1"
SENDER, READER = "kr.the-hague/economic", "kr.motie/supply"
LOG1, LOG2 = f"tocsin/{NODE}/1", f"tocsin/{NODE}/2"


@pytest.fixture
async def world(tmp_path: Path) -> Exchange:
    made = exchange(tmp_path, found(weeks=0), SENDER, READER)
    await made.synchronise()
    return made


def envelopes(world: Exchange) -> int:
    return sum(kind == pb.ENTRY_KIND_ENVELOPE for _, kind, _ in world.log.entries)


def restore(world: Exchange, *, older: bool = False) -> None:
    """The node loses its newest entry, which nobody else took, and goes on in another log; `older`: it denies that entry."""
    head = world.log.note(NODE)
    del world.log.entries[-1]
    world.log.begin_another(world.log.note(NODE) if older else head)


async def seen_two(world: Exchange) -> None:
    await say(world, "one", "two")
    async with world.open(READER) as reader:
        assert await read(reader) == ["one", "two"]


async def test_what_only_the_node_had_is_sealed_again_and_nobody_reads_it_twice(world: Exchange) -> None:
    await seen_two(world)
    restore(world)
    async with world.open(SENDER) as sender:
        await sender.publish("minerals", said("three"))
        async with asyncio.timeout(20):
            while envelopes(world) < 3:
                await asyncio.sleep(0.05)
        assert await sender.flush(20) == 0
        assert sender.events() == [NewLog(LOG2), NewLog(LOG2, 1)]
        # What the new log holds has its receipt there; what is lost keeps the one that proves it was taken.
        origins = [
            checkpoint.parse(sender.archive.receipt(identity)[2]).origin  # type: ignore[index]
            for identity in sender.archive.sent()
        ]
        assert origins == [LOG2, LOG1, LOG2, LOG2]
        assert [finding for finding in sender.audit() if finding.bad] == []
    async with world.open(READER) as reader:
        assert await read(reader) == ["three"]
        assert reader.events() == [NewLog(LOG2)]
        assert texts(reader.inbox()) == ["one", "two", "three"]
        assert [finding for finding in reader.audit() if finding.bad] == []
    # It is done once.
    async with world.open(SENDER) as sender:
        await sender.publish("minerals", said("four"))
        assert await sender.flush(20) == 0
        assert sender.events() == []
    assert envelopes(world) == 4


async def test_an_interrupted_move_seals_nothing_twice(world: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    await say(world, "one", "two")
    restore(world)

    def fail(*_: object) -> None:
        raise StoreError("the disk failed")

    with monkeypatch.context() as patched:
        patched.setattr(Moves, "moved", fail)
        async with world.open(SENDER) as sender:
            async with asyncio.timeout(20):
                while not sender.archive.waiting():
                    await asyncio.sleep(0.05)
    async with world.open(SENDER) as sender:
        await sender.publish("minerals", said("three"))
        assert await sender.flush(20) == 0
        assert sender.archive.unmoved(9) == []
    assert envelopes(world) == 3


async def test_a_new_log_that_denies_what_was_seen_is_refused_until_a_person_accepts_it(
    world: Exchange, tmp_path: Path
) -> None:
    await seen_two(world)
    restore(world, older=True)
    async with world.open(READER) as reader:
        with pytest.raises(LogRollbackError, match="ended with"):
            await read(reader)
        [event] = reader.events()
        assert isinstance(event, Clash)
        [clash] = reader.archive.clashes()
        heads = [checkpoint.parse(note) for note in (clash.seen, clash.shown)]
        assert [head.origin for head in heads] == [LOG1, LOG2]
    async with world.open(SENDER) as sender:
        await sender.publish("minerals", said("three"))
        assert await sender.flush(1) == 1
        with pytest.raises(UsageError):
            sender.accept_log(LOG1)
    # As the command does it: on a desk that does not run.
    stopped = world.open(SENDER)
    stopped.accept_log(LOG2)
    stopped.close()
    async with world.open(SENDER) as sender:
        assert await sender.flush(20) == 0
        assert [event for event in sender.events() if isinstance(event, NewLog)] == [NewLog(LOG2, 1)]
    directory, proof = world.directories[READER], tmp_path / "proof"
    for arguments in (["clashes", directory, "--out", proof], ["accept-log", directory, LOG2]):
        done = tocsin("desk", *arguments)
        assert done.returncode == 0, done.stderr
    assert sorted(path.read_bytes() for path in proof.iterdir()) == sorted((clash.seen, clash.shown))
    async with world.open(READER) as reader:
        # From its start: the same position is another entry's now.
        assert reader.archive.cursor("minerals") == 0
        assert await read(reader) == ["three"]
        assert reader.archive.clashes() == [clash]


async def test_a_place_that_is_not_proved_is_none(world: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    await say(world, "one")
    restore(world)
    places = world.log.places

    def lying(node: str, request: pb.GetPlacesRequest) -> pb.GetPlacesResponse:
        answer = places(node, request)
        for leaf in request.leaves:
            answer.places.add(leaf=leaf, position=0, proof=world.log.proof(0))
        return answer

    with monkeypatch.context() as patched:
        patched.setattr(world.log, "places", lying)
        async with world.open(SENDER) as sender:
            async with asyncio.timeout(20):
                while "PROOF_BAD" not in sender.state:
                    await asyncio.sleep(0.05)
            [(_, identity, _)] = sender.archive.unmoved(9)
            receipt = sender.archive.receipt(identity)
            assert receipt is not None
            assert checkpoint.parse(receipt[2]).origin == LOG1
    async with world.open(SENDER) as sender:
        async with asyncio.timeout(20):
            while envelopes(world) < 1:
                await asyncio.sleep(0.05)


async def test_without_the_check_it_is_read(world: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    await seen_two(world)
    restore(world, older=True)
    monkeypatch.setattr(history, "require_continues", lambda *_: None)
    async with world.open(READER) as reader:
        assert await read(reader) == []
        assert reader.events() == [NewLog(LOG2)]


async def test_the_log_before_is_not_read_again(world: Exchange) -> None:
    await seen_two(world)
    restore(world)
    async with world.open(READER) as reader:
        await read(reader)
    del world.log.entries[0]
    world.log.number = 1
    async with world.open(READER) as reader:
        with pytest.raises(LogRollbackError, match="shown again"):
            await read(reader)


async def test_a_call_that_is_overtaken_by_another_accuses_nobody(
    world: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While its answer is under way, another call of the desk is shown how the new log continues the old one."""
    await seen_two(world)
    restore(world)
    subscribe, overtaken = memory._Stub.Subscribe, asyncio.Event()
    async with world.open(READER) as reader:

        class Slow(memory._Call):
            async def read(self) -> object:
                if not overtaken.is_set():
                    overtaken.set()
                    await reader._witness.go_on(memory._Stub(world.log, "kr.the-hague-1"))  # type: ignore[arg-type]
                return await super().read()

        def slowly(stub: memory._Stub, request: pb.SubscribeRequest) -> memory._Call:
            if request.channels and not overtaken.is_set():
                return Slow(ready=(stub._log.read(stub._node, request),))
            return subscribe(stub, request)

        monkeypatch.setattr(memory._Stub, "Subscribe", slowly)
        await read(reader)
        assert overtaken.is_set()
        assert reader.events() == [NewLog(LOG2)]


async def test_a_reader_who_follows_goes_on_by_itself(world: Exchange) -> None:
    await seen_two(world)
    async with world.open(READER) as reader:
        got: list[str] = []

        async def follow() -> None:
            async for delivery in reader.subscribe("minerals"):
                got.extend(texts([delivery]))

        task = asyncio.create_task(follow())
        await asyncio.sleep(0.1)
        restore(world)
        await say(world, "three")
        async with asyncio.timeout(20):
            while got != ["three"]:
                await asyncio.sleep(0.05)
        task.cancel()
        assert NewLog(LOG2) in reader.events()
