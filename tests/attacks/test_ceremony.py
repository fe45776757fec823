"""Attack 28: unread signing. Somebody changes what is signed between its reading and its signature.

Each is refused for its reason, and succeeds once that one check is switched off: so each test is known to bite.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from keys import ceremony, documents, suite, words
from keys.cli import book as books
from keys.cli import ready, record, signing
from keys.documents import Document
from keys.encoding import canonical_bytes
from keys.v1 import documents_pb2 as pb
from tests.attacks.marks import attack
from tests.keys.cli.office import HELD, Office, fast, founded

Patch = pytest.MonkeyPatch
SIGN = ("agreement", "agreement.draft", "kr-second", "signed", *HELD)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with fast():
        yield founded(tmp_path_factory.mktemp("ceremony") / "office").directory


@pytest.fixture
def office(place: Path, tmp_path: Path) -> Iterator[Office]:
    shutil.copytree(place, tmp_path / "office")
    with fast():
        yield Office(tmp_path / "office")


def yes(*_: object, **__: object) -> None:
    """A check that is switched off."""


def alter(office: Office, file: str, change: Callable[[pb.Agreement], None]) -> Document:
    """Another body under the same file name, signatures kept."""
    document = documents.decode(office.path(file).read_bytes())
    body = documents.body(document, pb.Agreement)
    change(body)
    made = documents.make(body)
    altered = Document(made.type, made.body, document.signatures, made.digest)
    office.path(file).write_bytes(altered.encode())
    return altered


def greedy(body: pb.Agreement) -> None:
    """The other side reads what it must not."""
    rule = next(rule for rule in body.channels if rule.channel == "consultation")
    rule.read.add(highest=pb.MARKING_AMBER).who.kind = pb.MISSION_KIND_COMPANY


@attack(28, off="_require_expected")
def test_28_altered_between_reading_and_signing_with_the_words_at_hand(office: Office, monkeypatch: Patch) -> None:
    (read,) = office.ok("fingerprint", "agreement.draft", "--json").json
    altered = alter(office, "agreement.draft", greedy)
    expect = ("--expect", " ".join(read["words"]))
    assert "another fingerprint than the one expected" in office.refused(*office.signing(*SIGN, *expect))
    monkeypatch.setattr(signing, "_require_expected", yes)
    office.sign(*SIGN, *expect)
    assert documents.decode(office.path("signed").read_bytes()).digest == altered.digest


@attack(28, off="require_shown")
def test_28_altered_between_show_and_sign_with_a_transcript(office: Office, monkeypatch: Patch) -> None:
    office.transcript = office.path("kr.jsonl")
    office.ok("agreement", "show", "agreement.draft")
    alter(office, "agreement.draft", greedy)
    assert "not the one shown before: it was altered in between" in office.refused(*office.signing(*SIGN))
    monkeypatch.setattr(record, "require_shown", yes)
    office.sign(*SIGN)


@attack(28)
def test_28_altered_while_the_holder_types(office: Office, monkeypatch: Patch) -> None:
    """What is signed are the bytes that were read and shown, whatever the file holds by then."""
    shown = documents.decode(office.path("agreement.draft").read_bytes())
    real = signing._confirm

    def swap(digest: bytes) -> None:
        alter(office, "agreement.draft", greedy)
        real(digest)

    monkeypatch.setattr(signing, "_confirm", swap)
    command = [a for a in office.signing(*SIGN) if a != "--yes"]
    office.ok(*command, typed=" ".join(words.words(shown.digest)[:3]) + "\n")
    signed = documents.decode(office.path("signed").read_bytes())
    assert (signed.digest, len(signed.signatures)) == (shown.digest, 1)


@attack(28, off="_confirm")
def test_28_words_of_another_document_sign_nothing(office: Office, monkeypatch: Patch) -> None:
    (read,) = office.ok("fingerprint", "agreement.draft", "--json").json
    alter(office, "agreement.draft", greedy)
    command = [a for a in office.signing(*SIGN) if a != "--yes"]
    typed = " ".join(read["words"][:3]) + "\n"
    assert "nothing was signed" in office.refused(*command, typed=typed)
    monkeypatch.setattr(signing, "_confirm", yes)
    office.ok(*command, typed=typed)


@attack(28, off="body")
def test_28_a_change_that_no_sentence_shows(office: Office, monkeypatch: Patch) -> None:
    """A field of a newer version: this software cannot say what it means, so it does not sign it."""
    document = documents.decode(office.path("agreement.draft").read_bytes())
    body = document.body + bytes.fromhex("9a06026f6b")  # field 99: "ok"
    hidden = Document(document.type, body, (), documents.document_digest(document.type, body))
    office.path("agreement.draft").write_bytes(hidden.encode())
    assert "does not know" in office.refused(*office.signing(*SIGN))

    def lenient(found: Document, kind: type[pb.Agreement]) -> pb.Agreement:
        return kind.FromString(found.body)

    monkeypatch.setattr(documents, "body", lenient)
    office.sign(*SIGN)
    assert documents.decode(office.path("signed").read_bytes()).digest == hidden.digest


@attack(28, off="require_known_signatures")
def test_28_a_copy_altered_on_its_way(office: Office, monkeypatch: Patch) -> None:
    alter(office, "agreement.nl-first", greedy)
    combine = ("agreement", "combine", "agreement.kr-first", "agreement.nl-first", *HELD, "--out", "whole")
    assert "are different documents" in office.refused(*combine)
    # Alone it is refused too: its signature is not over what it says now.
    alone = ("agreement", "combine", "agreement.nl-first", *HELD, "--out", "whole")
    assert "was altered after signing" in office.refused(*alone)
    monkeypatch.setattr(ceremony, "require_known_signatures", yes)
    office.ok(*alone)


@attack(28, off="require_known_signatures")
def test_28_a_signature_by_a_stranger(office: Office, monkeypatch: Patch) -> None:
    stranger = suite.SigningKey.generate(suite.ROOT_SUITE)
    draft = documents.decode(office.path("agreement.draft").read_bytes())
    office.path("agreement.mallory").write_bytes(documents.sign(draft, stranger, role="root").encode())
    combine = ("agreement", "combine", "agreement.kr-first", "agreement.mallory", *HELD, "--out", "whole")
    assert "carries a signature by a stranger" in office.refused(*combine)
    monkeypatch.setattr(ceremony, "require_known_signatures", yes)
    office.ok(*combine)
    # Even so it counts for nobody.
    monkeypatch.undo()
    said = office.run("agreement", "verify", "whole", *HELD)
    assert "stranger" in said.err


@attack(28)
def test_28_a_keystore_of_somebody_else(office: Office) -> None:
    office.ok(
        *("root", "new", "--party", "kr", "--holder", "first", "--keystore", "mallory.keys"),
        *("--passphrase-file", "pw", "--out", "mallory.part"),
    )
    said = office.refused(*office.signing("agreement", "agreement.draft", "mallory", "signed", *HELD))
    assert "no key of kr root, nl root" in said


@attack(28, off="_agreement")
def test_28_a_party_document_swapped_on_its_way(office: Office, monkeypatch: Patch) -> None:
    """The courier of nl hands kr a party document with roots of their own."""
    other = Office(office.directory / "other")
    other.directory.mkdir()
    shutil.copy(office.path("pw"), other.path("pw"))
    other.draw_keys("nl")
    other.draft_party("nl")
    other.sign_party("nl")
    (spoken,) = office.ok("fingerprint", "nl.party", "--json").json
    shutil.copy(other.path("nl.party"), office.path("nl.party"))
    # Caught by the voice of the other side, before any agreement is drafted ...
    said = office.refused("fingerprint", "nl.party", "--expect", " ".join(spoken["words"]))
    assert "another fingerprint than the one read out" in said
    # ... and by the agreement, which names the real one.
    assert "one was swapped" in office.refused(*office.signing(*SIGN))
    monkeypatch.setattr(ready, "_agreement", yes)
    office.sign(*SIGN)


@attack(28)
def test_28_two_party_documents_of_one_party(office: Office) -> None:
    other = Office(office.directory / "other")
    other.directory.mkdir()
    shutil.copy(office.path("pw"), other.path("pw"))
    other.draw_keys("nl")
    other.draft_party("nl")
    other.sign_party("nl")
    shutil.copy(other.path("nl.party"), office.path("nl2.party"))
    said = office.refused(*office.signing(*SIGN, "--held", "nl2.party"))
    assert "two first party documents of nl" in said


@attack(28)
def test_28_files_in_the_wrong_place(office: Office) -> None:
    for command in (
        office.signing("agreement", "nl.party", "kr-second", "x", *HELD),
        office.signing("agreement", "terms.toml", "kr-second", "x", *HELD),
        office.signing("agreement", "founding.bundle", "kr-second", "x", *HELD),
        office.signing("party", "agreement.draft", "kr-second", "x"),
        office.signing("agreement", "agreement.draft", "kr-second", "x", "--held", "kr-first.part"),
        ("party", "draft", "kr", "nl-first.part", "kr-staff.part", "--out", "x"),
        ("party", "draft", "kr", "kr-first.part", "kr.party", "--out", "x"),
    ):
        assert "is it the right file" in office.refused(*command, code=2)
    assert "no party document of nl" in office.refused(
        *office.signing("agreement", "agreement.draft", "kr-second", "x", "--held", "kr.party")
    )


@attack(28, off="check_possession")
def test_28_a_part_whose_key_nobody_proves(office: Office, monkeypatch: Patch) -> None:
    """The courier puts another key into the part of a holder."""
    part = json.loads(office.path("kr-first.part").read_text())
    other = json.loads(office.path("kr-second.part").read_text())
    part["key"], part["possession"] = other["key"], other["possession"]
    office.path("kr-first.part").write_text(json.dumps(part))
    parts = [f"kr-{holder}.part" for holder in ("first", "second", "third", "staff", "duty")]
    said = office.refused("party", "draft", "kr", *parts, "--out", "x")
    assert said.startswith("tocsin-keys: error: kr-first.part: ")
    monkeypatch.setattr(suite, "check_possession", yes)
    office.ok("party", "draft", "kr", *parts, "--out", "x")


@attack(28, off="require")
def test_28_an_expired_document(office: Office, monkeypatch: Patch) -> None:
    later = documents.body(documents.decode(office.path("agreement.draft").read_bytes()), pb.Agreement).expire_time_ms
    monkeypatch.setattr(signing, "now_ms", lambda: later)
    assert "has ended already" in office.refused(*office.signing(*SIGN))
    monkeypatch.setattr(ready, "require", yes)
    office.sign(*SIGN)


@attack(28, off="standing")
def test_28_a_holder_signs_once(office: Office, monkeypatch: Patch) -> None:
    again = office.signing("agreement", "agreement.kr-first", "kr-first", "twice", *HELD)
    assert "kr root: first signed this document already" in office.refused(*again)
    signed = documents.decode(office.path("agreement.kr-first").read_bytes())
    held = books.load([office.path("kr.party"), office.path("nl.party")], now_ms=signing.now_ms())
    assert ceremony.progress(signed, books.groups(signed, held)).groups[0][1].signed == ("first",)
    monkeypatch.setattr(ceremony, "standing", lambda *_: {"root": ("kr root: first",)})
    office.ok(*again)
    # A second signature would count for nobody: thresholds count holders.
    assert documents.decode(office.path("twice").read_bytes()) == signed


@attack(28, off="_require_one_story")
def test_28_two_agreements_at_one_number(office: Office, monkeypatch: Patch) -> None:
    """A holder who signed one is not led to sign another by mistake."""
    alter(office, "agreement.draft", greedy)
    command = office.signing("agreement", "agreement.draft", "kr-first", "other", *HELD)
    said = office.refused(*command)
    assert "signed another agreement 1" in said
    assert "--instead" in said
    office.ok(*command, "--instead")
    office.path("other").unlink()
    alter(office, "agreement.draft", lambda body: setattr(body, "title", "a third"))
    office.refused(*command)
    monkeypatch.setattr(signing, "_require_one_story", yes)
    monkeypatch.setattr(signing, "_remember", yes)
    office.ok(*command)


@attack(28)
def test_28_edited_terms_change_the_words(office: Office) -> None:
    """Somebody edits the terms after they were read: the draft made from them has other words."""
    text = office.path("terms.toml").read_text()
    office.path("terms.toml").write_text(
        text.replace('skew = "5m"', 'skew = "6m"').replace("# effective = 2027", "effective = 2027")
    )
    office.ok("agreement", "draft", "terms.toml", *HELD, "--out", "other.draft")
    lines = office.ok("agreement", "diff", "agreement.draft", "other.draft", "--json").json
    assert "clocks may differ by (S) 5 m -> 6 m" in lines
    (old,), (new,) = (office.ok("fingerprint", f, "--json").json for f in ("agreement.draft", "other.draft"))
    assert old["words"] != new["words"]


@attack(28)
def test_28_a_bundle_with_a_document_more(office: Office) -> None:
    """Published bundles are taken document by document; one that is not signed is not in the book."""
    bundle = pb.Bundle.FromString(office.path("founding.bundle").read_bytes())
    first = documents.decode(bundle.documents[-1])
    body = documents.body(first, pb.Agreement)
    body.version, body.lineage, body.previous = 2, first.digest, first.digest
    body.effective_time_ms += 1
    greedy(body)
    bundle.documents.append(documents.make(body).encode())
    office.path("founding.bundle").write_bytes(canonical_bytes(bundle))
    book = books.load([office.path("founding.bundle")], now_ms=signing.now_ms())
    assert book.founded().agreement(2**62).body.version == 1
    assert [error.reason for _, error in book.refused] == ["DOCUMENT_THRESHOLD"]
    assert office.run("audit", "founding.bundle").code == 1
