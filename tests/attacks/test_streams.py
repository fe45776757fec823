"""Attacks on what a desk is shown and on what it sends, numbered as in docs/THREATS.md. The node is hostile throughout:
it is a log in memory that admits anything and shows what it likes; the desks are real.

Each is refused for its reason, and succeeds once that one check is switched off: so each test is known to bite.
"""

import itertools
import shutil
from pathlib import Path
from typing import Any

import pytest

from exchange import envelope, policy
from exchange.desk import Conflict, Delivery, Desk, Gap, Refused
from exchange.desk.archive import Archive
from exchange.desk.cards import Cards
from exchange.desk.opening import Opening
from exchange.envelope import Parsed
from exchange.v1 import envelope_pb2 as env
from exchange.v1 import exchange_pb2 as pb
from exchange.v1 import report_pb2 as rep
from keys.errors import OpenError
from tests.attacks.marks import attack
from tests.desk import memory
from tests.desk.memory import Exchange
from tests.desk.test_couriers import send
from tests.desk.test_desk import said, texts
from tests.desk.test_forgetting import DUE, WEEK, captured, drain, once, stolen
from tests.world import draft, public_cards

Patch = pytest.MonkeyPatch
HAGUE, SEOUL, COMPANY = "kr.the-hague/economic", "nl.seoul/economic", "nl.asml-like/supply"


def yes(*_: object, **__: object) -> None:
    """A check that is switched off."""


def seal(exchange: Exchange, item: bytes, **fields: Any) -> Parsed:
    """An envelope as a desk could make it by hand."""
    header = draft(exchange.log.trust, **fields)
    cards = public_cards(exchange.log.trust, header)
    return envelope.seal([item], header, key=exchange.world.desks[header.sender], cards=cards)


def report(text: str) -> bytes:
    return rep.Item(report=said(text)).SerializeToString()


def chain(exchange: Exchange, count: int) -> list[Parsed]:
    """Envelopes 1 to `count` of one stream."""
    made: list[Parsed] = []
    for seq in range(1, count + 1):
        prev = (seq - 1, made[-1].id) if made else (0, b"")
        made.append(seal(exchange, report(f"text {seq}"), seq=seq, prev=prev))
    return made


def fresh(exchange: Exchange) -> Desk:
    """The reading desk as on its first day."""
    for file in exchange.directories[SEOUL].glob("desk.db*"):
        file.unlink()
    return exchange.open(SEOUL)


async def shown(desk: Desk) -> tuple[list[str], list[Any]]:
    """What a desk reads of `minerals`, and what it is told about it."""
    came = [delivery async for delivery in desk.subscribe("minerals", follow=False)]
    return [texts([one])[0] if one.kind == "report" else one.kind for one in came], desk.events()


# ---- 10 replay


@attack(10, off="knows")
async def test_10_a_log_that_holds_an_envelope_twice_delivers_it_once(exchange: Exchange, monkeypatch: Patch) -> None:
    """Something that bears no id: of a report the repeat would be dropped once more, by that."""
    parsed = seal(exchange, rep.Item(refusal=rep.Refusal(envelope=b"e" * 32)).SerializeToString())
    entry = (parsed.id, pb.ENTRY_KIND_ENVELOPE, parsed.data)
    exchange.log.entries += [entry, entry]
    async with exchange.open(SEOUL) as desk:
        assert await shown(desk) == (["refusal"], [])
    exchange.log.entries.append(entry)
    async with exchange.open(SEOUL) as desk:
        assert await shown(desk) == ([], []), "across a restart too"
    # Off is the memory of ids: the question, and the table that would not hold one twice.
    monkeypatch.setattr(Archive, "knows", lambda *_: False)
    keep, kept = Archive.keep_received, set[bytes]()

    def keep_first(self: Archive, received: Any) -> None:
        if received.id not in kept:
            keep(self, received)
        kept.add(received.id)

    monkeypatch.setattr(Archive, "keep_received", keep_first)
    async with fresh(exchange) as desk:
        assert (await shown(desk))[0] == ["refusal"] * 3


# ---- 11 reordering, dropping, withholding


@attack(11, off="number")
async def test_11_every_subset_that_a_node_withholds_is_named(exchange: Exchange, monkeypatch: Patch) -> None:
    sealed = chain(exchange, 5)
    for each in sealed:
        exchange.log.publish(each.data)

    async def withheld(hidden: set[int]) -> set[int]:
        exchange.log.hide = {sealed[n - 1].data for n in hidden}.__contains__
        async with fresh(exchange) as desk:
            came, events = await shown(desk)
        assert came == [f"text {n}" for n in range(1, 6) if n not in hidden], "what is shown is read, in order"
        assert all(isinstance(event, Gap) for event in events)
        return {n for event in events for n in range(event.first, event.last + 1)}

    everything = [set(some) for size in range(6) for some in itertools.combinations(range(1, 6), size)]
    for hidden in everything:
        last = max({*range(1, 6)} - hidden, default=0)
        # What comes after the last one shown is named by the next number, or by the sender's own word.
        assert await withheld(hidden) == {n for n in hidden if n < last}, hidden
    monkeypatch.setattr(Opening, "number", yes)
    assert await withheld({2, 3}) == set()


@attack(11, off="number")
async def test_11_every_order_is_put_right(exchange: Exchange, monkeypatch: Patch) -> None:
    sealed = chain(exchange, 4)
    before = list(exchange.log.entries)

    async def read(order: tuple[int, ...]) -> list[str]:
        exchange.log.entries = before + [(sealed[n].id, int(pb.ENTRY_KIND_ENVELOPE), sealed[n].data) for n in order]
        async with fresh(exchange) as desk:
            came, events = await shown(desk)
        assert events == [], "nothing is missing"
        return came

    said_, orders = [f"text {n}" for n in range(1, 5)], list(itertools.permutations(range(4)))
    assert [order for order in orders[:12] if await read(order) != said_] == []
    monkeypatch.setattr(Opening, "number", yes)
    assert await read((1, 0, 2, 3)) != said_


# ---- 12 equivocation by a sender


@attack(12, off="number")
async def test_12_two_envelopes_at_one_number_are_told(exchange: Exchange, monkeypatch: Patch) -> None:
    for text in ("one story", "another story"):
        exchange.log.publish(seal(exchange, report(text)).data)
    async with exchange.open(SEOUL) as desk:
        came, events = await shown(desk)
    assert came == ["one story", "another story"]
    (event,) = events
    assert isinstance(event, Conflict)
    assert "fork or restore" in str(event)
    monkeypatch.setattr(Opening, "number", yes)
    async with fresh(exchange) as desk:
        assert await shown(desk) == (["one story", "another story"], [])


@attack(12, off="number")
async def test_12_an_envelope_that_denies_the_one_before_is_told(exchange: Exchange, monkeypatch: Patch) -> None:
    exchange.log.publish(seal(exchange, report("one")).data)
    exchange.log.publish(seal(exchange, report("two"), seq=2, prev=(1, b"x" * 32)).data)
    async with exchange.open(SEOUL) as desk:
        _, (event,) = await shown(desk)
    assert "two envelopes stand at number 1" in str(event)
    monkeypatch.setattr(Opening, "number", yes)
    async with fresh(exchange) as desk:
        assert (await shown(desk))[1] == []


# ---- 20 stolen card seed


@attack(20, off="destroy")
async def test_20_a_desk_stolen_later_opens_nothing_of_earlier_cards(exchange: Exchange, monkeypatch: Patch) -> None:
    await send(exchange, "captured")
    (data,) = captured(exchange)
    async with exchange.open(SEOUL) as desk:
        await drain(desk)
    exchange.clock.now_ms = DUE
    async with exchange.open(SEOUL) as desk:
        await drain(desk)
    with monkeypatch.context() as patch:
        patch.setattr(Cards, "destroy", yes)
        assert await once(exchange) == [WEEK]
        assert b"captured" in (await stolen(exchange, data))[0]
    assert await once(exchange) == [WEEK]
    with pytest.raises(OpenError):
        await stolen(exchange, data)


# ---- 21 insider outside policy, and a node that lets him


@attack(21, off="may_publish")
async def test_21_a_reader_refuses_what_a_colluding_node_took(exchange: Exchange, monkeypatch: Patch) -> None:
    exchange.log.publish(seal(exchange, report("smuggled"), sender=COMPANY).data)
    async with exchange.open(SEOUL) as desk:
        came, (event,) = await shown(desk)
    assert came == []
    assert isinstance(event, Refused)
    assert event.rule == "POLICY_PUBLISH"
    monkeypatch.setattr(policy, "may_publish", lambda *_, **__: True)
    async with fresh(exchange) as desk:
        assert await shown(desk) == (["smuggled"], [])


# ---- 23 restored backup, cloned disk


async def restored(exchange: Exchange, tmp_path: Path) -> list[env.Envelope]:
    """Two envelopes of a desk with the same text, sealed at the same moment: the second after its disk was put back."""
    shutil.copytree(exchange.directories[HAGUE], tmp_path / "backup")
    await send(exchange, "said twice")
    shutil.rmtree(exchange.directories[HAGUE])
    shutil.copytree(tmp_path / "backup", exchange.directories[HAGUE])
    await send(exchange, "said twice")
    shutil.rmtree(tmp_path / "backup")
    return [envelope.parse(data).outer for data in captured(exchange)[-2:]]


@attack(23, off="number")
async def test_23_a_restored_desk_gives_its_readers_notice(
    exchange: Exchange, tmp_path: Path, monkeypatch: Patch
) -> None:
    headers = [env.Header.FromString(outer.header) for outer in await restored(exchange, tmp_path)]
    if headers[0].stream == headers[1].stream:
        async with exchange.open(SEOUL) as desk:
            _, events = await shown(desk)
        assert [type(event) for event in events] == [Conflict]
    else:
        # A new stream was forced: nothing collides, and nothing is to be told.
        assert headers[1].seq == 1
    # Two clones that run side by side share a stream whatever a restart does.
    for text in ("clone 1", "clone 2"):
        exchange.log.publish(seal(exchange, report(text), stream=b"c" * 16).data)
    async with fresh(exchange) as desk:
        assert any(isinstance(event, Conflict) for event in (await shown(desk))[1])
    monkeypatch.setattr(Opening, "number", yes)
    async with fresh(exchange) as desk:
        assert (await shown(desk))[1] == []


@attack(23, off="urandom")
async def test_23_a_restored_desk_never_repeats_a_key(exchange: Exchange, monkeypatch: Patch) -> None:
    header, item = draft(exchange.log.trust), report("the same text at the same moment")

    def seals() -> list[env.Envelope]:
        cards, key = public_cards(exchange.log.trust, header), exchange.world.desks[HAGUE]
        return [envelope.seal([item], header, key=key, cards=cards).outer for _ in range(2)]

    one, two = seals()
    # The commitment is derived beside the content key from the same secret: equal keys would have equal ones.
    assert one.commitment != two.commitment
    assert one.ciphertext != two.ciphertext
    monkeypatch.setattr(envelope.os, "urandom", lambda count: b"r" * count)
    one, two = seals()
    assert one.commitment == two.commitment


# ---- 24 parser tricks


@attack(24)
async def test_24_a_field_of_a_newer_version_still_arrives(exchange: Exchange) -> None:
    """Countries upgrade apart: in items the unknown is delivered, byte for byte."""
    newer = said("from next year").SerializeToString() + b"\xfa\x7f\x03new"
    item = b"\x0a" + bytes([len(newer)]) + newer
    assert rep.Item.FromString(item).report.summary[0].text == "from next year"
    exchange.log.publish(seal(exchange, item).data)
    unknown = b"\xfa\x7f\x03new"
    exchange.log.publish(seal(exchange, unknown, stream=b"u" * 16).data)
    came: list[Delivery] = []
    async with exchange.open(SEOUL) as desk:
        came = [one async for one in desk.subscribe("minerals", follow=False)]
        assert desk.events() == []
    assert [one.raw for one in came] == [item, unknown]
    assert any("more than this version reads" in warning for warning in came[1].warnings)


# ---- 34 framing by re-seal


@attack(34, off="forget_stream")
async def test_34_a_node_that_refuses_and_keeps_frames_nobody(exchange: Exchange, monkeypatch: Patch) -> None:
    kept: list[bytes] = []

    def keeps(self: Any) -> Any:
        """Takes the first, refuses the second and keeps it, takes what comes then."""

        def answer(request: pb.PublishRequest) -> pb.PublishResponse:
            response = pb.PublishResponse()
            for data in request.envelopes:
                parsed = envelope.parse(data)
                if b"framed" in names and not kept and exchange.log.entries[-1][1] == pb.ENTRY_KIND_ENVELOPE:
                    kept.append(data)
                    response.results.add(id=parsed.id, rule="POLICY_AUDIENCE", text="not today")
                    continue
                position = exchange.log.publish(data)
                response.results.add(id=parsed.id, position=position)
            response.checkpoint = exchange.log.note(self._node)
            for result in response.results:
                if not result.rule:
                    result.proof.extend(exchange.log.proof(result.position))
            return response

        return memory._Call(answer)

    names: set[bytes] = set()
    monkeypatch.setattr(memory._Stub, "Publish", keeps)

    async def framed() -> tuple[tuple[list[str], list[Any]], tuple[list[str], list[Any]]]:
        """What a reader sees who is not shown what was kept, and one who is, after all else."""
        names.clear()
        kept.clear()
        await send(exchange, "before")
        names.add(b"framed")
        await send(exchange, "framed")
        await send(exchange, "after")
        async with fresh(exchange) as desk:
            without = await shown(desk)
        last = exchange.log.entries.pop()
        exchange.log.publish(kept[0])
        exchange.log.entries.append(last)
        async with fresh(exchange) as desk:
            return without, await shown(desk)

    before = list(exchange.log.entries)
    for said_, events in await framed():
        assert said_ == ["before", "framed", "after"]
        assert events == [], "no conflict, no gap that stays"
    exchange.log.entries = before
    for file in exchange.directories[HAGUE].glob("desk.db*"):
        file.unlink()
    # Off: the re-seal goes on in the old stream and stands by a number that nobody was given.
    monkeypatch.setattr(Archive, "forget_stream", yes)
    (_, events), _ = await framed()
    assert [type(event) for event in events] == [Gap]


@attack(34, off="at_number")
@attack(34, off="number")
async def test_34_withdrawn_numbers_are_neither_gap_nor_conflict(exchange: Exchange, monkeypatch: Patch) -> None:
    """Of a sender that re-seals in the same stream: number 3 stands by 1, so 2 is withdrawn, shown or not."""
    one = seal(exchange, report("one"))
    kept = seal(exchange, report("two"), seq=2, prev=(1, one.id))
    three = seal(exchange, report("two"), seq=3, prev=(1, one.id))
    start = list(exchange.log.entries)

    async def told(*order: Parsed) -> list[Any]:
        exchange.log.entries = list(start)
        for each in order:
            exchange.log.publish(each.data)
        async with fresh(exchange) as desk:
            return (await shown(desk))[1]

    assert await told(one, three) == []
    assert await told(one, kept, three) == []
    assert await told(one, three, kept) == [], "shown late, it contradicts nothing that stands"
    with monkeypatch.context() as patch:
        patch.setattr(Archive, "at_number", lambda *_: b"another")
        assert [type(event) for event in await told(one, three, kept)] == [Conflict]

    def by_count(self: Opening, header: env.Header, identity: bytes) -> None:
        """Numbers alone, without what the sender stands by."""
        last = self._own.archive.last_read(header.sender, header.stream)
        if header.seq != (last[0] if last else 0) + 1:
            self._own.event(Gap(header.sender, header.channel, header.stream, 0, header.seq))
        self._own.archive.set_last_read(header.sender, header.stream, header.seq, identity)

    monkeypatch.setattr(Opening, "number", by_count)
    assert [type(event) for event in await told(one, three)] == [Gap]
