"""The frozen files of evidence: each is proved or refused for one reason (docs/PROTOCOL.md section 13)."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from exchange.evidence import verify
from exchange.standing import Position, standing
from exchange.v1 import evidence_pb2 as pb
from keys import documents
from keys.encoding import canonical_bytes, digest
from keys.errors import TocsinError
from keys.trust import Trust
from tests.world import NOON

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "tocsin" / "evidence.json").read_text(encoding="utf-8"))


def file_of(case: dict[str, Any]) -> bytes:
    file = pb.Evidence.FromString(base64.b64decode(case["rest"]))
    file.documents.extend(base64.b64decode(VECTORS["documents"][number]) for number in case["documents"])
    data = bytes.fromhex(case["magic"]) + canonical_bytes(file) + bytes.fromhex(case["tail"])
    assert digest(data).hex() == case["sha256"]
    return data


STANDINGS = [case for case in VECTORS["cases"] if case["expect"] in ("counted", "disputed", "refused")]


@pytest.mark.parametrize("case", STANDINGS, ids=lambda case: case["comment"])
def test_nodes_and_desks_judge_a_position_as_the_program_does(case: dict[str, Any]) -> None:
    """Two codes written from one text (PROTOCOL.md section 4.7): they must agree."""
    lineage, data = bytes.fromhex(VECTORS["lineage"]), file_of(case)
    trust = world_of(data, lineage)
    proof = verify.verify(data, lineage)
    views = pb.Evidence.FromString(data.removeprefix(verify.MAGIC)).logs
    position = Position.from_view(views[0]) if views else None
    assert standing(proof.header, proof.id, position, trust).verdict.value == case["expect"]


def world_of(data: bytes, lineage: bytes) -> Trust:
    trust = Trust(lineage)
    for document in pb.Evidence.FromString(data.removeprefix(verify.MAGIC)).documents:
        trust.take(documents.decode(document), now_ms=NOON + 10_000)
    return trust


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["comment"])
def test_frozen(case: dict[str, Any]) -> None:
    data, lineage = file_of(case), bytes.fromhex(VECTORS["lineage"])
    if case["expect"] not in ("counted", "disputed", "refused"):
        with pytest.raises(TocsinError) as caught:
            verify.verify(data, lineage)
        assert caught.value.reason == case["expect"]
        return
    proof = verify.verify(data, lineage)
    assert proof.standing == case["expect"]
    if "item" in case:
        assert proof.item == base64.b64decode(case["item"])
    if "position" in case:
        [witness] = proof.witnesses
        assert (witness.position, list(witness.cosigners)) == (case["position"], case["cosigners"])
