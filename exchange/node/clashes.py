"""Pairs of heads by which a followed log contradicts itself: both are kept, and written to files to be shown to anyone."""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from exchange import files
from exchange.errors import LogClashError
from exchange.history import Seen, node_of
from exchange.store.contract import Store
from exchange.workers import Workers

log = structlog.get_logger("tocsin.node")
MAX_CLASHES: Final = 64
"""Pairs kept of the logs of one node: none fills the place of another's."""


@dataclass(frozen=True, slots=True)
class Clash:
    """Two signed heads of one log, the one seen first and the one shown later, that are not of one history."""

    rule: str
    seen: Seen
    shown: Seen

    @property
    def node(self) -> str:
        """Whose logs they are."""
        return node_of(self.shown.head.origin)

    def same_as(self, other: "Clash") -> bool:
        """Whether it shows nothing new."""
        one, two = self.shown.head, other.shown.head
        return (self.rule, one.origin, one.root) == (other.rule, two.origin, two.root)

    def __str__(self) -> str:
        """In words."""
        return f"{self.rule}: {self.seen.head.origin} at {self.seen.head.size}, then at {self.shown.head.size}"


class Clashes:
    """What was found; it stays in the store, one pair for each rule and root shown of a log.

    Args:
        store: Where they are kept.
        workers: Write the store.
    """

    def __init__(self, store: Store, workers: Workers) -> None:
        self._store, self._workers = store, workers
        self.held: list[Clash] = []

    def load(self) -> None:
        """Take from the store what was found before; blocks."""
        for number in itertools.count():
            rule, seen, shown = (self._store.note(f"clash/{number}/{part}") for part in ("rule", "seen", "shown"))
            if not rule or not seen or not shown:
                return
            self.held.append(Clash(rule.decode(), Seen.of(seen), Seen.of(shown)))

    async def keep(self, error: LogClashError) -> None:
        """Keep a pair, unless this one is held."""
        found = Clash(error.reason, Seen.of(error.seen), Seen.of(error.shown))
        same = any(one.same_as(found) for one in self.held)
        if same or sum(one.node == found.node for one in self.held) >= MAX_CLASHES:
            return
        number = len(self.held)
        self.held.append(found)
        log.error("a log contradicts itself: both heads are kept", rule=found.rule, text=str(error))
        # The rule last: without it the pair is not there.
        for part, data in (("seen", error.seen), ("shown", error.shown), ("rule", error.reason.encode())):
            await self._workers.run(self._store.set_note, f"clash/{number}/{part}", data)


def export(directory: Path, clashes: list[tuple[str, bytes, bytes]]) -> list[Path]:
    """Write pairs as files that anyone can check with the log's key: the two notes of each.

    Args:
        directory: Made if absent.
        clashes: (rule, the note seen first, the note shown later).
    """
    files.private_directory(directory)
    written = []
    for number, (rule, *notes) in enumerate(clashes, 1):
        for name, note in zip(("seen", "shown"), notes, strict=True):
            path = directory / f"{number:02}-{rule.lower()}-{name}.note"
            path.write_bytes(note)
            written.append(path)
    return written
