"""Next documents made from held ones lose nothing; a status says what is held of others."""

import pytest

from keys import documents, drafts, suite
from keys.errors import UsageError
from keys.trust import Trust, TrustError
from keys.v1 import documents_pb2 as pb
from tests.chains import next_party, next_roster, next_status, role_keys
from tests.world import DESKS, NOON, World, found


@pytest.fixture
def own() -> World:
    return found()


def nothing(_: pb.Roster) -> None:
    pass


def issue(own: World, trust: Trust, party: str, role: str, draft: documents.Document) -> pb.Roster | pb.Status:
    trust.take(own.parties[party].sign(draft, role), now_ms=NOON)
    return trust.roster(party).body if role == "roster" else trust.status(party)


def test_the_next_roster_is_a_copy_and_keeps_what_the_status_suspended(own: World) -> None:
    trust = own.trust()
    stop = pb.Suspension(channel="chips", reason="drill")
    draft = drafts.next_status(trust, "kr", now_ms=NOON, suspensions=[stop])
    issue(own, trust, "kr", "status", draft)
    assert trust.suspended(desk=DESKS[0], channel="chips")
    body = issue(own, trust, "kr", "roster", drafts.next_roster(trust, "kr", nothing, now_ms=NOON))
    assert body.version == 2
    assert [d.desk for d in body.desks] == [d for d in DESKS if d.startswith("kr.")]
    assert trust.suspended(desk=DESKS[0], channel="chips"), "a key rotation lifts no suspension"
    # From then on it is the roster's; the status repeats nothing and lifts nothing.
    said = issue(own, trust, "kr", "status", drafts.next_status(trust, "kr", now_ms=NOON))
    assert not said.suspensions
    assert trust.suspended(desk=DESKS[0], channel="chips")


def test_the_next_status_repeats_its_suspensions_and_names_the_newest(own: World) -> None:
    trust = own.trust()
    stop = pb.Suspension(channel="chips", reason="drill")
    for _ in range(2):
        said = issue(own, trust, "kr", "status", drafts.next_status(trust, "kr", now_ms=NOON, suspensions=[stop]))
        assert list(said.suspensions) == [stop]
    assert said.roster.digest == trust.roster("kr").document.digest
    assert drafts.next_status(trust, "kr", now_ms=NOON, after=41).body != b""
    assert documents.body(drafts.next_status(trust, "kr", now_ms=NOON, after=41), pb.Status).version == 42


def test_a_status_says_what_is_held_of_the_others(own: World) -> None:
    trust = own.trust()
    (seen,) = drafts.seen(trust, "nl")
    assert (seen.party, seen.roster.digest) == ("kr", own.rosters["kr"].digest)
    assert seen.party_document.digest == own.parties["kr"].document.digest


def test_two_documents_at_one_number_show_in_what_is_seen(own: World) -> None:
    trust, other = own.trust(), own.trust()
    trust.take(next_roster(own, "kr"), now_ms=NOON)
    other.take(next_roster(own, "kr", now_ms=NOON + 1), now_ms=NOON)
    events = trust.take(
        own.parties["nl"].sign(drafts.next_status(other, "nl", now_ms=NOON), "status"), now_ms=NOON
    ).events
    assert any("other documents of kr" in event for event in events)


@pytest.mark.parametrize("names", [["nl"], ["kr", "kr"], ["jp"]])
def test_seen_names_each_other_party_once(own: World, names: list[str]) -> None:
    def bend(body: pb.Status) -> None:
        body.seen.extend(pb.Seen(party=name) for name in names)

    trust = own.trust()
    with pytest.raises(TrustError, match="seen"):
        trust.take(next_status(own, "nl", bend), now_ms=NOON)


def test_the_next_party_document_replaces_one_role(own: World) -> None:
    trust = own.trust()
    fresh = {"duty": suite.SigningKey.generate(suite.DESK_SUITE)}
    keys = role_keys("kr", "status", fresh, threshold=1, generation=0, lineage=own.lineage)
    draft = drafts.next_party(trust, "kr", role="status", keys=keys, now_ms=NOON)
    trust.take(own.parties["kr"].sign(draft, "root"), now_ms=NOON)
    assert trust.party_document("kr").status.generation == 2
    with pytest.raises(UsageError, match="these are"):
        drafts.next_party(trust, "kr", role="status", keys=keys, now_ms=NOON)
    with pytest.raises(UsageError, match="no role"):
        drafts.next_party(trust, "kr", role="desk", keys=keys, now_ms=NOON)


def test_a_roster_under_new_roster_keys_starts_at_one(own: World) -> None:
    trust = own.trust()
    fresh = {"staff": suite.SigningKey.generate(suite.DESK_SUITE)}
    trust.take(next_party(own, "kr", {"roster": fresh}), now_ms=NOON)
    draft = drafts.next_roster(trust, "kr", nothing, now_ms=NOON)
    trust.take(documents.sign(draft, fresh["staff"], role="roster"), now_ms=NOON)
    assert trust.roster("kr").number == (2, 1)
