"""What nobody should sign is refused before anybody does; each check off once."""

from collections.abc import Callable

import pytest

from keys import documents
from keys.cli import ready
from keys.documents import Document
from keys.trust import Trust
from keys.trust import agreement as agreements
from keys.trust import party as parties
from keys.v1 import documents_pb2 as pb
from tests.keys.cli.office import HELD, Office

NEXT = ("--held", "exchange.bundle")


def yes(*_: object, **__: object) -> None:
    """A check that is switched off."""


def rewrite(
    office: Office, source: str, target: str, change: Callable[[pb.Agreement | pb.Party | pb.Roster], None]
) -> None:
    document = documents.decode(office.path(source).read_bytes())
    body = documents.body(document, documents.BODIES[document.type])
    assert isinstance(body, pb.Agreement | pb.Party | pb.Roster)
    change(body)
    office.path(target).write_bytes(documents.make(body).encode())


def other_exchange(office: Office) -> None:
    """The same two parties found a second one: a drill, say."""
    text = office.path("terms.toml").read_text().replace("drill = false", "drill = true")
    office.path("drill.toml").write_text(text)
    office.ok("agreement", "draft", "drill.toml", *HELD, "--out", "drill.draft")
    copies = []
    for who in ("kr-first", "kr-third", "nl-first", "nl-second"):
        office.sign("agreement", "drill.draft", who, f"drill.{who}", *HELD, "--instead")
        copies.append(f"drill.{who}")
    office.ok("agreement", "combine", *copies, *HELD, "--out", "drill.signed")
    office.ok("agreement", "publish", "drill.signed", *HELD, "--out", "drill.bundle")


def test_documents_of_another_exchange(staffed: Office) -> None:
    other_exchange(staffed)
    staffed.ok("roster", "draft", "nl", "--held", "drill.bundle", "--out", "drill.roster")
    said = staffed.refused(*staffed.signing("roster", "drill.roster", "nl-staff", "x", *NEXT))
    assert "belongs to another exchange" in said
    staffed.ok("agreement", "draft", "drill.toml", "--held", "drill.bundle", "--out", "drill2.draft")
    said = staffed.refused(*staffed.signing("agreement", "drill2.draft", "nl-first", "x", *NEXT))
    assert "belongs to another exchange" in said
    assert "two first agreements" in staffed.refused("audit", "drill.bundle", "exchange.bundle")
    request = "nl.seoul-economic.request"
    assert "in this exchange" in staffed.refused("desk", "request", request, "--held", "drill.bundle")


def test_an_amendment_that_follows_nothing(staffed: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    staffed.ok("agreement", "draft", "terms.toml", *NEXT, "--out", "a2")

    def skip(body: pb.Agreement | pb.Party | pb.Roster) -> None:
        body.version += 1

    def fork(body: pb.Agreement | pb.Party | pb.Roster) -> None:
        body.previous = bytes(32)

    for number, change in enumerate((skip, fork)):
        rewrite(staffed, "a2", f"bad{number}", change)
        said = staffed.refused(*staffed.signing("agreement", f"bad{number}", "nl-first", "x", *NEXT, "--instead"))
        assert "does not follow" in said or "not held" in said

    def other_parties(body: pb.Agreement | pb.Party | pb.Roster) -> None:
        assert isinstance(body, pb.Agreement)
        body.parties[0].first_party = bytes(32)

    rewrite(staffed, "a2", "bad3", other_parties)
    assert "new lineage" in staffed.refused(*staffed.signing("agreement", "bad3", "nl-first", "x", *NEXT))
    monkeypatch.setattr(agreements, "check", yes)
    staffed.sign("agreement", "bad3", "nl-first", "x", *NEXT)


def test_a_first_party_document_that_breaks_a_rule(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_needed(body: pb.Agreement | pb.Party | pb.Roster) -> None:
        assert isinstance(body, pb.Party)
        body.root.threshold = 4

    rewrite(office, "kr.draft", "bad", none_needed)
    sign = office.signing("party", "bad", "kr-first", "x", "--instead")
    assert "threshold between 1 and their number" in office.refused(*sign)
    monkeypatch.setattr(parties, "check", yes)
    office.ok(*sign)


def test_a_swapped_party_document_beside_the_one_held(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    def later(body: pb.Agreement | pb.Party | pb.Roster) -> None:
        assert isinstance(body, pb.Party)
        body.issue_time_ms += 1

    rewrite(office, "kr.draft", "other.draft", later)
    sign = office.signing("party", "other.draft", "kr-first", "x", "--held", "kr.party", "--instead")
    assert "one was swapped" in office.refused(*sign)
    monkeypatch.setattr(ready, "_party", yes)
    office.ok(*sign)


def test_a_roster_every_node_would_refuse(staffed: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    staffed.ok("roster", "draft", "nl", *NEXT, "--out", "nl.next")

    def nowhere(body: pb.Agreement | pb.Party | pb.Roster) -> None:
        assert isinstance(body, pb.Roster)
        body.missions[0].node = "nl.nowhere"

    def twice(body: pb.Agreement | pb.Party | pb.Roster) -> None:
        assert isinstance(body, pb.Roster)
        body.missions.add().CopyFrom(body.missions[0])

    def unproved(body: pb.Agreement | pb.Party | pb.Roster) -> None:
        assert isinstance(body, pb.Roster)
        # An active key of a desk that nobody listed before, with another's proof.
        desk = body.desks.add(desk="nl.bz/x")
        desk.keys.add().CopyFrom(body.desks[0].keys[0])
        body.desks.sort(key=lambda each: each.desk)

    for name, change, words in (
        ("nowhere", nowhere, "a node of this roster"),
        ("twice", twice, "unique"),
        ("unproved", unproved, "nl.bz/x: disabled"),
    ):
        rewrite(staffed, "nl.next", name, change)
        assert words in staffed.refused(*staffed.signing("roster", name, "nl-staff", "x", *NEXT))
    monkeypatch.setattr(Trust, "rehearse", lambda *_, **__: ())
    for name in ("nowhere", "twice", "unproved"):
        staffed.sign("roster", name, "nl-staff", f"{name}.signed", *NEXT, "--instead")
        # Signed all the same, it stops at the next command and not at the other party's nodes.
        assert staffed.run("roster", "publish", f"{name}.signed", *NEXT, "--out", f"{name}.bundle").code in (0, 1)


def test_an_expired_roster(staffed: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    staffed.ok("roster", "draft", "nl", *NEXT, "--life", "1d", "--out", "nl.next")
    document = documents.decode(staffed.path("nl.next").read_bytes())
    body = documents.body(document, pb.Roster)
    monkeypatch.setattr("keys.cli.signing.now_ms", lambda: body.expire_time_ms)
    sign = staffed.signing("roster", "nl.next", "nl-staff", "x", *NEXT)
    assert "has ended already" in staffed.refused(*sign)
    monkeypatch.setattr(ready, "_roster", yes)
    staffed.ok(*sign)


def test_verify_and_show_take_what_is_held_already(staffed: Office) -> None:
    for file in ("agreement.signed", "agreement.draft"):
        staffed.ok("agreement", "show", file, *NEXT)
    staffed.ok("agreement", "verify", "agreement.signed", *NEXT)
    staffed.ok("roster", "verify", "nl.roster.draft.whole", *NEXT)
    staffed.ok("party", "verify", "nl.party", *NEXT)
    assert isinstance(documents.decode(staffed.path("nl.party").read_bytes()), Document)
