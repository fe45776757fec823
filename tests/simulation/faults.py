"""What can go wrong, drawn from a run's chance: links, machines, disks, clocks."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from exchange.errors import StoreError
from tests.simulation.exchange import DeskMachine, Machine, NodeMachine, Simulation

QUIET_S: Final = 90.0
"""After the last fault everything heals and the exchange may take this long, retries and back-off included."""
Fault = Callable[[Simulation], Awaitable[None]]


def _links(sim: Simulation) -> list[tuple[str, str]]:
    nodes = sorted(sim.nodes)
    hosted = [(name, machine.desk.settings.node) for name, machine in sim.desks.items() if machine.desk]
    return [(nodes[0], nodes[1]), *hosted]


async def _cut(sim: Simulation) -> None:
    one, other = sim.loop.random.choice(_links(sim))
    sim.network.cut(one, other)
    await asyncio.sleep(sim.loop.random.choice((0.3, 5.0, 50.0)))
    sim.network.heal(one, other)


async def _reset(sim: Simulation) -> None:
    sim.network.reset(*sim.loop.random.choice(_links(sim)))


async def _crash(sim: Simulation) -> None:
    """At a step drawn by chance, so between any two awaits."""
    machine: Machine = sim.loop.random.choice([*sim.nodes.values(), *sim.desks.values()])
    left = sim.loop.random.randrange(1, 200)
    fallen = asyncio.Event()

    def count(_: int) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            sim.loop.on_step = None
            sim.loop.call_soon(fall)

    def fall() -> None:
        assert isinstance(machine, NodeMachine | DeskMachine)
        machine.crash()
        fallen.set()

    if not machine.up or sim.loop.on_step is not None:
        return
    sim.loop.on_step = count
    await fallen.wait()
    await asyncio.sleep(sim.loop.random.random() * 20)
    assert isinstance(machine, NodeMachine | DeskMachine)
    await machine.start()


async def _failing_disk(sim: Simulation) -> None:
    """A node's disk takes nothing for a while: full, or broken."""
    machine = sim.loop.random.choice(list(sim.nodes.values()))
    if not machine.up or machine.store is None:
        return
    store = machine.store

    def fail(*_: object, **__: object) -> list[int]:
        raise StoreError("no space left on device")

    store.append = fail  # type: ignore[method-assign]
    await asyncio.sleep(sim.loop.random.random() * 5)
    # Another such fault may have ended first.
    vars(store).pop("append", None)


async def _clock_jump(sim: Simulation) -> None:
    """A clock goes wrong by less than S, as the agreement allows."""
    machine: Machine = sim.loop.random.choice([*sim.nodes.values(), *sim.desks.values()])
    machine.skew_ms = sim.loop.random.randrange(-120_000, 120_000)


FAULTS: Final[tuple[Fault, ...]] = (_cut, _cut, _reset, _crash, _crash, _crash, _failing_disk, _clock_jump)


async def trouble(sim: Simulation, *, count: int, within_s: float) -> None:
    """So many faults at times drawn by chance; returns when all of them are over."""

    async def one() -> None:
        await asyncio.sleep(sim.loop.random.random() * within_s)
        await sim.loop.random.choice(FAULTS)(sim)

    await asyncio.gather(*(one() for _ in range(count)))
    for machine in (*sim.nodes.values(), *sim.desks.values()):
        if not machine.up:
            await machine.start()


async def talk_through_trouble(sim: Simulation) -> None:
    """Two desks of two countries write while everything fails around them; in the end all is everywhere."""
    writers = ("kr.the-hague/economic", "nl.bz/supply")
    troubles = sim.loop.create_task(trouble(sim, count=sim.loop.random.randrange(1, 7), within_s=20.0))

    async def write(desk: str) -> None:
        for number in range(6):
            await sim.say(desk, number)
            await asyncio.sleep(sim.loop.random.random() * 4)

    await asyncio.gather(*(write(desk) for desk in writers))
    await troubles
    await sim.settle(within_s=QUIET_S + 200)
