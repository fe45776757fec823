"""The log part of an audit: is this log whole, who saw it, what did it see of others. Reads the store alone; blocks.

Beside it `tocsin-keys audit` walks the documents. Source: docs/PROTOCOL.md section 8.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from exchange import checkpoint
from exchange.merkle import parent, root_of
from exchange.node.core import Node
from exchange.node.leaves import leaf_of
from exchange.node.logkeys import listed
from exchange.store.contract import Row
from keys.audit import Finding
from keys.errors import TocsinError
from keys.trust import party_of

READ_BYTES: Final = 8_000_000
READ_ROWS: Final = 1024
MAX_NAMED: Final = 100
"""Findings of one kind that are told one by one; the others are counted."""


def audit(node: Node) -> list[Finding]:
    """The report, of a node that was started; it may be serving."""
    report = [*_own_log(node), *_witnesses(node), *_peers(node)]
    report += [Finding(True, "clash", str(clash)) for clash in node.clashes.held]
    longer = node.claims.still(node.store.size())
    report += [
        Finding(True, "own log", f"{by} saw it {size} long: restored from a backup?") for by, size in longer.items()
    ]
    report += [
        Finding(True, "own log", f"{by} shows a head of size {size} under a log key that has ended: was it stolen?")
        for by, size in node.claims.doubted.items()
    ]
    if node.barred is not None:
        report.append(Finding(True, "own log", node.barred.words()))
    report += _kept(node)
    return report


def _own_log(node: Node) -> Iterator[Finding]:
    """Every leaf hashed again from the bytes, the tree built again over them, the head compared and its signature checked."""
    note = node.checkpoint
    head = checkpoint.parse(note)
    tree, broken = Tree(), 0
    for row in _rows(node, head.size):
        leaf = leaf_of(row)
        tree.add(leaf)
        if row.damaged or leaf != row.id:
            broken += 1
            node.mending.note([replace(row, damaged=True)])
            if broken <= MAX_NAMED:
                yield Finding(
                    True,
                    f"entry {row.position}",
                    "the disk changed it; the node, while it serves, fetches it from a peer",
                )
        elif node.store.position_of(row.id) != row.position:
            yield Finding(
                True, f"entry {row.position}", "the index is wrong: stop the node, delete log.db.index, start it"
            )
    if broken > MAX_NAMED:
        yield Finding(True, "own log", f"{broken} entries are broken; the first {MAX_NAMED} are named")
    whole = tree.size == head.size and tree.root() == head.root
    text = f"{tree.size} of {head.size} entries hashed again, root {head.root.hex()}"
    yield Finding(not whole, "own log", text if whole else f"{text}: the entries do not make that root")
    entry = node.trust.node(node.name) if node.trust.founded else None
    try:
        if entry is None:
            raise UnlistedError(f"no roster lists {node.name}")
        checkpoint.verify(note, entry.log_key.suite, entry.log_key.key, name=node.name)
        yield Finding(False, "own head", f"signed by the log key of the newest roster, time {head.time_ms}")
    except TocsinError as error:
        yield Finding(True, "own head", f"{error.reason}: {error}")


class UnlistedError(TocsinError):
    """The node is in no roster."""

    hint = "take the newest documents"


def _rows(node: Node, size: int) -> Iterator[Row]:
    position = 0
    while position < size:
        rows, after = node.store.read(position, limit_bytes=READ_BYTES, limit_rows=READ_ROWS, desks=None, channels=None)
        yield from (row for row in rows if row.position < size)
        if after <= position:
            return
        position = after


class Tree:
    """The root over leaves that come one by one; holds one hash a level."""

    def __init__(self) -> None:
        self.size = 0
        self._peaks: list[tuple[int, bytes]] = []

    def add(self, leaf: bytes) -> None:
        """The next leaf."""
        self.size += 1
        height = 0
        while self._peaks and self._peaks[-1][0] == height:
            leaf = parent(self._peaks.pop()[1], leaf)
            height += 1
        self._peaks.append((height, leaf))

    def root(self) -> bytes:
        """RFC 6962 root."""
        if not self._peaks:
            return root_of([])
        *rest, (_, root) = self._peaks
        for _, peak in reversed(rest):
            root = parent(peak, root)
        return root


def _witnesses(node: Node) -> Iterator[Finding]:
    """Who of another party cosigned which head of ours."""
    seen = node.witnesses.held()
    for name, note in sorted(seen.items()):
        head = checkpoint.parse(note)
        try:
            node.witnesses.verify(note, name)
            same = head.size <= node.store.size() and node.store.root(head.size) == head.root
        except TocsinError as error:
            yield Finding(True, f"cosignature of {name}", f"{error.reason}: {error}")
            continue
        text = f"under {head.size} entries, time {head.time_ms}"
        yield Finding(not same, f"cosignature of {name}", text if same else f"{text}: our log is another one now")
    if not seen:
        yield Finding(
            True, "cosignatures", "no node of another party has cosigned this log: nobody else can vouch for it"
        )


def _peers(node: Node) -> Iterator[Finding]:
    """What was seen of every other node's log."""
    for peer in node.trust.nodes() if node.trust.founded else ():
        if peer.node == node.name:
            continue
        origin = node.followed.of(peer.node)
        note = node.store.note(origin)
        if not note:
            own = party_of(peer.node) == party_of(node.name)
            yield Finding(not own, f"log of {peer.node}", "never seen: it was not reached yet")
            continue
        try:
            head = checkpoint.verify_any(note, listed(node.trust, peer.node), name=peer.node)
        except TocsinError as error:
            yield Finding(True, f"log of {peer.node}", f"{error.reason}: {error}")
            continue
        text = f"seen up to {head.size}, taken up to {node.store.cursor(origin)}, time {head.time_ms}"
        yield Finding(False, f"log of {peer.node}", text)


def _kept(node: Node) -> Iterator[Finding]:
    """Forks, refusals, what waits for documents."""
    forks = node.store.forks()
    for fork in forks[:MAX_NAMED]:
        text = f"STREAM_FORK: {fork.sender} on {fork.channel}: {fork.first.hex()} and {fork.second.hex()} at {fork.seq}"
        yield Finding(True, "fork", text)
    if len(forks) > MAX_NAMED:
        yield Finding(True, "fork", f"{len(forks)} in all")
    refused = Counter((record.origin, record.rule) for record in node.store.refusals())
    for (origin, rule), count in sorted(refused.items()):
        yield Finding(False, f"refused of {origin}", f"{rule}: {count}")
    for parked in node.store.parked()[:MAX_NAMED]:
        text = f"position {parked.position} waits for a document: {parked.reason}"
        yield Finding(True, f"waits of {parked.origin}", text)
