"""Power is lost at every write of every command: what is there afterwards is the old state or the new one.

The loss is a fault hook: the n-th call that touches the disk for good never returns, and nothing after it runs. What
was not renamed is not there; what was renamed is whole.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from keys import founding, transcript
from keys.cli import files
from keys.errors import TocsinError
from keys.keystore import Keystore
from tests.keys.cli.office import HELD, PASSPHRASE, Done, Office, request_desk

STATUS_KEY = ("--bundle", "exchange.bundle", "--keystore", "nl-duty.keys")
NEXT = ("--held", "exchange.bundle")
PW = ("--passphrase-file", "pw")


class PowerLost(BaseException):
    """Nothing catches it."""


class Hook:
    """Lets `calls` calls through, then cuts the power."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def step(self) -> None:
        if self.left == 0:
            raise PowerLost
        self.left -= 1


@contextmanager
def power_lost_after(calls: int) -> Iterator[Hook]:
    hook = Hook(calls)
    real = {"fsync": os.fsync, "open": os.open, "replace": Path.replace, "unlink": Path.unlink}

    def fsync(descriptor: int) -> None:
        hook.step()
        real["fsync"](descriptor)

    def opened(path: str | Path, flags: int, *more: int) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            hook.step()
        return int(real["open"](path, flags, *more))

    def replace(self: Path, target: Path) -> Path:
        hook.step()
        return Path(real["replace"](self, target))

    def unlink(self: Path, missing_ok: bool = False) -> None:
        hook.step()
        real["unlink"](self, missing_ok=missing_ok)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        patch.setattr(os, "open", opened)
        patch.setattr(Path, "replace", replace)
        patch.setattr(Path, "unlink", unlink)
        yield hook


def kept(office: Office) -> dict[str, bytes]:
    return {
        str(p.relative_to(office.directory)): p.read_bytes()
        for p in office.directory.rglob("*")
        if p.is_file() and not p.name.endswith((".lock", ".new"))
    }


def whole(office: Office, name: str) -> bool:
    """Whether a file can be used for what it is."""
    path = office.path(name)
    try:
        if name.endswith(".keys") or name == "copy":
            by_itself = path.read_bytes().startswith(b"tocsin/1/keystore machine")
            Keystore.open(path, b"" if by_itself else PASSPHRASE.encode()).close()
        elif name.endswith(".jsonl"):
            transcript.parse(path.read_bytes())
        elif name.endswith(".part"):
            return office.run("fingerprint", name).code == 0
        elif name.endswith(".toml"):
            return path.read_bytes().endswith(b"\n")
        elif name.endswith(".keys.key"):
            return path.stat().st_size == 32
        else:
            files.load(path)
    except TocsinError:
        return False
    return True


Prepare = Callable[[Office], None]


def nothing(_: Office) -> None:
    """Needs no preparation."""


def draft_roster(office: Office) -> None:
    office.ok("roster", "draft", "nl", *NEXT, "--out", "nl.next")
    request_desk(office, "nl.bz/supply", "bz.request")


def sign_roster(office: Office) -> None:
    draft_roster(office)
    office.sign("roster", "nl.next", "nl-staff", "nl.signed", *NEXT)


def draw_roots(office: Office) -> None:
    office.path("kr-2.party").write_bytes(founding.found_party("kr", now_ms=1).document.encode())


def copy_keystore(office: Office) -> None:
    office.ok("backup", "kr-first.keys", "--out", "copy", *PW)


COMMANDS: dict[str, tuple[Prepare, tuple[str, ...]]] = {
    "root new": (
        nothing,
        ("root", "new", "--party", "nl", "--holder", "fourth", "--keystore", "4.keys", *PW, "--out", "4.part"),
    ),
    "key new": (
        nothing,
        (
            "key",
            "new",
            "--role",
            "status",
            "--party",
            "nl",
            "--holder",
            "b",
            "--keystore",
            "b.keys",
            "--key-file",
            "--out",
            "b.part",
        ),
    ),
    "party draft": (
        nothing,
        ("party", "draft", "kr", *(f"kr-{h}.part" for h in ("first", "second", "staff", "duty")), "--out", "x.draft"),
    ),
    "lineage new": (
        draw_roots,
        ("lineage", "new", "founding.bundle", "--lost", "kr", "--held", "kr-2.party", *HELD[2:], "--out", "x.anew"),
    ),
    "agreement draft": (nothing, ("agreement", "draft", "terms.toml", *HELD, "--out", "x.draft")),
    "agreement sign": (
        nothing,
        (
            "agreement",
            "sign",
            "agreement.draft",
            *HELD,
            "--keystore",
            "kr-second.keys",
            *PW,
            "--yes",
            "--out",
            "x.signed",
        ),
    ),
    "agreement combine": (
        nothing,
        ("agreement", "combine", "agreement.kr-first", "agreement.nl-first", *HELD, "--out", "x.half"),
    ),
    "agreement publish": (nothing, ("agreement", "publish", "agreement.signed", *HELD, "--out", "x.bundle")),
    "roster draft": (nothing, ("roster", "draft", "nl", *NEXT, "--out", "x.next")),
    "desk admit": (draft_roster, ("desk", "admit", "nl.next", "bz.request", *NEXT)),
    "roster publish": (sign_roster, ("roster", "publish", "nl.signed", *NEXT, "--out", "exchange.bundle", "--replace")),
    "status issue": (nothing, ("status", "issue", *STATUS_KEY, "--copy-to", "copy.bundle")),
    "suspend": (nothing, ("suspend", "chips", "--reason", "leak", *STATUS_KEY)),
    "ceremony note": (nothing, ("ceremony", "note", "kr.jsonl", "present: Kim")),
    "backup": (nothing, ("backup", "kr-first.keys", "--out", "copy", *PW)),
    "restore": (copy_keystore, ("restore", "copy", "--out", "new.keys", *PW)),
}
# Cut off after their result was on the disk, these find it there when they are run again.
DONE_BEFORE = ("exists already", "another secret named", "in the draft already", "DOCUMENT", "held is")


@pytest.mark.parametrize("name", COMMANDS)
def test_old_state_or_new(staffed: Office, tmp_path: Path, name: str) -> None:
    prepare, command = COMMANDS[name]
    prepare(staffed)
    steps = cut_everywhere(staffed, tmp_path, command)
    assert steps >= 3, "nothing was cut"


def test_a_writer_that_is_not_careful_is_caught(
    staffed: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless(path: Path, data: bytes, *, fresh: bool = True) -> None:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), "wb") as stream:
            stream.write(data[: len(data) // 2])
            stream.flush()
            os.fsync(stream.fileno())
            stream.write(data[len(data) // 2 :])

    draft_roster(staffed)
    monkeypatch.setattr(files, "write", careless)
    with pytest.raises(AssertionError, match="next is broken"):
        cut_everywhere(staffed, tmp_path, COMMANDS["desk admit"][1])


def cut_everywhere(office: Office, place: Path, command: tuple[str, ...]) -> int:
    """Run a command once for each step it has on the disk, cut off there, and again; how many steps there are."""
    before = kept(office)
    for calls in range(200):
        attempt = Office(place / f"try-{calls}")
        shutil.copytree(office.directory, attempt.directory)
        done: Done | None = None
        with power_lost_after(calls) as hook, suppress(PowerLost):
            done = attempt.run(*command)
        after = kept(attempt)
        assert before.keys() <= after.keys(), f"something is gone after {calls} steps"
        for file, data in after.items():
            assert data == before.get(file) or whole(attempt, file), f"{file} is broken after {calls} steps"
        assert calls or after == before, "something was written before the first step"
        if done is not None:
            assert done.code == 0, done.err
            assert hook.left == 0
            return calls
        again = attempt.run(*command)
        assert again.code == 0 or any(text in again.err for text in DONE_BEFORE), again.err
    pytest.fail("the command never ended")
