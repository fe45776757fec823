"""A new archive key: all that was said goes under it, through a cut at every step; then the old key opens nothing."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from exchange import cli, envelope
from exchange.desk import archive as archives
from exchange.desk import deskfile, rekey
from exchange.desk.archive import Archive
from exchange.desk.holdings import FILE, Holdings
from exchange.desk.tenure import DeskInUseError
from exchange.errors import StoreError
from exchange.workers import ThreadWorkers
from keys import private_file
from keys.errors import OpenError
from keys.keystore import Keystore
from tests.desk.memory import make_desk
from tests.desk.test_contents import ITEMS, outgoing, sealed
from tests.world import World

__all__ = ["sealed"]
DESK = "nl.seoul/economic"
NAMES = [f"series {n}" for n in range(5)]
RECEIVED = [bytes([n]) * 32 for n in range(1, 6)]


@pytest.fixture
def desk(tmp_path: Path, world: World, sealed: envelope.Sealed) -> Path:
    """A desk that sent, received, and keeps sheets."""
    directory = make_desk(tmp_path, world, DESK)
    archive = Archive(directory / FILE, key(directory))
    with archive.transaction():
        archive.keep_sealed(outgoing(sealed))
        for identity in RECEIVED:
            archive._keep_received_content(identity, b"outer", b"salt seed", [identity + b" said"])
        for name in reversed(NAMES):
            archive.put_sheet("series", name, name.upper().encode(), bucket="all")
    archive.close()
    return directory


def key(directory: Path) -> bytes:
    with Keystore.open(directory / "desk.keys", b"") as store:
        return store.get(rekey.KEY)


def check(archive: Archive, sent: bytes) -> None:
    """Everything is there, under its names and in its order."""
    assert [archive.content(one).items for one in RECEIVED] == [(one + b" said",) for one in RECEIVED]
    assert archive.content(sent).items == tuple(ITEMS)
    assert archive.sheets("series", "all") == [name.upper().encode() for name in reversed(NAMES)]
    assert archive.sheet("series", NAMES[0]) == NAMES[0].upper().encode()


def change(directory: Path) -> None:
    with Keystore.open(directory / "desk.keys", b"") as store:
        rekey.rekey(store, directory / FILE)


def test_everything_is_under_the_new_key_and_nothing_under_the_old(desk: Path, sealed: envelope.Sealed) -> None:
    old = key(desk)
    archive = Archive(desk / FILE, old)
    blobs = [blob for (blob,) in archive._db.execute("SELECT locked FROM content UNION ALL SELECT locked FROM sheet")]
    tags = [tag for row in archive._db.execute("SELECT tag, bucket FROM sheet") for tag in row]
    archive.close()
    change(desk)
    assert key(desk) != old
    with Keystore.open(desk / "desk.keys", b"") as store:
        assert [entry.name for entry in store.entries() if entry.kind == "archive"] == [rekey.KEY]
    archive = Archive(desk / FILE, key(desk))
    check(archive, sealed.id)
    with archive.transaction():
        archive.put_sheet("series", NAMES[0], b"later", bucket="all")
    assert archive.sheets("series", "all")[-1] == b"later", "in its place, not a second one"
    archive._key = old
    with pytest.raises(OpenError):
        archive.content(RECEIVED[0])
    assert archive.sheet("series", NAMES[1]) is None
    archive.close()
    left = b"".join(path.read_bytes() for path in desk.glob(f"{FILE}*"))
    assert [one for one in (*blobs, *tags) if one in left] == []


def test_a_cut_at_any_step_is_followed_by_going_on(
    desk: Path, sealed: envelope.Sealed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, cuts = key(desk), list[Path]()

    def cut() -> None:
        """What is on the disk now, as a process that is killed leaves it."""
        cuts.append(shutil.copytree(desk, tmp_path / f"cut{len(cuts)}"))

    monkeypatch.setattr(deskfile, "RELOCKED_AT_ONCE", 2)
    real_transaction, real_replace = Archive.transaction, private_file.replace

    @contextmanager
    def transaction(self: Archive, *, durable: bool = True) -> Iterator[None]:
        with real_transaction(self, durable=durable):
            yield
            cut()
        cut()

    def replace(file: Path, data: bytes) -> None:
        cut()
        real_replace(file, data)
        cut()

    monkeypatch.setattr(Archive, "transaction", transaction)
    monkeypatch.setattr(private_file, "replace", replace)
    change(desk)
    monkeypatch.undo()
    assert len(cuts) > 15
    keys = set()
    for directory in cuts:
        keys |= {key(directory)}
        # As the desk starts again, with nobody there.
        own = Holdings(directory, passphrase=b"", clock=lambda: 0, workers=ThreadWorkers(1, name="test"))
        check(own.archive, sealed.id)
        own.close()
        with Keystore.open(directory / "desk.keys", b"") as store:
            assert not rekey.unfinished(store)
        # And by hand, whatever the cut left.
        change(directory)
        archive = Archive(directory / FILE, key(directory))
        check(archive, sealed.id)
        archive.close()
    assert keys == {old, key(desk)}, "the old one or the new one"


def test_a_desk_that_runs_is_left_alone(desk: Path) -> None:
    before, names = key(desk), Keystore.open(desk / "desk.keys", b"").names()
    archive = Archive(desk / FILE, before)
    said = CliRunner().invoke(cli.app, ["desk", "rekey", "--desk", str(desk)])
    assert isinstance(said.exception, StoreError)
    assert "another program" in str(said.exception)
    assert (key(desk), Keystore.open(desk / "desk.keys", b"").names()) == (before, names)
    archive.hold()
    said = CliRunner().invoke(cli.app, ["desk", "rekey", "--desk", str(desk)])
    assert isinstance(said.exception, DeskInUseError), "who works with it is named"
    archive.close()
    assert CliRunner().invoke(cli.app, ["desk", "rekey", "--desk", str(desk)]).exit_code == 0
    assert key(desk) != before


def test_a_key_that_is_not_the_files_writes_nothing(desk: Path) -> None:
    """As when `desk.db` and `desk.keys` come from two backups, or the key was replaced since it was read."""
    before = key(desk)
    change(desk)
    with pytest.raises(StoreError, match="another archive key"):
        Archive(desk / FILE, before)


def test_whatever_is_locked_up_is_relocked(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table with something under the archive key that `relock` forgot would be lost with the old key."""
    archive = Archive(desk / FILE, key(desk))
    tables = archive._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    locked = {t for (t,) in tables if any(c[1] == "locked" for c in archive._db.execute(f"PRAGMA table_info({t})"))}
    archive.close()
    seen: set[str] = set()
    real: Callable[..., None] = Archive._each

    def each(self: Archive, select: str, work: Callable[..., None]) -> None:
        seen.add(select.rpartition(" ")[2])
        real(self, select, work)

    monkeypatch.setattr(archives.Archive, "_each", each)
    change(desk)
    assert seen == locked == {"content", "sheet"}
