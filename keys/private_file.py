"""A file of secrets: read by its owner alone, replaced whole through a power cut, what it held before overwritten."""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from keys.errors import KeystoreError

_MAX_WIPED_BYTES: Final = 16 * 1024 * 1024
_READ_AGAIN: Final = 100


def read(file: Path, limit: int) -> bytes:
    """The bytes of a file that only its owner can read, at most `limit`.

    Raises:
        KeystoreError: No such file, a longer one, or one that others have rights on.
    """
    for _ in range(_READ_AGAIN):
        try:
            descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            raise KeystoreError(f"cannot read {file}: {error.strerror}") from None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise KeystoreError(f"{file} is not a file")
            if status.st_mode & 0o077:
                raise KeystoreError(f"other users have rights on {file}", hint=f"chmod 600 {file}")
            with os.fdopen(descriptor, "rb", closefd=False) as stream:
                data = stream.read(limit + 1)
            replaced = not os.fstat(descriptor).st_nlink
        finally:
            os.close(descriptor)
        if len(data) > limit:
            raise KeystoreError(f"{file} is longer than {limit} bytes")
        # Another process replaced it meanwhile, and may have begun to wipe what we read.
        if not replaced:
            return data
    raise KeystoreError(f"{file} is replaced again and again", hint="find out which program writes it")


def replace(file: Path, data: bytes) -> None:
    """Put `data` in the place of `file`, whole or not at all, through a power cut. The lock is held.

    What stood there is overwritten once the new file is safe: it holds secrets that may have been deleted.

    Raises:
        KeystoreError: It cannot be written.
    """
    fresh = file.with_name(file.name + ".new")
    try:
        with _wiping(fresh):
            fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            _write(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        with _wiping(file):
            fresh.replace(file)
            directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
    except OSError as error:
        raise KeystoreError(
            f"cannot write {file}: {error.strerror}", hint="what was there before is still there"
        ) from None


@contextmanager
def _wiping(file: Path) -> Iterator[None]:
    """Overwrite the blocks of a file that the block removes from its directory, if nothing else links to it.

    A file system that writes elsewhere, and a flash disk, keep them all the same: this is the most a program can do.
    """
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        yield
        return
    try:
        yield
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and not status.st_nlink:
            # A disk that fails here has the new file already; nothing is left to report.
            with suppress(OSError):
                _write(descriptor, bytes(min(status.st_size, _MAX_WIPED_BYTES)))
                os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """One writer at a time, among processes and threads. A file of its own, because the keystore's inode changes."""
    try:
        descriptor = os.open(
            file.with_name(file.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
    except OSError as error:
        raise KeystoreError(f"cannot lock {file}: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
