"""Every key of both parties changes, and the agreement with them, over some forty days of delays and absences.

The clocks of all machines are turned ahead half a day at a time, between moments of the loop in which everybody works.
Node CAs are left out: there is no TLS here (tests/rotation has it).
"""

import asyncio
from dataclasses import dataclass, field
from typing import Final
from unittest import mock

from exchange import files
from exchange.demo.found import NODES
from exchange.desk import forgetting, link
from exchange.desk.events import Refused
from exchange.node import authority
from keys import desk_keys
from keys.encoding import canonical_bytes
from keys.keystore import Keystore
from keys.trust import Trust, party_of, week_of
from keys.windows import Kind
from tests.rotation.clock import DAY_MS, HOUR_MS
from tests.rotation.ministry import Ministry, amend
from tests.simulation.exchange import GOVERNMENT, Simulation
from tests.simulation.machines import NodeMachine

DAYS: Final = 44
STEP_H: Final = 12
LONGEST_ABSENCE_H: Final = 48
"""Less than R: longer absences are for people to plan for."""
CATCH_UP_S: Final = 300.0
WRITERS: Final = ("kr.the-hague/economic", "nl.bz/supply")


@dataclass
class Rotation:
    """One run."""

    sim: Simulation
    ministries: dict[str, Ministry] = field(default_factory=dict)
    away: tuple[str, str] | None = None
    back_ms: int = 0

    def now_ms(self) -> int:
        """The ministries' clock."""
        return self.sim.nodes[NODES["kr"]].clock()

    def begin(self) -> None:
        """Ministries with the keys of the founding; clocks that differ by less than S."""
        sim = self.sim
        for machine in (*sim.nodes.values(), *sim.desks.values()):
            machine.skew_ms = sim.loop.random.randrange(-100_000, 100_000)
        for party, keys in sim.founded.parties.items():
            bundle = sim.nodes[NODES[party]].directory / files.BUNDLE
            self.ministries[party] = Ministry.of(keys, sim.founded.held, self.now_ms, bundle, sim.founded.lineage)  # type: ignore[arg-type]

    # ---- plans

    def plan(self, day: float) -> None:
        """What is begun on a day."""
        if day == 0:
            for party, ministry in self.ministries.items():
                ministry.replace_role(Kind.STATUS)
                node = self.sim.nodes[NODES[party]]
                with authority.open_keystore(node.directory, b"") as store:
                    key = authority.prepare_log_key(store, ministry.trust, node.name)
                ministry.plan(Kind.LOG, canonical_bytes(key), node.name)
            for desk in self.sim.desks:
                ministry = self.ministries[party_of(desk)]
                with Keystore.open(self.sim.desks[desk].directory / "desk.keys", b"") as store:
                    public = desk_keys.prepare(store, ministry.trust, desk)
                ministry.plan(Kind.DESK, canonical_bytes(public), desk)
        elif day in (1, 21):
            for ministry in self.ministries.values():
                ministry.replace_role(Kind.ROOT if day == 1 else Kind.ROSTER)
        elif day == 6:
            document = amend(self.ministries.values(), self.now_ms() + 4 * DAY_MS)
            self.ministries["nl"].publish(document)

    # ---- time

    async def step(self, number: int) -> None:
        """Half a day."""
        for machine in (*self.sim.nodes.values(), *self.sim.desks.values()):
            machine.skew_ms += STEP_H * HOUR_MS
        self._come_and_go()
        self.plan(number * STEP_H / 24)
        await self.work()
        for desk in WRITERS:
            await self.sim.say(desk, number)
        await asyncio.sleep(self.sim.loop.random.random() * 3)
        if self.away is None:
            await self.caught_up()

    def _come_and_go(self) -> None:
        network, chance = self.sim.network, self.sim.loop.random
        if self.away is not None:
            if self.now_ms() >= self.back_ms:
                network.heal(*self.away)
                self.away = None
        elif chance.random() < 0.25:
            desk = chance.choice(GOVERNMENT)
            self.away = chance.choice((tuple(NODES.values()), (desk, NODES[party_of(desk)])))
            self.back_ms = self.now_ms() + chance.randrange(LONGEST_ABSENCE_H // STEP_H) * STEP_H * HOUR_MS
            network.cut(*self.away)

    async def work(self) -> None:
        """Ministries do what is due; nodes take their bundles and tend their keys."""
        for party, ministry in self.ministries.items():
            node = self.sim.nodes[NODES[party]]
            assert node.node is not None
            ministry.work(node.node.trust.documents())
            await node.node.take_documents(files.load_bundle(ministry.node_bundle), now_ms=node.clock())
            tend(node)

    def members(self) -> list[Trust]:
        """All machines' documents."""
        nodes = [machine.node.trust for machine in self.sim.nodes.values() if machine.node]
        return nodes + [machine.desk.trust for machine in self.sim.desks.values() if machine.desk]

    async def caught_up(self) -> None:
        """R is kept by a network that works: nobody lacks what was released a day ago.

        Raises:
            AssertionError: Somebody does, for good.
        """
        end = self.sim.loop.time() + CATCH_UP_S
        released = [one for ministry in self.ministries.values() for one in ministry.released]
        due = [identity for when_ms, identity in released if when_ms <= self.now_ms() - DAY_MS]
        while not all(trust.holds(identity) for trust in self.members() for identity in due):
            assert self.sim.loop.time() < end, "a document does not reach everybody"
            await asyncio.sleep(1)
            await self.work()

    def keys(self) -> dict[str, bytes]:
        """Every key in use, by whose it is."""
        found = {}
        for party, ministry in self.ministries.items():
            document = ministry.trust.party_document(party)
            found |= {f"{party} {r} {k.holder}": k.key.key for r in ROLES for k in getattr(document, r).keys}
            node = self.sim.nodes[NODES[party]].node
            assert node is not None
            found[f"{party} log"] = node.log_keys.first.public
        for name, machine in self.sim.desks.items():
            assert machine.desk is not None
            card = machine.desk.trust.card(name, week_of(machine.clock()))
            assert card is not None, f"{name} has no card"
            found |= {name: machine.desk._own.key.public, f"{name} card": card.public}
        return found


ROLES: Final = ("root", "roster", "status")


def tend(machine: NodeMachine) -> None:
    """The node's own keys, as exchange.node.app tends them."""
    assert machine.node is not None
    trust, now_ms = machine.node.trust, machine.clock()
    with authority.open_keystore(machine.directory, b"") as store:
        for name in authority.retired_log_keys(store, trust, machine.name, now_ms=now_ms):
            store.delete(name)
        machine.node.log_keys.hold(list(authority.load_log_keys(store).values()))


async def rotate_everything(sim: Simulation) -> None:
    """No report is refused for good, lost or repeated, and no key is the one of the start."""
    # Days pass in seconds here: who looks at the clock now and then looks often.
    with mock.patch.object(link, "LOOK_S", 1.0), mock.patch.object(forgetting, "LOOK_S", 1.0):
        await _rotate_everything(sim)


async def _rotate_everything(sim: Simulation) -> None:
    sim.days_passed = True
    rotation = Rotation(sim)
    rotation.begin()
    before = rotation.keys()
    for number in range(DAYS * 24 // STEP_H):
        await rotation.step(number)
    if rotation.away is not None:
        sim.network.heal(*rotation.away)
    await sim.settle(within_s=CATCH_UP_S)
    await rotation.work()
    after = rotation.keys()
    assert [name for name in before if before[name] in after.values()] == []
    for ministry in rotation.ministries.values():
        unfinished = [f"{p.kind} {p.name}" for p in ministry.plans if p.digest not in ministry.finished]
        assert unfinished == [], ministry.waited
    for name, machine in sim.desks.items():
        assert machine.desk is not None
        assert machine.desk.archive.waiting() == 0, f"{name} could not send"
        assert not [task for task in machine.desk._tasks if task.done()], f"{name} stopped a part of its work"
        refused = [str(event) for event in machine.events() if isinstance(event, Refused)]
        assert refused == [], name
        assert all(trust.agreement(rotation.now_ms()).body.version == 2 for trust in rotation.members())
