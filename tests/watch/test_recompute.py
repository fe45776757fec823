"""An alert computed again: the same at both desks, every word that was changed is named, what came later does not count."""

from collections.abc import Callable

import pytest

from exchange.desk import Desk
from exchange.v1 import report_pb2 as pb
from exchange.watch import recompute
from exchange.watch.alerts_cli import again
from exchange.watch.alerts_life import Chain, State
from exchange.watch.filing import Filing
from exchange.watch.letters import LAST
from exchange.watch.thresholds import Thresholds
from keys.v1 import documents_pb2 as docs
from tests.desk.memory import Exchange
from tests.watch.test_service import HAGUE, SEOUL, at, chains, fresh_id, notice, tell, watch

HOUR_MS = 3_600_000


def cover(weeks: float, period: str = "2026-09") -> pb.Report:
    """Weeks of graphite in Korea, by Korea's own mission."""
    return pb.Report(
        id=fresh_id(),
        subject=pb.Subject(hs="250410", item="natural graphite", stage=pb.STAGE_MINERAL),
        place=pb.Place(country="KR"),
        level=pb.STATUS_LEVEL_NORMAL,
        indicators=[
            pb.Indicator(kind=kind, value=value, unit="WEE", period=period)
            for kind, value in ((pb.INDICATOR_KIND_COVER, weeks), (pb.INDICATOR_KIND_TRANSIT_TIME, 3.0))
        ],
        sources=[pb.Source(name="survey", reliability=pb.RELIABILITY_A, credibility=pb.CREDIBILITY_1)],
    )


async def raised(exchange: Exchange, *said: pb.Report) -> Chain:
    await tell(exchange, *said)
    assert await watch(exchange) == 1
    (chain,) = await at(exchange, HAGUE)
    return chain


def event_alert(desk: Desk) -> Chain:
    (chain,) = chains(desk)
    return chain


async def test_an_event_alert_is_the_same_at_both_desks_to_the_word(exchange: Exchange) -> None:
    chain = await raised(exchange, cover(6), notice())
    assert chain.alert.severity == pb.SEVERITY_SEVERE
    assert chain.alert.HasField("cover_weeks")
    for name in (SEOUL, HAGUE):
        desk = exchange.open(name)
        done = again(desk, event_alert(desk))
        assert done.alert is not None
        assert (done.missing, done.differences) == ((), ()), name
        assert done.alert.description[0].text == chain.alert.description[0].text
        desk.close()


CHANGES: dict[str, Callable[[pb.Alert], object]] = {
    "severity was extreme, is severe": lambda one: setattr(one, "severity", pb.SEVERITY_EXTREME),
    "urgency was immediate, is": lambda one: setattr(one, "urgency", pb.URGENCY_IMMEDIATE),
    "certainty was unlikely, is": lambda one: setattr(one, "certainty", pb.CERTAINTY_UNLIKELY),
    "need_share was 0.99, is": lambda one: setattr(one, "need_share", 0.99),
    "cover_weeks was 0.10, is": lambda one: setattr(one, "cover_weeks", 0.1),
    "impact_weeks was unknown, is 3.00": lambda one: one.ClearField("impact_weeks"),
    "affected_steps was euv, is": lambda one: one.affected_steps.__setitem__(slice(None), ["euv"]),
    "rules was none, is E1": lambda one: one.ClearField("rules"),
    "evidence": lambda one: None,
    "headline has other words": lambda one: setattr(one.headline[0], "text", "all is well"),
    "cancel_condition has other words": lambda one: setattr(one.cancel_condition[0], "text", "pay"),
    "instruction has other words": lambda one: setattr(one.instruction[0], "text", "sell"),
    'description, "Threatens"': lambda one: setattr(
        one.description[0], "text", one.description[0].text.replace("Threatens: ", "Threatens: nobody; ")
    ),
}


async def test_everything_that_was_changed_is_named(exchange: Exchange) -> None:
    await raised(exchange, cover(6), notice())
    desk = exchange.open(HAGUE)
    for said, change in CHANGES.items():
        chain = event_alert(desk)
        change(chain.alert)
        if said.startswith("evidence"):
            chain.alert.evidence.add(sender=HAGUE, id=fresh_id(), digest=bytes(32))
            done = again(desk, chain)
            assert len(done.missing) == 1
            assert any("evidence was 3 reports, is 2" in one for one in done.differences)
            continue
        found = again(desk, chain).differences
        assert any(said in one for one in found), (said, found)
        assert len(found) == 1, (said, found)
    chain = event_alert(desk)
    del chain.alert.evidence[:]
    assert again(desk, chain).alert is None
    desk.close()


@pytest.mark.parametrize("cut", ["place in the log", "time of sealing"])
async def test_what_came_later_does_not_count_also_after_an_escalation(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    told = notice()
    await raised(exchange, cover(6), told)
    exchange.clock.now_ms += HOUR_MS
    # Less stock, and the notice is taken back: it would be another alert now, or none.
    await tell(exchange, cover(1), pb.Report(id=fresh_id(), withdraws=[told.id]))
    exchange.clock.now_ms += 80 * HOUR_MS
    monkeypatch.setattr("exchange.watch.service.Watch._judge", lambda *_: None)
    monkeypatch.setattr("exchange.watch.service.Watch._end_shock", lambda *_: False)
    await watch(exchange)
    (chain,) = await at(exchange, HAGUE)
    assert chain.state is State.ESCALATED
    desk = exchange.open(HAGUE)
    # Each of the two cuts suffices by itself.
    if cut == "place in the log":
        real = recompute.held_before
        monkeypatch.setattr(
            recompute, "held_before", lambda archive, position, **_: real(archive, position, sealed_by_ms=LAST)
        )
    else:
        monkeypatch.setattr(recompute, "position_of", lambda *_: LAST)
    done = again(desk, event_alert(desk))
    assert done.alert is not None
    assert (done.missing, done.differences) == ((), ())
    desk.close()


async def test_figures_are_evidence_and_mark_the_alert_and_red_ones_count_for_none(exchange: Exchange) -> None:
    survey = cover(9, "2026-08")
    await tell(exchange, survey, marking="AMBER+STRICT")
    secret = cover(1)
    async with exchange.open(HAGUE) as desk:
        await desk.publish_all("minerals", [secret], marking="RED", to=[SEOUL])
        assert await desk.flush(20) == 0
    chain = await raised(exchange, notice())
    assert chain.root.marking == docs.MARKING_AMBER_STRICT
    evidence = {bytes(one.id) for one in chain.alert.evidence}
    assert survey.id in evidence
    assert secret.id not in evidence
    assert chain.alert.cover_weeks > 1
    for name in (SEOUL, HAGUE):
        desk = exchange.open(name)
        done = again(desk, event_alert(desk))
        assert (done.missing, done.differences) == ((), ()), name
        desk.close()
    # Were it counted, it would be told to all who read the alert.
    desk = exchange.open(SEOUL)
    filing = Filing(desk.archive, Thresholds({}))
    assert {newest.period for one in filing.figures() if (newest := one.newest())} == {"2026-08"}
    filing._red = {b"none"}
    assert {newest.period for one in filing.figures() if (newest := one.newest())} == {"2026-09"}
    desk.close()


async def test_nobody_claims_to_have_known_what_was_sealed_later(exchange: Exchange) -> None:
    chain = await raised(exchange, notice())
    sent = chain.current.time_ms
    chain.alert.basis.known_until_ms = sent + HOUR_MS
    assert recompute.known_until(chain) == sent
    chain.alert.basis.known_until_ms = 0
    assert recompute.known_until(chain) == sent
    chain.alert.basis.known_until_ms = sent - HOUR_MS
    desk = exchange.open(HAGUE)
    done = again(desk, chain)
    assert done.alert is None
    assert "came after the alert" in done.missing[0]
    desk.close()
