"""The graph and the supplier shares that ship with the project (exchange/watch/data/SOURCES.md)."""

from functools import cache
from importlib import resources

from exchange.watch import graph
from exchange.watch.facts import Facts, parse_suppliers
from exchange.watch.graph import Graph


@cache
def shipped_graph() -> Graph:
    """The shipped dependency graph."""
    return graph.parse(_data("graph_nodes.csv"), _data("graph_edges.csv"))


@cache
def shipped_facts() -> Facts:
    """What is known without any mission: published supplier shares. No stocks, no transit times: nobody publishes them."""
    return Facts(shares=parse_suppliers(_data("suppliers.csv"), shipped_graph()))


def _data(name: str) -> str:
    return (resources.files("exchange.watch") / "data" / name).read_text(encoding="utf-8")
