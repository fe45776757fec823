"""Stages: what is believed of an envelope that was sent, and on whose word; kept, told when overdue, sealed again in time."""

import asyncio
import contextlib
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from exchange import checkpoint, envelope, refusal
from exchange.desk import Conflict, Desk, Refused, SealedAgain, Undelivered, Unopened, acknowledging
from exchange.desk import tracking as trackings
from exchange.desk.beats import QUIET_MS
from exchange.desk.stages import ALERT_OPENED_WITHIN_MS, DELIVERED_WITHIN_MS, HOUR_MS
from exchange.desk.tenure import DeskInUseError
from exchange.v1 import exchange_pb2 as pb
from exchange.v1 import report_pb2 as rep
from keys import founding, suite
from keys.errors import UsageError
from keys.suite import Signer
from tests import chains
from tests.desk import memory
from tests.desk.memory import Exchange, Log, header_of
from tests.desk.test_desk import said
from tests.world import World

HAGUE, MOTIE, SEOUL, BZ = "kr.the-hague/economic", "kr.motie/supply", "nl.seoul/economic", "nl.bz/supply"
KR, NL = "kr.the-hague-1", "nl.seoul-1"
DAY_MS = 24 * HOUR_MS


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackings, "FIRST_S", 0.01)
    monkeypatch.setattr(trackings, "PACE_S", (0.02, 0.2))
    monkeypatch.setattr(trackings, "LOOK_S", 0.05)
    monkeypatch.setattr(acknowledging, "LINGER_S", 0.01)


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory, world: World) -> Exchange:
    """Four desks of two countries on a log in memory that two nodes show: each test has a copy."""
    made = memory.exchange(tmp_path_factory.mktemp("founded"), world, HAGUE, MOTIE, SEOUL, BZ)
    asyncio.run(made.synchronise())
    return made


@pytest.fixture
def exchange(tmp_path: Path, founded: Exchange) -> Exchange:
    directories = {name: tmp_path / place.name for name, place in founded.directories.items()}
    for name, place in directories.items():
        shutil.copytree(founded.directories[name], place)
    clock = memory.Clock(founded.clock.now_ms)
    log = Log(founded.world, clock, list(founded.log.entries))
    log.trust = founded.log.trust
    return Exchange(tmp_path, founded.world, log, clock, directories)


async def eventually(true: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.01)


async def sent(
    exchange: Exchange, *, channel: str = "minerals", marking: str = "AMBER", to: tuple[str, ...] = ()
) -> bytes:
    """An envelope that was taken, of a desk that ended before it asked where else it is."""
    desk = exchange.open(HAGUE)
    desk._tracking.run = forever  # type: ignore[method-assign]
    async with desk:
        identity = await desk.publish(channel, said("something"), marking=marking, to=to)
        assert await desk.flush(20) == 0
    return identity


async def forever() -> None:
    await asyncio.Event().wait()


async def asked(exchange: Exchange, identity: bytes, desk: str = HAGUE) -> tuple[Desk, list[str]]:
    """A desk that does not run, after it asked; and what it could not ask."""
    opened = exchange.open(desk)
    return opened, await opened.ask_stages([identity])


async def read(exchange: Exchange, name: str, *channels: str) -> list[object]:
    """Events of a desk that reads some channels to their end and goes."""
    async with exchange.open(name) as desk:
        for channel in channels:
            async for delivery in desk.subscribe(channel, follow=False):
                assert delivery.kind == "report", "what steers the exchange is not given to readers"
        return list(desk.events())


def edit(exchange: Exchange, statement: str, desk: str = HAGUE) -> None:
    with contextlib.closing(sqlite3.connect(exchange.directories[desk] / "desk.db")) as file, file:
        assert file.execute(statement).rowcount > 0


# ---- delivered


async def test_delivered_is_proved_by_the_readers_node_and_stays_proved(exchange: Exchange) -> None:
    identity = await sent(exchange)
    desk = exchange.open(HAGUE)
    assert desk.undelivered() == 1
    before = {reader.desk: reader for reader in desk.track(identity).readers}
    assert before[MOTIE].delivered == desk.track(identity).taken, "the own node counts at once"
    assert before[BZ].delivered is None
    assert await desk.ask_stages([identity]) == []
    desk.close()
    desk = exchange.open(HAGUE)
    now = desk.track(identity)
    assert (desk.undelivered(), now.pending) == (0, False)
    assert {reader.desk: reader.delivered.node for reader in now.readers if reader.delivered} == {
        BZ: NL, MOTIE: KR, SEOUL: NL,
    }  # fmt: skip
    assert not now.acknowledge
    findings = await desk.verify_stages(identity)
    assert [(each.bad, each.subject) for each in findings] == [(False, f"taken by {KR}"), (False, f"delivered at {NL}")]
    asked_before = len(exchange.log.places_asked)
    assert await desk.ask_stages([identity]) == []
    assert len(exchange.log.places_asked) == asked_before, "what is proved is not asked for again"
    desk.close()
    edit(exchange, "UPDATE delivered SET position = position + 1")
    desk = exchange.open(HAGUE)
    assert [each.subject for each in await desk.verify_stages(identity) if each.bad] == [f"delivered at {NL}"]
    desk.close()


def lies(world: World) -> dict[str, Callable[[Log, pb.GetPlacesResponse, bytes], None]]:
    """What a node, or the one that asks it, may answer instead."""

    def note(origin: str, key: Signer, name: str) -> Callable[[Log, pb.GetPlacesResponse, bytes], None]:
        def change(log: Log, answer: pb.GetPlacesResponse, leaf: bytes) -> None:
            head = checkpoint.parse(answer.checkpoint)
            answer.checkpoint = checkpoint.sign(origin, head.size, head.root, key, name=name, time_ms=head.time_ms)

        return change

    def no_proof(log: Log, answer: pb.GetPlacesResponse, leaf: bytes) -> None:
        del answer.places[0].proof[:]

    def elsewhere(log: Log, answer: pb.GetPlacesResponse, leaf: bytes) -> None:
        answer.places[0].position -= 1

    def claimed(log: Log, answer: pb.GetPlacesResponse, leaf: bytes) -> None:
        del answer.places[:]
        answer.places.add(leaf=leaf, position=0, proof=log.proof(0))

    return {
        "without proof": no_proof,
        "at another position": elsewhere,
        "with the proof of another leaf": claimed,
        "signed by another node": note(f"tocsin/{NL}/1", world.log_keys[KR], NL),
        "in the log of another node": note(f"tocsin/{KR}/1", world.log_keys[NL], NL),
    }


@pytest.mark.parametrize(
    "lie",
    [
        "without proof",
        "at another position",
        "with the proof of another leaf",
        "signed by another node",
        "in the log of another node",
    ],
)
async def test_a_node_that_says_delivered_is_not_believed(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    identity = await sent(exchange)
    honest, change = Log.places, lies(exchange.world)[lie]

    def places(log: Log, node: str, request: pb.GetPlacesRequest) -> pb.GetPlacesResponse:
        answer = honest(log, node, request)
        if answer.places:
            change(log, answer, identity)
        return answer

    monkeypatch.setattr(Log, "places", places)
    desk, problems = await asked(exchange, identity)
    assert len(problems) == 1, problems
    assert desk.undelivered() == 1
    assert {reader.desk for reader in desk.track(identity).readers if reader.delivered is None} == {BZ, SEOUL}
    desk.close()
    async with exchange.open(HAGUE) as desk:
        await eventually(lambda: desk._own.events)
        (event,) = desk.events()
        assert isinstance(event, Undelivered)
        assert (event.node, event.count) == (NL, 1)
        assert "proves nothing" in str(event)
        monkeypatch.setattr(Log, "places", honest)
        await eventually(lambda: not desk.undelivered())
        assert desk.events() == [], "told once"


async def test_after_a_log_key_was_replaced_what_was_shown_stays_and_what_is_shown_needs_the_new_one(
    exchange: Exchange,
) -> None:
    """Evidence outlives its key; whoever has the old key today proves nothing new with it. A refusal may be read late."""
    # Documents of its own: the other tests share theirs.
    founded, exchange.log = exchange.log.entries, Log(exchange.world, exchange.clock)
    for _, _, data in founded:
        exchange.log.take(data)
    before = await sent(exchange)
    desk, _ = await asked(exchange, before)
    desk.close()
    exchange.clock.now_ms += HOUR_MS
    new = suite.SigningKey.generate(1)
    given = founding.public_key(new, lineage=exchange.world.lineage, party="nl", name=NL, role="log")
    old = exchange.world.log_keys[NL]
    replaced = chains.next_roster(
        exchange.world,
        "nl",
        lambda body: next(one for one in body.nodes if one.node == NL).log_key.CopyFrom(given),
        now_ms=exchange.clock(),
    )
    exchange.log.take(replaced.encode())
    async with exchange.open(HAGUE) as running:
        await running.synchronise()
    after, denied = await sent(exchange), await sent(exchange)
    desk, problems = await asked(exchange, after)
    assert len(problems) == 1, "the old key shows nothing new"
    assert NL not in {reader.node for reader in desk.track(after).readers if reader.delivered}
    assert [each.bad for each in await desk.verify_stages(before)] == [False, False], "and what it showed stays shown"
    desk.close()
    refused(exchange, denied, rule="SENDER_ENDED", key=old)
    assert Refused(denied, "SENDER_ENDED", "not for us", NL) in await read(exchange, HAGUE, "minerals")
    exchange.world.log_keys[NL] = new
    try:
        desk, problems = await asked(exchange, after)
        assert problems == []
        assert NL in {reader.node for reader in desk.track(after).readers if reader.delivered}
        desk.close()
    finally:
        exchange.world.log_keys[NL] = old


async def test_many_envelopes_are_one_question_and_a_node_that_lacks_them_is_asked_less_and_less(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackings, "LEAVES", 4)
    lacking = True
    exchange.log.lacks = lambda node, leaf: lacking and node == NL
    async with exchange.open(HAGUE) as desk:
        made = [await desk.publish("minerals", said(f"number {n}")) for n in range(6)]
        assert await desk.flush(20) == 0
        tracking, calls = desk._tracking, exchange.log.places_asked
        await eventually(lambda: {leaf for call in calls for leaf in call.leaves} == set(made))
        assert all(call.node == NL and len(call.leaves) <= 4 for call in calls), (
            "what is first and lacking stops nothing"
        )
        await eventually(lambda: tracking._paces[NL].delay_s == 0.2)
        lacking, before = False, len(calls)
        await eventually(lambda: desk.undelivered() == 0)
        assert len(calls) - before <= 3, "six of them in some calls of four"
        assert tracking._paces[NL].delay_s == 0.02, "and soon again"


async def test_heartbeats_are_not_asked_for(exchange: Exchange) -> None:
    desk = exchange.open(HAGUE)
    desk._tracking.run = forever  # type: ignore[method-assign]
    async with desk:
        alert = await desk.publish("alerts", said("something"))
        assert await desk.flush(20) == 0
        exchange.clock.now_ms += QUIET_MS
        await desk._beats.look()
        assert await desk.flush(20) == 0
    beat = exchange.log.entries[-1][0]
    assert beat != alert
    desk = exchange.open(HAGUE)
    assert (desk.archive.undelivered_at(beat), desk.archive.undelivered_at(alert)) == (set(), {NL})
    exchange.clock.now_ms += DAY_MS
    assert all(late.count == 1 for late in desk.overdue())
    desk.close()


# ---- refused


def refused(
    exchange: Exchange,
    identity: bytes,
    *,
    key: Signer | None = None,
    rule: str = "POLICY_AUDIENCE",
    desk: str = HAGUE,
    time_ms: int = 0,
) -> bytes:
    """A refusal of an envelope in the log; its leaf."""
    body = pb.NodeRefusal(
        origin=f"tocsin/{KR}/1",
        position=3,
        id=identity,
        rule=rule,
        text="not for us",
        time_ms=time_ms or exchange.clock(),
        node=NL,
        desk=desk,
    )
    data = refusal.sign(body, key or exchange.world.log_keys[NL])
    leaf = refusal.leaf_of(refusal.body_of(data))
    exchange.log.entries.append((leaf, pb.ENTRY_KIND_REFUSAL, data))
    return leaf


async def test_a_refusal_is_verified_kept_and_told_once(exchange: Exchange) -> None:
    identity = await sent(exchange)
    exchange.log.lacks = lambda node, leaf: node == NL
    refused(exchange, identity, rule="SENDER_ENDED")
    assert exchange.open(HAGUE).undelivered() == 1
    (event,) = await read(exchange, HAGUE, "minerals", "chips")
    assert event == Refused(identity, "SENDER_ENDED", "not for us", NL)
    desk = exchange.open(HAGUE)
    assert desk.undelivered() == 0, "it is not asked for any more"
    readers = {reader.desk: reader for reader in desk.track(identity).readers}
    assert readers[MOTIE].refused is None
    assert [(r.refused.rule, r.refused.text) for r in readers.values() if r.refused] == 2 * [
        ("SENDER_ENDED", "not for us")
    ]
    assert [each.subject for each in await desk.verify_stages(identity)] == [f"taken by {KR}", f"refused by {NL}"]
    desk.close()
    edit(exchange, "UPDATE refused SET id = zeroblob(32)")
    edit(exchange, f"UPDATE sent SET id = zeroblob(32) WHERE id = x'{identity.hex()}'")
    desk = exchange.open(HAGUE)
    assert [each.subject for each in await desk.verify_stages(bytes(32)) if each.bad] == [
        f"taken by {KR}",
        f"refused by {NL}",
    ]
    desk.close()


async def test_a_refusal_of_a_time_to_come_stops_nobody(exchange: Exchange) -> None:
    identity = await sent(exchange)
    exchange.log.lacks = lambda node, leaf: node == NL
    refused(exchange, identity, rule="SENDER_ENDED", time_ms=2**64 - 1)
    (event,) = await read(exchange, HAGUE, "minerals")
    assert event == Refused(identity, "SENDER_ENDED", "not for us", NL)
    desk = exchange.open(HAGUE)
    assert {r.refused.time_ms for r in desk.track(identity).readers if r.refused} == {exchange.clock()}
    desk.close()


@pytest.mark.parametrize("forgery", ["signed by another node", "for another desk", "not that leaf"])
async def test_a_forged_refusal_is_not_believed(exchange: Exchange, forgery: str) -> None:
    identity = await sent(exchange)
    exchange.log.lacks = lambda node, leaf: node == NL
    leaf = refused(
        exchange,
        identity,
        key=exchange.world.log_keys[KR] if forgery == "signed by another node" else None,
        desk=MOTIE if forgery == "for another desk" else HAGUE,
    )
    if forgery == "not that leaf":
        leaf = b"\x01" * 32
        exchange.log.entries[-1] = (leaf, *exchange.log.entries[-1][1:])
    (event,) = await read(exchange, HAGUE, "minerals")
    assert isinstance(event, Refused)
    assert (event.id, event.node) == (leaf, "")
    desk = exchange.open(HAGUE)
    assert not any(reader.refused for reader in desk.track(identity).readers)
    assert desk.undelivered() == 1
    desk.close()


async def test_a_refusal_of_what_this_desk_does_not_know_is_nothing(exchange: Exchange) -> None:
    """As after a restore from a backup: nobody is accused."""
    refused(exchange, b"\x07" * 32)
    assert await read(exchange, HAGUE, "minerals") == []


# ---- sealed again


async def test_what_expires_undelivered_is_sealed_again_once(exchange: Exchange) -> None:
    exchange.log.lacks = lambda node, leaf: node == NL
    identity = await sent(exchange)
    refused(exchange, identity, rule="ENVELOPE_TIME")
    await read(exchange, HAGUE, "minerals")
    expire_ms = exchange.open(HAGUE).track(identity).expire_time_ms
    exchange.clock.now_ms = expire_ms - 1
    async with exchange.open(HAGUE) as desk:
        await eventually(lambda: desk.events())
        assert desk.track(identity).again is None, "not before its time"
    await exchange.synchronise()
    exchange.clock.now_ms = expire_ms
    async with exchange.open(HAGUE) as desk:
        await eventually(lambda: desk.track(identity).again)
        assert await desk.flush(20) == 0
        await asyncio.sleep(0.15)
        again = [event for event in desk.events() if isinstance(event, SealedAgain)]
        new = desk.track(identity).again
        assert new
        assert again == [SealedAgain(identity, new, (NL,))]
        assert desk.track(new).pending
        assert desk.undelivered() == 1, "the old one is awaited no more"
    assert len(await given(exchange, SEOUL, "minerals")) == 1, "said twice, given once"
    old, fresh = (header_of(data) for leaf, kind, data in exchange.log.entries if leaf in (identity, new))
    assert old.stream != fresh.stream, "who lacks the old one waits for nothing"
    assert (fresh.channel, fresh.marking) == (old.channel, old.marking)


async def test_what_is_refused_for_want_of_a_document_is_sealed_again_at_once_and_once(exchange: Exchange) -> None:
    """A key card of the other country was unknown here after a long outage: nobody may lose for it what was said."""
    exchange.log.lacks = lambda node, leaf: node == NL
    identity = await sent(exchange)
    refused(exchange, identity, rule="POLICY_AUDIENCE")
    told = await read(exchange, HAGUE, "minerals")
    assert Refused(identity, "POLICY_AUDIENCE", "not for us", NL) in told
    async with exchange.open(HAGUE) as desk:
        await eventually(lambda: desk.track(identity).again)
        assert await desk.flush(20) == 0
        new = desk.track(identity).again
        assert new
    refused(exchange, new, rule="POLICY_AUDIENCE")
    await read(exchange, HAGUE, "minerals")
    async with exchange.open(HAGUE) as desk:
        await asyncio.sleep(0.15)
        assert desk.track(new).again is None, "a node that refuses everything does not make it endless"
        assert desk.undelivered() == 0
    assert len(await given(exchange, SEOUL, "minerals")) == 1, "said twice, given once"


async def given(exchange: Exchange, name: str, channel: str) -> list[rep.Report]:
    async with exchange.open(name) as desk:
        return [delivery.report async for delivery in desk.subscribe(channel, follow=False)]


# ---- opened


async def test_readers_acknowledge_where_the_rule_asks_many_in_one_envelope(exchange: Exchange) -> None:
    async with exchange.open(HAGUE) as desk:
        made = [await desk.publish("consultation", said(f"number {n}")) for n in range(5)]
        other = await desk.publish("minerals", said("nobody asks for this"))
        assert await desk.flush(20) == 0
    before = len(exchange.log.entries)
    assert len(await given(exchange, SEOUL, "consultation")) == 5
    assert len(await given(exchange, SEOUL, "minerals")) == 1
    answers = [header_of(data) for _, kind, data in exchange.log.entries[before:] if kind == pb.ENTRY_KIND_ENVELOPE]
    answers = [header for header in answers if header.answers]
    assert len(answers) == 1, "one envelope for five"
    assert [reader.desk for reader in answers[0].audience] == [HAGUE], "to the sender alone"
    desk, problems = await asked(exchange, made[0])
    assert problems == []
    for identity in made:
        opened = {reader.desk: reader.opened for reader in desk.track(identity).readers}
        assert opened[SEOUL] is not None
        assert opened[BZ] is None
    assert desk.track(made[0]).acknowledge
    assert not desk.track(other).acknowledge
    assert not any(reader.opened for reader in desk.track(other).readers)
    findings = await desk.verify_stages(made[4])
    assert (False, f"opened by {SEOUL}") in [(each.bad, each.subject) for each in findings]
    desk.close()
    # The one who is told owes nothing for it.
    assert await read(exchange, HAGUE, "consultation") == []
    assert exchange.open(HAGUE).unacknowledged() == 0
    edit(exchange, f"UPDATE opened SET desk = '{BZ}'")
    desk = exchange.open(HAGUE)
    assert [each.subject for each in await desk.verify_stages(made[0]) if each.bad] == [f"opened by {BZ}"]
    desk.close()


@pytest.mark.parametrize("held", [True, False])
async def test_what_the_node_lost_is_not_acknowledged_and_nothing_waits_for_it(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch, held: bool
) -> None:
    """A node that came back from a backup takes no answer to what it lost; what it holds of the rest is acknowledged."""
    async with exchange.open(HAGUE) as desk:
        made = [await desk.publish("consultation", said(f"number {n}")) for n in range(3)]
        assert await desk.flush(20) == 0
    lost = {made[0], made[2]} if held else set(made)
    publish = memory._Stub.Publish

    def losing(stub: memory._Stub) -> memory._Call:
        honest = publish(stub)._answer
        assert honest is not None

        def answer(request: pb.PublishRequest) -> object:
            if all(header_of(data).answers not in lost for data in request.envelopes):
                return honest(request)
            response = pb.PublishResponse(checkpoint=stub._log.note(stub._node))
            for data in request.envelopes:
                response.results.add(id=envelope.parse(data).id, rule="DOCUMENT_MISSING", text="not held")
            return response

        return memory._Call(answer)

    monkeypatch.setattr(memory._Stub, "Publish", losing)
    exchange.log.lacks = lambda _, leaf: leaf in lost
    events = await read(exchange, SEOUL, "consultation")
    async with exchange.open(SEOUL) as desk:
        # What the first run of the desk left, if it ended before the node had it all.
        await desk._acknowledging.once()
        assert await desk.flush(20) == 0
        assert not [event for event in (*events, *desk.events()) if isinstance(event, Refused)]
    exchange.log.lacks = lambda *_: False
    desk, _ = await asked(exchange, made[1])
    opened = {identity for identity in made if desk.archive.opened(identity)}
    desk.close()
    assert opened == set(made) - lost


async def test_an_acknowledgement_of_what_was_not_sent_to_its_sender_is_not_believed(exchange: Exchange) -> None:
    secret = await sent(exchange, channel="consultation", marking="RED", to=(SEOUL,))
    common = await sent(exchange, channel="consultation")
    lie = rep.Item(acknowledgement=rep.Acknowledgement(envelope=secret, time_ms=1))
    async with exchange.open(BZ) as desk:
        [_ async for _ in desk.subscribe("consultation", follow=False)]
        await desk.publish("consultation", lie, answers=common)
        assert await desk.flush(20) == 0
    (event,) = await read(exchange, HAGUE, "consultation")
    assert isinstance(event, Conflict)
    assert "not sent" in str(event)
    desk = exchange.open(HAGUE)
    assert [reader.opened for reader in desk.track(secret).readers] == [None]
    desk.close()


async def test_an_acknowledgement_of_a_time_to_come_stops_nobody(exchange: Exchange) -> None:
    """Nor does one that no disk holds: it was opened before it was acknowledged."""
    common = await sent(exchange, channel="consultation")
    desk = exchange.open(BZ)
    desk._acknowledging.run = forever  # type: ignore[method-assign]
    async with desk:
        [_ async for _ in desk.subscribe("consultation", follow=False)]
        lie = rep.Item(acknowledgement=rep.Acknowledgement(envelope=common, time_ms=2**64 - 1))
        await desk.publish("consultation", lie, answers=common)
        assert await desk.flush(20) == 0
    assert await read(exchange, HAGUE, "consultation") == []
    desk = exchange.open(HAGUE)
    (opened,) = [reader.opened for reader in desk.track(common).readers if reader.opened]
    assert opened.time_ms == exchange.clock()
    desk.close()


async def test_what_was_not_given_is_not_acknowledged(exchange: Exchange) -> None:
    async with exchange.open(HAGUE) as desk:
        identity, same = await desk.publish_all("alerts", [said("one"), said("two")])
        assert await desk.flush(20) == 0
    assert identity == same
    desk = exchange.open(SEOUL)
    desk._acknowledging.run = forever  # type: ignore[method-assign]
    async with desk:
        await desk._reading.fetch("alerts")
        assert desk.unacknowledged() == 0, "fetched, and given to nobody"
        reading = desk.subscribe("alerts", follow=False)
        assert (await anext(reading)).envelope == identity
        desk._reading.note_given()
        assert desk.unacknowledged() == 0, "half of it"
        assert [one.envelope async for one in reading] == [identity]
    desk, _ = await asked(exchange, identity)
    assert {reader.desk for reader in desk.track(identity).readers if reader.opened} == {SEOUL}
    desk.close()


async def test_what_was_shown_early_is_acknowledged_once_it_is_confirmed(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = await sent(exchange, channel="alerts")

    def subscribe(stub: memory._Stub, request: pb.SubscribeRequest) -> memory._Call:
        confirmed = stub._log.read(stub._node, request)
        early = [entry.data for entry in confirmed.entries if entry.leaf == identity]
        ready = (pb.SubscribeResponse(early=early), confirmed) if early else (confirmed,)
        return memory._Call(ready=ready)

    monkeypatch.setattr(memory._Stub, "Subscribe", subscribe)
    desk = exchange.open(SEOUL)
    desk._acknowledging.run = forever  # type: ignore[method-assign]
    async with desk:
        reading = desk.subscribe("alerts", early=True)
        delivery = await anext(reading)
        assert (delivery.confirmed, desk.unacknowledged()) == (False, 0)
        following = asyncio.ensure_future(anext(reading))
        await eventually(lambda: desk.unacknowledged() == 1)
        assert delivery.confirmed
        following.cancel()


async def test_a_repeat_is_acknowledged_too(exchange: Exchange) -> None:
    report = said("twice")
    async with exchange.open(HAGUE) as desk:
        made = [await desk.publish("alerts", report) for _ in range(2)]
        assert await desk.flush(20) == 0
    assert made[0] != made[1]
    assert len(await given(exchange, SEOUL, "alerts")) == 1
    await read(exchange, HAGUE, "alerts")
    desk = exchange.open(HAGUE)
    assert [len(desk.archive.opened(each)) for each in made] == [1, 1]
    desk.close()


async def test_who_works_with_the_desk_asks_and_others_look(exchange: Exchange) -> None:
    identity = await sent(exchange)
    async with exchange.open(HAGUE):
        looking = exchange.open(HAGUE)
        with pytest.raises(DeskInUseError):
            await looking.ask_stages([identity])
        assert looking.track(identity).taken
        assert looking.overdue() == []
        looking.close()


# ---- overdue


async def test_what_is_overdue_is_told_once_a_day_at_both_ends(exchange: Exchange) -> None:
    exchange.log.lacks = lambda node, leaf: node == NL
    one = await sent(exchange)
    two = await sent(exchange, channel="alerts")
    desk = exchange.open(HAGUE)
    exchange.clock.now_ms += DELIVERED_WITHIN_MS - 1
    assert desk.overdue() == []
    exchange.clock.now_ms += 1
    (late,) = desk.overdue()
    assert isinstance(late, Undelivered)
    assert (late.node, late.count) == (NL, 2)
    assert "did not show that it has 2 envelopes" in str(late)
    assert {reader.overdue for reader in desk.track(one).readers if reader.node == NL} == {"delivered"}
    assert {reader.overdue for reader in desk.track(one).readers if reader.node == KR} == {""}
    exchange.clock.now_ms += ALERT_OPENED_WITHIN_MS
    overdue = desk.overdue()
    assert [(late.desk, late.channel, late.count) for late in overdue if isinstance(late, Unopened)] == [
        (MOTIE, "alerts", 1)
    ]
    exchange.log.lacks = lambda node, leaf: False
    assert await desk.ask_stages([one, two]) == []
    assert {late.desk for late in desk.overdue() if isinstance(late, Unopened)} == {MOTIE, SEOUL, BZ}
    assert not any(isinstance(late, Undelivered) for late in desk.overdue())
    desk.close()
    for name in (MOTIE, SEOUL, BZ):
        await read(exchange, name, "alerts")
    exchange.log.lacks = lambda node, leaf: node == NL
    await sent(exchange)
    exchange.clock.now_ms += DELIVERED_WITHIN_MS
    async with exchange.open(HAGUE) as desk:
        heard: list[object] = []

        def kinds() -> list[type]:
            return [type(event) for event in heard]

        await desk.ask_stages([two])
        await eventually(lambda: heard.extend(desk.events()) or heard)
        await asyncio.sleep(0.2)
        exchange.clock.now_ms += DAY_MS
        assert desk.events() == [], "once"
        await eventually(lambda: heard.extend(desk.events()) or kinds().count(Undelivered) > 1)
        # What is not opened is overdue by then too.
        assert kinds().count(Undelivered) == 2
        assert set(kinds()) <= {Undelivered, Unopened}


async def test_the_reader_s_end_knows_what_it_owes(exchange: Exchange) -> None:
    identity = await sent(exchange, channel="consultation")
    desk = exchange.open(SEOUL)
    desk._finish = nothing  # type: ignore[method-assign]
    desk._acknowledging.run = nothing  # type: ignore[method-assign]
    async with desk:
        assert len([one async for one in desk.subscribe("consultation", follow=False)]) == 1
    desk = exchange.open(SEOUL)
    assert desk.unacknowledged() == 1
    desk._finish = nothing  # type: ignore[method-assign]
    async with desk:
        await eventually(lambda: desk.unacknowledged() == 0)
        assert await desk.flush(20) == 0
    await read(exchange, HAGUE, "consultation")
    desk = exchange.open(HAGUE)
    assert desk.archive.opened(identity), "what was owed from an earlier run is said"
    desk.close()


async def nothing() -> None:
    return


async def test_only_its_sender_tracks_an_envelope(exchange: Exchange) -> None:
    identity = await sent(exchange)
    await read(exchange, SEOUL, "minerals")
    desk = exchange.open(SEOUL)
    with pytest.raises(UsageError, match="sent no envelope"):
        desk.track(identity)
    desk.close()


async def test_what_was_taken_just_now_is_asked_for_soon_and_no_turn_rests(exchange: Exchange) -> None:
    exchange.log.lacks = lambda node, leaf: node == NL
    await sent(exchange)
    desk = exchange.open(HAGUE)
    desk._tracking.run = forever  # type: ignore[method-assign]
    async with desk:
        tracking, calls = desk._tracking, exchange.log.places_asked
        tracking.place()
        tracking._paces[NL] = pace = trackings._Pace(0.0)
        for turn in range(1, 6):
            pace.next_s = 0.0
            await tracking._ask_paced(NL, grown=False)
            assert len(calls) == turn, "all is asked for again, from the front"
        pace.next_s, pace.delay_s = 0.0, trackings.PACE_S[1]
        await tracking._ask_paced(NL, grown=True)
        assert pace.delay_s == 2 * trackings.PACE_S[0], "as soon as if nothing else were late"
