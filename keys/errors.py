"""The error tree: every error Tocsin raises on purpose.

`reason` is API (a rule id of docs/PROTOCOL.md section 12, the same in every implementation); the text is not.
`status` is a gRPC status by name, so that the core needs no grpc.
"""

from typing import ClassVar


class TocsinError(Exception):
    """Base of every error raised on purpose.

    Args:
        message: What is wrong, in one sentence, with the names involved. Never a secret, never a payload.
        hint: What to do next; the class default when None.
        metadata: The facts of the message as strings, for machines (ErrorInfo.metadata).
    """

    status: ClassVar[str] = "INTERNAL"
    reason: ClassVar[str] = "INTERNAL"
    hint: str = ""

    def __init__(self, message: str, /, *, hint: str | None = None, **metadata: object) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint
        self.metadata: dict[str, str] = {name: str(value) for name, value in metadata.items()}

    def words(self) -> str:
        """The refusal for people: what is wrong, by which document in which version, what to do."""
        named = " ".join(self.metadata.get(name, "") for name in ("document", "version")).strip()
        said = str(self) if not named or named in str(self) else f"{self} ({named})"
        return f"{said}; {self.hint}" if self.hint else said


class UsageError(TocsinError):
    """Our own caller did something that can never work."""

    status, reason = "INVALID_ARGUMENT", "USAGE"


class KeystoreError(TocsinError):
    """The keystore cannot be used as asked."""

    status, reason = "FAILED_PRECONDITION", "KEYSTORE"


class PeerError(TocsinError):
    """What came from outside breaks a rule."""

    status, reason = "INVALID_ARGUMENT", "PEER"


class NotCanonicalError(PeerError):
    """Bytes are not the one canonical encoding of their message."""

    reason = "NOT_CANONICAL"
    hint = "the sender's software is newer or broken; compare protocol versions"


class UnknownSuiteError(PeerError):
    """A suite id that is not in the registry, or not allowed for this use."""

    reason = "SUITE_UNKNOWN"
    hint = "upgrade this software, or ask the sender to use a suite the agreement lists"


class BadKeyError(PeerError):
    """A public key that fails the admission checks."""

    reason = "KEY_BAD"
    hint = "make a new key; this one must not be used"


class SignatureError(PeerError):
    """A signature that does not verify. Says nothing about which half failed."""

    status, reason = "UNAUTHENTICATED", "SIGNATURE_BAD"
    hint = "discard; if it recurs from one sender, ask them to check their keystore"


class OpenError(PeerError):
    """The envelope does not open: unwrap, commitment, decryption, padding or items root. One error for all of them."""

    reason = "OPEN_FAILED"
    hint = "ask the sender to seal again; if it recurs, compare key cards"
