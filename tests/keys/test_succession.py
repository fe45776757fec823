"""An exchange takes the place of one whose party lost its roots: who may say so, and what is over from then on."""

from collections.abc import Callable

import pytest

from keys import documents, founding, succession, suite
from keys.documents import Document
from keys.errors import PeerError, UsageError
from keys.founding import PartyKeys
from keys.succession import NotSuccessorError
from keys.trust import DeadLineageError, MissingDocumentError, Trust, TrustError
from keys.v1 import documents_pb2 as pb
from tests.world import NOON, world

LATER = NOON + founding.DAY_MS
DEAD = bytes(range(32))


@pytest.fixture(scope="module")
def kr() -> PartyKeys:
    """Korea anew: other root holders' keys, other keys of every role."""
    return founding.found_party("kr", now_ms=LATER)


def firsts(kr: PartyKeys) -> dict[str, Document]:
    return {"kr": kr.document, "nl": world().parties["nl"].document}


def new_agreement(
    kr: PartyKeys, change: Callable[[pb.Agreement], object] = lambda _: None, other: PartyKeys | None = None
) -> Document:
    body = founding.standard_agreement(now_ms=LATER, title="anew")
    body.dead_lineages.append(world().lineage)
    change(body)
    return founding.agreement(body, [kr, other or world().parties["nl"]])


def told(kr: PartyKeys, signed: Document, old: Trust | None = None, **other: object) -> succession.Successor:
    found = [kr.document, world().parties["nl"].document, signed]
    asked = {"lineage": signed.digest, "party": "nl", **other}
    return succession.verify(found, old=old or world().trust(), now_ms=LATER, **asked)  # type: ignore[arg-type]


def test_the_terms_go_on_and_the_old_lineage_is_dead(kr: PartyKeys) -> None:
    old = world().trust()
    body = succession.draft(old, firsts(kr), lost=["kr"], terms=None, now_ms=LATER)
    before = old.agreements[0].body
    assert (body.version, body.lineage, body.previous) == (1, b"", b"")
    assert list(body.dead_lineages) == [old.lineage]
    assert body.channels == before.channels
    assert body.expire_time_ms - body.effective_time_ms == before.expire_time_ms - before.effective_time_ms
    signed = founding.agreement(body, [kr, world().parties["nl"]])
    new = Trust(signed.digest)
    for document in (*firsts(kr).values(), signed):
        new.take(document, now_ms=LATER)
    assert new.parties == ("kr", "nl")
    # Dead lineages of the dead one stay dead.
    again = succession.draft(
        new,
        {"kr": kr.document, "nl": founding.found_party("nl", now_ms=LATER).document},
        lost=["nl"],
        terms=None,
        now_ms=LATER,
    )
    assert list(again.dead_lineages) == sorted([old.lineage, new.lineage])


def test_lost_roots_do_not_come_back(kr: PartyKeys) -> None:
    old, parties = world().trust(), world().parties
    with pytest.raises(UsageError, match="the new party document of kr has a root key of the dead exchange"):
        succession.draft(old, {n: p.document for n, p in parties.items()}, lost=["kr"], terms=None, now_ms=LATER)
    with pytest.raises(UsageError, match="which party lost its roots"):
        succession.draft(old, firsts(kr), lost=[], terms=None, now_ms=LATER)
    with pytest.raises(UsageError, match="fr is no party"):
        succession.draft(old, firsts(kr), lost=["fr"], terms=None, now_ms=LATER)
    with pytest.raises(UsageError, match="the old exchange is of kr, nl, the party documents are of kr"):
        succession.draft(old, {"kr": kr.document}, lost=["kr"], terms=None, now_ms=LATER)


def test_a_key_goes_on_in_its_role_and_hands_alone_and_not_once_it_was_replaced(kr: PartyKeys) -> None:
    nl, old = world().parties["nl"], world().trust()
    fresh = suite.SigningKey.generate(suite.DESK_SUITE)
    keys = pb.RoleKeys(threshold=1)
    keys.keys.add(holder="staff").key.CopyFrom(
        founding.public_key(fresh, lineage=old.lineage, party="nl", name="staff", role="roster")
    )
    body = documents.body(nl.document, pb.Party)
    body.version, body.lineage, body.previous = 2, old.lineage, nl.document.digest
    body.roster.CopyFrom(keys)
    body.roster.generation = 2
    second = nl.sign(documents.make(body), "root", ["first", "second"])
    old.take(second, now_ms=LATER)
    with pytest.raises(UsageError, match="the roster key of staff in the new party document of nl was replaced"):
        succession.draft(old, firsts(kr), lost=["kr"], terms=None, now_ms=LATER)
    swapped = documents.body(nl.document, pb.Party)
    swapped.root.keys[0].holder, swapped.root.keys[1].holder = "a", "b"
    with pytest.raises(UsageError, match="the root key of a in the new party document of nl"):
        succession.draft(
            world().trust(), {**firsts(kr), "nl": documents.make(swapped)}, lost=["kr"], terms=None, now_ms=LATER
        )


def test_a_machine_is_told_of_the_agreement_its_people_compared(kr: PartyKeys) -> None:
    signed = new_agreement(kr)
    successor = told(kr, signed)
    assert successor.lineage == signed.digest
    assert [document.type for document in successor.documents] == ["tocsin/1/party"] * 2 + ["tocsin/1/agreement"]


def test_nothing_else_ends_an_exchange(kr: PartyKeys) -> None:
    signed = new_agreement(kr)
    with pytest.raises(NotSuccessorError, match="has other words"):
        told(kr, signed, lineage=DEAD)
    with pytest.raises(NotSuccessorError, match="holds no first agreement"):
        succession.verify([kr.document], lineage=DEAD, old=world().trust(), party="nl", now_ms=LATER)
    with pytest.raises(NotSuccessorError, match="does not list lineage"):
        told(kr, new_agreement(kr, lambda body: body.dead_lineages.__setitem__(0, DEAD)))
    with pytest.raises(NotSuccessorError, match="an exercise never takes the place of production"):
        told(kr, new_agreement(kr, lambda body: setattr(body, "drill", True)))
    with pytest.raises(UsageError, match="no agreement is held of the exchange"):
        told(kr, signed, old=Trust(world().lineage))
    half = documents.Document(signed.type, signed.body, signed.signatures[:3], signed.digest)
    with pytest.raises(documents.ThresholdError):
        told(kr, half)


def test_a_stranger_s_exchange_ends_nobody_s(kr: PartyKeys) -> None:
    stranger = founding.found_party("fr", now_ms=LATER)
    signed = new_agreement(kr, other=stranger)
    with pytest.raises(NotSuccessorError, match="nl is no party of the new agreement"):
        succession.verify(
            [kr.document, stranger.document, signed],
            lineage=signed.digest,
            old=world().trust(),
            party="nl",
            now_ms=LATER,
        )
    # Whoever only sends it changes nothing.
    trust = world().trust()
    with pytest.raises(PeerError):
        trust.take(signed, now_ms=LATER)
    assert trust.death is None


def test_a_dead_exchange_takes_no_document_that_gives_rights() -> None:
    trust, nl = world().trust(), world().parties["nl"]
    trust.end(DEAD, told_ms=LATER)
    trust.end(DEAD, told_ms=LATER + 1)
    assert trust.death is not None
    assert trust.death.told_ms == LATER
    with pytest.raises(DeadLineageError, match="no third one can replace"):
        trust.end(bytes(32), told_ms=LATER)
    roster = founding.next_roster(
        nl,
        documents.body(world().rosters["nl"], pb.Roster),
        lineage=trust.lineage,
        previous=world().rosters["nl"],
        now_ms=LATER,
    )
    with pytest.raises(DeadLineageError) as refused:
        trust.take(roster, now_ms=LATER)
    assert refused.value.reason == "LINEAGE_DEAD"
    assert DEAD.hex() in refused.value.hint
    assert refused.value.metadata["successor"] == DEAD.hex()
    # What is held is no news, and what gives no rights is taken: people may still renounce and suspend.
    assert not trust.take(world().rosters["nl"], now_ms=LATER).new
    status = founding.status(
        nl,
        lineage=trust.lineage,
        agreement=world().agreement,
        roster=world().rosters["nl"],
        version=2,
        now_ms=LATER,
    )
    assert trust.take(status, now_ms=LATER).new


@pytest.mark.parametrize(
    "dead",
    [[bytes(31)], [DEAD, bytes(32)], [DEAD, DEAD], [bytes([n]) * 32 for n in range(17)]],
    ids=["short", "unsorted", "twice", "too many"],
)
def test_dead_lineages_are_listed_in_one_way(kr: PartyKeys, dead: list[bytes]) -> None:
    signed = new_agreement(kr, lambda body: body.dead_lineages.__setitem__(slice(None), dead))
    trust = Trust(signed.digest)
    for document in firsts(kr).values():
        trust.take(document, now_ms=LATER)
    with pytest.raises(TrustError, match="dead lineages are of 32 bytes, sorted, unique and at most 16"):
        trust.take(signed, now_ms=LATER)


def test_an_amendment_ends_no_exchange() -> None:
    trust = world().trust()
    body = documents.body(world().agreement, pb.Agreement)
    body.version, body.lineage, body.previous = 2, trust.lineage, trust.lineage
    body.effective_time_ms += founding.DAY_MS
    body.dead_lineages.append(DEAD)
    with pytest.raises(TrustError, match="an amendment declares no lineage dead"):
        trust.take(founding.agreement(body, list(world().parties.values())), now_ms=NOON)


def test_what_is_only_claimed_is_read_without_belief(kr: PartyKeys) -> None:
    assert succession.listed_as_dead(new_agreement(kr)) == (world().lineage,)
    assert succession.listed_as_dead(kr.document) == ()
    with pytest.raises(MissingDocumentError):
        Trust(new_agreement(kr).digest).take(new_agreement(kr), now_ms=LATER)
