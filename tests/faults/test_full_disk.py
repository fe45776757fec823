"""A disk that is full, then has room again: at a node, and at a desk."""

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from exchange.demo.found import NODES
from exchange.desk import Desk, DiskFailed
from exchange.errors import StoreError
from tests.faults.kills import log_of
from tests.faults.place import HAGUE, SEOUL, place
from tests.faults.small_disk import SmallDisk, small_disk
from tests.faults.worker import PAD, report

CHANNEL = "minerals"


def needs(disk: SmallDisk | None) -> SmallDisk:
    """Or skip, and say so."""
    if disk is None:
        pytest.skip("NOT TESTED: a full disk. Mounting a tmpfs needs root")
    return disk


async def until(true: Callable[[], object], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.05)


async def say(desk: Desk, count: int) -> list[bytes]:
    reports = [report(PAD) for _ in range(count)]
    await desk.publish_all(CHANNEL, reports)
    return [one.id for one in reports]


async def hear(desk: Desk, heard: list[bytes]) -> None:
    async for delivery in desk.subscribe(CHANNEL):
        heard.append(delivery.report.id)


async def test_a_node_with_a_full_disk_loses_nothing_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    with place(tmp_path / "exchange") as both, small_disk(both.founded.node("kr"), 16) as mounted:
        disk = needs(mounted)
        kr, nl = both.node("kr"), both.node("nl")
        # Its own log is on the full disk too, as it would be.
        kr.output = both.founded.node("kr") / "node.log"
        for node in (kr, nl):
            node.start()
        await asyncio.gather(kr.serving(), nl.serving())
        async with both.open(HAGUE) as sender, both.open(SEOUL) as reader:
            heard: list[bytes] = []
            hearing = asyncio.create_task(hear(reader, heard))
            said = await say(sender, 10)
            assert await sender.flush(20) == 0
            disk.fill()
            for _ in range(10):
                said += await say(sender, 100)
            await until(lambda: "STORE_FAILED" in sender.state)
            acknowledged = set(sender.archive.sent())
            assert sender.archive.waiting() > 0
            # Killed meanwhile, it does not start before there is room, and says so.
            kr.kill()
            kr.output = both.root / "kr.log"
            kr.start()
            assert kr.popen is not None
            assert await asyncio.to_thread(kr.popen.wait, 30) == 1
            assert "disk is full" in kr.output.read_text()
            assert "hint: check free space and the disk" in kr.output.read_text()
            kr.kill()
            disk.make_room()
            kr.start()
            await kr.serving()
            assert await sender.flush(60) == 0, sender.state
            await until(lambda: len(heard) >= len(said), 60)
            hearing.cancel()
            assert heard == said
            assert reader.events() == []
            assert sender.events() == []
        for node in (kr, nl):
            await node.end()
        for party in NODES:
            assert acknowledged <= set(await log_of(both, party))


async def test_a_node_whose_log_cannot_be_written_serves_all_the_same(tmp_path: Path) -> None:
    with place(tmp_path / "exchange") as both:
        kr = both.node("kr")
        kr.output = Path("/dev/full")
        kr.start()
        await kr.serving()
        async with both.open(HAGUE) as sender:
            await say(sender, 10)
            assert await sender.flush(20) == 0, sender.state
        await kr.end()


async def test_a_desk_with_a_full_disk_tells_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    with place(tmp_path / "exchange") as both, small_disk(both.founded.desk(SEOUL), 4) as mounted:
        disk = needs(mounted)
        for party in NODES:
            both.node(party).start()
        for party in NODES:
            await both.node(party).serving()
        async with both.open(HAGUE) as sender, both.open(SEOUL) as reader:
            heard: list[bytes] = []
            hearing = asyncio.create_task(hear(reader, heard))
            said = await say(sender, 10)
            await until(lambda: len(heard) == len(said))
            disk.fill()
            for _ in range(5):
                said += await say(sender, 100)
            assert await sender.flush(20) == 0
            await until(lambda: "STORE_FAILED" in reader.state)
            # Its own report is refused to its face: nothing that cannot be kept is promised.
            with pytest.raises(StoreError, match="full"):
                await say(reader, 500)
            assert not hearing.done(), "the reader has to subscribe again"
            assert [event for event in reader.events() if isinstance(event, DiskFailed)]
            disk.make_room()
            await until(lambda: len(set(heard)) == len(said), 60)
            assert list(dict.fromkeys(heard)) == said
            own = await say(reader, 10)
            assert await reader.flush(30) == 0
            hearing.cancel()
        archive = sqlite3.connect(both.founded.desk(SEOUL) / "desk.db")
        assert archive.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        archive.close()
        assert len(own) == 10
