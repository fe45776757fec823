"""The dependency graph: from mineral to material, process step, chip and product. A value, without cycles.

An edge says that `target` needs `source`. How much of a loss it passes on is the project's judgement (NEED_PASSES),
not a measurement; docs/WATCH.md section 8 says so.
"""

import csv
import io
import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from exchange.text import printable
from exchange.watch.errors import WatchInputError
from exchange.watch.intake import heading_of

MAX_NODES: Final = 4096
MAX_EDGES: Final = 16_384
MAX_GRAPH_CHARS: Final = 4_000_000
STAGES: Final = ("mineral", "material", "wafer", "equipment", "step", "chip", "packaging", "product")
# A step or product is not something one keeps a stock of before it is made.
STORED: Final = frozenset(["mineral", "material", "wafer", "equipment", "chip", "packaging"])
# 3: cannot run without. 2: runs worse, or another kind is at hand for a part. 1: hardly matters.
NEED_PASSES: Final[Mapping[int, float]] = {3: 1.0, 2: 0.5, 1: 0.1}

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,59}\Z")
_CODE: Final = re.compile(r"[0-9]{6}\Z")


class Relation(Enum):
    """How a target needs a source."""

    BYPRODUCT = "byproduct_of"
    FEEDS = "feeds"
    CONSUMED = "consumed_in"
    TOOL = "tool_for"  # a machine: without new ones what stands goes on
    STEP = "step_before"
    PACKED = "packed_in"  # one of many that pass through: its lack does not stop the others


@dataclass(frozen=True, slots=True)
class Node:
    """One thing: id, stage (one of STAGES) and the HS 2022 six-digit codes it is traded under."""

    name: str
    stage: str
    codes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Edge:
    """`target` needs `source`; need 1 to 3."""

    source: str
    target: str
    relation: Relation
    need: int


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes and edges; made by `build`, which checks them.

    Args:
        nodes: By id, sources before targets.
        inputs: Edges into a node.
        outputs: Edges out of a node.
    """

    nodes: Mapping[str, Node]
    inputs: Mapping[str, tuple[Edge, ...]]
    outputs: Mapping[str, tuple[Edge, ...]]

    def nodes_of(self, item: str) -> tuple[str, ...]:
        """Nodes of an item ("281111", "81129289/CN", "name:neon"); several where one code holds several things."""
        if item.startswith("name:"):
            # "gallium, 6N" is gallium: what stands after the comma is its grade.
            name = item.removeprefix("name:").partition(",")[0].strip().replace(" ", "-")
            return (name,) if name in self.nodes else ()
        code = heading_of(item)
        return tuple(name for name, node in self.nodes.items() if code in node.codes)


def build(nodes: list[Node], edges: list[Edge]) -> Graph:
    """A graph of nodes and edges.

    Raises:
        WatchInputError: A node or edge is there twice, an edge leads nowhere or to itself, there is a cycle, or the
            graph is larger than MAX_NODES and MAX_EDGES.
    """
    if len(nodes) > MAX_NODES or len(edges) > MAX_EDGES:
        raise WatchInputError(f"the graph has more than {MAX_NODES} nodes or {MAX_EDGES} edges")
    known = {node.name: node for node in nodes}
    if len(known) != len(nodes):
        raise WatchInputError("a node of the graph is there twice")
    inputs: dict[str, list[Edge]] = {name: [] for name in known}
    outputs: dict[str, list[Edge]] = {name: [] for name in known}
    seen: set[tuple[str, str]] = set()
    for edge in edges:
        said = printable(f"{edge.source} to {edge.target}", max_chars=140)
        if edge.source == edge.target:
            raise WatchInputError(f"the edge {said} leads to itself")
        if edge.source not in known or edge.target not in known:
            raise WatchInputError(f"the edge {said} names a node that is not there")
        if (edge.source, edge.target) in seen:
            raise WatchInputError(f"the edge {said} is there twice")
        seen.add((edge.source, edge.target))
        outputs[edge.source].append(edge)
        inputs[edge.target].append(edge)
    order = _sorted(known, inputs, outputs)
    frozen = ({name: tuple(part[name]) for name in order} for part in (inputs, outputs))
    return Graph({name: known[name] for name in order}, *frozen)


def _sorted(
    nodes: Mapping[str, Node], inputs: Mapping[str, list[Edge]], outputs: Mapping[str, list[Edge]]
) -> list[str]:
    """Sources before targets (Kahn 1962), each as soon as it can be: no recursion, so no depth is too deep."""
    waiting = {name: len(inputs[name]) for name in nodes}
    ready = deque(name for name, count in waiting.items() if count == 0)
    out: list[str] = []
    while ready:
        name = ready.popleft()
        out.append(name)
        for edge in outputs[name]:
            waiting[edge.target] -= 1
            if waiting[edge.target] == 0:
                ready.append(edge.target)
    if len(out) != len(nodes):
        first = min(name for name, count in waiting.items() if count)
        raise WatchInputError(f"the graph runs in a circle, at {first} among others")
    return out


def parse(nodes: str, edges: str) -> Graph:
    """A graph from two tables: node, stage, hs6 (codes with ";") and from, to, relation, need.

    Raises:
        WatchInputError: As `build`, or a cell is not what its column holds; the row is named.
    """
    found = [_node(row, cells) for row, cells in rows_of(nodes, ("node", "stage", "hs6"))]
    joined = [_edge(row, cells) for row, cells in rows_of(edges, ("from", "to", "relation", "need"))]
    return build(found, joined)


def rows_of(text: str, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a small table with their numbers; other columns are passed through.

    Raises:
        WatchInputError: It is too large, is not CSV, or lacks a column or a cell.
    """
    if len(text) > MAX_GRAPH_CHARS:
        raise WatchInputError(f"the table has more than {MAX_GRAPH_CHARS} characters")
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        missing = [name for name in columns if name not in (reader.fieldnames or ())]
        if missing:
            raise WatchInputError(f"the table lacks the column {missing[0]}")
        for row, cells in enumerate(reader, start=2):
            if None in cells or None in cells.values():
                raise WatchInputError(f"row {row} has not as many cells as the header", row=row)
            yield row, cells
    except csv.Error as error:
        raise WatchInputError(f"row {reader.line_num} is not CSV: {error}") from None


def _fault(row: int, column: str, cell: str, what: str) -> WatchInputError:
    return WatchInputError(f'row {row}, {column}: "{printable(cell, max_chars=80)}" {what}', row=row, column=column)


def _node(row: int, cells: Mapping[str, str]) -> Node:
    codes = tuple(code for code in cells["hs6"].split(";") if code)
    if not _NAME.match(cells["node"]):
        raise _fault(row, "node", cells["node"], "is no name of small letters, digits and hyphens")
    if cells["stage"] not in STAGES:
        raise _fault(row, "stage", cells["stage"], f"is not one of {', '.join(STAGES)}")
    for code in codes:
        if not _CODE.match(code):
            raise _fault(row, "hs6", code, "is no code of six digits")
    return Node(cells["node"], cells["stage"], codes)


def _edge(row: int, cells: Mapping[str, str]) -> Edge:
    try:
        relation = Relation(cells["relation"])
    except ValueError:
        raise _fault(
            row, "relation", cells["relation"], f"is not one of {', '.join(r.value for r in Relation)}"
        ) from None
    if cells["need"] not in ("1", "2", "3"):
        raise _fault(row, "need", cells["need"], "is not 1, 2 or 3")
    return Edge(cells["from"], cells["to"], relation, int(cells["need"]))
