"""A bit that the disk flipped: noticed, named, and made good from the peer, or said what to do."""

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from exchange.demo.found import NODES
from exchange.desk import Event, Gap
from exchange.node.app import App
from exchange.node.audit import audit
from exchange.node.directory import STATUS
from tests.faults.place import BZ, HAGUE, SEOUL, Place, place
from tests.faults.test_links import until
from tests.faults.worker import PAD, report

# On it nothing waits for a number that is missing.
CHANNEL = "alerts"
SMALL, LARGE = 1, 200


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, list[bytes]]]:
    """Both nodes hold what one country said, and are stopped; nobody has read it yet."""
    with place(tmp_path_factory.mktemp("flips") / "exchange") as both:
        yield both, asyncio.run(tell(both))


async def tell(both: Place) -> list[bytes]:
    await start(both, *NODES)
    said = []
    async with both.open(HAGUE) as sender:
        for count in (SMALL, LARGE) * 3:
            reports = [report(PAD) for _ in range(count)]
            await sender.publish_all(CHANNEL, reports)
            said += [one.id for one in reports]
        assert await sender.flush(30) == 0
    size = json.loads((both.founded.node("kr") / STATUS).read_text())
    await until(lambda: followed(both) >= size["entries"])
    await stop(both, *NODES)
    return said


async def start(both: Place, *parties: str) -> None:
    for party in parties:
        both.node(party).start()
    for party in parties:
        await both.node(party).serving()


async def stop(both: Place, *parties: str) -> None:
    for party in parties:
        await both.node(party).end()


def followed(both: Place) -> int:
    status = json.loads((both.founded.node("nl") / STATUS).read_text())
    return int(status["peers"][NODES["kr"]]["position"])


def envelopes(node: Path, *, large: bool) -> list[tuple[int, int | None, int | None]]:
    """(position, segment, offset) of the envelopes in a stopped node's log."""
    with closing(sqlite3.connect(node / "log.db")) as log:
        rows = log.execute("SELECT position, segment, start FROM log WHERE kind = 1 ORDER BY position").fetchall()
    return [row for row in rows if (row[1] is not None) == large]


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


def flip_in(node: Path, table: str, column: str, where: str, at: int) -> None:
    """Flip a bit where a value of a stopped node's database stands in its file."""
    with closing(sqlite3.connect(node / "log.db")) as log:
        (value,) = log.execute(f"SELECT {column} FROM {table} WHERE {where}").fetchone()
        # Its pages need not be neighbours, so it is changed where it is whole: what is on the disk is the same.
        changed = bytearray(value)
        changed[at] ^= 0x10
        log.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (bytes(changed),))
        log.commit()


async def findings(node: Path) -> list[str]:
    async with App(node).standing() as standing:
        return [f"{one.subject}: {one.text}" for one in await asyncio.to_thread(audit, standing) if one.bad]


async def hear(both: Place, desk: str, count: int) -> tuple[list[bytes], list[Event]]:
    heard: list[bytes] = []
    async with both.open(desk) as reader, asyncio.timeout(30):
        async for delivery in reader.subscribe(CHANNEL):
            heard.append(delivery.report.id)
            if len(heard) == count:
                return heard, reader.events()
    raise AssertionError("it ended")


async def test_what_the_disk_changed_in_an_entry_is_named_and_fetched_from_the_peer(
    told: tuple[Place, list[bytes]],
) -> None:
    both, said = told
    nl = both.founded.node("nl")
    (small, *_), *others = envelopes(nl, large=False)
    (in_file, segment, offset), *_ = envelopes(nl, large=True)
    # The last bytes of an envelope are its signature, which its leaf does not cover.
    flip_in(nl, "blob", "data", f"position = {small}", -5)
    flip(nl / f"log.db.{segment:08d}.blobs", int(offset or 0) + 20_000)
    flip_in(nl, "log", "id", f"position = {others[0][0]}", 3)
    broken = sorted({small, in_file, others[0][0]})
    bad = await findings(nl)
    assert [text for text in bad if "the disk changed it" in text] == [
        f"entry {position}: the disk changed it; the node, while it serves, fetches it from a peer"
        for position in broken
    ]
    await start(both, *NODES)
    assert await hear(both, SEOUL, len(said)) == (said, [])
    await until(lambda: json.loads((nl / STATUS).read_text())["mended"] == 3)
    assert json.loads((nl / STATUS).read_text())["damaged"] == []
    await stop(both, *NODES)
    assert [text for text in await findings(nl) if not text.startswith("cosignatures")] == []


async def test_what_no_peer_gives_stops_nothing_else_and_stays_named(told: tuple[Place, list[bytes]]) -> None:
    both, said = told
    nl = both.founded.node("nl")
    (small, *_), *_ = envelopes(nl, large=False)
    flip_in(nl, "blob", "data", f"position = {small}", 400)
    await start(both, "nl")
    # The other country's node is down.
    heard, events = await hear(both, BZ, len(said) - SMALL)
    assert heard == said[SMALL:]
    assert all(isinstance(event, Gap) for event in events), events
    await until(lambda: json.loads((nl / STATUS).read_text())["damaged"] == [small])
    await stop(both, "nl")
