"""Panic: the mission is about to be seized. The desk ends its own keys by a document, then destroys every secret it has.

No ministry is needed and no network: the renunciation is written first, to be carried or pushed by anyone, and it is
taken at once wherever it arrives (docs/PROTOCOL.md section 4.4). Source: docs/OPERATIONS.md, "Compromise".
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from secrets import token_bytes
from typing import Final

from keys import desk_keys, documents, signer, suite
from keys.documents import Document
from keys.keystore import Keystore, KeystoreError
from keys.v1 import documents_pb2 as pb

MAX_REASON_CHARS: Final = 200
LIMITS: Final = (
    "a flash disk, a file system that writes elsewhere, a snapshot or a backup may keep what was overwritten: whoever"
    " takes the disk and the passphrase (or its key file) may find it; destroy the disk if there is time",
    "a process that has the keystore open keeps its secrets in memory until it ends: switch the machine off",
    "what was opened before on this machine stays wherever it was shown, printed or exported",
    "until the renunciation arrives, others seal to this desk and believe its key: send it by every way there is",
)
"""What overwriting cannot do, for whoever has to decide quickly."""


class DestroyError(KeystoreError):
    """Not every secret file could be destroyed."""

    hint = "destroy the disk; the renunciation is still good"


@dataclass(frozen=True, slots=True)
class Panicked:
    """What was done: the renunciations (saved before anything was destroyed) and the files that are gone."""

    renunciations: tuple[Document, ...]
    destroyed: tuple[Path, ...]


def renounce(store: Keystore, desk: str, *, lineage: bytes, now_ms: int, reason: str) -> tuple[Document, ...]:
    """A renunciation of each signing key of the desk, signed by that key; also of one no roster lists yet.

    Raises:
        KeystoreError: It holds no signing key.
    """
    made = []
    for identity, name in sorted(desk_keys.names(store).items()):
        key = signer.load(store, name, suite.DESK_SUITE)
        body = pb.Renunciation(
            lineage=lineage, desk=desk, key=identity, time_ms=now_ms, reason=reason[:MAX_REASON_CHARS]
        )
        made.append(documents.sign(documents.make(body), key, role="desk"))
    if not made:
        raise KeystoreError("the keystore holds no signing key of a desk", hint="is it the right keystore?")
    return tuple(made)


def panic(
    path: Path,
    passphrase: bytes,
    desk: str,
    *,
    lineage: bytes,
    now_ms: int,
    reason: str,
    save: Callable[[tuple[Document, ...]], None],
) -> Panicked:
    """Renounce, save, destroy; in that order, so that a loss of power leaves a desk that can do it again.

    Args:
        path: The desk's keystore.
        passphrase: Opens it; empty for one with a key file.
        desk: Its name.
        lineage: Of the exchange, 32 bytes.
        now_ms: ms UTC.
        reason: For people; everybody reads it.
        save: Puts the renunciations on stable storage elsewhere; what it raises stops everything.

    Raises:
        KeystoreError: It does not open: nothing is destroyed (see `destroy`).
        DestroyError: Something is left.
    """
    with Keystore.open(path, passphrase) as store:
        renunciations = renounce(store, desk, lineage=lineage, now_ms=now_ms, reason=reason)
    save(renunciations)
    return Panicked(renunciations, destroy(path))


def destroy(path: Path) -> tuple[Path, ...]:
    """Overwrite and remove a keystore and its key file; what is not there is no fault. It opens never again.

    Raises:
        DestroyError: A file is left, after all the others were tried.
    """
    file = path.resolve()
    # The key file first: it is small, and without it the rest is noise.
    victims = [file.with_name(file.name + ending) for ending in (".key", ".key.new", "", ".new")]
    destroyed, left = [], []
    for victim in victims:
        try:
            if _overwrite(victim):
                destroyed.append(victim)
        except OSError as error:
            left.append(f"{victim}: {error.strerror}")
    _sync(file.parent)
    if left:
        raise DestroyError(f"not destroyed: {'; '.join(left)}")
    return tuple(destroyed)


def _overwrite(file: Path) -> bool:
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        rest = memoryview(token_bytes(os.fstat(descriptor).st_size))
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
        # Unlinked even if it could not be overwritten: the next best.
        file.unlink()
    return True


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
