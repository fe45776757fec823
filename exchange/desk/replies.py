"""Replies: what others say of what this desk sent, acknowledgements and refusals, and what it owes for what it read.

Source: docs/PROTOCOL.md sections 8.3, 8.5 and 10.
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from exchange import refusal
from exchange.desk.archive import Received
from exchange.desk.deliveries import CONTROL
from exchange.desk.events import Conflict, Delivery, Refused
from exchange.desk.holdings import Holdings
from exchange.desk.stages import Acknowledged, Denied
from exchange.errors import AudienceError, ExpiredError, PinnedError, ProofError
from exchange.v1 import envelope_pb2 as env
from exchange.v1 import exchange_pb2 as pb
from exchange.v1 import report_pb2 as rep
from keys.encoding import parse_canonical
from keys.trust import MissingDocumentError

TOO_LATE: Final = ExpiredError.reason
"""It is sealed again when it expires here too."""
SEAL_AGAIN: Final = frozenset({AudienceError.reason, PinnedError.reason})
"""It was sealed without documents that are known by now: key cards of the other country, after a long outage."""


class Replies:
    """Takes replies as they are read, each inside a transaction of the archive.

    Args:
        holdings: What the desk holds.
    """

    def __init__(self, holdings: Holdings) -> None:
        self._own = holdings
        self.owing = False
        """Something is owed since this was last set to false."""

    def take_refusal(self, entry: pb.Entry) -> None:
        """A node's refusal of an envelope of ours, from our node's log; told once.

        Raises:
            ProofError: It is none, not for this desk, or not that leaf.
            SignatureError: The node that it names did not sign it.
        """
        own, opened = self._own, refusal.verify(entry.data, self._own.trust)
        said = opened.refusal
        if opened.leaf != entry.leaf:
            raise ProofError("the leaf is not that refusal")
        if said.desk != own.name:
            raise ProofError("the refusal is for another desk")
        # A desk restored from a backup does not know all that it sent: there is nothing to note then.
        if self._sent(said.id) is None:
            return
        # A time to come is none, and one above 2**63 no disk would hold.
        denied = Denied(said.node, min(said.time_ms, own.clock()), entry.data)
        again = said.rule in SEAL_AGAIN and not own.archive.says_again(said.id)
        if again:
            own.archive.expire(said.id)
        if own.archive.keep_refused(said.id, denied, final=not again and said.rule != TOO_LATE):
            own.event(Refused(said.id, said.rule, said.text, said.node))

    def take_acknowledgements(self, received: Received, items: Iterable[rep.Item]) -> None:
        """Acknowledgements in an envelope that was opened; only of those who were sent what they acknowledge."""
        for item in items:
            said = item.acknowledgement
            header = self._sent(said.envelope)
            if header is None:
                continue
            if all(reader.desk != received.sender for reader in header.audience):
                what = "it acknowledges an envelope that it was not sent"
                self._own.event(Conflict(received.sender, received.channel, what))
                continue
            # It was opened before it was acknowledged; a time above 2**63 no disk would hold.
            time_ms = min(said.time_ms, received.create_time_ms)
            self._own.archive.keep_opened(said.envelope, Acknowledged(received.sender, time_ms, received.id))
            if len(self._own.archive.opened(said.envelope)) == len(header.audience):
                self._own.archive.forget_unopened([said.envelope])

    def _sent(self, identity: bytes) -> env.Header | None:
        """The header of an envelope of ours."""
        held = self._own.archive.header_of(identity)
        header = parse_canonical(env.Header, held) if held else None
        return header if header is not None and header.sender == self._own.name else None

    def owe(self, identity: bytes, channel: str, given: Iterable[Delivery]) -> None:
        """The reader was given all of an envelope: where the channel's rule asks, it is acknowledged. An answer never is."""
        if all(delivery.kind in CONTROL for delivery in given):
            return
        now_ms = self._own.clock()
        with suppress(MissingDocumentError):
            rule = self._own.trust.agreement(now_ms).channels.get(channel)
            if rule is not None and rule.acknowledge:
                self._own.archive.owe(identity, now_ms)
                self.owing = True
