"""Attacks with a stolen key, and of an owner who would take back what he said, numbered as in docs/THREATS.md.

Each is refused for its reason, and succeeds once that one check is switched off: so each test is known to bite.
The single checks of a position are in tests/exchange/test_standing.py.
"""

import pytest

from exchange import standing
from exchange.admission import Admission
from exchange.envelope import Parsed
from exchange.errors import SenderEndedError
from exchange.standing import Position, Standing, Verdict
from keys import suite
from keys.documents import Document
from keys.trust import Trust
from tests import chains, mail
from tests.attacks.marks import attack
from tests.chains import DAY, HOUR
from tests.notary import Log
from tests.world import NOON, SENDER, world

Patch = pytest.MonkeyPatch
KEY = suite.key_id(1, "desk", world().desks[SENDER].public)


def revoked(trust: Trust, *, claimed_ms: int) -> Document:
    """The roster that revokes the sender's key, taken an hour after noon."""
    roster = chains.next_roster(
        world(), "kr", lambda body: body.revocations.add(key=KEY, time_ms=claimed_ms), now_ms=NOON + HOUR
    )
    trust.take(roster, now_ms=NOON + HOUR)
    return roster


def judged(trust: Trust, parsed: Parsed, position: Position) -> tuple[str, ...]:
    """Its warnings, if it counts."""
    return Admission(trust).judge(parsed, answered=mail.nothing_answered, position=position).warnings


@attack(19, off="covers")
def test_19_a_thief_dates_back_what_he_signs_after_the_revocation(monkeypatch: Patch) -> None:
    trust = world().trust()
    forged = mail.honest(trust, create_ms=NOON)
    roster = revoked(trust, claimed_ms=NOON + HOUR)
    log = Log()
    log.fill(3)
    log.add(roster.digest, forged.id)
    # The victim's own node goes on cosigning: what it signs covers the forgery, but not before the revocation.
    position = log.show(forged.id, roster.digest, cosigned=5)
    with pytest.raises(SenderEndedError) as failure:
        judged(trust, forged, position)
    assert failure.value.reason == "SENDER_ENDED"
    assert failure.value.metadata["version"] == "2"
    monkeypatch.setattr(standing, "covers", lambda *_: True)
    assert judged(trust, forged, position) == ()


@attack(19, off="covers")
def test_19_a_thief_slips_in_between_the_last_cosigned_head_and_the_revocation(monkeypatch: Patch) -> None:
    trust = world().trust()
    forged = mail.honest(trust)
    roster = revoked(trust, claimed_ms=NOON + HOUR)
    log = Log()
    log.fill(3)
    log.add(forged.id, roster.digest)
    position = log.show(forged.id, roster.digest, cosigned=3)
    with pytest.raises(SenderEndedError):
        judged(trust, forged, position)
    monkeypatch.setattr(standing, "covers", lambda *_: True)
    assert judged(trust, forged, position) == ()


@attack(19, off="counts")
def test_19_an_owner_who_claims_an_earlier_loss_takes_nothing_back(monkeypatch: Patch) -> None:
    trust = world().trust()
    parsed = mail.honest(trust)
    roster = revoked(trust, claimed_ms=NOON - DAY)
    log = Log()
    log.fill(2)
    log.add(parsed.id)
    log.fill(2)
    log.add(roster.digest)
    position = log.show(parsed.id, roster.digest, cosigned=4)
    assert "claimed lost before it was made" in judged(trust, parsed, position)[0]
    # Were a claim believed, the owner could repudiate whatever he likes.
    monkeypatch.setattr(Standing, "counts", property(lambda found: found.verdict is Verdict.COUNTED))
    with pytest.raises(SenderEndedError):
        judged(trust, parsed, position)
