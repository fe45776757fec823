"""One log, one history: a head either extends the head seen before, or two signed statements contradict each other. No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass

from exchange import checkpoint, merkle
from exchange.checkpoint import Checkpoint
from exchange.errors import LogForkError, LogRollbackError, ProofError


@dataclass(frozen=True, slots=True)
class Seen:
    """A head that was verified, and the signed note it stands in."""

    head: Checkpoint
    note: bytes

    @classmethod
    def of(cls, note: bytes) -> "Seen":
        """A head from a note that was verified when it was kept."""
        return cls(checkpoint.parse(note), note)


def require_extends(seen: Seen | None, shown: Seen, proof: Sequence[bytes]) -> None:
    """A head must extend what was seen of its log.

    Args:
        seen: The newest head seen; None = none.
        shown: A later head, its signature verified.
        proof: RFC 6962 consistency proof from the seen size; not looked at when the sizes are equal or none was seen.

    Raises:
        LogRollbackError: It is shorter than what was seen.
        LogForkError: It does not extend it, or nobody proved that it does.

    Source: docs/PROTOCOL.md section 8.6.
    """
    if seen is None or not seen.head.size:
        return
    old, new, notes = seen.head, shown.head, {"seen": seen.note, "shown": shown.note}
    if new.size < old.size:
        raise LogRollbackError(f"{old.origin} was seen with {old.size} entries and is shown with {new.size}", **notes)
    if new.size == old.size:
        if new.root != old.root:
            raise LogForkError(f"{old.origin} has two roots at size {new.size}", **notes)
        return
    try:
        merkle.verify_consistency(old.size, new.size, old.root, new.root, list(proof))
    except ProofError:
        raise LogForkError(
            f"{old.origin} with {new.size} entries is not proved to extend what was seen with {old.size}", **notes
        ) from None


def number_of(origin: str, node: str) -> int:
    """Which log of a node an origin names: `tocsin/<node>/<n>`.

    Raises:
        ProofError: It names none of that node.
    """
    prefix, _, number = origin.rpartition("/")
    if prefix != f"tocsin/{node}" or not number.isascii() or not number.isdecimal() or number.startswith("0"):
        raise ProofError(f"{origin!r} is no log of {node}")
    return int(number)
