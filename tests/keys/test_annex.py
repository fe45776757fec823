"""Annexes: signed for every party, chained, readable."""

from collections.abc import Callable

import pytest

from keys import documents, suite, trust
from keys.documents import Document, ThresholdError
from keys.errors import PeerError
from keys.trust import Trust
from keys.trust import status as status_taker
from keys.v1 import documents_pb2 as pb
from tests import chains
from tests.chains import DAY
from tests.world import NOON, world

Bend = Callable[[pb.Annex], object]


@pytest.fixture
def held() -> Trust:
    return world().trust()


def annex(
    bend: Bend = lambda _: None,
    *,
    after: Document | None = None,
    signers: tuple[str, ...] = ("kr", "nl"),
    role: str = "roster",
) -> Document:
    before = documents.body(after, pb.Annex) if after else pb.Annex(effective_time_ms=NOON)
    body = pb.Annex(
        lineage=world().lineage,
        version=before.version + 1,
        previous=after.digest if after else b"",
        effective_time_ms=before.effective_time_ms + DAY,
    )
    body.thresholds.add(rule="share", item="2804.61", micro=-250_000)
    body.thresholds.add(rule="silence", micro=3_000_000)
    bend(body)
    document = documents.make(body)
    for party in signers:
        document = world().parties[party].sign(document, role)
    return document


def test_an_annex_is_in_force_from_its_time(held: Trust) -> None:
    assert held.annex(NOON) is None
    first = annex()
    assert held.take(first, now_ms=NOON).new
    second = annex(lambda body: body.thresholds.pop(), after=first)
    held.take(second, now_ms=NOON)
    assert not held.take(first, now_ms=NOON).new
    assert held.annex(NOON + DAY - 1) is None
    one, two = held.annex(NOON + DAY), held.annex(NOON + 2 * DAY)
    assert one is not None
    assert [(t.rule, t.item, t.micro) for t in one.thresholds] == [
        ("share", "2804.61", -250_000),
        ("silence", "", 3_000_000),
    ]
    assert two is not None
    assert (two.version, len(two.thresholds)) == (2, 1)
    copy = Trust(held.lineage)
    for document in held.documents():
        copy.take(document, now_ms=NOON)
    assert copy.annex(NOON + 2 * DAY) == two


@pytest.mark.parametrize("signers", [("kr",), ("nl",), ()])
def test_no_party_changes_the_annex_alone(
    held: Trust, signers: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = annex(signers=signers)
    with pytest.raises(ThresholdError) as failure:
        held.take(alone, now_ms=NOON)
    assert failure.value.metadata["document"] == "annex"
    assert failure.value.metadata["version"] == "1"
    monkeypatch.setattr(documents, "require", lambda *_, **__: None)
    assert held.take(alone, now_ms=NOON).new


def test_root_and_status_keys_sign_no_annex(held: Trust) -> None:
    for role in ("root", "status"):
        with pytest.raises(ThresholdError):
            held.take(annex(role=role), now_ms=NOON)


@pytest.mark.parametrize(
    ("bend", "error"),
    [
        (lambda b: setattr(b, "lineage", bytes(32)), trust.WrongLineageError),
        (lambda b: setattr(b, "version", 3), trust.GapError),
        (lambda b: setattr(b, "version", 0), trust.RollbackError),
        (lambda b: setattr(b, "version", 1), trust.EquivocationError),
        (lambda b: setattr(b, "previous", bytes(32)), trust.EquivocationError),
        (lambda b: setattr(b, "effective_time_ms", NOON + DAY), trust.TrustError),
        (lambda b: b.thresholds.reverse(), trust.TrustError),
        (lambda b: b.thresholds.add(rule="silence"), trust.TrustError),
        (lambda b: b.thresholds.insert(0, pb.Threshold(item="x")), trust.TrustError),
    ],
)
def test_an_annex_that_breaks_the_rules_is_refused(held: Trust, bend: Bend, error: type[PeerError]) -> None:
    first = annex()
    held.take(first, now_ms=NOON)
    before, version = held.documents(), held.version
    with pytest.raises(error) as failure:
        held.take(annex(bend, after=first), now_ms=NOON)
    assert type(failure.value) is error
    assert (held.documents(), held.version) == (before, version)


def test_an_annex_waits_for_the_agreement() -> None:
    with pytest.raises(trust.MissingDocumentError):
        Trust(world().lineage).take(annex(), now_ms=NOON)


def test_the_roster_keys_of_today_sign(held: Trust) -> None:
    fresh = {"roster": {"staff": suite.SigningKey.generate(1)}}
    held.take(chains.next_party(world(), "kr", fresh), now_ms=NOON)
    with pytest.raises(ThresholdError):
        held.take(annex(), now_ms=NOON)


def test_a_status_that_names_another_annex_is_refused(held: Trust, monkeypatch: pytest.MonkeyPatch) -> None:
    first = annex()
    held.take(first, now_ms=NOON)

    def naming(version: int, digest: bytes) -> Document:
        return chains.next_status(
            world(), "nl", lambda body: body.annex.CopyFrom(pb.Reference(version=version, digest=digest))
        )

    assert "annex 2 exists" in held.take(naming(2, bytes(32)), now_ms=NOON).events[-1]
    held = world().trust()
    held.take(first, now_ms=NOON)
    with pytest.raises(trust.EquivocationError):
        held.take(naming(1, bytes(32)), now_ms=NOON)
    assert held.take(naming(1, first.digest), now_ms=NOON).new
    held = world().trust()
    held.take(first, now_ms=NOON)
    monkeypatch.setattr(status_taker, "_check_annex", lambda *_: [])
    assert held.take(naming(1, bytes(32)), now_ms=NOON).new
