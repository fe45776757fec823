"""From a shock to an assessment: what one country loses, when, and how sure that is. Computed again, it is the same.

Severity rests on the share of need at risk of the steps and chips that stop (of the item itself if none does).
Urgency rests on the first of them to stop: weeks left until it takes effect, plus weeks of cover, minus weeks to
impact. Certainty rests on the shock, and one step down for anything that is not known or contested.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple

from exchange.units import COUNTRIES
from exchange.v1 import report_pb2 as pb
from exchange.watch.assessment import WEEK_MS, Assessment, Effect, Impact, Shock, severity_of, urgency_of
from exchange.watch.board import Alarm
from exchange.watch.errors import WatchInputError
from exchange.watch.exposure import concentration, entries, spread
from exchange.watch.facts import WORLD, Facts, Need
from exchange.watch.graph import STORED, Graph
from exchange.watch.pooling import admiralty_weight
from exchange.watch.shocks import MEASURES, shock_of_alarm

MAX_UNKNOWN: Final = 16  # sentences on what is not known
_LOWER: Final = {
    pb.CERTAINTY_OBSERVED: pb.CERTAINTY_LIKELY,
    pb.CERTAINTY_LIKELY: pb.CERTAINTY_POSSIBLE,
    pb.CERTAINTY_POSSIBLE: pb.CERTAINTY_POSSIBLE,
}


class _Lost(NamedTuple):
    share: float | None
    note: str = ""  # what is behind it, for the sentence
    unknown: str = ""


def assess(cause: Shock | Alarm, graph: Graph, facts: Facts, *, country: str, now_ms: int) -> Assessment:
    """What a shock, or an alarm of the board, does to a country.

    Args:
        cause: The shock, as of now, or the alarm.
        graph: The dependency graph.
        facts: Supplier shares, stocks and transit times.
        country: ISO 3166-1 code, such as "KR".
        now_ms: Now, ms UTC.

    Raises:
        WatchInputError: The country is none.
    """
    if country not in COUNTRIES:
        raise WatchInputError(f"{country!r} is not an ISO 3166-1 country", hint='two capital letters, such as "KR"')
    shock = shock_of_alarm(cause) if isinstance(cause, Alarm) else cause
    if shock.affected and country not in shock.affected:
        return _spared(shock, country, "it is aimed at others")
    places = tuple(p for p in shock.places if p != country or shock.kind not in MEASURES)
    if shock.places and not places:
        return _spared(shock, country, "it is this country's own measure")
    found, strange = entries(graph, shock.items)
    lost: dict[str, float | None] = {}
    notes: list[str] = []
    unknown = [f"{item} is not in the dependency graph" for item in strange]
    for item, nodes in found.items():
        if len(nodes) > 1:
            unknown.append(f"{item} holds {', '.join(nodes)}: which of them is not said")
        for node in nodes:
            one = _loss(node, places, country, facts)
            lost[node] = one.share
            notes += [one.note] if one.note else []
            unknown += [one.unknown] if one.unknown else []
    start = shock.start_ms if shock.kind else 0
    notes, unknown = list(dict.fromkeys(notes)), list(dict.fromkeys(unknown))
    impacts = spread(graph, facts, lost, country=country, now_ms=now_ms, start_ms=start)
    return _assessed(shock, country, impacts, notes, unknown, graph, facts, now_ms)


def assess_all(
    cause: Shock | Alarm, graph: Graph, facts: Facts, *, countries: Iterable[str], now_ms: int
) -> tuple[Assessment, ...]:
    """What it does to each of some countries, the one that is hit hardest first. See `assess`."""
    found = [assess(cause, graph, facts, country=one, now_ms=now_ms) for one in sorted(countries)]
    return tuple(sorted(found, key=lambda one: one.rank, reverse=True))


def in_short(one: Assessment) -> str:
    """An assessment in a few words, for the countries that are not hit hardest."""
    if one.spared:
        return f"{one.country} is spared: {one.spared}"
    if one.need_share is None:
        return f"{one.country}: the share of need at risk is not known"
    return f"{one.country}: {one.need_share:.0%} of need at risk"


def _loss(node: str, places: tuple[str, ...], country: str, facts: Facts) -> _Lost:
    """Share of a node's supply that these places give; of its largest supplier, on condition, if no place is known."""
    basis, shares = facts.supply(node, country)
    if not shares:
        return _Lost(None, unknown=f"who supplies {node} is not known")
    if not places:
        top = concentration(node, country, facts)
        if top is None or top.top == country:
            return _Lost(None, unknown=f"whose {node} is at risk is not known")
        note = f"if {top.top}, which gives {top.top_share:.0%} of {node}, were lost"
        return _Lost(top.top_share, note, f"whose {node} is at risk is not known; the largest supplier is taken")
    given = [(place, shares[place]) for place in places if place in shares]
    if not given:
        # An unlisted country is one of the rest: it can give no more than is left.
        left = 1 - sum(one.value for one in shares.values())
        said = f"the share of {', '.join(places)} in {node} is not known; at most {max(left, 0):.0%}"
        return _Lost(None, unknown=said)
    share = min(sum(one.value for _, one in given), 1.0)
    whose = "world supply" if basis == WORLD else f"the supply of {basis}"
    parts = ", ".join(f"{place} gives {one.value:.0%} of {node}, {whose}, {one.period}" for place, one in given)
    doubts = [f"{node}: {one.contested}" for _, one in given if one.contested]
    doubts += [f"the share of {place} in {node} is the word of {one.alone} alone" for place, one in given if one.alone]
    if basis == WORLD:
        doubts.append(f"{node}: the world's shares stand for those of {country}, which are not known")
    missing = [place for place in places if place not in shares]
    if missing:
        doubts.append(f"the share of {', '.join(missing)} in {node} is not known")
    return _Lost(share, parts, "; ".join(doubts))


def _assessed(
    shock: Shock,
    country: str,
    impacts: list[Impact],
    notes: list[str],
    unknown: list[str],
    graph: Graph,
    facts: Facts,
    now_ms: int,
) -> Assessment:
    stopped = [one for one in impacts if one.effect is Effect.STOPS]
    things = [one for one in impacts if one.effect is Effect.SUPPLY]
    worst = max(stopped or things, key=lambda one: (one.share_at_risk or 0.0, -len(one.path)), default=None)
    share = worst.share_at_risk if worst else None
    # The first to stop among those that lose as much as the worst, give or take: a trickle must not set the clock.
    matter = [one for one in stopped or things if share is None or (one.share_at_risk or 0.0) >= share / 2]
    first = min(matter, key=_until, default=None)
    unknown = [*unknown, *_clock_doubts(first, graph, facts, country)]
    # Stocks that nobody reported are not nothing: without the entry's, no urgency is said.
    known = first is not None and Need(first.path[0], country) in facts.stocks
    cover = first.weeks_of_cover if first and known else None
    impact = first.weeks_to_impact if first else None
    ahead = max((shock.start_ms - now_ms) / WEEK_MS, 0.0) if shock.kind else 0.0
    steps = [one.node for one in stopped]
    order = tuple(name for name in graph.nodes if name in steps)
    return Assessment(
        shock=shock,
        country=country,
        impacts=tuple(impacts),
        severity=severity_of(share),
        urgency=urgency_of(cover, impact, weeks_until_effect=ahead),
        certainty=certainty_of(shock, unknown),
        need_share=share,
        cover_weeks=cover,
        impact_weeks=impact,
        weeks_until_effect=ahead,
        affected_steps=order,
        unknown=tuple(unknown[:MAX_UNKNOWN]),
        sentence=_sentence(shock, country, worst, first, notes, unknown, ahead),
        cancel_condition=_cancel(shock, country, first),
        figures=tuple(sorted(_figures(shock, country, impacts, graph, facts))),
    )


def _figures(
    shock: Shock, country: str, impacts: Iterable[Impact], graph: Graph, facts: Facts
) -> set[tuple[str, bytes]]:
    """Reports of all figures that could have moved the result: shares where it enters, stocks and transits on the way."""
    found, _ = entries(graph, shock.items)
    used = [one for nodes in found.values() for node in nodes for one in facts.supply(node, country)[1].values()]
    for impact in impacts:
        need = Need(impact.node, country)
        used += [figures[need] for figures in (facts.stocks, facts.transits) if need in figures]
    return {report for one in used for report in one.reports}


def _until(impact: Impact) -> float:
    return 1e9 if impact.weeks_until_stop is None else impact.weeks_until_stop


def _clock_doubts(first: Impact | None, graph: Graph, facts: Facts, country: str) -> Iterable[str]:
    if first is None:
        return
    entry = first.path[0]
    stock, transit = facts.stocks.get(Need(entry, country)), facts.transits.get(Need(entry, country))
    if stock is None and graph.nodes[entry].stage in STORED:
        yield f"weeks of stock of {entry} in {country} are not known"
    if transit is None:
        yield f"weeks of transit of {entry} to {country} are not known"
    for name, figure in (("stock", stock), ("transit", transit)):
        if figure is not None and figure.contested:
            yield f"{name} of {entry}: {figure.contested}"
        if figure is not None and figure.alone:
            yield f"the {name} of {entry} in {country} is the word of {figure.alone} alone"
    if stock is not None and stock.value == 0 and stock.origins < 2 and not stock.alone:
        yield f"that no {entry} is in stock in {country} is the word of {stock.source} alone"


def certainty_of(shock: Shock, unknown: Iterable[str] = ()) -> int:
    """CAP certainty: in force is observed, a probability above one half is likely, else possible; one down for doubt.

    What is graded below "cannot judge" makes nothing observed, though it be said to be in force.
    """
    if shock.in_force and shock.probability >= admiralty_weight(0, 0):
        level = pb.CERTAINTY_OBSERVED
    else:
        level = pb.CERTAINTY_LIKELY if shock.probability > 0.5 else pb.CERTAINTY_POSSIBLE
    return _LOWER[level] if any(unknown) else level


def _spared(shock: Shock, country: str, why: str) -> Assessment:
    return Assessment(
        shock, country, (), pb.SEVERITY_MINOR, pb.URGENCY_FUTURE, pb.CERTAINTY_UNLIKELY, 0.0, None, None, 0.0, (), (),
        f"{named_shock(shock)} does not touch {country}: {why}.", "", why,
    )  # fmt: skip


_KINDS: Final[Mapping[int, str]] = {
    0: "An alarm",
    **{number: name.removeprefix("EVENT_KIND_").replace("_", " ").capitalize() for name, number in pb.EventKind.items()
       if number},
}  # fmt: skip


def named_shock(shock: Shock) -> str:
    """What it is, in words: "Export control of CN on 250410"."""
    by = f" of {' and '.join(shock.places)}" if shock.places else ""
    on = ", ".join(shock.items[:6]) + (f" and {len(shock.items) - 6} more" if len(shock.items) > 6 else "")
    return f"{_KINDS.get(shock.kind, 'An event')}{by} on {on}"


def _sentence(
    shock: Shock,
    country: str,
    worst: Impact | None,
    first: Impact | None,
    notes: list[str],
    unknown: list[str],
    ahead: float,
) -> str:
    when = "" if not shock.start_ms else f", {'in force since' if ahead == 0 else 'from'} {_day(shock.start_ms)}"
    if not shock.kind:
        when = f", since {_day(shock.start_ms)[:7]}" if shock.start_ms else ""
    out = f"{named_shock(shock)}{when}: "
    if worst is None or first is None:
        out += f"no effect on {country} is found in what is known"
    else:
        share = "an unknown share" if worst.share_at_risk is None else f"{worst.share_at_risk:.0%}"
        out += f"{share} of the need of {country} at {worst.node} is at risk"
        least = "at least " if first.at_least else ""
        if first.weeks_until_stop is not None:
            out += f"; {first.node} stops in {least}{first.weeks_until_stop:.1f} weeks"
        for words, weeks in (("weeks of cover", first.weeks_of_cover), ("weeks of transit", first.weeks_to_impact)):
            if weeks is not None:
                out += f", {weeks:.1f} {words}"
    out += "".join(f"; {note}" for note in notes[:4]) + "."
    return out + (f" Not known: {'; '.join(unknown[:MAX_UNKNOWN])}." if unknown else "")


def _cancel(shock: Shock, country: str, first: Impact | None) -> str:
    entry = first.path[0] if first else ", ".join(shock.items[:6])
    if shock.kind in MEASURES:
        return f"The measure is lifted or eased, licences for {entry} to {country} are given, or others supply it."
    if shock.kind:
        return f"{entry} comes again from {' and '.join(shock.places) or 'where it stopped'}, or from others."
    return "The series named leave the alarm, or their reports are withdrawn."


def _day(time_ms: int) -> str:
    return f"{datetime.fromtimestamp(time_ms // 1000, UTC):%Y-%m-%d}"
