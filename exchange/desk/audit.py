"""What a desk can show of its node's log: heads seen, receipts kept, contradictions. Blocks."""

from collections.abc import Iterator

from exchange import checkpoint
from exchange.desk.holdings import Holdings
from exchange.desk.reading import Reading
from keys.audit import Finding
from keys.errors import TocsinError


def audit(own: Holdings, reading: Reading) -> Iterator[Finding]:
    """The report: every receipt verified again, under any log key a roster lists for the node."""
    archive, node = own.archive, own.settings.node
    for origin in sorted(archive.origins()):
        note = archive.note(origin) or b""
        try:
            head = own.verify_kept_note(note)
            yield Finding(False, f"log {origin}", f"seen up to {head.size}, time {head.time_ms}")
        except TocsinError as error:
            yield Finding(True, f"log {origin}", f"{error.reason}: {error}")
    for clash in archive.clashes():
        sizes = [checkpoint.parse(each).size for each in (clash.seen, clash.shown)]
        yield Finding(True, "clash", f"{clash.rule}: the log of {node} at {sizes[0]}, then at {sizes[1]}")
    checked: set[bytes] = set()
    for delivery in reading.inbox():
        if delivery.envelope in checked:
            continue
        checked.add(delivery.envelope)
        try:
            reading.check_receipt(delivery)
        except TocsinError as error:
            yield Finding(True, f"receipt {delivery.envelope.hex()}", f"{error.reason}: {error}")
    for identity in sorted(archive.damaged):
        text = "the disk changed it in desk.db: restore the file, or move it away and read again, the node has the log"
        yield Finding(True, f"envelope {identity.hex()}", text)
    yield Finding(False, "receipts", f"{len(checked)} envelopes checked against the log of {node}")
    if stuck := archive.stuck():
        yield Finding(True, "outbox", f"{stuck} envelopes were refused and wait for somebody to look")
    if waiting := archive.waiting():
        yield Finding(False, "outbox", f"{waiting} envelopes wait for the node")
