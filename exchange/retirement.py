"""Retirement: a node or desk is told by its own people that another exchange took its one's place (PROTOCOL.md section 4.8).

What tells it apart from a stranger's claim is that people gave the new lineage whole, on this machine. It is kept beside
the other files of the directory, so that no restart and no backup of the log alone brings the dead back.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from google.protobuf.message import DecodeError

from exchange import files
from exchange.store.segments import sync_directory
from keys import documents, succession
from keys.errors import TocsinError, UsageError
from keys.succession import Successor
from keys.trust import Trust, party_of
from keys.v1 import documents_pb2 as docs

SUCCESSOR: Final = "successor.bundle"


def check(trust: Trust, name: str, encoded: Sequence[bytes], lineage: bytes, *, now_ms: int) -> Successor:
    """The exchange that would take the place of the one of a node or desk; changes nothing.

    Args:
        trust: What is held of the exchange that is to be dead.
        name: Of the node or desk.
        encoded: Documents of the new exchange, its first agreement and what came before it among them.
        lineage: Of the new exchange, as people compared it, 32 bytes.
        now_ms: Milliseconds UTC.

    Raises:
        NotSuccessorError: It is not the one they compared, or takes another's place; UsageError, or a TrustError.
    """
    found = [documents.decode(data) for data in encoded]
    return succession.verify(found, lineage=lineage, old=trust, party=party_of(name), now_ms=now_ms)


def retire(
    directory: Path, trust: Trust, name: str, encoded: Sequence[bytes], lineage: bytes, *, now_ms: int
) -> Successor:
    """End the exchange on this machine for ever; durable when it returns. Doing it again changes nothing. As `check`.

    Raises:
        DeadLineageError: Another exchange took its place already.
    """
    successor = check(trust, name, encoded, lineage, now_ms=now_ms)
    if trust.death is None:
        held = successor.documents
        files.save_bundle(directory / SUCCESSOR, held, taken_ms=[now_ms] * len(held))
        sync_directory(directory)
    trust.end(successor.lineage, told_ms=now_ms)
    return successor


def resume(directory: Path, trust: Trust) -> None:
    """At start, once the documents of the exchange are loaded: whether its people ended it.

    Raises:
        UsageError: They did, and the file that says so cannot be read.
    """
    path = directory / SUCCESSOR
    if not path.exists():
        return
    try:
        bundle = docs.Bundle.FromString(path.read_bytes())
        found = [documents.decode(data) for data in bundle.documents]
        # It was verified when people said so: this is the machine's own word.
        successor = next(d for d in found if d.type == "tocsin/1/agreement")
        trust.end(successor.digest, told_ms=bundle.taken_ms[0])
    except (OSError, DecodeError, TocsinError, StopIteration, IndexError):
        raise UsageError(
            f"{path} is damaged: this exchange is dead, and what took its place cannot be read",
            hint="move the file away and run `retire` again at once",
        ) from None
