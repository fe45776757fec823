"""A node that lies: it drops, reorders, replays, alters and injects, withholds documents, and shows an older log.

It holds its own keys and nothing else: what it signs is its own log. Nothing false may be given to anyone, what it holds
back within a stream is told, and whoever does not depend on it goes on.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from exchange import checkpoint, envelope
from exchange.demo.found import NODES
from exchange.node.core import Node
from exchange.node.entries import envelope_entry, header_of
from exchange.node.service import ExchangeService
from exchange.store.sqlite import SqliteStore
from exchange.v1 import envelope_pb2 as env
from exchange.v1 import exchange_pb2 as pb
from keys import documents, suite
from keys.trust import Trust, party_of
from tests.simulation import disks, faults, scenarios
from tests.simulation.exchange import Said, Simulation
from tests.simulation.machines import NodeMachine

LIES: Final = ("drop", "reorder", "replay", "alter", "inject", "withhold", "old log")
OFTEN: Final = 0.3
"""Of its answers, so many hold a lie."""


class _Lying(ExchangeService):
    """Answers as a node does, but for its lies."""

    def __init__(self, sim: "Hostile", node: Node, machine: NodeMachine) -> None:
        super().__init__(node, machine.clock)
        self._sim, self._past = sim, list[pb.Entry]()
        self._withheld = sim.loop.random.choice(("tocsin/1/roster", "tocsin/1/status"))

    def _tells(self, lie: str) -> bool:
        return lie in self._sim.lies and self._sim.loop.random.random() < OFTEN

    async def Subscribe(self, request: Any, context: Any) -> AsyncIterator[pb.SubscribeResponse]:  # noqa: N802
        async for response in super().Subscribe(request, context):
            if not response.checkpoint:
                yield response
                continue
            self._past += [e for e in response.entries if e.kind == pb.ENTRY_KIND_ENVELOPE and e.data][-3:]
            entries = [self._altered(entry) for entry in response.entries if not self._dropped(entry)]
            if self._tells("reorder"):
                self._sim.loop.random.shuffle(entries)
            if self._tells("replay"):
                entries += self._past[:2]
            del response.entries[:]
            response.entries.extend(entries)
            yield response
            await asyncio.sleep(0)

    def _dropped(self, entry: pb.Entry) -> bool:
        if entry.kind == pb.ENTRY_KIND_DOCUMENT:
            kind = documents.decode(entry.data).type
            return "withhold" in self._sim.lies and kind == self._withheld
        return entry.kind == pb.ENTRY_KIND_ENVELOPE and self._tells("drop")

    def _altered(self, entry: pb.Entry) -> pb.Entry:
        if entry.kind == pb.ENTRY_KIND_ENVELOPE and entry.data and self._tells("alter"):
            at = self._sim.loop.random.randrange(len(entry.data))
            entry.data = entry.data[:at] + bytes([entry.data[at] ^ 1]) + entry.data[at + 1 :]
        return entry

    async def GetDocuments(self, request: Any, context: Any) -> pb.GetDocumentsResponse:  # noqa: N802
        response = await super().GetDocuments(request, context)
        if "withhold" in self._sim.lies:
            # The first of each is shown: what it keeps back is what came since.
            shown = [
                (data, came_ms)
                for data, came_ms in zip(response.documents, response.taken_ms, strict=True)
                if not self._sim.is_new(data, self._withheld)
            ]
            del response.documents[:], response.taken_ms[:]
            response.documents.extend(data for data, _ in shown)
            response.taken_ms.extend(came_ms for _, came_ms in shown)
        return response


class Hostile(Simulation):
    """One of the two nodes lies, in some of the ways it can."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        chance = self.loop.random
        self.liar = chance.choice(sorted(self.nodes))
        self.liars = {self.liar}
        self.lies = frozenset(chance.sample(LIES, chance.randrange(1, 4)))
        self.forged: set[bytes] = set()
        self._founding = {document.digest for document in self.founded.held}

    def make_node(self, machine: NodeMachine, store: SqliteStore, trust: Trust, log_key: suite.SigningKey) -> Node:
        node = super().make_node(machine, store, trust, log_key)
        if machine.name in self.liars:
            # An honest node would stand back when it is shown more of its log than it holds.
            node.hearing.hear = _deaf  # type: ignore[method-assign]
        return node

    def make_service(self, machine: NodeMachine, node: Node) -> ExchangeService:
        return _Lying(self, node, machine) if machine.name in self.liars else super().make_service(machine, node)

    def is_new(self, data: bytes, kind: str) -> bool:
        """Whether a document of a kind came after the founding."""
        document = documents.decode(data)
        return document.type == kind and document.digest not in self._founding

    def honest(self, reader: str, said: Said) -> bool:
        """Whether a report goes between desks that do not depend on the liar."""
        trusted = next(party for party, node in NODES.items() if node not in self.liars)
        return party_of(reader) == trusted == party_of(said.desk)

    def check_end(self) -> None:
        super().check_end()
        other = next(machine for name, machine in self.nodes.items() if name not in self.liars)
        assert other.store is not None
        for identity in self.forged:
            assert other.store.position_of(identity) is None, f"{other.name} took an envelope that nobody signed"


async def _deaf(note: bytes, *, by: str) -> None:
    """What others saw of its log is nothing to a liar."""


async def inject(sim: Hostile) -> None:
    """The liar puts into its own log, well proved, an envelope that nobody signed: a real one with other bytes."""
    machine = sim.nodes[sim.liar]
    if not machine.up or machine.store is None or machine.node is None:
        return
    rows, _ = machine.store.read(0, limit_bytes=10_000_000, limit_rows=500, desks=None, channels=None)
    real = [row for row in rows if row.kind == pb.ENTRY_KIND_ENVELOPE]
    if not real:
        return
    outer = env.Envelope.FromString(sim.loop.random.choice(real).data)
    header = header_of(outer.SerializeToString())
    if sim.loop.random.random() < 0.5:
        outer.ciphertext = sim.loop.random.randbytes(len(outer.ciphertext))
    else:
        header.seq, header.prev_seq = header.seq + 1, header.seq
        outer.header = header.SerializeToString(deterministic=True)
    parsed = envelope.parse(outer.SerializeToString())
    sim.forged.add(parsed.id)
    waiting = machine.node._writer.enqueue(envelope_entry(parsed, header))
    waiting.durable.add_done_callback(lambda done: done.cancelled() or done.exception())


async def show_an_older_log(sim: Hostile) -> None:
    """The liar goes back to an older copy of its log, and grows another one from there."""
    machine = sim.nodes[sim.liar]
    if not machine.up:
        return
    older = disks.image_of(machine.database)
    await asyncio.sleep(6.0 + sim.loop.random.random() * 6)
    if not machine.up:
        return
    machine.crash()
    disks.put_back(machine.database, older)
    machine.restored = True
    await machine.start()


async def among_liars(sim: Simulation) -> None:
    """Desks write while a node lies; nothing false is given, and the others go on."""
    assert isinstance(sim, Hostile)
    chance, deeds = sim.loop.random, []
    writing = [sim.loop.create_task(scenarios.write(sim, desk)) for desk in scenarios.GOVERNMENT]
    if "inject" in sim.lies:
        deeds += [_later(sim, inject) for _ in range(3)]
    if "old log" in sim.lies:
        deeds.append(_later(sim, show_an_older_log))
    troubles = faults.trouble(
        sim, count=chance.randrange(3), within_s=15.0, faults=(faults.cut, faults.reset, faults.day)
    )
    await asyncio.gather(*writing, troubles, *deeds)
    await sim.settle(within_s=scenarios.QUIET_S, by=sim.honest)
    await asyncio.sleep(scenarios.GAPS_S)
    if "old log" in sim.lies:
        _the_other_node_saw(sim)


async def _later(sim: Hostile, deed: Any) -> None:
    await asyncio.sleep(sim.loop.random.random() * 15)
    await deed(sim)


def _the_other_node_saw(sim: Hostile) -> None:
    """A node that saw a head which the log of the liar no longer extends keeps both heads."""
    liar = sim.nodes[sim.liar]
    other = next(machine for name, machine in sim.nodes.items() if name not in sim.liars)
    assert other.store is not None
    assert other.node is not None
    assert liar.store is not None
    assert liar.node is not None
    note = other.store.note(liar.node.origin)
    seen = checkpoint.parse(note) if note else None
    extends = seen is None or (seen.size <= liar.store.size() and liar.store.root(seen.size) == seen.root)
    assert extends or other.node.clashes.held, f"{other.name} did not notice that the log of {liar.name} was replaced"
