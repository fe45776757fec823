"""A node without documents starts and waits for them; they come with the bundle or are put by its people."""

import json
from pathlib import Path

from exchange import files
from exchange.node import directory as nodes
from exchange.v1 import exchange_pb2 as pb
from tests.node.cluster import NODES, eventually, found

KR, NL = NODES


async def test_it_waits_for_documents_and_says_so(tmp_path: Path) -> None:
    cluster = found(tmp_path)
    bundle = cluster.directory(KR) / files.BUNDLE
    later = bundle.read_bytes()
    bundle.unlink()
    async with cluster.app(KR).serving() as kr:
        status = cluster.directory(KR) / nodes.STATUS
        await eventually(lambda: status.exists() and json.loads(status.read_text())["waiting_for"])
        assert "first agreement" in nodes.status(cluster.directory(KR))["waiting_for"]
        # A party document alone founds nothing.
        [(_, error)] = await kr.node.take_documents([cluster.world.documents[0].encode()], now_ms=cluster.world.now_ms)
        assert error is None
        assert not kr.trust.founded
        await kr.node.take_documents([d.encode() for d in cluster.world.documents[:3]], now_ms=cluster.world.now_ms)
        assert kr.trust.founded
        await eventually(lambda: "roster" in json.loads(status.read_text())["waiting_for"])
        bundle.write_bytes(later)
        await eventually(lambda: not json.loads(status.read_text())["waiting_for"])
        async with cluster.app(NL).serving() as nl:
            await eventually(lambda: nl._followers and nl._followers[KR][0].state == "following")
            identity = await cluster.enrol("kr.the-hague/economic")
            async with cluster.connect(identity) as stub:
                answer = await stub.GetDocuments(pb.GetDocumentsRequest(), timeout=5)
                assert len(answer.documents) >= len(cluster.world.documents)
    async with cluster.app(KR).serving() as kr:
        assert kr.trust.founded, "kept"
