"""What a desk's archive holds, item by item, read once for the services and commands of the watch."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from google.protobuf.message import DecodeError

from exchange.desk.archive import Archive
from exchange.report import clean_message
from exchange.v1 import envelope_pb2 as env
from exchange.v1 import report_pb2 as pb
from exchange.watch.alerts_life import Heard, Ledger
from exchange.watch.filing import Report
from keys.encoding import digest, parse_canonical
from keys.v1 import documents_pb2 as docs

WARNINGS: Final = frozenset(["alerts", "consultation"])
LAST: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Letter:
    """An envelope of the archive, opened. `position` is its number in the node's log, LAST while it has none."""

    id: bytes
    header: env.Header = field(repr=False)
    position: int
    items: tuple[bytes, ...] = field(repr=False)


def letter(archive: Archive, identity: bytes) -> Letter:
    """One envelope, sent or received."""
    header = parse_canonical(env.Header, archive.header_of(identity) or b"")
    received = archive.find_received(identity)
    if received is not None:
        return Letter(identity, header, received.position, received.items)
    receipt = archive.receipt(identity)
    return Letter(identity, header, receipt[0] if receipt else LAST, archive.content(identity).items)


def letters(archive: Archive, channels: frozenset[str] | None = None) -> Iterator[Letter]:
    """Every envelope of some channels, sent or received; None = of all."""
    for received in archive.received():
        if channels is None or received.channel in channels:
            header = parse_canonical(env.Header, received.header)
            yield Letter(received.id, header, received.position, received.items)
    for identity, raw in archive.sealed():
        header = parse_canonical(env.Header, raw)
        if channels is None or header.channel in channels:
            yield letter(archive, identity)


def _named(header: env.Header) -> tuple[str, ...]:
    if header.marking != docs.MARKING_RED:
        return ()
    return (header.sender, *(reader.desk for reader in header.audience))


def _parsed(one: Letter) -> Iterator[tuple[int, bytes, pb.Item]]:
    for index, raw in enumerate(one.items):
        try:
            yield index, raw, pb.Item.FromString(raw)
        except DecodeError:
            continue


def reports_in(one: Letter) -> Iterator[Report]:
    """The reports of an envelope."""
    named = _named(one.header)
    for index, raw, item in _parsed(one):
        if item.WhichOneof("kind") == "report":
            yield Report(one.header.sender, digest(raw), one.header.marking, one.id, index, item.report, named)


def heard_in(one: Letter) -> Iterator[Heard]:
    """The alerts and consultation messages of an envelope, made harmless."""
    named = _named(one.header)
    for _, raw, item in _parsed(one):
        if (kind := item.WhichOneof("kind")) in ("alert", "consultation"):
            said = clean_message(item.alert if kind == "alert" else item.consultation)
            yield Heard(one.header.sender, one.header.create_time_ms, said, digest(raw), one.header.marking, named)


def ledger_of(archive: Archive) -> tuple[Ledger, list[str]]:
    """Every alert this desk knows, and what was wrong with messages about them, in words."""
    ledger, problems = Ledger(), []
    # In the order in which it was said: an update of ours must not come after the answers to it, and undo them.
    every = (heard for one in letters(archive, WARNINGS) for heard in heard_in(one))
    for heard in sorted(every, key=lambda one: one.time_ms):
        problems += ledger.take(heard)
    return ledger, problems
