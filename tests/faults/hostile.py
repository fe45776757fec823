"""A hostile member, as a process: junk, half messages, slow readers and writers, idle subscribers, against one node.

It holds valid certificates of desks of that node: what strangers may send ends at the TLS handshake, and is sent too.
`python -m tests.faults.hostile loud SECONDS EXCHANGE_DIRECTORY NODE_DIRECTORY DESK...`, or `idle COUNT ...`; prints, as JSON,
that it started, and at its end what it did.
"""

import asyncio
import contextlib
import json
import logging
import os
import random
import signal
import ssl
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc

from exchange import files, tls
from exchange.demo.found import desk_directory
from exchange.desk import Desk
from exchange.node.directory import NodeSettings
from exchange.v1 import exchange_pb2 as pb
from exchange.v1 import exchange_pb2_grpc as rpc

SERVICE: Final = "/exchange.v1.Exchange/"
METHODS: Final = tuple(method.name for method in pb.DESCRIPTOR.services_by_name["Exchange"].methods)
STREAMS: Final = ("Publish", "Subscribe")
SLOW: Final = 150
HALF_OPEN: Final = 50
IDLE_START_S: Final = 300.0
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING, WINDOW = 0, 1, 3, 4, 6, 8
FAILURES: Final = (OSError, EOFError, ssl.SSLError, TimeoutError, grpc.aio.AioRpcError, grpc.aio.UsageError)


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 0) -> bytes:
    """One HTTP/2 frame."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def headers(path: str, stream: int) -> bytes:
    """The opening of a gRPC call; no field is indexed, none compressed."""
    fields = {":method": "POST", ":scheme": "https", ":path": path, ":authority": "node"}
    fields |= {"content-type": "application/grpc", "te": "trailers"}
    block = b"".join(
        b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in fields.items()
    )
    return frame(HEADERS, block, flags=4, stream=stream)


@dataclass
class Hostile:
    """One desk's certificate, used for everything but what it is for."""

    name: str
    node: str
    endpoint: str
    enrol_endpoint: str
    credentials: grpc.ChannelCredentials = field(repr=False)
    context: ssl.SSLContext = field(repr=False)
    done: Counter[str]
    chance: random.Random

    def channel(self) -> grpc.aio.Channel:
        """A connection of its own."""
        options = [
            ("grpc.ssl_target_name_override", self.node),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.http2.lookahead_bytes", 65_536),
            ("grpc.http2.bdp_probe", 0),
        ]
        return grpc.aio.secure_channel(self.endpoint, self.credentials, options=options)

    async def socket(self, *, secure: bool, enrol: bool = False) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A bare connection."""
        host, _, port = (self.enrol_endpoint if enrol else self.endpoint).rpartition(":")
        given: dict[str, Any] = {"ssl": self.context, "server_hostname": self.node} if secure else {}
        return await asyncio.open_connection(host, int(port), **given)

    # ---- what it does, each again and again

    async def junk_bodies(self) -> None:
        """Random bytes, and honest requests cut or altered, to every method."""
        samples = [
            pb.SubscribeRequest(position=2**63 - 1, channels=["minerals"] * 50, follow=True),
            pb.PublishRequest(envelopes=[os.urandom(5000)] * 20),
            pb.GetDocumentsRequest(page_token="9" * 400, page_size=2**31 - 1),
            pb.GetProofRequest(leaf=bytes(32), size=2**63, from_size=2**62),
            pb.PutDocumentsRequest(documents=[os.urandom(1000)] * 200),
            pb.GetPlacesRequest(leaves=[os.urandom(32)] * 300, node="nl.seoul-1"),
        ]
        async with self.channel() as channel:
            for _ in range(50):
                data = bytearray(self.chance.choice(samples).SerializeToString())
                lot = self.chance.random()
                if lot < 0.3:
                    data = bytearray(self.chance.randbytes(self.chance.randint(0, 100_000)))
                elif lot < 0.6:
                    del data[self.chance.randint(0, len(data)) :]
                elif lot < 0.8 and data:
                    data[self.chance.randrange(len(data))] ^= 1 << self.chance.randrange(8)
                method = self.chance.choice(METHODS)
                self.done[f"calls of {method}"] += 1
                with contextlib.suppress(*FAILURES):
                    if method in STREAMS:
                        call = channel.stream_stream(SERVICE + method)(iter([bytes(data)] * 3), timeout=2)
                        async with asyncio.timeout(2):
                            await call.read()
                        call.cancel()
                    else:
                        await channel.unary_unary(SERVICE + method)(bytes(data), timeout=2)

    async def huge_metadata(self) -> None:
        """Headers of up to 4 MB."""
        async with self.channel() as channel:
            value = "x" * self.chance.choice((5_000, 50_000, 500_000, 4_000_000))
            self.done["calls with huge metadata"] += 1
            with contextlib.suppress(*FAILURES):
                await channel.unary_unary(SERVICE + "GetCheckpoint")(b"", metadata=[("x", value)], timeout=5)

    async def junk_before_tls(self) -> None:
        """Random bytes, and handshakes that are never finished, at both listeners."""
        _, writer = await self.socket(secure=False, enrol=self.chance.random() < 0.5)
        self.done["handshakes not finished"] += 1
        hello = bytes.fromhex("16030102000100")
        writer.write(hello if self.chance.random() < 0.5 else self.chance.randbytes(self.chance.randint(1, 20_000)))
        with contextlib.suppress(*FAILURES):
            await writer.drain()
            await asyncio.sleep(self.chance.choice((0, 0.1, 10)))
        writer.close()

    async def junk_frames(self) -> None:
        """HTTP/2 with random frames, floods of settings and pings, calls reset as fast as they are opened."""
        reader, writer = await self.socket(secure=True)
        drained = asyncio.create_task(reader.read(-1))
        writer.write(PREFACE + frame(SETTINGS))
        kind, stream = self.chance.choice(("random", "settings", "pings", "resets")), 1
        self.done[f"connections with {kind} frames"] += 1
        with contextlib.suppress(*FAILURES):
            for _ in range(300):
                if kind == "random":
                    body = self.chance.randbytes(self.chance.randint(0, 2000))
                    flags, one = self.chance.randrange(256), self.chance.randrange(64)
                    writer.write(frame(self.chance.randrange(12), body, flags=flags, stream=one))
                elif kind == "settings":
                    writer.write(frame(SETTINGS, b"\x00\x04\x00\x00\xff\xff") * 20)
                elif kind == "pings":
                    writer.write(frame(PING, bytes(8)) * 20)
                else:
                    for _ in range(20):
                        writer.write(headers(SERVICE + "Subscribe", stream) + frame(RESET, bytes(4), stream=stream))
                        stream += 2
                await writer.drain()
        drained.cancel()
        writer.close()

    async def slow_writer(self) -> None:
        """Opens calls of which the request never comes whole."""
        reader, writer = await self.socket(secure=True)
        drained = asyncio.create_task(reader.read(-1))
        self.done["slow writers"] += 1
        writer.write(PREFACE + frame(SETTINGS))
        for stream in range(1, 2 * HALF_OPEN, 2):
            writer.write(headers(SERVICE + self.chance.choice(METHODS), stream))
            writer.write(frame(DATA, b"\x00" + (1_000_000).to_bytes(4, "big"), stream=stream))
        with contextlib.suppress(*FAILURES):
            for _ in range(30):
                stream = self.chance.randrange(1, 2 * HALF_OPEN, 2)
                writer.write(frame(DATA, b"x", stream=stream))
                await writer.drain()
                await asyncio.sleep(1)
        drained.cancel()
        writer.close()

    async def slow_reader(self) -> None:
        """Asks for the whole log, and for all documents, and reads nothing."""
        async with self.channel() as channel:
            stub = rpc.ExchangeStub(channel)
            self.done["slow readers"] += 1
            with contextlib.suppress(*FAILURES):
                calls: list[Any] = [stub.Subscribe(pb.SubscribeRequest(follow=True, early=True)) for _ in range(3)]
                calls.append(stub.Publish())
                for _ in range(50):
                    # Its answers are not read either.
                    await asyncio.wait_for(calls[-1].write(pb.PublishRequest(envelopes=[os.urandom(3000)])), 5)
                await asyncio.sleep(30)

    async def idle(self, count: int) -> None:
        """Subscriptions that are kept open and get nothing, each on a connection of its own."""
        async with contextlib.AsyncExitStack() as stack:
            calls = []
            for _ in range(count):
                channel = await stack.enter_async_context(self.channel())
                call = rpc.ExchangeStub(channel).Subscribe(
                    pb.SubscribeRequest(position=2**40, channels=["equipment"], follow=True)
                )
                calls.append(call)
                with contextlib.suppress(*FAILURES):
                    async with asyncio.timeout(20):
                        await call.read()
                        self.done["idle subscribers"] += 1
            while True:
                for call in calls:
                    with contextlib.suppress(*FAILURES):
                        async with asyncio.timeout(30):
                            await call.read()
                # One that ended is at its end at once.
                await asyncio.sleep(0.5)


async def again(work: Callable[[], Awaitable[None]], done: Counter[str]) -> None:
    """For ever; what the node closes is opened again."""
    while True:
        try:
            await work()
        except FAILURES:
            done["attempts cut short"] += 1
            await asyncio.sleep(0.1)


async def hostile(root: Path, node: NodeSettings, name: str, done: Counter[str]) -> Hostile:
    """A desk with its certificate."""
    desk = Desk.open(root / desk_directory(name))
    await desk.enrol()
    entry = desk.trust.node(node.name)
    assert entry is not None
    pair = desk._own.tls_pair()
    certificate, key = tls.pem(pair.certificate), tls.key_pem(pair.key)
    await desk.disconnect()
    desk.close()
    ca = tls.der_to_pem(entry.tls_ca)
    # Whom it attacks is no concern of its.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with tempfile.TemporaryDirectory() as scratch:
        pair = Path(scratch) / "pair.pem"
        pair.write_bytes(certificate + key)
        context.load_cert_chain(pair)
    credentials = grpc.ssl_channel_credentials(ca, key, certificate)
    return Hostile(name, node.name, node.endpoint, node.enrol_endpoint, credentials, context, done, random.Random(name))


async def loud(desks: Sequence[Hostile], seconds: float) -> None:
    """Everything at once, for so long."""
    tasks = [
        asyncio.create_task(again(work, one.done))
        for one in desks
        for work, count in (
            (one.junk_bodies, 2),
            (one.huge_metadata, 1),
            (one.junk_before_tls, 20),
            (one.junk_frames, 1),
            (one.slow_writer, SLOW // HALF_OPEN),
            (one.slow_reader, 10),
        )
        for _ in range(count)
    ]
    say(started=True)
    await asyncio.sleep(seconds)
    await end(tasks)


async def quiet(desks: Sequence[Hostile], count: int) -> None:
    """So many subscribers, until it is terminated."""
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    tasks = [asyncio.create_task(again(lambda one=one: one.idle(count // len(desks)), one.done)) for one in desks]
    async with asyncio.timeout(IDLE_START_S):
        while desks[0].done["idle subscribers"] < count // len(desks) * len(desks):
            await asyncio.sleep(0.1)
    say(started=True)
    await ending.wait()
    await end(tasks)


async def end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel; some do not hear it in the middle of a call, and go with the process."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=2)


def say(**values: object) -> None:
    """To whoever started us."""
    print(json.dumps(values), flush=True)


async def main(what: str, amount: str, root: Path, directory: Path, names: Sequence[str]) -> None:
    """One of the two."""
    done: Counter[str] = Counter()
    settings = files.load_settings(NodeSettings, directory / "node.toml")
    desks = [await hostile(root, settings, name, done) for name in names]
    await (loud(desks, float(amount)) if what == "loud" else quiet(desks, int(amount)))
    say(**dict(sorted(done.items())))
    os._exit(0)


if __name__ == "__main__":
    # What this process complains of is of no interest.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    what, amount, root, directory, *names = sys.argv[1:]
    asyncio.run(main(what, amount, Path(root), Path(directory), names))
