"""The chains: what extends them, what is refused and why, and what a refusal leaves behind: nothing."""

import json
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from keys import documents, founding, suite, trust
from keys.documents import Document, ThresholdError
from keys.errors import BadKeyError, PeerError, SignatureError
from keys.trust import Trust, status, week_of
from keys.v1 import documents_pb2 as pb
from tests import chains
from tests.chains import DAY, HOUR
from tests.world import DESKS, NOON, SENDER, World, found, world

CASES: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "tuf" / "key-rotation-cases.json").read_text(encoding="utf-8")
)
DESK = "nl.seoul/economic"
WEEK = week_of(NOON)


@pytest.fixture
def held() -> Trust:
    return world().trust()


def refused(held: Trust, document: Document, error: type[PeerError], *, now_ms: int = NOON) -> PeerError:
    """Taking raises exactly this, and nothing changed."""
    before, version, components = held.documents(), held.version, dict(held._held.components)
    with pytest.raises(error) as failure:
        held.take(document, now_ms=now_ms)
    assert type(failure.value) is error, failure.value
    assert failure.value.metadata["document"]
    assert failure.value.metadata["version"]
    assert failure.value.hint
    assert (held.documents(), held.version, held._held.components) == (before, version, components)
    return failure.value


@cache
def key(number: int, suite_id: int = suite.DESK_SUITE) -> suite.SigningKey:
    return suite.SigningKey.generate(suite_id)


def add_desk(body: pb.Roster, name: str, signing: suite.SigningKey | None = None) -> pb.Desk:
    entry = founding.desk_entry(name, signing or suite.SigningKey.generate(suite.DESK_SUITE), lineage=world().lineage)
    body.desks.append(entry)
    body.desks.sort(key=lambda desk: desk.desk)
    return next(desk for desk in body.desks if desk.desk == name)


def set_state(body: pb.Roster, desk: str, state: pb.KeyState) -> None:
    for entry in body.desks:
        if entry.desk == desk:
            entry.keys[0].state = state


# ---- founding


def test_a_world_is_taken_whole_and_hands_itself_on(held: Trust) -> None:
    copy = Trust(held.lineage)
    for document in held.documents():
        assert copy.take(document, now_ms=NOON).new
    assert copy.documents() == held.documents()
    assert copy.parties == ("kr", "nl")
    assert not copy.take(held.documents()[0], now_ms=NOON).new


def test_an_agreement_of_another_exchange_is_refused() -> None:
    other = found()
    empty = Trust(world().lineage)
    for document in other.documents[:2]:
        empty.take(document, now_ms=NOON)
    refused(empty, other.agreement, trust.WrongLineageError)


def test_the_agreement_waits_for_the_party_documents() -> None:
    refused(Trust(world().lineage), world().agreement, trust.MissingDocumentError)


def test_every_party_signs_the_first_agreement() -> None:
    made = found()
    only_kr = founding.agreement(documents.body(made.agreement, pb.Agreement), [made.parties["kr"]])
    empty = Trust(only_kr.digest)
    for document in made.documents[:2]:
        empty.take(document, now_ms=NOON)
    refused(empty, only_kr, ThresholdError)


def test_a_first_agreement_whose_parties_share_a_key_changes_nothing() -> None:
    shared = founding.found_party("kr", now_ms=NOON)
    thief = founding.found_party("nl", now_ms=NOON)
    body = documents.body(thief.document, pb.Party)
    staff = shared.keys["roster"]["staff"]
    body.roster.keys[0].key.CopyFrom(founding.public_key(staff, lineage=b"", party="nl", name="staff", role="roster"))
    thief = founding.PartyKeys("nl", thief.keys, thief.sign(documents.make(body), "root"))
    agreement = founding.agreement(founding.standard_agreement(now_ms=NOON, title="t"), [shared, thief])
    empty = Trust(agreement.digest)
    for party in (shared, thief):
        empty.take(party.document, now_ms=NOON)
    refused(empty, agreement, BadKeyError)
    assert not empty.founded


def test_before_the_agreement_only_a_few_party_documents_are_kept() -> None:
    empty = Trust(world().lineage)
    one = founding.found_party("kr", now_ms=NOON)
    for issue in range(trust.MAX_PARTIES):
        body = documents.body(one.document, pb.Party)
        body.issue_time_ms = issue
        empty.take(one.sign(documents.make(body), "root"), now_ms=NOON)
    with pytest.raises(trust.TrustError, match="too many"):
        empty.take(founding.found_party("xx", now_ms=NOON).document, now_ms=NOON)


def test_a_role_key_without_its_proof_is_refused() -> None:
    party = founding.found_party("kr", now_ms=NOON)
    body = documents.body(party.document, pb.Party)
    body.status.keys[0].key.possession = body.roster.keys[0].key.possession
    refused(Trust(bytes(32)), party.sign(documents.make(body), "root"), SignatureError)


# ---- agreement


def test_an_amendment_needs_every_party(held: Trust) -> None:
    for alone in ("kr", "nl"):
        refused(held, chains.next_agreement(world(), signers=(alone,)), ThresholdError)
    assert held.take(chains.next_agreement(world()), now_ms=NOON).new
    assert held.agreement(NOON).body.version == 1
    assert held.agreement(NOON + 4 * DAY).body.version == 2


def test_the_old_agreement_is_accepted_until_grace_is_over(held: Trust) -> None:
    first = held.agreement(NOON)
    assert held.agreement_ends_ms(first) == first.body.expire_time_ms
    held.take(chains.next_agreement(world()), now_ms=NOON)
    assert held.agreement_ends_ms(first) == NOON + 4 * DAY + first.body.grace_ms


def bend_agreement(**fields: Any) -> Any:
    def bend(body: pb.Agreement) -> None:
        for name, value in fields.items():
            setattr(body, name, value)

    return bend


@pytest.mark.parametrize(
    ("bend", "error"),
    [
        (bend_agreement(version=3), trust.GapError),
        (bend_agreement(version=1), trust.EquivocationError),
        (bend_agreement(version=0), trust.RollbackError),
        (bend_agreement(previous=bytes(32)), trust.EquivocationError),
        (bend_agreement(lineage=bytes(32)), trust.WrongLineageError),
        (bend_agreement(grace_ms=1), trust.TrustError),
        (bend_agreement(effective_time_ms=1), trust.TrustError),
        (bend_agreement(expire_time_ms=NOON), trust.TrustError),
        (bend_agreement(revocation_ms=0), trust.TrustError),
        (lambda body: body.parties.pop(), trust.TrustError),
        (lambda body: body.channels.reverse(), trust.TrustError),
        (lambda body: body.suites.extend([1]), trust.TrustError),
    ],
)
def test_an_amendment_that_breaks_the_chain_is_refused(held: Trust, bend: Any, error: type[PeerError]) -> None:
    refused(held, chains.next_agreement(world(), bend), error)


def test_a_party_left_out_of_an_amendment_needs_a_new_lineage(held: Trust) -> None:
    refused(held, chains.next_agreement(world(), lambda body: body.parties.pop()), trust.TrustError)


def test_of_two_amendments_the_first_stays(held: Trust) -> None:
    first = chains.next_agreement(world())
    held.take(first, now_ms=NOON)
    refused(held, chains.next_agreement(world(), bend_agreement(title="other")), trust.EquivocationError)
    assert held.find_agreement(first.digest).body.version == 2


# ---- roster


def bend_roster(**fields: Any) -> Any:
    def bend(body: pb.Roster) -> None:
        for name, value in fields.items():
            setattr(body, name, value)

    return bend


@pytest.mark.parametrize(
    ("bend", "error"),
    [
        (bend_roster(version=3), trust.GapError),
        (bend_roster(version=2**63), trust.GapError),
        (bend_roster(version=1), trust.EquivocationError),
        (bend_roster(version=0), trust.RollbackError),
        (bend_roster(previous=bytes(32)), trust.EquivocationError),
        (bend_roster(previous=b""), trust.EquivocationError),
        (bend_roster(lineage=bytes(32)), trust.WrongLineageError),
        (bend_roster(generation=2), trust.RollbackError),
        (bend_roster(issue_time_ms=NOON + HOUR), trust.TrustError),
        (bend_roster(issue_time_ms=1), trust.TrustError),
        (bend_roster(expire_time_ms=NOON), trust.TrustError),
        (bend_roster(expire_time_ms=NOON + 91 * DAY), trust.TrustError),
        (lambda body: body.desks.reverse(), trust.TrustError),
        (lambda body: body.desks.append(body.desks[0]), trust.TrustError),
        (lambda body: body.missions.append(body.missions[-1]), trust.TrustError),
        (lambda body: body.missions[0].ClearField("kind"), trust.TrustError),
        (lambda body: setattr(body.missions[0], "node", "nl.other"), trust.TrustError),
        (lambda body: setattr(body.missions[-1], "mission", "xx.other"), trust.TrustError),
        (lambda body: body.nodes[0].relays.append("kr.motie"), trust.TrustError),
        (lambda body: body.missions.pop(), trust.TrustError),
        (lambda body: add_desk(body, "nl.zz/desk"), trust.TrustError),
        (lambda body: add_desk(body, "nl.seoul/Économie"), trust.TrustError),
    ],
)
def test_a_roster_that_breaks_the_rules_is_refused(held: Trust, bend: Any, error: type[PeerError]) -> None:
    refused(held, chains.next_roster(world(), "nl", bend), error)


def test_a_party_says_nothing_of_the_others_people(held: Trust) -> None:
    foreign = chains.next_roster(world(), "nl", bend_roster(party="kr"))
    refused(held, foreign, ThresholdError)
    refused(held, chains.next_roster(world(), "nl", lambda body: add_desk(body, "kr.motie/x")), trust.TrustError)


def test_rosters_form_a_chain(held: Trust) -> None:
    second = chains.next_roster(world(), "nl")
    third = chains.next_roster(world(), "nl", after=second, now_ms=NOON + 1)
    refused(held, third, trust.GapError)
    held.take(second, now_ms=NOON)
    held.take(third, now_ms=NOON)
    assert held.roster("nl").body.version == 3
    assert held.superseded_ms(held.find_roster(second.digest)) == NOON + 1
    assert held.superseded_ms(held.roster("nl")) is None
    assert not held.take(world().rosters["nl"], now_ms=NOON).new


def test_desks_beyond_the_cap_are_refused(held: Trust) -> None:
    def five(body: pb.Roster) -> None:
        for number in range(4):
            add_desk(body, f"nl.asml-like/d{number}")

    assert "allows 4" in str(refused(held, chains.next_roster(world(), "nl", five), trust.TrustError))


def test_a_kind_this_version_does_not_know_is_no_way_around_the_cap(held: Trust) -> None:
    def unknown(body: pb.Roster) -> None:
        body.missions[0].kind = 99  # type: ignore[assignment]

    refused(held, chains.next_roster(world(), "nl", unknown), trust.TrustError)


def test_a_new_or_rekinded_desk_is_held_and_told(held: Trust) -> None:
    def change(body: pb.Roster) -> None:
        add_desk(body, "nl.bz/new")
        next(m for m in body.missions if m.mission == "nl.asml-like").kind = pb.MISSION_KIND_AGENCY

    taken = held.take(chains.next_roster(world(), "nl", change), now_ms=NOON)
    hold = held.agreement(NOON).body.hold_ms
    desks = held.roster("nl").desks
    assert {name: desk.held_until_ms for name, desk in desks.items() if desk.held_until_ms} == {
        "nl.asml-like/supply": NOON + hold,
        "nl.bz/new": NOON + hold,
    }
    assert sum("after the hold" in event for event in taken.events) == 2


def test_a_backdated_roster_is_loud(held: Trust) -> None:
    late = chains.next_roster(world(), "nl", lambda body: add_desk(body, "nl.bz/new"))
    taken = held.take(late, now_ms=NOON + 2 * DAY)
    assert any("later than the hold" in event for event in taken.events)


def test_a_bad_key_disables_its_desk_alone(held: Trust) -> None:
    def bend(body: pb.Roster) -> None:
        entry = add_desk(body, "nl.bz/new")
        entry.keys[0].key.key = entry.keys[0].key.key[:-32] + bytes(32)

    taken = held.take(chains.next_roster(world(), "nl", bend), now_ms=NOON)
    view = held.roster("nl")
    assert set(view.disabled) == {"nl.bz/new"}
    assert set(view.desks) == {desk for desk in DESKS if desk.startswith("nl.")}
    assert any("nl.bz/new: disabled" in event for event in taken.events)


@pytest.mark.parametrize("fault", ["proof", "foreign component", "too many", "state"])
def test_other_faults_of_a_key_disable_its_desk_alone_too(held: Trust, fault: str) -> None:
    def bend(body: pb.Roster) -> None:
        entry = add_desk(body, "nl.bz/new")
        if fault == "proof":
            entry.keys[0].key.possession = bytes(3373)
        elif fault == "foreign component":
            # The thief's own ML-DSA half beside an Ed25519 half that another desk uses.
            mine, theirs = suite.SigningKey.generate(1).seed(), world().desks[DESK].seed()
            grafted = suite.SigningKey.from_seed(1, mine[:32] + theirs[32:])
            entry.keys[0].CopyFrom(founding.desk_entry("nl.bz/new", grafted, lineage=world().lineage).keys[0])
        elif fault == "too many":
            for _ in range(trust.MAX_KEYS_PER_DESK):
                entry.keys.append(entry.keys[0])
        else:
            entry.keys[0].state = pb.KEY_STATE_UNSPECIFIED

    held.take(chains.next_roster(world(), "nl", bend), now_ms=NOON)
    assert set(held.roster("nl").disabled) == {"nl.bz/new"}


def test_a_node_with_a_bad_log_key_is_disabled_alone(held: Trust) -> None:
    def bend(body: pb.Roster) -> None:
        extra = body.nodes.add(node="nl.zz-1")
        extra.log_key.CopyFrom(body.nodes[0].log_key)

    taken = held.take(chains.next_roster(world(), "nl", bend), now_ms=NOON)
    assert held.node("nl.zz-1") is None
    assert held.node("nl.seoul-1") is not None
    assert any(event.startswith("nl.zz-1: disabled") for event in taken.events)


def test_a_refused_roster_claims_no_keys(held: Trust) -> None:
    stranger = suite.SigningKey.generate(1)

    def bend(body: pb.Roster) -> None:
        add_desk(body, "nl.bz/new", stranger)
        for number in range(4):
            add_desk(body, f"nl.asml-like/d{number}")

    refused(held, chains.next_roster(world(), "nl", bend), trust.TrustError)


# ---- revocation by the newest


def ended(held: Trust, desk: str = DESK) -> str | None:
    signing = world().desks[desk]
    return held.key_ended(desk, suite.key_id(1, "desk", signing.public))


@pytest.mark.parametrize(("state", "word"), [(pb.KEY_STATE_TAINTED, "tainted"), (pb.KEY_STATE_REVOKED, "revoked")])
def test_a_key_ends_by_the_newest_roster_and_never_comes_back(held: Trust, state: pb.KeyState, word: str) -> None:
    assert ended(held) is None
    second = chains.next_roster(world(), "nl", lambda body: set_state(body, DESK, state))
    held.take(second, now_ms=NOON)
    assert word in (ended(held) or "")
    third = chains.next_roster(
        world(), "nl", lambda b: set_state(b, DESK, pb.KEY_STATE_ACTIVE), after=second, now_ms=NOON
    )
    held.take(third, now_ms=NOON)
    assert DESK in held.roster("nl").disabled
    assert word in (ended(held) or "")

    def drop(body: pb.Roster) -> None:
        del body.desks[[desk.desk for desk in body.desks].index(DESK)]

    held.take(chains.next_roster(world(), "nl", drop, after=third, now_ms=NOON), now_ms=NOON)
    assert word in (ended(held) or "")


def test_a_revocation_counts_though_its_desk_is_disabled_for_another_key(held: Trust) -> None:
    def bend(body: pb.Roster) -> None:
        entry = next(desk for desk in body.desks if desk.desk == DESK)
        entry.keys[0].state = pb.KEY_STATE_REVOKED
        entry.keys.add(state=pb.KEY_STATE_ACTIVE).key.CopyFrom(pb.PublicKey(suite=1, key=b"short"))

    held.take(chains.next_roster(world(), "nl", bend), now_ms=NOON)
    assert DESK in held.roster("nl").disabled
    assert "revoked" in (ended(held) or "")


def test_a_revocation_entry_ends_a_key_for_every_later_roster(held: Trust) -> None:
    identity = suite.key_id(1, "desk", world().desks[DESK].public)
    second = chains.next_roster(world(), "nl", lambda body: body.revocations.add(key=identity))
    held.take(second, now_ms=NOON)

    def forget(body: pb.Roster) -> None:
        del body.revocations[:]

    held.take(chains.next_roster(world(), "nl", forget, after=second, now_ms=NOON), now_ms=NOON)
    assert "revoked" in (ended(held) or "")


def renunciation(signing: suite.SigningKey, desk: str = DESK, identity: bytes | None = None) -> Document:
    own = suite.key_id(1, "desk", signing.public)
    body = pb.Renunciation(lineage=world().lineage, desk=desk, key=identity or own, time_ms=NOON)
    return documents.sign(documents.make(body), signing, role="desk")


def test_a_desk_renounces_its_key_alone_and_at_once(held: Trust) -> None:
    taken = held.take(renunciation(world().desks[DESK]), now_ms=NOON)
    assert "renounced" in taken.events[0]
    assert "renounced" in (ended(held) or "")
    assert held.card(DESK, WEEK) is None
    assert held.held_card(DESK, WEEK) is not None


def test_nobody_renounces_for_another(held: Trust) -> None:
    victim = suite.key_id(1, "desk", world().desks[DESK].public)
    refused(held, renunciation(world().desks[SENDER], DESK, victim), SignatureError)
    refused(held, renunciation(key(1)), trust.TrustError)


# ---- key cards


def card(
    desk: str = DESK, week: int = WEEK + 2, *, signing: suite.SigningKey | None = None, public: bytes = b""
) -> Document:
    body = pb.KeyCard(
        lineage=world().lineage, desk=desk, week=week, suite=1, key=public or suite.CardKey.generate().public
    )
    return documents.sign(documents.make(body), signing or world().desks[desk], role="desk")


def test_a_card_is_held_for_its_week(held: Trust) -> None:
    made = card()
    held.take(made, now_ms=NOON)
    assert (found_card := held.card(DESK, WEEK + 2)) is not None
    assert (found_card.digest, found_card.taken_ms) == (made.digest, NOON)


@pytest.mark.parametrize(
    ("made", "error"),
    [
        (lambda: card(week=WEEK), trust.EquivocationError),
        (lambda: card(week=WEEK + 7), trust.TrustError),
        (lambda: card(week=WEEK - 5), trust.TrustError),
        (lambda: card(signing=key(1)), SignatureError),
        (lambda: card(signing=world().desks[SENDER]), SignatureError),
        (lambda: card(public=bytes(1216)), BadKeyError),
        (lambda: card(public=b"\xff" * 1216), BadKeyError),
        (lambda: card(public=b"short"), BadKeyError),
        (lambda: card("nl.bz/unknown", signing=key(1)), trust.TrustError),
        (lambda: card("xx.bz/unknown", signing=key(1)), trust.MissingDocumentError),
    ],
)
def test_a_card_that_breaks_the_rules_is_refused(held: Trust, made: Any, error: type[PeerError]) -> None:
    refused(held, made(), error)


def test_junk_for_a_taken_week_raises_no_alarm_of_two_cards(held: Trust) -> None:
    made = card(week=WEEK)
    (suite_id, identity, signature) = made.signatures[0]
    forged = Document(made.type, made.body, ((suite_id, identity, bytes(len(signature))),), made.digest)
    refused(held, forged, SignatureError)


def test_a_card_dies_with_its_signing_key_and_a_new_one_takes_its_place(held: Trust) -> None:
    replacement = suite.SigningKey.generate(1)

    def rotate(body: pb.Roster) -> None:
        entry = next(desk for desk in body.desks if desk.desk == DESK)
        entry.keys[0].state = pb.KEY_STATE_REVOKED
        entry.keys.append(founding.desk_entry(DESK, replacement, lineage=world().lineage).keys[0])

    held.take(chains.next_roster(world(), "nl", rotate), now_ms=NOON)
    assert held.card(DESK, WEEK) is None
    refused(held, card(), SignatureError)
    held.take(card(week=WEEK, signing=replacement), now_ms=NOON)
    assert held.card(DESK, WEEK) is not None


def test_a_key_leaves_no_card_beyond_those_of_its_last_day(held: Trust, monkeypatch: pytest.MonkeyPatch) -> None:
    replacement = suite.SigningKey.generate(1)

    def rotate(body: pb.Roster) -> None:
        entry = next(desk for desk in body.desks if desk.desk == DESK)
        entry.keys[0].last_use_ms = NOON
        entry.keys.append(founding.desk_entry(DESK, replacement, lineage=world().lineage).keys[0])

    held.take(chains.next_roster(world(), "nl", rotate), now_ms=NOON)
    later = NOON + 7 * DAY
    held.take(card(week=WEEK + 5), now_ms=later)
    refused(held, card(week=WEEK + 6), trust.TrustError, now_ms=later)
    held.take(card(week=WEEK + 6, signing=replacement), now_ms=later)
    monkeypatch.setattr(trust.cards, "CARDS_AHEAD", 7)
    held.take(card(week=WEEK + 7), now_ms=later)


# ---- status


def bend_status(**fields: Any) -> Any:
    def bend(body: pb.Status) -> None:
        for name, value in fields.items():
            target, _, leaf = name.rpartition("__")
            setattr(getattr(body, target) if target else body, leaf, value)

    return bend


@pytest.mark.parametrize(
    ("bend", "error"),
    [
        (bend_status(version=1), trust.EquivocationError),
        (bend_status(version=0), trust.RollbackError),
        (bend_status(issue_time_ms=NOON - 401), trust.RollbackError),
        (bend_status(issue_time_ms=NOON + HOUR), trust.TrustError),
        (bend_status(generation=2), trust.RollbackError),
        (bend_status(lineage=bytes(32)), trust.WrongLineageError),
        (bend_status(roster__digest=bytes(32)), trust.EquivocationError),
        (bend_status(roster__version=0), trust.RollbackError),
        (bend_status(agreement__digest=bytes(32)), trust.EquivocationError),
        (bend_status(party_document__digest=bytes(32)), trust.EquivocationError),
        (bend_status(party_document__version=0), trust.RollbackError),
    ],
)
def test_a_status_that_breaks_the_rules_is_refused(held: Trust, bend: Any, error: type[PeerError]) -> None:
    refused(held, chains.next_status(world(), "nl", bend), error)


def test_statuses_may_skip_and_only_the_newest_is_handed_on(held: Trust) -> None:
    held.take(chains.next_status(world(), "nl", version=9), now_ms=NOON)
    assert sum(d.type == "tocsin/1/status" for d in held.documents()) == 2
    assert (held.status("nl") or pb.Status()).version == 9


def test_a_status_tells_of_newer_documents_not_held(held: Trust) -> None:
    events = held.take(
        chains.next_status(
            world(), "nl", bend_status(roster__version=2, agreement__version=2, party_document__version=2)
        ),
        now_ms=NOON,
    ).events
    assert sum("fetch it" in event for event in events) == 3


def test_a_status_that_names_an_older_roster_or_agreement_is_refused(held: Trust) -> None:
    held.take(chains.next_roster(world(), "nl"), now_ms=NOON)
    refused(held, chains.next_status(world(), "nl"), trust.RollbackError)
    held.take(chains.next_agreement(world(), effective_ms=NOON - 10), now_ms=NOON)
    refused(held, chains.next_status(world(), "kr", bend_status(agreement__version=1)), trust.RollbackError)


def test_a_thief_of_the_status_key_fills_no_log(held: Trust, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "MAX_STATUSES", 3)
    for version in (2, 3):
        held.take(chains.next_status(world(), "nl", version=version), now_ms=NOON)
    refused(held, chains.next_status(world(), "nl", version=4), trust.TrustError)
    held.take(chains.next_status(world(), "kr"), now_ms=NOON)
    # By issue times, not by the clock: who was away for days takes all of them at once.
    late = NOON + 9 * DAY
    refused(held, chains.next_status(world(), "nl", version=4, now_ms=NOON + HOUR), trust.TrustError, now_ms=late)
    held.take(chains.next_status(world(), "nl", version=4, now_ms=NOON + DAY), now_ms=late)
    after, document, _ = rotated("status")
    held.take(document, now_ms=late)
    for version in (1, 2, 3):
        held.take(chains.next_status(after, "nl", version=version, now_ms=NOON + DAY), now_ms=late)


def test_a_party_is_not_stale_because_it_replaced_its_status_key(held: Trust) -> None:
    """The Party document that voids its status is its last word until the next one, and for no longer than R."""
    limit = held.agreement(NOON).body.revocation_ms
    key = suite.SigningKey.generate(suite.DESK_SUITE)
    later = NOON + limit - 1000

    def issued(body: pb.Party) -> None:
        body.issue_time_ms = later

    document = chains.next_party(world(), "kr", {"status": {"duty": key}}, issued)
    assert "kr" in held.stale(later + 2000)
    held.take(document, now_ms=later)
    assert held.status("kr") is None, "the old status says nothing more"
    assert "kr" not in held.stale(later)
    assert "kr" not in held.stale(later + limit)
    assert "kr" in held.stale(later + limit + 1)


def test_a_frozen_status_goes_stale(held: Trust) -> None:
    limit = held.agreement(NOON).body.revocation_ms
    assert held.stale(NOON - 400 + limit) == ()
    assert held.stale(NOON - 399 + limit) == ("kr", "nl")
    held.take(chains.next_status(world(), "nl", now_ms=NOON + DAY), now_ms=NOON + DAY)
    assert held.stale(NOON + limit) == ("kr",)
    assert world().trust(without=("tocsin/1/status", "tocsin/1/card")).stale(NOON) == ("kr", "nl")


# ---- suspensions


def suspend(**fields: str) -> Any:
    return lambda body: body.suspensions.add(**fields)


def test_suspensions_stick_until_the_next_roster(held: Trust) -> None:
    first = chains.next_status(world(), "nl", suspend(name=DESK, reason="lost"))
    held.take(first, now_ms=NOON)
    assert "lost" in (held.suspended(desk=DESK, channel="chips") or "")
    refused(held, chains.next_status(world(), "nl", version=3), trust.TrustError)
    second = chains.next_roster(world(), "nl")
    held.take(second, now_ms=NOON)
    assert held.suspended(desk=DESK, channel="chips") is None
    held.take(chains.next_status(world(), "nl", version=4, roster=second), now_ms=NOON)


def test_a_party_suspends_only_its_own_people_but_any_channel(held: Trust) -> None:
    held.take(chains.next_roster(world(), "nl", suspend(name=SENDER)), now_ms=NOON)
    assert held.suspended(desk=SENDER, channel="chips") is None
    held.take(chains.next_status(world(), "kr", suspend(channel="chips")), now_ms=NOON)
    assert held.suspended(desk=DESK, channel="chips")
    assert held.suspended(desk=DESK, channel="minerals") is None


def test_an_empty_suspension_stops_the_issuing_party_only(held: Trust) -> None:
    held.take(chains.next_roster(world(), "nl", suspend()), now_ms=NOON)
    assert held.suspended(desk=DESK, channel="chips")
    assert held.suspended(desk=SENDER, channel="chips") is None


# ---- replacing the keys of a role


def rotated(role: str, number: int = 50) -> tuple[World, Document, Document]:
    """A world whose nl party replaced a role; the new Party document; a first roster under it."""
    holders = {"root": ("first", "second", "third"), "roster": ("staff",), "status": ("duty",)}[role]
    keys = {holder: key(number + i, founding.ROLE_SUITES[role]) for i, holder in enumerate(holders)}
    replace = {role: keys}
    document = chains.next_party(world(), "nl", replace)
    after = World(**{name: getattr(world(), name) for name in World.__dataclass_fields__})
    after.parties = {**world().parties, "nl": chains.with_roles(world(), "nl", document, replace)}

    def restart(body: pb.Roster) -> None:
        if role == "roster":
            body.generation, body.version, body.previous = 2, 1, b""

    return after, document, chains.next_roster(after, "nl", restart)


@pytest.mark.parametrize("role", ["root", "roster", "status"])
def test_a_party_replaces_any_of_its_keys_alone(held: Trust, role: str) -> None:
    _, document, roster = rotated(role)
    held.take(document, now_ms=NOON)
    held.take(roster, now_ms=NOON)
    assert held.party_document("nl").version == 2
    assert held.roster("nl").document == roster
    if role == "roster":
        refused(held, chains.next_roster(world(), "nl"), ThresholdError)


def test_a_replaced_status_key_restarts_the_counter(held: Trust) -> None:
    held.take(chains.next_status(world(), "nl", suspend(name=DESK), version=2**63), now_ms=NOON)
    refused(held, chains.next_status(world(), "nl", version=2), trust.RollbackError)
    after, document, _ = rotated("status")
    held.take(document, now_ms=NOON)
    assert held.status("nl") is None
    assert held.suspended(desk=DESK, channel="chips") is None
    refused(held, chains.next_status(world(), "nl", version=2**63 + 1), ThresholdError)
    held.take(chains.next_status(after, "nl", bend_status(version=1)), now_ms=NOON)
    assert (held.status("nl") or pb.Status()).version == 1


def test_a_replaced_roster_key_undoes_what_its_thief_did(held: Trust) -> None:
    def steal(body: pb.Roster) -> None:
        add_desk(body, "nl.bz/thief", key(90))
        set_state(body, DESK, pb.KEY_STATE_REVOKED)

    stolen = chains.next_roster(world(), "nl", steal)
    held.take(stolen, now_ms=NOON)
    assert ended(held)
    _, document, roster = rotated("roster")
    held.take(document, now_ms=NOON)
    held.take(roster, now_ms=NOON)
    assert ended(held) is None
    assert "nl.bz/thief" not in held.roster("nl").desks
    assert held.voided(held.find_roster(stolen.digest))
    assert not held.voided(held.roster("nl"))


@pytest.mark.parametrize(
    ("bend", "error"),
    [
        (lambda body: setattr(body, "version", 3), trust.GapError),
        (lambda body: setattr(body, "version", 1), trust.EquivocationError),
        (lambda body: setattr(body, "previous", bytes(32)), trust.EquivocationError),
        (lambda body: setattr(body, "lineage", bytes(32)), trust.WrongLineageError),
        (lambda body: setattr(body.roster, "generation", 1), trust.TrustError),
        (lambda body: setattr(body.status, "generation", 2), trust.TrustError),
        (lambda body: setattr(body.roster, "threshold", 2), trust.TrustError),
        (lambda body: setattr(body, "party", "kr"), ThresholdError),
        (lambda body: setattr(body, "party", "xx"), trust.TrustError),
    ],
)
def test_a_party_document_that_breaks_the_rules_is_refused(held: Trust, bend: Any, error: type[PeerError]) -> None:
    refused(held, chains.next_party(world(), "nl", {"roster": {"staff": key(60)}}, bend), error)


def test_an_old_key_in_a_new_role_is_refused(held: Trust) -> None:
    reused = world().parties["nl"].keys["status"]["duty"]
    refused(held, chains.next_party(world(), "nl", {"roster": {"staff": reused}}), BadKeyError)


# ---- the TUF rotation cases, once per party


def cases(group: str) -> list[Any]:
    return [pytest.param(case, id=name) for name, case in CASES[group].items()]


def party_version(
    party: str, step: dict[str, Any], before: Document | None, generation: int, lineage: bytes
) -> Document:
    holders = {f"h{number}": key(1000 + number, suite.ROOT_SUITE) for number in step["keys"]}
    base = documents.body(world().parties[party].document, pb.Party)
    base.root.CopyFrom(
        chains.role_keys(party, "root", holders, threshold=step["threshold"], generation=generation, lineage=b"")
    )
    if before is not None:
        base.version = documents.body(before, pb.Party).version + 1
        base.lineage, base.previous = lineage, before.digest
    document = documents.make(base)
    for number in step["sigs"]:
        document = documents.sign(document, key(1000 + number, suite.ROOT_SUITE), role="root")
    return document


@pytest.mark.parametrize("party", ["kr", "nl"])
@pytest.mark.parametrize("steps", cases("root_rotation_cases"))
def test_root_rotation_as_in_tuf(party: str, steps: list[dict[str, Any]]) -> None:
    other = "nl" if party == "kr" else "kr"
    first = party_version(party, steps[0], None, 1, b"")
    draft = founding.standard_agreement(now_ms=NOON, title="tuf")
    for name, document in sorted({party: first, other: world().parties[other].document}.items()):
        draft.parties.add(party=name, first_party=document.digest)
    agreement = world().parties[other].sign(documents.make(draft), "root")
    for number in steps[0]["keys"]:
        agreement = documents.sign(agreement, key(1000 + number, suite.ROOT_SUITE), role="root")
    held = Trust(agreement.digest)
    for document in (first, world().parties[other].document, agreement):
        held.take(document, now_ms=NOON)
    before, generation = first, 1
    for older, step in pairwise(steps):
        changed = (sorted(older["keys"]), older["threshold"]) != (sorted(step["keys"]), step["threshold"])
        generation += changed
        document = party_version(party, step, before, generation, held.lineage)
        if step["res"]:
            held.take(document, now_ms=NOON)
            before = document
        else:
            refused(held, document, ThresholdError)


@pytest.mark.parametrize("case", cases("non_root_rotation_cases"))
def test_role_thresholds_as_in_tuf(case: dict[str, Any]) -> None:
    role = pb.RoleKeys(threshold=case["threshold"])
    for number in case["keys"]:
        signing = key(2000 + number)
        role.keys.add(holder=f"h{number}").key.MergeFrom(pb.PublicKey(suite=1, key=signing.public))
    document = documents.make(pb.Roster(party="kr"))
    for number in case["sigs"]:
        document = documents.sign(document, key(2000 + number), role="roster")
    if case["res"]:
        documents.require(document, role, role="roster")
    else:
        with pytest.raises(ThresholdError):
            documents.require(document, role, role="roster")
