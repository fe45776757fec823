"""The offices of two governments in one directory: every command in this process, as a holder types it."""

import contextlib
import io
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from keys import documents, founding, keystore, suite
from keys.cli import main

PASSPHRASE = "correct horse battery staple"
HOLDERS = ("first", "second", "third")


class Typed(io.StringIO):
    """What is typed; a pipe, until a test says that it is a terminal."""


@dataclass
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Office:
    """Runs commands; file names are those in `directory`."""

    directory: Path
    typed: str = ""
    transcript: Path | None = None
    said: list[str] = field(default_factory=list)

    def path(self, name: str) -> Path:
        return self.directory / name

    def run(self, *arguments: str | Path, typed: str = "") -> Done:
        """A command; words that name a file of the directory, or one to be made there, become paths."""
        args = [str(a) for a in arguments]
        if self.transcript is not None:
            args = ["--transcript", str(self.transcript), *args]
        out, err = io.StringIO(), io.StringIO()
        old = sys.stdin
        sys.stdin = Typed(typed)
        try:
            with contextlib.chdir(self.directory), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                try:
                    main(args)
                except SystemExit as error:
                    code = error.code if isinstance(error.code, int) else 1
        finally:
            sys.stdin = old
        done = Done(code, out.getvalue(), err.getvalue())
        self.said += [done.out, done.err]
        return done

    def ok(self, *arguments: str | Path, typed: str = "") -> Done:
        done = self.run(*arguments, typed=typed)
        assert done.code == 0, f"{arguments}\n{done.err}\n{done.out}"
        return done

    def refused(self, *arguments: str | Path, typed: str = "", code: int = 1) -> str:
        """A command that must be refused with a reason and a next step, and change no file; what it said."""
        before = self.files()
        done = self.run(*arguments, typed=typed)
        assert done.code == code, f"{arguments}\n{done.err}\n{done.out}"
        assert "tocsin-keys: error: " in done.err
        assert "tocsin-keys: hint: " in done.err
        assert self.files() == before
        return done.err

    def files(self) -> dict[str, bytes]:
        return {
            p.name: p.read_bytes() for p in self.directory.iterdir() if p.is_file() and not p.name.endswith(".lock")
        }

    # ---- a founding, step by step

    def draw_keys(self, party: str) -> None:
        for holder in HOLDERS:
            self.ok(
                *("root", "new", "--party", party, "--holder", holder, "--keystore", f"{party}-{holder}.keys"),
                *("--passphrase-file", "pw", "--out", f"{party}-{holder}.part"),
            )
        self.ok(
            *("key", "new", "--role", "roster", "--party", party, "--holder", "staff"),
            *("--keystore", f"{party}-staff.keys", "--passphrase-file", "pw", "--out", f"{party}-staff.part"),
        )
        self.ok(
            *("key", "new", "--role", "status", "--party", party, "--holder", "duty"),
            *("--keystore", f"{party}-duty.keys", "--key-file", "--out", f"{party}-duty.part"),
        )

    def draft_party(self, party: str) -> None:
        parts = [f"{party}-{holder}.part" for holder in (*HOLDERS, "staff", "duty")]
        self.ok("party", "draft", party, *parts, "--out", f"{party}.draft")

    def sign_party(self, party: str) -> None:
        for holder in HOLDERS[:2]:
            self.sign("party", f"{party}.draft", f"{party}-{holder}", f"{party}.{holder}")
        self.ok("party", "combine", f"{party}.first", f"{party}.second", "--out", f"{party}.party")

    def sign(self, noun: str, file: str, who: str, out: str, *more: str) -> Done:
        return self.ok(*self.signing(noun, file, who, out, *more))

    def signing(self, noun: str, file: str, who: str, out: str, *more: str) -> tuple[str, ...]:
        return (
            *(noun, "sign", file, "--keystore", f"{who}.keys", "--passphrase-file", "pw", "--yes", "--out", out),
            *more,
        )

    def draft_agreement(self) -> None:
        self.ok("agreement", "example", "--out", "terms.toml")
        terms = self.path("terms.toml")
        terms.write_text(terms.read_text().replace("[channels.chips]", '[channels.chips]\ncourier_group = "bag"'))
        self.ok("agreement", "draft", "terms.toml", *HELD, "--out", "agreement.draft")

    def sign_agreement(self) -> None:
        copies = []
        for who in ("kr-first", "kr-third", "nl-first", "nl-second"):
            self.sign("agreement", "agreement.draft", who, f"agreement.{who}", *HELD)
            copies.append(f"agreement.{who}")
        self.ok("agreement", "combine", *copies, *HELD, "--out", "agreement.signed")
        self.ok("agreement", "publish", "agreement.signed", *HELD, "--out", "founding.bundle")


HELD = ("--held", "kr.party", "--held", "nl.party")


def open_office(directory: Path) -> Office:
    directory.mkdir(exist_ok=True)
    office = Office(directory)
    office.path("pw").touch(0o600)
    office.path("pw").write_text(PASSPHRASE + "\n")
    return office


def founded(directory: Path) -> Office:
    """Both parties, with the founding agreement in founding.bundle."""
    office = open_office(directory)
    for party in ("kr", "nl"):
        office.draw_keys(party)
        office.draft_party(party)
        office.sign_party(party)
    office.draft_agreement()
    office.sign_agreement()
    return office


@contextlib.contextmanager
def fast() -> Iterator[None]:
    """Passphrases cost next to nothing: what they cost is tested with the keystore."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keystore, "_COSTS", keystore._TEST_COSTS)
        yield


STAFF = {
    "kr": ("kr.the-hague-1", {"kr.motie": "ministry", "kr.the-hague": "embassy"}, ("kr.motie/supply",)),
    "nl": ("nl.seoul-1", {"nl.bz": "ministry", "nl.seoul": "embassy"}, ("nl.seoul/economic",)),
}


def lineage_of(office: Office) -> bytes:
    return documents.decode(office.path("agreement.signed").read_bytes()).digest


def request_desk(office: Office, name: str, file: str, *, lineage: bytes = b"") -> bytes:
    """What `tocsin desk init` prints; answers the identity of the key."""
    key = suite.SigningKey.generate(suite.DESK_SUITE)
    entry = founding.desk_entry(name, key, lineage=lineage or lineage_of(office))
    office.path(file).write_text(entry.SerializeToString(deterministic=True).hex() + "\n")
    return suite.key_id(key.suite, "desk", key.public)


def request_node(office: Office, name: str, file: str, *, port: int = 7443) -> None:
    """What `tocsin node init` prints."""
    from exchange.node import directory as nodes

    settings = nodes.NodeSettings(
        name=name,
        lineage=lineage_of(office).hex(),
        endpoint=f"127.0.0.1:{port}",
        enrol_endpoint=f"127.0.0.1:{port + 1}",
    )
    entry = nodes.init(office.path(f"at-{name}"), settings, fast_kdf=True)
    office.path(file).write_text(entry.SerializeToString(deterministic=True).hex() + "\n")


def staff(office: Office, party: str, bundle: str) -> None:
    """The first roster and status of a party, added to `bundle`."""
    node, missions, desks = STAFF[party]
    held = ("--held", bundle)
    request_node(office, node, f"{node}.request")
    office.ok("roster", "draft", party, *held, "--out", f"{party}.roster.draft")
    office.ok("node", "admit", f"{party}.roster.draft", f"{node}.request", *held)
    for mission, kind in missions.items():
        office.ok(
            *("mission", "add", f"{party}.roster.draft", mission, "--kind", kind, "--node", node, *held),
            *("--name", f"en=The {mission}"),
        )
    for desk in desks:
        file = desk.replace("/", "-") + ".request"
        request_desk(office, desk, file)
        office.ok("desk", "admit", f"{party}.roster.draft", file, *held)
    publish_roster(office, party, f"{party}.roster.draft", bundle)


def publish_roster(office: Office, party: str, draft: str, bundle: str, *more: str) -> None:
    """Sign, combine, publish into the bundle, and issue a status."""
    held = ("--held", bundle)
    office.sign("roster", draft, f"{party}-staff", f"{draft}.signed", *held, *more)
    office.ok("roster", "combine", f"{draft}.signed", *held, "--out", f"{draft}.whole")
    office.ok("roster", "publish", f"{draft}.whole", *held, "--out", bundle, "--replace")
    office.ok("status", "issue", "--bundle", bundle, "--keystore", f"{party}-duty.keys")
