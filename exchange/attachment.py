"""Attachments: a file of up to 1 GiB sealed in chunks, for which a report carries digest and key (PROTOCOL.md section 15).

Bounded memory both ways. A chunk's key comes from the file's key, the chunk's number and whether it is the last, so
no chunk can be moved, left out, repeated, or taken from another file, and a file cannot end early unseen. No I/O of
its own: bytes come in and go out by iterators; `seal_file` and `open_file` join them to files.
"""

import contextlib
import hashlib
import hmac
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from exchange.errors import AttachmentError
from keys import suite
from keys.encoding import pae
from keys.errors import OpenError

CHUNK_BYTES: Final = 65_536
TAG_BYTES: Final = 16
SEALED_BYTES: Final = CHUNK_BYTES + TAG_BYTES
MAX_BYTES: Final = 1024 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Sealed:
    """What a report says of an attachment: digest of the sealed bytes, key, length of the plain ones."""

    digest: bytes
    size: int
    key: bytes = field(repr=False)


def sealed_size(size: int) -> int:
    """Length of the sealed bytes, from the plain length."""
    return size + TAG_BYTES * chunks_of(size)


def chunks_of(size: int) -> int:
    """Number of chunks; an empty file has one, so that it has an end too."""
    return max(1, -(-size // CHUNK_BYTES))


def seal_chunks(key: bytes, texts: Iterable[bytes]) -> Iterator[bytes]:
    """Seal chunks of a file in order.

    Args:
        key: 32 bytes that never sealed a file before.
        texts: All of CHUNK_BYTES but the last, which may be shorter, and is empty only if it is the only one.
    """
    held: bytes | None = None
    number = 0
    for text in texts:
        if held is not None:
            yield _seal(key, number, held, last=False)
            number += 1
        held = text
    yield _seal(key, number, held or b"", last=True)


def open_chunks(key: bytes, size: int, sealed: Iterable[bytes]) -> Iterator[bytes]:
    """Open sealed chunks in order; what was given is true even if a later one is not.

    Args:
        key: From the report.
        size: Plain length from the report: says which chunk is the last.
        sealed: All of SEALED_BYTES but the last.

    Raises:
        AttachmentError: A chunk is altered, moved, missing or too many.
    """
    last = chunks_of(size) - 1
    number = -1
    for number, chunk in enumerate(sealed):
        wanted = SEALED_BYTES if number < last else size - last * CHUNK_BYTES + TAG_BYTES
        if number > last or len(chunk) != wanted:
            raise AttachmentError(f"chunk {number} has {len(chunk)} bytes where the report leaves {wanted}")
        yield _open(key, number, chunk, last=number == last)
    if number != last:
        raise AttachmentError(f"the attachment ends after {number + 1} of {last + 1} chunks")


def _chunk_key(key: bytes, number: int, *, last: bool) -> tuple[bytes, bytes]:
    name = pae("tocsin/1/chunk", number, int(last))
    return suite.hkdf_expand(key, name, 32), name


def _seal(key: bytes, number: int, text: bytes, *, last: bool) -> bytes:
    chunk_key, name = _chunk_key(key, number, last=last)
    return suite.aead_seal(chunk_key, text, name)


def _open(key: bytes, number: int, chunk: bytes, *, last: bool) -> bytes:
    chunk_key, name = _chunk_key(key, number, last=last)
    try:
        return suite.aead_open(chunk_key, chunk, name)
    except OpenError:
        raise AttachmentError(f"chunk {number} of the attachment does not open") from None


def pieces(file: BinaryIO, length: int) -> Iterator[bytes]:
    """A file in pieces of `length` bytes, the last one shorter; none for an empty file."""
    while piece := file.read(length):
        yield piece


def seal_file(source: Path, target: Path) -> Sealed:
    """Seal a file under a new key; the target appears whole or not at all.

    Raises:
        AttachmentError: Longer than MAX_BYTES.
        OSError: The disk.
    """
    key, hashed, size = os.urandom(32), hashlib.sha256(), 0
    with source.open("rb") as plain, _whole(target) as out:
        if os.fstat(plain.fileno()).st_size > MAX_BYTES:
            raise AttachmentError(f"{source.name} is longer than {MAX_BYTES} bytes")
        for chunk in seal_chunks(key, _counted(pieces(plain, CHUNK_BYTES))):
            hashed.update(chunk)
            size += len(chunk) - TAG_BYTES
            out.write(chunk)
    return Sealed(hashed.digest(), size, key)


def _counted(texts: Iterable[bytes]) -> Iterator[bytes]:
    """A file may grow while it is read."""
    size = 0
    for text in texts:
        size += len(text)
        if size > MAX_BYTES:
            raise AttachmentError(f"the file is longer than {MAX_BYTES} bytes")
        yield text


def open_file(source: Path, target: Path, *, digest: bytes, key: bytes, size: int) -> None:
    """Open a sealed file; the target appears only when all of it was checked.

    Args:
        source: The sealed bytes.
        target: Replaced in one step.
        digest: From the report, as are `key` and `size`.
        key: 32 bytes.
        size: Plain length in bytes.

    Raises:
        AttachmentError: Not the file the report names, or a part of it is altered.
        OSError: The disk.
    """
    if not 0 <= size <= MAX_BYTES or len(key) != 32:
        raise AttachmentError(f"an attachment has a key of 32 bytes and at most {MAX_BYTES} bytes")
    hashed = hashlib.sha256()

    def hashing(sealed: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in sealed:
            hashed.update(chunk)
            yield chunk

    with source.open("rb") as file, _whole(target) as out:
        if os.fstat(file.fileno()).st_size != sealed_size(size):
            raise AttachmentError("the sealed file is not as long as the report says")
        for text in open_chunks(key, size, hashing(pieces(file, SEALED_BYTES))):
            out.write(text)
        if not hmac.compare_digest(hashed.digest(), digest):
            raise AttachmentError("the sealed file is not the one the report names")


def digest_of(path: Path) -> bytes:
    """SHA-256 of a sealed file, its name everywhere."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


@contextlib.contextmanager
def _whole(target: Path) -> Iterator[BinaryIO]:
    """A file that gets its name when the block ends well, and is durable then."""
    fresh = target.with_name(target.name + ".new")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(target)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
