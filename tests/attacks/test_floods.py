"""Floods: attacks 26 and 42. A node in this process, with its real log on disk, under a clock that stands still.

Each is refused for its reason, and succeeds once that one check is switched off: so each test is known to bite.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from exchange.errors import PeerError
from exchange.node.core import Node
from exchange.node.quota import DESK_LIMITS, Limits, Quotas
from exchange.v1 import envelope_pb2 as env
from keys import documents, suite
from keys.trust import cards as cards_taker
from keys.trust import roster as roster_taker
from keys.trust import week_of
from keys.v1 import documents_pb2 as docs
from tests import chains, mail
from tests.attacks.marks import attack
from tests.pouch.nodes import KR, Clock, node
from tests.world import NOON, SENDER, world

Patch = pytest.MonkeyPatch
SIGNER = world().desks[SENDER]
FLOOD = 10_000


def yes(*_: object, **__: object) -> None:
    """A check that is switched off."""


@pytest.fixture
def verified(monkeypatch: Patch) -> Counter[str]:
    """How often a signature is verified, and a wrap opened, from here on."""
    count, verify = Counter[str](), suite.verify

    def noted(*args: Any, **known: Any) -> None:
        count["verify"] += 1
        verify(*args, **known)

    monkeypatch.setattr(suite, "verify", noted)
    monkeypatch.setattr(suite.CardKey, "unwrap", lambda *_, **__: pytest.fail("a secret was used"))
    return count


def bad_envelopes(count: int) -> list[bytes]:
    """Each unlike the others, and each as costly as an honest one until its signature is known to be bad."""
    honest = mail.honest(world().trust())
    kinds = [
        lambda outer, n: setattr(outer, "items_root", n.to_bytes(32)),
        lambda outer, n: setattr(outer, "commitment", n.to_bytes(32)),
        lambda outer, n: setattr(outer, "signature", n.to_bytes(8) + outer.signature[8:]),
        lambda outer, n: setattr(outer, "key", n.to_bytes(32)),
    ]
    outer = env.Envelope()
    made = []
    for number in range(count):
        outer.CopyFrom(honest.outer)
        kinds[number % len(kinds)](outer, number + 1)
        made.append(outer.SerializeToString(deterministic=True))
    assert len(set(made)) == count
    return made


async def publish_all(at: Node, flood: list[bytes]) -> Counter[str]:
    """By which rule each is refused."""
    rules = Counter[str]()
    for data in flood:
        try:
            await at.publish(data, by=SENDER, now_ms=NOON)
        except PeerError as error:
            rules[error.reason] += 1
    return rules


@attack(26, off="take")
async def test_26_ten_thousand_bad_envelopes_are_bounded_by_the_quota(
    tmp_path: Path, verified: Counter[str], monkeypatch: Patch
) -> None:
    flood = bad_envelopes(FLOOD)
    async with node(world(), KR, tmp_path, Clock()) as at:
        size = at.store.size()
        verified.clear()
        rules = await publish_all(at, flood)
        burst = int(10 * DESK_LIMITS.envelopes_per_s)
        assert rules["LIMIT"] >= FLOOD - burst
        assert sum(rules.values()) == FLOOD
        assert verified["verify"] <= burst
        assert at.store.size() == size
        # Another caller is served meanwhile.
        other = mail.honest(world().trust(), sender="kr.motie/supply")
        _, receipt = await at.publish(other.data, by="kr.motie/supply", now_ms=NOON)
        await receipt
        monkeypatch.setattr(Quotas, "take", yes)
        verified.clear()
        assert "LIMIT" not in await publish_all(at, flood[:500])
        assert verified["verify"] > 300


@attack(26)
async def test_26_ten_thousand_bad_envelopes_cost_at_most_one_check_each(
    tmp_path: Path, verified: Counter[str], monkeypatch: Patch
) -> None:
    """Past the quota, were there none: no disk, no secret, no second signature for any of them."""
    flood = bad_envelopes(FLOOD)
    async with node(world(), KR, tmp_path, Clock()) as at:
        monkeypatch.setattr(Quotas, "take", yes)
        size = at.store.size()
        verified.clear()
        rules = await publish_all(at, flood)
        assert rules == {"SIGNATURE_BAD": FLOOD * 3 // 4, "SENDER_UNKNOWN": FLOOD // 4}
        assert verified["verify"] <= FLOOD
        assert at.store.size() == size
        assert len(at._intake._heads) == 0, "no stream is remembered for what was refused"


# ---- 42 document and card flood with a stolen desk key


async def offer(at: Node, flood: list[bytes], times: int = 1) -> Counter[str]:
    """By which rule each is refused; "" = taken or held."""
    rules = Counter[str]()
    for _ in range(times):
        for start in range(0, len(flood), 250):
            results = await at.take_documents(flood[start : start + 250], now_ms=NOON, by=SENDER)
            rules.update(error.reason if error else "" for _, error in results)
    return rules


def cards(weeks: range, each: int) -> list[bytes]:
    """Validly signed, `each` unlike the others for every week."""
    publics = [suite.CardKey.generate().public for _ in range(each)]
    made = []
    for week in weeks:
        for public in publics:
            body = docs.KeyCard(lineage=world().lineage, desk=SENDER, week=week, suite=1, key=public)
            made.append(documents.sign(documents.make(body), SIGNER, role="desk").encode())
    return made


@attack(42, off="CARDS_AHEAD")
@attack(42, off="take")
async def test_42_a_hundred_thousand_cards_are_bounded_in_disk_and_work(
    tmp_path: Path, verified: Counter[str], monkeypatch: Patch
) -> None:
    """1,000 different cards, offered 100 times over: a card that is not kept is judged anew, so repeats cost as much."""
    now = week_of(NOON)
    flood = cards(range(now - 20, now + 80), 10)
    assert len(set(flood)) == 1000
    async with node(world(), KR, tmp_path, Clock()) as at:
        size, held, disk = at.store.size(), len(at.trust.documents()), bytes_in(tmp_path)
        verified.clear()
        rules = await offer(at, flood, 100)
        assert sum(rules.values()) == 100_000
        # The quota ends the work, the window of weeks and one card a week end the storage.
        assert rules["LIMIT"] >= 100_000 - DESK_LIMITS.documents_per_hour
        assert verified["verify"] <= 2 * DESK_LIMITS.documents_per_hour
        assert at.store.size() - size <= 11
        assert len(at.trust.documents()) - held <= 11
        assert bytes_in(tmp_path) - disk < 2_000_000
        monkeypatch.setattr(Quotas, "take", yes)
        monkeypatch.setattr(cards_taker, "CARDS_AHEAD", 10_000)
        assert "LIMIT" not in await offer(at, flood, 3)
        assert at.store.size() - size > 60


@attack(42, off="check_chain")
async def test_42_only_what_extends_a_chain_is_stored(tmp_path: Path, monkeypatch: Patch) -> None:
    """A thief of the roster key, even: a chain goes up one by one, and another document at a number is not kept."""
    flood = [
        chains.next_roster(world(), "kr", lambda body, n=n: setattr(body, "expire_time_ms", NOON + 1 + n)).encode()
        for n in range(40)
    ]
    async with node(world(), KR, tmp_path, Clock()) as at:
        size = at.store.size()
        rules = await offer(at, flood, 5)
        assert rules == {"": 5, "DOCUMENT_EQUIVOCATION": 5 * 39}
        assert at.store.size() - size == 1
        monkeypatch.setattr(roster_taker, "check_chain", yes)
        await offer(at, flood)
        assert at.store.size() - size > 30


def bytes_in(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


@attack(42, off="_rates")
async def test_42_a_peer_that_floods_is_slowed_and_never_refused(tmp_path: Path, monkeypatch: Patch) -> None:
    """A followed node: what comes from its log is read slower, so nothing honest in it is lost."""
    async with node(world(), KR, tmp_path, Clock()) as at:
        asked = [at.quotas.wait_ms("nl.seoul-1", "documents", 1, NOON) for _ in range(100_000)]
        assert asked[0] == 0
        assert asked[-1] > 0
        free = Quotas(peer=Limits(1e9, 1e12, 1e9))
        monkeypatch.setattr(at.quotas, "_rates", free._rates)
        at.quotas._buckets.clear()
        assert not any(at.quotas.wait_ms("nl.seoul-1", "documents", 1, NOON) for _ in range(30_000))
