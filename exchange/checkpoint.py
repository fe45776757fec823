"""Checkpoints: a log's signed head as a C2SP signed note, and other nodes' cosignatures under it. No I/O.

    tocsin/kr.the-hague-1/1
    42
    <base64 of the root>
    time 1790000000000

    — kr.the-hague-1 <base64 of key hash (4 bytes) | composite signature>

The signature type is 0xff, our own: public C2SP witnesses do not read it. Source: docs/PROTOCOL.md section 8.2; C2SP
signed-note, tlog-checkpoint.
"""

import base64
import binascii
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from exchange.errors import ProofError
from keys import suite
from keys.encoding import digest
from keys.errors import SignatureError

CHECKPOINT: Final = "tocsin/1/checkpoint"
COSIGNATURE: Final = "tocsin/1/cosignature"
# C2SP signed-note asks readers to take at least 16 signatures; ours are some 4,600 bytes a line.
MAX_SIGNATURES: Final = 16
MAX_NOTE_BYTES: Final = 128 * 1024
MAX_NUMBER: Final = 2**62
"""Of a size and a time: what is above 2**63 no disk holds, and above 2**64 no message."""
DASH: Final = "— "


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A parsed note: unverified until `verify` returned it. `time_ms` is the signer's clock, ms UTC."""

    origin: str
    size: int
    root: bytes
    time_ms: int
    text: bytes
    signatures: tuple[tuple[str, bytes, bytes], ...]


def key_hash(name: str, suite_id: int, public: bytes) -> bytes:
    """Four bytes that help to choose a key; type 0xff with our label, as C2SP asks of private types."""
    return digest(name.encode() + b"\n\xfftocsin/1" + bytes([suite_id]) + public)[:4]


def sign(origin: str, size: int, root: bytes, key: suite.Signer, *, name: str, time_ms: int) -> bytes:
    """A signed note."""
    text = f"{origin}\n{size}\n{base64.b64encode(root).decode()}\ntime {time_ms}\n".encode()
    return text + b"\n" + _line(text, key, name, CHECKPOINT)


def sign_also(note: bytes, key: suite.Signer, *, name: str) -> bytes:
    """The note with a line of one more key of the log itself, while one replaces the other."""
    return note + _line(parse(note).text, key, name, CHECKPOINT)


def cosign(note: bytes, key: suite.Signer, *, name: str) -> bytes:
    """The note with one more line: the cosigner saw this history, no more and no less."""
    return note + _line(parse(note).text, key, name, COSIGNATURE)


def _line(text: bytes, key: suite.Signer, name: str, context: str) -> bytes:
    blob = key_hash(name, key.suite, key.public) + key.sign(text, ctx=context)
    return f"{DASH}{name} {base64.b64encode(blob).decode()}\n".encode()


def only(note: bytes, signers: Collection[tuple[str, bytes]]) -> bytes:
    """The note with the signature lines of these signers alone, one of each; `signers` are (name, key hash)."""
    parsed = parse(note)
    lines: dict[tuple[str, bytes], bytes] = {}
    for (name, hint, _), line in zip(parsed.signatures, _lines(note), strict=True):
        lines.setdefault((name, hint), line)
    return parsed.text + b"\n" + b"".join(line for signer, line in lines.items() if signer in signers)


def join(note: bytes, others: Iterable[bytes]) -> bytes:
    """The note with the signature lines that stand under the same text in other notes; none is verified."""
    text = parse(note).text
    lines = dict.fromkeys(_lines(note))
    for other in others:
        if parse(other).text == text:
            lines.update(dict.fromkeys(_lines(other)))
    return text + b"\n" + b"".join(list(lines)[:MAX_SIGNATURES])


def _lines(note: bytes) -> list[bytes]:
    return note[len(parse(note).text) + 1 :].splitlines(keepends=True)


def parse(note: bytes) -> Checkpoint:
    """Read a note; nothing is verified.

    Raises:
        ProofError: Not a checkpoint note of ours.
    """
    if len(note) > MAX_NOTE_BYTES:
        raise ProofError("the checkpoint is too long")
    try:
        text, _, rest = note.decode().rpartition("\n\n")
        origin, size, root, time = text.split("\n")
        lines = rest.splitlines()
        signatures = tuple(_parse_line(line) for line in lines)
        parsed = Checkpoint(
            origin,
            int(size),
            base64.b64decode(root, validate=True),
            int(time.removeprefix("time ")),
            (text + "\n").encode(),
            signatures,
        )
    except (ValueError, binascii.Error):
        raise ProofError("the bytes are no checkpoint") from None
    canonical = f"{parsed.origin}\n{parsed.size}\n{base64.b64encode(parsed.root).decode()}\ntime {parsed.time_ms}\n"
    # One text for one head: no signs, spaces or leading zeros that another reader would take differently.
    if canonical.encode() != parsed.text or len(parsed.root) != 32:
        raise ProofError("the checkpoint is not in its one form")
    if not (0 <= parsed.size <= MAX_NUMBER and 0 <= parsed.time_ms <= MAX_NUMBER):
        raise ProofError("size and time of a checkpoint go from 0 to 2**62")
    if not 1 <= len(signatures) <= MAX_SIGNATURES or not rest.endswith("\n"):
        raise ProofError(f"a checkpoint has 1 to {MAX_SIGNATURES} signature lines")
    return parsed


def _parse_line(line: str) -> tuple[str, bytes, bytes]:
    if not line.startswith(DASH):
        raise ValueError
    name, blob = line.removeprefix(DASH).split(" ")
    raw = base64.b64decode(blob, validate=True)
    return name, raw[:4], raw[4:]


def verify(note: bytes, suite_id: int, public: bytes, *, name: str) -> Checkpoint:
    """A checkpoint that the log's key signed.

    Raises:
        ProofError: It did not.
    """
    return _verify(note, suite_id, public, name, CHECKPOINT)


def verify_any(note: bytes, keys: Iterable[tuple[int, bytes]], *, name: str, context: str = CHECKPOINT) -> Checkpoint:
    """A checkpoint that one of a node's keys signed; `keys` are (suite, public key), `context` COSIGNATURE of a witness.

    Raises:
        ProofError: None of them did.
    """
    for suite_id, public in keys:
        try:
            return _verify(note, suite_id, public, name, context)
        except ProofError:
            continue
    raise ProofError(f"the checkpoint is not signed by {name}", signer=name)


def verify_cosignature(note: bytes, suite_id: int, public: bytes, *, name: str) -> Checkpoint:
    """A checkpoint that a witness cosigned.

    Raises:
        ProofError: It did not.
    """
    return _verify(note, suite_id, public, name, COSIGNATURE)


def _verify(note: bytes, suite_id: int, public: bytes, name: str, context: str) -> Checkpoint:
    parsed = parse(note)
    wanted = key_hash(name, suite_id, public)
    for signer, hint, signature in parsed.signatures:
        if signer != name or hint != wanted:
            continue
        try:
            suite.verify(suite_id, public, parsed.text, signature, ctx=context)
        except SignatureError:
            continue
        return parsed
    raise ProofError(f"the checkpoint is not signed by {name}", signer=name)
