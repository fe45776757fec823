"""The desk as a witness: its node's log must extend what this desk saw of it, in this session and before (PROTOCOL 8.6).

A node that was restored from a backup goes on in another log, which must continue the one that was seen (8.7).
"""

import asyncio
import threading
from collections import deque
from collections.abc import Sequence
from typing import Final

from exchange import history, wire
from exchange.desk.archive import MAX_CLASHES, Clashed
from exchange.desk.events import Clash, NewLog
from exchange.desk.holdings import Holdings
from exchange.errors import LogClashError, ProofError
from exchange.history import Seen
from exchange.v1 import exchange_pb2 as pb
from exchange.v1 import exchange_pb2_grpc as rpc
from keys.errors import UsageError

ANSWER_S: Final = 20


class Witness:
    """Keeps the newest head of the node's log, across sessions, and both heads where two contradict each other."""

    def __init__(self, holdings: Holdings) -> None:
        self._own = holdings
        self._lock = threading.Lock()
        self._newest: Seen | None = None
        self._loaded = False
        self._told: deque[tuple[str, bytes]] = deque(maxlen=MAX_CLASHES)
        self._going_on = asyncio.Lock()

    @property
    def newest(self) -> Seen | None:
        """The newest head seen of the node's log; None = none yet."""
        with self._lock:
            if not self._loaded:
                self._newest, self._loaded = self._load(), True
            return self._newest

    def _load(self) -> Seen | None:
        node, archive = self._own.settings.node, self._own.archive
        numbers = {
            history.number_of(origin, node): origin
            for origin in archive.origins()
            if origin.startswith(f"tocsin/{node}/")
        }
        note = archive.note(numbers[max(numbers)]) if numbers else None
        return Seen.of(note) if note else None

    def verified(self, note: bytes) -> Seen:
        """A head that the node signed for its log.

        Raises:
            ProofError: It did not, or it is a head of another log.
        """
        head = self._own.verify_note(note)
        history.number_of(head.origin, self._own.settings.node)
        return Seen(head, note)

    def require_extends(self, seen: Seen | None, shown: Seen, proof: Sequence[bytes]) -> None:
        """See `history.require_extends`; what contradicts is kept and told, once.

        Raises:
            LogClashError: It does not extend it.
        """
        try:
            history.require_extends(seen, shown, proof)
            newest = self.newest
            if newest is not None and _same_size(newest, shown):
                # Another call of this desk was shown the log at the same size.
                history.require_extends(newest, shown, ())
        except LogClashError as error:
            self._keep(error)
            raise

    def _keep(self, error: LogClashError) -> None:
        seen, shown = Seen.of(error.seen).head, Seen.of(error.shown).head
        # A node that stays so signs a new time every few seconds: that is no news.
        told = (error.reason, shown.root)
        if told in self._told:
            return
        self._told.append(told)
        self._own.archive.keep_clash(Clashed(self._own.clock(), error.reason, error.seen, error.shown))
        self._own.event(Clash(seen.origin, error.reason, str(error)))

    def remember(self, shown: Seen) -> None:
        """Keep a head that was shown to extend what was seen; inside a transaction of the archive.

        Raises:
            ProofError: Another call was shown a later log meanwhile: nothing more is taken of this one.
        """
        newest = self.newest
        if newest is not None and newest.head.origin != shown.head.origin:
            raise ProofError(f"the node went on in {newest.head.origin}", hint="it is asked again")
        if newest is None or newest.head.size < shown.head.size:
            self._own.archive.set_note(shown.head.origin, shown.note)
            with self._lock:
                self._newest = shown

    def is_later(self, note: bytes) -> bool:
        """Whether a note is of a later log of the node than the one that is read."""
        newest, origin = self.newest, note.partition(b"\n")[0].decode(errors="replace")
        if newest is None or origin == newest.head.origin:
            return False
        # Not verified here, for each answer of the node comes by: whoever goes on verifies it.
        return history.number_of(origin, self._own.settings.node) > self._number(newest)

    def left(self, head: Seen | None) -> bool:
        """Whether the log of a head is read no more: another call of this desk was shown how a later one continues it."""
        newest = self.newest
        return head is not None and newest is not None and newest.head.origin != head.head.origin

    def _number(self, seen: Seen) -> int:
        return history.number_of(seen.head.origin, self._own.settings.node)

    async def go_on(self, stub: rpc.ExchangeStub) -> None:
        """The node opened another log: read that one from its start, if it continues the one that was seen.

        Raises:
            LogClashError: It denies what was seen of the old one: a person decides (`accept`).
            TocsinError: It proves nothing, or does not answer.
        """
        async with self._going_on:
            call = stub.Subscribe(pb.SubscribeRequest())
            try:
                async with asyncio.timeout(ANSWER_S):
                    response = await call.read()
            except TimeoutError:
                raise wire.UnreachableError("the node fell silent") from None
            finally:
                call.cancel()
            if not isinstance(response, pb.SubscribeResponse):
                raise ProofError("the node does not show how its new log begins")
            await self._own.workers.run(self._go_on, response)

    def _go_on(self, response: pb.SubscribeResponse) -> None:
        seen, shown = self.newest, self.verified(response.checkpoint)
        if seen is not None and self._number(shown) <= self._number(seen):
            # Another call of this desk was faster.
            return
        heads = history.continued(shown.head, response.entries, verify=self._own.verify_kept_note)
        try:
            for one in (seen, self._receipt()):
                history.require_continues(one, shown, heads)
        except LogClashError as error:
            self._keep(error)
            raise
        self._begin(shown)
        self._own.event(NewLog(shown.head.origin))

    def _receipt(self) -> Seen | None:
        """The head of the newest receipt: the node cannot deny it either, though nobody proved that it extends the others."""
        note, newest = self._own.archive.newest_receipt(), self.newest
        seen = Seen.of(note) if note else None
        return seen if seen and newest and seen.head.origin == newest.head.origin else None

    def _begin(self, shown: Seen) -> None:
        with self._own.archive.transaction():
            self._own.archive.begin_log()
            self._own.archive.set_note(shown.head.origin, shown.note)
        with self._lock:
            self._newest = shown

    def accept(self, origin: str) -> None:
        """Read a log of the node though it denies what was seen of the one before: a person decided. The evidence stays.

        Raises:
            UsageError: No such log was refused.
        """
        notes = [Seen.of(clash.shown) for clash in self._own.archive.clashes()]
        shown = [seen for seen in notes if seen.head.origin == origin]
        newest = self.newest
        if not shown or (newest is not None and self._number(shown[0]) <= self._number(newest)):
            raise UsageError(f"no log {origin!r} was refused", hint="`tocsin audit --desk DIRECTORY` shows what was")
        self._begin(max(shown, key=lambda seen: seen.head.size))

    async def compare(self, stub: rpc.ExchangeStub, shown: Seen | None = None) -> None:
        """Hold a head, or the one the node shows now, against the newest seen: two calls must not see two logs.

        Raises:
            LogClashError: They are not of one history.
            TocsinError: The node did not sign, or does not answer.
        """
        seen = self.newest
        with wire.answering():
            if shown is None:
                # With what was seen: a node that holds less was restored from a backup, and must not go on unaware.
                told = max(filter(None, (seen, self._receipt())), key=lambda one: one.head.size, default=None)
                request = pb.GetCheckpointRequest(seen=told.note if told else b"")
                shown = self.verified((await stub.GetCheckpoint(request, timeout=ANSWER_S)).checkpoint)
            elif seen is not None and shown.head.origin == seen.head.origin and shown.head.size < seen.head.size:
                # Older than what another call saw since: that must extend it.
                seen, shown = shown, seen
            if seen is not None and self._number(shown) > self._number(seen):
                await self.go_on(stub)
                return
            proof: Sequence[bytes] = ()
            if seen is not None and 0 < seen.head.size < shown.head.size:
                asked = pb.GetProofRequest(from_size=seen.head.size, size=shown.head.size)
                proof = list((await stub.GetProof(asked, timeout=ANSWER_S)).consistency)
        self.require_extends(seen, shown, proof)
        if seen is None or seen.head.size < shown.head.size:
            await self._own.workers.run(self._remember, shown)

    def _remember(self, shown: Seen) -> None:
        """What a desk that only sends was shown; without it another history could be shown to it the next time."""
        with self._own.archive.transaction(durable=False):
            self.remember(shown)


def _same_size(one: Seen, other: Seen) -> bool:
    return (one.head.origin, one.head.size) == (other.head.origin, other.head.size)
