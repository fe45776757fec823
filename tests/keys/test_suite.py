"""Suites: attacks on signatures, wraps and keys; each refusal is shown to come from the check it is named after."""

import copy
import json
import pickle
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keys import points, suite
from keys.encoding import digest, pae
from keys.errors import BadKeyError, OpenError, SignatureError, TocsinError, UnknownSuiteError, UsageError

SUITES = (suite.DESK_SUITE, suite.ROOT_SUITE)
KEYS = {id_: (suite.SigningKey.generate(id_), suite.SigningKey.generate(id_)) for id_ in SUITES}
CARD = suite.CardKey.generate()
CTX = "tocsin/1/envelope"
MESSAGE = b"gallium: strained"
VECTORS = Path(__file__).parent.parent / "vectors"


class Yes:
    """A component that takes every signature: the check, switched off."""

    def verify(self, *_: object) -> None:
        return None


@pytest.fixture
def tamper(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Change one scheme of the registry for one test."""

    def change(id_: int, **fields: Any) -> None:
        schemes = dict(suite._SCHEMES)
        schemes[id_] = replace(schemes[id_], **fields)
        monkeypatch.setattr(suite, "_SCHEMES", MappingProxyType(schemes))
        suite._public_halves.cache_clear()

    return change


@pytest.fixture(autouse=True)
def fresh_caches() -> Any:
    yield
    suite._public_halves.cache_clear()
    points.fault_of.cache_clear()


def halves(id_: int, signature: bytes) -> tuple[bytes, bytes]:
    cut = suite._SCHEMES[id_].pq_signature_size
    return signature[:cut], signature[cut:]


# --- sizes and agreement with itself ---


@pytest.mark.parametrize("id_", SUITES)
def test_sign_and_verify(id_: int) -> None:
    key, facts = KEYS[id_][0], suite.suite(id_)
    signature = key.sign(MESSAGE, ctx=CTX)
    suite.verify(id_, key.public, MESSAGE, signature, ctx=CTX)
    assert (facts.id, len(key.public), len(signature)) == (id_, facts.public_size, facts.signature_size)
    again = suite.SigningKey.from_seed(id_, key.seed())
    assert (again.public, len(again.seed()), again.suite) == (key.public, facts.seed_size, id_)
    assert key.sign(MESSAGE, ctx=CTX) != signature  # randomised


def test_wrap_and_unwrap() -> None:
    facts, secret = suite.suite(suite.DESK_SUITE), bytes(range(32))
    wrapped = suite.wrap(CARD.public, info=b"info", secret=secret)
    assert (len(CARD.public), len(wrapped)) == (facts.card_size, facts.wrap_size)
    assert CARD.unwrap(wrapped, info=b"info") == secret
    assert suite.CardKey.from_seed(CARD.seed()).public == CARD.public
    for wrong in (b"other", b""):
        with pytest.raises(OpenError):
            CARD.unwrap(wrapped, info=wrong)
    with pytest.raises(OpenError):
        suite.CardKey.generate().unwrap(wrapped, info=b"info")


def test_misuse_is_named() -> None:
    for call in (
        lambda: suite.SigningKey.from_seed(suite.DESK_SUITE, bytes(63)),
        lambda: suite.CardKey.from_seed(bytes(31)),
        lambda: suite.wrap(CARD.public, info=b"", secret=bytes(31)),
        lambda: suite.aead_seal(bytes(16), b"", b""),
        lambda: suite.key_id(suite.DESK_SUITE, "chef", KEYS[1][0].public),
        lambda: KEYS[1][0].sign(b"", ctx="x" * 256),
    ):
        with pytest.raises(UsageError):
            call()


def test_key_identity_binds_suite_and_role() -> None:
    public = KEYS[1][0].public
    assert suite.key_id(1, "desk", public) == digest(pae("tocsin/1/key", 1, "desk", public))
    assert len({suite.key_id(id_, role, public) for id_ in SUITES for role in suite.ROLES}) == 2 * len(suite.ROLES)


def test_content_opens_only_as_sealed() -> None:
    key = bytes(range(32))
    sealed = suite.aead_seal(key, b"text", b"header")
    assert suite.aead_open(key, sealed, b"header") == b"text"
    for k, s, a in ((bytes(32), sealed, b"header"), (key, sealed[:-1], b"header"), (key, sealed, b""), (key, b"", b"")):
        with pytest.raises(OpenError):
            suite.aead_open(k, s, a)


# --- attack 2: one signature scheme breaks ---


def broken_signatures(id_: int) -> dict[str, tuple[bytes, str]]:
    """Signatures by someone who can forge one scheme only: name -> (signature, the half that must stop it)."""
    victim, thief = KEYS[id_]
    pq, ed = halves(id_, victim.sign(MESSAGE, ctx=CTX))
    old_pq, old_ed = halves(id_, victim.sign(b"an older message", ctx=CTX))
    thief_pq, thief_ed = halves(id_, thief.sign(MESSAGE, ctx=CTX))
    return {
        "edwards zeroed": (pq + bytes(len(ed)), "ed"),
        "edwards forged": (pq + thief_ed, "ed"),
        "edwards transplanted": (pq + old_ed, "ed"),
        "ml-dsa zeroed": (bytes(len(pq)) + ed, "pq"),
        "ml-dsa forged": (thief_pq + ed, "pq"),
        "ml-dsa transplanted": (old_pq + ed, "pq"),
    }


@pytest.mark.parametrize("id_", SUITES)
def test_either_half_alone_is_refused(id_: int, tamper: Callable[..., None]) -> None:
    public = KEYS[id_][0].public
    broken = broken_signatures(id_)
    for signature, _ in broken.values():
        with pytest.raises(SignatureError):
            suite.verify(id_, public, MESSAGE, signature, ctx=CTX)
    for half in ("ed", "pq"):
        tamper(id_, **{f"{half}_public": lambda _: Yes()})
        for signature, stopped_by in broken.values():
            if stopped_by == half:
                suite.verify(id_, public, MESSAGE, signature, ctx=CTX)
            else:
                with pytest.raises(SignatureError):
                    suite.verify(id_, public, MESSAGE, signature, ctx=CTX)
        tamper(id_, **{f"{half}_public": getattr(BEFORE[id_], f"{half}_public")})


BEFORE = dict(suite._SCHEMES)


@pytest.mark.parametrize("id_", SUITES)
def test_swapped_halves_and_other_lengths_are_refused(id_: int) -> None:
    key = KEYS[id_][0]
    signature = key.sign(MESSAGE, ctx=CTX)
    pq, ed = halves(id_, signature)
    with pytest.raises(SignatureError, match="does not verify"):
        suite.verify(id_, key.public, MESSAGE, ed + pq, ctx=CTX)
    for wrong in (pq, ed, signature + b"\x00", signature[:-1], b""):
        with pytest.raises(SignatureError, match=f"signature of {len(wrong)} bytes"):
            suite.verify(id_, key.public, MESSAGE, wrong, ctx=CTX)
    pk_pq, pk_ed = suite.components(id_, key.public)
    for public in (pk_ed + pk_pq, key.public[:-1], key.public + b"\x00", b"", KEYS[id_][1].public):
        with pytest.raises(SignatureError):
            suite.verify(id_, public, MESSAGE, signature, ctx=CTX)


# --- attack 3: half a signature reused elsewhere ---


@pytest.mark.parametrize("id_", SUITES)
def test_halves_are_no_plain_signatures(id_: int, monkeypatch: pytest.MonkeyPatch) -> None:
    key, scheme = KEYS[id_][0], suite._SCHEMES[id_]
    pk_pq, pk_ed = suite.components(id_, key.public)

    def plain(signature: bytes) -> list[bool]:
        pq, ed = halves(id_, signature)
        results = []
        for check in (
            lambda: scheme.ed_public(pk_ed).verify(ed, MESSAGE),
            lambda: scheme.pq_public(pk_pq).verify(pq, MESSAGE),
            lambda: scheme.pq_public(pk_pq).verify(pq, MESSAGE, scheme.label),
        ):
            try:
                check()
                results.append(True)
            except Exception:
                results.append(False)
        return results

    assert plain(key.sign(MESSAGE, ctx=CTX)) == [False, False, False]
    # And the other way: signatures made outside must not join to a composite.
    joined = key._pq.sign(MESSAGE, scheme.label) + key._ed.sign(MESSAGE)
    with pytest.raises(SignatureError):
        suite.verify(id_, key.public, MESSAGE, joined, ctx=CTX)
    monkeypatch.setattr(suite._Scheme, "representative", lambda _, message, ctx: message)
    assert plain(key.sign(MESSAGE, ctx=CTX)) == [True, False, True]  # the label alone keeps plain ML-DSA out
    suite.verify(id_, key.public, MESSAGE, joined, ctx=CTX)


@pytest.mark.parametrize("id_", SUITES)
def test_a_signature_of_another_type_is_refused(id_: int, monkeypatch: pytest.MonkeyPatch) -> None:
    key = KEYS[id_][0]
    signature = key.sign(MESSAGE, ctx="tocsin/1/roster")
    with pytest.raises(SignatureError):
        suite.verify(id_, key.public, MESSAGE, signature, ctx="tocsin/1/party")
    with_ctx = suite._Scheme.representative
    monkeypatch.setattr(suite._Scheme, "representative", lambda self, message, ctx: with_ctx(self, message, ""))
    signature = key.sign(MESSAGE, ctx="tocsin/1/roster")
    suite.verify(id_, key.public, MESSAGE, signature, ctx="tocsin/1/party")


def test_ctx_and_message_do_not_run_together() -> None:
    scheme = suite._SCHEMES[suite.DESK_SUITE]
    assert scheme.representative(b"", "ab") != scheme.representative(b"b", "a")
    assert scheme.representative(b"", "\u00e9")[-66:-64] == "\u00e9".encode()  # lengths count bytes
    assert scheme.representative(b"", "\u00e9")[-67] == 2


def test_a_shared_component_is_seen() -> None:
    """What the trust core compares so that no half is used twice in a lineage."""
    one, other = (suite.SigningKey.generate(1) for _ in range(2))
    joined = suite.SigningKey.from_seed(1, one.seed()[:32] + other.seed()[32:])
    assert set(suite.components(1, joined.public)) & set(suite.components(1, one.public))
    assert set(suite.components(1, joined.public)) & set(suite.components(1, other.public))
    assert not set(suite.components(1, one.public)) & set(suite.components(1, other.public))


def test_possession_is_for_one_use() -> None:
    key = KEYS[1][0]
    use = {"lineage": bytes(32), "party": "nl", "name": "nl.seoul/economic", "role": "desk"}
    proof = suite.prove_possession(key, **use)
    suite.check_possession(1, key.public, proof, **use)
    for change in ({"lineage": b"\x01" * 32}, {"party": "kr"}, {"name": "nl.seoul/other"}, {"role": "log"}):
        with pytest.raises(SignatureError):
            suite.check_possession(1, key.public, proof, **{**use, **change})
    with pytest.raises(SignatureError):
        suite.check_possession(1, KEYS[1][1].public, proof, **use)


# --- attack 8: partitioning oracle ---


class Spy:
    """The library's HPKE, counted."""

    def __init__(self, real: Any) -> None:
        self._real, self.calls = real, 0

    def decrypt(self, *arguments: Any) -> Any:
        self.calls += 1
        return self._real.decrypt(*arguments)

    def encrypt(self, *arguments: Any) -> Any:
        return self._real.encrypt(*arguments)


@pytest.mark.parametrize("length", [0, 1, 1119, 1120, 1167, 1169, 4096])
def test_a_wrap_of_another_length_reaches_no_kem(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(suite._HPKE)
    monkeypatch.setattr(suite, "_HPKE", spy)
    wrapped = suite.wrap(CARD.public, info=b"", secret=bytes(32)) + bytes(3000)
    with pytest.raises(OpenError):
        CARD.unwrap(wrapped[:length], info=b"")
    assert spy.calls == 0
    monkeypatch.setattr(suite, "WRAP_SIZE", length)
    with pytest.raises(OpenError):
        CARD.unwrap(wrapped[:length], info=b"")
    assert spy.calls == 1


def test_a_wrap_that_does_not_open_says_nothing_more() -> None:
    wrapped = suite.wrap(CARD.public, info=b"", secret=bytes(32))
    low_order = wrapped[:1088] + bytes(32) + wrapped[1120:]
    texts = set()
    for bad in (b"", wrapped[:-1], wrapped + b"\x00", low_order, bytes([wrapped[0] ^ 1]) + wrapped[1:], bytes(1168)):
        with pytest.raises(OpenError) as caught:
            CARD.unwrap(bad, info=b"")
        assert caught.value.__cause__ is None
        texts.add((str(caught.value), caught.value.hint))
    assert len(texts) == 1


# --- attack 9: low-order, mixed-order or malformed public keys ---


def encode(curve: points.Curve, y: int, sign: int) -> bytes:
    return (y | sign << (8 * curve.size - 1)).to_bytes(curve.size, "little")


def bad_points(curve: points.Curve, honest: bytes) -> list[tuple[bytes, str]]:
    """Public keys nobody should use, each with what is said of it."""
    number, bits = int.from_bytes(honest, "little"), 8 * curve.size - 1
    y, sign = number & ((1 << bits) - 1), number >> bits
    no_point = next(guess for guess in range(2, 50) if isinstance(points._decode(curve, encode(curve, guess, 0)), str))
    bad = [
        (encode(curve, 1, 0), "low order"),  # the neutral point
        (encode(curve, curve.p - 1, 0), "low order"),  # order 2
        (encode(curve, 0, 0), "low order"),  # order 4
        (encode(curve, curve.p - y, 1 - sign), "torsion"),  # honest + (0, -1) = (-x, -y)
        (encode(curve, curve.p, 0), "canonical"),
        (encode(curve, curve.p + 1, 0), "canonical"),
        (encode(curve, 1, 1), "canonical"),  # x = 0 with a sign
        (b"\xff" * curve.size, "canonical"),
        (encode(curve, no_point, 0), "not a point"),
    ]
    if (y + curve.p).bit_length() <= bits:  # Ed448 has seven bits to spare, so every key has more than one encoding
        bad.append((encode(curve, y + curve.p, sign), "canonical"))
    return bad


@pytest.mark.parametrize("id_", SUITES)
def test_bad_edwards_halves_are_not_admitted(id_: int, monkeypatch: pytest.MonkeyPatch) -> None:
    public, scheme = KEYS[id_][0].public, suite._SCHEMES[id_]
    suite.check_signing_key(id_, public)
    pq, ed = suite.components(id_, public)
    bad = bad_points(scheme.curve, ed)
    for half, why in bad:
        with pytest.raises(BadKeyError, match=f"{scheme.curve.name}.*{why}"):
            suite.check_signing_key(id_, pq + half)
    monkeypatch.setattr(points, "fault_of", lambda *_: None)
    for half, _ in bad:
        suite.check_signing_key(id_, pq + half)


def test_why_low_order_halves_are_not_admitted() -> None:
    """Under the neutral point one Ed25519 signature holds for every message: the composite would be ML-DSA alone."""
    key = suite.SigningKey.generate(suite.DESK_SUITE)
    neutral = encode(points.ED25519, 1, 0)
    public = suite.components(1, key.public)[0] + neutral
    forged_half = neutral + bytes(32)
    for message in (b"one", b"two"):
        signature = halves(1, key.sign(message, ctx=CTX))[0] + forged_half
        suite.verify(1, public, message, signature, ctx=CTX)
    with pytest.raises(BadKeyError, match="low order"):
        suite.check_signing_key(1, public)


def test_edwards_arithmetic() -> None:
    for id_ in SUITES:
        curve = suite._SCHEMES[id_].curve
        for _ in range(20):
            ed = suite.components(id_, suite.SigningKey.generate(id_).public)[1]
            assert points.fault_of(curve, ed) is None
        point = points._decode(curve, ed)
        assert not isinstance(point, str)
        assert points._is_neutral(curve, points._multiply(curve, curve.order, point))
        assert not points._is_neutral(curve, points._multiply(curve, curve.order - 1, point))
    assert points.fault_of(points.ED25519, bytes(31)) == "31 bytes, must be 32"


@pytest.mark.parametrize("id_", SUITES)
def test_signing_keys_of_another_length_are_not_admitted(id_: int) -> None:
    public = KEYS[id_][0].public
    for wrong in (b"", public[:-1], public + b"\x00", KEYS[3 - id_][0].public, CARD.public):
        with pytest.raises(BadKeyError, match=f"signing key of {len(wrong)} bytes"):
            suite.check_signing_key(id_, wrong)


def bad_cards() -> dict[str, bytes]:
    kem, dh = CARD.public[:-32], CARD.public[-32:]
    return {
        "short": CARD.public[:-1],
        "long": CARD.public + b"\x00",
        "empty": b"",
        "dh zero": kem + bytes(32),
        "dh one": kem + b"\x01" + bytes(31),
        "dh p": kem + (2**255 - 19).to_bytes(32, "little"),
        "kem out of range": b"\xff\xff\xff" + kem[3:] + dh,
    }


def test_bad_cards_are_not_admitted(monkeypatch: pytest.MonkeyPatch) -> None:
    suite.check_card_key(CARD.public)
    for card in bad_cards().values():
        why = "cannot be sealed to" if len(card) == suite.CARD_SIZE else f"card key of {len(card)} bytes"
        with pytest.raises(BadKeyError, match=why):
            suite.check_card_key(card)
    monkeypatch.setattr(suite, "wrap", lambda *_, **__: b"")  # the trial seal, switched off
    for card in bad_cards().values():
        if len(card) == suite.CARD_SIZE:
            suite.check_card_key(card)


def test_a_bad_card_stops_nobody_else() -> None:
    cards = [CARD.public, bad_cards()["dh zero"], bad_cards()["kem out of range"], suite.CardKey.generate().public]
    made = []
    for card in cards:
        try:
            made.append(suite.wrap(card, info=b"", secret=bytes(32)))
        except BadKeyError:
            made.append(b"")
    assert [len(wrapped) for wrapped in made] == [suite.WRAP_SIZE, 0, 0, suite.WRAP_SIZE]


# --- attack 18: algorithm downgrade ---


def test_the_registry_is_closed() -> None:
    for id_ in (0, 3, 0x100, 0x1FF, -1, 2**32):
        for call in (
            lambda id_=id_: suite.suite(id_),
            lambda id_=id_: suite.verify(id_, KEYS[1][0].public, b"", b"", ctx=CTX),
            lambda id_=id_: suite.check_signing_key(id_, b""),
            lambda id_=id_: suite.SigningKey.generate(id_),
        ):
            with pytest.raises(UnknownSuiteError):
                call()
    with pytest.raises(TypeError):
        suite._SCHEMES[3] = suite._SCHEMES[1]  # type: ignore[index]


def test_no_suite_is_classical_only() -> None:
    for id_, scheme in suite._SCHEMES.items():
        assert scheme.suite.id == id_
        assert b"MLDSA" in scheme.label
        assert 0 < scheme.pq_public_size < scheme.suite.public_size
        assert 0 < scheme.pq_signature_size < scheme.suite.signature_size
    # Card and wrap are longer than anything that an elliptic curve alone would make.
    assert suite.CARD_SIZE == 1184 + 32
    assert suite.WRAP_SIZE == 1088 + 32 + 32 + 16


def test_a_flipped_suite_is_refused() -> None:
    for id_ in SUITES:
        key = KEYS[id_][0]
        signature = key.sign(MESSAGE, ctx=CTX)
        with pytest.raises(SignatureError):
            suite.verify(3 - id_, key.public, MESSAGE, signature, ctx=CTX)


def test_a_new_suite_comes_and_goes(monkeypatch: pytest.MonkeyPatch, tamper: Callable[..., None]) -> None:
    """A suite that only this test has: same primitives and sizes, another label."""
    new_id = 0x7F01
    old = suite._SCHEMES[1]
    new = replace(old, suite=replace(old.suite, id=new_id, name="test"), label=b"COMPSIG-test-MLDSA65-Ed25519")
    with monkeypatch.context() as patch:
        patch.setattr(suite, "_SCHEMES", MappingProxyType({**suite._SCHEMES, new_id: new}))
        key = suite.SigningKey.generate(new_id)
        signature = key.sign(MESSAGE, ctx=CTX)
        suite.verify(new_id, key.public, MESSAGE, signature, ctx=CTX)
        suite.check_signing_key(new_id, key.public)
        # The label is what stops a signature under one suite from counting under another with the same key bytes.
        with pytest.raises(SignatureError):
            suite.verify(1, key.public, MESSAGE, signature, ctx=CTX)
        tamper(1, label=new.label)
        suite.verify(1, key.public, MESSAGE, signature, ctx=CTX)
    with pytest.raises(UnknownSuiteError):
        suite.verify(new_id, key.public, MESSAGE, signature, ctx=CTX)


# --- attack 30: secrets in logs and errors ---


def shows(text: str, secret: bytes) -> bool:
    """Any eight bytes of a secret, in any of the ways Python or we would print them."""
    return any(
        form in text
        for start in range(len(secret) - 7)
        for part in (secret[start : start + 8],)
        for form in (part.hex(), repr(part)[2:-1], str(list(part))[1:-1])
    )


@pytest.mark.parametrize("key", [*(keys[0] for keys in KEYS.values()), CARD], ids=["desk", "root", "card"])
def test_keys_print_nothing_secret(key: suite.SigningKey | suite.CardKey) -> None:
    seed = key.seed()
    assert shows(repr(seed), seed)
    assert shows(seed.hex(), seed)
    for text in (repr(key), str(key), f"{key}", "%s" % (key,), repr([key]), repr({"key": key})):  # noqa: UP031
        assert not shows(text, seed)
    for leak in (pickle.dumps, copy.copy, copy.deepcopy, json.dumps, vars):
        with pytest.raises(TypeError) as caught:
            leak(key)
        assert not shows(str(caught.value), seed)


def test_errors_print_nothing_secret() -> None:
    secret = bytes(range(100, 164))
    for call in (
        lambda: suite.SigningKey.from_seed(suite.DESK_SUITE, secret[:63]),
        lambda: suite.SigningKey.from_seed(suite.ROOT_SUITE, secret),
        lambda: suite.CardKey.from_seed(secret),
        lambda: suite.wrap(CARD.public, info=b"", secret=secret),
        lambda: suite.aead_seal(secret, b"", b""),
        lambda: suite.aead_open(secret[:32], bytes(40), b""),
        lambda: CARD.unwrap(secret, info=b""),
    ):
        with pytest.raises(TocsinError) as caught:
            call()
        assert not shows(f"{caught.value!r} {caught.value} {caught.value.hint} {caught.value.metadata}", secret)


# --- any bytes at all ---

JUNK = st.binary(max_size=64) | st.sampled_from([1168, 1216, 1984, 2649, 3373, 4741]).flatmap(
    lambda size: st.binary(min_size=size, max_size=size)
)


@settings(max_examples=60, deadline=None)
@given(id_=st.sampled_from(SUITES), public=JUNK, signature=JUNK, ctx=st.text(max_size=20))
def test_junk_signatures_and_keys(id_: int, public: bytes, signature: bytes, ctx: str) -> None:
    with pytest.raises(SignatureError):
        suite.verify(id_, public, MESSAGE, signature, ctx=ctx)
    with pytest.raises(SignatureError):
        suite.verify(id_, KEYS[id_][0].public, MESSAGE, signature, ctx=ctx)


@settings(max_examples=60, deadline=None)
@given(JUNK)
def test_junk_wraps_and_cards(junk: bytes) -> None:
    with pytest.raises(OpenError):
        CARD.unwrap(junk, info=b"")
    for call in (
        lambda: suite.check_card_key(junk),
        lambda: suite.wrap(junk, info=b"", secret=bytes(32)),
        lambda: suite.check_signing_key(1, junk),
        lambda: suite.check_signing_key(2, junk),
    ):
        with suppress(BadKeyError):
            call()


@settings(max_examples=40, deadline=None)
@given(id_=st.sampled_from(SUITES), where=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_flipped_bit_is_refused(id_: int, where: int, bit: int) -> None:
    key = KEYS[id_][0]
    signature = bytearray(key.sign(MESSAGE, ctx=CTX))
    signature[where % len(signature)] ^= 1 << bit
    with pytest.raises(SignatureError):
        suite.verify(id_, key.public, MESSAGE, bytes(signature), ctx=CTX)
