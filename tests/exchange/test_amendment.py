"""An amendment while traffic flows: who knows of it, and when, decides nothing for good (docs/PROTOCOL.md section 4.4)."""

import itertools

import pytest

from exchange import errors
from exchange.envelope import Parsed
from keys.documents import Document
from keys.trust import MissingDocumentError, Trust
from keys.v1 import documents_pb2 as pb
from tests import chains, mail
from tests.chains import DAY, HOUR
from tests.world import NOON, draft, world

EFFECTIVE = NOON + 3 * DAY
R, L = 72 * HOUR, 14 * DAY


def close_minerals(body: pb.Agreement) -> None:
    """From then on governments alone read minerals, and the ministry alone publishes."""
    rule = next(rule for rule in body.channels if rule.channel == "minerals")
    del rule.publish[:]
    rule.publish.add(mission="kr.motie")


@pytest.fixture(scope="module")
def amendment() -> Document:
    return chains.next_agreement(world(), close_minerals, effective_ms=EFFECTIVE)


def knowing(amendment: Document | None) -> Trust:
    trust = world().trust()
    if amendment is not None:
        trust.take(amendment, now_ms=NOON)
    return trust


def sealed(trust: Trust, create_ms: int, channel: str = "chips") -> Parsed:
    header = draft(trust, create_ms=create_ms, channel=channel)
    header.expire_time_ms = create_ms + L
    # The world has cards for two weeks; which card an envelope uses is not what is asked here.
    return mail.send(trust, header)


def test_nothing_under_way_is_refused_for_good(amendment: Document) -> None:
    """Before, around and after: a sender that has not heard yet, a reader that heard at once, and the other way round."""
    ahead, behind = knowing(amendment), knowing(None)
    moments = (NOON, EFFECTIVE - 1, EFFECTIVE, EFFECTIVE + 1, EFFECTIVE + R)
    for create_ms, sender in itertools.product(moments, (ahead, behind)):
        parsed = sealed(sender, create_ms)
        for arrival_ms in (create_ms, create_ms + R):
            assert mail.admit(ahead, parsed, now_ms=arrival_ms)
            if sender is behind or create_ms < EFFECTIVE:
                assert mail.admit(behind, parsed, now_ms=arrival_ms)
                continue
            # Who has not heard waits for the document; it is not refused for good.
            with pytest.raises(MissingDocumentError) as failure:
                mail.admit(behind, parsed, now_ms=arrival_ms)
            assert failure.value.metadata["version"] == "2"
            late = knowing(amendment)
            assert mail.admit(late, parsed, now_ms=arrival_ms)


def test_rights_change_with_the_version_that_is_pinned(amendment: Document) -> None:
    trust = knowing(amendment)
    assert mail.admit(trust, sealed(trust, EFFECTIVE - 1, "minerals"), now_ms=EFFECTIVE)
    with pytest.raises(errors.PolicyError) as failure:
        mail.admit(trust, sealed(trust, EFFECTIVE, "minerals"), now_ms=EFFECTIVE)
    assert failure.value.metadata["version"] == "2"


def test_the_new_rules_are_of_no_use_before_their_time(amendment: Document) -> None:
    trust = knowing(amendment)
    header = draft(trust, create_ms=NOON)
    header.agreement, header.agreement_version = amendment.digest, 2
    with pytest.raises(errors.PinnedError, match="not yet in force"):
        mail.admit(trust, mail.send(trust, header))


def test_the_old_rules_end_with_their_grace(amendment: Document, monkeypatch: pytest.MonkeyPatch) -> None:
    trust, behind = knowing(amendment), knowing(None)
    over = EFFECTIVE + trust.agreement(EFFECTIVE).body.grace_ms
    last, late = sealed(behind, over - 1), sealed(behind, over)
    rules = mail.Admission(trust)
    assert rules.rights(last, answered=mail.nothing_answered)
    with pytest.raises(errors.PinnedError, match="no longer in force"):
        rules.rights(late, answered=mail.nothing_answered)
    monkeypatch.setattr(Trust, "agreement_ends_ms", lambda *_: 2**62)
    assert rules.rights(late, answered=mail.nothing_answered)
