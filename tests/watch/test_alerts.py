"""The text and marking of an alert: the strictest of its evidence, who RED names, and what is said in words."""

import pytest

from exchange.v1 import report_pb2 as pb
from exchange.watch import alerts as module
from exchange.watch.alerts import Cited, Setting, of_alarm, probability_of, strictest
from exchange.watch.board import Alarm, Group
from keys.v1 import documents_pb2 as docs
from tests.watch.reports import NOW, imports

SETTING = Setting(pb.ALERT_STATUS_ACTUAL, NOW, 2)


def cited(marking: int = docs.MARKING_AMBER, named: tuple[str, ...] = (), sender: str = "nl.seoul/economic") -> Cited:
    one = imports(250, unit="TNE", hs="250410", origin="customs")
    return Cited(pb.Reference(sender=sender, id=one.id, digest=bytes(32)), marking, one, frozenset(named))


def alarm(
    *, pooled: bool = False, screen: str = "surge", voices: int = 1, tail: float = 1.0, confidence: float = 1.0
) -> Alarm:
    who = tuple((f"nl.m{n}", "2024-12") for n in range(voices))
    return Alarm(
        Group("250410", pb.INDICATOR_KIND_IMPORTS, 0), screen, "2024-12", pooled, who, tail, confidence, (), "why"
    )


def test_an_alert_is_marked_as_the_strictest_of_its_evidence() -> None:
    marks = [docs.MARKING_CLEAR, docs.MARKING_GREEN, docs.MARKING_AMBER, docs.MARKING_AMBER_STRICT, docs.MARKING_RED]
    for at, mark in enumerate(marks):
        assert strictest([cited(one) for one in marks[: at + 1]])[0] == mark
    assert strictest([]) == (docs.MARKING_AMBER, ())


def test_red_goes_to_those_alone_who_may_read_all_of_it() -> None:
    red = [cited(docs.MARKING_RED, ("nl.bz/a", "kr.motie/a")), cited(docs.MARKING_RED, ("nl.bz/a", "kr.x/a")), cited()]
    assert strictest(red) == (docs.MARKING_RED, ("nl.bz/a",))


def test_every_line_that_a_reader_needs_is_there_with_units_and_periods() -> None:
    alert = of_alarm(alarm(pooled=True, voices=6, tail=0.001), [cited()], SETTING, random=bytes(10))
    lines = dict(line.split(": ", 1) for line in alert.description[0].text.split("\n"))
    assert list(lines) == ["Seen", "By whom, how unusual", "Threatens", "When", "Confidence", "Rests on 1 report"]
    assert "250 tonne in 2024-12" in lines["Rests on 1 report"]
    assert "two months in a row" in alert.cancel_condition[0].text
    assert (alert.annex_version, alert.basis.known_until_ms) == (2, NOW)


def test_doubts_are_said_and_a_trade_series_alone_says_how_often_it_errs(monkeypatch: pytest.MonkeyPatch) -> None:
    lone = of_alarm(alarm(), [cited()], SETTING, random=bytes(10), doubts=["x owes y"])
    assert (
        "lowered: x owes y; one mission alone; this rule by itself raised 1.2 false alarms" in lone.description[0].text
    )
    pooled = of_alarm(alarm(pooled=True, voices=6, tail=0.001), [cited()], SETTING, random=bytes(10))
    assert "false alarms a quiet year" not in pooled.description[0].text
    monkeypatch.setattr(module, "ALONE_FALSE", {})
    assert "false alarms" not in of_alarm(alarm(), [cited()], SETTING, random=bytes(10)).description[0].text


def test_certainty_is_bounded_whatever_the_numbers_say() -> None:
    assert probability_of(alarm(confidence=7.0)) == 0.5
    assert probability_of(alarm(confidence=-1.0)) == 0
    assert of_alarm(alarm(), [cited()], SETTING, random=bytes(10)).certainty == pb.CERTAINTY_POSSIBLE
    many = alarm(pooled=True, voices=6, tail=0.001, confidence=0.9)
    assert of_alarm(many, [cited()], SETTING, random=bytes(10)).certainty == pb.CERTAINTY_LIKELY
    assert of_alarm(alarm(pooled=True, voices=1, confidence=0.4), [cited()], SETTING, random=bytes(10)).certainty == (
        pb.CERTAINTY_POSSIBLE
    )


def test_evidence_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_EVIDENCE", 3)
    assert len(of_alarm(alarm(), [cited() for _ in range(9)], SETTING, random=bytes(10)).evidence) == 3
