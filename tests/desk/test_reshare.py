"""History for a colleague who was admitted late, or had no key card: what others signed, passed on with its proofs."""

import asyncio
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from exchange import reshare, reshare_cli
from exchange.cli import app
from exchange.desk import Conflict, Delivery, Desk, Refused
from exchange.desk.resharing import Resharing
from exchange.v1 import report_pb2 as rep
from keys import suite
from keys.errors import UsageError
from keys.v1 import documents_pb2 as docs
from tests import chains
from tests.desk import memory
from tests.desk.memory import Exchange
from tests.desk.test_desk import said
from tests.desk.test_positions import silent
from tests.exchange.test_vocabulary import alert
from tests.world import World

HAGUE, MOTIE = "kr.the-hague/economic", "kr.motie/supply"
SEOUL, COMPANY = "nl.seoul/economic", "nl.asml-like/supply"
HOUR = 3600_000


async def join(exchange: Exchange, name: str) -> None:
    """A desk begins its work: its first key cards reach everybody."""
    exchange.directories = {**exchange.directories, name: memory.make_desk(exchange.root, exchange.world, name)}
    await exchange.synchronise()


async def say(exchange: Exchange, sender: str, *texts: str, **where: Any) -> None:
    async with exchange.open(sender) as desk:
        await desk.publish_all("minerals", [said(text) for text in texts], **where)
        assert await desk.flush(10) == 0


async def say_items(exchange: Exchange, sender: str, *items: rep.Item) -> None:
    async with exchange.open(sender) as desk:
        await desk.publish_all("minerals", items)
        assert await desk.flush(10) == 0


async def read(exchange: Exchange, name: str) -> tuple[list[Delivery], list[Any]]:
    async with exchange.open(name) as desk:
        return [one async for one in desk.subscribe("minerals", follow=False)], desk.events()


async def pass_on(exchange: Exchange, by: str, to: str, **what: Any) -> Any:
    await read(exchange, by)
    async with exchange.open(by) as desk:
        done = await desk.reshare(to, "minerals", **what)
        assert await desk.flush(10) == 0
        return done


def texts(deliveries: list[Delivery]) -> list[str]:
    return [one.report.summary[0].text for one in deliveries]


async def test_who_had_no_card_reads_later_what_was_said(exchange: Exchange) -> None:
    await say(exchange, SEOUL, "one", "two")
    exchange.clock.now_ms += 1
    await say(exchange, SEOUL, "three")
    await join(exchange, MOTIE)
    came, events = await read(exchange, MOTIE)
    assert came == []
    assert [event.rule for event in events if isinstance(event, Refused)] == ["OPEN_FAILED"] * 2
    assert "ask a colleague" in str(events[0])
    done = await pass_on(exchange, HAGUE, MOTIE)
    assert (done.envelopes, done.items, done.left) == (2, 3, ())
    came, events = await read(exchange, MOTIE)
    assert events == []
    assert texts(came) == ["one", "two", "three"]
    assert {(one.sender, one.reshared_by) for one in came} == {(SEOUL, HAGUE)}
    assert came[0].create_time_ms < came[2].create_time_ms
    assert all("passed on by kr.the-hague/economic" in one.warnings for one in came)
    async with exchange.open(MOTIE) as desk:
        assert texts(desk.inbox("minerals")) == ["one", "two", "three"]
        for one in came:
            desk.check_receipt(one)


async def test_what_was_read_is_not_read_again(exchange: Exchange) -> None:
    await say(exchange, SEOUL, "one")
    await join(exchange, MOTIE)
    await pass_on(exchange, HAGUE, MOTIE)
    assert texts((await read(exchange, MOTIE))[0]) == ["one"]
    await pass_on(exchange, HAGUE, MOTIE)
    assert await read(exchange, MOTIE) == ([], [])
    async with exchange.open(MOTIE) as desk:
        assert texts(desk.inbox()) == ["one"]


def alerted() -> rep.Item:
    """An alert; its time stands, so it is of any world."""
    return rep.Item(alert=alert())


@pytest.mark.parametrize("make", [alerted, lambda: rep.Item(report=said("one"))], ids=["alert", "report"])
async def test_what_bears_an_id_is_given_once_in_whichever_envelope_it_comes(
    exchange: Exchange, make: Callable[[], rep.Item]
) -> None:
    """Its own, another of the same sender, or passed on from either."""
    item = make()
    await say_items(exchange, SEOUL, item)
    await join(exchange, MOTIE)
    await pass_on(exchange, HAGUE, MOTIE)
    (came,), _ = await read(exchange, MOTIE)
    assert (came.sender, came.reshared_by) == (SEOUL, HAGUE)
    await say_items(exchange, SEOUL, item)
    assert await read(exchange, MOTIE) == ([], [])
    assert await read(exchange, HAGUE) == ([], [])
    async with exchange.open(MOTIE) as desk:
        assert len(desk.inbox("minerals")) == 1


async def test_an_id_with_another_text_is_told_and_given(exchange: Exchange) -> None:
    item = alerted()
    await say_items(exchange, SEOUL, item)
    item.alert.probability = 0.9
    await say_items(exchange, SEOUL, item)
    came, events = await read(exchange, HAGUE)
    assert [one.item.alert.probability for one in came] == [pytest.approx(0.7), pytest.approx(0.9)]
    assert [type(event) for event in events] == [Conflict]
    assert f"alert {item.alert.id.hex()} has two texts" in str(events[0])


async def test_what_is_passed_on_after_its_sender_s_key_ended_is_refused(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody shows its reader where it stood; a thief of the key could have sealed it since."""
    monkeypatch.setattr(memory._Stub, "GetPosition", silent, raising=False)
    await say(exchange, SEOUL, "one")
    await join(exchange, MOTIE)
    await read(exchange, HAGUE)
    await read(exchange, MOTIE)
    exchange.clock.now_ms += HOUR
    key = suite.key_id(1, "desk", exchange.world.desks[SEOUL].public)
    ended = chains.next_roster(
        exchange.world, "nl", lambda body: body.revocations.add(key=key), now_ms=exchange.clock()
    )
    exchange.log.take(ended.encode())
    await say(exchange, HAGUE, "a reader again, without the desk whose key ended")
    await pass_on(exchange, HAGUE, MOTIE)
    came, events = await read(exchange, MOTIE)
    assert texts(came) == ["a reader again, without the desk whose key ended"]
    assert [event.rule for event in events] == ["SENDER_ENDED"]


async def test_only_what_was_said_since_then(exchange: Exchange) -> None:
    await say(exchange, SEOUL, "one")
    exchange.clock.now_ms += HOUR
    await say(exchange, SEOUL, "two")
    await join(exchange, MOTIE)
    assert (await pass_on(exchange, HAGUE, MOTIE, since_ms=exchange.clock())).items == 1
    assert texts((await read(exchange, MOTIE))[0]) == ["two"]


async def test_what_the_colleague_said_itself_and_what_he_only_sent_on_are_passed_on_too(exchange: Exchange) -> None:
    await say(exchange, HAGUE, "mine")
    await join(exchange, MOTIE)
    await pass_on(exchange, HAGUE, MOTIE)
    (one,) = (await read(exchange, MOTIE))[0]
    assert (texts([one]), one.sender, one.reshared_by) == (["mine"], HAGUE, HAGUE)


def roster(exchange: Exchange, world: World, party: str, *, leave_out: str = "", after: Any = None) -> Any:
    listed = [desk for desk in chains.documents.body(world.rosters[party], docs.Roster).desks if desk.desk != leave_out]

    def bend(body: docs.Roster) -> None:
        del body.desks[:]
        body.desks.extend(listed)

    made = chains.next_roster(world, party, bend, now_ms=exchange.clock(), after=after)
    exchange.log.take(made.encode())
    return made


async def test_who_was_admitted_late_reads_what_was_said_before(exchange: Exchange) -> None:
    without = roster(exchange, exchange.world, "kr", leave_out=MOTIE)
    await exchange.synchronise()
    exchange.clock.now_ms += HOUR
    await say(exchange, SEOUL, "before")
    header = memory.header_of(exchange.log.entries[-1][2])
    assert MOTIE not in {one.desk for one in header.audience}
    roster(exchange, exchange.world, "kr", after=without)
    await join(exchange, MOTIE)
    assert await pass_on(exchange, HAGUE, MOTIE) == (0, 0, ()), "it may not read yet"
    exchange.clock.now_ms += 25 * HOUR
    await exchange.synchronise()
    (why,) = (await pass_on(exchange, HAGUE, MOTIE)).left
    assert "nothing was said at it yet that kr.motie/supply is a reader of" in why
    await say(exchange, HAGUE, "welcome")
    assert (await pass_on(exchange, HAGUE, MOTIE)).items == 1
    came, events = await read(exchange, MOTIE)
    assert texts(came) == ["welcome", "before"]
    assert ["not in the audience" in str(event) for event in events] == [True], "this node shows everybody everything"


async def test_a_company_is_given_what_it_may_read(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    await say(exchange, HAGUE, "for governments")
    await say(exchange, HAGUE, "for all", marking="GREEN")
    await say(exchange, HAGUE, "for one", marking="RED", to=[SEOUL])
    await join(exchange, COMPANY)
    # Off is the agreement of today, as the colleague applies it; what he then may answer is still the agreed audience.
    with monkeypatch.context() as patch:
        patch.setattr(Resharing, "_may_read", lambda *_: True)
        assert (await pass_on(exchange, SEOUL, COMPANY)).left, "no envelope at that marking has the company as a reader"
    await pass_on(exchange, SEOUL, COMPANY)
    came, events = await read(exchange, COMPANY)
    assert texts(came) == ["for all"]
    assert [event for event in events if not isinstance(event, Refused)] == []


async def test_nobody_passes_on_to_another_country(exchange: Exchange) -> None:
    await say(exchange, HAGUE, "one")
    for name, what in ((HAGUE, "no other desk of nl"), ("nl.nobody/here", "no other desk"), (COMPANY, "no key card")):
        with pytest.raises(UsageError, match=what):
            await pass_on(exchange, SEOUL, name)


Bend = Callable[[rep.Reshare], None]


def another_text(one: rep.Reshare) -> None:
    one.items[0].item = rep.Item(report=said("what nobody said")).SerializeToString()


def another_place(one: rep.Reshare) -> None:
    one.items[1].index = 2


def another_header(one: rep.Reshare) -> None:
    one.envelope = one.envelope.replace(b"minerals", b"minerbls")


def another_length(one: rep.Reshare) -> None:
    one.ciphertext_length = 8192 + 16


def another_signature(one: rep.Reshare) -> None:
    data = bytearray(one.envelope)
    data[-1] ^= 1
    one.envelope = bytes(data)


def nothing(one: rep.Reshare) -> None:
    del one.items[:]


def bend_what_is_passed_on(monkeypatch: pytest.MonkeyPatch, bend: Bend) -> None:
    make = reshare.make

    def bent(*args: Any) -> rep.Reshare:
        made = make(*args)
        bend(made)
        return made

    monkeypatch.setattr(reshare, "make", bent)


@pytest.mark.parametrize(
    ("bend", "rule"),
    [
        (another_text, "PROOF_BAD"),
        (another_place, "PROOF_BAD"),
        (another_header, "SIGNATURE_BAD"),
        (another_length, "SIGNATURE_BAD"),
        (another_signature, "SIGNATURE_BAD"),
        (nothing, "ENVELOPE_SHAPE"),
    ],
)
async def test_what_was_not_said_so_is_refused(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch, bend: Bend, rule: str
) -> None:
    await say(exchange, SEOUL, "one", "two")
    await join(exchange, MOTIE)
    await read(exchange, MOTIE)
    bend_what_is_passed_on(monkeypatch, bend)
    await pass_on(exchange, HAGUE, MOTIE)
    came, events = await read(exchange, MOTIE)
    assert came == []
    assert [event.rule for event in events] == [rule]
    async with exchange.open(MOTIE) as desk:
        assert desk.inbox() == [], "nothing of it is kept"


async def test_without_the_check_the_forged_text_is_given(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    await say(exchange, SEOUL, "one")
    await join(exchange, MOTIE)
    await read(exchange, MOTIE)
    bend_what_is_passed_on(monkeypatch, another_text)
    monkeypatch.setattr(reshare, "verify", lambda *_, **__: None)
    await pass_on(exchange, HAGUE, MOTIE)
    assert texts((await read(exchange, MOTIE))[0]) == ["what nobody said"]


async def passed_by_hand(exchange: Exchange, by: str, item: rep.Item, **where: Any) -> None:
    async with exchange.open(by) as desk:
        await desk._sending.sealing.publish_all("minerals", [item], **where)
        assert await desk.flush(10) == 0


def first_of(desk: Desk, text: str) -> rep.Item:
    """The re-share that a desk would make of what it read."""
    (one,) = [one for one in desk.inbox("minerals") if texts([one]) == [text]]
    content = desk.archive.content(one.envelope)
    return rep.Item(reshare=reshare.make(content.outer, content.items, content.salt_seed, [one.index]))


@pytest.mark.parametrize("case", ["published", "red", "other marking", "other party", "steering"])
async def test_what_may_not_be_passed_on_so_is_refused(exchange: Exchange, case: str) -> None:
    """By a colleague whose software does not ask: the reader refuses it."""
    await join(exchange, MOTIE)
    governments = [HAGUE, MOTIE, "nl.bz/supply"]
    await say(exchange, SEOUL, "amber")
    await say(exchange, SEOUL, "green", marking="GREEN")
    await say(exchange, SEOUL, "red", marking="RED", to=governments[:2])
    await read(exchange, MOTIE)
    by = SEOUL if case == "other party" else HAGUE
    async with exchange.open(HAGUE) as desk:
        async for _ in desk.subscribe("minerals", follow=False):
            pass
        answers = {texts([one])[0]: one.envelope for one in desk.inbox("minerals")}
        item = first_of(desk, "red" if case == "red" else "amber")
        if case == "steering":
            item.reshare.items[0].item = rep.Item(heartbeat=rep.Heartbeat()).SerializeToString()
    where: dict[str, Any] = {"marking": "AMBER", "to": (MOTIE,), "answers": answers["amber"]}
    if case == "published":
        where = {"marking": "AMBER", "to": (), "answers": b""}
    elif case == "red":
        where["answers"], where["marking"] = answers["red"], "RED"
    elif case == "other marking":
        where["answers"], where["marking"] = answers["green"], "GREEN"
    await passed_by_hand(exchange, by, item, **where)
    came, events = await read(exchange, MOTIE)
    assert came == []
    assert [event.rule for event in events] == ["POLICY_AUDIENCE" if case == "other marking" else "POLICY_PUBLISH"]


def test_the_command_says_what_was_passed_on_and_what_was_not(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def before() -> None:
        await say(exchange, SEOUL, "one")
        await say(exchange, SEOUL, "two", marking="GREEN")
        await join(exchange, MOTIE)
        await read(exchange, HAGUE)

    asyncio.run(before())
    monkeypatch.setattr(reshare_cli, "Desk", SimpleNamespace(open=lambda *_, **__: exchange.open(HAGUE)))
    command = ["desk", "reshare", MOTIE, "--desk", "here", "--channel", "minerals"]
    done = CliRunner().invoke(app, [*command, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout.splitlines()[-1]) == {"envelopes": 2, "items": 2, "left": [], "waiting": 0}
    done = CliRunner().invoke(app, [*command, "--since", "2030-01-01"])
    assert "0 items of 0 envelopes passed on to kr.motie/supply" in done.output
    assert sorted(texts(asyncio.run(read(exchange, MOTIE))[0])) == ["one", "two"]
