"""Both countries under the deterministic loop: the product's own nodes and desks on simulated network, clock and disk."""

import asyncio
import contextlib
import functools
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from exchange import files
from exchange.demo.found import NODES, Founded, desk_directory, found
from exchange.desk import Desk
from exchange.desk.events import Event
from exchange.desk.holdings import Holdings
from exchange.desk.link import Link
from exchange.errors import IdentityError
from exchange.node.core import Node
from exchange.node.follow import Follower
from exchange.node.service import ExchangeService
from exchange.store.sqlite import SqliteStore
from exchange.v1 import exchange_pb2_grpc as rpc
from exchange.v1 import report_pb2 as rep
from keys import suite
from keys.keystore import Keystore
from keys.trust import Trust
from tests.simulation.loop import START_MS, InlineWorkers, SimulatedLoop, run
from tests.simulation.network import Context, Network

DESKS: Final = ("kr.motie/supply", "kr.the-hague/economic", "nl.bz/supply", "nl.seoul/economic")


@functools.cache
def template() -> Founded:
    """One founded exchange; each run works on a copy of its directory."""
    directory = Path(tempfile.mkdtemp(prefix="tocsin-simulation-")) / "exchange"
    return found(directory, title="simulation", desks=DESKS, clock=lambda: START_MS)


class SimulatedLink(Link):
    """A desk's link without TLS: the network vouches for the name."""

    network: Network

    async def stub(self) -> rpc.ExchangeStub:
        """The node's service."""
        return rpc.ExchangeStub(self.network.connect(self._own.name, self._own.settings.node))  # type: ignore[arg-type]


class _NamedCallers:
    """Callers by the name the network vouches for, against the rosters as ever."""

    def __init__(self, trust: Trust) -> None:
        self._trust = trust

    def caller_of(self, context: Context) -> str:
        name = context.caller
        known = self._trust.node(name) is not None or any(
            name in self._trust.roster(party).desks for party in self._trust.parties
        )
        if not known:
            raise IdentityError(f"{name} is unknown")
        return name


@dataclass
class Machine:
    """A computer that can crash, with a clock of its own."""

    sim: "Simulation"
    name: str
    directory: Path
    skew_ms: int = 0
    up: bool = False

    def clock(self) -> int:
        """Its idea of the time, ms UTC."""
        return self.sim.loop.now_ms() + self.skew_ms


@dataclass
class NodeMachine(Machine):
    """A node with its followers, as exchange.node.app runs them."""

    node: Node | None = None
    store: SqliteStore | None = None
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def start(self) -> None:
        """Start, or start again from what the disk holds."""
        trust = Trust(self.sim.founded.lineage)
        with Keystore.open(self.directory / "node.keys", b"") as keystore:
            log_key = suite.SigningKey.from_seed(suite.DESK_SUITE, keystore.get("log"))
        store = self.sim.open_store(self)
        node = self.sim.make_node(self.name, store, trust, log_key, self.clock)
        self.node, self.store, self.up = node, store, True
        self.sim.check_acknowledged(self)
        await node.start()
        for _, error in await node.take_documents(
            files.load_bundle(self.directory / files.BUNDLE), now_ms=self.clock()
        ):
            assert error is None, error
        service = self.sim.service_class(node, self.clock)
        service._callers = _NamedCallers(trust)  # type: ignore[assignment]
        self.sim.network.services[self.name] = service
        for peer in self.sim.nodes.keys() - {self.name}:
            follower = self.sim.follower_class(node, peer, connect=self._connect, clock=self.clock)
            self.tasks.append(self.sim.loop.create_task(follower.run()))

    def _connect(self, peer: str) -> Any:
        return self.sim.network.connect(self.name, peer)

    def crash(self) -> None:
        """Power off, between one step and the next: what is not committed is gone."""
        if not self.up:
            return
        assert self.node is not None
        assert self.store is not None
        self.up = False
        self.sim.network.crash(self.name)
        for task in (*self.tasks, *self.node._writer._tasks):
            task.cancel()
        self.tasks.clear()
        self.store.close()
        self.sim.power_off(self)


@dataclass
class DeskMachine(Machine):
    """A desk that reads every channel it may, and writes what it is told."""

    desk: Desk | None = None
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    crashes: int = 0

    async def start(self) -> None:
        """Start, or start again from what the disk holds."""
        desk = Desk(self.directory, clock=self.clock, workers=self.sim.workers, link=self._link)
        self.desk, self.up = desk, True
        await desk.__aenter__()
        for channel in self.sim.channels:
            self.tasks.append(self.sim.loop.create_task(self._read(desk, channel)))

    def receipts(self) -> list[tuple[bytes, int]]:
        """(envelope id, position) of what the node acknowledged."""
        assert self.desk is not None
        rows = self.desk.archive._db.execute("SELECT id, position FROM sent WHERE position IS NOT NULL").fetchall()
        return [(bytes(identity), int(position)) for identity, position in rows]

    def _link(self, holdings: Holdings) -> Link:
        link = SimulatedLink(holdings)
        link.network = self.sim.network
        return link

    async def _read(self, desk: Desk, channel: str) -> None:
        try:
            async for delivery in desk.subscribe(channel):
                self.sim.delivered(self.name, delivery)
        except Exception as error:
            self.sim.network.crashes.append(error)

    def crash(self) -> None:
        """Power off: what was given since the archive last noted it may be given again."""
        if not self.up:
            return
        assert self.desk is not None
        self.up = False
        self.crashes += 1
        self.events += self.desk.events()
        for task in (*self.tasks, *self.desk._tasks):
            task.cancel()
        self.tasks.clear()
        self.sim.network.crash(self.name)
        self.desk._own.archive.close()
        self.desk._own._keystore.close()


class Simulation:
    """One run: what was said, what was acknowledged, what arrived.

    Args:
        loop: Whose chance and time.
        root: A directory of its own.
        channels: Read by every desk.
    """

    follower_class: type[Follower] = Follower
    service_class: type[ExchangeService] = ExchangeService

    def __init__(self, loop: SimulatedLoop, root: Path, *, channels: tuple[str, ...] = ("minerals",)) -> None:
        self.loop, self.channels = loop, channels
        self.founded = template()
        shutil.copytree(self.founded.directory, root, dirs_exist_ok=True)
        self.network = Network(loop)
        self.workers = InlineWorkers(loop)
        self.nodes = {name: NodeMachine(self, name, root / name) for name in NODES.values()}
        self.desks = {name: DeskMachine(self, name, root / desk_directory(name)) for name in DESKS}
        self.said: dict[bytes, tuple[str, int]] = {}
        """Report id -> (desk that said it, order in which it did), once publish returned: it must arrive."""
        self.tried: set[bytes] = set()
        self.arrived: dict[str, Counter[bytes]] = {name: Counter() for name in DESKS}
        self.order: dict[tuple[str, str], list[bytes]] = {}

    # ---- parts that a test may replace

    def open_store(self, machine: NodeMachine) -> SqliteStore:
        """The store on a node's disk."""
        return SqliteStore(machine.directory / "log.db")

    def make_node(
        self, name: str, store: SqliteStore, trust: Trust, log_key: suite.SigningKey, clock: Callable[[], int]
    ) -> Node:
        """A node over a store."""
        return Node(name, store=store, trust=trust, log_key=log_key, clock=clock, workers=self.workers)

    def power_off(self, machine: NodeMachine) -> None:
        """What a disk may lose when its node crashes: of what was committed, nothing."""

    # ---- what must hold

    def check_acknowledged(self, machine: NodeMachine) -> None:
        """Whatever a desk holds a receipt for is in the log of its node, where the receipt says (invariant 4)."""
        assert machine.store is not None
        for desk in self.desks.values():
            if desk.desk is None or not desk.up or desk.desk.settings.node != machine.name:
                continue
            for identity, position in desk.receipts():
                held = machine.store.position_of(identity)
                assert held == position, f"{machine.name} acknowledged at {position} what it now holds at {held}"

    def check_end(self) -> None:
        """All arrived once, in the order it was said; what was acknowledged is held (invariants 4 and 5)."""
        for machine in self.nodes.values():
            self.check_acknowledged(machine)
        for name, machine in self.desks.items():
            assert machine.desk is not None
            inbox = [delivery.report.id for delivery in machine.desk.inbox()]
            assert len(inbox) == len(set(inbox)), f"{name} keeps a report twice"
            for identity, count in self.arrived[name].items():
                assert count <= 1 + machine.crashes, f"{name} was given {identity.hex()} {count} times"
            for sender in self.desks:
                first = list(dict.fromkeys(self.order.get((name, sender), [])))
                said = [identity for identity in first if identity in self.said]
                assert said == sorted(said, key=lambda one: self.said[one][1]), f"{name} reads {sender} out of order"

    # ---- the run

    async def start(self) -> None:
        """Everything up."""
        for machine in (*self.nodes.values(), *self.desks.values()):
            await machine.start()

    def stop(self) -> None:
        """Everything down."""
        for machine in (*self.desks.values(), *self.nodes.values()):
            machine.crash()

    async def say(self, desk: str, number: int) -> None:
        """Publish one report; it counts as said once `publish` returned."""
        machine = self.desks[desk]
        if not machine.up or machine.desk is None:
            return
        report = a_report(self.loop.random, machine.clock(), number)
        self.tried.add(report.id)
        task = self.loop.create_task(machine.desk.publish(self.channels[0], report))
        machine.tasks.append(task)  # type: ignore[arg-type]
        with contextlib.suppress(asyncio.CancelledError):
            await task
            self.said[report.id] = (desk, len(self.said))

    def delivered(self, desk: str, delivery: Any) -> None:
        """A reader was given an item."""
        identity = delivery.report.id
        assert identity in self.tried, "a report nobody wrote was delivered"
        assert delivery.sender != desk, "a desk was given its own report"
        self.arrived[desk][identity] += 1
        self.order.setdefault((desk, delivery.sender), []).append(identity)

    def missing(self) -> dict[str, list[bytes]]:
        """What each desk still waits for."""
        return {
            desk: [identity for identity, (sender, _) in self.said.items() if sender != desk and not seen[identity]]
            for desk, seen in self.arrived.items()
        }

    async def settle(self, *, within_s: float = 600.0) -> None:
        """Wait until everything said is everywhere.

        Raises:
            AssertionError: It is not, in time.
        """
        end = self.loop.time() + within_s
        while any(self.missing().values()):
            if self.loop.time() > end:
                lost = {desk: len(identities) for desk, identities in self.missing().items() if identities}
                states = {name: machine.desk.state for name, machine in self.desks.items() if machine.desk}
                raise AssertionError(f"lost: {lost} of {len(self.said)}; desks: {states}")
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
    report.summary.add(language="en", text=f"number {number}")
    return report


_verify_once = functools.lru_cache(100_000)(suite.verify)


@contextlib.contextmanager
def _signatures_remembered() -> Iterator[None]:
    """Every machine of every run checks the same documents: a signature found good once is not worked out again."""
    verify, suite.verify = suite.verify, _verify_once
    try:
        yield
    finally:
        suite.verify = verify


def simulate(
    scenario: Callable[[Simulation], Coroutine[Any, Any, None]], *, seed: int, kind: type[Simulation] = Simulation
) -> Simulation:
    """Run a scenario on a fresh exchange under a seed."""
    # In memory where the machine has such a place: thousands of runs, each with its own six databases.
    fast = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with _signatures_remembered(), tempfile.TemporaryDirectory(prefix="tocsin-run-", dir=fast) as root:

        async def main(loop: SimulatedLoop) -> Simulation:
            simulation = kind(loop, Path(root) / "x")
            await simulation.start()
            try:
                await scenario(simulation)
                simulation.check_end()
            finally:
                simulation.stop()
            for crash in simulation.network.crashes:
                raise AssertionError(f"a task failed: {crash!r}") from crash
            return simulation

        return run(main, seed=seed)
