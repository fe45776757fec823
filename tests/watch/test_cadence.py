"""Who owes what: missing, conflicting and stale reports."""

import pytest

from exchange.watch.cadence import CONFLICT_SHARE, DAY_MS, Duty, Said, allowed_days, conflicts, missing, overdue
from exchange.watch.notices import NoticeKind

MONTHLY = tuple(range(0, 30 * 12 * DAY_MS, 30 * DAY_MS))


def duty(reports: tuple[int, ...] = MONTHLY, reporter: str = "nl.seoul", since: int = 0) -> Duty:
    return Duty(reporter, "monthly stock of gallium", 30, reports, since)


def test_a_report_is_missing_after_one_and_a_half_terms() -> None:
    last = MONTHLY[-1]
    assert missing([duty()], now_ms=last + 45 * DAY_MS) == []
    (notice,) = missing([duty()], now_ms=last + 46 * DAY_MS)
    assert (notice.kind, notice.reporter) == (NoticeKind.MISSING, "nl.seoul")
    assert "silent for 46 days, 45 are allowed" in notice.text


def test_a_habit_of_being_late_is_heard_up_to_twice_the_term() -> None:
    gaps = [30, 50, 35, 45, 30, 50, 40]
    irregular = [0]
    for gap in gaps:
        irregular.append(irregular[-1] + gap * DAY_MS)
    assert 45 < allowed_days(duty(tuple(irregular))) <= 90
    lazy = tuple(range(0, 10 * 300 * DAY_MS, 300 * DAY_MS))
    assert allowed_days(duty(lazy)) == 90
    assert allowed_days(duty(MONTHLY[:3])) == 45


def test_who_never_reported_owes_since_the_duty_began() -> None:
    (notice,) = missing([duty((), since=5 * DAY_MS)], now_ms=60 * DAY_MS)
    assert "never reported" in notice.text
    assert missing([duty((), since=5 * DAY_MS)], now_ms=40 * DAY_MS) == []


def test_the_share_overdue_is_per_mission() -> None:
    now = MONTHLY[-1] + 50 * DAY_MS
    fresh = duty((*MONTHLY, now - DAY_MS))
    assert overdue([duty(), fresh, duty(reporter="kr.motie")], now_ms=now) == {"nl.seoul": 0.5, "kr.motie": 1.0}


def said(reporter: str, value: float, *, origin: str = "", period: str = "2019-07", place: str = "KR") -> Said:
    return Said(reporter, (place, "KGM", ""), {period: ((origin or reporter, value),)})


def test_hf_july_2019_two_official_figures_conflict_and_both_are_named() -> None:
    (notice,) = conflicts([said("nl.tokyo", 479e3, origin="jp.mof"), said("kr.motie", 529e3, origin="kr.customs")])
    assert notice.kind is NoticeKind.CONFLICT
    for part in ("2019-07", "479000", "529000", "jp.mof", "kr.customs", "both are kept"):
        assert part in notice.text


@pytest.mark.parametrize(
    "other",
    [
        said("kr.motie", 100 * (1 + CONFLICT_SHARE)),  # rounding
        said("kr.motie", 300, origin="nl.tokyo"),  # the same origin: a revision, not a second word
        said("kr.motie", 300, place="JP"),  # another flow
        said("kr.motie", 300, period="2019-08"),  # another month
    ],
)
def test_what_is_no_conflict(other: Said) -> None:
    assert conflicts([said("nl.tokyo", 100), other]) == []


def test_without_a_place_two_missions_speak_of_two_things() -> None:
    assert conflicts([said("a", 1, place=""), said("b", 2, place="")]) == []


def test_zero_conflicts_with_licences_were_issued() -> None:
    assert conflicts([said("kr.motie", 0, period="2019-08"), said("nl.tokyo", 40, period="2019-08")])
    assert conflicts([said("kr.motie", 0), said("nl.tokyo", 0)]) == []
