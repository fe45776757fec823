"""What if: the command and its drawing."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from exchange.watch.assessment import Assessment
from exchange.watch.cli import app
from exchange.watch.drawing import BOX_W, draw
from exchange.watch.errors import WatchInputError
from exchange.watch.facts import Need
from exchange.watch.graph_data import shipped_facts, shipped_graph
from exchange.watch.whatif import parse_stop, parse_weeks, what_if

NOW = 1_700_000_000_000
RUN = CliRunner()


def asked(stop: str, country: str = "KR") -> Assessment:
    graph = shipped_graph()
    return what_if([parse_stop(stop, graph)], graph, shipped_facts(), country=country, weeks=12, now_ms=NOW)


def test_gallium_stops_two_chips_in_both_countries_and_says_what_is_not_known() -> None:
    out = RUN.invoke(app, ["whatif", "--stop", "CN:gallium", "--weeks", "12", "--json",
                           "--stock", "KR:gallium=8", "--transit", "KR:gallium=2"])  # fmt: skip
    korea, netherlands = json.loads(out.stdout)
    assert (korea["severity"], korea["urgency"], netherlands["urgency"]) == ("extreme", "expected", "unspecified")
    (gallium,) = [one for one in korea["impacts"] if one["node"] == "gallium"]
    assert (gallium["weeks_until_stop"], gallium["within_weeks"], gallium["share_at_risk"]) == (10, True, 0.9901)
    assert {one["node"] for one in korea["impacts"] if one["effect"] == "stops"} == {"rf-chip", "power-rf-gan"}
    assert "weeks of stock of gallium in NL are not known" in netherlands["unknown"]


def test_the_table_names_all_that_stops() -> None:
    out = RUN.invoke(app, ["whatif", "--stop", "CN:graphite", "--for", "KR"], env={"COLUMNS": "80"}).stdout
    assert re.search(r"car-ecu +stops +39% +unknown +unknown +discrete-power", out)
    assert "runs on, but cannot grow: " in out
    assert all(len(line) <= 80 for line in out.splitlines())


@pytest.mark.parametrize("stop", ["XX:gallium", "gallium", "CN:", "CN:999999", "CN:unobtainium", "cn:gallium"])
def test_what_is_no_stop_is_refused(stop: str) -> None:
    with pytest.raises(WatchInputError):
        asked(stop)


@pytest.mark.parametrize("text", ["KR:gallium=-1", "KR:gallium=nan", "KR:gallium", "KR:811292=3", "XX:gallium=1"])
def test_what_is_no_number_of_weeks_is_refused(text: str) -> None:
    with pytest.raises(WatchInputError):
        parse_weeks(text, shipped_graph())
    assert parse_weeks("KR:gallium=3", shipped_graph()) == (Need("gallium", "KR"), 3)


def test_two_places_at_once_and_endless_weeks_are_refused() -> None:
    graph, facts = shipped_graph(), shipped_facts()
    two = [parse_stop("CN:gallium", graph), parse_stop("JP:photoresist", graph)]
    for stops, weeks in ((two, 12.0), (two[:1], 1e9), (two[:1], float("nan")), ([], 12.0)):
        with pytest.raises(WatchInputError):
            what_if(stops, graph, facts, country="KR", weeks=weeks, now_ms=NOW)


@pytest.mark.parametrize("stop", ["CN:gallium", "JP:photoresist", "CN:graphite", "NL:euv-scanner", "CN:811292"])
def test_boxes_are_inside_the_picture_and_apart(stop: str) -> None:
    one = asked(stop)
    root = ElementTree.fromstring(draw(one, shipped_graph(), '<"&title'))
    name = "{http://www.w3.org/2000/svg}"
    boxes = [(float(b.get("x", 0)), float(b.get("y", 0)), float(b.get("width", 0)), float(b.get("height", 0)))
             for b in root.iter(f"{name}rect")]  # fmt: skip
    assert len(boxes) == len(one.impacts)
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    assert all(x >= 0 and y >= 0 and x + w <= width and y + h <= height for x, y, w, h in boxes)
    assert len({(x, y) for x, y, _, _ in boxes}) == len(boxes)
    # At 13 px no letter of a usual font is wider than 8 px on average.
    labels = [t for g in root.iter(f"{name}g") for t in g.findall(f"{name}text")]
    assert all(len(t.text or "") * 7.4 <= BOX_W for t in labels)
    assert "prefers-color-scheme:dark" in (root.findtext(f"{name}style") or "")


def test_the_drawing_is_written_one_a_country(tmp_path: Path) -> None:
    out = RUN.invoke(app, ["whatif", "--stop", "CN:gallium", "--svg", str(tmp_path / "a.svg"), "--json"])
    assert out.exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-KR.svg", "a-NL.svg"]
