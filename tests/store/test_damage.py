"""What the disk changed in a log: entries are known by their sums, the tree is made again, an older file is read."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from exchange import merkle
from exchange.errors import StoreError
from exchange.store.contract import NewEntry, Row
from exchange.store.segments import SEGMENT_MIN
from exchange.store.sqlite import SqliteStore

COUNT = 300


def entry(seq: int) -> NewEntry:
    size = SEGMENT_MIN if seq % 50 == 7 else 100
    return NewEntry(
        kind=1, id=os.urandom(32), data=os.urandom(size), channel="c", sender="s", audience=("a",), stream=b"x" * 16,
        seq=seq, create_time_ms=5,
    )  # fmt: skip


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, list[NewEntry]]:
    entries = [entry(seq) for seq in range(COUNT)]
    store = SqliteStore(tmp_path / "log.db")
    store.append(entries)
    store.close()
    return tmp_path / "log.db", entries


def change(path: Path, table: str, column: str, where: str) -> None:
    """One bit of a value."""
    with closing(sqlite3.connect(path)) as log:
        (value,) = log.execute(f"SELECT {column} FROM {table} WHERE {where}").fetchone()
        changed = value ^ 4 if isinstance(value, int) else bytes([*value[:10], value[10] ^ 4, *value[11:]])
        log.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (changed,))
        log.commit()


def rows(store: SqliteStore) -> list[Row]:
    found, _ = store.read(0, limit_bytes=10**9, limit_rows=COUNT, desks=None, channels=None)
    return found


@pytest.mark.parametrize(
    ("table", "column"),
    [("blob", "data"), ("log", "id"), ("log", "kind"), ("log", "stream"), ("log", "seq"), ("log", "lane")],
)
@pytest.mark.parametrize("position", [20, COUNT - 3])
def test_an_entry_that_changed_is_known_and_the_others_are_whole(
    made: tuple[Path, list[NewEntry]], table: str, column: str, position: int
) -> None:
    path, entries = made
    change(path, table, column, f"position = {position}")
    store = SqliteStore(path)
    assert [row.position for row in rows(store) if row.damaged] == [position]
    mendable = column in ("data", "id")
    assert not store.mend(position, entries[position].data[:-1] + b"?")
    assert store.mend(position, entries[position].data) == mendable
    if mendable:
        assert [(row.id, row.data, row.damaged) for row in rows(store)] == [(e.id, e.data, False) for e in entries]
        assert store.position_of(entries[position].id) == position
    store.close()


def test_large_entry_that_changed_in_its_file_is_mended_and_its_place_there_is_wiped(
    made: tuple[Path, list[NewEntry]],
) -> None:
    path, entries = made
    blobs = path.with_name("log.db.00000000.blobs")
    data = bytearray(blobs.read_bytes())
    data[5] ^= 4
    blobs.write_bytes(data)
    store = SqliteStore(path)
    (damaged,) = [row.position for row in rows(store) if row.damaged]
    assert damaged == 7
    assert store.mend(damaged, entries[damaged].data)
    assert not any(row.damaged for row in rows(store))
    assert blobs.read_bytes()[:SEGMENT_MIN] == bytes(SEGMENT_MIN)
    store.close()


@pytest.mark.parametrize(("level", "tile"), [(0, 0), (0, 1), (1, 0), (3, 0)])
def test_a_part_of_the_tree_that_changed_is_made_again(
    made: tuple[Path, list[NewEntry]], level: int, tile: int
) -> None:
    path, entries = made
    change(path, "tile", "hashes", f"level = {level} AND tile = {tile}")
    store = SqliteStore(path)
    more = [entry(seq) for seq in range(COUNT, COUNT + 20)]
    store.append(more)
    leaves = [e.id for e in [*entries, *more]]
    assert store.root(len(leaves)) == merkle.root_of(leaves)
    for position in (0, 5, 255, 256, COUNT + 3):
        proof = store.inclusion(position, len(leaves))
        merkle.verify_inclusion(leaves[position], position, len(leaves), proof, merkle.root_of(leaves))
    assert store._tiles.regrown
    store.close()


def test_a_file_of_the_version_before_is_taken_over_and_its_entries_are_read_unchecked(
    made: tuple[Path, list[NewEntry]],
) -> None:
    path, entries = made
    with closing(sqlite3.connect(path)) as log:
        log.executescript(
            "ALTER TABLE log DROP COLUMN row_sum; ALTER TABLE log DROP COLUMN data_sum; ALTER TABLE tile DROP COLUMN sum;"
            "PRAGMA user_version = 3;"
        )
    store = SqliteStore(path)
    store.append([entry(COUNT)])
    assert [row.data for row in rows(store)] == [e.data for e in entries]
    store.close()
    change(path, "blob", "data", f"position = {COUNT}")
    store = SqliteStore(path)
    row = store.get(COUNT)
    assert row is not None
    assert row.damaged
    store.close()


def test_retention_passes_by_what_is_damaged(made: tuple[Path, list[NewEntry]]) -> None:
    path, entries = made
    change(path, "blob", "data", "position = 20")
    store = SqliteStore(path)
    assert store.prune("c", 10, lambda data: data[:10]) == COUNT - 1
    assert store.mend(20, entries[20].data)
    assert store.prune("c", 10, lambda data: data[:10]) == 1
    assert not any(row.damaged for row in rows(store))
    store.close()


def test_a_store_whose_pages_are_garbage_says_so(made: tuple[Path, list[NewEntry]]) -> None:
    path, _ = made
    data = bytearray(path.read_bytes())
    data[16_384 : 16_384 * 3] = os.urandom(16_384 * 2)
    path.write_bytes(data)
    with pytest.raises(StoreError):
        rows(SqliteStore(path))
