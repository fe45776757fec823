"""A node shows a desk the documents of another exchange. Attack 16."""

import pytest

from exchange.v1 import exchange_pb2 as pb
from keys import documents, founding
from keys.documents import Document
from keys.trust.held import Held
from keys.v1 import documents_pb2 as docs
from tests.desk.memory import Exchange
from tests.desk.test_couriers import SEOUL, read, send
from tests.world import World, found


def show(exchange: Exchange, *shown: Document) -> None:
    """A hostile node: its log holds whatever it likes."""
    exchange.log.entries += [(each.digest, pb.ENTRY_KIND_DOCUMENT, each.encode()) for each in shown]


async def test_16_what_a_node_shows_of_another_exchange_changes_nothing_at_a_desk(
    exchange: Exchange, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = found(weeks=0)
    # Its keys are those of the parties, who signed it for another exchange.
    ours = founding.next_roster(
        world.parties["kr"],
        documents.body(world.rosters["kr"], docs.Roster),
        lineage=stranger.lineage,
        previous=world.rosters["kr"],
        now_ms=exchange.clock(),
    )
    show(exchange, *stranger.documents, ours)
    await send(exchange, "as ever")
    async with exchange.open(SEOUL) as desk:
        assert await read(desk) == ["as ever"]
        assert desk.trust.lineage == world.lineage
        assert desk.trust.roster("kr").document == world.rosters["kr"]
        assert not any(desk.trust.holds(each.digest) for each in (*stranger.documents, ours))
    monkeypatch.setattr(Held, "require_lineage", lambda *_: None)
    async with exchange.open(SEOUL) as desk:
        show(exchange, ours)
        await read(desk)
        assert desk.trust.roster("kr").document == ours, "without the check it is taken"
