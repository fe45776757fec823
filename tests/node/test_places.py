"""GetPlaces and GetNumbers over two real nodes: delivered is proved by the reader's node, and nobody learns what is not his."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from exchange.merkle import verify_inclusion
from exchange.v1 import exchange_pb2 as pb
from keys.v1 import documents_pb2 as docs
from tests.node.cluster import eventually, found, publish
from tests.node.test_node import COMPANY, KR, NL, READER, SENDER, Running, held


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    cluster = found(tmp_path)
    async with cluster.app(KR).serving() as kr, cluster.app(NL).serving() as nl:
        yield Running(cluster, kr, nl)


async def test_delivered_is_shown_by_the_readers_node_through_ones_own(running: Running) -> None:
    cluster, trust = running.cluster, running.cluster.trust
    sealed = cluster.seal(trust, SENDER)
    async with cluster.connect(await cluster.enrol(SENDER)) as stub:
        await publish(stub, [sealed.data])
        await eventually(lambda: held(running.nl, sealed))
        for node, asked in ((KR, ""), (NL, NL)):
            answer = await stub.GetPlaces(pb.GetPlacesRequest(leaves=[sealed.id, bytes(32)], node=asked), timeout=10)
            head = cluster.verify(node, answer.checkpoint)
            [place] = answer.places
            verify_inclusion(sealed.id, place.position, head.size, list(place.proof), head.root)
            assert head.origin == f"tocsin/{node}/1"
        for leaves, asked in (([sealed.id], "nl.none-1"), ([b"short"], ""), ([bytes(32)] * 257, "")):
            with pytest.raises(grpc.aio.AioRpcError, match=r"roster|at most"):
                await stub.GetPlaces(pb.GetPlacesRequest(leaves=leaves, node=asked), timeout=10)


async def test_numbers_come_to_sender_and_readers_alone(running: Running) -> None:
    cluster, trust = running.cluster, running.cluster.trust
    sealed = [cluster.seal(trust, SENDER, marking=docs.MARKING_AMBER) for _ in range(3)]
    async with cluster.connect(await cluster.enrol(SENDER)) as stub:
        await publish(stub, [one.data for one in sealed])
        answer = await stub.GetNumbers(pb.GetNumbersRequest(sender=SENDER, stream=b"s" * 16), timeout=10)
        assert (answer.last_seq, answer.last_id, len(answer.entries)) == (3, sealed[2].id, 0)
        await eventually(lambda: held(running.nl, sealed[2]))
    wanted = pb.GetNumbersRequest(sender=SENDER, stream=b"s" * 16, first_seq=2, last_seq=2**64 - 1)
    async with cluster.connect(await cluster.enrol(READER)) as stub:
        answer = await stub.GetNumbers(wanted, timeout=10)
        head = cluster.verify(NL, answer.checkpoint)
        assert [entry.leaf for entry in answer.entries] == [sealed[1].id, sealed[2].id]
        for entry in answer.entries:
            verify_inclusion(entry.leaf, entry.position, head.size, list(entry.proof), head.root)
        assert not (await stub.GetNumbers(pb.GetNumbersRequest(sender=READER, stream=b"s" * 16), timeout=10)).last_seq
    async with cluster.connect(await cluster.enrol(COMPANY)) as stub:
        nothing = await stub.GetNumbers(wanted, timeout=10)
        assert (nothing.last_seq, nothing.last_id, list(nothing.entries)) == (0, b"", [])


async def test_a_desk_is_told_of_its_newest_envelope_in_any_stream_and_nobody_else_is(running: Running) -> None:
    cluster, trust = running.cluster, running.cluster.trust
    sealed = [cluster.seal(trust, SENDER, stream=stream * 16) for stream in (b"s", b"s", b"t")]
    newest = pb.GetNumbersRequest(sender=SENDER)
    async with cluster.connect(await cluster.enrol(SENDER)) as stub:
        assert not (await stub.GetNumbers(newest, timeout=10)).last_seq
        await publish(stub, [one.data for one in sealed])
        answer = await stub.GetNumbers(newest, timeout=10)
        assert (answer.last_seq, answer.last_id, len(answer.entries)) == (1, sealed[2].id, 0)
        newest.first_seq = 1
        answer = await stub.GetNumbers(newest, timeout=10)
        head, (entry,) = cluster.verify(KR, answer.checkpoint), answer.entries
        assert (entry.leaf, entry.data) == (sealed[2].id, sealed[2].data)
        verify_inclusion(entry.leaf, entry.position, head.size, list(entry.proof), head.root)
        await eventually(lambda: held(running.nl, sealed[2]))
    async with cluster.connect(await cluster.enrol(READER)) as stub:
        answer = await stub.GetNumbers(newest, timeout=10)
        assert (answer.last_seq, answer.last_id, list(answer.entries)) == (0, b"", [])
