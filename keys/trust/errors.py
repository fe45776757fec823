"""Why a document is not taken: the reasons are rule ids of docs/PROTOCOL.md section 12."""

from keys.errors import PeerError


class TrustError(PeerError):
    """A document breaks the rules of its chain."""

    status, reason = "FAILED_PRECONDITION", "DOCUMENT_RULE"
    hint = "compare `tocsin documents show` with the issuing party"


class RollbackError(TrustError):
    """An older version than the one held."""

    reason = "DOCUMENT_ROLLBACK"
    hint = "get the newest version from its issuer; what is held stays"


class GapError(TrustError):
    """The chain goes up by exactly one; something in between is missing."""

    reason = "DOCUMENT_GAP"
    hint = "fetch the versions in between first"


class EquivocationError(TrustError):
    """Two different documents at one version: the first seen stays, both are evidence."""

    reason = "DOCUMENT_EQUIVOCATION"
    hint = "keep both and ask the issuing party; this must not happen"


class MissingDocumentError(TrustError):
    """A document refers to one that is not held."""

    reason = "DOCUMENT_MISSING"
    hint = "fetch the missing document, then try again"


class DeadLineageError(TrustError):
    """People said that another exchange took this one's place: it takes nothing new."""

    reason = "LINEAGE_DEAD"

    def __init__(self, successor: bytes, text: str, /, **metadata: object) -> None:
        super().__init__(
            f"agreement 1 of another exchange took the place of this one, which {text}",
            hint=f"go on in that exchange, lineage {successor.hex()}; what is here can still be read",
            document="agreement",
            version=1,
            successor=successor.hex(),
            **metadata,
        )
        self.successor = successor


class WrongLineageError(TrustError):
    """A document of another exchange."""

    reason = "DOCUMENT_LINEAGE"
    hint = "a drill and production never mix; check which exchange this is"
