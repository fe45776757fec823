"""Attacks on the chains of documents and on what they say who may, numbered as in docs/THREATS.md.

Each is refused for its reason, and succeeds once that one check is switched off: so each test is known to bite.
"""

import itertools
from collections.abc import Callable

import pytest

from exchange import envelope, errors, policy, rights
from exchange.admission import Admission
from exchange.envelope import Parsed
from exchange.v1 import envelope_pb2 as env
from keys import documents, founding, suite
from keys import trust as trust_module
from keys.documents import Document, ThresholdError
from keys.encoding import canonical_bytes
from keys.errors import PeerError, UnknownSuiteError
from keys.trust import Trust, week_of
from keys.trust import cards as cards_taker
from keys.trust import party as party_taker
from keys.trust import roster as roster_taker
from keys.trust import status as status_taker
from keys.trust.claims import Claims
from keys.v1 import documents_pb2 as pb
from tests import chains, mail, third_suite
from tests.attacks.marks import attack
from tests.chains import DAY, HOUR
from tests.world import NOON, SENDER, draft, found, world

Patch = pytest.MonkeyPatch
READER, COMPANY, EMBASSY = mail.READER, "nl.asml-like/supply", "nl.seoul/economic"
COURIER = bytes(range(32))
SIGNER = world().desks[SENDER]


@pytest.fixture
def trust() -> Trust:
    return world().trust()


def yes(*_: object, **__: object) -> None:
    """A check that is switched off."""


# ---- 13 rollback


@attack(13, off="check_chain")
def test_13_an_older_roster_is_refused(trust: Trust, monkeypatch: Patch) -> None:
    trust.take(chains.next_roster(world(), "nl"), now_ms=NOON)
    older = chains.next_roster(world(), "nl", lambda body: setattr(body, "version", 0))
    with pytest.raises(trust_module.RollbackError):
        trust.take(older, now_ms=NOON)
    monkeypatch.setattr(roster_taker, "check_chain", yes)
    trust.take(older, now_ms=NOON)
    assert trust.roster("nl").body.version == 0


@attack(13, off="_check_named")
def test_13_with_its_memory_lost_a_machine_learns_from_the_status_what_is_withheld(monkeypatch: Patch) -> None:
    """A hostile node serves a fresh machine the roster before the newest, with any status there is."""
    newest = chains.next_roster(world(), "nl")
    told = chains.next_status(world(), "nl", roster=newest)
    fresh = world().trust()
    assert "a newer roster (1, 2) exists; fetch it" in fresh.take(told, now_ms=NOON).events[-1]
    # An old status does not tell; but it grows old, and that is loud.
    late = NOON + fresh.agreement(NOON).body.revocation_ms
    assert "nl" in world().trust().stale(late)
    monkeypatch.setattr(status_taker, "_check_named", lambda *_: [])
    assert not any("newer" in event for event in world().trust().take(told, now_ms=NOON).events)


@attack(13, off="check_chain")
@attack(13, off="_check_after")
@attack(13, off="check")
@pytest.mark.parametrize("kind", ["agreement", "party", "status"])
def test_13_no_other_document_goes_back(trust: Trust, kind: str, monkeypatch: Patch) -> None:
    older: Document
    if kind == "agreement":
        trust.take(chains.next_agreement(world()), now_ms=NOON)
        older = chains.next_agreement(world(), lambda body: setattr(body, "version", 0))
    elif kind == "party":
        older = chains.next_party(world(), "nl", {}, lambda body: setattr(body, "version", 0))
    else:
        trust.take(chains.next_status(world(), "nl", version=9), now_ms=NOON)
        older = chains.next_status(world(), "nl", version=8)
    with pytest.raises(trust_module.RollbackError) as failure:
        trust.take(older, now_ms=NOON)
    assert failure.value.metadata["version"] in ("0", "8")
    for module, check in ((trust_module.agreement, "check_chain"), (trust_module.agreement, "check"),
                          (party_taker, "check_chain"), (status_taker, "_check_after")):  # fmt: skip
        monkeypatch.setattr(module, check, yes)
    assert trust.take(older, now_ms=NOON).new


# ---- 14 freeze


@attack(14, off="stale")
def test_14_silence_longer_than_agreed_is_loud_or_stops(trust: Trust, monkeypatch: Patch) -> None:
    late = NOON + trust.agreement(NOON).body.revocation_ms
    parsed = mail.honest(trust, create_ms=late)
    assert len(mail.admit(trust, parsed, now_ms=late).warnings) == 2
    trust.agreement(NOON).body.stop_when_stale = True
    with pytest.raises(errors.StaleError):
        mail.admit(trust, parsed, now_ms=late)
    monkeypatch.setattr(Trust, "stale", lambda *_: ())
    assert mail.admit(trust, parsed, now_ms=late).warnings == ()


# ---- 15 fast-forward


@attack(15, off="restart_status")
def test_15_a_counter_pushed_to_its_end_restarts_with_new_keys(trust: Trust, monkeypatch: Patch) -> None:
    def recover(held: Trust) -> bool:
        held.take(chains.next_status(world(), "nl", version=2**63), now_ms=NOON)
        with pytest.raises(trust_module.RollbackError):
            held.take(chains.next_status(world(), "nl", version=2), now_ms=NOON)
        fresh = {"status": {"duty": suite.SigningKey.generate(1)}}
        document = chains.next_party(world(), "nl", fresh)
        held.take(document, now_ms=NOON)
        keys, roster = chains.with_roles(world(), "nl", document, fresh), world().rosters["nl"]
        status = founding.status(
            keys, lineage=held.lineage, agreement=world().agreement, roster=roster, version=1, now_ms=NOON
        )
        return held.take(status, now_ms=NOON).new

    assert recover(trust)
    # Without the restart the new keys inherit the thief's counter.
    monkeypatch.setattr(party_taker, "restart_status", yes)
    with pytest.raises(trust_module.RollbackError):
        recover(world().trust())


@attack(15, off="check_chain")
@pytest.mark.parametrize("kind", ["agreement", "roster", "party"])
def test_15_a_chain_is_not_pushed_at_all(trust: Trust, kind: str, monkeypatch: Patch) -> None:
    def far(body: pb.Agreement | pb.Roster | pb.Party) -> None:
        body.version = 2**63

    made = {
        "agreement": lambda bend: chains.next_agreement(world(), bend),
        "roster": lambda bend: chains.next_roster(world(), "nl", bend),
        "party": lambda bend: chains.next_party(world(), "nl", {}, bend),
    }[kind]
    pushed, honest = made(far), made(lambda body: None)
    with pytest.raises(trust_module.GapError):
        trust.take(pushed, now_ms=NOON)
    assert trust.take(honest, now_ms=NOON).new, "the next honest one is taken as if nothing had been"
    careless = world().trust()
    for module in (trust_module.agreement, roster_taker, party_taker):
        with monkeypatch.context() as patch:
            patch.setattr(module, "check_chain", yes)
            try:
                careless.take(pushed, now_ms=NOON)
            except PeerError:
                continue
    # Pushed to its end, the chain takes no honest document any more.
    with pytest.raises(PeerError):
        careless.take(honest, now_ms=NOON)


@attack(15, off="check_chain")
def test_15_a_roster_chain_a_thief_wrote_on_recovers_by_new_keys(trust: Trust, monkeypatch: Patch) -> None:
    """One by one a thief may go as far as he likes: the party's roots replace the key, and the counter is at 1 again."""
    before = world().rosters["nl"]
    for _ in range(20):
        before = chains.next_roster(world(), "nl", after=before)
        trust.take(before, now_ms=NOON)
    assert trust.roster("nl").body.version == 21
    honest = chains.next_roster(world(), "nl", lambda body: setattr(body, "expire_time_ms", NOON + DAY))
    with pytest.raises(trust_module.EquivocationError):
        trust.take(honest, now_ms=NOON)
    fresh = {"roster": {"staff": suite.SigningKey.generate(1)}}
    party = chains.next_party(world(), "nl", fresh)
    trust.take(party, now_ms=NOON)
    keys = chains.with_roles(world(), "nl", party, fresh)

    def first(bend: Callable[[pb.Roster], object] = lambda body: None) -> Document:
        body = documents.body(world().rosters["nl"], pb.Roster)
        body.generation, body.version, body.previous, body.issue_time_ms = 2, 1, b"", NOON
        bend(body)
        return keys.sign(documents.make(body), "roster")

    real = trust_module.held.check_chain

    def one_counter(what: str, version: int, previous: bytes, *_: object) -> None:
        """Off: the chain goes on through all generations."""
        real(what, version, previous, 21, before.digest, None, first())

    with monkeypatch.context() as patch:
        patch.setattr(roster_taker, "check_chain", one_counter)
        with pytest.raises(PeerError):
            trust.take(first(), now_ms=NOON)
    assert trust.take(first(), now_ms=NOON).new
    assert trust.roster("nl").number == (2, 1)


# ---- 16 mix and match


@attack(16, off="agreement_ends_ms")
def test_16_an_old_agreement_does_not_go_with_a_new_roster(trust: Trust, monkeypatch: Patch) -> None:
    grace = trust.agreement(NOON).body.grace_ms
    trust.take(chains.next_agreement(world(), effective_ms=NOON), now_ms=NOON)
    over = NOON + grace
    trust.take(chains.next_roster(world(), "nl", now_ms=over), now_ms=over)
    header = draft(trust, create_ms=over)
    header.agreement, header.agreement_version = world().agreement.digest, 1
    parsed = mail.send(trust, header)
    with pytest.raises(errors.PinnedError):
        mail.admit(trust, parsed, now_ms=over)
    monkeypatch.setattr(Trust, "agreement_ends_ms", lambda *_: 2**62)
    assert mail.admit(trust, parsed, now_ms=over)


@attack(16, off="_check_named")
def test_16_a_status_does_not_go_with_other_documents_than_it_names(trust: Trust, monkeypatch: Patch) -> None:
    newer = chains.next_roster(world(), "nl")
    trust.take(newer, now_ms=NOON)
    older = chains.next_status(world(), "nl")
    with pytest.raises(trust_module.RollbackError):
        trust.take(older, now_ms=NOON)
    other = chains.next_status(world(), "nl", lambda body: setattr(body.roster, "digest", bytes(32)), roster=newer)
    with pytest.raises(trust_module.EquivocationError):
        trust.take(other, now_ms=NOON)
    monkeypatch.setattr(status_taker, "_check_named", lambda *_: [])
    assert trust.take(other, now_ms=NOON).new


@attack(16, off="lineage")
def test_16_a_drill_never_mixes_with_production(trust: Trust, monkeypatch: Patch) -> None:
    """Two exchanges on one machine: nothing of one is taken by the other, whoever signed it."""
    drill = found()
    rehearsed = drill.trust()
    everything = [
        *drill.documents,
        chains.next_roster(drill, "nl"),
        chains.next_status(drill, "nl"),
        chains.next_agreement(drill),
    ]
    for document in everything:
        with pytest.raises(PeerError):
            trust.take(document, now_ms=NOON)
    parsed = mail.send(rehearsed, draft(rehearsed), at=drill)
    assert mail.admit(rehearsed, parsed)
    with pytest.raises(errors.SenderError):
        mail.admit(trust, parsed)
    # Even with the very same keys, the lineage tells them apart.
    header = draft(trust)
    header.lineage = rehearsed.lineage
    mixed = mail.send(trust, header)
    with pytest.raises(trust_module.WrongLineageError) as failure:
        mail.admit(trust, mixed)
    assert failure.value.reason == "DOCUMENT_LINEAGE"
    monkeypatch.setattr(trust, "lineage", rehearsed.lineage)
    assert mail.admit(trust, mixed)


@attack(16, off="require_lineage")
def test_16_documents_signed_by_the_right_people_for_the_drill_are_refused(trust: Trust, monkeypatch: Patch) -> None:
    other = chains.next_roster(world(), "nl", lambda body: setattr(body, "lineage", bytes(32)))
    with pytest.raises(trust_module.WrongLineageError):
        trust.take(other, now_ms=NOON)
    monkeypatch.setattr(type(trust._held), "require_lineage", yes)
    assert trust.take(other, now_ms=NOON).new


@attack(16, off="check")
def test_16_a_drill_does_not_become_production_by_an_amendment(trust: Trust, monkeypatch: Patch) -> None:
    turned = chains.next_agreement(world(), lambda body: setattr(body, "drill", True))
    with pytest.raises(trust_module.TrustError, match="drill"):
        trust.take(turned, now_ms=NOON)
    monkeypatch.setattr(trust_module.agreement, "check", yes)
    assert trust.take(turned, now_ms=NOON).new


# ---- 17 one party changes the agreement alone


@attack(17, off="require")
def test_17_one_party_alone_amends_nothing(trust: Trust, monkeypatch: Patch) -> None:
    amendment = chains.next_agreement(world(), signers=("kr",))
    with pytest.raises(ThresholdError):
        trust.take(amendment, now_ms=NOON)
    monkeypatch.setattr(documents, "require", yes)
    assert trust.take(amendment, now_ms=NOON).new


@attack(17, off="explain")
def test_17_one_key_under_two_names_counts_once(monkeypatch: Patch) -> None:
    party = founding.found_party(
        "kr",
        now_ms=NOON,
        holders={"root": ("one",), "roster": ("s",), "status": ("d",)},
        threshold={"root": 1, "roster": 1, "status": 1},
    )
    body = documents.body(party.document, pb.Party)
    root = party.keys["root"]["one"]
    body.root.threshold = 2
    body.root.keys.add(holder="two").key.CopyFrom(
        founding.public_key(root, lineage=b"", party="kr", name="two", role="root")
    )
    alone = party.sign(documents.make(body), "root")
    twice = Document(alone.type, alone.body, alone.signatures * 2, alone.digest)
    for document in (alone, twice):
        with pytest.raises(ThresholdError):
            Trust(bytes(32)).take(document, now_ms=NOON)

    def count_signatures(document: Document, *_: object, **__: object) -> documents.SigningStatus:
        return documents.SigningStatus(tuple(str(i) for i, _ in enumerate(document.signatures)), (), 2)

    monkeypatch.setattr(documents, "explain", count_signatures)
    assert Trust(bytes(32)).take(twice, now_ms=NOON).new


@attack(17, off="require")
def test_17_a_party_that_left_its_old_roots_out_changes_nothing(trust: Trust, monkeypatch: Patch) -> None:
    """New root keys signed by the new ones alone: whoever made them."""
    fresh = {name: suite.SigningKey.generate(2) for name in ("first", "second", "third")}
    body = documents.body(chains.next_party(world(), "kr", {"root": fresh}), pb.Party)
    document = documents.make(body)
    for key in fresh.values():
        document = documents.sign(document, key, role="root")
    with pytest.raises(ThresholdError):
        trust.take(document, now_ms=NOON)
    monkeypatch.setattr(documents, "require", yes)
    assert trust.take(document, now_ms=NOON).new


# ---- 18 algorithm downgrade


def _amended(bend: Callable[[pb.Agreement], object], at_ms: int, after: Document | None = None) -> Document:
    return chains.next_agreement(world(), bend, effective_ms=at_ms, after=after)


def _with_third(body: pb.Agreement) -> None:
    body.suites[:] = [1, third_suite.THIRD]


def _without_third(body: pb.Agreement) -> None:
    body.suites[:] = [1]


def third_key(trust: Trust, at_ms: int) -> tuple[suite.SigningKey, Document]:
    """A key of the third suite beside the desk's own, by the next roster."""
    key = suite.SigningKey.generate(third_suite.THIRD)

    def add(body: pb.Roster) -> None:
        entry = next(desk for desk in body.desks if desk.desk == SENDER)
        listed = entry.keys.add(state=pb.KEY_STATE_ACTIVE)
        listed.key.CopyFrom(founding.public_key(key, lineage=trust.lineage, party="kr", name=SENDER, role="desk"))

    return key, chains.next_roster(world(), "kr", add, now_ms=at_ms)


@attack(18, off="_require_suite")
def test_18_an_agreement_takes_a_suite_into_use_and_ends_it(trust: Trust, monkeypatch: Patch) -> None:
    third_suite.register(monkeypatch)
    day1, day2 = NOON + DAY, NOON + 2 * DAY
    added = _amended(_with_third, day1)
    trust.take(added, now_ms=NOON)
    key, roster = third_key(trust, day1)
    trust.take(roster, now_ms=day1)
    assert mail.admit(trust, mail.send(trust, draft(trust, create_ms=day1), key=key), now_ms=day1)
    trust.take(_amended(_without_third, day2, added), now_ms=day1)

    def offer(pinned: Document, at_ms: int) -> Parsed:
        header = draft(trust, create_ms=at_ms)
        header.agreement, header.agreement_version = pinned.digest, documents.body(pinned, pb.Agreement).version
        return mail.send(trust, header, key=key)

    # Mail under way survives until grace is over; the new agreement never allows it.
    assert mail.admit(trust, offer(added, day2), now_ms=day2)
    downgraded = offer(trust.agreement(day2).document, day2)
    with pytest.raises(UnknownSuiteError) as failure:
        mail.admit(trust, downgraded, now_ms=day2)
    assert (failure.value.metadata["document"], failure.value.metadata["version"]) == ("agreement", "3")
    over = day2 + trust.agreement(day2).body.grace_ms
    with pytest.raises(errors.PinnedError):
        Admission(trust).rights(offer(added, over), answered=mail.nothing_answered)
    monkeypatch.setattr(rights, "_require_suite", yes)
    assert mail.admit(trust, downgraded, now_ms=day2)


@attack(18, off="check_desk_suite")
def test_18_a_key_of_a_suite_the_agreement_does_not_list_disables_its_desk(trust: Trust, monkeypatch: Patch) -> None:
    third_suite.register(monkeypatch)
    _, roster = third_key(trust, NOON)
    taken = trust.take(roster, now_ms=NOON)
    assert SENDER not in trust.roster("kr").desks
    assert any("does not list" in event for event in taken.events)
    monkeypatch.setattr(roster_taker, "check_desk_suite", yes)
    careless = world().trust()
    careless.take(roster, now_ms=NOON)
    assert SENDER in careless.roster("kr").desks


@attack(18, off="check_desk_suite")
def test_18_a_retired_suite_signs_no_card_and_reads_nothing(trust: Trust, monkeypatch: Patch) -> None:
    third_suite.register(monkeypatch)
    day1, day2 = NOON + DAY, NOON + 2 * DAY
    added = _amended(_with_third, day1)
    trust.take(added, now_ms=NOON)
    key, only = third_key(trust, day1)
    body = documents.body(only, pb.Roster)
    # The desk has gone over to the third suite: its first key is ended.
    for listed in next(desk for desk in body.desks if desk.desk == SENDER).keys:
        listed.state = pb.KEY_STATE_REVOKED if listed.key.suite == 1 else listed.state
    trust.take(world().parties["kr"].sign(documents.make(body), "roster"), now_ms=day1)

    def card(at_ms: int) -> Document:
        weeks, public = week_of(at_ms), suite.CardKey.generate().public
        made = pb.KeyCard(lineage=trust.lineage, desk=SENDER, week=weeks, suite=1, key=public)
        return documents.sign(documents.make(made), key, role="desk")

    held = card(day1)
    assert trust.take(held, now_ms=day1).new
    rosters = {party: trust.roster(party) for party in trust.parties}

    def reads(at_ms: int) -> bool:
        chosen = policy.audience(
            trust.agreement(at_ms),
            rosters,
            sender=READER,
            channel="minerals",
            marking=pb.MARKING_GREEN,
            time_ms=at_ms,
        )
        return SENDER in chosen

    assert reads(day1)
    trust.take(_amended(_without_third, day2, added), now_ms=day1)
    assert not reads(day2)
    with pytest.raises(UnknownSuiteError):
        trust.take(card(day2 + 7 * DAY), now_ms=day2)
    monkeypatch.setattr(cards_taker, "check_desk_suite", yes)
    assert trust.take(card(day2 + 7 * DAY), now_ms=day2).new


@attack(18)
def test_18_nothing_adds_a_suite_to_the_product() -> None:
    with pytest.raises(UnknownSuiteError):
        suite.suite(third_suite.THIRD)
    with pytest.raises(TypeError):
        suite._SCHEMES[third_suite.THIRD] = suite._SCHEMES[1]  # type: ignore[index]


@attack(18)
@pytest.mark.parametrize("number", [0, 2, 3, third_suite.THIRD, 0x100, 2**32 - 1])
def test_18_a_flipped_suite_is_refused(trust: Trust, number: int) -> None:
    flipped = mail.altered(mail.honest(trust), lambda outer: setattr(outer, "suite", number))
    with pytest.raises((UnknownSuiteError, errors.EnvelopeError)):
        envelope.parse(flipped)


@attack(18)
def test_18_the_suite_outside_is_the_one_of_the_key(trust: Trust, monkeypatch: Patch) -> None:
    """Flipped to a suite the verifier knows, of the very same lengths."""
    third_suite.register(monkeypatch)
    flipped = mail.altered(mail.honest(trust), lambda outer: setattr(outer, "suite", third_suite.THIRD))
    with pytest.raises(UnknownSuiteError, match="is of suite 1"):
        mail.admit(trust, envelope.parse(flipped))


def _flip_key(body: pb.Roster) -> None:
    """The sender's signing key, said to be of the third suite."""
    entry = next(desk for desk in body.desks if desk.desk == SENDER)
    entry.keys[0].key.suite = third_suite.THIRD


def _flip_log_key(body: pb.Roster) -> None:
    body.nodes[0].log_key.suite = third_suite.THIRD


@attack(18, off="check_possession")
@pytest.mark.parametrize("flip", [_flip_key, _flip_log_key])
def test_18_a_flipped_suite_in_a_roster_disables_what_bears_it(
    trust: Trust, monkeypatch: Patch, flip: Callable[[pb.Roster], None]
) -> None:
    """The proof of possession is over the suite: a key is of the suite it was made for."""
    third_suite.register(monkeypatch)
    trust.take(_amended(_with_third, NOON), now_ms=NOON)
    if flip is _flip_log_key:
        monkeypatch.setattr(suite, "DESK_SUITE", third_suite.THIRD)
    taken = trust.take(chains.next_roster(world(), "kr", flip), now_ms=NOON)
    assert any("disabled" in event for event in taken.events)
    careless = world().trust()
    careless.take(_amended(_with_third, NOON), now_ms=NOON)
    monkeypatch.setattr(suite, "check_possession", yes)
    monkeypatch.setattr(Claims, "add", yes)
    assert not any(
        "disabled" in event for event in careless.take(chains.next_roster(world(), "kr", flip), now_ms=NOON).events
    )


@attack(18)
def test_18_a_flipped_suite_in_a_header_card_or_party_document_is_refused(trust: Trust, monkeypatch: Patch) -> None:
    third_suite.register(monkeypatch)

    def flip(outer: env.Envelope) -> None:
        header = env.Header.FromString(outer.header)
        header.suite = outer.suite = third_suite.THIRD
        outer.header = canonical_bytes(header)

    # Signed again by the desk itself, an insider: outside and inside agree, the key does not.
    parsed = envelope.parse(mail.altered(mail.honest(trust), flip, key=SIGNER))
    with pytest.raises(UnknownSuiteError):
        mail.admit(trust, parsed)
    inside = mail.altered(
        mail.honest(trust),
        lambda outer: (flip(outer), setattr(outer, "suite", 1))[1],
        key=SIGNER,
    )
    with pytest.raises(errors.EnvelopeError):
        mail.admit(trust, envelope.parse(inside))
    card = pb.KeyCard(lineage=trust.lineage, desk=SENDER, week=week_of(NOON) + 3, suite=third_suite.THIRD)
    card.key = suite.CardKey.generate().public
    with pytest.raises(UnknownSuiteError):
        trust.take(documents.sign(documents.make(card), SIGNER, role="desk"), now_ms=NOON)

    def demote(body: pb.Party) -> None:
        body.root.keys[0].key.suite = 1

    with pytest.raises(PeerError):
        trust.take(chains.next_party(world(), "kr", {}, demote), now_ms=NOON)


# ---- 31 stolen roster key


@attack(31, off="voided")
def test_31_a_party_alone_voids_what_its_stolen_key_said(trust: Trust, monkeypatch: Patch) -> None:
    thief = suite.SigningKey.generate(1)

    def steal(body: pb.Roster) -> None:
        body.desks.append(founding.desk_entry("kr.motie/zz", thief, lineage=trust.lineage))
        body.desks.sort(key=lambda desk: desk.desk)

    trust.take(chains.next_roster(world(), "kr", steal), now_ms=NOON)
    forged = mail.send(trust, draft(trust, sender="kr.motie/zz"), key=thief)
    assert mail.admit(trust, forged)
    fresh = {"roster": {"staff": suite.SigningKey.generate(1)}}
    document = chains.next_party(world(), "kr", fresh)
    trust.take(document, now_ms=NOON)
    body = documents.body(world().rosters["kr"], pb.Roster)
    body.generation, body.issue_time_ms = 2, NOON
    trust.take(chains.with_roles(world(), "kr", document, fresh).sign(documents.make(body), "roster"), now_ms=NOON)
    with pytest.raises(errors.PinnedError):
        mail.admit(trust, forged)
    monkeypatch.setattr(Trust, "voided", lambda *_: False)
    assert mail.admit(trust, forged)


@attack(31, off="require")
def test_31_a_new_party_document_alone_stops_the_thief_and_nobody_else(trust: Trust, monkeypatch: Patch) -> None:
    """Until the first roster under the new keys comes, the old ones stand: without any, the party would be cut off."""
    fresh = {"roster": {"staff": suite.SigningKey.generate(1)}}
    trust.take(chains.next_party(world(), "kr", fresh), now_ms=NOON)
    assert mail.admit(trust, mail.honest(trust)), "withholding the next roster must not silence the party"
    assert trust.node("kr.the-hague-1") is not None
    thief = suite.SigningKey.generate(1)

    def steal(body: pb.Roster) -> None:
        """What a thief of the old key would add, by its old number and by the new one."""
        body.desks.append(founding.desk_entry("kr.motie/zz", thief, lineage=trust.lineage))
        body.desks.sort(key=lambda desk: desk.desk)

    def renumbered(body: pb.Roster) -> None:
        steal(body)
        body.generation, body.version, body.previous = 2, 1, b""

    late, new = (chains.next_roster(world(), "kr", bend) for bend in (steal, renumbered))
    for document in (late, new):
        with pytest.raises(ThresholdError):
            trust.take(document, now_ms=NOON)
    monkeypatch.setattr(documents, "require", yes)
    with pytest.raises(trust_module.RollbackError):
        trust.take(late, now_ms=NOON)
    assert trust.take(new, now_ms=NOON).new
    assert "kr.motie/zz" in trust.roster("kr").desks


@attack(31, off="restart_status")
def test_31_a_thief_of_the_status_key_silences_a_party_until_it_replaces_the_key(
    trust: Trust, monkeypatch: Patch
) -> None:
    def stop(body: pb.Status) -> None:
        body.suspensions.add(reason="thief")

    def recovered(held: Trust) -> bool:
        held.take(chains.next_status(world(), "kr", stop, version=2**63), now_ms=NOON)
        with pytest.raises(errors.SenderEndedError):
            mail.admit(held, mail.honest(held))
        held.take(chains.next_party(world(), "kr", {"status": {"duty": suite.SigningKey.generate(1)}}), now_ms=NOON)
        try:
            return bool(mail.admit(held, mail.honest(held)))
        except errors.SenderEndedError:
            return False

    assert recovered(trust)
    monkeypatch.setattr(party_taker, "restart_status", yes)
    assert not recovered(world().trust())


# ---- 32 bogus cards


@attack(32, off="audience")
@attack(32, off="_check_cards")
@pytest.mark.parametrize("attack", ["empty", "other week", "omitted"])
def test_32_nobody_is_shut_out_by_a_card(trust: Trust, monkeypatch: Patch, attack: str) -> None:
    now = NOON + trust.agreement(NOON).body.revocation_ms
    header = draft(trust, create_ms=now)
    if attack == "empty":
        header.audience[1].card = b""
    elif attack == "other week":
        other = trust.held_card(READER, week_of(now) + 1)
        assert other is not None
        header.audience[1].card = other.digest
    else:
        del header.audience[1]
    parsed = mail.send(trust, header)
    with pytest.raises(errors.AudienceError):
        mail.admit(trust, parsed, now_ms=now)
    if attack == "omitted":
        monkeypatch.setattr(Admission, "audience", lambda *_: tuple(reader.desk for reader in header.audience))
    else:
        monkeypatch.setattr(Admission, "_check_cards", yes)
    assert mail.admit(trust, parsed, now_ms=now)


# ---- 33 a roster edit kills mail in the bag


@attack(33, off="superseded_ms")
def test_33_a_roster_edit_does_not_refuse_mail_under_way(trust: Trust, monkeypatch: Patch) -> None:
    header = draft(trust)
    header.expire_time_ms = NOON + 14 * DAY
    parsed = mail.send(trust, header)
    before = world().rosters["nl"]
    for step in (1, 2, 3):
        before = chains.next_roster(world(), "nl", after=before, now_ms=NOON + step * DAY)
        trust.take(before, now_ms=NOON + step * DAY)
    arrival = NOON + 13 * DAY
    assert mail.admit(trust, parsed, now_ms=arrival)
    # Were a replaced roster worth nothing, the same mail would be refused.
    monkeypatch.setattr(Trust, "superseded_ms", lambda *_: NOON - 100 * DAY)
    with pytest.raises(errors.PinnedError):
        mail.admit(trust, parsed, now_ms=arrival)


@attack(33, off="key_ended")
def test_33_a_desk_revoked_meanwhile_gets_nothing_in(trust: Trust, monkeypatch: Patch) -> None:
    parsed = mail.honest(trust)
    revoked = suite.key_id(1, "desk", SIGNER.public)
    trust.take(chains.next_roster(world(), "kr", lambda body: body.revocations.add(key=revoked)), now_ms=NOON)
    with pytest.raises(errors.SenderEndedError):
        mail.admit(trust, parsed)
    monkeypatch.setattr(Trust, "key_ended", lambda *_: None)
    assert mail.admit(trust, parsed)


# ---- 38 readership widened by one party alone


def promote(body: pb.Roster) -> None:
    """A company declared a ministry."""
    next(m for m in body.missions if m.mission == "nl.asml-like").kind = pb.MISSION_KIND_MINISTRY


@attack(38, off="active")
def test_38_a_company_declared_government_waits_out_the_hold(trust: Trust, monkeypatch: Patch) -> None:
    taken = trust.take(chains.next_roster(world(), "nl", promote), now_ms=NOON)
    assert any("after the hold" in event for event in taken.events)
    wider = tuple(sorted((COMPANY, "kr.motie/supply", READER, EMBASSY)))
    parsed = mail.honest(trust, audience=wider)
    with pytest.raises(errors.AudienceError):
        mail.admit(trust, parsed)
    monkeypatch.setattr(policy, "active", lambda *_: True)
    assert mail.admit(trust, parsed)


def pinned(trust: Trust, now_ms: int) -> tuple[str, ...]:
    """Whom an honest Korean desk seals to, by the rosters it pins; the envelope is admitted."""
    rosters = {party: trust.roster_to_pin(party, by="kr", now_ms=now_ms) for party in trust.parties}
    chosen = policy.audience(
        trust.agreement(now_ms),
        rosters,
        sender=SENDER,
        channel="minerals",
        marking=pb.MARKING_AMBER,
        time_ms=now_ms,
    )
    header = draft(trust, create_ms=now_ms, audience=chosen)
    del header.rosters[:]
    for party, view in rosters.items():
        generation, version = view.number
        header.rosters.add(party=party, generation=generation, version=version, digest=view.document.digest)
    assert mail.admit(trust, mail.send(trust, header), now_ms=now_ms)
    return chosen


@attack(38, off="roster_to_pin")
def test_38_a_roster_dated_back_widens_nothing_before_our_side_had_it_for_the_hold(monkeypatch: Patch) -> None:
    """Its issue is a day old when it comes: the hold that counts from the issue is over at once."""
    hold = founding.standard_agreement(now_ms=NOON, title="").hold_ms
    later = NOON + hold
    backdated = chains.next_roster(world(), "nl", promote, now_ms=NOON)
    unrelated = chains.next_roster(world(), "nl", after=backdated, now_ms=NOON)
    trust = world().trust()
    assert any("later than the hold" in event for event in trust.take(backdated, now_ms=later + 1).events)
    trust.take(unrelated, now_ms=later + HOUR)
    assert COMPANY not in pinned(trust, later + HOUR)
    assert COMPANY not in pinned(trust, later + hold)
    assert COMPANY in pinned(trust, later + 1 + hold)
    # What its own side sends is not protected, and needs not be: those desks are its own.
    assert trust.roster_to_pin("nl", by="nl", now_ms=later + HOUR).body.version == 3
    monkeypatch.setattr(Trust, "roster_to_pin", lambda self, party, **_: self.roster(party))
    assert COMPANY in pinned(trust, later + HOUR)


@attack(38, off="max")
def test_38_a_roster_dated_back_for_weeks_does_not_refuse_what_pins_the_one_before(
    trust: Trust, monkeypatch: Patch
) -> None:
    long = 40 * DAY
    now = NOON + long
    trust.take(chains.next_roster(world(), "nl", promote, now_ms=NOON), now_ms=now)
    before = world().rosters["nl"]
    assert trust.roster_to_pin("nl", by="kr", now_ms=now).document.digest == before.digest
    monkeypatch.setattr(trust_module.trust, "max", lambda issued, _came: issued, raising=False)
    assert trust.roster_to_pin("nl", by="kr", now_ms=now).document.digest != before.digest


@attack(38)
def test_38_what_was_taken_before_a_restart_stays_taken(trust: Trust) -> None:
    hold = trust.agreement(NOON).body.hold_ms
    wider = chains.next_roster(world(), "nl", promote)
    trust.take(wider, now_ms=NOON)
    again = Trust(trust.lineage)
    for document in trust.documents():
        again.take(document, now_ms=NOON + hold, taken_ms=trust.taken_ms(document.digest))
    assert again.roster_to_pin("nl", by="kr", now_ms=NOON + hold).document.digest == wider.digest
    assert again.taken_ms(wider.digest) == NOON


@attack(38, off="voided")
def test_38_a_void_roster_is_pinned_only_while_its_desks_are_the_partys_still(monkeypatch: Patch) -> None:
    fresh = {"roster": {"staff": suite.SigningKey.generate(1)}}
    party = chains.next_party(world(), "nl", fresh)

    def pinned_newest(drop: str) -> bool:
        held = world().trust()
        held.take(party, now_ms=NOON)
        body = documents.body(world().rosters["nl"], pb.Roster)
        body.generation, body.issue_time_ms = 2, NOON
        promote(body)
        if drop:
            body.desks.remove(next(desk for desk in body.desks if desk.desk == drop))
        newest = chains.with_roles(world(), "nl", party, fresh).sign(documents.make(body), "roster")
        held.take(newest, now_ms=NOON)
        return held.roster_to_pin("nl", by="kr", now_ms=NOON).document.digest == newest.digest

    assert [pinned_newest(""), pinned_newest(EMBASSY)] == [False, True]
    # Off: a desk that the party put out with its stolen key would be sealed to all the same.
    monkeypatch.setattr(Trust, "voided", lambda *_: False)
    assert not pinned_newest(EMBASSY)


@attack(38, off="_check_caps")
def test_38_forty_new_desks_are_more_than_the_cap(trust: Trust, monkeypatch: Patch) -> None:
    def crowd(body: pb.Roster) -> None:
        for number in range(5):
            name = f"nl.asml-like/d{number}"
            body.desks.append(founding.desk_entry(name, suite.SigningKey.generate(1), lineage=trust.lineage))
        body.desks.sort(key=lambda desk: desk.desk)

    crowded = chains.next_roster(world(), "nl", crowd)
    with pytest.raises(trust_module.TrustError, match="the agreement allows 4") as failure:
        trust.take(crowded, now_ms=NOON)
    assert failure.value.metadata["version"] == "2"
    monkeypatch.setattr(roster_taker._Reading, "_check_caps", yes)
    assert trust.take(crowded, now_ms=NOON).new


@attack(38)
def test_38_every_machine_reads_the_same_hold_whenever_a_roster_comes() -> None:
    """An amendment changes the hold; a roster issued before it is read by the older one, early or late."""
    amendment = chains.next_agreement(world(), lambda body: setattr(body, "hold_ms", 0), effective_ms=NOON + 1)
    roster = chains.next_roster(world(), "nl", promote, now_ms=NOON)
    until = []
    for now_ms in (NOON, NOON + DAY):
        trust = world().trust()
        trust.take(amendment, now_ms=NOON)
        trust.take(roster, now_ms=now_ms)
        until.append(trust.roster("nl").desks[COMPANY].held_until_ms)
    assert until == [NOON + DAY] * 2


# ---- 39 courier-key downgrade


@attack(39, off="_require_courier")
def test_39_a_channel_that_requires_a_courier_key_takes_nothing_without(monkeypatch: Patch) -> None:
    def group(body: pb.Agreement) -> None:
        next(rule for rule in body.channels if rule.channel == "minerals").courier_group = "bag"

    trust = world().trust()
    trust.take(chains.next_agreement(world(), group, effective_ms=NOON), now_ms=NOON)
    parsed = mail.honest(trust)
    with pytest.raises(errors.CourierError) as failure:
        mail.admit(trust, parsed)
    assert failure.value.metadata["version"] == "2"
    assert mail.admit(trust, mail.send(trust, draft(trust), courier=COURIER))
    monkeypatch.setattr(rights, "_require_courier", yes)
    assert mail.admit(trust, parsed)


# ---- 42 card flood


@attack(42, off="CARDS_AHEAD")
def test_42_a_stolen_desk_key_fills_a_bounded_number_of_cards(trust: Trust, monkeypatch: Patch) -> None:
    public = suite.CardKey.generate().public

    def flood() -> int:
        before = len(trust.documents())
        for week in itertools.chain(range(week_of(NOON) - 30, week_of(NOON) + 60)):
            body = pb.KeyCard(lineage=trust.lineage, desk=SENDER, week=week, suite=1, key=public)
            try:
                trust.take(documents.sign(documents.make(body), SIGNER, role="desk"), now_ms=NOON)
            except trust_module.TrustError:
                continue
        return len(trust.documents()) - before

    assert flood() == 11 - 2
    monkeypatch.setattr(cards_taker, "CARDS_AHEAD", 1000)
    assert flood() > 50


@attack(42)
def test_42_one_renunciation_is_kept_whatever_it_is_said_with(trust: Trust) -> None:
    key = suite.key_id(1, "desk", SIGNER.public)

    def flood() -> int:
        before = len(trust.documents())
        for number in range(50):
            body = pb.Renunciation(lineage=trust.lineage, desk=SENDER, key=key, time_ms=NOON, reason=str(number))
            try:
                trust.take(documents.sign(documents.make(body), SIGNER, role="desk"), now_ms=NOON)
            except trust_module.EquivocationError:
                continue
        return len(trust.documents()) - before

    changes = trust.version
    assert flood() == 1
    assert trust.version == changes + 1, "what changed nothing rebuilds nothing"


@attack(42)
def test_42_of_statuses_the_newest_alone_is_handed_on(trust: Trust) -> None:
    before = len(trust.documents())
    for version in range(2, 50):
        trust.take(chains.next_status(world(), "nl", version=version), now_ms=NOON)
    assert len(trust.documents()) == before


# ---- a party stops a channel alone


def test_a_party_suspends_a_channel_for_all_alone_and_at_once(trust: Trust, monkeypatch: Patch) -> None:
    parsed = mail.honest(trust)
    stopped = chains.next_status(world(), "nl", lambda body: body.suspensions.add(channel="minerals", reason="leak"))
    trust.take(stopped, now_ms=NOON)
    with pytest.raises(errors.SenderEndedError, match="suspended by nl: leak") as failure:
        mail.admit(trust, parsed)
    assert failure.value.metadata["channel"] == "minerals"
    assert mail.admit(trust, mail.honest(trust, channel="chips")), "other channels go on"
    assert Admission(trust).judge(parsed, answered=mail.nothing_answered), "what was said stays said"
    monkeypatch.setattr(Trust, "suspended", yes)
    assert mail.admit(trust, parsed)
