"""A desk that wants envelopes early: shown at once, in order, once; archived only when the node has them on disk."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from exchange.desk import Delivery, Desk, Unconfirmed
from exchange.desk.early import Early
from exchange.errors import LimitError, ProofError
from exchange.v1 import exchange_pb2 as pb
from tests.desk import memory
from tests.desk.test_desk import HAGUE, SEOUL, Exchange, said, started


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[Exchange]:
    with started(tmp_path / "exchange") as running:
        yield running


async def live(desk: Desk, came: list[Delivery], seen: list[bool]) -> None:
    async for delivery in desk.subscribe("minerals", early=True):
        seen.append(delivery.confirmed)
        came.append(delivery)


async def once(desk: Desk, came: list[Delivery]) -> None:
    async for delivery in desk.subscribe("minerals", follow=False):
        came.append(delivery)


async def until(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)


async def test_shown_before_it_is_confirmed_and_archived_after(exchange: Exchange) -> None:
    came: list[Delivery] = []
    seen: list[bool] = []
    async with exchange.open(HAGUE) as sender, exchange.open(SEOUL) as reader:
        reading = asyncio.create_task(live(reader, came, seen))
        for number in range(8):
            await sender.publish("minerals", said(f"report {number}"))
            await until(lambda wanted=number + 1: len(came) == wanted)
            await asyncio.sleep(0.1)
        await until(lambda: all(delivery.confirmed for delivery in came))
        # The first may come before the reader has caught up; those after it are early.
        assert not any(seen[2:])
        for delivery in came:
            reader.check_receipt(delivery)
        assert [delivery.report.summary[0].text for delivery in came] == [f"report {n}" for n in range(8)]
        assert [delivery.envelope for delivery in reader.inbox("minerals")] == [delivery.envelope for delivery in came]
        assert not [event for event in reader.events() if isinstance(event, Unconfirmed)]
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading
        # What was given early counts as read.
        assert [delivery async for delivery in reader.subscribe("minerals", follow=False)] == []


async def test_never_confirmed_is_an_event_not_in_the_archive_and_comes_again(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    came: list[Delivery] = []
    async with exchange.open(HAGUE) as sender, exchange.open(SEOUL) as reader:
        take, stopped = reader._reading._take, asyncio.Event()

        def lose(channel: str, response: Any, *rest: Any) -> Any:
            # The call breaks before the confirmation is taken.
            if any(not entry.data for entry in response.entries) and not stopped.is_set():
                stopped.set()
                raise TimeoutError
            return take(channel, response, *rest)

        monkeypatch.setattr(reader._reading, "_take", lose)
        reading = asyncio.create_task(live(reader, came, []))
        await until(lambda: reader.state == "connected")
        number = 0
        while not stopped.is_set():
            await sender.publish("minerals", said(f"report {number}"))
            await asyncio.sleep(0.3)
            number += 1
        [event] = [event for event in reader.events() if isinstance(event, Unconfirmed)]
        first = next(delivery for delivery in came if delivery.envelope == event.envelope)
        assert not first.confirmed
        with pytest.raises(ProofError):
            reader.check_receipt(first)
        await until(lambda: len([one for one in came if one.envelope == event.envelope]) == 2)
        assert came[-1].confirmed
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading


async def test_what_a_false_batch_confirms_is_not_confirmed(
    first_exchange: memory.Exchange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of a batch is archived or nothing, so nothing of it has a receipt when its last proof is false."""
    exchange, came = first_exchange.copied(tmp_path), list[Delivery]()
    async with exchange.open(HAGUE) as sender:
        for text in ("one", "two"):
            await sender.publish("minerals", said(text))
            assert await sender.flush(10) == 0
    read = memory.Log.read

    def false(log: memory.Log, node: str, request: pb.SubscribeRequest) -> pb.SubscribeResponse:
        answer = read(log, node, request)
        answer.entries[-1].proof[0] = bytes(32)
        return answer

    monkeypatch.setattr(memory._Stub, "Subscribe", memory.ahead)
    async with exchange.open(SEOUL) as reader:
        with monkeypatch.context() as patch:
            patch.setattr(memory.Log, "read", false)
            with pytest.raises(ProofError):
                await once(reader, came)
        assert [delivery.report.summary[0].text for delivery in came] == ["one", "two"]
        assert not any(delivery.confirmed for delivery in came)
        assert reader.inbox("minerals") == []
        told = {event.envelope for event in reader.events() if isinstance(event, Unconfirmed)}
        assert told == {delivery.envelope for delivery in came}
        again = list[Delivery]()
        await once(reader, again)
        assert all(delivery.confirmed for delivery in again)
        assert {delivery.envelope for delivery in again} == told


def test_a_node_that_sends_without_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    early = Early(lambda _: None, lambda _: None, lambda *_: None)  # type: ignore[arg-type, return-value]
    numbers = iter(range(10_000))

    class Parsed:
        def __init__(self, _: bytes) -> None:
            self.id = next(numbers).to_bytes(32)

    monkeypatch.setattr("exchange.envelope.parse", Parsed)
    for _ in range(512):
        assert early.take(b"x", 1)[2] == []
    with pytest.raises(LimitError):
        early.take(b"x", 1)
