"""Audiences by pinned documents, computed once between the times at which they can change. No I/O."""

from bisect import bisect_right
from collections.abc import Mapping
from typing import Final

from exchange import policy
from exchange.v1 import envelope_pb2 as pb
from keys.trust import AgreementView, RosterView

CACHED: Final = 4096


class Audiences:
    """A bounded cache over `policy.audience`."""

    def __init__(self) -> None:
        self._audiences: dict[tuple[object, ...], tuple[str, ...]] = {}
        self._boundaries: dict[tuple[bytes, ...], list[int]] = {}

    def find(self, header: pb.Header, agreement: AgreementView, rosters: Mapping[str, RosterView]) -> tuple[str, ...]:
        """The desks that may read an envelope with that header, by the documents it pins."""
        pins = tuple(view.document.digest for view in rosters.values())
        interval = bisect_right(self._times(pins, rosters), header.create_time_ms)
        key = (agreement.digest, pins, header.sender, header.channel, header.marking, interval)
        if key not in self._audiences:
            if len(self._audiences) >= CACHED:
                self._audiences.clear()
            self._audiences[key] = policy.audience(
                agreement,
                rosters,
                sender=header.sender,
                channel=header.channel,
                marking=header.marking,
                time_ms=header.create_time_ms,
            )
        return self._audiences[key]

    def _times(self, pins: tuple[bytes, ...], rosters: Mapping[str, RosterView]) -> list[int]:
        """When a hold ends, or a key begins or ends: between two of these an audience stays what it is."""
        if pins not in self._boundaries:
            if len(self._boundaries) >= CACHED:
                self._boundaries.clear()
            times: set[int] = set()
            for desk in (desk for view in rosters.values() for desk in view.desks.values()):
                times.add(desk.held_until_ms)
                for key in desk.keys.values():
                    times |= {key.first_use_ms, key.last_use_ms}
            self._boundaries[pins] = sorted(times)
        return self._boundaries[pins]
