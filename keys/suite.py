"""The closed registry of algorithm suites and the only door to cryptographic primitives. No I/O.

Signatures are composites of draft-ietf-lamps-pq-composite-sigs: an ML-DSA and an Edwards signature over one message
representative, and both must hold. Key wraps are single-shot HPKE (RFC 9180) with the hybrid KEM X-Wing. Byte layouts:
docs/PROTOCOL.md section 3.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from secrets import token_bytes
from types import MappingProxyType
from typing import Final, NoReturn, Protocol, Self

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, hpke
from cryptography.hazmat.primitives.asymmetric import ed448, ed25519, mldsa, mlkem, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from keys import points
from keys.encoding import digest, pae
from keys.errors import BadKeyError, OpenError, SignatureError, UnknownSuiteError, UsageError

DESK_SUITE: Final = 1
ROOT_SUITE: Final = 2
ROLES: Final = frozenset({"root", "roster", "status", "desk", "log", "card"})
CARD_SIZE: Final = 1216  # ML-KEM-768 encapsulation key 1184 | X25519 public key 32
CARD_SEED_SIZE: Final = 32
WRAP_SIZE: Final = 1168  # ML-KEM-768 ciphertext 1088 | X25519 32 | sealed secret 32 | tag 16
SECRET_SIZE: Final = 32
MLDSA_SEED_SIZE: Final = 32
MAX_CTX_BYTES: Final = 255  # its length is one byte on the wire of the draft

_MLKEM_PUBLIC_SIZE: Final = 1184
_COMPOSITE_PREFIX: Final = b"CompositeAlgorithmSignatures2025"
_POSSESSION: Final = "tocsin/1/possession"
_ZERO_NONCE: Final = bytes(12)
# Every live card and signing key of two countries fits; a flood of keys evicts, it does not grow.
_KEY_CACHE: Final = 2048

_PqPublic = mldsa.MLDSA65PublicKey | mldsa.MLDSA87PublicKey
_PqPrivate = mldsa.MLDSA65PrivateKey | mldsa.MLDSA87PrivateKey
_EdPublic = ed25519.Ed25519PublicKey | ed448.Ed448PublicKey
_EdPrivate = ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey


@dataclass(frozen=True, slots=True)
class Suite:
    """One entry of the registry; sizes in bytes. A suite that cannot wrap has no card and wrap size."""

    id: int
    name: str
    public_size: int
    signature_size: int
    seed_size: int
    card_size: int | None
    wrap_size: int | None


@dataclass(frozen=True, slots=True)
class _Scheme:
    """How a suite signs: the draft's label and pre-hash, and the two component algorithms."""

    suite: Suite
    label: bytes
    prehash: Callable[[bytes], bytes]
    curve: points.Curve
    pq_public_size: int
    pq_signature_size: int
    pq_public: Callable[[bytes], _PqPublic]
    pq_private: Callable[[bytes], _PqPrivate]
    ed_public: Callable[[bytes], _EdPublic]
    ed_private: Callable[[bytes], _EdPrivate]

    def representative(self, message: bytes, ctx: str) -> bytes:
        """M' = Prefix | Label | len(ctx) | ctx | PH(M): what both component signatures cover."""
        context = ctx.encode()
        if len(context) > MAX_CTX_BYTES:
            raise UsageError(f"signature context of {len(context)} bytes; at most {MAX_CTX_BYTES}")
        return b"".join(
            (_COMPOSITE_PREFIX, self.label, len(context).to_bytes(1, "big"), context, self.prehash(message))
        )


# Ids 0x100 to 0x1ff are kept for Korea's KpqC algorithms. Nothing adds to this table at run time.
_SCHEMES: Mapping[int, _Scheme] = MappingProxyType(
    {
        DESK_SUITE: _Scheme(
            suite=Suite(
                id=DESK_SUITE,
                name="MLDSA65-Ed25519-SHA512 + XWING-HKDFSHA256-CHACHA20POLY1305",
                public_size=1984,
                signature_size=3373,
                seed_size=64,
                card_size=CARD_SIZE,
                wrap_size=WRAP_SIZE,
            ),
            label=b"COMPSIG-MLDSA65-Ed25519-SHA512",
            prehash=lambda message: hashlib.sha512(message).digest(),
            curve=points.ED25519,
            pq_public_size=1952,
            pq_signature_size=3309,
            pq_public=mldsa.MLDSA65PublicKey.from_public_bytes,
            pq_private=mldsa.MLDSA65PrivateKey.from_seed_bytes,
            ed_public=ed25519.Ed25519PublicKey.from_public_bytes,
            ed_private=ed25519.Ed25519PrivateKey.from_private_bytes,
        ),
        ROOT_SUITE: _Scheme(
            suite=Suite(
                id=ROOT_SUITE,
                name="MLDSA87-Ed448-SHAKE256",
                public_size=2649,
                signature_size=4741,
                seed_size=89,
                card_size=None,
                wrap_size=None,
            ),
            label=b"COMPSIG-MLDSA87-Ed448-SHAKE256",
            prehash=lambda message: hashlib.shake_256(message).digest(64),
            curve=points.ED448,
            pq_public_size=2592,
            pq_signature_size=4627,
            pq_public=mldsa.MLDSA87PublicKey.from_public_bytes,
            pq_private=mldsa.MLDSA87PrivateKey.from_seed_bytes,
            ed_public=ed448.Ed448PublicKey.from_public_bytes,
            ed_private=ed448.Ed448PrivateKey.from_private_bytes,
        ),
    }
)
_HPKE: Final = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)


def suite(suite_id: int) -> Suite:
    """The registry entry of a suite.

    Raises:
        UnknownSuiteError: No such suite in this version.
    """
    return _scheme(suite_id).suite


class Signer(Protocol):
    """Whatever signs as one composite key, wherever its halves lie: a `SigningKey`, or a `SplitKey`."""

    @property
    def suite(self) -> int:
        """Suite id."""
        ...

    @property
    def public(self) -> bytes:
        """ML-DSA public key | Edwards public key."""
        ...

    def sign(self, message: bytes, *, ctx: str) -> bytes:
        """ML-DSA signature | Edwards signature over one representative of `message` and `ctx`."""
        ...


class SigningKey:
    """A composite private key. Its seed leaves it only through `seed`; it cannot be printed, copied or pickled.

    Attributes:
        suite: Suite id.
        public: ML-DSA public key | Edwards public key.
    """

    __slots__ = ("_ed", "_pq", "_scheme", "public", "suite")

    def __init__(self, scheme: _Scheme, pq: _PqPrivate, ed: _EdPrivate) -> None:
        self.suite: Final = scheme.suite.id
        self.public: Final = pq.public_key().public_bytes_raw() + ed.public_key().public_bytes_raw()
        self._scheme, self._pq, self._ed = scheme, pq, ed

    @classmethod
    def generate(cls, suite: int) -> Self:
        """A new key. Both halves are new: a half that also lives elsewhere could be attacked there."""
        return cls.from_seed(suite, token_bytes(_scheme(suite).suite.seed_size))

    @classmethod
    def from_seed(cls, suite: int, seed: bytes) -> Self:
        """The key of a seed: ML-DSA seed, 32 bytes | Edwards seed, 32 (suite 1) or 57 bytes (suite 2).

        Raises:
            UnknownSuiteError: No such suite.
            UsageError: A seed of another length.
        """
        scheme = _scheme(suite)
        if len(seed) != scheme.suite.seed_size:
            raise UsageError(f"seed of {len(seed)} bytes; suite {suite} has {scheme.suite.seed_size}")
        return cls(scheme, scheme.pq_private(seed[:MLDSA_SEED_SIZE]), scheme.ed_private(seed[MLDSA_SEED_SIZE:]))

    def seed(self) -> bytes:
        """The secret, for the keystore alone."""
        return self._pq.private_bytes_raw() + self._ed.private_bytes_raw()

    def sign(self, message: bytes, *, ctx: str) -> bytes:
        """ML-DSA signature | Edwards signature over one representative of `message` and `ctx`.

        Randomised: two signatures of one message differ, so signature bytes are never an identity.

        Args:
            message: The bytes as carried.
            ctx: Message or document type, at most 255 bytes of UTF-8.
        """
        representative = self._scheme.representative(message, ctx)
        return self._pq.sign(representative, self._scheme.label) + self._ed.sign(representative)

    def __repr__(self) -> str:
        return f"<SigningKey suite {self.suite} public {digest(self.public).hex()[:8]}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signing key is not copied or pickled; use seed() and the keystore")


@dataclass(frozen=True, slots=True)
class Half:
    """One component of a composite key, where it lies.

    Attributes:
        public: The component's public key.
        sign: (representative, context) -> component signature. The Edwards half is given an empty context.
    """

    public: bytes
    sign: Callable[[bytes, bytes], bytes] = field(repr=False)


class SplitKey:
    """A composite key whose halves lie apart, such as one in a token. Signs as a `SigningKey` does.

    Attributes:
        suite: Suite id.
        public: ML-DSA public key | Edwards public key.

    Raises:
        UnknownSuiteError: No such suite.
        BadKeyError: The halves do not make a key that could be admitted.
    """

    __slots__ = ("_ed", "_pq", "_scheme", "public", "suite")

    def __init__(self, suite: int, *, pq: Half, ed: Half) -> None:
        self._scheme, self._pq, self._ed = _scheme(suite), pq, ed
        self.suite: Final = suite
        self.public: Final = pq.public + ed.public
        if len(pq.public) != self._scheme.pq_public_size:
            raise BadKeyError(f"ML-DSA half of {len(pq.public)} bytes; suite {suite} has {self._scheme.pq_public_size}")
        check_signing_key(suite, self.public)

    def sign(self, message: bytes, *, ctx: str) -> bytes:
        """As `SigningKey.sign`, and verified before it is given away.

        A faulty Edwards signature can betray its key, and a token may be another one than it was.

        Raises:
            SignatureError: What the halves gave is not a signature of this key.
        """
        representative = self._scheme.representative(message, ctx)
        signature = self._pq.sign(representative, self._scheme.label) + self._ed.sign(representative, b"")
        verify(self.suite, self.public, message, signature, ctx=ctx)
        return signature

    def __repr__(self) -> str:
        return f"<SplitKey suite {self.suite} public {digest(self.public).hex()[:8]}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signing key is not copied or pickled")


def mldsa_half(suite: int, seed: bytes) -> Half:
    """The ML-DSA half of a suite from its seed, 32 bytes, for a key whose other half lies elsewhere.

    Raises:
        UnknownSuiteError: No such suite.
        UsageError: A seed of another length.
    """
    if len(seed) != MLDSA_SEED_SIZE:
        raise UsageError(f"ML-DSA seed of {len(seed)} bytes; it has {MLDSA_SEED_SIZE}")
    key = _scheme(suite).pq_private(seed)
    return Half(key.public_key().public_bytes_raw(), key.sign)


class CardKey:
    """The private half of a key card: an X-Wing key. It cannot be printed, copied or pickled.

    Attributes:
        public: ML-KEM-768 encapsulation key | X25519 public key, CARD_SIZE bytes.
    """

    __slots__ = ("_private", "_seed", "public")

    def __init__(self, seed: bytes) -> None:
        # The library's hybrid key object can be built from its halves only, and not be taken apart again.
        expanded = shake256(seed, 96)
        kem = mlkem.MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
        dh = x25519.X25519PrivateKey.from_private_bytes(expanded[64:])
        self.public: Final = kem.public_key().public_bytes_raw() + dh.public_key().public_bytes_raw()
        self._private, self._seed = hpke.MLKEM768X25519PrivateKey(kem, dh), bytes(seed)

    @classmethod
    def generate(cls) -> Self:
        """A new key."""
        return cls(token_bytes(CARD_SEED_SIZE))

    @classmethod
    def from_seed(cls, seed: bytes) -> Self:
        """The key of an X-Wing seed, 32 bytes.

        Raises:
            UsageError: A seed of another length.
        """
        if len(seed) != CARD_SEED_SIZE:
            raise UsageError(f"card seed of {len(seed)} bytes; it has {CARD_SEED_SIZE}")
        return cls(seed)

    def seed(self) -> bytes:
        """The secret, for the keystore alone."""
        return self._seed

    def unwrap(self, wrap: bytes, *, info: bytes) -> bytes:
        """The secret inside a wrap made for this card with the same `info`.

        Raises:
            OpenError: Anything is wrong; which part, is not told.
        """
        # Before the KEM: a decapsulation of bytes of the sender's choosing must not happen for less than a whole wrap.
        if len(wrap) != WRAP_SIZE:
            raise OpenError("the wrap does not open")
        try:
            return _HPKE.decrypt(wrap, self._private, info)
        except (InvalidTag, ValueError):
            raise OpenError("the wrap does not open") from None

    def __repr__(self) -> str:
        return f"<CardKey public {digest(self.public).hex()[:8]}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a card key is not copied or pickled; use seed() and the keystore")


def verify(suite_id: int, public: bytes, message: bytes, signature: bytes, *, ctx: str) -> None:
    """Refuse a signature unless both halves hold over `message` and `ctx`.

    Args:
        suite_id: The suite of the *key*, from a trusted document, never from beside the signature.
        public: The composite public key; admitted before with `check_signing_key`.
        message: The bytes as carried.
        signature: ML-DSA signature | Edwards signature.
        ctx: Message or document type.

    Raises:
        UnknownSuiteError: No such suite.
        SignatureError: It does not verify, or the key does not parse.
    """
    scheme = _scheme(suite_id)
    if len(signature) != scheme.suite.signature_size:
        raise SignatureError(f"signature of {len(signature)} bytes; suite {suite_id} has {scheme.suite.signature_size}")
    representative = scheme.representative(message, ctx)
    try:
        pq, ed = _public_halves(suite_id, public)
        # The cheaper half first, so that junk costs less.
        ed.verify(signature[scheme.pq_signature_size :], representative)
        pq.verify(signature[: scheme.pq_signature_size], representative, scheme.label)
    except (InvalidSignature, ValueError):
        raise SignatureError("the signature does not verify") from None


def wrap(card_public: bytes, *, info: bytes, secret: bytes) -> bytes:
    """Seal a 32-byte secret to a card: KEM ciphertext 1120 | sealed secret 48.

    Args:
        card_public: A card admitted before with `check_card_key`.
        info: What the wrap is for; opening needs the same bytes.
        secret: SECRET_SIZE bytes.

    Raises:
        BadKeyError: The card is not one that can be sealed to.
        UsageError: A secret of another length.
    """
    if len(secret) != SECRET_SIZE:
        raise UsageError(f"secret of {len(secret)} bytes; a wrap holds {SECRET_SIZE}")
    try:
        return _HPKE.encrypt(secret, _card(card_public), info)
    except ValueError:
        # Raised for an ML-KEM half out of range and for an X25519 half whose exchange is all zero.
        raise BadKeyError("the card cannot be sealed to: its key is malformed or of low order") from None


def check_signing_key(suite_id: int, public: bytes) -> None:
    """Admit a composite public key: exact length, and an Edwards half that is canonical and of prime order.

    Every string of the right length is an ML-DSA public key, so that half has nothing more to check.

    Raises:
        UnknownSuiteError: No such suite.
        BadKeyError: With what is wrong.
    """
    scheme = _scheme(suite_id)
    if len(public) != scheme.suite.public_size:
        raise BadKeyError(f"signing key of {len(public)} bytes; suite {suite_id} has {scheme.suite.public_size}")
    fault = points.fault_of(scheme.curve, components(suite_id, public)[1])
    if fault is not None:
        raise BadKeyError(f"the {scheme.curve.name} half of the signing key is {fault}")
    try:
        _public_halves(suite_id, public)
    except ValueError:
        raise BadKeyError("the signing key does not parse") from None


def check_card_key(public: bytes) -> None:
    """Admit a card key: exact length, ML-KEM coefficients in range, X25519 half not of low order, a trial seal.

    Raises:
        BadKeyError: With what is wrong.
    """
    if len(public) != CARD_SIZE:
        raise BadKeyError(f"card key of {len(public)} bytes; it has {CARD_SIZE}")
    wrap(public, info=b"", secret=bytes(SECRET_SIZE))


def key_id(suite_id: int, role: str, public: bytes) -> bytes:
    """The identity of a public key in a role, 32 bytes: H(PAE("tocsin/1/key", suite, role, key)).

    Raises:
        UsageError: A role that is not in ROLES.
    """
    if role not in ROLES:
        raise UsageError(f"no key role {role!r}; one of {', '.join(sorted(ROLES))}")
    return digest(pae("tocsin/1/key", suite_id, role, public))


def components(suite_id: int, public: bytes) -> tuple[bytes, bytes]:
    """The two component public keys, ML-DSA and Edwards, so that a half in use elsewhere is noticed.

    Raises:
        UnknownSuiteError: No such suite.
    """
    cut = _scheme(suite_id).pq_public_size
    return public[:cut], public[cut:]


def prove_possession(key: Signer, *, lineage: bytes, party: str, name: str, role: str) -> bytes:
    """A signature that shows the holder of `key` wants it to be `role` of `name` in this lineage."""
    return key.sign(_possession(key.suite, key.public, lineage, party, name, role), ctx=_POSSESSION)


def check_possession(
    suite_id: int, public: bytes, proof: bytes, *, lineage: bytes, party: str, name: str, role: str
) -> None:
    """Refuse a key whose holder did not prove to have it for exactly this use.

    Raises:
        UnknownSuiteError: No such suite.
        SignatureError: Not such a proof.
    """
    verify(suite_id, public, _possession(suite_id, public, lineage, party, name, role), proof, ctx=_POSSESSION)


def hkdf_extract(salt: bytes, ikm: bytes) -> bytes:
    """HKDF-Extract with SHA-256 (RFC 5869), 32 bytes."""
    return HKDF.extract(hashes.SHA256(), salt, ikm)


def hkdf_expand(prk: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand with SHA-256 (RFC 5869), `length` bytes, at most 8,160."""
    return HKDFExpand(hashes.SHA256(), length, info).derive(prk)


def shake256(data: bytes, length: int) -> bytes:
    """SHAKE256, `length` bytes."""
    return hashlib.shake_256(data).digest(length)


def argon2id(passphrase: bytes, *, salt: bytes, iterations: int, lanes: int, memory_kib: int) -> bytes:
    """Argon2id (RFC 9106), 32 bytes. The caller bounds the cost; numbers from a file are hostile until it did.

    Args:
        passphrase: The secret; any length.
        salt: At least 8 bytes.
        iterations: Passes over the memory.
        lanes: Degree of parallelism.
        memory_kib: Memory in KiB, at least 8 per lane.
    """
    kdf = Argon2id(salt=salt, length=SECRET_SIZE, iterations=iterations, lanes=lanes, memory_cost=memory_kib)
    return kdf.derive(passphrase)


def aead_seal(key: bytes, plaintext: bytes, aad: bytes) -> bytes:
    """AES-256-GCM with a nonce of zeros: `key` (32 bytes) must never seal a second text. Output: text | tag 16.

    Raises:
        UsageError: A key of another length.
    """
    return _aes(key).encrypt(_ZERO_NONCE, plaintext, aad)


def aead_open(key: bytes, ciphertext: bytes, aad: bytes) -> bytes:
    """The inverse of `aead_seal`.

    Raises:
        UsageError: A key of another length.
        OpenError: Other key, other aad, or altered bytes.
    """
    try:
        return _aes(key).decrypt(_ZERO_NONCE, ciphertext, aad)
    except (InvalidTag, ValueError):
        raise OpenError("the content does not open") from None


def _aes(key: bytes) -> AESGCM:
    if len(key) != SECRET_SIZE:  # the library would take 16 and 24 as well, and silently be another cipher
        raise UsageError(f"content key of {len(key)} bytes; it has {SECRET_SIZE}")
    return AESGCM(key)


def _scheme(suite_id: int) -> _Scheme:
    scheme = _SCHEMES.get(suite_id)
    if scheme is None:
        raise UnknownSuiteError(f"no suite {suite_id} in this version", suite=suite_id)
    return scheme


def _possession(suite_id: int, public: bytes, lineage: bytes, party: str, name: str, role: str) -> bytes:
    return pae(_POSSESSION, lineage, party, name, role, suite_id, public)


@lru_cache(maxsize=_KEY_CACHE)
def _public_halves(suite_id: int, public: bytes) -> tuple[_PqPublic, _EdPublic]:
    scheme = _scheme(suite_id)
    pq, ed = components(suite_id, public)
    return scheme.pq_public(pq), scheme.ed_public(ed)


@lru_cache(maxsize=_KEY_CACHE)
def _card(public: bytes) -> hpke.MLKEM768X25519PublicKey:
    return hpke.MLKEM768X25519PublicKey(
        mlkem.MLKEM768PublicKey.from_public_bytes(public[:_MLKEM_PUBLIC_SIZE]),
        x25519.X25519PublicKey.from_public_bytes(public[_MLKEM_PUBLIC_SIZE:]),
    )
