"""Two governments found an exchange with files carried by hand."""

import json
from pathlib import Path

import pytest

from keys import documents, words
from keys.cli import book as books
from keys.trust import Trust
from keys.v1 import documents_pb2 as pb
from tests.keys.cli.office import HELD, PASSPHRASE, Office, Typed


def lineage(office: Office) -> bytes:
    return documents.decode(office.path("agreement.signed").read_bytes()).digest


def test_a_founding_ends_in_a_bundle_every_node_takes(office: Office) -> None:
    bundle = pb.Bundle.FromString(office.path("founding.bundle").read_bytes())
    trust = Trust(lineage(office))
    for data in bundle.documents:
        trust.take(documents.decode(data), now_ms=books_now())
    assert trust.parties == ("kr", "nl")
    assert {rule.channel for rule in trust.agreement(books_now()).body.channels} >= {"minerals", "alerts"}


def books_now() -> int:
    from keys.cli.terminal import now_ms

    return now_ms()


def test_fingerprints_are_whole_and_the_same_for_draft_and_signed_copies(office: Office) -> None:
    (of,) = office.ok("fingerprint", "agreement.draft", "--json").json
    assert bytes.fromhex(of["digest"]) == lineage(office)
    assert words.read(" ".join(of["words"])) == lineage(office)
    assert office.ok("fingerprint", "agreement.signed", "--json").json == [of]
    assert [row["of"] for row in office.ok("fingerprint", "founding.bundle", "--json").json] == [
        "kr party document 1",
        "nl party document 1",
        "agreement 1",
    ]
    text = office.ok("fingerprint", "agreement.draft").out
    assert all(word in text for word in of["words"])
    assert words.digits(lineage(office)) in text
    office.ok("fingerprint", "agreement.draft", "--expect", " ".join(of["words"]))
    office.ok("fingerprint", "founding.bundle", "--expect", text.partition("as words:")[2].partition("as digits")[0])
    other = bytes(31) + b"\x01"
    assert "another fingerprint" in office.refused("fingerprint", "agreement.draft", "--expect", other.hex())
    (part,) = office.ok("fingerprint", "kr-first.part", "--json").json
    assert part["of"] == "root key of first (kr)"


def test_verify_says_who_is_missing(office: Office) -> None:
    office.ok("agreement", "combine", "agreement.kr-first", "agreement.nl-first", *HELD, "--out", "half")
    said = office.refused("agreement", "verify", "half", *HELD)
    assert "kr root: second, third; nl root: second, third" in said
    done = office.run("agreement", "verify", "half", *HELD, "--json")
    groups = json.loads(done.out)["groups"]
    assert [(g["group"], g["signed"], g["missing"], g["threshold"]) for g in groups] == [
        ("kr root", ["first"], ["second", "third"], 2),
        ("nl root", ["first"], ["second", "third"], 2),
    ]
    office.refused("agreement", "publish", "half", *HELD, "--out", "x.bundle")
    assert office.ok("agreement", "verify", "agreement.signed", *HELD, "--json").json["complete"]


def test_show_prints_the_agreement_in_words(office: Office) -> None:
    text = office.ok("agreement", "show", "agreement.draft").out
    assert "minerals: government missions of every party may publish" in text
    assert "minerals: company, university missions of every party may read up to GREEN" in text
    assert "a revocation may stay unknown for (R): 72 h" in text
    assert "party kr, issued" in office.ok("party", "show", "kr.party").out


def test_diff_says_who_gains_and_who_loses(office: Office) -> None:
    text = office.path("terms.toml").read_text()
    changed = text.replace(
        'read = { government = "RED", company = "GREEN", university = "GREEN" }', 'read = { government = "RED" }', 1
    )
    office.path("terms2.toml").write_text(changed.replace('hold = "24h"', 'hold = "48h"'))
    office.ok("agreement", "draft", "terms2.toml", "--held", "founding.bundle", "--out", "agreement2.draft")
    lines = office.ok("agreement", "diff", "founding.bundle", "agreement2.draft", "--json").json
    assert "minerals: company missions of every party may no longer read up to GREEN" in lines
    assert "a new desk waits before it reads (hold) 24 h -> 48 h" in lines
    shown = office.ok("agreement", "show", "agreement2.draft", "--held", "founding.bundle").out
    assert "what changes against agreement 1" in shown
    assert all(line in shown for line in lines)
    assert "government missions" not in shown, "what does not change is not repeated"
    # The amendment goes the same way, against the bundle.
    for who in ("kr-first", "kr-third", "nl-first", "nl-second"):
        office.sign("agreement", "agreement2.draft", who, f"a2.{who}", "--held", "founding.bundle")
    copies = [f"a2.{who}" for who in ("kr-first", "kr-third", "nl-first", "nl-second")]
    office.ok("agreement", "combine", *copies, "--held", "founding.bundle", "--out", "agreement2")
    done = office.ok("agreement", "publish", "agreement2", "--held", "founding.bundle", "--out", "two.bundle", "--json")
    assert done.json["lineage"] == lineage(office).hex()
    book = books.load([office.path("two.bundle")], now_ms=books_now())
    assert book.founded().agreement(2**62).body.version == 2


def test_an_amendment_takes_effect_no_sooner_than_r(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    text = office.path("terms.toml").read_text()
    office.path("soon.toml").write_text(text.replace("# effective = 2027", "effective = 2026"))
    held = ("--held", "founding.bundle")
    refused = office.refused("agreement", "draft", "soon.toml", *held, "--out", "x", code=1)
    assert "takes effect after what it amends" in refused
    office.ok("agreement", "draft", "terms.toml", *held, "--out", "a2")
    # Nobody signs it, and nobody publishes it, when there is no R left before it takes effect.
    late = books_now() + 8 * 86_400_000
    monkeypatch.setattr("keys.cli.signing.now_ms", lambda: late)
    said = office.refused(*office.signing("agreement", "a2", "kr-first", "x", *held), code=2)
    assert "is too early" in said
    monkeypatch.undo()
    for who in ("kr-first", "kr-third", "nl-first", "nl-second"):
        office.sign("agreement", "a2", who, f"a2.{who}", *held)
    copies = [f"a2.{who}" for who in ("kr-first", "kr-third", "nl-first", "nl-second")]
    office.ok("agreement", "combine", *copies, *held, "--out", "a2.signed")
    monkeypatch.setattr("keys.cli.agreement.now_ms", lambda: late)
    said = office.refused("agreement", "publish", "a2.signed", *held, "--out", "x", code=2)
    assert "the earliest that works is" in said


@pytest.mark.parametrize(
    ("old", "new", "where", "what"),
    [
        ('cadence = "35d"', 'cadense = "35d"', "channels.minerals.cadense", "no key of an agreement"),
        ('hold = "24h"', 'hold = "one day"', "bounds.hold", "no length of time"),
        ('hold = "24h"', "", "bounds.hold", "is missing"),
        ("drill = false", "drill = 1", "drill", "is wrong"),
        ('company = "GREEN"', 'company = "PINK"', "channels.minerals.read", "'PINK' is none of"),
        ('publish = ["government"]', 'publish = ["spies"]', "channels.minerals.publish", "chooses no missions"),
        ("embassy = 32", "embasy = 32", "caps.embasy", "is a number for one of"),
        ('expire = "730d"', "expire = 2030-01-01T00:00:00", "expire", "time zone"),
        ('# grace = "14d"', 'grace = "1d"', "bounds.grace", "at least L + 2S"),
        ("[bounds]", "[bounds", "", "terms.toml: "),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else None,
)
def test_edited_terms_are_refused_with_the_line(office: Office, old: str, new: str, where: str, what: str) -> None:
    text = office.path("terms.toml").read_text()
    assert old in text
    changed = text.replace(old, new, 1)
    office.path("terms.toml").write_text(changed)
    said = office.refused("agreement", "draft", "terms.toml", *HELD, "--out", "x.draft", code=2)
    assert where in said
    assert what in said
    assert "agreement example" in said
    if where and new:
        line = next(n for n, row in enumerate(changed.splitlines(), 1) if new in row)
        assert f"terms.toml, line {line}: " in said


def test_the_terms_mean_what_they_say(office: Office) -> None:
    office.path("t.toml").write_text(
        """
title = "Übung"
drill = true
effective = 2027-01-01T00:00:00Z
expire = 2028-01-01T09:00:00+09:00
suites = [1]
protocols = [1]
[bounds]
revocation = "1h"
lifetime = "2d"
skew = "30s"
hold = "0s"
stop_when_stale = true
[channels.chips]
publish = ["kr", "nl ministry", "nl.bz"]
read = { everyone = "CLEAR", "nl government" = "RED", "kr.motie" = "AMBER+STRICT" }
courier_group = "bag"
acknowledge = true
retention = "400d"
"""
    )
    office.ok("agreement", "draft", "t.toml", *HELD, "--out", "t.draft")
    body = documents.body(documents.decode(office.path("t.draft").read_bytes()), pb.Agreement)
    assert (body.title, body.drill, body.stop_when_stale) == ("Übung", True, True)
    assert (body.effective_time_ms, body.expire_time_ms) == (1_798_761_600_000, 1_830_297_600_000)
    assert (body.revocation_ms, body.lifetime_ms, body.skew_ms) == (3_600_000, 172_800_000, 30_000)
    assert (body.hold_ms, body.grace_ms) == (0, 172_860_000)
    (rule,) = body.channels
    assert [(s.party, s.kind, s.mission) for s in rule.publish] == [
        ("kr", 0, ""),
        ("nl", pb.MISSION_KIND_MINISTRY, ""),
        ("", 0, "nl.bz"),
    ]
    assert [(r.who.party, r.who.kind, r.who.mission, r.highest) for r in rule.read] == [
        ("", 0, "", pb.MARKING_CLEAR),
        *(("nl", kind, "", pb.MARKING_RED) for kind in (1, 2, 3, 4)),
        ("", 0, "kr.motie", pb.MARKING_AMBER_STRICT),
    ]
    assert (rule.courier_group, rule.acknowledge, rule.retention_ms) == ("bag", True, 400 * 86_400_000)


def test_signing_asks_for_the_words(office: Office) -> None:
    command = [a for a in office.signing("agreement", "agreement.draft", "kr-second", "a", *HELD) if a != "--yes"]
    first = words.words(lineage(office))[:3]
    assert "nothing was signed" in office.refused(*command, typed="")
    assert "nothing was signed" in office.refused(*command, typed="y\n")
    assert "nothing was signed" in office.refused(*command, typed=" ".join(first[:2]) + "\n")
    done = office.ok(*command, typed=" ".join(first).upper() + "\n")
    assert "minerals: " in done.out
    assert "kr root: second" in done.err


def test_dry_runs_change_nothing(office: Office) -> None:
    before = office.files()
    office.ok(*office.signing("agreement", "agreement.draft", "kr-second", "a", *HELD), "--dry-run")
    office.ok("agreement", "draft", "terms.toml", *HELD, "--out", "a", "--dry-run")
    parts = [f"kr-{h}.part" for h in ("first", "second", "third", "staff", "duty")]
    office.ok("party", "draft", "kr", *parts, "--out", "a", "--dry-run")
    assert office.files() == before


def test_nothing_is_overwritten(office: Office) -> None:
    for command in (
        office.signing("agreement", "agreement.draft", "kr-second", "agreement.kr-first", *HELD),
        ("agreement", "combine", "agreement.kr-first", *HELD, "--out", "agreement.signed"),
        ("agreement", "example", "--out", "terms.toml"),
        ("agreement", "draft", "terms.toml", *HELD, "--out", "agreement.draft"),
        ("agreement", "publish", "agreement.signed", *HELD, "--out", "founding.bundle"),
    ):
        assert "exists already" in office.refused(*command, code=2)
    new = ("root", "new", "--party", "kr", "--holder", "first", "--passphrase-file", "pw")
    office.refused(*new, "--keystore", "kr-first.keys", "--out", "kr-first.part", code=2)
    said = office.refused(*new, "--keystore", "kr-first.keys", "--out", "again.part")
    assert "tocsin-keys key part" in said
    office.ok("key", "part", *new[2:], "--role", "root", "--keystore", "kr-first.keys", "--out", "again.part")
    assert (
        office.ok("fingerprint", "again.part", "--json").json
        == office.ok("fingerprint", "kr-first.part", "--json").json
    )


def test_passphrases_come_by_file_or_prompt_alone(empty: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    new = ("root", "new", "--party", "kr", "--holder", "a", "--keystore", "a.keys", "--out", "a.part")
    assert "--passphrase-file" in empty.refused(*new, code=2)
    empty.path("pw").chmod(0o644)
    assert "chmod 600" in empty.refused(*new, "--passphrase-file", "pw", code=2)
    empty.path("pw").chmod(0o600)
    empty.path("pw").write_text("\n")
    assert "empty" in empty.refused(*new, "--passphrase-file", "pw", code=2)
    typed = iter(["one", "two", "", "", "one", "one", "one"])
    monkeypatch.setattr("getpass.getpass", lambda _: next(typed))
    monkeypatch.setattr(Typed, "isatty", lambda _: True)
    assert "differ" in empty.refused(*new, code=2)
    assert "empty" in empty.refused(*new, code=2)
    empty.ok(*new)
    empty.ok("key", "list", "--keystore", "a.keys")


def test_help_teaches(office: Office) -> None:
    for command in ([], ["root"], ["party"], ["agreement"], ["agreement", "sign"], ["fingerprint"]):
        text = office.ok(*command, "--help").out
        assert "Usage: tocsin-keys" in text
    assert office.run("agreement", "sing").code == 2
    assert office.run("agreement", "sign").code == 2


def test_no_secret_is_said(office: Office) -> None:
    """Attack 30: seeds and the passphrase in nothing printed and in no file that leaves the machine."""
    from keys.keystore import Keystore

    with Keystore.open(office.path("kr-second.keys"), PASSPHRASE.encode()) as store:
        seed = store.get("kr/root/second")
    office.sign("agreement", "agreement.draft", "kr-second", "a", *HELD)
    office.run(*office.signing("agreement", "agreement.draft", "kr-second", "b", "--json"))
    said = "".join(office.said)
    assert said
    for secret in (seed.hex(), seed[:16].hex(), PASSPHRASE, repr(seed)[2:20]):
        assert secret not in said
    for name, data in office.files().items():
        if name != "pw":
            assert seed[:16] not in data, name
            assert seed[:16].hex().encode() not in data, name


def test_a_bundle_file_is_private_to_nobody(office: Office) -> None:
    assert Path(office.path("founding.bundle")).stat().st_mode & 0o777 == 0o644
