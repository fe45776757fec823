"""A node whose disk comes back from a backup while desks write: it stands back, goes on in a new log, and nothing is lost."""

import asyncio
import contextlib
from typing import Final

from exchange import checkpoint
from exchange.history import Seen
from exchange.node import renewal
from exchange.node.follow import Follower
from exchange.store.sqlite import SqliteStore
from exchange.wire import UnreachableError
from keys import suite
from keys.errors import UsageError
from keys.keystore import Keystore
from keys.trust import Trust
from tests.simulation import disks, faults, scenarios
from tests.simulation.exchange import Simulation
from tests.simulation.machines import NodeMachine

TRIES: Final = 30
TRY_S: Final = 5.0
TOLD_S: Final = 130.0
"""Within this time, back-off included, its desks and the other node have told it what they saw."""


async def restored_node(sim: Simulation) -> None:
    """Desks of both countries write; one node loses what it wrote since its backup, and all arrives all the same."""
    writing = [sim.loop.create_task(scenarios.write(sim, desk)) for desk in scenarios.GOVERNMENT]
    troubles = faults.trouble(
        sim,
        count=sim.loop.random.randrange(3),
        within_s=10.0,
        faults=(faults.cut, faults.reset, faults.desk_from_backup),
    )
    *_, machine = await asyncio.gather(*writing, troubles, _node_from_backup(sim))
    begun_with = await _goes_on(sim, machine)
    for desk in scenarios.GOVERNMENT:
        await sim.say(desk, scenarios.REPORTS)
    deciding = sim.loop.create_task(_people_decide(sim, machine, begun_with))
    await sim.settle(within_s=scenarios.QUIET_S)
    deciding.cancel()
    _receipts_are_of_the_newest_log(sim)


async def _node_from_backup(sim: Simulation) -> NodeMachine:
    chance = sim.loop.random
    machine = sim.nodes[chance.choice(sorted(sim.nodes))]
    await asyncio.sleep(chance.random() * 3)
    older = disks.image_of(machine.database)
    await asyncio.sleep(chance.random() * 8)
    machine.crash()
    disks.put_back(machine.database, older)
    machine.restored = True
    await machine.start()
    return machine


async def _people_decide(sim: Simulation, machine: NodeMachine, begun_with: dict[int, Seen]) -> None:
    """Of a log that went two ways of one length, whoever saw the way that was given up is asked whether to go on."""
    sizes = {seen.head.size for seen in begun_with.values()}
    while True:
        await asyncio.sleep(TRY_S)
        for desk in sim.desks.values():
            if machine.node is None or not desk.up or desk.desk is None:
                continue
            for clash in desk.desk.archive.clashes():
                shown = checkpoint.parse(clash.shown).origin
                if shown == machine.node.origin and checkpoint.parse(clash.seen).size in sizes:
                    with contextlib.suppress(UsageError):
                        desk.desk.accept_log(shown)


async def _goes_on(sim: Simulation, machine: NodeMachine) -> dict[int, Seen]:
    """The heads that the new log begins with; none when no new log is needed."""
    node = machine.node
    assert node is not None
    # The operator waits for everybody to say what they saw.
    end = sim.loop.time() + TOLD_S
    while not _all_told(sim, machine) and sim.loop.time() < end:
        await asyncio.sleep(1)
    if node.barred is None:
        # Nobody saw anything that is gone.
        return {}
    assert node.claims.proved is not None
    other = next(one for one in sim.nodes.values() if one is not machine)
    assert other.store is not None
    seen = other.store.note(node.origin)
    found = [node.claims.proved, *([Seen.of(seen)] if seen else [])]
    heads = dict[int, Seen]()
    # Not so if what was under way when it stood back was what had been seen: started again, it goes on.
    with contextlib.suppress(UsageError):
        heads = renewal.begin_with(node, found)
    machine.crash(last=True)
    if heads:
        await _renew(sim, machine, heads)
    await machine.start()
    return heads


def _all_told(sim: Simulation, machine: NodeMachine) -> bool:
    """Whether the node was shown, or holds, whatever anybody saw of its log."""
    node, seen = machine.node, list[Seen | None]()
    assert node is not None
    for desk in sim.desks.values():
        if desk.desk is not None and desk.desk.settings.node == machine.name:
            seen += [desk.desk._witness.newest, desk.desk._witness._receipt()] if desk.up else []
    for other in sim.nodes.values():
        note = other.store.note(node.origin) if other.store is not None and other is not machine else None
        seen.append(Seen.of(note) if note else None)
    proved = node.claims.proved.head.size if node.claims.proved else 0
    return all(one.head.size <= proved or node.hearing.holds(one.head) for one in seen if one is not None)


async def _renew(sim: Simulation, machine: NodeMachine, heads: dict[int, Seen]) -> None:
    """As exchange.node.renewal.new_log does it."""
    number = max(heads) + 1
    fresh = machine.directory / f"log-{number}.new"
    old = SqliteStore(machine.database)
    renewal.copy(old, fresh, heads)
    old.close()
    with Keystore.open(machine.directory / "node.keys", b"") as keystore:
        log_key = suite.SigningKey.from_seed(suite.DESK_SUITE, keystore.get("log"))
    store = SqliteStore(fresh / "log.db")
    node = sim.make_node(machine, store, Trust(sim.founded.lineage), log_key)
    await node.start()
    (peer,) = sim.nodes.keys() - {machine.name}
    for _ in range(TRIES):
        with contextlib.suppress(UnreachableError):
            await Follower(node, peer, connect=machine._connect, clock=machine.clock).catch_up()
            break
        # The link is cut: the command says so, and the operator tries again.
        await asyncio.sleep(TRY_S)
    else:
        raise AssertionError(f"{peer} does not answer")
    await node.stop()
    fresh.rename(machine.directory / f"log-{number}")


def _receipts_are_of_the_newest_log(sim: Simulation) -> None:
    """What a desk holds a receipt for is where that says, or was sealed again."""
    for desk in sim.desks.values():
        assert desk.desk is not None
        machine = sim.nodes[desk.desk.settings.node]
        assert machine.store is not None
        assert machine.node is not None
        for identity in desk.desk.archive.sent():
            receipt = desk.desk.archive.receipt(identity)
            assert receipt is not None
            held = machine.store.position_of(identity)
            of_now = checkpoint.parse(receipt[2]).origin == machine.node.origin
            again = desk.desk.archive.sealed_again_as(identity)
            assert (held == receipt[0]) if of_now else again, f"{desk.name} holds a receipt that says nothing"
