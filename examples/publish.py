"""Publish one report: python examples/publish.py DESK_DIRECTORY TEXT."""

import asyncio
import secrets
import sys
import time

from exchange.desk import Desk
from exchange.report import new_report_id
from exchange.v1.report_pb2 import STAGE_MINERAL, STATUS_LEVEL_STRAINED, Report, Subject, Text


async def main(directory: str, text: str) -> None:
    """Seal one report and wait for its receipt."""
    report = Report(id=new_report_id(time.time_ns() // 1_000_000, secrets.token_bytes(10)), level=STATUS_LEVEL_STRAINED)
    report.subject.CopyFrom(Subject(hs="250410", item="natural graphite", stage=STAGE_MINERAL))
    report.summary.append(Text(language="en", text=text))
    async with Desk.open(directory) as desk:
        envelope = await desk.publish("minerals", report, marking="AMBER")  # durable in the outbox from here on
        left = await desk.flush(timeout_s=30)
        print(envelope.hex(), "has its receipt" if not left else f"waits in the outbox: {desk.state}")


asyncio.run(main(*sys.argv[1:]))
