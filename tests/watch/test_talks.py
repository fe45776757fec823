"""Consultations about no alert: opened, answered, shown; and with their alert once it has come."""

import json

import pytest
from typer.testing import CliRunner

from exchange.cli import app
from exchange.v1 import report_pb2 as pb
from exchange.watch import alerts_life
from exchange.watch.alerts_cli import consultation, consultation_kind, find
from exchange.watch.alerts_life import Heard, Ledger
from exchange.watch.letters import ledger_of
from exchange.watch.talks_cli import asked, find_talk, replied, say
from keys.errors import UsageError
from tests.desk.memory import Exchange
from tests.watch.test_service import HAGUE, SEOUL, at, fresh_id, notice, tell, watch


async def test_a_consultation_about_no_alert_is_read_answered_and_shown(exchange: Exchange) -> None:
    async with exchange.open(HAGUE) as desk:
        thread = await say(desk, asked("substrates", "Do you see longer lead times?"), marking="AMBER+STRICT")
        await desk.flush(20)
    await at(exchange, SEOUL)
    exchange.clock.now_ms += 1000
    async with exchange.open(SEOUL) as desk:
        talk = find_talk(desk, thread.hex()[:8])
        kind = consultation_kind("close")
        await say(desk, replied(talk, "Eight weeks more\x1b[2J.", kind), marking="AMBER+STRICT")
        await desk.flush(20)
    await at(exchange, HAGUE)
    done = CliRunner().invoke(app, ["alerts", "consultations", "--desk", str(exchange.directories[HAGUE]), "--json"])
    row = json.loads(done.stdout)
    assert (row["from"], row["topic"], row["marking"]) == (HAGUE, "substrates", "AMBER+STRICT")
    assert [(one["from"], one["kind"]) for one in row["messages"]] == [(HAGUE, "request"), (SEOUL, "close")]
    shown = CliRunner().invoke(app, ["alerts", "consultations", "--desk", str(exchange.directories[HAGUE])]).stdout
    assert "Do you see longer lead times?" in shown
    assert "Eight weeks more" in shown
    assert "\x1b" not in shown
    desk = exchange.open(HAGUE)
    for which in ("00000000", thread.hex()[:3]):
        with pytest.raises(UsageError, match="consultations have an id"):
            find_talk(desk, which)
    desk.close()
    with pytest.raises(UsageError, match="no kind"):
        consultation_kind("request")


async def test_one_about_an_alert_is_with_the_alert_alone(exchange: Exchange) -> None:
    await tell(exchange, notice())
    await watch(exchange)
    (chain,) = await at(exchange, HAGUE)
    async with exchange.open(HAGUE) as desk:
        found = find(desk, chain.root.said.id.hex()[:12])
        await desk.publish("consultation", consultation("How many weeks?")(desk, found))
        assert ledger_of(desk.archive)[0].talks() == []
        assert len(find(desk, chain.root.said.id.hex()[:12]).said) == 1
        await desk.flush(20)


def heard(said: pb.Alert | pb.Consultation, sender: str = HAGUE, digest: int = 1) -> Heard:
    return Heard(sender, 1, said, bytes([digest]) * 32, 3)


def message(thread: bytes, **more: object) -> pb.Consultation:
    return pb.Consultation(id=fresh_id(), thread=thread, **more)  # type: ignore[arg-type]


def test_what_came_before_its_alert_goes_to_it() -> None:
    alert = pb.Alert(id=fresh_id(), type=pb.ALERT_TYPE_ALERT, status=pb.ALERT_STATUS_ACTUAL)
    reference = pb.Reference(sender=SEOUL, id=alert.id, digest=bytes([9]) * 32)
    thread = fresh_id()
    ledger = Ledger()
    assert ledger.take(heard(message(thread, in_reply_to=thread), digest=2)) == []
    opening = pb.Consultation(id=thread, thread=thread, references=[reference])
    assert ledger.take(heard(opening)) == []
    assert ledger.take(heard(opening)) == []
    (talk,) = ledger.talks()
    assert talk.opening.said.id == thread
    assert len(talk.said) == 2
    assert ledger.take(heard(alert, SEOUL, 9)) == []
    assert ledger.talks() == []
    (chain,) = ledger.chains()
    assert len(chain.said) == 2
    # And a message that comes later, of the same thread.
    ledger.take(heard(message(thread, in_reply_to=thread), digest=3))
    assert len(chain.said) == 3


def test_talk_about_an_alert_counts_once_and_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, alert = Ledger(), pb.Alert(id=fresh_id(), type=pb.ALERT_TYPE_ALERT, status=pb.ALERT_STATUS_ACTUAL)
    ledger.take(heard(alert, SEOUL, 9))
    reference = pb.Reference(sender=SEOUL, id=alert.id, digest=bytes([9]) * 32)
    said = heard(message(fresh_id(), references=[reference]))
    assert ledger.take(said) == ledger.take(said) == []
    (chain,) = ledger.chains()
    assert len(chain.said) == 1
    monkeypatch.setattr(alerts_life, "MAX_SAID", 1)
    assert "more than 1 messages" in ledger.take(heard(message(fresh_id(), references=[reference]), digest=2))[0]
    assert len(chain.said) == 1
    # Of a thousand references the first 64 are looked at.
    strange = pb.Reference(sender=SEOUL, id=fresh_id(), digest=bytes(32))
    monkeypatch.setattr(alerts_life, "MAX_SAID", 9)
    ledger.take(heard(message(fresh_id(), references=[*[strange] * 64, reference]), digest=3))
    assert len(chain.said) == 1


def test_a_flood_of_consultations_is_bounded_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts_life, "MAX_TALKS", 2)
    monkeypatch.setattr(alerts_life, "MAX_SAID", 3)
    ledger = Ledger()
    threads = [fresh_id() for _ in range(3)]
    told = [ledger.take(heard(message(thread), digest=n)) for n, thread in enumerate(threads)]
    assert [bool(one) for one in told] == [False, False, True]
    told = [ledger.take(heard(message(threads[0]), digest=10 + n)) for n in range(3)]
    assert [bool(one) for one in told] == [False, False, True]
    assert "consultations" in told[2][0]
