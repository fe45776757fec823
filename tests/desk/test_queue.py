"""Batches: order, what shares an envelope, how much fits; and that a fault reaches who published, and nobody else."""

import asyncio
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from exchange import envelope
from exchange.desk.queue import Batch, Queue, Said, Way
from exchange.desk.sealing import Sealing
from exchange.v1 import report_pb2 as rep
from keys.v1 import documents_pb2 as docs
from tests.desk.memory import exchange
from tests.world import World, found

SENDER = "kr.the-hague/economic"


def way(channel: str, *named: str) -> Way:
    return Way(channel, docs.MARKING_AMBER, named, b"")


async def said(channel: str, *items: bytes) -> Said:
    return Said(way(channel), list(items), asyncio.get_running_loop().create_future())


def drained(queue: Queue, most_bytes: int = 1000) -> list[Batch]:
    batches = []
    while (batch := queue.next_batch(most_bytes=most_bytes)) is not None:
        batches.append(batch)
    return batches


async def test_calls_that_go_the_same_way_share_an_envelope_in_their_order() -> None:
    queue = Queue()
    for channel, item in (("a", b"1"), ("b", b"2"), ("a", b"3")):
        queue.add(await said(channel, item))
    assert len(queue) == 3
    assert [(batch.way.channel, batch.items) for batch in drained(queue)] == [("a", [b"1", b"3"]), ("b", [b"2"])]
    assert len(queue) == 0


async def test_alerts_go_first() -> None:
    queue = Queue()
    queue.add(await said("a", b"1"))
    assert not queue.urgent
    queue.add(await said("alerts", b"2"))
    assert queue.urgent
    assert [batch.items for batch in drained(queue)] == [[b"2"], [b"1"]]


async def test_what_does_not_fit_stays_before_what_came_after_it() -> None:
    queue = Queue()
    queue.add(await said("a", b"x" * 600, b"y" * 600))
    queue.add(await said("a", b"z"))
    assert [[item[:1] for item in batch.items] for batch in drained(queue)] == [[b"x"], [b"y", b"z"]]


async def test_an_item_larger_than_an_envelope_comes_alone_and_stops_nothing() -> None:
    queue = Queue()
    queue.add(await said("a", b"x" * 5000, b"y"))
    assert [len(batch.items) for batch in drained(queue)] == [1, 1]


async def test_no_more_items_than_an_envelope_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envelope, "MAX_ITEMS", 3)
    queue = Queue()
    queue.add(await said("a", *(bytes([n]) for n in range(8))))
    assert [len(batch.items) for batch in drained(queue)] == [3, 3, 2]


async def test_a_call_that_failed_is_dropped_whole() -> None:
    queue = Queue()
    failed = await said("a", b"x" * 900, b"y" * 900, b"z" * 900)
    queue.add(failed)
    queue.add(await said("a", b"1"))
    queue.next_batch(most_bytes=1000)
    queue.drop(failed)
    queue.drop(failed)
    assert (len(queue), [batch.items for batch in drained(queue)]) == (1, [[b"1"]])


@pytest.mark.parametrize("seed", range(50))
async def test_each_item_once_in_the_order_of_its_way(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(seed)
    monkeypatch.setattr(envelope, "MAX_ITEMS", draw.choice([1, 3, 50]))
    queue, wanted, got = Queue(), defaultdict[str, list[bytes]](list), defaultdict[str, list[bytes]](list)
    number = 0

    def take() -> None:
        batch = queue.next_batch(most_bytes=draw.choice([10, 100, 1000]))
        if batch is not None:
            assert 1 <= len(batch.items) <= envelope.MAX_ITEMS
            assert sum(count for _, count in batch.parts) == len(batch.items)
            got[batch.way.channel] += batch.items

    for _ in range(40):
        channel = draw.choice(["a", "b", "alerts"])
        items = []
        for _ in range(draw.randrange(1, 8)):
            items.append(number.to_bytes(4) + bytes(draw.randrange(40)))
            number += 1
        wanted[channel] += items
        queue.add(await said(channel, *items))
        if draw.random() < 0.5:
            take()
    while len(queue):
        take()
    assert got == wanted


@pytest.fixture(scope="module")
def world() -> World:
    return found(weeks=0)


async def test_a_fault_while_sealing_reaches_who_published_and_the_next_goes_through(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    around = exchange(tmp_path, world, SENDER, "nl.seoul/economic")
    await around.synchronise()
    item = rep.Item(acknowledgement=rep.Acknowledgement(envelope=bytes(32), time_ms=1))
    seal = Sealing._seal

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise ZeroDivisionError("a fault of ours")

    async with around.open(SENDER) as desk:
        monkeypatch.setattr(Sealing, "_seal", broken)
        async with asyncio.timeout(30):
            with pytest.raises(ZeroDivisionError):
                await desk.publish("minerals", item)
            monkeypatch.setattr(Sealing, "_seal", seal)
            assert len(await desk.publish("minerals", item)) == 32
