"""Both countries under the deterministic loop: the product's own nodes and desks on simulated network, clock and disk."""

import asyncio
import atexit
import contextlib
import functools
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from exchange.demo.found import NODES, Founded, desk_directory, found
from exchange.desk.events import Delivery
from exchange.errors import StoreError
from exchange.node.core import Node
from exchange.node.follow import Follower
from exchange.node.service import ExchangeService
from exchange.store.sqlite import SqliteStore
from exchange.v1 import envelope_pb2 as env
from exchange.v1 import report_pb2 as rep
from keys import suite
from keys.trust import Trust
from tests.simulation import invariants, stand_ins
from tests.simulation.loop import START_MS, InlineWorkers, SimulatedLoop, run
from tests.simulation.machines import DeskMachine, NodeMachine
from tests.simulation.network import Network

GOVERNMENT: Final = ("kr.motie/supply", "kr.the-hague/economic", "nl.bz/supply", "nl.seoul/economic")
COMPANY: Final = "nl.veldhoven-litho/supply"
DESKS: Final = (*GOVERNMENT, COMPANY)
# In memory where the machine has such a place: thousands of runs, each with its own databases.
FAST: Final = "/dev/shm" if Path("/dev/shm").is_dir() else None
PROVED_S: Final = 130.0
"""A node that proved nothing for a while is asked within two minutes (PACE_S of Tracking): every other turn rests."""


@functools.cache
def template(*, real_cryptography: bool = False) -> Founded:
    """One founded exchange, the same bytes in every process; each run works on a copy of its directory."""
    directory = Path(tempfile.mkdtemp(prefix="tocsin-simulation-", dir=FAST))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    cryptography = stand_ins.real_cryptography if real_cryptography else stand_ins.cheap_cryptography
    with stand_ins.repeatable_founding(START_MS), cryptography():
        return found(directory / "exchange", title="simulation", desks=DESKS, clock=lambda: START_MS)


@dataclass(frozen=True, slots=True)
class Said:
    """A report, who said it where to whom, and its place in the order of saying; `report` is its bytes."""

    desk: str
    channel: str
    marking: str
    readers: frozenset[str]
    number: int
    report: bytes


class Simulation:
    """One run: what was said, what was acknowledged, what arrived.

    Args:
        loop: Whose chance and time.
        root: A directory of its own.
    """

    follower_class: type[Follower] = Follower
    service_class: type[ExchangeService] = ExchangeService
    real_cryptography = False

    def __init__(self, loop: SimulatedLoop, root: Path) -> None:
        self.loop, self.root = loop, root
        self.channels: tuple[str, ...] = loop.random.choice((("minerals",), ("minerals", "alerts")))
        self.founded = template(real_cryptography=self.real_cryptography)
        shutil.copytree(self.founded.directory, root, dirs_exist_ok=True)
        self.network = Network(loop)
        self.network.watch = invariants.i1_no_message_shows_what_is_said
        self.workers = InlineWorkers(loop)
        self.nodes = {name: NodeMachine(self, name, root / name) for name in NODES.values()}
        self.desks = {name: DeskMachine(self, name, root / desk_directory(name)) for name in DESKS}
        self.desks[loop.random.choice(DESKS)].early = True
        self.said: dict[bytes, Said] = {}
        """By report id, once publish returned: it must arrive."""
        self._unsure: set[bytes] = set()
        """What a desk said whose disk came back older: if its node's does too, only those have it who were given it."""
        self.tried: dict[bytes, Said] = {}
        self.arrived: dict[str, Counter[bytes]] = {name: Counter() for name in DESKS}
        self.kept: dict[str, set[bytes]] = {name: set() for name in DESKS}
        """Of what arrived, what was confirmed: all but what an early reader was shown and never proved."""
        self._shown: list[tuple[str, Delivery]] = []
        self.order: dict[str, list[bytes]] = {}
        self.liars: set[str] = set()
        """Nodes that may show anything."""
        self.days_passed = False
        self.faults: list[str] = []
        from tests.simulation.ministries import Ministry

        self.ministries = {party: Ministry(self, party) for party in NODES}
        loop.watchers += [functools.partial(check, self) for check in invariants.STEPS]

    # ---- parts that a kind may replace

    @staticmethod
    def planted() -> contextlib.AbstractContextManager[object]:
        """What is changed in the product for as long as the run lasts: nothing."""
        return contextlib.nullcontext()

    def open_store(self, machine: NodeMachine) -> SqliteStore:
        """The store on a node's disk."""
        return SqliteStore(machine.database)

    def make_node(self, machine: NodeMachine, store: SqliteStore, trust: Trust, log_key: suite.SigningKey) -> Node:
        """A node over a store."""
        node = Node(machine.name, store=store, trust=trust, log_key=log_key, clock=machine.clock, workers=self.workers)
        cosign = node.cosign

        def noted(note: bytes) -> bytes:
            head = invariants.checkpoint.parse(note)
            machine.cosigned[head.origin] = max(head.size, machine.cosigned.get(head.origin, 0))
            return cosign(note)

        node.cosign = noted  # type: ignore[method-assign]
        return node

    def make_service(self, machine: NodeMachine, node: Node) -> ExchangeService:
        """What answers at a node."""
        return self.service_class(node, machine.clock)

    def power_off(self, machine: NodeMachine) -> None:
        """What a disk may lose when its node crashes: of what was committed, nothing."""

    # ---- what must hold

    def on_start(self, machine: NodeMachine) -> None:
        """A node has opened what its disk holds."""
        invariants.i4_receipts_hold(self, machine)
        invariants.i4_cosigned_is_remembered(self, machine)

    def check_end(self) -> None:
        """All arrived once, in the order it was said; what was acknowledged is held; nobody else has it."""
        for machine in self.nodes.values():
            invariants.i4_receipts_hold(self, machine)
            invariants.i1_no_node_keeps_what_is_said(machine)
            if self.loop.random.random() < 0.1:
                invariants.i1_no_node_remembers_what_is_said(machine)
        for desk in self.desks.values():
            invariants.i5_all_is_read_once(self, desk)
            if not self.liars:
                invariants.i5_order_is_kept(self, desk)
            invariants.i5_what_is_missing_is_told(self, desk)
            if not self.liars:
                invariants.i5_nobody_is_accused(self, desk)

    def may_lie(self, node: str) -> bool:
        """Whether a node may show its desks anything: it is hostile, or its disk came back older."""
        return node in self.liars or self.nodes[node].restored

    def kept_by(self, desk: str) -> frozenset[bytes]:
        """What a desk was given so far, and keeps."""
        self._confirm()
        return frozenset(self.kept.get(desk, ()))

    def forgotten_by(self, machine: DeskMachine, *, kept: frozenset[bytes]) -> None:
        """A desk's disk came back older: what it had said and nobody has yet may be gone with it; what it read comes again.

        Args:
            machine: The desk.
            kept: What it had been given when the older copy was made.
        """
        self._confirm()
        for identity, said in list(self.said.items()):
            if said.desk != machine.name:
                continue
            if any(identity in kept for kept in self.kept.values()):
                self._unsure.add(identity)
            else:
                del self.said[identity]
        self.kept[machine.name] = set(kept)

    # ---- the run

    async def start(self) -> None:
        """Everything up."""
        for machine in (*self.nodes.values(), *self.desks.values()):
            await machine.start()

    def stop(self) -> None:
        """Everything down."""
        for machine in (*self.desks.values(), *self.nodes.values()):
            machine.crash(last=True)

    async def say(
        self, desk: str, number: int, *, channel: str = "minerals", marking: str = "AMBER", to: tuple[str, ...] = ()
    ) -> None:
        """Publish one report; it counts as said once `publish` returned."""
        machine = self.desks[desk]
        if not machine.up or machine.desk is None:
            return
        report = a_report(self.loop.random, machine.clock(), number)
        readers = invariants.readers(desk, marking, to, DESKS)
        # Numbered when it is tried: `publish` calls of one desk that overlap keep this order.
        said = Said(desk, channel, marking, readers, len(self.tried), report.SerializeToString())
        self.tried[report.id] = said
        self.loop.note("tries", desk, report.id.hex())
        task = self.loop.create_task(machine.desk.publish(channel, report, marking=marking, to=to))
        machine.tasks.append(task)
        with contextlib.suppress(asyncio.CancelledError, StoreError):
            await task
            self.said[report.id] = said
            self.loop.note("said", desk, report.id.hex())

    def delivered(self, reader: DeskMachine, delivery: Delivery) -> None:
        """A reader was given an item."""
        if delivery.kind != "report":
            return
        invariants.i2_a_reader_was_meant(self, reader, delivery)
        identity = delivery.report.id
        self.arrived.setdefault(reader.name, Counter())[identity] += 1
        self.order.setdefault(reader.name, []).append(identity)
        self._shown.append((reader.name, delivery))
        self.loop.note("given", reader.name, identity.hex())

    @staticmethod
    @functools.lru_cache(10_000)
    def header_of(data: bytes) -> env.Header:
        """A header that a desk archived."""
        return env.Header.FromString(data)

    def _confirm(self) -> None:
        for reader, delivery in self._shown:
            if delivery.confirmed:
                self.kept.setdefault(reader, set()).add(delivery.report.id)
        self._shown = [(reader, delivery) for reader, delivery in self._shown if not delivery.confirmed]

    def missing(self) -> dict[str, list[bytes]]:
        """What each desk still waits for."""
        self._confirm()
        return {
            desk: [
                identity
                for identity, said in self.said.items()
                if desk in said.readers and identity not in kept and not self._may_be_gone(identity, said)
            ]
            for desk, kept in self.kept.items()
        }

    def _may_be_gone(self, identity: bytes, said: Said) -> bool:
        return identity in self._unsure and self.nodes[NODES[said.desk[:2]]].restored

    async def settle(self, *, within_s: float = 600.0, by: Callable[[str, Said], bool] = lambda *_: True) -> None:
        """Wait until everything said is everywhere.

        Args:
            within_s: Virtual seconds.
            by: (reader, what was said) -> whether it must come; everything by default.

        Raises:
            AssertionError: It is not, in time.
        """
        end = self.loop.time() + within_s
        while lost := {
            desk: wanted
            for desk, identities in self.missing().items()
            if (wanted := [identity for identity in identities if by(desk, self.said[identity])])
        }:
            if self.loop.time() > end:
                counts = {desk: len(identities) for desk, identities in lost.items()}
                states = {name: machine.desk.state for name, machine in self.desks.items() if machine.desk}
                one = self.said[next(iter(lost.values()))[0]]
                raise AssertionError(
                    f"lost: {counts} of {len(self.said)}, such as number {one.number} of {one.desk} ({one.marking} on "
                    f"{one.channel}); faults: {self.faults}; desks: {states}"
                )
            await asyncio.sleep(1)

    async def prove(self, *, within_s: float = PROVED_S) -> None:
        """Wait until every desk knows to be delivered what the nodes of its readers hold.

        Raises:
            AssertionError: One does not, in time.
        """
        end = self.loop.time() + within_s
        desks = [machine for machine in self.desks.values() if machine.up]
        while unproved := {machine.name: found for machine in desks if (found := machine.unproved())}:
            if self.loop.time() > end:
                counts = {desk: len(identities) for desk, identities in unproved.items()}
                raise AssertionError(f"delivered, and not known to be: {counts}; faults: {self.faults}")
            await asyncio.sleep(1)


def a_report(chance: random.Random, time_ms: int, number: int) -> rep.Report:
    """A small valid report with an id drawn from the run's chance."""
    identity = bytearray(time_ms.to_bytes(6, "big") + chance.randbytes(10))
    identity[6], identity[8] = 0x70 | identity[6] & 0x0F, 0x80 | identity[8] & 0x3F
    report = rep.Report(
        id=bytes(identity),
        subject=rep.Subject(item="graphite", stage=rep.STAGE_MINERAL),
        level=rep.STATUS_LEVEL_WATCH,
        observe_time_ms=time_ms,
    )
    report.summary.add(language="en", text=f"number {number}: {invariants.MARK}")
    return report


Scenario = Callable[[Simulation], Coroutine[Any, Any, None]]


def simulate(scenario: Scenario, *, seed: int, kind: type[Simulation] = Simulation) -> Simulation:
    """Run a scenario on a fresh exchange under a seed."""
    cryptography = stand_ins.real_cryptography if kind.real_cryptography else stand_ins.cheap_cryptography
    with cryptography(), kind.planted(), tempfile.TemporaryDirectory(prefix="tocsin-run-", dir=FAST) as root:

        async def main(loop: SimulatedLoop) -> Simulation:
            simulation = kind(loop, Path(root) / "x")
            try:
                await simulation.start()
                await scenario(simulation)
                await simulation.prove()
                simulation.check_end()
            finally:
                simulation.stop()
            for crash in simulation.network.crashes:
                raise AssertionError(f"a task failed: {crash!r}") from crash
            return simulation

        return run(main, seed=seed)
