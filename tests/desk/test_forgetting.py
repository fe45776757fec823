"""Seeds are destroyed when nothing under way needs them, not before, and then old traffic stays closed. Attacks 1, 20."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from exchange import envelope
from exchange.desk import Desk, Overdue, forgetting
from exchange.desk.archive import Archive
from exchange.desk.forgetting import Forgetting
from keys import courier_store, suite
from keys.courier import CourierKey
from keys.errors import OpenError
from keys.keystore import KeystoreError
from keys.trust import week_of
from keys.windows import Bounds, card_kept_until_ms
from tests.desk import memory
from tests.desk.memory import Exchange
from tests.desk.test_couriers import HAGUE, SEOUL, enter, read, require_couriers, send
from tests.world import NOON, World, found

HOUR = 3600_000
DAY = 24 * HOUR
WEEK = week_of(NOON)
BOUNDS = Bounds(72 * HOUR, 14 * DAY, 300_000)
DUE = card_kept_until_ms(WEEK, BOUNDS)
CHANNELS = ("alerts", "chips", "consultation", "equipment", "logistics", "materials", "minerals")


async def drain(desk: Desk, *channels: str) -> list[str]:
    return [text for channel in channels or CHANNELS for text in await read(desk, channel)]


def seeds(exchange: Exchange, desk: str = SEOUL) -> list[int]:
    with exchange.keystore(desk) as store:
        return sorted(int(name[5:]) for name in store.names() if name.startswith("card-"))


async def once(exchange: Exchange, desk: str = SEOUL) -> list[int]:
    """What a desk destroys at its start."""
    opened = exchange.open(desk)
    gone = opened._forgetting.once()
    opened.close()
    return gone


async def test_a_seed_is_kept_until_its_week_l_2s_and_the_node_is_read_past_that(exchange: Exchange) -> None:
    await send(exchange, "this week")
    async with exchange.open(SEOUL) as desk:
        assert await drain(desk) == ["this week"]
    exchange.clock.now_ms = DUE - 1
    async with exchange.open(SEOUL) as desk:
        await drain(desk)
    assert await once(exchange) == []
    # Due, but what was read was read before: something sealed in time may have come since.
    exchange.clock.now_ms = DUE
    assert await once(exchange) == []
    assert WEEK in seeds(exchange)
    async with exchange.open(SEOUL) as desk:
        await drain(desk)
    assert await once(exchange) == [WEEK]
    assert WEEK not in seeds(exchange)
    assert seeds(exchange)[0] == WEEK + 1


async def test_a_desk_that_starts_destroys_by_itself(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its start, and daily while it runs."""
    monkeypatch.setattr(forgetting, "LOOK_S", 0.01)
    exchange.clock.now_ms = DUE - HOUR
    async with exchange.open(SEOUL) as desk:
        await drain(desk)
        assert WEEK in seeds(exchange)
        exchange.clock.now_ms = DUE + HOUR
        await drain(desk)
        exchange.clock.now_ms = DUE + DAY
        async with asyncio.timeout(10):
            while WEEK in seeds(exchange):
                await asyncio.sleep(0.01)


async def test_a_desk_that_did_not_read_everything_keeps_it_and_says_so(exchange: Exchange) -> None:
    exchange.clock.now_ms = DUE + DAY
    desk = exchange.open(SEOUL)
    await drain(desk, *(c for c in CHANNELS if c not in ("chips", "logistics")))
    assert desk._forgetting.once() == []
    assert desk._forgetting.once() == []
    assert [one for one in desk.events() if isinstance(one, Overdue)] == [Overdue(WEEK, DUE, ("chips", "logistics"))]
    await drain(desk, "chips")
    assert desk._forgetting.once() == []
    await drain(desk, "logistics")
    assert desk._forgetting.once() == [WEEK]
    desk.close()


async def test_a_node_that_shows_an_old_head_ends_no_seed(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """It withholds a letter behind a head of last month; with the check on the head's time off, the seed is lost."""
    await send(exchange, "withheld")
    exchange.clock.now_ms = DUE + DAY
    real = memory.checkpoint.sign

    def old(*given: object, time_ms: int, **named: object) -> bytes:
        return real(*given, time_ms=DUE - DAY, **named)  # type: ignore[arg-type]

    (withheld,) = captured(exchange)
    exchange.log.hide = lambda data: data == withheld
    with monkeypatch.context() as patch:
        patch.setattr(memory.checkpoint, "sign", old)
        async with exchange.open(SEOUL) as desk:
            assert await drain(desk) == []
    assert await once(exchange) == []
    desk = exchange.open(SEOUL)
    with desk.archive.transaction():
        for channel in CHANNELS:
            desk.archive.set_drained(channel, exchange.clock())
    assert desk._forgetting.once() == [WEEK]
    desk.close()


async def test_a_clock_that_runs_ahead_ends_no_seed(exchange: Exchange) -> None:
    await send(exchange, "under way")
    async with exchange.open(SEOUL) as desk:
        # The node's clock is right: its heads are of today.
        desk._own.clock = memory.Clock(DUE + DAY)
        await drain(desk, "materials", "chips")
        assert max(desk.archive.drained_ms(channel) for channel in CHANNELS) <= exchange.clock()
        assert desk._forgetting.once() == []


async def test_a_wider_agreement_counts(exchange: Exchange, world: World) -> None:
    """The channels and bounds of every agreement that counted in that week."""
    desk = exchange.open(SEOUL)
    assert desk._forgetting.channels(WEEK) == list(CHANNELS)
    desk.trust.agreement(NOON).channels["chips"].read.clear()
    desk.trust.agreement(NOON).channels["alerts"].read.clear()
    del desk.trust.agreement(NOON).channels["alerts"].publish[:]
    # Answers come back on what one may publish, so `chips` stays.
    assert desk._forgetting.channels(WEEK) == [c for c in CHANNELS if c != "alerts"]
    desk.close()


def captured(exchange: Exchange) -> list[bytes]:
    return [data for _, kind, data in exchange.log.entries if kind == memory.pb.ENTRY_KIND_ENVELOPE]


async def stolen(exchange: Exchange, data: bytes) -> tuple[bytes, ...]:
    """What a thief of the whole keystore opens of captured traffic, with every seed in it."""
    parsed = envelope.parse(data)
    checked = envelope.check(parsed, exchange.world.desks[HAGUE].public)
    with exchange.keystore(SEOUL) as store:
        for name in store.names():
            if name.startswith("card-"):
                try:
                    return envelope.open_envelope(checked, desk=SEOUL, card=suite.CardKey.from_seed(store.get(name)))
                except OpenError:
                    continue
    raise OpenError("no seed opens it")


async def test_20_envelopes_of_earlier_cards_stay_closed(exchange: Exchange) -> None:
    """01 too: captured traffic cannot be opened after a card seed's destruction; before it, it can."""
    await send(exchange, "captured")
    (data,) = captured(exchange)
    async with exchange.open(SEOUL) as desk:
        await drain(desk)
    assert b"captured" in (await stolen(exchange, data))[0]
    exchange.clock.now_ms = DUE
    async with exchange.open(SEOUL) as desk:
        await drain(desk)
    # The check off is the destruction not done: the seed opens it still.
    assert b"captured" in (await stolen(exchange, data))[0]
    assert await once(exchange) == [WEEK]
    with pytest.raises(OpenError):
        await stolen(exchange, data)
    # The desk itself cannot open it again either; its archive holds the text.
    desk = exchange.open(SEOUL)
    assert [delivery.report.summary[0].text for delivery in desk.inbox()] == ["captured"]
    with pytest.raises(OpenError, match="no key card seed"):
        desk._own.cards.of(WEEK)
    desk.close()


async def test_20_no_byte_of_a_seed_is_left_in_the_keystore_file(exchange: Exchange) -> None:
    """Not in the file, not in the blocks of the files it replaced, not in the desk's memory of opened cards."""
    path = exchange.directories[SEOUL] / "desk.keys"
    exchange.clock.now_ms = DUE
    desk = exchange.open(SEOUL)
    desk._own.cards.of(WEEK)
    await drain(desk)
    with path.open("rb") as before:
        assert desk._forgetting.once() == [WEEK]
        before.seek(0)
        assert not any(before.read())
    assert WEEK not in desk._own.cards._opened
    desk.close()


async def test_what_cannot_be_destroyed_today_is_tried_tomorrow(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange.clock.now_ms = DUE
    tries: list[int] = []

    def failing(self: Forgetting) -> list[int]:
        tries.append(1)
        raise KeystoreError("the disk is full")

    monkeypatch.setattr(Forgetting, "once", failing)
    monkeypatch.setattr(forgetting, "DAY_MS", 0)
    async with exchange.open(SEOUL):
        async with asyncio.timeout(10):
            while len(tries) < 3:
                await asyncio.sleep(0.01)


async def test_a_desk_no_roster_lists_destroys_nothing(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = exchange.open(SEOUL)
    monkeypatch.setattr(desk._own, "listed", lambda: False)
    exchange.clock.now_ms = DUE + 100 * DAY
    assert desk._forgetting.once() == []
    desk.close()


def test_how_far_was_read_never_goes_back(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "desk.db", bytes(32))
    for time_ms in (5, 3):
        with archive.transaction():
            archive.set_drained("minerals", time_ms)
    assert (archive.drained_ms("minerals"), archive.drained_ms("chips")) == (5, 0)
    archive.close()
    with pytest.raises(sqlite3.Error):
        archive._db.execute("SELECT 1")


# --- courier keys ---


async def test_old_courier_keys_go_the_same_way(tmp_path: Path) -> None:
    made = memory.exchange(tmp_path, found(weeks=0, change=require_couriers), HAGUE, SEOUL)
    await made.synchronise()
    old = CourierKey("bag", NOON - DAY - NOON % 1000, bytes(range(1, 33)))
    new = CourierKey("bag", NOON + DAY - NOON % 1000, bytes(range(2, 34)))
    enter(made, SEOUL, old, new, CourierKey("other", old.first_use_ms, bytes(range(3, 35))))
    due = new.first_use_ms + BOUNDS.in_flight_ms

    def ids() -> set[bytes]:
        with made.keystore(SEOUL) as store:
            return {key.id for key in courier_store.held(store, "bag")}

    made.clock.now_ms = due - 1
    async with made.open(SEOUL) as desk:
        await drain(desk)
        desk._forgetting.once()
        assert ids() == {old.id, new.id}
        made.clock.now_ms = due
        desk._forgetting.once()  # due, but not read past it
        assert ids() == {old.id, new.id}
        await drain(desk)
        desk._forgetting.once()
        assert ids() == {new.id}
        made.clock.now_ms = due + 1000 * DAY
        desk._forgetting.once()
        assert ids() == {new.id}  # the newest stays: it seals
