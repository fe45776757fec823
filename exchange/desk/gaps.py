"""Numbers that did not come: what is missing is named, waited for, asked for, and told; what comes after it waits too.

Source: docs/PROTOCOL.md sections 5.7, 5.8 and 9.6.
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from exchange import tls
from exchange.desk.archive import Received
from exchange.desk.events import Conflict, Delivery, Silent
from exchange.desk.holdings import Holdings
from exchange.desk.streams import Key, Missing
from exchange.envelope import MAX_SEQ
from exchange.v1 import envelope_pb2 as env
from exchange.v1 import report_pb2 as rep
from keys.trust import MissingDocumentError

MAX_HELD_BYTES: Final = 16_000_000
"""What a call holds back of one sender for numbers that are missing; beyond it nothing more of that one is waited for."""
MAX_STREAMS: Final = 64
"""What one heartbeat may name."""
PASSED: Final = "numbers {} to {} of its stream did not come before it"
CAME_LATE: Final = "came late: what its sender said after it was given before"


class Claimed(NamedTuple):
    """A head of a log that a desk says, in an envelope, that it saw."""

    sender: str
    envelope: bytes
    head: rep.LogHead


class Unread:
    """The items of one envelope that its reader is to be given; those from `given` on it was not given yet."""

    __slots__ = ("channel", "deliveries", "given", "id", "key", "prev_seq", "seq")

    def __init__(self, channel: str, identity: bytes, header: env.Header, deliveries: list[Delivery]) -> None:
        self.channel, self.id, self.deliveries, self.given = channel, identity, deliveries, 0
        self.key: Key = (header.sender, header.stream)
        self.seq, self.prev_seq = header.seq, header.prev_seq

    @classmethod
    def of(cls, received: Received, deliveries: list[Delivery]) -> "Unread":
        """From the archive."""
        return cls(received.channel, received.id, env.Header.FromString(received.header), deliveries)

    def left(self) -> list[int]:
        """Indexes of what was not given, each once. Called from another thread: `given` is read once."""
        return list(dict.fromkeys(delivery.index for delivery in self.deliveries[self.given :]))

    def mark(self, warning: str) -> None:
        """Say something about all that was not given yet."""
        self.deliveries = [
            dataclasses.replace(delivery, warnings=(*delivery.warnings, warning)) for delivery in self.deliveries
        ]


class Gaps:
    """Which numbers a desk heard of and has not.

    Args:
        holdings: What the desk holds.
    """

    def __init__(self, holdings: Holdings) -> None:
        self._own = holdings
        self.heads: dict[str, Claimed] = {}
        """Of the own node's log, the newest that each other desk says it saw; not compared yet."""

    def number(self, header: env.Header, identity: bytes) -> bool:
        """Note an envelope's number; whether it comes after people were told that it is missing. In a transaction.

        Numbers go up; what the sender stands by and we have not is missing, up to the last one it stood by.
        """
        archive, key = self._own.archive, (header.sender, header.stream)
        last = archive.last_read(*key)
        held = last[0] if last else 0
        if last and header.seq <= held:
            # Only what stands at it contradicts it: one that its sender withdrew may be shown late by whoever kept it.
            standing = last[1] if header.seq == held else archive.at_number(header)
            if standing and standing != identity:
                self._conflict(header, f"number {header.seq} came again: fork or restore")
                return False
            found = archive.found(key, header.prev_seq + 1, header.seq)
            return found is not None and found.told
        if header.prev_seq > held:
            self._miss(header, header.stream, held, header.prev_seq, header.prev_id)
        elif last and header.prev_seq == held and last[1] and header.prev_id != last[1]:
            self._conflict(header, f"two envelopes stand at number {held}: fork or restore")
        archive.set_last_read(*key, header.seq, identity)
        return False

    def known(self, identity: bytes) -> None:
        """An envelope that was read came again: whoever asked for its number need not wait. In a transaction."""
        if data := self._own.archive.header_of(identity):
            header = env.Header.FromString(data)
            self._own.archive.found((header.sender, header.stream), header.prev_seq + 1, header.seq)

    def heed(self, header: env.Header, identity: bytes, said: Sequence[rep.Item]) -> None:
        """Draw from an envelope of heartbeats and closings what they say about streams. In a transaction."""
        beat = next((item.heartbeat for item in said if item.HasField("heartbeat")), None)
        if beat is not None:
            # One is all that an envelope needs: more of them would only name more than MAX_STREAMS.
            self._heartbeat(header, beat)
            prefix = f"tocsin/{self._own.settings.node}/"
            for head in [head for head in beat.logs if head.origin.startswith(prefix)][:1]:
                self.heads[header.sender] = Claimed(header.sender, identity, head)
        for item in said:
            if item.HasField("closing"):
                self._closing(header, item.closing)

    def open(self, header: env.Header) -> None:
        """Nothing but a closing may stand above the last number of a stream that its sender closed. In a transaction."""
        closed = self._own.archive.closed_at((header.sender, header.stream))
        if closed is not None and header.seq > closed:
            self._conflict(header, f"number {header.seq} stands in a stream that was closed at {closed}")

    def _heartbeat(self, header: env.Header, said: rep.Heartbeat) -> None:
        for head in said.streams[:MAX_STREAMS]:
            if len(head.stream) == len(header.stream) and len(head.id) == 32 and 0 < head.seq <= MAX_SEQ:
                self._stands(header, head.stream, head.seq, head.id)
        if self._own.archive.closed_at((header.sender, header.stream)) is None:
            self._own.archive.promise((header.sender, header.stream), header.channel, said.next_by_ms)

    def _closing(self, header: env.Header, said: rep.Closing) -> None:
        archive, key = self._own.archive, (header.sender, said.stream)
        if len(said.stream) != len(header.stream) or not said.last_seq <= MAX_SEQ:
            return
        if said.last_seq:
            self._stands(header, said.stream, said.last_seq, b"")
        closed = archive.closed_at(key)
        if closed is not None:
            # A greater one may be the number of the closing itself, said by a desk that a backup took back to before it.
            if said.last_seq < closed:
                self._conflict(header, f"it closed a stream at {closed}, and again at {said.last_seq}")
            return
        archive.close_stream(key, said.last_seq)
        if next_by_ms := archive.promised(key):
            archive.promise(key, header.channel, 0)
            after = (header.sender, said.continued_by)
            if len(said.continued_by) == len(said.stream) and not archive.promised(after):
                # Who promised to be heard there will be heard here: else all that follows could be held back unseen.
                archive.promise(after, header.channel, next_by_ms)

    def _stands(self, header: env.Header, stream: bytes, seq: int, identity: bytes) -> None:
        """The sender says what the last number of a stream of its own is; an id may be empty."""
        last = self._own.archive.last_read(header.sender, stream)
        held = last[0] if last else 0
        if seq > held:
            self._miss(header, stream, held, seq, identity)
            self._own.archive.set_last_read(header.sender, stream, seq, identity)
        elif last and seq == held and identity and last[1] and identity != last[1]:
            self._conflict(header, f"another envelope than the one read stands at number {seq}: fork or restore")

    def _miss(self, header: env.Header, stream: bytes, held: int, last: int, identity: bytes) -> None:
        key, now_ms = (header.sender, stream), self._own.clock()
        self._own.archive.miss(key, header.channel, held + 1, last, identity, now_ms)

    def _conflict(self, header: env.Header, what: str) -> None:
        self._own.event(Conflict(header.sender, header.channel, what))

    def hear(self, channel: str) -> None:
        """All that the node has of a channel was read: who promised to be heard by now and was not is silent.

        In a transaction.
        """
        own = self._own
        with suppress(MissingDocumentError):
            self._hear(channel, own.clock() - own.trust.agreement(own.clock()).body.skew_ms)

    def _hear(self, channel: str, by_ms: int) -> None:
        own = self._own
        broken = sorted(own.archive.take_broken(channel, max(0, by_ms)), key=lambda one: one.next_by_ms)
        # Of each the latest: who is silent is so in all streams.
        for one in {one.sender: one for one in broken}.values():
            host = tls.hosting_node(own.trust, one.sender)
            # Of a desk that is in no roster any more nothing is expected.
            if host is not None:
                own.event(Silent(one.sender, channel, one.next_by_ms, tuple(dict.fromkeys((host, own.settings.node)))))

    def over(self, row: Missing) -> bool:
        """Whether a range of missing numbers was waited for long enough."""
        return self.wait_ms(row) <= 0

    def wait_ms(self, row: Missing) -> int:
        """How much longer to wait for missing numbers, by the rule of their channel."""
        now_ms, most_ms = self._own.clock(), 0
        with suppress(MissingDocumentError, KeyError):
            most_ms = self._own.trust.agreement(now_ms).channels[row.channel].gap_wait_ms
        waited_ms = now_ms - row.since_ms
        # A clock that was turned back must not make it longer.
        return most_ms - waited_ms if 0 <= waited_ms < most_ms else 0


class Hold:
    """What one call holds back, because a number before it is missing and waited for.

    Args:
        holdings: Whose archive says what is missing.
    """

    def __init__(self, holdings: Holdings) -> None:
        self._archive = holdings.archive
        self._held: dict[Key, list[Unread]] = {}
        self._bytes: Counter[str] = Counter()
        self.asked: set[int] = set()
        """Ranges, by number, that the node was asked for."""
        self.opened: list[Unread] = []
        """Opened and not yet archived for good."""
        self.refused: set[bytes] = set()
        """Envelopes that were refused here: nothing new when they are given again."""

    def __contains__(self, key: Key) -> bool:
        """Whether something of a stream is held."""
        return key in self._held

    def full(self, sender: str) -> bool:
        """Whether nothing more of a sender can be waited for: whoever has much held back ends no wait for another."""
        return self._bytes[sender] > MAX_HELD_BYTES

    def put(self, unread: Unread) -> list[Unread]:
        """Hold an envelope back or let it pass; what can be given now, in order."""
        if unread.key in self._held:
            self._hold(unread)
            return self._release(unread.key)
        rows = self._archive.missing_in(*unread.key)
        if any(row.first < unread.seq and not row.told for row in rows):
            self._hold(unread)
            return []
        return [_marked(unread, rows)]

    def _hold(self, unread: Unread) -> None:
        self._held.setdefault(unread.key, []).append(unread)
        self._bytes[unread.key[0]] += _size(unread)

    def release(self) -> list[Unread]:
        """What no missing number stands before any more."""
        return [unread for key in list(self._held) for unread in self._release(key)]

    def _release(self, key: Key) -> list[Unread]:
        rows = self._archive.missing_in(*key)
        first = min((row.first for row in rows if not row.told), default=MAX_SEQ + 1)
        held = sorted(self._held.pop(key), key=lambda unread: unread.seq)
        passing = [unread for unread in held if unread.seq < first]
        if kept := held[len(passing) :]:
            self._held[key] = kept
        self._bytes[key[0]] -= sum(_size(unread) for unread in passing)
        return [_marked(unread, rows) for unread in passing]


def in_order(found: Sequence[Unread]) -> list[Unread]:
    """What was read, in its order, but each stream by its numbers: one that came late stands where it belongs."""
    streams: dict[Key, list[Unread]] = {}
    for unread in sorted(found, key=lambda one: one.seq):
        streams.setdefault(unread.key, []).append(unread)
    following = {key: iter(members) for key, members in streams.items()}
    return [next(following[unread.key]) for unread in found]


def _marked(unread: Unread, rows: Sequence[Missing]) -> Unread:
    for row in rows:
        if row.told and row.last == unread.prev_seq:
            unread.mark(PASSED.format(row.first, row.last))
    return unread


def _size(unread: Unread) -> int:
    return sum(len(delivery.raw) for delivery in unread.deliveries) + 1000
