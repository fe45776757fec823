"""Filing: the board in the desk's encrypted file. Groups are loaded when a report touches them, and dropped again.

What is filed of each report: the reference that alerts name it by, its marking, and the groups it touched.
"""

import json
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from exchange.desk.archive import Archive
from exchange.report import clean_report
from exchange.v1 import report_pb2 as pb
from exchange.watch import intake, stored
from exchange.watch.alerts import Cited
from exchange.watch.board import Board, Group, Update, group_of
from exchange.watch.intake import mission_of
from exchange.watch.series import Series, SeriesKey
from exchange.watch.thresholds import Thresholds
from keys.v1 import documents_pb2 as docs

MAX_FIGURES: Final = 4096
FIGURES: Final = frozenset(
    [
        *(pb.INDICATOR_KIND_COVER, pb.INDICATOR_KIND_STOCK, pb.INDICATOR_KIND_TRANSIT_TIME),
        *(pb.INDICATOR_KIND_SUPPLIER_SHARE, pb.INDICATOR_KIND_DEMAND),
    ]
)
MAX_LOADED: Final = 4096  # series in memory: some 60 MB with their views


@dataclass(frozen=True, slots=True)
class Report:
    """A report as it came: where it stands, who may read it."""

    sender: str
    digest: bytes
    marking: int
    envelope: bytes
    index: int
    report: pb.Report = field(repr=False)
    named: tuple[str, ...] = ()


def cited_of(one: Report) -> Cited:
    """A report as an alert cites it."""
    reference = pb.Reference(sender=one.sender, id=one.report.id, digest=one.digest)
    return Cited(reference, one.marking, clean_report(one.report), frozenset(one.named))


class Filing:
    """The board and what is on disk of it.

    Args:
        archive: Of the desk.
        thresholds: Of the annex, or the built-in ones.
        max_loaded: Series kept in memory.
    """

    def __init__(self, archive: Archive, thresholds: Thresholds, *, max_loaded: int = MAX_LOADED) -> None:
        self._archive, self._most = archive, max_loaded
        self.board = Board(thresholds)
        self._loaded: OrderedDict[Group, None] = OrderedDict()
        self._figures: dict[SeriesKey, Series] | None = None
        self._red: set[bytes] | None = None

    def use(self, thresholds: Thresholds) -> None:
        """Other thresholds from now on; groups are scored again when they are next looked at."""
        self.board, self._loaded = Board(thresholds), OrderedDict()

    def take(self, one: Report, *, received_ms: int) -> Update:
        """File a report; inside a transaction of the archive."""
        mission = mission_of(one.sender)
        taken = intake.readings(one.report, sender=one.sender, received_ms=received_ms, now_ms=received_ms)
        groups = dict.fromkeys(group_of(reading.key) for reading in taken.readings)
        for old in intake.replaced(one.report):
            groups |= dict.fromkeys(Group(*group) for group in (self._row(mission, old) or {}).get("groups", ()))
        for group in groups:
            self.load(group)
        update = self.board.take(one.report, sender=one.sender, received_ms=received_ms, now_ms=received_ms)
        for group in update.groups:
            for series in self.board.of_group(group):
                # Of the others of the group nothing changed: only this mission's series can have.
                if series.key.reporter == mission:
                    self._put(series)
        self._put_row(mission, one, update.groups)
        return update

    def load(self, group: Group) -> None:
        """Bring a group into memory; the ones not used for longest go beyond the bound."""
        if group in self._loaded:
            self._loaded.move_to_end(group)
            return
        self.board.restore(stored.from_bytes(data) for data in self._archive.sheets("series", _name(group)))
        self._loaded[group] = None
        count = sum(len(self.board.of_group(one)) for one in self._loaded)
        while count > self._most and len(self._loaded) > 1:
            oldest, _ = self._loaded.popitem(last=False)
            count -= len(self.board.of_group(oldest))
            self.board.drop(oldest)

    def loaded(self) -> int:
        """How many series are in memory."""
        return sum(len(self.board.of_group(one)) for one in self._loaded)

    def series(self, group: Group) -> list[Series]:
        """The series of a group."""
        self.load(group)
        return self.board.of_group(group)

    def figures(self) -> list[Series]:
        """Series of stocks, cover, transit and shares: what the exposure of an item is reckoned from.

        Without what came marked RED: an assessment that used it could be told to nobody else.
        """
        if self._figures is None:
            every = (stored.from_bytes(data) for data in self._archive.sheets("figure", ""))
            self._figures = {series.key: series for series in every}
        if self._red is None:
            self._red = set(self._archive.sheets("red", ""))
        red = self._red
        if not red:
            return list(self._figures.values())
        return [
            replace(one, observations=tuple(o for o in one.observations if o.value is None or o.report not in red))
            for one in self._figures.values()
        ]

    def _put(self, series: Series) -> None:
        group = _name(group_of(series.key))
        if series.key.indicator in FIGURES:
            self.figures()
            if self._figures is not None and len(self._figures) < MAX_FIGURES:
                self._figures[series.key] = series
                self._archive.put_sheet("figure", "\n".join(map(str, series.key)), stored.to_bytes(series))
        self._archive.put_sheet("series", "\n".join(map(str, series.key)), stored.to_bytes(series), bucket=group)

    def _put_row(self, mission: str, one: Report, groups: Sequence[Group]) -> None:
        row = {
            "sender": one.sender, "digest": one.digest.hex(), "marking": one.marking, "envelope": one.envelope.hex(),
            "index": one.index, "groups": [list(group) for group in groups], "named": list(one.named),
        }  # fmt: skip
        name = f"{mission}\n{bytes(one.report.id).hex()}"
        if self._archive.sheet("report", name) is None:
            self._archive.put_sheet("report", name, json.dumps(row).encode())
            if one.marking == docs.MARKING_RED and any(group.indicator in FIGURES for group in groups):
                self.figures()
                self._archive.put_sheet("red", name, bytes(one.report.id))
                if self._red is not None:
                    self._red.add(bytes(one.report.id))

    def _row(self, mission: str, report: bytes) -> dict[str, Any] | None:
        data = self._archive.sheet("report", f"{mission}\n{report.hex()}")
        row: dict[str, Any] | None = None if data is None else json.loads(data)
        return row

    def cited(self, reports: Iterable[bytes], group: Group) -> list[Cited]:
        """The reports behind an alarm, as an alert cites them."""
        by_report: dict[bytes, set[str]] = {}
        for series in self.series(group):
            for one in series.observations:
                by_report.setdefault(one.report, set()).add(series.key.reporter)
        out = []
        for report in reports:
            for mission in sorted(by_report.get(report, ())):
                if (found := self.cite(mission, report)) is not None:
                    out.append(found)
        return out

    def cite(self, mission: str, report: bytes) -> Cited | None:
        """One report, as an alert cites it; None if it was not filed."""
        row = self._row(mission, report)
        if row is None:
            return None
        item = pb.Item.FromString(self._archive.content(bytes.fromhex(row["envelope"])).items[row["index"]])
        envelope, digest = bytes.fromhex(row["envelope"]), bytes.fromhex(row["digest"])
        named = tuple(row["named"])
        return cited_of(Report(row["sender"], digest, row["marking"], envelope, row["index"], item.report, named))


def _name(group: Group) -> str:
    return f"{group.item}\n{group.indicator}\n{group.market}"
