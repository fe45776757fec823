"""Which roster a desk pins: one that widens readership only after its side had it for the hold. Attack 38."""

import os
from pathlib import Path
from typing import Any

import pytest

from exchange import envelope
from exchange.report import new_report_id
from exchange.v1 import envelope_pb2 as env
from exchange.v1 import exchange_pb2 as pb
from exchange.v1 import report_pb2 as rep
from keys.trust import Trust
from keys.v1 import documents_pb2 as docs
from tests import chains
from tests.chains import DAY
from tests.desk import memory
from tests.desk.memory import Exchange
from tests.world import NOON, World, found

HAGUE, COMPANY = "kr.the-hague/economic", "nl.asml-like/supply"
LATE = NOON + 2 * DAY


@pytest.fixture(scope="module")
def world() -> World:
    return found(weeks=0)


@pytest.fixture(autouse=True)
def _node_tells_when(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(self: Any, request: Any, timeout: float) -> pb.GetDocumentsResponse:
        trust = self._log.trust
        held = trust.documents()
        return pb.GetDocumentsResponse(
            documents=[document.encode() for document in held],
            taken_ms=[trust.taken_ms(document.digest) for document in held],
        )

    monkeypatch.setattr(memory._Stub, "GetDocuments", answer)


def promote(body: docs.Roster) -> None:
    next(m for m in body.missions if m.mission == "nl.asml-like").kind = docs.MISSION_KIND_MINISTRY


def backdated(exchange: Exchange) -> None:
    """A roster that makes a company a ministry comes two days late: the hold after its issue is over."""
    exchange.clock.now_ms = LATE
    exchange.log.take(chains.next_roster(exchange.world, "nl", promote, now_ms=NOON).encode())


async def sealed_to(exchange: Exchange) -> tuple[int, bool]:
    """Version of the Dutch roster that the desk pins, and whether the company reads."""
    async with exchange.open(HAGUE) as desk:
        await desk.synchronise()
        report = rep.Report(
            id=new_report_id(exchange.clock(), os.urandom(10)),
            subject=rep.Subject(hs="250410", item="natural graphite", stage=rep.STAGE_MINERAL),
            level=rep.STATUS_LEVEL_WATCH,
            summary=[rep.Text(language="en", text="x")],
        )
        await desk.publish("minerals", report)
        assert await desk.flush(10) == 0
    sent = (data for _, kind, data in exchange.log.entries if kind == pb.ENTRY_KIND_ENVELOPE)
    newest = max((env.Header.FromString(envelope.parse(data).outer.header) for data in sent), key=_made)
    return newest.rosters[1].version, COMPANY in [reader.desk for reader in newest.audience]


def _made(header: env.Header) -> int:
    return header.create_time_ms


async def test_a_backdated_roster_reads_nothing_of_ours_before_the_hold(tmp_path: Path, world: World) -> None:
    exchange = memory.exchange(tmp_path, world, HAGUE)
    await exchange.synchronise()
    backdated(exchange)
    assert await sealed_to(exchange) == (1, False)
    # Each call is a desk that starts anew: what it learned, it keeps.
    exchange.clock.now_ms = LATE + DAY - 1
    assert await sealed_to(exchange) == (1, False)
    exchange.clock.now_ms = LATE + DAY
    assert await sealed_to(exchange) == (2, True)


async def test_without_the_check_it_reads_at_once(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = memory.exchange(tmp_path, world, HAGUE)
    await exchange.synchronise()
    backdated(exchange)
    monkeypatch.setattr(Trust, "roster_to_pin", lambda self, party, **_: self.roster(party))
    assert await sealed_to(exchange) == (2, True)


async def test_a_desk_that_was_away_learns_from_its_node_how_long_it_had_it(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = memory.exchange(tmp_path, world, HAGUE)
    await exchange.synchronise()
    backdated(exchange)
    exchange.clock.now_ms = LATE + DAY
    assert await sealed_to(exchange) == (2, True)
    # Were the desk's own clock all there is, a holiday would hold back what the ministry knows for weeks.
    again = memory.exchange(tmp_path / "again", world, HAGUE)
    await again.synchronise()
    backdated(again)
    again.clock.now_ms = LATE + DAY
    take = Trust.take
    monkeypatch.setattr(Trust, "take", lambda self, document, *, now_ms, **_: take(self, document, now_ms=now_ms))
    assert await sealed_to(again) == (1, False)
