"""Signing keys with a half elsewhere: in a SoftHSM2 token, or in a stand-in for a token that offers ML-DSA."""

import copy
import ctypes
import json
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import mldsa

from keys import documents, founding, pkcs11, signer, suite
from keys.errors import BadKeyError, SignatureError, TocsinError, UsageError
from keys.keystore import Keystore, KeystoreError, SecretExistsError, UnknownSecretError
from keys.pkcs11 import Token, TokenError, TokenLockedError, TokenMissingError, TokenPinError
from keys.v1 import documents_pb2 as pb
from tests.keys.tokens import MODULE, PIN, needs_token

SUITES = (suite.DESK_SUITE, suite.ROOT_SUITE)
CTX = "tocsin/1/envelope"
MESSAGE = b"gallium: strained"


@pytest.fixture
def store(tmp_path: Path) -> Keystore:
    return Keystore.create(tmp_path / "desk.keys", b"")


# --- halves ---


def edwards(id_: int) -> suite.Half:
    """The Edwards half of a key in memory."""
    key = suite.SigningKey.generate(id_)
    return suite.Half(key._ed.public_key().public_bytes_raw(), lambda representative, _: key._ed.sign(representative))


@pytest.mark.parametrize("id_", SUITES)
def test_two_halves_sign_as_one_key(id_: int) -> None:
    key = suite.SplitKey(id_, pq=suite.mldsa_half(id_, bytes(32)), ed=edwards(id_))
    suite.verify(id_, key.public, MESSAGE, key.sign(MESSAGE, ctx=CTX), ctx=CTX)
    with pytest.raises(SignatureError):
        suite.verify(id_, key.public, MESSAGE, key.sign(MESSAGE, ctx=CTX), ctx="tocsin/1/roster")
    seeded = suite.SigningKey.from_seed(id_, bytes(suite.suite(id_).seed_size))
    whole = suite.SplitKey(
        id_,
        pq=suite.mldsa_half(id_, bytes(32)),
        ed=suite.Half(suite.components(id_, seeded.public)[1], lambda message, _: seeded._ed.sign(message)),
    )
    assert whole.public == seeded.public


def test_a_half_that_signs_wrongly_gives_nothing_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in a token can betray its key to whoever sees the faulty signature."""
    good = edwards(1)

    def faulty(representative: bytes, context: bytes) -> bytes:
        signature = bytearray(good.sign(representative, context))
        signature[40] ^= 1
        return bytes(signature)

    key = suite.SplitKey(1, pq=suite.mldsa_half(1, bytes(32)), ed=suite.Half(good.public, faulty))
    with pytest.raises(SignatureError):
        key.sign(MESSAGE, ctx=CTX)
    monkeypatch.setattr(suite, "verify", lambda *_, **__: None)
    assert len(key.sign(MESSAGE, ctx=CTX)) == suite.suite(1).signature_size


def test_halves_that_make_no_key_are_refused() -> None:
    with pytest.raises(BadKeyError):
        suite.SplitKey(1, pq=suite.mldsa_half(2, bytes(32)), ed=edwards(1))
    with pytest.raises(BadKeyError):
        suite.SplitKey(1, pq=suite.mldsa_half(1, bytes(32)), ed=edwards(2))
    low_order = suite.Half(bytes([1]) + bytes(31), lambda *_: bytes(64))
    with pytest.raises(BadKeyError):
        suite.SplitKey(1, pq=suite.mldsa_half(1, bytes(32)), ed=low_order)
    with pytest.raises(UsageError):
        suite.mldsa_half(1, bytes(31))


def test_a_split_key_is_not_printed_or_copied() -> None:
    seed = bytes(range(100, 132))
    key = suite.SplitKey(1, pq=suite.mldsa_half(1, seed), ed=edwards(1))
    assert seed.hex() not in f"{key!r} {key._pq!r}"
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            leak(key)


# --- a real token ---


@needs_token
@pytest.mark.parametrize("id_", SUITES)
def test_what_a_token_signs_verifies_everywhere(id_: int, made: None, store: Keystore) -> None:
    with Token.open(MODULE, "ministry", PIN) as token:
        key, reference = signer.make_in_token(store, "signing", id_, token)
        suite.verify(id_, key.public, MESSAGE, key.sign(MESSAGE, ctx=CTX), ctx=CTX)
        proof = suite.prove_possession(key, lineage=b"", party="nl", name="first", role="root")
        suite.check_possession(id_, key.public, proof, lineage=b"", party="nl", name="first", role="root")
        assert reference.where() == signer.where(store, "signing")
    assert "half in token 'ministry', ML-DSA half in this keystore file" in signer.where(store, "signing")
    again = signer.load(store, "signing", id_, ask_pin=lambda label: PIN)
    assert again.public == key.public == store.entry("signing").public
    suite.verify(id_, again.public, MESSAGE, again.sign(MESSAGE, ctx=CTX), ctx=CTX)


@needs_token
def test_the_private_half_does_not_leave_the_token(made: None, store: Keystore) -> None:
    import pkcs11 as binding

    with Token.open(MODULE, "ministry", PIN) as token:
        _, reference = signer.make_in_token(store, "signing", 1, token)
        private = token._session.get_key(object_class=binding.ObjectClass.PRIVATE_KEY, id=reference.identity)
        with pytest.raises(binding.PKCS11Error):
            private[binding.Attribute.VALUE]
    assert set(json.loads(store.get("signing"))) == {"module", "token", "identity", "suite", "mldsa_seed", "pin_file"}


@needs_token
def test_a_token_that_would_show_its_keys_is_refused(
    made: None, store: Keystore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_handed(attribute: Any) -> dict[Any, bool]:
        return {attribute.PRIVATE: True, attribute.SENSITIVE: False, attribute.EXTRACTABLE: True, attribute.SIGN: True}

    monkeypatch.setattr(pkcs11, "_kept", open_handed)
    with Token.open(MODULE, "ministry", PIN) as token:
        before = len(list(token._session.get_objects()))
        with pytest.raises(TokenError, match="can be taken out"):
            signer.make_in_token(store, "signing", 1, token)
        assert len(list(token._session.get_objects())) == before
        assert store.names() == ()
        monkeypatch.setattr(Token, "_require_kept", lambda *_: None)
        signer.make_in_token(store, "signing", 1, token)


@needs_token
def test_a_name_that_is_taken_leaves_nothing_in_the_token(made: None, store: Keystore) -> None:
    store.put("signing", bytes(64), kind="signing")
    with Token.open(MODULE, "ministry", PIN) as token:
        before = len(list(token._session.get_objects()))
        with pytest.raises(SecretExistsError):
            signer.make_in_token(store, "signing", 1, token)
        assert len(list(token._session.get_objects())) == before


@needs_token
def test_documents_are_signed_by_a_token(made: None, store: Keystore) -> None:
    """Everything that signs takes whatever signs."""
    with Token.open(MODULE, "ministry", PIN) as token:
        key, _ = signer.make_in_token(store, "signing", 1, token)
        document = documents.sign(documents.make(pb.Renunciation(lineage=bytes(32))), key, role="desk")
        documents.require_key(document, pb.PublicKey(suite=1, key=key.public), role="desk")
        card = founding.key_card("nl.bz/supply", key, suite.CardKey.generate(), lineage=bytes(32), week=2900)
        documents.require_key(card, pb.PublicKey(suite=1, key=key.public), role="desk")
        entry = founding.desk_entry("nl.bz/supply", key, lineage=bytes(32))
        suite.check_possession(
            1, key.public, entry.keys[0].key.possession, lineage=bytes(32), party="nl", name="nl.bz/supply", role="desk"
        )


@needs_token
def test_the_pin_comes_from_a_file_of_ones_own(made: None, store: Keystore, tmp_path: Path) -> None:
    pin_file = tmp_path / "pin"
    pin_file.write_bytes(PIN + b"\n")
    pin_file.chmod(0o600)
    with Token.open(MODULE, "ministry", PIN) as token:
        with pytest.raises(UsageError, match="whole path"):
            signer.make_in_token(store, "signing", 1, token, pin_file="pin")
        signer.make_in_token(store, "signing", 1, token, pin_file=str(pin_file))
        signer.make_in_token(store, "asked", 1, token)
    assert signer.load(store, "signing", 1).public == store.entry("signing").public
    pin_file.chmod(0o640)
    with pytest.raises(KeystoreError, match="other users"):
        signer.load(store, "signing", 1)
    with pytest.raises(UsageError, match="nobody is here to ask"):
        signer.load(store, "asked", 1)
    with pytest.raises(UsageError, match="suite 1, not 2"):
        signer.load(store, "asked", 2, ask_pin=lambda _: PIN)


@needs_token
def test_what_goes_wrong_with_a_token_is_named(made: None, store: Keystore, tmp_path: Path) -> None:
    for module, label, pin, error, text in (
        (str(tmp_path / "nowhere.so"), "ministry", PIN, TokenMissingError, "nowhere.so does not load"),
        ("libsofthsm2.so", "ministry", PIN, UsageError, "whole path"),
        (MODULE, "embassy", PIN, TokenMissingError, "no token 'embassy'; there are: 'ministry', 'spare'"),
        (MODULE, "spare", b"wr0ng-pin", TokenPinError, "not the PIN of token 'spare'"),
        (MODULE, "spare", b"", UsageError, "1 to 255"),
        (MODULE, "spare", b"\xff\xfe\xfd\xfc", UsageError, "UTF-8"),
    ):
        with pytest.raises(error, match=text) as caught:
            Token.open(module, label, pin)
        assert caught.value.hint or isinstance(caught.value, UsageError)
        assert "wr0ng" not in f"{caught.value!r} {caught.value.hint} {caught.value.metadata}"
    with Token.open(MODULE, "spare", PIN) as token:
        signer.make_in_token(store, "signing", 1, token)
        assert token.destroy(signer.Reference.decode(store.get("signing")).identity) == 2
    with pytest.raises(TokenMissingError, match="has no EC_EDWARDS key") as caught:
        signer.load(store, "signing", 1, ask_pin=lambda _: PIN)
    assert "another token" in caught.value.hint
    assert pkcs11._OPEN.get((MODULE, "spare")) is None
    assert pkcs11.labels(MODULE) == ("ministry", "spare")


@needs_token
def test_a_wrong_pin_says_how_few_tries_are_left(made: None) -> None:
    """SoftHSM warns after the first wrong PIN; a right one makes it forget."""
    with pytest.raises(TokenPinError, match="few tries are left"):
        Token.open(MODULE, "spare", b"wr0ng-pin")
    Token.open(MODULE, "spare", PIN).close()


def test_a_locked_token_says_who_can_help(monkeypatch: pytest.MonkeyPatch) -> None:
    """SoftHSM never locks; a token that does raises this."""
    binding = pytest.importorskip("pkcs11")

    def locked(**_: object) -> None:
        raise binding.PinLocked

    token = SimpleNamespace(open=locked)
    monkeypatch.setattr(pkcs11, "_library", lambda _: SimpleNamespace(get_token=lambda **_: token))
    with pytest.raises(TokenLockedError, match="'spare' is locked") as caught:
        Token.open("/nowhere.so", "spare", PIN)
    assert "security officer" in caught.value.hint


@needs_token
def test_two_users_of_a_token_share_its_login(made: None, store: Keystore) -> None:
    with Token.open(MODULE, "spare", PIN) as first:
        key, _ = signer.make_in_token(store, "signing", 1, first)
        with Token.open(MODULE, "spare", PIN) as second:
            assert second is first
        key.sign(MESSAGE, ctx=CTX)
    with pytest.raises(TokenMissingError):
        key.sign(MESSAGE, ctx=CTX)


def test_without_the_binding_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins

    real = builtins.__import__

    def absent(name: str, *given: Any, **named: Any) -> Any:
        if name == "pkcs11":
            raise ImportError(name)
        return real(name, *given, **named)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(UsageError, match="cannot speak to tokens") as caught:
        Token.open("/usr/lib/x.so", "ministry", PIN)
    assert "tocsin[hsm]" in caught.value.hint


@pytest.mark.parametrize(
    ("der", "point"),
    [
        (bytes(32), bytes(32)),
        (b"\x04\x20" + b"p" * 32, b"p" * 32),
        (b"\x03\x21\x00" + b"p" * 32, b"p" * 32),
        (b"\x04\x21" + b"p" * 32, None),
        (b"\x04\x20" + b"p" * 31, None),
        (b"\x03\x21\x01" + b"p" * 32, None),
        (b"", None),
    ],
)
def test_public_keys_as_tokens_show_them(der: bytes, point: bytes | None) -> None:
    if point is None:
        with pytest.raises(TokenError):
            pkcs11._point(der, 32)
    else:
        assert pkcs11._point(der, 32) == point


# --- a token that offers ML-DSA: none can be had here, so a stand-in behind the binding's names ---


class Offering:
    """The session of a token with CKM_ML_DSA, as the binding shows it; it reads the context from the raw structure."""

    def __init__(self) -> None:
        self.keys: dict[bytes, mldsa.MLDSA65PrivateKey] = {}
        self.binding = pytest.importorskip("pkcs11")

    def generate_keypair(self, key_type: Any, *, id: bytes, public_template: Any, **_: Any) -> tuple[Any, Any]:
        assert key_type is self.binding.KeyType.ML_DSA
        assert public_template == {self.binding.Attribute.PARAMETER_SET: 2}
        self.keys[id] = mldsa.MLDSA65PrivateKey.generate()
        return self.get_key(self.binding.ObjectClass.PUBLIC_KEY, key_type, id), {
            self.binding.Attribute.SENSITIVE: True,
            self.binding.Attribute.EXTRACTABLE: False,
        }

    def get_key(self, object_class: Any, key_type: Any, id: bytes) -> Any:
        if id not in self.keys:
            raise self.binding.NoSuchKey
        key = self.keys[id]
        if object_class is self.binding.ObjectClass.PUBLIC_KEY:
            return {self.binding.Attribute.VALUE: key.public_key().public_bytes_raw()}

        def sign(data: bytes, *, mechanism: Any, mechanism_param: bytes) -> bytes:
            assert mechanism is self.binding.Mechanism.ML_DSA
            assert len(mechanism_param) == 3 * ctypes.sizeof(ctypes.c_void_p)
            hedge, address, length = (int.from_bytes(mechanism_param[k : k + 8], "little") for k in (0, 8, 16))
            assert hedge == 0
            return key.sign(data, ctypes.string_at(address, length))

        return SimpleNamespace(sign=sign)


def test_mldsa_in_the_token_signs_with_the_context_of_the_suite(
    store: Keystore, monkeypatch: pytest.MonkeyPatch
) -> None:
    binding = pytest.importorskip("pkcs11")
    offering = Offering()
    slot = SimpleNamespace(get_mechanisms=lambda: {binding.Mechanism.ML_DSA, binding.Mechanism.EDDSA})
    token = Token("/token.so", "modern", SimpleNamespace(slot=slot), offering)  # type: ignore[arg-type]
    curve = edwards(1)
    monkeypatch.setattr(Token, "make_edwards", lambda *_, **__: curve)
    monkeypatch.setattr(Token, "edwards", lambda *_, **__: curve)
    monkeypatch.setattr(Token, "open", lambda *_: token)
    key, reference = signer.make_in_token(store, "signing", 1, token)
    assert reference.mldsa_seed == b""
    assert signer.where(store, "signing") == "Ed25519 half in token 'modern', ML-DSA half in the token"
    loaded = signer.load(store, "signing", 1, ask_pin=lambda _: PIN)
    assert loaded.public == key.public
    suite.verify(1, key.public, MESSAGE, loaded.sign(MESSAGE, ctx=CTX), ctx=CTX)
    # Another context is another signature: the structure is what carries it.
    monkeypatch.setattr(
        pkcs11, "_SignContext", lambda hedge, context, length: _context(hedge, context[:-1], length - 1)
    )
    with pytest.raises(SignatureError):
        loaded.sign(MESSAGE, ctx=CTX)


def _context(hedge: int, context: bytes, length: int) -> ctypes.Structure:
    class Context(ctypes.Structure):
        _fields_ = (("hedge", ctypes.c_ulong), ("context", ctypes.c_char_p), ("length", ctypes.c_ulong))

    _KEEP.append(context)
    return Context(hedge, context, length)


_KEEP: list[bytes] = []


# --- keys in files ---


@pytest.mark.parametrize("id_", SUITES)
def test_a_seed_in_the_keystore_is_loaded_as_ever(id_: int, store: Keystore) -> None:
    key = suite.SigningKey.generate(id_)
    store.put("signing", key.seed(), kind="signing", public=key.public)
    assert signer.load(store, "signing", id_).public == key.public
    assert signer.where(store, "signing") == "both halves in this keystore file"
    with pytest.raises(UnknownSecretError):
        signer.load(store, "other", id_)


def test_a_reference_shows_no_seed_and_foreign_bytes_are_refused(store: Keystore) -> None:
    seed = bytes(range(100, 132))
    reference = signer.Reference("/m.so", "t", bytes(16), 1, seed)
    assert seed.hex() not in repr(reference)
    assert signer.Reference.decode(reference.encode()) == reference
    for junk in (b"", b"{}", b"[1]", b'{"module": 1}', b"\xff", reference.encode()[:-2]):
        with pytest.raises(TocsinError):
            signer.Reference.decode(junk)
