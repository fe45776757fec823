"""The frozen files of evidence: each is proved or refused for one reason (docs/PROTOCOL.md section 13)."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from exchange.evidence import verify
from exchange.v1 import evidence_pb2 as pb
from keys.encoding import canonical_bytes, digest
from keys.errors import TocsinError

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "tocsin" / "evidence.json").read_text(encoding="utf-8"))


def file_of(case: dict[str, Any]) -> bytes:
    file = pb.Evidence.FromString(base64.b64decode(case["rest"]))
    file.documents.extend(base64.b64decode(VECTORS["documents"][number]) for number in case["documents"])
    data = bytes.fromhex(case["magic"]) + canonical_bytes(file) + bytes.fromhex(case["tail"])
    assert digest(data).hex() == case["sha256"]
    return data


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
