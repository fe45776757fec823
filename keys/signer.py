"""Which key a name in a keystore stands for: a seed in the file, or a reference to a token that holds a half of it."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_bytes
from typing import Final

from keys import private_file, suite
from keys.errors import UsageError
from keys.keystore import Keystore, KeystoreError
from keys.pkcs11 import ID_BYTES, MAX_PIN_BYTES, Token, TokenError

SIGNING: Final = "signing"
"""Kind of a keystore entry that is a seed."""
REFERENCE: Final = "token"
"""Kind of a keystore entry that refers to a token."""
_LABEL: Final = "tocsin"
AskPin = Callable[[str], bytes]
"""Gives the PIN of the token of that label: a prompt. There is none where nobody sits."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Where the halves of a key lie; the secret of a keystore entry of kind REFERENCE.

    Attributes:
        module: Whole path of the PKCS#11 library.
        token: Label of the token.
        identity: CKA_ID of the halves in it, ID_BYTES bytes.
        suite: Suite id.
        mldsa_seed: The ML-DSA half when the token offers none, 32 bytes; else empty.
        pin_file: Where a machine that runs unattended finds the PIN; else empty.
    """

    module: str
    token: str
    identity: bytes
    suite: int
    mldsa_seed: bytes = field(repr=False)
    pin_file: str = ""

    def where(self) -> str:
        """In words, for people."""
        curve = "Ed448" if self.suite == suite.ROOT_SUITE else "Ed25519"
        rest = "in this keystore file, because the token offers none" if self.mldsa_seed else "in the token"
        return f"{curve} half in token {self.token!r}, ML-DSA half {rest}"

    def encode(self) -> bytes:
        """As the keystore holds it."""
        return json.dumps(
            {
                "module": self.module,
                "token": self.token,
                "identity": self.identity.hex(),
                "suite": self.suite,
                "mldsa_seed": self.mldsa_seed.hex(),
                "pin_file": self.pin_file,
            }
        ).encode()

    @classmethod
    def decode(cls, data: bytes) -> "Reference":
        """The inverse.

        Raises:
            KeystoreError: Not a reference of this version.
        """
        try:
            said = json.loads(data)
            return cls(
                str(said["module"]),
                str(said["token"]),
                bytes.fromhex(said["identity"]),
                int(said["suite"]),
                bytes.fromhex(said["mldsa_seed"]),
                str(said["pin_file"]),
            )
        except (ValueError, KeyError, TypeError):
            raise KeystoreError("the keystore's reference to a token is not of this version") from None


def load(store: Keystore, name: str, suite_id: int, *, ask_pin: AskPin | None = None) -> suite.Signer:
    """The signing key of a name.

    Args:
        store: Open.
        name: Of an entry that holds a seed, or a reference to a token.
        suite_id: The suite the key is used in.
        ask_pin: Asks a person; used when the reference names no file with the PIN.

    Raises:
        UnknownSecretError: No such name.
        UsageError: A key of another suite, or nobody to ask for the PIN.
        TokenError: The token is missing, locked, or takes another PIN.
    """
    if store.entry(name).kind != REFERENCE:
        return suite.SigningKey.from_seed(suite_id, store.get(name))
    reference = Reference.decode(store.get(name))
    if reference.suite != suite_id:
        raise UsageError(f"{name} is a key of suite {reference.suite}, not {suite_id}")
    token = Token.open(reference.module, reference.token, _pin(reference, ask_pin))
    try:
        if reference.mldsa_seed:
            pq = suite.mldsa_half(suite_id, reference.mldsa_seed)
        else:
            pq = token.mldsa(suite_id, identity=reference.identity)
        # The token stays open for as long as the key may sign: to the end of the process.
        return suite.SplitKey(suite_id, pq=pq, ed=token.edwards(suite_id, identity=reference.identity))
    except BaseException:
        token.close()
        raise


@dataclass(frozen=True, slots=True)
class InToken:
    """Where the key of a machine that starts unattended is to lie: an open token, and the file with its PIN."""

    token: Token
    pin_file: str


def make(store: Keystore, name: str, suite_id: int, *, where: InToken | None = None) -> suite.Signer:
    """Draw a new key and keep it under `name`: in the keystore, or as much of it as can be in a token.

    Raises:
        SecretExistsError: The name is taken.
        TokenError: The token cannot make such a key.
    """
    if where is not None:
        key, _ = make_in_token(store, name, suite_id, where.token, pin_file=where.pin_file)
        return key
    key = suite.SigningKey.generate(suite_id)
    store.put(name, key.seed(), kind=SIGNING, public=key.public)
    return key


def make_in_token(
    store: Keystore, name: str | Callable[[suite.Signer], str], suite_id: int, token: Token, *, pin_file: str = ""
) -> tuple[suite.Signer, Reference]:
    """Draw a new key, as much of it in the token as the token offers, and keep the reference under `name`.

    Args:
        store: Open; it gets the ML-DSA half when the token offers none.
        name: Of the new entry, or what to call it once it is drawn.
        suite_id: The suite.
        token: Open.
        pin_file: Whole path of a file with the PIN, for a machine that runs unattended.

    Raises:
        SecretExistsError: The name is taken; nothing is left in the token.
        TokenError: The token cannot make such a key.
    """
    if pin_file and not Path(pin_file).is_absolute():
        raise UsageError(f"the file with the PIN, {pin_file!r}, is not named by its whole path")
    identity = token_bytes(ID_BYTES)
    label = name if isinstance(name, str) else _LABEL
    try:
        if token.offers_mldsa:
            pq, seed = token.make_mldsa(suite_id, identity=identity, label=label), b""
        else:
            seed = token_bytes(suite.MLDSA_SEED_SIZE)
            pq = suite.mldsa_half(suite_id, seed)
        key = suite.SplitKey(suite_id, pq=pq, ed=token.make_edwards(suite_id, identity=identity, label=label))
        # Used once before anything depends on it; verifies what it signs.
        key.sign(identity, ctx="")
        reference = Reference(token.module, token.label, identity, suite_id, seed, pin_file)
        called = name if isinstance(name, str) else name(key)
        store.put(called, reference.encode(), kind=REFERENCE, public=key.public)
    except BaseException:
        with suppress(TokenError):
            token.destroy(identity)
        raise
    return key, reference


def where(store: Keystore, name: str) -> str:
    """In words, where the halves of a key lie; no token is asked."""
    if store.entry(name).kind != REFERENCE:
        return "both halves in this keystore file"
    return Reference.decode(store.get(name)).where()


def read_pin(file: Path) -> bytes:
    """The PIN in a file that only its owner can read; its last line end is not part of it.

    Raises:
        KeystoreError: No such file, or others have rights on it.
    """
    return private_file.read(file, MAX_PIN_BYTES + 2).removesuffix(b"\n").removesuffix(b"\r")


def _pin(reference: Reference, ask_pin: AskPin | None) -> bytes:
    if reference.pin_file:
        return read_pin(Path(reference.pin_file))
    if ask_pin is None:
        raise UsageError(
            f"token {reference.token!r} needs its PIN and nobody is here to ask",
            hint="make the key again with --pin-file, for a machine that starts unattended",
        )
    return ask_pin(reference.token)
