"""Processes that stand still (SIGSTOP) for longer than every deadline and keepalive, then go on."""

import asyncio
import signal
import time
from typing import Any, Final

from tests.faults.kills import PER_S, come_to_rest, given, must_hold, said
from tests.faults.place import HAGUE, SEOUL, Place, Process

DESKS: Final = (HAGUE, SEOUL)
STAND_S: Final = 45.0
"""Heartbeats are missed after 30 s, keepalive gives up after 30 s."""
CATCH_UP_S: Final = 120.0


async def run(place: Place, *, stand_s: float = STAND_S, load_s: float = 3.0) -> dict[str, Any]:
    """Under load: a node stands still, then a desk that reads and publishes; figures."""
    nodes = [place.node(party) for party in ("kr", "nl")]
    desks = [place.desk(name, per_s=PER_S) for name in DESKS]
    for process in (*nodes, *desks):
        process.start()
    await asyncio.gather(*(process.serving() for process in (*nodes, *desks)))
    caught_up = {}
    for process in (nodes[0], desks[1]):
        await asyncio.sleep(load_s)
        caught_up[process.name] = round(await stand_still(place, process, stand_s), 1)
    await come_to_rest(place, DESKS)
    return {"stood_s": stand_s, "caught_up_s": caught_up, **await must_hold(place, DESKS), "lost": 0}


async def stand_still(place: Place, process: Process, seconds: float) -> float:
    """Stop it, let it go on; how long until all that was said until then is read."""
    process.send(signal.SIGSTOP)
    await asyncio.sleep(seconds)
    process.send(signal.SIGCONT)
    wanted = {(other, one) for name, other in (DESKS, DESKS[::-1]) for one in said(place, name)}
    began = time.monotonic()
    while missing := wanted - {(name, one) for name in DESKS for one in given(place, name)}:
        assert time.monotonic() < began + CATCH_UP_S, f"{len(missing)} of {len(wanted)} did not come"
        await asyncio.sleep(0.2)
    return time.monotonic() - began
