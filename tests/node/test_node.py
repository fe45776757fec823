"""Two real nodes on loopback: taking, following, reading, refusing, dying and coming back."""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from exchange import checkpoint, refusal, tls, wire
from exchange.admission import Admitted
from exchange.envelope import Parsed, check
from exchange.errors import AudienceError, IdentityError, ProofError, StoreError
from exchange.merkle import verify_inclusion
from exchange.node import intake
from exchange.node.app import App
from exchange.node.core import Node
from exchange.node.follow import Follower
from exchange.node.quota import Limits, Quotas
from exchange.node.writer import Waiting
from exchange.store.contract import NewEntry
from exchange.store.sqlite import SqliteStore
from exchange.v1 import exchange_pb2 as pb
from exchange.v1 import exchange_pb2_grpc as rpc
from exchange.wire import UnreachableError
from keys import documents, founding, suite
from keys.encoding import digest
from keys.errors import PeerError, SignatureError
from keys.trust import week_of
from keys.v1 import documents_pb2 as docs
from tests.mail import altered, send
from tests.node.cluster import NODES, Cluster, Identity, eventually, now_ms, publish, read
from tests.world import draft, items

KR, NL = NODES
SENDER, READER, COMPANY = "kr.the-hague/economic", "nl.bz/supply", "nl.asml-like/supply"


@dataclass
class Running:
    cluster: Cluster
    kr: App
    nl: App


@pytest.fixture
async def running(cluster: Cluster) -> AsyncIterator[Running]:
    async with AsyncExitStack() as stack:
        kr = await stack.enter_async_context(cluster.app(KR).serving())
        nl = await stack.enter_async_context(cluster.app(NL).serving())
        yield Running(cluster, kr, nl)


def held(app: App, parsed: Parsed) -> bool:
    return app.node.store.position_of(parsed.id) is not None


async def refused(cluster: Cluster, identity: Identity, node: str) -> grpc.aio.AioRpcError:
    async with cluster.connect(identity, node) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetCheckpoint(pb.GetCheckpointRequest(), timeout=5)
    return caught.value


async def test_report_reaches_the_other_country_and_only_its_readers(running: Running) -> None:
    cluster, trust = running.cluster, running.cluster.trust
    amber = cluster.seal(trust, SENDER, content=items(3))
    green = cluster.seal(trust, SENDER, marking=docs.MARKING_GREEN)
    async with cluster.connect(await cluster.enrol(SENDER)) as stub:
        [response] = await publish(stub, [amber.data, green.data])
    head = cluster.verify(KR, response.checkpoint)
    for result, sealed in zip(response.results, (amber, green), strict=True):
        assert (result.id, result.rule) == (sealed.id, "")
        verify_inclusion(sealed.id, result.position, head.size, list(result.proof), head.root)
    async with cluster.connect(await cluster.enrol(READER)) as stub:
        entries = await read(stub, until=2)
        assert [entry.leaf for entry in entries] == [amber.id, green.id]
        assert cluster.open(READER, entries[0].data) == tuple(items(3))
    async with cluster.connect(await cluster.enrol(COMPANY)) as stub:
        assert [entry.leaf for entry in await read(stub)] == [green.id]


async def test_a_node_is_not_sent_what_came_from_its_own_log(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, trust = running.cluster, running.cluster.trust
    sent: dict[str, list[bytes]] = {KR: [], NL: []}
    take = Follower._take

    async def noted(self: Follower, stub: Any, origin: str, response: pb.SubscribeResponse) -> None:
        sent[self.peer] += [entry.leaf for entry in response.entries if entry.kind == pb.ENTRY_KIND_ENVELOPE]
        await take(self, stub, origin, response)

    monkeypatch.setattr(Follower, "_take", noted)
    sealed = [cluster.seal(trust, SENDER) for _ in range(5)]
    async with cluster.connect(await cluster.enrol(SENDER)) as stub:
        await publish(stub, *([each.data] for each in sealed))
    await eventually(lambda: all(held(running.nl, each) for each in sealed))
    # The cursor goes past them all the same.
    await eventually(lambda: running.kr.node.store.cursor(f"tocsin/{NL}/1") == running.nl.node.store.size())
    assert sent == {KR: [each.id for each in sealed], NL: []}
    rows = [
        row
        async for batch in running.nl.node.subscribe(KR, position=0, channels=None, follow=False, echo=True)
        for row, _ in batch.rows
        if row.kind == pb.ENTRY_KIND_ENVELOPE
    ]
    assert [row.id for row in rows] == [each.id for each in sealed]


async def test_follower_cosigns_and_the_origin_keeps_it(running: Running) -> None:
    cluster = running.cluster
    sealed = cluster.seal(cluster.trust, SENDER)
    async with cluster.connect(await cluster.enrol(SENDER)) as stub:
        [response] = await publish(stub, [sealed.data])
    size = checkpoint.parse(response.checkpoint).size
    note = b""

    def cosigned() -> bool:
        nonlocal note
        note = running.kr.node.store.note(f"tocsin/{KR}/1+{NL}") or b""
        return bool(note) and checkpoint.parse(note).size >= size

    await eventually(cosigned)
    key = cluster.entries[NL].log_key
    checkpoint.verify_cosignature(note, key.suite, key.key, name=NL)
    assert running.nl.node.store.cursor(f"tocsin/{KR}/1") >= size


async def test_checkpoint_comes_with_the_cosignatures_under_it(running: Running) -> None:
    cluster = running.cluster
    sealed = cluster.seal(cluster.trust, SENDER)
    async with cluster.connect(await cluster.enrol(SENDER)) as stub:
        [response] = await publish(stub, [sealed.data])
        size, key = checkpoint.parse(response.checkpoint).size, cluster.entries[NL].log_key
        held = running.kr.node.witnesses._held
        await eventually(lambda: NL in held and checkpoint.parse(held[NL]).size >= size)
        answer = await stub.GetCheckpoint(pb.GetCheckpointRequest(), timeout=5)
    # Nothing came since, so the newest head is the one that was cosigned.
    for note in (answer.checkpoint, answer.cosigned):
        assert cluster.verify(KR, note).size == size
        checkpoint.verify_cosignature(note, key.suite, key.key, name=NL)
    # A line that is not the caller's own is not handed on.
    padded = answer.cosigned + checkpoint.DASH.encode() + b"nl.other-1 AAAAAAAA\n"
    await running.kr.node.witnesses.add(padded, by=NL)
    assert running.kr.node.witnesses.newest() == answer.cosigned
    with pytest.raises(ProofError):
        await running.kr.node.witnesses.add(response.checkpoint, by=NL)
    for name in (KR, "kr.none-1"):
        with pytest.raises(IdentityError):
            await running.kr.node.witnesses.add(answer.cosigned, by=name)


async def test_cosignature_is_still_handed_out_after_a_restart(cluster: Cluster) -> None:
    async with cluster.app(KR).serving() as kr, cluster.app(NL).serving():
        await eventually(lambda: kr.node.witnesses.newest())
        before = kr.node.witnesses.newest()
    async with cluster.app(KR).serving() as kr:
        assert kr.node.witnesses.newest() == before


async def test_fork_in_a_followed_log_is_kept_flagged_and_shown(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, trust = running.cluster, running.cluster.trust
    one, two = (cluster.seal(trust, SENDER) for _ in range(2))
    again = send(trust, draft(trust, create_ms=now_ms(), seq=1), at=cluster.world)
    three = cluster.seal(trust, SENDER)
    denies = send(trust, draft(trust, create_ms=now_ms(), seq=4, prev=(2, b"x" * 32)), at=cluster.world)
    # An origin that does not look at numbers.
    monkeypatch.setattr(intake, "check_stream", lambda header, last: None)
    async with cluster.connect(await cluster.enrol(SENDER)) as stub:
        answers = await publish(stub, *([each.data] for each in (one, two, again, three, denies)))
    assert not any(answer.results[0].rule for answer in answers)
    await eventually(lambda: held(running.nl, denies))
    found = [(fork.seq, fork.first, fork.second) for fork in running.nl.node.store.forks()]
    assert found == [(1, one.id, again.id), (2, two.id, denies.id)]
    assert running.nl.node.forks == 2
    async with cluster.connect(await cluster.enrol(READER)) as stub:
        answer = await stub.GetForks(pb.GetForksRequest(), timeout=5)
    head = cluster.verify(NL, answer.checkpoint)
    assert [(fork.sender, fork.seq, fork.first.data, fork.second.data) for fork in answer.forks] == [
        (SENDER, 1, one.data, again.data),
        (SENDER, 2, two.data, denies.data),
    ]
    for fork in answer.forks:
        for entry in (fork.first, fork.second):
            verify_inclusion(entry.leaf, entry.position, head.size, list(entry.proof), head.root)
    async with cluster.connect(await cluster.enrol(COMPANY)) as stub:
        assert not (await stub.GetForks(pb.GetForksRequest(), timeout=5)).forks


async def test_what_only_comes_late_is_no_fork(running: Running) -> None:
    cluster, trust = running.cluster, running.cluster.trust
    sealed = [cluster.seal(trust, SENDER) for _ in range(3)]
    # Two logs bring them in another order.
    for number, origin in ((2, "tocsin/a/1"), (0, "tocsin/b/1"), (1, "tocsin/b/1"), (1, "tocsin/c/1")):
        each = sealed[number]
        taken = await running.nl.node.follow(each.data, each.id, origin=origin, now_ms=now_ms())
        if taken is not None:
            await taken.durable
    assert running.nl.node.store.forks() == []
    assert running.nl.node.forks == 0


async def test_an_answer_right_behind_what_it_answers_is_taken(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So they come from a log that is caught up with, before the first is on disk."""
    cluster, trust, node = running.cluster, running.cluster.trust, running.nl.node
    said = cluster.seal(trust, SENDER)
    header = draft(trust, sender=READER, audience=(SENDER,), create_ms=now_ms(), stream=b"a" * 16)
    header.answers = said.id
    answer = send(trust, header, at=cluster.world)
    append, queued = node.store.append, threading.Event()

    def slow(*entries: Any, **more: Any) -> list[int]:
        queued.wait(20)
        return append(*entries, **more)

    monkeypatch.setattr(node.store, "append", slow)
    first = await node.follow(said.data, said.id, origin=f"tocsin/{KR}/1", now_ms=now_ms())
    try:
        second = await node.follow(answer.data, answer.id, origin=f"tocsin/{KR}/1", now_ms=now_ms())
    finally:
        queued.set()
    assert first is not None
    assert second is not None
    await asyncio.gather(first.durable, second.durable)
    assert [node.store.position_of(one.id) for one in (said, answer)] == [first.position, second.position]


async def test_duplicate_keeps_its_position_also_after_restart(cluster: Cluster) -> None:
    sealed = cluster.seal(cluster.trust, SENDER)
    async with cluster.app(KR).serving():
        identity = await cluster.enrol(SENDER)
        async with cluster.connect(identity) as stub:
            [first] = await publish(stub, [sealed.data])
            again = await publish(stub, [sealed.data], [sealed.data, sealed.data])
    async with cluster.app(KR).serving() as kr, cluster.connect(identity) as stub:
        again += await publish(stub, [sealed.data])
        size = kr.node.store.size()
    assert [r.rule for m in again for r in m.results] == [""] * 4
    assert {r.position for m in again for r in m.results} == {first.results[0].position}
    assert size == len(cluster.world.documents) + 1


async def test_same_envelope_on_two_streams_at_once(cluster: Cluster) -> None:
    sealed = [cluster.seal(cluster.trust, SENDER).data for _ in range(8)]
    async with cluster.app(KR).serving():
        identity = await cluster.enrol(SENDER)
        async with cluster.connect(identity) as one, cluster.connect(identity) as two:
            both = await asyncio.gather(*(publish(stub, *([data] for data in sealed)) for stub in (one, two)))
    positions = [[result.position for message in answers for result in message.results] for answers in both]
    assert positions[0] == positions[1]
    assert not any(result.rule for answers in both for message in answers for result in message.results)


async def test_foreign_ca_cannot_vouch(running: Running) -> None:
    cluster = running.cluster
    own = await cluster.enrol(READER)
    # The Korean node's own CA issues for a desk and for the node of the Netherlands.
    key, ca = tls.new_key(), running.kr.own_keys.ca
    for claimed in (READER, NL):
        forged = tls.issue(ca.certificate, ca.key, claimed, key.public_key(), now_ms=now_ms())
        for node in NODES:
            failure = wire.error_from(await refused(cluster, Identity(key, forged, claimed), node))
            assert isinstance(failure, wire.RemoteError)
            assert failure.rule == "CALLER"
    # A CA that bears the pinned one's name but is in no roster does not pass the handshake.
    ca_key = tls.new_key()
    ca = tls.make_ca(NL, ca_key, now_ms=now_ms())
    forged = tls.issue(ca, ca_key, READER, key.public_key(), now_ms=now_ms())
    assert (await refused(cluster, Identity(key, forged, READER), NL)).code() is grpc.StatusCode.UNAVAILABLE
    async with cluster.connect(own) as stub:
        assert (await stub.GetCheckpoint(pb.GetCheckpointRequest(), timeout=5)).checkpoint


def test_ca_under_another_name_is_not_put_beside_the_honest_ones(cluster: Cluster) -> None:
    trust = cluster.trust
    copied = tls.make_ca(NL, tls.new_key(), now_ms=now_ms())
    kr, nl = trust.node(KR), trust.node(NL)
    assert kr is not None
    assert nl is not None
    kr.tls_ca = copied.public_bytes(Encoding.DER)
    assert tls.trusted_cas(trust, now_ms=now_ms()) == tls.der_to_pem(nl.tls_ca)
    kr.tls_ca = b"no certificate"
    assert tls.trusted_cas(trust, now_ms=now_ms()) == tls.der_to_pem(nl.tls_ca)


async def test_enrolment_by_another_key_is_refused(running: Running) -> None:
    cluster = running.cluster
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await cluster.enrol(READER, key=cluster.world.desks[SENDER])
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    with pytest.raises(grpc.aio.AioRpcError):
        await cluster.enrol(READER, node=KR)


def poisoned(running: Running, monkeypatch: pytest.MonkeyPatch, count: int) -> list[Parsed]:
    """Envelopes that the Korean node admits though they leave out a reader of the agreed audience."""
    cluster, trust = running.cluster, running.cluster.trust
    made = []
    for _ in range(count):
        seq, last = cluster.seqs[(SENDER, b"s" * 16)]
        header = draft(trust, create_ms=now_ms(), seq=seq + 1, prev=(seq, last), audience=(READER,))
        made.append(send(trust, header, at=cluster.world))
        cluster.seqs[(SENDER, b"s" * 16)] = (seq + 1, made[-1].id)
    honest = running.kr.node.admission.admit
    rule = trust.agreement(now_ms()).channels["minerals"]
    passed = {each.id for each in made}

    def admit(parsed: Parsed, **known: Any) -> Admitted:
        if parsed.id not in passed:
            return honest(parsed, **known)
        return Admitted(check(parsed, cluster.world.desks[SENDER].public), rule)

    monkeypatch.setattr(running.kr.node.admission, "admit", admit)
    return made


async def test_poison_in_the_middle_stops_nothing_and_its_sender_is_told(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, trust = running.cluster, running.cluster.trust
    sealed = [cluster.seal(trust, SENDER) for _ in range(50)]
    [poison] = poisoned(running, monkeypatch, 1)
    sealed += [cluster.seal(trust, SENDER) for _ in range(50)]
    order = [*sealed[:50], poison, *sealed[50:]]
    async with cluster.connect(await cluster.enrol(SENDER)) as stub:
        answers = await publish(stub, *([each.data] for each in order))
        assert not any(answer.results[0].rule for answer in answers)
        await eventually(lambda: all(held(running.nl, each) for each in sealed))
        assert not held(running.nl, poison)
        [record] = running.nl.node.store.refusals()
        assert (record.id, record.rule, record.origin) == (poison.id, "POLICY_AUDIENCE", f"tocsin/{KR}/1")
        position = answers[50].results[0].position
        assert record.position == position
        [entry] = await read(stub, until=1, kind=pb.ENTRY_KIND_REFUSAL)
        # Also to a desk that reads one channel only.
        call = stub.Subscribe(pb.SubscribeRequest(position=entry.position, channels=["chips"]), timeout=30)
        assert [each.leaf async for response in call for each in response.entries] == [entry.leaf]
    opened = refusal.verify(entry.data, trust)
    said = opened.refusal
    assert (opened.leaf, said.node, said.desk) == (entry.leaf, NL, SENDER)
    assert (said.origin, said.position, said.id, said.rule) == (record.origin, position, poison.id, record.rule)
    assert "seal again" in said.text
    for desk in ("kr.motie/supply", READER):
        async with cluster.connect(await cluster.enrol(desk)) as stub:
            assert await read(stub, kind=pb.ENTRY_KIND_REFUSAL) == []
    # What is altered, another's or about nothing we hold is not kept for anybody.
    body = pb.NodeRefusal.FromString(pb.SignedRefusal.FromString(entry.data).refusal)
    mine = running.nl.node.log_keys.first
    for change in ({"id": b"x" * 32}, {"desk": READER}, {"desk": "kr.motie/supply"}, {"node": KR}):
        fresh = pb.NodeRefusal()
        fresh.CopyFrom(body)
        for name, value in change.items():
            setattr(fresh, name, value)
        made = refusal.sign(fresh, mine)
        with pytest.raises(PeerError):
            await running.kr.node.refusals.take(
                pb.Entry(data=made, leaf=refusal.leaf_of(refusal.body_of(made))), f"tocsin/{NL}/1"
            )
    altered_data = entry.data.replace(b"POLICY_AUDIENCE", b"POLICY_PUBLISHX")
    with pytest.raises(SignatureError):
        refusal.verify(altered_data, trust)


async def test_flood_of_bad_entries_does_not_flood_the_log(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = running.cluster
    first = cluster.seal(cluster.trust, SENDER)
    poison = poisoned(running, monkeypatch, 30)
    last = cluster.seal(cluster.trust, SENDER)
    for app in (running.kr, running.nl):
        monkeypatch.setattr(app.node.quotas, "_rates", Quotas(peer=Limits(5000, 1e8, 1000, 3))._rates)
    before = running.nl.node.store.size()
    async with cluster.connect(await cluster.enrol(SENDER)) as stub:
        await publish(stub, *([each.data] for each in (first, *poison, last)))
        await eventually(lambda: held(running.nl, last))
        assert len(await read(stub, until=3, kind=pb.ENTRY_KIND_REFUSAL)) == 3
    assert len(running.nl.node.store.refusals()) == 30
    assert running.nl.node.store.size() == before + 2 + 3


async def test_nobody_is_told_who_did_not_send_through_that_node(running: Running) -> None:
    cluster = running.cluster
    foreign = cluster.seal(cluster.trust, READER, channel="alerts")
    junk = pb.Entry(kind=pb.ENTRY_KIND_ENVELOPE, data=b"junk", leaf=b"j" * 32, position=1)
    other = pb.Entry(kind=pb.ENTRY_KIND_ENVELOPE, data=foreign.data, leaf=foreign.id, position=2)
    before = running.nl.node.store.size()
    for entry in (junk, other):
        await (await running.nl.node.refusals.refuse(entry, f"tocsin/{KR}/1", AudienceError("no"))).durable
    assert running.nl.node.store.size() == before
    assert [record.position for record in running.nl.node.store.refusals()] == [1, 2]


async def test_bad_envelopes_are_answered_and_the_stream_goes_on(running: Running) -> None:
    cluster, trust = running.cluster, running.cluster.trust
    good = cluster.seal(trust, SENDER)
    expired = send(trust, draft(trust, create_ms=now_ms() - 7_200_000, seq=2, prev=(1, good.id)), at=cluster.world)
    stranger = send(
        trust,
        draft(trust, create_ms=now_ms(), seq=2, prev=(1, good.id)),
        key=suite.SigningKey.generate(suite.DESK_SUITE),
        at=cluster.world,
    )
    garbled = bytearray(good.data)
    garbled[-5000] ^= 1
    other = cluster.seal(trust, "kr.motie/supply")
    bad = {
        bytes(1_000_001): "ENVELOPE_SHAPE",
        bytes(1_200_000): "LIMIT",
        good.data[:-1]: "ENVELOPE_SHAPE",
        b"": "SUITE_UNKNOWN",
        expired.data: "ENVELOPE_TIME",
        stranger.data: "SENDER_UNKNOWN",
        other.data: "CALLER",
        altered(good, lambda outer: setattr(outer, "items_root", bytes(32))): "SIGNATURE_BAD",
    }
    last = cluster.seal(trust, SENDER)
    async with cluster.connect(await cluster.enrol(SENDER)) as stub:
        answers = await publish(stub, [good.data], *([data] for data in bad), [bytes(garbled)], [last.data])
    results = [answer.results[0] for answer in answers]
    assert [result.rule for result in results[1:-2]] == list(bad.values())
    assert results[-2].rule == "SIGNATURE_BAD"
    assert (results[0].rule, results[-1].rule) == ("", "")
    assert results[3].id == digest(good.data[:-1])
    assert results[5].id == expired.id
    assert running.kr.node.store.size() == len(cluster.world.documents) + 2


async def test_gap_and_fork_in_a_stream_are_refused(running: Running) -> None:
    cluster, trust = running.cluster, running.cluster.trust
    one = cluster.seal(trust, SENDER)
    fork = send(trust, draft(trust, create_ms=now_ms(), seq=1), at=cluster.world)
    gap = send(trust, draft(trust, create_ms=now_ms(), seq=9, prev=(8, b"x" * 32)), at=cluster.world)
    async with cluster.connect(await cluster.enrol(SENDER)) as stub:
        [answer] = await publish(stub, [one.data, fork.data, gap.data])
    assert [result.rule for result in answer.results] == ["", "STREAM_FORK", "STREAM_ORDER"]


async def test_a_number_that_no_disk_holds_is_refused_and_costs_the_others_nothing(running: Running) -> None:
    cluster, trust = running.cluster, running.cluster.trust
    huge = send(trust, draft(trust, create_ms=now_ms(), stream=b"h" * 16, seq=2**63), at=cluster.world)
    good = cluster.seal(trust, SENDER)
    async with cluster.connect(await cluster.enrol(SENDER)) as stub:
        [answer] = await publish(stub, [huge.data, good.data])
    assert [result.rule for result in answer.results] == ["ENVELOPE_SHAPE", ""]


async def test_a_stream_is_its_senders_whoever_else_uses_its_name(running: Running) -> None:
    cluster, trust = running.cluster, running.cluster.trust
    squatter = "kr.motie/supply"
    high = send(trust, draft(trust, sender=squatter, create_ms=now_ms(), seq=900), at=cluster.world)
    async with cluster.connect(await cluster.enrol(squatter)) as stub:
        [answer] = await publish(stub, [high.data])
        assert not answer.results[0].rule
    sealed = [cluster.seal(trust, SENDER) for _ in range(2)]
    async with cluster.connect(await cluster.enrol(SENDER)) as stub:
        [answer] = await publish(stub, [each.data for each in sealed])
    assert [result.rule for result in answer.results] == ["", ""]
    await eventually(lambda: all(held(running.nl, each) for each in (high, *sealed)))
    assert running.nl.node.store.forks() == []


async def test_too_many_envelopes_in_a_message_end_the_call(running: Running) -> None:
    async with running.cluster.connect(await running.cluster.enrol(SENDER)) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await publish(stub, [b""] * 1000)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_documents_put_at_one_node_reach_the_other(running: Running) -> None:
    cluster = running.cluster
    week = week_of(now_ms()) + 2
    card = founding.key_card(
        SENDER, cluster.world.desks[SENDER], suite.CardKey.generate(), lineage=cluster.world.lineage, week=week
    )
    async with cluster.connect(await cluster.enrol(SENDER)) as stub:
        answer = await stub.PutDocuments(pb.PutDocumentsRequest(documents=[card.encode(), b"junk"]), timeout=10)
        assert [bool(result.rule) for result in answer.results] == [False, True]
        page = await stub.GetDocuments(pb.GetDocumentsRequest(page_size=5), timeout=10)
        assert len(page.documents) == 5
        rest = await stub.GetDocuments(pb.GetDocumentsRequest(page_token=page.next_page_token), timeout=10)
        assert [*page.documents, *rest.documents] == [d.encode() for d in running.kr.node.documents.kept()]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetDocuments(pb.GetDocumentsRequest(page_token="5"), timeout=10)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await eventually(lambda: running.nl.trust.holds(card.digest))
    await eventually(lambda: running.nl.node.store.position_of(card.digest) is not None)


async def test_killed_in_the_middle_of_publishing_nothing_is_lost_or_repeated(cluster: Cluster) -> None:
    sealed = [cluster.seal(cluster.trust, SENDER) for _ in range(60)]
    process = cluster.start(KR)
    receipts: dict[bytes, int] = {}
    try:
        identity = await cluster.enrol(SENDER)
        async with cluster.connect(identity) as stub:
            call = stub.Publish()
            sending = asyncio.create_task(_send_slowly(call, sealed))
            with pytest.raises(grpc.aio.AioRpcError):
                await _collect(call, receipts, then=process.kill)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        assert len(receipts) >= 20
        assert process.wait(10) == -signal.SIGKILL
        process = cluster.start(KR)
        async with cluster.connect(identity) as stub:
            answers = await publish(stub, *([each.data] for each in sealed))
            positions = {result.id: result.position for answer in answers for result in answer.results}
            entries = await read(stub)
        assert not any(result.rule for answer in answers for result in answer.results)
        assert receipts.items() <= positions.items()
        assert [entry.leaf for entry in entries] == [each.id for each in sealed]
    finally:
        process.terminate()
        assert process.wait(15) == 0


async def _collect(call: Any, receipts: dict[bytes, int], *, then: Callable[[], None]) -> None:
    async for answer in call:
        for result in answer.results:
            assert not result.rule
            receipts[result.id] = result.position
        if len(receipts) == 20:
            then()


async def _send_slowly(call: Any, sealed: list[Parsed]) -> None:
    for each in sealed:
        await call.write(pb.PublishRequest(envelopes=[each.data]))
        await asyncio.sleep(0.005)
    await call.done_writing()


async def test_stops_in_order_with_live_readers(cluster: Cluster) -> None:
    sealed = cluster.seal(cluster.trust, SENDER)
    process = cluster.start(KR)
    identity = await cluster.enrol(SENDER)
    async with cluster.connect(identity) as stub:
        call = stub.Subscribe(pb.SubscribeRequest(follow=True))
        assert (await call.read()).entries
        await publish(stub, [sealed.data])
        process.terminate()
        rest = await _rest(call)
    assert await asyncio.to_thread(process.wait, 10) == 0
    assert await call.code() is grpc.StatusCode.OK
    assert [entry.leaf for response in rest for entry in response.entries] == [sealed.id]


async def test_follower_catches_up_after_it_was_away(cluster: Cluster) -> None:
    trust = cluster.trust
    async with cluster.app(KR).serving():
        identity = await cluster.enrol(SENDER)
        early, late = ([cluster.seal(trust, SENDER) for _ in range(4)] for _ in range(2))
        async with cluster.connect(identity) as stub:
            async with cluster.app(NL).serving() as nl:
                await publish(stub, [each.data for each in early])
                await eventually(lambda: all(held(nl, each) for each in early))
            await publish(stub, [each.data for each in late])
            async with cluster.app(NL).serving() as nl:
                await eventually(lambda: all(held(nl, each) for each in late))
                assert nl.node.store.refusals() == []


async def test_rolled_back_log_is_noticed(cluster: Cluster) -> None:
    trust, log = cluster.trust, cluster.directory(KR) / "log.db"
    sealed = [cluster.seal(trust, SENDER) for _ in range(3)]
    async with cluster.app(KR).serving():
        identity = await cluster.enrol(SENDER)
    before = {path.name: path.read_bytes() for path in log.parent.glob("log.db*")}
    async with cluster.app(KR).serving() as kr, cluster.app(NL).serving() as nl, cluster.connect(identity) as stub:
        await publish(stub, [each.data for each in sealed])
        await eventually(lambda: nl.node.store.cursor(kr.node.origin) == kr.node.store.size())
    for path in log.parent.glob("log.db*"):
        path.unlink()
    for name, data in before.items():
        (log.parent / name).write_bytes(data)
    async with cluster.app(KR).serving() as kr, cluster.app(NL).serving() as nl:
        await eventually(lambda: nl._followers and "LOG_ROLLBACK" in nl._followers[KR][0].state)
        [clash] = nl.node.clashes.held
        assert clash.seen.head.size > clash.shown.head.size
        # It knows too, and appends nothing: its log would have two histories (test_new_log.py has what comes next).
        await eventually(lambda: kr.node.barred is not None)
        assert not any(held(kr, each) for each in sealed)


async def test_a_second_node_on_the_same_port_does_not_start(cluster: Cluster) -> None:
    taken = cluster.app(NL)
    taken.settings = taken.settings.model_copy(update={"endpoint": cluster.entries[KR].endpoint})
    async with cluster.app(KR).serving():
        with pytest.raises(Exception, match=r"listen|bind"):
            async with taken.serving():
                pass


async def test_failing_disk_is_answered_and_nothing_is_believed_kept(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, trust, store = running.cluster, running.cluster.trust, running.kr.node.store
    sealed = [cluster.seal(trust, SENDER) for _ in range(30)]
    append, failing = store.append, True

    def fail(entries: Sequence[NewEntry], **known: Any) -> list[int]:
        if failing:
            raise StoreError("cannot append: the disk is full")
        return append(entries, **known)

    monkeypatch.setattr(store, "append", fail)
    async with cluster.connect(await cluster.enrol(SENDER)) as stub:
        answers = await publish(stub, *([each.data] for each in sealed))
        assert {answer.results[0].rule for answer in answers} <= {"STORE_FAILED", "STREAM_ORDER"}
        assert answers[0].results[0].id == sealed[0].id
        failing = False
        answers = await publish(stub, *([each.data] for each in sealed))
        assert not any(answer.results[0].rule for answer in answers)
        assert [entry.leaf for entry in await read(stub)] == [each.id for each in sealed]


async def test_document_the_disk_did_not_take_is_logged_when_it_comes_again(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, store = running.cluster, running.kr.node.store
    key, lineage = cluster.world.desks[SENDER], cluster.world.lineage
    card = founding.key_card(SENDER, key, suite.CardKey.generate(), lineage=lineage, week=week_of(now_ms()) + 3)

    def fail(*_: Any, **__: Any) -> list[int]:
        raise StoreError("cannot append: the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(store, "append", fail)
        with pytest.raises(StoreError):
            await running.kr.node.take_documents([card.encode()], now_ms=now_ms())
    assert store.position_of(card.digest) is None
    await running.kr.node.take_documents([card.encode()], now_ms=now_ms())
    assert store.position_of(card.digest) is not None


async def test_own_failing_disk_does_not_skip_what_is_followed(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, store = running.cluster, running.nl.node.store
    sealed = cluster.seal(cluster.trust, SENDER)
    append, failures = store.append, 0

    def fail(entries: Sequence[NewEntry], **known: Any) -> list[int]:
        nonlocal failures
        if entries and failures < 2:
            failures += 1
            raise StoreError("cannot append: the disk is full")
        return append(entries, **known)

    monkeypatch.setattr(store, "append", fail)
    async with cluster.connect(await cluster.enrol(SENDER)) as stub:
        await publish(stub, [sealed.data])
    await eventually(lambda: held(running.nl, sealed))
    assert failures == 2
    assert store.refusals() == []


async def test_what_comes_after_an_entry_that_the_disk_lost_does_not_overtake_it(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed = [cluster.seal(cluster.trust, SENDER) for _ in range(2)]
    append, follow, lost = SqliteStore.append, Node.follow, False

    def fail_once(store: SqliteStore, entries: Sequence[NewEntry], **known: Any) -> list[int]:
        nonlocal lost
        if not lost and any(entry.id == sealed[0].id and entry.origin for entry in entries):
            lost = True
            raise StoreError("cannot append: the disk is full")
        return append(store, entries, **known)

    async def follow_slowly(node: Node, *args: Any, **known: Any) -> Waiting | None:
        taken = await follow(node, *args, **known)
        if taken is not None:
            await asyncio.wait({taken.durable})
        return taken

    monkeypatch.setattr(SqliteStore, "append", fail_once)
    monkeypatch.setattr(Node, "follow", follow_slowly)
    async with cluster.app(KR).serving(), cluster.connect(await cluster.enrol(SENDER)) as stub:
        await publish(stub, [each.data for each in sealed])
        async with cluster.app(NL).serving() as nl:
            await eventually(lambda: all(held(nl, each) for each in sealed))
            places = [nl.node.store.position_of(each.id) or 0 for each in sealed]
    assert lost
    assert places == sorted(places), "the second stands before the first"


async def test_desk_removed_from_the_roster_is_cut_off(running: Running) -> None:
    cluster, world = running.cluster, running.cluster.world
    ended, official = await cluster.enrol(COMPANY), await cluster.enrol(READER)
    body = documents.body(world.rosters["nl"], docs.Roster)
    desks = [desk for desk in body.desks if desk.desk != COMPANY]
    del body.desks[:]
    body.desks.extend(desks)
    roster = founding.next_roster(
        world.parties["nl"], body, lineage=world.lineage, previous=world.rosters["nl"], now_ms=now_ms()
    )
    async with cluster.connect(ended) as live, cluster.connect(official) as stub:
        call = live.Subscribe(pb.SubscribeRequest(follow=True))
        await call.read()
        answer = await stub.PutDocuments(pb.PutDocumentsRequest(documents=[roster.encode()]), timeout=10)
        assert not answer.results[0].rule, answer
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _rest(call)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    with pytest.raises(grpc.aio.AioRpcError):
        await cluster.enrol(COMPANY)


async def test_sent_before_the_stop_is_answered(cluster: Cluster) -> None:
    sealed = [cluster.seal(cluster.trust, SENDER) for _ in range(20)]
    async with cluster.app(KR).serving():
        identity = await cluster.enrol(SENDER)
    async with cluster.connect(identity) as stub:
        async with cluster.app(KR).serving():
            call = stub.Publish(wait_for_ready=True)
            for each in sealed:
                await call.write(pb.PublishRequest(envelopes=[each.data]))
            await call.done_writing()
            answers = [await call.read()]
            reading = asyncio.create_task(_rest(call))
        answers += await reading
    assert [answer.results[0].rule for answer in answers] == [""] * len(sealed)


async def _rest(call: Any) -> list[Any]:
    answers = []
    while (answer := await call.read()) is not grpc.aio.EOF:
        answers.append(answer)
    return answers


class Endless(rpc.ExchangeServicer):
    """A peer that always names a later log, and takes its time."""

    async def GetCheckpoint(self, request: pb.GetCheckpointRequest, context: object) -> pb.GetCheckpointResponse:  # noqa: N802
        await asyncio.sleep(0.04)
        return pb.GetCheckpointResponse(later=b"later")


async def test_a_peer_without_end_keeps_no_node_from_starting(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exchange.node.app.ASK_S", 0.2)
    server = grpc.aio.server()
    rpc.add_ExchangeServicer_to_server(Endless(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(running.kr, "connect", lambda peer: grpc.aio.insecure_channel(f"127.0.0.1:{port}"))
            with pytest.raises(UnreachableError):
                await running.kr.shown_by(NODES[1])
    finally:
        await server.stop(0)
