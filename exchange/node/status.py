"""What `tocsin node status` shows: a file, for the log itself is open in the node's process alone."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import structlog

from exchange import files
from exchange.node.core import Node
from exchange.node.directory import STATUS
from exchange.node.follow import Follower
from keys.trust import Trust, party_of

log = structlog.get_logger("tocsin.node")


def write(directory: Path, node: Node, followers: Mapping[str, Follower], *, endpoint: str, now_ms: int) -> None:
    """Write the status of a running node into its directory.

    Args:
        directory: The node's.
        node: Started.
        followers: By peer.
        endpoint: Where it serves.
        now_ms: Milliseconds UTC.
    """
    said = {
        "node": node.name,
        "endpoint": endpoint,
        "time_ms": now_ms,
        "pid": os.getpid(),
        "entries": node.store.size(),
        "taken": node.taken,
        "duplicates": node.counters.duplicates,
        "refused": node.counters.refused,
        "forks": node.forks,
        # Entries that the disk changed: those that nobody gave us yet, and how many were fetched again.
        "damaged": node.mending.damaged,
        "mended": node.mending.count,
        "log": node.origin,
        # Why nothing is appended: restored from a backup, it must go on as a new log.
        "barred": node.barred.words() if node.barred else "",
        # Lineage of the exchange that took this one's place, once people said so.
        "successor": node.trust.death.successor.hex() if node.trust.death else "",
        "seen_longer": node.claims.still(node.store.size()),
        # Heads of ours under a log key that has ended, which no node vouches for: by whom, of what size.
        "doubted": node.claims.doubted,
        "clashes": [str(clash) for clash in node.clashes.held],
        "peers": {
            peer: {"position": follower.position, "state": follower.state} for peer, follower in followers.items()
        },
        "stale": list(node.trust.stale(now_ms)) if node.trust.founded else [],
        "waiting_for": waiting_for(node.trust, node.name, directory),
        "roster": _own_roster(node),
    }
    fresh = directory / "status.new"
    try:
        fresh.write_text(json.dumps(said))
        fresh.replace(directory / STATUS)
    except OSError as error:
        log.error("cannot write the status", text=str(error))


def waiting_for(trust: Trust, name: str, directory: Path) -> str:
    """What a node lacks to serve anybody, in words; empty when nothing."""
    if not trust.founded:
        return f"the first agreement: put the ministry's bundle at {directory / files.BUNDLE}"
    if trust.node(name) is None:
        return f"a roster of {party_of(name)} that lists {name}"
    return ""


def _own_roster(node: Node) -> list[int]:
    """Generation and version of our party's newest roster held; empty before the first."""
    party = party_of(node.name)
    return list(node.trust.roster(party).number) if node.trust.has_roster(party) else []
