"""Federation: a node follows each peer with the Subscribe that desks use (docs/PROTOCOL.md section 9.4).

Pull only: it resumes after any outage and works behind NAT. Documents come in log order, before the envelopes that pin
them. An envelope that is refused is recorded and the cursor moves; nothing blocks what comes after it.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Final

import grpc
import structlog

from exchange import checkpoint, history, wire
from exchange.errors import LimitError, LogClashError, ProofError, SenderEndedError
from exchange.history import Seen
from exchange.merkle import verify_inclusion
from exchange.node import reading
from exchange.node.core import WAITS, Node
from exchange.node.intake import Preview
from exchange.node.logkeys import listed
from exchange.node.reading import HEARTBEAT_S
from exchange.node.writer import Waiting
from exchange.standing import Position
from exchange.v1 import exchange_pb2 as pb
from exchange.v1 import exchange_pb2_grpc as rpc
from keys import documents
from keys.errors import PeerError, TocsinError

BACKOFF_S: Final = (0.2, 60.0)
COSIGN_EVERY_S: Final = 1.0
CALL_S: Final = 10.0
# Keepalive and the heartbeat deadline go on while a peer is held back.
LONGEST_WAIT_MS: Final = 1000
# A little more than an honest peer sends ahead of its checkpoints.
EARLY_BYTES: Final = 2 * reading.EARLY_BYTES
EARLY_ENTRIES: Final = 2 * reading.EARLY_ENTRIES
# A peer that did not confirm what it sent early made us cut our readers: not again so soon.
NOT_EARLY_S: Final = 60.0
Connect = Callable[[str], grpc.aio.Channel]
"""Opens a mutual-TLS channel to a node by name."""

log = structlog.get_logger("tocsin.follow")


class Follower:
    """Follows one peer until cancelled."""

    def __init__(self, node: Node, peer: str, *, connect: Connect, clock: Callable[[], int]) -> None:
        self._node, self.peer, self._connect, self._clock = node, peer, connect, clock
        self._seen: Seen | None = None
        self._early: dict[bytes, tuple[bytes, Preview]] = {}
        self._early_from_s = 0.0
        self._shown: set[bytes] = set()
        self.state = "starting"
        self.position = 0

    async def run(self) -> None:
        """Follow, reconnecting with back-off and jitter, at most a minute apart, and at once when the peer asks us."""
        delay, before = BACKOFF_S[0], self.position
        while True:
            try:
                async with self._connect(self.peer) as channel:
                    stub = rpc.ExchangeStub(channel)
                    await self._ask_for_own(stub)
                    await self._stream(stub)
                delay = BACKOFF_S[0]
            except grpc.aio.AioRpcError as failure:
                self.state = f"down: {wire.error_from(failure)}"
            except TimeoutError:
                self.state = "down: no heartbeat"
            except TocsinError as error:
                if isinstance(error, LogClashError):
                    await self._node.clashes.keep(error)
                self.state = f"stopped: {error.reason}: {error}"
                log.warning("following failed", peer=self.peer, reason=error.reason, text=str(error))
            if self.position != before:
                before, delay = self.position, BACKOFF_S[0]
            wait_s = delay * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
            back = await self._node.pause(self.peer, wait_s, unreached=self.state.startswith("down"))
            delay = BACKOFF_S[0] if back else min(2 * delay, BACKOFF_S[1])

    async def catch_up(self) -> None:
        """Fetch what the peer has, also of our own log, up to its newest entry.

        Raises:
            TocsinError: The peer does not answer, or what it shows is not of one history.
        """
        try:
            async with self._connect(self.peer) as channel:
                await self._stream(rpc.ExchangeStub(channel), echo=True)
        except grpc.aio.AioRpcError as failure:
            raise wire.error_from(failure) from None
        except TimeoutError:
            raise wire.UnreachableError(f"{self.peer} fell silent") from None

    async def _ask_for_own(self, stub: rpc.ExchangeStub) -> None:
        """What the peer saw of our log: if that is more than we hold, we were restored from a backup, and stand back."""
        request = pb.GetCheckpointRequest(origin=self._node.origin)
        seen = await stub.GetCheckpoint(request, timeout=CALL_S)
        for note in filter(None, (seen.checkpoint, seen.later)):
            await self._node.hearing.hear(note, by=self.peer)
        if self._node.barred is not None:
            raise self._node.barred.with_traceback(None)

    async def _stream(self, stub: rpc.ExchangeStub, *, echo: bool = False) -> None:
        origin = self._node.followed.of(self.peer)
        stored = await self._node.stored_checkpoint(origin)
        self._seen = Seen.of(stored) if stored else None
        another = await self._read_log(stub, origin, echo=echo)
        if another is not None and await self._read_log(stub, another, echo=echo) is not None:
            raise ProofError(f"{self.peer} shows another log at each call")

    async def _read_log(self, stub: rpc.ExchangeStub, origin: str, *, echo: bool) -> str | None:
        """Take what comes of a log; the origin of another one that the peer shows instead, None at the end."""
        self.position = await self._node.cursor(origin)
        early = asyncio.get_running_loop().time() >= self._early_from_s
        request = pb.SubscribeRequest(
            position=self.position,
            follow=not echo,
            early=early and not echo,
            echo=echo,
            seen_size=self._seen.head.size if self._seen and self._seen.head.origin == origin else 0,
        )
        call = stub.Subscribe(request)
        cosigning = asyncio.create_task(self._cosign(stub))
        try:
            while True:
                # Not wait_for: before Python 3.12 it can swallow a cancellation, and the node would not stop.
                async with asyncio.timeout(3 * HEARTBEAT_S):
                    response = await call.read()
                if not isinstance(response, pb.SubscribeResponse):
                    return None
                if response.checkpoint and (shown := self._verify_note(response.checkpoint).origin) != origin:
                    self._require_later(Seen.of(response.checkpoint))
                    return shown
                await self._take(stub, origin, response)
                self.state = "following"
        finally:
            cosigning.cancel()
            call.cancel()
            self._forget_early()

    def _require_later(self, shown: Seen) -> None:
        """A peer goes on in another log, never back: that the later one continues is asked when it is read from its start."""
        if self._seen is None:
            return
        seen = history.number_of(self._seen.head.origin, self.peer)
        if history.number_of(shown.head.origin, self.peer) <= seen:
            history.require_extends(self._seen, shown, ())

    async def _pace(self, response: pb.SubscribeResponse) -> None:
        """A peer that sends too much is read slower: its own flow control holds it back."""
        sent = [*response.early, *(entry.data for entry in response.entries)]
        documents = sum(entry.kind == pb.ENTRY_KIND_DOCUMENT for entry in response.entries)
        amounts = {"envelopes": len(sent) - documents, "bytes": sum(map(len, sent)), "documents": documents}
        for what, amount in amounts.items():
            while wait_ms := self._node.quotas.wait_ms(self.peer, what, amount, self._clock()) if amount else 0:
                self.state = f"held back: too many {what}"
                await asyncio.sleep(min(wait_ms, LONGEST_WAIT_MS) / 1000)

    async def _preview(self, origin: str, data: bytes) -> None:
        """Check what came early, so that it need not be checked again, and pass it on."""
        held_bytes = sum(len(held) for held, _ in self._early.values())
        if len(self._early) >= EARLY_ENTRIES or held_bytes + len(data) > EARLY_BYTES:
            raise LimitError(f"{self.peer} sends more early than it confirms")
        preview = await self._node.preview(data, origin=origin, now_ms=self._clock())
        self._early[preview.id] = (data, preview)

    def _forget_early(self) -> None:
        """What a peer did not confirm in the call in which it was sent is worth nothing."""
        if self._early:
            self._node.readers.cut(list(self._early))
            self._early.clear()
            self._early_from_s = asyncio.get_running_loop().time() + NOT_EARLY_S

    async def _cosign(self, stub: rpc.ExchangeStub) -> None:
        """Sign the newest head we verified and persisted, at most once a second."""
        signed = 0
        while True:
            await asyncio.sleep(COSIGN_EVERY_S)
            if self._seen is None or self._seen.head.size == signed:
                continue
            note = await self._node.stored_checkpoint(self._seen.head.origin)
            try:
                if not await self._acknowledged(stub, checkpoint.parse(note)):
                    continue
                request = pb.AddCosignatureRequest(checkpoint=self._node.cosign(note))
                await stub.AddCosignature(request, timeout=CALL_S)
                signed = checkpoint.parse(note).size
            except (grpc.aio.AioRpcError, TocsinError) as error:
                # A peer that wants no cosignature loses only its own evidence.
                log.warning("cosignature not taken", peer=self.peer, text=str(error))

    async def _acknowledged(self, stub: rpc.ExchangeStub, head: checkpoint.Checkpoint) -> bool:
        """Whether the peer's log holds what ended keys of ours: until it does, a thief could have us cosign for him.

        Source: docs/PROTOCOL.md section 4.7.
        """
        for ending in self._node.own_endings() - self._shown:
            try:
                proof = await stub.GetProof(pb.GetProofRequest(leaf=ending, size=head.size), timeout=CALL_S)
            except grpc.aio.AioRpcError as failure:
                log.info("not cosigned: what ended a key is not there yet", peer=self.peer, text=failure.details())
                return False
            verify_inclusion(ending, proof.position, head.size, list(proof.inclusion), head.root)
            self._shown.add(ending)
        return True

    def _verify_note(self, note: bytes) -> checkpoint.Checkpoint:
        entry = self._node.trust.node(self.peer)
        if entry is None:
            raise ProofError(f"{self.peer} is in no roster any more")
        verified = checkpoint.verify(note, entry.log_key.suite, entry.log_key.key, name=self.peer)
        history.number_of(verified.origin, self.peer)
        return verified

    def _verify_kept(self, note: bytes) -> checkpoint.Checkpoint:
        """A head that the peer signed once, with whatever key."""
        return checkpoint.verify_any(note, listed(self._node.trust, self.peer), name=self.peer)

    async def _take(self, stub: rpc.ExchangeStub, origin: str, response: pb.SubscribeResponse) -> None:
        await self._pace(response)
        for data in response.early:
            await self._preview(origin, data)
        if response.early and not response.checkpoint:
            return
        head = self._verify_note(response.checkpoint)
        shown = Seen(head, response.checkpoint)
        # A rolled-back or forked log is caught here, and a new one that denies what was seen of the old.
        if (self._seen is None or self._seen.head.origin != origin) and history.number_of(origin, self.peer) > 1:
            heads = history.continued(head, response.entries, verify=self._verify_kept)
            history.require_continues(self._seen, shown, heads)
        else:
            history.require_extends(self._seen, shown, response.consistency)
        if not self.position <= response.next_position <= head.size:
            raise ProofError(f"{self.peer} counts beyond its own checkpoint, or backwards")
        taken: list[Waiting] = []
        # When the disk loses an entry, what comes after it in the log there must not come before it here.
        losses = self._node.losses
        for entry in response.entries:
            verify_inclusion(entry.leaf, entry.position, head.size, list(entry.proof), head.root)
            try:
                if entry.kind == pb.ENTRY_KIND_DOCUMENT:
                    await self._document(entry, origin)
                elif entry.kind == pb.ENTRY_KIND_ENVELOPE and not entry.pruned:
                    waiting = await self._envelope(stub, entry, origin, losses)
                    taken += [waiting] if waiting else []
                elif entry.kind == pb.ENTRY_KIND_REFUSAL:
                    refused = await self._node.refusals.take(entry, origin)
                    taken += [refused] if refused else []
            except WAITS as error:
                await self._node.park(entry, origin, error)
            except PeerError as error:
                # Only what the peer got wrong; a failure of our own disk must not move the cursor.
                taken.append(await self._node.refusals.refuse(entry, origin, error))
                log.warning(
                    "entry refused", peer=self.peer, position=entry.position, reason=error.reason, text=str(error)
                )
        # Queued behind the entries, so usually in their transaction. If one of them was lost already, nothing moves;
        # if one will be lost, so will the cursor that waits behind it.
        if response.entries:
            moved = self._node.move_cursor(origin, response.next_position, response.checkpoint, losses=losses)
            taken.append(moved)
        elif response.next_position != self.position or self._seen is None or head.size > self._seen.head.size:
            self._node.pass_by(origin, response.next_position, response.checkpoint)
        await asyncio.gather(*(waiting.durable for waiting in taken))
        if origin != self._node.followed.of(self.peer):
            self._node.followed.go_on(self.peer, origin)
            self._shown.clear()
            log.warning("the peer goes on in a new log, which continues the one seen", peer=self.peer, origin=origin)
        self.position, self._seen = response.next_position, shown

    async def _envelope(self, stub: rpc.ExchangeStub, entry: pb.Entry, origin: str, losses: int) -> Waiting | None:
        early, preview = self._early.pop(entry.leaf, (b"", None))
        entry.data = entry.data or early
        now_ms = self._clock()
        try:
            return await self._node.follow(
                entry.data, entry.leaf, origin=origin, now_ms=now_ms, preview=preview, losses=losses
            )
        except SenderEndedError as error:
            # The key ended. Whether only after the peer's log had the envelope, the peer can show.
            endings = self._node.admission.endings(entry.data)
            try:
                request = pb.GetPositionRequest(leaf=entry.leaf, endings=endings)
                shown = await stub.GetPosition(request, timeout=CALL_S) if endings else None
            except grpc.aio.AioRpcError:
                shown = None
            if shown is None:
                raise error from None
            place = Position.from_view(shown.log)
            return await self._node.follow(
                entry.data, entry.leaf, origin=origin, now_ms=now_ms, place=place, losses=losses
            )

    async def _document(self, entry: pb.Entry, origin: str) -> None:
        document = documents.decode(entry.data)
        if document.digest != entry.leaf:
            raise ProofError("the leaf is not that document")
        if await self._node.holds(entry.leaf):
            # A log that is read again from its start begins with what was replaced since.
            return
        [(_, error)] = await self._node.take_documents([entry.data], now_ms=self._clock(), origin=origin)
        if error is not None:
            raise error
        await self._node.retry_parked(self._clock())
