"""Policy: agreement and rosters -> who may publish, who reads, and why (docs/PROTOCOL.md section 6). No I/O."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from keys.trust import AgreementView, Desk, RosterView, party_of
from keys.v1 import documents_pb2 as pb

GOVERNMENT: Final = frozenset(
    {pb.MISSION_KIND_EMBASSY, pb.MISSION_KIND_CONSULATE, pb.MISSION_KIND_MINISTRY, pb.MISSION_KIND_AGENCY}
)
MARKINGS: Final = {
    "CLEAR": pb.MARKING_CLEAR,
    "GREEN": pb.MARKING_GREEN,
    "AMBER": pb.MARKING_AMBER,
    "AMBER+STRICT": pb.MARKING_AMBER_STRICT,
    "RED": pb.MARKING_RED,
}
MARKING_NAMES: Final[dict[int, str]] = {value: name for name, value in MARKINGS.items()}


@dataclass(frozen=True, slots=True)
class Reading:
    """Whether one desk reads, and the rule that decides, in words."""

    desk: str
    reads: bool
    why: str


def matches(selector: pb.Selector, mission: pb.Mission) -> bool:
    """Whether a selector chooses a mission; empty fields match every value."""
    return (
        (not selector.party or selector.party == party_of(mission.mission))
        and (selector.kind == pb.MISSION_KIND_UNSPECIFIED or selector.kind == mission.kind)
        and (not selector.mission or selector.mission == mission.mission)
    )


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


def active(desk: Desk, time_ms: int) -> bool:
    """Whether a desk has a key in use at a time and has passed its hold."""
    return desk.held_until_ms <= time_ms and any(
        key.state == pb.KEY_STATE_ACTIVE
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
                if reads and not active(desk, time_ms):
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


def diff(old: pb.Agreement, new: pb.Agreement) -> list[str]:
    """In words, who gains and who loses what between two versions."""
    lines = []
    before, after = ({rule.channel: rule for rule in body.channels} for body in (old, new))
    for name in sorted({*before, *after}):
        was, now = _grants(before.get(name)), _grants(after.get(name))
        lines += [f"{name}: {who} may no longer {what}" for who, what in sorted(was - now)]
        lines += [f"{name}: {who} may now {what}" for who, what in sorted(now - was)]
        if name in before and name in after:
            for duty in ("cadence_ms", "retention_ms", "acknowledge", "courier_group", "gap_wait_ms"):
                if getattr(before[name], duty) != getattr(after[name], duty):
                    lines.append(f"{name}: {duty} {getattr(before[name], duty)!r} -> {getattr(after[name], duty)!r}")
    for bound in (
        "revocation_ms",
        "lifetime_ms",
        "skew_ms",
        "hold_ms",
        "grace_ms",
        "expire_time_ms",
        "stop_when_stale",
    ):
        if getattr(old, bound) != getattr(new, bound):
            lines.append(f"{bound} {getattr(old, bound)} -> {getattr(new, bound)}")
    if list(old.suites) != list(new.suites):
        lines.append(f"suites {list(old.suites)} -> {list(new.suites)}")
    return lines


def _who(selector: pb.Selector) -> str:
    if selector.mission:
        return selector.mission
    kind = pb.MissionKind.Name(selector.kind).removeprefix("MISSION_KIND_").lower()
    what = "missions" if selector.kind == pb.MISSION_KIND_UNSPECIFIED else f"{kind} missions"
    return f"{what} of {selector.party or 'every party'}"


def _grants(rule: pb.ChannelRule | None) -> set[tuple[str, str]]:
    if rule is None:
        return set()
    return {(_who(s), "publish") for s in rule.publish} | {
        (_who(r.who), f"read up to {MARKING_NAMES.get(r.highest, '?')}") for r in rule.read
    }
