"""A ministry staffs its missions: drafts of rosters, requests of desks and nodes, suspensions."""

import pytest

from keys import documents
from keys.cli import book as books
from keys.cli.terminal import now_ms
from keys.trust import Trust
from keys.v1 import documents_pb2 as pb
from tests.keys.cli.office import Office, publish_roster, request_desk, request_node

HELD = ("--held", "exchange.bundle")


def trust(office: Office, bundle: str = "exchange.bundle") -> Trust:
    return books.load([office.path(bundle)], now_ms=now_ms()).founded()


def body(office: Office, file: str) -> pb.Roster:
    return documents.body(documents.decode(office.path(file).read_bytes()), pb.Roster)


def test_first_rosters_and_statuses_are_taken(staffed: Office) -> None:
    view = trust(staffed).roster("nl")
    assert sorted(view.desks) == ["nl.seoul/economic"]
    assert sorted(view.missions) == ["nl.bz", "nl.seoul"]
    assert view.missions["nl.seoul"].names[0].name == "The nl.seoul"
    assert not trust(staffed).stale(now_ms())
    assert trust(staffed).hosted("nl.seoul-1") == {"nl.seoul/economic"}


def test_signing_shows_the_difference_in_readership(staffed: Office) -> None:
    staffed.ok("roster", "draft", "nl", *HELD, "--out", "nl.next")
    request_desk(staffed, "nl.bz/supply", "bz.request")
    staffed.ok("desk", "admit", "nl.next", "bz.request", *HELD)
    staffed.ok("mission", "change", "nl.next", "nl.seoul", "--kind", "company", *HELD)
    done = staffed.sign("roster", "nl.next", "nl-staff", "nl.next.signed", *HELD)
    assert "what changes against nl roster 1.1" in done.out
    assert "nl.bz/supply may now read chips up to RED" in done.out
    assert "nl.seoul/economic may read chips only up to GREEN" in done.out
    assert "nl.seoul/economic may read alerts no longer at all" in done.out
    assert "mission nl.seoul: kind embassy -> company" in done.out
    assert "nl.bz/supply" not in staffed.ok("roster", "show", "nl.roster.draft", *HELD).out


def test_a_desk_is_admitted_by_its_own_proof(staffed: Office) -> None:
    staffed.ok("roster", "draft", "nl", *HELD, "--out", "nl.next")
    identity = request_desk(staffed, "nl.bz/supply", "bz.request")
    request = staffed.ok("desk", "request", "bz.request", *HELD, "--json").json
    assert request["desk"] == "nl.bz/supply"
    assert bytes.fromhex(request["key"]) == identity
    staffed.ok("desk", "admit", "nl.next", "bz.request", *HELD, "--expect", " ".join(request["words"]))
    assert "already" in staffed.refused("desk", "admit", "nl.next", "bz.request", *HELD, code=2)


def test_requests_that_are_refused(staffed: Office) -> None:
    staffed.ok("roster", "draft", "nl", *HELD, "--out", "nl.next")
    identity = request_desk(staffed, "nl.bz/supply", "other.request", lineage=bytes(32))
    said = staffed.refused("desk", "admit", "nl.next", "other.request", *HELD)
    assert "does not prove that nl.bz/supply holds its key in this exchange" in said
    staffed.refused("desk", "request", "other.request", *HELD)
    request_desk(staffed, "nl.bz/supply", "bz.request")
    said = staffed.refused("desk", "admit", "nl.next", "bz.request", *HELD, "--expect", identity.hex())
    assert "another key than the one read out" in said
    request_desk(staffed, "nl.paris/x", "paris.request")
    assert "no mission nl.paris" in staffed.refused("desk", "admit", "nl.next", "paris.request", *HELD, code=2)
    request_desk(staffed, "kr.motie/x", "motie.request")
    assert "is it the right draft" in staffed.refused("desk", "admit", "nl.next", "motie.request", *HELD, code=2)
    for junk in ("zz", "00ff", ""):
        staffed.path("junk.request").write_text(junk)
        assert "tocsin desk init" in staffed.refused("desk", "admit", "nl.next", "junk.request", *HELD, code=2)
    assert "node init" in staffed.refused("node", "admit", "nl.next", "bz.request", *HELD, code=2)
    # Over the cap of the agreement: refused while drafting, long before the other party would.
    for n in range(32):
        request_desk(staffed, f"nl.bz/d{n}", "d.request")
        staffed.ok("desk", "admit", "nl.next", "d.request", *HELD)
    request_desk(staffed, "nl.bz/one-more", "d.request")
    assert "the agreement allows 32" in staffed.refused("desk", "admit", "nl.next", "d.request", *HELD)


def test_missions_and_nodes(staffed: Office) -> None:
    staffed.ok("roster", "draft", "nl", *HELD, "--out", "nl.next")
    request_node(staffed, "nl.hague-2", "n2.request", port=7500)
    add = ("mission", "add", "nl.next", "nl.litho", "--kind", "company", *HELD)
    assert "admit the node first" in staffed.refused(*add, "--node", "nl.hague-2", code=2)
    staffed.ok("node", "admit", "nl.next", "n2.request", "--relay", "nl.bz", *HELD)
    staffed.ok(*add, "--node", "nl.hague-2", "--name", "en=A maker", "--name", "ko=장비 기업", "--locode", "NLVEL")
    assert "already" in staffed.refused(*add, "--node", "nl.hague-2", code=2)
    assert "name in a language" in staffed.refused(
        "mission", "change", "nl.next", "nl.litho", "--name", "just a name", *HELD, code=2
    )
    assert "hosts nl.litho" in staffed.refused("node", "remove", "nl.next", "nl.hague-2", *HELD, code=2)
    added = next(m for m in body(staffed, "nl.next").missions if m.mission == "nl.litho")
    assert [(n.language, n.name) for n in added.names] == [("en", "A maker"), ("ko", "장비 기업")]
    staffed.ok("mission", "remove", "nl.next", "nl.litho", *HELD)
    staffed.ok("node", "remove", "nl.next", "nl.hague-2", *HELD)
    for wrong in ("Nl.x", "nl. x", "kr.x"):
        staffed.refused("mission", "add", "nl.next", wrong, "--kind", "embassy", "--node", "nl.seoul-1", *HELD, code=2)
    assert staffed.run("mission", "add", "nl.next", "nl.y", "--kind", "castle", "--node", "n", *HELD).code == 2
    assert not body(staffed, "nl.next").nodes[0].relays


def test_a_removed_desk_can_lose_its_keys(staffed: Office) -> None:
    staffed.ok("roster", "draft", "nl", *HELD, "--out", "nl.next")
    (key,) = trust(staffed).roster("nl").desks["nl.seoul/economic"].keys
    staffed.ok("desk", "remove", "nl.next", "nl.seoul/economic", "--revoke", "laptop stolen", *HELD)
    publish_roster(staffed, "nl", "nl.next", "exchange.bundle")
    assert trust(staffed).key_ended("nl.seoul/economic", key) == "revoked by its party"
    assert "no desk" in staffed.refused("desk", "remove", "nl.next", "nl.x/y", *HELD, code=2)


def test_a_signed_draft_is_not_changed(staffed: Office) -> None:
    staffed.ok("roster", "draft", "nl", *HELD, "--out", "nl.next")
    staffed.sign("roster", "nl.next", "nl-staff", "signed", *HELD)
    said = staffed.refused("mission", "remove", "signed", "nl.bz", *HELD)
    assert "would void the signatures" in said


def test_a_draft_grows_no_older_while_it_is_changed(staffed: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hold of a new desk counts from the issue time; a draft made days before would eat it up."""
    staffed.ok("roster", "draft", "nl", *HELD, "--life", "30d", "--out", "nl.next")
    later = now_ms() + 36 * 3_600_000
    monkeypatch.setattr("keys.cli.roster.now_ms", lambda: later)
    staffed.ok("mission", "change", "nl.next", "nl.bz", "--locode", "NLHAG", *HELD)
    changed = body(staffed, "nl.next")
    assert changed.issue_time_ms == later
    assert changed.expire_time_ms == later + 30 * 86_400_000
    assert "at most 90 d" in staffed.refused("roster", "draft", "nl", *HELD, "--life", "91d", "--out", "x", code=2)
    assert "no party" in staffed.refused("roster", "draft", "fr", *HELD, "--out", "x", code=2)


def test_suspending_at_once_and_lifting_in_the_next_roster(staffed: Office) -> None:
    urgent = ("--bundle", "exchange.bundle", "--keystore", "nl-duty.keys")
    assert trust(staffed).suspended(desk="kr.motie/supply", channel="chips") is None
    staffed.ok("suspend", "chips", "--reason", "leak under study", *urgent)
    assert trust(staffed).suspended(desk="kr.motie/supply", channel="chips") == "suspended by nl: leak under study"
    staffed.ok("suspend", "nl.seoul", "--reason", "embassy closed", *urgent)
    assert "embassy closed" in str(trust(staffed).suspended(desk="nl.seoul/economic", channel="minerals"))
    # The daily status repeats both.
    staffed.ok("status", "issue", *urgent)
    assert trust(staffed).suspended(desk="kr.motie/supply", channel="chips") is not None
    assert "next roster" in staffed.refused("suspend", "chips", "--lift", *urgent, code=2)
    # The draft of the next roster keeps both until told otherwise.
    staffed.ok("roster", "draft", "nl", *HELD, "--out", "nl.next")
    done = staffed.ok("suspend", "chips", "--draft", "nl.next", "--lift", *HELD)
    assert "new suspension of nl.seoul: embassy closed" in done.out
    assert "channel chips" not in done.out
    publish_roster(staffed, "nl", "nl.next", "exchange.bundle")
    assert trust(staffed).suspended(desk="kr.motie/supply", channel="chips") is None
    assert trust(staffed).suspended(desk="nl.seoul/economic", channel="minerals") is not None


def test_suspensions_that_are_refused(staffed: Office) -> None:
    urgent = ("--bundle", "exchange.bundle", "--keystore", "nl-duty.keys")
    assert "names are those of nl" in staffed.refused("suspend", "kr.motie", "--reason", "x", *urgent, code=2)
    assert "needs its reason" in staffed.refused("suspend", "chips", *urgent, code=2)
    assert "--bundle or --draft" in staffed.refused("suspend", "chips", "--reason", "x", code=2)
    staffed.ok("roster", "draft", "nl", *HELD, "--out", "nl.next")
    assert "suspends no chips" in staffed.refused("suspend", "chips", "--draft", "nl.next", "--lift", *HELD, code=2)
    said = staffed.refused(
        "suspend",
        "chips",
        "--reason",
        "x",
        "--bundle",
        "exchange.bundle",
        "--keystore",
        "nl-staff.keys",
        "--passphrase-file",
        "pw",
    )
    assert "no status key" in said


def test_dry_runs_change_nothing(staffed: Office) -> None:
    staffed.ok("roster", "draft", "nl", *HELD, "--out", "nl.next")
    before = staffed.files()
    staffed.ok("mission", "change", "nl.next", "nl.bz", "--locode", "NLHAG", *HELD, "--dry-run")
    staffed.ok("suspend", "chips", "--reason", "x", "--draft", "nl.next", *HELD, "--dry-run")
    urgent = ("--bundle", "exchange.bundle", "--keystore", "nl-duty.keys")
    staffed.ok("suspend", "chips", "--reason", "x", *urgent, "--dry-run")
    staffed.ok("status", "issue", *urgent, "--dry-run")
    assert staffed.files() == before


def test_a_roster_that_does_not_follow_is_refused(staffed: Office) -> None:
    staffed.ok("roster", "draft", "nl", *HELD, "--out", "one")
    staffed.ok("mission", "change", "one", "nl.bz", "--locode", "NLHAG", *HELD)
    staffed.ok("roster", "draft", "nl", *HELD, "--out", "two")
    publish_roster(staffed, "nl", "two", "exchange.bundle")
    assert "two documents claim" in staffed.refused(*staffed.signing("roster", "one", "nl-staff", "x", *HELD))


def test_bundles_of_both_parties_in_one(staffed: Office) -> None:
    """Each party hands over its own; what no node would take is left out, and said."""
    staffed.ok("roster", "draft", "nl", *HELD, "--out", "nl.next")
    done = staffed.ok("bundle", "nl.next", "exchange.bundle", "founding.bundle", "--out", "all.bundle", "--json")
    assert done.json["documents"][:3] == ["kr party document 1", "nl party document 1", "agreement 1"]
    assert len(done.json["documents"]) == 7
    assert "left out: nl roster 1.2: " in done.err
    assert trust(staffed, "all.bundle").has_roster("kr")
    assert "exists already" in staffed.refused("bundle", "exchange.bundle", "--out", "all.bundle", code=2)
    assert "no agreement" in staffed.refused("bundle", "kr.party", "--out", "x.bundle", code=2)


def test_words_alone_can_be_handed_on(staffed: Office) -> None:
    spoken = staffed.ok("fingerprint", "nl.party", "--words").out
    assert len(spoken.split()) == 24 + 4 * 3
    staffed.ok("fingerprint", "nl.party", "--expect", spoken)
    assert "words of its own" in staffed.refused("fingerprint", "exchange.bundle", "--words", code=2)
