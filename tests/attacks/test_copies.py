"""Attack 23: a desk restored from a backup, and a copied one, use no number twice: they start new streams."""

import shutil
from pathlib import Path

import pytest

from exchange import envelope
from exchange.desk import sending
from exchange.desk.events import Conflict, Restored
from exchange.v1 import envelope_pb2 as env
from exchange.v1 import exchange_pb2 as pb
from keys.encoding import canonical_bytes
from tests.desk.memory import Exchange, Log, _Call, _Stub, exchange, header_of
from tests.desk.test_desk import said, texts
from tests.world import found

HAGUE, SEOUL = "kr.the-hague/economic", "nl.seoul/economic"


@pytest.fixture
async def world(tmp_path: Path) -> Exchange:
    made = exchange(tmp_path, found(weeks=0), HAGUE, SEOUL)
    await made.synchronise()
    return made


async def say(world: Exchange, *words: str) -> list[object]:
    async with world.open(HAGUE) as desk:
        for word in words:
            await desk.publish("minerals", said(word))
        assert await desk.flush(20) == 0
        return list(desk.events())


async def trusting(*_: object, **__: object) -> None:
    """Ask the node for nothing."""


def numbers(world: Exchange) -> list[tuple[bytes, int]]:
    headers = [header_of(data) for _, kind, data in world.log.entries if kind == pb.ENTRY_KIND_ENVELOPE]
    return [(header.stream, header.seq) for header in headers]


async def back_up_and_restore(world: Exchange, tmp_path: Path) -> None:
    await say(world, "one")
    shutil.copytree(world.directories[HAGUE], tmp_path / "backup")
    await say(world, "two")
    shutil.rmtree(world.directories[HAGUE])
    shutil.copytree(tmp_path / "backup", world.directories[HAGUE])


async def test_a_restored_desk_starts_a_new_stream(world: Exchange, tmp_path: Path) -> None:
    await back_up_and_restore(world, tmp_path)
    [event] = await say(world, "three")
    assert isinstance(event, Restored)
    # It may have sealed one more before the node answered.
    assert event.held_seq in (1, 2)
    assert (event.last_seq, event.shown) == (2, True)
    used = numbers(world)
    assert len(used) == len(set(used)) == 3
    assert len({stream for stream, _ in used}) == 2
    async with world.open(SEOUL) as reader:
        assert texts([one async for one in reader.subscribe("minerals", follow=False)]) == ["one", "two", "three"]
        assert reader.events() == []


@pytest.mark.parametrize("lie", ["nothing is shown", "another of its envelopes", "signed by nobody"])
async def test_a_node_that_claims_more_than_it_shows_gets_no_number_signed(
    world: Exchange, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    await say(world, "one")
    truth = Log.numbers

    def lying(log: Log, node: str, request: pb.GetNumbersRequest) -> pb.GetNumbersResponse:
        asked = pb.GetNumbersRequest(sender=request.sender, stream=request.stream, first_seq=1, last_seq=1)
        answer = truth(log, node, asked)
        answer.last_seq, answer.last_id = 1 if lie == "another of its envelopes" else 2**40, b"x" * 32
        for entry in answer.entries:
            entry.leaf = answer.last_id
            if lie == "signed by nobody":
                outer = env.Envelope.FromString(entry.data)
                header = env.Header.FromString(outer.header)
                header.seq = answer.last_seq
                outer.header = canonical_bytes(header)
                entry.data = canonical_bytes(outer)
                answer.last_id = entry.leaf = envelope.envelope_id(outer)
        if lie == "nothing is shown" or not request.first_seq:
            answer.ClearField("entries")
        return answer

    monkeypatch.setattr(Log, "numbers", lying)
    async with world.open(HAGUE) as desk:
        (old,) = [one.stream for one in desk.archive.streams_in_use()]
        await desk.publish("minerals", said("two"))
        assert await desk.flush(20) == 0
        event = next(event for event in desk.events() if isinstance(event, Restored))
        assert not event.shown
        assert "does not show it" in str(event)
        assert [one.seq for one in desk.archive.streams_ended() if one.stream == old] == [1]
    used = numbers(world)
    assert len(used) == len(set(used)) == 2
    assert max(seq for _, seq in used) == 1, "a new stream, from its first number"


async def test_two_copies_at_once_share_no_number(world: Exchange, tmp_path: Path) -> None:
    await say(world, "one")
    shutil.copytree(world.directories[HAGUE], tmp_path / "copy")
    await say(world, "two")
    first, world.directories = world.directories, {**world.directories, HAGUE: tmp_path / "copy"}
    await say(world, "three")
    world.directories = first
    [event] = await say(world, "four")
    assert isinstance(event, Restored), "each of the two hears of the other"
    assert "another machine has its keys" in str(event)
    assert (event.held_seq, event.shown) == (0, True)
    assert await say(world, "five") == [], "and once"
    used = numbers(world)
    assert len(used) == len(set(used)) == 5


async def test_what_was_told_gives_up_no_further_streams(
    world: Exchange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the node still shows it as the newest, because nothing comes through to it."""
    await say(world, "one")
    shutil.copytree(world.directories[HAGUE], tmp_path / "copy")
    first, world.directories = world.directories, {**world.directories, HAGUE: tmp_path / "copy"}
    await say(world, "two")
    world.directories = first

    class Silent(_Call):
        async def write(self, request: object) -> None:
            pass

    monkeypatch.setattr(_Stub, "Publish", lambda _: Silent(lambda _: None))
    streams = list[bytes]()
    for told in (1, 0):
        async with world.open(HAGUE) as desk:
            await desk.publish("minerals", said("three"))
            assert await desk.flush(1) > 0
            assert [type(event) for event in desk.events()] == [Restored] * told
            streams += [one.stream for one in desk.archive.streams_in_use()]
    assert len(set(streams)) == 1, "the second time it goes on in the stream of the first"


async def test_who_restores_an_older_backup_and_then_a_newer_one_contradicts_nothing(
    world: Exchange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was sent from the older one closed a stream that the newer one knows as it stands at the node."""
    await say(world, "one")
    shutil.copytree(world.directories[HAGUE], tmp_path / "older")
    await say(world, "two")
    shutil.copytree(world.directories[HAGUE], tmp_path / "newer")
    older = {**world.directories, HAGUE: tmp_path / "older"}
    newer = {**world.directories, HAGUE: tmp_path / "newer"}
    world.directories = older
    await say(world, "three")
    async with world.open(HAGUE) as desk:
        await desk._beats.look()
        assert await desk.flush(20) == 0
    shutil.copytree(tmp_path / "newer", tmp_path / "newer and trusting")
    entries = list(world.log.entries)

    async def read() -> tuple[list[str], list[object]]:
        async with world.open(SEOUL) as reader:
            came = texts([one async for one in reader.subscribe("minerals", follow=False)])
            return came, list(reader.events())

    shutil.copytree(world.directories[SEOUL], tmp_path / "reader")
    world.directories = newer
    [event] = await say(world, "four")
    assert isinstance(event, Restored)
    assert await read() == (["one", "two", "three", "four"], [])
    world.directories = {HAGUE: tmp_path / "newer and trusting", SEOUL: tmp_path / "reader"}
    world.log.entries[:] = entries
    monkeypatch.setattr(sending, "renew_streams", trusting)
    await say(world, "four")
    _, (told,) = await read()
    assert isinstance(told, Conflict)
    assert "a stream that was closed" in told.what


async def test_without_the_check_readers_see_a_fork(
    world: Exchange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await back_up_and_restore(world, tmp_path)
    monkeypatch.setattr(sending, "renew_streams", trusting)
    await say(world, "three")
    async with world.open(SEOUL) as reader:
        [_ async for _ in reader.subscribe("minerals", follow=False)]
        assert any(isinstance(event, Conflict) for event in reader.events())
