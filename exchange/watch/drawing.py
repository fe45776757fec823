"""The affected part of the graph as one SVG: columns from source to product, no script, nothing fetched; dark and light.

Boxes are as wide as their text may be, so nothing is clipped; a longer name is cut with an ellipsis and kept whole in
its tooltip. Text is escaped.
"""

from collections.abc import Mapping
from html import escape
from typing import Final

from exchange.watch.assessment import Assessment, Effect, Impact
from exchange.watch.graph import Edge, Graph, Relation

MAX_DRAWN: Final = 80  # more than that nobody can read; the worst are drawn
BOX_W, BOX_H, GAP_X, GAP_Y, MARGIN, TOP = 196, 46, 54, 16, 20, 74
_MAX_LETTERS: Final = 24

_STYLE: Final = """
svg{background:var(--paper);--paper:#fff;--ink:#1c2430;--soft:#5b6573;--line:#8a95a3;--box:#f3f5f8;
--extreme:#b42318;--severe:#c2570c;--moderate:#a07808;--minor:#5b6573}
@media (prefers-color-scheme:dark){svg{--paper:#12171d;--ink:#e7ebf0;--soft:#a3adba;--line:#66717e;--box:#1b222a;
--extreme:#ff8073;--severe:#ffa45c;--moderate:#e8c14c;--minor:#a3adba}}
text{font-family:system-ui,sans-serif;fill:var(--ink);font-size:13px}.soft{fill:var(--soft);font-size:12px}
.title{font-size:17px;font-weight:600}rect{fill:var(--box);stroke-width:2}
.extreme{stroke:var(--extreme)}.severe{stroke:var(--severe)}.moderate{stroke:var(--moderate)}.minor{stroke:var(--minor)}
.growth{stroke-dasharray:5 4}path{fill:none;stroke:var(--line);stroke-width:1.3}
"""


def draw(one: Assessment, graph: Graph, title: str) -> str:
    """The picture of an assessment.

    Args:
        one: Its impacts are drawn, the worst MAX_DRAWN of them.
        graph: The graph they are of.
        title: Stands above; cut where the picture ends.
    """
    impacts = {impact.node: impact for impact in one.impacts[:MAX_DRAWN]}
    edges = [
        edge
        for name in impacts
        for edge in graph.inputs[name]
        if edge.source in impacts and edge.relation is not Relation.PACKED
    ]
    spots = _spots(graph, impacts)
    right = max((x for x, _ in spots.values()), default=0) + BOX_W + MARGIN
    width = max(right, 760)
    height = max((y for _, y in spots.values()), default=TOP) + BOX_H + MARGIN
    parts = [
        f'<text class="title" x="{MARGIN}" y="30">{escape(_cut(title, width // 9 - 4))}</text>',
        f'<text class="soft" x="{MARGIN}" y="52">{escape(_cut(_legend(one), width // 7 - 4))}</text>',
        *(_line(edge, spots) for edge in edges),
        *(_box(impact, *spots[name]) for name, impact in impacts.items()),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{escape(title)}"><style>{_STYLE}</style>{"".join(parts)}</svg>\n'
    )


def _legend(one: Assessment) -> str:
    left = len(one.impacts) - MAX_DRAWN
    more = f"; {left} more are not drawn" if left > 0 else ""
    return f"Share of need at risk in {one.country}, weeks until it stops; dashed: only growth is lost{more}"


def _spots(graph: Graph, impacts: Mapping[str, Impact]) -> dict[str, tuple[int, int]]:
    """Column = longest way from an entry; in a column the order of the rows that feed it, so that few lines cross."""
    column: dict[str, int] = {}
    row: dict[str, int] = {}
    filled: dict[int, list[str]] = {}
    for name in graph.nodes:
        if name in impacts:
            before = [column[edge.source] for edge in graph.inputs[name] if edge.source in column]
            column[name] = max(before, default=-1) + 1
            filled.setdefault(column[name], []).append(name)
    for place in sorted(filled):

        def middle(name: str) -> float:
            rows = [row[edge.source] for edge in graph.inputs[name] if edge.source in row]
            return sum(rows) / len(rows) if rows else 0.0

        for at, name in enumerate(sorted(filled[place], key=middle)):
            row[name] = at
    return {name: (MARGIN + column[name] * (BOX_W + GAP_X), TOP + row[name] * (BOX_H + GAP_Y)) for name in impacts}


def _line(edge: Edge, spots: Mapping[str, tuple[int, int]]) -> str:
    (x1, y1), (x2, y2) = spots[edge.source], spots[edge.target]
    start, end = (x1 + BOX_W, y1 + BOX_H // 2), (x2, y2 + BOX_H // 2)
    bend = GAP_X // 2
    dash = ' class="growth"' if edge.relation is Relation.TOOL else ""
    curve = f"M{start[0]} {start[1]}C{start[0] + bend} {start[1]} {end[0] - bend} {end[1]} {end[0]} {end[1]}"
    return f'<path{dash} d="{curve}"/>'


def _box(impact: Impact, x: int, y: int) -> str:
    share = impact.share_at_risk
    level = next(
        (n for least, n in ((0.5, "extreme"), (0.25, "severe"), (0.1, "moderate")) if (share or 0) >= least), "minor"
    )
    css = level + (" growth" if impact.effect is Effect.GROWTH else "")
    said = f"{_share(impact)}, {_weeks(impact)}"
    tip = escape(f"{impact.node}: {said}; {' > '.join(impact.path)}")
    return (
        f'<g><title>{tip}</title><rect class="{css}" x="{x}" y="{y}" width="{BOX_W}" height="{BOX_H}" rx="5"/>'
        f'<text x="{x + 10}" y="{y + 19}">{escape(_cut(impact.node, _MAX_LETTERS))}</text>'
        f'<text class="soft" x="{x + 10}" y="{y + 37}">{escape(said)}</text></g>'
    )


def _share(impact: Impact) -> str:
    return "share unknown" if impact.share_at_risk is None else f"{impact.share_at_risk:.0%}"


def _weeks(impact: Impact) -> str:
    if impact.weeks_until_stop is None:
        return "weeks unknown"
    return f"{'at least ' if impact.at_least else ''}{impact.weeks_until_stop:.1f} weeks"


def _cut(text: str, letters: int) -> str:
    return text if len(text) <= letters else text[: letters - 1] + "\u2026"
