"""Taking what a desk signs itself: key cards and renunciations (docs/PROTOCOL.md sections 4.4 and 4.5)."""

from typing import Final

from keys import documents, suite
from keys.documents import Document
from keys.errors import SignatureError
from keys.trust.errors import EquivocationError, MissingDocumentError, TrustError
from keys.trust.held import Held
from keys.trust.names import week_of
from keys.trust.roster import check_desk_suite
from keys.trust.views import Card
from keys.v1 import documents_pb2 as pb

CARDS_AHEAD: Final = 5


def take(held: Held, document: Document, now_ms: int) -> tuple[str, ...]:
    """Take a key card: one per desk and week, of the weeks in use."""
    claimed = documents.peek(document)
    desk_name = getattr(claimed, "desk", "")
    chain = held.chain_of(desk_name)
    if chain is None or chain.newest is None:
        raise MissingDocumentError("a key card comes after the roster of its party", desk=desk_name)
    listed = chain.newest.desks.get(desk_name)
    if listed is None:
        raise TrustError("a key card of a desk no roster lists", hint="admit the desk first")
    signer = next((k for _, key, _ in document.signatures if (k := listed.keys.get(key))), None)
    if signer is None or len(document.signatures) != 1 or held.key_ended(desk_name, signer.id):
        raise SignatureError(f"the key card of {desk_name} is not signed by a current key of the desk")
    agreement = held.agreement(now_ms).body
    check_desk_suite(signer.suite, agreement, desk_name)
    # Flood guard before any signature is checked: one card a week, eleven weeks, per desk (PROTOCOL 4.5).
    week = getattr(claimed, "week", 0)
    if not week_of(now_ms) - 4 <= week <= week_of(now_ms) + CARDS_AHEAD + 1:
        raise TrustError(f"a key card for week {week} is outside the weeks in use", desk=desk_name)
    # A desk hands in five weeks ahead, so its key leaves no card beyond those of its last day. By the week, not by when
    # the card came: whoever joins later must take the same cards.
    if signer.last_use_ms and week > week_of(signer.last_use_ms) + CARDS_AHEAD:
        raise TrustError(
            f"the key card of {desk_name} for week {week} is signed by a key whose last use was in week"
            f" {week_of(signer.last_use_ms)}",
            hint="sign it with the desk's key of today",
            desk=desk_name,
        )
    # Checked before the alarm of two cards: junk must not raise it.
    documents.require_key(document, pb.PublicKey(suite=signer.suite, key=signer.public), role="desk")
    before = held.cards.get((desk_name, week))
    if before is not None and not _dead(held, before, agreement):
        raise EquivocationError(f"two key cards of {desk_name} for week {week}", desk=desk_name)
    body = documents.body(document, pb.KeyCard)
    held.require_lineage(body.lineage, "key card")
    check_desk_suite(body.suite, agreement, desk_name)
    suite.check_card_key(body.key)
    held.cards[(desk_name, week)] = Card(
        document.digest, desk_name, week, body.key, signer.id, held.arrivals[document.digest]
    )
    held.hold(document)
    return ()


def _dead(held: Held, card: Card, agreement: pb.Agreement) -> bool:
    """Whether a card's signing key ended, or is of a suite that the agreement retired: another takes its place."""
    _, key = held.keys_by_id[card.signed_by]
    return bool(held.key_ended(card.desk, card.signed_by)) or key.suite not in agreement.suites


def take_renunciation(held: Held, document: Document, now_ms: int) -> tuple[str, ...]:
    """A desk ends its own key, at once, whatever its state; no ministry is needed."""
    claimed = documents.peek(document)
    desk_name, key_id = getattr(claimed, "desk", ""), getattr(claimed, "key", b"")
    chain = held.chain_of(desk_name)
    views = chain.rosters if chain else []
    key = next((k for v in reversed(views) if (d := v.desks.get(desk_name)) and (k := d.keys.get(key_id))), None)
    if key is None:
        raise TrustError("a renunciation of a key no roster lists")
    documents.require_key(document, pb.PublicKey(suite=key.suite, key=key.public), role="desk")
    body = documents.body(document, pb.Renunciation)
    held.require_lineage(body.lineage, "renunciation")
    if body.key in held.renounced:
        raise EquivocationError(f"the key of {body.desk} is renounced already; the first word stays", desk=body.desk)
    held.renounced[body.key] = document
    held.hold(document)
    return (f"{body.desk}: renounced its key; do not trust it any more",)
