"""Ours: one desk publishes, another in the other country opens, with two nodes between them: four processes.

Everything is on: signatures, sealing for the whole audience, mutual TLS, fsync at both nodes and at both desks, and every
proof is checked. `audience` is the number of desks each envelope is sealed for; one of them reads.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

from bench.figures import percentile
from bench.process import child, line, scratch
from bench.reports import report_item
from exchange import desk, envelope
from exchange.demo.found import NODES, Founded, desk_directory, found
from exchange.v1 import report_pb2
from keys.v1 import documents_pb2 as docs

PUBLISHER: Final = "kr.the-hague/economic"
READER: Final = "nl.seoul/economic"
CHANNEL: Final = "minerals"
DESKS_PER_MISSION: Final = 25
START_S: Final = 15.0
# Up to twice so many calls of `publish` are open at once: enough that a batch is always full.
WINDOW: Final = 4 * envelope.MAX_ITEMS
WARM_UP: Final = 30
IDLE_S: Final = 0.02
# 2 KB each as objects.
MOST_MADE_AHEAD: Final = 100_000


def place(directory: Path, audience: int) -> Founded:
    """An exchange in which `audience` desks read what PUBLISHER says at AMBER."""
    extra = {}
    desks = [PUBLISHER, READER]
    for index in range(audience - 1):
        # In both countries: a roster is a document of at most 1 MB, some 180 desks.
        mission = f"{('kr', 'nl')[index % 2]}.agency-{index // DESKS_PER_MISSION}"
        extra[mission] = (docs.MISSION_KIND_AGENCY, f"Agency {index // DESKS_PER_MISSION}", "기관", "NLHAG")
        desks.append(f"{mission}/d{index % DESKS_PER_MISSION}")
    return found(directory, title="Benchmark", desks=tuple(sorted(desks)), extra_missions=extra)


class Running:
    """Two nodes and the places of both desks."""

    def __init__(self, founded: Founded, nodes: Sequence[asyncio.subprocess.Process]) -> None:
        self.founded, self.nodes = founded, nodes
        self._used = 0

    def indices(self, count: int) -> int:
        """The first of so many reports that were not sent yet: a desk delivers a repeated report once."""
        first, self._used = self._used, self._used + count
        return first

    def memory(self, field: str) -> list[float]:
        """MB of each node: "VmRSS" now, "VmHWM" at its peak."""
        return [memory_mb(node.pid, field) for node in self.nodes]


def memory_mb(pid: int, field: str) -> float:
    """One memory figure of a process, MB."""
    text = Path(f"/proc/{pid}/status").read_text()
    return next(int(row.split()[1]) for row in text.splitlines() if row.startswith(f"{field}:")) / 1024


def cpu_s(pid: int) -> float:
    """CPU seconds a process has used, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def written_bytes(pid: int) -> int:
    """Bytes a process has sent towards the disk."""
    text = Path(f"/proc/{pid}/io").read_text()
    return next(int(row.split()[1]) for row in text.splitlines() if row.startswith("write_bytes:"))


def loopback_bytes() -> int:
    """Bytes that have crossed the loopback interface, with TLS, HTTP/2 and TCP around them."""
    rows = Path("/proc/net/dev").read_text().splitlines()
    return next(int(row.split(":")[1].split()[0]) for row in rows if row.strip().startswith("lo:"))


async def node(stack: AsyncExitStack, directory: Path, *before: str) -> asyncio.subprocess.Process:
    """Start a node process; it serves when this returns.

    Raises:
        TimeoutError: It does not.
    """
    ready = directory / "node.ready"
    ready.unlink(missing_ok=True)
    command = [sys.executable, "-m", *before, "exchange.node", str(directory)]
    process = await stack.enter_async_context(child(*command, log=directory / "node.log"))
    async with asyncio.timeout(START_S):
        while not ready.exists():
            await asyncio.sleep(0.005)
    return process


@asynccontextmanager
async def exchange(audience: int, *, timers: Path | None = None) -> AsyncIterator[Running]:
    """Two running nodes; with `timers`, each writes its stages there when it ends."""
    async with AsyncExitStack() as stack:
        home = Path(stack.enter_context(scratch("tocsin")))
        founded = await asyncio.to_thread(place, home / "place", audience)
        nodes = []
        for party in NODES:
            before = ["bench.timed", str(timers / f"node-{party}.json")] if timers else []
            nodes.append(await node(stack, founded.node(party), *before))
        yield Running(founded, nodes)


async def open_desk(
    running: Running, stack: AsyncExitStack, role: str, *arguments: str, timers: Path | None = None
) -> asyncio.subprocess.Process:
    """Start a desk process: "publish", "read", or "read-backlog"; it prints when it is ready and waits for SIGUSR1."""
    name = PUBLISHER if role == "publish" else READER
    before = ["bench.timed", str(timers / f"desk-{role}.json")] if timers else []
    directory = str(running.founded.directory / desk_directory(name))
    command = [sys.executable, "-m", *before, "bench.desk_to_desk", "--role", role, "--desk", directory, *arguments]
    return await stack.enter_async_context(child(*command, log=running.founded.directory / f"{role}.log"))


async def throughput(
    running: Running, *, reports: int, batch: int, timeout_s: float = 60.0, timers: Path | None = None
) -> dict[str, Any]:
    """Reports per second from the first call of `publish` to the last report opened at the other desk.

    Args:
        running: The nodes.
        reports: How many are sent.
        batch: Most reports in one envelope.
        timeout_s: Bound on the whole measurement.
        timers: Where each desk writes its stages.

    Returns:
        `reports_per_s`; CPU ms and disk bytes per report by process; bytes on the sockets per report, over all three hops.
    """
    async with asyncio.timeout(timeout_s), AsyncExitStack() as stack:
        first = running.indices(reports)
        given = ("--reports", str(reports), "--batch", str(batch), "--first", str(first))
        reader = await open_desk(running, stack, "read", *given, timers=timers)
        publisher = await open_desk(running, stack, "publish", *given, timers=timers)
        for process in (reader, publisher):
            await line(process)
        pids = {
            "desk publishing": publisher.pid,
            "its node": running.nodes[0].pid,
            "other node": running.nodes[1].pid,
            "desk reading": reader.pid,
        }
        cpu = {name: cpu_s(pid) for name, pid in pids.items()}
        disk = {name: written_bytes(pid) for name, pid in pids.items()}
        crossed = loopback_bytes()
        publisher.send_signal(signal.SIGUSR1)
        started = json.loads(await line(publisher))
        finished = json.loads(await line(reader))
        seconds = finished["finished"] - started["started"]
        result = {
            "reports": reports,
            "batch": batch,
            "seconds": seconds,
            "reports_per_s": reports / seconds,
            "envelopes": finished["envelopes"],
            "cpu_us_per_report": {name: (cpu_s(pid) - cpu[name]) / reports * 1e6 for name, pid in pids.items()},
            "socket_bytes_per_report": (loopback_bytes() - crossed) / reports,
        }
        written = {name: written_bytes(pid) for name, pid in pids.items()}
        # They end by themselves, so that their timers are written.
        for name, process in (("desk reading", reader), ("desk publishing", publisher)):
            process.send_signal(signal.SIGUSR1)
            while "written" not in (last := json.loads(await line(process))):
                pass
            written[name] = last["written"]
            await process.wait()
        result["disk_bytes_per_report"] = {name: (written[name] - disk[name]) / reports for name in pids}
        return result


async def latency(running: Running, *, reports: int = 300, timeout_s: float = 60.0) -> dict[str, Any]:
    """Time of one report alone, from the call of `publish` to its delivery at the other desk.

    Args:
        running: The nodes.
        reports: How many are sent, one after the other, IDLE_S seconds apart.
        timeout_s: Bound on the whole measurement.

    Returns:
        `reports`, `p50_ms`, `p99_ms`.
    """
    async with asyncio.timeout(timeout_s), AsyncExitStack() as stack:
        first = running.indices(reports + WARM_UP)
        given = ("--reports", str(reports + WARM_UP), "--single", "--first", str(first))
        reader = await open_desk(running, stack, "read", *given)
        publisher = await open_desk(running, stack, "publish", *given)
        for process in (reader, publisher):
            await line(process)
        publisher.send_signal(signal.SIGUSR1)
        sent = json.loads(await line(publisher))["times"]
        got = json.loads(await line(reader))["times"]
        taken = [(got[identity] - time_s) * 1e3 for identity, time_s in sent.items()][WARM_UP:]
        for process in (reader, publisher):
            process.send_signal(signal.SIGUSR1)
            await process.wait()
    return {"reports": reports, "p50_ms": percentile(taken, 0.5), "p99_ms": percentile(taken, 0.99)}


def wire_bytes(audience: int, batch: int) -> dict[str, float]:
    """Bytes of a sealed envelope per report, against the reports alone and against them in one plain protobuf message."""
    from exchange.v1 import envelope_pb2
    from keys import suite

    card = suite.CardKey.generate().public
    header = envelope_pb2.Header(
        lineage=bytes(32),
        agreement=bytes(32),
        agreement_version=1,
        sender=PUBLISHER,
        channel=CHANNEL,
        marking=docs.MARKING_AMBER,
        stream=bytes(16),
        seq=1000,
        prev_seq=999,
        prev_id=bytes(32),
        create_time_ms=1_700_000_000_000,
        expire_time_ms=1_701_000_000_000,
    )
    for party in NODES:
        header.rosters.add(party=party, generation=1, version=1, digest=bytes(32))
    names = [f"nl.agency-{index // 25}/d{index % 25}" for index in range(audience)]
    for name in names:
        header.audience.add(desk=name, card=bytes([1]) * 32)
    items = [report_item(index) for index in range(batch)]
    sealed = envelope.seal(
        items, header, key=suite.SigningKey.generate(suite.DESK_SUITE), cards=dict.fromkeys(names, card)
    )
    plain = len(envelope_pb2.Payload(items=items).SerializeToString())
    return {
        "sealed_per_report": len(sealed.data) / batch,
        "plain_per_report": plain / batch,
        "ratio": len(sealed.data) / plain,
    }


async def start(runs: int = 5) -> dict[str, Any]:
    """Time from starting a node's process until it serves, and its memory when idle."""
    times_s = []
    async with AsyncExitStack() as outer:
        home = Path(outer.enter_context(scratch("tocsin")))
        founded = await asyncio.to_thread(place, home / "place", 10)
        for _ in range(runs):
            async with AsyncExitStack() as stack:
                began = time.monotonic()
                process = await node(stack, founded.node("kr"))
                times_s.append(time.monotonic() - began)
                await asyncio.sleep(1)
                idle_mb = memory_mb(process.pid, "VmRSS")
    return {"cold_start_s": percentile(times_s, 0.5), "idle_mb": idle_mb}


# ---- the two desk processes


def _say(**values: object) -> None:
    print(json.dumps(values), flush=True)


def _reports(first: int, count: int) -> list[report_pb2.Report]:
    return [report_pb2.Item.FromString(report_item(first + index)).report for index in range(count)]


async def _publish(opened: desk.Desk, first: int, reports: int, single: bool, go: asyncio.Event) -> None:
    # Made before the clock starts, unless they are too many to be held at once.
    said = _reports(first, reports) if reports <= MOST_MADE_AHEAD else []
    while opened.state != "connected":
        await asyncio.sleep(0.01)
    _say(ready=True)
    await go.wait()
    go.clear()
    if single:
        times = {}
        for report in said:
            times[report.id.hex()] = time.monotonic()
            await opened.publish(CHANNEL, report)
            await asyncio.sleep(IDLE_S)
        _say(times=times)
    else:
        _say(started=time.monotonic())
        before: asyncio.Future[list[bytes]] | None = None
        for start in range(0, reports, WINDOW):
            ready = said[start : start + WINDOW] or _reports(first + start, min(WINDOW, reports - start))
            window = asyncio.ensure_future(opened.publish_all(CHANNEL, ready))
            if before is not None:
                await before
            before = window
        if before is not None:
            await before
        await opened.flush()
        _say(flushed=time.monotonic())
    await go.wait()


async def _read(opened: desk.Desk, reports: int, single: bool, backlog: bool, go: asyncio.Event) -> None:
    times: dict[str, float] = {}
    envelopes: set[bytes] = set()
    count = 0
    if backlog:
        # Its node does not run yet.
        _say(ready=True)
        await go.wait()
        go.clear()
    else:
        await opened.synchronise()
        # What earlier measurements left is read first, so that the count starts at none.
        async for _ in opened.subscribe(CHANNEL, follow=False):
            pass
        _say(ready=True)
    async for delivery in opened.subscribe(CHANNEL, early=single):
        count += 1
        if single:
            times[delivery.report.id.hex()] = time.monotonic()
        else:
            envelopes.add(delivery.envelope)
        if count == reports:
            break
    _say(finished=time.monotonic(), envelopes=len(envelopes), times=times)
    for event in opened.events():
        print(event, file=sys.stderr)
    await go.wait()


async def _desk(role: str, directory: Path, first: int, reports: int, single: bool) -> None:
    go = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, go.set)
    async with desk.Desk.open(directory) as opened:
        if role == "publish":
            await _publish(opened, first, reports, single, go)
        else:
            await _read(opened, reports, single, role == "read-backlog", go)
    # With what its end writes: else pages that wait in the write-ahead log for their copy into the file would not count.
    _say(written=written_bytes(os.getpid()))


def main() -> None:
    """One of the two desk processes of a measurement."""
    parser = argparse.ArgumentParser(description="A desk process of the benchmark; started by `make bench`.")
    parser.add_argument("--role", choices=["publish", "read", "read-backlog"], required=True)
    parser.add_argument("--desk", type=Path, required=True)
    parser.add_argument("--reports", type=int, required=True)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--batch", type=int, default=envelope.MAX_ITEMS)
    parser.add_argument("--single", action="store_true")
    given = parser.parse_args()
    # The bound on a batch is the format's; a smaller one for measurement alone.
    setattr(envelope, "MAX_ITEMS", given.batch)  # noqa: B010
    asyncio.run(_desk(given.role, given.desk, given.first, given.reports, given.single))


if __name__ == "__main__":
    main()
