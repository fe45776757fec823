"""Tables for back-tests: CSV text to series. A table is taken whole or not at all; the first fault is named by row.

Prices: month, series, value, unit and, if there, source. Trade: month, hs6, partner, value_usd, quantity_kg.
Events: event_id, public_date, effective_date, hs (as examples/data/events.csv). Other columns are not read.
An empty value is absent; 0 is zero.
"""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from exchange.text import printable
from exchange.watch.errors import WatchInputError
from exchange.watch.months import month_number
from exchange.watch.rolling import Floats

PRICE_COLUMNS: Final = ("month", "series", "value", "unit")
TRADE_COLUMNS: Final = ("month", "hs6", "partner", "value_usd", "quantity_kg")
EVENT_COLUMNS: Final = ("event_id", "public_date", "effective_date", "hs")
MAX_ROWS: Final = 2_000_000
MAX_MONTHS: Final = 12 * 200


@dataclass(frozen=True, slots=True, eq=False)
class Monthly:
    """One monthly series.

    Args:
        name: Its name.
        first: Number of its first month (exchange.watch.months).
        values: Shape (months,), oldest first, without holes in time; NaN = absent.
        unit: As given.
        source: As given; empty if the table has none.
    """

    name: str
    first: int
    values: Floats
    unit: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class TradeTable:
    """The imports of one item by several reporters (partner countries): shape (reporters, months), NaN = absent."""

    hs: str
    first: int
    reporters: tuple[str, ...]
    values: Floats
    unit: str


@dataclass(frozen=True, slots=True)
class DatedEvent:
    """An event that a pooled alarm may be about: month it became public, month it took effect, HS codes."""

    id: str
    public: int
    effective: int
    hs: tuple[str, ...]


def read_prices(text: str) -> list[Monthly]:
    """The series of a price table, sorted by name.

    Raises:
        WatchInputError: A column is missing, a month is none, a value is no finite number, a unit changes within a
            series, or a month is there twice.
    """
    cells: dict[str, dict[int, float]] = {}
    about: dict[str, tuple[str, str]] = {}
    for number, row in _rows(text, PRICE_COLUMNS):
        name, unit = row["series"], row["unit"]
        known, _ = about.setdefault(name, (unit, row.get("source", "")))
        if known != unit:
            raise _fault(number, "unit", f"{unit} after {known} in one series")
        _put(cells.setdefault(name, {}), number, row["month"], _number(number, "value", row["value"]))
    out = []
    for name in sorted(cells):
        first, values = _filled(name, cells[name])
        out.append(Monthly(name, first, values, *about[name]))
    return out


def read_trade(text: str) -> list[TradeTable]:
    """The items of a trade table, sorted by code; quantities, or values where an item has no quantity at all.

    Raises:
        WatchInputError: As read_prices, and for negative trade.
    """
    quantity: dict[str, dict[str, dict[int, float]]] = {}
    value: dict[str, dict[str, dict[int, float]]] = {}
    for number, row in _rows(text, TRADE_COLUMNS):
        for table, column in ((quantity, "quantity_kg"), (value, "value_usd")):
            cell = _number(number, column, row[column])
            if cell < 0:
                raise _fault(number, column, "is below 0")
            cells = table.setdefault(row["hs6"], {}).setdefault(row["partner"], {})
            _put(cells, number, row["month"], cell)
    out = []
    for hs in sorted(quantity):
        has_quantity = any(v > 0 for months in quantity[hs].values() for v in months.values())
        out.append(_trade(hs, quantity[hs] if has_quantity else value[hs], "kg" if has_quantity else "USD"))
    return out


def read_events(text: str) -> list[DatedEvent]:
    """The events of an event table.

    Raises:
        WatchInputError: A column is missing or a date is none.
    """
    out = []
    for number, row in _rows(text, EVENT_COLUMNS):
        public, effective = month_number(row["public_date"][:7]), month_number(row["effective_date"][:7])
        if public is None or effective is None:
            raise _fault(number, "public_date", "public_date and effective_date need a month, such as 2023-10-20")
        codes = tuple(code.strip() for code in row["hs"].split(";") if code.strip())
        out.append(DatedEvent(row["event_id"], public, effective, codes))
    return out


def _fault(row: int, column: str, what: str) -> WatchInputError:
    return WatchInputError(f"row {row}, {column}: {printable(what, max_chars=200)}", row=row, column=column)


def _rows(text: str, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    header: list[str] | None = None
    try:
        for number, cells in enumerate(reader, start=1):
            if header is None:
                header = [cell.strip().lower() for cell in cells]
                for column in columns:
                    if header.count(column) != 1:
                        raise _fault(1, column, "this column is missing, or there twice")
            elif any(cell.strip() for cell in cells):
                if number > MAX_ROWS:
                    raise _fault(number, "", f"more than {MAX_ROWS} rows")
                if len(cells) != len(header):
                    raise _fault(number, "", f"has {len(cells)} cells, the header has {len(header)}")
                yield number, dict(zip(header, (cell.strip() for cell in cells), strict=True))
    except csv.Error as error:
        raise _fault(reader.line_num, "", f"is not CSV: {error}") from None
    if header is None:
        raise _fault(1, "", "the table is empty")


def _number(row: int, column: str, cell: str) -> float:
    if not cell:
        return math.nan
    try:
        value = float(cell)
    except ValueError:
        raise _fault(row, column, f'"{cell}" is not a number') from None
    if not math.isfinite(value) or "_" in cell:
        raise _fault(row, column, f'"{cell}" is not a finite number; leave an absent value empty')
    return value


def _put(cells: dict[int, float], row: int, month: str, value: float) -> None:
    number = month_number(month)
    if number is None:
        raise _fault(row, "month", f'"{month}" is not a month such as 2023-11')
    if number in cells:
        raise _fault(row, "month", f"{month} is there twice for this series")
    cells[number] = value


def _filled(
    name: str, cells: dict[int, float], first: int | None = None, last: int | None = None
) -> tuple[int, Floats]:
    first, last = min(cells) if first is None else first, max(cells) if last is None else last
    if last - first >= MAX_MONTHS:
        raise WatchInputError(f"{printable(name, max_chars=60)} spans more than {MAX_MONTHS} months")
    values = np.full(last - first + 1, np.nan)
    for month, value in cells.items():
        values[month - first] = value
    return first, values


def _trade(hs: str, cells: dict[str, dict[int, float]], unit: str) -> TradeTable:
    months = [month for one in cells.values() for month in one]
    first, last = min(months), max(months)
    names = tuple(sorted(cells))
    rows = [_filled(hs, cells[name], first, last)[1] for name in names]
    return TradeTable(hs, first, names, np.stack(rows), unit)
