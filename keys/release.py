"""Releasing documents: signed as far as the keys at hand go, together with the status that names them. No I/O."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from keys import ceremony, documents, drafts, suite
from keys.ceremony import Group
from keys.documents import Document
from keys.trust import Trust
from keys.v1 import documents_pb2 as pb

# A draft is dated ahead and signed ahead, but its release may come a little after its date: an hour of R's days.
LATE_MS: Final = 3600 * 1000
Sign = Callable[[Document, tuple[Group, ...]], Document]
"""Adds the signatures that can be had here of the groups that must sign; the document as it is when there are none."""


@dataclass(frozen=True, slots=True)
class Made:
    """A document to be released, and who signed it."""

    slot: str
    document: Document
    progress: ceremony.Progress

    @property
    def complete(self) -> bool:
        """Enough holders signed."""
        return self.progress.complete


def merge(kept: Document, copy: Document) -> Document:
    """The signatures of two copies of one document under it; the first as it is when they are not of one."""
    if kept.digest != copy.digest:
        return kept
    known = {key for _, key, _ in kept.signatures}
    return replace(kept, signatures=(*kept.signatures, *(s for s in copy.signatures if s[1] not in known)))


def compose(
    draft: Document,
    groups: tuple[Group, ...],
    trust: Trust,
    party: str,
    *,
    slot: str,
    sign: Sign,
    signed: Mapping[str, Document],
    now_ms: int,
    status_keys: pb.RoleKeys | None = None,
) -> list[Made]:
    """A document with the signatures there are, and after it the status that names it.

    Args:
        draft: Unsigned.
        groups: Who must sign it.
        trust: Documents held; nothing is taken.
        party: The issuing party.
        slot: What the draft is called; its status is `slot`-status.
        sign: Signs with the keys at hand.
        signed: Drafts of an earlier run, by slot.
        now_ms: ms UTC.
        status_keys: New status keys that this document brings: then the status is part of it, complete or not.
    """
    document = sign(reuse(signed.get(slot), draft, now_ms), groups)
    made = [Made(slot, document, ceremony.progress(document, groups))]
    body = status_naming(trust, party, document, now_ms=now_ms)
    group = (Group(f"{party} status", status_keys or trust.party_document(party).status, "status"),)
    status = sign(reuse(signed.get(f"{slot}-status"), documents.make(body), now_ms), group)
    progress = ceremony.progress(status, group)
    # Taking a Party document with new status keys drops the old status: its successor goes with it, or neither goes.
    # Elsewhere the daily status will do when nobody here can sign one.
    if status_keys is not None or progress.complete:
        made.append(Made(f"{slot}-status", status, progress))
    return made


def at_hand(keys: Iterable[suite.Signer]) -> Sign:
    """Signs with each of these keys for which a group has a holder."""
    known = tuple(keys)

    def sign(document: Document, groups: tuple[Group, ...]) -> Document:
        for group in groups:
            for key in known:
                if any(listed.key.key == key.public for listed in group.keys.keys):
                    document = documents.sign(document, key, role=group.role)
        return document

    return sign


def status_naming(trust: Trust, party: str, document: Document, *, now_ms: int) -> pb.Status:
    """The next status, as if the document were held; signatures are no part of what it names."""
    body = documents.body(drafts.next_status(trust, party, now_ms=now_ms), pb.Status)
    if document.type == "tocsin/1/party":
        named = documents.body(document, pb.Party)
        body.generation = named.status.generation
        body.party_document.version, body.party_document.digest = named.version, document.digest
    else:
        roster = documents.body(document, pb.Roster)
        body.roster.generation, body.roster.version = roster.generation, roster.version
        body.roster.digest = document.digest
        # The roster repeats them, so they are no longer the status's to keep.
        del body.suspensions[:]
    return body


def reuse(kept: Document | None, draft: Document, now_ms: int) -> Document:
    """An earlier draft with its signatures, if it says the same but for its date and its date still serves."""
    if kept is None or kept.type != draft.type:
        return draft
    old, new = (documents.peek(each) for each in (kept, draft))
    if not isinstance(old, pb.Party | pb.Roster | pb.Status) or type(old) is not type(new):
        return draft
    issued = old.issue_time_ms
    for name in ("issue_time_ms", "expire_time_ms"):
        if hasattr(old, name):
            setattr(new, name, getattr(old, name))
    return kept if documents.make(new).body == kept.body and issued >= now_ms - LATE_MS else draft
