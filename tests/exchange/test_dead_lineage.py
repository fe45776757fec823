"""In a dead lineage nothing new is admitted; what was under way arrives, and what is held is judged as before."""

import pytest

from exchange.admission import Admission
from keys.trust import DeadLineageError
from tests import mail
from tests.chains import HOUR
from tests.world import NOON, draft, world

NEW = bytes(range(32))
SKEW = 5 * 60 * 1000


@pytest.fixture
def admission() -> Admission:
    """Told an hour after noon."""
    trust = world().trust()
    trust.end(NEW, told_ms=NOON + HOUR)
    return Admission(trust)


def test_no_new_envelope_is_admitted_and_the_new_lineage_is_named(admission: Admission) -> None:
    sealed = mail.honest(world().trust())
    with pytest.raises(DeadLineageError) as refused:
        admission.admit(sealed, now_ms=NOON, answered=mail.nothing_answered)
    assert refused.value.reason == "LINEAGE_DEAD"
    assert NEW.hex() in refused.value.hint
    assert (refused.value.metadata["document"], refused.value.metadata["version"]) == ("agreement", "1")
    assert refused.value.words().count("agreement 1") == 1


def test_what_was_under_way_arrives_and_what_was_made_since_does_not(admission: Admission) -> None:
    trust = world().trust()
    last = mail.send(trust, draft(trust, create_ms=NOON + HOUR + SKEW - 1))
    assert admission.admit(last, now_ms=NOON + 2 * HOUR, answered=mail.nothing_answered, from_log=True).id == last.id
    late = mail.send(trust, draft(trust, create_ms=NOON + HOUR + SKEW))
    with pytest.raises(DeadLineageError, match="takes nothing made since"):
        admission.admit(late, now_ms=NOON + 2 * HOUR, answered=mail.nothing_answered, from_log=True)


def test_what_is_held_is_judged_as_before(admission: Admission) -> None:
    sealed = mail.honest(world().trust())
    assert admission.judge(sealed, answered=mail.nothing_answered).id == sealed.id
