"""The service: who asks, message to values, the node decides, values to message."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final

import structlog

from exchange import envelope, tls, wire
from exchange.errors import IdentityError, LimitError
from exchange.node import paging
from exchange.node.attaching import AttachmentCalls
from exchange.node.core import Node
from exchange.node.entries import entry_message
from exchange.node.places import PlaceCalls
from exchange.node.reading import Batch
from exchange.node.writer import Receipt
from exchange.v1 import exchange_pb2 as pb
from exchange.v1 import exchange_pb2_grpc as rpc
from keys import suite
from keys.encoding import digest, pae
from keys.errors import SignatureError, TocsinError
from keys.trust import party_of

MAX_PUBLISH_BYTES: Final = 1_100_000
MAX_IN_FLIGHT: Final = 64
MAX_ENVELOPES: Final = 256
MAX_POSITION: Final = 2**62
MAX_DOCUMENTS: Final = 256
CACHED_CALLERS: Final = 4096

log = structlog.get_logger("tocsin.node")
Outcome = tuple[bytes, asyncio.Future[Receipt] | TocsinError]
"""An envelope's id, and its receipt to come or its refusal."""


class Callers:
    """Who is at the other end of a call, checked against the rosters of this moment."""

    def __init__(self, node: Node, clock: Callable[[], int]) -> None:
        self._node, self._clock = node, clock
        self._known: dict[tuple[bytes, int, int], str] = {}

    def caller_of(self, context: wire.Context) -> str:
        """The desk or node that calls.

        Raises:
            IdentityError: Unknown, or a certificate by another CA than the one pinned for its name.
        """
        pem = wire.peer_pem(context)
        now_ms = self._clock()
        # A roster change raises the version, so a removed desk is refused at its next call; the hour bounds expiry.
        key = (pem, self._node.trust.version, now_ms // 3_600_000)
        if key not in self._known:
            if len(self._known) >= CACHED_CALLERS:
                self._known.clear()
            self._known[key] = tls.caller_name(pem, self._node.trust, now_ms=now_ms)
        return self._known[key]


class ExchangeService(AttachmentCalls, PlaceCalls):
    """The mutual-TLS listener."""

    def __init__(self, node: Node, clock: Callable[[], int]) -> None:
        self._node, self._clock = node, clock
        self.places = node.places
        self._callers = Callers(node, clock)

    async def _caller(self, context: wire.Context) -> str:
        try:
            return self._callers.caller_of(context)
        except TocsinError as error:
            self._node.counters.refuse(error.reason)
            log.warning("caller refused", reason=error.reason, text=str(error))
            await wire.abort(context, error)

    async def Publish(  # noqa: N802 - the name is the protocol's
        self, requests: AsyncIterator[pb.PublishRequest], context: wire.Context
    ) -> AsyncIterator[pb.PublishResponse]:
        """Envelopes in, receipts out, in order; reading runs ahead of the disk by at most MAX_IN_FLIGHT messages."""
        caller = await self._caller(context)
        waiting: asyncio.Queue[list[Outcome] | None] = asyncio.Queue(MAX_IN_FLIGHT)

        async def take() -> None:
            try:
                async for request in requests:
                    await waiting.put(await self._publish_request(request, caller))
            except Exception:
                # Not when cancelled: nobody reads the queue then, and it may be full.
                await waiting.put(None)
                raise
            await waiting.put(None)

        taking = asyncio.create_task(take())
        try:
            while (outcomes := await waiting.get()) is not None:
                yield await self._publish_response(outcomes)
            await taking
        except LimitError as error:
            await wire.abort(context, error)
        finally:
            taking.cancel()

    async def _publish_request(self, request: pb.PublishRequest, caller: str) -> list[Outcome]:
        if len(request.envelopes) > MAX_ENVELOPES:
            raise LimitError(f"{len(request.envelopes)} envelopes in one message; at most {MAX_ENVELOPES}")
        if sum(len(data) for data in request.envelopes) > MAX_PUBLISH_BYTES:
            error = LimitError(
                f"at most {MAX_PUBLISH_BYTES} bytes of envelopes in one message", hint="send fewer at once"
            )
            return [(digest(data), error) for data in request.envelopes]
        return [await self._publish(data, caller) for data in request.envelopes]

    async def _publish(self, data: bytes, caller: str) -> Outcome:
        try:
            return await self._node.publish(data, by=caller, now_ms=self._clock())
        except TocsinError as error:
            log.info("envelope refused", caller=caller, reason=error.reason, text=str(error))
            return _identity(data), error

    async def _publish_response(self, outcomes: list[Outcome]) -> pb.PublishResponse:
        response = pb.PublishResponse()
        for identity, outcome in outcomes:
            try:
                if isinstance(outcome, TocsinError):
                    raise outcome
                # Shielded: a caller that goes away must not cancel a commit others share.
                receipt = await asyncio.shield(outcome)
            except TocsinError as error:
                response.results.add(
                    id=identity,
                    rule=error.reason,
                    text=error.words(),
                    retry_after_ms=int(error.metadata.get("retry_after_ms", "0")),
                )
                continue
            response.results.add(id=receipt.id, position=receipt.position, proof=receipt.proof)
            response.checkpoint = receipt.checkpoint
        # Receipts of one message may come from several commits: prove them all in the newest tree.
        await self._align(response)
        return response

    async def _align(self, response: pb.PublishResponse) -> None:
        taken = [result for result in response.results if not result.rule]
        if len(taken) < 2:
            return
        proofs, note = await self._node.places.prove([result.position for result in taken])
        response.checkpoint = note
        for result, proof in zip(taken, proofs, strict=True):
            del result.proof[:]
            result.proof.extend(proof)

    async def Subscribe(  # noqa: N802
        self, request: pb.SubscribeRequest, context: wire.Context
    ) -> AsyncIterator[pb.SubscribeResponse]:
        """Log entries the caller may read."""
        caller = await self._caller(context)
        try:
            batches = self._node.subscribe(
                caller,
                position=min(request.position, MAX_POSITION),
                channels=frozenset(request.channels) or None,
                follow=request.follow,
                echo=request.echo,
                early=request.early,
                seen_size=request.seen_size,
            )
            async with contextlib.aclosing(batches):
                async for batch in batches:
                    # A live connection outlives its removal from the roster: ask again before each batch.
                    await self._caller(context)
                    yield _subscribe_response(batch)
        except TocsinError as error:
            await wire.abort(context, error)

    async def GetDocuments(  # noqa: N802
        self, request: pb.GetDocumentsRequest, context: wire.Context
    ) -> pb.GetDocumentsResponse:
        """Documents, in an order in which they can be taken."""
        await self._caller(context)
        held = [d for d in self._node.documents.kept() if request.type in ("", d.type)]
        try:
            given, after = paging.page(held, request.page_token, most=request.page_size)
        except TocsinError as error:
            await wire.abort(context, error)
        taken_ms = [self._node.trust.taken_ms(document.digest) for document in given]
        return pb.GetDocumentsResponse(
            documents=[document.encode() for document in given], taken_ms=taken_ms, next_page_token=after
        )

    async def PutDocuments(  # noqa: N802
        self, request: pb.PutDocumentsRequest, context: wire.Context
    ) -> pb.PutDocumentsResponse:
        """Documents from a member; only what extends a chain is kept."""
        caller = await self._caller(context)
        if len(request.documents) > MAX_DOCUMENTS:
            await wire.abort(context, LimitError(f"at most {MAX_DOCUMENTS} documents a call"))
        response = pb.PutDocumentsResponse()
        try:
            taken = await self._node.take_documents(request.documents, now_ms=self._clock(), by=caller)
        except TocsinError as error:
            # The disk failed: what was taken is kept with the next commit that works, and is offered again.
            await wire.abort(context, error)
        for identity, refused in taken:
            rule, text = (refused.reason, refused.words()) if refused else ("", "")
            response.results.add(digest=identity, rule=rule, text=text)
        return response

    async def GetCheckpoint(  # noqa: N802
        self, request: pb.GetCheckpointRequest, context: wire.Context
    ) -> pb.GetCheckpointResponse:
        """The newest checkpoint of a log."""
        caller = await self._caller(context)
        if request.seen:
            try:
                await self._node.hearing.hear(request.seen, by=caller)
            except TocsinError as error:
                # Signed with a key that counts no more, or a lie: it says nothing about our log.
                log.info("a head that is shown as ours is not", caller=caller, reason=error.reason, text=str(error))
        response = pb.GetCheckpointResponse(
            checkpoint=await self._node.stored_checkpoint(request.origin[:256]),
            later=await self._node.later_checkpoint(request.origin[:256]),
        )
        if request.origin in ("", self._node.origin):
            response.cosigned = self._node.witnesses.newest()
        return response

    async def GetProof(  # noqa: N802
        self, request: pb.GetProofRequest, context: wire.Context
    ) -> pb.GetProofResponse:
        """Proofs of this log."""
        await self._caller(context)
        try:
            return await self._node.places.proof(request.leaf, request.size, request.from_size)
        except TocsinError as error:
            await wire.abort(context, error)

    async def GetPosition(  # noqa: N802
        self, request: pb.GetPositionRequest, context: wire.Context
    ) -> pb.GetPositionResponse:
        """Where this log holds an entry, and under which cosigned head."""
        await self._caller(context)
        try:
            position = await self._node.positions.show(request.leaf, request.endings)
        except TocsinError as error:
            await wire.abort(context, error)
        return pb.GetPositionResponse(log=position.view())

    async def GetForks(  # noqa: N802
        self, request: pb.GetForksRequest, context: wire.Context
    ) -> pb.GetForksResponse:
        """Pairs of envelopes that cannot both stand."""
        caller = await self._caller(context)
        start = await self._page(request.page_token, context)
        forks, after, note = await self._node.shown_forks(caller, start)
        response = pb.GetForksResponse(checkpoint=note, next_page_token=str(after) if after else "")
        for fork in forks:
            record = fork.record
            response.forks.add(
                sender=record.sender,
                stream=record.stream,
                seq=record.seq,
                time_ms=record.time_ms,
                first=entry_message(*fork.first),
                second=entry_message(*fork.second),
            )
        return response

    async def _page(self, token: str, context: wire.Context) -> int:
        if token and not token.isdecimal():
            await wire.abort(context, LimitError("the page token is not one of ours"))
        return int(token[:18] or "0")

    async def AddCosignature(  # noqa: N802
        self, request: pb.AddCosignatureRequest, context: wire.Context
    ) -> pb.AddCosignatureResponse:
        """Another node's signature under one of our checkpoints."""
        caller = await self._caller(context)
        try:
            await self._node.witnesses.add(request.checkpoint, by=caller)
        except TocsinError as error:
            await wire.abort(context, error)
        return pb.AddCosignatureResponse()


def _subscribe_response(batch: Batch) -> pb.SubscribeResponse:
    return pb.SubscribeResponse(
        entries=[entry_message(row, proof) for row, proof in batch.rows],
        checkpoint=batch.checkpoint,
        consistency=batch.consistency,
        next_position=batch.next_position,
        early=batch.early,
    )


def _identity(data: bytes) -> bytes:
    try:
        return envelope.parse(data).id
    except TocsinError:
        return digest(data)


class EnrolService(rpc.ExchangeServicer):
    """The listener that asks for no client certificate: an expired certificate is no dead end."""

    def __init__(
        self, node: Node, issue: Callable[[str, bytes], tuple[bytes, bytes]], clock: Callable[[], int]
    ) -> None:
        self._node, self._issue, self._clock = node, issue, clock

    async def Enrol(self, request: pb.EnrolRequest, context: wire.Context) -> pb.EnrolResponse:  # noqa: N802
        """A certificate for a desk that proves one of its rostered keys."""
        try:
            certificate, ca = self._enrol(request)
        except TocsinError as error:
            self._node.counters.refuse(error.reason)
            # One text whether or not the desk exists: this listener is open to anyone.
            await wire.abort(context, IdentityError("enrolment refused", hint="check the desk's name, key and clock"))
        log.info("desk enrolled", desk=request.desk)
        return pb.EnrolResponse(certificate=certificate, ca=ca)

    def _enrol(self, request: pb.EnrolRequest) -> tuple[bytes, bytes]:
        trust, now_ms = self._node.trust, self._clock()
        skew_ms = trust.agreement(now_ms).body.skew_ms
        if abs(request.time_ms - now_ms) > skew_ms or len(request.csr) > 8192:
            raise IdentityError("the request is out of date or too large")
        if request.desk not in trust.hosted(self._node.name):
            raise IdentityError("the desk is not hosted here")
        listed = trust.roster(party_of(request.desk)).desks[request.desk]
        message = pae("tocsin/1/enrol", trust.lineage, self._node.name, request.desk, request.csr, request.time_ms)
        for key in listed.keys.values():
            if trust.key_ended(request.desk, key.id):
                continue
            try:
                suite.verify(key.suite, key.public, message, request.signature, ctx="tocsin/1/enrol")
            except SignatureError:
                continue
            return self._issue(request.desk, request.csr)
        raise SignatureError("the request is signed by no current key of the desk")
