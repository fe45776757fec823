"""The bytes of a pouch: a manifest that names every part by length and digest, then the parts (PROTOCOL.md section 14.1).

Nothing here is believed: what a part says is checked where it is taken, by the rules of live traffic. The digests find
damage, so that a bad part is named and the others are not lost with it.
"""

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from exchange.errors import PouchError
from exchange.v1 import pouch_pb2 as pb
from keys.encoding import canonical_bytes, digest, le64, parse_canonical
from keys.errors import NotCanonicalError

MAGIC: Final = b"tocsin/1/pouch\n"
HEAD_BYTES: Final = len(MAGIC) + 8 + 32
MAX_PARTS: Final = 100_000
MAX_MANIFEST_BYTES: Final = 16 * 1024 * 1024
# An entry is an envelope or document of at most 1,000,000 bytes with a proof of at most 64 hashes around it.
MAX_PART_BYTES: Final = 1_010_000
FIRST: Final = pb.PART_KIND_DOCUMENT


@dataclass(frozen=True, slots=True)
class ReadPart:
    """A part as it came. `fault` says why its bytes are not there; `number` counts from 1."""

    number: int
    kind: int
    data: bytes
    fault: str = ""


def name_of(kind: int) -> str:
    """A kind of part, in a word."""
    return pb.PartKind.Name(pb.PartKind.ValueType(kind)).removeprefix("PART_KIND_").lower()


def write(path: Path, manifest: pb.Manifest, parts: Iterable[tuple[int, bytes]]) -> pb.Manifest:
    """Write a pouch in one step: no half pouch ever has its name. Returns the manifest with its parts.

    Args:
        path: Replaced if it exists.
        manifest: All but `parts` and `total`.
        parts: (kind, bytes), documents first; read once, so that they may come from a log of any length.

    Raises:
        PouchError: More or larger parts than a pouch holds.
        OSError: The disk.
    """
    whole = pb.Manifest()
    whole.CopyFrom(manifest)
    with tempfile.TemporaryFile(dir=path.parent) as spool:
        for kind, data in parts:
            if len(whole.parts) >= MAX_PARTS or len(data) > MAX_PART_BYTES:
                raise PouchError(f"a pouch holds {MAX_PARTS} parts of {MAX_PART_BYTES} bytes at most")
            whole.parts.add(kind=pb.PartKind.ValueType(kind), length=len(data), digest=digest(data))
            whole.total += len(data)
            spool.write(data)
        spool.seek(0)
        head = canonical_bytes(whole)
        fresh = path.with_name(path.name + ".new")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(MAGIC + le64(len(head)) + digest(head) + head)
            shutil.copyfileobj(spool, file, MAX_PART_BYTES)
            file.flush()
            os.fsync(file.fileno())
    fresh.replace(path)
    return whole


def read_manifest(file: BinaryIO) -> pb.Manifest:
    """The manifest at the start of a pouch.

    Raises:
        PouchError: It is no pouch, or its manifest is damaged: then nothing can be told of its parts.
    """
    file.seek(0)
    head = file.read(HEAD_BYTES)
    if len(head) < HEAD_BYTES or not head.startswith(MAGIC):
        raise PouchError("the file is no pouch of this version")
    length = int.from_bytes(head[len(MAGIC) : len(MAGIC) + 8], "little")
    if length > MAX_MANIFEST_BYTES:
        raise PouchError(f"a manifest of {length} bytes; at most {MAX_MANIFEST_BYTES}")
    data = file.read(length)
    if digest(data) != head[-32:]:
        raise PouchError("the manifest is damaged or cut off", hint="ask for the file again: nothing of it can be told")
    try:
        manifest = parse_canonical(pb.Manifest, data)
    except NotCanonicalError as error:
        raise PouchError(str(error)) from None
    _check(manifest)
    return manifest


def _check(manifest: pb.Manifest) -> None:
    kinds = [part.kind for part in manifest.parts]
    if len(kinds) > MAX_PARTS or len(manifest.lineage) != 32:
        raise PouchError(f"a pouch holds {MAX_PARTS} parts at most, of one lineage")
    if any(len(part.digest) != 32 or part.length > MAX_PART_BYTES for part in manifest.parts):
        raise PouchError(f"a part has a digest of 32 bytes and at most {MAX_PART_BYTES} bytes")
    if any(kind not in pb.PartKind.values() or not kind for kind in kinds):
        raise PouchError("a part of a kind this version does not know: needs version 2")
    if [kind == FIRST for kind in kinds] != sorted((kind == FIRST for kind in kinds), reverse=True):
        raise PouchError("documents come first in a pouch")
    if sum(part.length for part in manifest.parts) != manifest.total:
        raise PouchError("the parts are not as long together as the manifest says")


def read_parts(file: BinaryIO, manifest: pb.Manifest) -> Iterator[ReadPart]:
    """Every part in its order, one at a time in memory; a damaged or missing one has a fault, and the next goes on."""
    at = HEAD_BYTES + manifest.ByteSize()
    for number, part in enumerate(manifest.parts, 1):
        file.seek(at)
        data = file.read(part.length)
        at += part.length
        if len(data) < part.length:
            yield ReadPart(number, part.kind, b"", f"cut off after {len(data)} of {part.length} bytes")
        elif digest(data) != part.digest:
            yield ReadPart(number, part.kind, b"", "damaged: its digest is another")
        else:
            yield ReadPart(number, part.kind, data)
