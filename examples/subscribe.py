"""Print what comes on a channel: python examples/subscribe.py DESK_DIRECTORY CHANNEL. Ctrl-C ends it."""

import asyncio
import contextlib
import sys

from exchange.desk import Desk


async def main(directory: str, channel: str) -> None:
    """Print each report once, in order, then wait for the next."""
    async with Desk.open(directory) as desk:
        async for delivery in desk.subscribe(channel):  # verified, opened, in order
            desk.check_receipt(delivery)  # raises when the node's log does not hold it
            for text in delivery.report.summary:
                print(delivery.sender, f"[{text.language}]", text.text, flush=True)
            for event in desk.events():  # gaps, staleness, conflicts, refusals
                print("event:", event, file=sys.stderr)


with contextlib.suppress(KeyboardInterrupt):
    asyncio.run(main(*sys.argv[1:]))
