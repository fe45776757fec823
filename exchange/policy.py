"""Policy: agreement and rosters -> who may publish, who reads, and why (docs/PROTOCOL.md section 6). No I/O.

Selectors, the names of markings, and differences in words are those of keys.terms.
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

from keys.terms import GOVERNMENT, MARKING_NAMES, MARKINGS, diff, matches
from keys.trust import AgreementView, Desk, RosterView, party_of
from keys.v1 import documents_pb2 as pb

__all__ = [
    "GOVERNMENT",
    "MARKINGS",
    "MARKING_NAMES",
    "Reading",
    "active",
    "audience",
    "diff",
    "explain",
    "find_desk",
    "matches",
    "may_publish",
]


@dataclass(frozen=True, slots=True)
class Reading:
    """Whether one desk reads, and the rule that decides, in words."""

    desk: str
    reads: bool
    why: str


def find_desk(rosters: Mapping[str, RosterView], name: str) -> tuple[Desk, pb.Mission] | None:
    """A desk and its mission in the pinned rosters."""
    view = rosters.get(party_of(name))
    desk = view.desks.get(name) if view else None
    return (desk, view.missions[desk.mission]) if view and desk else None


def may_publish(agreement: AgreementView, rosters: Mapping[str, RosterView], *, sender: str, channel: str) -> bool:
    """Whether the agreement lets the sender's mission publish on the channel."""
    rule = agreement.channels.get(channel)
    found = find_desk(rosters, sender)
    return rule is not None and found is not None and any(matches(s, found[1]) for s in rule.publish)


def active(desk: Desk, time_ms: int, suites: Container[int]) -> bool:
    """Whether a desk has a key in use at a time, of a suite the agreement lists, and has passed its hold."""
    return desk.held_until_ms <= time_ms and any(
        key.suite in suites
        and key.state == pb.KEY_STATE_ACTIVE
        and key.first_use_ms <= time_ms
        and (not key.last_use_ms or time_ms < key.last_use_ms)
        for key in desk.keys.values()
    )


def audience(
    agreement: AgreementView,
    rosters: Mapping[str, RosterView],
    *,
    sender: str,
    channel: str,
    marking: pb.Marking,
    time_ms: int,
    named: Iterable[str] | None = None,
) -> tuple[str, ...]:
    """The desks that read, sorted, sender excluded: everyone computes the same.

    Args:
        time_ms: The envelope's create time, ms UTC.
        named: Only for RED: the desks named; the result is those of them that may read.

    Source: docs/PROTOCOL.md section 6.2.
    """
    readings = explain(agreement, rosters, sender=sender, channel=channel, marking=marking, time_ms=time_ms)
    chosen = frozenset(named) if named is not None and marking == pb.MARKING_RED else None
    return tuple(r.desk for r in readings if r.reads and (chosen is None or r.desk in chosen))


def explain(
    agreement: AgreementView,
    rosters: Mapping[str, RosterView],
    *,
    sender: str,
    channel: str,
    marking: pb.Marking,
    time_ms: int,
) -> list[Reading]:
    """Every desk of the pinned rosters, sorted: does it read, and by which rule."""
    rule = agreement.channels.get(channel)
    version = agreement.body.version
    readings = []
    for view in rosters.values():
        for desk in view.desks.values():
            mission = view.missions[desk.mission]
            reads, why = False, f"agreement {version} has no channel {channel!r}"
            if desk.name == sender:
                why = "is the sender"
            elif rule is not None:
                reads, why = _reading(rule, mission, marking, version)
                if reads and not active(desk, time_ms, agreement.body.suites):
                    reads, why = False, "has no key in use, or is still in its hold time"
            readings.append(Reading(desk.name, reads, why))
        readings += [Reading(name, False, f"disabled: {why}") for name, why in view.disabled.items()]
    return sorted(readings, key=lambda reading: reading.desk)


def _reading(rule: pb.ChannelRule, mission: pb.Mission, marking: pb.Marking, version: int) -> tuple[bool, str]:
    where = f"agreement {version}, channel {rule.channel}"
    if marking >= pb.MARKING_AMBER_STRICT and mission.kind not in GOVERNMENT:
        return False, f"{where}: {MARKING_NAMES[marking]} is for governments only"
    highest = max((r.highest for r in rule.read if matches(r.who, mission)), default=0)
    if not highest:
        return False, f"{where}: no read rule matches {mission.mission}"
    if marking > highest:
        return (
            False,
            f"{where}: {mission.mission} reads up to {MARKING_NAMES[highest]}, this is {MARKING_NAMES[marking]}",
        )
    return True, f"{where}: {mission.mission} reads up to {MARKING_NAMES[highest]}"
