"""Chance and cryptography of a simulation: the same seed gives the same bytes, and a signature costs a hash.

The library draws its own randomness for ML-DSA and HPKE, which no seed reaches. So signatures and key wraps are keyed
hashes of the same lengths here. Who did not sign cannot make one through the product's doors, and a wrap opens for the
card it was made for alone; what was signed outside a simulation is verified as ever. Kinds with `real_cryptography`
run without them.
"""

import contextlib
import functools
import hashlib
import itertools
import os
import random
import secrets
from collections.abc import Callable, Iterator
from typing import Any, Final
from unittest import mock

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from exchange import tls
from exchange.demo import found
from exchange.node import app
from keys import suite
from keys.encoding import pae
from keys.errors import OpenError, SignatureError

REAL_VERIFY: Final = functools.lru_cache(100_000)(suite.verify)
"""A signature found good once is not worked out again: every machine of every run checks the same documents."""
_REAL_WRAP: Final = suite.wrap
_REAL_CHECK_CARD: Final = suite.check_card_key
_NONCE: Final = 32
_signed_here: set[bytes] = set()
"""Public keys that signed in this process under `cheap_cryptography`."""


def _tag(public: bytes, message: bytes, ctx: str, size: int) -> bytes:
    return hashlib.shake_256(pae("simulation/signature", public, ctx, message)).digest(size)


def _sign(key: suite.SigningKey, message: bytes, *, ctx: str) -> bytes:
    _signed_here.add(key.public)
    return _tag(key.public, message, ctx, suite.suite(key.suite).signature_size)


def _verify(suite_id: int, public: bytes, message: bytes, signature: bytes, *, ctx: str) -> None:
    if public not in _signed_here:
        REAL_VERIFY(suite_id, public, message, signature, ctx=ctx)
    elif signature != _tag(public, message, ctx, suite.suite(suite_id).signature_size):
        raise SignatureError("the signature does not verify")


@functools.lru_cache(10_000)
def _check_card(public: bytes) -> None:
    # The real one, so that what is remembered draws nothing from the seed.
    with mock.patch.object(suite, "wrap", _REAL_WRAP):
        _REAL_CHECK_CARD(public)


def _wrap(card_public: bytes, *, info: bytes, secret: bytes) -> bytes:
    nonce = os.urandom(_NONCE)
    hidden, proof = _opening(card_public, nonce, info, secret)
    return (nonce + hidden + proof).ljust(suite.WRAP_SIZE, b"\0")


def _opening(card_public: bytes, nonce: bytes, info: bytes, secret: bytes) -> tuple[bytes, bytes]:
    stream = hashlib.sha256(pae("simulation/wrap", card_public, nonce, info)).digest()
    hidden = bytes(one ^ other for one, other in zip(secret, stream, strict=True))
    return hidden, hashlib.sha256(pae("simulation/proof", card_public, nonce, info, secret)).digest()


def _unwrap(card: suite.CardKey, wrap: bytes, *, info: bytes) -> bytes:
    nonce, hidden, proof = wrap[:_NONCE], wrap[_NONCE : 2 * _NONCE], wrap[2 * _NONCE : 3 * _NONCE]
    secret, _ = _opening(card.public, nonce, info, hidden)
    if len(wrap) != suite.WRAP_SIZE or _opening(card.public, nonce, info, secret) != (hidden, proof):
        raise OpenError("the wrap does not open")
    return secret


@contextlib.contextmanager
def cheap_cryptography() -> Iterator[None]:
    """Signatures and wraps by hashes inside the block."""
    with contextlib.ExitStack() as stack:
        for owner, name, put in (
            (suite.SigningKey, "sign", _sign),
            (suite.CardKey, "unwrap", _unwrap),
            (suite, "verify", _verify),
            (suite, "wrap", _wrap),
            (suite, "check_card_key", _check_card),
        ):
            stack.enter_context(mock.patch.object(owner, name, put))
        yield


@contextlib.contextmanager
def real_cryptography() -> Iterator[None]:
    """As ever inside the block, but what verified once is not verified again."""
    with mock.patch.object(suite, "verify", REAL_VERIFY):
        yield


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """All chance that Python code draws inside the block comes from a seed."""
    state, drawn = random.getstate(), random.Random(seed).randbytes
    # Jitter comes from the module's own chance, keys and names of streams from the system's: both are the seed's here.
    random.seed(seed)
    try:
        with mock.patch.object(os, "urandom", drawn), mock.patch.object(random, "_urandom", drawn):
            yield
    finally:
        random.setstate(state)


@contextlib.contextmanager
def repeatable_founding(time_ms: int) -> Iterator[None]:
    """Founding inside the block gives the same bytes each time: no clock, no port and no TLS key differs."""
    ports = itertools.count(20_000)
    sign: Callable[..., Any] = functools.partialmethod(x509.CertificateBuilder.sign, ecdsa_deterministic=True)  # type: ignore[assignment]
    with (
        seeded(0),
        mock.patch.object(found, "free_ports", lambda count: list(itertools.islice(ports, count))),
        mock.patch.object(app, "now_ms", return_value=time_ms),
        mock.patch.object(tls, "new_key", _tls_key),
        mock.patch.object(x509.CertificateBuilder, "sign", sign),
    ):
        yield


def _tls_key() -> tls.TlsKey:
    return ec.derive_private_key(1 + secrets.randbelow(2**255), ec.SECP256R1())
