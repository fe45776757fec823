"""`tocsin pouch` between two countries with no network between them: one node serves, the other stands still, then serves."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from exchange.demo.found import Founded, found
from exchange.demo.run import start_node
from exchange.desk import Desk
from tests.desk.test_desk import said

HAGUE, MOTIE, SEOUL, BZ = "kr.the-hague/economic", "kr.motie/supply", "nl.seoul/economic", "nl.bz/supply"
KR, NL = "kr.the-hague-1", "nl.seoul-1"
BIN = Path(sys.executable).parent


def tocsin(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [BIN / "tocsin", "pouch", *arguments]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=90, check=False)


def answer(*arguments: str | Path) -> Any:
    done = tocsin(*arguments, "--json")
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads(done.stdout)


@pytest.fixture
def founded(tmp_path: Path) -> Iterator[tuple[Founded, dict[str, subprocess.Popen[bytes]]]]:
    made = found(tmp_path / "exchange", title="tests")
    running: dict[str, subprocess.Popen[bytes]] = {}
    yield made, running
    for process in running.values():
        process.kill()
        process.wait(10)


def stop(running: dict[str, subprocess.Popen[bytes]], party: str) -> None:
    process = running.pop(party)
    process.terminate()
    assert process.wait(30) == 0


async def send(desk: Desk, text: str) -> bytes:
    async with desk:
        identity = await desk.publish("minerals", said(text))
        assert await desk.flush(30) == 0, desk.state
    return identity


async def read(desk: Desk, count: int) -> list[str]:
    texts: list[str] = []
    async with desk, asyncio.timeout(60):
        async for delivery in desk.subscribe("minerals"):
            texts.append(delivery.report.summary[0].text)
            if len(texts) == count:
                break
    return texts


def test_over_the_pouch_alone(founded: tuple[Founded, dict[str, subprocess.Popen[bytes]]], tmp_path: Path) -> None:
    made, running = founded
    kr, nl, pouch = made.node("kr"), made.node("nl"), tmp_path / "bag.pouch"
    running["kr"] = start_node(kr)
    asyncio.run(send(Desk.open(made.desk(HAGUE)), "by the bag"))
    packed = answer("pack", "--node", kr, "--to", NL, "-o", pouch)
    assert packed["counts"]["entry"] == 1
    assert pouch.stat().st_mode & 0o777 == 0o600
    facts = answer("inspect", pouch)
    assert (facts["sender"], facts["receiver"], facts["damaged"]) == (KR, NL, [])
    stop(running, "kr")
    # The receiving node stands still: the command starts it for the work alone.
    done = answer("unpack", pouch, "--node", nl)
    assert (done["taken"], done["moved"], done["refused"]) == (1, True, [])
    running["nl"] = start_node(nl)
    assert answer("unpack", pouch, "--node", nl)["known"] == 1
    assert asyncio.run(read(Desk.open(made.desk(SEOUL)), 1)) == ["by the bag"]
    wrong = tocsin("unpack", pouch, "--node", kr)
    assert wrong.returncode == 1
    assert f"the pouch is for {NL}" in wrong.stderr


async def _cards(made: Founded, desk: str) -> None:
    async with Desk.open(made.desk(desk)) as opened:
        await opened.synchronise()


def test_a_desk_that_no_network_reaches_packs_its_outbox(
    founded: tuple[Founded, dict[str, subprocess.Popen[bytes]]], tmp_path: Path
) -> None:
    made, running = founded
    running["kr"] = start_node(made.node("kr"))
    asyncio.run(_cards(made, MOTIE))
    asyncio.run(_cards(made, HAGUE))
    stop(running, "kr")
    asyncio.run(_queue(made))
    packed = answer("pack", "--desk", made.desk(HAGUE), "-o", tmp_path / "out.pouch")
    assert packed["counts"]["envelope"] == 1
    running["kr"] = start_node(made.node("kr"))
    done = answer("unpack", tmp_path / "out.pouch", "--node", made.node("kr"))
    assert (done["taken"], [one for one in done["refused"] if one["what"] == "envelope"]) == (1, [])
    assert asyncio.run(read(Desk.open(made.desk(MOTIE)), 1)) == ["from afar"]


async def _queue(made: Founded) -> None:
    async with Desk.open(made.desk(HAGUE)) as desk:
        await desk.publish("minerals", said("from afar"))


def test_misuse_and_damage_are_told_apart(
    founded: tuple[Founded, dict[str, subprocess.Popen[bytes]]], tmp_path: Path
) -> None:
    made, _ = founded
    pouch = tmp_path / "p"
    assert tocsin("pack", "-o", pouch).returncode == 2
    assert tocsin("pack", "-o", pouch, "--node", made.node("kr")).returncode == 2
    assert tocsin("pack", "-o", pouch, "--node", made.node("kr"), "--to", "fr.paris-1").returncode == 1
    assert tocsin("inspect", pouch).returncode == 2
    assert tocsin("unpack", pouch, "--node", made.node("kr")).returncode == 2
    answer("pack", "--node", made.node("kr"), "--to", NL, "-o", pouch)
    data = bytearray(pouch.read_bytes())
    data[-1] ^= 1
    pouch.write_bytes(data)
    assert tocsin("inspect", pouch).returncode == 1
    done = tocsin("unpack", pouch, "--node", made.node("nl"))
    assert done.returncode == 1
    assert "first bad part" in done.stderr


def test_a_desk_cut_off_from_its_node_reads_a_pouch(
    founded: tuple[Founded, dict[str, subprocess.Popen[bytes]]], tmp_path: Path
) -> None:
    made, running = founded
    kr, pouch, motie = made.node("kr"), tmp_path / "to-desk.pouch", made.desk(MOTIE)
    running["kr"] = start_node(kr)
    asyncio.run(_cards(made, MOTIE))
    asyncio.run(send(Desk.open(made.desk(HAGUE)), "to the ministry by hand"))
    stop(running, "kr")
    answer("pack", "--node", kr, "--to", MOTIE, "-o", pouch)
    done = answer("unpack", pouch, "--desk", motie)
    assert (done["entries"], done["moved"], done["damaged"], done["events"]) == (1, True, [], [])
    opened = Desk.open(motie)
    assert [delivery.report.summary[0].text for delivery in opened.inbox()] == ["to the ministry by hand"]
    opened.close()
    assert answer("unpack", pouch, "--desk", motie)["moved"] is False
    assert tocsin("unpack", pouch, "--desk", made.desk(HAGUE)).returncode == 1
    data = bytearray(pouch.read_bytes())
    data[-1] ^= 1
    pouch.write_bytes(data)
    assert tocsin("unpack", pouch, "--desk", motie).returncode == 1
    running["kr"] = start_node(kr)
    # Unread until it is given; then nothing comes twice.
    assert asyncio.run(read(Desk.open(motie), 1)) == ["to the ministry by hand"]
