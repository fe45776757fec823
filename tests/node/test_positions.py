"""Positions between real nodes: what is kept before a key ends, what is shown, what is not cosigned."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from exchange import checkpoint, envelope
from exchange.admission import Admission
from exchange.errors import SenderEndedError
from exchange.node.app import App
from exchange.node.core import Node
from exchange.node.follow import Follower
from exchange.standing import Position, Verdict, standing
from exchange.store.sqlite import SqliteStore
from exchange.v1 import exchange_pb2 as pb
from exchange.workers import ThreadWorkers
from keys import founding, suite
from keys.documents import Document
from keys.trust import week_of
from tests import chains, mail
from tests.node.cluster import NODES, Cluster, eventually, now_ms, publish, read

KR, NL = NODES
SENDER, READER = "kr.the-hague/economic", "nl.bz/supply"


def revoking(cluster: Cluster) -> Document:
    """The Korean roster that revokes the sender's key, issued now."""
    key = suite.key_id(1, "desk", cluster.world.desks[SENDER].public)
    return chains.next_roster(cluster.world, "kr", lambda body: body.revocations.add(key=key), now_ms=now_ms())


def cosigned(app: App, by: str) -> int:
    """Size of the newest head of a node that another one cosigned."""
    note = app.node.witnesses._held.get(by)
    return checkpoint.parse(note).size if note else 0


async def sent(cluster: Cluster, nl: App) -> envelope.Parsed:
    """An envelope from Korea, in the Dutch log, under a head that the Korean node cosigned."""
    parsed = cluster.seal(cluster.trust, SENDER)
    async with cluster.connect(await cluster.enrol(SENDER)) as stub:
        await publish(stub, [parsed.data])
    await eventually(lambda: nl.node.store.position_of(parsed.id) is not None)
    at = nl.node.store.position_of(parsed.id)
    assert at is not None
    await eventually(lambda: cosigned(nl, KR) > at)
    return parsed


async def put(cluster: Cluster, document: Document, *apps: App) -> None:
    async with cluster.connect(await cluster.enrol("kr.motie/supply")) as stub:
        await stub.PutDocuments(pb.PutDocumentsRequest(documents=[document.encode()]), timeout=10)
    for app in apps:
        await eventually(lambda app=app: app.node.store.position_of(document.digest) is not None)


async def test_a_desk_learns_that_an_envelope_came_before_its_key_ended(
    both: tuple[App, App], cluster: Cluster
) -> None:
    kr, nl = both
    parsed = await sent(cluster, nl)
    roster = revoking(cluster)
    await put(cluster, roster, kr, nl)
    late = cluster.seal(cluster.trust, SENDER)
    trust = cluster.trust
    trust.take(roster, now_ms=now_ms())
    header = Admission(trust).rights(envelope.parse(parsed.data), answered=mail.nothing_answered).header
    endings = [ending.document for ending in trust.endings(header.sender, header.key)]
    async with cluster.connect(await cluster.enrol(READER)) as stub:
        request = pb.GetPositionRequest(leaf=parsed.id, endings=endings)
        shown = await stub.GetPosition(request, timeout=10)
        found = standing(header, parsed.id, Position.from_view(shown.log), trust)
        assert found.verdict in (Verdict.COUNTED, Verdict.DISPUTED), found.reason
        assert f"that {KR} cosigned before" in found.reason
        for bad in (pb.GetPositionRequest(leaf=late.id, endings=endings), pb.GetPositionRequest(leaf=parsed.id)):
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await stub.GetPosition(bad, timeout=10)
            assert "this log does not hold" in str(failure.value) or "1 to 7 endings" in str(failure.value)
    # The log of the sender's own party proves nothing.
    async with cluster.connect(await cluster.enrol(SENDER.replace("the-hague/economic", "motie/supply"))) as stub:
        own = await stub.GetPosition(request, timeout=10)
    assert "its own party" in standing(header, parsed.id, Position.from_view(own.log), trust).reason


async def test_what_was_cosigned_before_is_kept_through_a_restart(cluster: Cluster) -> None:
    async with cluster.app(KR).serving() as kr, cluster.app(NL).serving() as nl:
        parsed = await sent(cluster, nl)
        roster = revoking(cluster)
        await put(cluster, roster, kr, nl)
        taken_ms = nl.trust.taken_ms(roster.digest)
    async with cluster.app(NL).serving() as nl:
        shown = await nl.node.positions.show(parsed.id, [roster.digest])
        assert len(shown.heads) == 2
        assert nl.trust.taken_ms(roster.digest) == taken_ms


async def test_a_node_does_not_cosign_a_log_that_hides_what_ended_its_partys_key(
    both: tuple[App, App], cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    kr, nl = both
    await sent(cluster, nl)
    roster = revoking(cluster)
    # The Korean node knows; the Dutch one does not want to.
    kr.trust.take(roster, now_ms=now_ms())
    before = cosigned(nl, KR)

    async def grow(week: int) -> int:
        card = founding.key_card(
            READER, cluster.world.desks[READER], suite.CardKey.generate(), lineage=cluster.world.lineage, week=week
        )
        async with cluster.connect(await cluster.enrol(READER)) as stub:
            await stub.PutDocuments(pb.PutDocumentsRequest(documents=[card.encode()]), timeout=10)
        await eventually(lambda: kr.trust.holds(card.digest))
        return nl.node.store.size()

    week = week_of(now_ms())
    await grow(week + 2)
    await asyncio.sleep(2.5)
    assert cosigned(nl, KR) == before
    with monkeypatch.context() as off:
        off.setattr(Node, "own_endings", lambda _: frozenset())
        size = await grow(week + 3)
        await eventually(lambda: cosigned(nl, KR) >= size)
    grown = await grow(week + 4)
    await put(cluster, roster, nl)
    at = nl.node.store.position_of(roster.digest)
    assert at is not None
    await eventually(lambda: cosigned(nl, KR) > at >= grown)


async def test_a_follower_takes_what_its_peer_held_before_the_key_ended(
    both: tuple[App, App], cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that lost its log fetches it from one of another country; meanwhile a key has ended."""
    kr, nl = both
    parsed = await sent(cluster, nl)
    roster = revoking(cluster)
    await put(cluster, roster, kr, nl)
    trust = cluster.trust
    trust.take(roster, now_ms=now_ms())
    workers = ThreadWorkers(1, name="test")
    key = suite.SigningKey.generate(1)
    node = Node(
        "nl.other-1", store=SqliteStore(tmp_path / "o.db"), trust=trust, log_key=key, clock=now_ms, workers=workers
    )
    await node.start()
    follower = Follower(node, NL, connect=lambda _: pytest.fail("not needed"), clock=now_ms)
    try:
        async with cluster.connect(await cluster.enrol(READER)) as stub:
            [entry] = [one for one in await read(stub) if one.leaf == parsed.id]

            class Silent:
                """A peer that shows nothing."""

                async def GetPosition(self, *_: object, **__: object) -> Any:  # noqa: N802
                    raise grpc.aio.AioRpcError(grpc.StatusCode.UNIMPLEMENTED, grpc.aio.Metadata(), grpc.aio.Metadata())

            with pytest.raises(SenderEndedError):
                await follower._envelope(Silent(), entry, f"tocsin/{NL}/1", 0)  # type: ignore[arg-type]
            waiting = await follower._envelope(stub, entry, f"tocsin/{NL}/1", 0)
            assert waiting is not None
            await waiting.durable
        assert node.store.position_of(parsed.id) is not None
    finally:
        await node.stop()
        workers.close()
