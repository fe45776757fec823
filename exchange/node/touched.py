"""What a key that ended has signed, as this node's log shows it: for `tocsin-keys incident touched`. Blocks."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from exchange import checkpoint, files
from exchange.errors import LimitError
from exchange.node.audit import READ_BYTES, READ_ROWS
from exchange.node.core import Node
from exchange.node.entries import header_of
from exchange.standing import standing
from exchange.store.contract import Row
from exchange.v1 import exchange_pb2 as pb
from keys.errors import UsageError


def write(node: Node, key: bytes, path: Path) -> dict[str, Any]:
    """Write every envelope under a key, one JSON object a line, with its verdict by docs/PROTOCOL.md section 4.7.

    Args:
        node: Started. Of the party whose key it is, its log proves nothing: ask a node of another party.
        key: Identity of a desk's signing key, 32 bytes.
        path: Replaced in one step.

    Raises:
        UsageError: No roster held ever listed the key.
    """
    found = node.trust.desk_key(key)
    if found is None:
        raise UsageError(f"no roster held lists a key {key.hex()}", hint="give its identity, as `tocsin-keys` shows it")
    desk, _ = found
    ended = tuple(ending.document for ending in node.trust.endings(desk, key))
    rows = [_line(node, row, key, ended) for row in _sent(node, desk, key)]
    files.save_private(path, "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows).encode())
    return {"file": str(path), "desk": desk, "envelopes": len(rows), **Counter(row["verdict"] for row in rows)}


def _sent(node: Node, desk: str, key: bytes) -> Iterator[Row]:
    position, size = 0, checkpoint.parse(node.checkpoint).size
    while position < size:
        rows, after = node.store.read(
            position, limit_bytes=READ_BYTES, limit_rows=READ_ROWS, desks=frozenset({desk}), channels=None
        )
        for row in rows:
            ours = row.kind == pb.ENTRY_KIND_ENVELOPE and row.sender == desk and row.position < size
            if ours and header_of(row.data, pruned=row.pruned).key == key:
                yield row
        if after <= position:
            return
        position = after


def _line(node: Node, row: Row, key: bytes, ended: tuple[bytes, ...]) -> dict[str, Any]:
    header = header_of(row.data, pruned=row.pruned)
    try:
        position = node.positions.at_once(row.id, ended) if ended else None
    except LimitError:
        # What ended the key is held, but not in this log yet.
        position = None
    found = standing(header, row.id, position, node.trust)
    return {
        "id": row.id.hex(),
        "key": key.hex(),
        "verdict": found.verdict.value,
        "reason": found.reason,
        "channel": header.channel,
        "create_time_ms": header.create_time_ms,
        "position": row.position,
    }
