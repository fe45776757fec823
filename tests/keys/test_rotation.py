"""Plans carried out on documents: every kind, in order, once, confirmed, and refused when altered or too late."""

import itertools
import json
from dataclasses import replace

import pytest

from keys import documents, plan, planning, release, rotation, windows
from keys.encoding import digest
from keys.plan import AlteredPlanError, PlanError
from keys.states import TRANSITIONS, Activated, KeyState, Revoked, StateError, Tainted, moved
from keys.trust import Trust
from keys.v1 import documents_pb2 as pb
from keys.windows import Kind, WindowError
from tests.chains import next_agreement, next_roster
from tests.keys.rotating import DESK, Fresh, fresh, hands, listed, plan_of, says_seen
from tests.world import NOON, World, found

SIGNED = [Kind.ROOT, Kind.ROSTER, Kind.STATUS, Kind.DESK, Kind.TLS_CA, Kind.LOG]
DAY = 24 * 3600 * 1000


@pytest.fixture
def own() -> World:
    return found()


def run(own: World, trust: Trust, made: plan.Plan, new: Fresh, now_ms: int, **more: object) -> rotation.Advance:
    return rotation.advance(made, trust, now_ms=now_ms, sign=hands(own, new), **more)  # type: ignore[arg-type]


# ---- states


def test_the_table_is_what_trust_takes(own: World) -> None:
    """Every move of the table is taken by every member; what goes back is refused by them all."""
    new = fresh(own, Kind.DESK)
    for before, after in itertools.product(KeyState, KeyState):
        trust = own.trust()
        first = next_roster(own, "kr", lambda b, s=before: _list(b, new, s))
        trust.take(first, now_ms=NOON)
        trust.take(next_roster(own, "kr", lambda b, s=after: _state(b, new, s), after=first), now_ms=NOON)
        allowed = after in TRANSITIONS[before].values()
        if allowed:
            assert DESK in trust.roster("kr").desks, (before, after)
        if after < before:
            assert DESK in trust.roster("kr").disabled, (before, after)


def _list(body: pb.Roster, new: Fresh, state: KeyState) -> None:
    entry = next(d for d in body.desks if d.desk == DESK)
    entry.keys.add(state=state.value, key=pb.PublicKey.FromString(new.public))


def _state(body: pb.Roster, new: Fresh, state: KeyState) -> None:
    entry = next(d for d in body.desks if d.desk == DESK)
    entry.keys[1].state = state.value


@pytest.mark.parametrize(
    ("state", "move"),
    [
        (KeyState.PREPARED, Tainted()),
        (KeyState.ACTIVE, Activated()),
        (KeyState.TAINTED, Activated()),
        (KeyState.REVOKED, Activated()),
        (KeyState.REVOKED, Revoked()),
    ],
)
def test_a_move_that_is_not_in_the_table_is_refused(state: KeyState, move: object) -> None:
    with pytest.raises(StateError):
        moved(state, move)  # type: ignore[arg-type]


def test_nothing_leads_back_and_everything_ends() -> None:
    assert all(after > before for before, ways in TRANSITIONS.items() for after in ways.values())
    assert not TRANSITIONS[KeyState.REVOKED]


# ---- the file


@pytest.mark.parametrize("kind", SIGNED)
def test_a_plan_survives_its_file_and_says_what_matters(own: World, kind: Kind) -> None:
    made = plan_of(own, own.trust(), kind, fresh(own, kind), offline=["nl"])
    assert plan.decode(made.encode(), expected=made.digest) == made
    assert made.digest == digest(made.encode())
    words = "\n".join(made.words())
    for step in made.steps:
        assert windows.iso(step.due_ms) in words
    assert "if a party is offline" in words
    assert "not waited for, because said so: nl" in words
    assert all(identity.hex() in words for identity in (*made.old, *plan.new_identities(kind, made.new)))


def test_an_altered_plan_is_refused(own: World) -> None:
    made = plan_of(own, own.trust(), Kind.DESK, fresh(own, Kind.DESK))
    data = made.encode()
    later = replace(made, times=replace(made.times, retire_ms=made.times.retire_ms + 1))
    with pytest.raises(AlteredPlanError) as refused:
        plan.decode(later.encode(), expected=made.digest)
    assert "agreed was" in str(refused.value)
    for find, put in ((b"the roster lists", b"the roster drops"), (b'"emergency":false', b'"emergency":true')):
        assert find in data
        with pytest.raises(AlteredPlanError):
            plan.decode(data.replace(find, put))
    with pytest.raises(AlteredPlanError):
        plan.decode(data.replace(b'"kind"', b' "kind"'))


def _bent(data: bytes, **fields: object) -> bytes:
    said = json.loads(data)
    return (json.dumps({**said, **fields}, sort_keys=True, separators=(",", ":")) + "\n").encode()


def test_junk_is_no_plan(own: World) -> None:
    data = plan_of(own, own.trust(), Kind.DESK, fresh(own, Kind.DESK)).encode()
    junk = [b"", b"{}", b"[]", b"\xff", b"[" * 100_000, data[:-2], b" " * (plan.MAX_PLAN_BYTES + 1)]
    junk += [
        _bent(data, **{name: value})
        for name, value in (
            ("plan", 2),
            ("kind", "soup"),
            ("new", "zz"),
            ("new", "00"),
            ("times", {}),
            ("times", None),
            ("old", 3),
        )
    ]
    for each in junk:
        with pytest.raises(PlanError):
            plan.decode(each)


# ---- planning


@pytest.mark.parametrize("kind", SIGNED)
def test_the_default_times_keep_the_windows_with_a_margin(own: World, kind: Kind) -> None:
    made = plan_of(own, own.trust(), kind, fresh(own, kind))
    windows.check(kind, made.times, made.bounds)
    late = rotation._gate(made, made.steps[0], own.trust(), made.times.publish_ms + DAY // 2)
    assert not late


def test_times_that_break_the_algebra_are_refused_with_the_earliest_that_works(own: World) -> None:
    trust, new = own.trust(), fresh(own, Kind.DESK)
    made = plan_of(own, trust, Kind.DESK, new)
    with pytest.raises(WindowError) as refused:
        plan_of(own, trust, Kind.DESK, new, times={"publish_ms": NOON + DAY, "first_use_ms": NOON + DAY + 1})
    assert refused.value.metadata["rule"] == "desk.first-use"
    works = int(refused.value.metadata["earliest_ms"])
    plan_of(own, trust, Kind.DESK, new, times={"publish_ms": NOON + DAY, "first_use_ms": works})
    with pytest.raises(WindowError) as refused:
        plan_of(own, trust, Kind.DESK, new, times={"retire_ms": made.times.first_use_ms})
    assert refused.value.metadata["rule"] == "desk.retire"


def test_a_plan_that_can_never_be_carried_out_is_refused(own: World) -> None:
    trust = own.trust()
    new = fresh(own, Kind.DESK)
    bad = pb.PublicKey.FromString(new.public)
    bad.possession = b"\0" * len(bad.possession)
    old = pb.PublicKey()
    old.CopyFrom(trust.roster("kr").body.desks[0].keys[0].key)
    arguments = {"party": "kr", "kind": Kind.DESK, "name": DESK, "new": new.public, "now_ms": NOON}
    for bent, words in (
        ({"kind": Kind.CARD}, "by themselves"),
        ({"party": "jp"}, "no party"),
        ({"name": "kr.motie/nobody"}, "no desk"),
        ({"kind": Kind.LOG, "name": "kr.nowhere-1"}, "no node"),
        ({"kind": Kind.COURIER, "name": "bag", "new": b"c" * 16}, "no channel has a courier group"),
        ({"kind": Kind.ROOT, "name": "x"}, "belong to the party"),
        ({"new": bad.SerializeToString()}, "proof of possession"),
        ({"new": b"\xff"}, "cannot be used"),
        ({"new": old.SerializeToString()}, "the old one"),
        ({"offline": ["jp"]}, "not another party"),
        ({"offline": ["kr"]}, "not another party"),
        ({"times": {"announce_ms": NOON - 1}}, "past"),
        ({"times": {"retire_ms": NOON + 4000 * DAY}}, "agreement ends"),
    ):
        with pytest.raises(PlanError, match=words):
            planning.make(trust, **{**arguments, **bent})  # type: ignore[arg-type]
    roles = pb.RoleKeys.FromString(fresh(own, Kind.ROOT).public)
    roles.threshold = 4
    with pytest.raises(PlanError, match="threshold"):
        planning.make(trust, party="kr", kind=Kind.ROOT, name="", new=roles.SerializeToString(), now_ms=NOON)
    with pytest.raises(PlanError, match="suite"):
        planning.make(trust, party="kr", kind=Kind.ROSTER, name="", new=fresh(own, Kind.ROOT).public, now_ms=NOON)


# ---- carrying out


@pytest.mark.parametrize("kind", SIGNED)
def test_every_kind_goes_from_old_to_new(own: World, kind: Kind) -> None:
    trust, new = own.trust(), fresh(own, kind)
    made = plan_of(own, trust, kind, new)
    member = own.trust()
    for step in made.steps:
        says_seen(own, trust, now_ms=step.due_ms)
        advanced = run(own, trust, made, new, step.due_ms)
        assert not advanced.waiting
        assert (step.id in advanced.done) == bool(step.signed_by)
        for document in advanced.released:
            member.take(document, now_ms=step.due_ms)
        if advanced.released:
            assert "kr" not in member.stale(step.due_ms), "the last status came with the last document"
    assert advanced.next is None
    assert not run(own, trust, made, new, step.due_ms).released, "a finished plan does nothing more"
    if kind in plan.ROLE_KINDS:
        body = member.party_document("kr")
        assert getattr(body, kind.value).generation == 2
        assert member.roster("kr").body.generation == body.roster.generation
    elif kind is Kind.DESK:
        assert list(listed(member)) == list(plan.new_identities(kind, made.new))
    elif kind is Kind.LOG:
        assert member.node("kr.the-hague-1").log_key.SerializeToString() == new.public
    else:
        assert member.node("kr.the-hague-1").tls_ca == new.public


def test_a_desk_key_is_never_put_to_use_in_one_step(own: World) -> None:
    trust, new = own.trust(), fresh(own, Kind.DESK)
    made = plan_of(own, trust, Kind.DESK, new)
    (old,), (identity,) = made.old, plan.new_identities(Kind.DESK, made.new)
    run(own, trust, made, new, NOON)
    assert listed(trust)[identity].state == pb.KEY_STATE_PREPARED
    assert listed(trust)[old].last_use_ms == 0
    says_seen(own, trust, now_ms=made.times.publish_ms)
    run(own, trust, made, new, made.times.publish_ms)
    assert listed(trust)[identity].state == pb.KEY_STATE_ACTIVE
    assert listed(trust)[identity].first_use_ms == listed(trust)[old].last_use_ms == made.times.first_use_ms
    assert made.times.first_use_ms >= made.times.publish_ms + made.bounds.revocation_ms


def test_a_step_is_not_done_before_its_time(own: World) -> None:
    trust, new = own.trust(), fresh(own, Kind.DESK)
    made = plan_of(own, trust, Kind.DESK, new, times={"announce_ms": NOON + DAY})
    advanced = run(own, trust, made, new, NOON + DAY - 1)
    assert not advanced.released
    assert advanced.next == made.steps[0]
    assert trust.roster("kr").body.version == 1


@pytest.mark.parametrize("kind", [Kind.DESK, Kind.ROOT, Kind.ROSTER, Kind.TLS_CA, Kind.LOG])
def test_a_new_key_is_not_used_before_the_peer_confirmed_it(own: World, kind: Kind) -> None:
    trust, new = own.trust(), fresh(own, kind)
    made = plan_of(own, trust, kind, new)
    says_seen(own, trust, now_ms=NOON)  # a status from before the announcement confirms nothing
    waits = rotation.CONFIRMED_BEFORE[kind]
    for step in made.steps:
        advanced = run(own, trust, made, new, step.due_ms)
        if step.id == waits:
            break
    assert "not confirmed by nl" in advanced.waiting
    assert not advanced.released
    spoken = replace(made, offline=("nl",))
    assert not run(own, trust, spoken, new, step.due_ms).waiting, "said to be offline"


def test_a_confirmation_names_the_very_document(own: World) -> None:
    trust, new = own.trust(), fresh(own, Kind.DESK)
    made = plan_of(own, trust, Kind.DESK, new)
    run(own, trust, made, new, NOON)
    assert not rotation.confirmed(made, trust, "nl")
    nl = own.parties["nl"]
    status = documents.body(says_seen(own, own.trust(), now_ms=NOON), pb.Status)
    status.seen[0].roster.version = trust.roster("kr").body.version
    status.seen[0].roster.digest = b"x" * 32
    trust.take(nl.sign(documents.make(status), "status"), now_ms=NOON)
    assert not rotation.confirmed(made, trust, "nl"), "it holds another roster of that number"
    says_seen(own, trust, now_ms=NOON)
    assert rotation.confirmed(made, trust, "nl")


def test_a_run_that_broke_off_goes_on_where_the_documents_are(own: World) -> None:
    trust, new = own.trust(), fresh(own, Kind.ROSTER)
    made = plan_of(own, trust, Kind.ROSTER, new)
    run(own, trust, made, new, NOON)
    restored = own.trust()
    for document in trust.documents():
        restored.take(document, now_ms=NOON)
    says_seen(own, restored, now_ms=made.times.first_use_ms)
    advanced = run(own, restored, made, new, made.times.first_use_ms)
    assert advanced.done == ("publish", "first-use")
    assert [d.type for d in advanced.released] == ["tocsin/1/roster", "tocsin/1/status"]


def test_holders_far_apart_sign_ahead_and_the_same_draft_is_released(own: World) -> None:
    trust, new = own.trust(), fresh(own, Kind.ROOT)
    made = plan_of(own, trust, Kind.ROOT, new, times={"announce_ms": NOON, "publish_ms": NOON + DAY})
    kr = own.parties["kr"].keys["root"]
    one = rotation.advance(made, trust, now_ms=NOON, sign=release.at_hand([kr["first"]]))
    draft = one.drafts["publish"]
    assert len(draft.signatures) == 1
    two = rotation.advance(
        made, trust, now_ms=NOON + DAY, sign=release.at_hand([kr["second"]]), signed={"publish": draft}
    )
    assert "kr new root: 0 of 2" in two.waiting
    assert two.drafts["publish"].digest == draft.digest
    assert trust.party_document("kr").version == 1
    three = rotation.advance(
        made, trust, now_ms=NOON + DAY, sign=release.at_hand(new.keys.values()), signed=dict(two.drafts)
    )
    assert three.released[0].digest == draft.digest
    assert trust.party_document("kr").version == 2


@pytest.mark.parametrize("bend", ["body", "old"])
def test_a_draft_that_says_something_else_is_not_released(own: World, bend: str) -> None:
    trust, new = own.trust(), fresh(own, Kind.DESK)
    made = plan_of(own, trust, Kind.DESK, new)
    (ready,) = [d for d in run(own, own.trust(), made, new, NOON).released if d.type == "tocsin/1/roster"]
    body = documents.body(ready, pb.Roster)
    if bend == "body":
        body.missions[0].kind = pb.MISSION_KIND_AGENCY
    swapped = own.parties["kr"].sign(documents.make(body), "roster")
    later = NOON if bend == "body" else NOON + release.LATE_MS + 1
    advanced = run(own, trust, made, new, later, signed={"announce": swapped})
    assert swapped.digest not in {d.digest for d in advanced.released}
    assert trust.roster("kr").body.missions[0].kind != pb.MISSION_KIND_AGENCY


def test_a_step_so_late_that_it_would_break_a_window_is_refused(own: World) -> None:
    trust, new = own.trust(), fresh(own, Kind.DESK)
    made = plan_of(own, trust, Kind.DESK, new)
    run(own, trust, made, new, NOON)
    says_seen(own, trust, now_ms=made.times.publish_ms)
    with pytest.raises(WindowError) as refused:
        run(own, trust, made, new, made.times.first_use_ms)
    assert refused.value.metadata["rule"] == "desk.first-use"
    assert trust.roster("kr").body.version == 2, "nothing changed"


def test_wider_bounds_than_planned_ask_for_a_new_plan(own: World) -> None:
    trust, new = own.trust(), fresh(own, Kind.DESK)
    made = plan_of(own, trust, Kind.DESK, new)

    def wider(body: pb.Agreement) -> None:
        body.revocation_ms *= 2

    trust.take(next_agreement(own, wider), now_ms=NOON)
    with pytest.raises(PlanError, match="wider bounds"):
        run(own, trust, made, new, NOON)


def test_a_plan_of_another_exchange_is_refused(own: World) -> None:
    new = fresh(own, Kind.DESK)
    made = plan_of(own, own.trust(), Kind.DESK, new)
    with pytest.raises(PlanError, match="another exchange"):
        run(own, found().trust(), made, new, NOON)


def test_a_new_status_key_never_leaves_its_party_without_a_status(own: World) -> None:
    trust, new = own.trust(), fresh(own, Kind.STATUS)
    made = plan_of(own, trust, Kind.STATUS, new)
    # The new key's holder is elsewhere: the Party document waits for it, though the roots signed.
    without = rotation.advance(made, trust, now_ms=NOON, sign=hands(own))
    assert not without.released
    assert "kr status: 0 of 1" in without.waiting
    assert trust.party_document("kr").version == 1
    both = rotation.advance(
        made, trust, now_ms=NOON, sign=release.at_hand(new.keys.values()), signed=dict(without.drafts)
    )
    assert [d.type for d in both.released] == ["tocsin/1/party", "tocsin/1/status"]
    assert not trust.stale(NOON)


# ---- in an emergency


@pytest.mark.parametrize("kind", SIGNED)
def test_an_emergency_is_over_in_one_run(own: World, kind: Kind) -> None:
    trust, new = own.trust(), fresh(own, kind)
    made = plan_of(own, trust, kind, new, emergency=True)
    assert made.words()[0].startswith("EMERGENCY")
    advanced = run(own, trust, made, new, NOON)
    assert not advanced.waiting
    assert advanced.next is None
    if kind is Kind.DESK:
        (old,) = made.old
        assert trust.key_ended(DESK, old) == "revoked by its party"
        (identity,) = plan.new_identities(kind, made.new)
        assert listed(trust)[identity].state == pb.KEY_STATE_ACTIVE
    if kind is Kind.ROSTER:
        assert trust.roster("kr").number == (2, 1)


def test_a_thief_of_the_roster_key_is_voided_by_the_roots_alone(own: World) -> None:
    """ATTACKS 31: the thief ends a desk and lists his own; the party's roots undo both without the other party."""
    trust = own.trust()

    def steal(body: pb.Roster) -> None:
        entry = next(d for d in body.desks if d.desk == DESK)
        entry.keys[0].state = pb.KEY_STATE_REVOKED

    believed = trust.roster("kr").document.digest
    trust.take(next_roster(own, "kr", steal), now_ms=NOON)
    (ended,) = listed(trust)
    assert trust.key_ended(DESK, ended)
    new = fresh(own, Kind.ROSTER)
    made = plan_of(own, trust, Kind.ROSTER, new, emergency=True, base=believed)
    assert believed.hex() in "\n".join(made.words())
    run(own, trust, made, new, NOON)
    assert trust.roster("kr").number == (2, 1)
    assert not trust.key_ended(DESK, ended)
    with pytest.raises(PlanError, match="earlier roster"):
        plan_of(own, trust, Kind.ROSTER, fresh(own, Kind.ROSTER), base=own.rosters["nl"].digest)
