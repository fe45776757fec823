"""One node under a hostile member's traffic: its memory stays bounded, and honest desks miss nothing meanwhile."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

from exchange.demo.found import found
from exchange.desk import Desk
from keys.v1 import documents_pb2 as docs
from tests.faults.place import HAGUE, SEOUL, Place, environment, memory_mb
from tests.faults.worker import report

LOUD: Final = tuple(f"kr.agency/d{n}" for n in range(2))
# A company has four desks at most.
IDLE: Final = tuple(f"kr.factory-{n // 4}/d{n % 4}" for n in range(20))
EVERY_S: Final = 0.2
END_S: Final = 10.0


@contextmanager
def crowded(directory: Path) -> Iterator[Place]:
    """Both countries, with desks in one of them that turn hostile."""
    missions = {one.partition("/")[0]: (docs.MISSION_KIND_COMPANY, "Factory", "공장", "KRSEL") for one in IDLE}
    missions["kr.agency"] = (docs.MISSION_KIND_AGENCY, "Agency", "기관", "KRSEL")
    desks = tuple(sorted((HAGUE, SEOUL, *LOUD, *IDLE)))
    made = Place(found(directory, title="flood", desks=desks, extra_missions=missions))
    try:
        yield made
    finally:
        made.kill_all()


async def run(place: Place, *, seconds: float, idle: int) -> dict[str, Any]:
    """Flood the node of one country for so long, with so many idle subscribers; figures.

    `latency_s` is of single reports of an honest desk of that node, to their delivery at a desk of the other.
    """
    node, other = place.node("kr"), place.node("nl")
    for process in (node, other):
        process.start()
    await asyncio.gather(node.serving(), other.serving())
    async with place.open(HAGUE) as sender, place.open(SEOUL) as reader:
        came: dict[bytes, float] = {}
        reading = asyncio.create_task(note(reader, came))
        # Warm: connections, caches.
        went = await send(sender, 5)
        await arrived(went, came, 60)
        before = memory_mb(node.pid)
        async with hostile(place, "idle", str(idle), IDLE) as waiting:
            assert await waiting.readline(), "the idle subscribers did not come"
            subscribed = memory_mb(node.pid)
            async with hostile(place, "loud", str(seconds), LOUD) as flooding:
                assert await flooding.readline(), "the hostile process did not start"
                end, went, sizes = time.monotonic() + seconds, {}, []
                while time.monotonic() < end:
                    went |= await send(sender, 1)
                    sizes.append(memory_mb(node.pid))
                    await asyncio.sleep(EVERY_S)
                did = json.loads(await flooding.readline())
        await arrived(went, came, 60)
        reading.cancel()
        late = sorted(came[one] - at for one, at in went.items())
        await asyncio.sleep(1)
        after = memory_mb(node.pid)
    return {
        "seconds": seconds,
        "idle": idle,
        "hostile": did,
        "honest_reports": len(went),
        "missed": 0,
        "latency_s": {"median": round(late[len(late) // 2], 3), "longest": round(late[-1], 3)},
        "memory_mb": {
            "before": round(before),
            "with idle subscribers": round(subscribed),
            "after a third": round(max(sizes[: len(sizes) // 3])),
            "most": round(memory_mb(node.pid, "VmHWM")),
            "after": round(after),
        },
    }


@asynccontextmanager
async def hostile(place: Place, what: str, amount: str, names: Sequence[str]) -> AsyncIterator[asyncio.StreamReader]:
    """A hostile process (tests/faults/hostile.py); what it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.faults.hostile", what, amount, str(place.root),
        str(place.founded.node("kr")), *names, stdout=asyncio.subprocess.PIPE, env=environment(),
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), END_S)
        except TimeoutError:
            process.kill()
            await process.wait()


async def note(reader: Desk, came: dict[bytes, float]) -> None:
    """When each report was given."""
    async for delivery in reader.subscribe("minerals"):
        came.setdefault(delivery.report.id, time.monotonic())


async def send(sender: Desk, count: int) -> dict[bytes, float]:
    """Some reports, and when they were said."""
    went = {}
    for _ in range(count):
        one = report("honest")
        went[one.id] = time.monotonic()
        await sender.publish("minerals", one)
    return went


async def arrived(went: dict[bytes, float], came: dict[bytes, float], seconds: float) -> None:
    """Wait for all of them."""
    limit = time.monotonic() + seconds
    while missing := went.keys() - came.keys():
        assert time.monotonic() < limit, f"{len(missing)} of {len(went)} reports did not come"
        await asyncio.sleep(0.1)
