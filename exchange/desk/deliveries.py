"""Archived items as deliveries."""

from collections.abc import Iterable
from typing import Final

from google.protobuf.message import DecodeError

from exchange.desk.archive import Received
from exchange.desk.events import Delivery, Origin, Receipt
from exchange.reshare import kind_of, read
from exchange.v1 import envelope_pb2 as env
from exchange.v1 import report_pb2 as rep

CONTROL: Final = frozenset({"acknowledgement", "heartbeat", "closing", "refusal", "reshare"})

STEERING: Final = frozenset({"heartbeat", "closing", "acknowledgement"})
"""Kinds that a desk draws on itself; its reader is told what follows from them."""


NAMED: Final = frozenset({"report", "alert", "consultation"})
"""Kinds that bear an id: of one sender the same id with the same bytes is a repeat."""


def name_of(delivery: Delivery) -> bytes:
    """The id that an item of a kind in NAMED bears."""
    identity: bytes = getattr(delivery.parsed, delivery.kind).id
    return identity


def claimed(data: bytes) -> env.Header:
    """The header that an unverified envelope claims; an empty one where it cannot be read."""
    header, outer = env.Header(), env.Envelope()
    try:
        outer.ParseFromString(data)
        header.ParseFromString(outer.header)
    except DecodeError:
        return env.Header()
    return header


def is_control(raw: bytes) -> bool:
    """Whether an item steers the exchange instead of reporting: what a reader may answer with."""
    return kind_of(raw) in CONTROL


def origin_of(received: Received) -> Origin:
    """What the items of an envelope share."""
    receipt = Receipt(received.id, received.position, received.proof, received.checkpoint)
    return Origin(
        received.sender, received.channel, received.marking, received.seq, received.create_time_ms, receipt
    )  # fmt: skip


def unfolded(every: Iterable[Delivery]) -> list[Delivery]:
    """Deliveries with what a colleague passed on in the place of the items that carry it; those were verified."""
    found: list[Delivery] = []
    for delivery in every:
        if delivery.kind != "reshare":
            found.append(delivery)
            continue
        said, carrier = read(delivery.parsed.reshare), delivery.origin
        first = said.header
        origin = Origin(
            first.sender, first.channel, first.marking, first.seq, first.create_time_ms, carrier.receipt,
            reshared_by=carrier.sender, original=said.id,
        )  # fmt: skip
        warnings = (*delivery.warnings, f"passed on by {carrier.sender}")
        # By the index of the item that carries them: that is what the archive counts as given.
        found += [to_delivery(origin, delivery.index, raw, warnings) for _, raw in said.items]
    return found


def to_delivery(origin: Origin, index: int, raw: bytes, warnings: tuple[str, ...]) -> Delivery:
    """One item as a delivery; unknown fields and kinds are delivered, marked."""
    item = rep.Item()
    try:
        item.ParseFromString(raw)
    except DecodeError:
        item = rep.Item()
        warnings = (*warnings, "this item is not readable: kept as it came")
    if item.WhichOneof("kind") is None:
        warnings = (*warnings, "this item says more than this version reads")
    return Delivery(raw, index, origin, item, warnings)
