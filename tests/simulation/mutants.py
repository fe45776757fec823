"""Bugs planted on purpose: if a simulation does not find these, it finds nothing. They exist here alone."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from unittest import mock

from exchange import checkpoint
from exchange.desk import asking, sending
from exchange.desk.archive import Archive, Received
from exchange.desk.reading import Reading
from exchange.node import intake
from exchange.node.follow import Follower
from exchange.node.service import ExchangeService
from exchange.store.contract import NewEntry
from exchange.store.sqlite import SqliteStore
from exchange.v1 import exchange_pb2 as pb
from exchange.v1 import exchange_pb2_grpc as rpc
from tests.simulation.exchange import Simulation
from tests.simulation.machines import NodeMachine


class _CursorFirst(Follower):
    async def _take(self, stub: rpc.ExchangeStub, origin: str, response: pb.SubscribeResponse) -> None:
        if response.next_position != self.position:
            self._node.store.append([], cursors={origin: response.next_position}, notes={})
        await super()._take(stub, origin, response)


class CursorOutsideTheTransaction(Simulation):
    """A follower writes how far it read before what it read."""

    follower_class = _CursorFirst


class _Unflushed(SqliteStore):
    """Commits come back before the disk has them; the disk has them a little later."""

    machine: NodeMachine

    def append(self, entries: Sequence[NewEntry], **rest: Any) -> list[int]:
        positions = super().append(entries, **rest)
        loop = self.machine.sim.loop
        loop.call_later(loop.random.random() * 2, self.flush)
        return positions

    def flush(self) -> None:
        """What the disk holds now survives a loss of power."""
        if self.machine.up and self.machine.store is self:
            image = _image(self.machine)
            shutil.rmtree(image, ignore_errors=True)
            image.mkdir()
            for path in self.machine.directory.glob("log*"):
                copy = shutil.copytree if path.is_dir() else shutil.copyfile
                copy(path, image / path.name)


def _image(machine: NodeMachine) -> Path:
    return machine.directory / "image"


class ReceiptBeforeFsync(Simulation):
    """A node answers before its disk holds what it answers for."""

    def open_store(self, machine: NodeMachine) -> SqliteStore:
        store = _Unflushed(machine.directory / "log.db")
        store.machine = machine
        machine.store, machine.up = store, True
        store.flush()
        return store

    def power_off(self, machine: NodeMachine) -> None:
        for path in machine.directory.glob("log*"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        shutil.copytree(_image(machine), machine.directory, dirs_exist_ok=True)


class _Replaying(ExchangeService):
    """A hostile node: gives now and then what it gave before, proved like everything else."""

    async def Subscribe(self, request: Any, context: Any) -> AsyncIterator[pb.SubscribeResponse]:  # noqa: N802
        past: list[pb.Entry] = []
        async for response in super().Subscribe(request, context):
            size = checkpoint.parse(response.checkpoint).size if response.checkpoint else 0
            for entry in past[-2:] if size else ():
                again = response.entries.add()
                again.CopyFrom(entry)
                del again.proof[:]
                again.proof.extend(self._node.store.inclusion(entry.position, size))
            past += [e for e in response.entries if e.kind == pb.ENTRY_KIND_ENVELOPE and e.position < size]
            yield response
            await asyncio.sleep(0)


class Replays(Simulation):
    """Both nodes repeat what they gave."""

    service_class = _Replaying


class MissingReplayCheck(Replays):
    """And desks do not look whether they had it."""

    @staticmethod
    @contextlib.contextmanager
    def planted() -> Iterator[None]:
        keep = Archive.keep_received

        def keep_again(archive: Archive, envelope: Received) -> None:
            archive._db.execute("DELETE FROM received WHERE id = ?", (envelope.id,))
            archive._db.execute("DELETE FROM content WHERE id = ?", (envelope.id,))
            archive._db.execute("DELETE FROM content WHERE id = ?", (envelope.id,))
            keep(archive, envelope)

        with (
            mock.patch.object(Archive, "knows", return_value=False),
            mock.patch.object(Archive, "said", lambda _, __, named: ["new"] * len(named)),
            mock.patch.object(Archive, "keep_received", keep_again),
        ):
            yield


class _CosignsFirst(Follower):
    async def _take(self, stub: rpc.ExchangeStub, origin: str, response: pb.SubscribeResponse) -> None:
        if response.checkpoint:
            request = pb.AddCosignatureRequest(checkpoint=self._node.cosign(response.checkpoint))
            await stub.AddCosignature(request)
        await super()._take(stub, origin, response)


class CosignsBeforeItPersists(Simulation):
    """A follower signs a head that its disk does not hold yet."""

    follower_class = _CosignsFirst


class CarelessDesks(Simulation):
    """Desks that come back from a backup do not ask what they had sent: not a bug to be found, since nodes refuse it."""

    @staticmethod
    @contextlib.contextmanager
    def planted() -> Iterator[None]:
        async def nothing(*_: object, **__: object) -> None:
            return

        with mock.patch.object(sending, "renew_streams", nothing):
            yield


class ForgetsTheStreamCheck(CarelessDesks):
    """And nodes take two envelopes at one number of a stream."""

    @staticmethod
    @contextlib.contextmanager
    def planted() -> Iterator[None]:
        with CarelessDesks.planted(), mock.patch.object(intake, "check_stream"):
            yield


class AskForNothing(Simulation):
    """Desks ask for no missing number: not a bug to be found, since all comes by itself."""

    @staticmethod
    @contextlib.contextmanager
    def planted() -> Iterator[None]:
        async def nothing(*_: object) -> AsyncIterator[pb.GetNumbersResponse]:
            for answer in ():
                yield answer

        with mock.patch.object(asking, "numbers", nothing):
            yield


class CursorBeforeArchive(AskForNothing):
    """And write how far they read before they archive what they read; who asks for what is missing mends that."""

    @staticmethod
    @contextlib.contextmanager
    def planted() -> Iterator[None]:
        take = Reading._take

        def cursor_first(reading: Reading, channel: str, response: pb.SubscribeResponse, *rest: Any) -> Any:
            with reading._own.archive.transaction():
                reading._own.archive.set_cursor(channel, response.next_position)
            return take(reading, channel, response, *rest)

        with AskForNothing.planted(), mock.patch.object(Reading, "_take", cursor_first):
            yield


HARMLESS: Final = (Replays, CarelessDesks, AskForNothing)
"""Against these the product holds."""

BUGS: Final = (
    CursorOutsideTheTransaction,
    ReceiptBeforeFsync,
    MissingReplayCheck,
    CosignsBeforeItPersists,
    ForgetsTheStreamCheck,
    CursorBeforeArchive,
)
"""Each of them must be found; the other kinds hold."""
