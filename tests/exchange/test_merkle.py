"""RFC 6962 trees, held against the transparency-dev vectors and against roots computed the plain way."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange import merkle
from exchange.errors import ProofError

FILE = Path(__file__).parents[1] / "vectors" / "merkle" / "transparency-dev-merkle-testdata.json"
# Subtree consistency is a later draft: nothing here uses it.
CASES = {name: case for name, case in json.loads(FILE.read_text()).items() if "subtree" not in name}


def raw(text: str | None) -> bytes:
    return base64.b64decode(text) if text else b""


@pytest.mark.parametrize("name", sorted(CASES))
def test_the_vectors_hold(name: str) -> None:
    case: dict[str, Any] = CASES[name]
    proof = [raw(part) for part in case["proof"] or []]
    try:
        if "leafHash" in case:
            merkle.verify_inclusion(raw(case["leafHash"]), case["leafIdx"], case["treeSize"], proof, raw(case["root"]))
        else:
            merkle.verify_consistency(case["size1"], case["size2"], raw(case["root1"]), raw(case["root2"]), proof)
    except ProofError:
        assert case["wantErr"]
    else:
        assert not case["wantErr"]


def leaves_of(count: int) -> list[bytes]:
    return [hashlib.sha256(str(index).encode()).digest() for index in range(count)]


def recursive_root(leaves: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, word for word."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return merkle.parent(recursive_root(leaves[:split]), recursive_root(leaves[split:]))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12))
def test_a_tree_grown_in_parts_proves_every_leaf_and_every_prefix(parts: list[int]) -> None:
    size = sum(parts)
    leaves = leaves_of(size)
    nodes: dict[tuple[int, int], bytes] = {}

    def node_at(level: int, index: int) -> bytes:
        return nodes[(level, index)]

    done = 0
    for part in parts:
        for level, index, value in merkle.new_nodes(done, leaves[done : done + part], node_at):
            nodes[(level, index)] = value
        done += part
    root = recursive_root(leaves)
    assert merkle.root_of(leaves) == root == merkle.subtree(0, size, node_at)
    for index in range(size):
        merkle.verify_inclusion(leaves[index], index, size, merkle.inclusion(index, size, node_at), root)
    for old in range(1, size + 1):
        proof = merkle.consistency(old, size, node_at)
        merkle.verify_consistency(old, size, recursive_root(leaves[:old]), root, proof)


def test_a_forked_log_has_no_consistency_proof() -> None:
    leaves, other = leaves_of(8), leaves_of(8)
    other[2] = b"\x00" * 32
    nodes = {(level, index): value for level, index, value in merkle.new_nodes(0, leaves, lambda *_: b"")}
    proof = merkle.consistency(5, 8, lambda level, index: nodes[(level, index)])
    with pytest.raises(ProofError):
        merkle.verify_consistency(5, 8, recursive_root(other[:5]), recursive_root(leaves), proof)


@pytest.mark.parametrize(("index", "size"), [(3, 3), (-1, 3), (0, 0)])
def test_a_leaf_outside_the_tree_has_no_proof(index: int, size: int) -> None:
    with pytest.raises(ProofError):
        merkle.inclusion(index, size, lambda *_: b"\x00" * 32)


def test_an_empty_tree_has_the_root_of_the_empty_string() -> None:
    assert merkle.root_of([]) == hashlib.sha256(b"").digest()
