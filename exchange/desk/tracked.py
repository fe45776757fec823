"""What stage an envelope has for each reader, and every kept proof of it verified again, without network and node.

Source: docs/PROTOCOL.md section 8.3.
"""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Final

from exchange import checkpoint, merkle, refusal, tls
from exchange.desk.holdings import Holdings
from exchange.desk.proving import Proving
from exchange.desk.queue import URGENT
from exchange.desk.stages import (
    ALERT_OPENED_WITHIN_MS,
    DELIVERED_WITHIN_MS,
    OPENED_WITHIN_MS,
    Acknowledged,
    Denied,
    Place,
)
from exchange.errors import ProofError
from exchange.v1 import envelope_pb2 as env
from exchange.v1 import exchange_pb2 as pb
from exchange.v1 import report_pb2 as rep
from keys.audit import Finding
from keys.encoding import parse_canonical
from keys.errors import TocsinError, UsageError
from keys.trust import MissingDocumentError

EXPLAINED: Final = {
    "taken": "the sender's node signed a log that holds the envelope: what was said, and in which order, is fixed",
    "delivered": "the reader's node had signed its own log with the envelope by then: it cannot say that it never came",
    "opened": "the reader signed that the envelope was opened and given to it; not that it was understood",
    "refused": "the reader's node signed that it does not take the envelope, and by which rule",
}
"""What each stage proves."""


@dataclass(frozen=True, slots=True)
class Step:
    """A log holds the envelope at `position`; its node signed that by `time_ms`."""

    node: str
    position: int
    time_ms: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """A node refused the envelope."""

    node: str
    rule: str
    text: str
    time_ms: int


@dataclass(frozen=True, slots=True)
class ReaderStages:
    """The stages for one reader; `node` hosts it now, empty when no roster lists it. `overdue` names the stage that is."""

    desk: str
    node: str
    delivered: Step | None
    opened: Acknowledged | None
    refused: Refusal | None
    overdue: str


@dataclass(frozen=True, slots=True)
class Tracked:
    """One envelope that this desk sent. `acknowledge`: its channel's rule asks readers to; `again` says the same since."""

    id: bytes
    channel: str
    marking: int
    create_time_ms: int
    expire_time_ms: int
    acknowledge: bool
    taken: Step | None
    readers: tuple[ReaderStages, ...]
    again: bytes | None

    @property
    def pending(self) -> bool:
        """Whether a node that hosts a reader may not have it."""
        return any(reader.delivered is None and reader.refused is None for reader in self.readers)


def tracked(own: Holdings, identity: bytes) -> Tracked:
    """The stages of an envelope that this desk sent.

    Raises:
        UsageError: It sent none of that id.
    """
    header = sent_header(own, identity)
    receipt = own.archive.receipt(identity)
    taken = _step(own.settings.node, receipt[0], receipt[2]) if receipt else None
    acknowledge = acknowledged_by_rule(own, header)
    places = {place.node: place for place in own.archive.delivered(identity)}
    opened = {one.desk: one for one in own.archive.opened(identity)}
    denied = {one.node: one for one in own.archive.refused(identity)}
    readers = []
    for reader in header.audience:
        node = tls.hosting_node(own.trust, reader.desk) or ""
        place = places.get(node)
        delivered = taken if node == own.settings.node else _step_of(place) if place else None
        refused = _refusal(denied[node]) if node in denied and delivered is None else None
        said = opened.get(reader.desk)
        overdue = "" if refused or not node else _overdue(own, header, taken, delivered, said, acknowledge=acknowledge)
        readers.append(ReaderStages(reader.desk, node, delivered, said, refused, overdue))
    return Tracked(
        identity, header.channel, header.marking, header.create_time_ms, header.expire_time_ms, acknowledge, taken,
        tuple(readers), own.archive.sealed_again_as(identity),
    )  # fmt: skip


def sent_header(own: Holdings, identity: bytes) -> env.Header:
    """The header of an envelope that this desk sent.

    Raises:
        UsageError: It sent none of that id.
    """
    held = own.archive.header_of(identity)
    header = parse_canonical(env.Header, held) if held else None
    if header is None or header.sender != own.name:
        raise UsageError(f"this desk sent no envelope {identity.hex()}", hint="whoever sent it can track it")
    return header


def acknowledged_by_rule(own: Holdings, header: env.Header) -> bool:
    """Whether readers acknowledge an envelope with that header: the rule of its channel asks, and it is no answer."""
    try:
        rule = own.trust.agreement(own.clock()).channels.get(header.channel)
    except MissingDocumentError:
        return False
    return rule is not None and rule.acknowledge and not header.answers


def opened_within_ms(channel: str) -> int:
    """How long after it was sealed an envelope should be acknowledged."""
    return ALERT_OPENED_WITHIN_MS if channel == URGENT else OPENED_WITHIN_MS


def _overdue(
    own: Holdings,
    header: env.Header,
    taken: Step | None,
    delivered: Step | None,
    opened: Acknowledged | None,
    *,
    acknowledge: bool,
) -> str:
    since_ms = own.clock() - header.create_time_ms
    if opened is not None:
        return ""
    if delivered is None:
        late = since_ms >= DELIVERED_WITHIN_MS
        return ("taken" if taken is None else "delivered") if late else ""
    return "opened" if acknowledge and since_ms >= opened_within_ms(header.channel) else ""


def _step(node: str, position: int, note: bytes) -> Step:
    return Step(node, position, checkpoint.parse(note).time_ms)


def _step_of(place: Place) -> Step:
    return _step(place.node, place.position, place.note)


def _refusal(denied: Denied) -> Refusal:
    said = pb.NodeRefusal.FromString(refusal.body_of(denied.data))
    return Refusal(denied.node, said.rule, said.text, denied.time_ms)


# ---- verified again


async def verify(own: Holdings, proving: Proving, identity: bytes) -> AsyncIterator[Finding]:
    """Every proof that is kept of the stages of an envelope, verified again: by the documents held, by nobody's word."""
    for finding in _verify_logs(own, identity):
        yield finding
    for one in own.archive.opened(identity):
        subject = f"opened by {one.desk}"
        try:
            await _verify_opened(own, proving, identity, one)
            yield Finding(False, subject, "signed by that desk, in our node's log")
        except TocsinError as error:
            yield Finding(True, subject, f"{error.reason}: {error}")


def _verify_logs(own: Holdings, identity: bytes) -> Iterator[Finding]:
    header, receipt = sent_header(own, identity), own.archive.receipt(identity)
    places = own.archive.delivered(identity)
    if receipt:
        places.insert(0, Place(own.settings.node, *receipt))
    for index, place in enumerate(places):
        subject = f"delivered at {place.node}" if index or not receipt else f"taken by {place.node}"
        try:
            _verify_place(own, identity, place)
            yield Finding(False, subject, f"position {place.position} under a head that the node signed")
        except TocsinError as error:
            yield Finding(True, subject, f"{error.reason}: {error}")
    for denied in own.archive.refused(identity):
        subject = f"refused by {denied.node}"
        try:
            said = refusal.verify(denied.data, own.trust).refusal
            if (said.id, said.desk, said.node) != (identity, header.sender, denied.node):
                raise ProofError("the refusal is of another envelope")
            yield Finding(False, subject, f"{said.rule}, signed by the node")
        except TocsinError as error:
            yield Finding(True, subject, f"{error.reason}: {error}")


def _verify_place(own: Holdings, identity: bytes, place: Place) -> None:
    # What was signed before a key was replaced stays proved.
    keys = [(key.suite, key.key) for key in own.trust.log_keys(place.node)]
    head = checkpoint.verify_any(place.note, keys, name=place.node)
    merkle.verify_inclusion(identity, place.position, head.size, list(place.proof), head.root)


async def _verify_opened(own: Holdings, proving: Proving, identity: bytes, said: Acknowledged) -> None:
    for index, raw in enumerate(own.archive.content(said.by).items):
        item = rep.Item()
        item.ParseFromString(raw)
        if item.acknowledgement.envelope == identity:
            # Made and read as a stranger would: signature, rights, its place among the items, the log.
            await proving.evidence(said.by, index, ask=False)
            received = own.archive.find_received(said.by)
            if received is None or received.sender != said.desk:
                raise ProofError("the acknowledgement is of another desk")
            return
    raise ProofError("no such acknowledgement is kept")
