"""A desk follows its roster from one signing key to the next by itself."""

from pathlib import Path

import pytest

from exchange.clock import now_ms
from exchange.demo.found import Founded, found
from exchange.desk.holdings import Holdings
from exchange.workers import ThreadWorkers
from keys import desk_keys, planning, release, rotation
from keys.encoding import canonical_bytes
from keys.keystore import Keystore
from keys.trust import week_of
from keys.windows import Kind

DESK = "kr.motie/supply"


@pytest.fixture
def founded(tmp_path: Path) -> Founded:
    return found(tmp_path / "demo", title="test", desks=(DESK, "nl.bz/supply"))


def test_a_desk_changes_over_in_time_keeps_its_cards_and_destroys_the_old_key(founded: Founded) -> None:
    directory = founded.desk(DESK)
    time = [now_ms()]
    with Keystore.open(directory / "desk.keys", b"") as store:
        first = store.entry("signing").public
    own = Holdings(directory, passphrase=b"", clock=lambda: time[0], workers=ThreadWorkers(1, name="test"))
    assert own.key.public == first
    with Keystore.open(directory / "desk.keys", b"") as store:
        public = desk_keys.prepare(store, own.trust, DESK)
    assert own.key.public == first, "nobody listed the new one yet"
    plan = planning.make(
        own.trust, party="kr", kind=Kind.DESK, name=DESK, new=canonical_bytes(public), now_ms=time[0], offline=["nl"]
    )
    keys = [key for owned in founded.parties["kr"].keys.values() for key in owned.values()]
    card = own.trust.card(DESK, week_of(time[0]))
    for step in plan.steps:
        time[0] = step.due_ms
        rotation.advance(plan, own.trust, now_ms=time[0], sign=release.at_hand(keys))
        assert own.key.public == (first if step.due_ms < plan.times.first_use_ms else public.key)
        assert own.key_at(plan.times.first_use_ms - 1).public == first
        if step.id != "retire":
            assert own.destroy_retired_keys() == ()
    assert own.trust.card(DESK, week_of(plan.times.announce_ms)) == card, "cards outlive the key that signed them"
    (made, *_) = own.cards.make(listed=True)
    assert own.trust.card(DESK, week_of(time[0]) + 5) is not None, made.digest
    assert own.destroy_retired_keys() == ("signing",)
    assert own.key.public == public.key
    own.close()
    again = Holdings(directory, passphrase=b"", clock=lambda: time[0], workers=ThreadWorkers(1, name="test"))
    assert again.key.public == public.key, "after a restart too"
    again.close()
