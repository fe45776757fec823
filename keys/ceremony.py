"""Signing together: who may sign a document, adding one signature, putting copies together. No prompts, no files, no clock.

Each holder signs a copy of one document on a machine of their own; the copies come together afterwards. Source:
docs/PROTOCOL.md sections 4.1 and 4.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from keys import documents, suite
from keys.documents import Document, SigningStatus
from keys.errors import PeerError, SignatureError, UnknownSuiteError
from keys.v1 import documents_pb2 as pb

ROLES: Final = ("root", "roster", "status")


class AlteredError(PeerError):
    """The document is not the one that was shown, agreed or signed by others."""

    status, reason = "FAILED_PRECONDITION", "CEREMONY_ALTERED"
    hint = "stop; compare the whole fingerprint with the other side before anyone signs anything"


class StrangerError(PeerError):
    """A signature, or a keystore, of somebody the documents do not name."""

    status, reason = "PERMISSION_DENIED", "CEREMONY_STRANGER"
    hint = "ask where the file comes from; go on with copies of the named holders only"


class SecondSignatureError(PeerError):
    """The holder signed already."""

    status, reason = "ALREADY_EXISTS", "CEREMONY_SIGNED"
    hint = "nothing to do here; combine this copy with the others"


class UnconfirmedError(PeerError):
    """Nobody confirmed what was shown."""

    status, reason = "FAILED_PRECONDITION", "CEREMONY_UNCONFIRMED"
    hint = "read what is shown, then type the first three words of the fingerprint"


class NotReadyError(PeerError):
    """A document that nobody should sign as it is."""

    status, reason = "FAILED_PRECONDITION", "CEREMONY_NOT_READY"
    hint = "draft it again"


@dataclass(frozen=True, slots=True)
class Group:
    """One threshold under a document: `name` such as "kr root", the keys, and the role they have."""

    name: str
    keys: pb.RoleKeys
    role: str

    def explain(self, document: Document) -> SigningStatus:
        """Who of this group signed."""
        return documents.explain(document, self.keys.keys, self.keys.threshold, role=self.role)

    def listed(self, public: bytes) -> pb.HolderKey | None:
        """The holder and key behind a public key."""
        return next((listed for listed in self.keys.keys if listed.key.key == public), None)


@dataclass(frozen=True, slots=True)
class Progress:
    """Who signed of every group."""

    groups: tuple[tuple[Group, SigningStatus], ...]

    @property
    def complete(self) -> bool:
        """Every group reached its threshold."""
        return all(status.complete for _, status in self.groups)

    def words(self) -> list[str]:
        """One line a group: who signed, who is missing."""
        lines = []
        for group, status in self.groups:
            signed = ", ".join(status.signed) or "nobody"
            line = f"{group.name}: {len(status.signed)} of {status.threshold} signed ({signed})"
            if not status.complete:
                line += f"; {status.threshold - len(status.signed)} more of {', '.join(status.missing)}"
            lines.append(line)
        return lines


def progress(document: Document, groups: Sequence[Group]) -> Progress:
    """Who signed and who is missing, in every group."""
    return Progress(tuple((group, group.explain(document)) for group in groups))


def standing(document: Document, public: bytes, groups: Sequence[Group]) -> dict[str, tuple[str, ...]]:
    """What the signature of a key would count for: by role, "kr root: first"; of groups it has not signed for.

    Raises:
        StrangerError: The key is in no group.
        SecondSignatureError: It signed already.
    """
    counted: dict[str, list[str]] = {}
    signed: list[str] = []
    known = {identity for _, identity, _ in document.signatures}
    for group in groups:
        listed = group.listed(public)
        if listed is None:
            continue
        name = f"{group.name}: {listed.holder}"
        if suite.key_id(listed.key.suite, group.role, public) in known:
            signed.append(name)
        else:
            counted.setdefault(group.role, []).append(name)
    if signed and not counted:
        raise SecondSignatureError(f"{signed[0]} signed this document already")
    if not counted:
        raise StrangerError("this key may not sign the document", hint="is it the right keystore?")
    return {role: tuple(names) for role, names in counted.items()}


def sign(document: Document, key: suite.Signer, groups: Sequence[Group]) -> Document:
    """Add the signature of one key.

    Raises:
        StrangerError: The key is in no group.
        SecondSignatureError: It signed already.
    """
    for role in standing(document, key.public, groups):
        document = documents.sign(document, key, role=role)
    return document


def require_known_signatures(document: Document, groups: Sequence[Group], *, what: str) -> None:
    """Refuse a document that carries anything but valid signatures of the groups.

    Thresholds ignore what they do not know. At a ceremony it means that a file was swapped or that somebody signed
    who should not have it.

    Raises:
        StrangerError: A signature by a key that is in no group.
        AlteredError: A signature of a holder that does not verify over this document.
    """
    message = documents.preimage(document.type, document.body)
    for suite_id, identity, signature in document.signatures:
        holder, listed = _find(groups, identity)
        if listed is None:
            raise StrangerError(f"{what} carries a signature by a stranger, key {identity.hex()}", key=identity.hex())
        try:
            if listed.key.suite != suite_id:
                raise SignatureError("another suite than the key's")
            suite.verify(suite_id, listed.key.key, message, signature, ctx=document.type)
        except (SignatureError, UnknownSuiteError):
            raise AlteredError(
                f"the signature of {holder} in {what} is not over this document: it was altered after signing"
            ) from None


def combine(copies: Sequence[tuple[str, Document]], groups: Sequence[Group]) -> Document:
    """One document with the signatures of all copies.

    Args:
        copies: What each is called, and the copy.
        groups: Who may sign.

    Raises:
        AlteredError: The copies are not of one document.
        StrangerError: One carries a signature of somebody else.
    """
    (first_name, first), *rest = copies
    for name, copy in rest:
        if copy.digest != first.digest:
            raise AlteredError(f"{name} and {first_name} are different documents: one of them was swapped or altered")
    kept: dict[bytes, tuple[int, bytes, bytes]] = {}
    for name, copy in copies:
        require_known_signatures(copy, groups, what=name)
        for signature in copy.signatures:
            kept.setdefault(signature[1], signature)
    # By key, so that the order in which copies arrive does not show in the bytes.
    return replace(first, signatures=tuple(sorted(kept.values(), key=lambda s: s[1])))


def _find(groups: Sequence[Group], identity: bytes) -> tuple[str, pb.HolderKey | None]:
    for group in groups:
        for listed in group.keys.keys:
            if suite.key_id(listed.key.suite, group.role, listed.key.key) == identity:
                return f"{group.name}: {listed.holder}", listed
    return "", None
