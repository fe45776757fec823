"""What is known of the supply of each node: supplier shares, weeks of stock, weeks of transit. Published, or from missions.

A figure keeps who said it and how many independent origins did. Of several origins the median counts, so of three or
more no single one decides; where they differ widely the figure is contested, which lowers the certainty of what rests
on it. What nobody said is absent, never a default.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Final, NamedTuple

from exchange.report.periods import period_start_ms
from exchange.units import COUNTRIES
from exchange.v1 import report_pb2 as pb
from exchange.watch.assessment import WEEK_MS
from exchange.watch.errors import WatchInputError
from exchange.watch.graph import Graph, rows_of
from exchange.watch.pooling import admiralty_weight
from exchange.watch.series import Observation, Series

WORLD: Final = "world"
MAX_FIGURES: Final = 100_000  # of one kind; a desk that knows more of 105 nodes was flooded
MAX_WEEKS: Final = 520.0  # ten years; more is a slip of the keyboard
STALE_WEEKS: Final = 26.0  # a stock counted half a year ago says nothing of today
CONTESTED_SHARE: Final = 0.1  # two shares further apart than this are not of one truth
_SUM_SLACK: Final = 0.005  # published shares are rounded
_WEEKS_A_MONTH: Final = 365.25 / 12 / 7

# Series are in days and in percent; figures are in weeks and in shares.
_PER_UNIT: Final[Mapping[int, float]] = {
    pb.INDICATOR_KIND_COVER: 7.0,
    pb.INDICATOR_KIND_TRANSIT_TIME: 7.0,
    pb.INDICATOR_KIND_SUPPLIER_SHARE: 100.0,
}
_KINDS: Final = frozenset([*_PER_UNIT, pb.INDICATOR_KIND_STOCK, pb.INDICATOR_KIND_DEMAND])


@dataclass(frozen=True, slots=True)
class Figure:
    """One number.

    Args:
        value: A share in [0, 1], or weeks.
        period: What it is true of: "2025", "2019-07".
        source: Who said so, in words.
        origins: How many independent origins.
        contested: What they differ by, in words; "" = they agree.
        as_of_ms: Start of the period, ms UTC; 0 = not said.
        alone: Mission whose word alone it is, about a country that is not its own; "" = its own country's figure, or
            another mission says so too.
        reports: (mission, report id) of what it rests on; empty = published, or given by hand.
    """

    value: float
    period: str = ""
    source: str = ""
    origins: int = 1
    contested: str = ""
    as_of_ms: int = 0
    alone: str = ""
    reports: tuple[tuple[str, bytes], ...] = ()


class Need(NamedTuple):
    """What a figure is about: a node, as country `consumer` needs it ("world" = no single one)."""

    node: str
    consumer: str


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything known.

    Args:
        shares: Share of each supplier country in what a consumer gets.
        stocks: Weeks that stocks of a node in a country last.
        transits: Weeks from dispatch to arrival in a country.
    """

    shares: Mapping[Need, Mapping[str, Figure]] = field(default_factory=dict)
    stocks: Mapping[Need, Figure] = field(default_factory=dict)
    transits: Mapping[Need, Figure] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what no figure can be.

        Raises:
            WatchInputError: A share outside [0, 1] or a sum above 1, negative or endless weeks, an unknown country.
        """
        for need, suppliers in self.shares.items():
            _check_country(need.consumer)
            for supplier, figure in suppliers.items():
                _check_country(supplier)
                if not 0 <= figure.value <= 1:
                    raise WatchInputError(f"{need.node}: the share of {supplier} is not between 0 and 1")
            total = math.fsum(figure.value for figure in suppliers.values())
            if total > 1 + _SUM_SLACK:
                raise WatchInputError(f"{need.node}, {need.consumer}: the shares add up to {total:.3g}, above 1")
        for what, weeks in (("stock", self.stocks), ("transit", self.transits)):
            for need, figure in weeks.items():
                _check_country(need.consumer)
                if not 0 <= figure.value <= MAX_WEEKS:
                    raise WatchInputError(f"{need.node}, {need.consumer}: a {what} is not 0 to {MAX_WEEKS:g} weeks")

    def supply(self, node: str, consumer: str) -> tuple[str, Mapping[str, Figure]]:
        """Suppliers of a node to a consumer, and whose they are: the consumer's own, or the world's where unknown."""
        for whose in (consumer, WORLD):
            if found := self.shares.get(Need(node, whose)):
                return whose, found
        return "", {}

    def with_reports(self, series: Iterable[Series], graph: Graph, *, now_ms: int) -> "Facts":
        """These facts, replaced by what missions report where they report it.

        Shares: the place is the supplier; market WORLD counts for the world, else for the reporting mission's country.
        Cover and transit time: the place is the country that holds it, or where it arrives. A stock counts together
        with the demand of the same place.
        """
        return _Gathered(graph, now_ms).take(series).onto(self)


def _check_country(code: str) -> None:
    if code != WORLD and code not in COUNTRIES:
        raise WatchInputError(f"{code!r} is not an ISO 3166-1 country", hint='two capital letters, such as "KR"')


def parse_suppliers(text: str, graph: Graph) -> dict[Need, dict[str, Figure]]:
    """Supplier shares from a table: node, supplier, consumer, share, period, basis, source.

    Raises:
        WatchInputError: A node or country is unknown, a share is none, or a supplier is there twice. Sums are for Facts.
    """
    out: dict[Need, dict[str, Figure]] = {}
    for row, cells in rows_of(text, ("node", "supplier", "consumer", "share", "period", "basis", "source")):
        try:
            value = float(cells["share"])
        except ValueError:
            value = math.nan
        need = Need(cells["node"], cells["consumer"])
        known = out.setdefault(need, {})
        if need.node not in graph.nodes or cells["supplier"] in known or not 0 <= value <= 1:
            raise WatchInputError(
                f"row {row}: an unknown node, a supplier there twice, or a share not in 0 to 1", row=row
            )
        source = f"{cells['basis'].replace('_', ' ')}, {cells['source']}"
        known[cells["supplier"]] = Figure(value, cells["period"], source)
    return out


class _Said(NamedTuple):
    reporter: str
    one: Observation
    value: float


class _Gathered:
    """Newest figures of missions, by what they are about."""

    def __init__(self, graph: Graph, now_ms: int) -> None:
        self._graph, self._now = graph, now_ms
        self._said: dict[tuple[int, str, str, str], list[_Said]] = {}

    def take(self, series: Iterable[Series]) -> "_Gathered":
        for one in series:
            key, newest = one.key, one.newest()
            if key.indicator not in _KINDS or newest is None or newest.value is None or self._stale(newest):
                continue
            # A code that holds several things says nothing of the stock of any one of them.
            nodes = self._graph.nodes_of(key.item)
            place = key.place[:2]
            if len(nodes) != 1 or (key.indicator != pb.INDICATOR_KIND_SUPPLIER_SHARE and place not in COUNTRIES):
                continue
            consumer, supplier = place, ""
            if key.indicator == pb.INDICATOR_KIND_SUPPLIER_SHARE:
                supplier, own = place, key.reporter[:2].upper()
                consumer = WORLD if key.market == pb.MARKET_WORLD else own
                if supplier not in COUNTRIES or (consumer != WORLD and consumer not in COUNTRIES):
                    continue
            value = newest.value / _PER_UNIT.get(key.indicator, 1.0)
            if len(self._said) < MAX_FIGURES:
                about = (key.indicator, nodes[0], consumer, supplier)
                self._said.setdefault(about, []).append(_Said(key.reporter, newest, value))
        return self

    def _stale(self, one: Observation) -> bool:
        start = period_start_ms(one.period)
        return start is None or self._now - start > STALE_WEEKS * WEEK_MS * (2 if len(one.period) == 4 else 1)

    def onto(self, facts: Facts) -> Facts:
        shares: dict[Need, dict[str, Figure]] = {}
        stocks, transits = dict(facts.stocks), dict(facts.transits)
        for (kind, node, consumer, supplier), said in self._said.items():
            need, figure = Need(node, consumer), _figure(said, consumer, share=kind == pb.INDICATOR_KIND_SUPPLIER_SHARE)
            if kind == pb.INDICATOR_KIND_SUPPLIER_SHARE:
                shares.setdefault(need, {})[supplier] = figure
            elif kind == pb.INDICATOR_KIND_TRANSIT_TIME:
                transits[need] = _bounded(figure)
            elif kind == pb.INDICATOR_KIND_COVER:
                stocks[need] = _bounded(figure)
            elif kind == pb.INDICATOR_KIND_STOCK:
                self._put_stock(stocks, need, figure)
        scaled = {need: _scaled(_held_against(facts.shares.get(need, {}), known)) for need, known in shares.items()}
        return Facts({**facts.shares, **scaled}, stocks, transits)

    def _put_stock(self, stocks: dict[Need, Figure], need: Need, stock: Figure) -> None:
        # Cover said as time goes first: whoever says it knows the use better than we do.
        if (pb.INDICATOR_KIND_COVER, need.node, need.consumer, "") in self._said:
            return
        if (cover := self._cover(need.node, need.consumer, stock)) is not None:
            stocks[need] = cover

    def _cover(self, node: str, consumer: str, stock: Figure) -> Figure | None:
        """Weeks that a stock lasts at the demand said of the same place; None if no monthly demand is known."""
        used = self._said.get((pb.INDICATOR_KIND_DEMAND, node, consumer, ""), [])
        monthly = [one for one in used if len(one.one.period) == 7 and one.value > 0]
        if not monthly:
            return None
        demand = _figure(monthly, consumer, share=False)
        weeks = stock.value / demand.value * _WEEKS_A_MONTH
        contested = stock.contested or demand.contested
        alone, reports = stock.alone or demand.alone, (*stock.reports, *demand.reports)
        return _bounded(replace(stock, value=weeks, contested=contested, alone=alone, reports=reports))


def _figure(said: list[_Said], consumer: str, *, share: bool) -> Figure:
    """One figure of many voices: one an origin, the best graded of it, and the median of those."""
    by_origin: dict[str, _Said] = {}
    for one in said:
        known = by_origin.get(one.one.origin)
        if known is None or _rank(one) > _rank(known):
            by_origin[one.one.origin] = one
    voices = sorted(by_origin.values(), key=lambda one: one.value)
    low, high = voices[0], voices[-1]
    names = ", ".join(sorted({one.reporter for one in voices})[:8])
    contested = ""
    if (high.value - low.value > CONTESTED_SHARE) if share else (high.value > 2 * low.value):
        form = "{:.0%}" if share else "{:.3g}"
        contested = f"{low.reporter} says {form.format(low.value)}, {high.reporter} {form.format(high.value)}"
    newest = max(voices, key=lambda one: one.one.period)
    return Figure(
        median(one.value for one in voices),
        newest.one.period,
        names,
        len(voices),
        contested,
        period_start_ms(newest.one.period) or 0,
        _alone(voices, consumer),
        tuple((one.reporter, one.one.report) for one in voices),
    )


def _alone(voices: Sequence[_Said], consumer: str) -> str:
    """The mission whose word alone it is: one of the country that the figure is about needs no second."""
    # One voice an origin, so two missions here are two origins as well.
    missions = {one.reporter for one in voices}
    own = any(name[:2].upper() == consumer for name in missions)
    return "" if own or len(missions) > 1 else min(missions)


def _held_against(published: Mapping[str, Figure], said: Mapping[str, Figure]) -> dict[str, Figure]:
    """Shares as said; but one mission alone does not replace published shares of the world: they stand, contested."""
    if not published or not all(one.alone for one in said.values()):
        return dict(said)
    out = dict(published)
    for name, one in said.items():
        words = f"{one.alone} alone says {one.value:.0%} of {name}"
        if name not in out:
            out[name] = replace(one, contested=f"{words}, of which nothing is published")
        elif abs(out[name].value - one.value) > CONTESTED_SHARE:
            out[name] = replace(out[name], contested=words, reports=one.reports)
    return out


def _rank(said: _Said) -> tuple[float, int]:
    return admiralty_weight(*said.one.grade), said.one.known_ms


def _bounded(figure: Figure) -> Figure:
    if figure.value <= MAX_WEEKS:
        return figure
    return replace(figure, value=MAX_WEEKS, contested=f"{figure.source} says more than {MAX_WEEKS:g} weeks")


def _scaled(shares: Mapping[str, Figure]) -> dict[str, Figure]:
    """Shares that add up to more than 1 are scaled down to it and contested, all of them: one of them is wrong.

    What is one mission's word alone gives way first, so that it makes nobody else smaller.
    """
    total = math.fsum(figure.value for figure in shares.values())
    if total <= 1 + _SUM_SLACK:
        return dict(shares)
    why = f"the shares said of all suppliers add up to {total:.0%}"
    lone = math.fsum(figure.value for figure in shares.values() if figure.alone)
    firm = min(1.0, 1 / (total - lone)) if total > lone else 0.0
    left = max(1 - (total - lone), 0.0) / lone if lone else 0.0
    return {
        name: replace(one, value=one.value * (left if one.alone else firm), contested=one.contested or why)
        for name, one in shares.items()
    }
