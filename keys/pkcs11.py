"""Halves of signing keys in a PKCS#11 token: made there, used there, never out of it.

Every token of today signs Ed25519, some Ed448; ML-DSA came with PKCS#11 3.2 and few offer it. A composite key is safe
while either half is, so a key with one half in a token is never worse than one in a file alone.

Source: OASIS PKCS #11 3.0 section 2.3 (CKM_EDDSA), 3.2 section 6.67 (CKM_ML_DSA, CK_SIGN_ADDITIONAL_CONTEXT).
"""

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from keys import suite
from keys.errors import TocsinError, UsageError

if TYPE_CHECKING:
    import pkcs11

MAX_PIN_BYTES: Final = 255
ID_BYTES: Final = 16
_OCTET_STRING, _BIT_STRING = 0x04, 0x03


class TokenError(TocsinError):
    """The token cannot be used as asked."""

    status, reason = "FAILED_PRECONDITION", "TOKEN"


class TokenMissingError(TokenError):
    """No such module, token or key, or it was taken out."""

    status, reason = "UNAVAILABLE", "TOKEN_MISSING"
    hint = "put the token in, check its label, and start again"


class TokenPinError(TokenError):
    """The PIN does not open the token."""

    status, reason = "PERMISSION_DENIED", "TOKEN_PIN"
    hint = "check the PIN before you try again: a token locks itself after a few wrong ones"


class TokenLockedError(TokenPinError):
    """Too many wrong PINs: the token takes none any more."""

    reason = "TOKEN_LOCKED"
    hint = "its security officer must set a new PIN; until then sign with another holder's key"


@dataclass(frozen=True, slots=True)
class _Curve:
    """An Edwards curve as tokens name it: RFC 8410's identifier, and the name PKCS#11 3.0 also allows."""

    params: tuple[bytes, ...]
    public_size: int
    parameter: tuple[bool, None] | None  # Ed448 must be told that it is neither pre-hashed nor has a context
    mldsa: str


_CURVES: Final = {
    suite.DESK_SUITE: _Curve((b"\x06\x03\x2b\x65\x70", b"\x13\x0cedwards25519"), 32, None, "ML_DSA_65"),
    suite.ROOT_SUITE: _Curve((b"\x06\x03\x2b\x65\x71", b"\x13\x0aedwards448"), 57, (False, None), "ML_DSA_87"),
}


class _SignContext(ctypes.Structure):
    """CK_SIGN_ADDITIONAL_CONTEXT; the binding has no name for it yet and takes its bytes."""

    _fields_ = (("hedge", ctypes.c_ulong), ("context", ctypes.c_char_p), ("length", ctypes.c_ulong))


class Token:
    """An open token. `Token.open` and `close`, or a `with` block; usable from several threads.

    A token knows one login for the whole process, so opening it twice gives the same session to both.
    """

    __slots__ = ("_session", "_token", "_users", "label", "module")

    def __init__(self, module: str, label: str, token: "pkcs11.Token", session: "pkcs11.Session") -> None:
        self.module, self.label = module, label
        self._token, self._session = token, session
        self._users = 1

    @classmethod
    def open(cls, module: str, label: str, pin: bytes) -> "Token":
        """Log in to the token of that label.

        Args:
            module: The PKCS#11 library of its maker.
            label: As `labels` shows it.
            pin: At most MAX_PIN_BYTES bytes of UTF-8. Not looked at when this process is logged in already.

        Raises:
            TokenMissingError: No such module or token.
            TokenPinError: Not its PIN.
            UsageError: An empty or overlong PIN, or the `hsm` extra is not installed.
        """
        if not 0 < len(pin) <= MAX_PIN_BYTES:
            raise UsageError(f"a PIN has 1 to {MAX_PIN_BYTES} bytes")
        with _LOCK:
            if (held := _OPEN.get((module, label))) is not None:
                held._users += 1
                return held
            library = _library(module)
            with _failing(module, label):
                token = library.get_token(token_label=label)
                session = token.open(rw=True, user_pin=_text(pin))
            opened = _OPEN[(module, label)] = cls(module, label, token, session)
            return opened

    @property
    def offers_mldsa(self) -> bool:
        """Whether it can hold the post-quantum half too."""
        library = _binding()
        with _failing(self.module, self.label):
            return library.Mechanism.ML_DSA in self._token.slot.get_mechanisms()

    def make_edwards(self, suite_id: int, *, identity: bytes, label: str) -> suite.Half:
        """Draw the Edwards half of a suite inside the token.

        Args:
            suite_id: The suite.
            identity: What to find it by again, ID_BYTES bytes.
            label: What people see.

        Raises:
            TokenError: It cannot, or would hand the key out again.
        """
        library, curve = _binding(), _CURVES[suite_id]
        attribute = library.Attribute
        for number, params in enumerate(curve.params, 1):
            try:
                with _failing(self.module, self.label):
                    domain = self._session.create_domain_parameters(
                        library.KeyType.EC_EDWARDS, {attribute.EC_PARAMS: params}, local=True
                    )
                    public, private = domain.generate_keypair(
                        mechanism=library.Mechanism.EC_EDWARDS_KEY_PAIR_GEN,
                        store=True,
                        id=identity,
                        label=label,
                        private_template=_kept(attribute),
                    )
                    break
            except TokenError:
                if number == len(curve.params):
                    raise
        with _failing(self.module, self.label):
            self._require_kept(public, private)
        return self.edwards(suite_id, identity=identity)

    def make_mldsa(self, suite_id: int, *, identity: bytes, label: str) -> suite.Half:
        """Draw the ML-DSA half of a suite inside the token; as `make_edwards`."""
        library = _binding()
        attribute = library.Attribute
        with _failing(self.module, self.label):
            public, private = self._session.generate_keypair(
                library.KeyType.ML_DSA,
                store=True,
                id=identity,
                label=label,
                public_template={attribute.PARAMETER_SET: library.MLDSAParameterSet[_CURVES[suite_id].mldsa]},
                private_template=_kept(attribute),
            )
            self._require_kept(public, private)
        return self.mldsa(suite_id, identity=identity)

    def edwards(self, suite_id: int, *, identity: bytes) -> suite.Half:
        """The Edwards half made before with that identity.

        Raises:
            TokenMissingError: It is not in this token.
        """
        library, curve = _binding(), _CURVES[suite_id]
        public, private = self._pair(library.KeyType.EC_EDWARDS, identity)
        with _failing(self.module, self.label):
            point = _point(bytes(public[library.Attribute.EC_POINT]), curve.public_size)

        def sign(representative: bytes, _: bytes) -> bytes:
            with _failing(self.module, self.label):
                signed: bytes = private.sign(
                    representative, mechanism=library.Mechanism.EDDSA, mechanism_param=curve.parameter
                )
            return signed

        return suite.Half(point, sign)

    def mldsa(self, suite_id: int, *, identity: bytes) -> suite.Half:
        """The ML-DSA half made before with that identity.

        Raises:
            TokenMissingError: It is not in this token.
        """
        library = _binding()
        public, private = self._pair(library.KeyType.ML_DSA, identity)
        with _failing(self.module, self.label):
            value = bytes(public[library.Attribute.VALUE])

        def sign(representative: bytes, context: bytes) -> bytes:
            # Hedged if the token can (0 is CKH_HEDGE_PREFERRED). The structure points at `context`: it lives as long.
            parameter = _SignContext(0, context, len(context))
            with _failing(self.module, self.label):
                signed: bytes = private.sign(
                    representative, mechanism=library.Mechanism.ML_DSA, mechanism_param=bytes(parameter)
                )
            return signed

        return suite.Half(value, sign)

    def destroy(self, identity: bytes) -> int:
        """Destroy every object of that identity in the token; returns how many there were."""
        library = _binding()
        with _failing(self.module, self.label):
            found = list(self._session.get_objects({library.Attribute.ID: identity}))
            for one in found:
                one.destroy()
        return len(found)

    def close(self) -> None:
        """Log out once nobody uses it any more."""
        with _LOCK:
            self._users -= 1
            if self._users == 0:
                _OPEN.pop((self.module, self.label), None)
                # A token that was taken out has forgotten the session already.
                with suppress(TokenError), _failing(self.module, self.label):
                    self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Token {self.label!r}>"

    def _pair(self, key_type: Any, identity: bytes) -> tuple[Any, Any]:
        library = _binding()
        try:
            with _failing(self.module, self.label):
                public, private = (
                    self._session.get_key(object_class=kind, key_type=key_type, id=identity)
                    for kind in (library.ObjectClass.PUBLIC_KEY, library.ObjectClass.PRIVATE_KEY)
                )
        except TokenMissingError:
            raise TokenMissingError(
                f"token {self.label!r} has no {key_type.name} key {identity.hex()}",
                hint="this is another token of the same label, or the key was deleted in it",
            ) from None
        return public, private

    def _require_kept(self, public: Any, private: Any) -> None:
        """A token that would show the key to anybody with the PIN is no better than a file: the key goes at once."""
        attribute = _binding().Attribute
        if not private[attribute.SENSITIVE] or private[attribute.EXTRACTABLE]:
            private.destroy()
            public.destroy()
            raise TokenError(f"token {self.label!r} makes keys that can be taken out of it", hint="use another token")


_LOCK: Final = threading.RLock()
_OPEN: Final[dict[tuple[str, str], Token]] = {}


def labels(module: str) -> tuple[str, ...]:
    """Labels of the tokens that are in, sorted.

    Raises:
        TokenMissingError: No such module.
    """
    library = _library(module)
    binding = _binding()
    with _failing(module, ""):
        tokens = [slot.get_token() for slot in library.get_slots(token_present=True)]
    return tuple(sorted(t.label for t in tokens if binding.TokenFlag.TOKEN_INITIALIZED in t.flags))


def _binding() -> Any:
    try:
        import pkcs11
    except ImportError:
        raise UsageError("this installation cannot speak to tokens", hint="install tocsin[hsm]") from None
    return pkcs11


def _library(module: str) -> Any:
    binding = _binding()
    if not Path(module).is_absolute():
        # The loader would search for a bare name in places that others may write to.
        raise UsageError(f"the PKCS#11 module {module!r} is not named by its whole path")
    try:
        return binding.lib(module)
    except (binding.PKCS11Error, RuntimeError) as error:
        raise TokenMissingError(
            f"the PKCS#11 module {module} does not load: {str(error).rpartition(': ')[2] or type(error).__name__}",
            hint="install the library of the token's maker, and give its path",
        ) from None


@contextmanager
def _failing(module: str, label: str) -> Iterator[None]:
    """Errors of the binding in our words."""
    binding = _binding()
    try:
        yield
    except binding.PKCS11Error as error:
        name = type(error).__name__
        if isinstance(error, binding.PinLocked):
            raise TokenLockedError(f"token {label!r} is locked") from None
        if isinstance(error, (binding.PinIncorrect, binding.PinInvalid, binding.PinLenRange)):
            raise TokenPinError(f"not the PIN of token {label!r}{_tries(module, label)}") from None
        if isinstance(error, (binding.PinExpired, binding.UserPinNotInitialized)):
            raise TokenPinError(
                f"token {label!r} has no PIN in use", hint="set one with the tool of the token's maker"
            ) from None
        if isinstance(error, binding.NoSuchToken):
            raise TokenMissingError(
                f"no token {label!r}; there are: {', '.join(map(repr, labels(module))) or 'none'}"
            ) from None
        if isinstance(error, binding.MultipleTokensReturned):
            raise TokenError(f"several tokens are called {label!r}", hint="leave only one of them in") from None
        gone = (
            binding.NoSuchKey, binding.TokenNotPresent, binding.TokenNotRecognised, binding.DeviceRemoved,
            binding.SessionHandleInvalid, binding.SessionClosed, binding.UserNotLoggedIn,
        )  # fmt: skip
        if isinstance(error, gone):
            raise TokenMissingError(f"token {label!r} does not have the key at hand: {name}") from None
        raise TokenError(
            f"token {label!r} refuses: {name}", hint="see whether it offers this kind of key, and its own log"
        ) from None


def _tries(module: str, label: str) -> str:
    """What the token lets know about how often one may still try."""
    binding = _binding()
    try:
        flags = binding.lib(module).get_token(token_label=label).flags
    except binding.PKCS11Error:
        return ""
    if binding.TokenFlag.USER_PIN_FINAL_TRY in flags:
        return "; ONE try is left"
    return "; few tries are left" if binding.TokenFlag.USER_PIN_COUNT_LOW in flags else ""


def _kept(attribute: Any) -> dict[Any, bool]:
    return {attribute.PRIVATE: True, attribute.SENSITIVE: True, attribute.EXTRACTABLE: False, attribute.SIGN: True}


def _point(der: bytes, size: int) -> bytes:
    """The public key in a CKA_EC_POINT: bare, or inside an OCTET STRING or BIT STRING, as token makers read it."""
    if len(der) == size:
        return der
    if der[:2] == bytes((_OCTET_STRING, size)) and len(der) == size + 2:
        return der[2:]
    if der[:3] == bytes((_BIT_STRING, size + 1, 0)) and len(der) == size + 3:
        return der[3:]
    raise TokenError("the token shows a public key of no known form", hint="use another token")


def _text(pin: bytes) -> str:
    try:
        return pin.decode()
    except UnicodeDecodeError:
        raise UsageError("a PIN is UTF-8 text") from None
