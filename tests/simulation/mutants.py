"""Bugs planted on purpose: if a simulation does not find these, it finds nothing. They exist here alone."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from exchange import checkpoint
from exchange.desk.archive import Archive
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

    def append(
        self,
        entries: Sequence[NewEntry],
        *,
        cursors: Mapping[str, int] | None = None,
        notes: Mapping[str, bytes] | None = None,
    ) -> list[int]:
        positions = super().append(entries, cursors=cursors, notes=notes)
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

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._kept = Archive.knows, Archive.said, Archive.keep_received
        keep = Archive.keep_received

        def keep_again(archive: Archive, envelope: Any) -> None:
            archive._db.execute("DELETE FROM received WHERE id = ?", (envelope.id,))
            keep(archive, envelope)

        Archive.knows = lambda *_: False  # type: ignore[method-assign]
        Archive.said = lambda _, __, named: ["new"] * len(named)  # type: ignore[method-assign]
        Archive.keep_received = keep_again  # type: ignore[method-assign]

    def stop(self) -> None:
        super().stop()
        Archive.knows, Archive.said, Archive.keep_received = self._kept  # type: ignore[method-assign]
