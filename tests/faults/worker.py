"""A desk as a process of its own: it publishes and reads, and writes down what it was told, until it is killed.

`said` gets a line for each report once `publish` returned for it, `read` one for each item that was given. A line is one
write, so that kill -9 leaves it whole or not there.
"""

import asyncio
import os
import random
import signal
import sys
from pathlib import Path
from typing import Final

from exchange.clock import now_ms
from exchange.desk import Delivery, Desk
from exchange.report import new_report_id
from exchange.v1 import report_pb2 as pb
from tests.faults.place import CHANNELS

# So that entries of both kinds are written: rows of the database, and files beside it.
PAD: Final = "Export licences take longer than the statutory 45 days; offers for prompt delivery are few." * 4


def report(text: str) -> pb.Report:
    """A report with an id of its own."""
    return pb.Report(
        id=new_report_id(now_ms(), os.urandom(10)),
        subject=pb.Subject(hs="811292", item="gallium, 4N", stage=pb.STAGE_MATERIAL),
        level=pb.STATUS_LEVEL_STRAINED,
        summary=[pb.Text(language="en", text=text)],
    )


class Journal:
    """Lines that survive kill -9."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, *lines: str) -> None:
        """Whole lines, in one write."""
        os.write(self._file, "".join(f"{line}\n" for line in lines).encode())


def line(delivery: Delivery) -> str:
    """What is written down of an item that was given."""
    return f"{delivery.channel} {delivery.report.id.hex()} {delivery.sender} {delivery.seq}"


async def publish(desk: Desk, per_s: float, most: int, said: Journal) -> None:
    """Reports at a rate, in envelopes of one to `most`."""
    chance = random.Random()
    while per_s:
        count = 1 if chance.random() < 0.5 else chance.randint(2, most)
        channel = chance.choice(CHANNELS)
        reports = [report(PAD) for _ in range(count)]
        await desk.publish_all(channel, reports)
        said.write(*(f"{channel} {one.id.hex()}" for one in reports))
        await asyncio.sleep(count / per_s)


async def read(desk: Desk, channel: str, journal: Journal) -> None:
    """Everything on a channel."""
    async for delivery in desk.subscribe(channel):
        if delivery.kind == "report":
            journal.write(line(delivery))


async def run(directory: Path, per_s: float, most: int) -> None:
    """Until SIGTERM."""
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    said, got = Journal(directory / "said"), Journal(directory / "read")
    async with Desk.open(directory) as desk:
        tasks = [asyncio.create_task(read(desk, channel, got)) for channel in CHANNELS]
        tasks.append(asyncio.create_task(publish(desk, per_s, most, said)))
        (directory / "ready").write_text(f'"pid": {os.getpid()},')
        ended = asyncio.create_task(ending.wait())
        done, _ = await asyncio.wait([*tasks, ended], return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        for task in done - {ended}:
            # A desk that stops by itself is what the tests look for.
            task.result()
        await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])))
