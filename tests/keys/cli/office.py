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

from keys import keystore
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
