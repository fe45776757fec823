"""A node's CA is replaced while it serves: who holds the new roster and who does not both get in, until the old one is over."""

import asyncio

import grpc
import pytest

from exchange import tls, wire
from exchange.clock import now_ms
from exchange.node import authority
from exchange.node.app import App
from exchange.v1 import exchange_pb2 as pb
from exchange.v1 import exchange_pb2_grpc as rpc
from keys import drafts, node_keys
from keys.encoding import digest
from keys.trust import Trust
from keys.v1 import documents_pb2 as docs
from keys.windows import Bounds
from tests.node.cluster import NODES, Cluster, Identity, give
from tests.world import SENDER

KR, NL = NODES
# Windows of seconds, because a TLS library has a clock of its own: R, L, S in ms.
QUICK = Bounds(1500, 2500, 100)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_keys, "_bounds", lambda *_: QUICK)


async def reaches(caller: App, peer: str) -> bool:
    channel = caller.connect(peer)
    try:
        await rpc.ExchangeStub(channel).GetCheckpoint(pb.GetCheckpointRequest(), timeout=5)
    except grpc.aio.AioRpcError:
        return False
    finally:
        await channel.close()
    return True


async def calls(cluster: Cluster, identity: Identity) -> str:
    async with cluster.connect(identity) as stub:
        try:
            await stub.GetCheckpoint(pb.GetCheckpointRequest(), timeout=5)
        except grpc.aio.AioRpcError as failure:
            error = wire.error_from(failure)
            return getattr(error, "rule", "") or error.reason
    return "taken"


async def test_a_ca_is_replaced_while_the_node_serves(cluster: Cluster) -> None:
    world = cluster.world
    async with cluster.app(KR).serving() as kr, cluster.app(NL).serving() as nl:
        desk = await cluster.enrol(SENDER)
        old = cluster.entries[KR].tls_ca
        with authority.open_keystore(cluster.directory(KR), b"") as store:
            new = authority.prepare(store, kr.trust, KR, now_ms=now_ms())
            assert authority.prepare(store, kr.trust, KR, now_ms=now_ms()) == new, "one waits already"

        def name_it(body: docs.Roster) -> None:
            next(n for n in body.nodes if n.node == KR).tls_ca = new

        published = now_ms()
        roster = world.parties["kr"].sign(drafts.next_roster(kr.trust, "kr", name_it, now_ms=published), "roster")
        await give(roster, kr)
        await kr._tend_keys()
        assert kr.own_keys.pair.certificate.issuer == kr.own_keys.ca.certificate.subject
        assert kr.own_keys.ca.der == old, "not before everybody knows"
        assert await reaches(nl, KR), "who lacks the roster gets in"
        await give(roster, nl)
        assert await reaches(nl, KR), "and who holds it"
        await asyncio.sleep(max(0, published + QUICK.revocation_ms + QUICK.skew_ms + 50 - now_ms()) / 1000)
        await kr._tend_keys()
        assert kr.own_keys.ca.der == old, "not before the peer confirmed it"
        said = world.parties["nl"].sign(drafts.next_status(nl.trust, "nl", now_ms=now_ms()), "status")
        await give(said, kr)
        await kr._tend_keys()
        assert kr.own_keys.ca.der == new
        assert await reaches(nl, KR)
        cluster.entries[KR].tls_ca = new
        assert await calls(cluster, desk) == "taken", "a certificate of the old CA is still good"
        renewed = await cluster.enrol(SENDER)
        assert tls.issued_by(renewed.certificate, tls.x509.load_der_x509_certificate(new))
        await asyncio.sleep(max(0, published + QUICK.pinned_ms + 50 - now_ms()) / 1000)
        await kr._tend_keys()
        with authority.open_keystore(cluster.directory(KR), b"") as store:
            assert set(authority.load(store)) == {new}, "the old key is destroyed"
        # A new version of the documents, or an hour, and the callers are looked at again.
        again = world.parties["nl"].sign(drafts.next_status(nl.trust, "nl", now_ms=now_ms()), "status")
        await give(again, nl, kr)
        other = world.parties["kr"].sign(drafts.next_status(kr.trust, "kr", now_ms=now_ms()), "status")
        await give(other, kr)
        assert await calls(cluster, renewed) == "taken"
        assert await calls(cluster, desk) in ("CALLER", "UNREACHABLE")


def accepted(trust: Trust, now: int) -> tuple[bytes, ...]:
    return node_keys.cas_accepted(trust, KR, now_ms=now)


def test_a_revoked_ca_ends_at_once(cluster: Cluster) -> None:
    world, trust = cluster.world, cluster.trust
    old = cluster.entries[KR].tls_ca

    def change(body: docs.Roster) -> None:
        next(n for n in body.nodes if n.node == KR).tls_ca = b"new"
        body.revocations.add(key=digest(old), time_ms=now_ms(), reason="stolen")

    draft = drafts.next_roster(trust, "kr", change, now_ms=now_ms())
    assert accepted(trust, now_ms()) == (old,)
    trust.take(world.parties["kr"].sign(draft, "roster"), now_ms=now_ms())
    assert accepted(trust, now_ms()) == (b"new",)
