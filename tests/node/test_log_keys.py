"""A node's log key is replaced while two nodes follow and cosign each other; one of them gets the roster late."""

import asyncio

import pytest

from exchange import checkpoint, refusal
from exchange.errors import ProofError
from exchange.node import authority
from exchange.node.app import App
from exchange.node.audit import audit
from exchange.node.logkeys import LogKeys
from exchange.v1 import exchange_pb2 as pb
from keys import drafts, node_keys
from keys.documents import Document
from keys.errors import SignatureError
from keys.v1 import documents_pb2 as docs
from keys.windows import Bounds
from tests.node.cluster import NODES, Cluster, eventually, give, now_ms

KR, NL = NODES
# R, L and S in ms, long enough for a test to see both sides of each.
QUICK = Bounds(4000, 2500, 100)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_keys, "_bounds", lambda *_: QUICK)


async def prepare(cluster: Cluster, app: App) -> docs.PublicKey:
    with authority.open_keystore(cluster.directory(KR), b"") as store:
        new = authority.prepare_log_key(store, app.trust, KR)
        assert authority.prepare_log_key(store, app.trust, KR).key == new.key, "one waits already"
    await app._tend_keys()
    return new


def named(cluster: Cluster, app: App, new: docs.PublicKey) -> Document:
    def name_it(body: docs.Roster) -> None:
        next(n for n in body.nodes if n.node == KR).log_key.CopyFrom(new)

    draft = drafts.next_roster(app.trust, "kr", name_it, now_ms=now_ms())
    return cluster.world.parties["kr"].sign(draft, "roster")


async def grow(cluster: Cluster, *nodes: App) -> None:
    """One more leaf at both ends: a status."""
    draft = drafts.next_status(nodes[0].trust, "nl", now_ms=now_ms())
    await give(cluster.world.parties["nl"].sign(draft, "status"), *nodes)


async def in_step(kr: App, nl: App) -> None:
    """Each follows the other to its end, and has its signature under the newest head."""

    def so() -> bool:
        for mine, other, name in ((kr, nl, NL), (nl, kr, KR)):
            size = checkpoint.parse(mine.node.checkpoint).size
            followed = other._followers.get(mine.settings.name)
            note = mine.node.witnesses.newest()
            if followed is None or followed[0].state != "following" or followed[0].position < size:
                return False
            if not note or checkpoint.parse(note).size < size:
                return False
            if name not in {signer for signer, _, _ in checkpoint.parse(note).signatures}:
                return False
        return True

    await eventually(so)


def lines(note: bytes, name: str) -> int:
    return [signer for signer, _, _ in checkpoint.parse(note).signatures].count(name)


async def test_both_keys_sign_until_everybody_has_the_roster(cluster: Cluster) -> None:
    old = cluster.entries[KR].log_key
    async with cluster.app(KR).serving() as kr, cluster.app(NL).serving() as nl:
        new = await prepare(cluster, kr)
        await grow(cluster, nl, kr)
        await in_step(kr, nl)
        assert lines(kr.node.checkpoint, KR) == 2, "it signs along before any roster names it"
        published = now_ms()
        roster = named(cluster, kr, new)
        # Not to the other side yet: it would come by following, so kr does not hold it either. Only its choice is made.
        copy = cluster.trust
        copy.take(roster, now_ms=now_ms())
        ahead = LogKeys(KR, copy, [*kr.node.log_keys._held], clock=now_ms)
        ahead.refresh()
        assert ahead.first.public == new.key
        said = refusal.sign(pb.NodeRefusal(node=KR, desk="nl.seoul/economic"), ahead.known)
        assert refusal.verify(said, nl.trust).refusal.node == KR, "who lacks the roster reads it"
        with pytest.raises(SignatureError):
            refusal.verify(refusal.sign(pb.NodeRefusal(node=KR), ahead.first), nl.trust)
        await nl.node.witnesses.add(ahead.cosign(nl.node.checkpoint), by=KR)
        alone = checkpoint.cosign(nl.node.checkpoint, ahead.first, name=KR)
        with pytest.raises(ProofError):
            await nl.node.witnesses.add(alone, by=KR)
        before = kr.node.witnesses.newest()
        assert lines(before, KR) == 2
        await give(roster, kr, nl)
        await in_step(kr, nl)
        assert kr.node.log_keys.first.public == new.key
        assert kr.node.log_keys.known.public == old.key
        for key in (old, new):
            checkpoint.verify(kr.node.checkpoint, key.suite, key.key, name=KR)
        await asyncio.sleep(max(0, published + QUICK.revocation_ms + 2 * QUICK.skew_ms + 200 - now_ms()) / 1000)
        await kr._tend_keys()
        await grow(cluster, nl, kr)
        await in_step(kr, nl)
        assert lines(kr.node.checkpoint, KR) == 1, "the old one is over"
        with authority.open_keystore(cluster.directory(KR), b"") as store:
            assert [key.public for key in authority.load_log_keys(store).values()] == [new.key], "and destroyed"
        # What was cosigned before is good for ever, as evidence.
        kr.node.witnesses.verify(before, NL)
        nl.node.witnesses.verify(nl.node.witnesses.newest(), KR)
    async with cluster.app(KR).serving() as kr, cluster.app(NL).serving() as nl:
        assert kr.node.witnesses.newest(), "kept over a restart"
        await grow(cluster, nl, kr)
        await in_step(kr, nl)


async def test_a_node_that_changes_at_once_is_followed_by_nobody(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cluster.app(KR).serving() as kr, cluster.app(NL).serving() as nl:
        await in_step(kr, nl)
        new = await prepare(cluster, kr)
        monkeypatch.setattr(node_keys, "log_keys_signing", lambda *_, **__: (new.key,))
        kr.node.log_keys.refresh()
        draft = drafts.next_status(kr.trust, "kr", now_ms=now_ms())
        await give(cluster.world.parties["kr"].sign(draft, "status"), kr)
        await eventually(lambda: "PROOF_BAD" in nl._followers[KR][0].state)


async def test_a_thief_of_a_key_that_ended_does_not_stop_its_node_and_what_peers_saw_does(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_keys, "_bounds", lambda *_: Bounds(40, 25, 10))
    desk, origin = "kr.the-hague/economic", f"tocsin/{KR}/1"
    async with cluster.app(KR).serving() as kr:
        stolen = kr.node.log_keys.first
        forged = checkpoint.sign(origin, 10**6, b"r" * 32, stolen, name=KR, time_ms=now_ms())
        assert kr.node.witnesses.vouch(forged, by=desk), "while it counts, its word counts"
        new = await prepare(cluster, kr)
        await give(named(cluster, kr, new), kr)
        await asyncio.sleep(0.1)
        await kr._tend_keys()
        assert new.key in (key for _, key in kr.node.log_keys.counting())
        assert (stolen.suite, stolen.public) in kr.node.log_keys.ever(), "for what was kept"
        async with cluster.connect(await cluster.enrol(desk)) as stub:
            await stub.GetCheckpoint(pb.GetCheckpointRequest(seen=forged))
        assert kr.node.barred is None
        assert kr.node.claims.doubted == {desk: 10**6}
        assert kr.node.claims.still(kr.node.store.size()) == {}
        findings = await asyncio.to_thread(audit, kr.node)
        assert [finding.bad for finding in findings if "has ended" in finding.text] == [True]
        # A disk that came back from before the key's end: what was seen meanwhile still counts.
        with authority.open_keystore(cluster.directory(NL), b"") as store:
            (witness,) = authority.load_log_keys(store).values()
        vouch = kr.node.witnesses.vouch
        assert vouch(checkpoint.cosign(forged, witness, name=NL), by=desk)
        assert not vouch(checkpoint.cosign(forged, stolen, name=NL), by=desk), "not its key"
        assert not vouch(checkpoint.cosign(forged, kr.node.log_keys.first, name=KR), by=desk), (
            "nobody is his own witness"
        )
        ours = checkpoint.sign_also(forged, kr.node.log_keys.first, name=KR)
        assert vouch(ours, by=desk)
        await kr.node.hearing.hear(forged, by=NL)
        assert kr.node.barred is not None
