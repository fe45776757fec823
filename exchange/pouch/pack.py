"""Packing: what a peer or a desk lacks from a log position on, or what waits in a desk's outbox (PROTOCOL.md section 14.2)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from exchange import checkpoint
from exchange.errors import PouchError
from exchange.node.core import Node
from exchange.pouch import format as pouch
from exchange.store.contract import Row
from exchange.v1 import evidence_pb2 as ev
from exchange.v1 import exchange_pb2 as api
from exchange.v1 import pouch_pb2 as pb
from keys.documents import Document
from keys.trust import Trust

READ_BYTES: Final = 1_000_000
READ_ROWS: Final = 256
CARRIED: Final = frozenset({api.ENTRY_KIND_ENVELOPE, api.ENTRY_KIND_REFUSAL})
"""Documents are carried as such; heads are told by the checkpoint."""


@dataclass(frozen=True, slots=True)
class Packed:
    """What was packed, by kind of part, and from where the next pouch goes on."""

    counts: dict[str, int]
    next_position: int
    total: int


def packed_up_to(node: Node, receiver: str) -> int:
    """Where the last pouch for a receiver ended; 0 = none was packed here."""
    return int.from_bytes(node.store.meta(_meta(receiver)) or b"", "little")


def pack(node: Node, receiver: str, path: Path, *, position: int, seen: int, now_ms: int) -> Packed:
    """Pack for a node or a desk what it may read of this node's log, with every document held; blocks.

    Nothing is expected back: where the pouch ended is remembered here, and the next one goes on from there.

    Args:
        node: Started; its log does not grow meanwhile.
        receiver: A node or a desk of the exchange.
        path: File to write.
        position: First log position to pack.
        seen: Size of the newest head of this log the receiver has; 0 = none. Lets it see that the log only grew.
        now_ms: Milliseconds UTC.

    Raises:
        PouchError: Nobody of that name, a position beyond the log, or more than a pouch holds: pack in two.
    """
    note = node.checkpoint
    size = checkpoint.parse(note).size
    if not node.readable_by(receiver):
        raise PouchError(f"{receiver} is no node and no desk of this exchange, or hosts nobody")
    if position > size or seen > size:
        raise PouchError(f"the log has {size} entries, not {max(position, seen)}", hint="see `tocsin pouch inspect`")
    manifest = pb.Manifest(
        lineage=node.trust.lineage,
        sender=node.name,
        receiver=receiver,
        create_time_ms=now_ms,
        position=position,
        next_position=size,
        checkpoint=note,
        from_size=seen,
        consistency=node.store.consistency(seen, size) if 0 < seen < size else [],
    )
    whole = pouch.write(path, manifest, _parts(node, receiver, position, size))
    node.store.set_meta(_meta(receiver), size.to_bytes(8, "little"))
    return packed(whole)


def pack_outbox(
    trust: Trust, sender: str, receiver: str, path: Path, *, envelopes: Iterable[bytes], now_ms: int
) -> Packed:
    """Pack what a desk has sealed and no log holds yet, with every document it holds; blocks.

    Args:
        trust: The desk's documents, its own key cards among them.
        sender: The desk.
        receiver: Its node.
        path: File to write.
        envelopes: In the order they were sealed.
        now_ms: Milliseconds UTC.
    """
    manifest = pb.Manifest(lineage=trust.lineage, sender=sender, receiver=receiver, create_time_ms=now_ms)
    parts = [*_documents(trust.documents()), *((pb.PART_KIND_ENVELOPE, data) for data in envelopes)]
    return packed(pouch.write(path, manifest, parts))


def packed(manifest: pb.Manifest) -> Packed:
    """What a manifest says is in its pouch."""
    counts: dict[str, int] = {}
    for part in manifest.parts:
        counts[pouch.name_of(part.kind)] = counts.get(pouch.name_of(part.kind), 0) + 1
    return Packed(counts, manifest.next_position, manifest.total)


def _meta(receiver: str) -> str:
    return f"pouch:{receiver}"


def _documents(held: Iterable[Document]) -> Iterator[tuple[int, bytes]]:
    for document in held:
        yield pb.PART_KIND_DOCUMENT, document.encode()


def _parts(node: Node, receiver: str, position: int, size: int) -> Iterator[tuple[int, bytes]]:
    # All of them: a receiver that missed a pouch, or lost its disk, needs no other way to be put right.
    yield from _documents(node.trust.documents())
    theirs = node.readable_by(receiver)
    while position < size:
        rows, after = node.store.read(
            position, limit_bytes=READ_BYTES, limit_rows=READ_ROWS, desks=theirs, channels=None
        )
        for row in rows:
            if row.kind in CARRIED and row.position < size:
                theirs_too = "/" not in receiver and row.kind == api.ENTRY_KIND_ENVELOPE and row.sender in theirs
                yield _part(node, row, size, receipt=theirs_too)
        if after <= position:
            break
        position = after
    seen = node.store.note(node.followed.of(receiver))
    if seen:
        yield pb.PART_KIND_COSIGNATURE, node.cosign(seen)


def _part(node: Node, row: Row, size: int, *, receipt: bool) -> tuple[int, bytes]:
    proof = node.store.inclusion(row.position, size)
    if receipt:
        place = ev.LogPlace(leaf=row.id, position=row.position, proof=proof)
        return pb.PART_KIND_RECEIPT, place.SerializeToString(deterministic=True)
    entry = api.Entry(
        position=row.position,
        kind=api.EntryKind.Name(row.kind),
        data=row.data,
        leaf=row.id,
        proof=proof,
        pruned=row.pruned,
    )
    return pb.PART_KIND_ENTRY, entry.SerializeToString(deterministic=True)
