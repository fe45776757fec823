"""A party's people and machines in words: what a roster changes, and who reads more or less than before. No I/O.

A roster is signed by one party alone and decides who reads what the other one writes, so its signer sees every change.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from google.protobuf.message import Message

from keys import suite, terms
from keys.trust import mission_of
from keys.v1 import documents_pb2 as pb

STATES: Final[dict[int, str]] = {
    pb.KEY_STATE_PREPARED: "prepared",
    pb.KEY_STATE_ACTIVE: "active",
    pb.KEY_STATE_TAINTED: "tainted",
    pb.KEY_STATE_REVOKED: "revoked",
}


def describe(agreement: pb.Agreement, roster: pb.Roster) -> list[str]:
    """The whole roster, one sentence a line."""
    return diff(agreement, pb.Roster(), roster)


def diff(agreement: pb.Agreement, old: pb.Roster, new: pb.Roster) -> list[str]:
    """In words, what changes between two rosters of a party; readership first, because it touches others."""
    lines = _readership(agreement, old, new)
    lines += _compare(old.missions, new.missions, lambda m: m.mission, _mission, "mission")
    lines += _compare(old.desks, new.desks, lambda d: d.desk, _desk, "desk")
    lines += _compare(old.nodes, new.nodes, lambda n: n.node, _node, "node")
    # Named by all they say: of two for one key or channel, neither hides the other.
    lines += _compare(old.revocations, new.revocations, _revocation, lambda _: {}, "revocation of key")
    lines += _compare(old.suspensions, new.suspensions, _suspension, lambda _: {}, "suspension of")
    if old.expire_time_ms != new.expire_time_ms:
        lines.append(f"the roster ends {terms.moment(new.expire_time_ms)}")
    return lines


def reads(agreement: pb.Agreement, mission: pb.Mission) -> dict[str, int]:
    """The highest marking a mission reads, by channel."""
    found: dict[str, int] = {}
    for rule in agreement.channels:
        highest = max((int(r.highest) for r in rule.read if terms.matches(r.who, mission)), default=0)
        if mission.kind not in terms.GOVERNMENT:
            # AMBER+STRICT and RED are for governments, whatever a rule says (docs/PROTOCOL.md section 6.2).
            highest = min(highest, int(pb.MARKING_AMBER))
        if highest:
            found[rule.channel] = highest
    return found


def suspended(suspension: pb.Suspension) -> str:
    """What a suspension stops, in words."""
    what = suspension.name or "all desks of the party"
    if suspension.channel and not suspension.name:
        return f"channel {suspension.channel}"
    return f"{what} on {suspension.channel}" if suspension.channel else what


def _readership(agreement: pb.Agreement, old: pb.Roster, new: pb.Roster) -> list[str]:
    before, after = _readers(agreement, old), _readers(agreement, new)
    lines = []
    for desk in sorted({*before, *after}):
        was, now = before.get(desk, {}), after.get(desk, {})
        for channel in sorted({*was, *now}):
            had, has = was.get(channel, 0), now.get(channel, 0)
            if has > had:
                lines.append(f"{desk} may now read {channel} up to {terms.marking_name(has)}")
            elif has < had:
                rest = f"only up to {terms.marking_name(has)}" if has else "no longer at all"
                lines.append(f"{desk} may read {channel} {rest}")
    return lines


def _readers(agreement: pb.Agreement, roster: pb.Roster) -> dict[str, dict[str, int]]:
    missions = {m.mission: m for m in roster.missions}
    return {
        desk.desk: reads(agreement, missions[mission_of(desk.desk)])
        for desk in roster.desks
        if mission_of(desk.desk) in missions and any(k.state == pb.KEY_STATE_ACTIVE for k in desk.keys)
    }


def _mission(mission: pb.Mission) -> dict[str, str]:
    return {
        "kind": terms.kind_name(mission.kind),
        "names": ", ".join(f"{n.name} ({n.language})" for n in mission.names) or "none",
        "place": mission.locode or "unknown",
        "node": mission.node,
    }


def _desk(desk: pb.Desk) -> dict[str, str]:
    facts = {}
    for listed in desk.keys:
        until = f" to {terms.moment(listed.last_use_ms)}" if listed.last_use_ms else ""
        since = f" from {terms.moment(listed.first_use_ms)}" if listed.first_use_ms else ""
        state = STATES.get(listed.state, f"state {listed.state}")
        # Whole: of two keys that share a short form, made to share it, one would go unseen.
        identity = suite.key_id(listed.key.suite, "desk", listed.key.key).hex()
        facts[f"key {identity}"] = f"{state}{since}{until}, suite {listed.key.suite}"
    return facts


def _node(node: pb.Node) -> dict[str, str]:
    log_key = suite.key_id(node.log_key.suite, "log", node.log_key.key).hex()
    return {
        "address": node.endpoint,
        "enrolment": node.enrol_endpoint,
        "log key": f"{log_key}, suite {node.log_key.suite}",
        "relays": ", ".join(node.relays) or "none",
    }


def _revocation(revocation: pb.Revocation) -> str:
    return f"{revocation.key.hex()}, {terms.moment(revocation.time_ms)}: {revocation.reason}"


def _suspension(suspension: pb.Suspension) -> str:
    return f"{suspended(suspension)}: {suspension.reason}"


def _compare(
    old: Sequence[Any],
    new: Sequence[Any],
    name_of: Callable[[Any], str],
    facts_of: Callable[[Any], Mapping[str, str]],
    what: str,
) -> list[str]:
    before, after = ({name_of(each): each for each in each_side} for each_side in (old, new))
    lines = []
    for name in sorted({*before, *after}):
        was, now = before.get(name), after.get(name)
        if now is None:
            lines.append(f"{what} {name} is gone")
        elif was is None:
            said = "; ".join(f"{fact} {value}" for fact, value in facts_of(now).items())
            lines.append(f"new {what} {name}" + (f": {said}" if said else ""))
        elif _bytes(was) != _bytes(now):
            lines += [f"{what} {name}: {change}" for change in _changes(facts_of(was), facts_of(now))]
    return lines


def _changes(was: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    changed = [
        f"{fact} {was.get(fact, 'none')} -> {now.get(fact, 'none')}"
        for fact in dict.fromkeys((*was, *now))
        if was.get(fact) != now.get(fact)
    ]
    # A certificate or a proof has no words of its own, but its change is not passed over.
    return changed or ["certificate or proof replaced"]


def _bytes(message: Message) -> bytes:
    return message.SerializeToString(deterministic=True)
