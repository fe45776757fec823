"""Three shocks of history as scripts through two real nodes, dates moved to today: from a notice to the alert abroad."""

import asyncio
import datetime
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from exchange.clock import now_ms
from exchange.demo.found import NODES, Founded, found
from exchange.demo.run import start_node
from exchange.desk import Desk
from exchange.report import new_report_id
from exchange.v1 import report_pb2 as pb
from exchange.watch.alerts import DAY_MS, EVENT, date_of
from exchange.watch.alerts_cli import again, run_once
from exchange.watch.letters import ledger_of
from exchange.watch.service import Watch

NOTIFIER, WATCHER, READER = "nl.seoul/economic", "nl.bz/supply", "kr.motie/supply"


@dataclass(frozen=True)
class Script:
    """A shock; weeks are those of the affected country (docs/WATCH.md section 8)."""

    name: str
    kind: int
    hs: tuple[str, ...]
    item: str
    actors: tuple[str, ...]
    affected: tuple[str, ...]
    starts_in_days: int
    cover_weeks: float
    transit_weeks: float
    urgency: int


SCRIPTS = (
    # One month of stock; licences from the third day on.
    Script("HF 2019", pb.EVENT_KIND_EXPORT_CONTROL, ("281111",), "hydrogen fluoride", ("JP",), ("KR",), 3, 4, 1,
           pb.URGENCY_EXPECTED),
    # Six weeks between notice and effect, and some stock.
    Script("graphite 2023", pb.EVENT_KIND_EXPORT_CONTROL, ("250410",), "natural graphite", ("CN",), (), 42, 12, 3,
           pb.URGENCY_FUTURE),
    # The order of one government and the ban of the other; three weeks to stopped plants.
    Script("Nexperia 2025", pb.EVENT_KIND_EXPORT_BAN, ("854110", "854121"), "discrete power chips", ("CN", "NL"), (), 0, 3, 3,
           pb.URGENCY_IMMEDIATE),
)  # fmt: skip


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Founded]:
    made = found(tmp_path_factory.mktemp("scenarios") / "x", title="Scenarios", drill=True)
    running = [start_node(made.node(party)) for party in NODES]
    yield made
    for process in running:
        process.send_signal(signal.SIGTERM)
    assert [process.wait(20) for process in running] == [0, 0]


def _report(script: Script, **fields: object) -> pb.Report:
    return pb.Report(
        id=new_report_id(now_ms(), os.urandom(10)),
        subject=pb.Subject(hs=script.hs[0], item=script.item, stage=pb.STAGE_MATERIAL),
        level=pb.STATUS_LEVEL_WATCH,
        sources=[pb.Source(name="script", reliability=pb.RELIABILITY_A, credibility=pb.CREDIBILITY_1)],
        **fields,  # type: ignore[arg-type]
    )


def reports(script: Script) -> list[pb.Report]:
    now = now_ms()
    month = f"{datetime.datetime.fromtimestamp(now // 1000, datetime.UTC) - datetime.timedelta(days=31):%Y-%m}"
    weeks = [
        pb.Indicator(kind=pb.INDICATOR_KIND_COVER, value=script.cover_weeks, unit="WEE", period=month),
        pb.Indicator(kind=pb.INDICATOR_KIND_TRANSIT_TIME, value=script.transit_weeks, unit="WEE", period=month),
    ]
    event = pb.Event(
        kind=script.kind, public_date=date_of(now), start_date=date_of(now + script.starts_in_days * DAY_MS),  # type: ignore[arg-type]
        actors=script.actors, affected=script.affected, hs=script.hs,
    )  # fmt: skip
    return [_report(script, place=pb.Place(country="KR"), indicators=weeks), _report(script, events=[event])]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda one: one.name)
async def test_a_notice_is_an_alert_abroad_within_one_cycle(founded: Founded, script: Script) -> None:
    async with Desk.open(founded.desk(NOTIFIER)) as desk:
        await desk.publish_all("materials", reports(script), marking="AMBER")
        assert await desk.flush(30) == 0
    async with Desk.open(founded.desk(WATCHER)) as desk:
        assert await run_once(desk, Watch(desk)) == 1
    async with Desk.open(founded.desk(READER)) as desk:
        # Live, as a desk reads: the other node has it some milliseconds later.
        async with asyncio.timeout(30):
            async for delivery in desk.subscribe("alerts"):
                if delivery.item.alert.subject.item == script.item:
                    break
        (chain,) = [one for one in ledger_of(desk.archive)[0].chains() if one.alert.subject.item == script.item]
        async for _ in desk.subscribe("materials", follow=False):
            pass
        done = again(desk, chain)
    # Computed again from what the reader's own node held, it is the same to the word.
    assert done.alert is not None
    assert (done.missing, done.differences) == ((), ())
    alert = chain.alert
    assert alert.basis.screen == EVENT
    assert alert.status == pb.ALERT_STATUS_EXERCISE
    assert alert.affected_steps
    assert alert.cover_weeks == pytest.approx(script.cover_weeks, abs=5)
    assert alert.urgency == script.urgency
    assert f"from {date_of(now_ms() + script.starts_in_days * DAY_MS)}" in alert.headline[0].text
    assert {one.sender for one in alert.evidence} == {NOTIFIER}
