"""A node's log in memory, and what is shown of it: signed heads, cosignatures, places."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from exchange import checkpoint
from exchange.merkle import consistency, inclusion, root_of
from exchange.standing import Head, Place, Position
from keys import suite
from tests.world import NOON, world

NL, KR = "nl.seoul-1", "kr.the-hague-1"


@dataclass
class Log:
    """Leaves in order, under the key of a node of the world."""

    node: str = NL
    leaves: list[bytes] = field(default_factory=list)

    def add(self, *leaves: bytes) -> int:
        """Append; the position of the last."""
        self.leaves += leaves
        return len(self.leaves) - 1

    def fill(self, count: int) -> None:
        """Append entries nobody asks for."""
        for _ in range(count):
            self.leaves.append(bytes([len(self.leaves) % 256]) * 32)

    def _at(self, level: int, index: int) -> bytes:
        return root_of(self.leaves[index << level : (index + 1) << level])

    def note(self, size: int, cosigners: Sequence[str] = (), *, key: suite.SigningKey | None = None) -> bytes:
        """The signed head of the first `size` leaves."""
        root = root_of(self.leaves[:size])
        signing = key or world().log_keys[self.node]
        note = checkpoint.sign(f"tocsin/{self.node}/1", size, root, signing, name=self.node, time_ms=NOON)
        for name in cosigners:
            note = checkpoint.cosign(note, world().log_keys[name], name=name)
        return note

    def show(
        self, *leaves: bytes, cosigned: int, cosigners: Sequence[str] = (KR,), history: "Log | None" = None
    ) -> Position:
        """A cosigned head, the newest head, and places in the newest; the older head of another history if given."""
        older = history or self
        size = len(self.leaves)
        heads = [Head(older.note(cosigned, cosigners))]
        if cosigned < size:
            heads.append(Head(self.note(size), tuple(consistency(cosigned, size, self._at))))
        return Position(tuple(heads), tuple(self.place(leaf) for leaf in leaves))

    def place(self, leaf: bytes) -> Place:
        """Where a leaf is, in the newest head's tree."""
        at = self.leaves.index(leaf)
        return Place(leaf, at, tuple(inclusion(at, len(self.leaves), self._at)))
