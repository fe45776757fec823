"""What people do while everything fails, and what must be true in the end."""

import asyncio
from typing import Final

from tests.simulation import faults
from tests.simulation.exchange import GOVERNMENT, Simulation

QUIET_S: Final = 290.0
"""After the last fault everything heals and the exchange may take this long, retries and back-off included."""
REPORTS: Final = 6


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
