"""Policy: who publishes, who reads, and why; everyone computes the same."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange import policy
from exchange.policy import MARKING_NAMES
from keys import documents, founding, suite
from keys.trust import AgreementView, RosterView
from keys.v1 import documents_pb2 as pb
from tests import chains
from tests.world import DESKS, NOON, SENDER, world

MINISTRY, COMPANY = "nl.bz/supply", "nl.asml-like/supply"
GOVERNMENT = ("kr.motie/supply", "nl.bz/supply", "nl.seoul/economic")


def pinned() -> tuple[AgreementView, dict[str, RosterView]]:
    trust = world().trust(without=("tocsin/1/card",))
    return trust.agreement(NOON), {party: trust.roster(party) for party in trust.parties}


AGREEMENT, ROSTERS = pinned()


def readers(channel: str, marking: pb.Marking, sender: str = SENDER, named: list[str] | None = None) -> tuple[str, ...]:
    return policy.audience(
        AGREEMENT, ROSTERS, sender=sender, channel=channel, marking=marking, time_ms=NOON, named=named
    )


def test_companies_read_up_to_green_and_nobody_reads_their_own() -> None:
    assert readers("minerals", pb.MARKING_GREEN) == tuple(sorted((*GOVERNMENT, COMPANY)))
    assert readers("minerals", pb.MARKING_AMBER) == GOVERNMENT
    assert readers("alerts", pb.MARKING_GREEN) == GOVERNMENT
    assert readers("unknown", pb.MARKING_GREEN) == ()


def test_strict_and_red_stay_with_governments_whatever_the_rules_say() -> None:
    body = documents.body(world().agreement, pb.Agreement)
    for rule in body.channels:
        rule.read.add(highest=pb.MARKING_RED)
    wide = AgreementView(world().agreement, body, {rule.channel: rule for rule in body.channels})
    for marking in (pb.MARKING_AMBER_STRICT, pb.MARKING_RED):
        audience = policy.audience(wide, ROSTERS, sender=SENDER, channel="minerals", marking=marking, time_ms=NOON)
        assert COMPANY not in audience
    amber = policy.audience(wide, ROSTERS, sender=SENDER, channel="minerals", marking=pb.MARKING_AMBER, time_ms=NOON)
    assert COMPANY in amber


def test_only_red_is_narrowed_by_names() -> None:
    assert readers("chips", pb.MARKING_RED, named=[MINISTRY, COMPANY]) == (MINISTRY,)
    assert readers("chips", pb.MARKING_AMBER, named=[MINISTRY]) == GOVERNMENT


def test_companies_do_not_publish() -> None:
    assert policy.may_publish(AGREEMENT, ROSTERS, sender=MINISTRY, channel="minerals")
    assert not policy.may_publish(AGREEMENT, ROSTERS, sender=COMPANY, channel="minerals")
    assert not policy.may_publish(AGREEMENT, ROSTERS, sender=MINISTRY, channel="unknown")
    assert not policy.may_publish(AGREEMENT, ROSTERS, sender="xx.bz/supply", channel="minerals")


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(DESKS),
    st.sampled_from(sorted(AGREEMENT.channels)),
    st.sampled_from(sorted(MARKING_NAMES)),
    st.permutations(sorted(ROSTERS)),
)
def test_the_audience_is_sorted_unique_without_the_sender_and_explained(
    sender: str, channel: str, marking: pb.Marking, order: list[str]
) -> None:
    rosters = {party: ROSTERS[party] for party in order}
    audience = policy.audience(AGREEMENT, rosters, sender=sender, channel=channel, marking=marking, time_ms=NOON)
    assert audience == readers(channel, marking, sender)
    assert list(audience) == sorted(set(audience) - {sender})
    readings = policy.explain(AGREEMENT, rosters, sender=sender, channel=channel, marking=marking, time_ms=NOON)
    assert {r.desk for r in readings} == set(DESKS)
    assert tuple(r.desk for r in readings if r.reads) == audience
    assert all(r.why for r in readings)


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(sorted(AGREEMENT.channels)), st.sampled_from(DESKS))
def test_a_higher_marking_never_has_more_readers(channel: str, sender: str) -> None:
    sets = [set(readers(channel, marking, sender)) for marking in sorted(MARKING_NAMES)]
    assert all(higher <= lower for lower, higher in pairwise(sets))


@pytest.mark.parametrize(
    ("state", "first", "last", "reads"),
    [
        (pb.KEY_STATE_ACTIVE, 0, 0, True),
        (pb.KEY_STATE_ACTIVE, NOON, NOON + 1, True),
        (pb.KEY_STATE_ACTIVE, NOON + 1, 0, False),
        (pb.KEY_STATE_ACTIVE, 0, NOON, False),
        (pb.KEY_STATE_PREPARED, 0, 0, False),
        (pb.KEY_STATE_TAINTED, 0, 0, False),
        (pb.KEY_STATE_REVOKED, 0, 0, False),
    ],
)
def test_a_desk_reads_while_it_has_a_key_in_use(state: pb.KeyState, first: int, last: int, reads: bool) -> None:
    def bend(body: pb.Roster) -> None:
        entry = next(desk for desk in body.desks if desk.desk == MINISTRY)
        entry.keys[0].state, entry.keys[0].first_use_ms, entry.keys[0].last_use_ms = state, first, last

    trust = world().trust(without=("tocsin/1/card",))
    trust.take(chains.next_roster(world(), "nl", bend), now_ms=NOON)
    rosters = {**ROSTERS, "nl": trust.roster("nl")}
    audience = policy.audience(
        AGREEMENT, rosters, sender=SENDER, channel="minerals", marking=pb.MARKING_AMBER, time_ms=NOON
    )
    assert (MINISTRY in audience) is reads


def test_a_desk_in_its_hold_reads_nothing_yet() -> None:
    trust = world().trust(without=("tocsin/1/card",))
    lineage = world().lineage

    def bend(body: pb.Roster) -> None:
        body.desks.append(founding.desk_entry("nl.bz/new", suite.SigningKey.generate(1), lineage=lineage))
        body.desks.sort(key=lambda desk: desk.desk)

    trust.take(chains.next_roster(world(), "nl", bend), now_ms=NOON)
    rosters = {**ROSTERS, "nl": trust.roster("nl")}
    hold = AGREEMENT.body.hold_ms
    for time_ms, reads in ((NOON + hold - 1, False), (NOON + hold, True)):
        audience = policy.audience(
            AGREEMENT, rosters, sender=SENDER, channel="minerals", marking=pb.MARKING_AMBER, time_ms=time_ms
        )
        assert ("nl.bz/new" in audience) is reads


def test_the_difference_says_who_gains_and_loses_what() -> None:
    old = documents.body(world().agreement, pb.Agreement)
    new = documents.body(world().agreement, pb.Agreement)
    chips = next(rule for rule in new.channels if rule.channel == "chips")
    del chips.publish[0]
    chips.read.add(highest=pb.MARKING_AMBER).who.mission = "nl.asml-like"
    chips.cadence_ms = 1
    new.revocation_ms = 5
    new.suites.append(3)
    assert policy.diff(old, old) == []
    assert policy.diff(old, new) == [
        "chips: embassy missions of every party may no longer publish",
        "chips: nl.asml-like may now read up to AMBER",
        "chips: longest silence of a publisher 35 d -> 1 ms",
        "a revocation may stay unknown for (R) 72 h -> 5 ms",
        "suites 1 -> 1, 3",
    ]


@pytest.mark.parametrize(
    ("selector", "chosen"),
    [
        (pb.Selector(), True),
        (pb.Selector(party="nl"), True),
        (pb.Selector(party="kr"), False),
        (pb.Selector(kind=pb.MISSION_KIND_MINISTRY), True),
        (pb.Selector(kind=pb.MISSION_KIND_EMBASSY), False),
        (pb.Selector(mission="nl.bz"), True),
        (pb.Selector(mission="nl.b"), False),
        (pb.Selector(party="nl", kind=pb.MISSION_KIND_EMBASSY, mission="nl.bz"), False),
    ],
)
def test_selectors_match_on_every_field_that_is_set(selector: pb.Selector, chosen: bool) -> None:
    assert policy.matches(selector, pb.Mission(mission="nl.bz", kind=pb.MISSION_KIND_MINISTRY)) is chosen
