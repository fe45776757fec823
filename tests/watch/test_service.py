"""The watch at a desk: two desks on a log in memory, real seals; alerts are raised once, answered, ended, computed again."""

import xml.etree.ElementTree as ET

import pytest

from exchange.desk import Desk
from exchange.report import new_report_id
from exchange.v1 import report_pb2 as pb
from exchange.watch import cap
from exchange.watch.alerts_cli import (
    acknowledgement,
    again,
    answer,
    consultation,
    ending,
    find,
    run_once,
    text_of,
    updating,
)
from exchange.watch.alerts_life import Chain, State
from exchange.watch.filing import Filing
from exchange.watch.letters import ledger_of
from exchange.watch.months import month_of_ms, month_text
from exchange.watch.service import Watch
from exchange.watch.thresholds import Thresholds
from tests.desk.memory import Exchange
from tests.world import NOON

HAGUE, SEOUL = "kr.the-hague/economic", "nl.seoul/economic"
LAST = month_of_ms(NOON) - 1
QUIET = [100.0, 104, 98, 101, 97, 103, 99, 102, 100, 96, 105, 101] * 4
COUNT = iter(range(1 << 40))


def fresh_id() -> bytes:
    return new_report_id(NOON, next(COUNT).to_bytes(10, "big"))


def flow(place: str, month: int, tonnes: float, **more: object) -> pb.Report:
    return pb.Report(
        id=fresh_id(),
        subject=pb.Subject(hs="250410", item="natural graphite", stage=pb.STAGE_MINERAL),
        place=pb.Place(country=place),
        level=pb.STATUS_LEVEL_WATCH,
        indicators=[
            pb.Indicator(
                kind=pb.INDICATOR_KIND_IMPORTS,
                market=pb.MARKET_IMPORT,
                value=tonnes,
                unit="TNE",
                period=month_text(month),
            )
        ],
        sources=[pb.Source(name=f"customs {place}", reliability=pb.RELIABILITY_A, credibility=pb.CREDIBILITY_1)],
        **more,  # type: ignore[arg-type]
    )


def flows(last: float = 250.0) -> list[pb.Report]:
    values = [*QUIET, last]
    places = ("KR", "DE", "NL", "JP", "US", "PL")
    return [flow(p, LAST - len(values) + 1 + n, v) for p in places for n, v in enumerate(values)]


def notice() -> pb.Report:
    event = pb.Event(
        kind=pb.EVENT_KIND_EXPORT_CONTROL, public_date="2026-09-20", start_date="2026-12-01", actors=["CN"], hs=["250410"],
        description=[pb.Text(language="en", text="licences <b>needed</b> & wanted")],
    )  # fmt: skip
    return pb.Report(
        id=fresh_id(),
        subject=pb.Subject(hs="250410", item="natural graphite", stage=pb.STAGE_MINERAL),
        place=pb.Place(country="CN"),
        level=pb.STATUS_LEVEL_WATCH,
        events=[event],
        sources=[pb.Source(name="gazette", reliability=pb.RELIABILITY_A, credibility=pb.CREDIBILITY_1)],
    )


async def tell(exchange: Exchange, *said: pb.Report, marking: str = "AMBER") -> None:
    async with exchange.open(HAGUE) as desk:
        await desk.publish_all("minerals", said, marking=marking)
        assert await desk.flush(20) == 0


async def watch(exchange: Exchange, name: str = SEOUL) -> int:
    async with exchange.open(name) as desk:
        return await run_once(desk, Watch(desk))


def chains(desk: Desk) -> list[Chain]:
    return ledger_of(desk.archive)[0].chains()


async def at(exchange: Exchange, name: str, *steps: object) -> list[Chain]:
    async with exchange.open(name) as desk:
        for channel in ("alerts", "consultation", "minerals"):
            async for _ in desk.subscribe(channel, follow=False):
                pass
        return chains(desk)


async def test_a_pooled_alarm_is_raised_once_over_restarts_and_read_abroad(exchange: Exchange) -> None:
    await tell(exchange, *flows(), marking="AMBER+STRICT")
    assert await watch(exchange) == 1
    assert await watch(exchange) == 0
    (chain,) = await at(exchange, HAGUE)
    assert chain.alert.basis.pooled
    assert chain.alert.basis.screen == "surge"
    assert chain.alert.certainty == pb.CERTAINTY_LIKELY
    assert len(chain.alert.evidence) == 6
    text = chain.alert.description[0].text
    assert "6 voices in alarm" in text or "100% of 6 voices" in text
    assert "250 tonne" in text
    assert month_text(LAST) in text
    # The strictest marking of its evidence.
    assert chain.root.marking == 4


async def test_a_crash_between_deciding_and_sending_neither_loses_nor_repeats(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    await tell(exchange, *flows())

    async def dies(self: Watch) -> int:
        if await self._desk.workers.run(self._archive.sheets, "pending", ""):
            raise KeyboardInterrupt
        return 0

    with monkeypatch.context() as patch:
        patch.setattr(Watch, "_send", dies)
        with pytest.raises(KeyboardInterrupt):
            await watch(exchange)
    assert await watch(exchange) == 1
    assert await watch(exchange) == 0
    assert len(await at(exchange, HAGUE)) == 1


async def test_without_its_key_an_alert_would_come_again(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    await tell(exchange, *flows())
    assert await watch(exchange) == 1
    async with exchange.open(SEOUL) as desk:
        await answer(desk, chains(desk)[0].root.said.id.hex(), ending(pb.ALERT_STEP_FALSE_ALARM, "a test"))
        await desk.flush(20)
    await tell(exchange, flow("GB", LAST, 3.0))
    assert await watch(exchange) == 0
    from exchange.desk.archive import Archive

    real = Archive.sheet
    monkeypatch.setattr(
        Archive, "sheet", lambda self, kind, name: None if kind == "alerted" else real(self, kind, name)
    )
    await tell(exchange, flow("GB", LAST - 1, 3.0))
    assert await watch(exchange) == 1


async def test_a_notice_alarms_by_itself_and_is_answered_and_consulted_on(exchange: Exchange) -> None:
    await tell(exchange, notice())
    assert await watch(exchange) == 1
    async with exchange.open(HAGUE) as desk:
        for channel in ("alerts", "consultation"):
            async for _ in desk.subscribe(channel, follow=False):
                pass
        (chain,) = chains(desk)
        assert chain.state is State.ISSUED
        which = chain.root.said.id.hex()[:12]
        assert (await answer(desk, which, acknowledgement("seen"))).state is State.ACKNOWLEDGED
        await answer(desk, which, consultation("What is your stock?"), "consultation")
        chain = await answer(desk, which, consultation("In weeks, please."), "consultation")
        assert chain.state is State.CONSULTED
        shown = text_of(chain, desk.clock())
        assert "What is your stock?" in shown
        assert "in force from 2026-12-01" in shown
        # Only the mission that raised it ends it.
        await answer(desk, which, ending(pb.ALERT_STEP_UNSPECIFIED, "no"))
        assert find(desk, which).state is State.CONSULTED
        await desk.flush(20)
    (chain,) = await at(exchange, SEOUL)
    assert chain.state is State.CONSULTED
    assert list(chain.acknowledged) == [HAGUE]


async def test_an_answer_to_an_update_stays_an_answer_when_all_is_read_again(exchange: Exchange) -> None:
    await tell(exchange, notice())
    await watch(exchange)
    exchange.clock.now_ms += 1000
    async with exchange.open(SEOUL) as desk:
        await answer(desk, chains(desk)[0].root.said.id.hex(), updating("more is known"))
        await desk.flush(20)
    exchange.clock.now_ms += 1000
    await at(exchange, HAGUE)
    async with exchange.open(HAGUE) as desk:
        await answer(desk, chains(desk)[0].root.said.id.hex(), acknowledgement("seen"))
        await desk.flush(20)
    for name in (SEOUL, HAGUE):
        (chain,) = await at(exchange, name)
        assert chain.state is State.ACKNOWLEDGED, name
        assert list(chain.acknowledged) == [HAGUE]


async def test_a_withdrawn_notice_cancels_its_alert(exchange: Exchange) -> None:
    first = notice()
    await tell(exchange, first)
    assert await watch(exchange) == 1
    await tell(exchange, pb.Report(id=fresh_id(), withdraws=[first.id]))
    assert await watch(exchange) == 1
    (chain,) = await at(exchange, HAGUE)
    assert chain.state is State.CANCELLED


async def test_a_measure_taken_anew_after_it_was_eased_is_warned_of_anew(exchange: Exchange) -> None:
    said = [notice() for _ in range(3)]
    said[1].events[0].kind = pb.EVENT_KIND_EASING
    for one, date in zip(said, ("2026-09-10", "2026-09-14", "2026-09-18"), strict=True):
        one.events[0].public_date = one.events[0].start_date = date
        await tell(exchange, one)
        assert await watch(exchange) == 1, date
        assert await watch(exchange) == 0
    first, second = sorted(await at(exchange, HAGUE), key=lambda one: one.alert.onset_time_ms)
    assert (first.state, second.state) == (State.RESOLVED, State.ISSUED)
    assert "in force from 2026-09-18" in second.alert.headline[0].text


async def test_nobody_answers_and_it_is_escalated_once(exchange: Exchange) -> None:
    await tell(exchange, notice())
    await watch(exchange)
    exchange.clock.now_ms += 80 * 3_600_000
    await watch(exchange)
    await watch(exchange)
    (chain,) = await at(exchange, HAGUE)
    assert chain.state is State.ESCALATED
    assert sum(1 for one in chain.said if isinstance(one.said, pb.Alert)) == 1


async def test_an_end_that_cannot_be_sent_is_decided_once(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    first = notice()
    await tell(exchange, first)
    await watch(exchange)
    await tell(exchange, pb.Report(id=fresh_id(), withdraws=[first.id]))

    async def waits(self: Watch) -> int:
        return 0

    async with exchange.open(SEOUL) as desk:
        with monkeypatch.context() as patch:
            patch.setattr(Watch, "_send", waits)
            service = Watch(desk)
            await run_once(desk, service)
            await service.step()
            assert len(desk.archive.sheets("pending", "")) == 1
    assert await watch(exchange) == 1
    (chain,) = await at(exchange, HAGUE)
    assert chain.state is State.CANCELLED


async def test_it_is_computed_again_from_its_evidence_on_both_sides(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    await tell(exchange, *flows())
    await watch(exchange)
    # What came later does not count.
    await tell(exchange, *[flow(p, LAST + 0, 90.0) for p in ("ES", "IT")])
    await at(exchange, HAGUE)
    for name in (SEOUL, HAGUE):
        desk = exchange.open(name)
        (chain,) = chains(desk)
        done = again(desk, chain)
        assert (done.missing, done.differences) == ((), ()), name
        assert again(desk, chain, releasable=True).alert is None
        desk.close()
    desk = exchange.open(SEOUL)
    (chain,) = chains(desk)
    chain.alert.evidence[0].digest = bytes(32)
    assert again(desk, chain).missing
    chain.alert.probability = 0.1
    assert any("probability" in one for one in again(desk, chain).differences)
    desk.close()


async def test_the_export_keeps_to_cap_and_its_words_stay_words(exchange: Exchange) -> None:
    await tell(exchange, notice())
    await watch(exchange)
    (chain,) = await at(exchange, HAGUE)
    data = cap.xml(chain, chain.current, chain.alert)
    assert b"<b>" not in data
    root = ET.fromstring(data)
    space = f"{{{cap.NAMESPACE}}}"
    for element, order in [(root, cap.ALERT_ORDER), *((info, cap.INFO_ORDER) for info in root.iter(f"{space}info"))]:
        places = [order.index(child.tag.removeprefix(space)) for child in element]
        assert places == sorted(places)
    for name in ("identifier", "sender", "sent", "status", "msgType", "scope", "restriction"):
        assert root.find(space + name) is not None, name
    assert root.findtext(f"{space}status") == "Actual"
    assert "licences <b>needed</b> & wanted" in str(root.findtext(f"{space}info/{space}description"))
    assert "article 22" in cap.article_22(chain)


async def test_groups_are_dropped_and_come_back(exchange: Exchange) -> None:
    await tell(exchange, *flows())
    await watch(exchange)
    desk = exchange.open(SEOUL)
    filing = Filing(desk.archive, Thresholds({}), max_loaded=1)
    from exchange.watch.board import Group

    group = Group("250410", pb.INDICATOR_KIND_IMPORTS, pb.MARKET_IMPORT)
    assert len(filing.series(group)) == 6
    filing.load(Group("811292", 1, 1))
    assert filing.loaded() == 0
    assert len(filing.series(group)) == 6
    desk.close()
