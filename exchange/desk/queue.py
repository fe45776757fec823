"""What waits to be sealed: calls of `publish`, and the batches that are made of them."""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from exchange import envelope
from keys.v1 import documents_pb2 as docs

URGENT: Final = "alerts"


class Way(NamedTuple):
    """Where items go; only what goes the same way shares an envelope."""

    channel: str
    marking: docs.Marking
    named: tuple[str, ...]
    answers: bytes


@dataclass(slots=True, eq=False)
class Said:
    """The items of one call of `publish`; `done` gives their envelope ids once all of them are durable."""

    way: Way
    items: list[bytes] = field(repr=False)
    done: asyncio.Future[list[bytes]] = field(repr=False)
    sealed: list[bytes] = field(default_factory=list, repr=False)
    handed: int = 0
    """How many of the items were put into batches."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What goes into one envelope, and how many of its items came from which call."""

    way: Way
    items: list[bytes] = field(repr=False)
    parts: list[tuple[Said, int]]


class Queue:
    """Calls in the order they came. Alerts go first; what goes the same way keeps its order."""

    def __init__(self) -> None:
        self._calls: deque[Said] = deque()
        self._items = 0

    def __len__(self) -> int:
        """Items that wait."""
        return self._items

    @property
    def urgent(self) -> bool:
        """Whether an alert waits."""
        return any(said.way.channel == URGENT for said in self._calls)

    def add(self, said: Said) -> None:
        """Put a call at the end."""
        self._calls.append(said)
        self._items += len(said.items)

    def next_batch(self, *, most_bytes: int) -> Batch | None:
        """Take as many items as fit into one envelope, at least one; None when nothing waits.

        Args:
            most_bytes: Bound on the items; a single one that is larger comes alone, and its sealing says what is wrong.
        """
        first = next((said for said in self._calls if said.way.channel == URGENT), None)
        first = first or (self._calls[0] if self._calls else None)
        if first is None:
            return None
        batch = Batch(first.way, [], [])
        room = most_bytes
        emptied = []
        for said in self._calls:
            if said.way != first.way:
                continue
            taken, size = _fitting(said.items, said.handed, envelope.MAX_ITEMS - len(batch.items), room)
            if not taken and not batch.items:
                taken = 1
            batch.items.extend(said.items[said.handed : said.handed + taken])
            batch.parts.append((said, taken))
            said.handed += taken
            room -= size
            if said.handed < len(said.items):
                break  # what comes behind it stays behind it, so that order holds
            emptied.append(said)
        for said in emptied:
            self._calls.remove(said)
        self._items -= len(batch.items)
        return batch

    def drop(self, said: Said) -> None:
        """Leave what is left of a call: it failed."""
        if said in self._calls:
            self._calls.remove(said)
            self._items -= len(said.items) - said.handed


def _fitting(items: list[bytes], start: int, most: int, room: int) -> tuple[int, int]:
    """(how many items from `start` on fit, their bytes)."""
    sizes = [len(item) for item in items[start : start + most]]
    size = sum(sizes)
    while size > room:
        size -= sizes.pop()
    return len(sizes), size
