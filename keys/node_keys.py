"""Which CA a node shows and which ones its callers accept, which log keys sign: the windows of two rosters. No I/O.

A connection and a checkpoint cannot wait for a document as an envelope does, so both sides overlap: who holds the new
roster takes the old CA for as long as a superseded roster counts, and the node changes over when everybody knows.

Source: keys/windows.py, rules "tls-ca" and "log".
"""

from collections.abc import Collection

from keys.encoding import digest
from keys.trust import RosterView, Trust, party_of
from keys.windows import Bounds, bounds_of


def cas_accepted(trust: Trust, node: str, *, now_ms: int) -> tuple[bytes, ...]:
    """CA certificates, DER, under which a certificate of this node (or of its desks) is taken; the newest first.

    The newest roster's, and those of rosters superseded less than R + L + 2S ago, but none that a roster revokes by its
    SHA-256: a stolen CA ends at once.
    """
    bounds = _bounds(trust, now_ms)
    found: dict[bytes, None] = {}
    revoked: set[bytes] = set()
    until_ms = None
    for view in _standing(trust, node):
        revoked |= {revocation.key for revocation in view.body.revocations}
        if until_ms is not None and now_ms >= until_ms + bounds.pinned_ms:
            break
        until_ms = view.body.issue_time_ms
        if node in view.nodes and digest(view.nodes[node].tls_ca) not in revoked:
            found.setdefault(view.nodes[node].tls_ca)
    return tuple(found)


def ca_shown(trust: Trust, node: str, *, now_ms: int, have: Collection[bytes]) -> bytes | None:
    """The CA, DER, that issues and shows certificates now, of those whose key the node has.

    The old one until R + S after the roster that names the new one, and on until every party's status confirms that
    roster; at the latest until callers who hold it stop taking the old one.
    """
    bounds = _bounds(trust, now_ms)
    accepted = [ca for ca in cas_accepted(trust, node, now_ms=now_ms) if ca in have]
    if len(accepted) < 2:
        return accepted[0] if accepted else None
    new = accepted[0]
    named = [view for view in _standing(trust, node) if node in view.nodes and view.nodes[node].tls_ca == new]
    published_ms = named[-1].body.issue_time_ms
    digests = {view.document.digest for view in named}
    peers = [trust.status(party) for party in trust.parties if party != party_of(node)]
    confirmed = all(
        status is not None and any(seen.roster.digest in digests for seen in status.seen) for status in peers
    )
    earliest = published_ms + bounds.revocation_ms + bounds.skew_ms
    latest = published_ms + bounds.pinned_ms - bounds.skew_ms
    return new if (now_ms >= earliest and confirmed) or now_ms >= latest else accepted[1]


def log_keys_signing(trust: Trust, node: str, *, now_ms: int, have: Collection[bytes]) -> tuple[bytes, ...]:
    """Public log keys that sign checkpoints now, of those the node has: the one the newest roster names first.

    One that no roster names yet signs along, so that it is known in every checkpoint when it is named; an old one signs
    along until R + S after it was superseded.
    """
    named, ended = _log_keys_named(trust, node, now_ms)
    waiting = sorted(key for key in have if key not in ended and key not in named)
    return tuple(key for key in (*named, *waiting) if key in have)


def log_key_known(trust: Trust, node: str, *, now_ms: int, have: Collection[bytes]) -> bytes | None:
    """Of the log keys that sign now, the one that everybody knows: the one named longest. It signs what has one signature."""
    named, _ = _log_keys_named(trust, node, now_ms)
    return next((key for key in reversed(named) if key in have), None)


def _log_keys_named(trust: Trust, node: str, now_ms: int) -> tuple[list[bytes], set[bytes]]:
    """Log keys that rosters name: those that sign, the newest first, and those that are over."""
    bounds = _bounds(trust, now_ms)
    named: list[bytes] = []
    ended: set[bytes] = set()
    until_ms = None
    for view in _standing(trust, node):
        if node in view.nodes:
            key = view.nodes[node].log_key.key
            current = until_ms is None or now_ms < until_ms + bounds.revocation_ms + bounds.skew_ms
            if key not in named and key not in ended:
                (named.append if current else ended.add)(key)
        until_ms = view.body.issue_time_ms
    return named, ended


def changing(trust: Trust, party: str, *, now_ms: int) -> tuple[str, ...]:
    """Nodes of a party whose CA or log key was replaced so recently that the one before is still needed.

    New roster keys void the rosters that name those; they wait until it is over.
    """
    found = []
    for node, entry in trust.roster(party).nodes.items():
        logs = {view.nodes[node].log_key.key for view in _standing(trust, node) if node in view.nodes}
        signing = log_keys_signing(trust, node, now_ms=now_ms, have=logs)
        if cas_accepted(trust, node, now_ms=now_ms) != (entry.tls_ca,) or signing != (entry.log_key.key,):
            found.append(node)
    return tuple(found)


def _bounds(trust: Trust, now_ms: int) -> Bounds:
    return bounds_of(trust, from_ms=now_ms, until_ms=now_ms)


def _standing(trust: Trust, node: str) -> list[RosterView]:
    """Rosters of the node's party, the newest first; of its newest generation alone, for the others are void."""
    party = party_of(node)
    if party not in trust.parties or not trust.has_roster(party):
        return []
    views = [trust.find_roster(d.digest) for d in reversed(trust.documents()) if d.type == "tocsin/1/roster"]
    newest = trust.roster(party).body.generation
    return [view for view in views if view.party == party and view.body.generation == newest]
