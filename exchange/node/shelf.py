"""The shelf: sealed attachments on a node's disk, by digest, in pieces until they are whole; a quota for all and for each desk.

The node holds no key to them. What is on the shelf is known by its file names alone, so nothing must agree with a
database: `<digest>-<owner>` is whole, `<digest>-<owner>-<size>.part` is not. Everything here blocks.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from exchange import attachment, files
from exchange.errors import AttachmentError, LimitError
from keys.encoding import digest as hash_of

MAX_SEALED_BYTES: Final = attachment.sealed_size(attachment.MAX_BYTES)
# One desk cannot use up what is there for all.
SHARE: Final = 4
OWNER_CHARS: Final = 16
PART: Final = ".part"


@dataclass(frozen=True, slots=True)
class Held:
    """How much of an attachment is here: `size` bytes in all, 0 when nothing is known of it."""

    bytes: int
    size: int

    @property
    def whole(self) -> bool:
        """All of it, its digest checked."""
        return self.size > 0 and self.bytes == self.size


@dataclass(frozen=True, slots=True)
class _Item:
    path: Path
    digest: str
    owner: str
    size: int
    whole: bool


class Shelf:
    """A directory of attachments.

    Args:
        directory: Made if absent, 0700.
        limit_bytes: Room for all, promised bytes of unfinished ones included.
        keep_ms: How long one stays after it was last written to or asked for.
    """

    def __init__(self, directory: Path, *, limit_bytes: int, keep_ms: int) -> None:
        self._directory = files.private_directory(directory)
        self._limit_bytes, self._keep_ms = limit_bytes, keep_ms

    def held(self, digest: bytes) -> Held:
        """How much of one is here."""
        item = self._find(digest)
        if item is None:
            return Held(0, 0)
        return Held(item.size if item.whole else item.path.stat().st_size, item.size)

    def begin(self, digest: bytes, size: int, *, owner: str) -> Held:
        """Make room for one; how much of it is here already.

        Raises:
            AttachmentError: A digest or size that none can have.
            LimitError: No room.
        """
        if len(digest) != 32 or not attachment.TAG_BYTES <= size <= MAX_SEALED_BYTES:
            raise AttachmentError(f"an attachment has a digest of 32 bytes and at most {MAX_SEALED_BYTES} sealed bytes")
        found = self.held(digest)
        if found.size:
            if found.size != size:
                raise AttachmentError(f"this attachment is {found.size} bytes long, not {size}")
            return found
        name, items = _owner(owner), self._items()
        used, own = sum(item.size for item in items), sum(item.size for item in items if item.owner == name)
        if used + size > self._limit_bytes or own + size > self._limit_bytes // SHARE:
            raise LimitError(
                "no room for this attachment", hint="ask the operator of the node, or wait until others go"
            )
        (self._directory / f"{digest.hex()}-{name}-{size}{PART}").touch(mode=0o600)
        return Held(0, size)

    def append(self, digest: bytes, offset: int, data: bytes) -> Held:
        """Add what follows; the last piece makes it whole, durably, if the digest is right.

        Raises:
            AttachmentError: A piece that does not follow, too many bytes, or, at the end, other bytes than named: they go.
        """
        item = self._find(digest)
        if item is None:
            raise AttachmentError("no room was made for this attachment")
        if item.whole:
            return Held(item.size, item.size)
        have = item.path.stat().st_size
        if offset != have or have + len(data) > item.size:
            raise AttachmentError(f"a piece at {offset} does not follow the {have} bytes of {item.size} held")
        with item.path.open("ab") as file:
            file.write(data)
            if have + len(data) < item.size:
                return Held(have + len(data), item.size)
            file.flush()
            os.fsync(file.fileno())
        if attachment.digest_of(item.path) != digest:
            item.path.unlink()
            raise AttachmentError("the bytes are not those of the digest")
        item.path.replace(self._directory / f"{item.digest}-{item.owner}")
        return Held(item.size, item.size)

    def read(self, digest: bytes, offset: int, length: int) -> bytes:
        """Bytes of one that is whole.

        Raises:
            AttachmentError: It is not here, or not whole.
        """
        item = self._find(digest)
        if item is None or not item.whole:
            raise AttachmentError("the attachment is not here", hint="ask again later: its sender's node may have it")
        if offset == 0:
            os.utime(item.path)
        with item.path.open("rb") as file:
            file.seek(offset)
            return file.read(length)

    def tidy(self, now_ms: int) -> int:
        """Drop what nobody wrote to or asked for within the time kept; returns how many."""
        old = [i for i in self._items() if i.path.stat().st_mtime * 1000 + self._keep_ms < now_ms]
        for item in old:
            item.path.unlink(missing_ok=True)
        return len(old)

    def _find(self, digest: bytes) -> _Item | None:
        return next((i for p in self._directory.glob(f"{digest.hex()}-*") if (i := _item(p))), None)

    def _items(self) -> list[_Item]:
        return [item for path in self._directory.iterdir() if (item := _item(path))]


def _owner(name: str) -> str:
    return hash_of(name.encode()).hex()[:OWNER_CHARS]


def _item(path: Path) -> _Item | None:
    whole = path.suffix != PART
    parts = path.name.removesuffix(PART).split("-")
    if len(parts) != (2 if whole else 3):
        return None
    try:
        return _Item(path, parts[0], parts[1], path.stat().st_size if whole else int(parts[2]), whole)
    except (FileNotFoundError, ValueError):
        # It became whole, or went, a moment ago.
        return None
