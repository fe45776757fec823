"""Envelopes sent before they are durable: seen early, proved later, and never kept without proof."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest

from exchange import checkpoint, wire
from exchange.errors import LimitError, StoreError
from exchange.merkle import verify_inclusion
from exchange.node import reading
from exchange.node.app import App
from exchange.store.contract import NewEntry
from exchange.v1 import exchange_pb2 as pb
from tests.mail import altered
from tests.node.cluster import NODES, Cluster, eventually, publish

KR, NL = NODES
SENDER, READER, COMPANY = "kr.the-hague/economic", "nl.bz/supply", "nl.asml-like/supply"


class Disk:
    """Stands before a store's append: holds commits back, then lets them pass or fails them."""

    def __init__(self, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
        self._append = app.node.store.append
        self.fails = False
        self.gate: asyncio.Event | None = None
        self._loop = asyncio.get_running_loop()
        monkeypatch.setattr(app.node.store, "append", self.append)

    def append(self, entries: Sequence[NewEntry], **known: Any) -> list[int]:
        if entries and self.gate is not None:
            asyncio.run_coroutine_threadsafe(self.gate.wait(), self._loop).result(20)
        if entries and self.fails:
            raise StoreError("cannot append: the disk is full")
        return self._append(entries, **known)


async def following(app: App, peer: str) -> None:
    await eventually(lambda: peer in app._followers and app._followers[peer][0].state == "following")
    await eventually(lambda: app._followers[peer][0]._seen is not None)


def early_call(stub: Any, position: int = 0) -> Any:
    return stub.Subscribe(pb.SubscribeRequest(position=position, follow=True, early=True), timeout=30)


async def until_live(call: Any, app: App) -> pb.SubscribeResponse:
    while True:
        response: pb.SubscribeResponse = await call.read()
        if response.next_position >= app.node.store.size():
            # The batch was the last: the node now waits for news.
            await asyncio.sleep(0.2)
            return response


async def test_seen_at_the_other_country_before_any_disk_has_it(
    both: tuple[App, App], cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    kr, nl = both
    monkeypatch.setattr(reading, "HEARTBEAT_S", 2.0)
    await following(nl, KR)
    disks = [Disk(app, monkeypatch) for app in both]
    sealed = cluster.seal(cluster.trust, SENDER)
    async with AsyncExitStack() as stack:
        sender, reader, company = [
            await stack.enter_async_context(cluster.connect(await cluster.enrol(name)))
            for name in (SENDER, READER, COMPANY)
        ]
        call, other = early_call(reader), early_call(company)
        before = await until_live(call, nl)
        await until_live(other, nl)
        for disk in disks:
            disk.gate = asyncio.Event()
        publishing = asyncio.create_task(publish(sender, [sealed.data]))
        response = await call.read()
        assert list(response.early) == [sealed.data]
        assert (list(response.entries), response.checkpoint, response.next_position) == ([], b"", before.next_position)
        assert not publishing.done()
        assert kr.node.store.position_of(sealed.id) is nl.node.store.position_of(sealed.id) is None
        for disk in disks:
            assert disk.gate is not None
            disk.gate.set()
        [answer] = await publishing
        assert not answer.results[0].rule
        response = await call.read()
        [entry] = response.entries
        head = checkpoint.parse(response.checkpoint)
        # Proved now, and not sent again.
        assert (entry.leaf, entry.data) == (sealed.id, b"")
        verify_inclusion(entry.leaf, entry.position, head.size, list(entry.proof), head.root)
        row = nl.node.store.get(entry.position)
        assert row is not None
        assert row.data == sealed.data
        later = await other.read()  # with its heartbeat
        assert (list(later.early), list(later.entries)) == ([], [])


async def test_calls_that_growth_does_not_concern_read_nothing(
    both: tuple[App, App], cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, nl = both
    reads, batch = list[frozenset[str]](), nl.node.readers._batch

    def counted(*args: Any) -> reading.Batch:
        reads.append(args[4].desks)
        return batch(*args)

    monkeypatch.setattr(nl.node.readers, "_batch", counted)
    async with AsyncExitStack() as stack:
        sender, reader, company = [
            await stack.enter_async_context(cluster.connect(await cluster.enrol(name)))
            for name in (SENDER, READER, COMPANY)
        ]
        mine, other = [one.Subscribe(pb.SubscribeRequest(follow=True), timeout=30) for one in (reader, company)]
        await until_live(mine, nl)
        await until_live(other, nl)
        reads.clear()
        for _ in range(3):
            sealed = cluster.seal(cluster.trust, SENDER)
            await publish(sender, [sealed.data])
            response = await mine.read()
            assert [entry.leaf for entry in response.entries] == [sealed.id]
        assert frozenset({READER}) in reads
        assert frozenset({COMPANY}) not in reads


async def test_failed_commit_cuts_who_saw_it_and_nobody_keeps_it(
    both: tuple[App, App], cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    kr, nl = both
    await following(nl, KR)
    disk = Disk(kr, monkeypatch)
    sealed = cluster.seal(cluster.trust, SENDER)
    async with AsyncExitStack() as stack:
        sender, reader = [
            await stack.enter_async_context(cluster.connect(await cluster.enrol(name))) for name in (SENDER, READER)
        ]
        call = early_call(reader)
        await until_live(call, nl)
        disk.fails, disk.gate = True, asyncio.Event()
        publishing = asyncio.create_task(publish(sender, [sealed.data]))
        assert list((await call.read()).early) == [sealed.data]
        disk.gate.set()
        [answer] = await publishing
        assert answer.results[0].rule == "STORE_FAILED"
        # The reader hangs on the other node, which never had it to lose.
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        failure = wire.error_from(caught.value)
        assert isinstance(failure, wire.RemoteError)
        assert failure.rule == "STORE_FAILED"
        for app in both:
            assert app.node.store.position_of(sealed.id) is None
        assert nl._followers[KR][0]._early == {}
        disk.fails = False
        [answer] = await publish(sender, [sealed.data])
        assert not answer.results[0].rule
        await eventually(lambda: nl.node.store.position_of(sealed.id) is not None)


async def test_peer_that_never_confirms_gets_nothing_kept(both: tuple[App, App], cluster: Cluster) -> None:
    _, nl = both
    await following(nl, KR)
    follower = nl._followers[KR][0]
    stale, good = (cluster.seal(cluster.trust, SENDER) for _ in range(2))
    forged = altered(stale, lambda outer: setattr(outer, "items_root", bytes(32)))
    origin = f"tocsin/{KR}/1"
    for data in (b"junk", forged, good.data):
        await follower._take(None, origin, pb.SubscribeResponse(early=[data]))  # type: ignore[arg-type]
    size = nl.node.store.size()
    assert [preview.entry is not None for _, preview in follower._early.values()] == [False, False, True]
    follower._forget_early()
    assert follower._early == {}
    assert nl.node.store.size() == size
    # Without bound it would hold whatever a peer sends.
    junk = pb.SubscribeResponse(early=[b"junk %d" % number for number in range(10_000)])
    with pytest.raises(LimitError, match="more early than it confirms"):
        await follower._take(None, origin, junk)  # type: ignore[arg-type]
