"""Large blobs of a log, each written once: appended to files beside the database, which names where each one is.

SQLite would write a blob twice, to its write-ahead log and then to its file. Here a group of blobs is written and
flushed first, then the rows that name them are committed; what a crash leaves behind the last committed blob is
overwritten. A blob is never changed but to wipe it, when the retention rule has dropped it.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from exchange.errors import StoreError

# Smaller ones stay in SQLite: a second flush would cost more than writing them twice.
SEGMENT_MIN: Final = 32_768
SEGMENT_BYTES: Final = 64_000_000
SUFFIX: Final = ".blobs"
ZEROS: Final = bytes(1_000_000)


class Segments:
    """The files of one log; one thread at a time appends, any thread reads.

    Args:
        path: The database; files are `<its name>.<number>.blobs`.
        ends: Committed length of each file, by number.

    Raises:
        StoreError: A file is missing or too short.
        OSError: The disk failed.
    """

    def __init__(self, path: Path, ends: dict[int, int]) -> None:
        self._path = path
        self._current = max(ends, default=0)
        self._end = ends.get(self._current, 0)
        self._pending = (self._current, self._end)
        self._file: int | None = None
        # Goes up before anything is wiped: who read a row before that looks again.
        self.generation = 0
        for number, end in ends.items():
            file = self._name(number)
            if not file.exists() or file.stat().st_size < end:
                raise StoreError(
                    f"{file.name} is missing or too short", hint="restore it with the database, both or none"
                )
        for file in path.parent.glob(f"{path.name}.*{SUFFIX}"):
            # Made just before a crash, and nothing in it was committed.
            if int(file.name.removesuffix(SUFFIX).rpartition(".")[2]) not in ends:
                file.unlink()

    def _name(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number:08d}{SUFFIX}")

    def append(self, blobs: Sequence[bytes]) -> list[tuple[int, int]]:
        """Write blobs and flush them; (file, offset) of each. They do not count before `keep`."""
        if not blobs:
            return []
        if self._end >= SEGMENT_BYTES:
            self._leave()
            self._current, self._end = self._current + 1, 0
        if self._file is None:
            self._file = self._open(self._current)
        places = []
        at = self._end
        for blob in blobs:
            _write(self._file, blob, at)
            places.append((self._current, at))
            at += len(blob)
        os.fdatasync(self._file)
        self._pending = (self._current, at)
        return places

    def keep(self) -> None:
        """What was appended last is named by rows that are durable."""
        self._current, self._end = self._pending

    @property
    def current(self) -> int:
        """The file that grows."""
        return self._current

    @property
    def pending(self) -> tuple[int, int]:
        """(file, length) as of the last append."""
        return self._pending

    def _open(self, number: int) -> int:
        file = self._name(number)
        new = not file.exists()
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if new:
            sync_directory(self._path.parent)
        return descriptor

    def read(self, number: int, start: int, length: int) -> bytes | None:
        """A blob; None when its file is gone, since all in it was dropped."""
        try:
            descriptor = os.open(self._name(number), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            return os.pread(descriptor, length, start)
        finally:
            os.close(descriptor)

    def wipe(self, places: Sequence[tuple[int, int, int]]) -> None:
        """Overwrite (file, offset, length) with zeros, durably."""
        self.generation += 1
        for number in sorted({number for number, _, _ in places}):
            try:
                descriptor = os.open(self._name(number), os.O_WRONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            try:
                for at, start, length in places:
                    if at == number:
                        for done in range(0, length, len(ZEROS)):
                            _write(descriptor, ZEROS[: length - done], start + done)
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)

    def drop(self, number: int) -> None:
        """Remove a file of which nothing is left."""
        self.generation += 1
        self._name(number).unlink(missing_ok=True)

    def _leave(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def close(self) -> None:
        """Release the file that grows."""
        self._leave()


def _write(descriptor: int, data: bytes, at: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(descriptor, memoryview(data)[done:], at + done)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
