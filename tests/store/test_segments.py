"""Large entries: written once, found after every crash, gone when the retention rule drops them."""

import dataclasses
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from exchange.errors import StoreError
from exchange.store import segments
from exchange.store.contract import NewEntry
from exchange.store.retention import Retention
from exchange.store.segments import SEGMENT_MIN
from exchange.store.sqlite import SqliteStore
from tests.store.test_contract import entry


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


def large(number: int, *, size: int = 100_000) -> NewEntry:
    return dataclasses.replace(entry(number), data=(b"secret %d " % number).ljust(size, b"s"))


def files(path: Path) -> list[Path]:
    return sorted(path.parent.glob("log.db.*.blobs"))


def data(store: SqliteStore, position: int) -> bytes:
    row = store.get(position)
    assert row is not None
    return row.data


def anywhere(path: Path, what: bytes) -> bool:
    return any(what in file.read_bytes() for file in path.parent.iterdir() if file.is_file())


def test_large_ones_are_written_once_and_small_ones_stay_in_the_database(path: Path) -> None:
    store = SqliteStore(path)
    before = sum(file.stat().st_size for file in path.parent.iterdir())
    entries = [large(number, size=200_000) for number in range(20)]
    store.append(entries)
    store.append([dataclasses.replace(entry(20), data=b"x" * (SEGMENT_MIN - 1))])
    store.close()
    grown = sum(file.stat().st_size for file in path.parent.iterdir()) - before
    assert sum(file.stat().st_size for file in files(path)) == 4_000_000
    assert grown < 4_400_000
    assert all(file.stat().st_mode & 0o077 == 0 for file in files(path))
    store = SqliteStore(path)
    assert [data(store, number) for number in range(20)] == [each.data for each in entries]
    assert data(store, 20) == b"x" * (SEGMENT_MIN - 1)
    rows, after = store.read(5, limit_bytes=500_000, limit_rows=99, desks=None, channels=None)
    assert [row.data for row in rows] == [each.data for each in entries[5:7]]
    assert after == 7
    store.close()


def test_torn_tail_is_overwritten(path: Path) -> None:
    store = SqliteStore(path)
    store.append([large(0)])
    store.close()
    [file] = files(path)
    # Written and flushed, and the power went before the rows were.
    with file.open("ab") as torn:
        torn.write(b"torn" * 50_000)
    store = SqliteStore(path)
    store.append([large(1)])
    assert [data(store, number) for number in range(2)] == [large(0).data, large(1).data]
    assert b"torn" not in file.read_bytes()[:200_000]
    store.close()


def test_file_made_just_before_a_crash_goes_away(path: Path) -> None:
    store = SqliteStore(path)
    store.append([large(0)])
    store.close()
    orphan = path.with_name("log.db.00000001.blobs")
    orphan.write_bytes(b"x" * 10)
    SqliteStore(path).close()
    assert not orphan.exists()
    assert len(files(path)) == 1


@pytest.mark.parametrize("harm", ["gone", "short"])
def test_missing_bytes_are_noticed_at_the_start(path: Path, harm: str) -> None:
    store = SqliteStore(path)
    store.append([large(0), entry(1)])
    store.close()
    [file] = files(path)
    if harm == "gone":
        file.unlink()
    else:
        os.truncate(file, 99_999)
    with pytest.raises(StoreError, match="missing or too short"):
        SqliteStore(path)


def test_flush_comes_before_the_rows_and_a_failed_one_refuses_the_group(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqliteStore(path)
    store.append([large(0)])

    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(segments.os, "fdatasync", fail)
        with pytest.raises(StoreError, match="Input/output"):
            store.append([large(1), entry(2)], cursors={"o": 1})
    assert (store.size(), store.cursor("o")) == (1, 0)
    # The bytes of another group take the place.
    assert store.append([large(3), large(1), entry(2)]) == [1, 2, 3]
    assert [data(store, number) for number in range(3)] == [large(0).data, large(3).data, large(1).data]
    store.close()


def test_files_are_bounded_and_each_is_found(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 250_000)
    store = SqliteStore(path)
    for number in range(10):
        store.append([large(number)])
    assert [file.stat().st_size for file in files(path)] == [300_000, 300_000, 300_000, 100_000]
    store.close()
    store = SqliteStore(path)
    store.append([large(10)])
    assert [data(store, number) for number in range(11)] == [large(number).data for number in range(11)]
    store.close()


def strip(whole: bytes) -> bytes:
    return b"kept of " + whole[:8].replace(b"secret", b"SECRET")


def test_dropped_by_the_rule_nothing_of_it_is_on_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 250_000)
    store = SqliteStore(path)
    for number in range(7):
        store.append([large(number)])
    assert store.prune("minerals", 1004, strip) == 4
    assert [data(store, number)[:8] for number in range(4)] == [b"kept of "] * 4
    assert [data(store, number) for number in range(4, 7)] == [large(number).data for number in range(4, 7)]
    # The first file holds nothing any more, the second some.
    assert [file.name[7:15] for file in files(path)] == ["00000001", "00000002"]
    assert not any(anywhere(path, b"secret %d " % number) for number in range(4))
    assert anywhere(path, b"secret 4 ")
    assert store.prune("minerals", 1004, strip) == 0
    store.close()
    store = SqliteStore(path)
    assert data(store, 4) == large(4).data
    assert store.append([large(7)]) == [7]
    store.close()


def test_crash_between_dropping_and_wiping_is_made_good(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SqliteStore(path)
    store.append([large(0), large(1)])
    with monkeypatch.context() as patched:
        patched.setattr(Retention, "wipe", lambda self: None)
        store.prune("minerals", 1001, strip)
        store.close()
    assert anywhere(path, b"secret 0 ")
    store = SqliteStore(path)
    assert not anywhere(path, b"secret 0 ")
    assert data(store, 1) == large(1).data
    store.close()


def test_who_reads_while_it_is_dropped_gets_one_or_the_other(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SqliteStore(path)
    store.append([large(0), large(1)])
    read = store._segments.read

    def slow(*place: Any) -> bytes | None:
        # The row was read; now it is dropped and wiped, then its bytes are read.
        monkeypatch.setattr(store._segments, "read", read)
        pruning = threading.Thread(target=store.prune, args=("minerals", 1001, strip))
        pruning.start()
        pruning.join()
        return read(*place)

    monkeypatch.setattr(store._segments, "read", slow)
    assert data(store, 0)[:8] == b"kept of "
    store.close()
