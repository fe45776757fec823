"""Courier keys through desks: sealed with, opened with, missing, of another group, in rotation. Attacks 1 and 39."""

import os
from pathlib import Path

import pytest

from exchange import envelope
from exchange.desk import Delivery, Desk, Refused, archive, opening
from exchange.desk.couriers import Couriers
from exchange.errors import CourierError
from exchange.report import new_report_id
from exchange.v1 import report_pb2 as rep
from keys import courier, courier_store, suite
from keys.courier import CourierKey
from keys.trust import week_of
from keys.v1 import documents_pb2 as docs
from tests.desk import memory
from tests.desk.memory import Exchange
from tests.world import NOON, World, found

HAGUE, SEOUL = "kr.the-hague/economic", "nl.seoul/economic"
DAY = 24 * 3600_000
BAG = CourierKey("bag", NOON - DAY - NOON % 1000, bytes(range(1, 33)))
OTHER = CourierKey("other", BAG.first_use_ms, bytes(range(2, 34)))


def require_couriers(agreement: docs.Agreement) -> None:
    for rule in agreement.channels:
        rule.courier_group = {"minerals": "bag", "chips": "other"}.get(rule.channel, "")


@pytest.fixture(scope="module")
def world() -> World:
    return found(weeks=0, change=require_couriers)


@pytest.fixture
async def exchange(tmp_path: Path, world: World) -> Exchange:
    made = memory.exchange(tmp_path, world, HAGUE, SEOUL)
    await made.synchronise()
    return made


def enter(exchange: Exchange, desk: str, *keys: CourierKey) -> None:
    with exchange.keystore(desk) as store:
        for key in keys:
            courier_store.keep(store, key)


def said(text: str) -> rep.Report:
    return rep.Report(
        id=new_report_id(NOON, os.urandom(10)),
        subject=rep.Subject(hs="250410", item="natural graphite", stage=rep.STAGE_MINERAL),
        level=rep.STATUS_LEVEL_WATCH,
        summary=[rep.Text(language="en", text=text)],
    )


async def send(exchange: Exchange, text: str, *, channel: str = "minerals") -> bytes:
    async with exchange.open(HAGUE) as desk:
        identity = await desk.publish(channel, said(text))
        assert await desk.flush(10) == 0
        return identity


async def read(desk: Desk, channel: str = "minerals") -> list[str]:
    return [text_of(delivery) async for delivery in desk.subscribe(channel, follow=False)]


def text_of(delivery: Delivery) -> str:
    return delivery.report.summary[0].text


async def test_both_have_the_key(exchange: Exchange) -> None:
    enter(exchange, HAGUE, BAG)
    enter(exchange, SEOUL, BAG)
    await send(exchange, "by bag")
    data = exchange.log.entries[-1][2]
    header = envelope.pb.Header.FromString(envelope.parse(data).outer.header)
    assert header.courier == BAG.id
    async with exchange.open(SEOUL) as desk:
        assert await read(desk) == ["by bag"]
        assert desk.events() == []


async def test_a_channel_without_a_group_needs_none(exchange: Exchange) -> None:
    await send(exchange, "no bag", channel="materials")
    async with exchange.open(SEOUL) as desk:
        assert await read(desk, "materials") == ["no bag"]


async def test_without_the_key_nothing_is_sent_and_the_group_is_named(exchange: Exchange) -> None:
    enter(exchange, HAGUE, OTHER)
    async with exchange.open(HAGUE) as desk:
        with pytest.raises(CourierError, match="no courier key of group bag in use") as caught:
            await desk.publish("minerals", said("never"))
        assert "tocsin-keys courier enter" in caught.value.hint
        assert desk.archive.waiting() == 0
    later = CourierKey("bag", BAG.first_use_ms + 2 * DAY, os.urandom(32))
    enter(exchange, HAGUE, later)
    async with exchange.open(HAGUE) as desk:
        with pytest.raises(CourierError):
            await desk.publish("minerals", said("never"))
        exchange.clock.now_ms = later.first_use_ms
        assert await desk.publish("minerals", said("now"))


@pytest.mark.parametrize("held", [(), (OTHER,), (CourierKey("bag", BAG.first_use_ms, os.urandom(32)),)], ids=repr)
async def test_01_what_a_courier_key_seals_does_not_open_without_it(
    exchange: Exchange, held: tuple[CourierKey, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Missing or wrong: an event that names group and id, and no secret is touched. Nor does it open by force."""
    enter(exchange, HAGUE, BAG)
    enter(exchange, SEOUL, *held)
    identity = await send(exchange, "by bag")
    unwrapped: list[bytes] = []
    real = suite.CardKey.unwrap
    monkeypatch.setattr(suite.CardKey, "unwrap", lambda *a, **k: unwrapped.append(b"") or real(*a, **k))
    async with exchange.open(SEOUL) as desk:
        assert await read(desk) == []
        (event,) = desk.events()
        assert isinstance(event, Refused)
        assert (event.id, event.rule) == (identity, "COURIER_KEY")
        assert f"no courier key {BAG.id.hex()} of group bag" in event.text
        assert unwrapped == []
    # By force: the desk's own card opens the wrap, and still the content stays closed.
    monkeypatch.setattr(Couriers, "opening", lambda *_: held[0].key if held else None)
    monkeypatch.setattr(envelope, "courier_id", lambda key: BAG.id)
    async with fresh(exchange, SEOUL) as desk:
        assert await read(desk) == []
        (event,) = desk.events()
        assert isinstance(event, Refused)
        assert event.rule in ("OPEN_FAILED", "COURIER_KEY")
    assert bool(unwrapped) == bool(held)


def fresh(exchange: Exchange, desk: str) -> Desk:
    """The desk as if it had read nothing yet."""
    for file in exchange.directories[desk].glob("desk.db*"):
        file.unlink()
    return exchange.open(desk)


async def test_39_a_key_of_another_group_is_refused_before_unwrapping(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hostile sender seals `minerals` with the key of the wider group; all readers hold that one too."""
    enter(exchange, HAGUE, BAG, OTHER)
    enter(exchange, SEOUL, BAG, OTHER)
    with monkeypatch.context() as patch:
        real = Couriers.sealing
        patch.setattr(Couriers, "sealing", lambda self, group: real(self, "other" if group == "bag" else group))
        await send(exchange, "guessed")
    unwrapped: list[bytes] = []
    real_unwrap = suite.CardKey.unwrap
    monkeypatch.setattr(suite.CardKey, "unwrap", lambda *a, **k: unwrapped.append(b"") or real_unwrap(*a, **k))
    async with exchange.open(SEOUL) as desk:
        assert await read(desk) == []
        (event,) = desk.events()
        assert isinstance(event, Refused)
        assert event.rule == "COURIER_KEY"
        assert unwrapped == []
    # With the check off (any key held will do) it is read.
    held = courier_store.held
    monkeypatch.setattr(courier_store, "held", lambda store, group=None: held(store))
    async with fresh(exchange, SEOUL) as desk:
        assert await read(desk) == ["guessed"]


async def test_39_no_key_on_a_channel_that_requires_one(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(exchange, HAGUE, BAG)
    enter(exchange, SEOUL, BAG)
    with monkeypatch.context() as patch:
        patch.setattr(Couriers, "sealing", lambda *_: None)
        await send(exchange, "downgraded")
    async with exchange.open(SEOUL) as desk:
        assert await read(desk) == []
        (event,) = desk.events()
        assert isinstance(event, Refused)
        assert event.rule == "COURIER_KEY"
        assert "requires" in event.text
    # With the checks off: the rule asks for no group.
    exchange.log.trust.agreement(NOON).channels["minerals"].courier_group = ""
    desk = fresh(exchange, SEOUL)
    desk.trust.agreement(NOON).channels["minerals"].courier_group = ""
    async with desk:
        assert await read(desk) == ["downgraded"]


async def test_39_a_key_on_a_channel_that_allows_none(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a sender could shut out by a key that nobody else has."""
    enter(exchange, HAGUE, BAG)
    with monkeypatch.context() as patch:
        real = Couriers.sealing
        patch.setattr(Couriers, "sealing", lambda self, group: real(self, group or "bag"))
        await send(exchange, "shut out", channel="materials")
    async with exchange.open(SEOUL) as desk:
        assert await read(desk, "materials") == []
        (event,) = desk.events()
        assert isinstance(event, Refused)
        assert event.rule == "COURIER_KEY"
        assert "uses no courier key" in event.text


async def test_two_keys_during_rotation_lose_nothing(exchange: Exchange) -> None:
    """The newest in use seals, every one held opens; a reader who got the new key early reads both."""
    after = CourierKey("bag", NOON + DAY - NOON % 1000, os.urandom(32))
    for desk in (HAGUE, SEOUL):
        enter(exchange, desk, BAG, after)
    await send(exchange, "with the old")
    exchange.clock.now_ms = after.first_use_ms
    await send(exchange, "with the new")
    async with exchange.open(SEOUL) as desk:
        assert await read(desk) == ["with the old", "with the new"]
        assert desk.events() == []
    ids = [
        envelope.pb.Header.FromString(envelope.parse(data).outer.header).courier
        for _, kind, data in exchange.log.entries
        if kind == memory.pb.ENTRY_KIND_ENVELOPE
    ]
    assert ids == [BAG.id, after.id]


async def test_a_key_entered_while_the_desk_runs_counts_at_once(exchange: Exchange) -> None:
    async with exchange.open(HAGUE) as desk:
        with pytest.raises(CourierError):
            await desk.publish("minerals", said("early"))
        enter(exchange, HAGUE, BAG)
        assert await desk.publish("minerals", said("now"))


async def test_two_sheets_typed_abroad_open_what_is_sent(exchange: Exchange) -> None:
    one, two = courier.split(BAG)
    enter(exchange, HAGUE, BAG)
    enter(exchange, SEOUL, courier.join(courier.parse_sheet(one.text()), courier.parse_sheet(two.text())))
    await send(exchange, "typed")
    async with exchange.open(SEOUL) as desk:
        assert await read(desk) == ["typed"]


async def test_what_came_before_its_key_opens_when_the_bag_arrives(exchange: Exchange) -> None:
    """In order, once, marked as late; also across restarts, and while the desk goes on reading."""
    enter(exchange, HAGUE, BAG)
    for text in ("one", "two"):
        await send(exchange, text)
    async with exchange.open(SEOUL) as desk:
        assert await read(desk) == []
        assert [event.rule for event in desk.events() if isinstance(event, Refused)] == ["COURIER_KEY"] * 2
        assert await read(desk) == []
        assert desk.events() == []  # said once
    enter(exchange, SEOUL, BAG)
    await send(exchange, "three")
    async with exchange.open(SEOUL) as desk:
        came = [delivery async for delivery in desk.subscribe("minerals", follow=False)]
        assert sorted(map(text_of, came)) == ["one", "three", "two"]
        assert [text_of(one) for one in came if opening.LATE in one.warnings] == ["one", "two"]
        assert desk.archive.shelved() == 0
        assert await read(desk) == []
        assert desk.events() == []
        assert sorted(map(text_of, desk.inbox("minerals"))) == ["one", "three", "two"]


async def test_what_came_early_without_its_key_opens_when_the_bag_arrives(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node confirms it with an entry that has no data: what is shelved is what came early."""
    enter(exchange, HAGUE, BAG)
    await send(exchange, "early")
    subscribe = memory._Stub.Subscribe
    monkeypatch.setattr(memory._Stub, "Subscribe", memory.ahead)
    async with exchange.open(SEOUL) as desk:
        assert await read(desk) == []
        assert [event.rule for event in desk.events() if isinstance(event, Refused)] == ["COURIER_KEY"]
        enter(exchange, SEOUL, BAG)
        monkeypatch.setattr(memory._Stub, "Subscribe", subscribe)
        assert await read(desk) == ["early"]
        assert desk.events() == []


async def test_the_shelf_is_bounded(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_SHELF", 3)
    enter(exchange, HAGUE, BAG)
    for number in range(5):
        await send(exchange, f"{number}")
    async with exchange.open(SEOUL) as desk:
        assert await read(desk) == []
        assert desk.archive.shelved() == 3
        enter(exchange, SEOUL, BAG)
        assert await read(desk) == ["2", "3", "4"]


async def test_what_no_key_can_open_any_more_leaves_the_shelf(exchange: Exchange) -> None:
    enter(exchange, HAGUE, BAG)
    await send(exchange, "too late")
    async with exchange.open(SEOUL) as desk:
        assert await read(desk) == []
        desk.events()
        desk._own.cards.destroy(week_of(NOON))
        enter(exchange, SEOUL, BAG)
        assert await read(desk) == []
        (event,) = desk.events()
        assert isinstance(event, Refused)
        assert event.rule == "OPEN_FAILED"
        assert desk.archive.shelved() == 0
