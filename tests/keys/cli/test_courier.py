"""`tocsin-keys courier` and `token`: sheets on files, at a terminal, errors that name the line; nothing secret in view."""

import getpass
import os
import stat
from pathlib import Path

import pytest

from keys import courier, courier_store
from keys.cli import paper
from keys.cli.terminal import now_ms
from keys.keystore import Keystore
from keys.windows import iso
from tests.keys.cli.office import Office
from tests.keys.tokens import MODULE, PIN, needs_token

FIRST_USE = "2026-12-01T00:00:00Z"


@pytest.fixture
def desks(empty: Office) -> Office:
    for name in ("a.keys", "b.keys"):
        Keystore.create(empty.path(name), b"").close()
    return empty


def held(office: Office, name: str) -> list[courier.CourierKey]:
    with Keystore.open(office.path(name), b"") as store:
        return courier_store.held(store)


def new(office: Office, *more: str) -> dict[str, str]:
    done = office.run(
        "courier", "new", "--keystore", "a.keys", "--group", "bag", "--first-use", FIRST_USE,
        "--half-1", "one", "--half-2", "two", "--json", *more,
    )  # fmt: skip
    assert done.code == 0, done.err
    result: dict[str, str] = done.json
    return result


def test_a_key_goes_from_desk_to_desk_on_two_sheets(desks: Office) -> None:
    made = new(desks)
    for name in ("one", "two"):
        assert stat.S_IMODE(desks.path(name).stat().st_mode) == 0o600
    done = desks.run("courier", "enter", "--keystore", "b.keys", "--half", "two", "--half", "one", "--json")
    assert (done.code, done.json) == (0, made)
    (key,) = held(desks, "a.keys")
    assert held(desks, "b.keys") == [key]
    assert made == {"group": "bag", "id": key.id.hex(), "first_use": FIRST_USE}
    listed = desks.run("courier", "list", "--keystore", "b.keys")
    assert listed.out.startswith(f"bag {key.id.hex()} first used {FIRST_USE}: ")
    assert desks.run("courier", "list", "--keystore", "b.keys", "--json").json[0]["id"] == key.id.hex()


def test_what_is_shown_holds_nothing_secret(desks: Office) -> None:
    new(desks)
    desks.run("courier", "enter", "--keystore", "b.keys", "--half", "one", "--half", "two")
    desks.run("courier", "list", "--keystore", "b.keys")
    (key,) = held(desks, "a.keys")
    secrets = [key.key.hex(), *(line[3:14] for name in ("one", "two") for line in sheet(desks, name)[6:])]
    assert not [one for one in secrets for said in desks.said if one in said]


def sheet(office: Office, name: str) -> list[str]:
    return office.path(name).read_text().splitlines()


def test_a_mistyped_line_is_named(desks: Office) -> None:
    new(desks)
    lines = sheet(desks, "two")
    lines[9] = lines[9][:-1] + str((int(lines[9][-1]) + 1) % 10)
    desks.path("two").write_text("\n".join(lines))
    done = desks.run("courier", "enter", "--keystore", "b.keys", "--half", "one", "--half", "two")
    assert done.code == 1
    assert "line 4 of half 2 does not fit its check digits" in done.err
    assert "digit by digit" in done.err
    assert held(desks, "b.keys") == []


def test_a_sheet_is_typed_at_the_terminal(desks: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unseen, line by line; a mistyped line is asked for again at once."""
    new(desks)
    lines = [line.partition(": ")[2] for line in sheet(desks, "two")[1:]]
    wrong = lines[5][:-1] + str((int(lines[5][-1]) + 1) % 10)
    typed = iter([*lines[:4], "0000", *lines[:5], wrong, *lines[5:]])
    if lines[4] == "0000":
        typed = iter([*lines[:5], wrong, *lines[5:]])
    monkeypatch.setattr(getpass, "getpass", lambda prompt: next(typed))
    monkeypatch.setattr("tests.keys.cli.office.Typed.isatty", lambda self: True)
    done = desks.run("courier", "enter", "--keystore", "b.keys", "--half", "one")
    assert done.code == 0, done.err
    assert held(desks, "b.keys") == held(desks, "a.keys")
    assert "line 1 of half 2 does not fit its check digits; once more" in done.err
    assert next(typed, None) is None


def test_misuse_is_named(desks: Office) -> None:
    new(desks)
    a, b = ("--keystore", "a.keys"), ("--keystore", "b.keys")
    halves = ("--half-1", "three", "--half-2", "four")
    for arguments, code, text in (
        ((*b, "--half", "one"), 2, "no terminal to type the sheet at"),
        ((*b, "--half", "one", "--half", "one"), 2, "both files hold half 1"),
        ((*b, "--half", "one", "--half", "two", "--half", "two"), 2, "two halves"),
        ((*b, "--half", "one", "--half", "nowhere"), 2, "cannot read"),
    ):
        done = desks.run("courier", "enter", *arguments)
        assert (done.code, text in done.err) == (code, True), done.err
    for arguments, code, text in (
        ((*a, "--group", "bag", "--first-use", FIRST_USE, *halves), 2, "has keys of group bag already"),
        ((*b, "--group", "bag", "--first-use", "tomorrow", *halves), 1, "not a time like"),
        ((*b, "--group", "BAG", "--first-use", FIRST_USE, *halves), 2, "a group has"),
        ((*b, "--group", "bag", "--first-use", FIRST_USE, "--half-1", "one", "--half-2", "four"), 2, "exists already"),
        ((*b, "--group", "bag", "--first-use", FIRST_USE, "--half-1", "x", "--half-2", "x"), 2, "one file"),
    ):
        done = desks.run("courier", "new", *arguments)
        assert (done.code, text in done.err) == (code, True), done.err
    assert held(desks, "b.keys") == []
    desks.path("one").chmod(0o644)
    done = desks.run("courier", "enter", *b, "--half", "one", "--half", "two")
    assert (done.code, "other users have rights" in done.err) == (2, True)


def test_lost_sheets_are_printed_again_and_old_ones_do_not_fit(desks: Office) -> None:
    made = new(desks)
    done = desks.run(
        "courier", "print", "--keystore", "a.keys", "--id", made["id"][:6], "--half-1", "three", "--half-2", "four"
    )
    assert done.code == 0
    done = desks.run("courier", "enter", "--keystore", "b.keys", "--half", "one", "--half", "four")
    assert (done.code, "different printings" in done.err) == (1, True)
    assert desks.run("courier", "enter", "--keystore", "b.keys", "--half", "three", "--half", "four").code == 0
    done = desks.run("courier", "print", "--keystore", "a.keys", "--id", "", "--half-1", "y", "--half-2", "z")
    assert (done.code, "no courier key begins" in done.err) == (2, True)


def test_sheets_go_to_a_printer(desks: Office) -> None:
    """A pipe or device that is there is written to."""
    reading = []
    for name in ("lp1", "lp2"):
        os.mkfifo(desks.path(name), 0o600)
        reading.append(os.open(desks.path(name), os.O_RDONLY | os.O_NONBLOCK))
    key = courier.new("bag", first_use_ms=0)
    for one, name in zip(courier.split(key), ("lp1", "lp2"), strict=True):
        paper.write(one, desks.path(name))
    printed = [os.read(descriptor, 4096).decode() for descriptor in reading]
    assert courier.join(*map(courier.parse_sheet, printed)) == key


def test_a_key_in_use_is_replaced_within_its_windows(office: Office) -> None:
    Keystore.create(office.path("a.keys"), b"").close()
    rotating = ("courier", "rotate", "--keystore", "a.keys", "--group", "bag", "--held", "founding.bundle")
    halves = ("--half-1", "three", "--half-2", "four")
    soon = "2026-01-01T00:00:00Z"
    done = office.run(*rotating, "--first-use", iso(now_ms() + 90 * 24 * 3600_000), *halves)
    assert (done.code, "has no key of group bag" in done.err) == (2, True), done.err
    office.run(
        "courier",
        "new",
        "--keystore",
        "a.keys",
        "--group",
        "bag",
        "--first-use",
        soon,
        "--half-1",
        "1",
        "--half-2",
        "2",
    )
    done = office.run(*rotating, "--first-use", soon, *halves)
    assert (done.code, "courier.first-use" in done.err, "the earliest that works" in done.err) == (2, True, True)
    first_use_ms = now_ms() // 1000 * 1000 + 90 * 24 * 3600_000
    later, retire = iso(first_use_ms), iso(first_use_ms + 14 * 24 * 3600_000 + 600_000)
    done = office.run(*rotating, "--first-use", later, *halves, "--dry-run", "--json")
    assert (done.code, done.json["retire"]) == (0, retire), done.err
    assert len(held(office, "a.keys")) == 1
    assert office.run(*rotating, "--first-use", later, *halves).code == 0
    assert [key.first_use_ms for key in held(office, "a.keys")] == [courier.parse_time(soon), first_use_ms]
    done = office.run(*rotating, "--first-use", later, "--half-1", "five", "--half-2", "six")
    assert (done.code, "choose a later first use" in done.err) == (2, True)


def test_a_key_is_destroyed_only_when_meant(desks: Office) -> None:
    made = new(desks)
    forgetting = ("courier", "forget", "--keystore", "a.keys", "--id", made["id"])
    assert desks.run(*forgetting, "--dry-run").code == 0
    assert desks.run(*forgetting, typed="n\n").code != 0
    assert len(held(desks, "a.keys")) == 1
    assert desks.run(*forgetting, "--yes").code == 0
    assert held(desks, "a.keys") == []


# --- tokens ---


@needs_token
def test_a_key_in_a_token_says_where_its_halves_lie(desks: Office, made: None) -> None:
    pin = desks.path("pin")
    pin.write_bytes(PIN + b"\n")
    pin.chmod(0o600)
    assert "ministry" in desks.run("token", "list", "--module", MODULE).out
    making = ("token", "new", "--keystore", "a.keys", "--module", MODULE, "--token", "ministry", "--pin-file", "pin")
    done = desks.run(*making, "--name", "signing", "--json")
    assert (done.code, done.json["mldsa_in_token"]) == (0, False), done.err
    assert "ML-DSA half in this keystore file, because the token offers none" in done.json["where"]
    assert desks.run(*making, "--name", "root", "--root").out.startswith("root: Ed448 half in token 'ministry'")
    done = desks.run("token", "where", "--keystore", "a.keys")
    assert [line.partition(":")[0] for line in done.out.splitlines()] == ["root", "signing"]
    assert not [said for said in desks.said if PIN.decode() in said]
    pin.chmod(0o644)
    done = desks.run(*making, "--name", "third")
    assert (done.code, "other users" in done.err) == (1, True)
    done = desks.run(*making[:-2], "--name", "third")
    assert (done.code, "no terminal to ask for the PIN" in done.err) == (2, True)


def test_a_module_that_is_none_is_named(desks: Office, tmp_path: Path) -> None:
    pytest.importorskip("pkcs11")
    done = desks.run("token", "list", "--module", str(tmp_path / "x.so"))
    assert (done.code, "does not load" in done.err) == (1, True)
