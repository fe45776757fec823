"""A party document in words: who holds its keys, how many must sign, and what a new version replaces. No I/O."""

from collections.abc import Iterator
from typing import Final

from keys import suite, terms
from keys.v1 import documents_pb2 as pb

ROLES: Final = ("root", "roster", "status")


def describe(party: pb.Party) -> list[str]:
    """The whole document, one sentence a line; keys by their whole identity."""
    lines = [f"party {party.party}, issued {terms.moment(party.issue_time_ms)}"]
    for role, keys in _roles(party):
        lines.append(f"{role}: {keys.threshold} of {len(keys.keys)} holders sign (generation {keys.generation})")
        lines += [f"{role} key of {k.holder}: {_identity(k, role)}, suite {k.key.suite}" for k in keys.keys]
    return lines


def diff(old: pb.Party, new: pb.Party) -> list[str]:
    """In words, whose keys come, go or change, and which thresholds move."""
    lines = []
    for (role, was), (_, now) in zip(_roles(old), _roles(new), strict=True):
        before, after = ({k.holder: _identity(k, role) for k in keys.keys} for keys in (was, now))
        for holder in sorted({*before, *after}):
            if holder not in after:
                lines.append(f"{role}: {holder} no longer holds a key")
            elif holder not in before:
                lines.append(f"{role}: {holder} holds a key now, {after[holder]}")
            elif before[holder] != after[holder]:
                lines.append(f"{role}: the key of {holder} is replaced, {before[holder]} -> {after[holder]}")
        if was.threshold != now.threshold:
            lines.append(f"{role}: {was.threshold} -> {now.threshold} holders sign")
        if was.generation != now.generation:
            lines.append(f"{role}: generation {was.generation} -> {now.generation}, which voids its documents")
    return lines


def _roles(party: pb.Party) -> Iterator[tuple[str, pb.RoleKeys]]:
    for role in ROLES:
        yield role, getattr(party, role)


def _identity(holder: pb.HolderKey, role: str) -> str:
    return suite.key_id(holder.key.suite, role, holder.key.key).hex()
