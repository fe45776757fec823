"""Links that are slow, cut, or half open, and processes that stand still for longer than anybody waits."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from exchange import wire
from exchange.demo.found import NODES, free_ports
from exchange.desk import Desk
from exchange.node import follow
from exchange.node.app import App
from exchange.node.directory import STATUS
from tests.faults.place import HAGUE, SEOUL, Place, place
from tests.faults.proxy import Proxy
from tests.faults.worker import PAD, report

CHANNEL = "minerals"


async def until(true: Callable[[], object], seconds: float = 30) -> float:
    """Wait for it; how long it took."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.05)
    return loop.time() - began


@dataclass
class Linked:
    """Two nodes with a proxy between them, a desk at each."""

    place: Place
    link: Proxy
    sender: Desk
    heard: list[bytes]
    said: list[bytes]

    async def say(self, count: int) -> None:
        reports = [report(PAD) for _ in range(count)]
        await self.sender.publish_all(CHANNEL, reports)
        self.said += [one.id for one in reports]

    async def all_heard(self, seconds: float = 30) -> float:
        took = await until(lambda: len(self.heard) >= len(self.said), seconds)
        assert self.heard == self.said
        return took

    def seen(self) -> str:
        """What the other country's node says of the one behind the link."""
        status = json.loads((self.place.founded.node("nl") / STATUS).read_text())
        return str(status["peers"][NODES["kr"]]["state"])


@asynccontextmanager
async def linked(directory: Path) -> AsyncIterator[Linked]:
    """The sender's desk reaches its node; the other node reaches it through the proxy alone."""
    with place(directory) as both:
        port, behind = both.front("kr")
        async with Proxy(port, behind) as link:
            both.node("kr").start()
            await both.node("kr").serving()
            # In this process, so that its deadlines can be shortened.
            async with App(both.founded.node("nl")).serving(), both.open(HAGUE) as sender, both.open(SEOUL) as reader:
                entry = sender._own.node_entry()
                entry.endpoint = f"127.0.0.1:{behind}"
                sender._own.node_entry = lambda: entry  # type: ignore[method-assign]
                heard: list[bytes] = []

                async def hear() -> None:
                    async for delivery in reader.subscribe(CHANNEL):
                        heard.append(delivery.report.id)

                hearing = asyncio.create_task(hear())
                made = Linked(both, link, sender, heard, [])
                await made.say(1)
                await made.all_heard()
                yield made
                assert not hearing.done()
                hearing.cancel()
                assert reader.events() == []


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines of some tenths of a second instead of half a minute."""
    short = [(name, 700 if "ms" in name and "keepalive" in name else value) for name, value in wire.CLIENT_OPTIONS]
    monkeypatch.setattr(wire, "CLIENT_OPTIONS", short)
    monkeypatch.setattr(follow, "HEARTBEAT_S", 0.5)


async def test_slow_and_cut_links_are_caught_up_on(tmp_path: Path) -> None:
    async with linked(tmp_path / "exchange") as both:
        both.link.delay_s, both.link.bytes_per_s = 0.02, 300_000
        await both.say(500)
        await both.all_heard()
        both.link.delay_s = both.link.bytes_per_s = 0
        for cut_s in (0.2, 1.5):
            both.link.cut()
            await both.say(100)
            assert await both.sender.flush(20) == 0, "the near node takes it all the same"
            await until(lambda: "down" in both.seen())
            await asyncio.sleep(cut_s)
            assert len(both.heard) < len(both.said)
            both.link.heal()
            assert await both.all_heard() < 5
        await until(lambda: both.seen() == "following")


async def test_a_node_at_the_other_end_of_the_world_is_reached_at_the_first_attempt(tmp_path: Path) -> None:
    with place(tmp_path / "exchange") as both:
        both.node("kr").start()
        await both.node("kr").serving()
        async with both.open(HAGUE) as desk:
            entry = desk._own.node_entry()
            (port,), behind = free_ports(1), int(entry.enrol_endpoint.rpartition(":")[2])
            entry.enrol_endpoint = f"127.0.0.1:{port}"
            desk._own.node_entry = lambda: entry  # type: ignore[method-assign]
            async with Proxy(port, behind) as link:
                link.delay_s = 0.4
                # A call that may not wait for the channel: it fails with the channel's first attempt.
                await desk._link.enrol()


@pytest.mark.usefixtures("impatient")
async def test_half_open_links_and_nodes_that_stand_still_are_caught_up_on(tmp_path: Path) -> None:
    async with linked(tmp_path / "exchange") as both:
        node = both.place.node("kr")
        both.link.hang()
        await both.say(50)
        await until(lambda: "down" in both.seen())
        both.link.cut()
        both.link.heal()
        await both.all_heard()
        # The process stands: the kernel goes on to acknowledge what comes for it.
        node.send(signal.SIGSTOP)
        await both.say(50)
        await until(lambda: "down" in both.seen())
        assert len(both.heard) < len(both.said)
        node.send(signal.SIGCONT)
        await both.all_heard(60)
        assert await both.sender.flush(30) == 0


async def test_a_node_that_comes_back_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with linked(tmp_path / "exchange") as both:
        monkeypatch.setattr(follow, "BACKOFF_S", (120.0, 120.0))
        node = both.place.node("kr")
        node.kill()
        await until(lambda: "down" in both.seen())
        await both.say(10)
        node.start()
        # It asks the other for what it missed, and is asked at once.
        await both.all_heard(55)
