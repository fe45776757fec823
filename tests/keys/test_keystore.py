"""The keystore: hostile files, crashes, several processes, and nothing secret in sight."""

import copy
import errno
import multiprocessing
import os
import pickle
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keys import keystore as module
from keys import suite
from keys.errors import TocsinError, UsageError
from keys.keystore import (
    Entry,
    Keystore,
    KeystoreError,
    KeystoreParametersError,
    KeystorePassphraseError,
    SecretExistsError,
    UnknownSecretError,
)

PASSPHRASE = b"correct horse battery staple"
SECRET = bytes(range(100, 164))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "desk.keys"


@pytest.fixture(params=[PASSPHRASE, b""], ids=["passphrase", "machine"])
def passphrase(request: pytest.FixtureRequest) -> bytes:
    return bytes(request.param)


def mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


# --- keeping ---


def test_keeps_what_it_is_given(path: Path, passphrase: bytes) -> None:
    with Keystore.create(path, passphrase, fast_kdf=True) as store:
        assert store.names() == ()
        store.put("signing", SECRET, kind="signing", public=b"public")
        store.put("card/2958", b"s", kind="card")
        store.put("signing", SECRET, kind="signing", public=b"public")  # the same again
    with Keystore.open(path, passphrase) as store:
        assert store.names() == ("card/2958", "signing")
        assert (store.get("signing"), store.get("card/2958")) == (SECRET, b"s")
        assert store.entry("signing") == Entry("signing", "signing", b"public")
        assert [entry.kind for entry in store.entries()] == ["card", "signing"]
        store.delete("card/2958")
    with Keystore.open(path, passphrase) as store:
        assert store.names() == ("signing",)
        with pytest.raises(UnknownSecretError) as caught:
            store.get("signin")
        assert caught.value.hint == "did you mean 'signing'?"
        with pytest.raises(UnknownSecretError):
            store.delete("card/2958")


def test_real_keys_come_back(path: Path) -> None:
    key, card = suite.SigningKey.generate(suite.ROOT_SUITE), suite.CardKey.generate()
    with Keystore.create(path, b"") as store:
        store.put("root", key.seed(), kind="root", public=key.public)
        store.put("card", card.seed(), kind="card", public=card.public)
    with Keystore.open(path, b"") as store:
        assert suite.SigningKey.from_seed(suite.ROOT_SUITE, store.get("root")).public == store.entry("root").public
        assert suite.CardKey.from_seed(store.get("card")).public == store.entry("card").public


def test_nothing_is_overwritten_by_accident(path: Path) -> None:
    with Keystore.create(path, b"") as store:
        store.put("signing", SECRET, kind="signing")
        for secret, kind, public in ((b"other", "signing", b""), (SECRET, "card", b""), (SECRET, "signing", b"p")):
            with pytest.raises(SecretExistsError):
                store.put("signing", secret, kind=kind, public=public)
        assert store.get("signing") == SECRET
    with pytest.raises(KeystoreError, match="exists"):
        Keystore.create(path, b"")


def test_a_secret_is_replaced_by_its_like_alone(path: Path, passphrase: bytes) -> None:
    with Keystore.create(path, passphrase, fast_kdf=True) as store:
        store.put("tls", SECRET, kind="tls", public=b"old")
        store.replace("tls", b"new", public=b"certificate")
        assert store.get("tls") == b"new"
        with pytest.raises(UnknownSecretError):
            store.replace("tsl", b"new")
        for wrong in ({"secret": b""}, {"secret": b"s", "public": bytes(8193)}):
            with pytest.raises(UsageError):
                store.replace("tls", **wrong)
    with Keystore.open(path, passphrase) as store:
        assert (store.get("tls"), store.entry("tls")) == (b"new", Entry("tls", "tls", b"certificate"))


def test_a_closed_keystore_has_nothing(path: Path) -> None:
    store = Keystore.create(path, b"")
    store.put("a", SECRET, kind="card")
    store.close()
    store.close()
    for call in (store.names, store.entries, lambda: store.get("a"), lambda: store.put("b", b"s", kind="card")):
        with pytest.raises(UsageError):
            call()


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"name": "x" * 201},
        {"name": "a\nb"},
        {"kind": ""},
        {"kind": "\x1b[0m"},
        {"secret": b""},
        {"secret": bytes(4097)},
        {"public": bytes(8193)},
    ],
    ids=str,
)
def test_bounds(path: Path, fields: dict[str, Any]) -> None:
    with Keystore.create(path, b"") as store, pytest.raises(UsageError):
        store.put(**{"name": "a", "secret": b"s", "kind": "card", **fields})


def test_it_fills_up_rather_than_writing_what_cannot_be_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Keystore.create(path, b"") as store:
        store.put("a", b"s", kind="card")
        monkeypatch.setattr(module, "MAX_ENTRIES", 1)
        with pytest.raises(KeystoreError, match="full"):
            store.put("b", b"s", kind="card")
        monkeypatch.undo()
        monkeypatch.setattr(module, "MAX_FILE_BYTES", 2000)
        with pytest.raises(KeystoreError, match="over 2000 bytes"):
            store.put("b", b"s", kind="card", public=bytes(8000))
        assert store.names() == ("a",)


# --- who may open it ---


def test_only_its_passphrase_opens_it(path: Path) -> None:
    Keystore.create(path, PASSPHRASE, fast_kdf=True).close()
    for wrong in (b"correct horse battery stapl", PASSPHRASE + b"\x00", b"x" * 4096):
        with pytest.raises(KeystorePassphraseError):
            Keystore.open(path, wrong)
    with pytest.raises(KeystoreError, match="needs its passphrase"):
        Keystore.open(path, b"")
    with pytest.raises(UsageError):
        Keystore.open(path, b"x" * 4097)


def test_only_its_machine_key_opens_it(path: Path, tmp_path: Path) -> None:
    Keystore.create(path, b"").close()
    key_file = tmp_path / "desk.keys.key"
    key = key_file.read_bytes()
    with pytest.raises(KeystoreError, match="not with a passphrase"):
        Keystore.open(path, PASSPHRASE)
    for wrong, error in ((bytes(32), KeystorePassphraseError), (key[:-1], KeystoreError), (key + b"x", KeystoreError)):
        key_file.write_bytes(wrong)
        with pytest.raises(error):
            Keystore.open(path, b"")
    key_file.unlink()
    with pytest.raises(KeystoreError, match="No such file"):
        Keystore.open(path, b"")


def test_two_keystores_of_one_passphrase_have_different_keys(tmp_path: Path) -> None:
    stores = [Keystore.create(tmp_path / name, PASSPHRASE, fast_kdf=True) for name in ("a", "b")]
    assert stores[0]._key != stores[1]._key


def test_only_its_owner_can_read_it(path: Path, tmp_path: Path, passphrase: bytes) -> None:
    old = os.umask(0)
    try:
        with Keystore.create(path, passphrase, fast_kdf=True) as store:
            store.put("a", SECRET, kind="card")
    finally:
        os.umask(old)
    assert {mode(file) for file in tmp_path.iterdir()} == {0o600}
    for file in (path, *tmp_path.glob("*.key")):
        for rights in (0o640, 0o604, 0o660, 0o610):
            file.chmod(rights)
            with pytest.raises(KeystoreError, match="other users") as caught:
                Keystore.open(path, passphrase)
            assert "chmod 600" in caught.value.hint
        file.chmod(0o600)
    Keystore.open(path, passphrase).close()


def test_what_is_no_keystore(path: Path, tmp_path: Path) -> None:
    with pytest.raises(KeystoreError, match="No such file"):
        Keystore.open(path, b"")
    with pytest.raises(KeystoreError, match="cannot lock"):
        Keystore.create(tmp_path / "nowhere" / "x", b"")
    with pytest.raises(KeystoreError, match="not a file"):
        Keystore.open(tmp_path, b"")
    os.mkfifo(path, 0o600)
    with pytest.raises(KeystoreError, match="not a file"):
        Keystore.open(path, b"")
    path.unlink()
    path.touch(0o600)
    with pytest.raises(KeystoreError, match="not a keystore"):
        Keystore.open(path, b"")


def test_a_link_to_a_keystore_stays_a_link(path: Path, tmp_path: Path) -> None:
    Keystore.create(path, PASSPHRASE, fast_kdf=True).close()
    link = tmp_path / "link"
    link.symlink_to(path)
    with Keystore.open(link, PASSPHRASE) as store:
        store.put("a", b"s", kind="card")
    assert link.is_symlink()
    with Keystore.open(path, PASSPHRASE) as store:
        assert store.names() == ("a",)


# --- attack 26: parameters that stop the machine ---


def header(iterations: int | str, lanes: int | str, memory_kib: int | str) -> bytes:
    return f"tocsin/1/keystore argon2id {iterations} {lanes} {memory_kib} {'0' * 32} {'0' * 64}\n".encode()


@pytest.mark.parametrize(
    "costs",
    [
        (11, 1, 8),
        (10**9, 1, 8),
        (9_999_999_999, 1, 8),
        (1, 17, 512),
        (1, 1, 512 * 1024 + 1),
        (1, 1, 2**32),
        (1, 1, 7),
        (1, 16, 127),
    ],
    ids=str,
)
def test_hostile_costs_are_refused_before_any_work(
    costs: tuple[int, int, int], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def spy(passphrase: bytes, *, salt: bytes, iterations: int, lanes: int, memory_kib: int) -> bytes:
        asked.append(iterations)
        return bytes(32)

    monkeypatch.setattr(suite, "argon2id", spy)
    path.touch(0o600)
    path.write_bytes(header(*costs) + bytes(64))
    with pytest.raises(KeystoreParametersError):
        Keystore.open(path, PASSPHRASE)
    assert asked == []
    if costs[2] < 8 * costs[1]:  # not expensive, only impossible
        return
    for name in ("MAX_ITERATIONS", "MAX_LANES", "MAX_MEMORY_KIB"):
        monkeypatch.setattr(module, name, 10**12)
    with pytest.raises(KeystorePassphraseError):
        Keystore.open(path, PASSPHRASE)
    assert asked == [costs[0]]


@pytest.mark.parametrize("costs", [(0, 1, 8), (-1, 1, 8), ("1" * 11, 1, 8), ("01", 1, 8), ("1e3", 1, 8), (1, "", 8)])
def test_odd_headers_are_not_headers(costs: tuple[Any, Any, Any], path: Path) -> None:
    path.touch(0o600)
    path.write_bytes(header(*costs) + bytes(64))
    with pytest.raises(KeystoreError, match="not a keystore"):
        Keystore.open(path, PASSPHRASE)


def test_a_huge_file_is_not_read(path: Path) -> None:
    path.touch(0o600)
    with path.open("r+b") as stream:
        stream.truncate(2**40)  # sparse
    with pytest.raises(KeystoreError, match="longer than"):
        Keystore.open(path, PASSPHRASE)


def test_ours_are_within_the_bounds_and_strong(path: Path) -> None:
    """In a process of its own: others of this one may make passphrases cheap for their tests."""
    made = f"from keys.keystore import Keystore; Keystore.create({str(path)!r}, {PASSPHRASE!r})"
    subprocess.run([sys.executable, "-c", made], check=True, cwd=Path(__file__).parents[2])
    assert path.read_bytes().startswith(b"tocsin/1/keystore argon2id 3 4 65536 ")
    Keystore.open(path, PASSPHRASE).close()


# --- altered files ---


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.integers(0, 10**6), bit=st.integers(0, 7), cut=st.booleans())
def test_any_alteration_is_noticed(tmp_path: Path, where: int, bit: int, cut: bool) -> None:
    path = tmp_path / "x"
    if not path.exists():
        with Keystore.create(path, PASSPHRASE, fast_kdf=True) as store:
            store.put("a", SECRET, kind="card")
    good = path.read_bytes()
    bad = bytearray(good)
    bad[where % len(bad)] ^= 1 << bit
    try:
        path.write_bytes(good[: where % len(good)] if cut else bad)
        with pytest.raises(KeystoreError):
            Keystore.open(path, PASSPHRASE)
    finally:
        path.write_bytes(good)


def test_names_are_as_hidden_as_secrets(path: Path) -> None:
    with Keystore.create(path, b"") as store:
        store.put("nl.seoul/economic", SECRET, kind="signing", public=b"the public half")
    data = path.read_bytes()
    for text in (b"seoul", b"signing", b"public half", SECRET[:8], module._text(SECRET).encode()[:12]):
        assert text not in data


def test_each_write_has_its_own_key(path: Path) -> None:
    """The cipher's nonce is fixed, so two writes under one key would give both away."""
    with Keystore.create(path, b"") as store:
        salts = set()
        for n in range(5):
            store.put(f"{n}", b"s", kind="card")
            salts.add(path.read_bytes().split(b"\n", 1)[0].split(b" ")[-1])
    assert len(salts) == 5


# --- several at once, and crashes ---


def test_two_handles_see_each_other(path: Path, passphrase: bytes) -> None:
    one = Keystore.create(path, passphrase, fast_kdf=True)
    two = Keystore.open(path, passphrase)
    one.put("a", b"1", kind="card")
    two.put("b", b"2", kind="card")
    assert one.names() == two.names() == ("a", "b")
    two.delete("a")
    with pytest.raises(UnknownSecretError):
        one.get("a")
    path.unlink()
    Keystore.create(path, passphrase, fast_kdf=True).close()
    with pytest.raises(KeystoreError, match="another keystore"):
        one.names()


def _put_five(path: str, who: int) -> None:
    with Keystore.open(path, b"") as store:
        for n in range(5):
            store.put(f"{who}/{n}", bytes([who, n]), kind="card")


@pytest.mark.parametrize("kind", ["processes", "threads"])
def test_no_write_is_lost(path: Path, kind: str) -> None:
    Keystore.create(path, b"").close()
    make: Callable[..., Any] = multiprocessing.get_context("spawn").Process if kind == "processes" else threading.Thread
    workers = [make(target=_put_five, args=(str(path), who)) for who in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    with Keystore.open(path, b"") as store:
        assert store.names() == tuple(sorted(f"{who}/{n}" for who in range(3) for n in range(5)))


@pytest.mark.parametrize("failing", ["fsync", "replace", "open"])
def test_a_failed_write_leaves_the_old_file(path: Path, failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Keystore.create(path, b"")
    store.put("a", SECRET, kind="card")
    before = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        if failing == "replace":
            patch.setattr(Path, "replace", full)
        elif failing == "fsync":
            patch.setattr(os, "fsync", full)
        else:
            real = os.open
            patch.setattr(
                os, "open", lambda file, *a, **k: full() if str(file).endswith(".new") else real(file, *a, **k)
            )
        with pytest.raises(KeystoreError, match="No space left"):
            store.put("b", b"s", kind="card")
        assert store.names() == ("a",)
    assert path.read_bytes() == before
    store.put("b", b"s", kind="card")  # what the failed write left behind is no obstacle
    with Keystore.open(path, b"") as again:
        assert again.names() == ("a", "b")


def test_data_is_synced_before_it_takes_the_name_and_the_name_after(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Keystore.create(path, b"")
    steps: list[str] = []
    real_fsync, real_replace = os.fsync, Path.replace

    def fsync(descriptor: int) -> None:
        steps.append("sync directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "sync file")
        real_fsync(descriptor)

    def replace(self: Path, target: Path) -> Path:
        steps.append("rename")
        return real_replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    store.put("a", b"s", kind="card")
    assert steps == ["sync file", "rename", "sync directory", "sync file"]  # the last for the wipe of the old one


def test_an_interrupted_create_can_be_repeated(path: Path, tmp_path: Path) -> None:
    Keystore.create(path, b"").close()
    key = (tmp_path / "desk.keys.key").read_bytes()
    path.unlink()  # as after a crash between the two files
    Keystore.create(path, b"").close()
    assert (tmp_path / "desk.keys.key").read_bytes() == key
    Keystore.open(path, b"").close()


# --- attack 30: secrets in logs and errors ---


def shows(text: str) -> bool:
    return any(
        form in text
        for start in range(len(SECRET) - 7)
        for part in (SECRET[start : start + 8],)
        for form in (part.hex(), repr(part)[2:-1], str(list(part))[1:-1])
    )


def test_nothing_secret_is_printed(path: Path) -> None:
    store = Keystore.create(path, SECRET, fast_kdf=True)
    store.put("a", SECRET, kind="card")
    assert shows(repr(store._body))  # the search does find it where it is
    for text in (repr(store), str(store), repr(store.entries()), repr(store.entry("a"))):
        assert not shows(text)
    for leak in (pickle.dumps, copy.copy, copy.deepcopy, vars):
        with pytest.raises(TypeError):
            leak(store)
    for call in (
        lambda: store.put("a", SECRET[:-1], kind="card"),
        lambda: store.put("b", SECRET * 100, kind="card"),
        lambda: store.get("b"),
        lambda: Keystore.open(path, SECRET[:-1]),
        lambda: Keystore.open(path, SECRET * 100),
        lambda: Keystore.create(path, SECRET),
    ):
        with pytest.raises(TocsinError) as caught:
            call()
        assert not shows(f"{caught.value!r} {caught.value} {caught.value.hint} {caught.value.metadata}")
