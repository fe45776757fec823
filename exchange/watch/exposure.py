"""Exposure: how concentrated supply is, and how a loss spreads through the graph.

A target gets as much as the input it gets least of (Leontief): its loss is the largest of its inputs' losses, each
times what its need passes on. A missing machine stops nobody today; it stops growth. Every node is visited once, in
the order of the graph, so the work is bounded by nodes and edges.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from exchange.watch.assessment import WEEK_MS, Effect, Impact
from exchange.watch.facts import Facts, Figure, Need
from exchange.watch.graph import NEED_PASSES, STORED, Edge, Graph, Relation

LEAST_SHARE: Final = 0.01  # a smaller loss is within what statistics can see
SOLE_SHARE: Final = 0.5  # from here on one country decides: half the supply cannot be found elsewhere soon


@dataclass(frozen=True, slots=True)
class Concentration:
    """Where the supply of one node comes from.

    Args:
        node: Which.
        basis: Whose supply: "KR", or "world" where the country's own is not known.
        hhi: Herfindahl-Hirschman index of the known shares, 0 to 1; the unknown rest counts as many small ones.
        known: Share that is accounted for.
        top: Largest supplier.
        top_share: Its share.
        period: What the largest share is true of.
        source: Who said so.
    """

    node: str
    basis: str
    hhi: float
    known: float
    top: str
    top_share: float
    period: str
    source: str


class ShareChange(NamedTuple):
    """Change of the index, and what the largest supplier's share was and is."""

    hhi: float
    top_before: float
    top_after: float


def concentration(node: str, country: str, facts: Facts) -> Concentration | None:
    """Concentration of what a country gets of a node; None if no share is known."""
    basis, shares = facts.supply(node, country)
    if not shares:
        return None
    top = max(sorted(shares), key=lambda name: shares[name].value)
    known = sum(one.value for one in shares.values())
    hhi = sum(one.value**2 for one in shares.values())
    figure = shares[top]
    return Concentration(node, basis, hhi, known, top, figure.value, figure.period, figure.source)


def concentration_change(node: str, country: str, before: Facts, after: Facts) -> ShareChange | None:
    """Change of the index (dHHI); None unless both are known and on the same basis: bases never compare."""
    old, new = concentration(node, country, before), concentration(node, country, after)
    if old is None or new is None or old.basis != new.basis:
        return None
    return ShareChange(new.hhi - old.hhi, old.top_share, new.top_share)


def single_points(graph: Graph, facts: Facts, country: str) -> list[tuple[Concentration, tuple[str, ...]]]:
    """Nodes of which one other country supplies at least SOLE_SHARE, with the steps and chips that would stop; worst first."""
    out = []
    for node in graph.nodes:
        found = concentration(node, country, facts)
        if found is None or found.top_share < SOLE_SHARE or found.top == country:
            continue
        hit = spread(graph, facts, {node: found.top_share}, country=country)
        stops = tuple(one.node for one in hit if one.effect is Effect.STOPS)
        out.append((found, stops))
    return sorted(out, key=lambda one: (-one[0].top_share, -len(one[1]), one[0].node))


@dataclass(frozen=True, slots=True)
class _Loss:
    """How a node is hit at worst: share None = not known how much; through `path`."""

    share: float | None
    path: tuple[str, ...]
    cover: float
    transit: float
    some_cover: bool
    some_transit: bool
    gaps: int

    def worse(self) -> tuple[float, float]:
        """Sorts the worst last: more share, then sooner. A loss of unknown size is worse than none."""
        return (0.0 if self.share is None else self.share, -self.cover - self.transit)


class _Clock(NamedTuple):
    now_ms: int
    start_ms: int


def spread(
    graph: Graph,
    facts: Facts,
    lost: Mapping[str, float | None],
    *,
    country: str,
    now_ms: int = 0,
    start_ms: int = 0,
) -> list[Impact]:
    """What a loss of some nodes does to all that need them, in one country.

    Args:
        graph: The graph.
        facts: Stocks and transit times.
        lost: Share of each node's supply that is lost, 0 to 1; None = lost, not known how much.
        country: Whose stocks and transit times count.
        now_ms: Now, ms UTC.
        start_ms: When the loss begins; before now, stocks have been used since.

    Returns:
        Impacts, the most need at risk first, then the soonest.
    """
    clock = _Clock(now_ms, start_ms or now_ms)
    stops: dict[str, _Loss] = {}
    growth: dict[str, _Loss] = {}
    roots: dict[str, set[str]] = {}
    for name in graph.nodes:
        found = list(_arriving(graph.inputs[name], stops, growth))
        if name in lost and (lost[name] is None or (lost[name] or 0) >= LEAST_SHARE):
            found.append((Effect.STOPS, _Loss(lost[name], (), 0.0, 0.0, False, False, 0)))
        for effect, losses in ((Effect.STOPS, stops), (Effect.GROWTH, growth)):
            mine = [one for which, one in found if which is effect]
            if mine:
                losses[name] = _onto(max(mine, key=_Loss.worse), name, graph, facts, country, clock)
        heads = [one.path[0] for _, one in found if one.path] + [name] * (name in lost)
        roots[name] = set(heads).union(*(roots[one] for one in heads if one != name)) if heads else set()
    ahead = max((clock.start_ms - now_ms) / WEEK_MS, 0.0)
    out = []
    for name, node in graph.nodes.items():
        loss = stops.get(name) or growth.get(name)
        if loss is not None:
            effect = Effect.GROWTH if name not in stops else Effect.SUPPLY if node.stage in _THINGS else Effect.STOPS
            out.append(_impact(name, node.stage, effect, loss, tuple(sorted(roots[name])), ahead))
    return sorted(out, key=_order)


# What is bought and held; the rest is a step or a chip, which stops.
_THINGS: Final = frozenset(["mineral", "material", "wafer", "equipment"])


def _arriving(
    edges: tuple[Edge, ...], stops: Mapping[str, _Loss], growth: Mapping[str, _Loss]
) -> Iterator[tuple[Effect, _Loss]]:
    for edge in edges:
        if edge.relation is Relation.PACKED:
            continue
        for losses, effect in ((stops, Effect.STOPS), (growth, Effect.GROWTH)):
            loss = losses.get(edge.source)
            if loss is None:
                continue
            share = None if loss.share is None else loss.share * NEED_PASSES[edge.need]
            if share is not None and share < LEAST_SHARE:
                continue
            yield (Effect.GROWTH if edge.relation is Relation.TOOL else effect), replace(loss, share=share)


def _onto(loss: _Loss, name: str, graph: Graph, facts: Facts, country: str, clock: _Clock) -> _Loss:
    """The loss after this node's own stock and transit."""
    transit = facts.transits.get(Need(name, country))
    stock = facts.stocks.get(Need(name, country))
    arrives = loss.transit + (transit.value if transit else 0.0)
    cover = loss.cover + (left_weeks(stock, clock.now_ms, clock.start_ms, arrives) if stock else 0.0)
    # The way of what enters is unknown if nobody said it; further on, things may be made next door.
    gaps = loss.gaps + (graph.nodes[name].stage in STORED and stock is None) + (not loss.path and transit is None)
    return _Loss(
        loss.share,
        (*loss.path, name),
        cover,
        arrives,
        loss.some_cover or stock is not None,
        loss.some_transit or transit is not None,
        gaps,
    )


def left_weeks(stock: Figure, now_ms: int, start_ms: int, transit_weeks: float) -> float:
    """Weeks a stock still lasts: used up since it was counted, or since the last goods arrived if that is later."""
    if not now_ms or not stock.as_of_ms:
        return stock.value
    since = max(stock.as_of_ms, start_ms + int(transit_weeks * WEEK_MS))
    return max(stock.value - max(now_ms - since, 0) / WEEK_MS, 0.0)


def _impact(name: str, stage: str, effect: Effect, loss: _Loss, roots: tuple[str, ...], ahead: float) -> Impact:
    cover = loss.cover if loss.some_cover else None
    transit = loss.transit if loss.some_transit else None
    until = ahead + loss.cover + loss.transit if loss.some_cover or loss.some_transit else None
    return Impact(name, stage, effect, roots, loss.share, cover, transit, until, loss.gaps > 0, loss.path)


def _order(impact: Impact) -> tuple[int, float, float, str]:
    until = impact.weeks_until_stop
    grows = int(impact.effect is Effect.GROWTH)
    return grows, -(impact.share_at_risk or 0.0), 1e9 if until is None else until, impact.node


def entries(graph: Graph, items: Collection[str]) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """Where items enter the graph: nodes by item; and items that it does not know."""
    found = {item: graph.nodes_of(item) for item in items}
    return {item: nodes for item, nodes in found.items() if nodes}, tuple(i for i, nodes in found.items() if not nodes)
