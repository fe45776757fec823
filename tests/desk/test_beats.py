"""Heartbeats and closings: the last number too is missed, silence is told, a stream that ends says so. Attack 11."""

import contextlib
from typing import Any

import pytest

from exchange import checkpoint, envelope
from exchange.desk import Conflict, Desk, Gap, Silent, Split, asking, beats, holdings, passing, streams
from exchange.desk.beats import Beats
from exchange.desk.gaps import Gaps
from exchange.desk.passing import Passing
from exchange.desk.sealing import Sealing
from exchange.errors import ProofError
from exchange.v1 import envelope_pb2 as env
from exchange.v1 import exchange_pb2 as pb
from exchange.v1 import report_pb2 as rep
from keys.v1 import documents_pb2 as docs
from tests import chains
from tests.desk import memory
from tests.desk.memory import Exchange
from tests.desk.test_desk import said
from tests.world import NOON, draft, public_cards

HAGUE, SEOUL = "kr.the-hague/economic", "nl.seoul/economic"
MINUTE = 60_000
HOUR = 60 * MINUTE
QUIET = beats.QUIET_MS


def sent(exchange: Exchange) -> list[env.Header]:
    """Headers of all envelopes in the log, in order."""
    return [memory.header_of(data) for _, kind, data in exchange.log.entries if kind == pb.ENTRY_KIND_ENVELOPE]


async def say(desk: Desk, *texts: str, **where: Any) -> None:
    for text in texts:
        await desk.publish(where.pop("channel", "minerals"), said(text), **where)
    assert await desk.flush(10) == 0


async def look(desk: Desk) -> None:
    await desk._beats.look()
    await desk.flush(10)


async def beat_after(exchange: Exchange, *texts: str, wait_ms: int = QUIET) -> None:
    """The sender says some things, and a heartbeat when it is due."""
    async with exchange.open(HAGUE) as desk:
        await say(desk, *texts)
        exchange.clock.now_ms += wait_ms
        await look(desk)


async def read(exchange: Exchange) -> tuple[list[str], list[Any]]:
    async with exchange.open(SEOUL) as desk:
        came = [one async for one in desk.subscribe("minerals", follow=False)]
        assert all(one.kind == "report" for one in came), "what steers the exchange is not for the reader"
        assert all(one.kind == "report" for one in desk.inbox())
        return [one.report.summary[0].text for one in came], desk.events()


async def said_by(exchange: Exchange, number: int) -> rep.Item:
    """The only item of an envelope of the log, as its reader opened it."""
    header = sent(exchange)[number]
    identity = [leaf for leaf, kind, _ in exchange.log.entries if kind == pb.ENTRY_KIND_ENVELOPE][number]
    async with exchange.open(SEOUL if SEOUL in {one.desk for one in header.audience} else HAGUE) as desk:
        (raw,) = desk.archive.content(identity).items
        return rep.Item.FromString(raw)


async def test_a_heartbeat_names_the_last_number_and_the_logs(exchange: Exchange) -> None:
    await beat_after(exchange, "one", "two")
    assert await read(exchange) == (["one", "two"], [])
    *_, last, beat = sent(exchange)
    assert (beat.stream, beat.prev_seq) == (last.stream, last.seq), "it goes on in the stream of what was said"
    item = await said_by(exchange, -1)
    assert [(head.stream, head.seq) for head in item.heartbeat.streams] == [(last.stream, last.seq)]
    assert item.heartbeat.next_by_ms == exchange.clock() + HOUR + beats.LATE_MS
    assert "tocsin/kr.the-hague-1/1" in [head.origin for head in item.heartbeat.logs]


async def test_bursts_share_a_heartbeat(exchange: Exchange) -> None:
    """Never one for each envelope."""
    async with exchange.open(HAGUE) as desk:
        for minute in range(20):
            await say(desk, f"minute {minute}")
            exchange.clock.now_ms += MINUTE
            await look(desk)
    assert len(sent(exchange)) == 20 + 2


async def test_heartbeats_come_by_the_hour_until_nothing_was_said_for_a_week(exchange: Exchange) -> None:
    await beat_after(exchange, "one")
    async with exchange.open(HAGUE) as desk:
        exchange.clock.now_ms += HOUR - MINUTE
        await look(desk)
        assert len(sent(exchange)) == 2
        exchange.clock.now_ms += MINUTE
        await look(desk)
        assert len(sent(exchange)) == 3
        exchange.clock.now_ms += beats.IN_USE_MS
        await look(desk)
        assert len(sent(exchange)) == 4
        exchange.clock.now_ms += 9 * HOUR
        await look(desk)
    assert len(sent(exchange)) == 4, "the last one promised no other"
    await read(exchange)
    assert (await said_by(exchange, -1)).heartbeat.next_by_ms == 0
    exchange.clock.now_ms += 9 * HOUR
    assert not [event for event in (await read(exchange))[1] if isinstance(event, Silent)]


async def test_a_clock_that_is_turned_back_silences_nobody(exchange: Exchange) -> None:
    exchange.clock.now_ms += 24 * HOUR
    await beat_after(exchange, "one")
    exchange.clock.now_ms -= 12 * HOUR
    async with exchange.open(HAGUE) as desk:
        await look(desk)
        await look(desk)
    assert len(sent(exchange)) == 3


async def test_what_waits_is_not_claimed(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what the node took: what waits may be withdrawn yet, and would be missed for ever."""
    await beat_after(exchange, "one", wait_ms=0)
    monkeypatch.setattr(memory._Stub, "Publish", lambda _: memory._Call(lambda _: None))
    async with exchange.open(HAGUE) as desk:
        await desk.publish("minerals", said("two"))
        exchange.clock.now_ms += QUIET
        await desk._beats.look()
        assert desk.archive.waiting() == 1


async def test_one_heartbeat_names_all_streams_to_the_same_readers_on_a_channel(exchange: Exchange) -> None:
    readers = sorted({one.desk for one in draft(exchange.log.trust).audience})
    governments = [name for name in readers if "asml" not in name]
    async with exchange.open(HAGUE) as desk:
        await say(desk, "green", marking="GREEN")
        await say(desk, "amber")
        await say(desk, "red", marking="RED", to=governments)
        await say(desk, "red to one", marking="RED", to=[SEOUL])
        exchange.clock.now_ms += QUIET
        before = len(sent(exchange))
        await look(desk)
    streams = {header.stream: header for header in sent(exchange)[:before]}
    await read(exchange)
    groups = []
    for number in range(before, len(sent(exchange))):
        header, item = sent(exchange)[number], await said_by(exchange, number)
        for head in item.heartbeat.streams:
            named = streams[head.stream]
            assert [one.desk for one in named.audience] == [one.desk for one in header.audience], "none but its readers"
            assert header.marking >= named.marking
        groups.append(len(item.heartbeat.streams))
    assert sum(groups) == len(streams)
    assert len(groups) == len({tuple(one.desk for one in header.audience) for header in streams.values()})


@pytest.mark.parametrize("withheld", [1, 2])
async def test_the_last_numbers_too_are_missed(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch, withheld: int
) -> None:
    await beat_after(exchange, "one", "two", "three")
    envelopes = [data for _, kind, data in exchange.log.entries if kind == pb.ENTRY_KIND_ENVELOPE]
    hidden = envelopes[3 - withheld : 3]
    # The node shows nothing that says that the last ones exist: of the sender's own stream the heartbeat would.
    exchange.log.hide = hidden.__contains__
    came, events = await read(exchange)
    assert came == ["one", "two", "three"][: 3 - withheld]
    (event,) = events
    assert isinstance(event, Gap)
    assert (event.first, event.last, event.holders) == (4 - withheld, 3, ("kr.the-hague-1", "nl.seoul-1"))


async def test_a_heartbeat_in_one_stream_misses_what_is_withheld_of_another(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole stream, its first envelope and all."""
    governments = [one.desk for one in draft(exchange.log.trust).audience if "asml" not in one.desk]
    async with exchange.open(HAGUE) as desk:
        await say(desk, "amber")
        await say(desk, "red", marking="RED", to=governments)
        amber, _ = (data for _, kind, data in exchange.log.entries if kind == pb.ENTRY_KIND_ENVELOPE)
        if len(memory.header_of(amber).audience) != len(governments):
            pytest.fail("the readers differ: nothing to test")
        exchange.clock.now_ms += QUIET
        await look(desk)
    exchange.log.hide = amber.__eq__
    with monkeypatch.context() as patch:
        patch.setattr(Gaps, "heed", lambda *_: None)
        assert await read(exchange) == (["red"], [])
    for file in exchange.directories[SEOUL].glob("desk.db*"):
        file.unlink()
    came, (event,) = await read(exchange)
    assert came == ["red"]
    assert isinstance(event, Gap)
    assert (event.stream, event.first, event.last) == (memory.header_of(amber).stream, 1, 1)


async def test_silence_past_the_promise_is_told_once_and_names_the_nodes(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    await beat_after(exchange, "one")
    assert await read(exchange) == (["one"], [])
    exchange.clock.now_ms += HOUR + beats.LATE_MS + MINUTE
    assert await read(exchange) == ([], []), "within the bound for clocks nobody is late"
    exchange.clock.now_ms += 6 * MINUTE
    _, (event,) = await read(exchange)
    assert isinstance(event, Silent)
    assert (event.sender, event.channel, event.nodes) == (HAGUE, "minerals", ("kr.the-hague-1", "nl.seoul-1"))
    assert await read(exchange) == ([], [])
    # It is heard again, and falls silent again.
    await beat_after(exchange, "two")
    assert await read(exchange) == (["two"], [])
    exchange.clock.now_ms += 2 * HOUR
    with monkeypatch.context() as patch:
        patch.setattr(Gaps, "hear", lambda *_: None)
        assert await read(exchange) == ([], [])
    assert [type(event) for event in (await read(exchange))[1]] == [Silent]


async def test_a_backlog_with_a_later_word_is_no_silence(exchange: Exchange) -> None:
    await beat_after(exchange, "one")
    await read(exchange)
    exchange.clock.now_ms += 5 * HOUR
    await beat_after(exchange, "two")
    assert await read(exchange) == (["two"], [])


async def test_two_logs_of_one_node_are_told_by_the_heads_that_travel(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    await beat_after(exchange, "one")
    # The sender's node showed it another log of the reader's node than the reader is shown.
    logs = Beats._logs

    async def never(*_: Any) -> bool:
        return False

    async def other(self: Beats) -> list[rep.LogHead]:
        return [rep.LogHead(origin="tocsin/nl.seoul-1/1", size=3, root=b"r" * 32), *await logs(self)]

    monkeypatch.setattr(Beats, "_logs", other)
    assert await read(exchange) == (["one"], []), "what it says when it was shown the same"
    await beat_after(exchange, "two", wait_ms=2 * HOUR)
    with monkeypatch.context() as patch:
        patch.setattr(asking, "contradicts", never)
        assert await copied(exchange) == (["one", "two"], [])
    came, (event,) = await read(exchange)
    assert came == ["two"]
    assert isinstance(event, Split)
    assert (event.sender, event.origin, event.size) == (HAGUE, "tocsin/nl.seoul-1/1", 3)


def beaten(exchange: Exchange) -> list[int]:
    """When the heartbeats that the reader keeps were made, hours after noon, by the archive."""
    with contextlib.closing(exchange.open(SEOUL)) as desk:
        kept = [(one.create_time_ms, *map(rep.Item.FromString, one.items)) for one in desk.archive.received()]
    return [(made_ms - NOON) // HOUR for made_ms, item in kept if item.HasField("heartbeat")]


async def test_a_newer_heartbeat_takes_the_place_of_older_ones(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [str(n) for n in range(5)]
    for word in words:
        await beat_after(exchange, word, wait_ms=13 * HOUR)
        assert await read(exchange) == ([word], [])
    assert beaten(exchange) == [52, 65], "the newest, and what may be answered yet"
    with contextlib.closing(exchange.open(SEOUL)) as desk:
        assert [one.report.summary[0].text for one in desk.inbox()] == words
        with desk.archive.transaction():
            desk.archive.set_cursor("minerals", 0)
    assert await read(exchange) == ([], []), "what went is known"
    assert beaten(exchange) == [52, 65]
    # An archive of before: it kept all of them, and has none in a list.
    with monkeypatch.context() as patch:
        patch.setattr(Passing, "keep_beat", lambda *_: None)
        patch.setattr(Passing, "sweep", lambda *_: None)
        for file in exchange.directories[SEOUL].glob("desk.db*"):
            file.unlink()
        assert (await read(exchange))[0] == words
        assert beaten(exchange) == [13, 26, 39, 52, 65]
    monkeypatch.setattr(passing, "SWEPT_AT_ONCE", 4)
    for _ in range(4):
        # First it sees how much there is; then some of it each time.
        assert await read(exchange) == ([], [])
    assert beaten(exchange) == [52, 65]


async def test_a_heartbeat_that_shows_two_logs_stays(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    await beat_after(exchange, "one", wait_ms=HOUR)
    await read(exchange)
    logs = Beats._logs

    async def other(self: Beats) -> list[rep.LogHead]:
        return [rep.LogHead(origin="tocsin/nl.seoul-1/1", size=3, root=b"r" * 32), *await logs(self)]

    with monkeypatch.context() as patch:
        patch.setattr(Beats, "_logs", other)
        await beat_after(exchange, "two", wait_ms=2 * HOUR)
    assert [type(event) for event in (await read(exchange))[1]] == [Split]
    await beat_after(exchange, "three", wait_ms=30 * HOUR)
    await read(exchange)
    assert beaten(exchange) == [3, 33], "the one that is evidence, and the newest"


async def copied(exchange: Exchange) -> tuple[list[str], list[Any]]:
    """What the reader would read on its first day."""
    kept = {file: file.read_bytes() for file in exchange.directories[SEOUL].glob("desk.db*")}
    for file in kept:
        file.unlink()
    try:
        return await read(exchange)
    finally:
        for file in exchange.directories[SEOUL].glob("desk.db*"):
            file.unlink()
        for file, data in kept.items():
            file.write_bytes(data)


# ---- closings


def without(exchange: Exchange, desk: str) -> None:
    """The next roster of its party does not list a desk."""

    def bend(body: docs.Roster) -> None:
        kept = [one for one in body.desks if one.desk != desk]
        del body.desks[:]
        body.desks.extend(kept)

    exchange.log.take(chains.next_roster(exchange.world, desk[:2], bend, now_ms=exchange.clock()).encode())


async def test_when_the_readers_change_the_old_stream_is_closed_and_another_continues(exchange: Exchange) -> None:
    await beat_after(exchange, "before")
    await read(exchange)
    old = sent(exchange)[-1]
    exchange.clock.now_ms += MINUTE
    without(exchange, "nl.bz/supply")
    async with exchange.open(HAGUE) as desk:
        await desk.synchronise()
        await say(desk, "after")
        await look(desk)
        await look(desk)
        after, closing = sent(exchange)[-2:]
        assert after.stream != old.stream
        assert closing.answers, "its readers are a part of the old ones"
        assert [one.desk for one in closing.audience] == [SEOUL], "those who can still be written to"
        assert [one.stream for one in desk.archive.streams_in_use()] == [after.stream]
    assert await read(exchange) == (["after"], [])
    item = await said_by(exchange, -1)
    assert (item.closing.stream, item.closing.last_seq) == (old.stream, old.seq)
    assert item.closing.continued_by == after.stream
    # The promise went over to the new stream, and is broken there if nothing comes.
    exchange.clock.now_ms += 2 * HOUR
    assert [type(event) for event in (await read(exchange))[1]] == [Silent]


async def test_whoever_reads_no_more_is_not_told_where_the_others_go_on(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    await beat_after(exchange, "before")
    await read(exchange)
    old = sent(exchange)[-1]
    async with exchange.open(HAGUE) as desk:
        monkeypatch.setattr(Beats, "_readers", lambda *_: ("nl.bz/supply",))
        await look(desk)
    assert await read(exchange) == ([], [])
    item = await said_by(exchange, -1)
    assert (item.closing.stream, item.closing.continued_by) == (old.stream, b"")
    exchange.clock.now_ms += 9 * HOUR
    assert (await read(exchange))[1] == [], "nothing more was promised"


def more_in(exchange: Exchange, old: env.Header, identity: bytes, item: rep.Item, seq: int) -> None:
    """Another envelope of the sender in a stream."""
    header = draft(exchange.log.trust, create_ms=exchange.clock(), seq=seq, prev=(old.seq, identity), stream=old.stream)
    cards = public_cards(exchange.log.trust, header)
    key = exchange.world.desks[HAGUE]
    exchange.log.publish(envelope.seal([item.SerializeToString()], header, key=key, cards=cards).data)


async def test_what_stands_above_a_closed_stream_is_told(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    await beat_after(exchange, "before", wait_ms=0)
    old, identity = sent(exchange)[-1], exchange.log.entries[-1][0]
    closing = rep.Item(closing=rep.Closing(stream=old.stream, last_seq=old.seq))
    more_in(exchange, old, identity, closing, old.seq + 1)
    assert await read(exchange) == (["before"], []), "the closing itself may stand there"
    more_in(exchange, old, identity, rep.Item(heartbeat=rep.Heartbeat()), old.seq + 2)
    more_in(exchange, old, identity, rep.Item(report=said("again")), old.seq + 3)
    with monkeypatch.context() as patch:
        patch.setattr(Gaps, "open", lambda *_: None)
        assert await copied(exchange) == (["before", "again"], [])
    came, events = await read(exchange)
    assert came == ["again"], "nothing is lost"
    assert [type(event) for event in events] == [Conflict, Conflict]


async def closed_at(exchange: Exchange, last_seq: int | None = None) -> tuple[env.Header, bytes]:
    """One envelope of a stream that its sender closed then; its header and id."""
    await beat_after(exchange, "before", wait_ms=0)
    old, identity = sent(exchange)[-1], exchange.log.entries[-1][0]
    closing = rep.Closing(stream=old.stream, last_seq=old.seq if last_seq is None else last_seq)
    more_in(exchange, old, identity, rep.Item(closing=closing), old.seq + 1)
    return old, identity


async def test_whatever_says_something_above_a_closed_stream_is_told(exchange: Exchange) -> None:
    """An acknowledgement alone too, and what there is nothing to give of."""
    old, identity = await closed_at(exchange)
    ack = rep.Item(acknowledgement=rep.Acknowledgement(envelope=bytes(32)))
    more_in(exchange, old, identity, ack, old.seq + 2)
    came, (event,) = await read(exchange)
    assert came == ["before"]
    assert isinstance(event, Conflict)
    assert f"a stream that was closed at {old.seq}" in event.what


async def test_a_stream_of_which_nothing_stands_is_closed_at_0(exchange: Exchange) -> None:
    """What was read before is not looked at again."""
    old, identity = await closed_at(exchange, 0)
    assert await read(exchange) == (["before"], [])
    more_in(exchange, old, identity, rep.Item(report=said("again")), old.seq + 2)
    came, (event,) = await read(exchange)
    assert came == ["again"]
    assert isinstance(event, Conflict)


async def close_again(exchange: Exchange, old: env.Header, last_seq: int) -> None:
    """A second closing, in a stream of its own."""
    header = draft(exchange.log.trust, create_ms=exchange.clock(), stream=bytes([last_seq]) * 16)
    cards, key = public_cards(exchange.log.trust, header), exchange.world.desks[HAGUE]
    again = rep.Item(closing=rep.Closing(stream=old.stream, last_seq=last_seq)).SerializeToString()
    exchange.log.publish(envelope.seal([again], header, key=key, cards=cards).data)


async def test_a_second_closing_ends_nothing(exchange: Exchange) -> None:
    old, identity = await closed_at(exchange)
    more_in(exchange, old, identity, rep.Item(closing=rep.Closing(stream=old.stream, last_seq=old.seq)), old.seq + 2)
    assert await read(exchange) == (["before"], []), "a repeat is none"
    await close_again(exchange, old, old.seq + 4)
    _, (gap,) = await read(exchange)
    assert isinstance(gap, Gap)
    assert (gap.first, gap.last) == (old.seq + 3, old.seq + 4), "what it stands by counts all the same"
    more_in(exchange, old, identity, rep.Item(report=said("above")), old.seq + 4)
    came, (event,) = await read(exchange)
    assert came == ["above"]
    assert isinstance(event, Conflict)
    assert f"a stream that was closed at {old.seq}" in event.what, "the first closing holds"


async def test_a_desk_that_closes_at_its_closing_contradicts_nothing(exchange: Exchange) -> None:
    """So does one whose backup is older than its closing: its node shows that as the last number."""
    old, _ = await closed_at(exchange)
    await close_again(exchange, old, old.seq + 1)
    assert await read(exchange) == (["before"], [])


async def test_a_second_closing_at_a_smaller_number_is_told(exchange: Exchange) -> None:
    old, _ = await closed_at(exchange)
    await close_again(exchange, old, old.seq - 1)
    came, (event,) = await read(exchange)
    assert came == ["before"]
    assert isinstance(event, Conflict)
    assert f"closed a stream at {old.seq}, and again at {old.seq - 1}" in event.what


async def test_of_several_heartbeats_in_one_envelope_the_first_counts(exchange: Exchange) -> None:
    await beat_after(exchange, "before", wait_ms=0)
    old, by_ms = sent(exchange)[-1], exchange.clock() + HOUR
    beaten = [
        rep.Heartbeat(next_by_ms=by_ms),
        rep.Heartbeat(streams=[rep.StreamHead(stream=old.stream, seq=9, id=b"i" * 32)], next_by_ms=by_ms + HOUR),
    ]
    header = draft(exchange.log.trust, create_ms=exchange.clock(), stream=b"n" * 16)
    cards, key = public_cards(exchange.log.trust, header), exchange.world.desks[HAGUE]
    items = [rep.Item(heartbeat=one).SerializeToString() for one in beaten]
    exchange.log.publish(envelope.seal(items, header, key=key, cards=cards).data)
    assert await read(exchange) == (["before"], [])
    async with exchange.open(SEOUL) as desk:
        assert desk.archive.promised((HAGUE, header.stream)) == by_ms


async def test_a_closing_misses_what_is_withheld(exchange: Exchange) -> None:
    await beat_after(exchange, "one", "two", wait_ms=0)
    old, (_, _, hidden) = sent(exchange)[-1], exchange.log.entries[-1]
    closing = rep.Item(closing=rep.Closing(stream=old.stream, last_seq=2))
    header = draft(exchange.log.trust, create_ms=exchange.clock(), stream=b"n" * 16)
    cards, key = public_cards(exchange.log.trust, header), exchange.world.desks[HAGUE]
    exchange.log.publish(envelope.seal([closing.SerializeToString()], header, key=key, cards=cards).data)
    exchange.log.hide = hidden.__eq__
    came, (event,) = await read(exchange)
    assert came == ["one"]
    assert isinstance(event, Gap)
    assert (event.first, event.last) == (2, 2)


async def test_nobody_closes_the_stream_of_another(exchange: Exchange) -> None:
    """Neither a closing nor a heartbeat of somebody else says anything about a sender's stream."""
    await beat_after(exchange, "before", wait_ms=0)
    old = sent(exchange)[-1]
    liar = "kr.motie/supply"
    header = draft(exchange.log.trust, sender=liar, create_ms=exchange.clock(), stream=b"l" * 16)
    head = rep.StreamHead(stream=old.stream, seq=9, id=b"i" * 32)
    items = [
        rep.Item(closing=rep.Closing(stream=old.stream, last_seq=old.seq)),
        rep.Item(heartbeat=rep.Heartbeat(streams=[head], next_by_ms=1)),
    ]
    cards, key = public_cards(exchange.log.trust, header), exchange.world.desks[liar]
    data = envelope.seal([item.SerializeToString() for item in items], header, key=key, cards=cards).data
    exchange.log.publish(data)
    await beat_after(exchange, "after", wait_ms=0)
    came, events = await read(exchange)
    assert came == ["before", "after"]
    assert all(getattr(event, "sender", "") == liar for event in events), "only he accuses himself"


async def test_who_claims_many_streams_hides_no_gap_of_another(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "MAX_MISSING", 10)
    await beat_after(exchange, "one", "two")
    hidden = exchange.log.entries[-2][2]
    exchange.log.hide = hidden.__eq__
    liar = "kr.motie/supply"
    header = draft(exchange.log.trust, sender=liar, create_ms=exchange.clock(), stream=b"l" * 16)
    heads = [rep.StreamHead(stream=bytes([n]) * 16, seq=9, id=b"i" * 32) for n in range(100)]
    items = [rep.Item(heartbeat=rep.Heartbeat(streams=heads[n : n + 50])) for n in (0, 50)]
    cards, key = public_cards(exchange.log.trust, header), exchange.world.desks[liar]
    data = envelope.seal([item.SerializeToString() for item in items], header, key=key, cards=cards).data
    exchange.log.publish(data)
    came, events = await read(exchange)
    assert came == ["one"]
    gaps = [event for event in events if isinstance(event, Gap)]
    assert [gap.first for gap in gaps if gap.sender == HAGUE] == [2]
    assert len(gaps) == 1 + 10


async def test_of_a_sender_the_streams_last_heard_of_are_remembered(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever begins, names or closes many streams fills no disk, and has nothing forgotten of another."""
    monkeypatch.setattr(streams, "MAX_STREAMS_KEPT", 3)
    archive = exchange.open(SEOUL).archive
    liar, names = "kr.motie/supply", [bytes([n]) * 16 for n in range(12)]
    with archive.transaction():
        archive.set_last_read(HAGUE, names[0], 1, b"")
        archive.set_last_read(liar, names[0], 1, b"")
        for name in names[1:4]:
            archive.set_last_read(liar, names[0], 2, b"")
            archive.set_last_read(liar, name, 1, b"")
        assert [bool(archive.last_read(liar, name)) for name in names[:4]] == [True, False, True, True]
        for name in names[4:8]:
            archive.miss((liar, name), "minerals", 1, 1, b"", 1)
            archive.promise((liar, name), "minerals", 9)
            archive.close_stream((liar, name), 0)
        for name in names[8:]:
            archive.close_stream((liar, name), 0)
        assert [archive.closed_at((liar, name)) for name in names] == 9 * [None] + [0, 0, 0]
        assert not any(archive.promised((liar, name)) for name in names)
        assert archive.missing("minerals") == []
        assert not any(archive.last_read(liar, name) for name in names)
        assert archive.last_read(HAGUE, names[0])
    archive.close()


async def test_who_causes_many_events_pushes_out_none_of_another(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holdings, "MAX_EVENTS", 10)
    desk = exchange.open(SEOUL)
    told = Gap(HAGUE, "minerals", b"s" * 16, 2, 2)
    noise = [Conflict("kr.motie/supply", "minerals", str(n)) for n in range(30)]
    for event in (noise[0], told, *noise[1:]):
        desk._own.event(event)
    assert desk.events() == [told, *noise[-9:]]
    desk.close()


async def test_a_head_of_another_log_shows_no_node_to_hold_anything(exchange: Exchange) -> None:
    await beat_after(exchange, "one", wait_ms=0)
    leaf, desk, node = exchange.log.entries[-1][0], exchange.open(SEOUL), "nl.seoul-1"
    answer = exchange.log.places(node, pb.GetPlacesRequest(leaves=[leaf]))
    assert asking._holds(desk._own, node, leaf, answer)
    head, key = checkpoint.parse(answer.checkpoint), exchange.world.log_keys[node]
    answer.checkpoint = checkpoint.sign(
        "tocsin/kr.the-hague-1/1", head.size, head.root, key, name=node, time_ms=head.time_ms
    )
    with pytest.raises(ProofError):
        asking._holds(desk._own, node, leaf, answer)
    desk.close()


async def test_who_claims_many_heads_hides_no_head_that_another_saw(exchange: Exchange) -> None:
    """And of one heartbeat no more streams count than it may name."""
    own = [rep.LogHead(origin="tocsin/nl.seoul-1/1", size=1, root=bytes([n]) * 32) for n in range(100)]
    many = [rep.StreamHead(stream=bytes([n]) * 16, seq=9, id=b"i" * 32) for n in range(100)]
    desk = exchange.open(SEOUL)
    gaps = Gaps(desk._own)
    with desk.archive.transaction():
        one = env.Header(sender=HAGUE, stream=b"s" * 16, channel="minerals")
        gaps.heed(one, b"1" * 32, [rep.Item(heartbeat=rep.Heartbeat(logs=own[:1]))])
        other = env.Header(sender="kr.motie/supply", stream=b"t" * 16, channel="minerals")
        gaps.heed(other, b"2" * 32, [rep.Item(heartbeat=rep.Heartbeat(logs=[head])) for head in own[1:]])
        gaps.heed(other, b"2" * 32, [rep.Item(heartbeat=rep.Heartbeat(streams=many))])
    assert [claimed.head.root for claimed in gaps.heads.values()] == [own[0].root, own[1].root]
    assert len(desk.archive.missing("minerals")) == 64
    desk.close()


async def test_a_heartbeat_is_not_sealed_again_and_a_stream_given_up_is_closed(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whom it would reach now is not whom it was for; and a stream that ends for another reason says so too."""
    await beat_after(exchange, "before")
    await read(exchange)
    old = sent(exchange)[-1]
    async with exchange.open(HAGUE) as desk:
        monkeypatch.setattr(Beats, "_plan", lambda _: ([], []))
        exchange.clock.now_ms += HOUR
        with monkeypatch.context() as patch:
            patch.setattr(memory._Stub, "Publish", lambda _: memory._Call(lambda _: None))
            sealing: Sealing = desk._sending.sealing
            header = desk.archive.streams_in_use()[0]
            way = beats.Way("minerals", docs.MARKING_AMBER, (), b"")
            beat = rep.Item(heartbeat=rep.Heartbeat()).SerializeToString()
            identity = await sealing.seal_now(way, beat, audience=header.audience)
            assert identity is not None
            assert await sealing.seal_now(way, beat, audience="somebody else") is None
            assert await sealing.seal_again(header.stream, identity) == []
            assert desk.archive.waiting() == 0
    monkeypatch.undo()
    async with exchange.open(HAGUE) as desk:
        await say(desk, "after")
        await look(desk)
    assert await read(exchange) == (["after"], [])
    item = await said_by(exchange, -2)
    assert (item.closing.stream, item.closing.last_seq) == (old.stream, old.seq), "as far as it stands"
    assert item.closing.continued_by == sent(exchange)[-1].stream


async def test_nobody_is_expected_to_acknowledge_a_heartbeat(exchange: Exchange) -> None:
    async with exchange.open(HAGUE) as desk:
        await say(desk, "an alert", channel="alerts")
        exchange.clock.now_ms += QUIET
        await look(desk)
        alert, beat = (leaf for leaf, kind, _ in exchange.log.entries if kind == pb.ENTRY_KIND_ENVELOPE)
        assert [desk.archive.steers(one) for one in (alert, beat)] == [False, True]


def test_one_desks_word_is_told_as_such() -> None:
    words = str(Split("tocsin/nl.seoul-1/1", HAGUE, b"e" * 32, 3))
    assert "one desk's signed word" in words
    assert "ask other readers of the node, and the nodes that cosign its log" in words
