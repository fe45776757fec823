"""kill -9 of nodes and desks at random moments under load: what was acknowledged is there at both ends, exactly once."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any, Final

from exchange.clock import now_ms
from exchange.demo.found import NODES
from exchange.desk import Desk
from exchange.merkle import verify_inclusion
from exchange.node.app import App
from exchange.node.audit import audit
from exchange.node.directory import STATUS
from exchange.v1 import envelope_pb2 as env
from exchange.v1 import exchange_pb2 as pb
from exchange.v1 import report_pb2 as rep
from keys.trust import party_of
from tests.faults.place import BZ, CHANNELS, HAGUE, SEOUL, Place, Process
from tests.faults.worker import Journal, line

DESKS: Final = (HAGUE, SEOUL, BZ)
PER_S: Final = 40.0
"""Reports each desk publishes a second."""
DRAIN_S: Final = 120.0
Named = tuple[str, bytes]
"""Channel, report id."""


@dataclass(slots=True)
class Told:
    """What the figures are made of."""

    kills: Counter[str] = field(default_factory=Counter)
    starts_s: list[float] = field(default_factory=list)
    kill_s: float = 0.0


async def kill_at_random(place: Place, kills: int, seed: int, names: Sequence[str]) -> Told:
    """Load and kills; every process runs when this returns.

    Args:
        place: Both countries; nothing runs yet.
        kills: How many processes are killed, at least.
        seed: Chooses victims and moments.
        names: Desks that publish and read.
    """
    chance, told = random.Random(seed), Told()
    nodes = [place.node(party) for party in NODES]
    desks = [place.desk(name, per_s=PER_S) for name in names]
    every = [*nodes, *desks]
    for process in every:
        process.start()
    await asyncio.gather(*(process.serving() for process in every))
    began = time.monotonic()
    while told.kills.total() < kills:
        await asyncio.sleep(chance.uniform(0.05, 2.0))
        for victim in victims(chance, nodes, desks):
            victim.kill()
            told.kills["nodes" if victim in nodes else "desks"] += 1
            await asyncio.sleep(chance.choice((0, 0, chance.uniform(0, 0.5))))
        started = [process for process in every if process.popen is None]
        for process in started:
            process.start()
        # Now and then the next kill falls into the start itself.
        if chance.random() < 0.8:
            times = await asyncio.gather(*(process.serving() for process in started))
            told.starts_s += [s for s, process in zip(times, started, strict=True) if process in nodes]
    await asyncio.gather(*(process.serving() for process in every))
    told.kill_s = time.monotonic() - began
    return told


def victims(chance: random.Random, nodes: list[Process], desks: list[Process]) -> list[Process]:
    """One, both nodes, or everything."""
    lot = chance.random()
    if lot < 0.1:
        return [*nodes, *desks]
    if lot < 0.25:
        return list(nodes)
    return [chance.choice(nodes if lot < 0.6 else desks)]


async def come_to_rest(place: Place, desks: Sequence[str] = DESKS) -> None:
    """Say nothing more, send what waits, let everybody read all that was said, end every process."""
    for name in desks:
        await place.processes[name].end()
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(place.open(name)) for name in desks]
        for desk in opened:
            assert await desk.flush(DRAIN_S) == 0, f"{desk.name}: {desk.state}"
        async with asyncio.timeout(DRAIN_S):
            await asyncio.gather(*(read_all(place, desk, desks) for desk in opened))
    # What the desks said as they ended is on its way between the nodes.
    ended_ms = now_ms()
    async with asyncio.timeout(DRAIN_S):
        while not all(followed(place, *pair, since_ms=ended_ms) for pair in permutations(NODES)):
            await asyncio.sleep(0.2)
    for party in NODES:
        await place.processes[NODES[party]].end()


def followed(place: Place, party: str, peer: str, *, since_ms: int) -> bool:
    """Whether a party's node has all the entries that the other one says it has, by what both said since then."""
    ours, theirs = (json.loads((place.founded.node(name) / STATUS).read_text()) for name in (party, peer))
    told = min(ours["time_ms"], theirs["time_ms"]) > since_ms
    return told and bool(ours["peers"][NODES[peer]]["position"] == theirs["entries"])


async def read_all(place: Place, desk: Desk, desks: Sequence[str]) -> None:
    """Until everything is read that the others published."""
    journal = Journal(desk.directory / "read")
    missing = {one for other in desks if other != desk.name for one in said(place, other)} - set(
        given(place, desk.name)
    )
    while missing:
        for channel in CHANNELS:
            async for delivery in desk.subscribe(channel, follow=False):
                journal.write(line(delivery))
                missing.discard((channel, delivery.report.id))
        await asyncio.sleep(0.1)


def said(place: Place, desk: str) -> list[Named]:
    """Everything `publish` returned for, in order."""
    return _named(place, desk, "said")


def given(place: Place, desk: str, sender: str = "") -> list[Named]:
    """Everything that was given to a desk's reader, in order, repeats too; or that of one sender."""
    return _named(place, desk, "read", sender)


def _named(place: Place, desk: str, journal: str, sender: str = "") -> list[Named]:
    path = place.founded.desk(desk) / journal
    rows = [row.split() for row in path.read_text().splitlines()] if path.exists() else []
    return [(row[0], bytes.fromhex(row[1])) for row in rows if sender in ("", *row[2:])]


# ---- what must hold


async def must_hold(place: Place, desks: Sequence[str] = DESKS) -> dict[str, Any]:
    """Opens the files of all that was ended: what was acknowledged is at both ends, once, in order, and proved.

    Returns:
        How many reports and envelopes there were, and how many items were given again after a kill of their reader.
    """
    logs = {party: await log_of(place, party) for party in NODES}
    envelopes = 0
    for name in desks:
        desk = place.open(name)
        try:
            envelopes += sent_is_kept(desk, logs, said(place, name))
            read_is_whole(place, desk, desks)
            bad = [finding.text for finding in desk.audit() if finding.bad]
            assert not bad, f"{name}: {bad}"
        finally:
            desk.close()
    read = {name: given(place, name) for name in desks}
    return {
        "reports": sum(len(said(place, name)) for name in desks),
        "envelopes": envelopes,
        "given_again": sum(len(every) - len(set(every)) for every in read.values()),
    }


async def log_of(place: Place, party: str) -> list[bytes]:
    """The leaves of a stopped node's log, in order: audited whole, and each envelope in it once."""
    async with App(place.founded.node(party)).standing() as node:
        found = await asyncio.to_thread(audit, node)
        # That nobody cosigned yet may be: it is done once a second.
        bad = [f"{one.subject}: {one.text}" for one in found if one.bad and one.subject != "cosignatures"]
        assert not bad, bad
        leaves, position = [], 0
        while position < node.store.size():
            rows, position = node.store.read(
                position, limit_bytes=8_000_000, limit_rows=1024, desks=None, channels=None
            )
            leaves += [row.id for row in rows]
            assert all(row.kind != pb.ENTRY_KIND_REFUSAL for row in rows), "something honest was refused"
        assert len(set(leaves)) == len(leaves) == node.store.size()
        assert not node.store.parked()
        return leaves


def sent_is_kept(desk: Desk, logs: dict[str, list[bytes]], promised: Sequence[Named]) -> int:
    """Each receipt proves its place, where its node's log has it; that of each reader has it too. Returns how many there are."""
    home = logs[desk.name[:2]]
    at = {party: set(leaves) for party, leaves in logs.items()}
    reports: Counter[bytes] = Counter()
    sent = desk.archive.sent()
    for identity in sent:
        receipt = desk.archive.receipt(identity)
        assert receipt is not None
        position, proof, note = receipt
        head = desk._own.verify_kept_note(note)
        verify_inclusion(identity, position, head.size, list(proof), head.root)
        assert home[position] == identity, f"{desk.name}: its node has another envelope at {position}"
        header = env.Header.FromString(desk.archive.header_of(identity) or b"")
        # What missions of one party acknowledge to each other goes to nobody else.
        parties = {party_of(reader.desk) for reader in header.audience}
        assert parties
        assert all(identity in at[party] for party in parties)
        reports.update(reports_of(desk.archive.content(identity).items))
    assert set(reports.values()) <= {1}, "a report went out in two envelopes"
    assert {one for _, one in promised} <= set(reports), "what `publish` returned for was not sent"
    return len(sent)


def reports_of(items: Sequence[bytes]) -> list[bytes]:
    """Ids of the reports among items; the others are what desks tell each other by themselves."""
    every = [rep.Item.FromString(item) for item in items]
    return [item.report.id for item in every if item.WhichOneof("kind") == "report"]


def read_is_whole(place: Place, desk: Desk, desks: Sequence[str]) -> None:
    """All that the others published was archived once, and given in order."""
    archived = Counter(d.report.id for d in desk.inbox() if d.kind == "report")
    raw = Counter(identity for one in desk.archive.received() for identity in reports_of(one.items))
    assert archived == raw, "a report is in the archive twice"
    for other in desks:
        if other == desk.name:
            continue
        promised = said(place, other)
        assert {one for _, one in promised} <= set(archived)
        first = list(dict.fromkeys(given(place, desk.name, other)))
        for channel in CHANNELS:
            wanted = [one for one in promised if one[0] == channel]
            known = set(wanted)
            # What was sealed when its sender was killed, before `publish` returned, comes too.
            assert [one for one in first if one in known] == wanted, f"{other} to {desk.name}: not in order"


async def run(place: Place, *, kills: int, seed: int, desks: Sequence[str] = DESKS) -> dict[str, Any]:
    """Everything, with the figures."""
    began = time.monotonic()
    told = await kill_at_random(place, kills, seed, desks)
    await come_to_rest(place, desks)
    figures = await must_hold(place, desks)
    starts = sorted(told.starts_s)
    return {
        "seed": seed,
        "time_ms": now_ms(),
        "kills": dict(told.kills),
        **figures,
        "lost": 0,
        "under_load_s": round(told.kill_s, 1),
        "node_start_s": {"median": round(starts[len(starts) // 2], 2), "longest": round(starts[-1], 2)}
        if starts
        else {},
        "whole_s": round(time.monotonic() - began, 1),
    }
