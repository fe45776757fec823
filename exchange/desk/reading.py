"""Reading: what the node gives is verified, opened, archived, and given to the reader in order, each item once."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Final

import grpc

from exchange import envelope, merkle, wire
from exchange.admission import Admitted
from exchange.desk.archive import Received
from exchange.desk.deliveries import is_control, origin_of, to_delivery
from exchange.desk.early import Early
from exchange.desk.events import Conflict, Delivery, Gap, Refused, Stale, Unconfirmed
from exchange.desk.holdings import Holdings
from exchange.desk.link import ANSWER_S, CHANNEL_CLOSED, Backoff, Link, raise_if_ours
from exchange.desk.witness import Witness
from exchange.errors import CourierMissingError, LimitError, PolicyError, ProofError, StoreError
from exchange.history import Seen
from exchange.standing import Position
from exchange.v1 import envelope_pb2 as env
from exchange.v1 import exchange_pb2 as pb
from exchange.v1 import exchange_pb2_grpc as rpc
from keys.encoding import digest, parse_canonical
from keys.errors import PeerError, TocsinError
from keys.keystore import KeystoreError
from keys.trust import week_of

HEARTBEAT_DEADLINE_S: Final = 30.0
# How long a node could show two channels of one desk two logs.
COMPARE_S: Final = 10.0
LATE: Final = "opened late: its courier key came after it"


class _Unread:
    """The items of one envelope that its reader is to be given; those from `given` on it was not given yet."""

    __slots__ = ("channel", "deliveries", "given", "id")

    def __init__(self, channel: str, identity: bytes, deliveries: list[Delivery]) -> None:
        self.channel, self.id, self.deliveries, self.given = channel, identity, deliveries, 0

    def left(self) -> list[int]:
        """Indexes of what was not given. Called from another thread: `given` is read once."""
        return [delivery.index for delivery in self.deliveries[self.given :]]


class Reading:
    """Follows channels of the node's log."""

    def __init__(self, holdings: Holdings, link: Link, witness: Witness) -> None:
        self._own, self._link, self._witness = holdings, link, witness
        # Opened envelopes whose reader may have been given items since the archive last noted it.
        self._unread: dict[bytes, _Unread] = {}
        # Whether an envelope may wait for its courier key; asked of the archive once, then known.
        self._shelved = True

    async def subscribe(self, channel: str, *, follow: bool = True, early: bool = False) -> AsyncIterator[Delivery]:
        """See Desk.subscribe."""
        backoff = Backoff()
        while True:
            try:
                await self._own.workers.run(self.note_given)
                for unread in await self._own.workers.run(self._not_given, channel):
                    for delivery in unread.deliveries:
                        unread.given += 1
                        yield delivery
                async for taken in self._subscribe(channel, follow=follow, early=early and follow):
                    backoff.reset()
                    for unread in taken:
                        for delivery in unread.deliveries:
                            unread.given += 1
                            yield delivery
                if not follow:
                    return
            except (grpc.aio.AioRpcError, TimeoutError, PeerError, wire.UnreachableError) as failure:
                # A node that lies is told as an event, and asked again later: it may be repaired.
                error = wire.error_from(failure) if isinstance(failure, grpc.aio.AioRpcError) else failure
                self._own.state = str(error) or "the node fell silent"
                if not follow and isinstance(error, TocsinError):
                    raise error from None
            except grpc.aio.UsageError:
                self._own.state = CHANNEL_CLOSED
            except asyncio.CancelledError:
                raise_if_ours()
            await backoff.wait()

    def note_given(self) -> None:
        """Write down what the reader was given since the archive last noted it."""
        if self._unread:
            with self._own.archive.transaction():
                given = self._write_given()
            self._forget_given(given)

    def _write_given(self) -> list[bytes]:
        """Note what was given; inside a transaction. Which envelopes were given whole: to be forgotten after it."""
        given = []
        for identity, unread in list(self._unread.items()):
            left = unread.left()
            self._own.archive.set_unread(identity, unread.channel, left)
            if not left:
                given.append(identity)
        return given

    def _forget_given(self, identities: Iterable[bytes]) -> None:
        # Not before it is written: if that failed, the archive would give them again.
        for identity in identities:
            self._unread.pop(identity, None)

    def _not_given(self, channel: str) -> list[_Unread]:
        """What was opened, but not given to the reader before it stopped."""
        found = []
        for received, left in self._own.archive.unread(channel):
            origin = origin_of(received)
            deliveries = [to_delivery(origin, index, received.items[index], ()) for index in left]
            found.append(_Unread(channel, received.id, deliveries))
        self._unread.update({unread.id: unread for unread in found})
        return found

    async def _subscribe(self, channel: str, *, follow: bool, early: bool) -> AsyncIterator[list[_Unread]]:
        await self._link.synchronise()
        stub = await self._link.stub()
        position, head = self._own.archive.cursor(channel), self._witness.newest
        call = stub.Subscribe(
            pb.SubscribeRequest(
                position=position,
                channels=[channel],
                follow=follow,
                early=early,
                seen_size=head.head.size if head else 0,
            )
        )
        ahead = Early(self._admit, self._unseal, self._own.archive.last_read)
        loop = asyncio.get_running_loop()
        compared = loop.time()
        try:
            while True:
                # Not wait_for: before Python 3.12 it can swallow a cancellation, and the desk would not stop.
                async with asyncio.timeout(HEARTBEAT_DEADLINE_S):
                    response = await call.read()
                if not isinstance(response, pb.SubscribeResponse):
                    return
                if response.early and not response.checkpoint:
                    yield await self._own.workers.run(self._glimpse, channel, response, ahead)
                    continue
                places = await self._places(stub, response)
                taken, head = await self._own.workers.run(self._take, channel, response, head, ahead, places)
                yield taken
                if loop.time() > compared + COMPARE_S and head != self._witness.newest:
                    compared = loop.time()
                    await self._witness.compare(stub, head)
        finally:
            call.cancel()
            for glimpse in ahead.shown():
                assert glimpse.origin is not None  # noqa: S101 - what was shown has one
                self._own.event(Unconfirmed(glimpse.origin.sender, channel, glimpse.origin.receipt.id))

    def take(self, channel: str, response: pb.SubscribeResponse) -> None:
        """Take what came another way than over the network: in a pouch. Blocks.

        Raises:
            ProofError: The node did not sign it.
        """
        self._take(channel, response, None, Early(self._admit, self._unseal, self._own.archive.last_read), {})

    def _glimpse(self, channel: str, response: pb.SubscribeResponse, ahead: Early) -> list[_Unread]:
        """Open what came early; nothing of it is written down."""
        shown = []
        for data in response.early:
            try:
                identity, deliveries = ahead.take(data, self._own.trust.version)
            except LimitError:
                raise
            except TocsinError:
                # Judged again, and told, when it is confirmed.
                continue
            shown.append(_Unread(channel, identity, deliveries))
        return shown

    async def _places(self, stub: rpc.ExchangeStub, response: pb.SubscribeResponse) -> dict[bytes, Position]:
        """Where the node held envelopes whose key ended since: they count if that came later (PROTOCOL 4.7)."""
        trust, found = self._own.trust, dict[bytes, Position]()
        if not any(trust.party_endings(party) for party in trust.parties):
            return found
        for entry in response.entries:
            if entry.kind != pb.ENTRY_KIND_ENVELOPE or entry.pruned:
                continue
            if endings := self._own.admission.endings(entry.data):
                # Where the node shows nothing it stays refused.
                with contextlib.suppress(grpc.aio.AioRpcError):
                    request = pb.GetPositionRequest(leaf=entry.leaf, endings=endings)
                    found[entry.leaf] = Position.from_view((await stub.GetPosition(request, timeout=ANSWER_S)).log)
        return found

    def _take(
        self,
        channel: str,
        response: pb.SubscribeResponse,
        before: Seen | None,
        ahead: Early,
        places: Mapping[bytes, Position],
    ) -> tuple[list[_Unread], Seen]:
        """Verify a batch, archive it and move the cursor in one transaction."""
        shown = self._witness.verified(response.checkpoint)
        self._witness.require_extends(before, shown, response.consistency)
        head = shown.head
        stale = self._own.trust.stale(self._own.clock())
        if stale and Stale(stale) not in self._own.events:
            self._own.event(Stale(stale))
        taken: list[_Unread] = []
        with self._own.archive.transaction():
            given = self._write_given()
            for entry in response.entries:
                merkle.verify_inclusion(entry.leaf, entry.position, head.size, list(entry.proof), head.root)
                try:
                    if entry.kind == pb.ENTRY_KIND_DOCUMENT:
                        self._own.take_documents([entry.data])
                    elif entry.kind == pb.ENTRY_KIND_ENVELOPE and not entry.pruned:
                        place = places.get(entry.leaf)
                        taken.append(_Unread(channel, entry.leaf, self._open(entry, response.checkpoint, ahead, place)))
                except (StoreError, KeystoreError):
                    # Our own disk: nothing of this batch is kept, and it comes again.
                    raise
                except TocsinError as error:
                    # One hostile or broken envelope never stops the others.
                    self._own.event(Refused(entry.leaf, error.reason, error.words()))
                    if isinstance(error, CourierMissingError):
                        self._own.archive.shelve(channel, entry.SerializeToString(), response.checkpoint)
                        self._shelved = True
            if self._shelved:
                taken += self._late(channel)
            for unread in taken:
                # What was opened before and comes again, in a pouch, is still unread if it was.
                if unread.deliveries:
                    self._own.archive.set_unread(unread.id, channel, unread.left())
            self._own.archive.set_cursor(channel, max(response.next_position, self._own.archive.cursor(channel)))
            if response.next_position >= head.size:
                # By both clocks: a node that shows an old head, or a clock of ours that runs ahead, ends no seed early.
                self._own.archive.set_drained(channel, min(self._own.clock(), head.time_ms))
            self._witness.remember(shown)
        self._forget_given(given)
        self._unread.update({unread.id: unread for unread in taken if unread.deliveries})
        return taken, shown

    def _open(self, entry: pb.Entry, note: bytes, ahead: Early, place: Position | None) -> list[Delivery]:
        glimpse = ahead.confirmed(entry.leaf)
        parsed = envelope.parse(entry.data or (glimpse.data if glimpse else b""))
        if parsed.id != entry.leaf:
            raise ProofError("the leaf is not that envelope")
        if self._own.archive.knows(parsed.id):
            return []
        fresh = glimpse if glimpse and glimpse.version == self._own.trust.version else None
        admitted = fresh.admitted if fresh and fresh.admitted else self._admit(parsed, place)
        if admitted is None:
            return []
        self._number(admitted.header, parsed.id)
        opened = fresh.opened if fresh and fresh.opened else self._unseal(admitted)
        received = self._keep(admitted, opened, entry, note)
        deliveries = self._deliveries(received, admitted.warnings)
        if glimpse is None or not glimpse.shown:
            return deliveries
        glimpse.confirm(received)
        return []

    def _keep(self, admitted: Admitted, opened: envelope.Opened, entry: pb.Entry, note: bytes) -> Received:
        header, parsed = admitted.header, admitted.checked.parsed
        received = Received(
            parsed.id, entry.position, header.channel, header.sender, header.marking, header.seq,
            header.create_time_ms, parsed.outer.header, opened.items, tuple(entry.proof), note,
            envelope.outside(parsed.outer), opened.salt_seed,
        )  # fmt: skip
        self._own.archive.keep_received(received)
        return received

    def _late(self, channel: str) -> list[_Unread]:
        """Open what came before its courier key did; inside a transaction. It was numbered when it came."""
        found = []
        shelf = self._own.archive.shelf(channel)
        self._shelved = bool(shelf) or self._own.archive.shelved() > 0
        for number, data, note in shelf:
            entry = pb.Entry.FromString(data)
            try:
                admitted = self._admit(envelope.parse(entry.data))
                if admitted is not None:
                    received = self._keep(admitted, self._unseal(admitted), entry, note)
                    deliveries = self._deliveries(received, (*admitted.warnings, LATE))
                    found.append(_Unread(channel, received.id, deliveries))
            except CourierMissingError:
                continue
            except (StoreError, KeystoreError):
                raise
            except TocsinError as error:
                # Its seed is gone, or its sender's key has ended since: nothing opens it any more.
                self._own.event(Refused(entry.leaf, error.reason, error.words()))
            self._own.archive.take_from_shelf(number)
        return found

    def _admit(self, parsed: envelope.Parsed, place: Position | None = None) -> Admitted | None:
        """Apply every rule; None for what we sent or have already."""
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

    def _unseal(self, admitted: Admitted) -> envelope.Opened:
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

    def _number(self, header: env.Header, identity: bytes) -> None:
        """Numbers go up; what the sender stands by and we have not is named."""
        last = self._own.archive.last_read(header.stream)
        held = last[0] if last else 0
        if last and header.seq <= held:
            # Only what stands at it contradicts it: one that its sender withdrew may be shown late by whoever kept it.
            standing = last[1] if header.seq == held else self._own.archive.at_number(header)
            if standing not in (None, identity):
                what = f"number {header.seq} came again: fork or restore"
                self._own.event(Conflict(header.sender, header.channel, what))
            return
        if header.prev_seq > held:
            self._own.event(Gap(header.sender, header.channel, header.stream, held + 1, header.prev_seq))
        elif last and header.prev_seq == held and header.prev_id != last[1]:
            self._own.event(
                Conflict(header.sender, header.channel, f"two envelopes stand at number {held}: fork or restore")
            )
        self._own.archive.set_last_read(header.stream, header.seq, identity)

    def _deliveries(self, received: Received, warnings: tuple[str, ...]) -> list[Delivery]:
        origin = origin_of(received)
        every = [to_delivery(origin, index, raw, warnings) for index, raw in enumerate(received.items)]
        reports = [delivery for delivery in every if delivery.kind == "report"]
        named = [(delivery.parsed.report.id, digest(delivery.raw)) for delivery in reports]
        outcomes = self._own.archive.said(received.sender, named)
        if outcomes is None:
            return every
        repeated = set()
        for delivery, said in zip(reports, outcomes, strict=True):
            if said == "repeat":
                repeated.add(delivery.index)
            if said == "conflict":
                what = f"report {delivery.parsed.report.id.hex()} has two texts"
                self._own.event(Conflict(received.sender, received.channel, what))
        return [delivery for delivery in every if delivery.index not in repeated]

    def inbox(self, channel: str | None = None) -> list[Delivery]:
        """See Desk.inbox."""
        deliveries = []
        seen: set[tuple[str, bytes, bytes]] = set()
        for received in self._own.archive.received(channel):
            origin = origin_of(received)
            for index, raw in enumerate(received.items):
                delivery = to_delivery(origin, index, raw, ())
                name = (received.sender, delivery.parsed.report.id, digest(raw))
                if delivery.kind != "report" or name not in seen:
                    deliveries.append(delivery)
                    seen.add(name)
        return deliveries

    def check_receipt(self, delivery: Delivery) -> None:
        """See Desk.check_receipt."""
        head = self._own.verify_kept_note(delivery.receipt.checkpoint)
        proof = delivery.receipt.proof
        merkle.verify_inclusion(delivery.envelope, delivery.receipt.position, head.size, proof, head.root)
