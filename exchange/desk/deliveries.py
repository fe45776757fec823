"""Archived items as deliveries."""

from typing import Final

from google.protobuf.message import DecodeError

from exchange.desk.archive import Received
from exchange.desk.events import Delivery, Receipt
from exchange.v1 import report_pb2 as rep

CONTROL: Final = frozenset({"acknowledgement", "heartbeat", "closing", "refusal"})


def is_control(raw: bytes) -> bool:
    """Whether an item steers the exchange instead of reporting: what a reader may answer with."""
    item = rep.Item()
    try:
        item.ParseFromString(raw)
    except DecodeError:
        return False
    return item.WhichOneof("kind") in CONTROL


def to_delivery(received: Received, index: int, raw: bytes, warnings: tuple[str, ...]) -> Delivery:
    """One archived item as a delivery, its text made inert; unknown fields and kinds are delivered, marked."""
    item = rep.Item()
    try:
        item.ParseFromString(raw)
    except DecodeError:
        item = rep.Item()
        warnings = (*warnings, "this item is not readable: kept as it came")
    if item.WhichOneof("kind") is None:
        warnings = (*warnings, "this item says more than this version reads")
    return Delivery(
        raw=raw,
        sender=received.sender,
        channel=received.channel,
        marking=received.marking,
        envelope=received.id,
        index=index,
        seq=received.seq,
        create_time_ms=received.create_time_ms,
        receipt=Receipt(received.id, received.position, received.proof, received.checkpoint),
        parsed=item,
        warnings=warnings,
    )
