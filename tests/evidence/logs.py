"""A small log of a node in memory, and evidence made with it."""

from collections.abc import Sequence

from exchange import checkpoint, envelope, merkle
from exchange.envelope import Sealed
from exchange.evidence.build import evidence
from exchange.v1 import evidence_pb2 as pb
from keys.trust import Trust
from tests.mail import send
from tests.world import NOON, World, draft


class Log:
    """Leaves of a node's log."""

    def __init__(self, world: World, node: str) -> None:
        self.world, self.node = world, node
        self.leaves: list[bytes] = []
        self.nodes: dict[tuple[int, int], bytes] = {}

    def add(self, *leaves: bytes) -> int:
        """Append; returns the position of the first."""
        at = len(self.leaves)
        made = merkle.new_nodes(at, leaves, self.node_at)
        self.nodes.update({(level, index): value for level, index, value in made})
        self.leaves += leaves
        return at

    def node_at(self, level: int, index: int) -> bytes:
        return self.nodes[(level, index)]

    def note(self, size: int = 0, *, cosigners: Sequence[str] = ()) -> bytes:
        """A signed head."""
        size = size or len(self.leaves)
        root = merkle.subtree(0, size, self.node_at)
        keys = self.world.log_keys
        note = checkpoint.sign(
            f"tocsin/{self.node}/1", size, root, keys[self.node], name=self.node, time_ms=NOON + 60_000
        )
        for name in cosigners:
            note = checkpoint.cosign(note, keys[name], name=name)
        return note

    def view(self, leaves: Sequence[bytes], heads: Sequence[bytes] = ()) -> pb.LogView:
        """What evidence shows of the log: the heads given, the newest last."""
        heads = list(heads) or [self.note()]
        view = pb.LogView()
        sizes = [checkpoint.parse(note).size for note in heads]
        for i, note in enumerate(heads):
            proof = merkle.consistency(sizes[i - 1], sizes[i], self.node_at) if i else []
            view.heads.add(note=note, consistency=proof)
        for leaf in leaves:
            at = self.leaves.index(leaf)
            view.places.add(leaf=leaf, position=at, proof=merkle.inclusion(at, sizes[-1], self.node_at))
        return view


CONTENT = (b"first item", b"the item that is shown", b"status: halted")


def sealed(trust: Trust, content: Sequence[bytes] = CONTENT, **fields: object) -> Sealed:
    """An envelope of three items."""
    made = send(trust, draft(trust, **fields), content=content)  # type: ignore[arg-type]
    assert isinstance(made, Sealed)
    return made


def show(trust: Trust, made: Sealed, *views: pb.LogView, content: Sequence[bytes] = CONTENT, index: int = 1) -> bytes:
    """Evidence of one of its items."""
    return evidence(
        trust, outer=envelope.prune(made.data), items=content, salt_seed=made.salt_seed, index=index, logs=views
    )
