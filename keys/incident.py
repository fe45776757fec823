"""Incidents: a key suspected or lost, and what was sent with it. No I/O.

Source: docs/PROTOCOL.md sections 4.6 and 4.7; docs/OPERATIONS.md, "Compromise".
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from keys import drafts, suite
from keys.ceremony import Group
from keys.documents import Document
from keys.errors import UsageError
from keys.release import Made, Sign, compose
from keys.states import Move, Revoked, StateError, Tainted, end_key, move_key
from keys.trust import Trust, party_of
from keys.v1 import documents_pb2 as pb

MAX_POSITIONS: Final = 1_000_000
MAX_POSITIONS_BYTES: Final = 512 * 1024 * 1024
VERDICTS: Final = ("counted", "disputed", "refused")
LIVE: Final = (pb.KEY_STATE_PREPARED, pb.KEY_STATE_ACTIVE, pb.KEY_STATE_TAINTED)


@dataclass(frozen=True, slots=True)
class Touched:
    """An envelope under a key that ended, and what it is worth: "counted", "disputed" or "refused"."""

    id: str
    verdict: str
    channel: str
    create_time_ms: int
    reason: str


def live_keys(trust: Trust, desk: str) -> tuple[bytes, ...]:
    """Keys of a desk in its newest roster that have not ended.

    Raises:
        StateError: The roster lists no such desk.
    """
    body = trust.roster(party_of(desk)).body if party_of(desk) in trust.parties else pb.Roster()
    entry = next((d for d in body.desks if d.desk == desk), None)
    if entry is None:
        raise StateError(f"no roster held lists a desk {desk!r}", hint="check the name; take the newest documents")
    return tuple(suite.key_id(k.key.suite, "desk", k.key.key) for k in entry.keys if k.state in LIVE)


def end(
    trust: Trust,
    desk: str,
    move: Tainted | Revoked,
    *,
    reason: str,
    now_ms: int,
    sign: Sign,
    signed: Mapping[str, Document] | None = None,
    key: bytes | None = None,
) -> list[Made]:
    """The roster that taints or revokes the keys of a desk, and the status that names it, as far as they are signed.

    Args:
        trust: Documents held; nothing is taken.
        desk: Whose.
        move: Tainted: nothing new is believed, and the key can still be revoked. Revoked: it ended.
        reason: For people; everybody reads it.
        now_ms: ms UTC.
        sign: Signs with the keys at hand.
        signed: Drafts of an earlier run.
        key: One key; all that have not ended unless given.

    Raises:
        StateError: No such desk or key, nothing left to end, or a move that does not exist.
        UsageError: No reason.
    """
    if isinstance(move, Revoked) and not reason:
        raise UsageError("a revocation needs its reason", hint="everybody will read it: --reason TEXT")
    party = party_of(desk)
    keys = (key,) if key is not None else _all(trust, desk, move)

    def change(body: pb.Roster) -> None:
        for identity in keys:
            if isinstance(move, Revoked):
                end_key(body, desk, identity, reason=reason, now_ms=now_ms)
            else:
                move_key(body, desk, identity, move)

    draft = drafts.next_roster(trust, party, change, now_ms=now_ms)
    groups = (Group(f"{party} roster", trust.party_document(party).roster, "roster"),)
    return compose(draft, groups, trust, party, slot="roster", sign=sign, signed=signed or {}, now_ms=now_ms)


def _all(trust: Trust, desk: str, move: Move) -> tuple[bytes, ...]:
    live = live_keys(trust, desk)
    listed = {
        suite.key_id(k.key.suite, "desk", k.key.key): k.state
        for d in trust.roster(party_of(desk)).body.desks
        if d.desk == desk
        for k in d.keys
    }
    # A prepared key was never used: there is nothing to suspect, it can only be revoked.
    wanted = live if isinstance(move, Revoked) else tuple(i for i in live if listed[i] == pb.KEY_STATE_ACTIVE)
    if not wanted:
        raise StateError(f"{desk} has no key left to {'revoke' if isinstance(move, Revoked) else 'taint'}")
    return wanted


def touched(data: bytes, keys: tuple[bytes, ...]) -> list[Touched]:
    """The envelopes under these keys in an exported list, by time.

    The list is what `tocsin` exports: one JSON object a line, with id, key, channel, create_time_ms, verdict (counted,
    disputed or refused, by docs/PROTOCOL.md section 4.7) and reason. Fields this version does not know are left alone.

    Raises:
        UsageError: Not such a list; names the line.
    """
    if len(data) > MAX_POSITIONS_BYTES:
        raise UsageError(f"a list of positions has at most {MAX_POSITIONS_BYTES} bytes", hint="export a shorter time")
    wanted = {key.hex() for key in keys}
    found = []
    lines = data.splitlines()
    if len(lines) > MAX_POSITIONS:
        raise UsageError(f"a list of positions has at most {MAX_POSITIONS} lines", hint="export a shorter time")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            one = Touched(
                str(row["id"]),
                str(row["verdict"]),
                str(row.get("channel", "")),
                int(row.get("create_time_ms", 0)),
                str(row.get("reason", "")),
            )
            under = str(row["key"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise UsageError(f"line {number} is no position of an envelope", hint="export the list again") from None
        if one.verdict not in VERDICTS:
            raise UsageError(f"line {number} has the verdict {one.verdict!r}", hint=f"one of {', '.join(VERDICTS)}")
        if under in wanted:
            found.append(one)
    return sorted(found, key=lambda each: (each.create_time_ms, each.id))


def summary(found: list[Touched]) -> dict[str, int]:
    """How many of each verdict."""
    return {verdict: sum(each.verdict == verdict for each in found) for verdict in VERDICTS}
