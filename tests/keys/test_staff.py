"""Rosters and party documents in words: every change that can be signed shows."""

import pytest

from keys import documents, holders, staff
from keys.v1 import documents_pb2 as pb
from tests.keys.test_terms import change, leaves
from tests.world import world

AGREEMENT = documents.body(world().agreement, pb.Agreement)
# Numbers of the chain and the time of issue, which the signer sees as the name of the document.
CHAIN = {"lineage", "party", "generation", "version", "previous", "issue_time_ms"}


def full() -> pb.Roster:
    body = documents.body(world().rosters["nl"], pb.Roster)
    body.missions[0].names.add(language="en", name="A maker")
    body.missions[0].locode = "NLVEL"
    body.desks[0].keys[0].first_use_ms, body.desks[0].keys[0].last_use_ms = 5, 6
    body.nodes[0].tls_ca = b"certificate"
    body.nodes[0].relays.append("nl.bz")
    body.revocations.add(key=bytes(32), time_ms=7, reason="lost")
    body.suspensions.add(channel="chips", name="nl.bz", reason="leak")
    return body


ROSTER_PATHS = [path for path in leaves(full()) if path[0] not in CHAIN]


def test_the_walk_reaches_all_fields() -> None:
    reached = {step for path in ROSTER_PATHS for step in path}
    assert reached >= {"possession", "tls_ca", "relays", "kind", "state", "reason", "locode"}
    assert len(ROSTER_PATHS) > 20


@pytest.mark.parametrize("path", ROSTER_PATHS, ids=lambda path: ".".join(map(str, path)))
def test_no_field_of_a_roster_is_signed_unread(path: tuple[str | int, ...]) -> None:
    old, new = full(), full()
    change(new, path)
    assert staff.diff(AGREEMENT, old, old) == []
    assert staff.diff(AGREEMENT, old, new) != []


def test_readership_comes_first() -> None:
    old, new = full(), full()
    litho = next(m for m in new.missions if m.kind == pb.MISSION_KIND_COMPANY)
    litho.kind = pb.MISSION_KIND_AGENCY
    lines = staff.diff(AGREEMENT, old, new)
    gains = [line for line in lines if line.startswith("nl.asml-like/supply may now read")]
    assert gains == lines[: len(gains)]
    assert "nl.asml-like/supply may now read alerts up to RED" in gains
    assert "nl.asml-like/supply may read alerts no longer at all" in staff.diff(AGREEMENT, new, old)


def test_companies_never_read_what_is_for_governments() -> None:
    """Whatever a rule says: the words are what the policy does (docs/PROTOCOL.md section 6.2)."""
    body = pb.Agreement()
    body.channels.add(channel="x").read.add(highest=pb.MARKING_RED)
    assert staff.reads(body, pb.Mission(mission="nl.a", kind=pb.MISSION_KIND_COMPANY)) == {"x": pb.MARKING_AMBER}
    assert staff.reads(body, pb.Mission(mission="nl.a", kind=pb.MISSION_KIND_AGENCY)) == {"x": pb.MARKING_RED}
    assert staff.reads(pb.Agreement(), pb.Mission(mission="nl.a")) == {}


def test_a_desk_with_no_active_key_reads_nothing() -> None:
    old, new = full(), full()
    new.desks[0].keys[0].state = pb.KEY_STATE_PREPARED
    lines = staff.diff(AGREEMENT, old, new)
    assert f"{new.desks[0].desk} may read chips no longer at all" in lines


@pytest.mark.parametrize(
    "roster", [pb.Suspension(name="nl.bz"), pb.Suspension(channel="chips"), pb.Suspension()], ids=str
)
def test_suspensions_in_words(roster: pb.Suspension) -> None:
    assert staff.suspended(roster) in ("nl.bz", "channel chips", "all desks of the party")
    assert staff.suspended(pb.Suspension(name="nl.bz", channel="chips")) == "nl.bz on chips"


# ---- party documents

PARTY = documents.body(world().parties["nl"].document, pb.Party)
ROLE_PATHS = [
    path for path in leaves(PARTY) if path[0] in holders.ROLES and path[-1] != "possession"
]  # a proof says nothing new of a key


@pytest.mark.parametrize("path", ROLE_PATHS, ids=lambda path: ".".join(map(str, path)))
def test_no_field_of_a_party_document_is_signed_unread(path: tuple[str | int, ...]) -> None:
    new = documents.body(world().parties["nl"].document, pb.Party)
    change(new, path)
    assert holders.diff(PARTY, PARTY) == []
    assert holders.diff(PARTY, new) != []
    assert holders.describe(PARTY) != holders.describe(new)


def test_who_comes_and_goes() -> None:
    new = documents.body(world().parties["nl"].document, pb.Party)
    gone = new.root.keys.pop(0)
    new.root.keys.add(holder="fourth").key.CopyFrom(gone.key)
    new.root.threshold, new.root.generation = 1, 2
    lines = holders.diff(PARTY, new)
    assert f"root: {gone.holder} no longer holds a key" in lines
    assert any(line.startswith("root: fourth holds a key now, ") for line in lines)
    assert "root: 2 -> 1 holders sign" in lines
    assert "root: generation 1 -> 2, which voids its documents" in lines
