"""Derived position: what an envelope under an ended key is worth, by its place in a log of another party.

Every refusal counts once the one check behind it is switched off.
"""

from dataclasses import dataclass, replace

import pytest

from exchange import checkpoint, standing
from exchange.admission import Admission, Admitted
from exchange.envelope import Parsed
from exchange.errors import SenderEndedError
from exchange.standing import Position, Standing, Verdict
from keys import founding, suite
from keys.documents import Document, make, sign
from keys.trust import Trust
from keys.v1 import documents_pb2 as pb
from tests import chains, mail
from tests.chains import HOUR
from tests.notary import KR, NL, Log
from tests.world import NOON, SENDER, world

Patch = pytest.MonkeyPatch
KEY = suite.key_id(1, "desk", world().desks[SENDER].public)


@dataclass
class Case:
    """An envelope, and the roster that revokes its key an hour later."""

    trust: Trust
    parsed: Parsed
    roster: Document

    @property
    def admitted(self) -> Admitted:
        return Admission(self.trust).rights(self.parsed, answered=mail.nothing_answered)

    def standing(self, position: Position | None) -> Standing:
        return standing.standing(self.admitted.header, self.parsed.id, position, self.trust)


def revoking(claimed_ms: int = NOON + HOUR, *, now_ms: int = NOON + HOUR) -> Document:
    return chains.next_roster(
        world(), "kr", lambda body: body.revocations.add(key=KEY, time_ms=claimed_ms, reason="lost"), now_ms=now_ms
    )


@pytest.fixture
def case() -> Case:
    trust = world().trust()
    parsed = mail.honest(trust)
    roster = revoking()
    trust.take(roster, now_ms=NOON + HOUR)
    return Case(trust, parsed, roster)


def honest_log(case: Case, node: str = NL) -> Log:
    """The envelope at 2, a head of 4, the roster at 5, seven leaves in all."""
    log = Log(node)
    log.fill(2)
    log.add(case.parsed.id)
    log.fill(2)
    log.add(case.roster.digest)
    log.fill(1)
    return log


def refused(case: Case, position: Position | None, match: str) -> None:
    found = case.standing(position)
    assert found.verdict is Verdict.REFUSED
    assert match in found.reason, found.reason


def test_a_key_that_did_not_end_needs_no_position() -> None:
    trust = world().trust()
    case = Case(trust, mail.honest(trust), revoking())
    assert case.standing(None).verdict is Verdict.COUNTED


def test_what_another_partys_log_held_before_counts(case: Case) -> None:
    position = honest_log(case).show(case.parsed.id, case.roster.digest, cosigned=4)
    found = case.standing(position)
    assert found.verdict is Verdict.COUNTED
    assert found.reason == (
        f"the key of {SENDER} is revoked by its party since; {NL} held it at 2, below the 4 that {KR} cosigned before"
    )
    assert Admission(case.trust).judge(case.parsed, answered=mail.nothing_answered, position=position).warnings == ()


@pytest.mark.parametrize(("cosigned", "counts"), [(2, False), (3, True), (5, True), (6, False)])
def test_the_cosigned_head_covers_the_envelope_and_not_the_roster(case: Case, cosigned: int, counts: bool) -> None:
    position = honest_log(case).show(case.parsed.id, case.roster.digest, cosigned=cosigned)
    assert case.standing(position).counts is counts


def test_without_a_position_it_is_refused(case: Case) -> None:
    refused(case, None, "no log of another party is shown")


def test_a_claim_of_an_earlier_loss_disputes_and_moves_nothing() -> None:
    trust = world().trust()
    parsed = mail.honest(trust)
    roster = revoking(NOON - HOUR)
    trust.take(roster, now_ms=NOON + HOUR)
    case = Case(trust, parsed, roster)
    position = honest_log(case).show(parsed.id, roster.digest, cosigned=4)
    assert case.standing(position).verdict is Verdict.DISPUTED
    admitted = Admission(trust).judge(parsed, answered=mail.nothing_answered, position=position)
    assert "claimed lost before it was made" in admitted.warnings[0]


def test_tainted_and_renounced_keys_are_derived_alike() -> None:
    for kind in ("tainted", "renounced"):
        trust = world().trust()
        parsed = mail.honest(trust)
        if kind == "tainted":
            ending = chains.next_roster(
                world(),
                "kr",
                lambda body: [
                    setattr(k, "state", pb.KEY_STATE_TAINTED) for d in body.desks if d.desk == SENDER for k in d.keys
                ],
                now_ms=NOON + HOUR,
            )
        else:
            body = pb.Renunciation(lineage=trust.lineage, desk=SENDER, key=KEY, time_ms=NOON + HOUR)
            ending = sign(make(body), world().desks[SENDER], role="desk")
        trust.take(ending, now_ms=NOON + HOUR)
        case = Case(trust, parsed, ending)
        refused(case, None, kind)
        assert case.standing(honest_log(case).show(parsed.id, ending.digest, cosigned=4)).verdict is Verdict.COUNTED


# ---- each check


def test_a_log_of_the_senders_own_party_proves_nothing(case: Case, monkeypatch: Patch) -> None:
    position = honest_log(case, KR).show(case.parsed.id, case.roster.digest, cosigned=4)
    refused(case, position, "its own party's")
    party_of = standing.party_of
    monkeypatch.setattr(standing, "node_of", lambda origin: "zz" + party_of(origin))
    monkeypatch.setattr(standing, "_require_signed", lambda *_: None)
    assert case.standing(position).counts


def test_a_head_that_only_others_cosigned_is_not_enough(case: Case, monkeypatch: Patch) -> None:
    position = honest_log(case).show(case.parsed.id, case.roster.digest, cosigned=4, cosigners=())
    refused(case, position, "no node of kr cosigned")
    monkeypatch.setattr(standing, "_cosigner", lambda *_: "anybody")
    assert case.standing(position).counts


def test_a_head_its_node_did_not_sign_is_refused(case: Case, monkeypatch: Patch) -> None:
    log = honest_log(case)
    position = log.show(case.parsed.id, case.roster.digest, cosigned=4)
    forged = checkpoint.cosign(log.note(4, key=suite.SigningKey.generate(1)), world().log_keys[KR], name=KR)
    position = replace(position, heads=(replace(position.heads[0], note=forged), *position.heads[1:]))
    refused(case, position, f"not signed by {NL}")
    monkeypatch.setattr(standing, "_require_signed", lambda *_: None)
    assert case.standing(position).counts


def test_two_histories_of_one_log_are_refused(case: Case, monkeypatch: Patch) -> None:
    true, shown = Log(), Log()
    true.fill(2)
    true.add(case.roster.digest)
    true.add(case.parsed.id)
    shown.fill(2)
    shown.add(b"x" * 32, case.parsed.id, case.roster.digest)
    position = shown.show(case.parsed.id, case.roster.digest, cosigned=4, history=true)
    refused(case, position, "consistency")
    monkeypatch.setattr(standing, "verify_consistency", lambda *_: None)
    assert case.standing(position).counts


def test_a_place_that_is_not_proved_is_refused(case: Case, monkeypatch: Patch) -> None:
    log = honest_log(case)
    late = log.place(case.roster.digest)
    log = Log(leaves=[*log.leaves[:2], case.roster.digest, *log.leaves[3:5], case.parsed.id, log.leaves[6]])
    position = log.show(case.parsed.id, case.roster.digest, cosigned=4)
    early = replace(position.places[0], position=2)
    position = replace(position, places=(early, late))
    refused(case, position, "root")
    monkeypatch.setattr(standing, "verify_inclusion", lambda *_: None)
    assert case.standing(position).counts


def test_what_ended_the_key_must_be_shown(case: Case, monkeypatch: Patch) -> None:
    """A thief renounces the key himself, late: the roster that revoked it before is left out."""
    body = pb.Renunciation(lineage=case.trust.lineage, desk=SENDER, key=KEY, time_ms=NOON + 2 * HOUR)
    renounced = sign(make(body), world().desks[SENDER], role="desk")
    case.trust.take(renounced, now_ms=NOON + 2 * HOUR)
    log = Log()
    log.fill(1)
    log.add(case.roster.digest, case.parsed.id, renounced.digest)
    position = log.show(case.parsed.id, renounced.digest, cosigned=3)
    refused(case, position, "what ended the key")
    refused(case, log.show(case.parsed.id, renounced.digest, case.roster.digest, cosigned=3), "no node of kr cosigned")
    endings = Trust.endings
    monkeypatch.setattr(Trust, "endings", lambda *args: endings(*args)[:1])
    assert case.standing(position).counts


def test_the_envelope_must_be_shown(case: Case) -> None:
    refused(case, honest_log(case).show(case.roster.digest, cosigned=4), "its place")


def test_nodes_of_a_void_roster_cosign_nothing(case: Case, monkeypatch: Patch) -> None:
    """Who stole the roster keys put a node of his own into a roster; the party replaced the keys since."""
    thief = suite.SigningKey.generate(1)

    def steal(body: pb.Roster) -> None:
        node = body.nodes.add(node="kr.thief-1", endpoint="h:1", enrol_endpoint="h:2")
        node.log_key.CopyFrom(
            founding.public_key(thief, lineage=case.trust.lineage, party="kr", name="kr.thief-1", role="log")
        )
        body.nodes.sort(key=lambda n: n.node)

    case.trust.take(chains.next_roster(world(), "kr", steal, after=case.roster, now_ms=NOON + HOUR), now_ms=NOON + HOUR)
    log = honest_log(case)
    position = log.show(case.parsed.id, case.roster.digest, cosigned=4, cosigners=())
    note = checkpoint.cosign(log.note(4), thief, name="kr.thief-1")
    position = replace(position, heads=(replace(position.heads[0], note=note), *position.heads[1:]))
    assert case.standing(position).counts
    fresh = {"roster": {"staff": suite.SigningKey.generate(1)}}
    party = chains.next_party(world(), "kr", fresh)
    case.trust.take(party, now_ms=NOON + HOUR)
    body = pb.Roster.FromString(case.roster.body)
    body.generation, body.version, body.previous, body.issue_time_ms = 2, 1, b"", NOON + HOUR
    again = chains.with_roles(world(), "kr", party, fresh).sign(make(body), "roster")
    case.trust.take(again, now_ms=NOON + HOUR)
    log = Log(leaves=[*log.leaves, again.digest])
    position = log.show(case.parsed.id, again.digest, cosigned=4, cosigners=())
    position = replace(position, heads=(replace(position.heads[0], note=note), *position.heads[1:]))
    refused(case, position, "no node of kr cosigned")
    monkeypatch.setattr(type(case.trust._held.chains["kr"]), "standing", property(lambda chain: chain.rosters))
    assert case.standing(position).counts


@pytest.mark.parametrize("count", [0, 9])
def test_what_is_shown_is_bounded(case: Case, count: int) -> None:
    position = honest_log(case).show(case.parsed.id, case.roster.digest, cosigned=4)
    refused(case, replace(position, heads=position.heads[:1] * count), "heads")
    refused(case, replace(position, places=position.places[:1] * count), "places")


def test_heads_of_two_logs_do_not_mix(case: Case) -> None:
    here, there = honest_log(case), honest_log(case, KR)
    position = here.show(case.parsed.id, case.roster.digest, cosigned=4, history=there)
    refused(case, position, "two logs")


# ---- admission


def test_live_traffic_is_admitted_by_its_position_too(case: Case, monkeypatch: Patch) -> None:
    rules = Admission(case.trust)
    with pytest.raises(SenderEndedError) as failure:
        rules.admit(case.parsed, now_ms=NOON + HOUR, answered=mail.nothing_answered)
    assert failure.value.metadata["version"] == "2"
    with pytest.raises(SenderEndedError):
        rules.judge(case.parsed, answered=mail.nothing_answered)
    position = honest_log(case).show(case.parsed.id, case.roster.digest, cosigned=4)
    assert rules.admit(case.parsed, now_ms=NOON + HOUR, answered=mail.nothing_answered, position=position)
    monkeypatch.setattr(Trust, "key_ended", lambda *_: None)
    assert rules.admit(case.parsed, now_ms=NOON + HOUR, answered=mail.nothing_answered)


def test_a_position_travels_as_a_message(case: Case) -> None:
    position = honest_log(case).show(case.parsed.id, case.roster.digest, cosigned=4)
    assert Position.from_view(position.view()) == position


def test_what_ended_a_key_is_found_from_bytes_that_nobody_verified(case: Case) -> None:
    rules = Admission(case.trust)
    assert rules.endings(case.parsed.data) == (case.roster.digest,)
    assert Admission(world().trust()).endings(case.parsed.data) == ()
    assert rules.endings(b"\xff\xff") == ()
