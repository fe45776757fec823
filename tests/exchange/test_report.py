"""Reports: rules, JSON shape, and readers that take all of a file or nothing."""

import json
import math
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.report import (
    MAX_REPORT_BYTES,
    ReportError,
    RowErrors,
    clean_report,
    from_dict,
    new_report_id,
    problems,
    read_csv,
    read_json,
    read_json_lines,
    to_dict,
    validate,
)
from exchange.report.periods import period_start_ms
from exchange.report.readers import COLUMNS, REQUIRED_COLUMNS
from exchange.v1 import report_pb2 as pb
from keys.errors import PeerError

NOW = int(datetime(2024, 1, 15, 12, tzinfo=UTC).timestamp() * 1000)
ID = new_report_id(NOW, bytes(range(10)))


def report() -> pb.Report:
    return pb.Report(
        id=ID,
        subject=pb.Subject(hs="250410", item="natural graphite", stage=pb.STAGE_MINERAL),
        place=pb.Place(country="CN", locode="CNTAO", name="Qingdao"),
        level=pb.STATUS_LEVEL_WATCH,
        indicators=[
            pb.Indicator(
                kind=pb.INDICATOR_KIND_PRICE, market=pb.MARKET_EXPORT, value=712.5, unit="TNE", currency="USD",
                period="2023-11", baseline=650, baseline_note="mean of the 12 months before",
            )
        ],
        events=[
            pb.Event(
                kind=pb.EVENT_KIND_EXPORT_CONTROL, public_date="2023-10-20", start_date="2023-12-01",
                actors=["CN"], hs=["250410"],
                description=[pb.Text(language="en", text="licence"), pb.Text(language="ko", text="허가")],
            )
        ],
        sources=[
            pb.Source(name="customs", reliability=pb.RELIABILITY_A, credibility=pb.CREDIBILITY_2, url="https://a.example/x")
        ],
        summary=[pb.Text(language="en", text="Exports need a licence.\nFrom December.")],
        attachments=[
            pb.Attachment(digest=b"d" * 32, key=b"k" * 32, size=9, media_type="application/pdf", name="notice.pdf")
        ],
        observe_time_ms=NOW,
        supersedes=[new_report_id(NOW - 1, bytes(10))],
    )  # fmt: skip


def test_ids_are_uuid7_and_sort_by_time() -> None:
    assert ID.hex() == "018d0cfe2a00" + "7001" + "8203" + "040506070809"[:12]
    assert new_report_id(NOW, b"\xff" * 10) < new_report_id(NOW + 1, bytes(10))
    for now, random in ((-1, bytes(10)), (1 << 48, bytes(10)), (0, bytes(9))):
        with pytest.raises(ValueError, match="UUIDv7"):
            new_report_id(now, random)


def test_a_sound_report_has_no_problems() -> None:
    assert problems(report(), now_ms=NOW) == []
    validate(report(), now_ms=NOW)
    assert clean_report(report()) == report()


def test_an_oversize_report_is_refused() -> None:
    big = report()
    big.events[0].description.extend(
        pb.Text(language="en", text="x" * 4000) for _ in range(MAX_REPORT_BYTES // 4000 + 1)
    )
    assert [problem.field for problem in problems(big, now_ms=NOW)] == [""]


def test_a_pure_withdrawal_needs_no_subject() -> None:
    validate(pb.Report(id=ID, withdraws=[new_report_id(0, bytes(10))]), now_ms=NOW)


def stock(value: float) -> pb.Indicator:
    return pb.Indicator(kind=pb.INDICATOR_KIND_STOCK, value=value, unit="TNE", period="2023")


FAULTS: list[tuple[str, Callable[[pb.Report], object]]] = [
    ("id", lambda r: setattr(r, "id", b"short")),
    ("id", lambda r: setattr(r, "id", bytes(16))),
    ("subject", lambda r: r.ClearField("subject")),
    ("subject.item", lambda r: setattr(r.subject, "item", "")),
    ("subject.item", lambda r: setattr(r.subject, "item", "x" * 201)),
    ("subject.hs", lambda r: setattr(r.subject, "hs", "25041")),
    ("subject.hs", lambda r: setattr(r.subject, "hs", "2504.10")),
    ("subject.hs", lambda r: setattr(r.subject, "hs", "770110")),
    ("subject.hs", lambda r: setattr(r.subject, "hs", "２５０４１０")),
    ("subject.hs_country", lambda r: setattr(r.subject, "hs", "25041000")),
    ("subject.hs_country", lambda r: setattr(r.subject, "hs_country", "KR")),
    ("subject.stage", lambda r: setattr(r.subject, "stage", 99)),
    ("place.country", lambda r: r.place.CopyFrom(pb.Place(country="ZZ"))),
    ("place.locode", lambda r: setattr(r.place, "locode", "KRPUS")),
    ("level", lambda r: r.ClearField("level")),
    ("level", lambda r: setattr(r, "level", 77)),
    ("indicators[0].kind", lambda r: r.indicators[0].ClearField("kind")),
    ("indicators[0].value", lambda r: setattr(r.indicators[0], "value", math.nan)),
    ("indicators[0].value", lambda r: setattr(r.indicators[0], "value", math.inf)),
    ("indicators[0].value", lambda r: setattr(r.indicators[0], "value", -0.0)),
    ("indicators[0].baseline", lambda r: setattr(r.indicators[0], "baseline", -math.inf)),
    ("indicators[0].unit", lambda r: setattr(r.indicators[0], "unit", "bananas")),
    ("indicators[0].unit", lambda r: setattr(r.indicators[0], "unit", "WEE")),
    ("indicators[0].unit", lambda r: setattr(r.indicators[0], "unit", "")),
    ("indicators[0].currency", lambda r: setattr(r.indicators[0], "currency", "ZZZ")),
    ("indicators[0].currency", lambda r: setattr(r.indicators[0], "currency", "")),
    ("indicators[0].period", lambda r: setattr(r.indicators[0], "period", "Nov 2023")),
    ("indicators[0].period", lambda r: setattr(r.indicators[0], "period", "2023-13")),
    ("indicators[0].period", lambda r: setattr(r.indicators[0], "period", "2024-02")),
    ("indicators[1].value", lambda r: r.indicators.append(stock(-1))),
    ("indicators", lambda r: r.indicators.extend(stock(1) for _ in range(64))),
    ("events[0].kind", lambda r: r.events[0].ClearField("kind")),
    ("events[0].public_date", lambda r: setattr(r.events[0], "public_date", "2024-02-01")),
    ("events[0].start_date", lambda r: setattr(r.events[0], "start_date", "2023-02-30")),
    ("events[0].end_date", lambda r: setattr(r.events[0], "end_date", "2023-11")),
    ("events[0].actors[1]", lambda r: r.events[0].actors.append("cn")),
    ("events[0].hs[1]", lambda r: r.events[0].hs.append("8542")),
    ("events[0].description[2].language", lambda r: r.events[0].description.add(language="en", text="again")),
    ("sources[0].name", lambda r: setattr(r.sources[0], "name", "")),
    ("sources[0].url", lambda r: setattr(r.sources[0], "url", "javascript:alert(1)")),
    ("sources[0].url", lambda r: setattr(r.sources[0], "url", 'https://x/"onclick=')),
    ("sources[0].reliability", lambda r: setattr(r.sources[0], "reliability", 9)),
    ("sources[0].time_ms", lambda r: setattr(r.sources[0], "time_ms", NOW + 10**9)),
    ("summary[0].language", lambda r: setattr(r.summary[0], "language", "english")),
    ("summary[0].text", lambda r: setattr(r.summary[0], "text", "")),
    ("summary[0].text", lambda r: setattr(r.summary[0], "text", "a\x1b[2J")),
    ("attachments[0].digest", lambda r: setattr(r.attachments[0], "digest", b"")),
    ("attachments[0].key", lambda r: setattr(r.attachments[0], "key", b"k")),
    ("attachments[0].media_type", lambda r: setattr(r.attachments[0], "media_type", "pdf")),
    ("attachments[0].name", lambda r: setattr(r.attachments[0], "name", "../../etc/passwd")),
    ("observe_time_ms", lambda r: setattr(r, "observe_time_ms", NOW + 10**9)),
    ("supersedes[1]", lambda r: r.supersedes.append(ID)),
    ("withdraws[0]", lambda r: r.withdraws.append(b"x")),
]


@pytest.mark.parametrize(("field", "spoil"), FAULTS)
def test_the_faulty_field_is_named(field: str, spoil: Callable[[pb.Report], object]) -> None:
    spoiled = report()
    spoil(spoiled)
    with pytest.raises(ReportError) as caught:
        validate(spoiled, now_ms=NOW)
    assert [problem.field for problem in caught.value.problems] == [field]
    assert caught.value.reason == "REPORT_BAD"


@pytest.mark.parametrize(
    ("kind", "value", "unit", "currency", "field"),
    [
        ("STOCK", 0.0, "KGM", "", None),
        ("STOCK", 1.0, "KGM", "USD", "currency"),
        ("COVER", 3.0, "WEE", "", None),
        ("COVER", 3.0, "TNE", "", "unit"),
        ("UTILISATION", 80.0, "P1", "", None),
        ("UTILISATION", 800.0, "P1", "", "value"),
        ("IMPORTS", 5.0, "", "KRW", None),
        ("IMPORTS", 5.0, "KGM", "KRW", "unit"),
        ("IMPORTS", 5.0, "", "", "unit"),
        ("SUPPLIER_SHARE", 101.0, "P1", "", "value"),
        ("CONCENTRATION", 0.9, "C62", "", None),
        ("CONCENTRATION", 9.0, "C62", "", "value"),
        ("PRICE", -37.63, "BLL", "USD", None),
    ],
)
def test_kinds_have_their_units(kind: str, value: float, unit: str, currency: str, field: str | None) -> None:
    one = report()
    one.indicators[0].CopyFrom(
        pb.Indicator(kind=f"INDICATOR_KIND_{kind}", value=value, unit=unit, currency=currency, period="2023")
    )
    found = {problem.field for problem in problems(one, now_ms=NOW)}
    assert found == ({f"indicators[0].{field}"} if field else set())


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("2023", "2023-01-01"), ("2023-11", "2023-11-01"), ("2023-W47", "2023-11-20"), ("2023-11-20", "2023-11-20"),
        ("2020-W53", "2020-12-28"), ("2023-W53", None), ("2023-00", None), ("2023-W00", None), ("23-11", None),
        ("2023-11-31", None), ("2023-11\n", None), ("٢٠٢٣", None), ("", None),
    ],
)  # fmt: skip
def test_periods(text: str, start: str | None) -> None:
    expected = None if start is None else int(datetime.fromisoformat(start).replace(tzinfo=UTC).timestamp() * 1000)
    assert period_start_ms(text) == expected


def test_tomorrow_in_seoul_is_not_the_future() -> None:
    late = int(datetime(2024, 1, 15, 20, tzinfo=UTC).timestamp() * 1000)
    one = report()
    one.indicators[0].period = "2024-01-16"
    assert problems(one, now_ms=late) == []
    one.indicators[0].period = "2024-01-17"
    assert problems(one, now_ms=late)


def test_the_shape_goes_there_and_back() -> None:
    data = json.loads(json.dumps(to_dict(report(), with_keys=True)))
    assert from_dict(data, now_ms=NOW, new_id=new_report_id(NOW, b"z" * 10)) == report()
    assert data["level"] == "watch"
    assert data["sources"][0]["reliability"] == "A"
    assert data["summary"] == {"en": "Exports need a licence.\nFrom December."}


def test_listings_hold_no_attachment_keys() -> None:
    assert "key" not in to_dict(report())["attachments"][0]
    assert (b"k" * 32).hex() not in json.dumps(to_dict(report()))


def test_other_items_have_the_shape_too() -> None:
    alert = pb.Alert(
        id=ID, severity=pb.SEVERITY_SEVERE, headline=[pb.Text(language="nl", text="Let op")], need_share=0.3
    )
    assert to_dict(pb.Item(alert=alert))["alert"] == {
        "id": "018d0cfe-2a00-7001-8203-040506070809", "severity": "severe", "headline": {"nl": "Let op"},
        "need_share": 0.3,
    }  # fmt: skip
    assert to_dict(pb.Report(level=77))["level"] == "77"  # type: ignore[arg-type]


CSV = (
    "hs,item,stage,country,level,indicator,market,value,unit,period,event,public_date,actors,summary,summary_ko,"
    "source,reliability,credibility\n"
    '2504.10,"graphite, flake",mineral,CN,watch,price,export,712.5,USD/TNE,2023-11,export_control,2023-10-20,'
    "CN; US,licence,허가,customs,A,2\n"
    "854231,MCUs,chip,,strained,lead_time,,26.6,WEE,2023-W40,,,,,,,,\n"
    "\n"
    "811292,gallium,material,CN,disrupted,exports,export,0,KGM,2023-08,,,,,,,,\n"
)


def test_csv_is_read() -> None:
    one, two, three = read_csv(("\ufeff" + CSV).encode(), now_ms=NOW)
    assert to_dict(one) == {
        "id": to_dict(one)["id"],
        "subject": {"hs": "250410", "item": "graphite, flake", "stage": "mineral"},
        "place": {"country": "CN"},
        "level": "watch",
        "indicators": [
            {"kind": "price", "market": "export", "value": 712.5, "unit": "TNE", "currency": "USD", "period": "2023-11"}
        ],
        "events": [{"kind": "export_control", "public_date": "2023-10-20", "actors": ["CN", "US"]}],
        "sources": [{"name": "customs", "reliability": "A", "credibility": "2"}],
        "summary": {"en": "licence", "ko": "허가"},
    }
    assert two.indicators[0].unit == "WEE"
    assert not two.HasField("place")
    assert three.indicators[0].value == 0
    assert len({one.id, two.id, three.id}) == 3


HEAD = "hs,item,stage,country,level,indicator,value,unit,period\n"


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("", {(1, "")}),
        ("hs,item,stage,level\n", {(1, "country")}),
        ("hs,item,stage,country,level,colour\n", {(1, "colour")}),
        ("hs,item,stage,country,level,hs\n", {(1, "hs")}),
        (HEAD + "250410,x,mineral,CN,watch,price,1\n", {(2, "")}),
        (HEAD + '250410,"x,mineral,CN,watch,price,1,USD/TNE,2023\n', {(2, "")}),
        (HEAD + "250410,x,mineral,CN,watch,,,,\n25041,,stone,ZZ,bad,stock,-1,XX,2030\n",
         {(3, c) for c in ("hs", "item", "stage", "country", "level", "value", "unit", "period")}),
        (HEAD + "250410,x,mineral,CN,watch,price,nan,USD/TNE,2023\n", {(2, "value")}),
        (HEAD + "250410,x,mineral,CN,watch,price,inf,USD/TNE,2023\n", {(2, "value")}),
        (HEAD + '250410,x,mineral,CN,watch,price,"1,528.25",USD/TNE,2023\n', {(2, "value")}),
        (HEAD + "250410,x,mineral,CN,watch,price,１２,USD/TNE,2023\n", {(2, "value")}),
        (HEAD + "250410,x,mineral,CN,watch,price,1e999,USD/TNE,2023\n", {(2, "value")}),
        (HEAD + "250410,x,mineral,CN,watch,price,-0,USD/TNE,2023\n", {(2, "value")}),
        (HEAD + "250410,x,mineral,CN,watch,price,,USD/TNE,2023\n", {(2, "value")}),
        (HEAD + "250410,x,mineral,CN,watch,price,5,TNE,2023\n", {(2, "unit")}),
        (HEAD + "250410,x,mineral,CN,watch,,5,TNE,\n", {(2, "indicator"), (2, "period")}),
        (HEAD + "250410,x,mineral,CN,watch,shine,5,TNE,2023\n", {(2, "indicator")}),
        (HEAD + "250410," + "x" * 201 + ",mineral,CN,watch,,,,\n", {(2, "item")}),
    ],
)  # fmt: skip
def test_csv_faults_name_row_and_column(text: str, faults: set[tuple[int, str]]) -> None:
    with pytest.raises(RowErrors) as caught:
        read_csv(text, now_ms=NOW)
    assert {(row.row, row.column) for row in caught.value.rows} == faults
    assert len(caught.value.rows) == len(faults)
    assert caught.value.reason == "REPORT_ROWS"
    assert isinstance(caught.value, PeerError)


def test_bytes_that_are_no_utf8_name_the_row() -> None:
    with pytest.raises(RowErrors) as caught:
        read_csv(HEAD.encode() + "250410,갈륨,mineral,CN,watch,,,,\n".encode("cp949"), now_ms=NOW)
    assert caught.value.rows[0].row == 2


def test_a_hostile_file_gives_a_bounded_list() -> None:
    with pytest.raises(RowErrors) as caught:
        read_csv(HEAD + "x,,,,,,,,\n" * 5000, now_ms=NOW)
    assert len(caught.value.rows) <= 200
    assert len(str(caught.value)) < 1000


def test_one_id_twice_is_refused() -> None:
    row = f"250410,x,mineral,CN,watch,{ID.hex()}\n"
    with pytest.raises(RowErrors) as caught:
        read_csv("hs,item,stage,country,level,id\n" + row * 2, now_ms=NOW)
    assert [(fault.row, fault.column) for fault in caught.value.rows] == [(3, "id")]


SOUND = {"subject": {"hs": "250410", "item": "graphite"}, "level": "watch"}


def test_json_and_json_lines() -> None:
    assert read_json(json.dumps(SOUND), now_ms=NOW)[0].subject.item == "graphite"
    assert len(read_json(json.dumps([SOUND, SOUND]), now_ms=NOW)) == 2
    assert read_json("[]", now_ms=NOW) == []
    lines = json.dumps(SOUND) + "\n\n" + json.dumps(SOUND | {"summary": "a\u2028b"}, ensure_ascii=False) + "\r\n"
    assert len(read_json_lines(lines, now_ms=NOW)) == 2


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ({"level": "loud"}, "level"),
        ({"level": None}, "level"),
        ({"levl": "watch"}, "levl"),
        ({"subject": "graphite"}, "subject"),
        ({"subject": {"hs": 250410, "item": "x"}}, "subject.hs"),
        ({"subject": {"hs": "250410", "item": 5}}, "subject.item"),
        ({"indicators": {}}, "indicators"),
        ({"indicators": [5]}, "indicators[0]"),
        ({"summary": 5}, "summary"),
        ({"summary": {"en": 5}}, "summary.en"),
        ({"summary": "x" * 4001}, "summary"),
        ({"observe_time_ms": -1}, "observe_time_ms"),
        ({"observe_time_ms": True}, "observe_time_ms"),
        ({"supersedes": ["nope"]}, "supersedes[0]"),
        ({"\u202eevil": 1}, "\\u202eevil"),
        ({"\0faults": []}, "\\x00faults"),
    ],
)
def test_json_faults_name_the_field(change: dict[str, object], column: str) -> None:
    with pytest.raises(RowErrors) as caught:
        read_json([json.dumps([SOUND, SOUND | change])][0], now_ms=NOW)
    assert (2, column) in [(fault.row, fault.column) for fault in caught.value.rows]
    assert {fault.row for fault in caught.value.rows} == {2}


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "NaN", '{"level": NaN}', "[" * 100_000, '{"a": 1, "a": 2}', '{"observe_time_ms": ' + "9" * 5000 + "}",
        '{"indicators": [{"value": 1e999}]}', '{"indicators": [{"value": ' + "9" * 400 + "}]}", "5", '"x"', "[[]]",
        '{"subject": {"item": "\\ud800"}}', '{"\\ud800": 1}',
    ],
)  # fmt: skip
@pytest.mark.parametrize("read", [read_json, read_json_lines])
def test_bad_json_is_a_row_error(read: Callable[..., list[pb.Report]], text: str) -> None:
    if text == "" and read is read_json_lines:
        assert read(text, now_ms=NOW) == []
        return
    with pytest.raises(RowErrors):
        read(text, now_ms=NOW)


def test_hostile_text_in_files_comes_in_clean() -> None:
    (one,) = read_csv(HEAD + "250410,gra\x1b[31mphite\u202e,mineral,CN,watch,,,,\n", now_ms=NOW)
    assert one.subject.item == "gra[31mphite"


@given(st.one_of(st.binary(max_size=400), st.text(max_size=400)))
def test_no_file_raises_anything_but_row_errors(junk: bytes | str) -> None:
    for read in (read_csv, read_json, read_json_lines):
        with suppress(RowErrors):
            read(junk, now_ms=NOW)


CELLS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["250410", "watch", "price", "-1", "nan", "USD/TNE", "2023", "CN", "chip", "A", "/", ";", '"', "\x1b"]
    ),
)


@given(st.lists(st.lists(CELLS, min_size=len(COLUMNS), max_size=len(COLUMNS)), max_size=4))
def test_no_csv_row_raises_anything_but_row_errors(rows: list[list[str]]) -> None:
    text = ",".join(COLUMNS) + "\n"
    text += "".join(",".join('"' + cell.replace('"', '""') + '"' for cell in row) + "\n" for row in rows)
    with suppress(RowErrors):
        for one in read_csv(text, now_ms=NOW):
            validate(one, now_ms=NOW)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [f.name for m in (pb.Report, pb.Subject, pb.Indicator, pb.Event) for f in m.DESCRIPTOR.fields]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON_VALUES)
def test_no_json_shape_raises_anything_but_row_errors(value: object) -> None:
    with suppress(RowErrors):
        for one in read_json(json.dumps(value), now_ms=NOW):
            validate(one, now_ms=NOW)


@given(st.binary(max_size=300))
def test_foreign_bytes_never_break_rules_or_cleaning(junk: bytes) -> None:
    foreign = pb.Report()
    with suppress(Exception):  # DecodeError: not ours to test
        foreign.ParseFromString(junk)
    cleaned = clean_report(foreign)
    problems(cleaned, now_ms=NOW)
    json.dumps(to_dict(cleaned))


def test_the_documented_columns_are_the_columns() -> None:
    import exchange.report.readers as readers

    assert readers.__doc__ is not None
    for name in COLUMNS:
        assert name in readers.__doc__
    assert set(REQUIRED_COLUMNS) <= set(COLUMNS)
