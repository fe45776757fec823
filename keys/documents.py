"""Signed documents: sign, verify a threshold, say who is missing (docs/PROTOCOL.md section 4). No I/O."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from google.protobuf.message import DecodeError, Message

from keys import suite
from keys.encoding import canonical_bytes, leaf_digest, pae, parse_canonical
from keys.errors import NotCanonicalError, PeerError, SignatureError, UnknownSuiteError, UsageError
from keys.v1 import documents_pb2 as pb

M = TypeVar("M", bound=Message)
BODIES: Final[dict[str, type[Message]]] = {
    "tocsin/1/agreement": pb.Agreement,
    "tocsin/1/party": pb.Party,
    "tocsin/1/roster": pb.Roster,
    "tocsin/1/status": pb.Status,
    "tocsin/1/annex": pb.Annex,
    "tocsin/1/card": pb.KeyCard,
    "tocsin/1/renunciation": pb.Renunciation,
}
# 180 desks with one composite key and its possession proof fit; it bounds what a peer can make us parse.
MAX_DOCUMENT_BYTES: Final = 1_000_000
SIGNATURE_BYTES: Final = 5_000
"""More than any one signature takes."""
MAX_SIGNATURES: Final = 64


class ThresholdError(PeerError):
    """Too few holders signed."""

    status, reason = "FAILED_PRECONDITION", "DOCUMENT_THRESHOLD"
    hint = "have the missing holders sign, then combine the signatures"


@dataclass(frozen=True, slots=True)
class Document:
    """A document as carried: its type, its exact body bytes, its signatures.

    `digest` is its identity: H(0x00 | PAE("tocsin/1/document", type, body)), which is also its log leaf.
    """

    type: str
    body: bytes
    signatures: tuple[tuple[int, bytes, bytes], ...]
    digest: bytes

    def encode(self) -> bytes:
        """The canonical Signed bytes."""
        signed = pb.Signed(type=self.type, body=self.body)
        for suite_id, key, signature in self.signatures:
            signed.signatures.add(suite=suite_id, key=key, signature=signature)
        return canonical_bytes(signed)


@dataclass(frozen=True, slots=True)
class SigningStatus:
    """Who signed, who could still sign, and how many are needed."""

    signed: tuple[str, ...]
    missing: tuple[str, ...]
    threshold: int

    @property
    def complete(self) -> bool:
        """Enough holders signed."""
        return len(self.signed) >= self.threshold


def preimage(type_: str, body: bytes) -> bytes:
    """What is signed."""
    return pae("tocsin/1/document", type_, body)


def document_digest(type_: str, body: bytes) -> bytes:
    """The identity of a document, 32 bytes."""
    return leaf_digest(preimage(type_, body))


def make(message: Message) -> Document:
    """An unsigned document around a body we made.

    Raises:
        UsageError: Too long to be taken by anyone once it is signed.
    """
    type_ = next(name for name, kind in BODIES.items() if type(message) is kind)
    body = canonical_bytes(message)
    _require_size(type_, len(body) + SIGNATURE_BYTES)
    return Document(type_, body, (), document_digest(type_, body))


def sign(document: Document, key: suite.Signer, *, role: str) -> Document:
    """Add a signature; signing twice with one key changes nothing.

    Raises:
        UsageError: With it the document would be too long to be taken.
    """
    identity = suite.key_id(key.suite, role, key.public)
    if any(known == identity for _, known, _ in document.signatures):
        return document
    signature = key.sign(preimage(document.type, document.body), ctx=document.type)
    signed = Document(
        document.type, document.body, (*document.signatures, (key.suite, identity, signature)), document.digest
    )
    _require_size(signed.type, len(signed.encode()))
    return signed


def _require_size(type_: str, size: int) -> None:
    if size > MAX_DOCUMENT_BYTES:
        raise UsageError(
            f"{type_} of {size:,} bytes with its signatures; nobody takes more than {MAX_DOCUMENT_BYTES:,}",
            hint="in a roster each key takes 5,400 bytes: leave out keys that ended, their revocations keep them so; "
            "or let people share a desk",
            size=size,
        )


def decode(data: bytes) -> Document:
    """Read the outer Signed. The body is not parsed: its signatures come first.

    Raises:
        NotCanonicalError: Over MAX_DOCUMENT_BYTES, not a Signed, an unknown type or field, too many signatures.
    """
    if len(data) > MAX_DOCUMENT_BYTES:
        raise NotCanonicalError(f"document of {len(data)} bytes; at most {MAX_DOCUMENT_BYTES}")
    signed = parse_canonical(pb.Signed, data)
    if signed.type not in BODIES:
        raise NotCanonicalError("unknown document type: needs version 2")
    if len(signed.signatures) > MAX_SIGNATURES:
        raise NotCanonicalError(f"{len(signed.signatures)} signatures; at most {MAX_SIGNATURES}")
    signatures = tuple((s.suite, s.key, s.signature) for s in signed.signatures)
    return Document(signed.type, signed.body, signatures, document_digest(signed.type, signed.body))


def body(document: Document, kind: type[M]) -> M:
    """Parse the body; only after its signatures were checked."""
    return parse_canonical(kind, document.body)


def peek(document: Document) -> Message | None:
    """Read an unverified body only to choose which keys to try; None when it does not parse."""
    message = BODIES[document.type]()
    try:
        message.ParseFromString(document.body)
    except DecodeError:
        return None
    return message


def explain(document: Document, keys: Iterable[pb.HolderKey], threshold: int, *, role: str) -> SigningStatus:
    """Which holders of `keys` validly signed; holders count once, however many keys they have.

    Source: docs/PROTOCOL.md section 4.2.
    """
    by_id = {suite.key_id(k.key.suite, role, k.key.key): k for k in keys}
    message = preimage(document.type, document.body)
    signed: set[str] = set()
    for suite_id, identity, signature in document.signatures:
        holder = by_id.get(identity)
        # Key ids are hints only: the key they lead to must verify, under its own suite.
        if holder is None or holder.holder in signed or holder.key.suite != suite_id:
            continue
        try:
            suite.verify(suite_id, holder.key.key, message, signature, ctx=document.type)
        except (SignatureError, UnknownSuiteError):
            continue
        signed.add(holder.holder)
    missing = {k.holder for k in by_id.values()} - signed
    return SigningStatus(tuple(sorted(signed)), tuple(sorted(missing)), threshold)


def require(document: Document, role_keys: pb.RoleKeys, *, role: str) -> None:
    """Refuse a document that fewer than the threshold of distinct holders signed.

    Raises:
        ThresholdError: With who signed and who is missing.
    """
    status = explain(document, role_keys.keys, role_keys.threshold, role=role)
    if role_keys.threshold < 1 or not status.complete:
        raise ThresholdError(
            f"{document.type} has {len(status.signed)} of {status.threshold} needed {role} signatures; "
            f"signed: {_names(status.signed)}; could sign: {_names(status.missing)}",
            signed=_names(status.signed),
            missing=_names(status.missing),
        )


def require_key(document: Document, public: pb.PublicKey, *, role: str) -> None:
    """Refuse a document that is not signed by exactly this key.

    Raises:
        SignatureError: No valid signature by the key.
    """
    require_one = pb.RoleKeys(threshold=1)
    require_one.keys.add(holder=role).key.CopyFrom(public)
    try:
        require(document, require_one, role=role)
    except ThresholdError:
        raise SignatureError(f"{document.type} is not signed by the {role} key it names") from None


def _names(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "nobody"
