"""Desks against two real node processes: delivery, order, restarts, kill -9, policy, what is on the disks."""

import asyncio
import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from exchange.clock import now_ms
from exchange.demo.found import NODES, Founded, found
from exchange.demo.run import start_node
from exchange.desk import Conflict, Delivery, Desk, Gap, Refused, SyncDesk
from exchange.desk.archive import Archive
from exchange.desk.sealing import Sealing
from exchange.errors import PolicyError, ProofError
from exchange.report import ReportError, new_report_id
from exchange.v1 import report_pb2 as pb
from keys.errors import UsageError

HAGUE, MOTIE = "kr.the-hague/economic", "kr.motie/supply"
SEOUL, BZ, COMPANY = "nl.seoul/economic", "nl.bz/supply", "nl.veldhoven-litho/supply"

DYING_READER = """
import asyncio, os, signal, sys
from exchange.desk import Desk

async def main():
    async with Desk.open(sys.argv[1]) as desk:
        async for delivery in desk.subscribe("logistics"):
            print(delivery.report.summary[0].text, flush=True)
            if delivery.report.summary[0].text == "two":
                os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


DYING_SENDER = """
import asyncio, os, secrets, signal, sys, time
from exchange.desk import Desk
from exchange.report import read_json

async def main():
    async with Desk.open(sys.argv[1]) as desk:
        for n in range(40):
            said = '{"subject": {"item": "graphite", "stage": "mineral"}, "level": "watch", "summary": "kept %d"}' % n
            (report,) = read_json(said, now_ms=time.time_ns() // 1_000_000)
            await desk.publish("alerts", report)
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@dataclass
class Exchange:
    """Both countries; nodes are processes that a test may kill."""

    founded: Founded
    nodes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, party: str) -> None:
        self.nodes[party] = start_node(self.founded.node(party))

    def kill(self, party: str) -> None:
        self.nodes[party].send_signal(signal.SIGKILL)
        self.nodes[party].wait(10)

    def open(self, desk: str) -> Desk:
        return Desk.open(self.founded.desk(desk))


@contextlib.contextmanager
def started(directory: Path) -> Iterator[Exchange]:
    """A founded exchange whose nodes run, and end with the block."""
    running = Exchange(found(directory, title="tests"))
    try:
        for party in NODES:
            running.start(party)
        yield running
    finally:
        for process in running.nodes.values():
            process.kill()
            process.wait(10)


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    with started(tmp_path_factory.mktemp("desk") / "exchange") as running:
        yield running


def said(text: str, *, identity: bytes = b"") -> pb.Report:
    return pb.Report(
        id=identity or new_report_id(now_ms(), os.urandom(10)),
        subject=pb.Subject(hs="250410", item="natural graphite", stage=pb.STAGE_MINERAL),
        level=pb.STATUS_LEVEL_WATCH,
        summary=[pb.Text(language="en", text=text)],
    )


def texts(deliveries: Sequence[Delivery]) -> list[str]:
    return [delivery.report.summary[0].text for delivery in deliveries]


async def publish(desk: Desk, channel: str, wanted: Sequence[str], *, marking: str = "AMBER") -> None:
    await asyncio.gather(*(desk.publish(channel, said(text), marking=marking) for text in wanted))
    assert await desk.flush(30) == 0, desk.state


async def read(desk: Desk, channel: str, count: int, *, seconds: float = 60) -> list[Delivery]:
    """What comes, until so much came; then one look more, for what should not be there."""
    came: list[Delivery] = []
    limit = time.monotonic() + seconds
    while len(came) < count:
        assert time.monotonic() < limit, f"{len(came)} of {count} came"
        came += [delivery async for delivery in desk.subscribe(channel, follow=False)]
        await asyncio.sleep(0.05)
    return came + [delivery async for delivery in desk.subscribe(channel, follow=False)]


async def until(desk: Desk, channel: str, last: str) -> list[str]:
    """Texts as they come, up to a certain one, whatever other tests left there."""
    got: list[str] = []
    async with asyncio.timeout(60):
        while last not in got:
            got += texts([delivery async for delivery in desk.subscribe(channel, follow=False)])
    return got


async def test_a_report_is_read_abroad_and_both_sides_hold_a_receipt(exchange: Exchange) -> None:
    async with exchange.open(HAGUE) as sender:
        identity = await sender.publish("equipment", said("stock is low"))
        assert await sender.flush(30) == 0
        assert sender.archive.receipt(identity) is not None
    async with exchange.open(SEOUL) as reader:
        (delivery,) = await read(reader, "equipment", 1)
        assert (texts([delivery]), delivery.sender, delivery.envelope) == (["stock is low"], HAGUE, identity)
        reader.check_receipt(delivery)
        assert reader.events() == []
        assert texts(reader.inbox("equipment")) == ["stock is low"]
        other = dataclasses.replace(delivery.receipt, id=bytes(32))
        with pytest.raises(ProofError):
            reader.check_receipt(
                dataclasses.replace(delivery, origin=dataclasses.replace(delivery.origin, receipt=other))
            )


async def test_each_item_comes_once_in_order_across_restarts_of_the_reader(exchange: Exchange) -> None:
    wanted = [f"number {n}" for n in range(60)]
    got: list[str] = []
    for start in range(0, 60, 20):
        async with exchange.open(HAGUE) as sender:
            await publish(sender, "materials", wanted[start : start + 20])
        async with exchange.open(SEOUL) as reader:
            got += texts(await read(reader, "materials", 20))
            assert reader.events() == []
    assert got == wanted
    desk = exchange.open(SEOUL)
    assert texts(desk.inbox("materials")) == wanted
    desk.close()


async def test_what_a_reader_did_not_take_before_it_stopped_comes_next_time(exchange: Exchange) -> None:
    wanted = [f"step {n}" for n in range(10)]
    async with exchange.open(MOTIE) as sender:
        await publish(sender, "equipment", wanted)
    got: list[str] = []
    async with exchange.open(BZ) as reader:
        async for delivery in reader.subscribe("equipment"):
            if delivery.sender == MOTIE:
                got += texts([delivery])
            if len(got) == 4:
                break
    async with exchange.open(BZ) as reader:
        got += texts(await read(reader, "equipment", 6))
    assert got == wanted


async def test_a_reader_that_dies_is_given_again_what_it_was_given_last(exchange: Exchange, tmp_path: Path) -> None:
    async with exchange.open(MOTIE) as sender:
        await publish(sender, "logistics", ["one", "two", "three"])
    script = tmp_path / "reader.py"
    script.write_text(DYING_READER)
    place = str(exchange.founded.desk(BZ))
    run = [sys.executable, str(script), place]
    died = await asyncio.to_thread(subprocess.run, run, stdout=subprocess.PIPE, text=True, timeout=60)
    assert (died.returncode, died.stdout.split()) == (-signal.SIGKILL, ["one", "two"])
    async with exchange.open(BZ) as reader:
        again = texts(await read(reader, "logistics", 1))
    assert again in (["one", "two", "three"], ["two", "three"], ["three"])


async def test_a_sender_that_dies_keeps_all_that_publish_returned(exchange: Exchange, tmp_path: Path) -> None:
    script = tmp_path / "sender.py"
    script.write_text(DYING_SENDER)
    run = [sys.executable, str(script), str(exchange.founded.desk(MOTIE))]
    died = await asyncio.to_thread(subprocess.run, run, capture_output=True, timeout=60)
    assert died.returncode == -signal.SIGKILL, died.stderr
    async with exchange.open(MOTIE) as sender:
        assert await sender.flush(30) == 0
    async with exchange.open(SEOUL) as reader:
        assert await until(reader, "alerts", "kept 39") == [f"kept {n}" for n in range(40)]
        assert reader.events() == []


async def test_a_follower_outlives_a_restart_of_its_node(exchange: Exchange) -> None:
    async with exchange.open(HAGUE) as sender, exchange.open(SEOUL) as reader:
        stream = reader.subscribe("alerts")
        await sender.publish("alerts", said("before"))
        assert texts([await asyncio.wait_for(anext(stream), 30)]) == ["before"]
        exchange.kill("nl")
        waiting = asyncio.ensure_future(anext(stream))
        await sender.publish("alerts", said("after"))
        await asyncio.sleep(0.5)
        exchange.start("nl")
        assert texts([await asyncio.wait_for(waiting, 60)]) == ["after"]


async def test_the_outbox_keeps_what_a_dead_node_cannot_take(exchange: Exchange) -> None:
    exchange.kill("kr")
    async with exchange.open(HAGUE) as sender:
        await sender.publish("logistics", said("kept"))
        assert await sender.flush(0.3) == 1
    async with exchange.open(HAGUE) as sender:
        assert sender.archive.waiting() == 1
        exchange.start("kr")
        assert await sender.flush(60) == 0
    async with exchange.open(SEOUL) as reader:
        assert "kept" in await until(reader, "logistics", "kept")


async def test_a_node_killed_while_taking_loses_and_repeats_nothing(exchange: Exchange) -> None:
    wanted = [f"report {n}" for n in range(300)]
    async with exchange.open(HAGUE) as sender:
        for n, text in enumerate(wanted):
            await sender.publish("minerals", said(text))
            if n in (60, 170):
                exchange.kill("kr")
            if n in (90, 200):
                exchange.start("kr")
            if n == 240:
                exchange.kill("nl")
                exchange.start("nl")
        assert await sender.flush(60) == 0, sender.state
    async with exchange.open(SEOUL) as reader:
        assert texts(await read(reader, "minerals", len(wanted))) == wanted
        assert reader.events() == []


async def test_the_company_is_given_what_the_agreement_gives_it(exchange: Exchange) -> None:
    async with exchange.open(HAGUE) as sender:
        await publish(sender, "chips", ["for governments"])
        await publish(sender, "chips", ["for companies too"], marking="GREEN")
    async with exchange.open(SEOUL) as reader:
        assert texts(await read(reader, "chips", 2)) == ["for governments", "for companies too"]
    async with exchange.open(COMPANY) as reader:
        assert texts(await read(reader, "chips", 1)) == ["for companies too"]
        # Not even a gap: streams are per audience, so it cannot tell that something was withheld.
        assert reader.events() == []
        why = next(r for r in reader.explain("chips", "AMBER", sender=HAGUE) if r.desk == COMPANY)
        assert not why.reads
        assert "up to GREEN, this is AMBER" in why.why


async def test_the_company_publishes_nothing(exchange: Exchange) -> None:
    async with exchange.open(COMPANY) as desk:
        with pytest.raises(PolicyError, match=r"does not let nl\.veldhoven-litho/supply publish on chips"):
            await desk.publish("chips", said("buy ours"), marking="GREEN")
        assert desk.archive.waiting() == 0


async def test_red_goes_to_the_desks_named_and_to_nobody_else(exchange: Exchange) -> None:
    async with exchange.open(MOTIE) as sender:
        with pytest.raises(UsageError, match="named desks"):
            await sender.publish("consultation", said("secret"), marking="RED")
        with pytest.raises(UsageError, match="named desks"):
            await sender.publish("consultation", said("secret"), to=[SEOUL])
        with pytest.raises(PolicyError, match=COMPANY):
            await sender.publish("consultation", said("secret"), marking="RED", to=[SEOUL, COMPANY])
        await sender.publish("consultation", said("secret"), marking="RED", to=[SEOUL])
        await publish(sender, "consultation", ["for all"])
    async with exchange.open(SEOUL) as reader:
        assert texts(await read(reader, "consultation", 2)) == ["secret", "for all"]
    async with exchange.open(BZ) as reader:
        assert texts(await read(reader, "consultation", 1)) == ["for all"]
        assert reader.events() == []


def test_the_synchronous_face_is_the_same_desk(exchange: Exchange) -> None:
    with SyncDesk.open(exchange.founded.desk(BZ)) as sender:
        sender.publish("logistics", said("from a notebook"))
        sender.publish("logistics", said("and again"))
        assert sender.flush(30) == 0
    with SyncDesk.open(exchange.founded.desk(MOTIE) / "desk.toml") as reader:
        limit, got = time.monotonic() + 30, list[str]()
        while "from a notebook" not in got and time.monotonic() < limit:
            for delivery in reader.subscribe("logistics"):
                got += texts([delivery])
                if got[-1] == "from a notebook":
                    break
        assert got[-1] == "from a notebook"
        assert reader.events() == []


@pytest.mark.parametrize("checked", [True, False])
async def test_35_using_an_id_first_does_not_silence_its_owner(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch, *, checked: bool
) -> None:
    channel = "alerts"
    identity = new_report_id(now_ms(), os.urandom(10))
    if not checked:
        ids: set[bytes] = set()

        def by_id_alone(_: Archive, __: str, named: Sequence[tuple[bytes, bytes]]) -> list[str]:
            outcomes = ["repeat" if report in ids else "new" for report, _ in named]
            ids.update(report for report, _ in named)
            return outcomes

        monkeypatch.setattr(Archive, "said", by_id_alone)
    async with exchange.open(MOTIE) as squatter:
        await squatter.publish(channel, said("nothing to see", identity=identity))
        assert await squatter.flush(30) == 0
    async with exchange.open(HAGUE) as owner:
        await owner.publish(channel, said("the real one", identity=identity))
        await owner.publish(channel, said("the real one", identity=identity))
        await owner.publish(channel, said("end"))
        assert await owner.flush(30) == 0
    async with exchange.open(BZ) as reader:
        got = await until(reader, channel, "end")
        got = [text for text in got if text in ("nothing to see", "the real one")]
        conflicts = [event for event in reader.events() if isinstance(event, Conflict)]
    if checked:
        assert got == ["nothing to see", "the real one"]
        assert [event.sender for event in conflicts] == [HAGUE]
        assert identity.hex() in conflicts[0].what
    else:
        assert got == ["nothing to see"]


async def test_many_are_taken_or_none(exchange: Exchange) -> None:
    async with exchange.open(HAGUE) as sender:
        bad = said("bad")
        bad.subject.hs = "no code"
        waiting = sender.archive.waiting()
        with pytest.raises(ReportError):
            await sender.publish_all("logistics", [said("good"), bad])
        assert sender.archive.waiting() == waiting
        ids = await sender.publish_all("logistics", [said(f"many {n}") for n in range(3)])
        assert len(ids) == 3
        assert await sender.publish_all("logistics", []) == []
        assert await sender.flush(30) == 0
    async with exchange.open(BZ) as reader:
        assert [text for text in await until(reader, "logistics", "many 2") if text in ("good", "many 0")] == ["many 0"]


async def test_36_numbers_leak_nothing_of_what_others_are_told(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with exchange.open(HAGUE) as sender:
        for text, marking in (("open 1", "GREEN"), ("closed 1", "AMBER"), ("closed 2", "AMBER"), ("open 2", "GREEN")):
            await publish(sender, "equipment", [text], marking=marking)
    async with exchange.open(COMPANY) as reader:
        came = await read(reader, "equipment", 2)
        assert [(*texts([one]), one.seq) for one in came] == [("open 1", 1), ("open 2", 2)]
        assert reader.events() == []
    one_for_all = {"channel": "equipment", "marking": 0, "audience": ""}
    stream_of, keep = Archive.stream_of, Archive.keep_sealed
    monkeypatch.setattr(Archive, "stream_of", lambda self, *_: stream_of(self, *one_for_all.values()))
    monkeypatch.setattr(Archive, "keep_sealed", lambda self, row: keep(self, dataclasses.replace(row, **one_for_all)))
    async with exchange.open(HAGUE) as sender:
        for text, marking in (("open 3", "GREEN"), ("closed 3", "AMBER"), ("open 4", "GREEN")):
            await publish(sender, "equipment", [text], marking=marking)
    async with exchange.open(COMPANY) as reader:
        await read(reader, "equipment", 2)
        assert [type(event) for event in reader.events()] == [Gap]


async def test_22_no_disk_or_log_holds_the_text(exchange: Exchange) -> None:
    marked = "MARKED-" + os.urandom(8).hex()
    async with exchange.open(HAGUE) as sender:
        await publish(sender, "equipment", [marked])
    async with exchange.open(SEOUL) as reader:
        assert marked in await until(reader, "equipment", marked)
    files = [path for path in exchange.founded.directory.rglob("*") if path.is_file()]
    names = {path.name for path in files}
    assert {"log.db", "node.log", "desk.db"} <= names
    assert [path for path in files if marked.encode() in path.read_bytes()] == []


async def test_a_refused_envelope_of_ours_is_an_event_and_stays_in_the_outbox(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with exchange.open(COMPANY) as desk:
        # A desk whose own check is gone: the node still refuses, and the desk says so.
        monkeypatch.setattr(Sealing, "_check_may_publish", lambda *_: None)
        await desk.publish("chips", said("smuggled"), marking="GREEN")
        assert await desk.flush(30) == 1
        events = [event for event in desk.events() if isinstance(event, Refused)]
        assert {event.rule for event in events} == {"POLICY_PUBLISH"}
        assert desk.archive.stuck() == 1


async def test_a_reader_may_answer_but_not_publish_that_way(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with exchange.open(HAGUE) as sender:
        identity = await sender.publish("chips", said("for the company too"), marking="GREEN")
        assert await sender.flush(30) == 0
    async with exchange.open(COMPANY) as reader:
        await until(reader, "chips", "for the company too")
        receipt = pb.Item(acknowledgement=pb.Acknowledgement(envelope=identity, time_ms=now_ms()))
        await reader.publish("chips", receipt, answers=identity)
        # The node sees no difference: only the reader can tell that this is no control item.
        await reader.publish("chips", said("smuggled"), answers=identity)
        await reader.flush(30)
        assert reader.archive.waiting() == reader.archive.stuck(), reader.state
    async with exchange.open(HAGUE) as sender:
        async with asyncio.timeout(60):
            while not sender.archive.opened(identity):
                assert await read(sender, "chips", 0) == []
        assert [opened.desk for opened in sender.archive.opened(identity)] == [COMPANY]
        assert await read(sender, "chips", 0) == []
        dropped = [event for event in sender.events() if isinstance(event, Refused)]
        assert [event.rule for event in dropped] == ["POLICY_PUBLISH"]
    async with exchange.open(COMPANY) as reader:
        await reader.publish("chips", said("smuggled again"), answers=identity)
        await reader.flush(30)
    monkeypatch.setattr("exchange.desk.opening.is_control", lambda item: True)
    async with exchange.open(HAGUE) as sender:
        assert texts(await read(sender, "chips", 1)) == ["smuggled again"]


def test_opening_a_place_without_a_desk_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing/desk\.toml does not exist"):
        Desk.open(tmp_path / "nothing")
