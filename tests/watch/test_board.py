"""The board: bad input is refused and shown; one mission cannot steer the pool; every trap of docs/WATCH.md section 2."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from exchange.units import Rates
from exchange.v1 import report_pb2 as pb
from exchange.watch import board as module
from exchange.watch import cadence, pooling
from exchange.watch.board import Board
from exchange.watch.intake import heading_of, item_of, replaced
from exchange.watch.notices import NoticeKind
from exchange.watch.rules import RULES, SD_FLOOR, Direction, direction, score
from tests.watch.reports import LAST, NOW, imports, report, stock, tell, tell_months

CALM = [100.0, 103, 98, 101, 97, 102, 99, 100, 104, 96] * 5


def kinds(update: module.Update) -> list[NoticeKind]:
    return [notice.kind for notice in update.notices]


# --- bad input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (report(math.nan), "indicators[0].value"),
        (report(math.inf), "indicators[0].value"),
        (stock(-1), "indicators[0].value"),
        (stock(1, unit="WEE"), "indicators[0].unit"),
        (report(1, currency=""), "indicators[0].currency"),
        (report(1, period="2025-03"), "indicators[0].period"),
        (report(1, hs="12345"), "subject.hs"),
    ],
    ids=["nan", "infinite", "negative stock", "unit", "currency", "future", "code"],
)
def test_a_bad_number_is_refused_by_name_and_changes_nothing(bad: pb.Report, field: str) -> None:
    board = Board()
    update = tell(board, bad)
    assert kinds(update) == [NoticeKind.REFUSED]
    assert field in update.notices[0].text
    assert (update.groups, board.groups()) == ((), [])


def test_the_sound_numbers_of_a_report_with_a_bad_one_count() -> None:
    one = report(5)
    one.indicators.add(kind=pb.INDICATOR_KIND_STOCK, value=-1, unit="KGM", period="2024-12")
    update = tell(Board(), one)
    assert [group.indicator for group in update.groups] == [pb.INDICATOR_KIND_PRICE]
    assert kinds(update) == [NoticeKind.REFUSED]


def test_another_unit_is_converted_and_another_dimension_refused() -> None:
    board = Board()
    tell(board, stock(2, "2024-11", unit="TNE"))
    tell(board, stock(1500, "2024-12"))
    (series,) = board.of_group(board.groups()[0])
    assert series.monthly()[1].tolist() == [2000, 1500]
    update = tell(board, stock(7, "2024-10", unit="C62"))
    assert kinds(update) == [NoticeKind.REFUSED]
    assert "C62 in a series of KGM" in update.notices[0].text


def test_another_currency_needs_a_rate_and_says_so() -> None:
    refused = Board()
    tell(refused, report(5, "2024-11"))
    assert "no rate for EUR in 2024-12" in tell(refused, report(5, currency="EUR")).notices[0].text
    board = Board(rates=Rates({("EUR", "2024-12"): 0.8}, "a central bank"))
    tell(board, report(5, "2024-11"))
    update = tell(board, report(4, currency="EUR"))
    assert kinds(update) == [NoticeKind.CONVERTED]
    assert "a central bank" in update.notices[0].text
    assert board.of_group(board.groups()[0])[0].monthly()[1].tolist() == [5, 5]


def test_a_backdated_revision_is_shown_and_does_not_change_what_was_known() -> None:
    board = Board()
    tell(board, report(10, "2022-06"), at=NOW - 5)
    update = tell(board, report(11, "2022-06"))
    assert kinds(update) == [NoticeKind.REVISED]
    assert "31 months after" in update.notices[0].text
    (series,) = board.of_group(board.groups()[0])
    assert series.as_of(NOW - 1).monthly()[1].tolist() == [10]
    assert kinds(tell(board, report(3, "2022-05"))) == [NoticeKind.BACKFILLED]
    assert kinds(tell(board, report(10, "2024-11"))) == []
    assert kinds(tell(board, report(11, "2024-11"))) == []  # small and fresh: usual
    assert kinds(tell(board, report(30, "2024-11"))) == [NoticeKind.REVISED]


def test_a_flood_is_bounded_and_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board()
    updates = [tell(board, report(i)) for i in range(1, 40)]
    assert sum(NoticeKind.REFUSED in kinds(update) for update in updates) == 39 - 16
    monkeypatch.setattr(module, "MAX_SERIES_OF_REPORTER", 3)
    codes = ["250410", "250490", "250510", "250610"]
    assert [NoticeKind.REFUSED in kinds(tell(board, report(1, hs=code))) for code in codes] == [
        False,
        False,
        True,
        True,
    ]
    assert NoticeKind.REFUSED not in kinds(tell(board, report(1, hs="250610"), sender="kr.the-hague/a"))


def test_a_mission_takes_back_its_own_word_alone() -> None:
    board = Board()
    mine = report(5)
    tell(board, mine)
    foreign, own = pb.Report(id=report(1).id, withdraws=[mine.id]), pb.Report(id=report(1).id, withdraws=[mine.id])
    assert tell(board, foreign, sender="kr.the-hague/a").groups == ()
    (series,) = board.of_group(board.groups()[0])
    assert series.monthly()[1].tolist() == [5]
    assert tell(board, own).groups == tuple(board.groups())
    assert board.of_group(board.groups()[0])[0].newest() is None
    assert board.alarms(board.groups()[0]) == []


def test_a_report_of_too_many_numbers_is_refused_whole_and_its_words_are_made_harmless() -> None:
    one = report(5)
    for _ in range(64):
        one.indicators.add().CopyFrom(one.indicators[0])
    board = Board()
    assert kinds(tell(board, one)) == [NoticeKind.REFUSED]
    assert board.groups() == []
    strange = report(5, currency="\x1b[2J")
    assert "\x1b" not in tell(board, strange).notices[0].text
    assert len(replaced(pb.Report(withdraws=[bytes([n % 256]) * 16 for n in range(300)]))) == 128


def test_national_codes_stay_apart_from_their_heading() -> None:
    national = pb.Subject(hs="81129289", hs_country="CN", item="gallium")
    assert item_of(national) == "81129289/CN"
    assert heading_of("81129289/CN") == item_of(pb.Subject(hs="811292", item="x")) == "811292"
    assert item_of(pb.Subject(item=" Neon  6N")) == "name:neon 6n"


# --- the pool ----------------------------------------------------------------------------------------------------


def quiet_board(
    missions: int, last: Callable[[int], float | None], spread: float = 0.25, **more: object
) -> tuple[Board, module.Group]:
    """Missions that report imports of about 100 a month; `last` gives the newest month of each."""
    board, rng = Board(), np.random.default_rng(7)
    group = None
    for number in range(missions):
        values = [*np.exp(rng.normal(4.6, spread, 60)).tolist(), last(number)]
        given = {"origin": f"customs-{number}", **more}
        group = tell_months(board, values, imports, sender=f"kr.m{number:02d}/a", **given)
    assert group is not None
    return board, group


def pools(board: Board, group: module.Group) -> list[module.Alarm]:
    return [alarm for alarm in board.alarms(group) if alarm.pooled]


def test_many_at_once_raise_the_pool_with_names_and_dates() -> None:
    board, group = quiet_board(12, lambda n: 260 if n < 9 else 100)
    (alarm,) = pools(board, group)
    assert (alarm.screen, alarm.month, len(alarm.voices)) == ("surge", "2024-12", 9)
    assert ("kr.m00", "2024-12") in alarm.voices
    assert alarm.tail < pooling.TAIL
    assert len(alarm.reports) == 9
    assert "75% of 12 voices in alarm" in alarm.reason
    assert "kr.m00 since 2024-12" in alarm.reason


def test_one_alone_raises_its_own_alarm_and_no_pool() -> None:
    board, group = quiet_board(12, lambda n: 260 if n == 0 else 100)
    assert [alarm.pooled for alarm in board.alarms(group)] == [False]


def test_one_newspaper_is_one_voice_however_many_missions_quote_it() -> None:
    independent, group = quiet_board(12, lambda n: 260 if n < 9 else 100)
    assert pools(independent, group)
    quoting, same = quiet_board(12, lambda n: 100)
    for number in range(9):
        tell(quoting, imports(260, origin="one newspaper"), sender=f"kr.m{number:02d}/a")
    found = quoting.pool(same, "surge")
    assert found is not None
    assert {voice.name for voice in found.voices} == {"kr.m09", "kr.m10", "kr.m11", "one newspaper"}
    assert pools(quoting, same) == []


def test_a_hostile_mission_cannot_raise_the_pool_with_many_origins_and_places() -> None:
    board, group = quiet_board(12, lambda n: 100)
    for number, place in enumerate(["DE", "FR", "GB", "IT", "ES", "PL", "SE", "NO", "FI", "DK"]):
        given = {"origin": f"invented-{number}", "place": place}
        tell_months(board, [*CALM, 900], imports, sender="xx.hostile/a", **given)
    assert pools(board, group) == []


def test_a_hostile_mission_cannot_still_the_pool_by_quoting_everybody() -> None:
    board, group = quiet_board(12, lambda n: 260 if n < 9 else 100)
    for number in range(12):
        given = {"origin": f"customs-{number}", "place": f"D{'EKZ'[number % 3]}"}
        tell_months(board, [*CALM, 100], imports, sender="xx.hostile/a", hs="811292", **given)
    assert len(pools(board, group)) == 1


def test_a_hostile_mission_that_always_cries_alarm_moves_its_own_voice_alone() -> None:
    rng = np.random.default_rng(3)
    flags = (rng.random((12, 90)) < 0.15) * 1.0
    flags[:9, -1] = 1
    honest = pooling.pool(flags, np.ones(12))
    crying = pooling.pool(np.vstack([flags, np.ones(90)]), np.ones(13))
    assert honest.alarm[-1]
    assert crying.alarm[-1]
    assert crying.expected[-1] - honest.expected[-1] < 0.5 / 12


def test_a_low_grade_weighs_less_and_cannot_judge_is_not_the_worst() -> None:
    weight = pooling.admiralty_weight
    assert weight(1, 1) == 1
    assert weight(1, 1) > weight(2, 2) > weight(3, 3) > weight(6, 6) == weight(0, 0) > weight(4, 4) > weight(5, 5) > 0
    flags = np.tile((np.arange(90) % 9 == 0) * 1.0, (12, 1))
    flags[:, -1] = [1.0] * 7 + [0.0] * 5
    tails = [pooling.pool(flags, np.array([w] * 7 + [1.0] * 5)).tail[-1] for w in (1.0, 0.3)]
    assert tails[0] < tails[1]


def test_a_pool_without_history_or_voices_says_nothing() -> None:
    flags = np.zeros((12, 20))
    flags[:, 10] = 1
    assert pooling.pool(flags, np.ones(12)).tail[10] == 1
    assert not pooling.pool(np.ones((3, 90)), np.ones(3)).alarm.any()
    assert not pooling.pool(np.full((12, 90), np.nan), np.ones(12)).alarm.any()


def test_three_voices_are_no_pool_though_all_cry_at_once() -> None:
    flags = np.zeros((4, 90))
    flags[:, -1] = 1
    assert pooling.pool(flags, np.ones(4)).alarm[-1]
    assert pooling.pool(flags[:3], np.ones(3)).tail[-1] == 1
    # Nor three of many that spoke before.
    few = np.vstack([flags, np.zeros((8, 90))])
    few[3:, -1] = np.nan
    assert pooling.pool(few, np.ones(12)).tail[-1] == 1


def test_one_true_alarm_does_not_deafen_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = (np.random.default_rng(5).random((12, 90)) < 0.1) * 1.0
    flags[:, 60:63] = 1
    flags[:8, -1] = 1
    assert pooling.pool(flags, np.ones(12)).alarm[-1]
    monkeypatch.setattr(pooling, "_WINSOR", 1e9)
    assert not pooling.pool(flags, np.ones(12)).alarm[-1]


def test_voices_are_bounded_and_many_series_of_one_mission_share_its_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    votes = [pooling.Vote("a", "paper", 1.0), pooling.Vote("a", "paper", 1.0), pooling.Vote("b", "paper", 1.0)]
    (voice,) = pooling.voices(votes)
    assert dict(voice.rows) == {0: 0.5, 1: 0.5, 2: 1.0}
    monkeypatch.setattr(pooling, "MAX_VOICES", 2)
    assert pooling.voices(votes)[0].reporters == ("a",)


def test_no_single_voice_decides() -> None:
    flags = np.zeros((5, 90))
    flags[0, -1] = 1
    assert pooling.pool(flags, np.ones(5)).tail[-1] == 1
    # Nor with all the weight: four voices at a tenth are no five voices.
    assert pooling.pool(flags, np.array([1, 0.1, 0.1, 0.1, 0.1])).tail[-1] == 1


def test_the_tail_is_the_binomial_one_where_voices_are_independent() -> None:
    n, rate = 20, 0.2
    exact = sum(math.comb(n, k) * rate**k * (1 - rate) ** (n - k) for k in range(9, n + 1))
    found = pooling._tail(np.array([9.0]), np.array([float(n)]), np.array([rate]), np.array([1e-9]))
    assert found[0] == pytest.approx(exact, rel=1e-6)
    wide = pooling._tail(np.array([9.0]), np.array([float(n)]), np.array([rate]), np.array([0.2]))
    assert wide[0] > 5 * exact


# --- the traps ---------------------------------------------------------------------------------------------------


def test_trap_a_stale_quote_has_a_floor_under_its_sd(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.array([100.0] * 60 + [104.0])  # repeated for years, then a small step
    assert score(RULES["W5"], values)[-1] <= 1.0
    assert score(RULES["W1"], values)[-1] < -2
    monkeypatch.setattr("exchange.watch.rules.SD_FLOOR", SD_FLOOR / 1000)
    assert score(RULES["W5"], values)[-1] > 100


def test_trap_a_stale_quote_is_noticed() -> None:
    board = Board()
    tell_months(board, [100, 101, 100, 100, 100, 100], report, sender="nl.seoul/a")
    (series,) = board.of_group(board.groups()[0])
    assert [notice.kind for notice in cadence.stale(series)] == [NoticeKind.STALE]
    tell(board, report(101))
    assert cadence.stale(board.of_group(board.groups()[0])[0]) == []


def test_trap_chinese_new_year_is_no_collapse() -> None:
    def exporter(number: int) -> float | None:
        return 30.0  # every exporter ships a third in the holiday month

    board, group = quiet_board(12, exporter, spread=0.1)
    assert [alarm for alarm in board.alarms(group) if alarm.screen == "collapse"] == []
    # What lasts two months is none.
    board, rng = Board(), np.random.default_rng(7)
    for number in range(12):
        values = [*np.exp(rng.normal(4.6, 0.1, 60)).tolist(), 30.0, 25.0]
        group = tell_months(board, values, imports, sender=f"kr.m{number:02d}/a", origin=str(number))
    assert [alarm.screen for alarm in pools(board, group)] == ["collapse"]


def test_trap_a_spike_before_a_collapse_does_not_blind() -> None:
    before = np.array([*CALM, 300, 310, 100, 102, 99, 100, 55, 50], dtype=float)
    with_medians = score(RULES["W5"], before, way=Direction.DOWN)[-1]
    changes = np.diff(np.log(before))
    plain = -(np.log(before[-1]) - np.log(before[-4]) - 0) / (np.std(changes[-37:-1]) * math.sqrt(3))
    assert with_medians > 3.5
    assert plain < 2  # what a plain z makes of the same fall


def test_trap_the_price_inside_the_controlled_country_falls() -> None:
    assert direction(pb.INDICATOR_KIND_PRICE, pb.MARKET_DOMESTIC) is Direction.DOWN
    for market in (pb.MARKET_EXPORT, pb.MARKET_IMPORT, pb.MARKET_WORLD):
        assert direction(pb.INDICATOR_KIND_PRICE, market) is Direction.UP
    falling = [*CALM, 90, 75, 60]
    alarmed = {}
    for market in (pb.MARKET_DOMESTIC, pb.MARKET_EXPORT):
        board = Board()
        group = tell_months(board, falling, report, sender="nl.beijing/a", market=market)
        alarmed[market] = bool(board.alarms(group))
    assert alarmed == {pb.MARKET_DOMESTIC: True, pb.MARKET_EXPORT: False}


def test_trap_markets_are_never_pooled() -> None:
    board = Board()
    for market in (pb.MARKET_DOMESTIC, pb.MARKET_EXPORT):
        tell(board, report(5, market=market))
    assert len(board.groups()) == 2


def test_trap_zero_alarms_and_absent_does_not() -> None:
    alarms = {}
    for name, last in (("zero", 0.0), ("absent", None)):
        board = Board()
        group = tell_months(board, [*CALM, last, last], imports, sender="kr.the-hague/a")
        alarms[name] = [alarm.screen for alarm in board.alarms(group)]
    assert alarms == {"zero": ["collapse"], "absent": []}
    board = Board()
    group = tell_months(board, [*CALM, 0.0], stock, sender="kr.the-hague/a")
    assert [alarm.screen for alarm in board.alarms(group)] == ["fall"]


def test_trap_two_official_figures_lower_confidence_and_silence_nobody() -> None:
    def falling(board: Board, sender: str, last: float) -> module.Group:
        values = [*[v * 30 for v in CALM], last, last]
        return tell_months(board, values, imports, sender=sender, place="KR", origin=sender)

    agreed, disputed = Board(), Board()
    for board, second in ((agreed, 529_000 / 1000), (disputed, 479_000 / 1000)):
        group = falling(board, "kr.motie/a", 529)
        falling(board, "nl.tokyo/a", second)
    one, other = agreed.alarms(group), disputed.alarms(group)
    assert len(one) == len(other) == 2
    assert all(b.confidence < a.confidence for a, b in zip(one, other, strict=True))
    update = tell(disputed, imports(478, place="KR", origin="nl.tokyo/a"), sender="nl.tokyo/a")
    assert NoticeKind.CONFLICT in kinds(update)
    assert "529" in update.notices[-1].text


def test_trap_overbooking_inflates_orders() -> None:
    confidence = {}
    for kind in (pb.INDICATOR_KIND_ORDERS, pb.INDICATOR_KIND_DEMAND):
        board = Board()
        group = tell_months(board, [*CALM, 400], imports, sender="nl.bz/a", kind=kind, origin="x")
        (alarm,) = board.alarms(group)
        confidence[kind] = alarm.confidence
        assert ("placed twice" in alarm.reason) == (kind == pb.INDICATOR_KIND_ORDERS)
    assert confidence[pb.INDICATOR_KIND_ORDERS] == confidence[pb.INDICATOR_KIND_DEMAND] / 2


def test_missing_reports_lower_confidence() -> None:
    board = Board()
    group = tell_months(board, [*CALM, 0.0, 0.0], imports, sender="nl.bz/a", origin="x")
    (sure,), (unsure,) = board.alarms(group), board.alarms(group, missing={"nl.bz": 1.0})
    assert unsure.confidence == sure.confidence / 2


def test_a_restored_board_says_the_same() -> None:
    board, group = quiet_board(8, lambda n: 260 if n < 7 else 100)
    again = Board()
    again.restore(board.of_group(group))
    assert again.alarms(group) == board.alarms(group)
    last = board.of_group(group)[0].newest()
    assert last is not None
    tell(
        again, pb.Report(id=report(1).id, withdraws=[last.report]), sender=f"{board.of_group(group)[0].key.reporter}/a"
    )
    newest = again.of_group(group)[0].newest()
    assert newest is not None
    assert newest.period != last.period


def test_no_alarm_comes_from_the_future_of_the_board() -> None:
    board, group = quiet_board(4, lambda n: 100)
    found = board.pool(group, "surge")
    assert found is not None
    assert found.first + found.flags.shape[1] - 1 == LAST


def test_the_first_to_report_a_month_does_not_silence_the_others() -> None:
    board, group = quiet_board(12, lambda n: 260 if n < 9 else 100)
    tell(board, imports(100, "2025-01", origin="customs-0"), sender="kr.m00/a")
    (alarm,) = pools(board, group)
    assert alarm.month == "2024-12"


def test_a_pool_is_in_alarm_in_its_three_newest_months_alone() -> None:
    board, group = quiet_board(8, lambda n: 260 if n < 7 else 100)
    assert pools(board, group)
    for number in range(8):
        for month in ("2025-01", "2025-02"):
            tell(
                board,
                imports(100, month, origin=f"customs-{number}"),
                sender=f"kr.m{number:02d}/a",
                at=NOW + 90 * 86_400_000,
            )
    assert pools(board, group)
    tell(board, imports(100, "2025-03", origin="customs-0"), sender="kr.m00/a", at=NOW + 90 * 86_400_000)
    assert pools(board, group) == []


def test_an_old_alarm_is_no_news() -> None:
    board = Board()
    group = tell_months(board, [*CALM, 400], imports, sender="nl.bz/a", origin="x")
    assert len(board.alarms(group)) == 1
    tell(board, imports(100, "2025-01", origin="y"), sender="kr.motie/a", at=NOW)
    assert len(board.alarms(group)) == 1
    late = NOW + 200 * 86_400_000
    tell(board, imports(100, "2025-06", origin="y"), sender="kr.motie/a", at=late)
    assert board.alarms(group) == []
