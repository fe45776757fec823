"""Admission: each rule refuses with its own reason; what keeps them all is admitted, at node and desk alike."""

from collections.abc import Callable
from typing import Any

import pytest

from exchange import admission, envelope, errors
from exchange.admission import Admission, check_stream
from exchange.envelope import Parsed
from exchange.v1 import envelope_pb2 as env
from keys import documents, founding, suite
from keys.errors import PeerError, SignatureError, UnknownSuiteError
from keys.trust import MissingDocumentError, Trust, WrongLineageError, week_of
from keys.v1 import documents_pb2 as pb
from tests import chains, mail
from tests.chains import DAY, HOUR
from tests.world import NOON, SENDER, draft, found, world

READER = mail.READER
SKEW, R, L = 5 * 60 * 1000, 72 * HOUR, 14 * DAY


@pytest.fixture
def trust() -> Trust:
    return world().trust()


def refused(trust: Trust, parsed: Parsed, error: type[PeerError], *, now_ms: int = NOON) -> PeerError:
    with pytest.raises(error) as failure:
        mail.admit(trust, parsed, now_ms=now_ms)
    assert type(failure.value) is error, failure.value
    assert failure.value.hint
    if failure.value.reason not in ("ENVELOPE_SHAPE", "SIGNATURE_BAD"):
        # What can be read of it was refused by a document: which, and of which version.
        assert failure.value.metadata["document"]
        assert failure.value.metadata["version"]
    return failure.value


def sent(trust: Trust, bend: Callable[[env.Header], None], **fields: Any) -> Parsed:
    header = draft(trust, **fields)
    bend(header)
    return mail.send(trust, header)


def put(**fields: Any) -> Callable[[env.Header], None]:
    def bend(header: env.Header) -> None:
        for name, value in fields.items():
            setattr(header, name, value)

    return bend


def test_an_honest_envelope_is_admitted_without_warnings(trust: Trust) -> None:
    for marking in (pb.MARKING_CLEAR, pb.MARKING_AMBER, pb.MARKING_RED):
        admitted = mail.admit(trust, mail.honest(trust, marking=marking))
        assert admitted.warnings == ()
        assert admitted.rule.channel == "minerals"
        assert admitted.header.sender == SENDER


@pytest.mark.parametrize(
    ("bend", "error"),
    [
        (put(lineage=bytes(32)), WrongLineageError),
        (put(agreement=bytes(32)), MissingDocumentError),
        (put(agreement_version=2), errors.PinnedError),
        (put(channel="gossip"), errors.PolicyError),
        (put(marking=9), errors.PolicyError),
        (put(sender="kr.motie/supply"), errors.EnvelopeError),
        (put(create_time_ms=NOON + SKEW + 1, expire_time_ms=NOON + HOUR), errors.ExpiredError),
        (put(create_time_ms=NOON - HOUR, expire_time_ms=NOON - SKEW), errors.PinnedError),
        (put(expire_time_ms=NOON + L + 1), errors.ExpiredError),
        (put(expire_time_ms=NOON + 1000 * DAY, create_time_ms=NOON + 999 * DAY), errors.PinnedError),
        (lambda header: header.rosters.pop(), errors.PinnedError),
        (lambda header: put(digest=bytes(32))(header.rosters[0]), MissingDocumentError),
        (lambda header: put(version=2)(header.rosters[0]), errors.PinnedError),
        (lambda header: put(generation=2)(header.rosters[0]), errors.PinnedError),
        (lambda header: header.audience.pop(), errors.AudienceError),
        (lambda header: header.audience.add(desk="nl.zz/x"), errors.AudienceError),
        (lambda header: put(card=b"")(header.audience[0]), None),
    ],
)
def test_each_rule_refuses_with_its_reason(
    trust: Trust, bend: Callable[[env.Header], None], error: type[PeerError] | None
) -> None:
    header = draft(trust)
    bend(header)
    parsed = mail.send(trust, header, key=world().desks[SENDER])
    if error is None:
        # Nobody can have known the card an hour after it came; see the test of cards below.
        assert mail.admit(trust, parsed)
    else:
        refused(trust, parsed, error)


def test_times_are_inclusive_from_and_exclusive_until(trust: Trust) -> None:
    parsed = mail.honest(trust)
    header = envelope.check(parsed, world().desks[SENDER].public).header
    mail.admit(trust, parsed, now_ms=header.expire_time_ms + SKEW - 1)
    refused(trust, parsed, errors.ExpiredError, now_ms=header.expire_time_ms + SKEW)
    mail.admit(trust, parsed, now_ms=NOON - SKEW)
    refused(trust, parsed, errors.ExpiredError, now_ms=NOON - SKEW - 1)


def test_archives_are_judged_without_freshness(trust: Trust) -> None:
    parsed = mail.honest(trust)
    assert Admission(trust).rights(parsed, answered=mail.nothing_answered).id == parsed.id


def test_an_unknown_key_and_a_forged_signature_are_refused(trust: Trust) -> None:
    stranger = suite.SigningKey.generate(1)
    refused(trust, mail.send(trust, draft(trust), key=stranger), errors.SenderError)
    forged = mail.altered(mail.honest(trust), lambda outer: setattr(outer, "signature", bytes(3373)))
    refused(trust, envelope.parse(forged), SignatureError)


def test_a_desk_does_not_speak_for_another(trust: Trust) -> None:
    header = draft(trust, sender="kr.motie/supply")
    refused(trust, mail.send(trust, header, key=world().desks[SENDER]), errors.SenderError)


def test_the_suite_is_the_keys_and_must_be_allowed(trust: Trust, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = mail.honest(trust)
    trust.agreement(NOON).body.suites[:] = [2]
    try:
        refused(trust, parsed, UnknownSuiteError)
    finally:
        trust.agreement(NOON).body.suites[:] = [1]


def test_companies_do_not_publish(trust: Trust) -> None:
    refused(trust, mail.honest(trust, sender="nl.asml-like/supply"), errors.PolicyError)


def test_only_red_may_be_narrowed(trust: Trust) -> None:
    assert mail.admit(trust, mail.honest(trust, marking=pb.MARKING_RED, audience=(READER,)))
    refused(trust, mail.honest(trust, marking=pb.MARKING_AMBER, audience=(READER,)), errors.AudienceError)
    refused(
        trust,
        mail.honest(trust, marking=pb.MARKING_RED, audience=("nl.asml-like/supply", READER)),
        errors.AudienceError,
    )


@pytest.mark.parametrize(("group", "courier"), [("bag", None), ("", bytes(range(32)))])
def test_a_courier_key_is_used_exactly_when_the_rule_says_so(trust: Trust, group: str, courier: bytes | None) -> None:
    trust.agreement(NOON).channels["minerals"].courier_group = group
    refused(trust, mail.send(trust, draft(trust), courier=courier), errors.CourierError)


# ---- cards


def test_an_empty_card_is_allowed_only_while_it_could_not_be_known(trust: Trust) -> None:
    def without(header: env.Header) -> None:
        header.audience[1].card = b""

    week = world().now_ms
    later = week + R
    assert week_of(later) == week_of(week) or pytest.skip("the week ends")
    for time_ms, ok in ((later - 1, True), (later, False)):
        parsed = sent(trust, without, create_ms=time_ms)
        if ok:
            assert mail.admit(trust, parsed, now_ms=time_ms)
        else:
            refused(trust, parsed, errors.AudienceError, now_ms=time_ms)


def test_a_reader_without_any_card_stands_without_a_wrap() -> None:
    trust = world().trust(without=("tocsin/1/card",))
    parsed = mail.honest(trust)
    assert not parsed.outer.wraps.wrap
    assert mail.admit(trust, parsed)


def test_another_card_and_a_card_not_held_are_refused(trust: Trust) -> None:
    next_week = trust.held_card(READER, week_of(NOON) + 1)
    assert next_week is not None

    def bend(header: env.Header) -> None:
        header.audience[1].card = next_week.digest

    refused(trust, sent(trust, bend), errors.AudienceError)
    refused(world().trust(without=("tocsin/1/card",)), mail.honest(trust), MissingDocumentError)


def test_a_reader_whose_card_died_with_its_key_may_stand_without_a_wrap(trust: Trust) -> None:
    def rotate(body: pb.Roster) -> None:
        entry = next(desk for desk in body.desks if desk.desk == READER)
        entry.keys[0].state = pb.KEY_STATE_REVOKED
        fresh = founding.desk_entry(READER, suite.SigningKey.generate(1), lineage=world().lineage)
        entry.keys.append(fresh.keys[0])

    trust.take(chains.next_roster(world(), "nl", rotate), now_ms=NOON)
    parsed = mail.honest(trust, create_ms=NOON + R)
    assert len(parsed.outer.wraps.wrap) == 2
    assert mail.admit(trust, parsed, now_ms=NOON + R)


# ---- pinned documents


def test_mail_under_way_survives_roster_edits_until_the_bound(trust: Trust) -> None:
    header = draft(trust)
    header.expire_time_ms = NOON + L
    parsed = mail.send(trust, header)
    before = world().rosters["nl"]
    for step in (1, 2, 3):
        before = chains.next_roster(world(), "nl", after=before, now_ms=NOON + step * DAY)
        trust.take(before, now_ms=NOON + step * DAY)
    assert mail.admit(trust, parsed, now_ms=NOON + 13 * DAY)


def test_a_roster_replaced_too_long_ago_is_refused(trust: Trust) -> None:
    trust.take(chains.next_roster(world(), "nl"), now_ms=NOON)
    header = draft(world().trust())
    bound = NOON + R + L + 2 * SKEW
    header.create_time_ms, header.expire_time_ms = bound - DAY, bound + DAY
    parsed = mail.send(trust, header)
    assert "replaced too long ago" in str(refused(trust, parsed, errors.PinnedError, now_ms=bound))
    with pytest.raises(PeerError) as failure:
        mail.admit(trust, parsed, now_ms=bound - 1)
    assert not isinstance(failure.value, errors.PinnedError)


def test_an_old_agreement_is_refused_when_its_grace_is_over(trust: Trust) -> None:
    second = chains.next_agreement(world(), effective_ms=NOON - 500)
    old = mail.honest(trust)
    body = trust.agreement(NOON).body
    trust.take(second, now_ms=NOON)
    assert mail.admit(trust, old)
    over = NOON - 500 + body.grace_ms
    header = draft(world().trust(), create_ms=over)
    assert "no longer in force" in str(refused(trust, mail.send(trust, header), errors.PinnedError, now_ms=over))


def test_an_agreement_not_yet_in_force_is_refused(trust: Trust) -> None:
    second = chains.next_agreement(world())
    trust.take(second, now_ms=NOON)
    header = draft(trust)
    header.agreement, header.agreement_version = second.digest, 2
    refused(trust, mail.send(trust, header), errors.PinnedError)


# ---- revocation by the newest


def change_key(**fields: Any) -> Callable[[pb.Roster], None]:
    def bend(body: pb.Roster) -> None:
        entry = next(desk for desk in body.desks if desk.desk == SENDER)
        for name, value in fields.items():
            setattr(entry.keys[0], name, value)

    return bend


@pytest.mark.parametrize("state", [pb.KEY_STATE_TAINTED, pb.KEY_STATE_REVOKED])
def test_an_envelope_of_a_key_that_ended_since_is_refused(trust: Trust, state: pb.KeyState) -> None:
    parsed = mail.honest(trust)
    trust.take(chains.next_roster(world(), "kr", change_key(state=state)), now_ms=NOON)
    refused(trust, parsed, errors.SenderEndedError)
    assert Admission(trust).rights(parsed, answered=mail.nothing_answered)


def test_a_renounced_key_and_a_suspended_desk_are_refused(trust: Trust) -> None:
    parsed = mail.honest(trust)
    suspended = world().trust()
    suspended.take(
        chains.next_status(world(), "kr", lambda body: body.suspensions.add(name="kr.the-hague")), now_ms=NOON
    )
    refused(suspended, parsed, errors.SenderEndedError)
    signing = world().desks[SENDER]
    body = pb.Renunciation(lineage=world().lineage, desk=SENDER, key=suite.key_id(1, "desk", signing.public))
    trust.take(documents.sign(documents.make(body), signing, role="desk"), now_ms=NOON)
    refused(trust, parsed, errors.SenderEndedError)


@pytest.mark.parametrize(
    ("fields", "ok"),
    [
        ({"first_use_ms": NOON}, True),
        ({"first_use_ms": NOON + 1}, False),
        ({"last_use_ms": NOON + 1}, True),
        ({"last_use_ms": NOON}, False),
    ],
)
def test_a_key_signs_from_its_first_use_until_its_last(trust: Trust, fields: dict[str, int], ok: bool) -> None:
    trust.take(chains.next_roster(world(), "kr", change_key(**fields)), now_ms=NOON)
    parsed = mail.honest(trust)
    if ok:
        assert mail.admit(trust, parsed)
    else:
        refused(trust, parsed, errors.SenderError)


def test_a_prepared_key_does_not_sign_yet(trust: Trust) -> None:
    prepared = found()
    body = documents.body(prepared.rosters["kr"], pb.Roster)
    for desk in body.desks:
        desk.keys[0].state = pb.KEY_STATE_PREPARED
    roster = prepared.parties["kr"].sign(documents.make(body), "roster")
    held = Trust(prepared.lineage)
    for document in prepared.documents[:3]:
        held.take(document, now_ms=NOON)
    held.take(roster, now_ms=NOON)
    held.take(prepared.rosters["nl"], now_ms=NOON)
    refused(held, mail.send(held, draft(held), key=prepared.desks[SENDER]), errors.SenderError)


def test_a_voided_roster_gives_only_the_rights_its_successor_confirms(trust: Trust) -> None:
    thief = suite.SigningKey.generate(1)
    lineage = world().lineage

    def steal(body: pb.Roster) -> None:
        body.desks.append(founding.desk_entry("kr.motie/thief", thief, lineage=lineage))
        body.desks.sort(key=lambda desk: desk.desk)

    trust.take(chains.next_roster(world(), "kr", steal), now_ms=NOON)
    forged = mail.send(trust, draft(trust, sender="kr.motie/thief", create_ms=NOON + 1), key=thief)
    under_way = mail.honest(trust, create_ms=NOON + 1)
    assert mail.admit(trust, forged, now_ms=NOON + 1)
    fresh = {"roster": {"staff": suite.SigningKey.generate(1)}}
    document = chains.next_party(world(), "kr", fresh)
    trust.take(document, now_ms=NOON)
    keys = chains.with_roles(world(), "kr", document, fresh)
    body = documents.body(world().rosters["kr"], pb.Roster)
    body.generation, body.issue_time_ms = 2, NOON
    trust.take(keys.sign(documents.make(body), "roster"), now_ms=NOON)
    assert "void" in str(refused(trust, forged, errors.PinnedError, now_ms=NOON + 1))
    assert mail.admit(trust, under_way, now_ms=NOON + 1)


# ---- freeze


def test_past_the_bound_without_a_status_it_is_loud_or_stops(trust: Trust) -> None:
    late = NOON + R
    parsed = mail.honest(trust, create_ms=late)
    assert len(mail.admit(trust, parsed, now_ms=late).warnings) == 2
    trust.agreement(NOON).body.stop_when_stale = True
    refused(trust, parsed, errors.StaleError, now_ms=late)


# ---- answers and streams


def answer(trust: Trust, sender: str, audience: tuple[str, ...], first: Parsed, **fields: Any) -> Parsed:
    header = draft(trust, sender=sender, audience=audience)
    header.answers = first.id
    put(**fields)(header)
    return mail.send(trust, header)


def test_members_answer_members_and_nobody_else(trust: Trust) -> None:
    first = mail.honest(trust, marking=pb.MARKING_GREEN)
    header = mail.admit(trust, first).header
    company = "nl.asml-like/supply"

    def judge(parsed: Parsed, held: env.Header | None = header) -> admission.Admitted:
        return Admission(trust).admit(parsed, now_ms=NOON, answered=lambda _: held)

    assert judge(answer(trust, company, (SENDER,), first, marking=pb.MARKING_GREEN))
    with pytest.raises(MissingDocumentError):
        judge(answer(trust, company, (SENDER,), first, marking=pb.MARKING_GREEN), None)
    with pytest.raises(errors.AudienceError):
        judge(answer(trust, company, (SENDER,), first, marking=pb.MARKING_AMBER))
    narrow = env.Header()
    narrow.CopyFrom(header)
    del narrow.audience[1:]
    with pytest.raises(errors.PolicyError, match="no member"):
        judge(answer(trust, company if narrow.audience[0].desk != company else READER, (SENDER,), first), narrow)
    with pytest.raises(errors.AudienceError):
        judge(
            answer(trust, narrow.audience[0].desk, (SENDER, "nl.seoul/economic"), first, marking=header.marking), narrow
        )


def test_numbers_go_up_and_name_their_predecessor() -> None:
    one, other = b"1" * 32, b"2" * 32
    check_stream(env.Header(seq=1), None)
    check_stream(env.Header(seq=5, prev_seq=4, prev_id=one), (4, one))
    check_stream(env.Header(seq=9, prev_seq=4, prev_id=one), (4, one))
    check_stream(env.Header(seq=5, prev_seq=3, prev_id=one), (4, other))
    for header, last, error in (
        (env.Header(seq=4, prev_seq=3, prev_id=one), (4, one), errors.ForkError),
        (env.Header(seq=1), (1, one), errors.ForkError),
        (env.Header(seq=5, prev_seq=4, prev_id=other), (4, one), errors.ForkError),
        (env.Header(seq=7, prev_seq=6, prev_id=one), (4, one), errors.StreamError),
        (env.Header(seq=2, prev_seq=1, prev_id=one), None, errors.StreamError),
    ):
        with pytest.raises(errors.StreamError) as failure:
            check_stream(header, last)
        assert type(failure.value) is error


def test_the_cached_audience_changes_when_a_hold_ends(trust: Trust) -> None:
    def bend(body: pb.Roster) -> None:
        entry = founding.desk_entry("nl.bz/new", suite.SigningKey.generate(1), lineage=world().lineage)
        body.desks.append(entry)
        body.desks.sort(key=lambda desk: desk.desk)

    trust.take(chains.next_roster(world(), "nl", bend), now_ms=NOON)
    rules = Admission(trust)
    rosters = {party: trust.roster(party) for party in trust.parties}
    end = NOON + trust.agreement(NOON).body.hold_ms
    for time_ms, member in ((end - 1, False), (end, True), (end - 1, False)):
        header = draft(trust, create_ms=time_ms)
        assert ("nl.bz/new" in rules.audience(header, trust.agreement(NOON), rosters)) is member
