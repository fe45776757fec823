"""Numbers that did not come: waited for, asked for, put in order, and told with the node that did not give them. Attack 11."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from exchange import envelope
from exchange.desk import Delivery, Desk, Gap, Refused, reading
from exchange.desk import gaps as product
from exchange.desk.archive import Archive
from exchange.desk.gaps import Hold
from exchange.envelope import Parsed
from exchange.errors import ProofError
from exchange.v1 import exchange_pb2 as pb
from exchange.v1 import report_pb2 as rep
from tests.desk import memory
from tests.desk.memory import Exchange
from tests.desk.test_desk import said
from tests.world import draft, public_cards

HAGUE, SEOUL, MINE = "kr.the-hague/economic", "nl.seoul/economic", "kr.the-hague-1"
WAIT_MS = 31_000
"""Longer than the agreement waits on `minerals`."""


def sealed(exchange: Exchange, count: int, *, channel: str = "minerals", sender: str = HAGUE) -> list[Parsed]:
    """Numbers 1 to `count` of one stream, in no log."""
    made: list[Parsed] = []
    for seq in range(1, count + 1):
        prev = (seq - 1, made[-1].id) if made else (0, b"")
        header = draft(exchange.log.trust, seq=seq, prev=prev, channel=channel, sender=sender)
        item = rep.Item(report=said(f"text {seq}")).SerializeToString()
        cards = public_cards(exchange.log.trust, header)
        made.append(envelope.seal([item], header, key=exchange.world.desks[sender], cards=cards))
    return made


def log(exchange: Exchange, *parsed: Parsed) -> None:
    for one in parsed:
        exchange.log.publish(one.data)


async def read(desk: Desk, channel: str = "minerals") -> list[str]:
    return [text_of(one) async for one in desk.subscribe(channel, follow=False)]


def text_of(delivery: Delivery) -> str:
    return delivery.report.summary[0].text


class Feed:
    """A desk that follows; what the log gets is shown to it when it is told so."""

    def __init__(self, exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
        self._exchange = exchange
        self._call: Any = None
        self._subscribe = memory._Stub.Subscribe
        monkeypatch.setattr(memory._Stub, "Subscribe", lambda stub, request: self._open(stub, request))

    def _open(self, stub: Any, request: pb.SubscribeRequest) -> Any:
        self._stub, self._request = stub, request
        self._call = self._subscribe(stub, request)
        # Its end-of-call comes when the call is cancelled, not after the first answer.
        answers, self._call._waiting = self._call._waiting, asyncio.Queue()
        while not answers.empty():
            one = answers.get_nowait()
            if isinstance(one, pb.SubscribeResponse):
                self._request.seen_size = pb_size(one)
                self._request.position = one.next_position
                self._call._waiting.put_nowait(one)
        return self._call

    def show(self) -> None:
        """What is new."""
        answer = self._exchange.log.read(self._stub._node, self._request)
        self._request.position = self._request.seen_size = answer.next_position
        self._call._waiting.put_nowait(answer)


def pb_size(answer: pb.SubscribeResponse) -> int:
    return memory.checkpoint.parse(answer.checkpoint).size


async def given(deliveries: AsyncIterator[Delivery], count: int) -> list[Delivery]:
    return [await asyncio.wait_for(anext(deliveries), 5) for _ in range(count)]


async def test_what_the_stream_of_entries_hid_is_asked_for_and_read_in_order(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = sealed(exchange, 5)
    log(exchange, *made)
    show = memory.Log.read

    def hides(self: memory.Log, node: str, request: pb.SubscribeRequest) -> pb.SubscribeResponse:
        answer = show(self, node, request)
        kept = [entry for entry in answer.entries if entry.leaf not in (made[1].id, made[2].id)]
        del answer.entries[:]
        answer.entries.extend(kept)
        return answer

    monkeypatch.setattr(memory.Log, "read", hides)
    async with exchange.open(SEOUL) as desk:
        assert await read(desk) == [f"text {n}" for n in range(1, 6)]
        assert desk.events() == []
        assert desk.archive.missing("minerals") == []


@pytest.mark.parametrize("fault", ["proof", "text", "other"])
async def test_what_is_given_for_a_missing_number_is_verified(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """A node that gives what its log does not hold, what was altered, or what nobody asked for, gives nothing."""
    made, other = sealed(exchange, 3), sealed(exchange, 1, channel="chips")[0]
    log(exchange, made[0], made[2], other)

    def lies(self: memory.Log, node: str, request: pb.GetNumbersRequest) -> pb.GetNumbersResponse:
        answer = pb.GetNumbersResponse(checkpoint=self.note(node), last_seq=3, last_id=made[2].id)
        leaf, data, at = made[1].id, made[1].data, len(self.entries) - 1
        if fault == "text":
            at = len(self.entries) - 2
            leaf, data = self.entries[at][0], made[1].data
        elif fault == "other":
            leaf, data = other.id, other.data
        if request.first_seq:
            answer.entries.add(position=at, kind=pb.ENTRY_KIND_ENVELOPE, data=data, leaf=leaf, proof=self.proof(at))
        return answer

    monkeypatch.setattr(memory.Log, "numbers", lies)
    async with exchange.open(SEOUL) as desk:
        came: list[str] = []
        try:
            came = await read(desk)
        except Exception as error:
            assert fault == "proof", error  # noqa: PT017 - only then does the call end
        else:
            assert fault != "proof"
            assert came == ["text 1", "text 3"]
        assert not desk.archive.knows(made[1].id)
        assert not desk.archive.knows(other.id)


async def test_a_number_that_comes_in_time_is_waited_for(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    made, feed = sealed(exchange, 4), Feed(exchange, monkeypatch)
    log(exchange, made[0], made[2], made[3])
    async with exchange.open(SEOUL) as desk:
        deliveries = desk.subscribe("minerals")
        assert [text_of(one) for one in await given(deliveries, 1)] == ["text 1"]
        waiting = asyncio.ensure_future(given(deliveries, 3))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        log(exchange, made[1])
        feed.show()
        assert [text_of(one) for one in await waiting] == ["text 2", "text 3", "text 4"]
        assert desk.events() == []
    monkeypatch.setattr(Hold, "put", lambda _, unread: [unread])
    async with fresh(exchange) as desk:
        came = await given(desk.subscribe("minerals"), 4)
        assert [text_of(one) for one in came] == ["text 1", "text 3", "text 4", "text 2"]


async def test_after_the_wait_what_came_later_is_given_marked_and_the_gap_told(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, feed = sealed(exchange, 5), Feed(exchange, monkeypatch)
    log(exchange, made[0], made[3], made[4])
    async with exchange.open(SEOUL) as desk:
        deliveries = desk.subscribe("minerals")
        await given(deliveries, 1)
        waiting = asyncio.ensure_future(given(deliveries, 2))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        assert desk.events() == [], "within the wait nobody is bothered"
        exchange.clock.now_ms += WAIT_MS
        feed.show()
        later = await waiting
        assert [text_of(one) for one in later] == ["text 4", "text 5"]
        assert [one.warnings for one in later] == [("numbers 2 to 3 of its stream did not come before it",), ()]
        (event,) = desk.events()
        assert isinstance(event, Gap)
        assert (event.sender, event.first, event.last, event.node, event.holders) == (HAGUE, 2, 3, "nl.seoul-1", ())
        # What comes after all is given, said to be late, and no news.
        log(exchange, made[1], made[2])
        feed.show()
        late = await given(deliveries, 2)
        assert [text_of(one) for one in late] == ["text 2", "text 3"]
        assert [one.warnings for one in late] == [(product.CAME_LATE,), (product.CAME_LATE,)]
        assert desk.events() == []
        assert desk.archive.missing("minerals") == []


async def test_alerts_wait_for_nothing(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    made = sealed(exchange, 2, channel="alerts")
    Feed(exchange, monkeypatch)
    log(exchange, made[1])
    async with exchange.open(SEOUL) as desk:
        deliveries = desk.subscribe("alerts")
        (delivery,) = await given(deliveries, 1)
        assert text_of(delivery) == "text 2"
        assert len(delivery.warnings) == 1
        assert [type(event) for event in desk.events()] == [Gap]


async def test_who_is_shown_to_hold_a_missing_number_is_named(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = sealed(exchange, 3)
    log(exchange, *made)
    exchange.log.hide = made[1].data.__eq__
    places = memory.Log.places

    def origin_alone(self: memory.Log, node: str, request: pb.GetPlacesRequest) -> pb.GetPlacesResponse:
        return places(self, node, request if node == MINE else pb.GetPlacesRequest())

    async with exchange.open(SEOUL) as desk:
        await read(desk)
        (event,) = desk.events()
        assert isinstance(event, Gap)
        assert event.holders == (MINE, "nl.seoul-1"), "its own node proves that it holds what it does not give"
    monkeypatch.setattr(memory.Log, "places", origin_alone)
    desk = fresh(exchange)
    async with desk:
        await read(desk)
        (event,) = desk.events()
        assert isinstance(event, Gap)
        assert event.holders == (MINE,)
        assert "nl.seoul-1 gives nothing" in str(event)
        assert f"{MINE} holds number 2" in str(event)
    # A log that is signed by another than it is said to be of shows nothing.
    monkeypatch.setattr(memory.Log, "places", lambda self, node, request: places(self, "nl.seoul-1", request))
    desk = fresh(exchange)
    async with desk:
        await read(desk)
        (event,) = desk.events()
        assert isinstance(event, Gap)
        assert event.holders == ("nl.seoul-1",)


class Keeper:
    """A node that keeps no content of some envelopes any more, and may bend what it shows in its place."""

    def __init__(self, exchange: Exchange, monkeypatch: pytest.MonkeyPatch, *gone: Parsed) -> None:
        self._gone, self._numbers, self._read = {one.id for one in gone}, memory.Log.numbers, memory.Log.read
        self.bend: Any = lambda entry: None
        monkeypatch.setattr(memory.Log, "numbers", lambda log, *asked: self._pruned(self._numbers(log, *asked)))
        monkeypatch.setattr(memory.Log, "read", lambda log, *asked: self._pruned(self._read(log, *asked)))

    def _pruned(self, answer: Any) -> Any:
        for entry in answer.entries:
            if entry.leaf in self._gone:
                entry.data, entry.pruned = envelope.prune(entry.data), True
                self.bend(entry)
        return answer


def kept_for(desk: Desk, kept_ms: int) -> Desk:
    desk.trust.agreement(desk._own.clock()).channels["minerals"].retention_ms = kept_ms
    return desk


async def test_what_was_pruned_by_rule_is_told_so_at_once(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    made = sealed(exchange, 5)
    log(exchange, made[0], made[1], made[3], made[4])
    keeper = Keeper(exchange, monkeypatch, made[0], made[1])
    exchange.clock.now_ms += 3_600_000
    async with kept_for(exchange.open(SEOUL), 60_000) as desk:
        assert await read(desk) == ["text 4", "text 5"]
        gone, missing = desk.events()
        assert (gone.first, gone.last, gone.pruned, gone.holders) == (1, 2, True, ())
        assert "numbers 1 to 2" in str(gone)
        assert "nl.seoul-1 held them, pruned by rule since" in str(gone)
        assert (missing.first, missing.last, missing.pruned) == (3, 3, False)
        assert await read(desk) == []
        assert desk.events() == [], "told once"
    # Too early for the rule, or where none lets it: it is kept from the reader.
    for kept_ms in (0, 2 * 3_600_000):
        async with kept_for(fresh(exchange), kept_ms) as desk:
            await read(desk)
            assert [(event.first, event.last, event.pruned) for event in desk.events()] == [(1, 3, False)]

    def altered(entry: pb.Entry) -> None:
        left = envelope.pb.Pruned.FromString(entry.data)
        left.signature = bytes(len(left.signature))
        entry.data = left.SerializeToString(deterministic=True)

    keeper.bend = altered
    async with kept_for(fresh(exchange), 60_000) as desk:
        await read(desk)
        assert [(event.first, event.last, event.pruned) for event in desk.events()] == [(1, 3, False)]


async def test_what_is_said_to_be_pruned_is_proved(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    made = sealed(exchange, 2)
    log(exchange, *made)
    keeper = Keeper(exchange, monkeypatch, made[0])
    exchange.clock.now_ms += 3_600_000
    show = memory.Log.read

    def hides(self: memory.Log, node: str, request: pb.SubscribeRequest) -> pb.SubscribeResponse:
        answer = show(self, node, request)
        kept = [entry for entry in answer.entries if not entry.pruned]
        del answer.entries[:]
        answer.entries.extend(kept)
        return answer

    monkeypatch.setattr(memory.Log, "read", hides)
    keeper.bend = lambda entry: entry.ClearField("proof")
    async with kept_for(exchange.open(SEOUL), 60_000) as desk:
        with pytest.raises(ProofError):
            await read(desk)
        assert [event for event in desk.events() if isinstance(event, Gap)] == []


def fresh(exchange: Exchange) -> Desk:
    """The reading desk as on its first day."""
    for file in exchange.directories[SEOUL].glob("desk.db*"):
        file.unlink()
    return exchange.open(SEOUL)


async def test_order_and_wait_survive_a_restart(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    made = sealed(exchange, 3)
    log(exchange, made[0], made[2])
    with monkeypatch.context() as patch:
        Feed(exchange, patch)
        async with exchange.open(SEOUL) as desk:
            deliveries = desk.subscribe("minerals")
            await given(deliveries, 1)
            waiting = asyncio.ensure_future(given(deliveries, 1))
            await asyncio.sleep(0.05)
            assert not waiting.done()
            waiting.cancel()
    log(exchange, made[1])
    async with exchange.open(SEOUL) as desk:
        await desk._reading.fetch("minerals")
        # Both are in the archive, the late one at a later place of the log.
        assert await read(desk) == ["text 2", "text 3"]
        assert desk.events() == []


async def test_a_gap_of_long_ago_is_asked_for_with_each_connection(exchange: Exchange) -> None:
    made = sealed(exchange, 3)
    log(exchange, *made)
    exchange.log.hide = made[1].data.__eq__
    async with exchange.open(SEOUL) as desk:
        await read(desk)
        assert [type(event) for event in desk.events()] == [Gap]
    exchange.log.hide = lambda _: False
    async with exchange.open(SEOUL) as desk:
        assert await read(desk) == ["text 2"]
        assert desk.events() == []


async def test_another_desks_stream_is_moved_by_nobody_else(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who puts another's stream id into his own headers neither hides what that one said nor accuses him."""
    made = sealed(exchange, 3)
    header = draft(exchange.log.trust, sender="kr.motie/supply", seq=900, prev=(0, b""))
    item = rep.Item(report=said("mine")).SerializeToString()
    cards = public_cards(exchange.log.trust, header)
    thief = envelope.seal([item], header, key=exchange.world.desks["kr.motie/supply"], cards=cards)
    log(exchange, thief, made[0], made[2])

    async def told() -> list[type]:
        async with fresh(exchange) as desk:
            await read(desk)
            return [type(event) for event in desk.events()]

    assert await told() == [Gap]
    one = Archive.last_read
    monkeypatch.setattr(Archive, "last_read", lambda self, sender, stream: one(self, "", stream))
    keep = Archive.set_last_read
    monkeypatch.setattr(Archive, "set_last_read", lambda self, sender, *rest: keep(self, "", *rest))
    assert await told() == []


async def test_what_is_held_back_is_bounded(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product, "MAX_HELD_BYTES", 2000)
    Feed(exchange, monkeypatch)
    made = sealed(exchange, 4)
    log(exchange, *made[1:])
    async with exchange.open(SEOUL) as desk:
        deliveries = desk.subscribe("minerals")
        assert [text_of(one) for one in await given(deliveries, 3)] == ["text 2", "text 3", "text 4"]
        assert [type(event) for event in desk.events()] == [Gap]


async def test_who_has_much_held_back_ends_no_wait_for_another(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(product, "MAX_HELD_BYTES", 2000)
    Feed(exchange, monkeypatch)
    flood = "kr.motie/supply"
    log(exchange, *sealed(exchange, 2)[1:], *sealed(exchange, 4, sender=flood)[1:])
    async with exchange.open(SEOUL) as desk:
        deliveries = desk.subscribe("minerals")
        assert {one.sender for one in await given(deliveries, 3)} == {flood}
        assert [event.sender for event in desk.events() if isinstance(event, Gap)] == [flood]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(deliveries), 0.2)


async def test_a_claim_of_any_number_costs_little(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    header = draft(exchange.log.trust, seq=2**40, prev=(2**40 - 1, b"x" * 32))
    item = rep.Item(report=said("far")).SerializeToString()
    cards = public_cards(exchange.log.trust, header)
    log(exchange, envelope.seal([item], header, key=exchange.world.desks[HAGUE], cards=cards))
    calls: list[pb.GetNumbersRequest] = []
    answer = memory.Log.numbers

    def counted(self: memory.Log, node: str, request: pb.GetNumbersRequest) -> pb.GetNumbersResponse:
        calls.append(request)
        return answer(self, node, request)

    monkeypatch.setattr(memory.Log, "numbers", counted)
    async with exchange.open(SEOUL) as desk:
        assert await read(desk) == ["far"]
        (event,) = desk.events()
        assert isinstance(event, Gap)
        assert event.last == 2**40 - 1
    assert len(calls) < 50


async def test_what_was_refused_here_is_not_refused_again_when_it_is_given_for_its_number(exchange: Exchange) -> None:
    made = sealed(exchange, 3)
    suspended = memory.header_of(made[1].data)
    suspended.expire_time_ms = suspended.create_time_ms + 15 * 24 * 3600_000
    item = rep.Item(report=said("text 2")).SerializeToString()
    cards = public_cards(exchange.log.trust, suspended)
    bad = envelope.seal([item], suspended, key=exchange.world.desks[HAGUE], cards=cards)
    header = memory.header_of(made[2].data)
    header.prev_id = bad.id
    last = envelope.seal([item], header, key=exchange.world.desks[HAGUE], cards=cards)
    log(exchange, made[0], bad, last)
    async with exchange.open(SEOUL) as desk:
        assert await read(desk) == ["text 1", "text 2"]
        events = desk.events()
    assert [type(event) for event in events] == [Refused, Gap]


async def test_nothing_is_shown_early_past_what_is_held_back(exchange: Exchange) -> None:
    made = sealed(exchange, 4)
    log(exchange, made[0], made[2])
    desk = exchange.open(SEOUL)
    one, hold = desk._reading, Hold(desk._own)
    answer = exchange.log.read("nl.seoul-1", pb.SubscribeRequest(channels=["minerals"]))
    taken, _ = one._take("minerals", answer, None, one._early(hold), {}, hold)
    assert [unread.seq for unread in taken] == [1]
    _, _, shown = one._early(hold).take(made[3].data, desk.trust.version)
    assert shown == [], "number 4 would be given before 3, which waits for 2"
    assert one._early(Hold(desk._own)).take(made[3].data, desk.trust.version)[2], "where nothing is held it is"
    desk.close()


async def test_many_gaps_are_asked_for_some_at_once(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is told all the same, and each of the others is read."""
    monkeypatch.setattr(reading, "ASKED_AT_ONCE", 2)
    made = sealed(exchange, 12)
    log(exchange, *made[1::2])
    fill, passes = reading.Reading._fill, list[int]()

    async def counted(*args: Any, **named: Any) -> Any:
        passes.append(1)
        return await fill(*args, **named)

    monkeypatch.setattr(reading.Reading, "_fill", counted)
    async with exchange.open(SEOUL) as desk:
        assert await read(desk) == [f"text {n}" for n in range(2, 13, 2)]
        assert [(event.first, event.last) for event in desk.events() if isinstance(event, Gap)] == [
            (n, n) for n in range(1, 12, 2)
        ]
    assert len(passes) >= 4
