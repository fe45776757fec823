"""Thresholds of the annex: for all items and for single ones; what nothing asks for is named."""

from exchange.v1 import report_pb2 as pb
from exchange.watch.annexed import thresholds_of
from exchange.watch.board import Board
from exchange.watch.defaults import DEFAULTS
from exchange.watch.screens import screens
from keys.v1 import documents_pb2 as docs
from tests.watch.reports import imports, tell_months

CALM = [100.0, 103, 98, 101, 97, 102, 99, 100, 104, 96] * 5


def annex(*rows: tuple[str, str, float]) -> docs.Annex:
    out = docs.Annex(version=2)
    for rule, item, value in rows:
        out.thresholds.add(rule=rule, item=item, micro=round(value * 1e6))
    return out


def test_without_an_annex_the_built_in_ones_hold() -> None:
    assert thresholds_of(None) == (DEFAULTS, [])


def test_an_item_has_its_own_before_its_headings_before_all_items() -> None:
    found, unused = thresholds_of(
        annex(("W1 A 0.2", "", -1.0), ("W1 A 0.2", "811292", -2.0), ("W1 A 0.2", "81129289/CN", -3.0),
              ("W1 A 0.2", "Neon  Gas", -4.0))
    )  # fmt: skip
    assert unused == []
    said = {
        item: found.for_item(item).of("W1", "A", 0.2) for item in ("250410", "811292", "81129212/CN", "81129289/CN")
    }
    assert list(said.values()) == [-1.0, -2.0, -2.0, -3.0]
    assert found.for_item("name:neon gas").of("W1", "A", 0.2) == -4.0
    assert found.for_item("811292").of("W2", "B", 0.2) == DEFAULTS.of("W2", "B", 0.2)


def test_every_threshold_that_is_taken_moves_a_screen() -> None:
    for rule, kind in (
        ("W1 A 0.2", pb.INDICATOR_KIND_PRICE), ("W2 B 0.2", pb.INDICATOR_KIND_LEAD_TIME), ("W5 B 0.2", pb.INDICATOR_KIND_STOCK),
        ("W8 A 0.2", pb.INDICATOR_KIND_IMPORTS), ("W9 A 0.2", pb.INDICATOR_KIND_IMPORTS),
    ):  # fmt: skip
        thresholds, unused = thresholds_of(annex((rule, "", 7.5)))
        assert unused == []
        assert 7.5 in [value for screen in screens(kind, thresholds) for _, value in screen.rules], rule


def test_what_nothing_asks_for_is_named() -> None:
    _, unused = thresholds_of(annex(("W3 A 0.2", "", 1), ("W1 A 0.5", "", 1), ("W99", "tin\n", 1)))
    assert len(unused) == 3
    assert "annex 2: W3 A 0.2" in unused[0]
    assert "\n" not in unused[2]


def test_the_board_holds_one_item_to_its_own_bound() -> None:
    strict, _ = thresholds_of(annex(("W8 A 0.2", "811292", 3.0)))
    alarms = {}
    for name, thresholds in (("built in", DEFAULTS), ("strict", strict)):
        for code in ("811292", "250410"):
            board = Board(thresholds)
            group = tell_months(board, [*CALM, 250.0], imports, sender="nl.bz/a", origin="x", hs=code)
            alarms[name, code] = [one.screen for one in board.alarms(group)]
    assert alarms == {
        ("built in", "811292"): ["surge"],
        ("built in", "250410"): ["surge"],
        ("strict", "811292"): [],
        ("strict", "250410"): ["surge"],
    }
