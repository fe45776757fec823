"""Documents that move while everything fails: statuses, rosters with new desks and new keys, as ministries sign them."""

import asyncio
import contextlib
import shutil
from collections.abc import Awaitable, Callable
from typing import Final

from exchange import desk, files
from exchange.demo.found import NODES, desk_directory
from exchange.errors import StoreError
from keys import desk_keys, documents, founding
from keys.documents import Document
from keys.v1 import documents_pb2 as docs
from tests.simulation.exchange import Simulation
from tests.simulation.machines import DeskMachine

NEWCOMERS: Final = {"kr": "kr.the-hague/press", "nl": "nl.bz/press"}
BEFORE_USE_MS: Final = 73 * 3_600_000
"""A new key is used once R has passed since it was published."""
TRIES: Final = 40


class Ministry:
    """One party's officials: its newest roster and status, and the keys that sign the next."""

    def __init__(self, sim: Simulation, party: str) -> None:
        self._sim, self._keys = sim, sim.founded.parties[party]
        self.party = party
        self.roster = sim.founded.rosters[party]
        self._statuses = 1
        self._busy = asyncio.Lock()

    async def sign(self, change: Callable[["Ministry", docs.Roster], Awaitable[bool]] | None) -> None:
        """Sign a roster with a change, if there is one to make, and the status of the day; the node is given both."""
        async with self._busy:
            signed = []
            if change is not None:
                body = documents.body(self.roster, docs.Roster)
                if not await change(self, body):
                    return
                self.roster = founding.next_roster(
                    self._keys, body, lineage=self._sim.founded.lineage, previous=self.roster, now_ms=self._now_ms()
                )
                signed.append(self.roster)
            self._statuses += 1
            signed.append(
                founding.status(
                    self._keys,
                    lineage=self._sim.founded.lineage,
                    agreement=self._sim.founded.agreement,
                    roster=self.roster,
                    version=self._statuses,
                    now_ms=self._now_ms(),
                )
            )
            await self._give(signed)

    def _now_ms(self) -> int:
        return self._sim.loop.now_ms()

    async def _give(self, signed: list[Document]) -> None:
        """Until the party's node keeps them: whoever signs looks whether it arrived."""
        machine = self._sim.nodes[NODES[self.party]]
        for _ in range(TRIES):
            if machine.up and machine.node is not None:
                giving = machine.node.take_documents([one.encode() for one in signed], now_ms=machine.clock())
                task = self._sim.loop.create_task(giving)
                machine.tasks.append(task)
                with contextlib.suppress(asyncio.CancelledError, StoreError):
                    refused = [error for _, error in await task if error]
                    assert not refused, f"the {self.party} node refuses what its ministry signs: {refused[0]}"
                    self._sim.loop.note("signed", self.party, len(signed))
                    return
            await asyncio.sleep(3.0)
        raise AssertionError(f"the node of {self.party} never took what its ministry signed")

    # ---- changes of a roster

    async def new_key(self, body: docs.Roster) -> bool:
        """A desk draws its next key, which it uses in some days."""
        sim = self._sim
        name = sim.loop.random.choice([entry.desk for entry in body.desks])
        machine = sim.desks.get(name)
        entry = next(entry for entry in body.desks if entry.desk == name)
        if machine is None or not machine.up or machine.desk is None or len(entry.keys) > 1:
            return False
        key = desk_keys.prepare(machine.desk._own._keystore, machine.desk.trust, name)
        entry.keys.add(state=docs.KEY_STATE_ACTIVE, first_use_ms=self._now_ms() + BEFORE_USE_MS, key=key)
        return True

    async def new_desk(self, body: docs.Roster) -> bool:
        """A colleague joins: a desk that others may seal to after the hold."""
        sim, name = self._sim, NEWCOMERS[self.party]
        if name in sim.desks:
            return False
        path = sim.root / desk_directory(name)
        lineage = sim.founded.lineage
        settings = desk.DeskSettings(desk=name, lineage=lineage.hex(), node=NODES[self.party])
        key = desk.init(path, settings, fast_kdf=True)
        shutil.copyfile(sim.founded.node(self.party) / files.BUNDLE, path / files.BUNDLE)
        body.desks.append(founding.desk_entry(name, key, lineage=lineage))
        machine = sim.desks[name] = DeskMachine(sim, name, path, newcomer=True)
        # It is refused until its node has the roster, and tries again as ever.
        await machine.start()
        return True


async def sign_something(sim: Simulation) -> None:
    """A ministry drawn by chance signs a status, a new key, or a new desk."""
    ministry = sim.ministries[sim.loop.random.choice(sorted(sim.ministries))]
    await ministry.sign(sim.loop.random.choice((None, Ministry.new_key, Ministry.new_desk)))
