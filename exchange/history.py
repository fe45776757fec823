"""One log, one history: a head either extends the head seen before, or two signed statements contradict each other. No I/O.

A node that lost a part of its log, because its disk came back from a backup, goes on in another: log n + 1 begins with the
newest head of log n that anybody showed the node, and holds again what is left of it (docs/PROTOCOL.md section 8.7).
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from exchange import checkpoint, merkle
from exchange.checkpoint import Checkpoint
from exchange.errors import LogForkError, LogRollbackError, ProofError
from exchange.v1 import exchange_pb2 as pb
from keys.encoding import digest


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
        seen: The newest head seen of the node; None = none.
        shown: A later head, its signature verified.
        proof: RFC 6962 consistency proof from the seen size; not looked at when the sizes are equal or none was seen.

    Raises:
        LogRollbackError: It is shorter than what was seen, or of a log that the node gave up.
        LogForkError: It does not extend it, or nobody proved that it does.

    Source: docs/PROTOCOL.md section 8.6.
    """
    if seen is None:
        return
    old, new, notes = seen.head, shown.head, {"seen": seen.note, "shown": shown.note}
    if new.origin != old.origin:
        if _number(new.origin) < _number(old.origin):
            raise LogRollbackError(f"{new.origin} is shown again after {old.origin}", **notes)
        raise LogForkError(f"{new.origin} is shown, and not that it continues {old.origin}", **notes)
    if not old.size:
        return
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


def head_leaf(note: bytes) -> bytes:
    """The leaf of a head entry."""
    return digest(b"\x00" + note)


def continued(
    shown: Checkpoint, entries: Iterable[pb.Entry], *, verify: Callable[[bytes], Checkpoint]
) -> list[Checkpoint]:
    """The heads of earlier logs with which a log begins.

    Args:
        shown: Its head, verified.
        entries: Its entries from position 0 on.
        verify: The checkpoint in a note that the log's node signed once, with whatever key; raises ProofError.

    Raises:
        ProofError: The entries are not in that log, or the node did not sign them, or a log after the first begins
            with anything else than one head each of logs before it, the latest first.

    Source: docs/PROTOCOL.md section 8.7.
    """
    heads: list[Checkpoint] = []
    for entry in entries:
        if entry.kind != pb.ENTRY_KIND_HEAD or entry.position != len(heads):
            break
        if entry.leaf != head_leaf(entry.data):
            raise ProofError("the leaf is not that head")
        merkle.verify_inclusion(entry.leaf, entry.position, shown.size, list(entry.proof), shown.root)
        heads.append(verify(entry.data))
    if not heads or any(_log(head.origin)[0] != _log(shown.origin)[0] for head in heads):
        raise ProofError(f"{shown.origin} does not begin with a head of the log before it")
    numbers = [_number(head.origin) for head in (shown, *heads)]
    # One word on each log: of two, one reader could be held to the one and another to the other.
    if any(later <= earlier for later, earlier in itertools.pairwise(numbers)):
        raise ProofError(f"{shown.origin} does not begin with one head of each log before it, the latest first")
    return heads


def require_continues(seen: Seen | None, shown: Seen, heads: Iterable[Checkpoint]) -> None:
    """A later log of a node must continue the one that was seen: what was seen is not denied.

    A head above the one seen is taken on the node's signature: it can be held against any other head of that log.

    Args:
        seen: The newest head seen of the node; None = none.
        shown: A head of the later log, its signature verified.
        heads: With which that log begins, as `continued` gives them.

    Raises:
        LogRollbackError: It says that the log seen ended before what was seen of it, or it is not later.
        LogForkError: It names another head at the size seen, or none of that log.

    Source: docs/PROTOCOL.md section 8.7.
    """
    if seen is None:
        return
    old, notes = seen.head, {"seen": seen.note, "shown": shown.note}
    if _number(shown.head.origin) <= _number(old.origin):
        raise LogRollbackError(f"{shown.head.origin} is shown again after {old.origin}", **notes)
    said = next((head for head in heads if head.origin == old.origin), None)
    if said is None:
        raise LogForkError(f"{shown.head.origin} does not say where {old.origin} ended", **notes)
    if said.size < old.size:
        raise LogRollbackError(
            f"{shown.head.origin} says that {old.origin} ended with {said.size} entries; it was seen with {old.size}",
            **notes,
        )
    if said.size == old.size and said.root != old.root:
        raise LogForkError(f"{shown.head.origin} continues another {old.origin} than was seen", **notes)


def origin_of(node: str, number: int) -> str:
    """The name of a node's log, `number` from 1."""
    return f"tocsin/{node}/{number}"


def number_of(origin: str, node: str) -> int:
    """Which log of a node an origin names: `tocsin/<node>/<n>`.

    Raises:
        ProofError: It names none of that node.
    """
    prefix, number = _log(origin)
    if prefix != f"tocsin/{node}":
        raise ProofError(f"{origin!r} is no log of {node}")
    return number


def node_of(origin: str) -> str:
    """The node whose log an origin names: "tocsin/kr.the-hague-1/1" -> "kr.the-hague-1".

    Raises:
        ProofError: It names no log.
    """
    scheme, _, node = _log(origin)[0].partition("/")
    if scheme != "tocsin" or not node or "/" in node:
        raise ProofError(f"{origin!r} names no log")
    return node


def _number(origin: str) -> int:
    return _log(origin)[1]


def _log(origin: str) -> tuple[str, int]:
    prefix, _, number = origin.rpartition("/")
    if not number.isascii() or not number.isdecimal() or number.startswith("0") or len(number) > 9:
        raise ProofError(f"{origin!r} names no log")
    return prefix, int(number)
