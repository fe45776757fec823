"""What one caller may ask for: buckets, floods of envelopes, floods of documents."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from exchange import wire
from exchange.errors import LimitError
from exchange.node import quota, reading
from exchange.node.app import App
from exchange.node.quota import Bucket, Limits, Quotas, Rate
from exchange.v1 import exchange_pb2 as pb
from keys import founding, suite
from keys.trust import week_of
from tests.mail import altered
from tests.node.cluster import NODES, Cluster, found, now_ms, publish

KR, _ = NODES
SENDER, READER = "kr.the-hague/economic", "nl.bz/supply"


@pytest.fixture
async def kr(tmp_path: Path) -> AsyncIterator[tuple[Cluster, App]]:
    cluster = found(tmp_path)
    async with cluster.app(KR).serving() as app:
        yield cluster, app


def limit(app: App, monkeypatch: pytest.MonkeyPatch, **limits: float) -> None:
    bounds = {"envelopes_per_s": 1e6, "bytes_per_s": 1e12, "documents_per_hour": 1e6, **limits}
    monkeypatch.setattr(app.node.quotas, "_rates", Quotas(desk=Limits(**bounds))._rates)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many signatures are verified from here on."""
    verify, count = suite.verify, [0]

    def noted(*args: Any, **known: Any) -> None:
        count[0] += 1
        verify(*args, **known)

    monkeypatch.setattr(suite, "verify", noted)
    return count


def test_bucket_fills_with_time_and_never_above_its_burst() -> None:
    bucket = Bucket.full(Rate(10, 1000, 20), 0)
    assert [bucket.take(1, 0) for _ in range(20)] == [0] * 20
    wait_ms = bucket.take(1, 0)
    assert 100 <= wait_ms <= 101
    assert bucket.take(1, wait_ms) == 0
    assert bucket.take(1, wait_ms) > 0
    assert sum(bucket.take(1, 10**9) == 0 for _ in range(100)) == 20


def test_clock_that_goes_back_gives_nothing_and_blocks_nobody_for_long() -> None:
    bucket = Bucket.full(Rate(10, 1000, 10), 10**12)
    assert bucket.take(10, 10**12) == 0
    assert bucket.take(1, 0) > 0
    assert bucket.take(1, 200) == 0


def test_one_thing_larger_than_the_burst_is_slowed_and_not_stopped() -> None:
    bucket = Bucket.full(Rate(10, 1000, 10), 0)
    assert bucket.take(50, 0) == 0
    wait_ms = bucket.take(50, 0)
    assert bucket.take(50, wait_ms) == 0


def test_one_caller_uses_up_nothing_of_another_and_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota, "MAX_NAMES", 4)
    quotas = Quotas(desk=Limits(1, 1e6, 10))
    for _ in range(10):
        quotas.take("kr.a/x", {"envelopes": 1, "bytes": 1}, 0)
    with pytest.raises(LimitError, match="more envelopes") as caught:
        quotas.take("kr.a/x", {"envelopes": 1, "bytes": 1}, 0)
    assert int(caught.value.metadata["retry_after_ms"]) >= 1000
    assert "send again in" in caught.value.hint
    for number in range(100):
        quotas.take(f"kr.a/{number}", {"envelopes": 1}, 0)
    assert len(quotas._buckets) == 4


async def test_ten_thousand_bad_envelopes_cost_at_most_one_check_each(
    kr: tuple[Cluster, App], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, app = kr
    good = cluster.seal(cluster.trust, SENDER)
    bad = [altered(good, lambda o, n=n: setattr(o, "items_root", n.to_bytes(32))) for n in range(300)]
    limit(app, monkeypatch)
    count = counted(monkeypatch)
    async with cluster.connect(await cluster.enrol(SENDER)) as stub:
        count[0] = 0
        answers = await publish(stub, *([data] for data in bad))
        assert {result.rule for answer in answers for result in answer.results} == {"SIGNATURE_BAD"}
        assert count[0] <= len(bad)
        # Beyond its rate a caller costs nothing but an answer.
        limit(app, monkeypatch, envelopes_per_s=0.5)
        app.node.quotas._buckets.clear()
        count[0], began = 0, time.monotonic()
        answers = await publish(stub, *(bad[:50] for _ in range(194)))
        # What the rate gave meanwhile, on a slow machine too.
        most = 6 + 0.5 * (time.monotonic() - began)
        results = [result for answer in answers for result in answer.results]
        assert len(results) == 9_700
        assert [result.rule for result in results].count("SIGNATURE_BAD") <= most
        refused = [result for result in results if result.rule == "LIMIT"]
        assert len(refused) > 9_600
        assert all(result.retry_after_ms > 0 for result in refused[:100])
        assert count[0] <= most
        limit(app, monkeypatch)
        app.node.quotas._buckets.clear()
        [answer] = await publish(stub, [good.data])
        assert not answer.results[0].rule
    async with cluster.connect(await cluster.enrol("kr.motie/supply")) as stub:
        [answer] = await publish(stub, [cluster.seal(cluster.trust, "kr.motie/supply").data])
        assert not answer.results[0].rule


async def test_flood_of_cards_with_a_stolen_key_is_bounded(
    kr: tuple[Cluster, App], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, app = kr
    key, lineage, week = cluster.world.desks[SENDER], cluster.world.lineage, week_of(now_ms())
    # All validly signed: for each week that may be spoken of, and far beyond.
    cards = [
        founding.key_card(SENDER, key, suite.CardKey.generate(), lineage=lineage, week=week + offset).encode()
        for offset in range(-20, 40)
        for _ in range(2)
    ]
    limit(app, monkeypatch, documents_per_hour=150)
    before = app.node.store.size()
    count = counted(monkeypatch)
    async with cluster.connect(await cluster.enrol(SENDER)) as stub:
        count[0] = 0
        request = pb.PutDocumentsRequest(documents=cards)
        rules = [result.rule for _ in range(10) for result in (await stub.PutDocuments(request, timeout=30)).results]
    assert len(rules) == 1200
    assert rules.count("LIMIT") >= 1000
    # One card a week, eleven weeks, however many are sent.
    assert app.node.store.size() - before <= 11
    assert count[0] <= 300


async def test_open_subscriptions_of_one_caller_are_bounded(
    kr: tuple[Cluster, App], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, _ = kr
    monkeypatch.setattr(reading, "MAX_CALLS", 3)
    async with cluster.connect(await cluster.enrol(SENDER)) as stub:
        calls = [stub.Subscribe(pb.SubscribeRequest(follow=True), timeout=20) for _ in range(3)]
        for call in calls:
            await call.read()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Subscribe(pb.SubscribeRequest(follow=True), timeout=20).read()
        failure = wire.error_from(caught.value)
        assert isinstance(failure, wire.RemoteError)
        assert failure.rule == "LIMIT"
        calls[0].cancel()
        async with cluster.connect(await cluster.enrol("kr.motie/supply")) as other:
            await other.Subscribe(pb.SubscribeRequest(follow=True), timeout=20).read()
