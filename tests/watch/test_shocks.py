"""Shocks: HF 2019, graphite 2023 and Nexperia 2025 as events of a report, and what a hostile mission cannot do."""

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from exchange.report import problems
from exchange.report.faults import MAX_PROBLEMS
from exchange.v1 import report_pb2 as pb
from exchange.watch import assess as module
from exchange.watch import shocks as shocks_module
from exchange.watch.alerts import Cited, Setting, of_event
from exchange.watch.assess import assess, assess_all, certainty_of
from exchange.watch.assessment import Assessment, Shock, severity_of, urgency_of
from exchange.watch.board import Alarm, Group
from exchange.watch.errors import WatchInputError
from exchange.watch.facts import Facts, Figure, Need
from exchange.watch.graph_data import shipped_facts, shipped_graph
from exchange.watch.shocks import Shocks
from tests.watch.reports import new_id

CONTROL, BAN, DISASTER = pb.EVENT_KIND_EXPORT_CONTROL, pb.EVENT_KIND_EXPORT_BAN, pb.EVENT_KIND_DISASTER


def ms(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1000)


def notice(
    kind: int,
    hs: Sequence[str],
    actors: Sequence[str],
    *,
    public: str,
    start: str,
    end: str = "",
    affected: Sequence[str] = (),
    place: str = "",
    origin: str = "official gazette",
    grade: tuple[int, int] = (1, 1),
) -> pb.Report:
    event = pb.Event(
        kind=kind, public_date=public, start_date=start, end_date=end, actors=actors, affected=affected, hs=hs
    )
    out = pb.Report(
        id=new_id(),
        subject=pb.Subject(hs=hs[0], item="of the notice", stage=pb.STAGE_MATERIAL),
        level=pb.STATUS_LEVEL_WATCH,
        events=[event],
    )
    if place:
        out.place.country = place
    out.sources.add(name=origin, origin=origin, reliability=grade[0], credibility=grade[1])
    return out


def weeks(**by_node: float) -> dict[Need, Figure]:
    return {Need(node.replace("_", "-"), "KR"): Figure(value, origins=2) for node, value in by_node.items()}


def told(one: pb.Report, day: str, facts: Facts, country: str = "KR") -> Assessment:
    known = Shocks()
    update = known.take(one, sender="nl.tokyo/economic", now_ms=ms(day))
    assert not update.notices
    (shock,) = known.current(now_ms=ms(day))
    assert shock.report_ids == (one.id,)
    return assess(shock, shipped_graph(), facts, country=country, now_ms=ms(day))


# --- T3: from a notice to an assessment in one cycle ---------------------------------------------------------------


def test_hydrogen_fluoride_2019() -> None:
    one = notice(CONTROL, ["281111"], ["JP"], public="2019-07-01", start="2019-07-04", affected=["KR"])
    shares = {**shipped_facts().shares, Need("hydrogen-fluoride", "KR"): {"JP": Figure(0.446, "2019")}}
    found = told(one, "2019-07-04", Facts(shares, weeks(hydrogen_fluoride=4), weeks(hydrogen_fluoride=0.5)))
    assert (found.severity, found.urgency, found.certainty) == (
        pb.SEVERITY_SEVERE,
        pb.URGENCY_EXPECTED,
        pb.CERTAINTY_OBSERVED,
    )
    assert (found.need_share, found.cover_weeks, found.impact_weeks) == (0.446, 4, 0.5)
    assert {"wet-etch-clean", "dram", "nand"} <= set(found.affected_steps)
    assert "45% of the need of KR at wet-etch-clean" in found.sentence
    assert "4.0 weeks of cover" in found.sentence
    later = told(one, "2019-07-25", Facts(shares, {Need("hydrogen-fluoride", "KR"): Figure(4, as_of_ms=ms("2019-07-01"))},
                                          weeks(hydrogen_fluoride=0.5)))  # fmt: skip
    assert later.urgency == pb.URGENCY_IMMEDIATE  # stocks are used up meanwhile


def test_graphite_2023() -> None:
    one = notice(CONTROL, ["250410", "380110"], ["CN"], public="2023-10-20", start="2023-12-01")
    shipped = shipped_facts()
    found = told(one, "2023-10-20", Facts(shipped.shares, weeks(graphite=8), weeks(graphite=3)))
    assert found.severity == pb.SEVERITY_SEVERE
    assert (found.weeks_until_effect, found.urgency) == (6, pb.URGENCY_EXPECTED)
    assert "sic-wafer" in {impact.node for impact in found.impacts}
    assert found.affected_steps == ("discrete-power", "car-ecu")
    # Announced and believed is likely; that world shares stand for Korea's takes one step.
    assert found.certainty == pb.CERTAINTY_POSSIBLE
    assert any("world's shares" in line for line in found.unknown)
    assert "from 2023-12-01" in found.sentence


def test_nexperia_2025_acts_in_two_countries() -> None:
    one = notice(BAN, ["854110", "854121", "854129", "854239"], ["CN", "NL"], public="2025-10-13", start="2025-10-04")
    kinds = ("discrete-small", "discrete-power", "mcu-analog")
    shares = {Need(name, "KR"): {"CN": Figure(0.4), "NL": Figure(0.2)} for name in kinds}
    stocks = weeks(**{name.replace("-", "_"): 2.0 for name in kinds})
    found = told(one, "2025-10-13", Facts(shares, stocks, weeks(**{name.replace("-", "_"): 1.0 for name in kinds})))
    assert (found.severity, found.urgency, found.certainty) == (
        pb.SEVERITY_EXTREME,
        pb.URGENCY_IMMEDIATE,
        pb.CERTAINTY_OBSERVED,
    )
    assert found.need_share == pytest.approx(0.6)
    assert "car-ecu" in found.affected_steps
    # The Dutch measure is not lost to the Dutch: the Chinese one is.
    dutch = {Need(name, "NL"): {"CN": Figure(0.4), "NL": Figure(0.2)} for name in kinds}
    assert told(one, "2025-10-13", Facts(dutch), "NL").need_share == pytest.approx(0.4)


# --- what is not known ---------------------------------------------------------------------------------------------

HF = notice(CONTROL, ["281111"], ["JP"], public="2019-07-01", start="2019-07-04")
OWN = {Need("hydrogen-fluoride", "KR"): {"JP": Figure(0.446, "2019")}}
FULL = Facts(OWN, weeks(hydrogen_fluoride=4), weeks(hydrogen_fluoride=0.5))


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (replace(FULL, stocks={}), "weeks of stock of hydrogen-fluoride in KR are not known"),
        (replace(FULL, transits={}), "weeks of transit of hydrogen-fluoride to KR are not known"),
        (replace(FULL, shares={}), "who supplies hydrogen-fluoride is not known"),
        (replace(FULL, shares={Need("hydrogen-fluoride", "KR"): {"CN": Figure(0.8)}}), "at most 20%"),
    ],
)
def test_what_is_missing_is_said_and_lowers_certainty_never_assumed(facts: Facts, said: str) -> None:
    assert told(HF, "2019-07-04", FULL).certainty == pb.CERTAINTY_OBSERVED
    found = told(HF, "2019-07-04", facts)
    assert found.certainty == pb.CERTAINTY_LIKELY
    assert any(said in line for line in found.unknown)
    assert said in found.sentence
    if not facts.stocks or not facts.transits:
        assert found.urgency == pb.URGENCY_UNSPECIFIED
    if facts.shares != OWN:
        assert (found.need_share, found.severity) == (None, pb.SEVERITY_UNSPECIFIED)


def test_a_zero_stock_on_one_word_is_named_and_lowers_certainty(monkeypatch: pytest.MonkeyPatch) -> None:
    lone = replace(FULL, stocks={Need("hydrogen-fluoride", "KR"): Figure(0, source="zz.nowhere", origins=1)})
    found = told(HF, "2019-07-04", lone)
    assert (found.urgency, found.certainty) == (pb.URGENCY_IMMEDIATE, pb.CERTAINTY_LIKELY)
    assert "the word of zz.nowhere alone" in found.sentence
    monkeypatch.setattr(module, "_clock_doubts", lambda *_: ())  # the check off: nobody would be told
    assert told(HF, "2019-07-04", lone).certainty == pb.CERTAINTY_OBSERVED


@pytest.mark.parametrize("what", ["shares", "stocks", "transits"])
def test_what_is_contested_is_said_and_lowers_certainty(what: str) -> None:
    need = Need("hydrogen-fluoride", "KR")
    known = getattr(FULL, what)[need]
    doubted = (
        {"JP": replace(known["JP"], contested="a says 1")} if what == "shares" else replace(known, contested="a says 1")
    )
    found = told(HF, "2019-07-04", replace(FULL, **{what: {need: doubted}}))
    assert found.certainty == pb.CERTAINTY_LIKELY
    assert "hydrogen-fluoride: a says 1" in found.sentence


def test_what_is_not_known_is_listed_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_UNKNOWN", 1)
    assert len(told(HF, "2019-07-04", Facts()).unknown) == 1


@pytest.mark.parametrize("what", ["stocks", "transits"])
def test_what_one_mission_alone_says_of_another_country_is_said_and_lowers_certainty(what: str) -> None:
    need = Need("hydrogen-fluoride", "KR")
    figures = {need: replace(getattr(FULL, what)[need], alone="zz.nowhere")}
    found = told(HF, "2019-07-04", replace(FULL, **{what: figures}))
    assert found.certainty == pb.CERTAINTY_LIKELY
    assert f"the {what[:-1]} of hydrogen-fluoride in KR is the word of zz.nowhere alone" in found.sentence
    lone = {need: {"JP": replace(OWN[need]["JP"], alone="zz.nowhere")}}
    found = told(HF, "2019-07-04", replace(FULL, shares=lone))
    assert found.certainty == pb.CERTAINTY_LIKELY
    assert "the share of JP in hydrogen-fluoride is the word of zz.nowhere alone" in found.sentence


def test_who_is_spared_comes_after_who_may_be_hit_and_nobody_is_said_to_be_at_risk() -> None:
    aimed = notice(BAN, ["811010"], ["CN"], public="2024-12-03", start="2024-12-03", affected=["US"])
    known = Shocks()
    known.take(aimed, sender="nl.tokyo/a", now_ms=ms("2024-12-04"))
    (shock,) = known.current(now_ms=ms("2024-12-04"))
    now, graph = ms("2024-12-04"), shipped_graph()
    cited = [Cited(pb.Reference(sender="nl.tokyo/a", id=aimed.id, digest=bytes(32)), 3, aimed)]
    setting = Setting(pb.ALERT_STATUS_ACTUAL, now)
    both = assess_all(shock, graph, shipped_facts(), countries=["NL", "KR"], now_ms=now)
    text = of_event(aimed.events[0], cited, setting, random=bytes(10), assessed=both)
    threat = next(line for line in text.description[0].text.split("\n") if line.startswith("Threatens"))
    assert threat == (
        "Threatens: no country of this exchange: KR is spared: it is aimed at others; "
        "NL is spared: it is aimed at others; hit: US."
    )
    assert "For information" in text.instruction[0].text
    assert "at risk" not in text.description[0].text
    # A country of which nothing is known goes before one that is spared.
    dutch = assess_all(
        replace(shock, affected=("NL",), items=("310210",)), graph, Facts(), countries=["KR", "NL"], now_ms=now
    )
    assert [one.country for one in dutch] == ["NL", "KR"]
    lines = of_event(aimed.events[0], cited, setting, random=bytes(10), assessed=dutch).description[0].text
    assert "no effect on NL is found" in lines
    assert "KR is spared: it is aimed at others" in lines


def test_an_item_outside_the_graph_and_a_code_of_several_things() -> None:
    unknown = notice(CONTROL, ["310210"], ["CN"], public="2021-10-15", start="2021-10-15")
    found = told(unknown, "2021-10-16", shipped_facts())
    assert (found.severity, found.impacts, found.unknown) == (0, (), ("310210 is not in the dependency graph",))
    several = notice(CONTROL, ["811292"], ["CN"], public="2023-07-03", start="2023-08-01")
    assert "holds gallium, germanium, indium" in told(several, "2023-07-03", shipped_facts()).sentence


def test_who_is_spared_and_who_is_no_country() -> None:
    aimed = notice(BAN, ["811010"], ["CN"], public="2024-12-03", start="2024-12-03", affected=["US"])
    found = told(aimed, "2024-12-04", shipped_facts())
    assert (found.certainty, found.impacts, found.need_share) == (pb.CERTAINTY_UNLIKELY, (), 0)
    assert told(HF, "2019-07-04", FULL, "JP").impacts == ()
    quake = notice(DISASTER, ["281111"], [], public="2019-07-01", start="2019-07-01", place="JP")
    lost = {Need("hydrogen-fluoride", "JP"): {"JP": Figure(0.9)}}
    assert told(quake, "2019-07-04", Facts(lost), "JP").need_share == 0.9  # a disaster spares nobody at home
    with pytest.raises(WatchInputError, match="not an ISO"):
        told(HF, "2019-07-04", FULL, "ZZ")


def test_an_alarm_is_assessed_on_condition_of_its_largest_supplier() -> None:
    alarm = Alarm(Group("250410", pb.INDICATOR_KIND_IMPORTS, 0), "surge", "2023-11", pooled=True,
                  voices=(("nl.seoul", "2023-11"),), tail=0.001, confidence=0.7, reports=(b"r",), reason="why")  # fmt: skip
    found = assess(alarm, shipped_graph(), shipped_facts(), country="KR", now_ms=ms("2024-01-01"))
    assert "if CN, which gives 78% of graphite, were lost" in found.sentence
    assert (found.severity, found.certainty) == (pb.SEVERITY_SEVERE, pb.CERTAINTY_POSSIBLE)


@pytest.mark.parametrize(
    ("share", "level"), [(0.5, 4), (0.499, 3), (0.25, 3), (0.1, 2), (0.099, 1), (0.0, 1), (None, 0)]
)
def test_severity_by_share_of_need(share: float | None, level: int) -> None:
    assert severity_of(share) == level


@pytest.mark.parametrize(
    ("cover", "impact", "ahead", "level"),
    [(4, 2, 0, 4), (4, 1.9, 0, 3), (15, 2, 0, 3), (15.1, 2, 0, 2), (4, 2, 20, 2), (None, 1, 0, 0), (1, None, 0, 0)],
)
def test_urgency_by_weeks_left(cover: float | None, impact: float | None, ahead: float, level: int) -> None:
    assert urgency_of(cover, impact, weeks_until_effect=ahead) == level


def test_certainty_by_force_and_belief() -> None:
    shock = Shock(CONTROL, ("281111",), in_force=True, probability=0.25)
    assert certainty_of(shock) == pb.CERTAINTY_OBSERVED
    assert certainty_of(replace(shock, probability=0.2)) == pb.CERTAINTY_POSSIBLE  # graded worse than "cannot judge"
    assert certainty_of(replace(shock, in_force=False, probability=0.6)) == pb.CERTAINTY_LIKELY
    assert certainty_of(replace(shock, in_force=False, probability=0.5)) == pb.CERTAINTY_POSSIBLE
    assert certainty_of(shock, ["a stock"]) == pb.CERTAINTY_LIKELY


# --- many missions, hostile ones -----------------------------------------------------------------------------------

DAY = ms("2019-07-04")


def standing(known: Shocks, now_ms: int = DAY) -> list[Shock]:
    return known.current(now_ms=now_ms)


def test_two_missions_tell_of_one_shock_and_one_newspaper_is_one_origin() -> None:
    known = Shocks()
    for sender, origin in (("nl.tokyo/a", "paper"), ("nl.seoul/a", "paper"), ("kr.the-hague/a", "gazette")):
        known.take(notice(CONTROL, ["281111"], ["JP"], public="2019-07-01", start="2019-07-04", origin=origin, grade=(3, 3)),
                   sender=sender, now_ms=DAY)  # fmt: skip
    (shock,) = standing(known)
    assert shock.reporters == ("kr.the-hague", "nl.seoul", "nl.tokyo")
    assert shock.probability == pytest.approx(1 - 0.64**2)


def test_one_mission_with_many_origins_is_believed_once() -> None:
    known = Shocks()
    for number in range(9):
        one = notice(
            CONTROL, ["281111"], ["JP"], public="2019-07-01", start="2019-07-04", origin=f"o{number}", grade=(3, 3)
        )
        known.take(one, sender="zz.nowhere/a", now_ms=DAY)
    assert standing(known)[0].probability == pytest.approx(0.36)


def test_a_worse_graded_statement_moves_no_date_and_widens_nothing() -> None:
    known = Shocks()
    known.take(HF, sender="nl.tokyo/a", now_ms=DAY)
    ended = notice(CONTROL, ["281111"], ["JP"], public="2019-07-01", start="2019-07-01", end="2019-07-02", grade=(5, 5))
    known.take(ended, sender="zz.nowhere/a", now_ms=DAY)
    wider = notice(CONTROL, ["281111", "370790"], ["JP"], public="2019-07-01", start="2019-07-04", grade=(5, 5))
    known.take(wider, sender="zz.nowhere/a", now_ms=DAY)
    first, second = standing(known)
    assert (first.items, first.start_ms, first.expected_end_ms) == (("281111",), ms("2019-07-04"), 0)
    assert (second.items, second.reporters) == (("281111", "370790"), ("zz.nowhere",))
    assert certainty_of(second) == pb.CERTAINTY_POSSIBLE


def test_a_mission_takes_back_its_own_word_alone() -> None:
    known = Shocks()
    known.take(HF, sender="nl.tokyo/a", now_ms=DAY)
    gone = pb.Report(id=new_id(), withdraws=[HF.id])
    assert known.take(gone, sender="zz.nowhere/a", now_ms=DAY).keys == ()
    assert len(standing(known)) == 1
    assert len(known.take(gone, sender="nl.tokyo/a", now_ms=DAY).keys) == 1
    assert standing(known) == []


def test_an_end_and_an_easing_end_it_but_not_on_a_lone_bad_word() -> None:
    brief = Shocks()
    brief.take(notice(CONTROL, ["281111"], ["JP"], public="2019-07-01", start="2019-07-04", end="2019-08"),
               sender="nl.tokyo/a", now_ms=DAY)  # fmt: skip
    assert len(standing(brief, ms("2019-08-31"))) == 1
    assert standing(brief, ms("2019-09-01")) == []
    known, later = Shocks(), ms("2019-09-02")
    known.take(HF, sender="nl.tokyo/a", now_ms=DAY)

    def ease(
        hs: str, actor: str, grade: tuple[int, int], *, start: str = "2019-08-30", affected: Sequence[str] = ()
    ) -> int:
        one = notice(
            pb.EVENT_KIND_EASING, [hs], [actor], public="2019-08-30", start=start, grade=grade, affected=affected
        )
        known.take(one, sender="zz.nowhere/a", now_ms=later)
        return len(standing(known, later))

    assert ease("281111", "JP", (5, 5)) == 1
    assert ease("370790", "JP", (1, 1)) == 1
    assert ease("281111", "CN", (1, 1)) == 1
    assert ease("281111", "JP", (1, 1), start="2019-06-01") == 1  # before it began
    assert ease("281111", "JP", (1, 1), start="2019-10-01") == 1  # not in force yet
    assert ease("281111", "JP", (1, 1), affected=("NL",)) == 1  # for others alone
    assert ease("281111", "JP", (1, 1)) == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda event: event.actors.append("ZZ"),
        lambda event: event.hs.append("12"),
        lambda event: setattr(event, "start_date", "soon"),
        lambda event: setattr(event, "kind", 0),
    ],
    ids=["place", "code", "date", "kind"],
)
def test_a_bad_event_does_not_count(change: object) -> None:
    one = notice(CONTROL, ["281111"], ["JP"], public="2019-07-01", start="2019-07-04")
    change(one.events[0])  # type: ignore[operator]
    known = Shocks()
    assert known.take(one, sender="nl.tokyo/a", now_ms=DAY).keys == ()
    assert standing(known) == []


def test_a_flood_is_bounded_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shocks_module, "MAX_STATEMENTS_OF_REPORTER", 3)
    known = Shocks()
    for _ in range(3):
        known.take(
            notice(CONTROL, ["281111"], ["JP"], public="2019-07-01", start="2019-07-04"), sender="zz.a/a", now_ms=DAY
        )
    update = known.take(HF, sender="zz.a/b", now_ms=DAY)
    assert "3 events of it stand already" in update.notices[0].text
    assert known.take(HF, sender="nl.tokyo/a", now_ms=DAY).keys
    monkeypatch.setattr(shocks_module, "MAX_STATEMENTS_OF_SHOCK", 4)
    full = known.take(HF, sender="kr.a/a", now_ms=DAY)
    assert "tell of this event already" in full.notices[0].text


def test_a_surge_of_demand_takes_nothing_away() -> None:
    known = Shocks()
    known.take(notice(pb.EVENT_KIND_DEMAND_SURGE, ["854232"], [], public="2019-07-01", start="2019-07-01", place="US"),
               sender="nl.tokyo/a", now_ms=DAY)  # fmt: skip
    assert standing(known) == []


def test_a_measure_that_is_taken_anew_after_it_was_eased_is_a_shock_again() -> None:
    known, later = Shocks(), ms("2020-02-01")
    known.take(HF, sender="nl.tokyo/a", now_ms=DAY)
    eased = notice(pb.EVENT_KIND_EASING, ["281111"], ["JP"], public="2019-08-30", start="2019-08-30")
    known.take(eased, sender="nl.tokyo/a", now_ms=ms("2019-09-02"))
    assert standing(known, later) == []
    # A worse graded mission says so; what was said before the easing does not hold it down.
    anew = notice(CONTROL, ["281111"], ["JP"], public="2020-01-10", start="2020-01-15", grade=(3, 3))
    known.take(anew, sender="nl.seoul/a", now_ms=later)
    (shock,) = standing(known, later)
    assert (shock.start_ms, shock.report_ids, shock.eased_ms) == (ms("2020-01-15"), (anew.id,), ms("2019-08-30"))
    again = notice(pb.EVENT_KIND_EASING, ["281111"], ["JP"], public="2020-03-01", start="2020-03-01")
    known.take(again, sender="nl.tokyo/a", now_ms=ms("2020-03-02"))
    assert standing(known, ms("2020-03-02")) == []


def test_the_same_report_twice_is_one_statement() -> None:
    known = Shocks()
    assert len(known.take(HF, sender="nl.tokyo/a", now_ms=DAY).keys) == 1
    assert known.take(HF, sender="nl.tokyo/b", now_ms=DAY).keys == ()
    known.take(pb.Report(id=new_id(), withdraws=[HF.id]), sender="nl.tokyo/a", now_ms=DAY)
    assert known._of_reporter["nl.tokyo"] == 0


def test_a_paper_quoted_by_a_bad_source_too_is_believed_as_by_the_best() -> None:
    known = Shocks()
    for sender, grade in (("nl.tokyo/a", (1, 1)), ("nl.seoul/a", (5, 5))):
        one = notice(CONTROL, ["281111"], ["JP"], public="2019-07-01", start="2019-07-04", origin="paper", grade=grade)
        known.take(one, sender=sender, now_ms=DAY)
    assert standing(known)[0].probability == 1


def test_an_event_of_a_report_that_is_none_does_not_count_nor_one_behind_more_faults_than_are_looked_for() -> None:
    broken, hidden = pb.Report(), pb.Report()
    for copy in (broken, hidden):
        copy.CopyFrom(HF)
        copy.id = new_id()
    broken.subject.hs = "12345"
    for _ in range(64):
        hidden.indicators.add(
            kind=pb.INDICATOR_KIND_STOCK, value=-1, unit="QQQ", currency="zz", period="never", baseline=math.nan
        )
    hidden.events[0].hs.append("12")
    found = problems(hidden, now_ms=DAY)
    assert len(found) == MAX_PROBLEMS
    assert not any(one.field.startswith("events") or one.field == "indicators" for one in found)
    for one in (broken, hidden):
        known = Shocks()
        known.take(one, sender="nl.tokyo/a", now_ms=DAY)
        assert standing(known) == []
    # With a few faults elsewhere a sound event counts.
    few = pb.Report()
    few.CopyFrom(HF)
    few.indicators.add(kind=pb.INDICATOR_KIND_STOCK, value=-1, unit="KGM", period="2019-06")
    known = Shocks()
    known.take(few, sender="nl.tokyo/a", now_ms=DAY)
    assert len(standing(known)) == 1


@pytest.mark.parametrize("text", ["x" * 201, "\x1b[2Jnotice", "a\nb"])
def test_the_number_of_a_notice_does_no_harm(text: str) -> None:
    one = pb.Report()
    one.CopyFrom(HF)
    one.events[0].reference = text
    known = Shocks()
    known.take(one, sender="nl.tokyo/a", now_ms=DAY)
    for shock in standing(known):
        assert len(shock.reference) <= 200
        assert shock.reference.isprintable()
