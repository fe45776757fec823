"""The reports of the demonstration, made from the published figures in examples/data (SOURCES.md there).

Level rule, the same for every series. The deviation is the value over the mean of the 12 months before:

    price    +15 % or more strained, +8 % or more watch, else normal
    output   -10 % or less strained,  -5 % or less watch, else normal

The price bounds are those a back-test on thirteen monthly price series favoured among simple rules; the output bounds
are round figures. The first 12 months of a series have no baseline and count as normal.
"""

import csv
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean
from typing import Final, NamedTuple

from exchange.report import clean_report, new_report_id, validate
from exchange.report.shape import enum_number
from exchange.v1 import report_pb2 as pb
from keys.errors import UsageError

BASELINE_MONTHS: Final = 12
PRICE_BOUNDS: Final = (0.08, 0.15)
OUTPUT_BOUNDS: Final = (0.05, 0.10)
CHIP_HS: Final = "854231"
NOTICE_EVENT: Final = "E2023GRAPHITE"
REPOSITORY_DATA: Final = Path(__file__).resolve().parents[2] / "examples" / "data"

_LEVELS: Final = (pb.STATUS_LEVEL_NORMAL, pb.STATUS_LEVEL_WATCH, pb.STATUS_LEVEL_STRAINED)
_WORLD_BANK: Final = pb.Source(
    name="World Bank Pink Sheet, June 2026",
    origin="worldbank.org/commodity-markets",
    reliability=pb.RELIABILITY_A,
    credibility=pb.CREDIBILITY_2,
    credit="The World Bank, Commodity Price Data (The Pink Sheet), CC BY 4.0",
)
_FED: Final = pb.Source(
    name="Federal Reserve G.17, NAICS 3344",
    origin="federalreserve.gov/releases/g17",
    reliability=pb.RELIABILITY_A,
    credibility=pb.CREDIBILITY_2,
    credit="Board of Governors of the Federal Reserve System (US), G.17, by way of FRED; public domain",
)
_NOTICE: Final = pb.Source(
    # The date and the codes were seen in published pages; the text of the notice itself was not read.
    name="press and official pages, by way of examples/data/events.csv",
    origin=NOTICE_EVENT,
    reliability=pb.RELIABILITY_B,
    credibility=pb.CREDIBILITY_2,
)

RandomBytes = Callable[[int], bytes]


class MonthlyReport(NamedTuple):
    """One report with the month it is about ("2023-10") and the channel it belongs on."""

    month: str
    channel: str
    report: pb.Report


def data_dir() -> Path:
    """examples/data of this repository, or below the current directory.

    Raises:
        UsageError: It is at neither place: the package was installed without the repository.
    """
    for path in (REPOSITORY_DATA, Path.cwd() / "examples" / "data"):
        if (path / "world_bank_prices.csv").is_file():
            return path
    raise UsageError(
        "no examples/data with the demonstration's figures here",
        hint="run it in a clone of the repository, or name the folder",
    )


def monthly_reports(
    folder: Path | None = None,
    *,
    now_ms: int,
    since: str = "",
    until: str = "9999-12",
    random: RandomBytes = secrets.token_bytes,
) -> Iterator[tuple[str, list[MonthlyReport]]]:
    """The published figures as reports, month by month, oldest first; at most nine a month.

    Args:
        folder: Where the CSV files are; None = data_dir().
        now_ms: Milliseconds UTC, for the ids of the reports.
        since: First month wanted, "2019-01"; empty = 1990-01. Baselines still use the months before.
        until: Last month wanted.
        random: Gives that many fresh random bytes.

    Raises:
        UsageError: A file is missing.
        ReportError: The files hold something that is no valid report.
    """
    folder = folder or data_dir()
    months: dict[str, list[MonthlyReport]] = defaultdict(list)
    for one in [*_prices(folder), *_output(folder)]:
        if since <= one.month <= until:
            months[one.month].append(one)
    for month in sorted(months):
        for one in months[month]:
            one.report.id = new_report_id(now_ms, random(10))
            validate(one.report, now_ms=now_ms)
        yield month, months[month]


def control_notice(
    folder: Path | None = None, *, now_ms: int, random: RandomBytes = secrets.token_bytes
) -> MonthlyReport:
    """China's export control on graphite, public on 20 October 2023, in force from 1 December 2023.

    Raises:
        UsageError: events.csv is missing or lacks the event.
        ReportError: It holds something that is no valid report.
    """
    rows = [row for row in _rows(folder or data_dir(), "events.csv") if row["event_id"] == NOTICE_EVENT]
    if not rows:
        raise UsageError(f"events.csv has no event {NOTICE_EVENT}", hint="take the file from the repository again")
    row = rows[0]
    codes = row["hs"].split(";")
    sentence = (
        f"{row['actor_iso2']}: export control on {row['items']} from {row['effective_date']}, "
        f"public on {row['public_date']}"
    )
    event = pb.Event(
        kind=_name("EventKind", row["kind"]),
        public_date=row["public_date"],
        start_date=row["effective_date"],
        end_date=row["ease_or_end"],
        actors=_countries(row["actor_iso2"]),
        affected=_countries(row["affected_iso2"]),
        hs=codes,
        description=[pb.Text(language="en", text=sentence)],
    )
    report = pb.Report(
        id=new_report_id(now_ms, random(10)),
        subject=pb.Subject(hs=codes[0], item=f"natural {row['items']}", stage=pb.STAGE_MINERAL),
        place=pb.Place(country=row["actor_iso2"]),
        # Nothing is short on the day of a notice; the engine, not the reporter, says how urgent it is.
        level=pb.STATUS_LEVEL_WATCH,
        events=[event],
        sources=[_NOTICE],
        summary=[pb.Text(language="en", text=f"Control notice. {sentence}.")],
    )
    report = clean_report(report)
    validate(report, now_ms=now_ms)
    return MonthlyReport(row["public_date"][:7], "minerals", report)


def _rows(folder: Path, name: str) -> list[dict[str, str]]:
    try:
        with (folder / name).open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        raise UsageError(f"{folder / name} is missing", hint="take the folder from the repository again") from None


def _name(enum: str, word: str) -> str:
    number = enum_number(pb.DESCRIPTOR.enum_types_by_name[enum], word)
    if number is None:
        raise UsageError(f'"{word}" is no {enum}', hint="take the file from the repository again")
    return str(pb.DESCRIPTOR.enum_types_by_name[enum].values_by_number[number].name)


def _countries(cell: str) -> list[str]:
    return [] if cell == "*" else cell.split(";")


def _level(
    value: float, before: list[float], bounds: tuple[float, float], *, sign: int
) -> tuple[pb.StatusLevel, float | None]:
    """The level and the baseline; `sign` is +1 where a rise strains supply, -1 where a fall does."""
    if len(before) < BASELINE_MONTHS:
        return pb.STATUS_LEVEL_NORMAL, None
    baseline = fmean(before[-BASELINE_MONTHS:])
    deviation = sign * (value / baseline - 1)
    return _LEVELS[sum(deviation >= bound for bound in bounds)], baseline


def _indicator(
    kind: pb.IndicatorKind,
    value: float,
    baseline: float | None,
    *,
    unit: str,
    period: str,
    currency: str = "",
    market: str = "MARKET_UNSPECIFIED",
) -> pb.Indicator:
    indicator = pb.Indicator(kind=kind, value=value, unit=unit, period=period, currency=currency, market=market)
    if baseline is not None:
        indicator.baseline = round(baseline, 6)
        indicator.baseline_note = "mean of the 12 months before"
    return indicator


def _sentence(what: str, value: float, baseline: float | None) -> pb.Text:
    change = f", {value / baseline - 1:+.1%} on the mean of the 12 months before" if baseline else ""
    return pb.Text(language="en", text=what + change + ".")


def _prices(folder: Path) -> Iterator[MonthlyReport]:
    series = {row["series"]: row for row in _rows(folder, "series.csv")}
    history: dict[str, list[float]] = defaultdict(list)
    for row in _rows(folder, "world_bank_prices.csv"):
        about = series[row["series"]]
        value = round(float(row["value"]) * float(about["factor"]), 6)
        before = history[row["series"]]
        level, baseline = _level(value, before, PRICE_BOUNDS, sign=1)
        before.append(value)
        indicator = _indicator(
            pb.INDICATOR_KIND_PRICE,
            value,
            baseline,
            unit=about["unit"],
            period=row["month"],
            currency="USD",
            market=_name("Market", about["market"]),
        )
        report = pb.Report(
            subject=pb.Subject(hs=about["hs"], item=about["item"], stage=_name("Stage", about["stage"])),
            level=level,
            indicators=[indicator],
            sources=[_WORLD_BANK],
            summary=[
                _sentence(f"{about['item']}: {value:,.2f} USD/{about['unit']} in {row['month']}", value, baseline)
            ],
        )
        if about["country"]:
            report.place.country = about["country"]
        yield MonthlyReport(row["month"], about["channel"], report)


def _output(folder: Path) -> Iterator[MonthlyReport]:
    before: list[float] = []
    for row in _rows(folder, "us_semiconductor_output_monthly.csv"):
        value, month = float(row["ip_index"]), row["month"]
        level, baseline = _level(value, before, OUTPUT_BOUNDS, sign=-1)
        before.append(value)
        percent = round(float(row["utilisation"]) * 100, 2)
        report = pb.Report(
            subject=pb.Subject(hs=CHIP_HS, item="chips and other electronic components", stage=pb.STAGE_CHIP),
            place=pb.Place(country="US"),
            level=level,
            indicators=[
                _indicator(pb.INDICATOR_KIND_OUTPUT, value, baseline, unit="C62", period=month),
                _indicator(pb.INDICATOR_KIND_CAPACITY, float(row["capacity_index"]), None, unit="C62", period=month),
                _indicator(pb.INDICATOR_KIND_UTILISATION, percent, None, unit="P1", period=month),
            ],
            sources=[_FED],
            summary=[
                _sentence(f"US chip output {value:.1f} (2017 = 100), {percent:.0f} % used, {month}", value, baseline)
            ],
        )
        yield MonthlyReport(month, "chips", report)
