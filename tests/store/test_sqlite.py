"""What only the SQLite store can get wrong: its index file, its caches, its WAL, its locks, its disk."""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from exchange import merkle
from exchange.errors import LimitError, StoreError
from exchange.store.contract import NewEntry
from exchange.store.segments import SEGMENT_MIN
from exchange.store.sqlite import SqliteStore
from tests.store.test_contract import document, entry

ROOT = Path(__file__).parents[2]
STREAM = b"s" * 16


def filled(path: Path, count: int = 40) -> SqliteStore:
    store = SqliteStore(path)
    store.append([entry(number) for number in range(count)])
    return store


def index_of(path: Path) -> Path:
    return path.with_name(path.name + ".index")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits so low that a test of some hundred rows meets all of them."""
    monkeypatch.setattr("exchange.store.keeper.FLUSHED_ROWS", 32)
    monkeypatch.setattr("exchange.store.keeper.MAX_WAITING_ROWS", 64)
    monkeypatch.setattr("exchange.store.tiles.CACHED_TILES", 2)
    monkeypatch.setattr("exchange.store.lanes.CACHED_LANES", 4)
    monkeypatch.setattr("exchange.store.lanes.CACHED_READERS", 2)
    monkeypatch.setattr("exchange.store.sqlite.SCANNED_ROWS", 50)
    monkeypatch.setattr("exchange.store.keeper.CHECKPOINT_BYTES", 200_000)
    monkeypatch.setattr("exchange.store.index.REBUILT_ROWS", 37)


# ---- the index is derived


@pytest.mark.parametrize("damage", ["lost", "garbage", "truncated"])
def test_a_broken_index_is_made_again_from_the_log(path: Path, damage: str) -> None:
    filled(path).close()
    index = index_of(path)
    if damage == "lost":
        index.unlink()
    else:
        index.write_bytes(os.urandom(9000) if damage == "garbage" else index.read_bytes()[:100])
    store = SqliteStore(path)
    assert [store.position_of(entry(number).id) for number in range(40)] == list(range(40))
    assert store.last_in_stream(STREAM) == (40, entry(39).id)
    assert store.append([entry(7), entry(40)]) == [7, 40]
    store.close()


def test_the_index_of_another_history_is_not_believed(path: Path, tmp_path: Path) -> None:
    filled(path, 5).close()
    backup = tmp_path / "backup.db"
    shutil.copy(path, backup)
    store = SqliteStore(path)
    store.append([entry(number) for number in range(5, 30)])
    store.close()
    shutil.copy(backup, path)
    restored = SqliteStore(path)
    assert (restored.size(), restored.position_of(entry(20).id)) == (5, None)
    restored.append([entry(number) for number in range(100, 140)])
    restored.close()
    # The log at this size is another one than the index was made from.
    again = SqliteStore(path)
    assert (again.position_of(entry(120).id), again.position_of(entry(20).id)) == (25, None)
    again.close()


def test_ids_that_begin_alike_are_told_apart(path: Path) -> None:
    alike = [NewEntry(kind=1, id=b"prefix!!" + bytes([number]) * 24, data=b"x", channel="c") for number in range(3)]
    store = SqliteStore(path)
    assert store.append(alike) == [0, 1, 2]
    store.close()
    again = SqliteStore(path)
    assert [again.position_of(one.id) for one in alike] == [0, 1, 2]
    assert again.position_of(b"prefix!!" + b"?" * 24) is None
    assert again.append([*alike, NewEntry(kind=1, id=b"prefix!!" + b"?" * 24, data=b"", channel="c")]) == [0, 1, 2, 3]
    again.close()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("merged", [0, 64], ids=["scan", "index"])
@pytest.mark.parametrize("seed", range(4))
def test_every_reader_gets_what_a_plain_filter_gives(
    path: Path, monkeypatch: pytest.MonkeyPatch, merged: int, seed: int
) -> None:
    monkeypatch.setattr("exchange.store.sqlite.MERGED_LANES", merged)
    dice = random.Random(seed)
    desks = [f"nl.m{number}/d" for number in range(6)]
    store, model = SqliteStore(path), list[NewEntry]()
    for _ in range(25):
        group = [
            document(len(model) + offset)
            if dice.random() < 0.1
            else NewEntry(
                kind=1,
                id=dice.randbytes(32),
                data=dice.randbytes(dice.randrange(60)),
                stream=bytes([dice.randrange(9)]) * 16,
                seq=dice.randrange(50),
                channel=dice.choice(["a", "b", "c"]),
                audience=tuple(sorted(dice.sample(desks, 2))),
                sender=dice.choice(desks),
            )
            for offset in range(dice.randrange(1, 30))
        ]
        store.append(group)
        model += group
        if dice.random() < 0.2:
            store.close()
            store = SqliteStore(path)
        wanted = dice.choice([None, frozenset(dice.sample(desks, dice.randrange(3)))])
        channels = dice.choice([None, frozenset(dice.sample(["a", "b", "c", "d"], dice.randrange(3)))])
        got, position = [], 0
        while position < store.size():
            rows, after = store.read(
                position,
                limit_bytes=dice.randrange(500),
                limit_rows=dice.randrange(1, 9),
                desks=wanted,
                channels=channels,
            )
            assert after > position
            assert all(position <= row.position < after for row in rows)
            got, position = got + rows, after
        expected = [
            (at, one.id, one.data)
            for at, one in enumerate(model)
            if not one.channel
            or (
                (wanted is None or wanted & {*one.audience, one.sender})
                and (channels is None or one.channel in channels)
            )
        ]
        assert [(row.position, row.id, row.data) for row in got] == expected
        for stream in {one.stream for one in model} - {b""}:
            numbers = [one.seq for one in model if one.stream == stream]
            first = next(one.id for one in model if one.stream == stream and one.seq == max(numbers))
            assert store.last_in_stream(stream) == (max(numbers), first)
            assert store.find(stream, max(numbers)) == first
            assert store.find(stream, 51) is None
        for sender in {one.sender for one in model} - {""}:
            assert store.newest_of(sender) == [one.id for one in model if one.sender == sender][-1]
        size = len(model)
        assert store.root(size) == merkle.root_of([one.id for one in model])
        at = dice.randrange(size)
        merkle.verify_inclusion(model[at].id, at, size, store.inclusion(at, size), store.root(size))
    store.close()


# ---- threads


@pytest.mark.usefixtures("small")
def test_readers_in_other_threads_see_whole_groups_and_true_proofs(path: Path) -> None:
    store = SqliteStore(path)
    wrong: list[object] = []
    done = threading.Event()

    def look() -> None:
        dice = random.Random(threading.get_ident())
        while not done.is_set():
            size = store.size()
            if not size:
                continue
            if size % 10:
                wrong.append(size)
            at = dice.randrange(size)
            try:
                merkle.verify_inclusion(entry(at).id, at, size, store.inclusion(at, size), store.root(size))
                rows, _ = store.read(at, limit_bytes=500, limit_rows=5, desks=frozenset({"nl.a/x"}), channels=None)
                found = (rows[0].id, store.position_of(entry(at).id), store.find(STREAM, at + 1))
                if found != (entry(at).id, at, entry(at).id):
                    wrong.append(found)
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for start in range(0, 2000, 10):
        store.append([entry(start + offset) for offset in range(10)])
    done.set()
    for thread in threads:
        thread.join()
    store.close()
    assert wrong == []


def test_a_second_process_is_kept_out(path: Path) -> None:
    store = filled(path)
    code = "import sys; from pathlib import Path; from exchange.store.sqlite import SqliteStore; SqliteStore(Path(sys.argv[1]))"
    other = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment(),
        check=False,
    )
    assert other.returncode == 1
    assert "open in another process" in other.stderr
    store.close()


def test_a_closed_store_says_so(path: Path) -> None:
    store = filled(path)
    store.close()
    with pytest.raises(StoreError):
        store.get(0)
    with pytest.raises(StoreError):
        store.append([entry(99)])


def test_no_proof_in_a_tree_that_is_not_there_yet(path: Path) -> None:
    store = filled(path, 3)
    for ask in (lambda: store.root(4), lambda: store.inclusion(0, 4), lambda: store.consistency(1, 4)):
        with pytest.raises(LimitError):
            ask()
    store.close()


# ---- the disk


def test_the_wal_stays_bounded_under_constant_writing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exchange.store.keeper.CHECKPOINT_BYTES", 500_000)
    monkeypatch.setattr("exchange.store.keeper.RESTART_FRAMES", 100)
    store = SqliteStore(path)
    data = os.urandom(SEGMENT_MIN - 1)
    for number in range(500):
        store.append([NewEntry(kind=1, id=number.to_bytes(32, "big"), data=data, channel="c")])
    size = path.with_name("log.db-wal").stat().st_size
    store.close()
    assert size < 8_000_000  # 16 MB were written, and 50 MB of pages


def test_what_a_reader_saw_of_a_growing_tile_is_not_remembered(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(path, 3).close()
    store = SqliteStore(path)
    store._tiles._tiles.clear()
    one, waiting = store._file.one, [[entry(3), entry(4)]]

    def overtaken(sql: str, *values: object) -> object:
        row = one(sql, *values)
        while waiting:
            store.append(waiting.pop())
        return row

    monkeypatch.setattr(store._file, "one", overtaken)
    root = merkle.root_of([entry(number).id for number in range(5)])
    assert store.leaf(0) == entry(0).id
    assert not waiting
    assert (store.leaf(4), store.root(5)) == (entry(4).id, root)
    store.close()


def test_what_retention_drops_is_gone_from_the_files(path: Path) -> None:
    store = SqliteStore(path)
    secret = b"ciphertext that must not linger " * 3000
    store.append([NewEntry(kind=1, id=bytes([n]) * 32, data=secret, channel="c", create_time_ms=n) for n in range(150)])
    assert store.prune("c", 100, lambda data: data[:5]) == 100
    assert store.prune("c", 100, lambda data: data[:5]) == 0
    assert store.prune("c", 200, lambda data: data[:5]) == 50
    store.close()
    assert all(b"must not linger" not in file.read_bytes() for file in path.parent.iterdir())


def test_retention_finds_what_came_late(path: Path) -> None:
    store = SqliteStore(path)
    times = [5, 900, 7, 8]
    store.append(
        [NewEntry(kind=1, id=bytes([n]) * 32, data=b"long", channel="c", create_time_ms=t) for n, t in enumerate(times)]
    )
    assert store.prune("c", 100, lambda _: b"") == 3
    store.append([NewEntry(kind=1, id=b"late" * 8, data=b"long", channel="c", create_time_ms=6)])
    assert store.prune("c", 100, lambda _: b"") == 1
    assert store.prune("c", 1000, lambda _: b"") == 1
    assert store.prune("", 1000, lambda _: b"") == 0
    store.close()


def test_a_strip_that_fails_changes_nothing(path: Path) -> None:
    def fails(data: bytes) -> bytes:
        raise ValueError(data)

    store = filled(path, 3)
    with pytest.raises(ValueError, match="data"):
        store.prune("minerals", 10_000, fails)
    row = store.get(0)
    assert row is not None
    assert (row.data, row.pruned) == (b"data 0", False)
    store.close()


def test_parking_is_bounded_in_bytes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exchange.store.remembered.MAX_PARKED_BYTES", 1000)
    store = SqliteStore(path)
    for number in range(5):
        store.park(bytes([number]) * 32, b"x" * 400, "o", number, "DOCUMENT_MISSING")
    assert [parked.position for parked in store.parked()] == [3, 4]
    store.close()


def test_values_are_kept(path: Path) -> None:
    store = SqliteStore(path)
    store.set_meta("highest time", b"1")
    store.set_meta("highest time", b"2")
    store.close()
    store = SqliteStore(path)
    assert (store.meta("highest time"), store.meta("?")) == (b"2", None)
    store.close()


LIMITED = """
import resource, signal, sys
from pathlib import Path
from exchange.errors import StoreError
from exchange.store.contract import NewEntry
from exchange.store.segments import SEGMENT_MIN
from exchange.store.sqlite import SqliteStore
store = SqliteStore(Path(sys.argv[1]))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, resource.RLIM_INFINITY))
taken = 0
try:
    while True:
        store.append([NewEntry(kind=1, id=n.to_bytes(32, "big"), data=bytes(50_000), channel="c") for n in (taken, taken + 1)])
        taken += 2
except StoreError as error:
    assert (error.status, error.reason) == ("UNAVAILABLE", "STORE_FAILED")
    assert store.size() == taken, store.size()
    assert store.position_of(taken.to_bytes(32, "big")) is None
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.append([NewEntry(kind=1, id=b"later" * 6 + b"..", data=b"x", channel="c")])
print(taken, flush=True)
"""


def test_a_disk_that_refuses_to_write_costs_the_group_and_nothing_else(path: Path) -> None:
    out = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment(),
        check=False,
    )
    assert out.returncode == 0, out.stderr
    taken = int(out.stdout)
    assert taken > 10
    store = SqliteStore(path)
    ids = [number.to_bytes(32, "big") for number in range(taken)] + [b"later" * 6 + b".."]
    assert store.size() == len(ids)
    assert store.root(len(ids)) == merkle.root_of(ids)
    store.close()


def test_a_commit_that_fails_leaves_no_lane_and_no_leaf_behind(path: Path) -> None:
    store = filled(path, 5)
    lost, kept = entry(5, channel="chips"), entry(6, channel="energy")
    with pytest.raises(OverflowError):
        # All is written when the last statement fails: SQLite has no such number.
        store.append([lost], cursors={"o": 2**63})
    # What takes its place has another lane and another leaf: what was remembered of the first would show.
    assert store.append([kept]) == [5]
    assert store.append([lost]) == [6]
    ids = [entry(number).id for number in range(5)] + [kept.id, lost.id]
    assert store.root(7) == merkle.root_of(ids)
    rows, _ = store.read(0, limit_bytes=10**6, limit_rows=99, desks=None, channels=frozenset({"chips"}))
    assert [(row.position, row.id, row.channel) for row in rows] == [(6, lost.id, "chips")]
    store.close()


GROUPS = """
import sys
from pathlib import Path
from exchange.store import keeper
from exchange.store.sqlite import SqliteStore
from tests.store.test_contract import entry
keeper.FLUSHED_ROWS, keeper.CHECKPOINT_BYTES = 50, 300_000
store = SqliteStore(Path(sys.argv[1]))
for start in range(store.size(), 10**6, 7):
    store.append([entry(start + offset) for offset in range(7)], cursors={"o": start + 7})
    print(start + 7, flush=True)
"""


def test_kill_9_again_and_again_loses_nothing_of_log_or_index(path: Path) -> None:
    dice = random.Random(5)
    before = 0
    for _ in range(8):
        with subprocess.Popen(
            [sys.executable, "-c", GROUPS, str(path)], stdout=subprocess.PIPE, cwd=ROOT, env=environment()
        ) as child:
            assert child.stdout is not None
            for _ in range(dice.randrange(1, 60)):
                acknowledged = int(child.stdout.readline())
            child.send_signal(signal.SIGKILL)
        store = SqliteStore(path)
        size = store.size()
        assert acknowledged <= size
        assert acknowledged > before
        assert size % 7 == 0
        assert store.cursor("o") == size
        assert [store.position_of(entry(number).id) for number in range(size)] == list(range(size))
        assert store.last_in_stream(STREAM) == (size, entry(size - 1).id)
        assert store.root(size) == merkle.root_of([entry(number).id for number in range(size)])
        store.close()
        before = size


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}
