"""Orders: pack, unpack, take documents, audit the log, list what a key signed, accept a log, export contradictions, retire.

Carried out on a node that was started, whether it serves or only stands still. A serving node finds orders in its tray, a
directory only its owner can write to: the log is open in one process alone.
"""

import asyncio
import contextlib
import json
import secrets
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, Literal

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from exchange import files, retirement
from exchange.errors import PouchError
from exchange.node import audit, clashes, touched
from exchange.node.core import Node
from exchange.pouch.pack import pack, packed_up_to
from exchange.pouch.unpack import Unpacked, unpack
from exchange.wire import RemoteError
from keys import documents
from keys.errors import TocsinError, UsageError

TRAY: Final = "tray"
POLL_S: Final = 0.5
MAX_ORDERS: Final = 16
MAX_ORDER_BYTES: Final = 64 * 1024

log = structlog.get_logger("tocsin.pouch")


class Order(BaseModel):
    """What to do; paths are absolute. `position` and `seen` None: from where the last pouch for the receiver ended."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    do: Literal["pack", "unpack", "take", "touched", "audit", "accept", "clashes", "successor", "retire"]
    file: str = ""
    key: str = ""
    receiver: str = ""
    position: int | None = None
    seen: int | None = None


async def perform(node: Node, order: Order, clock: Callable[[], int], directory: Path) -> dict[str, Any]:
    """Carry out an order; what came of it, for people and machines.

    Args:
        node: Started.
        order: What to do.
        clock: Milliseconds UTC.
        directory: The node's own.

    Raises:
        TocsinError: It could not be done.
    """
    try:
        return await _perform(node, order, clock, directory)
    except OSError as error:
        raise UsageError(
            f"cannot use {order.file}: {error.strerror}", hint="may the node's user read and write it?"
        ) from None


async def _perform(node: Node, order: Order, clock: Callable[[], int], directory: Path) -> dict[str, Any]:
    path = Path(order.file)
    if order.do == "take":
        return await _take(node, path, clock())
    if order.do in ("successor", "retire"):
        return _retire(node, order, directory, clock())
    if order.do == "touched":
        return await asyncio.to_thread(touched.write, node, bytes.fromhex(order.key), path)
    if order.do == "audit":
        return {"findings": [asdict(finding) for finding in await asyncio.to_thread(audit.audit, node)]}
    if order.do == "accept":
        await node.followed.accept(order.file)
        return {"accepted": order.file}
    if order.do == "clashes":
        found = [(clash.rule, clash.seen.note, clash.shown.note) for clash in node.clashes.held]
        return {"files": [str(one) for one in await asyncio.to_thread(clashes.export, path, found)]}
    if order.do == "unpack":
        return shown(await unpack(node, path, clock=clock))
    last = await asyncio.to_thread(packed_up_to, node, order.receiver)
    position = last if order.position is None else order.position
    seen = position if order.seen is None else order.seen
    made = await asyncio.to_thread(pack, node, order.receiver, path, position=position, seen=seen, now_ms=clock())
    return {"file": order.file, "receiver": order.receiver, "position": position, **asdict(made)}


async def _take(node: Node, path: Path, now_ms: int) -> dict[str, Any]:
    """Documents of our own people, past the quotas of callers; what each became."""
    encoded = files.load_documents(path)
    known = {data for data in encoded if node.trust.holds(documents.decode(data).digest)}
    results = await node.take_documents(encoded, now_ms=now_ms)
    refused = [
        {"digest": identity.hex(), "rule": error.reason, "text": error.words()}
        for identity, error in results
        if error is not None
    ]
    return {"taken": len(encoded) - len(known) - len(refused), "known": len(known), "refused": refused}


def _retire(node: Node, order: Order, directory: Path, now_ms: int) -> dict[str, Any]:
    """Check what is to take the place of the node's exchange, and, unless only that is asked, end the exchange here."""
    asked = (node.trust, node.name, files.load_documents(Path(order.file)), bytes.fromhex(order.key))
    if order.do == "retire":
        found = retirement.retire(directory, *asked, now_ms=now_ms)
    else:
        found = retirement.check(*asked, now_ms=now_ms)
    return {"name": node.name, "dead": node.trust.lineage.hex(), "successor": found.lineage.hex()}


def shown(done: Unpacked) -> dict[str, Any]:
    """What became of a pouch, as plain values."""
    return {**asdict(done), "delivered": [identity.hex() for identity in done.delivered]}


class Tray:
    """The orders of a serving node.

    Args:
        node: Started.
        directory: The node's own.
        clock: Milliseconds UTC.
    """

    def __init__(self, node: Node, directory: Path, clock: Callable[[], int]) -> None:
        self._node, self._directory, self._tray, self._clock = node, directory, directory / TRAY, clock
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look for orders from now on; what a stopped node left is of no use to anyone."""
        files.private_directory(self._tray)
        for old in self._tray.iterdir():
            old.unlink()
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End; an order under way is given up, and may be given again."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            for request in await asyncio.to_thread(self._orders):
                answer = await self._answer(request)
                await asyncio.to_thread(self._reply, request, answer)
            await asyncio.sleep(POLL_S)

    def _orders(self) -> list[Path]:
        return sorted(self._tray.glob("*.order"))[:MAX_ORDERS]

    async def _answer(self, request: Path) -> dict[str, Any]:
        try:
            order = await asyncio.to_thread(_read, request)
            log.info("order", do=order.do, file=order.file)
            return {"done": await perform(self._node, order, self._clock, self._directory)}
        except TocsinError as error:
            return {"reason": error.reason, "text": str(error), "hint": error.hint}

    def _reply(self, request: Path, answer: dict[str, Any]) -> None:
        files.save_private(request.with_suffix(".answer"), json.dumps(answer).encode())
        request.unlink(missing_ok=True)


def _read(path: Path) -> Order:
    if path.stat().st_size > MAX_ORDER_BYTES:
        raise PouchError("the order is too long")
    try:
        return Order.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise PouchError(f"not an order: {error.errors()[0]['msg']}") from None


async def hand_in(directory: Path, order: Order, *, serves: Callable[[], bool]) -> dict[str, Any] | None:
    """Give an order to a serving node and wait for what came of it; None when it stopped serving before.

    Args:
        directory: The node's.
        order: What to do.
        serves: Whether the node's process is there.

    Raises:
        TocsinError: What the node says.
    """
    request = directory / TRAY / f"{secrets.token_hex(8)}.order"
    answer = request.with_suffix(".answer")
    files.save_private(request, order.model_dump_json().encode())
    while not answer.exists():
        if not serves():
            request.unlink(missing_ok=True)
            return None
        await asyncio.sleep(POLL_S / 5)
    said: dict[str, Any] = json.loads(answer.read_bytes())
    answer.unlink()
    if "done" not in said:
        raise RemoteError(said["text"], reason=said["reason"], status="ABORTED", hint=said["hint"], metadata={})
    done: dict[str, Any] = said["done"]
    return done
