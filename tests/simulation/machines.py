"""Computers of a simulated exchange: nodes and desks as the product runs them, that crash and start again."""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from exchange import files
from exchange.desk import Desk
from exchange.desk.events import Event
from exchange.desk.holdings import Holdings
from exchange.desk.link import Link
from exchange.errors import IdentityError, StoreError
from exchange.node.core import Node
from exchange.node.directory import newest_log
from exchange.store.sqlite import SqliteStore
from exchange.v1 import exchange_pb2_grpc as rpc
from keys import suite
from keys.errors import TocsinError
from keys.keystore import Keystore
from keys.trust import Trust
from tests.simulation import disks
from tests.simulation.network import Context, Network

if TYPE_CHECKING:
    from tests.simulation.exchange import Simulation

AGAIN_S: Final = 1.0
"""A reader that was told of a failure of its own disk, or of a lie of its node, reads on after this long."""
MANY: Final = 10_000
"""More than a run sends."""


class SimulatedLink(Link):
    """A desk's link without TLS: the network vouches for the name."""

    network: Network

    async def stub(self) -> rpc.ExchangeStub:
        """The node's service."""
        return rpc.ExchangeStub(self.network.connect(self._own.name, self._own.settings.node))  # type: ignore[arg-type]


class NamedCallers:
    """Callers by the name the network vouches for, against the rosters as ever."""

    def __init__(self, trust: Trust) -> None:
        self._trust = trust

    def caller_of(self, context: Context) -> str:
        """See exchange.node.service.Callers."""
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
    crashes: int = 0
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)

    def clock(self) -> int:
        """Its idea of the time, ms UTC."""
        return self.sim.loop.now_ms() + self.skew_ms

    @property
    def database(self) -> Path:
        """Its file."""
        raise NotImplementedError


@dataclass
class NodeMachine(Machine):
    """A node with its followers, as exchange.node.app runs them."""

    node: Node | None = None
    store: SqliteStore | None = None
    cosigned: dict[str, int] = field(default_factory=dict)
    """Origin -> the largest size it signed for."""
    restored: bool = False

    @property
    def database(self) -> Path:
        """Its log."""
        return newest_log(self.directory)

    async def start(self) -> None:
        """Start, or start again from what the disk holds."""
        trust = Trust(self.sim.founded.lineage)
        with Keystore.open(self.directory / "node.keys", b"") as keystore:
            log_key = suite.SigningKey.from_seed(suite.DESK_SUITE, keystore.get("log"))
        store = self.sim.open_store(self)
        node = self.sim.make_node(self, store, trust, log_key)
        self.node, self.store, self.up = node, store, True
        self.sim.on_start(self)
        # A task, as it ends when the node loses power while it starts.
        starting = self.sim.loop.create_task(self._run(node, trust))
        self.tasks.append(starting)
        await asyncio.wait({starting})
        if not starting.cancelled():
            starting.result()

    async def _run(self, node: Node, trust: Trust) -> None:
        await node.start()
        for _, error in await node.take_documents(
            files.load_bundle(self.directory / files.BUNDLE), now_ms=self.clock()
        ):
            assert error is None or self.sim.days_passed, error
        node.places.connect = node.mending.connect = self._connect
        service = self.sim.make_service(self, node)
        service._callers = NamedCallers(trust)  # type: ignore[assignment]
        self.sim.network.services[self.name] = service
        for peer in self.sim.nodes.keys() - {self.name}:
            follower = self.sim.follower_class(node, peer, connect=self._connect, clock=self.clock)
            self.tasks.append(self.sim.loop.create_task(follower.run()))

    def _connect(self, peer: str) -> Any:
        return self.sim.network.connect(self.name, peer)

    def crash(self, *, last: bool = False) -> None:
        """Power off, between one step and the next: what is not committed is gone."""
        if not self.up:
            return
        assert self.node is not None
        assert self.store is not None
        self.up = False
        self.crashes += 1
        self.sim.network.crash(self.name)
        for task in (*self.tasks, *self.node._writer._tasks):
            task.cancel()
        self.tasks.clear()
        image = {} if last else disks.image_of(self.database)
        self.store.close()
        if not last:
            disks.tear(image, "log.db-wal", self.sim.loop.random)
            disks.put_back(self.database, image)
        self.sim.power_off(self)


@dataclass
class DeskMachine(Machine):
    """A desk that reads every channel it may, and writes what it is told."""

    desk: Desk | None = None
    heard: list[Event] = field(default_factory=list)
    told: list[TocsinError] = field(default_factory=list)
    """What ended its reading: its own disk, or a node that proved nothing."""
    newcomer: bool = False
    """Admitted while the exchange ran: others may seal to it, and need not yet."""
    early: bool = False
    """It is shown what its node has not on disk yet."""
    restored: int = 0
    flushed: int = 0
    """Bytes of its log of writes that survive a loss of power."""

    @property
    def database(self) -> Path:
        """Its outbox and archive."""
        return self.directory / "desk.db"

    async def start(self) -> None:
        """Start, or start again from what the disk holds."""
        desk = Desk(self.directory, clock=self.clock, workers=self.sim.workers, link=self._link)
        self.desk, self.up = desk, True
        self._watch_flushes(desk)
        await desk.__aenter__()
        for channel in self.sim.channels:
            self.tasks.append(self.sim.loop.create_task(self._read(desk, channel)))

    def _watch_flushes(self, desk: Desk) -> None:
        archive, wal = desk.archive, self.database.with_name("desk.db-wal")
        transaction = archive.transaction

        @contextlib.contextmanager
        def watched(*, durable: bool = True) -> Iterator[None]:
            with transaction(durable=durable):
                yield
            if durable:
                self.flushed = wal.stat().st_size

        archive.transaction = watched  # type: ignore[method-assign]
        self.flushed = wal.stat().st_size if wal.exists() else 0

    def events(self) -> list[Event]:
        """All it heard, also before a crash."""
        if self.up and self.desk is not None:
            self.heard += self.desk.events()
        return self.heard

    def unproved(self) -> list[bytes]:
        """What it sent, a node of its readers holds, and it does not know to be delivered there."""
        assert self.desk is not None
        archive = self.desk.archive
        found = [identity for _, identity, _ in archive.unplaced(MANY)]
        for node in archive.nodes_awaited():
            store = self.sim.nodes[node].store
            assert store is not None
            found += [row.id for row in archive.awaited_at(node, 0, MANY) if store.position_of(row.id) is not None]
        assert self.desk.undelivered() or not found
        return found

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
        while True:
            try:
                async for delivery in desk.subscribe(channel, early=self.early):
                    self.sim.delivered(self, delivery)
                return
            except StoreError as error:
                self.told.append(error)
            except TocsinError as error:
                if not self.sim.may_lie(desk.settings.node):
                    self.sim.network.crashes.append(error)
                    return
                self.told.append(error)
            except Exception as error:
                self.sim.network.crashes.append(error)
                return
            await asyncio.sleep(AGAIN_S)

    def crash(self, *, last: bool = False) -> None:
        """Power off: what was given since the archive last noted it may be given again."""
        if not self.up:
            return
        assert self.desk is not None
        self.events()
        self.up = False
        self.crashes += 1
        for task in (*self.tasks, *self.desk._tasks):
            task.cancel()
        self.tasks.clear()
        self.sim.network.crash(self.name)
        image = {} if last else disks.image_of(self.database)
        self.desk._own.archive.close()
        self.desk._own._keystore.close()
        if not last:
            disks.tear(image, "desk.db-wal", self.sim.loop.random, keep=self.flushed)
            disks.put_back(self.database, image)
