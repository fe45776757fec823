"""What ends when: agreement, rosters, statuses, key cards, certificates, prepared keys; and how near that is. No I/O.

Warnings come 60, 30, 14 and 3 days ahead of the end of what lives 90 days or more. What lives shorter, such as a status
of 72 hours, is warned of at the same shares of its life: a daily status would else be critical from its first minute.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from keys.trust import FIRST_MONDAY_MS, WEEK_MS, MissingDocumentError, RosterView, Trust, week_of
from keys.trust.cards import CARDS_AHEAD
from keys.v1 import documents_pb2 as pb

DAY_MS: Final = 86_400_000
STEPS_DAYS: Final = (60, 30, 14, 3)
FULL_LIFE_MS: Final = 90 * DAY_MS


class Level(IntEnum):
    """How bad it is; also the exit code of `tocsin-keys status`."""

    OK = 0
    WARN = 1
    CRITICAL = 2


# 60 and 30 days leave time for a ceremony of two countries; 14 days are L, the time mail may be under way.
_LEVELS: Final = {60: Level.WARN, 30: Level.WARN, 14: Level.CRITICAL, 3: Level.CRITICAL}


@dataclass(frozen=True, slots=True)
class Ending:
    """One thing that ends.

    Attributes:
        what: "agreement 1", "kr roster 1.2", "card of nl.seoul/economic", ...
        ends_ms: When, ms UTC.
        life_ms: How long it lives from its making.
        advice: What to do before.
    """

    what: str
    ends_ms: int
    life_ms: int
    advice: str

    def step_days(self, now_ms: int) -> int | None:
        """The last of the steps passed, in days for a life of 90 days; 0 when it has ended; None before the first."""
        left = self.ends_ms - now_ms
        if left <= 0:
            return 0
        scale = min(self.life_ms, FULL_LIFE_MS) / FULL_LIFE_MS
        passed = [days for days in STEPS_DAYS if left <= days * DAY_MS * scale]
        return min(passed) if passed else None

    def level(self, now_ms: int) -> Level:
        """How near the end is."""
        step = self.step_days(now_ms)
        return Level.OK if step is None else _LEVELS.get(step, Level.CRITICAL)


def endings(trust: Trust, *, now_ms: int) -> list[Ending]:
    """Everything in the documents held that ends, soonest first."""
    found = [*_agreement(trust)]
    for party in trust.parties:
        found += _party(trust, party, now_ms)
    return sorted(found, key=lambda ending: (ending.ends_ms, ending.what))


def missing(trust: Trust) -> list[str]:
    """What an exchange cannot do without and is not held."""
    lines = []
    for party in trust.parties:
        if not trust.has_roster(party):
            lines.append(f"no roster of {party} is held")
        if trust.status(party) is None:
            lines.append(f"no status of {party} is held")
    return lines


def worst(found: Iterable[Ending], lacking: Iterable[str], *, now_ms: int) -> Level:
    """The level of the whole."""
    levels = [ending.level(now_ms) for ending in found]
    return max([*levels, *(Level.CRITICAL for _ in lacking)], default=Level.OK)


def _agreement(trust: Trust) -> Iterator[Ending]:
    newest = trust.agreement(2**63).body
    yield Ending(
        f"agreement {newest.version}",
        newest.expire_time_ms,
        newest.expire_time_ms - newest.effective_time_ms,
        "draft the next version with the other party: `agreement draft`",
    )


def _party(trust: Trust, party: str, now_ms: int) -> Iterator[Ending]:
    try:
        view = trust.roster(party)
    except MissingDocumentError:
        return
    body = view.body
    yield Ending(
        f"{party} roster {body.generation}.{body.version}",
        body.expire_time_ms,
        body.expire_time_ms - body.issue_time_ms,
        "draft and sign the next one: `roster draft`",
    )
    status = trust.status(party)
    limit = trust.agreement(now_ms).body.revocation_ms
    if status is not None:
        yield Ending(
            f"{party} status {status.generation}.{status.version}",
            status.issue_time_ms + limit,
            limit,
            "issue one: `status issue`; is `status serve` running?",
        )
    yield from _keys(view)
    yield from _cards(trust, view, now_ms)


def _keys(view: RosterView) -> Iterator[Ending]:
    for desk in view.desks.values():
        for key in desk.keys.values():
            identity = key.id.hex()[:8]
            if key.state == pb.KEY_STATE_PREPARED and key.first_use_ms:
                yield Ending(
                    f"waiting time of prepared key {identity} of {desk.name}",
                    key.first_use_ms,
                    FULL_LIFE_MS,
                    "activate it in the next roster",
                )
            elif key.state == pb.KEY_STATE_ACTIVE and key.last_use_ms:
                yield Ending(
                    f"signing key {identity} of {desk.name}",
                    key.last_use_ms,
                    FULL_LIFE_MS,
                    "activate another key of the desk before",
                )


def _cards(trust: Trust, view: RosterView, now_ms: int) -> Iterator[Ending]:
    """Cards held, when any are: a bundle for the ceremony carries none."""
    this_week = week_of(now_ms)
    for desk in view.desks:
        weeks = [w for w in range(this_week - 4, this_week + CARDS_AHEAD + 2) if trust.card(desk, w) is not None]
        if weeks:
            yield Ending(
                f"key cards of {desk}",
                FIRST_MONDAY_MS + (weeks[-1] + 1) * WEEK_MS,
                (CARDS_AHEAD + 1) * WEEK_MS,
                "start the desk: it hands in the next cards by itself",
            )
