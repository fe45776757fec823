"""The ledger of alerts, message by message: what a message of the wrong sender, status, chain or number does not do."""

import pytest

from exchange.v1 import report_pb2 as pb
from exchange.watch import alerts_life as module
from exchange.watch.alerts_life import ANSWER_ELSE_MS, ANSWER_MS, Heard, Ledger, State
from tests.watch.reports import NOW, new_id

SEOUL, BZ, HAGUE = "nl.seoul/economic", "nl.bz/supply", "kr.the-hague/economic"
SEEN = iter(range(1, 1 << 60))


def heard(said: pb.Alert | pb.Consultation, sender: str = SEOUL, at: int = NOW) -> Heard:
    return Heard(sender, at, said, next(SEEN).to_bytes(32, "big"), 3)


def alert(**more: object) -> pb.Alert:
    given = {"type": pb.ALERT_TYPE_ALERT, "status": pb.ALERT_STATUS_ACTUAL, "expire_time_ms": NOW + 10**10, **more}
    return pb.Alert(id=new_id(), **given)  # type: ignore[arg-type]


def on(first: Heard, kind: int, **more: object) -> pb.Alert:
    return alert(type=kind, references=[first.reference], **more)


def begun(**more: object) -> tuple[Ledger, Heard]:
    ledger, first = Ledger(), heard(alert(**more))
    assert ledger.take(first) == []
    return ledger, first


def state(ledger: Ledger) -> State:
    (chain,) = ledger.chains()
    return chain.state


def test_exercise_and_actual_are_never_mixed() -> None:
    for status in (pb.ALERT_STATUS_EXERCISE, pb.ALERT_STATUS_TEST):
        ledger, first = begun()
        (problem,) = ledger.take(heard(on(first, pb.ALERT_TYPE_CANCEL, status=status)))
        assert "mixes exercise and actual" in problem
        assert state(ledger) is State.ISSUED


@pytest.mark.parametrize(
    ("kind", "step"),
    [
        (pb.ALERT_TYPE_UPDATE, 0),
        (pb.ALERT_TYPE_UPDATE, pb.ALERT_STEP_ESCALATED),
        (pb.ALERT_TYPE_CANCEL, 0),
        (pb.ALERT_TYPE_CANCEL, pb.ALERT_STEP_RESOLVED),
        (pb.ALERT_TYPE_CANCEL, pb.ALERT_STEP_FALSE_ALARM),
    ],
)
def test_another_mission_changes_and_ends_nothing_though_of_the_same_party(kind: int, step: int) -> None:
    for sender in (HAGUE, BZ):
        ledger, first = begun()
        (problem,) = ledger.take(heard(on(first, kind, step=step), sender))
        assert f"{sender} cannot" in problem
        assert state(ledger) is State.ISSUED
        # A colleague at the same mission may.
        assert ledger.take(heard(on(first, kind, step=step), "nl.seoul/other")) == []
        assert state(ledger) is not State.ISSUED


def test_what_is_over_is_not_brought_back() -> None:
    ledger, first = begun()
    ledger.take(heard(on(first, pb.ALERT_TYPE_CANCEL)))
    for kind in (pb.ALERT_TYPE_UPDATE, pb.ALERT_TYPE_CANCEL):
        (problem,) = ledger.take(heard(on(first, kind)))
        assert "that is cancelled" in problem
    assert ledger.take(heard(on(first, pb.ALERT_TYPE_ACK), HAGUE)) == []
    assert state(ledger) is State.CANCELLED


def test_a_reference_is_by_sender_id_and_text() -> None:
    ledger, first = begun()
    ack = alert(type=pb.ALERT_TYPE_ACK)
    for change in ({"sender": BZ}, {"id": new_id()}, {"digest": bytes(32)}):
        wrong = pb.Reference(sender=first.sender, id=first.said.id, digest=first.digest)
        for name, value in change.items():
            setattr(wrong, name, value)
        del ack.references[:]
        ack.references.append(wrong)
        ledger.take(heard(ack, HAGUE))
        assert state(ledger) is State.ISSUED, change


def test_two_alerts_with_one_id_are_one_and_a_strange_type_is_none() -> None:
    ledger, first = begun()
    twin = pb.Alert()
    twin.CopyFrom(first.said)  # type: ignore[arg-type]
    (problem,) = ledger.take(heard(twin))
    assert "two alerts with one id" in problem
    assert len(ledger.chains()) == 1
    # Of another desk it is another alert.
    assert ledger.take(heard(twin, HAGUE)) == []
    (problem,) = ledger.take(heard(alert(type=0)))
    assert "does not know" in problem
    assert len(ledger.chains()) == 2


def test_the_same_message_twice_counts_once() -> None:
    ledger, first = begun()
    ack = heard(on(first, pb.ALERT_TYPE_ACK), HAGUE)
    assert ledger.take(ack) == ledger.take(ack) == ledger.take(first) == []
    (chain,) = ledger.chains()
    assert len(chain.said) == 1


def test_floods_are_bounded_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, first = begun()
    monkeypatch.setattr(module, "MAX_SAID", 2)
    told = [ledger.take(heard(on(first, pb.ALERT_TYPE_ACK), HAGUE)) for _ in range(3)]
    assert [bool(one) for one in told] == [False, False, True]
    monkeypatch.setattr(module, "MAX_CHAINS", 1)
    assert "more than 1 alerts" in ledger.take(heard(alert()))[0]
    monkeypatch.setattr(module, "MAX_WAITING", 1)
    strange = pb.Reference(sender=SEOUL, id=new_id(), digest=bytes(32))
    assert ledger.take(heard(alert(type=pb.ALERT_TYPE_ACK, references=[strange]))) == []
    told = ledger.take(heard(alert(type=pb.ALERT_TYPE_ACK, references=[strange])))
    assert "never came" in told[-1]


def test_only_another_party_answers_in_time() -> None:
    for urgency, term in ((pb.URGENCY_IMMEDIATE, ANSWER_MS[pb.URGENCY_IMMEDIATE]), (pb.URGENCY_FUTURE, ANSWER_ELSE_MS)):
        ledger, first = begun(urgency=urgency)
        (chain,) = ledger.chains()
        assert not chain.overdue(NOW + term)
        assert chain.overdue(NOW + term + 1)
        ledger.take(heard(on(first, pb.ALERT_TYPE_ACK), BZ))
        assert chain.overdue(NOW + term + 1)
        ledger.take(heard(on(first, pb.ALERT_TYPE_ACK), HAGUE))
        assert not chain.overdue(NOW + term + 1)


def test_an_update_is_to_be_acknowledged_again_and_an_alert_runs_out() -> None:
    ledger, first = begun()
    ledger.take(heard(on(first, pb.ALERT_TYPE_ACK), HAGUE))
    ledger.take(heard(on(first, pb.ALERT_TYPE_UPDATE, expire_time_ms=NOW + 5)))
    (chain,) = ledger.chains()
    assert (chain.state, chain.acknowledged) == (State.UPDATED, {})
    assert chain.open_at(NOW + 4)
    assert chain.state_at(NOW + 5) is State.EXPIRED
    assert not chain.open_at(NOW + 5)
    # What ran out can still be taken back.
    assert ledger.take(heard(on(first, pb.ALERT_TYPE_CANCEL))) == []
    assert chain.state is State.CANCELLED
