"""The example data: every row becomes a valid, credited report; the files say what may be shipped."""

import csv
from pathlib import Path

import pytest

from exchange.demo.data import control_notice, data_dir, monthly_reports
from exchange.units import UNITS
from exchange.v1 import report_pb2 as pb
from keys.errors import UsageError

NOW = 1_795_500_000_000  # 24 November 2026


def test_every_row_becomes_a_credited_report() -> None:
    months = list(monthly_reports(now_ms=NOW))
    everything = [one for _, reports in months for one in reports]
    assert [month for month, _ in months] == sorted({one.month for one in everything})
    assert len(months) == 437
    assert len(everything) == 437 * 9
    assert {one.channel for one in everything} == {"minerals", "chips"}
    assert all(one.report.sources[0].credit for one in everything)
    assert len({one.report.id for one in everything}) == len(everything)


def test_a_span_keeps_its_baselines() -> None:
    (only,) = monthly_reports(now_ms=NOW, since="2021-10", until="2021-10")
    month, reports = only
    assert month == "2021-10"
    levels = {one.report.subject.item: one.report.level for one in reports}
    assert levels["aluminium, unwrought"] == pb.STATUS_LEVEL_STRAINED  # 2,934 USD/t, 32 % above its 12-month mean
    assert all(one.report.indicators[0].HasField("baseline") for one in reports)


def test_the_notice_is_dated_and_on_minerals() -> None:
    notice = control_notice(now_ms=NOW)
    event = notice.report.events[0]
    assert (notice.month, notice.channel) == ("2023-10", "minerals")
    assert (event.kind, event.public_date, event.start_date) == (
        pb.EVENT_KIND_EXPORT_CONTROL,
        "2023-10-20",
        "2023-12-01",
    )
    assert list(event.hs) == ["250410", "380110"]


def test_a_missing_folder_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="missing"):
        list(monthly_reports(tmp_path, now_ms=NOW))
    with pytest.raises(UsageError, match="missing"):
        control_notice(tmp_path, now_ms=NOW)


def test_the_series_table_fits_the_code_lists() -> None:
    with (data_dir() / "series.csv").open(encoding="utf-8") as file:
        series = list(csv.DictReader(file))
    with (data_dir() / "hs_codes.csv").open(encoding="utf-8") as file:
        stages = {row["hs6"]: row["stage"] for row in csv.DictReader(file)}
    for row in series:
        assert row["unit"] in UNITS
        assert stages.get(row["hs"], row["stage"]) == row["stage"]


def test_every_file_has_its_source() -> None:
    sources = (data_dir() / "SOURCES.md").read_text(encoding="utf-8")
    for path in data_dir().glob("*.csv"):
        assert f"`{path.name}`" in sources
