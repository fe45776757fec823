"""What can go wrong, drawn from a run's chance: links, machines, disks, clocks."""

import asyncio
import errno
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Final

from exchange.errors import StoreError
from tests.simulation import disks, ministries
from tests.simulation.exchange import Simulation
from tests.simulation.machines import DeskMachine, NodeMachine

Fault = Callable[[Simulation], Awaitable[None]]
Computer = NodeMachine | DeskMachine
HOUR_MS: Final = 3_600_000


def _links(sim: Simulation) -> list[tuple[str, str]]:
    nodes = sorted(sim.nodes)
    hosted = [(name, machine.desk.settings.node) for name, machine in sim.desks.items() if machine.desk]
    return [(nodes[0], nodes[1]), *hosted]


def _computers(sim: Simulation) -> list[Computer]:
    return [*sim.nodes.values(), *sim.desks.values()]


# ---- links


async def cut(sim: Simulation) -> None:
    """Messages stop for a while."""
    one, other = sim.loop.random.choice(_links(sim))
    sim.network.cut(one, other)
    await asyncio.sleep(sim.loop.random.choice((0.3, 5.0, 50.0)))
    sim.network.heal(one, other)


async def reset(sim: Simulation) -> None:
    """Every stream of a link breaks at both ends."""
    sim.network.reset(*sim.loop.random.choice(_links(sim)))


async def half_open(sim: Simulation) -> None:
    """Every stream of a link breaks at its caller alone, which calls again beside it."""
    sim.network.half_open(*sim.loop.random.choice(_links(sim)))


# ---- machines


async def start(machine: Computer) -> None:
    """Start what is down; two faults may both want to."""
    if not machine.up:
        await machine.start()


async def fallen(sim: Simulation, machine: Computer) -> None:
    """Let a machine lose power at a step drawn by chance, so between any two awaits."""
    left, down = sim.loop.random.randrange(1, 300), asyncio.Event()

    def count() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            sim.loop.watchers.remove(count)
            sim.loop.call_soon(fall)

    def fall() -> None:
        sim.loop.note("falls", machine.name)
        machine.crash()
        down.set()

    sim.loop.watchers.append(count)
    await down.wait()


async def crash(sim: Simulation) -> None:
    """A machine loses power and comes back."""
    machine = sim.loop.random.choice(_computers(sim))
    if not machine.up:
        return
    await fallen(sim, machine)
    await asyncio.sleep(sim.loop.random.random() * 20)
    await start(machine)


# ---- disks


async def broken_disk(sim: Simulation) -> None:
    """A node's disk takes nothing for a while."""
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


def _connection(machine: Computer) -> sqlite3.Connection:
    if isinstance(machine, NodeMachine):
        assert machine.store is not None
        return machine.store._file.write
    assert machine.desk is not None
    return machine.desk.archive._db


async def _for_a_while(sim: Simulation, fault: Callable[[sqlite3.Connection], Callable[[], object]]) -> None:
    machine = sim.loop.random.choice(_computers(sim))
    if not machine.up:
        return
    undo = fault(_connection(machine))
    await asyncio.sleep(sim.loop.random.random() * 10)
    try:
        undo()
    except sqlite3.ProgrammingError:
        # It fell meanwhile, and has another connection now.
        return


async def failing_write(sim: Simulation) -> None:
    """One write of a node or a desk fails in its middle."""
    await _for_a_while(sim, lambda connection: disks.fail_once(connection, sim.loop.random))


async def full_disk(sim: Simulation) -> None:
    """The disk of a node or a desk has no room for a while."""
    await _for_a_while(sim, disks.fill)


async def torn_blob(sim: Simulation) -> None:
    """The file of large entries of a node takes half of what it is given, once."""
    machine = sim.loop.random.choice(list(sim.nodes.values()))
    if not machine.up or machine.store is None:
        return
    segments = machine.store._segments

    def half(blobs: list[bytes]) -> list[tuple[int, int]]:
        vars(segments).pop("append", None)
        type(segments).append(segments, [blob[: len(blob) // 2] for blob in blobs])
        raise OSError(errno.ENOSPC, "no space left on device")

    segments.append = half  # type: ignore[method-assign, assignment]
    await asyncio.sleep(sim.loop.random.random() * 5)
    vars(segments).pop("append", None)


async def desk_from_backup(sim: Simulation) -> None:
    """A desk's disk breaks, and an older copy of it takes its place."""
    machine = sim.loop.random.choice(list(sim.desks.values()))
    if not machine.up:
        return
    backup, kept = disks.image_of(machine.database), sim.kept_by(machine.name)
    await asyncio.sleep(sim.loop.random.random() * 10)
    if not machine.up:
        return
    await fallen(sim, machine)
    if machine.up:
        return
    disks.put_back(machine.database, backup)
    machine.restored += 1
    sim.forgotten_by(machine, kept=kept)
    await asyncio.sleep(sim.loop.random.random() * 5)
    await start(machine)


# ---- clocks and days


async def clock_jump(sim: Simulation) -> None:
    """A clock goes wrong by less than S, as the agreement allows."""
    machine = sim.loop.random.choice(_computers(sim))
    machine.skew_ms = sim.loop.random.randrange(-120_000, 120_000)


async def days(sim: Simulation, hours: float) -> None:
    """Hours or days pass in which nothing else happens, on every clock."""
    sim.days_passed = True
    sim.loop.calendar_ms += round(hours * HOUR_MS)
    sim.loop.note("days", hours)


async def day(sim: Simulation) -> None:
    """A little more than a day passes."""
    await days(sim, 26.0)


async def outage(sim: Simulation) -> None:
    """The countries are cut off from each other while days go by and ministries sign on."""
    nodes = sorted(sim.nodes)
    sim.network.cut(*nodes)
    await days(sim, sim.loop.random.choice((1.0, 26.0, 75.0, 24.0 * 7)))
    await ministries.sign_something(sim)
    await asyncio.sleep(sim.loop.random.random() * 60)
    sim.network.heal(*nodes)


async def desk_outage(sim: Simulation) -> None:
    """A desk is off while days go by."""
    machine = sim.loop.random.choice(list(sim.desks.values()))
    if not machine.up:
        return
    await fallen(sim, machine)
    await days(sim, sim.loop.random.choice((1.0, 26.0, 24.0 * 7)))
    await asyncio.sleep(sim.loop.random.random() * 20)
    await start(machine)


FAULTS: Final[tuple[Fault, ...]] = (
    cut, cut, reset, half_open, crash, crash, crash, broken_disk, failing_write, failing_write, full_disk, torn_blob,
    clock_jump, outage, desk_outage, ministries.sign_something, ministries.sign_something, desk_from_backup,
)  # fmt: skip


async def trouble(sim: Simulation, *, count: int, within_s: float, faults: tuple[Fault, ...] = FAULTS) -> None:
    """So many faults at times drawn by chance; returns when all of them are over and everything is up."""

    async def one() -> None:
        await asyncio.sleep(sim.loop.random.random() * within_s)
        fault = sim.loop.random.choice(faults)
        sim.loop.note("fault", fault.__name__)
        sim.faults.append(fault.__name__)
        await fault(sim)

    await asyncio.gather(*(one() for _ in range(count)))
    for machine in _computers(sim):
        await start(machine)
