"""Reading: what the node gives is verified, opened, archived, and given to the reader in order, each item once."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Final

import grpc

from exchange import merkle, wire
from exchange.desk import asking, pruned
from exchange.desk.archive import Received
from exchange.desk.asking import Answers
from exchange.desk.deliveries import NAMED, STEERING, claimed, name_of, origin_of, to_delivery, unfolded
from exchange.desk.early import Early
from exchange.desk.events import Delivery, Gap, Refused, Split, Stale, Unconfirmed
from exchange.desk.gaps import Gaps, Hold, Unread, in_order
from exchange.desk.holdings import Holdings
from exchange.desk.link import ANSWER_S, CHANNEL_CLOSED, Backoff, Link, raise_if_ours
from exchange.desk.opening import Opening
from exchange.desk.replies import Replies
from exchange.desk.streams import Missing
from exchange.desk.witness import Witness
from exchange.envelope import MAX_SEQ
from exchange.errors import CourierMissingError, LimitError, ProofError, StoreError
from exchange.history import Seen
from exchange.standing import Position
from exchange.v1 import envelope_pb2 as env
from exchange.v1 import exchange_pb2 as pb
from exchange.v1 import exchange_pb2_grpc as rpc
from keys.encoding import digest
from keys.errors import PeerError, TocsinError
from keys.keystore import KeystoreError

# How long a node could show two channels of one desk two logs.
COMPARE_S: Final = 10.0
# A clock that stands must not make a loop of waiting.
LEAST_WAIT_S: Final = 0.05
ASKED_AGAIN: Final = 64
ASKED_AT_ONCE: Final = 16
LOST: Final = "see `tocsin audit`; restore desk.db, or move it away and read again: the node has the log"


class Reading:
    """Follows channels of the node's log."""

    def __init__(
        self, holdings: Holdings, link: Link, witness: Witness, *, owing: Callable[[], None] = lambda: None
    ) -> None:
        self._own, self._link, self._witness, self._owing = holdings, link, witness, owing
        self._gaps, self._replies = Gaps(holdings), Replies(holdings)
        self._opening = Opening(holdings, self._gaps, self._replies)
        # Channels that somebody reads here, and one at a time that is fetched.
        self._read: Counter[str] = Counter()
        self._fetching = asyncio.Lock()
        # Opened envelopes whose reader may have been given items since the archive last noted it.
        self._unread: dict[bytes, Unread] = {}

    async def subscribe(self, channel: str, *, follow: bool = True, early: bool = False) -> AsyncIterator[Delivery]:
        """See Desk.subscribe."""
        async with self._fetching:
            self._read[channel] += 1
        backoff = Backoff()
        try:
            while True:
                try:
                    await self._own.workers.run(self.note_given)
                    self._tell_owing()
                    hold = Hold(self._own)
                    for unread in await self._own.workers.run(self._not_given, channel, hold):
                        for delivery in unread.deliveries:
                            unread.given += 1
                            yield delivery
                    async for taken in self._subscribe(channel, hold, follow=follow, early=early and follow):
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
                    try:
                        await self._own.workers.run(self._go_on_without, channel)
                    except StoreError as full:
                        self._own.disk_failed(full)
                except (StoreError, KeystoreError) as error:
                    # Nothing of the batch is kept, and it comes again. What was given and could not be noted may be too.
                    self._own.disk_failed(error)
                    if not follow:
                        raise
                except grpc.aio.UsageError:
                    self._own.state = CHANNEL_CLOSED
                except asyncio.CancelledError:
                    raise_if_ours()
                await backoff.wait()
        finally:
            self._read[channel] -= 1

    async def fetch(self, channel: str) -> None:
        """Take what the node has of a channel; it is given to whoever reads the channel next.

        Raises:
            TocsinError: The node does not answer, or lies.
        """
        async with self._fetching:
            if self._read[channel]:
                return
            try:
                async for _ in self._subscribe(channel, Hold(self._own), follow=False, early=False):
                    pass
            except (grpc.aio.AioRpcError, grpc.aio.UsageError, TimeoutError) as failure:
                lost = wire.error_from(failure) if isinstance(failure, grpc.aio.AioRpcError) else None
                raise lost or wire.UnreachableError(CHANNEL_CLOSED) from None
            finally:
                # It stands in the archive; here it would only grow.
                for identity in [unread.id for unread in list(self._unread.values()) if unread.channel == channel]:
                    self._unread.pop(identity, None)

    def _tell_owing(self) -> None:
        if self._replies.owing:
            self._replies.owing = False
            self._owing()

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
            if not unread.given:
                # Held back, or not reached yet: it stands as it was written.
                continue
            left = unread.left()
            self._own.archive.set_unread(identity, unread.channel, left)
            if not left:
                self._replies.owe(identity, unread.channel, unread.deliveries)
                given.append(identity)
        return given

    def _forget_given(self, identities: Iterable[bytes]) -> None:
        # Not before it is written: if that failed, the archive would give them again.
        for identity in identities:
            self._unread.pop(identity, None)

    def _not_given(self, channel: str, hold: Hold) -> list[Unread]:
        """What was opened, but not given to the reader before it stopped, and need not wait for a missing number."""
        found = []
        for received, left in self._own.archive.unread(channel):
            found.append(self._unread_again(received, left))
        self._unread.update({unread.id: unread for unread in found})
        return [passing for unread in in_order(found) for passing in hold.put(unread)]

    async def _subscribe(self, channel: str, hold: Hold, *, follow: bool, early: bool) -> AsyncIterator[list[Unread]]:
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
        answers, ahead = Answers(call), self._early(hold)
        loop = asyncio.get_running_loop()
        compared = loop.time()
        try:
            waits_s: float | None = 0.0
            while True:
                if waits_s is not None:
                    taken, waits_s = await self._fill(stub, channel, hold, ahead)
                    yield taken
                response = await answers.next(waits_s)
                if response is None:
                    continue
                if not isinstance(response, pb.SubscribeResponse):
                    break
                if response.early and not response.checkpoint:
                    yield await self._own.workers.run(self._glimpse, channel, response, ahead)
                    continue
                later = self._witness.is_later(response.checkpoint)
                if later:
                    await self._witness.go_on(stub)
                    if self._witness.is_later(response.checkpoint):
                        # Else whoever only names a later log would be asked again and again, without end.
                        raise ProofError("the node names a later log than it shows")
                if later or self._witness.left(head):
                    async for unread in self._subscribe(channel, hold, follow=follow, early=early):
                        yield unread
                    return
                places = await self._places(stub, response, ahead)
                taken, head = await self._own.workers.run(self._take, channel, response, head, ahead, places, hold)
                self._tell_owing()
                yield taken
                if waits_s is None and await self._own.workers.run(self._own.archive.untold, channel):
                    waits_s = 0.0
                await self._compare_heads(stub)
                if loop.time() > compared + COMPARE_S and head != self._witness.newest:
                    compared = loop.time()
                    await self._witness.compare(stub, head)
            if not follow:
                # There is no more to wait for.
                waits_s = 0.0
                while waits_s is not None:
                    taken, waits_s = await self._fill(stub, channel, hold, ahead, all_over=True)
                    yield taken
        finally:
            answers.close()
            for glimpse in ahead.shown():
                assert glimpse.origin is not None  # noqa: S101 - what was shown has one
                self._own.event(Unconfirmed(glimpse.origin.sender, channel, glimpse.origin.receipt.id))

    async def _compare_heads(self, stub: rpc.ExchangeStub) -> None:
        """Hold what others say they saw of the node's log against what is shown here."""
        newest = self._witness.newest
        while self._gaps.heads and newest is not None:
            _, claimed = self._gaps.heads.popitem()
            if await asking.contradicts(stub, newest.head, claimed.head):
                await self._own.workers.run(self._keep_as_evidence, claimed.envelope)
                self._own.event(Split(newest.head.origin, claimed.sender, claimed.envelope, claimed.head.size))

    def _keep_as_evidence(self, identity: bytes) -> None:
        with self._own.archive.transaction():
            self._own.archive.keep_as_evidence(identity)

    def _early(self, hold: Hold) -> Early:
        def last_read(sender: str, stream: bytes) -> tuple[int, bytes] | None:
            # What comes after something held back is held back too.
            return (MAX_SEQ, b"") if (sender, stream) in hold else self._own.archive.last_read(sender, stream)

        return Early(self._opening.admit, self._opening.unseal, last_read)

    async def _fill(
        self, stub: rpc.ExchangeStub, channel: str, hold: Hold, ahead: Early, *, all_over: bool = False
    ) -> tuple[list[Unread], float | None]:
        """Ask for what is missing; tell what cannot be had and was waited for.

        Returns:
            What can be given now, and after how many seconds to look again; None when nothing is waited for.
        """
        own, taken, waits_ms = self._own, list[Unread](), list[int]()
        rows = await own.workers.run(own.archive.missing, channel)
        again = {row.number for row in rows if row.told and row.number not in hold.asked}
        # What people were told of long ago is asked for once more with each new connection, the newest of it.
        hold.asked |= again - set(sorted(again)[-ASKED_AGAIN:])
        left_to_ask = ASKED_AT_ONCE
        for row in rows:
            if row.told and row.number in hold.asked:
                continue
            over = all_over or hold.full(row.sender) or self._gaps.over(row)
            if row.number not in hold.asked or (over and not row.told):
                left_to_ask -= 1
                if left_to_ask < 0:
                    # Whoever claims many numbers must not keep the channel from going on.
                    waits_ms.append(0)
                    break
                hold.asked.add(row.number)
                async for answer in asking.numbers(stub, row):
                    if isinstance(answer, pb.GetNumbersResponse):
                        shown = self._witness.verified(answer.checkpoint)
                        await self._witness.compare(stub, shown)
                        taken += await own.workers.run(self._take_missing, row, answer, shown, ahead, hold)
            left = [
                one for one in await own.workers.run(own.archive.missing_in, row.sender, row.stream) if not one.told
            ]
            left = [one for one in left if row.first <= one.first <= row.last]
            if over:
                for one in left:
                    await own.workers.run(self._tell, await asking.gap(own, stub, one), one)
            elif left:
                waits_ms.append(self._gaps.wait_ms(row))
        taken += await own.workers.run(hold.release)
        return taken, max(min(waits_ms) / 1000, LEAST_WAIT_S) if waits_ms else None

    def _tell(self, gap: Gap, row: Missing) -> None:
        with self._own.archive.transaction():
            self._own.archive.set_told(row.number)
        self._own.event(gap)

    def _go_on_without(self, channel: str) -> None:
        """The node does not answer: what was waited for long enough is told as missing, and what comes after it given."""
        for row in self._own.archive.missing(channel):
            if not row.told and self._gaps.over(row):
                self._tell(Gap(row.sender, row.channel, row.stream, row.first, row.last), row)

    def _take_missing(
        self, row: Missing, answer: pb.GetNumbersResponse, shown: Seen, ahead: Early, hold: Hold
    ) -> list[Unread]:
        """Take what the node gave for missing numbers, as if it had come by itself."""
        own, taken, key = self._own, list[Unread](), (row.sender, row.stream)
        with own.archive.transaction():
            gone = pruned.ranges(own, row, answer.entries, shown.head)
            gone = [(first, last) for first, last in gone if own.archive.set_gone(key, first, last)]
            for entry in answer.entries:
                header = env.Header() if entry.pruned else claimed(entry.data)
                asked = (header.sender, header.stream, header.channel) == (row.sender, row.stream, row.channel)
                if asked and row.first <= header.seq <= row.last and entry.leaf not in hold.refused:
                    taken += self._take_entry(row.channel, entry, shown, ahead, None, hold)
        for first, last in gone:
            own.event(Gap(row.sender, row.channel, row.stream, first, last, own.settings.node, pruned=True))
        self._archived(hold, ahead)
        return taken

    def take(self, channel: str, response: pb.SubscribeResponse) -> None:
        """Take what came another way than over the network: in a pouch. Blocks.

        Raises:
            ProofError: The node did not sign it.
        """
        hold = Hold(self._own)
        self._take(channel, response, None, self._early(hold), {}, hold)
        for row in self._own.archive.missing(channel):
            if not row.told:
                # Nobody can be asked.
                self._tell(Gap(row.sender, row.channel, row.stream, row.first, row.last, self._own.settings.node), row)

    def _glimpse(self, channel: str, response: pb.SubscribeResponse, ahead: Early) -> list[Unread]:
        """Open what came early; nothing of it is written down."""
        shown = []
        for data in response.early:
            try:
                header, identity, deliveries = ahead.take(data, self._own.trust.version)
            except LimitError:
                raise
            except TocsinError:
                # Judged again, and told, when it is confirmed.
                continue
            if header is not None:
                shown.append(Unread(channel, identity, header, deliveries))
        return shown

    async def _places(
        self, stub: rpc.ExchangeStub, response: pb.SubscribeResponse, ahead: Early
    ) -> dict[bytes, Position]:
        """Where the node held envelopes whose key ended since: they count if that came later (PROTOCOL 4.7)."""
        trust, found = self._own.trust, dict[bytes, Position]()
        if not any(trust.party_endings(party) for party in trust.parties):
            return found
        for entry in response.entries:
            if entry.kind != pb.ENTRY_KIND_ENVELOPE or entry.pruned:
                continue
            if endings := self._own.admission.endings(entry.data or ahead.data_of(entry.leaf)):
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
        hold: Hold,
    ) -> tuple[list[Unread], Seen]:
        """Verify a batch, archive it and move the cursor in one transaction; what can be given now."""
        shown = self._witness.verified(response.checkpoint)
        self._witness.require_extends(before, shown, response.consistency)
        head = shown.head
        if response.next_position > head.size:
            raise ProofError("the node counts beyond its own checkpoint")
        stale = self._own.trust.stale(self._own.clock())
        if stale and Stale(stale) not in self._own.events:
            self._own.event(Stale(stale))
        taken: list[Unread] = []
        with self._own.archive.transaction():
            given = self._write_given()
            self._own.archive.sweep()
            for entry in response.entries:
                taken += self._take_entry(channel, entry, shown, ahead, places.get(entry.leaf), hold)
            late = self._opening.late(channel)
            self._note_unread(late, hold)
            taken += late
            self._own.archive.set_cursor(channel, max(response.next_position, self._own.archive.cursor(channel)))
            if response.next_position >= head.size:
                # By both clocks: a node that shows an old head, or a clock of ours that runs ahead, ends no seed early.
                self._own.archive.set_drained(channel, min(self._own.clock(), head.time_ms))
                self._gaps.hear(channel)
            self._witness.remember(shown)
        self._forget_given(given)
        self._archived(hold, ahead)
        return taken + hold.release(), shown

    def _take_entry(
        self, channel: str, entry: pb.Entry, shown: Seen, ahead: Early, place: Position | None, hold: Hold
    ) -> list[Unread]:
        """Verify and archive one entry; what can be given now. In a transaction."""
        head = shown.head
        merkle.verify_inclusion(entry.leaf, entry.position, head.size, list(entry.proof), head.root)
        try:
            if entry.kind == pb.ENTRY_KIND_DOCUMENT:
                self._own.take_documents([entry.data])
            elif entry.kind == pb.ENTRY_KIND_ENVELOPE and not entry.pruned:
                unread = self._opening.open(channel, entry, shown.note, ahead, place)
                if unread is not None:
                    self._note_unread([unread], hold)
                    return hold.put(unread)
            elif entry.kind == pb.ENTRY_KIND_REFUSAL:
                self._replies.take_refusal(entry)
        except (StoreError, KeystoreError):
            # Our own disk: nothing of this batch is kept, and it comes again.
            raise
        except TocsinError as error:
            # One hostile or broken envelope never stops the others.
            hold.refused.add(entry.leaf)
            self._own.event(Refused(entry.leaf, error.reason, error.words()))
            if isinstance(error, CourierMissingError):
                self._opening.shelve(channel, entry, shown.note)
        return []

    @staticmethod
    def _unread_again(received: Received, left: Iterable[int]) -> Unread:
        origin = origin_of(received)
        return Unread.of(received, unfolded(to_delivery(origin, n, received.items[n], ()) for n in left))

    def _note_unread(self, opened: Iterable[Unread], hold: Hold) -> None:
        for unread in opened:
            # What was opened before and comes again, in a pouch, is still unread if it was.
            if unread.deliveries:
                self._own.archive.set_unread(unread.id, unread.channel, unread.left())
                hold.opened.append(unread)

    def _archived(self, hold: Hold, ahead: Early) -> None:
        """What was opened is durable: unread, or known to whoever was shown it early."""
        ahead.settle()
        self._unread.update({unread.id: unread for unread in hold.opened})
        hold.opened.clear()

    def inbox(self, channel: str | None = None) -> list[Delivery]:
        """See Desk.inbox."""
        deliveries = []
        seen: set[tuple[str, bytes, bytes]] = set()
        for received in self._own.archive.received(channel):
            origin = origin_of(received)
            for delivery in unfolded(to_delivery(origin, index, raw, ()) for index, raw in enumerate(received.items)):
                if delivery.kind in STEERING:
                    continue
                if delivery.kind in NAMED:
                    name = (delivery.sender, name_of(delivery), digest(delivery.raw))
                    if name in seen:
                        continue
                    seen.add(name)
                deliveries.append(delivery)
        if lost := self._own.archive.damaged:
            self._own.disk_failed(StoreError(f"it changed {len(lost)} envelopes in desk.db", hint=LOST))
        return deliveries

    def check_receipt(self, delivery: Delivery) -> None:
        """See Desk.check_receipt."""
        head = self._own.verify_kept_note(delivery.receipt.checkpoint)
        proof = delivery.receipt.proof
        merkle.verify_inclusion(delivery.envelope, delivery.receipt.position, head.size, proof, head.root)
