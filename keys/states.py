"""The states of a desk's signing key: every change there is, in one table. No I/O.

Source: docs/PROTOCOL.md section 4.4 (key states only move forward); section 4.6 (what ends a key).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from keys import suite
from keys.errors import UsageError
from keys.v1 import documents_pb2 as pb


class KeyState(IntEnum):
    """State of a desk's signing key, as in a roster."""

    PREPARED = pb.KEY_STATE_PREPARED
    ACTIVE = pb.KEY_STATE_ACTIVE
    TAINTED = pb.KEY_STATE_TAINTED
    REVOKED = pb.KEY_STATE_REVOKED


@dataclass(frozen=True, slots=True)
class Activated:
    """Its first use is fixed."""


@dataclass(frozen=True, slots=True)
class Tainted:
    """It may be in wrong hands."""


@dataclass(frozen=True, slots=True)
class Revoked:
    """It ended."""


Move = Activated | Tainted | Revoked
TRANSITIONS: Final[Mapping[KeyState, Mapping[type[Move], KeyState]]] = {  # every state change is in here
    KeyState.PREPARED: {Activated: KeyState.ACTIVE, Revoked: KeyState.REVOKED},
    KeyState.ACTIVE: {Tainted: KeyState.TAINTED, Revoked: KeyState.REVOKED},
    KeyState.TAINTED: {Revoked: KeyState.REVOKED},
    KeyState.REVOKED: {},
}


class StateError(UsageError):
    """A key cannot go from the state it is in to the one asked for."""

    hint = "take the newest documents; `tocsin-keys roster show` says every key and its state"


def moved(state: KeyState, move: Move) -> KeyState:
    """The state after a move.

    Raises:
        StateError: There is no such move from there.
    """
    after = TRANSITIONS[state].get(type(move))
    if after is None:
        ways = ", ".join(kind.__name__.lower() for kind in TRANSITIONS[state]) or "nowhere: it has ended"
        raise StateError(
            f"a key that is {state.name.lower()} cannot be {type(move).__name__.lower()}", hint=f"from there: {ways}"
        )
    return after


def move_key(body: pb.Roster, desk: str, identity: bytes, move: Move) -> pb.DeskKey:
    """Move a key of a desk in a roster to be.

    Raises:
        StateError: No such desk or key, or no such move.
    """
    entry = next((d for d in body.desks if d.desk == desk), None)
    for listed in entry.keys if entry else ():
        if suite.key_id(listed.key.suite, "desk", listed.key.key) == identity:
            listed.state = moved(KeyState(listed.state), move).value
            return listed
    raise StateError(f"the roster lists no key {identity.hex()} of {desk}", hint="check the name and the roster")


def end_key(body: pb.Roster, desk: str, identity: bytes, *, reason: str, now_ms: int) -> None:
    """Revoke a key in a roster to be: its state, and a revocation that outlives its entry.

    Raises:
        StateError: No such key, or it ended before.
    """
    move_key(body, desk, identity, Revoked())
    if all(revocation.key != identity for revocation in body.revocations):
        body.revocations.add(key=identity, time_ms=now_ms, reason=reason)
