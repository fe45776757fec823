"""What envelopes said, sent or received: kept so that it can be shown, sealed again, and proved item by item."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from exchange.desk.deskfile import DeskFile, failing
from keys.errors import UsageError


@dataclass(frozen=True, slots=True)
class Content:
    """What an envelope said and its outside as `Pruned`; with the salt seed it makes evidence of one item."""

    outer: bytes
    items: tuple[bytes, ...] = field(repr=False)
    salt_seed: bytes = field(repr=False)


class Contents(DeskFile):
    """The part of the desk's file that sending and reading share."""

    def content(self, identity: bytes) -> Content:
        """What an envelope said.

        Raises:
            UsageError: None of that id was sealed or opened here.
        """
        with failing(), self._lock:
            row = self._db.execute("SELECT outer, locked FROM content WHERE id = ?", (identity,)).fetchone()
        if row is None:
            raise UsageError(f"no envelope {identity.hex()} in this archive", hint="see `tocsin inbox`")
        seed, *items = self._unlock(b"content" + identity, row[1])
        return Content(row[0], tuple(items), seed)

    def _keep_content(self, identity: bytes, outer: bytes, salt_seed: bytes, items: Sequence[bytes]) -> None:
        locked = self._lock_up(b"content" + identity, [salt_seed, *items])
        self._db.execute("INSERT INTO content (id, outer, locked) VALUES (?, ?, ?)", (identity, outer, locked))
