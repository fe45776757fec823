"""Power cuts while a keystore is written: at every step, in every state a disk may be left in, the old or the new state."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from keys import private_file
from keys.keystore import Keystore, KeystoreError

PASSPHRASE = b"correct horse battery staple"
FRESH = {"a": b"first", "b": b"second"}
Files = dict[str, bytes]


@dataclass
class Inode:
    """A file: what was written, and what of it is surely on the disk."""

    written: bytes = b""
    synced: bytes = b""


@dataclass
class Disk:
    """Watches what is done to one directory and tells what a power cut may leave of it.

    A file that was not synced may be there whole, in half, or empty. Names move in order, but no one knows how many of
    the moves since the directory was last synced have arrived.
    """

    directory: Path
    obey_sync: bool = True
    names: dict[str, Inode] = field(default_factory=dict)
    pending: list[tuple[str, Inode | None]] = field(default_factory=list)
    moves: list[list[tuple[str, Inode | None]]] = field(default_factory=list)
    opened: dict[int, Inode | None] = field(default_factory=dict)
    left: list[Files] = field(default_factory=list)

    def __post_init__(self) -> None:
        for file in self.directory.iterdir():
            self.names[file.name] = Inode(file.read_bytes(), file.read_bytes())
        self.volatile = dict(self.names)

    def cut(self) -> None:
        """Note every state that the power may fail in now."""
        for arrived in range(len(self.moves) + 1):
            names = dict(self.names)
            for changes in self.moves[:arrived]:
                for name, inode in changes:
                    if inode is None:
                        names.pop(name, None)
                    else:
                        names[name] = inode
            for keep in (
                lambda inode: inode.synced,
                lambda inode: inode.written,
                lambda inode: (
                    inode.synced if inode.synced == inode.written else inode.written[: len(inode.written) // 2]
                ),
            ):
                state = {name: keep(inode) for name, inode in names.items()}
                if state not in self.left:
                    self.left.append(state)

    def move(self, *changes: tuple[str, Inode | None]) -> None:
        self.moves.append(list(changes))
        for name, inode in changes:
            if inode is None:
                self.volatile.pop(name, None)
            else:
                self.volatile[name] = inode


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Disk]]:
    real_open, real_write, real_fsync, real_close = os.open, os.write, os.fsync, os.close
    real_replace, real_unlink = Path.replace, Path.unlink

    def start(directory: Path, *, obey_sync: bool = True) -> Disk:
        disk = Disk(directory, obey_sync)

        def open_(path: os.PathLike[str] | str, flags: int, mode: int = 0o777) -> int:
            descriptor = real_open(path, flags, mode)
            name = Path(path).name
            if flags & os.O_CREAT and name not in disk.volatile:
                disk.move((name, Inode()))
            disk.opened[descriptor] = None if flags & os.O_DIRECTORY else disk.volatile.get(name)
            disk.cut()
            return descriptor

        def write(descriptor: int, data: bytes) -> int:
            inode = disk.opened[descriptor]
            assert inode is not None
            count = real_write(descriptor, bytes(data)[:16])  # short writes are allowed, and tear
            at = os.lseek(descriptor, 0, os.SEEK_CUR) - count
            inode.written = inode.written[:at] + bytes(data)[:count] + inode.written[at + count :]
            disk.cut()
            return count

        def fsync(descriptor: int) -> None:
            real_fsync(descriptor)
            inode = disk.opened[descriptor]
            if disk.obey_sync and inode is not None:
                inode.synced = inode.written
            elif disk.obey_sync:
                disk.names, disk.moves = dict(disk.volatile), []
            disk.cut()

        def close(descriptor: int) -> None:
            disk.opened.pop(descriptor, None)
            real_close(descriptor)

        def replace(self: Path, target: Path) -> Path:
            moved = disk.volatile[self.name]
            done = real_replace(self, target)
            disk.move((self.name, None), (target.name, moved))
            disk.cut()
            return done

        def unlink(self: Path, missing_ok: bool = False) -> None:
            real_unlink(self, missing_ok=missing_ok)
            if self.name in disk.volatile:
                disk.move((self.name, None))
                disk.cut()

        for name, function in (("open", open_), ("write", write), ("fsync", fsync), ("close", close)):
            monkeypatch.setattr(os, name, function)
        monkeypatch.setattr(Path, "replace", replace)
        monkeypatch.setattr(Path, "unlink", unlink)
        return disk

    yield start
    monkeypatch.undo()


def contents(state: Files, directory: Path, passphrase: bytes) -> dict[str, bytes] | str:
    """What a keystore opened after the cut holds, or why it does not open."""
    directory.mkdir()
    for name, data in state.items():
        (directory / name).write_bytes(data)
        (directory / name).chmod(0o600)
    try:
        with Keystore.open(directory / "desk.keys", passphrase) as store:
            found = {name: store.get(name) for name in store.names()}
            store.put("later", b"goes on", kind="card")  # what the cut left behind is no obstacle
            assert store.get("later") == b"goes on"
            return found
    except KeystoreError as error:
        return str(error)


def filled(tmp_path: Path, passphrase: bytes) -> Keystore:
    (tmp_path / "live").mkdir()
    store = Keystore.create(tmp_path / "live" / "desk.keys", passphrase, fast_kdf=True)
    for name, secret in FRESH.items():
        store.put(name, secret, kind="card")
    return store


@pytest.mark.parametrize("passphrase", [PASSPHRASE, b""], ids=["passphrase", "machine"])
@pytest.mark.parametrize("change", ["put", "replace", "delete"])
def test_a_cut_leaves_the_old_or_the_new_state(
    tmp_path: Path, passphrase: bytes, change: str, watch: Callable[..., Disk], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(tmp_path, passphrase)
    disk = watch(tmp_path / "live")
    if change == "put":
        store.put("c", b"third", kind="card")
        new = FRESH | {"c": b"third"}
    elif change == "replace":
        store.replace("a", b"another")
        new = FRESH | {"a": b"another"}
    else:
        store.delete("a")
        new = {"b": FRESH["b"]}
    disk.cut()
    monkeypatch.undo()
    found = [contents(state, tmp_path / f"cut{n}", passphrase) for n, state in enumerate(disk.left)]
    assert len(found) > 20
    assert all(one in (FRESH, new) for one in found), [one for one in found if one not in (FRESH, new)]
    assert FRESH in found
    # Once it has returned, only the new state is left.
    final = Disk(tmp_path / "live")
    final.names, final.moves = disk.names, disk.moves
    final.cut()
    assert [contents(s, tmp_path / f"end{n}", passphrase) for n, s in enumerate(final.left)] == [new] * len(final.left)


def test_without_syncs_a_cut_would_lose_the_keystore(
    tmp_path: Path, watch: Callable[..., Disk], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(tmp_path, PASSPHRASE)
    disk = watch(tmp_path / "live", obey_sync=False)
    store.put("c", b"third", kind="card")
    monkeypatch.undo()
    found = [contents(state, tmp_path / f"cut{n}", PASSPHRASE) for n, state in enumerate(disk.left)]
    assert any(isinstance(one, str) for one in found)


@pytest.mark.parametrize("passphrase", [PASSPHRASE, b""], ids=["passphrase", "machine"])
def test_a_cut_during_the_first_write_leaves_nothing_or_a_keystore(
    tmp_path: Path, passphrase: bytes, watch: Callable[..., Disk], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "live").mkdir()
    disk = watch(tmp_path / "live")
    Keystore.create(tmp_path / "live" / "desk.keys", passphrase, fast_kdf=True).close()
    monkeypatch.undo()
    for number, state in enumerate(disk.left):
        directory = tmp_path / f"cut{number}"
        found = contents(state, directory, passphrase)
        if "desk.keys" in state:
            assert found == {}, found
        else:
            Keystore.create(directory / "desk.keys", passphrase, fast_kdf=True).close()


@pytest.mark.parametrize("step", ["open", "write", "fsync", "replace"])
def test_every_single_failing_call_leaves_the_old_state(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(tmp_path, PASSPHRASE)
    owner, real = (Path, Path.replace) if step == "replace" else (os, getattr(os, step))
    for nth in range(1, 4):
        calls = 0

        def failing(*given: object, nth: int = nth, **named: object) -> object:
            nonlocal calls
            calls += 1
            if calls == nth:
                raise OSError(5, "Input/output error")
            return real(*given, **named)

        monkeypatch.setattr(owner, step, failing)
        try:
            store.put(f"{step}{nth}", b"s", kind="card")
            said = True
        except KeystoreError:
            said = False
        monkeypatch.undo()
        with Keystore.open(tmp_path / "live" / "desk.keys", PASSPHRASE) as again:
            held = again.names()
        # Said to be done: it is there. Refused: what was there before is there; the new secret may be, if only the last
        # sync failed.
        assert set(FRESH) <= set(held)
        if said:
            assert f"{step}{nth}" in held


@pytest.mark.parametrize("change", ["replace", "delete"])
def test_what_was_there_is_overwritten(tmp_path: Path, change: str) -> None:
    """The inode of the old file, held open as a disk keeps its blocks, has no byte of it left."""
    store = filled(tmp_path, b"")
    path = tmp_path / "live" / "desk.keys"
    with path.open("rb") as old:
        before = old.read()
        if change == "replace":
            store.replace("a", b"another")
        else:
            store.delete("a")
        old.seek(0)
        assert old.read() == bytes(len(before))
    linked = tmp_path / "backup"
    linked.hardlink_to(path)
    kept = linked.read_bytes()
    store.put("c", b"third", kind="card")
    assert linked.read_bytes() == kept  # somebody's backup is theirs


def test_without_the_wipe_it_would_still_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(tmp_path, b"")
    real = os.fstat

    def linked(descriptor: int) -> os.stat_result:
        return os.stat_result((*real(descriptor)[:3], 1, *real(descriptor)[4:]))

    with (tmp_path / "live" / "desk.keys").open("rb") as old:
        before = old.read()
        monkeypatch.setattr(private_file.os, "fstat", linked)
        store.delete("a")
        old.seek(0)
        assert old.read() == before


# --- copies ---


def test_a_copy_holds_the_same_under_another_passphrase(tmp_path: Path) -> None:
    store = filled(tmp_path, b"")
    copy = tmp_path / "backup.keys"
    assert [entry.name for entry in store.copy_to(copy, PASSPHRASE, fast_kdf=True)] == ["a", "b"]
    with Keystore.open(copy, PASSPHRASE) as opened:
        assert {name: opened.get(name) for name in opened.names()} == FRESH
        assert opened.entries() == store.entries()
        restored = tmp_path / "restored.keys"
        opened.copy_to(restored, b"")
    with Keystore.open(restored, b"") as opened:
        assert {name: opened.get(name) for name in opened.names()} == FRESH
    with pytest.raises(KeystoreError, match="exists already"):
        store.copy_to(copy, PASSPHRASE)


def test_a_copy_that_does_not_open_is_no_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(tmp_path, b"")
    copy = tmp_path / "backup.keys"
    real = private_file.replace
    monkeypatch.setattr(private_file, "replace", lambda file, data: real(file, data[:-1] + bytes([data[-1] ^ 1])))
    with pytest.raises(KeystoreError):
        store.copy_to(copy, PASSPHRASE, fast_kdf=True)
    assert not copy.exists()
