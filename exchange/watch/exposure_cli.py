"""`tocsin watch exposure`: what one other country supplies to half or more, what would stop, and how that has changed."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from exchange import files
from exchange.clock import now_ms
from exchange.desk import Desk
from exchange.options_cli import Json, emit
from exchange.report.periods import date_start_ms
from exchange.text import printable
from exchange.watch.defaults import DEFAULTS
from exchange.watch.exposure import Concentration, concentration, concentration_change, single_points
from exchange.watch.facts import Facts
from exchange.watch.filing import Filing
from exchange.watch.graph import Graph
from exchange.watch.graph_data import shipped_facts, shipped_graph
from keys.errors import UsageError


def facts_of(directory: Path | None, secret: Path | None, *, known_ms: int, now_ms: int) -> Facts:
    """Published shares, and over them what missions reported to a desk, as far as it was known there by a time."""
    if directory is None:
        return shipped_facts()
    desk = Desk.open(directory, passphrase=files.passphrase(secret))
    try:
        series = [one.as_of(known_ms) for one in Filing(desk.archive, DEFAULTS).figures()]
    finally:
        desk.close()
    return shipped_facts().with_reports(series, shipped_graph(), now_ms=min(known_ms, now_ms))


def exposure(
    country: Annotated[list[str] | None, typer.Option("--for", help="Country asked about; KR and NL if none.")] = None,
    desk: Annotated[
        Path | None, typer.Option(help="Desk whose reports count too, once its watch has filed them; none = published.")
    ] = None,
    since: Annotated[str, typer.Option(help='Show the change since what was known then: "2026-01" or a day.')] = "",
    node: Annotated[list[str] | None, typer.Option(help="Only these items of the graph; may be given again.")] = None,
    as_json: Json = False,
    passphrase_file: Annotated[Path | None, typer.Option(help="File with the keystore's passphrase.")] = None,
) -> None:
    """Single points of failure: what one other country supplies to half or more, how concentrated, what would stop."""
    now, graph = now_ms(), shipped_graph()
    if unknown := [one for one in node or () if one not in graph.nodes]:
        raise UsageError(f"{printable(unknown[0])} is not in the graph", hint="exchange/watch/data/graph_nodes.csv")
    then = date_start_ms(since) if since else None
    if since and (then is None or then > now):
        raise UsageError(f'"{printable(since)}" is no day or month of the past', hint="such as 2026-01")
    facts = facts_of(desk, passphrase_file, known_ms=now, now_ms=now)
    before = None if then is None else facts_of(desk, passphrase_file, known_ms=then, now_ms=now)
    for one in country or ["KR", "NL"]:
        rows = rows_of(graph, facts, before, one, only=tuple(node or ()))
        if as_json:
            emit({"country": one, "items": rows})
        else:
            _show(one, rows, since, named=bool(node))


def rows_of(
    graph: Graph, facts: Facts, before: Facts | None, country: str, *, only: tuple[str, ...] = ()
) -> list[dict[str, Any]]:
    """Single points of failure of a country, the worst first; or the named items, whatever their concentration.

    Args:
        graph: The dependency graph.
        facts: What is known now.
        before: What was known before; None = no change is asked for.
        country: ISO 3166-1 code.
        only: Ids of nodes; none = the single points.
    """
    points = dict[str, tuple[Concentration, tuple[str, ...]]]()
    for found, stops in single_points(graph, facts, country):
        points[found.node] = (found, stops)
    for name in only:
        if name not in points and (one := concentration(name, country, facts)) is not None:
            points[name] = (one, ())
    rows = []
    for name, (found, stops) in points.items():
        if only and name not in only:
            continue
        change = None if before is None else concentration_change(name, country, before, facts)
        figure = facts.supply(name, country)[1][found.top]
        rows.append({
            "item": name, "top": found.top, "share": round(found.top_share, 4), "hhi": round(found.hhi, 4),
            "known": round(found.known, 4), "of": found.basis, "period": found.period, "source": found.source,
            "doubt": figure.contested or (f"the word of {figure.alone} alone" if figure.alone else ""),
            "stops": list(stops),
            "hhi_change": None if change is None else round(change.hhi, 4),
            "share_before": None if change is None else round(change.top_before, 4),
        })  # fmt: skip
    return rows


def _show(country: str, rows: list[dict[str, Any]], since: str, *, named: bool) -> None:
    console = Console(highlight=False)
    what = "where the named items come from" if named else "supply that one other country gives to half or more"
    console.print(Text(f"{country}: {what} ({len(rows)})"))
    table = Table(box=SIMPLE)
    for name in ("item", "from", "share", "of", "HHI", *(["change"] if since else []), "period", "would stop"):
        table.add_column(name, no_wrap=name != "would stop", overflow="fold")
    for row in rows:
        change = "not known" if row["hhi_change"] is None else f"{row['hhi_change']:+.2f}"
        cells = [row["item"], row["top"], f"{row['share']:.0%}", row["of"], f"{row['hhi']:.2f}"]
        cells += [change] if since else []
        cells += [row["period"], ", ".join(row["stops"]) or "nothing today"]
        table.add_row(*(Text(printable(str(cell))) for cell in cells))
    if rows:
        console.print(table)
        note = "share, HHI: 0 to 1, published or reported" + (f"; change of HHI since {since}" if since else "")
        console.print(Text(note))
    for row in rows:
        if row["doubt"]:
            console.print(Text(printable(f"doubtful: {row['item']}: {row['doubt']}")))
    console.print()
