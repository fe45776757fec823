"""`tocsin watch whatif`: what stops where and when, if a country supplied something no more."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from exchange.clock import now_ms
from exchange.options_cli import Json, emit
from exchange.text import printable
from exchange.watch.assessment import Assessment, Effect, Impact
from exchange.watch.drawing import draw
from exchange.watch.exposure_cli import facts_of
from exchange.watch.facts import Figure
from exchange.watch.graph_data import shipped_graph
from exchange.watch.whatif import SEVERITIES, URGENCIES, parse_stop, parse_weeks, reached, to_json, what_if
from keys.errors import UsageError


def whatif(
    stop: Annotated[list[str], typer.Option(help='Place and item, such as "CN:gallium"; may be given again.')],
    weeks: Annotated[float, typer.Option(help="How long it lasts, in weeks.")] = 12.0,
    country: Annotated[list[str] | None, typer.Option("--for", help="Country asked about; KR and NL if none.")] = None,
    stock: Annotated[list[str] | None, typer.Option(help='Weeks of stock: "KR:gallium=8".')] = None,
    transit: Annotated[list[str] | None, typer.Option(help='Weeks of transit to a country: "KR:gallium=2".')] = None,
    desk: Annotated[
        Path | None, typer.Option(help="Desk whose reports count too, once its watch has filed them; none = published.")
    ] = None,
    svg: Annotated[Path | None, typer.Option(help="Also draw it; with several countries, one file each.")] = None,
    as_json: Json = False,
    passphrase_file: Annotated[Path | None, typer.Option(help="File with the keystore's passphrase.")] = None,
) -> None:
    """What stops where and when, if a country supplied something no more. What is not known is said, not assumed."""
    graph, now = shipped_graph(), now_ms()
    facts = facts_of(desk, passphrase_file, known_ms=now, now_ms=now)
    given = ("given", "given on the command line")
    stocks = {need: Figure(value, *given) for need, value in (parse_weeks(one, graph) for one in stock or ())}
    transits = {need: Figure(value, *given) for need, value in (parse_weeks(one, graph) for one in transit or ())}
    # What is asked for by hand goes before what was reported.
    facts = replace(facts, stocks={**facts.stocks, **stocks}, transits={**facts.transits, **transits})
    stops = [parse_stop(one, graph) for one in stop]
    found = [what_if(stops, graph, facts, country=one, weeks=weeks, now_ms=now) for one in country or ["KR", "NL"]]
    title = f"{', '.join(stop)} stops for {weeks:g} weeks"
    if svg is not None:
        for one in found:
            path = svg if len(found) == 1 else svg.with_stem(f"{svg.stem}-{one.country}")
            _write(path, draw(one, graph, f"{title}: {one.country}"))
    if as_json:
        emit([to_json(one, weeks) for one in found])
    else:
        for one in found:
            _show(one, weeks, title)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None
    Console(stderr=True).print(f"drawing written to {path}", markup=False, highlight=False)


def _show(one: Assessment, weeks: float, title: str) -> None:
    console = Console(highlight=False)
    share = "not known" if one.need_share is None else f"{one.need_share:.0%} of need"
    head = f"{one.country}: {title}. Severity {SEVERITIES[one.severity]} ({share}), urgency {URGENCIES[one.urgency]}."
    console.print(Text(printable(head.replace("unspecified", "not known"))))
    table = Table(box=SIMPLE)
    for name in ("what", "effect", "at risk", "weeks", f"in {weeks:g}", "needs"):
        table.add_column(name, no_wrap=name != "needs", overflow="fold")
    grows = [impact for impact in one.impacts if impact.effect is Effect.GROWTH]
    for impact in one.impacts:
        if impact.effect is not Effect.GROWTH:
            table.add_row(*(Text(cell) for cell in _cells(impact, weeks)))
    if table.row_count:
        console.print(table)
        words = f"at risk: share of need; weeks: until it stops, from now; in {weeks:g}: whether it stops by then"
        console.print(Text(words))
    if grows:
        console.print(Text(f"runs on, but cannot grow: {', '.join(impact.node for impact in grows)}"))
    for line in one.unknown:
        console.print(Text(printable(f"not known: {line}")))
    console.print()


def _cells(impact: Impact, weeks: float) -> list[str]:
    until = "unknown"
    if impact.weeks_until_stop is not None:
        until = f"{'>= ' if impact.at_least else ''}{impact.weeks_until_stop:.1f}"
    within = {True: "yes", False: "no", None: "unknown"}[reached(impact, weeks)]
    share = "unknown" if impact.share_at_risk is None else f"{impact.share_at_risk:.0%}"
    effect = "missing" if impact.effect is Effect.SUPPLY else "stops"
    return [impact.node, effect, share, until, within, " ".join(impact.path[-2:-1])]
