"""Opening: an entry of the node's log is verified, opened, archived, and what it says made into deliveries."""

from typing import Final

from exchange import envelope, reshare
from exchange.admission import Admitted
from exchange.desk.archive import Received
from exchange.desk.deliveries import NAMED, STEERING, claimed, is_control, name_of, origin_of, to_delivery, unfolded
from exchange.desk.early import Early
from exchange.desk.events import Conflict, Delivery, Refused
from exchange.desk.gaps import CAME_LATE, Gaps, Unread
from exchange.desk.holdings import Holdings
from exchange.desk.replies import Replies
from exchange.errors import CourierMissingError, PolicyError, ProofError, StoreError
from exchange.standing import Position
from exchange.v1 import envelope_pb2 as env
from exchange.v1 import exchange_pb2 as pb
from keys.encoding import digest, parse_canonical
from keys.errors import PeerError, TocsinError
from keys.keystore import KeystoreError
from keys.trust import week_of

LATE: Final = "opened late: its courier key came after it"


class Opening:
    """Opens entries.

    Args:
        holdings: What the desk holds.
        gaps: Knows the numbers.
        replies: Takes acknowledgements.
    """

    def __init__(self, holdings: Holdings, gaps: Gaps, replies: Replies) -> None:
        self._own, self._gaps, self._replies = holdings, gaps, replies
        # Whether an envelope may wait for its courier key; asked of the archive once, then known.
        self._shelved = True

    def open(self, channel: str, entry: pb.Entry, note: bytes, ahead: Early, place: Position | None) -> Unread | None:
        """Verify and archive what an entry holds; None when it is not for this desk, or was read before. In a transaction.

        Raises:
            PeerError: It is refused; its number counts if it was admitted.
        """
        glimpse = ahead.confirmed(entry.leaf)
        if glimpse is not None and not entry.data:
            # Whoever keeps the entry because it cannot be opened yet must keep what was sent early with it.
            entry.data = glimpse.data
        parsed = envelope.parse(entry.data)
        if parsed.id != entry.leaf:
            raise ProofError("the leaf is not that envelope")
        if self._own.archive.knows(parsed.id):
            self._gaps.known(parsed.id)
            return None
        fresh = glimpse if glimpse and glimpse.version == self._own.trust.version else None
        admitted = fresh.admitted if fresh and fresh.admitted else self.admit(parsed, place)
        if admitted is None:
            return None
        late = self.number(admitted.header, parsed.id)
        try:
            opened = fresh.opened if fresh and fresh.opened else self.unseal(admitted)
        except PeerError:
            self._own.archive.keep_shut(admitted.header.sender, parsed.id, parsed.outer.header)
            raise
        received = _received(admitted, opened, entry, note)
        deliveries = self._kept(admitted, received, (*admitted.warnings, CAME_LATE) if late else admitted.warnings)
        if glimpse is not None and glimpse.shown:
            glimpse.confirm(received)
            self._replies.owe(parsed.id, channel, deliveries)
            deliveries = []
        return Unread(channel, parsed.id, admitted.header, deliveries)

    def shelve(self, channel: str, entry: pb.Entry, note: bytes) -> None:
        """Keep an entry until its courier key comes. In a transaction."""
        self._own.archive.shelve(claimed(entry.data).sender, channel, entry.SerializeToString(), note)
        self._shelved = True

    def number(self, header: env.Header, identity: bytes) -> bool:
        """See `Gaps.number`."""
        return self._gaps.number(header, identity)

    def late(self, channel: str) -> list[Unread]:
        """Open what came before its courier key did; inside a transaction. It was numbered when it came."""
        if not self._shelved:
            return []
        found = []
        shelf = self._own.archive.shelf(channel)
        self._shelved = bool(shelf) or self._own.archive.shelved() > 0
        for number, data, note in shelf:
            entry = pb.Entry.FromString(data)
            try:
                admitted = self.admit(envelope.parse(entry.data))
                if admitted is not None:
                    received = _received(admitted, self.unseal(admitted), entry, note)
                    deliveries = self._kept(admitted, received, (*admitted.warnings, LATE))
                    found.append(Unread(channel, received.id, admitted.header, deliveries))
            except CourierMissingError:
                continue
            except (StoreError, KeystoreError):
                raise
            except TocsinError as error:
                # Its seed is gone, or its sender's key has ended since: nothing opens it any more.
                self._own.event(Refused(entry.leaf, error.reason, error.words()))
            self._own.archive.take_from_shelf(number)
        return found

    def admit(self, parsed: envelope.Parsed, place: Position | None = None) -> Admitted | None:
        """Apply every rule; None for what we sent or have already.

        Args:
            parsed: The envelope.
            place: Where a log of another party holds it, for a key that ended.

        Raises:
            PeerError: It is refused, or is not for this desk; the subclass names the rule.
        """
        if self._own.archive.knows(parsed.id):
            return None
        admitted = self._own.admission.admit(
            parsed, now_ms=self._own.clock(), answered=self._answered, from_log=True, position=place
        )
        if admitted.header.sender == self._own.name:
            return None
        if all(reader.desk != self._own.name for reader in admitted.header.audience):
            raise PolicyError("this desk is not in the audience")
        return admitted

    def unseal(self, admitted: Admitted) -> envelope.Opened:
        """Open what was admitted.

        Raises:
            PeerError: It does not open, or holds what its sender may not say there.
        """
        header = admitted.header
        # Before any secret is touched: no key of another group, and none where the rule allows none.
        courier = self._own.couriers.opening(admitted.rule.courier_group, header.courier)
        card = self._own.cards.of(week_of(header.create_time_ms))
        opened = envelope.open_whole(admitted.checked, desk=self._own.name, card=card, courier=courier)
        if header.answers and not all(is_control(item) for item in opened.items):
            # A node cannot see what is inside: whoever may only answer must not publish this way (PROTOCOL 6.3).
            raise PolicyError(f"{header.sender} answers an envelope with more than control items", desk=header.sender)
        return opened

    def _answered(self, identity: bytes) -> env.Header | None:
        held = self._own.archive.header_of(identity)
        return parse_canonical(env.Header, held) if held else None

    def _kept(self, admitted: Admitted, received: Received, warnings: tuple[str, ...]) -> list[Delivery]:
        """Archive what was opened; what its reader is to be given.

        Raises:
            PeerError: A colleague passes on what was not said so.
        """
        header, origin = admitted.header, origin_of(received)
        every = [to_delivery(origin, index, raw, warnings) for index, raw in enumerate(received.items)]
        for delivery in every:
            if delivery.kind == "reshare":
                # Before it is archived: what stands there is not verified again.
                said, reader = delivery.parsed.reshare, self._own.name
                reshare.verify(said, header, self._own.admission, reader=reader, answered=self._answered)
        self._own.archive.keep_received(received)
        if all(delivery.kind == "heartbeat" for delivery in every):
            self._own.archive.keep_beat(header, received.id)
        return self._deliveries(header, received, every)

    def _deliveries(self, header: env.Header, received: Received, every: list[Delivery]) -> list[Delivery]:
        bearing = [delivery for delivery in every if delivery.kind in NAMED]
        only_closings = all(delivery.kind == "closing" for delivery in every)
        if len(bearing) < len(every):
            every = self._heeded(header, received, every)
        if not only_closings:
            self._gaps.open(header)
        named = [(name_of(delivery), digest(delivery.raw)) for delivery in bearing]
        outcomes = self._own.archive.said(received.sender, named)
        if outcomes is None:
            return every
        repeated = set()
        for delivery, said in zip(bearing, outcomes, strict=True):
            if said == "repeat":
                repeated.add(delivery.index)
            if said == "conflict":
                self._two_texts(delivery, received.sender, received.channel)
        left = [delivery for delivery in every if delivery.index not in repeated]
        if not left:
            # The reader has all of it already.
            self._replies.owe(received.id, received.channel, every)
        return left

    def _heeded(self, header: env.Header, received: Received, every: list[Delivery]) -> list[Delivery]:
        """Heartbeats, closings and acknowledgements are for the desk itself; all else is given."""
        steering = [delivery.parsed for delivery in every if delivery.kind in STEERING]
        self._replies.take_acknowledgements(received, [item for item in steering if item.HasField("acknowledgement")])
        if steering:
            self._gaps.heed(header, received.id, steering)
        given = unfolded(delivery for delivery in every if delivery.kind not in STEERING)
        return [delivery for delivery in given if not delivery.origin.original or self._is_new(delivery)]

    def _is_new(self, delivery: Delivery) -> bool:
        """Whether an item that a colleague passed on was not read here before, in its own envelope or passed on."""
        origin = delivery.origin
        if self._own.archive.knows(origin.original):
            return False
        outcomes = self._own.archive.said(origin.sender, [(name_of(delivery), digest(delivery.raw))])
        if outcomes == ["conflict"]:
            self._two_texts(delivery, origin.sender, origin.channel)
        return outcomes != ["repeat"]

    def _two_texts(self, delivery: Delivery, sender: str, channel: str) -> None:
        what = f"{delivery.kind} {name_of(delivery).hex()} has two texts"
        self._own.event(Conflict(sender, channel, what))


def _received(admitted: Admitted, opened: envelope.Opened, entry: pb.Entry, note: bytes) -> Received:
    header, parsed = admitted.header, admitted.checked.parsed
    return Received(
        parsed.id, entry.position, header.channel, header.sender, header.marking, header.seq,
        header.create_time_ms, parsed.outer.header, opened.items, tuple(entry.proof), note,
        envelope.outside(parsed.outer), opened.salt_seed,
    )  # fmt: skip
