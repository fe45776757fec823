"""Exposure: the graph refuses what is none, losses spread as the least input allows, figures of missions are bounded."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from exchange.v1 import report_pb2 as pb
from exchange.watch import exposure, facts, graph
from exchange.watch.assessment import Effect, Impact
from exchange.watch.board import Board
from exchange.watch.errors import WatchInputError
from exchange.watch.exposure import concentration, concentration_change, single_points, spread
from exchange.watch.facts import WORLD, Facts, Figure, Need, parse_suppliers
from exchange.watch.graph import Edge, Graph, Node, Relation, build, parse
from exchange.watch.graph_data import shipped_facts, shipped_graph
from tests.watch.reports import NOW, report, tell

HEAD, EDGES = "node,stage,hs6\n", "from,to,relation,need\n"


def small(*edges: tuple[str, str, Relation, int]) -> Graph:
    names = dict.fromkeys(name for edge in edges for name in edge[:2])
    return build(
        [Node(name, "material" if name[0] == "m" else "step") for name in names], [Edge(*edge) for edge in edges]
    )


def by_node(impacts: list[Impact]) -> dict[str, Impact]:
    return {one.node: one for one in impacts}


@pytest.mark.parametrize(
    ("nodes", "edges", "said"),
    [
        ("a,material,\n", "a,a,feeds,3\n", "leads to itself"),
        ("a,material,\nb,step,\n", "a,b,feeds,3\nb,a,feeds,3\n", "circle"),
        ("a,material,\n", "a,z,feeds,3\n", "not there"),
        ("a,material,\na,step,\n", "", "twice"),
        ("a,material,\nb,step,\n", "a,b,feeds,3\na,b,feeds,2\n", "twice"),
        ("a,magic,\n", "", "stage"),
        ("a,material,12345\n", "", "six digits"),
        ("A b,material,\n", "", "no name"),
        ("a,material,\nb,step,\n", "a,b,likes,3\n", "relation"),
        ("a,material,\nb,step,\n", "a,b,feeds,4\n", "need"),
        ("a,material\n", "", "cells"),
    ],
)
def test_what_is_no_graph_is_refused_by_name(nodes: str, edges: str, said: str) -> None:
    with pytest.raises(WatchInputError, match=said):
        parse(HEAD + nodes, EDGES + edges)


def test_a_graph_is_bounded_and_a_deep_one_is_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [Node(f"m{i}", "material") for i in range(4000)]
    chain = [Edge(f"m{i}", f"m{i + 1}", Relation.FEEDS, 3) for i in range(3999)]
    deep = build(nodes, chain)
    assert by_node(spread(deep, Facts(), {"m0": 0.5}, country="KR"))["m3999"].share_at_risk == 0.5
    for name in ("MAX_NODES", "MAX_EDGES"):
        with monkeypatch.context() as patch:
            patch.setattr(graph, name, 3998)
            with pytest.raises(WatchInputError, match="more than"):
                build(nodes, chain)


def test_a_target_gets_as_much_as_the_input_it_gets_least_of() -> None:
    joined = small(("m1", "s", Relation.CONSUMED, 3), ("m2", "s", Relation.CONSUMED, 3), ("s", "t", Relation.STEP, 2))
    hit = by_node(spread(joined, Facts(), {"m1": 0.4, "m2": 0.7}, country="KR"))
    assert (hit["s"].share_at_risk, hit["s"].path, hit["s"].items_at_risk) == (0.7, ("m2", "s"), ("m1", "m2"))
    assert hit["t"].share_at_risk == pytest.approx(0.35)
    assert (hit["s"].effect, hit["m1"].effect) == (Effect.STOPS, Effect.SUPPLY)


def test_a_missing_machine_stops_growth_alone_and_a_missing_chip_stops_no_other() -> None:
    tools = small(("m1", "s", Relation.TOOL, 3), ("s", "t", Relation.STEP, 3), ("t", "p", Relation.PACKED, 3))
    hit = by_node(spread(tools, Facts(), {"m1": 1.0}, country="KR"))
    assert [hit[name].effect for name in ("m1", "s", "t")] == [Effect.SUPPLY, Effect.GROWTH, Effect.GROWTH]
    assert "p" not in hit


def test_a_loss_of_unknown_size_is_passed_on_as_unknown() -> None:
    hit = by_node(spread(small(("m1", "s", Relation.CONSUMED, 3)), Facts(), {"m1": None}, country="KR"))
    assert hit["s"].share_at_risk is None
    assert (hit["s"].weeks_until_stop, hit["s"].at_least) == (None, True)


def test_time_is_transit_and_the_stock_of_each_node_and_unknown_ones_are_said() -> None:
    path = small(("m1", "m2", Relation.FEEDS, 3), ("m2", "s", Relation.CONSUMED, 3))
    known = Facts(
        stocks={Need("m1", "KR"): Figure(4), Need("m2", "KR"): Figure(3)}, transits={Need("m1", "KR"): Figure(2)}
    )
    step = by_node(spread(path, known, {"m1": 1.0}, country="KR"))["s"]
    assert (step.weeks_of_cover, step.weeks_to_impact, step.weeks_until_stop, step.at_least) == (7, 2, 9, False)
    assert by_node(spread(path, known, {"m1": 1.0}, country="NL"))["s"].weeks_until_stop is None
    partly = replace(known, stocks={Need("m1", "KR"): Figure(4)})
    step = by_node(spread(path, partly, {"m1": 1.0}, country="KR"))["s"]
    assert (step.weeks_until_stop, step.at_least) == (6, True)


def test_a_stock_is_used_up_since_it_was_counted() -> None:
    week = 7 * 86_400_000
    old = Figure(6, as_of_ms=NOW - 4 * week)
    assert exposure.left_weeks(old, NOW, NOW, 0) == 6  # goods still come
    assert exposure.left_weeks(old, NOW, NOW - 9 * week, 0) == 2
    assert exposure.left_weeks(old, NOW, NOW - 3 * week, 1) == 4
    assert exposure.left_weeks(old, NOW + 9 * week, NOW, 0) == 0


@pytest.mark.parametrize(
    "make",
    [
        lambda: Facts(shares={Need("m1", "KR"): {"CN": Figure(0.7), "JP": Figure(0.4)}}),
        lambda: Facts(shares={Need("m1", "KR"): {"CN": Figure(-0.1)}}),
        lambda: Facts(shares={Need("m1", "KR"): {"CN": Figure(math.nan)}}),
        lambda: Facts(shares={Need("m1", "KR"): {"ZZ": Figure(0.1)}}),
        lambda: Facts(stocks={Need("m1", "KR"): Figure(-1)}),
        lambda: Facts(stocks={Need("m1", "XX"): Figure(1)}),
        lambda: Facts(transits={Need("m1", "KR"): Figure(math.inf)}),
        lambda: parse_suppliers(
            "node,supplier,consumer,share,period,basis,source\nneon,UA,world,x,2022,a,b\n", shipped_graph()
        ),
        lambda: parse_suppliers(
            "node,supplier,consumer,share,period,basis,source\nnix,UA,world,1,2022,a,b\n", shipped_graph()
        ),
    ],
    ids=["sum", "negative", "nan", "country", "stock", "holder", "endless", "text", "node"],
)
def test_figures_that_cannot_be_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(WatchInputError):
        make()


def test_concentration_names_the_largest_and_never_compares_two_bases() -> None:
    world = {Need("neon", WORLD): {"UA": Figure(0.5, "2022", "press"), "CN": Figure(0.3)}}
    own = {Need("neon", "KR"): {"UA": Figure(0.2), "CN": Figure(0.6)}}
    found = concentration("neon", "KR", Facts(world))
    assert found is not None
    assert (found.top, found.basis, found.hhi, found.known) == ("UA", "world", pytest.approx(0.34), pytest.approx(0.8))
    assert concentration_change("neon", "KR", Facts(world), Facts({**world, **own})) is None
    later = Facts({Need("neon", WORLD): {"UA": Figure(0.6), "CN": Figure(0.3)}})
    change = concentration_change("neon", "KR", Facts(world), later)
    assert change is not None
    assert (change.hhi, change.top_before, change.top_after) == (pytest.approx(0.11), 0.5, 0.6)
    assert concentration("krypton", "KR", Facts(world)) is None


def test_single_points_of_failure_of_the_shipped_graph() -> None:
    found = {one.node: (one.top, stops) for one, stops in single_points(shipped_graph(), shipped_facts(), "KR")}
    assert found["gallium"] == ("CN", ("power-rf-gan", "rf-chip"))
    assert found["euv-scanner"] == ("NL", ())
    assert "tin" not in found
    assert "dram" not in found  # Korea's own
    assert "dram" in {one.node for one, _ in single_points(shipped_graph(), shipped_facts(), "NL")}


# --- from reports --------------------------------------------------------------------------------------------------


def cover(
    weeks: float, *, sender: str, origin: str, period: str = "2024-12", place: str = "KR"
) -> tuple[pb.Report, str]:
    one = report(weeks, period, kind=pb.INDICATOR_KIND_COVER, market=0, unit="WEE", currency="", hs="281111",
                 place=place, origin=origin)  # fmt: skip
    return one, sender


def share(
    percent: float, supplier: str, *, sender: str, market: int = pb.MARKET_IMPORT, hs: str = "281111", origin: str = ""
) -> tuple[pb.Report, str]:
    one = report(percent, kind=pb.INDICATOR_KIND_SUPPLIER_SHARE, market=market, unit="P1", currency="",
                 hs=hs, place=supplier, origin=origin)  # fmt: skip
    return one, sender


def known(*said: tuple[pb.Report, str], now_ms: int = NOW) -> Facts:
    board = Board()
    for one, sender in said:
        tell(board, one, sender=sender)
    series = [each for group in board.groups() for each in board.of_group(group)]
    return shipped_facts().with_reports(series, shipped_graph(), now_ms=now_ms)


HF = Need("hydrogen-fluoride", "KR")


def test_a_cover_reported_counts_in_weeks_and_names_its_reporter() -> None:
    figure = known(cover(4, sender="nl.seoul/a", origin="x")).stocks[HF]
    assert (figure.value, figure.source, figure.period, figure.contested) == (
        pytest.approx(4),
        "nl.seoul",
        "2024-12",
        "",
    )


def test_a_hostile_zero_moves_no_median_of_three_and_is_named() -> None:
    honest = [cover(4, sender="nl.seoul/a", origin="x"), cover(5, sender="kr.the-hague/a", origin="y")]
    figure = known(*honest, cover(0, sender="zz.nowhere/a", origin="z")).stocks[HF]
    assert figure.value == pytest.approx(4)
    assert "zz.nowhere says 0" in figure.contested


def test_one_origin_at_many_missions_is_one_voice() -> None:
    quoted = [cover(0, sender=f"nl.m{i}/a", origin="one paper") for i in range(6)]
    figure = known(*quoted, cover(4, sender="kr.a/a", origin="x"), cover(4, sender="kr.b/a", origin="y")).stocks[HF]
    assert (figure.value, figure.origins) == (pytest.approx(4), 3)


def test_of_one_origin_the_best_graded_word_counts_whatever_came_last() -> None:
    def graded(weeks: float, sender: str, grade: int) -> tuple[pb.Report, str]:
        one, _ = cover(weeks, sender=sender, origin="paper")
        one.sources[0].reliability = one.sources[0].credibility = grade  # type: ignore[assignment]
        return one, sender

    assert known(graded(4, "nl.a/a", 1), graded(0, "zz.b/a", 5)).stocks[HF].value == pytest.approx(4)
    assert known(graded(0, "zz.b/a", 5), graded(4, "nl.a/a", 1)).stocks[HF].value == pytest.approx(4)


def test_an_old_stock_and_a_negative_one_are_not_known() -> None:
    assert HF not in known(cover(4, sender="nl.seoul/a", origin="x", period="2024-05")).stocks
    assert HF not in known(cover(-4, sender="nl.seoul/a", origin="x")).stocks


def test_weeks_without_end_are_bounded_and_contested() -> None:
    figure = known(cover(1e9, sender="nl.seoul/a", origin="x")).stocks[HF]
    assert figure.value == facts.MAX_WEEKS
    assert figure.contested


def test_figures_without_end_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "MAX_FIGURES", 1)
    told = known(cover(4, sender="kr.motie/a", origin="x"), cover(4, sender="kr.motie/a", origin="x", place="JP"))
    assert [need.consumer for need in told.stocks] == ["KR"]


def test_a_stock_counts_with_the_demand_of_its_place_alone() -> None:
    def amount(kind: int, place: str) -> tuple[pb.Report, str]:
        return report(100, kind=kind, market=0, currency="", hs="281111", place=place), "nl.seoul/a"

    held = amount(pb.INDICATOR_KIND_STOCK, "KR")
    assert HF not in known(held, amount(pb.INDICATOR_KIND_DEMAND, "JP")).stocks
    assert known(held, amount(pb.INDICATOR_KIND_DEMAND, "KR")).stocks[HF].value == pytest.approx(4.348, abs=0.001)


def test_shares_of_a_mission_are_its_countrys_and_above_all_are_scaled_and_contested() -> None:
    told = known(share(44.6, "JP", sender="kr.tokyo/a"))
    assert told.supply("hydrogen-fluoride", "KR")[1]["JP"].value == pytest.approx(0.446)
    assert told.supply("hydrogen-fluoride", "NL")[0] == WORLD
    over = known(share(90, "JP", sender="kr.tokyo/a"), share(90, "CN", sender="kr.beijing/a"))
    assert [one.value for one in over.shares[HF].values()] == [pytest.approx(0.5)] * 2
    assert "180%" in over.shares[HF]["JP"].contested


def test_a_code_that_holds_several_things_says_nothing_of_one_stock() -> None:
    one = report(4, kind=pb.INDICATOR_KIND_COVER, market=0, unit="WEE", currency="", hs="811292", place="KR")
    assert not known((one, "nl.seoul/a")).stocks


# --- one mission alone -----------------------------------------------------------------------------------------------

GRAPHITE = Need("graphite", WORLD)


def world(percent: float, supplier: str, *, sender: str, origin: str = "") -> tuple[pb.Report, str]:
    return share(percent, supplier, sender=sender, market=pb.MARKET_WORLD, hs="250410", origin=origin or sender)


def test_one_mission_alone_replaces_no_published_share_and_is_named() -> None:
    published = shipped_facts().shares[GRAPHITE]
    found = known(world(0, "CN", sender="zz.a/a")).shares[GRAPHITE]
    assert {name: one.value for name, one in found.items()} == {name: one.value for name, one in published.items()}
    assert found["CN"].contested == "zz.a alone says 0% of CN"
    # Two offices of one newspaper are one voice, as are two origins of one mission.
    quoted = known(world(0, "CN", sender="zz.a/a", origin="paper"), world(0, "CN", sender="zz.b/a", origin="paper"))
    assert quoted.shares[GRAPHITE]["CN"].value == published["CN"].value
    confirmed = known(world(60, "CN", sender="nl.a/a"), world(62, "CN", sender="kr.b/a")).shares[GRAPHITE]
    assert {name: one.value for name, one in confirmed.items()} == {"CN": pytest.approx(0.61)}
    assert (confirmed["CN"].alone, confirmed["CN"].contested) == ("", "")


def test_one_mission_alone_makes_no_other_supplier_smaller() -> None:
    found = known(world(90, "ZA", sender="zz.a/a")).shares[GRAPHITE]
    published = shipped_facts().shares[GRAPHITE]
    assert found["CN"].value == pytest.approx(published["CN"].value)
    assert found["ZA"].value == pytest.approx(1 - sum(one.value for one in published.values()))
    assert "nothing is published" in found["ZA"].contested


def test_a_stock_abroad_on_one_word_is_said_so_until_a_second_mission_says_it() -> None:
    own = known(cover(4, sender="kr.motie/a", origin="x")).stocks[HF]
    quoted = known(cover(4, sender="nl.seoul/a", origin="paper"), cover(4, sender="nl.bz/a", origin="paper")).stocks[HF]
    assert quoted.alone  # one newspaper at two missions
    lone = known(cover(4, sender="nl.seoul/a", origin="x")).stocks[HF]
    twice = known(cover(4, sender="nl.seoul/a", origin="x"), cover(4, sender="nl.bz/a", origin="y")).stocks[HF]
    same = known(cover(4, sender="nl.seoul/a", origin="x"), cover(4, sender="nl.seoul/b", origin="y")).stocks[HF]
    assert [one.alone for one in (own, lone, twice, same)] == ["", "nl.seoul", "", "nl.seoul"]
