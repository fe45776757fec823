"""RFC 6962 Merkle trees: roots, inclusion and consistency proofs, over hashes kept elsewhere. No I/O of its own.

Source: RFC 6962 section 2.1, RFC 9162 section 2.1.3-2.1.4; docs/PROTOCOL.md section 8.1.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Final

from exchange.errors import ProofError

EMPTY_ROOT: Final = sha256(b"").digest()
MAX_PROOF: Final = 64
NodeAt = Callable[[int, int], bytes]
"""(level, index) -> hash of the complete subtree over leaves [index * 2**level, (index + 1) * 2**level)."""


def parent(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node."""
    return sha256(b"\x01" + left + right).digest()


def root_of(leaves: Sequence[bytes]) -> bytes:
    """Root over leaf hashes that are all at hand."""
    row = list(leaves)
    if not row:
        return EMPTY_ROOT
    while len(row) > 1:
        odd = [row[-1]] if len(row) % 2 else []
        # Pairing row by row and carrying an odd last node up gives the same tree as RFC 6962's split at a power of two.
        pairs = zip(row[::2], row[1::2], strict=False)
        row = [sha256(b"\x01" + left + right).digest() for left, right in pairs] + odd
    return row[0]


def new_nodes(size: int, leaves: Sequence[bytes], node_at: NodeAt) -> list[tuple[int, int, bytes]]:
    """The complete subtrees that appear when leaves are appended to a tree of `size`: (level, index, hash), leaves first."""
    made: dict[tuple[int, int], bytes] = {}
    for offset, leaf in enumerate(leaves):
        level, index, value = 0, size + offset, leaf
        made[(0, index)] = leaf
        while index % 2:
            left = made.get((level, index - 1)) or node_at(level, index - 1)
            value = parent(left, value)
            level, index = level + 1, index // 2
            made[(level, index)] = value
    return [(level, index, value) for (level, index), value in made.items()]


def subtree(first: int, end: int, node_at: NodeAt) -> bytes:
    """Hash over leaves [first, end), where first is a multiple of the largest power of two below the length."""
    size = end - first
    if size == 0:
        return EMPTY_ROOT
    level = (size - 1).bit_length() if size & (size - 1) else size.bit_length() - 1
    if size == 1 << level:
        return node_at(level, first >> level)
    split = 1 << (size - 1).bit_length() - 1
    return parent(subtree(first, first + split, node_at), subtree(first + split, end, node_at))


def right_edge(size: int, node_at: NodeAt) -> list[bytes]:
    """The last node of each level of a tree of `size`, complete or not, from the leaf up to the root.

    An empty tree has none.
    """
    if size < 1:
        return []
    edge = [node_at(0, size - 1)]
    for level in range(1, (size - 1).bit_length() + 1):
        last = (size - 1) >> level
        if size == (last + 1) << level:
            edge.append(node_at(level, last))
        elif ((size - 1) >> (level - 1)) % 2:
            edge.append(parent(node_at(level - 1, 2 * last), edge[-1]))
        else:
            # A last node without a brother is carried up as it is.
            edge.append(edge[-1])
    return edge


def inclusion(index: int, size: int, node_at: NodeAt, *, edge: Sequence[bytes] | None = None) -> list[bytes]:
    """Inclusion proof of a leaf in the tree of `size`, from the leaf up.

    Args:
        index: Position of the leaf.
        size: Leaves in the tree.
        node_at: Hashes of complete subtrees.
        edge: `right_edge(size, node_at)`, to make it once for many proofs.

    Raises:
        ProofError: The index is not in the tree.
    """
    if not 0 <= index < size:
        raise ProofError(f"leaf {index} is not in a tree of {size}")
    if edge is None:
        edge = right_edge(size, node_at)
    path: list[bytes] = []
    for level in range((size - 1).bit_length()):
        brother, last = (index >> level) ^ 1, (size - 1) >> level
        if brother < last:
            path.append(node_at(level, brother))
        elif brother == last:
            path.append(edge[level])
    return path


def consistency(old: int, new: int, node_at: NodeAt) -> list[bytes]:
    """Proof that the tree of `new` extends the tree of `old`.

    Raises:
        ProofError: Not 0 < old <= new.
    """
    if not 0 < old <= new:
        raise ProofError(f"no consistency proof from {old} to {new}")
    path: list[bytes] = []
    first, end, whole = 0, new, True
    while old != end:
        middle = first + (1 << (end - first - 1).bit_length() - 1)
        if old <= middle:
            path.append(subtree(middle, end, node_at))
            end = middle
        else:
            path.append(subtree(first, middle, node_at))
            first, whole = middle, False
    if not whole:
        path.append(subtree(first, end, node_at))
    return path[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check that a leaf is at `index` of the tree of `size` with that root.

    Raises:
        ProofError: It is not, or the proof has another length than the tree asks for.
    """
    if not 0 <= index < size or len(proof) > MAX_PROOF:
        raise ProofError(f"leaf {index} cannot be in a tree of {size}")
    _check_hashes((leaf, root, *proof))
    at, last, value = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise ProofError("the inclusion proof is too long")
        if at % 2 or at == last:
            value = parent(sibling, value)
            while not at % 2 and at:
                at, last = at // 2, last // 2
        else:
            value = parent(value, sibling)
        at, last = at // 2, last // 2
    if last or value != root:
        raise ProofError("the inclusion proof does not lead to the root")


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Check that the tree of `new` extends the tree of `old`.

    Raises:
        ProofError: It does not: a fork, a rollback, or a false proof.
    """
    if not 0 < old <= new or len(proof) > 2 * MAX_PROOF:
        raise ProofError(f"a log never shrinks, and nothing is proved from an empty one: {old} to {new}")
    _check_hashes(proof)
    if old == new:
        if proof or old_root != new_root:
            raise ProofError("two roots for one size")
        return
    rest = [old_root, *proof] if not old & (old - 1) else list(proof)
    if not rest:
        raise ProofError("the consistency proof is too short")
    at, last = old - 1, new - 1
    while at % 2:
        at, last = at // 2, last // 2
    before = after = rest[0]
    for sibling in rest[1:]:
        if last == 0:
            raise ProofError("the consistency proof is too long")
        if at % 2 or at == last:
            before, after = parent(sibling, before), parent(sibling, after)
            while not at % 2 and at:
                at, last = at // 2, last // 2
        else:
            after = parent(after, sibling)
        at, last = at // 2, last // 2
    if last or before != old_root or after != new_root:
        raise ProofError("the consistency proof does not lead to both roots")


def _check_hashes(hashes: Sequence[bytes]) -> None:
    if any(len(value) != sha256().digest_size for value in hashes):
        raise ProofError("a hash of a proof is not 32 bytes")
