"""Two countries in one process: real nodes and desks on loopback with TLS and SQLite, under a clock that the test turns."""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from exchange import files, tls
from exchange.demo.found import NODES, Founded, found
from exchange.desk import Desk, forgetting, link
from exchange.desk.events import Event
from exchange.node import app as app_module
from exchange.node.app import App
from exchange.v1 import envelope_pb2 as env
from keys import courier, courier_store, desk_keys, founding
from keys.courier import CourierKey
from keys.encoding import digest
from keys.keystore import Keystore
from keys.trust import Trust, party_of, week_of
from keys.v1 import documents_pb2 as pb
from tests.rotation.clock import HOUR_MS, Clock, bend_certificates
from tests.rotation.ministry import Ministry
from tests.simulation.exchange import a_report

DESKS = ("kr.motie/supply", "kr.the-hague/economic", "nl.bz/supply", "nl.seoul/economic")
CHANNELS = ("alerts", "minerals")
GROUP = "bag"
PATIENCE_S = 45.0


def hurry(patch: pytest.MonkeyPatch) -> None:
    """What looks at the clock now and then looks often: days pass in seconds."""
    patch.setattr(link, "LOOK_S", 0.1)
    patch.setattr(link, "RETIRE_S", 2.0)
    patch.setattr(forgetting, "LOOK_S", 0.2)
    patch.setattr(app_module, "KEEP_S", 0.1)


def two_channels(patch: pytest.MonkeyPatch, *, group: str = "", **bounds: object) -> None:
    """The standard agreement with two channels, and what a test wants otherwise."""
    standard = founding.standard_agreement

    def agreement(**fields: object) -> pb.Agreement:
        body = standard(**fields)  # type: ignore[arg-type]
        kept = [rule for rule in body.channels if rule.channel in CHANNELS]
        del body.channels[:]
        body.channels.extend(kept)
        for rule in body.channels:
            if rule.channel == "minerals":
                rule.courier_group = group
        for name, value in bounds.items():
            setattr(body, name, value)
        return body

    patch.setattr(founding, "standard_agreement", agreement)


@dataclass
class Reader:
    """What one desk was given."""

    given: Counter[bytes] = field(default_factory=Counter)
    events: list[tuple[float, Event]] = field(default_factory=list)
    """With the day on which each was told."""
    agreements: set[int] = field(default_factory=set)


@dataclass
class Exchange:
    """Everything that runs."""

    founded: Founded
    clock: Clock
    apps: dict[str, App] = field(default_factory=dict)
    desks: dict[str, Desk] = field(default_factory=dict)
    ministries: dict[str, Ministry] = field(default_factory=dict)
    readers: dict[str, Reader] = field(default_factory=dict)
    begun: set[bytes] = field(default_factory=set)
    """What `publish` was called with: it may have been cut off when the report was durable already."""
    said: dict[bytes, str] = field(default_factory=dict)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    chance: random.Random = field(default_factory=lambda: random.Random(1))

    @classmethod
    def found(cls, directory: Path, clock: Clock) -> "Exchange":
        """Founded a moment ago."""
        founded = found(directory / "x", title="rotation", desks=DESKS, clock=clock)
        exchange = cls(founded, clock)
        for party, keys in founded.parties.items():
            bundle = founded.node(party) / files.BUNDLE
            exchange.ministries[party] = Ministry.of(keys, founded.held, clock, bundle, founded.lineage)
        return exchange

    def keystore(self, desk: str) -> Keystore:
        """A desk's, as another process on its machine opens it."""
        return Keystore.open(self.founded.desk(desk) / "desk.keys", b"")

    def carry(self, key: CourierKey) -> None:
        """A courier key, typed in at every desk."""
        for desk in DESKS:
            with self.keystore(desk) as store:
                courier_store.keep(store, key)

    # ---- life

    @contextlib.asynccontextmanager
    async def running(self, *, desks: tuple[str, ...] = DESKS) -> AsyncIterator["Exchange"]:
        """Nodes, then desks that read every channel."""
        async with contextlib.AsyncExitStack() as stack:
            for party in NODES:
                app = App(self.founded.node(party), clock=self.clock)
                self.apps[party] = await stack.enter_async_context(app.serving())
            for name in desks:
                self.desks[name] = await stack.enter_async_context(Desk.open(self.founded.desk(name), clock=self.clock))
                self.readers[name] = Reader()
            stack.push_async_callback(self._end)
            self.tasks += [asyncio.create_task(self._read(name, channel)) for name in desks for channel in CHANNELS]
            yield self

    async def _end(self) -> None:
        for task in self.tasks:
            task.cancel()
        done = await asyncio.gather(*self.tasks, return_exceptions=True)
        for outcome in done:
            if isinstance(outcome, Exception):
                raise outcome

    async def _read(self, name: str, channel: str) -> None:
        reader, desk = self.readers[name], self.desks[name]
        async for delivery in desk.subscribe(channel):
            reader.given[delivery.report.id] += 1
            header = desk.archive.header_of(delivery.envelope)
            assert header is not None
            reader.agreements.add(env.Header.FromString(header).agreement_version)

    async def publish(self, name: str, channel: str = "minerals") -> bytes:
        """One report; it counts as said once `publish` returned."""
        report = a_report(self.chance, self.clock(), len(self.said))
        self.begun.add(report.id)
        await self.desks[name].publish(channel, report)
        self.said[report.id] = name
        return report.id

    async def publish_on(self, name: str, *, every_s: float) -> None:
        """Publish for as long as the test lasts."""
        while True:
            await self.publish(name)
            await asyncio.sleep(every_s)

    # ---- time

    def work(self) -> None:
        """Every ministry does what is due."""
        for party, ministry in self.ministries.items():
            ministry.work(self.apps[party].trust.documents())
        for name, desk in self.desks.items():
            self.readers[name].events += [(self.clock.day, event) for event in desk.events()]

    def members(self) -> list[Trust]:
        """All who hold documents."""
        held = [app.trust for app in self.apps.values()] + [desk.trust for desk in self.desks.values()]
        return held + [ministry.trust for ministry in self.ministries.values() if ministry.reachable]

    def behind(self, *, for_ms: int) -> list[bytes]:
        """Documents released so long ago that some member still lacks."""
        due = self.clock() - for_ms
        return [
            identity
            for ministry in self.ministries.values()
            for released_ms, identity in ministry.released
            if released_ms <= due and not all(trust.holds(identity) for trust in self.members())
        ]

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for something, while the clock stands."""
        end = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end, f"not in {PATIENCE_S} s: {what}; {self.states()}"
            self.work()
            await asyncio.sleep(0.05)

    async def turn(self, hours: int, *, pace_s: float) -> None:
        """Time goes by; nobody is left behind further than R allows, for that is what R says of a network that works."""
        self.clock.now_ms += hours * HOUR_MS
        self.work()
        await asyncio.sleep(pace_s)
        await self.until(lambda: not self.behind(for_ms=12 * HOUR_MS), "a document everywhere")
        await self.until(lambda: self._fresh(36 * HOUR_MS), "a new status everywhere")

    def _fresh(self, for_ms: int) -> bool:
        return all(
            (status := trust.status(party)) is not None and status.issue_time_ms > self.clock() - for_ms
            for trust in self.members()
            for party in self.ministries
        )

    def missing(self) -> dict[str, int]:
        """How much of what was said each reader lacks."""
        return {
            name: sum(sender != name and not reader.given[identity] for identity, sender in self.said.items())
            for name, reader in self.readers.items()
        }

    def states(self) -> str:
        """Where everything stands, for a failure."""
        desks = {name: desk.state for name, desk in self.desks.items()}
        nodes = {party: app.node.counters.refused for party, app in self.apps.items()}
        peers = {p: [(f.peer, f.state) for f, _ in app._followers.values()] for p, app in self.apps.items()}
        events = {name: [str(e) for _, e in reader.events[-5:]] for name, reader in self.readers.items()}
        return f"day {self.clock.day:.1f}, desks {desks}, nodes refused {nodes}, {peers}, events {events}"

    # ---- keys

    def key_ids(self) -> dict[str, bytes]:
        """The identity of every key that is in use now, by whose it is."""
        found: dict[str, bytes] = {}
        for party, app in self.apps.items():
            trust, document = app.trust, app.trust.party_document(party)
            for role in ("root", "roster", "status"):
                for holder in getattr(document, role).keys:
                    found[f"{party} {role} {holder.holder}"] = holder.key.key
            node = trust.node(app.settings.name)
            assert node is not None
            found[f"{party} CA"] = node.tls_ca
            found[f"{party} CA shown"] = digest(tls.pem(app.own_keys.ca.certificate))
            found[f"{party} TLS"] = app.own_keys.pair.key.public_key().public_numbers().x.to_bytes(32, "big")
            found[f"{party} log"] = app.node.log_keys.first.public
        for name, desk in self.desks.items():
            found[f"{name} signing"] = desk._own.key.public
            found[f"{name} TLS"] = digest(desk._own._keystore.get("tls"))
            card = desk.trust.card(name, week_of(self.clock()))
            assert card is not None
            found[f"{name} card"] = card.public
            key = courier.sealing(courier_store.held(desk._own._keystore, GROUP), now_ms=self.clock())
            if key is not None:
                found[f"{name} courier"] = key.id
        return found

    def secrets_held(self) -> dict[str, set[bytes]]:
        """The public half of every secret in the keystores of machines."""
        held = {}
        for name in self.desks:
            with self.keystore(name) as store:
                held[name] = {e.public for e in store.entries() if e.kind in ("signing", "courier")}
                held[name].add(digest(store.get("tls")))
        for party in NODES:
            with Keystore.open(self.founded.node(party) / "node.keys", b"") as store:
                held[party] = {e.public for e in store.entries()}
        return held

    def prepare_desk(self, name: str) -> bytes:
        """The next key of a desk, drawn on its machine while the desk runs; what the ministry is given."""
        with self.keystore(name) as store:
            key = desk_keys.prepare(store, self.ministries[party_of(name)].trust, name)
        return key.SerializeToString(deterministic=True)


@pytest.fixture
def exchange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Exchange:
    """Founded with a courier key, nothing running."""
    hurry(monkeypatch)
    bend_certificates(monkeypatch)
    two_channels(monkeypatch, group=GROUP)
    clock = Clock()
    made = Exchange.found(tmp_path, clock)
    made.carry(courier.new(GROUP, first_use_ms=(clock() - HOUR_MS) // 1000 * 1000))
    return made
