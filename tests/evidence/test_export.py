"""Evidence from a running exchange: exported by reader and sender, read by a program that has nothing but the file."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from exchange.clock import now_ms
from exchange.demo.found import NODES, Founded, found
from exchange.demo.run import start_node
from exchange.desk import Desk
from exchange.evidence import verify
from exchange.v1 import exchange_pb2 as pb
from exchange.v1 import report_pb2 as rep
from keys import documents, words
from keys.errors import UsageError
from keys.v1 import documents_pb2 as docs
from tests.desk.test_desk import said

HAGUE, SEOUL, BZ = "kr.the-hague/economic", "nl.seoul/economic", "nl.bz/supply"
BIN = Path(sys.executable).parent


@dataclass
class Exchange:
    founded: Founded
    nodes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    reports: list[bytes] = field(default_factory=list)

    def open(self, desk: str) -> Desk:
        return Desk.open(self.founded.desk(desk))


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    """Both countries; three reports went from The Hague to Seoul in one envelope."""
    running = Exchange(found(tmp_path_factory.mktemp("evidence") / "exchange", title="tests"))
    try:
        for party in NODES:
            running.nodes[party] = start_node(running.founded.node(party))
        asyncio.run(_exchange(running))
        yield running
    finally:
        for process in running.nodes.values():
            process.kill()
            process.wait(10)


async def _exchange(running: Exchange) -> None:
    async with running.open(SEOUL) as reader, running.open(HAGUE) as sender:
        # Seoul's key cards must be at the other node before it can be written to.
        await reader.synchronise()
        await asyncio.sleep(3)
        await sender.synchronise()
        reports = [said(text) for text in ("plenty", "scarce", "none left")]
        running.reports = [report.id for report in reports]
        assert len(set(await sender.publish_all("minerals", reports))) == 1
        assert await sender.flush(30) == 0
        taken = []
        async with asyncio.timeout(60):
            async for delivery in reader.subscribe("minerals"):
                taken.append(delivery)
                if len(taken) == 3:
                    break
        # The other node cosigns at most once a second.
        await asyncio.sleep(3)


async def export(desk: Desk, report: bytes, *, ask: bool = True) -> tuple[verify.Proof, list[str], bytes]:
    [place] = desk.find_report(report)
    data, missing = await desk.evidence(place.envelope, place.index, ask=ask)
    return verify.verify(data, desk.trust.lineage), missing, data


@pytest.mark.parametrize(
    ("desk", "node", "cosigner"),
    [(SEOUL, "nl.seoul-1", "kr.the-hague-1"), (HAGUE, "kr.the-hague-1", "nl.seoul-1")],
)
async def test_reader_and_sender_prove_one_report_and_show_no_other(
    exchange: Exchange, desk: str, node: str, cosigner: str
) -> None:
    async with exchange.open(desk) as opened:
        proof, missing, data = await export(opened, exchange.reports[1])
    item = rep.Item.FromString(proof.item)
    assert (item.report.id, item.report.summary[0].text) == (exchange.reports[1], "scarce")
    assert (proof.header.sender, proof.header.channel, proof.count) == (HAGUE, "minerals", 3)
    assert [(w.node, w.cosigners) for w in proof.witnesses] == [(node, (cosigner,))]
    assert missing == []
    assert proof.standing == "counted"
    for other in ("plenty", "none left"):
        assert other.encode() not in data


async def test_without_the_network_the_archive_alone_proves_it(exchange: Exchange) -> None:
    opened = exchange.open(SEOUL)
    proof, missing, _ = await export(opened, exchange.reports[0], ask=False)
    opened.close()
    assert proof.witnesses[0].cosigners == ()
    assert "on the word of one node" in missing[0]


async def test_what_is_not_held_is_not_proved(exchange: Exchange) -> None:
    opened = exchange.open(BZ)
    with pytest.raises(UsageError, match="no envelope"):
        await opened.evidence(bytes(32), 0, ask=False)
    opened.close()
    opened = exchange.open(SEOUL)
    [place] = opened.find_report(exchange.reports[0])
    with pytest.raises(UsageError, match="items 0 to 2"):
        await opened.evidence(place.envelope, 3, ask=False)
    opened.close()


def tocsin(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BIN / "tocsin", *arguments], capture_output=True, encoding="utf-8", timeout=60, check=False)


def test_the_command_line_exports_and_verifies(exchange: Exchange, tmp_path: Path) -> None:
    file, lineage = tmp_path / "report.evidence", exchange.founded.lineage
    desk = exchange.founded.desk(SEOUL)
    done = tocsin("evidence", "export", exchange.reports[2].hex(), "--desk", desk, "-o", file, "--offline")
    assert done.returncode == 0, done.stderr
    assert file.stat().st_mode & 0o777 == 0o600
    told = tocsin("evidence", "verify", file, "--lineage", " ".join(words.words(lineage)))
    assert told.returncode == 0, told.stderr
    assert "Not proved:" in told.stdout
    assert "none left" in told.stdout
    facts = json.loads(tocsin("evidence", "verify", file, "--lineage", lineage.hex(), "--json").stdout)
    assert facts["report"]["summary"] == {"en": "none left"}
    assert tocsin("evidence", "verify", file, "--lineage", "00" * 32).returncode == 1
    assert tocsin("evidence", "verify", tmp_path / "none", "--lineage", lineage.hex()).returncode == 2
    assert tocsin("evidence", "export", "00" * 16, "--desk", desk, "-o", file, "--offline").returncode == 2


async def test_a_key_that_ended_later_is_proved_by_the_place_in_the_log(exchange: Exchange) -> None:
    """Last, since it ends the sender's key: the other party's node shows what was cosigned before (PROTOCOL.md 4.7)."""
    founded = exchange.founded
    body = documents.body(founded.rosters["kr"], docs.Roster)
    for desk in body.desks:
        if desk.desk == HAGUE:
            desk.keys[0].state = docs.KEY_STATE_REVOKED
    body.version, body.previous = body.version + 1, founded.rosters["kr"].digest
    body.issue_time_ms = now_ms()
    roster = founded.parties["kr"].sign(documents.make(body), "roster")
    async with exchange.open(SEOUL) as reader:
        stub = await reader._link.stub()
        answer = await stub.PutDocuments(pb.PutDocumentsRequest(documents=[roster.encode()]))
        assert [result.rule for result in answer.results] == [""]
        await reader.synchronise()
        proof, missing, _ = await export(reader, exchange.reports[1])
        assert (proof.standing, missing) == ("counted", [])
        assert proof.witnesses[0].counts
        assert any("key ended since" in text for text in proof.proved)
        alone, _, _ = await export(reader, exchange.reports[1], ask=False)
        assert alone.standing == "refused"
