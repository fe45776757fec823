"""A hub in the capital: two nodes with no line between them exchange through a third, which need not be trusted."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from exchange import files
from exchange.clock import now_ms
from exchange.demo.found import Founded, found, free_ports
from exchange.desk import Desk
from exchange.errors import LimitError
from exchange.node import directory as nodes
from exchange.node.app import App
from exchange.wire import UnreachableError
from keys import documents, founding
from keys.v1 import documents_pb2 as pb
from tests.desk.test_desk import HAGUE, SEOUL, said
from tests.node.cluster import eventually

KR, NL, HUB = "kr.the-hague-1", "nl.seoul-1", "kr.capital-1"


def with_hub(founded: Founded, relays: Sequence[str]) -> Path:
    """One more node of kr, which hosts nobody; the next roster says for which missions it relays."""
    at = founded.directory / HUB
    ports = free_ports(2)
    settings = nodes.NodeSettings(
        name=HUB,
        lineage=founded.lineage.hex(),
        endpoint=f"127.0.0.1:{ports[0]}",
        enrol_endpoint=f"127.0.0.1:{ports[1]}",
    )
    entry = nodes.init(at, settings, fast_kdf=True)
    entry.relays.extend(relays)
    kr, now = founded.parties["kr"], now_ms()
    body = documents.body(founded.rosters["kr"], pb.Roster)
    body.nodes.append(entry)
    roster = founding.next_roster(kr, body, lineage=founded.lineage, previous=founded.rosters["kr"], now_ms=now)
    status = founding.status(
        kr, lineage=founded.lineage, agreement=founded.agreement, roster=roster, version=2, now_ms=now
    )
    for directory in (at, founded.node("kr"), founded.node("nl")):
        files.save_bundle(directory / files.BUNDLE, [*founded.held, roster, status])
    return at


def knows_only(app: App, *peers: str) -> App:
    """There is no line to any other node."""
    app.peers = lambda: sorted(peers)  # type: ignore[method-assign]
    line = app.connect

    def connect(peer: str) -> object:
        if peer not in peers:
            raise UnreachableError(f"there is no line to {peer}")
        return line(peer)

    app.connect = connect  # type: ignore[method-assign,assignment]
    return app


async def test_two_nodes_with_no_line_between_them_exchange_through_a_hub(tmp_path: Path) -> None:
    founded = found(tmp_path / "x", title="hub", clock=lambda: now_ms() - 60_000)
    hub = with_hub(founded, ["kr.motie", "kr.the-hague"])
    async with (
        knows_only(App(founded.node("kr")), HUB).serving() as kr,
        knows_only(App(founded.node("nl")), HUB).serving() as nl,
        App(hub).serving() as between,
        Desk.open(founded.desk(HAGUE)) as embassy,
        Desk.open(founded.desk(SEOUL)) as other,
    ):
        there = await embassy.publish("minerals", said("there"))
        assert await embassy.flush(20) == 0
        await eventually(lambda: nl.node.store.position_of(there) is not None)
        back = await other.publish("minerals", said("and back"))
        assert await other.flush(20) == 0
        await eventually(lambda: kr.node.store.position_of(back) is not None)
        assert between.node.store.position_of(back) is not None
        for desk, words in ((other, "there"), (embassy, "and back")):
            assert await asyncio.wait_for(first(desk), 20) == words
        # Delivered is what the reader's own node signed, whoever carried it.
        await eventually(
            lambda: all(reader.delivered for reader in embassy.track(there).readers if reader.desk == SEOUL)
        )
        await eventually(lambda: all(reader.delivered for reader in other.track(back).readers if reader.desk == HAGUE))


async def test_a_node_that_relays_for_nobody_is_given_nothing(tmp_path: Path) -> None:
    founded = found(tmp_path / "x", title="hub", clock=lambda: now_ms() - 60_000)
    hub = with_hub(founded, [])
    async with (
        knows_only(App(founded.node("kr")), HUB).serving() as kr,
        knows_only(App(founded.node("nl")), HUB).serving() as nl,
        App(hub).serving() as between,
        Desk.open(founded.desk(HAGUE)) as embassy,
    ):
        there = await embassy.publish("minerals", said("there"))
        assert await embassy.flush(20) == 0
        await eventually(lambda: between.node.store.cursor(kr.node.origin) == kr.node.store.size())
        assert between.node.store.position_of(there) is None
        assert nl.node.store.position_of(there) is None
        with pytest.raises(LimitError):
            await between.node.places.show([there], NL, by=KR)


async def first(desk: Desk) -> str:
    """Text of the first report that another desk said."""
    async for delivery in desk.subscribe("minerals"):
        if delivery.kind == "report" and delivery.sender != desk.name:
            return str(delivery.report.summary[0].text)
    raise AssertionError("the subscription ended")
