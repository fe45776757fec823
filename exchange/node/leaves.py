"""The leaf of an entry, worked out again from its bytes. Source: docs/PROTOCOL.md section 8."""

from exchange import envelope, refusal
from exchange.history import head_leaf
from exchange.store.contract import Row
from exchange.v1 import envelope_pb2 as env
from exchange.v1 import exchange_pb2 as pb
from keys import documents
from keys.errors import TocsinError


def leaf_of(row: Row) -> bytes:
    """The leaf that the bytes of an entry have; empty when they are none of a kind known here."""
    try:
        if row.kind == pb.ENTRY_KIND_DOCUMENT:
            return documents.decode(row.data).digest
        if row.kind == pb.ENTRY_KIND_HEAD:
            return head_leaf(row.data)
        if row.kind == pb.ENTRY_KIND_REFUSAL:
            return refusal.leaf_of(refusal.body_of(row.data))
        if row.kind == pb.ENTRY_KIND_ENVELOPE and row.pruned:
            return envelope.pruned_id(env.Pruned.FromString(row.data))
        if row.kind == pb.ENTRY_KIND_ENVELOPE:
            return envelope.envelope_id(env.Envelope.FromString(row.data))
    except (TocsinError, ValueError):
        return b""
    # A later version's kind: its leaf is taken as it is.
    return row.id
