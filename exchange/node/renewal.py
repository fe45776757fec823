"""A node whose disk came back from a backup goes on in a new log (docs/PROTOCOL.md section 8.7).

Its old log cannot go on: others hold signed heads of it that it no longer extends. The new one begins with the newest of
those heads, holds again what is left, and what was lost as far as peers took it. It is made beside the old one, which stays
as it is, and counts once its directory has its name: a power cut leaves the one or the other.
"""

import asyncio
import shutil
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from exchange import checkpoint, history
from exchange.clock import now_ms
from exchange.errors import ProofError
from exchange.history import Seen
from exchange.node.app import App
from exchange.node.core import Node
from exchange.node.follow import Follower
from exchange.store.contract import NewEntry, Store
from exchange.store.segments import sync_directory
from exchange.store.sqlite import SqliteStore
from exchange.v1 import exchange_pb2 as pb
from exchange.wire import UnreachableError
from keys.errors import TocsinError, UsageError

log = structlog.get_logger("tocsin.node")
COPIED_BYTES: Final = 4_000_000
DATABASE: Final = "log.db"


@dataclass(frozen=True, slots=True)
class Renewed:
    """What came of it: the new log, the heads it begins with, what was left of the old and what peers gave back."""

    origin: str
    heads: dict[str, int]
    shown_by: dict[str, str]
    kept: int
    fetched: int


async def new_log(
    directory: Path,
    *,
    passphrase: bytes = b"",
    without: Collection[str] = (),
    shown: Sequence[bytes] = (),
    dry_run: bool = False,
    clock: Callable[[], int] = now_ms,
) -> Renewed:
    """Open the log that continues the one of a stopped node.

    Args:
        directory: The node's.
        passphrase: Of its keystore.
        without: Peers that need not answer: what only they took is not fetched.
        shown: Heads of this node that others showed, signed notes.
        dry_run: Only say what would begin the log.
        clock: Milliseconds UTC.

    Raises:
        UsageError: Nobody saw more of the log than is here.
        UnreachableError: A peer does not answer.
        StoreError: The node runs, or the disk failed.
    """
    app = App(directory, passphrase, clock)
    async with app.standing() as node:
        heads, by = await _heads(app, without, shown)
        number = max(heads) + 1
        origin = history.origin_of(node.name, number)
        kept = node.store.size()
        sizes = {seen.head.origin: seen.head.size for seen in heads.values()}
        if dry_run:
            return Renewed(origin, sizes, by, kept, 0)
        fresh = directory / f"log-{number}.new"
        await asyncio.to_thread(copy, node.store, fresh, heads)
    fetched = await _fetch(App(directory, passphrase, clock, fresh / DATABASE), without)
    sync_directory(fresh)
    fresh.rename(directory / f"log-{number}")
    sync_directory(directory)
    log.warning("a new log continues the old one", origin=origin, kept=kept, fetched=fetched)
    return Renewed(origin, sizes, by, kept, fetched)


async def _heads(app: App, without: Collection[str], shown: Sequence[bytes]) -> tuple[dict[int, Seen], dict[str, str]]:
    """The newest head of each of our logs from this one on, by its number, and who showed what."""
    node, by = app.node, dict[str, str]()
    if unknown := sorted(set(without) - set(app.peers())):
        raise UsageError(f"{unknown[0]} is no other node of the rosters")
    found = [_own(node, note) for note in shown]
    if node.claims.proved is not None:
        found.append(node.claims.proved)
    for peer in app.peers():
        if peer in without:
            continue
        try:
            notes = await app.shown_by(peer)
        except TocsinError as error:
            raise UnreachableError(
                f"{peer} does not say what it saw of this log: {error}",
                hint=f"try again when it answers, or `--without {peer}`: what only it took is lost then",
            ) from None
        told = [_own(node, note) for note in notes]
        if told:
            by[peer] = ", ".join(dict.fromkeys(f"{one.head.origin} with {one.head.size}" for one in told))
        found += told
    return begin_with(node, found), by


def begin_with(node: Node, found: Iterable[Seen]) -> dict[int, Seen]:
    """The heads with which the log begins that continues a node's log, by the numbers of their logs.

    Args:
        node: Started.
        found: Heads that it signed and others showed.

    Raises:
        UsageError: Its log holds them all.
    """
    ours = history.number_of(node.origin, node.name)
    numbered = [(history.number_of(seen.head.origin, node.name), seen) for seen in found]
    later = [(number, seen) for number, seen in numbered if number >= ours]
    if all(node.hearing.holds(seen.head) for _, seen in later):
        raise UsageError(
            f"nobody saw more of {node.origin} than the {node.store.size()} entries that are here: it needs no new log",
            hint="start the node; if it stands back again, a desk saw more: give the head it keeps with --head",
        )
    # It may have gone on before it was told: then what it signed since counts too, and of two ends the longer one.
    later.append((ours, Seen.of(node.checkpoint)))
    return dict(sorted(later, key=lambda one: (one[1].head.size, node.hearing.holds(one[1].head))))


def _own(node: Node, note: bytes) -> Seen:
    """A head that this node signed.

    Raises:
        ProofError: It did not.
    """
    head = checkpoint.verify_any(note, node.log_keys.ever(), name=node.name)
    history.number_of(head.origin, node.name)
    return Seen(head, note)


def copy(old: Store, fresh: Path, heads: dict[int, Seen]) -> None:
    """Make the new log in a directory: all that the old one holds and remembers, behind the heads it continues; blocks."""
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    new = SqliteStore(fresh / DATABASE)
    try:
        begin = [
            NewEntry(kind=pb.ENTRY_KIND_HEAD, id=history.head_leaf(seen.note), data=seen.note)
            for _, seen in sorted(heads.items(), reverse=True)
        ]
        new.append(begin, cursors=old.cursors(), notes=old.notes(), refusals=old.refusals(), forks=old.forks())
        position = 0
        while entries := old.entries(position, limit_bytes=COPIED_BYTES):
            new.append(entries)
            position += len(entries)
        for parked in old.parked():
            new.park(parked.id, parked.data, parked.origin, parked.position, parked.reason)
    finally:
        new.close()


async def _fetch(app: App, without: Collection[str]) -> int:
    """What peers have of what was lost, with all else that they have for this node; how many entries came."""
    async with app.standing() as node:
        before = node.store.size()
        for peer in app.peers():
            if peer in without:
                continue
            try:
                await Follower(node, peer, connect=app.connect, clock=app.clock).catch_up()
            except ProofError as error:
                # Its log is another matter: it is not followed until it is put right.
                log.error("nothing is fetched", peer=peer, reason=error.reason, text=str(error))
        return node.store.size() - before
