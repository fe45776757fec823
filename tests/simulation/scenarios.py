"""What people do while everything fails, and what must be true in the end."""

import asyncio
from typing import Final

from exchange.desk.events import SealedAgain
from tests.simulation import faults, invariants
from tests.simulation.exchange import GOVERNMENT, Simulation

QUIET_S: Final = 290.0
"""After the last fault everything heals and the exchange may take this long, retries and back-off included."""
REPORTS: Final = 6
OUTAGE_S: Final = 2400.0
GAPS_S: Final = invariants.GAPS_MS / 1000


async def write(sim: Simulation, desk: str) -> None:
    """One desk writes on every channel, to all and to a few."""
    chance = sim.loop.random
    for number in range(REPORTS):
        channel = chance.choice(sim.channels)
        marking = chance.choice(("AMBER", "AMBER", "RED", "GREEN"))
        others = [name for name in GOVERNMENT if name != desk]
        to = tuple(chance.sample(others, chance.randrange(1, 3))) if marking == "RED" else ()
        if channel == "alerts" and marking == "GREEN":
            # No company reads alerts, whatever the marking: said as it is usually said.
            marking = "AMBER"
        await sim.say(desk, number, channel=channel, marking=marking, to=to)
        await asyncio.sleep(chance.random() * 4)


async def talk_through_trouble(sim: Simulation) -> None:
    """Desks of two countries write while everything fails around them; in the end all is everywhere."""
    chance = sim.loop.random
    writers = (chance.choice(GOVERNMENT[:2]), chance.choice(GOVERNMENT[2:]))
    troubles = sim.loop.create_task(faults.trouble(sim, count=chance.randrange(1, 8), within_s=20.0))
    await asyncio.gather(*(write(sim, desk) for desk in writers))
    await troubles
    await sim.settle(within_s=QUIET_S)


async def backups(sim: Simulation) -> None:
    """Desks that write come back from older copies of their disks, again and again."""
    faulty = (faults.desk_from_backup, faults.desk_from_backup, faults.crash)
    troubles = sim.loop.create_task(faults.trouble(sim, count=4, within_s=8.0, faults=faulty))
    await asyncio.gather(*(write(sim, desk) for desk in GOVERNMENT))
    await troubles
    for desk in GOVERNMENT:
        await sim.say(desk, REPORTS)
    await sim.settle(within_s=QUIET_S)


async def months_apart(sim: Simulation) -> None:
    """The countries are cut off for longer than their key cards last; what was said meanwhile comes all the same.

    Who had no card of a reader sealed without it, and the reader's node refuses that: it is sealed again with the new cards.
    """
    one, other = sorted(sim.nodes)
    sim.network.cut(one, other)
    for _ in range(7):
        await faults.days(sim, 7 * 24.0)
        await asyncio.sleep(90.0)
    writers = ("kr.the-hague/economic", "nl.bz/supply")
    for number in range(3):
        for desk in writers:
            await sim.say(desk, number)
    await asyncio.sleep(30.0)
    sim.network.heal(one, other)
    await sim.settle(within_s=QUIET_S)
    await asyncio.sleep(GAPS_S)
    assert all(any(isinstance(e, SealedAgain) for e in sim.desks[desk].events()) for desk in writers), "not that long"
    for desk in writers:
        await sim.say(desk, 3)
    await sim.settle(within_s=5.0)


async def long_outage(sim: Simulation) -> None:
    """The countries are cut off for most of an hour; the backlog comes within the longest pause, then all is quick again."""
    one, other = sorted(sim.nodes)
    sim.network.cut(one, other)
    writers = ("kr.the-hague/economic", "nl.bz/supply")
    for number in range(20):
        for desk in writers:
            await sim.say(desk, number)
        await asyncio.sleep(OUTAGE_S / 20)
    missing = sum(len(identities) for identities in sim.missing().values())
    assert missing, "the link was not cut"
    sim.network.heal(one, other)
    # The longest pause between two tries is a minute (Backoff, Follower), and then it all comes at once.
    await sim.settle(within_s=65.0)
    for number in range(3):
        sim.network.reset(one, other)
        await sim.say(writers[number % 2], number)
        await sim.settle(within_s=5.0)
        await asyncio.sleep(5.0)
