"""The capital of a party is out of reach: its missions go on, and when the bound is passed everybody says so."""

import asyncio
import json
from pathlib import Path

import pytest
import structlog

from exchange.desk.events import Stale
from tests.rotation.clock import HOUR_MS, Clock, bend_certificates
from tests.rotation.exchange import DESKS, Exchange, hurry, two_channels

HAGUE = "kr.the-hague/economic"
SEOUL = "nl.seoul/economic"


def found(directory: Path, patch: pytest.MonkeyPatch, *, stop: bool) -> Exchange:
    hurry(patch)
    bend_certificates(patch)
    two_channels(patch, stop_when_stale=stop)
    return Exchange.found(directory, Clock())


async def later(exchange: Exchange, hours: int) -> None:
    """Time goes by, and what looks at the clock has looked."""
    for _ in range(hours // 6):
        exchange.clock.now_ms += 6 * HOUR_MS
        exchange.work()
        await asyncio.sleep(0.05)
    await exchange.until(lambda: not exchange.behind(for_ms=0), "documents everywhere")
    await exchange.until(lambda: fresh_of_kr(exchange), "kr's status everywhere")


def fresh_of_kr(exchange: Exchange) -> bool:
    statuses = [trust.status("kr") for trust in exchange.members()]
    return all(s is not None and s.issue_time_ms > exchange.clock() - 30 * HOUR_MS for s in statuses)


def told_stale(exchange: Exchange) -> dict[str, set[tuple[str, ...]]]:
    exchange.work()
    return {
        name: {event.parties for _, event in reader.events if isinstance(event, Stale)}
        for name, reader in exchange.readers.items()
    }


def node_says(exchange: Exchange, party: str) -> list[str]:
    stale: list[str] = json.loads((exchange.apps[party].directory / "status.json").read_text())["stale"]
    return stale


@pytest.mark.parametrize("stop", [False, True])
async def test_missions_go_on_without_their_capital(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, stop: bool
) -> None:
    exchange = found(tmp_path, monkeypatch, stop=stop)
    with structlog.testing.capture_logs() as logs:
        async with exchange.running():
            exchange.ministries["nl"].reachable = False
            await later(exchange, 48)
            for name in (HAGUE, SEOUL):
                await exchange.publish(name)
            await exchange.until(lambda: not any(exchange.missing().values()), "both ways, two days without a capital")
            assert told_stale(exchange) == {name: set() for name in DESKS}
            await later(exchange, 48)
            for name in (HAGUE, SEOUL):
                await exchange.publish(name)
            await exchange.until(lambda: all(node_says(exchange, p) == ["nl"] for p in ("kr", "nl")), "nodes say so")
            if stop:
                await exchange.until(lambda: "STATUS_STALE" in exchange.desks[SEOUL].state, "the sender is told")
                assert all(exchange.missing().values())
            else:
                await exchange.until(lambda: not any(exchange.missing().values()), "on, as the agreement says")
                assert all(said == {("nl",)} for said in told_stale(exchange).values())
            exchange.ministries["nl"].reachable = True
            exchange.work()
            await exchange.until(lambda: node_says(exchange, "kr") == node_says(exchange, "nl") == [], "all is well")
            await exchange.until(lambda: not any(exchange.missing().values()), "nothing is lost by waiting")
            assert all(set(reader.given.values()) == {1} for reader in exchange.readers.values())
    assert any(line["event"].startswith("status is stale") and line["party"] == "nl" for line in logs)
