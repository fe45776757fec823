"""Files that travel by hand: documents, bundles, public parts. Written whole or not at all, read within bounds."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from google.protobuf.message import DecodeError

from keys import documents
from keys.documents import Document
from keys.encoding import canonical_bytes
from keys.errors import NotCanonicalError, TocsinError, UsageError
from keys.v1 import documents_pb2 as pb

MAX_BUNDLE_BYTES: Final = 64 * 1024 * 1024


class FileError(TocsinError):
    """The disk does not do what it is asked."""

    status, reason = "FAILED_PRECONDITION", "CEREMONY_FILE"
    hint = "what was there before is still there; make room or use another disk, then run the command again"


def read(path: Path, limit: int = documents.MAX_DOCUMENT_BYTES) -> bytes:
    """The bytes of a file of at most `limit`.

    Raises:
        UsageError: There is none, or it is larger.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(limit + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", hint="check the path") from None
    if len(data) > limit:
        raise UsageError(f"{path} is larger than {limit} bytes", hint="is it the right file?")
    return data


def write(path: Path, data: bytes, *, fresh: bool = True) -> None:
    """Put `data` at `path`, whole or not at all, through a power cut.

    Args:
        path: Where.
        data: All of it.
        fresh: Refuse to replace what is there.

    Raises:
        UsageError: Something is there already.
        FileError: The disk refuses.
    """
    if fresh:
        require_fresh(path)
    # A name of its own for each process: two at once must not write into one file.
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(descriptor)
        temporary.replace(path)
        _sync_directory(path.parent)
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror}") from None


def require_fresh(path: Path) -> None:
    """Refuse to write where something is.

    Raises:
        UsageError: Something is there.
    """
    if path.exists():
        raise UsageError(f"{path} exists already", hint="choose another name with --out, or move the old file away")


def append(path: Path, make: Callable[[bytes], bytes], *, limit: int, whole: Callable[[bytes], bytes]) -> None:
    """Append to a file what `make` answers to its content; one writer at a time.

    Args:
        path: Made when missing.
        make: What to add, given what is there.
        limit: Most bytes the file may have.
        whole: The part of the content that counts; the rest, left by a power cut, is cut off first.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror}") from None
    with os.fdopen(descriptor, "r+b", buffering=0) as stream:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            held = stream.read(limit + 1) or b""
            if len(held) > limit:
                raise UsageError(f"{path} is larger than {limit} bytes", hint="start a new file")
            kept = whole(held)
            added = make(kept)
            stream.truncate(len(kept))
            stream.seek(len(kept))
            stream.write(added)
            os.fsync(descriptor)
            _sync_directory(path.parent)
        except OSError as error:
            raise FileError(f"cannot write {path}: {error.strerror}") from None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time changes `path`: for a command that reads it and writes it again."""
    try:
        descriptor = os.open(
            path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644
        )
    except OSError as error:
        raise FileError(f"cannot lock {path}: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def load(path: Path) -> list[Document]:
    """The documents of a file, unverified: one document, or a bundle of them.

    Raises:
        UsageError: No such file, or it is neither.
    """
    data = read(path, MAX_BUNDLE_BYTES)
    try:
        return [documents.decode(data)]
    except NotCanonicalError:
        pass
    bundle = pb.Bundle()
    try:
        bundle.ParseFromString(data)
        held = [documents.decode(each) for each in bundle.documents]
    except (DecodeError, NotCanonicalError):
        held = []
    if not held:
        raise UsageError(f"{path} is neither a document nor a bundle of them", hint="is it the right file?")
    return held


def load_one(path: Path, type_: str) -> Document:
    """The one document of a file, unverified.

    Raises:
        UsageError: Something else is in it.
    """
    held = load(path)
    if len(held) != 1 or held[0].type != type_:
        what = f"a bundle of {len(held)} documents" if len(held) > 1 else f"{noun(held[0].type)}"
        raise UsageError(f"{path} is {what}, not {noun(type_)}", hint="is it the right file?")
    return held[0]


def save_bundle(path: Path, held: list[Document], *, fresh: bool) -> None:
    """Write documents in an order in which they can be taken."""
    write(path, canonical_bytes(pb.Bundle(documents=[d.encode() for d in held])), fresh=fresh)


def noun(type_: str) -> str:
    """A document type in words: "tocsin/1/party" is "a party document"."""
    name = type_.rpartition("/")[2]
    return {"party": "a party document", "agreement": "an agreement", "annex": "an annex", "card": "a key card"}.get(
        name, f"a {name}"
    )


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
