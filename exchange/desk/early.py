"""Envelopes shown before the node has them durable: opened at once, archived only when confirmed (PROTOCOL 9.5)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from exchange import envelope
from exchange.admission import Admitted
from exchange.desk.archive import Received
from exchange.desk.deliveries import STEERING, origin_of, to_delivery
from exchange.desk.events import Delivery, Origin
from exchange.errors import LimitError
from exchange.reshare import kind_of
from exchange.v1 import envelope_pb2 as env

# Twice what an honest node sends ahead.
MAX_BYTES: Final = 8_000_000
MAX_ENVELOPES: Final = 512


@dataclass(slots=True)
class Glimpse:
    """An envelope that came early. It holds while no document came since `version`."""

    data: bytes = field(repr=False)
    version: int
    admitted: Admitted | None = None
    opened: envelope.Opened | None = field(default=None, repr=False)
    origin: Origin | None = None
    deliveries: list[Delivery] = field(default_factory=list)
    received: Received | None = None

    @property
    def shown(self) -> bool:
        """Whether its reader was given it."""
        return bool(self.deliveries)

    def confirm(self, received: Received) -> None:
        """It is archived in the transaction that runs; see `Early.settle`."""
        self.received = received

    def settle(self) -> None:
        """Give what was shown its receipt."""
        if self.origin is not None and self.received is not None:
            object.__setattr__(self.origin, "receipt", origin_of(self.received).receipt)


class Early:
    """What came early on one call and is not confirmed.

    Args:
        admit: Every rule; None for an envelope that is not to be read (our own, or known already).
        unseal: Opens what was admitted.
        last_read: The newest number of a sender's stream that was read.
    """

    def __init__(
        self,
        admit: Callable[[envelope.Parsed], Admitted | None],
        unseal: Callable[[Admitted], envelope.Opened],
        last_read: Callable[[str, bytes], tuple[int, bytes] | None],
    ) -> None:
        self._admit, self._unseal, self._last_read = admit, unseal, last_read
        self._held: dict[bytes, Glimpse] = {}
        self._confirmed: list[Glimpse] = []
        self._bytes = 0
        self._last: dict[tuple[str, bytes], int] = {}

    def take(self, data: bytes, version: int) -> tuple[env.Header | None, bytes, list[Delivery]]:
        """Check and open an envelope; its header and id, and what can be shown of it in order; no header if nothing is.

        Raises:
            LimitError: The node sends more than it confirms.
            PeerError: The envelope is refused; it is kept for its confirmation, where that is judged again.
        """
        parsed = envelope.parse(data)
        self._bytes += len(data)
        if self._bytes > MAX_BYTES or len(self._held) >= MAX_ENVELOPES:
            raise LimitError("the node sends more early than it confirms")
        glimpse = self._held[parsed.id] = Glimpse(data, version)
        glimpse.admitted = self._admit(parsed)
        if glimpse.admitted is None:
            return None, parsed.id, []
        header = glimpse.admitted.header
        last = self._last.get((header.sender, header.stream))
        if last is None:
            read = self._last_read(header.sender, header.stream)
            last = read[0] if read else 0
        glimpse.opened = self._unseal(glimpse.admitted)
        # Shown out of order it would hide that something before it is missing. What a colleague passed on can wait.
        if (
            header.prev_seq == last
            and header.seq > last
            and not any(kind_of(item) == "reshare" for item in glimpse.opened.items)
        ):
            self._last[header.sender, header.stream] = header.seq
            glimpse.origin = origin_of(_unconfirmed(parsed, glimpse.admitted, glimpse.opened))
            glimpse.deliveries = [
                to_delivery(glimpse.origin, index, raw, glimpse.admitted.warnings)
                for index, raw in enumerate(glimpse.opened.items)
            ]
            glimpse.deliveries = [delivery for delivery in glimpse.deliveries if delivery.kind not in STEERING]
        return header, parsed.id, glimpse.deliveries

    def confirmed(self, identity: bytes) -> Glimpse | None:
        """What came early under this id; it is forgotten here once the transaction that runs is durable."""
        glimpse = self._held.pop(identity, None)
        if glimpse is not None:
            self._bytes -= len(glimpse.data)
            self._confirmed.append(glimpse)
        return glimpse

    def settle(self) -> None:
        """What was confirmed is durable: whoever was shown it has its receipt from now on."""
        for glimpse in self._confirmed:
            glimpse.settle()
        self._confirmed.clear()

    def data_of(self, identity: bytes) -> bytes:
        """The bytes that came early under an id; empty when none did."""
        glimpse = self._held.get(identity)
        return glimpse.data if glimpse is not None else b""

    def shown(self) -> list[Glimpse]:
        """What was shown and is not confirmed."""
        return [glimpse for glimpse in (*self._confirmed, *self._held.values()) if glimpse.shown]


def _unconfirmed(parsed: envelope.Parsed, admitted: Admitted, opened: envelope.Opened) -> Received:
    header = admitted.header
    return Received(
        parsed.id, 0, header.channel, header.sender, header.marking, header.seq, header.create_time_ms,
        parsed.outer.header, opened.items, (), b"", b"", opened.salt_seed,
    )  # fmt: skip
