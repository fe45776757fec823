"""An attachment from a desk of one country to one of the other, through both nodes; interrupted, it goes on where it stopped."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from exchange import attachment, attachment_cli, tls, wire
from exchange.demo.found import NODES, Founded, found
from exchange.demo.run import start_node
from exchange.desk import Desk
from exchange.desk import attaching as desk_side
from exchange.errors import AttachmentError
from exchange.v1 import exchange_pb2 as pb
from exchange.v1 import exchange_pb2_grpc as rpc
from exchange.v1 import report_pb2 as rep
from keys.encoding import digest
from keys.errors import TocsinError

HAGUE, SEOUL = "kr.the-hague/economic", "nl.seoul/economic"
SIZE = 3_000_000


@dataclass
class Exchange:
    founded: Founded
    nodes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def open(self, desk: str) -> Desk:
        return Desk.open(self.founded.desk(desk))

    def shelf(self, party: str) -> list[tuple[str, int]]:
        """(suffix, size) of what lies at a node."""
        return [(p.suffix, p.stat().st_size) for p in (self.founded.node(party) / "attachments").iterdir()]


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    running = Exchange(found(tmp_path_factory.mktemp("attached") / "exchange", title="tests"))
    try:
        for party in NODES:
            running.nodes[party] = start_node(running.founded.node(party))
        yield running
    finally:
        for process in running.nodes.values():
            process.kill()
            process.wait(10)


def written(tmp_path: Path, size: int = SIZE) -> Path:
    path = tmp_path / "survey.pdf"
    path.write_bytes(os.urandom(size))
    return path


async def test_across_both_nodes(exchange: Exchange, tmp_path: Path) -> None:
    source, target = written(tmp_path), tmp_path / "out.pdf"
    async with exchange.open(HAGUE) as sender, exchange.open(SEOUL) as reader:
        said = await sender.attach(source, media_type="application/pdf")
        assert (said.size, said.name, said.media_type) == (SIZE, "survey.pdf", "application/pdf")
        # Sealed, and nothing waits at the desk any more.
        assert list((exchange.founded.desk(HAGUE) / "attachments").iterdir()) == []
        await reader.fetch(said, target)
    assert target.read_bytes() == source.read_bytes()
    assert ("", attachment.sealed_size(SIZE)) in exchange.shelf("kr")
    assert ("", attachment.sealed_size(SIZE)) in exchange.shelf("nl")
    for party in NODES:
        for path in (exchange.founded.node(party) / "attachments").iterdir():
            assert source.read_bytes()[:64] not in path.read_bytes()


async def test_sending_goes_on_where_it_stopped(
    exchange: Exchange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = written(tmp_path), tmp_path / "out"
    read, sent = desk_side._read, []

    def failing(path: Path, offset: int) -> bytes:
        if offset >= 1_000_000:
            # The first piece arrived; one that is lost with the call is sent again from its beginning.
            for _ in range(400):
                if (".part", 1_000_000) in exchange.shelf("kr"):
                    break
                time.sleep(0.05)
            raise AttachmentError("the cable is pulled")
        return read(path, offset)

    def counting(path: Path, offset: int) -> bytes:
        sent.append(offset)
        return read(path, offset)

    async with exchange.open(HAGUE) as sender, exchange.open(SEOUL) as reader:
        said = await sender._attaching.seal(source, media_type="application/pdf")
        monkeypatch.setattr(desk_side, "_read", failing)
        with pytest.raises((TocsinError, grpc.aio.AioRpcError, asyncio.CancelledError, AttachmentError)):
            await sender.send_attachment(said)
        monkeypatch.setattr(desk_side, "_read", counting)
        await asyncio.sleep(0.5)
        await sender.send_attachment(said)
        assert sent[0] == 1_000_000
        await reader.fetch(said, target)
    assert target.read_bytes() == source.read_bytes()


async def test_fetching_goes_on_where_it_stopped(
    exchange: Exchange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = written(tmp_path), tmp_path / "out"
    append, came = desk_side._append, []

    def failing(path: Path, data: bytes) -> None:
        if path.exists():
            raise AttachmentError("the cable is pulled")
        append(path, data)

    def counting(path: Path, data: bytes) -> None:
        came.append(len(data))
        append(path, data)

    async with exchange.open(HAGUE) as sender, exchange.open(SEOUL) as reader:
        said = await sender.attach(source)
        monkeypatch.setattr(desk_side, "_append", failing)
        with pytest.raises(AttachmentError, match="cable"):
            await reader.fetch(said, target)
        monkeypatch.setattr(desk_side, "_append", counting)
        await reader.fetch(said, target)
    assert sum(came) == attachment.sealed_size(SIZE) - 1_000_000
    assert target.read_bytes() == source.read_bytes()


async def test_what_nobody_sent_is_not_to_be_had_and_a_wrong_key_gives_no_file(
    exchange: Exchange, tmp_path: Path
) -> None:
    source, target = written(tmp_path, 100), tmp_path / "out"
    async with exchange.open(HAGUE) as sender, exchange.open(SEOUL) as reader:
        unknown = rep.Attachment(digest=bytes(32), key=bytes(32), size=100)
        with pytest.raises(wire.RemoteError) as caught:
            await reader.fetch(unknown, target)
        assert caught.value.rule == "ATTACHMENT_BAD"
        said = await sender.attach(source)
        other = rep.Attachment()
        other.CopyFrom(said)
        other.key = bytes(32)
        with pytest.raises(AttachmentError):
            await reader.fetch(other, target)
        assert not target.exists()
        await reader.fetch(said, target)
    assert target.read_bytes() == source.read_bytes()


async def test_a_node_takes_attachments_only_from_its_own_desks(exchange: Exchange) -> None:
    """A desk of the other country is a caller like any other, but its files go through its own node."""
    async with exchange.open(SEOUL) as reader:
        data = b"x" * 100
        entry = reader.trust.node("kr.the-hague-1")
        assert entry is not None
        await reader._link.stub()
        own = reader._own.tls_pair()
        credentials = grpc.ssl_channel_credentials(
            tls.der_to_pem(entry.tls_ca), tls.key_pem(own.key), tls.pem(own.certificate)
        )
        options = [*wire.CLIENT_OPTIONS, ("grpc.ssl_target_name_override", entry.node)]
        async with grpc.aio.secure_channel(entry.endpoint, credentials, options=options) as channel:

            async def pieces() -> AsyncIterator[pb.PutAttachmentRequest]:
                yield pb.PutAttachmentRequest(digest=digest(data), size=100, data=data)

            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await rpc.ExchangeStub(channel).PutAttachment(pieces())
            assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED


def tocsin(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).parent / "tocsin", *arguments]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60, check=False)


def test_on_the_command_line(exchange: Exchange, tmp_path: Path) -> None:
    source, hague, seoul = written(tmp_path, 70_000), exchange.founded.desk(HAGUE), exchange.founded.desk(SEOUL)
    done = tocsin("attachment", "send", source, "--desk", hague, "-o", tmp_path / "said.json")
    assert done.returncode == 0, done.stderr
    attachments = json.loads((tmp_path / "said.json").read_text())
    assert attachments[0]["key"] not in done.stdout + done.stderr
    report = {
        "subject": {"item": "graphite", "stage": "mineral"},
        "level": "watch",
        "summary": "see the survey",
        "attachments": attachments,
    }
    (tmp_path / "report.json").write_text(json.dumps(report))
    assert tocsin("publish", "minerals", tmp_path / "report.json", "--desk", hague).returncode == 0
    done = tocsin("follow", "minerals", "--desk", seoul, "--once", "--json")
    row = json.loads(done.stdout.splitlines()[-1])
    assert attachments[0]["key"] not in done.stdout
    fetched = tocsin("attachment", "fetch", row["report"]["id"], "--desk", seoul, "--to", tmp_path / "files")
    assert fetched.returncode == 0, fetched.stderr
    assert (tmp_path / "files" / "1-survey.pdf").read_bytes() == source.read_bytes()
    assert tocsin("attachment", "fetch", "00" * 16, "--desk", seoul, "--to", tmp_path / "files").returncode == 2


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("a.pdf", "1-a.pdf"),
        ("../../etc/passwd", "1-etcpasswd"),
        ("\x1b[2J", "1-2J"),
        ("..", "1"),
        (".bashrc", "1-bashrc"),
    ],
)
def test_a_name_from_elsewhere_does_no_harm(name: str, wanted: str) -> None:
    assert attachment_cli._name(name, 1) == wanted
