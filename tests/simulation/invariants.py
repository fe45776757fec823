"""What must hold: one function for each part of an invariant, named by its number in docs/ARCHITECTURE.md.

Those of STEPS are asked before every step of the loop, the others at each message, delivery, restart, or at the end.
"""

import gc
import itertools
import types
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from exchange import checkpoint
from exchange.desk.events import (
    Conflict,
    Delivery,
    DiskFailed,
    Gap,
    NewLog,
    Refused,
    Restored,
    SealedAgain,
    Unconfirmed,
)
from exchange.node.entries import header_of
from exchange.v1 import envelope_pb2 as env
from exchange.v1 import report_pb2 as rep
from keys.trust import party_of

if TYPE_CHECKING:
    from tests.simulation.exchange import Simulation
    from tests.simulation.machines import DeskMachine, NodeMachine

MARK: Final = "said in a simulation, and for its readers alone"
"""Stands in every text that is said."""
MARK_BYTES: Final = MARK.encode()
COMPANY_KINDS: Final = ("nl.veldhoven-litho/supply",)
GAPS_MS: Final = 60_000
"""Longer than any channel waits for missing numbers before it tells them."""
SKIPPED: Final = (type, types.ModuleType, types.FunctionType, types.FrameType, types.CodeType, types.MethodType)


# ---- 1: a node never holds a key that opens an envelope


def i1_no_message_shows_what_is_said(ends: tuple[str, str], data: bytes) -> None:
    """Nothing that a node sends or is sent holds what was said."""
    assert MARK_BYTES not in data, f"the network from {ends[0]} to {ends[1]} carries what was said"


def i1_no_node_keeps_what_is_said(machine: "NodeMachine") -> None:
    """No file of a node holds what was said."""
    for file in machine.directory.rglob("*"):
        if file.is_file():
            assert MARK_BYTES not in file.read_bytes(), f"{file.name} of {machine.name} holds what was said"


def i1_no_node_remembers_what_is_said(machine: "NodeMachine") -> None:
    """Nothing that a node's objects lead to holds what was said."""
    for held in _reachable(machine.node):
        if isinstance(held, bytes | bytearray):
            assert MARK_BYTES not in held, f"the memory of {machine.name} holds what was said"
        elif isinstance(held, str):
            assert MARK not in held, f"the memory of {machine.name} holds what was said"


def _reachable(start: Any) -> Iterable[Any]:
    # Never through tasks or loops: those lead to every other machine of the same process.
    seen, waiting = {id(start)}, [start]
    while waiting:
        held = waiting.pop()
        yield held
        # A dictionary whose keys are all strings does not name them there.
        keys = list(held) if isinstance(held, dict) else []
        for one in (*gc.get_referents(held), *keys):
            ours = type(one).__module__.partition(".")[0] not in ("asyncio", "_asyncio", "tests")
            if id(one) not in seen and ours and not isinstance(one, SKIPPED):
                seen.add(id(one))
                waiting.append(one)


# ---- 2: nobody reads outside the agreement


def readers(sender: str, marking: str, named: Iterable[str], desks: Iterable[str]) -> frozenset[str]:
    """Who reads what, worked out from the standard agreement by hand: not with the product's own policy."""
    if marking == "RED":
        return frozenset(named)
    open_to_companies = marking == "GREEN"
    return frozenset(desk for desk in desks if desk != sender and (open_to_companies or desk not in COMPANY_KINDS))


def i2_a_reader_was_meant(sim: "Simulation", reader: "DeskMachine", delivery: Delivery) -> None:
    """What a desk is given was said to it, by that sender, there, in those words."""
    said = sim.tried.get(delivery.report.id)
    assert said is not None, f"{reader.name} was given a report that nobody wrote"
    assert rep.Item.FromString(delivery.raw).report.SerializeToString() == said.report, "a report was altered"
    assert (delivery.sender, delivery.channel) == (said.desk, said.channel), f"{said.desk} did not say that there"
    meant = reader.name in said.readers or (reader.newcomer and said.marking != "RED")
    assert meant, f"{reader.name} was given what {said.desk} said to {sorted(said.readers)}"


# ---- 4: what a node acknowledged survives


def i4_receipts_hold(sim: "Simulation", machine: "NodeMachine") -> None:
    """Whatever a desk holds a receipt for is in the log of its node, where the receipt says."""
    assert machine.store is not None
    for desk in sim.desks.values():
        if machine.restored or not desk.up or desk.desk is None or desk.desk.settings.node != machine.name:
            continue
        for identity, position in desk.receipts():
            held = machine.store.position_of(identity)
            assert held == position, f"{machine.name} acknowledged at {position} what it now holds at {held}"


def i4_cosigned_is_remembered(sim: "Simulation", machine: "NodeMachine") -> None:
    """A node remembers every head that it cosigned: else it could be shown another history."""
    assert machine.store is not None
    for origin, size in machine.cosigned.items():
        note = machine.store.note(origin)
        held = checkpoint.parse(note).size if note else 0
        assert machine.restored or held >= size, f"{machine.name} cosigned {origin} at {size} and remembers {held}"


def i4_heads_are_durable(sim: "Simulation") -> None:
    """No node signs beyond what its disk holds."""
    for machine in sim.nodes.values():
        if machine.up and machine.node is not None:
            writer = machine.node._writer
            assert writer.size <= writer.durable_size, f"{machine.name} signed {writer.size} of {writer.durable_size}"


# ---- 5: nothing is lost, repeated, or held back without a word


def i5_all_is_read_once(sim: "Simulation", machine: "DeskMachine") -> None:
    """The archive holds a report once, and its reader was given it again only around a crash or a failing disk.

    Or when it was shown early: the call may end before that is confirmed, and what is sealed again is not known for a
    repeat yet. What it was given and proved is in the archive.
    """
    assert machine.desk is not None
    inbox = [(delivery.sender, delivery.report.id) for delivery in machine.desk.inbox()]
    assert len(inbox) == len(set(inbox)), f"{machine.name} keeps a report twice"
    held = {identity for _, identity in inbox}
    for identity in sim.kept.get(machine.name, ()):
        assert identity in held, f"{machine.name} was given {identity.hex()} and does not keep it"
    again = machine.crashes + machine.restored + len(machine.told)
    again += sum(isinstance(event, Unconfirmed | DiskFailed) for event in machine.events())
    if machine.early:
        # A repeat may be shown early (Desk.subscribe): of a sender that comes from a backup, or by a node that lies.
        again += sum(desk.restored for desk in sim.desks.values()) + (2 if sim.liars else 0)
        told = [event for desk in sim.desks.values() for event in desk.events()]
        again += sum(isinstance(event, SealedAgain) for event in told)
        again += sum(event.sealed_again for event in told if isinstance(event, NewLog))
    for identity, count in sim.arrived.get(machine.name, {}).items():
        assert count <= 1 + again, f"{machine.name} was given {identity.hex()} {count} times"


def i5_order_is_kept(sim: "Simulation", machine: "DeskMachine") -> None:
    """What one desk said to the same readers on one channel is read in the order in which it was said."""
    orders: dict[tuple[object, ...], list[int]] = {}
    for identity in dict.fromkeys(sim.order.get(machine.name, [])):
        said = sim.said.get(identity)
        if said is not None:
            orders.setdefault((said.desk, said.channel, said.marking, said.readers), []).append(said.number)
    for way, numbers in orders.items():
        if machine.newcomer:
            # What was said before it came was not for it: it may be given that later, when it is sealed again.
            numbers = [number for number in numbers if number >= numbers[0]]
        assert numbers == sorted(numbers), f"{machine.name} reads {way[0]} out of order: {numbers}"


def _gone(sim: "Simulation", machine: "DeskMachine") -> Iterator[env.Header]:
    """Headers of what a desk read and keeps no more, as the nodes' logs have them."""
    assert machine.desk is not None
    ids = [identity for (identity,) in machine.desk.archive._db.execute("SELECT id FROM gone").fetchall()]
    for store in [node.store for node in sim.nodes.values() if node.store is not None]:
        rows = [store.get(position) for identity in ids if (position := store.position_of(identity)) is not None]
        yield from (header_of(row.data, pruned=row.pruned) for row in rows if row is not None and not row.damaged)


def i5_what_is_missing_is_told(sim: "Simulation", machine: "DeskMachine") -> None:
    """Below the newest number read of a stream each number is kept, or its reader heard of it.

    Who depends on a liar may still wait for one, as long as its channel does: desks say things by themselves to the end.
    """
    assert machine.desk is not None
    heard = machine.events()
    told = {(gap.stream, number) for gap in heard if isinstance(gap, Gap) for number in range(gap.first, gap.last + 1)}
    waited_ms = machine.clock() - GAPS_MS
    for row in itertools.chain.from_iterable(machine.desk.archive.missing(channel) for channel in sim.channels):
        if sim.liars and row.since_ms > waited_ms:
            told.update((row.stream, number) for number in range(row.first, row.last + 1))
    refused = {event.id for event in heard if isinstance(event, Refused)}
    kept: dict[bytes, set[int]] = {}
    for received in machine.desk.archive.received():
        header = sim.header_of(received.header)
        kept.setdefault(header.stream, set()).add(header.seq)
    for header in _gone(sim, machine):
        # A heartbeat was read, and a newer one took its place.
        kept.setdefault(header.stream, set()).add(header.seq)
    for stream, numbers in kept.items():
        silent = [n for n in range(1, max(numbers)) if n not in numbers and (stream, n) not in told]
        assert not silent or refused, f"{machine.name} does not hear that it misses {silent}"


def i5_nobody_is_accused(sim: "Simulation", machine: "DeskMachine") -> None:
    """Where nobody lies no desk hears of forks or conflicts, nor of another machine with its keys unless it was restored."""
    accused = [
        event
        for event in machine.events()
        if isinstance(event, Conflict) or (isinstance(event, Restored) and not machine.restored)
    ]
    assert not accused, f"{machine.name} hears: {accused[0]}"


STEPS: Final[tuple[Callable[["Simulation"], None], ...]] = (i4_heads_are_durable,)


def own_party(desk: str, node: str) -> bool:
    """Whether a desk is of the party of a node."""
    return party_of(desk) == party_of(node)
