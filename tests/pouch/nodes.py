"""Nodes of the test world in this process, with real files, under a clock the test turns; no network."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from exchange import envelope
from exchange.envelope import Parsed
from exchange.node.core import Node
from exchange.node.entries import hinted
from exchange.store.sqlite import SqliteStore
from keys.documents import Document
from keys.trust import Trust
from tests.mail import send
from tests.world import NOON, World, draft

KR, NL = "kr.the-hague-1", "nl.seoul-1"
T = TypeVar("T")


class Inline:
    """Workers that do the work at once."""

    async def run(self, func: Callable[..., T], /, *args: object) -> T:
        return func(*args)


class Clock:
    """Milliseconds UTC; stands until it is turned."""

    def __init__(self, now_ms: int = NOON) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


def store_in(directory: Path, name: str) -> SqliteStore:
    """A node's log on disk."""
    directory.mkdir(exist_ok=True)
    return SqliteStore(directory / f"{name}.db")


@asynccontextmanager
async def node(
    world: World, name: str, directory: Path, clock: Clock, *, empty: bool = False, store: SqliteStore | None = None
) -> AsyncIterator[Node]:
    """A node that holds the world's documents, or only its lineage; over another store than the one in its directory."""
    running = Node(
        name,
        store=store or store_in(directory, name),
        trust=Trust(world.lineage),
        log_key=world.log_keys[name],
        clock=clock,
        workers=Inline(),
    )
    await running.start()
    if not empty and running.store.size() == 0:
        for _, error in await running.take_documents([d.encode() for d in world.documents], now_ms=clock()):
            assert error is None, error
    try:
        yield running
    finally:
        await running.stop()


async def publish(at: Node, world: World, count: int, *, stream: bytes = b"s" * 16, **fields: object) -> list[Parsed]:
    """Envelopes of one stream, taken by a node."""
    made: list[Parsed] = []
    sender = str(fields.pop("sender", "kr.the-hague/economic"))
    for seq in range(1, count + 1):
        prev = (seq - 1, made[-1].id) if made else (0, b"")
        header = draft(at.trust, sender=sender, seq=seq, prev=prev, stream=stream, **fields)  # type: ignore[arg-type]
        made.append(send(at.trust, header, at=world, content=[f"{sender} {seq}".encode()]))
        _, receipt = await at.publish(made[-1].data, by=sender, now_ms=NOON)
        await receipt
    return made


async def take(at: Node, *made: Document, now_ms: int) -> None:
    """Documents into a node."""
    for _, error in await at.take_documents([d.encode() for d in made], now_ms=now_ms):
        assert error is None, error


def holds(at: Node, parsed: Parsed) -> bool:
    """Whether a node's log holds an envelope."""
    return at.store.position_of(parsed.id) is not None


def opened(world: World, desk: str, at: Node, parsed: Parsed) -> bytes:
    """What a desk reads in its node's copy."""
    position = at.store.position_of(parsed.id)
    assert position is not None
    row = at.store.get(position)
    assert row is not None
    again = envelope.parse(row.data)
    checked = envelope.check(again, world.desks[hinted(again).sender].public)
    return envelope.open_envelope(checked, desk=desk, card=world.card(desk, checked.header.create_time_ms))[0]
