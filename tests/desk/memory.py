"""Desks on a node in memory, under a clock the test turns: real keys, seals, proofs and files, no network, no waiting."""

import asyncio
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from exchange import checkpoint, envelope, files, history, merkle, tls
from exchange.desk import Desk, DeskSettings, rekey
from exchange.desk.holdings import Holdings
from exchange.desk.link import Link
from exchange.v1 import exchange_pb2 as pb
from keys import documents
from keys.errors import TocsinError
from keys.keystore import Keystore
from keys.trust import Trust
from tests.world import MISSIONS, World


@dataclass
class Clock:
    """Milliseconds UTC; stands until it is turned."""

    now_ms: int

    def __call__(self) -> int:
        return self.now_ms


@dataclass
class Log:
    """One log that both nodes of the world show, each under its own key. It admits nothing: that is the desks' to check."""

    world: World
    clock: Clock
    entries: list[tuple[bytes, int, bytes]] = field(default_factory=list)
    number: int = 1
    """Of the log: another one when the node goes on in it."""
    hide: Callable[[bytes], bool] = lambda data: False
    """What a withholding node shows as not concerning the caller."""
    lacks: Callable[[str, bytes], bool] = lambda node, leaf: False
    """What is not in the log of a node that is asked for places."""
    places_asked: list[pb.GetPlacesRequest] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.trust = Trust(self.world.lineage)
        for document in self.world.documents:
            self.take(document.encode())

    def take(self, data: bytes) -> None:
        """A document from anyone."""
        document = documents.decode(data)
        if not self.trust.holds(document.digest):
            self.trust.take(document, now_ms=self.clock())
            self.entries.append((document.digest, pb.ENTRY_KIND_DOCUMENT, data))

    def publish(self, data: bytes) -> int:
        """An envelope from anyone; its position."""
        parsed = envelope.parse(data)
        leaves = [leaf for leaf, _, _ in self.entries]
        if parsed.id not in leaves:
            self.entries.append((parsed.id, pb.ENTRY_KIND_ENVELOPE, data))
            leaves.append(parsed.id)
        return leaves.index(parsed.id)

    def begin_another(self, head: bytes) -> None:
        """The node goes on in another log, which continues the one of a head and holds what this one holds."""
        self.entries.insert(0, (history.head_leaf(head), pb.ENTRY_KIND_HEAD, head))
        self.number += 1

    def note(self, node: str) -> bytes:
        """The head, signed now."""
        root = merkle.root_of([leaf for leaf, _, _ in self.entries])
        key = self.world.log_keys[node]
        return checkpoint.sign(
            f"tocsin/{node}/{self.number}", len(self.entries), root, key, name=node, time_ms=self.clock()
        )

    def proof(self, index: int) -> list[bytes]:
        """Inclusion in the head."""
        leaves = [leaf for leaf, _, _ in self.entries]
        return merkle.inclusion(
            index, len(leaves), lambda level, k: merkle.root_of(leaves[k << level : (k + 1) << level])
        )

    def consistency(self, old: int, new: int) -> list[bytes]:
        """That the log of a size extends the one of an older size, as far as the log now held can show."""
        leaves = [leaf for leaf, _, _ in self.entries][:new]
        if not 0 < old < len(leaves):
            return []
        return merkle.consistency(
            old, len(leaves), lambda level, k: merkle.root_of(leaves[k << level : (k + 1) << level])
        )

    def numbers(self, node: str, request: pb.GetNumbersRequest) -> pb.GetNumbersResponse:
        """What is at some numbers of a stream, but for what is hidden."""
        answer = pb.GetNumbersResponse(checkpoint=self.note(node))
        if not request.stream:
            return self._newest_of(request, answer)
        for position, (leaf, kind, data) in enumerate(self.entries):
            if kind != pb.ENTRY_KIND_ENVELOPE or self.hide(data):
                continue
            header = header_of(data)
            if (header.sender, header.stream) != (request.sender, request.stream):
                continue
            answer.last_seq, answer.last_id = header.seq, leaf
            if request.first_seq and request.first_seq <= header.seq <= request.last_seq:
                answer.entries.add(position=position, kind=kind, data=data, leaf=leaf, proof=self.proof(position))
        return answer

    def _newest_of(self, request: pb.GetNumbersRequest, answer: pb.GetNumbersResponse) -> pb.GetNumbersResponse:
        for position, (leaf, kind, data) in enumerate(self.entries):
            if kind == pb.ENTRY_KIND_ENVELOPE and header_of(data).sender == request.sender:
                answer.last_seq, answer.last_id = header_of(data).seq, leaf
                del answer.entries[:]
                if request.first_seq:
                    answer.entries.add(position=position, kind=kind, data=data, leaf=leaf, proof=self.proof(position))
        return answer

    def places(self, node: str, request: pb.GetPlacesRequest) -> pb.GetPlacesResponse:
        """Where the log of a node holds leaves: the same everywhere, but for what it lacks."""
        self.places_asked.append(request)
        answer = pb.GetPlacesResponse(checkpoint=self.note(node))
        for position, (leaf, _, _) in enumerate(self.entries):
            if leaf in request.leaves and not self.lacks(node, leaf):
                answer.places.add(leaf=leaf, position=position, proof=self.proof(position))
        return answer

    def read(self, node: str, request: pb.SubscribeRequest) -> pb.SubscribeResponse:
        """Everything from a position on, in one answer."""
        answer = pb.SubscribeResponse(checkpoint=self.note(node), next_position=len(self.entries))
        answer.consistency.extend(self.consistency(request.seen_size, len(self.entries)))
        for position, (leaf, kind, data) in enumerate(self.entries):
            wanted = kind != pb.ENTRY_KIND_ENVELOPE or channel_of(data) in request.channels
            if position >= request.position and wanted and not self.hide(data):
                answer.entries.add(position=position, kind=kind, data=data, leaf=leaf, proof=self.proof(position))
        return answer


def header_of(data: bytes) -> envelope.pb.Header:
    """The header of an envelope, unverified."""
    header = envelope.pb.Header()
    header.ParseFromString(envelope.parse(data).outer.header)
    return header


def channel_of(data: bytes) -> str:
    """Channel an envelope is on, unverified."""
    return header_of(data).channel


class _Call:
    """A stream: what is written is answered, what was answered is read."""

    def __init__(self, answer: Callable[[Any], Any] | None = None, ready: tuple[Any, ...] = ()) -> None:
        self._answer, self._waiting = answer, asyncio.Queue[Any]()
        for one in ready:
            self._waiting.put_nowait(one)
        if answer is None:
            self._waiting.put_nowait(grpc.aio.EOF)

    async def write(self, request: Any) -> None:
        assert self._answer is not None
        self._waiting.put_nowait(self._answer(request))

    async def read(self) -> Any:
        return await self._waiting.get()

    def cancel(self) -> None:
        self._waiting.put_nowait(grpc.aio.EOF)


class _Stub:
    def __init__(self, log: Log, node: str) -> None:
        self._log, self._node = log, node

    async def GetDocuments(self, request: Any, timeout: float) -> pb.GetDocumentsResponse:  # noqa: N802 - the service's name
        return pb.GetDocumentsResponse(documents=[d.encode() for d in self._log.trust.documents()])

    async def PutDocuments(self, request: pb.PutDocumentsRequest, timeout: float) -> pb.PutDocumentsResponse:  # noqa: N802
        for data in request.documents:
            try:
                self._log.take(data)
            except TocsinError:
                continue
        return pb.PutDocumentsResponse()

    async def GetCheckpoint(self, request: Any, timeout: float) -> pb.GetCheckpointResponse:  # noqa: N802
        return pb.GetCheckpointResponse(checkpoint=self._log.note(self._node))

    async def GetProof(self, request: pb.GetProofRequest, timeout: float) -> pb.GetProofResponse:  # noqa: N802
        return pb.GetProofResponse(consistency=self._log.consistency(request.from_size, request.size))

    async def GetNumbers(self, request: pb.GetNumbersRequest, timeout: float) -> pb.GetNumbersResponse:  # noqa: N802
        return self._log.numbers(self._node, request)

    async def GetPlaces(self, request: pb.GetPlacesRequest, timeout: float) -> pb.GetPlacesResponse:  # noqa: N802
        return self._log.places(request.node or self._node, request)

    def Subscribe(self, request: pb.SubscribeRequest) -> _Call:  # noqa: N802
        return _Call(ready=(self._log.read(self._node, request),))

    def Publish(self) -> _Call:  # noqa: N802
        def answer(request: pb.PublishRequest) -> pb.PublishResponse:
            positions = [self._log.publish(data) for data in request.envelopes]
            response = pb.PublishResponse(checkpoint=self._log.note(self._node))
            for position in positions:
                response.results.add(
                    id=self._log.entries[position][0], position=position, proof=self._log.proof(position)
                )
            return response

        return _Call(answer)


def ahead(stub: _Stub, request: pb.SubscribeRequest) -> _Call:
    """Subscribe as it goes where the node sends each envelope early, and confirms it with an entry that has no data."""
    confirmed = stub._log.read(stub._node, request)
    early = [entry.data for entry in confirmed.entries if entry.kind == pb.ENTRY_KIND_ENVELOPE]
    for entry in confirmed.entries:
        if entry.kind == pb.ENTRY_KIND_ENVELOPE:
            entry.ClearField("data")
    return _Call(ready=(pb.SubscribeResponse(early=early), confirmed))


class MemoryLink(Link):
    """The link of a desk to a log in memory."""

    def __init__(self, holdings: Holdings, log: Log) -> None:
        super().__init__(holdings)
        self._stub = _Stub(log, holdings.settings.node)

    async def stub(self) -> Any:
        return self._stub


def make_desk(root: Path, world: World, name: str, *, signing: tuple[bytes, str] | None = None) -> Path:
    """The directory of a desk with the signing key the roster lists: its seed, or what `signing` gives as (secret, kind)."""
    directory = files.private_directory(root / name.replace("/", "-"))
    node = MISSIONS[name.partition("/")[0]][1]
    files.save_settings(DeskSettings(desk=name, lineage=world.lineage.hex(), node=node), directory / "desk.toml")
    files.save_bundle(directory / files.BUNDLE, world.documents)
    key = world.desks[name]
    with Keystore.create(directory / "desk.keys", b"") as store:
        secret, kind = signing or (key.seed(), "signing")
        store.put("signing", secret, kind=kind, public=key.public)
        rekey.make(store)
        store.put("tls", tls.key_pem(tls.new_key()), kind="tls")
    return directory


@dataclass
class Exchange:
    """Desks around one log."""

    root: Path
    world: World
    log: Log
    clock: Clock
    directories: Mapping[str, Path]

    def open(self, desk: str) -> Desk:
        """A desk that does not run yet."""
        return Desk.open(self.directories[desk], clock=self.clock, link=lambda holdings: MemoryLink(holdings, self.log))

    def copied(self, root: Path) -> "Exchange":
        """The same desks and documents in another place, before anything was said."""
        shutil.copytree(self.root, root, dirs_exist_ok=True)
        clock = Clock(self.clock.now_ms)
        log = Log(self.world, clock)
        for _, _, data in self.log.entries:
            log.take(data)
        return Exchange(root, self.world, log, clock, {name: root / at.name for name, at in self.directories.items()})

    def keystore(self, desk: str) -> Keystore:
        """A desk's keystore, as `tocsin-keys` opens it."""
        return Keystore.open(self.directories[desk] / "desk.keys", b"")

    async def synchronise(self) -> None:
        """Every desk makes its cards, gives them to the log, and learns of the others'."""
        for _ in range(2):
            for name in self.directories:
                desk = self.open(name)
                await desk.synchronise()
                desk.close()


def exchange(root: Path, world: World, *desks: str) -> Exchange:
    """Some desks of a world that was founded without key cards; the others have none."""
    clock = Clock(world.now_ms)
    directories = {name: make_desk(root, world, name) for name in desks}
    return Exchange(root, world, Log(world, clock), clock, directories)
