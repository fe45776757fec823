"""The page of a back-test: one inline SVG a series or pool, no script, nothing fetched. Text is escaped for HTML."""

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any, Final

from exchange.watch.defaults import LEADING
from exchange.watch.months import month_number
from exchange.watch.tables import Monthly
from exchange.watch.thresholds import BUDGETS

WIDTH: Final = 1120
HEIGHT: Final = 190
LEFT, RIGHT, TOP, BOTTOM = 64, 14, 14, 26
_COLOURS: Final = {"hit": "#1a7f4b", "false": "#c2410c", "neither": "#8a8f98", "open": "#2563eb"}

_STYLE: Final = """
:root{--ink:#1c2430;--soft:#5b6573;--line:#e3e7ec;--paper:#fff;--series:#27476e;--event:#f5c46b}
@media (prefers-color-scheme:dark){
:root{--ink:#e7ebf0;--soft:#9aa5b3;--line:#2b333d;--paper:#12171d;--series:#8fb6e8;--event:#8a6416}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1168px;margin:0 auto;padding:28px 24px 64px}
h1{font-size:24px;margin:0 0 4px}h2{font-size:18px;margin:36px 0 8px}h3{font-size:15px;margin:22px 0 2px}
p{margin:2px 0 10px;color:var(--soft)}svg{display:block;width:100%;height:auto}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;width:100%}
th,td{text-align:left;padding:5px 12px 5px 0;border-bottom:1px solid var(--line);white-space:nowrap}
th{color:var(--soft);font-weight:500}tr.lead td{font-weight:600}
.key span{display:inline-block;margin-right:18px}
.key i{display:inline-block;width:11px;height:11px;margin-right:6px;vertical-align:-1px;border-radius:2px}
text{font:11px system-ui,sans-serif;fill:var(--soft)}.grid{stroke:var(--line)}
.price{fill:none;stroke:var(--series);stroke-width:1.5;stroke-linejoin:round}.event{fill:var(--event);opacity:.45}
.usual{fill:none;stroke:var(--ink);stroke-dasharray:4 3}.bar{fill:var(--series)}.on{fill:#c2410c}
"""


def page(result: Mapping[str, Any], series: Sequence[Monthly]) -> str:
    """The whole page as HTML text.

    Args:
        result: What `tocsin watch backtest --json` prints.
        series: The price series of it; their order does not matter.
    """
    body: list[str] = ["<h1>Back-test of the watch</h1>"]
    if "prices" in result:
        body += _prices(result, {one.name: one for one in series})
    for item in result.get("trade", ()):
        body += _item(item)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Back-test of the watch</title><style>{_STYLE}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )


def _prices(result: Mapping[str, Any], series: Mapping[str, Monthly]) -> Iterator[str]:
    rows = result["prices"]["results"]
    yield f"<p>Thresholds: {escape(str(result['thresholds']))}. In brackets: 95 % intervals.</p>"
    yield f"<h2>Rules</h2>{_table(rows)}"
    strict = [row for row in rows if row["budget"] == min(BUDGETS)]
    for row in [row for row in strict if row["rule"] == LEADING[row["label"]]] or strict:
        yield f"<h2>Label {escape(row['label'])}, rule {escape(row['rule'])}: {escape(row['name'])}</h2>"
        yield _key()
        for about in result["prices"]["series"]:
            one = series[about["series"]]
            alerts = [alert for alert in row["alerts"] if alert["series"] == one.name]
            counts = ", ".join(f"{sum(a['outcome'] == name for a in alerts)} {name}" for name in ("hit", "false"))
            yield f"<h3>{escape(one.name)}</h3><p>{escape(one.unit)}; {counts}</p>"
            yield _series_svg(one, about[f"events_{row['label']}"], alerts, about["scored_from"])


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    head = "".join(
        f"<th>{name}</th>" for name in ("Label", "Rule", "Budget", "Threshold", "Recall", "Lead", "False a year")
    )
    out = []
    for row in rows:
        recall, false = row["recall_95"], row["false_per_year_95"]
        cells = (
            row["label"],
            f"{row['rule']} {row['name']}",
            row["budget"],
            f"{row['threshold']:.3f}",
            f"{row['recall']:.2f} ({recall[0]:.2f}\u2013{recall[1]:.2f}) of {row['events']}",
            f"{row['median_lead_months']:g} months",
            f"{row['false_per_year']:.2f} ({false[0]:.2f}\u2013{false[1]:.2f})",
        )
        mark = ' class="lead"' if row["rule"] == LEADING[row["label"]] else ""
        out.append(f"<tr{mark}>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in cells) + "</tr>")
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(out)}</tbody></table></div>'


_KEY: Final = {
    "hit": "alert, event followed",
    "false": "alert, none followed",
    "neither": "alert, a rebound followed",
    "open": "alert, data end",
}


def _key() -> str:
    spans = (f'<span><i style="background:{_COLOURS[name]}"></i>{text}</span>' for name, text in _KEY.items())
    return f'<p class="key"><span><i style="background:var(--event)"></i>event starts</span>{"".join(spans)}</p>'


class _Frame:
    """Where months and values stand in a picture."""

    def __init__(self, first: int, last: int, low: float, high: float, *, log: bool) -> None:
        self.first, self.last, self.log = first, max(last, first + 1), log
        self.low, self.high = low, high if high > low else low + 1

    def x(self, month: float) -> float:
        return LEFT + (month - self.first) / (self.last - self.first) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high, at = (
            (math.log(v) for v in (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        )
        return TOP + (1 - (at - low) / (high - low)) * (HEIGHT - TOP - BOTTOM)

    def years(self) -> Iterator[str]:
        step = 1 if self.last - self.first < 150 else 5
        for year in range(-(-self.first // 12), self.last // 12 + 1):
            if year % step == 0:
                at = self.x(year * 12)
                yield f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
                yield f'<text x="{at:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{year}</text>'

    def levels(self, values: Sequence[float], form: str) -> Iterator[str]:
        for value in values:
            at = self.y(value)
            yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
            yield f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{form.format(value)}</text>'


def _ticks(low: float, high: float) -> list[float]:
    """Round values on a logarithmic axis: as few as say where the curve is."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
        found = [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]
        if len(found) > 2:
            return found
    return [low, high]


def _bar(css: str, x: float, y: float, width: float, title: str) -> str:
    """A rectangle from y down to the axis."""
    size = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{HEIGHT - BOTTOM - y:.1f}"'
    return f'<rect class="{css}" {size}><title>{escape(title)}</title></rect>'


def _mark(x: float, colour: str, title: str) -> str:
    """An arrow head above the picture and a thin line through it."""
    line = f'x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="{colour}" stroke-opacity=".45"'
    head = f'd="M{x - 5:.1f} {TOP - 8}h10l-5 9z" fill="{colour}"'
    return f"<line {line}/><path {head}><title>{escape(title)}</title></path>"


def _series_svg(one: Monthly, events: Sequence[str], alerts: Sequence[Mapping[str, Any]], scored_from: str) -> str:
    sound = [float(v) for v in one.values if v > 0]
    if not sound:
        return "<p>no value above zero</p>"
    frame = _Frame(one.first, one.first + one.values.size - 1, min(sound), max(sound), log=True)
    parts = [*frame.years(), *frame.levels(_ticks(min(sound), max(sound)), "{:,g}")]
    for event in events:
        x = frame.x(month_number(event) or 0)
        parts.append(_bar("event", x, TOP, max(frame.x(one.first + 2) - frame.x(one.first), 3), f"event {event}"))
    parts.append(f'<path class="price" d="{_path(frame, one)}"/>')
    for alert in alerts:
        title = f"{alert['month']} {alert['outcome']}: {alert['why']}"
        parts.append(_mark(frame.x(month_number(alert["month"]) or 0), _COLOURS[alert["outcome"]], title))
    return _svg(parts, f"{one.name}, {len(events)} events, {len(alerts)} alerts, scored from {scored_from}")


def _path(frame: _Frame, one: Monthly) -> str:
    out, pen = [], "M"
    for month, value in enumerate(one.values):
        if not value > 0:
            pen = "M"
            continue
        out.append(f"{pen}{frame.x(one.first + month):.1f} {frame.y(float(value)):.1f}")
        pen = "L"
    return "".join(out)


def _svg(parts: Sequence[str], label: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'


def _item(item: Mapping[str, Any]) -> Iterator[str]:
    yield f"<h2>HS {escape(str(item['hs']))}: {item['reporters']} reporters pooled</h2>"
    for pool in item["pools"]:
        alone = pool["alone_flags_per_reporter_year"]
        yield f"<h3>{escape(pool['rule'])} {escape(pool['name'])}</h3>"
        yield f"<p>Share of reporters in alarm; line: their usual share. One reporter alone flags {alone} months a year.</p>"
        yield _pool_svg(item, pool)
        for alarm in pool["alarms"]:
            yield f"<p>{escape(alarm['month'])}: {escape(alarm['why'])}</p>"


def _pool_svg(item: Mapping[str, Any], pool: Mapping[str, Any]) -> str:
    months = [month_number(text) or 0 for text in pool["months"]]
    frame = _Frame(months[0], months[-1] + 1, 0.0, 1.0, log=False)
    parts = [*frame.years(), *frame.levels([0, 0.5, 1], "{:.0%}")]
    alarms = {alarm["month"] for alarm in pool["alarms"]}
    for month, text, share in zip(months, pool["months"], pool["share"], strict=True):
        if share is not None:
            width = max(frame.x(month + 1) - frame.x(month) - 2, 1)
            css = "on" if text in alarms else "bar"
            parts.append(_bar(css, frame.x(month) + 1, frame.y(share), width, f"{text}: {share:.0%}"))
    usual = [(m, s) for m, s in zip(months, pool["expected"], strict=True) if s is not None]
    points = "L".join(f"{frame.x(m + 0.5):.1f} {frame.y(s):.1f}" for m, s in usual)
    parts.append(f'<path class="usual" d="M{points}"/>' if usual else "")
    return _svg(parts, f"pooled share, HS {item['hs']}, {len(alarms)} alarms")
