"""The shelf of a node: pieces in order, the right bytes or none, room for all."""

import os
from pathlib import Path

import pytest

from exchange.errors import AttachmentError, LimitError
from exchange.node import shelf as shelves
from exchange.node.shelf import Held, Shelf
from keys.encoding import digest

DATA = bytes(range(256)) * 40
NAME = digest(DATA)
DESK, OTHER = "nl.seoul/economic", "nl.bz/supply"


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "attachments", limit_bytes=100_000, keep_ms=1000)


def test_pieces_make_it_whole(shelf: Shelf, tmp_path: Path) -> None:
    assert shelf.begin(NAME, len(DATA), owner=DESK) == Held(0, len(DATA))
    assert shelf.append(NAME, 0, DATA[:4000]) == Held(4000, len(DATA))
    again = Shelf(tmp_path / "attachments", limit_bytes=100_000, keep_ms=1000)
    assert again.begin(NAME, len(DATA), owner=DESK).bytes == 4000
    assert again.append(NAME, 4000, DATA[4000:]).whole
    assert again.read(NAME, 100, 50) == DATA[100:150]
    assert again.begin(NAME, len(DATA), owner=OTHER).whole
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "attachments").iterdir()] == [0o600]


@pytest.mark.parametrize(("offset", "data"), [(1, b"x"), (5, b"x"), (0, DATA + b"x")])
def test_a_piece_that_does_not_follow_is_refused(shelf: Shelf, offset: int, data: bytes) -> None:
    shelf.begin(NAME, len(DATA), owner=DESK)
    with pytest.raises(AttachmentError):
        shelf.append(NAME, offset, data)
    assert shelf.held(NAME).bytes == 0


def test_other_bytes_than_named_are_not_kept(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.begin(NAME, len(DATA), owner=DESK)
    with pytest.raises(AttachmentError, match="not those of the digest"):
        shelf.append(NAME, 0, bytes(len(DATA)))
    assert shelf.held(NAME) == Held(0, 0)
    monkeypatch.setattr(shelves.attachment, "digest_of", lambda _: NAME)
    shelf.begin(NAME, len(DATA), owner=DESK)
    assert shelf.append(NAME, 0, bytes(len(DATA))).whole


def test_what_is_not_whole_is_not_given(shelf: Shelf) -> None:
    shelf.begin(NAME, len(DATA), owner=DESK)
    shelf.append(NAME, 0, DATA[:10])
    with pytest.raises(AttachmentError):
        shelf.read(NAME, 0, 10)


def test_one_desk_cannot_take_the_room_of_all_and_all_cannot_take_more_than_there_is(shelf: Shelf) -> None:
    shelf.begin(digest(b"1"), 25_000, owner=DESK)
    with pytest.raises(LimitError):
        shelf.begin(digest(b"2"), 100, owner=DESK)
    for number in range(3):
        shelf.begin(digest(bytes([number])), 25_000, owner=f"nl.bz/{number}")
    with pytest.raises(LimitError):
        shelf.begin(digest(b"3"), 16, owner=OTHER)


@pytest.mark.parametrize("size", [0, 15, shelves.MAX_SEALED_BYTES + 1])
def test_sizes_that_none_can_have(shelf: Shelf, size: int) -> None:
    with pytest.raises(AttachmentError):
        shelf.begin(NAME, size, owner=DESK)


def test_another_length_for_one_digest_is_refused(shelf: Shelf) -> None:
    shelf.begin(NAME, len(DATA), owner=DESK)
    with pytest.raises(AttachmentError):
        shelf.begin(NAME, len(DATA) - 1, owner=OTHER)


def test_what_nobody_asks_for_goes(shelf: Shelf, tmp_path: Path) -> None:
    shelf.begin(NAME, len(DATA), owner=DESK)
    shelf.append(NAME, 0, DATA)
    (path,) = (tmp_path / "attachments").iterdir()
    os.utime(path, (100, 100))
    assert shelf.tidy(101_000) == 0
    assert shelf.tidy(101_001) == 1
    assert not shelf.held(NAME).size
