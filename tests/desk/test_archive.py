"""The archive's memory of what was said: repeats, conflicts, and what is new, at every size of the table."""

import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from exchange.desk import archive as product
from exchange.desk import streams
from exchange.desk.archive import Archive
from exchange.errors import StoreError
from keys.encoding import digest


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    opened = Archive(tmp_path / "desk.db", bytes(32))
    yield opened
    opened.close()


def report(number: int) -> bytes:
    return number.to_bytes(6) + b"\x70\x00\x80" + bytes(7)


def said(archive: Archive, sender: str, *named: tuple[bytes, bytes]) -> list[str]:
    with archive.transaction():
        outcomes = archive.said(sender, named)
    return ["new"] * len(named) if outcomes is None else outcomes


def test_what_is_new_what_repeats_and_what_conflicts(archive: Archive) -> None:
    one, other = digest(b"one"), digest(b"other")
    assert said(archive, "a", (report(1), one), (report(2), one)) == ["new", "new"]
    assert said(archive, "a", (report(1), one)) == ["repeat"]
    assert said(archive, "a", (report(1), other)) == ["conflict"]
    assert said(archive, "b", (report(2), one)) == ["new"]
    assert said(archive, "b", (report(2), other), (report(3), one)) == ["conflict", "new"]
    assert said(archive, "b", (report(2), one), (report(2), other)) == ["repeat", "repeat"]
    assert said(archive, "c") == []


def test_twice_in_one_envelope(archive: Archive) -> None:
    one, other = digest(b"one"), digest(b"other")
    outcomes = said(archive, "a", (report(1), one), (report(1), one), (report(1), other), (report(2), one))
    assert outcomes == ["new", "repeat", "conflict", "new"]


def test_ids_of_odd_lengths_are_told_apart(archive: Archive) -> None:
    one = digest(b"one")
    assert said(archive, "a", (b"", one), (b"\x01", one), (bytes(40), one)) == ["new"] * 3
    assert said(archive, "a", (b"", one), (b"\x01", one), (bytes(40), one)) == ["repeat"] * 3
    assert said(archive, "a", (b"\xff" * 16, one)) == ["new"]
    assert said(archive, "a", (b"\xff" * 16, digest(b"two"))) == ["conflict"]


def test_it_is_what_a_table_of_everything_would_say(archive: Archive) -> None:
    # Few ids and texts, so that all outcomes come; many rows between, so that each way of looking is taken.
    draw = random.Random(7)
    model: dict[bytes, set[tuple[str, bytes]]] = {}
    came = set()
    for _ in range(300):
        sender = draw.choice("abc")
        spread = draw.choice([3, 40, 5_000])
        named = [
            (report(draw.randrange(spread)), digest(bytes([draw.randrange(3)]))) for _ in range(draw.randrange(1, 6))
        ]
        wanted = []
        for identity, text in named:
            held = model.setdefault(identity, set())
            if (sender, text) in held:
                wanted.append("repeat")
            else:
                wanted.append("conflict" if any(one != text for _, one in held) else "new")
                held.add((sender, text))
        assert said(archive, sender, *named) == wanted
        came.update(wanted)
    assert came == {"new", "repeat", "conflict"}


def test_a_file_of_another_format_is_refused_not_misread(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "desk.db") as old:
        old.execute("CREATE TABLE outbox (number INTEGER PRIMARY KEY, items BLOB)")
    old.close()
    with pytest.raises(StoreError, match="format 1, this version reads 3"):
        Archive(tmp_path / "desk.db", bytes(32))


def test_who_sends_much_that_cannot_be_opened_pushes_out_nothing_of_another(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "MAX_SHUT", 2)
    monkeypatch.setattr(product, "MAX_SHELF", 2)
    with archive.transaction():
        archive.keep_shut("kr.a/x", b"a" * 32, b"first")
        archive.shelve("kr.a/x", "minerals", b"first", b"note")
        for n in range(5):
            archive.keep_shut("nl.b/y", bytes([n]) * 32, bytes([n]))
            archive.shelve("nl.b/y", "minerals", bytes([n]), b"note")
    assert archive.header_of(b"a" * 32) == b"first"
    assert [archive.header_of(bytes([n]) * 32) for n in range(5)] == [None, None, None, b"\3", b"\4"]
    shelf = archive.shelf("minerals")
    assert [entry for _, entry, _ in shelf] == [b"first", b"\3", b"\4"]
    with archive.transaction():
        archive.shelve("kr.a/x", "minerals", b"second", b"note")
        archive.take_from_shelf(shelf[-1][0])
        archive.shelve("nl.b/y", "minerals", b"new", b"note")
    assert [entry for _, entry, _ in archive.shelf("minerals")] == [b"first", b"\3", b"second", b"new"]
