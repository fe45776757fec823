"""Windows in numbers: what `check` refuses and says, and that `earliest` is the earliest."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys import windows
from keys.v1 import documents_pb2 as pb
from keys.windows import RULES, Bounds, Kind, Times, WindowError
from tests import chains
from tests.chains import DAY
from tests.world import NOON, world

BOUNDS = Bounds(72 * 3600_000, 14 * 24 * 3600_000, 5 * 60_000)
PLANNED = [kind for kind in Kind if kind in RULES]
FIELDS = {"publish": "publish_ms", "first-use": "first_use_ms", "retire": "retire_ms"}


def test_every_kind_but_cards_has_rules_and_every_rule_a_reason() -> None:
    assert set(Kind) - set(RULES) == {Kind.CARD}
    ids = [rule.id for rules in RULES.values() for rule in rules]
    assert len(ids) == len(set(ids))
    for kind, rules in RULES.items():
        assert all(rule.id == f"{kind}.{rule.time}" and len(rule.why) > 20 for rule in rules)


@given(
    kind=st.sampled_from(PLANNED),
    bounds=st.builds(Bounds, *[st.integers(1, 10**10)] * 3),
    start=st.integers(0, 10**13),
)
def test_the_earliest_times_keep_every_rule_and_a_moment_sooner_breaks_one(
    kind: Kind, bounds: Bounds, start: int
) -> None:
    times = windows.earliest(kind, bounds, start_ms=start)
    windows.check(kind, times, bounds)
    for rule in RULES[kind]:
        name = FIELDS[rule.time]
        if rule.earliest is not None:
            sooner = replace(times, **{name: rule.earliest(times, bounds) - 1})
            with pytest.raises(WindowError) as refused:
                windows.check(kind, sooner, bounds)
            assert refused.value.metadata["rule"] in {r.id for r in RULES[kind]}
        if rule.latest is not None:
            with pytest.raises(WindowError):
                windows.check(kind, replace(times, **{name: rule.latest(times, bounds) + 1}), bounds)


def test_a_refusal_names_the_rule_and_the_earliest_time_that_works() -> None:
    good = windows.earliest(Kind.DESK, BOUNDS, start_ms=NOON)
    assert good.publish_ms == NOON + BOUNDS.skew_ms
    assert good.first_use_ms == good.publish_ms + BOUNDS.revocation_ms
    assert good.retire_ms == good.first_use_ms + BOUNDS.lifetime_ms + 2 * BOUNDS.skew_ms
    with pytest.raises(WindowError) as refused:
        windows.check(Kind.DESK, replace(good, first_use_ms=good.first_use_ms - 1), BOUNDS)
    assert refused.value.metadata == {"rule": "desk.first-use", "earliest_ms": str(good.first_use_ms)}
    assert "A >= T + R" in str(refused.value)
    assert windows.iso(good.first_use_ms) in refused.value.hint
    windows.check(Kind.DESK, replace(good, first_use_ms=int(refused.value.metadata["earliest_ms"])), BOUNDS)


def test_amendments_are_held_to_r_and_to_l_plus_2s() -> None:
    effective, grace = NOON + BOUNDS.revocation_ms, BOUNDS.lifetime_ms + 2 * BOUNDS.skew_ms
    windows.check_amendment(publish_ms=NOON, effective_ms=effective, grace_ms=grace, bounds=BOUNDS)
    for bent, rule in (
        ({"effective_ms": effective - 1}, "amendment.effective"),
        ({"grace_ms": grace - 1}, "amendment.grace"),
    ):
        fields = {"publish_ms": NOON, "effective_ms": effective, "grace_ms": grace, **bent}
        with pytest.raises(WindowError) as refused:
            windows.check_amendment(**fields, bounds=BOUNDS)
        assert refused.value.metadata["rule"] == rule


def test_the_widest_bounds_of_the_agreements_in_a_span_count() -> None:
    trust = world().trust()
    assert windows.bounds_of(trust, from_ms=NOON, until_ms=NOON + 10**10) == BOUNDS


def test_an_agreement_in_the_middle_of_a_span_counts() -> None:
    def wider(body: pb.Agreement) -> None:
        body.revocation_ms += DAY

    def as_before(body: pb.Agreement) -> None:
        body.revocation_ms -= DAY

    trust, first, second = world().trust(), NOON + 4 * DAY, NOON + 8 * DAY
    middle = chains.next_agreement(world(), wider, effective_ms=first)
    newest = chains.next_agreement(world(), as_before, effective_ms=second, after=middle)
    for document in (middle, newest):
        trust.take(document, now_ms=NOON)
    widest = replace(BOUNDS, revocation_ms=BOUNDS.revocation_ms + DAY)
    assert windows.bounds_of(trust, from_ms=NOON, until_ms=second) == widest
    assert windows.bounds_of(trust, from_ms=NOON, until_ms=first - 1) == BOUNDS
    assert windows.bounds_of(trust, from_ms=second, until_ms=second) == BOUNDS


def test_a_time_is_shown_so_that_it_works_when_typed() -> None:
    assert windows.iso(1_790_000_000_001) == "2026-09-21T14:13:21Z"
    assert windows.iso(2**63) == f"{2**63} ms"


def test_times_of_all_rules_are_those_of_times() -> None:
    assert {rule.time for rules in RULES.values() for rule in rules} <= set(FIELDS)
    assert Times(1, 2, 3, 4) == Times(announce_ms=1, publish_ms=2, first_use_ms=3, retire_ms=4)
