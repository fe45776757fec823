"""Bytes: pre-authentication encoding, digests, and the canonical protobuf form (docs/PROTOCOL.md section 2)."""

import hashlib
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from keys.errors import NotCanonicalError

M = TypeVar("M", bound=Message)


def le64(value: int) -> bytes:
    """Eight bytes, little endian."""
    return value.to_bytes(8, "little")


def pae(*parts: bytes | str | int) -> bytes:
    """Pre-authentication encoding: le64(n), then le64(length) and bytes of each part.

    Strings are UTF-8, integers le64. No two different part lists share an encoding.

    Source: docs/PROTOCOL.md section 2.1.
    """
    out = [le64(len(parts))]
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode() if isinstance(part, str) else le64(part)
        out.append(le64(len(data)))
        out.append(data)
    return b"".join(out)


def digest(data: bytes) -> bytes:
    """SHA-256, 32 bytes: H of docs/PROTOCOL.md."""
    return hashlib.sha256(data).digest()


def leaf_digest(data: bytes) -> bytes:
    """H(0x00 | data): the RFC 6962 leaf hash, which is the identity of envelopes and documents."""
    return hashlib.sha256(b"\x00" + data).digest()


def canonical_bytes(message: Message) -> bytes:
    """The canonical encoding of a message we made: ascending fields, minimal varints, defaults omitted."""
    return message.SerializeToString(deterministic=True)


def parse_canonical(kind: type[M], data: bytes) -> M:
    """Parse bytes that must be the canonical encoding of `kind`.

    Call it only on bytes whose signature has been checked (docs/PROTOCOL.md section 2.3).

    Raises:
        NotCanonicalError: Bytes that do not parse, unknown fields, or any other encoding of the same content.
    """
    name = kind.DESCRIPTOR.full_name
    message = kind()
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise NotCanonicalError(f"bytes are not a {name}", message=name) from None
    # Dropping what we do not know and encoding again refuses unknown, duplicate, out-of-order and padded fields at once.
    message.DiscardUnknownFields()
    if message.SerializeToString(deterministic=True) != data:
        raise NotCanonicalError(
            f"{name} is not in canonical form or has fields this version does not know: needs version 2", message=name
        )
    return message
