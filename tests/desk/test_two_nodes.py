"""What steers the exchange, through two real nodes: a heartbeat, an acknowledgement, and what a colleague passes on."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest

from exchange.demo import found
from exchange.desk import Refused, beats
from exchange.v1 import envelope_pb2 as env
from tests.desk.test_desk import HAGUE, MOTIE, SEOUL, Exchange, read, said, started, texts

KR, NL = "kr.the-hague-1", "nl.seoul-1"


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    """Both countries run; one desk is listed and has not begun its work, so nobody has a key card of it."""
    first_cards = found._first_cards

    def cards(directory: Any, name: str, *rest: Any) -> Any:
        return [] if name == MOTIE else first_cards(directory, name, *rest)

    with mock.patch.object(found, "_first_cards", cards), started(tmp_path_factory.mktemp("two") / "x") as running:
        yield running


async def eventually(true: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.02)


async def test_a_heartbeat_goes_abroad_and_an_acknowledgement_comes_back(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beats, "LOOK_S", 0.1)
    monkeypatch.setattr(beats, "QUIET_MS", 0)
    async with exchange.open(HAGUE) as sender, exchange.open(SEOUL) as reader:
        reading = reader.subscribe("alerts")
        identity = await sender.publish("alerts", said("stock is low"))
        assert texts([await asyncio.wait_for(anext(reading), 20)]) == ["stock is low"]
        header = env.Header.FromString(reader.archive.header_of(identity) or b"")
        waiting = asyncio.ensure_future(anext(reading))
        # It goes on in the stream of what was said.
        await eventually(lambda: (reader.archive.last_read(HAGUE, header.stream) or (0,))[0] == header.seq + 1)
        await eventually(lambda: reader.archive.promised((HAGUE, header.stream)))
        assert not waiting.done(), "a heartbeat is not for the reader"

        def opened() -> bool:
            return any(one.opened for one in sender.track(identity).readers)

        async with asyncio.timeout(20):
            while not opened():
                assert await sender.ask_stages([identity]) == []
                await asyncio.sleep(0.05)
        stages = {one.desk: one for one in sender.track(identity).readers}
        assert stages[SEOUL].opened is not None
        assert stages[SEOUL].delivered is not None
        assert (stages[SEOUL].opened.desk, stages[SEOUL].delivered.node) == (SEOUL, NL)
        findings = await sender.verify_stages(identity)
        assert [finding for finding in findings if finding.bad] == []
        assert [finding.subject for finding in findings][:2] == [f"taken by {KR}", f"delivered at {NL}"]
        assert len(findings) == 3
        waiting.cancel()
        assert (reader.events(), sender.events()) == ([], [])


async def test_a_colleague_passes_on_what_was_said_before_a_desk_began(exchange: Exchange) -> None:
    async with exchange.open(SEOUL) as sender:
        await sender.publish("minerals", said("said before"))
        assert await sender.flush(20) == 0
    async with exchange.open(HAGUE) as colleague:
        assert texts(await read(colleague, "minerals", 1)) == ["said before"]
    async with exchange.open(MOTIE) as newcomer, exchange.open(HAGUE) as colleague:
        async for _ in newcomer.subscribe("minerals", follow=False):
            pytest.fail("it was not sealed to it")
        assert [event.rule for event in newcomer.events() if isinstance(event, Refused)] == ["OPEN_FAILED"]
        # It hears of the newcomer's key card as it reads.
        assert await read(colleague, "minerals", 0) == []
        assert await colleague.reshare(MOTIE, "minerals") == (1, 1, ())
        (came,) = await read(newcomer, "minerals", 1)
        assert (texts([came]), came.sender, came.reshared_by) == (["said before"], SEOUL, HAGUE)
        newcomer.check_receipt(came)
        assert newcomer.events() == []
