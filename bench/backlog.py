"""Catching up: one country was cut off; its node and a desk there fetch and open all that was said meanwhile.

`python -m bench.backlog --reports 1000000` runs it alone, at any size; `make bench` runs it at a small one.
"""

import argparse
import asyncio
import json
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from bench import desk_to_desk as desks
from bench.process import line, scratch

BATCH: Final = 512
REPORTS: Final = 100_000
LEAST_REPORTS_PER_S: Final = 1_500


def bound_s(reports: int) -> float:
    """Longest a measurement of so many reports may take, seconds."""
    return 60.0 + 2 * reports / LEAST_REPORTS_PER_S


async def backlog(reports: int, *, audience: int = 10, batch: int = BATCH) -> dict[str, Any]:
    """Publish while the other node is down, start it, and wait until a desk behind it has opened everything.

    Args:
        reports: How many are waiting when the other node starts.
        audience: Desks each envelope is sealed for; one of them reads.
        batch: Most reports in one envelope.

    Returns:
        `reports_per_s` from the first moment the node serves to the last report opened at the desk behind it;
        `published_per_s` while it was down; `cpu_us_per_report` of the two that catch up; `peak_mb` of both nodes.
    """
    async with asyncio.timeout(bound_s(reports)), AsyncExitStack() as stack:
        home = Path(stack.enter_context(scratch("tocsin")))
        founded = await asyncio.to_thread(desks.place, home / "place", audience)
        near = await desks.node(stack, founded.node("kr"))
        running = desks.Running(founded, [near])
        given = ("--reports", str(reports), "--batch", str(batch))
        publisher = await desks.open_desk(running, stack, "publish", *given)
        await line(publisher)
        publisher.send_signal(signal.SIGUSR1)
        started = json.loads(await line(publisher))["started"]
        flushed = json.loads(await line(publisher))["flushed"]
        publisher.send_signal(signal.SIGUSR1)
        await publisher.wait()
        reader = await desks.open_desk(running, stack, "read-backlog", *given)
        await line(reader)
        far = await desks.node(stack, founded.node("nl"))
        before = {"other node": desks.cpu_s(far.pid), "desk reading": desks.cpu_s(reader.pid)}
        began = asyncio.get_running_loop().time()
        reader.send_signal(signal.SIGUSR1)
        finished = json.loads(await line(reader))["finished"]
        cpu = {"other node": desks.cpu_s(far.pid), "desk reading": desks.cpu_s(reader.pid)}
        result = {
            "reports": reports,
            "batch": batch,
            "reports_per_s": reports / (finished - began),
            "published_per_s": reports / (flushed - started),
            "cpu_us_per_report": {name: (cpu[name] - before[name]) / reports * 1e6 for name in cpu},
            "peak_mb": {
                name: desks.memory_mb(process.pid, "VmHWM")
                for name, process in (("its node", near), ("other node", far), ("desk reading", reader))
            },
        }
        reader.send_signal(signal.SIGUSR1)
        await reader.wait()
        return result


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--reports", type=int, default=REPORTS)
    parser.add_argument("--audience", type=int, default=10)
    parser.add_argument("--batch", type=int, default=BATCH)
    given = parser.parse_args()
    print(json.dumps(asyncio.run(backlog(given.reports, audience=given.audience, batch=given.batch)), indent=2))


if __name__ == "__main__":
    main()
