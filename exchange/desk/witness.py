"""The desk as a witness: its node's log must extend what this desk saw of it, in this session and before (PROTOCOL 8.6)."""

import threading
from collections.abc import Sequence
from typing import Final

import grpc

from exchange import history, wire
from exchange.desk.archive import Clashed
from exchange.desk.events import Clash
from exchange.desk.holdings import Holdings
from exchange.errors import LogClashError
from exchange.history import Seen
from exchange.v1 import exchange_pb2 as pb
from exchange.v1 import exchange_pb2_grpc as rpc

ANSWER_S: Final = 20


class Witness:
    """Keeps the newest head of the node's log, across sessions, and both heads where two contradict each other."""

    def __init__(self, holdings: Holdings) -> None:
        self._own = holdings
        self._lock = threading.Lock()
        self._newest: Seen | None = None
        self._loaded = False
        self._told: set[tuple[str, bytes]] = set()

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
            if newest is not None and newest.head.size == shown.head.size:
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
        self._told.add(told)
        self._own.archive.keep_clash(Clashed(self._own.clock(), error.reason, error.seen, error.shown))
        self._own.event(Clash(seen.origin, error.reason, str(error)))

    def remember(self, shown: Seen) -> None:
        """Keep a head that was shown to extend what was seen; inside a transaction of the archive."""
        newest = self.newest
        if newest is None or newest.head.origin != shown.head.origin or newest.head.size < shown.head.size:
            self._own.archive.set_note(shown.head.origin, shown.note)
            with self._lock:
                self._newest = shown

    async def compare(self, stub: rpc.ExchangeStub, shown: Seen | None = None) -> None:
        """Hold a head, or the one the node shows now, against the newest seen: two calls must not see two logs.

        Raises:
            LogClashError: They are not of one history.
            TocsinError: The node did not sign, or does not answer.
        """
        seen = self.newest
        try:
            if shown is None:
                answer = await stub.GetCheckpoint(pb.GetCheckpointRequest(), timeout=ANSWER_S)
                shown = self.verified(answer.checkpoint)
            elif seen is not None and shown.head.size < seen.head.size:
                # Older than what another call saw since: that must extend it.
                seen, shown = shown, seen
            proof: Sequence[bytes] = ()
            if seen is not None and 0 < seen.head.size < shown.head.size:
                asked = pb.GetProofRequest(from_size=seen.head.size, size=shown.head.size)
                proof = list((await stub.GetProof(asked, timeout=ANSWER_S)).consistency)
        except grpc.aio.AioRpcError as failure:
            raise wire.error_from(failure) from None
        self.require_extends(seen, shown, proof)
