"""A number that its sender withdrew, shown late by a node that had refused and kept it, frames nobody (attack 34)."""

import pytest

from exchange.desk import Conflict
from exchange.desk.archive import Archive
from exchange.desk.events import Event
from exchange.envelope import Parsed, seal
from exchange.v1 import report_pb2 as rep
from tests.desk.memory import Exchange
from tests.desk.test_desk import said
from tests.world import draft, public_cards

HAGUE, SEOUL = "kr.the-hague/economic", "nl.seoul/economic"


def sealed(exchange: Exchange, text: str, seq: int, prev: tuple[int, bytes]) -> Parsed:
    header = draft(exchange.log.trust, seq=seq, prev=prev)
    cards = public_cards(exchange.log.trust, header)
    item = rep.Item(report=said(text)).SerializeToString()
    return seal([item], header, key=exchange.world.desks[header.sender], cards=cards)


async def told(exchange: Exchange, *order: Parsed) -> list[Event]:
    for each in order:
        exchange.log.publish(each.data)
    async with exchange.open(SEOUL) as desk:
        given = [delivery async for delivery in desk.subscribe("minerals", follow=False)]
        assert len(given) == len(order), "all that was said is given"
        return desk.events()


async def test_a_withdrawn_number_shown_late_is_no_conflict(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Number 3 stands by 1, so 2 is withdrawn; the node that refused it shows it after 3."""
    one = sealed(exchange, "one", 1, (0, b""))
    kept = sealed(exchange, "two", 2, (1, one.id))
    three = sealed(exchange, "two again", 3, (1, one.id))
    assert await told(exchange, one, three, kept) == []
    # Without asking what stands there, the honest sender is called a liar.
    monkeypatch.setattr(Archive, "at_number", lambda *_: b"another")
    late = sealed(exchange, "two, once more", 2, (1, one.id))
    (event,) = await told(exchange, late)
    assert isinstance(event, Conflict)


@pytest.mark.parametrize("seq", [1, 2])
async def test_a_second_envelope_at_a_number_that_stands_is_one(exchange: Exchange, seq: int) -> None:
    one = sealed(exchange, "one", 1, (0, b""))
    two = sealed(exchange, "two", 2, (1, one.id))
    other = sealed(exchange, "another story", seq, (0, b"") if seq == 1 else (1, one.id))
    (event,) = await told(exchange, one, two, other)
    assert isinstance(event, Conflict)
    assert "fork or restore" in str(event)
