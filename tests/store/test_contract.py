"""The contract of a store: whoever passes is a store."""

import dataclasses
import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from exchange import merkle
from exchange.errors import StoreError
from exchange.store.contract import ForkRecord, NewEntry, RefusalRecord, Store
from exchange.store.remembered import MAX_FORKS, MAX_PARKED
from exchange.store.sqlite import SqliteStore
from exchange.v1 import exchange_pb2 as pb

Open = Callable[[], Store]


@pytest.fixture(params=["sqlite"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    return {"sqlite": lambda: SqliteStore(tmp_path / "log.db")}[request.param]


def entry(
    number: int, *, audience: tuple[str, ...] = ("nl.a/x", "nl.b/y"), seq: int = 0, channel: str = "minerals"
) -> NewEntry:
    identity = hashlib.sha256(b"entry %d" % number).digest()
    return NewEntry(
        kind=pb.ENTRY_KIND_ENVELOPE,
        id=identity,
        data=b"data %d" % number,
        stream=b"s" * 16,
        seq=seq or number + 1,
        channel=channel,
        audience=audience,
        sender="kr.a/x",
        create_time_ms=1000 + number,
    )


def test_what_came_from_a_log_is_not_sent_back_to_it(opened: Open) -> None:
    store = opened()
    own, followed = entry(0), dataclasses.replace(entry(1), origin="tocsin/nl.a/1")
    notice = NewEntry(kind=9, id=hashlib.sha256(b"notice").digest(), data=b"notice", audience=("nl.b/y",))
    store.append([own, followed, dataclasses.replace(document(0), origin="tocsin/nl.a/1"), document(1), notice])
    everything = frozenset({"nl.a/x", "nl.b/y"})
    minerals = frozenset({"minerals"})
    rows, _ = store.read(
        0, limit_bytes=9999, limit_rows=99, desks=everything, channels=minerals, without="tocsin/nl.a/1"
    )
    assert [row.position for row in rows] == [0, 3, 4]
    rows, _ = store.read(0, limit_bytes=9999, limit_rows=99, desks=everything, channels=minerals)
    assert [row.position for row in rows] == [0, 1, 2, 3, 4]
    # Addressed to one desk, on no channel: it comes to that desk on every channel and to no other.
    rows, _ = store.read(0, limit_bytes=9999, limit_rows=99, desks=frozenset({"nl.a/x"}), channels=minerals)
    assert [row.position for row in rows] == [0, 1, 2, 3]


def test_forks_are_kept_once_and_with_their_entry(opened: Open) -> None:
    store = opened()
    fork = ForkRecord(b"s" * 16, 1, "kr.a/x", "minerals", entry(0).id, entry(1).id, 5)
    store.append([entry(0), entry(1)], forks=[fork])
    store.append([], forks=[dataclasses.replace(fork, time_ms=6)])
    assert store.forks() == [fork]
    store.append([], forks=[dataclasses.replace(fork, second=b"%032d" % number) for number in range(MAX_FORKS)])
    assert len(store.forks()) == MAX_FORKS
    assert fork not in store.forks()


def document(number: int) -> NewEntry:
    return NewEntry(kind=pb.ENTRY_KIND_DOCUMENT, id=hashlib.sha256(b"doc %d" % number).digest(), data=b"doc")


def read(store: Store, position: int = 0, **wanted: frozenset[str] | None) -> tuple[list[bytes], int]:
    rows, after = store.read(
        position,
        limit_bytes=10_000,
        limit_rows=100,
        desks=wanted.get("desks"),
        channels=wanted.get("channels"),
    )
    return [row.data for row in rows], after


def test_positions_go_up_and_an_id_keeps_its_position_for_ever(opened: Open) -> None:
    store = opened()
    assert store.append([entry(0), entry(1)]) == [0, 1]
    assert store.append([entry(1), entry(2), entry(0), entry(2)]) == [1, 2, 0, 2]
    assert store.size() == 3
    store.close()
    again = opened()
    assert again.append([entry(0)]) == [0]
    assert (again.size(), again.position_of(entry(2).id), again.position_of(b"?" * 32)) == (3, 2, None)
    again.close()


def test_the_tree_is_the_tree_of_the_ids(opened: Open) -> None:
    store = opened()
    ids = []
    for group in (1, 2, 5, 300, 7):
        entries = [entry(len(ids) + offset) for offset in range(group)]
        store.append(entries)
        ids += [e.id for e in entries]
    store.close()
    store = opened()
    size = store.size()
    assert store.root(size) == merkle.root_of(ids)
    for position in (0, 1, 255, 256, size - 1):
        merkle.verify_inclusion(ids[position], position, size, store.inclusion(position, size), store.root(size))
    for old in (1, 8, 256, size):
        merkle.verify_consistency(old, size, merkle.root_of(ids[:old]), store.root(size), store.consistency(old, size))
    store.close()


def test_a_reader_gets_its_own_and_every_document(opened: Open) -> None:
    store = opened()
    store.append([document(0), entry(0), entry(1, audience=("nl.c/z",)), entry(2, channel="chips"), document(1)])
    assert read(store, desks=frozenset({"nl.a/x"})) == ([b"doc", b"data 0", b"data 2", b"doc"], 5)
    assert read(store, desks=frozenset({"nl.c/z"})) == ([b"doc", b"data 1", b"doc"], 5)
    assert read(store, desks=frozenset({"kr.a/x"}))[0] == [b"doc", b"data 0", b"data 1", b"data 2", b"doc"]
    assert read(store, desks=frozenset(), channels=None) == ([b"doc", b"doc"], 5)
    assert read(store, desks=None, channels=frozenset({"chips"}))[0] == [b"doc", b"data 2", b"doc"]
    store.close()


def test_reading_goes_on_where_it_stopped_and_is_bounded(opened: Open) -> None:
    store = opened()
    store.append([entry(number) for number in range(50)])
    seen: list[bytes] = []
    position = 0
    while position < store.size():
        rows, after = store.read(position, limit_bytes=40, limit_rows=3, desks=None, channels=None)
        assert 1 <= len(rows) <= 3
        assert after > position
        seen += [row.data for row in rows]
        position = after
    assert seen == [b"data %d" % number for number in range(50)]
    store.close()


def test_the_highest_number_stands_for_a_stream(opened: Open) -> None:
    store = opened()
    assert store.last_in_stream(b"s" * 16) is None
    store.append([entry(0, seq=4), entry(1, seq=2)])
    assert store.last_in_stream(b"s" * 16) == (4, entry(0).id)
    store.close()


def test_the_newest_of_a_sender_is_the_last_in_the_log(opened: Open) -> None:
    store = opened()
    assert store.newest_of("kr.a/b") is None
    at = [("kr.a/b", 9), ("kr.a/b", 2), ("nl.c/d", 1)]
    store.append([dataclasses.replace(entry(n, seq=seq), sender=sender) for n, (sender, seq) in enumerate(at)])
    assert (store.newest_of("kr.a/b"), store.newest_of("nl.c/d")) == (entry(1).id, entry(2).id)
    assert store.newest_of("nl.x/y") is None
    store.close()
    again = opened()
    assert again.newest_of("kr.a/b") == entry(1).id
    again.close()


def test_cursors_move_with_the_entries(opened: Open) -> None:
    store = opened()
    assert store.cursor("tocsin/nl.a-1/1") == 0
    store.append([entry(0)], cursors={"tocsin/nl.a-1/1": 7})
    store.append([], cursors={"tocsin/nl.a-1/1": 9})
    store.close()
    again = opened()
    assert (again.cursor("tocsin/nl.a-1/1"), again.cursors()) == (9, {"tocsin/nl.a-1/1": 9})
    again.close()


def test_notes_refusals_and_parked_entries_are_remembered(opened: Open) -> None:
    store = opened()
    store.set_note("o", b"one")
    store.set_note("o", b"two")
    record = RefusalRecord("o", 3, b"i" * 32, "POLICY_AUDIENCE", 5)
    store.append([], refusals=[record])
    store.park(b"p" * 32, b"data", "o", 4, "DOCUMENT_MISSING")
    store.park(b"p" * 32, b"data", "o", 4, "DOCUMENT_MISSING")
    store.close()
    again = opened()
    assert (again.note("o"), again.note("?"), again.refusals()) == (b"two", None, [record])
    [parked] = again.parked()
    assert (parked.data, parked.position) == (b"data", 4)
    again.unpark(parked.id)
    assert again.parked() == []
    again.close()


def test_parking_is_bounded(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_PARKED <= 1024
    monkeypatch.setattr("exchange.store.remembered.MAX_PARKED", 3)
    store = opened()
    for number in range(6):
        store.park(bytes([number]) * 32, b"", "o", number, "DOCUMENT_MISSING")
    assert [parked.position for parked in store.parked()] == [3, 4, 5]
    store.close()


def test_retention_drops_the_data_and_keeps_the_leaf(opened: Open) -> None:
    store = opened()
    store.append([entry(0), entry(1), entry(2, channel="chips")])
    root = store.root(3)
    assert store.prune("minerals", 1001, lambda data: b"short") == 1
    assert store.prune("minerals", 1001, lambda data: b"short") == 0
    row = store.get(0)
    assert row is not None
    assert (row.data, row.pruned, row.id) == (b"short", True, entry(0).id)
    assert (store.root(3), store.append([entry(0)])) == (root, [0])
    store.close()


def sized(number: int) -> NewEntry:
    """Small ones and large ones in turn."""
    each = entry(number)
    return dataclasses.replace(each, data=each.data * (1 if number % 2 else 10_000))


WRITER = """
import sys
from pathlib import Path
from exchange.store.sqlite import SqliteStore
from tests.store.test_contract import sized
store = SqliteStore(Path(sys.argv[1]))
for number in range(100_000):
    [position] = store.append([sized(number)], cursors={"o": number + 1})
    print(position, flush=True)
"""


def test_what_a_log_holds_is_appended_to_another_as_it_was(opened: Open, tmp_path: Path) -> None:
    store, other = opened(), SqliteStore(tmp_path / "other.db")
    large = dataclasses.replace(entry(2), data=os.urandom(100_000), origin="tocsin/nl.a/1")
    notice = NewEntry(kind=9, id=hashlib.sha256(b"notice").digest(), data=b"notice", audience=("nl.b/y",))
    appended = [entry(0), document(0), large, entry(1, channel="energy"), notice]
    store.append(appended, notes={"tocsin/nl.a/1": b"note"})
    store.set_note("more", b"x")
    assert store.notes() == {"more": b"x", "tocsin/nl.a/1": b"note"}
    assert store.prune("minerals", 1001, lambda data: b"pruned") == 1
    got: list[NewEntry] = []
    while more := store.entries(len(got), limit_bytes=50_000):
        got += more
        other.append(more)
    assert got == [dataclasses.replace(entry(0), data=b"pruned", pruned=True), *appended[1:]]
    assert other.root(5) == store.root(5)
    assert [other.get(position) for position in range(5)] == [store.get(position) for position in range(5)]
    # What was pruned stays so: it is not pruned again.
    assert other.prune("minerals", 10_000, lambda data: b"again") == 1
    first = other.get(0)
    assert first is not None
    assert (first.data, first.pruned) == (b"pruned", True)


@pytest.mark.parametrize("after", [1, 17, 60])
def test_what_was_acknowledged_survives_kill_9(tmp_path: Path, after: int) -> None:
    path = tmp_path / "log.db"
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)],
        stdout=subprocess.PIPE,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    ) as child:
        assert child.stdout is not None
        acknowledged = [int(child.stdout.readline()) for _ in range(after)]
        child.send_signal(signal.SIGKILL)
    store = SqliteStore(path)
    assert store.size() >= after
    assert store.cursor("o") == store.size()
    assert [store.position_of(entry(number).id) for number in range(after)] == acknowledged
    assert store.root(store.size()) == merkle.root_of([entry(number).id for number in range(store.size())])
    for number in range(store.size()):
        row = store.get(number)
        assert row is not None
        assert row.data == sized(number).data
    store.close()


def test_a_full_disk_refuses_the_whole_group_and_the_store_goes_on(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "log.db")
    store.append([entry(0)])
    pages = store._file.write.execute("PRAGMA page_count").fetchone()[0]
    store._file.write.execute(f"PRAGMA max_page_count = {pages + 2}")
    group = [dataclasses.replace(entry(number), data=b"x" * 30_000) for number in range(1, 30)]
    # Its bytes are written, and then there is no room for the row that names them.
    group.append(dataclasses.replace(entry(30), data=b"y" * 1_000_000))
    with pytest.raises(StoreError, match="full"):
        store.append(group, cursors={"o": 5})
    assert (store.size(), store.position_of(entry(1).id), store.cursor("o")) == (1, None, 0)
    store._file.write.execute("PRAGMA max_page_count = 100000")
    other = dataclasses.replace(entry(31), data=b"z" * 900_000)
    assert store.append([other, *group]) == [*range(1, 32)]
    for position, each in enumerate([other, *group], 1):
        row = store.get(position)
        assert row is not None
        assert row.data == each.data
    assert store.root(32) == merkle.root_of([entry(0).id, other.id, *(each.id for each in group)])
    store.close()


def test_a_damaged_file_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    store = SqliteStore(path)
    store.append([entry(number) for number in range(3)])
    store.close()
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM log WHERE position = 2")
    with pytest.raises(StoreError, match=r"log\.db"):
        SqliteStore(path)


def test_every_commit_is_synchronous(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "log.db")
    full = 2
    assert store._file.write.execute("PRAGMA synchronous").fetchone()[0] == full
    assert store._file.write.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert store._file.write.execute("PRAGMA page_size").fetchone()[0] == 16384
    assert (tmp_path / "log.db").stat().st_mode & 0o077 == 0
    store.close()
