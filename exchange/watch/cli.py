"""`tocsin watch`: measure the early warning on history. Results on stdout, talk on stderr."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from exchange.options_cli import Json, emit
from exchange.text import printable
from exchange.watch import plot, study, tables, thresholds
from exchange.watch.defaults import DEFAULTS, LEADING, PRICE_RULES
from exchange.watch.exposure_cli import exposure
from exchange.watch.rules import RULES
from exchange.watch.thresholds import Thresholds
from exchange.watch.whatif_cli import whatif
from keys.errors import UsageError

app = typer.Typer(
    no_args_is_help=True, help="The early warning: run it, measure and tune its rules on history, ask what if."
)

app.command("whatif")(whatif)
app.command("exposure")(exposure)

err = Console(stderr=True)

Prices = Annotated[Path, typer.Option("--prices", help="CSV: month, series, value, unit, source.")]


@app.command("backtest")
def backtest(
    prices: Annotated[Path | None, typer.Option(help="CSV: month, series, value, unit, source.")] = None,
    trade: Annotated[Path | None, typer.Option(help="CSV: month, hs6, partner, value_usd, quantity_kg.")] = None,
    events: Annotated[
        Path | None, typer.Option(help="CSV of dated events, to hold pooled alarms against (examples/data/events.csv).")
    ] = None,
    frozen: Annotated[
        str,
        typer.Option(help='Score with fixed thresholds: a file of "watch tune", or "builtin"; none = tune in sample.'),
    ] = "",
    rule: Annotated[list[str] | None, typer.Option(help="Only these rules, such as W1; may be given again.")] = None,
    html: Annotated[Path | None, typer.Option(help="Also write a page with a plot of every series.")] = None,
    as_json: Json = False,
) -> None:
    """Score the rules on history: recall, lead and false alarms for both labels and both budgets, one line an alert."""
    if prices is None and trade is None:
        raise UsageError("nothing to test", hint="give --prices, --trade or both")
    for one in rule or ():
        if one not in PRICE_RULES:
            raise UsageError(f'no rule "{printable(one)}" for prices', hint=f"one of {', '.join(PRICE_RULES)}")
    result: dict[str, Any] = {}
    series = tables.read_prices(_text(prices)) if prices else []
    if prices:
        chosen = _thresholds(frozen) if frozen else study.tune(series, source="in sample")
        result["thresholds"] = "in sample" if not frozen else chosen.source
        result["prices"] = study.of_prices(series, chosen, rules=tuple(rule or PRICE_RULES))
    if trade:
        known = tables.read_events(_text(events)) if events else []
        result["trade"] = study.of_trade(tables.read_trade(_text(trade)), known)
    if html is not None:
        html.write_text(plot.page(result, series), encoding="utf-8")
        err.print(f"page written to {html}", markup=False, highlight=False)
    if as_json:
        emit(result)
    else:
        _show(result, asked=bool(rule))


@app.command("tune")
def tune(
    prices: Prices,
    output: Annotated[Path | None, typer.Option(help="File to write; none = stdout.")] = None,
) -> None:
    """Thresholds that keep to the false-alarm budgets on these series, for --frozen and for the annex."""
    series = tables.read_prices(_text(prices))
    found = study.tune(series, source=f"{prices.name}, {len(series)} series")
    text = json.dumps(found.to_json(), indent=1) + "\n"
    if output is None:
        sys.stdout.write(text)
    else:
        output.write_text(text, encoding="utf-8")
        err.print(f"{len(found.values)} thresholds written to {output}", markup=False, highlight=False)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8") from None


def _thresholds(frozen: str) -> Thresholds:
    return DEFAULTS if frozen == "builtin" else thresholds.from_json(_text(Path(frozen)))


def _show(result: dict[str, Any], *, asked: bool) -> None:
    if "prices" in result:
        rows = result["prices"]["results"]
        _line(
            f"Prices, thresholds: {result['thresholds']}. In brackets: 95 % intervals. FA/y: false alarms a quiet year."
        )
        _line(_FORM.format("", "rule", "budget", "from", "recall", "events", "lead", "FA/y"))
        for row in rows:
            _line(_FORM.format(*_cells(row)))
        for row in rows:
            if row["budget"] == min(thresholds.BUDGETS) and (asked or row["rule"] == LEADING[row["label"]]):
                _show_alerts(row)
    for item in result.get("trade", ()):
        _show_item(item)


_FORM = "{:<1}  {:<28}  {:<6}  {:>7}  {:<16}  {:>6}  {:>4}  {}"


def _cells(row: dict[str, Any]) -> list[str]:
    recall, false = row["recall_95"], row["false_per_year_95"]
    return [
        row["label"],
        f"{row['rule']} {row['name']}",
        f"{row['budget']}",
        f"{row['threshold']:.3f}",
        f"{row['recall']:.2f} ({recall[0]:.2f}-{recall[1]:.2f})",
        str(row["events"]),
        f"{row['median_lead_months']:g}",
        f"{row['false_per_year']:.2f} ({false[0]:.2f}-{false[1]:.2f})",
    ]


def _show_alerts(row: dict[str, Any]) -> None:
    _line("")
    _line(f"Label {row['label']}, {row['rule']} {RULES[row['rule']].name}, from {row['threshold']:.3f}:")
    for alert in row["alerts"]:
        event = f" -> {alert['event']}, {alert['lead_months']} months ahead" if alert["event"] else ""
        _line(f"{alert['month']}  {alert['series']:<24} {alert['outcome']:<8}{event}  {alert['why']}")
    if row["missed"]:
        _line("missed: " + "; ".join(row["missed"]))


def _show_item(item: dict[str, Any]) -> None:
    _line("")
    _line(f"HS {item['hs']}, {item['reporters']} reporters, {item['first']} to {item['last']}:")
    for pool in item["pools"]:
        alone, years = pool["alone_flags_per_reporter_year"], pool["alone_quiet_years"]
        rate = f"{pool['alone_false'] / years:.2f}" if years else "no"
        _line(
            f"{pool['rule']} {pool['name']}: one reporter alone flags {alone} months a year, {rate} false alerts a quiet year; "
            f"pooled alarms: {len(pool['alarms'])}, {pool['pooled_false']} false in {pool['pooled_quiet_years']} quiet years"
        )
        for alarm in pool["alarms"]:
            near = f" [{', '.join(alarm['events_near'])}]" if alarm["events_near"] else ""
            _line(f"{alarm['month']}  known at the end of {alarm['known_at_end_of']}{near}  {alarm['why']}")


def _line(text: str) -> None:
    sys.stdout.write(printable(text) + "\n")
