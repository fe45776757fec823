"""The six points of a crisis report: filled from the assessment, shown, exported, put right by hand."""

import pytest

from exchange.report.alerts import CRISIS_POINTS
from exchange.v1 import report_pb2 as pb
from exchange.watch import cap
from exchange.watch.alerts_cli import answer, text_of, updating
from exchange.watch.crisis import points_of, put_points
from keys.errors import UsageError
from tests.desk.memory import Exchange
from tests.watch.test_recompute import cover
from tests.watch.test_service import HAGUE, SEOUL, at, chains, notice, tell, watch


async def test_a_severe_and_near_shock_carries_all_six_points_and_a_mild_one_none(exchange: Exchange) -> None:
    await tell(exchange, notice())
    await watch(exchange)
    (mild,) = await at(exchange, HAGUE)
    assert not mild.alert.HasField("crisis")  # no stock is known, so no urgency is
    await tell(exchange, cover(1))
    away = notice()
    away.events[0].public_date = "2026-09-21"
    away.events[0].hs[:] = ["250410", "380110"]
    await tell(exchange, away)
    assert await watch(exchange) == 1
    (crisis,) = [one for one in await at(exchange, HAGUE) if one.alert.HasField("crisis")]
    said = {name: getattr(crisis.alert.crisis, name)[0].text for name in CRISIS_POINTS}
    assert "39% of the need of KR at discrete-power" in said["impact"]
    assert "Export control of CN on 250410, 380110" in said["cause"]
    assert said["duration"] == "from 2026-12-01; no end is known."
    assert "products: car-ecu" in said["sectors"]
    assert "no measure was reported" in said["measures"]
    assert "graphite for KR from others than CN" in said["help"]
    xml = cap.xml(crisis, crisis.current, crisis.alert).decode()
    assert "tocsin.crisis.help" in xml
    assert said["help"] in cap.article_22(crisis)
    # The mission that raised it says more.
    async with exchange.open(SEOUL) as desk:
        which = crisis.root.said.id.hex()
        await answer(desk, which, updating("talks", points_of(["measures=stocks of the state are open"])))
        await desk.flush(20)
    (after,) = [one for one in await at(exchange, HAGUE) if one.alert.HasField("crisis")]
    shown = text_of(after, exchange.clock())
    assert "measures: stocks of the state are open" in shown
    assert said["help"] in shown
    assert len(chains(exchange.open(HAGUE))) == 2


def test_a_point_that_is_none_and_a_report_with_gaps_are_refused() -> None:
    for one in ("weather=fine", "help", "help= "):
        with pytest.raises(UsageError, match="no point of a crisis report"):
            points_of([one])
    alert = pb.Alert()
    with pytest.raises(UsageError, match="cause, duration, sectors, measures, help not given"):
        put_points(alert, {"impact": "x"})
    assert not alert.HasField("crisis")
    put_points(alert, dict.fromkeys(CRISIS_POINTS, "not known yet"))
    assert alert.crisis.help[0].text == "not known yet"
