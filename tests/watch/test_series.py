"""Series: revisions, what was known when, origins, zero and absent, bounds, and their bytes."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.v1 import report_pb2 as pb
from exchange.watch import series as module
from exchange.watch import stored as stored_module
from exchange.watch.errors import ObservationError, SeriesBytesError
from exchange.watch.months import month_number, month_text
from exchange.watch.series import Grade, Observation, Series, SeriesKey
from exchange.watch.stored import from_bytes, to_bytes

KEY = SeriesKey("811292", pb.INDICATOR_KIND_PRICE, pb.MARKET_WORLD, "", "nl.seoul")
FLOW = KEY._replace(indicator=pb.INDICATOR_KIND_IMPORTS)


def said(
    period: str, value: float | None, at: int, *, origin: str = "a", grade: tuple[int, int] = (1, 1)
) -> Observation:
    return Observation(period, value, at, at.to_bytes(16, "big"), origin, Grade(*grade))


def of(*observations: Observation, key: SeriesKey = KEY) -> Series:
    out = Series(key, "KGM", "USD")
    for one in observations:
        out, _ = out.add(one)
    return out


def monthly(series: Series) -> dict[str, float]:
    first, values = series.monthly()
    return {month_text(first + i): v for i, v in enumerate(values.tolist())}


def test_a_revision_is_kept_beside_what_it_revises() -> None:
    both = of(said("2024-01", 5, 10), said("2024-01", 6, 20))
    assert monthly(both) == {"2024-01": 6}
    assert monthly(both.as_of(19)) == {"2024-01": 5}
    assert monthly(both.as_of(20)) == {"2024-01": 6}
    assert both.as_of(9).monthly()[1].size == 0


def test_what_an_observation_did_is_told() -> None:
    one = of(said("2024-02", 5, 10))
    assert one.add(said("2024-02", 5, 20)) == (one, module.Added("repeated", 5))
    assert one.add(said("2024-02", 6, 20))[1] == module.Added("revised", 5)
    assert one.add(said("2024-03", 6, 20))[1] == module.Added("new")
    assert one.add(said("2024-01", 6, 20))[1] == module.Added("backfilled")


def test_nobody_rewrites_the_past() -> None:
    with pytest.raises(ObservationError, match="earlier"):
        of(said("2024-01", 5, 10)).add(said("2024-01", 4, 9))


def test_zero_and_absent_differ() -> None:
    values = monthly(of(said("2024-01", 3, 1), said("2024-03", 0, 2)))
    assert values["2024-03"] == 0
    assert math.isnan(values["2024-02"])


def test_a_withdrawn_report_leaves_the_period_absent_but_only_from_then_on() -> None:
    one = of(said("2024-01", 3, 1), said("2024-02", 4, 2))
    gone = one.without((2).to_bytes(16, "big"), known_ms=7, by=b"w" * 16)
    assert monthly(gone) == {"2024-01": 3}
    assert monthly(gone.as_of(6)) == {"2024-01": 3, "2024-02": 4}
    # What was said again since stands.
    again, _ = gone.add(said("2024-02", 4, 8))
    assert monthly(again)["2024-02"] == 4


def test_the_better_graded_of_two_origins_counts_and_both_stand() -> None:
    both = of(
        said("2019-07", 529, 1, origin="kr.customs", grade=(1, 2)),
        said("2019-07", 479, 2, origin="press", grade=(3, 3)),
    )
    assert monthly(both) == {"2019-07": 529}
    assert [one.value for one in both.standing()["2019-07"]] == [529, 479]


@pytest.mark.parametrize("unjudged", [0, 6])
def test_cannot_judge_is_not_the_worst_grade(unjudged: int) -> None:
    worst, unknown = (
        said("2024-01", 1, 1, origin="e", grade=(5, 5)),
        said("2024-01", 2, 2, origin="f", grade=(unjudged, unjudged)),
    )
    fair = said("2024-01", 3, 3, origin="c", grade=(3, 3))
    assert monthly(of(worst, unknown)) == {"2024-01": 2}
    assert monthly(of(worst, unknown, fair)) == {"2024-01": 3}


def test_weeks_and_days_make_a_month_and_half_a_month_is_no_collapse() -> None:
    weeks = [said(f"2024-W{week:02d}", 70, week) for week in (6, 7)]
    assert monthly(of(*weeks))["2024-02"] == 70  # a price: the mean
    assert monthly(of(*weeks, key=FLOW))["2024-02"] == pytest.approx(70 / 7 * 29)  # a flow: its daily rate
    assert of(said("2024-02-01", 70, 1), key=FLOW).monthly()[1].size == 0
    assert monthly(of(*weeks, said("2024-02", 300, 60), key=FLOW)) == {"2024-02": 300}
    assert of(said("2023", 5, 1)).monthly()[1].size == 0


def test_a_stray_old_period_does_not_make_an_endless_grid() -> None:
    _, values = of(said("1000-01", 5, 1), said("2024-01", 5, 2)).monthly()
    assert values.size <= module.MAX_MONTHS


def test_flooding_reaches_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    one = of(*(said("2024-01", i, i) for i in range(module.MAX_REVISIONS)))
    with pytest.raises(ObservationError, match="revised 16 times"):
        one.add(said("2024-01", 99, 99))
    one.add(said("2024-01", None, 99))  # taking back is never refused
    with pytest.raises(ObservationError, match="16 origins"):
        of(*(said("2024-01", i, i, origin=str(i)) for i in range(17)))
    monkeypatch.setattr(module, "MAX_OBSERVATIONS", 2)
    with pytest.raises(ObservationError, match="observations already"):
        of(said("2024-01", 1, 1), said("2024-02", 1, 2), said("2024-03", 1, 3))


FULL = of(said("2024-01", 5, 10), said("2024-W07", 0.5, 20, origin="ö"), said("2024-01", None, 30))


def test_bytes_go_out_and_in() -> None:
    assert from_bytes(to_bytes(FULL)) == FULL
    assert len(to_bytes(of(*(said(month_text(24000 + i), i, i) for i in range(120))))) < 120 * 47 + 60


@given(st.integers(0, len(to_bytes(FULL)) - 1), st.integers(0, 255), st.booleans())
def test_no_bytes_raise_anything_but_a_series_error(at: int, byte: int, cut: bool) -> None:
    data = bytearray(to_bytes(FULL))
    data[at] = byte
    try:
        found = from_bytes(bytes(data[:at] if cut else data))
    except SeriesBytesError:
        return
    assert from_bytes(to_bytes(found)) == found or np.isnan([o.value or 0 for o in found.observations]).any()


def stored(*observations: Observation) -> bytes:
    """Bytes of a series that no `add` would have made."""
    return to_bytes(Series(KEY, "KGM", "USD", observations))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"tws2" + to_bytes(FULL)[4:], "magic"),
        (to_bytes(FULL) + b"x", "after the end"),
        (stored(*(said("2024-01", 1, 1, origin=str(n)) for n in range(17))), "origins"),
        (stored(said("2024-01", 1, 2), said("2024-02", 1, 1)), "order"),
        (stored(said("2024-13", 1, 1)), "observation"),
        (stored(said("2024-01", math.nan, 1)), "observation"),
    ],
    ids=["magic", "more", "origins", "order", "period", "nan"],
)
def test_bytes_that_no_series_has_are_refused(data: bytes, said: str) -> None:
    with pytest.raises(SeriesBytesError) as refused:
        from_bytes(data)
    assert refused.value.__suppress_context__
    assert said in str(refused.value.__context__)


def test_bytes_of_more_observations_than_a_series_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert from_bytes(to_bytes(FULL)) == FULL
    monkeypatch.setattr(stored_module, "MAX_OBSERVATIONS", 2)
    with pytest.raises(SeriesBytesError):
        from_bytes(to_bytes(FULL))


@given(st.binary(max_size=200))
def test_junk_is_no_series(junk: bytes) -> None:
    with pytest.raises(SeriesBytesError):
        from_bytes(b"tws1" + junk if junk[:1] == b"t" else junk)


def test_months() -> None:
    assert month_text(month_number("2023-11") or 0) == "2023-11"
    assert [month_number(text) for text in ("2023-13", "2023-1", "2023", "٢٠٢٣-11")] == [None] * 4
