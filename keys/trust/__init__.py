"""The trust core: the chains of documents -> who is this key, what may it, since and until when. No I/O.

Rights come from the documents an envelope pins, revocation from the newest documents held (docs/PROTOCOL.md section 4).
Nothing here reads a clock, a file or a socket; `now_ms` is passed in, documents are passed in, events are returned.
One module takes one kind of document; `held` is what they have taken, `views` what it says, `trust` the face.
"""

from keys.trust.agreement import MAX_PARTIES
from keys.trust.cards import CARDS_AHEAD
from keys.trust.errors import (
    DeadLineageError,
    EquivocationError,
    GapError,
    MissingDocumentError,
    RollbackError,
    TrustError,
    WrongLineageError,
)
from keys.trust.names import FIRST_MONDAY_MS, MAX_NAME_BYTES, WEEK_MS, mission_of, party_of, week_of
from keys.trust.roster import MAX_KEYS_PER_DESK, MAX_ROSTER_MS
from keys.trust.trust import Trust
from keys.trust.views import AgreementView, Card, Death, Desk, DeskKey, Ending, RosterView, Taken

__all__ = [
    "CARDS_AHEAD",
    "FIRST_MONDAY_MS",
    "MAX_KEYS_PER_DESK",
    "MAX_NAME_BYTES",
    "MAX_PARTIES",
    "MAX_ROSTER_MS",
    "WEEK_MS",
    "AgreementView",
    "Card",
    "DeadLineageError",
    "Death",
    "Desk",
    "DeskKey",
    "Ending",
    "EquivocationError",
    "GapError",
    "MissingDocumentError",
    "RollbackError",
    "RosterView",
    "Taken",
    "Trust",
    "TrustError",
    "WrongLineageError",
    "mission_of",
    "party_of",
    "week_of",
]
