"""Every kind of key replaced under traffic: real documents, real envelopes, real admission; clocks, delays, a party away.

No network: tests/node and tests/simulation show the same through nodes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache

import pytest

from exchange import envelope, policy
from exchange.admission import Admission
from exchange.v1 import envelope_pb2 as env
from keys import courier, drafts, founding, node_keys, planning, rehearsal, rotation, stage, suite, windows
from keys.courier import CourierKey
from keys.errors import TocsinError
from keys.plain_mail import PlainMail
from keys.plan import Plan, Step
from keys.rehearsal import Outcome, Rehearsal
from keys.stage import Stage
from keys.trust import Trust, week_of
from keys.v1 import documents_pb2 as pb
from keys.windows import Kind
from tests.chains import next_roster
from tests.keys.rotating import DESK, NAMES, fresh
from tests.mail import nothing_answered
from tests.world import NOON, World, draft, found, items, public_cards

SEEDS = 100
# Each in its time limit, also on a busy machine.
PARTS = 4
DAY = 24 * 3600 * 1000
# Kinds that can be under way at once. New roster keys void the rosters a node's old keys stand in: they take turns.
TURNS = ((Kind.DESK, Kind.ROOT, Kind.STATUS, Kind.LOG, Kind.TLS_CA), (Kind.DESK, Kind.ROSTER, Kind.STATUS))


@pytest.fixture(scope="module", autouse=True)
def _verified_once() -> Iterator[None]:
    """The same bytes verify alike for every member; the simulation has many members."""
    real = suite.verify
    known = lru_cache(maxsize=100_000)(lambda *a, ctx: real(*a, ctx=ctx))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suite, "verify", lambda *a, ctx: known(*a, ctx=ctx))
        yield


@pytest.fixture(scope="module")
def scene() -> Stage:
    return stage.copy(found().trust(), now_ms=NOON)


@dataclass
class RealMail:
    """Envelopes sealed, admitted and opened as desks do it; a courier key changes on the way."""

    scene: Stage
    couriers: list[CourierKey] = field(default_factory=list)
    given: set[tuple[bytes, str]] = field(default_factory=set)
    admissions: dict[int, Admission] = field(default_factory=dict)
    opened: int = 0
    couriers_used: set[bytes] = field(default_factory=set)

    def seal(
        self, trust: Trust, sender: str, key: suite.SigningKey, *, create_ms: int, expire_ms: int
    ) -> envelope.Sealed:
        header = draft(trust, sender=sender, create_ms=create_ms, stream=create_ms.to_bytes(16, "big"))
        header.expire_time_ms = expire_ms
        courier_key = courier.sealing(self.couriers, now_ms=create_ms)
        return envelope.seal(
            items(1),
            header,
            key=key,
            cards=public_cards(trust, header),
            courier=courier_key.key if courier_key else None,
        )

    def may_send(self, trust: Trust, desk: str) -> bool:
        rosters = {party: trust.roster(party) for party in trust.parties}
        return policy.may_publish(trust.agreement(NOON), rosters, sender=desk, channel="minerals")

    def readers(self, letter: envelope.Sealed) -> tuple[str, ...]:
        header = env.Header.FromString(envelope.parse(letter.data).outer.header)
        return tuple(reader.desk for reader in header.audience)

    def admit(self, letter: envelope.Sealed, trust: Trust, reader: str, *, now_ms: int) -> None:
        admission = self.admissions.setdefault(id(trust), Admission(trust))
        admitted = admission.admit(envelope.parse(letter.data), now_ms=now_ms, answered=nothing_answered)
        assert (letter.id, reader) not in self.given, "given twice"
        self.given.add((letter.id, reader))
        week = week_of(admitted.header.create_time_ms)
        bounds = windows.bounds_of(trust, from_ms=now_ms, until_ms=now_ms)
        assert now_ms < windows.card_kept_until_ms(week, bounds), "the seed is destroyed by now"
        card = trust.held_card(reader, week)
        assert card is not None
        self.couriers_used |= {admitted.header.courier}
        held = [
            k
            for k in self.couriers
            if (until := courier.opens_until_ms(self.couriers, k, bounds)) is None or now_ms < until
        ]
        key = next((k.key for k in held if k.id == admitted.header.courier), None)
        said = envelope.open_envelope(admitted.checked, desk=reader, card=self.scene.cards[card.public], courier=key)
        assert said == tuple(items(1))
        self.opened += 1


def plans_of(scene: Stage, kinds: tuple[Kind, ...], *, every_ms: int = 0, **more: object) -> list[Plan]:
    """Plans for the keys of the stage, a little apart."""
    trust = scene.trust(now_ms=NOON)
    shape = found_once()
    made = []
    for number, kind in enumerate(kinds):
        like = planning.make(
            shape.trust(),
            party="kr",
            kind=kind,
            name=NAMES.get(kind, ""),
            new=fresh(shape, kind).public,
            now_ms=NOON + number * every_ms,
            **more,  # type: ignore[arg-type]
        )
        made.append(stage.restage(scene, like, trust))
    return made


@lru_cache(maxsize=1)
def found_once() -> World:
    return found()


def run(scene: Stage, plans: list[Plan], seed: int, **more: int) -> tuple[Outcome, RealMail]:
    mail = RealMail(scene)
    return Rehearsal(scene, plans, mail, seed=seed, now_ms=NOON, **more).run(), mail


@pytest.mark.parametrize("part", range(PARTS))
def test_every_kind_of_key_is_replaced_under_traffic(scene: Stage, part: int) -> None:
    """0 refused for good, 0 lost, 0 given twice, over SEEDS runs in all."""
    waited = 0
    kinds = TURNS[part % len(TURNS)]
    plans = plans_of(scene, kinds, every_ms=3 * 3600 * 1000)
    for seed in range(part, SEEDS, PARTS):
        outcome, mail = run(scene, plans, seed, letters=4, around=1, per_party=1)
        assert outcome.refused == [], seed
        assert outcome.taken == len(mail.given) == mail.opened >= outcome.sent
        assert len(outcome.finished) == len(kinds)
        waited += outcome.waited
    assert waited > 0, "some letters came before the documents they pin: otherwise the runs are too tame"


def test_a_courier_key_is_replaced_under_traffic(monkeypatch: pytest.MonkeyPatch) -> None:
    standard = founding.standard_agreement

    def with_group(**fields: object) -> pb.Agreement:
        body = standard(**fields)  # type: ignore[arg-type]
        for rule in body.channels:
            rule.courier_group = "bag"
        return body

    monkeypatch.setattr(founding, "standard_agreement", with_group)
    scene = stage.copy(found().trust(), now_ms=NOON)
    (plan,) = plans = plans_of(scene, (Kind.DESK,))
    first_use_ms = plan.times.first_use_ms - plan.times.first_use_ms % 1000
    keys = [courier.new("bag", first_use_ms=NOON - DAY), courier.new("bag", first_use_ms=first_use_ms)]
    for seed in range(5):
        mail = RealMail(scene, keys)
        outcome = Rehearsal(scene, plans, mail, seed=seed, now_ms=NOON).run()
        assert outcome.refused == []
        assert {key.id for key in keys} <= mail.couriers_used
    # Forgotten at A, the old key opens nothing of what is still under way.
    monkeypatch.setattr(courier, "opens_until_ms", lambda *_: first_use_ms)
    assert not all(
        Rehearsal(scene, plans, RealMail(scene, keys), seed=seed, now_ms=NOON).run().good for seed in range(5)
    )


# ---- what goes wrong without each window


def broken(scene: Stage, plans: list[Plan], *, seeds: int = 8, letters: int = 12) -> list[str]:
    found = []
    for seed in range(seeds):
        outcome, _ = run(scene, plans, seed, letters=letters, per_party=1)
        found += outcome.refused
    return found


def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "check", lambda *_: None)
    monkeypatch.setattr(rotation, "confirmed", lambda *_: True)


def bent(plan: Plan, **times: int) -> Plan:
    return replace(plan, times=replace(plan.times, **times))


def test_a_key_used_before_everybody_knows_it_is_refused(scene: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    unchecked(monkeypatch)
    (plan,) = plans_of(scene, (Kind.DESK,))
    hasty = bent(plan, publish_ms=NOON + 1, first_use_ms=NOON + 2, retire_ms=NOON + 3 * DAY)
    monkeypatch.setattr(rehearsal, "LINK_SHARE", 0.0)
    assert any("SENDER_UNKNOWN" in why for why in broken(scene, [hasty], letters=20))


def test_an_old_key_revoked_too_soon_refuses_what_is_under_way(scene: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    unchecked(monkeypatch)
    real = rotation._change

    def revoke(plan: Plan, step: Step, body: pb.Roster, now_ms: int) -> None:
        if step.id != "retire":
            return real(plan, step, body, now_ms)
        entry = next(d for d in body.desks if d.desk == plan.name)
        ended = next(k for k in entry.keys if suite.key_id(k.key.suite, "desk", k.key.key) in plan.old)
        ended.state = pb.KEY_STATE_REVOKED
        return None

    monkeypatch.setattr(rotation, "_change", revoke)
    (plan,) = plans_of(scene, (Kind.DESK,))
    hasty = bent(plan, retire_ms=plan.times.first_use_ms + 1)
    assert any("SENDER_ENDED" in why for why in broken(scene, [hasty]))


def test_a_node_that_changes_its_ca_or_log_key_at_once_is_cut_off(
    scene: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    unchecked(monkeypatch)
    ca, log = plans_of(scene, (Kind.TLS_CA, Kind.LOG))
    monkeypatch.setattr(node_keys, "ca_shown", lambda trust, node, **_: trust.node(node).tls_ca)
    assert any("CA it does not take" in why for why in broken(scene, [ca]))
    monkeypatch.setattr(node_keys, "log_keys_signing", lambda trust, node, **_: (trust.node(node).log_key.key,))
    assert any("lacks the signature" in why for why in broken(scene, [log]))


def test_a_plan_that_nobody_confirms_is_not_carried_out(scene: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drafts, "seen", lambda *_: [])
    outcome, _ = run(scene, plans_of(scene, (Kind.DESK,)), 0)
    assert any("not carried out: publish" in why or "desk.first-use" in why for why in outcome.refused)


# ---- rehearsing as the command line does


def test_a_rehearsal_needs_no_key_and_changes_nothing() -> None:
    real = found_once()
    trust = real.trust()
    plan = planning.make(trust, party="kr", kind=Kind.DESK, name=DESK, new=fresh(real, Kind.DESK).public, now_ms=NOON)
    before = [d.digest for d in trust.documents()]
    scene = stage.copy(trust, now_ms=NOON)
    assert not {d.digest for d in scene.documents} & set(before)
    assert scene.lineage != trust.lineage
    copied = stage.restage(scene, plan, scene.trust(now_ms=NOON))
    assert copied.times == plan.times
    outcome = Rehearsal(scene, [copied], PlainMail(), seed=3, now_ms=NOON).run()
    assert outcome.good, outcome.refused
    assert [d.digest for d in trust.documents()] == before


def test_a_rehearsal_is_the_same_for_the_same_seed(scene: Stage) -> None:
    plans = plans_of(scene, (Kind.STATUS,))
    one, two = (Rehearsal(scene, plans, PlainMail(), seed=5, now_ms=NOON).run() for _ in range(2))
    assert one == two


def test_plain_mail_refuses_what_admission_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The keys-only judge of the command line against the real one, rule by rule."""
    world = found()
    sender, reader = "kr.the-hague/economic", "nl.bz/supply"
    plain, real = PlainMail(), RealMail(Stage(b"", [], {}))
    trust = world.trust()
    key = world.desks[sender]

    def both(taker: Trust, now_ms: int = NOON) -> list[str]:
        said = []
        for mail in (plain, real):
            letter = mail.seal(trust, sender, key, create_ms=NOON, expire_ms=NOON + 40 * 60_000)
            try:
                if mail is plain:
                    plain.admit(letter, taker, reader, now_ms=now_ms)
                else:
                    admission = Admission(taker)
                    admission.admit(envelope.parse(letter.data), now_ms=now_ms, answered=nothing_answered)
            except TocsinError as error:
                said.append(error.reason)
            else:
                said.append("taken")
        return said

    assert both(world.trust()) == ["taken", "taken"]
    assert both(world.trust(), NOON + 3600_000) == ["PEER", "ENVELOPE_TIME"]
    assert both(world.trust(without=("tocsin/1/card",))) == ["DOCUMENT_MISSING"] * 2
    lacking = Trust(world.lineage)
    for document in world.documents[:3]:
        lacking.take(document, now_ms=NOON)
    assert both(lacking) == ["PEER", "SENDER_UNKNOWN"]

    def ending(body: pb.Roster) -> None:
        next(d for d in body.desks if d.desk == sender).keys[0].state = pb.KEY_STATE_TAINTED

    ended = world.trust()
    ended.take(next_roster(world, "kr", ending), now_ms=NOON)
    assert both(ended) == ["PEER", "SENDER_ENDED"]
    replaced = world.trust()
    replaced.take(next_roster(world, "nl"), now_ms=NOON)
    assert both(replaced) == ["taken", "taken"]
    monkeypatch.setattr(Trust, "superseded_ms", lambda *_: NOON - 40 * DAY)
    assert both(replaced) == ["PEER", "DOCUMENT_PINNED"]
