"""Envelopes: seal, parse, verify, open (docs/PROTOCOL.md section 5). No I/O, no policy: bytes and keys in, bytes out.

Nonces and keys are drawn inside `seal` and are never a parameter. Nothing secret is used on bytes whose signature
has not been checked: `open_envelope` takes a `Checked`, which only `check` makes.
"""

import hmac
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from google.protobuf.message import DecodeError

from exchange.errors import CourierError, EnvelopeError
from exchange.merkle import root_of
from exchange.v1 import envelope_pb2 as pb
from keys import courier as courier_keys
from keys import suite
from keys.encoding import canonical_bytes, digest, le64, leaf_digest, pae, parse_canonical
from keys.errors import NotCanonicalError, OpenError, UsageError

MAX_ENVELOPE_BYTES: Final = 1_000_000
MAX_ITEMS: Final = 1024
MAX_AUDIENCE: Final = 512
MAX_HEADER_BYTES: Final = 64 * 1024
MAX_SEQ: Final = 2**62
"""SQLite holds no more than 2**63 - 1: a greater number in one envelope would fail everything that is written with it."""
MIN_PADDED: Final = 4096
TAG_BYTES: Final = 16
CONTEXT: Final = "tocsin/1/envelope"
SALT_BYTES: Final = 16
# What the leaves of all items start with; a leaf is made for every report at both ends.
_LEAF_HEAD: Final = b"\x00" + pae("tocsin/1/item", bytes(SALT_BYTES), b"")[: -SALT_BYTES - 8]


@dataclass(frozen=True, slots=True)
class Parsed:
    """The outside of an envelope, unverified. `id` is its identity and log leaf, 32 bytes."""

    data: bytes
    outer: pb.Envelope
    id: bytes


@dataclass(frozen=True, slots=True)
class Shell(Parsed):
    """The outside of an envelope without its wraps and ciphertext, as it is passed on with single items: it opens nothing."""

    ciphertext_length: int


@dataclass(frozen=True, slots=True)
class Sealed(Parsed):
    """An envelope we made. `salt_seed` (32 bytes) gives the salts that evidence needs; it opens nothing.

    Kept as secret as the items: with it, an item can be guessed from its leaf. `prk` (32 bytes) opens the envelope again
    (`reopen`), so that who may have to seal the items anew need not keep them a second time.
    """

    salt_seed: bytes = field(repr=False)
    prk: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Opened:
    """What an envelope holds: the carried bytes of its items, in order, and their salt seed (see `Sealed`)."""

    items: tuple[bytes, ...] = field(repr=False)
    salt_seed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Checked:
    """An envelope whose signature holds under the key its header names; the header may be used now."""

    parsed: Parsed
    header: pb.Header

    @property
    def id(self) -> bytes:
        """Its identity, 32 bytes."""
        return self.parsed.id


def padme(length: int) -> int:
    """Padmé: the bucket of a length; at most 12 % more, and only O(log log length) bits of it leak.

    Source: docs/PROTOCOL.md section 5.5; Nikitin et al., PETS 2019.
    """
    if length < 2:
        return length
    exponent = length.bit_length() - 1
    low_bits = exponent - exponent.bit_length()
    mask = (1 << low_bits) - 1
    return (length + mask) & ~mask


def padded_length(content: int) -> int:
    """Length of the padded content, bytes, from the payload's."""
    return max(MIN_PADDED, padme(8 + content))


def courier_id(key: bytes) -> bytes:
    """Id of a courier key, 16 bytes.

    Raises:
        CourierError: Not 32 bytes, or all zero: that is what stands for "none".
    """
    try:
        return courier_keys.key_id(key)
    except UsageError as error:
        raise CourierError(str(error)) from None


def envelope_id(outer: pb.Envelope) -> bytes:
    """The identity: H(0x00 | entry), where the entry commits to every part but the signature."""
    wraps_digest = digest(pae("tocsin/1/wraps", *outer.wraps.wrap))
    return _identity(outer, wraps_digest, digest(outer.ciphertext), len(outer.ciphertext))


def pruned_id(pruned: pb.Pruned) -> bytes:
    """The id of an envelope from what is left of it. Source: docs/PROTOCOL.md section 2.2."""
    return _identity(pruned, pruned.wraps_digest, pruned.ciphertext_digest, pruned.ciphertext_length)


def _identity(
    outer: pb.Envelope | pb.Pruned, wraps_digest: bytes, ciphertext_digest: bytes, ciphertext_length: int
) -> bytes:
    parts = (outer.header, outer.commitment, outer.items_root, wraps_digest, ciphertext_digest)
    return leaf_digest(pae(CONTEXT, *parts, ciphertext_length))


def wrap_info(header_digest: bytes, desk: str, card: bytes) -> bytes:
    """HPKE info of one wrap: binds it to the header, hence sender and audience, and to its reader."""
    return pae("tocsin/1/wrap", suite.DESK_SUITE, header_digest, desk, card)


def seal(
    items: Sequence[bytes],
    draft: pb.Header,
    *,
    key: suite.Signer,
    cards: Mapping[str, bytes],
    courier: bytes | None = None,
) -> Sealed:
    """Sign and encrypt a batch of items for the audience of a header.

    Args:
        items: 1 to MAX_ITEMS encoded Items.
        draft: The header but for suite, key, courier, random and padded_length, which are filled in on a copy.
        key: The sender's signing key.
        cards: X-Wing public key of each reader whose `card` in the draft is not empty.
        courier: 32-byte courier key to mix in.

    Raises:
        EnvelopeError: No items, too many, or more than MAX_ENVELOPE_BYTES in all.
    """
    if not 1 <= len(items) <= MAX_ITEMS:
        raise EnvelopeError(f"{len(items)} items; an envelope has 1 to {MAX_ITEMS}")
    size = sum(_field_size(len(item)) for item in items) + _field_size(32)
    header = pb.Header()
    header.CopyFrom(draft)
    header.suite = key.suite
    header.key = suite.key_id(key.suite, "desk", key.public)
    header.courier = b"" if courier is None else courier_id(courier)
    header.random = os.urandom(16)
    header.padded_length = padded_length(size)
    header_bytes = canonical_bytes(header)
    header_digest = digest(header_bytes)
    secret = os.urandom(32)
    prk = suite.hkdf_extract(courier or bytes(32), secret)
    seed = salt_seed(prk, header_digest)
    root = items_root(prk, header_digest, items)
    content_key, commitment = content_keys(prk, header_digest, root)
    payload = pb.Payload(header=header_digest, items=items).SerializeToString()
    padded = le64(len(payload)) + payload + bytes(header.padded_length - 8 - len(payload))
    wraps = [
        suite.wrap(cards[reader.desk], info=wrap_info(header_digest, reader.desk, reader.card), secret=secret)
        for reader in header.audience
        if reader.card
    ]
    outer = pb.Envelope(
        suite=header.suite,
        key=header.key,
        header=header_bytes,
        commitment=commitment,
        items_root=root,
        wraps=pb.Wraps(wrap=wraps),
        ciphertext=suite.aead_seal(content_key, padded, header_digest),
    )
    identity = envelope_id(outer)
    outer.signature = key.sign(pae(CONTEXT, identity), ctx=CONTEXT)
    data = canonical_bytes(outer)
    if len(data) > MAX_ENVELOPE_BYTES:
        raise EnvelopeError(f"envelope of {len(data)} bytes; at most {MAX_ENVELOPE_BYTES}: put fewer items in it")
    return Sealed(data, outer, identity, seed, prk)


def items_root(prk: bytes, header_digest: bytes, items: Sequence[bytes]) -> bytes:
    """RFC 6962 root over the salted items: one item can be shown and proved without the others."""
    leaves = [item_leaf(salt, item) for salt, item in zip(salts(prk, header_digest, len(items)), items, strict=True)]
    return root_of(leaves)


def item_leaves(seed: bytes, items: Sequence[bytes]) -> list[bytes]:
    """Leaves of all items of a batch."""
    return [item_leaf(salt, item) for salt, item in zip(salts_of(seed, len(items)), items, strict=True)]


def item_leaf(salt: bytes, item: bytes) -> bytes:
    """Leaf of one item under its salt of SALT_BYTES: H(0x00 | PAE("tocsin/1/item", salt, item))."""
    return sha256(b"".join((_LEAF_HEAD, salt, len(item).to_bytes(8, "little"), item))).digest()


def salt_seed(prk: bytes, header_digest: bytes) -> bytes:
    """What the salts of a batch are made from, 32 bytes."""
    return suite.hkdf_expand(prk, pae("tocsin/1/items", header_digest), 32)


def salts(prk: bytes, header_digest: bytes, count: int) -> list[bytes]:
    """The salts of a batch."""
    return salts_of(salt_seed(prk, header_digest), count)


def salts_of(seed: bytes, count: int) -> list[bytes]:
    """One 16-byte salt per item; without its salt an item cannot be guessed from its leaf."""
    stream = suite.shake256(seed, SALT_BYTES * count)
    return [stream[at : at + SALT_BYTES] for at in range(0, len(stream), SALT_BYTES)]


def content_keys(prk: bytes, header_digest: bytes, root: bytes) -> tuple[bytes, bytes]:
    """(K, kc): content key and key commitment, 32 bytes each. Bound to the text by its root."""
    both = suite.hkdf_expand(prk, pae("tocsin/1/content", header_digest, root), 64)
    return both[:32], both[32:]


def parse(data: bytes) -> Parsed:
    """Read the outside: lengths first, then exact shape. No signature is checked, no key is touched.

    Raises:
        EnvelopeError: Any length or shape that no honest sender makes.
    """
    if len(data) > MAX_ENVELOPE_BYTES:
        raise EnvelopeError(f"envelope of {len(data)} bytes; at most {MAX_ENVELOPE_BYTES}")
    try:
        outer = parse_canonical(pb.Envelope, data)
    except NotCanonicalError as error:
        raise EnvelopeError(str(error)) from None
    known = _check_lengths(outer)
    wraps = outer.wraps.wrap
    if len(wraps) > MAX_AUDIENCE or any(len(wrap) != known.wrap_size for wrap in wraps):
        raise EnvelopeError(f"wraps are at most {MAX_AUDIENCE}, of exactly {known.wrap_size} bytes")
    _check_bucket(len(outer.ciphertext))
    return Parsed(data, outer, envelope_id(outer))


def parse_shell(data: bytes, *, wraps_digest: bytes, ciphertext_digest: bytes, ciphertext_length: int) -> Shell:
    """Read an envelope without its wraps and ciphertext; its identity follows from their digests. Nothing is verified.

    Raises:
        EnvelopeError: Any length or shape that no honest sender makes.
    """
    try:
        outer = parse_canonical(pb.Envelope, data)
    except NotCanonicalError as error:
        raise EnvelopeError(str(error)) from None
    _check_lengths(outer)
    if outer.WhichOneof("grant") is not None or outer.ciphertext:
        raise EnvelopeError("an envelope that is passed on is without wraps and ciphertext")
    if (len(wraps_digest), len(ciphertext_digest)) != (32, 32):
        raise EnvelopeError("the digests of wraps and ciphertext are 32 bytes")
    _check_bucket(ciphertext_length)
    return Shell(data, outer, _identity(outer, wraps_digest, ciphertext_digest, ciphertext_length), ciphertext_length)


def _check_bucket(length: int) -> None:
    content = length - TAG_BYTES
    if content < MIN_PADDED or content > MAX_ENVELOPE_BYTES or padme(content) != content:
        raise EnvelopeError(f"ciphertext of {length} bytes is in no size bucket")


def _check_lengths(outer: pb.Envelope) -> suite.Suite:
    known = suite.suite(outer.suite)
    if known.wrap_size is None:
        raise EnvelopeError(f"suite {outer.suite} does not seal envelopes")
    for what, actual, wanted in (
        ("key", len(outer.key), 32),
        ("commitment", len(outer.commitment), 32),
        ("items root", len(outer.items_root), 32),
        ("signature", len(outer.signature), known.signature_size),
    ):
        if actual != wanted:
            raise EnvelopeError(f"{what} of {actual} bytes; exactly {wanted}")
    if not 0 < len(outer.header) <= MAX_HEADER_BYTES:
        raise EnvelopeError(f"header of {len(outer.header)} bytes; 1 to {MAX_HEADER_BYTES}")
    return known


def check(parsed: Parsed, public: bytes) -> Checked:
    """Verify the signature under the key the hints name, then read the header strictly.

    Args:
        public: The composite public key whose identity is `parsed.outer.key`.

    Raises:
        SignatureError: Not signed by this key.
        EnvelopeError: A header that is not canonical or not self-consistent.
    """
    outer = parsed.outer
    suite.verify(outer.suite, public, pae(CONTEXT, parsed.id), outer.signature, ctx=CONTEXT)
    try:
        header = parse_canonical(pb.Header, outer.header)
    except NotCanonicalError as error:
        raise EnvelopeError(str(error)) from None
    _check_header(header, parsed)
    return Checked(parsed, header)


def _check_header(header: pb.Header, parsed: Parsed) -> None:
    outer = parsed.outer
    if (header.suite, header.key) != (outer.suite, outer.key):
        raise EnvelopeError("the hints outside differ from the header")
    names = [reader.desk for reader in header.audience]
    if not 1 <= len(names) <= MAX_AUDIENCE or names != sorted(set(names)) or header.sender in names:
        raise EnvelopeError("the audience is 1 to 512 desks, sorted, unique, without the sender")
    if any(len(reader.card) not in (0, 32) for reader in header.audience):
        raise EnvelopeError("a card digest is 32 bytes, or empty")
    passed_on = isinstance(parsed, Shell)
    if not passed_on and sum(bool(reader.card) for reader in header.audience) != len(outer.wraps.wrap):
        raise EnvelopeError("one wrap for each reader with a card, no more and no fewer")
    if (len(header.lineage), len(header.agreement), len(header.stream), len(header.random)) != (32, 32, 16, 16):
        raise EnvelopeError("lineage and agreement are 32 bytes, stream and random 16")
    if not 1 <= header.seq <= MAX_SEQ:
        raise EnvelopeError("numbers go from 1 to 2**62")
    if header.prev_seq >= header.seq or len(header.prev_id) != (32 if header.prev_seq else 0):
        raise EnvelopeError("prev_seq is lower than seq, prev_id goes with it")
    if len(header.courier) not in (0, 16) or len(header.answers) not in (0, 32):
        raise EnvelopeError("a courier id is 16 bytes, an answered id 32, or empty")
    length = parsed.ciphertext_length if isinstance(parsed, Shell) else len(outer.ciphertext)
    if header.padded_length != length - TAG_BYTES:
        raise EnvelopeError("the padded length differs from the ciphertext's")
    if not header.create_time_ms < header.expire_time_ms:
        raise EnvelopeError("an envelope expires after it is made")
    parties = [pin.party for pin in header.rosters]
    if parties != sorted(set(parties)) or any(len(pin.digest) != 32 for pin in header.rosters):
        raise EnvelopeError("roster pins are sorted, unique, with digests of 32 bytes")


def open_envelope(
    checked: Checked, *, desk: str, card: suite.CardKey, courier: bytes | None = None
) -> tuple[bytes, ...]:
    """As `open_whole`, the items alone."""
    return open_whole(checked, desk=desk, card=card, courier=courier).items


def open_whole(checked: Checked, *, desk: str, card: suite.CardKey, courier: bytes | None = None) -> Opened:
    """Open an envelope whose signature was checked.

    Args:
        courier: The courier key the header names; not used when it names none.

    Raises:
        CourierError: The header names another courier key.
        OpenError: One error for unwrap, commitment, decryption, padding and items root, so that none is an oracle.
    """
    header, outer = checked.header, checked.parsed.outer
    sealed_to = [reader for reader in header.audience if reader.card]
    index = next((i for i, reader in enumerate(sealed_to) if reader.desk == desk), None)
    if index is None:
        raise OpenError("the envelope holds no wrap for this desk", hint="ask a colleague to share it again")
    if not header.courier:
        courier = None
    elif courier is None or courier_id(courier) != header.courier:
        raise CourierError("the courier key this envelope names is not the one loaded")
    header_digest = digest(outer.header)
    secret = card.unwrap(outer.wraps.wrap[index], info=wrap_info(header_digest, desk, sealed_to[index].card))
    return _contents(outer, header_digest, suite.hkdf_extract(courier or bytes(32), secret))


def reopen(own: Parsed, prk: bytes) -> Opened:
    """What an envelope of our own holds, by the `prk` that `seal` gave.

    Raises:
        OpenError: It is not that envelope's.
    """
    return _contents(own.outer, digest(own.outer.header), prk)


def _contents(outer: pb.Envelope, header_digest: bytes, prk: bytes) -> Opened:
    content_key, commitment = content_keys(prk, header_digest, outer.items_root)
    if not hmac.compare_digest(commitment, outer.commitment):
        raise OpenError("the envelope does not open")
    items = _unpad(suite.aead_open(content_key, outer.ciphertext, header_digest), header_digest)
    seed = salt_seed(prk, header_digest)
    if items_root(prk, header_digest, items) != outer.items_root:
        raise OpenError("the envelope does not open")
    return Opened(items, seed)


def _unpad(padded: bytes, header_digest: bytes) -> tuple[bytes, ...]:
    length = int.from_bytes(padded[:8], "little")
    if length > len(padded) - 8 or padded.count(0, 8 + length) != len(padded) - 8 - length:
        raise OpenError("the envelope does not open")
    payload = pb.Payload()
    try:
        payload.ParseFromString(padded[8 : 8 + length])
    except DecodeError:
        raise OpenError("the envelope does not open") from None
    if payload.header != header_digest or not 1 <= len(payload.items) <= MAX_ITEMS:
        raise OpenError("the envelope does not open")
    if padded_length(length) != len(padded):
        raise OpenError("the envelope does not open")
    return tuple(payload.items)


def prune(data: bytes) -> bytes:
    """Drop wraps and ciphertext, keep what proves the entry: header, commitment, root and signature.

    Source: docs/PROTOCOL.md section 8.4.
    """
    return outside(parse(data).outer)


def outside(outer: pb.Envelope) -> bytes:
    """An envelope that was parsed or sealed, pruned."""
    return canonical_bytes(
        pb.Pruned(
            suite=outer.suite,
            key=outer.key,
            header=outer.header,
            commitment=outer.commitment,
            items_root=outer.items_root,
            wraps_digest=digest(pae("tocsin/1/wraps", *outer.wraps.wrap)),
            ciphertext_digest=digest(outer.ciphertext),
            ciphertext_length=len(outer.ciphertext),
            signature=outer.signature,
        )
    )


def _field_size(length: int) -> int:
    """Encoded size of a length-delimited field with a one-byte tag."""
    return 1 + max(1, -(-length.bit_length() // 7)) + length
