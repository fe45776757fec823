"""A two-country exchange on loopback: two node directories, real ports, real TLS; in this process or in others."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from cryptography import x509

from exchange import checkpoint, envelope, files, tls, wire
from exchange.clock import now_ms
from exchange.demo.found import free_ports
from exchange.merkle import verify_inclusion
from exchange.node import directory as nodes
from exchange.node.app import App
from exchange.node.directory import NodeSettings
from exchange.v1 import exchange_pb2 as pb
from exchange.v1 import exchange_pb2_grpc as rpc
from keys import founding, suite
from keys.documents import Document
from keys.encoding import pae
from keys.trust import Trust, week_of
from keys.v1 import documents_pb2 as docs
from tests.mail import send
from tests.world import DESKS, MISSIONS, World, draft

NODES = ("kr.the-hague-1", "nl.seoul-1")


def host_of(desk: str) -> str:
    """The node that hosts a desk."""
    return MISSIONS[desk.partition("/")[0]][1]


@dataclass
class Identity:
    """What a TLS client shows."""

    key: tls.TlsKey = field(repr=False)
    certificate: x509.Certificate
    name: str


@dataclass
class Cluster:
    """Both countries: node directories with their bundle, keys of desks, cards."""

    root: Path
    world: World
    entries: dict[str, docs.Node]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    seqs: dict[tuple[str, bytes], tuple[int, bytes]] = field(default_factory=dict)

    @property
    def trust(self) -> Trust:
        """A fresh trust from every document."""
        return self.world.trust()

    def directory(self, node: str) -> Path:
        """A node's directory."""
        return self.root / node

    def app(self, node: str, clock: Callable[[], int] = now_ms) -> App:
        """A node that does not run yet."""
        return App(self.directory(node), clock=clock)

    def start(self, node: str) -> subprocess.Popen[bytes]:
        """A node as a process of its own; returns once it serves."""
        ready, output = self.directory(node) / "node.ready", self.root / f"{node}.log"
        # A killed node left it behind.
        ready.unlink(missing_ok=True)
        with output.open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "exchange.node", str(self.directory(node))],
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            )
        self.processes.append(process)
        end = time.monotonic() + 30
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > end:
                raise AssertionError(output.read_text())
            time.sleep(0.05)
        return process

    def kill_all(self) -> None:
        """End what a failed test left running."""
        for process in self.processes:
            process.kill()
            process.wait()

    async def enrol(self, desk: str, *, node: str | None = None, key: suite.SigningKey | None = None) -> Identity:
        """Enrol over the second listener, as a desk does."""
        node = node or host_of(desk)
        entry, tls_key, at = self.entries[node], tls.new_key(), now_ms()
        csr = tls.request(desk, tls_key)
        message = pae("tocsin/1/enrol", self.world.lineage, node, desk, csr, at)
        signature = (key or self.world.desks[desk]).sign(message, ctx="tocsin/1/enrol")
        credentials = grpc.ssl_channel_credentials(tls.der_to_pem(entry.tls_ca))
        options = [*wire.CLIENT_OPTIONS, ("grpc.ssl_target_name_override", node)]
        async with grpc.aio.secure_channel(entry.enrol_endpoint, credentials, options=options) as channel:
            request = pb.EnrolRequest(desk=desk, csr=csr, time_ms=at, signature=signature)
            answer = await rpc.ExchangeStub(channel).Enrol(request, timeout=10, wait_for_ready=True)
        assert answer.ca == entry.tls_ca
        return Identity(tls_key, x509.load_der_x509_certificate(answer.certificate), desk)

    @asynccontextmanager
    async def connect(self, identity: Identity, node: str | None = None) -> AsyncIterator[rpc.ExchangeStub]:
        """A mutual-TLS connection to the node that hosts the desk."""
        node = node or host_of(identity.name)
        entry = self.entries[node]
        credentials = grpc.ssl_channel_credentials(
            tls.der_to_pem(entry.tls_ca), tls.key_pem(identity.key), tls.pem(identity.certificate)
        )
        options = [*wire.CLIENT_OPTIONS, ("grpc.ssl_target_name_override", node)]
        async with grpc.aio.secure_channel(entry.endpoint, credentials, options=options) as channel:
            yield rpc.ExchangeStub(channel)

    def seal(
        self,
        trust: Trust,
        sender: str,
        *,
        marking: docs.Marking = docs.MARKING_AMBER,
        channel: str = "minerals",
        stream: bytes = b"s" * 16,
        content: Sequence[bytes] | None = None,
        ago_ms: int = 0,
    ) -> envelope.Parsed:
        """The next envelope of a stream."""
        last = self.seqs.get((sender, stream), (0, b""))
        header = draft(
            trust,
            sender=sender,
            marking=marking,
            channel=channel,
            stream=stream,
            create_ms=now_ms() - ago_ms,
            seq=last[0] + 1,
            prev=last,
        )
        sealed = send(trust, header, content=content, at=self.world)
        self.seqs[(sender, stream)] = (last[0] + 1, sealed.id)
        return sealed

    def open(self, desk: str, data: bytes) -> tuple[bytes, ...]:
        """Check and open as a reader does."""
        parsed = envelope.parse(data)
        sender = next(n for n, k in self.world.desks.items() if suite.key_id(1, "desk", k.public) == parsed.outer.key)
        checked = envelope.check(parsed, self.world.desks[sender].public)
        return envelope.open_envelope(checked, desk=desk, card=self.world.card(desk, checked.header.create_time_ms))

    def verify(self, node: str, note: bytes) -> checkpoint.Checkpoint:
        """A checkpoint of a node."""
        key = self.entries[node].log_key
        return checkpoint.verify(note, key.suite, key.key, name=node)


def found(
    root: Path, weeks: int = 2, *, parties: dict[str, founding.PartyKeys] | None = None, dead: bytes = b""
) -> Cluster:
    """Found kr and nl three hours ago: five desks, two node directories with the bundle of documents.

    `parties` are those whose keys are drawn already; `dead` is the lineage whose place it takes, if any.
    """
    now = now_ms() - 3 * founding.HOUR_MS
    parties = parties or {name: founding.found_party(name, now_ms=now - 1000) for name in ("kr", "nl")}
    body = founding.standard_agreement(now_ms=now - 1000, title="loopback")
    body.dead_lineages.extend([dead] if dead else [])
    agreement = founding.agreement(body, list(parties.values()))
    lineage = agreement.digest
    desks = {name: suite.SigningKey.generate(suite.DESK_SUITE) for name in DESKS}
    ports = iter(free_ports(2 * len(NODES)))
    entries = {
        name: nodes.init(
            root / name,
            NodeSettings(
                name=name,
                lineage=lineage.hex(),
                endpoint=f"127.0.0.1:{next(ports)}",
                enrol_endpoint=f"127.0.0.1:{next(ports)}",
            ),
            fast_kdf=True,
        )
        for name in NODES
    }
    order: list[Document] = [parties["kr"].document, parties["nl"].document, agreement]
    rosters = {}
    for name, party in parties.items():
        body = docs.Roster()
        for mission, (kind, node) in MISSIONS.items():
            if mission.startswith(name + "."):
                body.missions.add(mission=mission, kind=kind, node=node)
        for desk, key in desks.items():
            if desk.startswith(name + "."):
                body.desks.append(founding.desk_entry(desk, key, lineage=lineage))
        body.nodes.extend(entry for node, entry in entries.items() if node.startswith(name + "."))
        rosters[name] = founding.next_roster(party, body, lineage=lineage, previous=None, now_ms=now - 500)
        status = founding.status(
            party, lineage=lineage, agreement=agreement, roster=rosters[name], version=1, now_ms=now - 400
        )
        order += [rosters[name], status]
    cards, card_documents = {}, {}
    for week in range(week_of(now), week_of(now_ms()) + weeks):
        for desk, key in desks.items():
            cards[(desk, week)] = suite.CardKey.generate()
            card_documents[(desk, week)] = founding.key_card(desk, key, cards[(desk, week)], lineage=lineage, week=week)
    order += card_documents.values()
    for name in NODES:
        files.save_bundle(root / name / files.BUNDLE, order)
    world = World(parties, agreement, lineage, rosters, order, desks, cards, {}, now, card_documents)
    return Cluster(root, world, entries)


async def publish(stub: rpc.ExchangeStub, *messages: Iterable[bytes]) -> list[pb.PublishResponse]:
    """Publish messages over one stream."""

    async def requests() -> AsyncIterator[pb.PublishRequest]:
        for envelopes in messages:
            yield pb.PublishRequest(envelopes=envelopes)

    return [response async for response in stub.Publish(requests(), timeout=30)]


async def read(
    stub: rpc.ExchangeStub, *, until: int = 0, position: int = 0, kind: int = pb.ENTRY_KIND_ENVELOPE
) -> list[pb.Entry]:
    """Entries of a kind: those there are, or, with `until`, as soon as there are so many. Proofs are verified."""
    found: list[pb.Entry] = []
    call = stub.Subscribe(pb.SubscribeRequest(position=position, follow=bool(until)), timeout=30)
    async for response in call:
        head = checkpoint.parse(response.checkpoint)
        for entry in response.entries:
            verify_inclusion(entry.leaf, entry.position, head.size, list(entry.proof), head.root)
        found += [entry for entry in response.entries if entry.kind == kind]
        if until and len(found) >= until:
            call.cancel()
            break
    return found


async def eventually(condition: Callable[[], object], *, seconds: float = 20) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.05)


async def give(document: Document, *nodes: App) -> None:
    """A document to nodes that serve in this process; they must take it."""
    for node in nodes:
        for _, error in await node.node.take_documents([document.encode()], now_ms=now_ms()):
            assert error is None
