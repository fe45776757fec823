"""What one caller may hold open: no member takes all places, no half request keeps one."""

import asyncio
import socket
import ssl
import time
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from exchange import tls, wire
from exchange.checkpoint import parse
from exchange.errors import LimitError
from exchange.node import app, doors, quota, reading
from exchange.node.quota import Open
from exchange.v1 import exchange_pb2 as pb
from keys import founding, suite
from keys.trust import week_of
from tests.node.cluster import NODES, eventually, found, give, now_ms

KR, _ = NODES
HOARDER, HONEST = "kr.motie/supply", "kr.the-hague/economic"
# What comes before it in the log is large.
FIRST_CARD = 7


def test_calls_are_counted_by_name_and_forgotten_when_they_end() -> None:
    calls = Open(2)
    calls.enter("a")
    calls.enter("a")
    calls.enter("b")
    with pytest.raises(LimitError, match="2 calls are open"):
        calls.enter("a")
    calls.leave("a")
    calls.enter("a")
    for name in "aab":
        calls.leave(name)
    assert not calls._calls


async def test_one_member_cannot_take_every_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "CALLS", 30)
    monkeypatch.setattr(quota, "MAX_OPEN", 20)
    cluster = found(tmp_path)
    async with cluster.app(KR).serving():
        hoarder, honest = await cluster.enrol(HOARDER), await cluster.enrol(HONEST)
        async with cluster.connect(hoarder) as stub, cluster.connect(honest) as other:
            calls: list[Any] = []
            for _ in range(30):
                calls.append(stub.Publish())
                with suppress(grpc.aio.AioRpcError):
                    await calls[-1].write(pb.PublishRequest())
                    await calls[-1].read()
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.GetCheckpoint(pb.GetCheckpointRequest(), timeout=5)
            assert "20 calls are open" in str(wire.error_from(refused.value))
            assert (await other.GetCheckpoint(pb.GetCheckpointRequest(), timeout=5)).checkpoint
            for call in calls:
                call.cancel()
            await asyncio.sleep(0.2)
            assert (await stub.GetCheckpoint(pb.GetCheckpointRequest(), timeout=5)).checkpoint


async def test_a_request_that_does_not_come_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors.Doors.__init__, "__kwdefaults__", {"request_s": 0.3})
    monkeypatch.setattr(app, "ENROL_REQUEST_S", 0.3)
    cluster = found(tmp_path)
    async with cluster.app(KR).serving():
        identity = await cluster.enrol(HONEST)
        entry = cluster.entries[KR]
        options = [("grpc.ssl_target_name_override", KR)]
        stranger = grpc.ssl_channel_credentials(tls.der_to_pem(entry.tls_ca))
        member = grpc.ssl_channel_credentials(
            tls.der_to_pem(entry.tls_ca), tls.key_pem(identity.key), tls.pem(identity.certificate)
        )
        for endpoint, credentials, method in (
            (entry.endpoint, member, "GetCheckpoint"),
            (entry.endpoint, member, "Subscribe"),
            (entry.enrol_endpoint, stranger, "Enrol"),
        ):
            async with grpc.aio.secure_channel(endpoint, credentials, options=options) as channel:
                call = channel.stream_stream(f"/exchange.v1.Exchange/{method}")()
                with pytest.raises(grpc.aio.AioRpcError) as ended:
                    await asyncio.wait_for(call.read(), 5)
                assert "no request came" in str(wire.error_from(ended.value))


async def test_slow_readers_of_one_caller_share_what_one_may_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "READ_BYTES", 60_000)
    monkeypatch.setattr(reading, "LEAST_BYTES", 1_000)
    cluster = found(tmp_path)
    async with cluster.app(KR).standing() as node, AsyncExitStack() as stack:
        await eventually(lambda: parse(node.checkpoint).size == node.store.size())
        held = []
        for _ in range(reading.MAX_CALLS):
            call = node.subscribe(HONEST, position=FIRST_CARD, channels=None, follow=True)
            stack.push_async_callback(call.aclose)
            # It takes one batch, and then no more.
            held.append(sum(len(row.data) for row, _ in (await anext(call)).rows))
        assert held[0] > 40_000
        assert sum(held) < reading.MAX_CALLS * held[0] / 4
        with pytest.raises(LimitError, match="subscriptions open"):
            await anext(node.subscribe(HONEST, position=0, channels=None, follow=True))


async def test_a_tls_configuration_is_given_only_when_it_is_new(tmp_path: Path) -> None:
    """gRPC swaps them without a lock: given at each handshake, a stranger who knocked often ended the process."""
    cluster = found(tmp_path)
    async with cluster.app(KR).serving() as node:
        both = (node._fetch_configuration, node._fetch_enrol_configuration)
        assert [fetch() for fetch in both] == [None, None]
        version = node.trust.version
        mission = next(iter(cluster.world.desks))
        card = founding.key_card(
            mission, cluster.world.desks[mission], suite.CardKey.generate(), lineage=cluster.world.lineage,
            week=week_of(now_ms()) + 4,
        )  # fmt: skip
        await give(card, node)
        # More is known, and nobody new may come.
        assert node.trust.version > version
        assert [fetch() for fetch in both] == [None, None]
        node.own_keys.pair = node.own_keys._issue_own()
        assert None not in [fetch() for fetch in both]
        assert [fetch() for fetch in both] == [None, None]


@pytest.mark.parametrize("verbosity", [None, "INFO"], ids=["as it is installed", "as gRPC is of itself"])
def test_what_strangers_send_does_not_reach_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verbosity: str | None
) -> None:
    monkeypatch.delenv("GRPC_VERBOSITY", raising=False)
    if verbosity:
        monkeypatch.setenv("GRPC_VERBOSITY", verbosity)
    cluster = found(tmp_path)
    try:
        cluster.start(KR)
        stranger(cluster.entries[KR].enrol_endpoint, ESCAPE)
        end = time.monotonic() + (10 if verbosity else 1)
        while not (seen := ESCAPE in (tmp_path / f"{KR}.log").read_bytes()) and time.monotonic() < end:
            time.sleep(0.05)
    finally:
        cluster.kill_all()
    assert seen == bool(verbosity)


ESCAPE = b"\x1b]0;owned\x07"


def stranger(endpoint: str, words: bytes) -> None:
    """Opens a connection to the listener where anybody may, and ends it with words."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    host, _, port = endpoint.partition(":")
    goaway = bytes(4) + (2).to_bytes(4, "big") + words
    with socket.create_connection((host, int(port))) as plain, context.wrap_socket(plain) as line:
        line.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5))
        line.sendall(len(goaway).to_bytes(3, "big") + b"\x07" + bytes(5) + goaway)
        line.settimeout(0.5)
        with suppress(OSError):
            while line.recv(4096):
                pass
