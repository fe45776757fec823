"""Attachments: sealed in chunks, opened in order; nothing can be cut off, moved, repeated or swapped unseen."""

import hashlib
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from exchange import attachment
from exchange.attachment import CHUNK_BYTES, SEALED_BYTES, Sealed, open_chunks, open_file, seal_chunks, seal_file
from exchange.errors import AttachmentError
from keys import suite

KEY = bytes(range(32))


def plain(size: int) -> bytes:
    return suite.shake256(size.to_bytes(8, "little"), size)


def sealed(tmp_path: Path, size: int) -> tuple[Path, Sealed]:
    (tmp_path / "plain").write_bytes(plain(size))
    made = seal_file(tmp_path / "plain", tmp_path / "sealed")
    return tmp_path / "sealed", made


def reopen(source: Path, made: Sealed, target: Path, **other: object) -> bytes:
    said: dict[str, object] = {"digest": made.digest, "key": made.key, "size": made.size} | other
    open_file(source, target, **said)  # type: ignore[arg-type]
    return target.read_bytes()


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 5 * CHUNK_BYTES + 77])
def test_what_is_sealed_opens(tmp_path: Path, size: int) -> None:
    source, made = sealed(tmp_path, size)
    assert made.size == size
    assert source.stat().st_size == attachment.sealed_size(size)
    assert made.digest == hashlib.sha256(source.read_bytes()).digest() == attachment.digest_of(source)
    assert reopen(source, made, tmp_path / "out") == plain(size)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o600


def test_the_bytes_are_those_of_the_protocol() -> None:
    """PROTOCOL.md section 15.1, computed by hand."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

    def le(value: int) -> bytes:
        return value.to_bytes(8, "little")

    def chunk(number: int, last: int, text: bytes) -> bytes:
        name = le(3) + le(14) + b"tocsin/1/chunk" + le(8) + le(number) + le(8) + le(last)
        return AESGCM(HKDFExpand(hashes.SHA256(), 32, name).derive(KEY)).encrypt(bytes(12), text, name)

    first, second = plain(CHUNK_BYTES), b"the end"
    assert list(seal_chunks(KEY, [first, second])) == [chunk(0, 0, first), chunk(1, 1, second)]
    assert list(seal_chunks(KEY, [])) == [chunk(0, 1, b"")]


THREE = [plain(CHUNK_BYTES), plain(CHUNK_BYTES + 1)[1:], b"the end"]
SIZE = 2 * CHUNK_BYTES + 7
BENT: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "reordered": lambda c: [c[1], c[0], c[2]],
    "the last left out": lambda c: c[:2],
    "the first left out": lambda c: c[1:],
    "one repeated": lambda c: [c[0], c[0], c[2]],
    "one too many": lambda c: [*c, c[2]],
    "a bit flipped": lambda c: [c[0], bytes([c[1][0] ^ 1]) + c[1][1:], c[2]],
    "the last cut": lambda c: [c[0], c[1], c[2][:-1]],
    "one of another file": lambda c: [c[0], list(seal_chunks(bytes(32), THREE))[1], c[2]],
    "nothing": lambda c: [],
}


@pytest.mark.parametrize("what", BENT)
def test_bent_chunks_are_refused(what: str) -> None:
    chunks = list(seal_chunks(KEY, THREE))
    assert b"".join(open_chunks(KEY, SIZE, chunks)) == b"".join(THREE)
    with pytest.raises(AttachmentError):
        list(open_chunks(KEY, SIZE, BENT[what](chunks)))


def test_each_check_bites(monkeypatch: pytest.MonkeyPatch) -> None:
    def bare(key: bytes, number: int, *, last: bool) -> tuple[bytes, bytes]:
        return suite.hkdf_expand(key, name(number, last=last), 32), b""

    # Without the number in the key chunks can change places; without the mark of the last one a file ends early.
    monkeypatch.setattr(attachment, "_chunk_key", bare)
    name = lambda number, *, last: bytes([last])  # noqa: E731
    chunks = list(seal_chunks(KEY, THREE))
    assert next(open_chunks(KEY, SIZE, BENT["reordered"](chunks))) == THREE[1]
    name = lambda number, *, last: bytes([number])  # noqa: E731
    chunks = list(seal_chunks(KEY, THREE))
    assert list(open_chunks(KEY, 2 * CHUNK_BYTES, chunks[:2])) == THREE[:2]


def test_a_shorter_size_than_was_sealed_does_not_open() -> None:
    chunks = list(seal_chunks(KEY, THREE))
    with pytest.raises(AttachmentError):
        list(open_chunks(KEY, 2 * CHUNK_BYTES, chunks[:2]))


@pytest.mark.parametrize(
    "other", [{"key": bytes(32)}, {"digest": bytes(32)}, {"size": 5}, {"key": b""}, {"size": 1 << 40}]
)
def test_another_key_digest_or_size_gives_no_file(tmp_path: Path, other: dict[str, object]) -> None:
    source, made = sealed(tmp_path, 3 * CHUNK_BYTES)
    with pytest.raises(AttachmentError):
        reopen(source, made, tmp_path / "out", **other)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.new").exists()


def test_a_swapped_file_gives_no_file(tmp_path: Path) -> None:
    _, made = sealed(tmp_path, 3 * CHUNK_BYTES)
    (tmp_path / "b").mkdir()
    other, _ = sealed(tmp_path / "b", 3 * CHUNK_BYTES)
    with pytest.raises(AttachmentError):
        reopen(other, made, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_seals_share_nothing(tmp_path: Path) -> None:
    _, one = sealed(tmp_path, 100)
    _, two = sealed(tmp_path, 100)
    assert one.key != two.key
    assert one.digest != two.digest
    assert one.key.hex() not in repr(one)


def test_a_file_too_long_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(attachment.MAX_BYTES + 1)
    with pytest.raises(AttachmentError):
        seal_file(tmp_path / "huge", tmp_path / "sealed")
    assert not (tmp_path / "sealed").exists()


def test_memory_is_bounded(tmp_path: Path) -> None:
    size = 64 * 1024 * 1024
    with (tmp_path / "plain").open("wb") as file:
        file.truncate(size)
    tracemalloc.start()
    made = seal_file(tmp_path / "plain", tmp_path / "sealed")
    open_file(tmp_path / "sealed", tmp_path / "out", digest=made.digest, key=made.key, size=made.size)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "out").stat().st_size == size
    assert peak < 20 * SEALED_BYTES
