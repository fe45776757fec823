"""What if a country supplied something no more: what stops where and when, from what is known."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

from exchange.text import printable
from exchange.units import COUNTRIES
from exchange.v1 import report_pb2 as pb
from exchange.watch.assess import assess
from exchange.watch.assessment import WEEK_MS, Assessment, Impact, Shock
from exchange.watch.errors import WatchInputError
from exchange.watch.facts import MAX_WEEKS, Facts, Need
from exchange.watch.graph import Graph

MAX_STOPS: Final = 16
SEVERITIES: Final = {number: name.removeprefix("SEVERITY_").lower() for name, number in pb.Severity.items()}
URGENCIES: Final = {number: name.removeprefix("URGENCY_").lower() for name, number in pb.Urgency.items()}


@dataclass(frozen=True, slots=True)
class Stop:
    """One supply that ends: the place, the item, and the nodes it is."""

    place: str
    item: str
    nodes: tuple[str, ...]


def parse_stop(text: str, graph: Graph) -> Stop:
    """A stop of the text "CN:gallium" or "CN:811292".

    Raises:
        WatchInputError: No such country, or nothing in the graph by that name or code.
    """
    place, colon, what = text.partition(":")
    said = printable(text, max_chars=80)
    if not colon or place not in COUNTRIES:
        raise WatchInputError(f'"{said}" names no country', hint='such as "CN:gallium" or "JP:281111"')
    item = what if what[:1].isdigit() else "name:" + what.casefold()
    nodes = graph.nodes_of(item)
    if not nodes:
        near = ", ".join(get_close_matches(what.casefold()[:80], list(graph.nodes)))
        raise WatchInputError(
            f'"{said}" is not in the graph',
            hint=f"did you mean {near}?" if near else "names: exchange/watch/data/graph_nodes.csv",
        )
    return Stop(place, item, nodes)


def parse_weeks(text: str, graph: Graph) -> tuple[Need, float]:
    """Weeks of a node in a country, as in "KR:gallium=8".

    Raises:
        WatchInputError: No such country or node, or no number from 0 to MAX_WEEKS.
    """
    head, _, number = text.partition("=")
    stop = parse_stop(head, graph)
    try:
        weeks = float(number)
    except ValueError:
        weeks = -1.0
    if len(stop.nodes) != 1 or not 0 <= weeks <= MAX_WEEKS:
        said = printable(text, max_chars=80)
        raise WatchInputError(f'"{said}" is not one item with 0 to {MAX_WEEKS:g} weeks', hint='such as "KR:gallium=8"')
    return Need(stop.nodes[0], stop.place), weeks


def what_if(
    stops: Sequence[Stop], graph: Graph, facts: Facts, *, country: str, weeks: float, now_ms: int
) -> Assessment:
    """What the stops do to a country from now on, for some weeks; all that a place supplies is lost.

    Raises:
        WatchInputError: No country, no stop or too many, weeks outside 0 to MAX_WEEKS, or stops at several places: each
            has its own share of each item, so they are asked for one at a time.
    """
    if not 1 <= len(stops) <= MAX_STOPS or not 0 < weeks <= MAX_WEEKS:
        raise WatchInputError(f"give 1 to {MAX_STOPS} stops and more than 0, at most {MAX_WEEKS:g} weeks")
    places = {stop.place for stop in stops}
    if len(places) != 1:
        raise WatchInputError("the stops are at several places", hint="ask for each place by itself")
    end = now_ms + int(weeks * WEEK_MS)
    shock = Shock(
        # Not a measure of the place: what a country stops for itself is lost to itself too, as after a disaster.
        kind=pb.EVENT_KIND_OUTAGE,
        items=tuple(sorted({f"name:{node}" for stop in stops for node in stop.nodes})),
        places=tuple(sorted(places)),
        start_ms=now_ms,
        expected_end_ms=end,
    )
    return assess(shock, graph, facts, country=country, now_ms=now_ms)


def reached(impact: Impact, weeks: float) -> bool | None:
    """Whether it stops within the weeks of the shock; None = not known."""
    if impact.weeks_until_stop is None:
        return None
    if impact.weeks_until_stop > weeks:
        return False
    return None if impact.at_least else True


def to_json(one: Assessment, weeks: float) -> dict[str, Any]:
    """An assessment as a JSON object; shares in 0 to 1, times in weeks, null = not known."""
    return {
        "country": one.country,
        "weeks": weeks,
        "severity": SEVERITIES.get(one.severity),
        "urgency": URGENCIES.get(one.urgency),
        "need_share": one.need_share,
        "cover_weeks": one.cover_weeks,
        "impact_weeks": one.impact_weeks,
        "unknown": list(one.unknown),
        "sentence": one.sentence,
        "impacts": [
            {
                "node": impact.node,
                "stage": impact.stage,
                "effect": impact.effect.value,
                "share_at_risk": None if impact.share_at_risk is None else round(impact.share_at_risk, 4),
                "weeks_of_cover": impact.weeks_of_cover,
                "weeks_to_impact": impact.weeks_to_impact,
                "weeks_until_stop": impact.weeks_until_stop,
                "at_least": impact.at_least,
                "within_weeks": reached(impact, weeks),
                "path": list(impact.path),
            }
            for impact in one.impacts
        ],
    }
