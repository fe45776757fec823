"""Letters without envelopes: what admission asks of the documents, asked of Trust alone, for rehearsals. No I/O.

The order and the rules are those of docs/PROTOCOL.md section 7, steps 1 to 3 and 6 to 8; the real admission is in
another package, which this one may not know.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from keys import suite
from keys.errors import PeerError
from keys.trust import MissingDocumentError, Trust, party_of, week_of
from keys.v1 import documents_pb2 as pb
from keys.windows import bounds_of


class LetterError(PeerError):
    """A letter is refused for good."""


@dataclass(frozen=True, slots=True)
class Letter:
    """What a header pins."""

    sender: str
    key: bytes
    agreement: bytes
    rosters: Mapping[str, bytes]
    cards: Mapping[str, bytes]
    create_ms: int
    expire_ms: int


class PlainMail:
    """The rules of rights, revocation and cards, without policy, envelopes or streams."""

    def seal(self, trust: Trust, sender: str, key: suite.SigningKey, *, create_ms: int, expire_ms: int) -> Letter:
        """A letter to every desk that has a key in use, by the newest documents its sender holds."""
        rosters = {party: trust.roster(party) for party in trust.parties}
        cards = {}
        for view in rosters.values():
            for desk in view.desks.values():
                if desk.name != sender and any(key.state == pb.KEY_STATE_ACTIVE for key in desk.keys.values()):
                    card = trust.card(desk.name, week_of(create_ms))
                    cards[desk.name] = card.digest if card else b""
        return Letter(
            sender,
            suite.key_id(key.suite, "desk", key.public),
            trust.agreement(create_ms).digest,
            {party: view.document.digest for party, view in rosters.items()},
            cards,
            create_ms,
            expire_ms,
        )

    def may_send(self, trust: Trust, desk: str) -> bool:
        """Every desk: policy is not asked."""
        return True

    def readers(self, letter: Letter) -> tuple[str, ...]:
        """The desks it is for."""
        return tuple(letter.cards)

    def admit(self, letter: Letter, trust: Trust, reader: str, *, now_ms: int) -> None:
        """Take a letter.

        Raises:
            MissingDocumentError: It waits for a document.
            LetterError: It is refused for good.
        """
        if trust.desk_key(letter.key) is None:
            raise LetterError("no roster held lists the signing key")
        agreement = trust.find_agreement(letter.agreement)
        if not agreement.body.effective_time_ms - agreement.body.skew_ms <= letter.create_ms:
            raise LetterError("the agreement was not yet in force")
        if letter.create_ms >= trust.agreement_ends_ms(agreement):
            raise LetterError("the agreement was no longer in force")
        bounds = bounds_of(trust, from_ms=now_ms, until_ms=now_ms)
        if now_ms >= letter.expire_ms + bounds.skew_ms:
            raise LetterError("it has expired")
        for party, digest in letter.rosters.items():
            self._check_pin(letter, trust, party, digest, now_ms, bounds.pinned_ms)
        if ended := trust.key_ended(letter.sender, letter.key):
            raise LetterError(f"the key is {ended}")
        for desk, digest in letter.cards.items():
            card = trust.held_card(desk, week_of(letter.create_ms))
            if digest and card is None:
                raise MissingDocumentError(f"the key card of {desk} is not held")
            if digest and card is not None and card.digest != digest:
                raise LetterError(f"not the key card of {desk} for that week")

    def _check_pin(self, letter: Letter, trust: Trust, party: str, digest: bytes, now_ms: int, pinned_ms: int) -> None:
        view = trust.find_roster(digest)
        superseded = trust.superseded_ms(view)
        if superseded is not None and now_ms >= superseded + pinned_ms:
            raise LetterError(f"the {party} roster was replaced too long ago")
        if trust.voided(view):
            newest = trust.roster(party).desks
            ours = [name for name in (letter.sender, *letter.cards) if party_of(name) == party]
            known = all(name in newest for name in ours)
            if not known or (party_of(letter.sender) == party and letter.key not in newest[letter.sender].keys):
                raise LetterError(f"the {party} roster is void and the new one does not list all")
        if party_of(letter.sender) == party:
            desk = view.desks.get(letter.sender)
            key = desk.keys.get(letter.key) if desk else None
            ended = key is not None and key.last_use_ms and letter.create_ms >= key.last_use_ms
            if key is None or key.state != pb.KEY_STATE_ACTIVE or letter.create_ms < key.first_use_ms or ended:
                raise LetterError("the key was not in use at that time by the roster pinned")
