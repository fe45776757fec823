"""Reports from files: CSV, JSON and JSON Lines. A file is taken whole or not at all; every fault is named.

**CSV**: UTF-8, comma, quotes doubled inside quotes, a header with these names in any order; one row is one report.

    hs             HS 2022, 6 digits, or 8 or 10 with hs_country; dots allowed; required column, may be empty
    hs_country     country of the tariff (ISO 3166-1, or EU) for 8 and 10 digits
    item           required; name of the item
    stage          required column; mineral, material, wafer, equipment, chip, packaging
    country        required column; ISO 3166-1 alpha-2; empty = the world
    locode, place  UN/LOCODE; name of plant or port
    level          required; normal, watch, strained, disrupted, halted
    indicator      price, stock, cover, output, capacity, utilisation, imports, exports, orders, demand, lead_time,
                   transit_time, supplier_share, concentration; then value, unit and period are required
    market         domestic, export, import, world
    value          a number with a point, no thousands separators: 1528.25
    unit           Recommendation 20 code: TNE; for a price currency/unit: USD/TNE; for money: USD
    period         2023, 2023-11, 2023-W47 or 2023-11-20
    baseline       what would be usual, in the same unit
    publication_lag_days   days from the end of the period until the number was published
    event          export_control, outage, ... (EventKind); then public_date or start_date is required
    public_date, start_date, end_date      2023-10-20 or 2023-10
    actors, affected   ISO 3166-1 codes, separated by semicolons or spaces
    reference      number of the measure
    summary        English; summary_ko, summary_nl and so on for other languages
    source         who says so; then origin, reliability (A-F), credibility (1-6), url, credit may follow
    company, lei   name of the firm it is about; its Legal Entity Identifier (ISO 17442)
    id             UUIDv7; made when empty or left out

**JSON**: one object or a list of objects in the shape of exchange.report.shape. **JSON Lines**: one object a line.
"""

import csv
import io
import json
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from exchange.report.faults import MAX_PROBLEMS, Problem, RowError, RowErrors
from exchange.report.rules import new_report_id, problems
from exchange.report.shape import report_of
from exchange.text import printable
from exchange.units import CURRENCIES
from exchange.v1 import report_pb2 as pb

MAX_FILE_CHARS: Final = 64 * 1024 * 1024  # holds MAX_ROWS rows of 640 characters
MAX_ROWS: Final = 100_000
REQUIRED_COLUMNS: Final = ("hs", "item", "stage", "country", "level")
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?\Z")
_SUMMARY: Final = re.compile(r"summary_([A-Za-z-]{2,12})\Z")
_INDICATOR_COLUMNS: Final = ("indicator", "market", "value", "unit", "period", "baseline", "publication_lag_days")
_EVENT_COLUMNS: Final = ("event", "public_date", "start_date", "end_date", "actors", "affected", "reference")
_SOURCE_COLUMNS: Final = ("source", "origin", "reliability", "credibility", "url", "credit")
COLUMNS: Final = (
    *REQUIRED_COLUMNS,
    *("hs_country", "locode", "place"),
    *_INDICATOR_COLUMNS,
    *_EVENT_COLUMNS,
    "summary",
    *_SOURCE_COLUMNS,
    *("company", "lei"),
    "id",
)
# Field paths of a report, back to the column they came from.
_COLUMN_OF: Final[dict[str, str]] = {
    "place.name": "place",
    "indicators[0].kind": "indicator",
    "indicators[0].currency": "unit",
    "events[0].kind": "event",
    "sources[0].name": "source",
    "companies[0].name": "company",
}

RandomBytes = Callable[[int], bytes]


class _Row(NamedTuple):
    """One row as read: its number, its content (a mapping, if it is sound), and what could not be read in it."""

    number: int
    data: object
    faults: Sequence[Problem] = ()


def read_csv(text: str | bytes, *, now_ms: int, random: RandomBytes = secrets.token_bytes) -> list[pb.Report]:
    """The reports in a CSV file, in order: all of them, or none.

    Args:
        text: The file; bytes are UTF-8, a byte order mark is allowed.
        now_ms: Milliseconds UTC: for ids, and to refuse periods in the future.
        random: Gives that many fresh random bytes.

    Raises:
        RowErrors: Lists every row (the header is row 1), column and fault.
    """
    return _reports(_csv_rows(_decoded(text)), now_ms, random, column_of=_column)


def read_json(text: str | bytes, *, now_ms: int, random: RandomBytes = secrets.token_bytes) -> list[pb.Report]:
    """The reports in a JSON text, an object or a list of objects: all of them, or none.

    Raises:
        RowErrors: Lists every faulty object, counted from 1, with the path of the field as column.
    """
    try:
        data = _loads(_decoded(text))
    except _JsonError as error:
        raise RowErrors([RowError(error.line, "", str(error))]) from None
    objects = data if isinstance(data, list) else [data]
    rows = (_Row(number, data) for number, data in enumerate(objects, start=1))
    return _reports(rows, now_ms, random, column_of=str)


def read_json_lines(text: str | bytes, *, now_ms: int, random: RandomBytes = secrets.token_bytes) -> list[pb.Report]:
    """The reports in a JSON Lines text, one object a line, empty lines skipped: all of them, or none.

    Raises:
        RowErrors: Lists every faulty line, with the path of the field as column.
    """
    return _reports(_json_lines(_decoded(text)), now_ms, random, column_of=str)


class _JsonError(ValueError):
    """Not JSON as we take it; `line` counts from 1."""

    def __init__(self, text: str, line: int = 1) -> None:
        super().__init__(text)
        self.line = line


def _decoded(data: str | bytes) -> str:
    if isinstance(data, str):
        text = data
    else:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            row = data.count(b"\n", 0, error.start) + 1
            raise RowErrors([RowError(row, "", "is not UTF-8; save the file as UTF-8")]) from None
    if len(text) > MAX_FILE_CHARS:
        raise RowErrors([RowError(1, "", f"the file has more than {MAX_FILE_CHARS} characters; split it")])
    return text.removeprefix("\ufeff")


def _reports(
    rows: Iterable[_Row], now_ms: int, random: RandomBytes, *, column_of: Callable[[str], str]
) -> list[pb.Report]:
    reports: list[pb.Report] = []
    faults: list[RowError] = []
    first_row: dict[bytes, int] = {}
    for row, data, unread in rows:
        if len(faults) >= MAX_PROBLEMS:
            break
        if len(reports) >= MAX_ROWS:
            faults.append(RowError(row, "", f"more than {MAX_ROWS} reports; split the file"))
            break
        if not isinstance(data, Mapping):
            faults.extend(RowError(row, problem.field, problem.text) for problem in unread)
            if not unread:
                faults.append(RowError(row, "", "is not an object"))
            continue
        report, misread = report_of(data, new_id=new_report_id(now_ms, random(10)))
        found = [RowError(row, column_of(problem.field), problem.text) for problem in (*unread, *misread)]
        named = {fault.column for fault in found}
        for problem in problems(report, now_ms=now_ms):
            # What could not be read is missing to the rules; it is named once.
            if column_of(problem.field) not in named:
                found.append(RowError(row, column_of(problem.field), problem.text))
        faults.extend(found)
        if report.id in first_row:
            faults.append(RowError(row, "id", f"is the id of row {first_row[report.id]} too"))
        first_row.setdefault(report.id, row)
        reports.append(report)
    if faults:
        raise RowErrors(faults)
    return reports


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Two values under one name: which one counts differs between readers, so neither does.
    out = dict(pairs)
    if len(out) != len(pairs):
        raise _JsonError("a name stands twice in one object")
    return out


def _constant(name: str) -> float:
    raise _JsonError(f"{name} is not a number")


def _loads(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_pairs, parse_constant=_constant)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise _JsonError(f"is not JSON: {error.msg} at {where}", error.lineno) from None
    except RecursionError:
        raise _JsonError("is nested too deeply") from None
    except ValueError as error:
        if isinstance(error, _JsonError):
            raise
        raise _JsonError("has a number with too many digits") from None


def _json_lines(text: str) -> Iterator[_Row]:
    # Not splitlines(): U+2028 and others may stand inside JSON strings.
    for row, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield _Row(row, _loads(line))
        except _JsonError as error:
            yield _Row(row, None, [Problem("", str(error))])


def _column(path: str) -> str:
    if path in _COLUMN_OF:
        return _COLUMN_OF[path]
    if path.startswith("summary"):
        return "summary"
    return re.sub(r"\[[0-9]+\]\Z", "", path.rsplit(".", 1)[-1]) if path else ""


def _csv_rows(text: str) -> Iterator[_Row]:
    # newline="" as the csv module wants it; strict, so that a stray quote is an error and not a guess.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    row = 0
    header: list[str] = []
    while True:
        row += 1
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            yield _Row(row, None, [Problem("", f"is not CSV: {error}")])
            return
        if row == 1:
            header = [cell.strip().lower() for cell in cells]
            wrong = list(_header_faults(header))
            if wrong:
                yield _Row(row, None, wrong)
                return
        elif cells and any(cell.strip() for cell in cells):
            if len(cells) != len(header):
                yield _Row(row, None, [Problem("", f"has {len(cells)} cells, the header has {len(header)}")])
            else:
                yield _csv_row(row, dict(zip(header, (cell.strip() for cell in cells), strict=True)))
    if row == 1:
        yield _Row(1, None, [Problem("", "the file is empty: no header")])


def _header_faults(header: list[str]) -> Iterator[Problem]:
    for name in REQUIRED_COLUMNS:
        if name not in header:
            yield Problem(name, "this column is missing")
    for name in dict.fromkeys(header):
        shown = printable(name, max_chars=60)
        if name not in COLUMNS and not _SUMMARY.match(name):
            yield Problem(shown, "is not a column; see the list in the documentation")
        elif header.count(name) > 1:
            yield Problem(shown, "this column is there twice")


def _csv_row(number: int, row: dict[str, str]) -> _Row:
    """A CSV row in the JSON shape."""
    faults: list[Problem] = []

    def given(*names: str) -> dict[str, str]:
        return {name: row[name] for name in names if row.get(name)}

    data: dict[str, Any] = {"subject": given("hs", "hs_country", "item", "stage"), **given("id", "level")}
    place: dict[str, str] = given("country", "locode")
    if row.get("place"):
        place["name"] = row["place"]
    if place:
        data["place"] = place
    if given(*_INDICATOR_COLUMNS):
        data["indicators"] = [_indicator(row, faults)]
    if given(*_EVENT_COLUMNS):
        event: dict[str, Any] = given("public_date", "start_date", "end_date", "reference")
        event |= {name: re.split(r"[;\s]+", value) for name, value in given("actors", "affected").items()}
        data["events"] = [event | _renamed(row, "event", "kind", faults)]
    if given(*_SOURCE_COLUMNS):
        source: dict[str, Any] = given("origin", "reliability", "credibility", "url", "credit")
        data["sources"] = [source | _renamed(row, "source", "name", faults)]
    company = given("lei")
    if row.get("company"):
        company["name"] = row["company"]
    if company:
        data["companies"] = [company]
    texts = {"en": row["summary"]} if row.get("summary") else {}
    for name, value in row.items():
        if value and (found := _SUMMARY.match(name)):
            texts[found[1]] = value
    if texts:
        data["summary"] = texts
    return _Row(number, data, faults)


def _renamed(row: Mapping[str, str], column: str, field: str, faults: list[Problem]) -> dict[str, str]:
    if row.get(column):
        return {field: row[column]}
    faults.append(Problem(column, "is empty, but columns that describe it are not"))
    return {}


def _indicator(row: Mapping[str, str], faults: list[Problem]) -> dict[str, Any]:
    out: dict[str, Any] = _renamed(row, "indicator", "kind", faults)
    for name in ("market", "period"):
        if row.get(name):
            out[name] = row[name]
    for name in ("value", "baseline"):
        cell = row.get(name, "")
        if cell:
            if _NUMBER.match(cell):
                out[name] = float(cell)
            else:
                faults.append(Problem(name, "is not a number such as 1528.25 (a point, no separators, not nan or inf)"))
        elif name == "value":
            faults.append(Problem(name, "is empty; a number that is not known is no indicator"))
    if lag := row.get("publication_lag_days", ""):
        if lag.isascii() and lag.isdigit() and len(lag) < 6:
            out["publication_lag_days"] = int(lag)
        else:
            faults.append(Problem("publication_lag_days", "is not a whole number of days"))
    unit = row.get("unit", "")
    if not unit:
        faults.append(Problem("unit", "is empty"))
    elif "/" in unit:
        out["currency"], out["unit"] = (part.strip() for part in unit.split("/", 1))
    else:
        out["currency" if unit in CURRENCIES else "unit"] = unit
    if not row.get("period"):
        faults.append(Problem("period", "is empty"))
    return out
