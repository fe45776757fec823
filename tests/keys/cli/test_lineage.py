"""A party lost its roots below the threshold: the parties found anew, and the old exchange is listed as dead."""

import shutil
from pathlib import Path

import pytest

from keys import documents, words
from keys.cli import book as books
from keys.cli.script import founding_steps
from keys.cli.terminal import now_ms
from keys.v1 import documents_pb2 as pb
from tests.keys.cli.office import HELD, Office, lineage_of

NEW = ("--held", "kr-2.party", "--held", "nl.party")
DRAFT = ("lineage", "new", "founding.bundle", "--lost", "kr")


@pytest.fixture(scope="module")
def anew_directory(founding_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Korea drew new roots; its roster and status keys go on."""
    place = tmp_path_factory.mktemp("anew") / "office"
    shutil.copytree(founding_directory, place)
    office = Office(place)
    for holder in ("fourth", "fifth"):
        office.ok(
            *("root", "new", "--party", "kr", "--holder", holder, "--keystore", f"kr-{holder}.keys"),
            *("--passphrase-file", "pw", "--out", f"kr-{holder}.part"),
        )
    parts = [f"kr-{who}.part" for who in ("fourth", "fifth", "staff", "duty")]
    office.ok("party", "draft", "kr", *parts, "--out", "kr-2.draft")
    for holder in ("fourth", "fifth"):
        office.sign("party", "kr-2.draft", f"kr-{holder}", f"kr-2.{holder}")
    office.ok("party", "combine", "kr-2.fourth", "kr-2.fifth", "--out", "kr-2.party")
    return place


@pytest.fixture
def anew(anew_directory: Path, tmp_path: Path) -> Office:
    shutil.copytree(anew_directory, tmp_path / "office")
    return Office(tmp_path / "office")


def found(office: Office) -> None:
    """Sign, combine and publish the draft as any first agreement."""
    copies = []
    for who in ("kr-fourth", "kr-fifth", "nl-first", "nl-second"):
        office.sign("agreement", "anew.draft", who, f"anew.{who}", *NEW)
        copies.append(f"anew.{who}")
    office.ok("agreement", "combine", *copies, *NEW, "--out", "anew.signed")
    office.ok("agreement", "verify", "anew.signed", *NEW)
    office.ok("agreement", "publish", "anew.signed", *NEW, "--out", "anew.bundle")


def test_the_same_terms_go_on_under_new_roots(anew: Office) -> None:
    done = anew.ok(*DRAFT, *NEW, "--out", "anew.draft")
    old = lineage_of(anew)
    assert f"takes the place of dead lineages none -> {old.hex()}" in done.out
    assert "first party document of kr" in done.out
    assert "first party document of nl" not in done.out
    assert "minerals" not in done.out
    assert "binds nobody" in done.err
    # A holder who signed the old first agreement signs this one: it ends the other.
    found(anew)
    trust = books.load([anew.path("anew.bundle")], now_ms=now_ms()).founded()
    body = trust.agreements[0].body
    assert list(body.dead_lineages) == [old]
    assert trust.lineage != old
    before = books.load([anew.path("founding.bundle")], now_ms=now_ms()).founded().agreements[0].body
    assert body.channels == before.channels
    assert f"takes the place of dead lineages: {old.hex()}" in anew.ok("agreement", "show", "anew.draft").out
    # Agreement 2 of it keeps the list by itself.
    anew.ok("agreement", "draft", "terms.toml", "--held", "anew.bundle", "--out", "second.draft")
    second = documents.body(documents.decode(anew.path("second.draft").read_bytes()), pb.Agreement)
    assert list(second.dead_lineages) == [old]


def test_keys_that_go_on_sign_the_same_numbers_again(staffed: Office, anew_directory: Path) -> None:
    for file in anew_directory.glob("kr-*"):
        shutil.copy(file, staffed.path(file.name))
    staffed.ok("lineage", "new", "exchange.bundle", "--lost", "kr", *NEW, "--out", "anew.draft")
    found(staffed)
    for number in ("1", "2"):
        staffed.ok("roster", "draft", "nl", "--held", "anew.bundle", "--out", f"nl-anew-{number}")
    staffed.sign("roster", "nl-anew-1", "nl-staff", "nl-anew.signed", "--held", "anew.bundle")
    # Within one exchange a second one of the same number is refused as ever.
    said = staffed.refused(*staffed.signing("roster", "nl-anew-2", "nl-staff", "x", "--held", "anew.bundle"))
    assert "signed another nl roster 1.1" in said


def test_a_first_agreement_that_does_not_end_the_one_signed_before_is_a_second_story(anew: Office) -> None:
    anew.ok("agreement", "draft", "terms.toml", *NEW, "--out", "strange.draft")
    said = anew.refused(*anew.signing("agreement", "strange.draft", "nl-first", "x", *NEW))
    assert "signed another agreement 1" in said


def test_a_lost_root_a_founded_bundle_and_a_drill_are_refused(anew: Office) -> None:
    said = anew.refused(*DRAFT, *HELD, "--out", "x", code=2)
    assert "the new party document of kr has a root key of the dead exchange, that of first" in said
    said = anew.refused(*DRAFT, "--held", "kr-2.party", "--out", "x", code=2)
    assert "the party documents are of kr" in said
    said = anew.refused(*DRAFT, "--held", "founding.bundle", "--out", "x")
    assert "give party documents alone" in said
    said = anew.refused("lineage", "new", "kr.party", "--lost", "kr", *NEW, "--out", "x", code=2)
    assert "no agreement among the documents" in said
    said = anew.refused("lineage", "new", "founding.bundle", "--lost", "fr", *NEW, "--out", "x", code=2)
    assert "fr is no party" in said
    text = anew.path("terms.toml").read_text()
    anew.path("drill.toml").write_text(text.replace("drill = false", "drill = true"))
    said = anew.refused(*DRAFT, *NEW, "--terms", "drill.toml", "--out", "x", code=2)
    assert "an exercise never takes the place of production" in said


def test_other_terms_may_be_given(anew: Office) -> None:
    text = anew.path("terms.toml").read_text()
    anew.path("other.toml").write_text(text.replace('hold = "24h"', 'hold = "48h"'))
    before = anew.files()
    dry = anew.ok(*DRAFT, *NEW, "--terms", "other.toml", "--out", "x", "--dry-run", "--json")
    assert "a new desk waits before it reads (hold) 24 h -> 48 h" in dry.json["says"]
    assert not dry.json["written"]
    assert anew.files() == before
    assert len(words.read(" ".join(dry.json["words"]))) == 32


def test_the_script_of_founding_anew(empty: Office) -> None:
    script = ("ceremony", "script", "--party", "nl", "--party", "kr")
    text = empty.ok(*script, "--lost", "kr").out
    assert text.startswith("Founding anew by kr and nl")
    assert "tocsin-keys root new --party kr" in text
    assert "tocsin-keys root new --party nl" not in text
    assert "tocsin-keys lineage new exchange.bundle --lost kr --held kr.party --held nl.party" in text
    assert "tocsin node retire DIR --successor founding.bundle" in text
    assert "agreement draft" not in text
    empty.refused(*script, "--lost", "fr", code=2)
    plain = founding_steps(["kr", "nl"], ["a", "b"], 2)
    assert not any("retire" in step.do or "lineage new" in step.do for step in plain)
