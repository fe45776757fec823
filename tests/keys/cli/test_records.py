"""The transcript, the script, the audit, and copies of keystores."""

import contextlib
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keys import transcript, words
from keys.cli.script import founding_steps
from keys.errors import TocsinError, UsageError
from keys.keystore import Keystore
from keys.transcript import TranscriptError
from tests.keys.cli.office import HELD, PASSPHRASE, Office, publish_roster

# ---- words


def test_words_are_those_of_bip_39() -> None:
    assert words.words(bytes(32)) == ("abandon",) * 23 + ("art",)
    assert words.words(b"\xff" * 32) == ("zoo",) * 23 + ("vote",)
    # Vectors of the BIP-39 reference implementation (trezor/python-mnemonic, vectors.json).
    listed = bytes.fromhex("68a79eaca2324873eacc50cb9c6eca8cc68ea5d936f98787c60c7ebc74e6ce7c")
    assert " ".join(words.words(listed)) == (
        "hamster diagram private dutch cause delay private meat slide toddler razor book happy fancy gospel tennis maple"
        " dilemma loan word shrug inflict delay length"
    )


@given(st.binary(min_size=32, max_size=32))
def test_what_is_read_aloud_comes_back(digest: bytes) -> None:
    assert words.read(" ".join(words.words(digest)).upper()) == digest
    assert words.read("\n".join(words.rows(digest))) == digest
    assert words.read(words.digits(digest)) == digest


@given(st.binary(min_size=32, max_size=32), st.integers(0, 23), st.integers(0, 22))
def test_misheard_words_are_noticed(digest: bytes, at: int, swap: int) -> None:
    spoken = list(words.words(digest))
    for wrong in (spoken[:at] + spoken[at + 1 :], [*spoken, "zoo"], [*spoken[:at], "tocsin", *spoken[at + 1 :]]):
        with pytest.raises(UsageError):
            words.read(" ".join(wrong))
    spoken[swap], spoken[swap + 1] = spoken[swap + 1], spoken[swap]
    with contextlib.suppress(UsageError):  # 255 of 256 times the checksum fails
        assert words.read(" ".join(spoken)) != digest or spoken == list(words.words(digest))


@pytest.mark.parametrize("text", ["", "12", "abandon", "0" * 63, "0" * 65, "g" * 64])
def test_what_is_no_fingerprint(text: str) -> None:
    with pytest.raises(UsageError):
        words.read(text)
    with pytest.raises(UsageError):
        words.words(bytes(31))


# ---- transcript


def test_a_ceremony_leaves_a_transcript(office: Office) -> None:
    record = office.path("kr.jsonl")
    office.ok("ceremony", "note", "kr.jsonl", "present: Kim, Jansen")
    office.transcript = record
    office.ok("agreement", "show", "agreement.draft")
    office.sign("agreement", "agreement.draft", "kr-second", "a", *HELD)
    office.ok("fingerprint", "agreement.draft")
    office.transcript = None
    closed = office.ok("ceremony", "close", "kr.jsonl", "--json").json
    report = office.ok("ceremony", "verify", "kr.jsonl", "--expect", " ".join(closed["words"]), "--json").json
    assert [line["what"] for line in report["lines"]] == ["note", "shown", "signed", "fingerprint", "closed"]
    assert report["lines"][2]["facts"]["by"] == "kr root: second"
    office.ok("ceremony", "note", "kr.jsonl", "after the end")
    assert "does not end in these words" in office.refused(
        "ceremony", "verify", "kr.jsonl", "--expect", " ".join(closed["words"])
    )


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_change_of_a_line_goes_unseen(data: st.DataObject) -> None:
    lines: list[transcript.Line] = []
    held = b""
    for n in range(4):
        held += transcript.next_line(lines, "note", {"text": f"line {n}"}, now_ms=n)
        lines = transcript.parse(held)
    head = transcript.head(lines)
    at = data.draw(st.integers(0, len(held) - 2))
    bad = bytearray(held)
    bad[at] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(TranscriptError):
        assert transcript.head(transcript.parse(bytes(bad))) != head


def test_lines_left_out_or_moved_are_refused() -> None:
    held = b""
    for n in range(3):
        held += transcript.next_line(transcript.parse(held), "note", {}, now_ms=n)
    one, two, three = held.splitlines(keepends=True)
    for bad in (two + three, one + three, one + two + two, two + one):
        with pytest.raises(TranscriptError):
            transcript.parse(bad)
    # Cutting the end off shows in the last hash alone: that is what the words on paper are for.
    assert transcript.head(transcript.parse(one + two)) != transcript.head(transcript.parse(held))


def test_a_line_cut_off_by_power_loss_is_replaced(office: Office) -> None:
    office.ok("ceremony", "note", "kr.jsonl", "one")
    with office.path("kr.jsonl").open("ab") as stream:
        stream.write(b'{"n":2,"time_ms":1,"wh')
    office.ok("ceremony", "note", "kr.jsonl", "two")
    report = office.ok("ceremony", "verify", "kr.jsonl", "--json").json
    assert [line["facts"]["text"] for line in report["lines"]] == ["one", "two"]


def test_nothing_is_done_with_a_broken_transcript(office: Office) -> None:
    office.ok("ceremony", "note", "kr.jsonl", "one")
    text = office.path("kr.jsonl").read_text().replace("one", "two")
    office.ok("ceremony", "note", "kr.jsonl", "three")
    office.path("kr.jsonl").write_text(text + office.path("kr.jsonl").read_text().splitlines(keepends=True)[1])
    office.transcript = office.path("kr.jsonl")
    said = office.refused(*office.signing("agreement", "agreement.draft", "kr-second", "a", *HELD))
    assert "does not follow" in said


# ---- script


def test_the_script_names_every_step(empty: Office) -> None:
    text = empty.ok("ceremony", "script", "--party", "nl", "--party", "kr").out
    assert text.startswith("Founding by kr and nl; 2 of 3 root holders sign")
    assert "[ ] 1. " in text
    assert "all 24 words, row by row, by a way that did not carry the file" in text
    steps = empty.ok("ceremony", "script", "--party", "nl", "--party", "kr", "--json").json
    assert [step["n"] for step in steps] == list(range(1, len(steps) + 1))
    empty.refused("ceremony", "script", "--party", "nl", code=2)
    empty.refused("ceremony", "script", "--party", "nl", "--party", "kr", "--root-threshold", "4", code=2)


def test_every_command_of_the_script_exists(empty: Office) -> None:
    steps = founding_steps(["kr", "nl"], ["a", "b"], 2)
    commands = {
        tuple(part for part in rest.split()[:2] if part.isalpha())
        for step in steps
        for rest in step.do.replace("--transcript PARTY.jsonl ", "").split("tocsin-keys ")[1:]
    }
    assert len(commands) > 8
    for command in commands:
        empty.ok(*command[:1], *(() if command[0] == "fingerprint" else command[1:]), "--help")


# ---- audit


def test_an_audit_of_a_sound_exchange(staffed: Office) -> None:
    staffed.ok("ceremony", "note", "kr.jsonl", "one")
    report = staffed.ok("audit", "exchange.bundle", "founding.bundle", "agreement.signed", "kr.jsonl", "--json").json
    assert report["wrong"] == 0
    texts = {f["subject"]: f["text"] for f in report["findings"]}
    assert texts["agreement 1"].startswith("signed by kr root: first, third; nl root: first, second")
    assert texts["nl roster 1.1"].startswith("signed by nl roster: staff")
    assert "nl status 1.1" in texts
    assert "1 lines" in texts["kr.jsonl"]


def test_an_audit_finds_two_documents_at_one_number(staffed: Office) -> None:
    for name in ("one", "two"):
        staffed.ok("roster", "draft", "nl", "--held", "exchange.bundle", "--out", name)
    staffed.ok("mission", "change", "two", "nl.bz", "--locode", "NLHAG", "--held", "exchange.bundle")
    staffed.sign("roster", "two", "nl-staff", "two.signed", "--held", "exchange.bundle")
    publish_roster(staffed, "nl", "one", "exchange.bundle", "--instead")
    done = staffed.run("audit", "exchange.bundle", "two.signed")
    assert done.code == 1
    assert "WRONG: nl roster 1.2: two documents at this number, both validly signed" in done.out
    done = staffed.run("audit", "exchange.bundle", "two")
    assert done.code == 1
    assert "without enough signatures" in done.out


def test_an_audit_finds_gaps_strangers_and_old_statuses(staffed: Office) -> None:
    staffed.path("old.bundle").write_bytes(staffed.path("exchange.bundle").read_bytes())
    for name in ("one", "two"):
        staffed.ok("roster", "draft", "nl", "--held", "exchange.bundle", "--out", name)
        publish_roster(staffed, "nl", name, "exchange.bundle")
    assert staffed.ok("audit", "exchange.bundle", "old.bundle", "--json").json["wrong"] == 0
    done = staffed.run("audit", "old.bundle", "two.whole", "--json")
    assert done.code == 1
    (gap,) = [f for f in json.loads(done.out)["findings"] if f["bad"]]
    assert gap["subject"] == "nl roster 1.3"
    assert "DOCUMENT_GAP" in gap["text"]


# ---- copies of keystores


def test_backup_and_restore(office: Office) -> None:
    office.path("pw2").touch(0o600)
    office.path("pw2").write_text("another passphrase\n")
    passwords = ("--passphrase-file", "pw", "--new-passphrase-file", "pw2")
    done = office.ok("backup", "kr-first.keys", "--out", "copy", *passwords, "--json")
    assert done.json["entries"][0] == {"name": "kr/root/first", "kind": "signing"}
    for store in ("kr-first.keys", "copy"):
        assert "exists already" in office.refused("restore", "copy", "--out", store, "--passphrase-file", "pw2", code=2)
    office.refused("restore", "copy", "--out", "new.keys", "--passphrase-file", "pw")
    office.path("kr-first.keys").unlink()
    office.ok("restore", "copy", "--out", "kr-first.keys", "--passphrase-file", "pw2", "--new-passphrase-file", "pw")
    office.sign("agreement", "agreement.draft", "kr-first", "again", *HELD)
    # A keystore with a key file gets a copy with a passphrase, and may come back with a key file.
    office.ok("backup", "nl-duty.keys", "--out", "duty.copy", "--new-passphrase-file", "pw2")
    office.ok("restore", "duty.copy", "--out", "duty.keys", "--passphrase-file", "pw2", "--key-file")
    with Keystore.open(office.path("duty.keys"), b"") as store:
        assert store.names() == ("nl/status/duty",)


def test_a_bad_copy_is_no_copy(office: Office) -> None:
    office.ok("backup", "kr-first.keys", "--out", "copy", "--passphrase-file", "pw")
    data = bytearray(office.path("copy").read_bytes())
    data[-1] ^= 1
    office.path("copy").write_bytes(data)
    assert "does not open" in office.refused("restore", "copy", "--out", "new.keys", "--passphrase-file", "pw")
    assert PASSPHRASE not in "".join(office.said)


def test_secrets_never_come_as_arguments(office: Office) -> None:
    """No option takes a passphrase, seed or key itself."""
    import typing

    import typer

    from keys.cli import app

    def texts(group: typer.Typer) -> set[str]:
        """Names of parameters that are given as text on the command line."""
        found = {
            name
            for command in group.registered_commands
            if command.callback is not None
            for name, kind in typing.get_type_hints(command.callback).items()
            if kind in (str, str | None)
        }
        return found.union(*(texts(sub.typer_instance) for sub in group.registered_groups if sub.typer_instance))

    found = texts(app)
    assert found >= {"expect", "holder", "reason"}
    assert not {name for name in found if any(word in name for word in ("pass", "seed", "secret", "private", "pin"))}


def test_errors_name_the_file(empty: Office) -> None:
    with pytest.raises(TocsinError):
        transcript.parse(b"[1,2]\n")
    assert "cannot read" in empty.refused("fingerprint", "nowhere", code=2)
    assert "neither a document nor a bundle" in empty.refused("fingerprint", "pw", code=2)
