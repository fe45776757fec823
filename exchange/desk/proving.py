"""Proving: evidence of one item that this desk sent or read, from its archive and, when it answers, its node's log."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import grpc
from google.protobuf.message import DecodeError

from exchange import checkpoint, history, wire
from exchange.checkpoint import Checkpoint
from exchange.desk.holdings import Holdings
from exchange.desk.link import Link
from exchange.errors import ProofError
from exchange.evidence import verify
from exchange.evidence.build import ending_documents, evidence
from exchange.v1 import envelope_pb2 as env
from exchange.v1 import evidence_pb2 as pb
from exchange.v1 import exchange_pb2 as api
from exchange.v1 import exchange_pb2_grpc as rpc
from exchange.v1 import report_pb2 as rep
from keys.encoding import parse_canonical
from keys.errors import TocsinError, UsageError
from keys.trust import party_of

ANSWER_S: Final = 10


@dataclass(frozen=True, slots=True)
class Found:
    """Where an item is: the envelope's id and its index in it."""

    envelope: bytes
    index: int
    sender: str


class Proving:
    """Makes evidence."""

    def __init__(self, holdings: Holdings, link: Link) -> None:
        self._own, self._link = holdings, link

    def find(self, report: bytes) -> list[Found]:
        """Every place in the archive where a report of this id stands, sent or read."""
        return [
            Found(identity, index, sender)
            for identity, sender in self._envelopes()
            for index, raw in enumerate(self._own.archive.content(identity).items)
            if _report_id(raw) == report
        ]

    def _envelopes(self) -> Iterator[tuple[bytes, str]]:
        for received in self._own.archive.received():
            yield received.id, received.sender
        for identity in self._own.archive.sent():
            yield identity, self._own.name

    async def evidence(self, identity: bytes, index: int, *, ask: bool = True) -> tuple[bytes, list[str]]:
        """A file that proves one item, and what could not be had for it, in words.

        Args:
            identity: The envelope's id.
            index: The item in it, from 0.
            ask: Ask the node for cosigned heads; without, what the archive holds must do.

        Raises:
            UsageError: No such item here, or no receipt of it yet.
            EvidenceError: What would be made proves nothing; this must not happen.
        """
        held = self._own.archive.content(identity)
        if not 0 <= index < len(held.items):
            raise UsageError(f"the envelope holds items 0 to {len(held.items) - 1}, not {index}")
        header = parse_canonical(env.Header, parse_canonical(env.Pruned, held.outer).header)
        view, missing = self._archived(identity), []
        if ask:
            try:
                view = await self._asked(identity, header, view)
            except (grpc.aio.AioRpcError, TocsinError) as failure:
                error = wire.error_from(failure) if isinstance(failure, grpc.aio.AioRpcError) else failure
                missing.append(f"nothing newer than the archive holds: {error}")
        data = evidence(
            self._own.trust,
            outer=held.outer,
            items=held.items,
            salt_seed=held.salt_seed,
            index=index,
            logs=[view],
        )
        proof = verify.verify(data, self._own.trust.lineage)
        if not any(witness.cosigners for witness in proof.witnesses):
            missing.append("no cosignature of another party: the log's place is on the word of one node")
        return data, missing

    def _archived(self, identity: bytes) -> pb.LogView:
        received = self._own.archive.find_received(identity)
        if received is not None:
            return _view(received.checkpoint, identity, received.position, received.proof)
        receipt = self._own.archive.receipt(identity)
        if receipt is None:
            raise UsageError("the envelope has no receipt yet", hint="wait until it left the outbox")
        position, proof, note = receipt
        return _view(note, identity, position, proof)

    async def _asked(self, identity: bytes, header: env.Header, known: pb.LogView) -> pb.LogView:
        """The log as the node shows it now: with what ended the key, or under the newest head that others cosigned."""
        stub = await self._link.stub()
        endings = ending_documents(self._own.trust, header)
        if endings:
            request = api.GetPositionRequest(leaf=identity, endings=endings)
            log: pb.LogView = (await stub.GetPosition(request, timeout=ANSWER_S)).log
            return log
        known = await self._in_newest_log(stub, identity, known)
        at = known.places[0].position
        best: tuple[Checkpoint, bytes] | None = None
        origin = checkpoint.parse(known.heads[0].note).origin
        for node in self._own.trust.nodes():
            if party_of(node.node) == party_of(self._own.settings.node):
                continue
            asked = api.GetCheckpointRequest(origin=f"{origin}+{node.node}")
            note = (await stub.GetCheckpoint(asked, timeout=ANSWER_S)).checkpoint
            if not note:
                continue
            head = self._own.verify_kept_note(note)
            self._own.verify_kept_note(note, node=node.node)
            if head.origin != origin:
                raise ProofError("the node shows a head of another log")
            if head.size > at and (best is None or head.size > best[0].size):
                best = (head, note)
        if best is None:
            return known
        shown = await stub.GetProof(api.GetProofRequest(leaf=identity, size=best[0].size), timeout=ANSWER_S)
        return _view(best[1], identity, shown.position, tuple(shown.inclusion))

    async def _in_newest_log(self, stub: rpc.ExchangeStub, identity: bytes, known: pb.LogView) -> pb.LogView:
        """Where the log that the node keeps now holds the envelope; nobody cosigns the one before any more."""
        archive, node = self._own.archive, self._own.settings.node
        logs = [origin for origin in archive.origins() if origin.startswith(f"tocsin/{node}/")]
        newest = max((history.number_of(origin, node) for origin in logs), default=1)
        if history.number_of(checkpoint.parse(known.heads[0].note).origin, node) >= newest:
            return known
        shown = await stub.GetPlaces(api.GetPlacesRequest(leaves=[identity]), timeout=ANSWER_S)
        self._own.verify_note(shown.checkpoint)
        place = next((place for place in shown.places if place.leaf == identity), None)
        return known if place is None else _view(shown.checkpoint, identity, place.position, tuple(place.proof))


def _view(note: bytes, leaf: bytes, position: int, proof: tuple[bytes, ...]) -> pb.LogView:
    return pb.LogView(heads=[pb.Head(note=note)], places=[pb.LogPlace(leaf=leaf, position=position, proof=proof)])


def _report_id(raw: bytes) -> bytes:
    item = rep.Item()
    try:
        item.ParseFromString(raw)
    except DecodeError:
        return b""
    return item.report.id
