"""An agreement in words: what it says, and who gains and who loses what between two versions. No I/O.

Whoever signs reads this and not the bytes, so nothing a document can say is left out: a field that no sentence shows
would be signed unread.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from keys.errors import UsageError
from keys.trust import party_of
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
KINDS: Final = {
    "embassy": pb.MISSION_KIND_EMBASSY,
    "consulate": pb.MISSION_KIND_CONSULATE,
    "ministry": pb.MISSION_KIND_MINISTRY,
    "agency": pb.MISSION_KIND_AGENCY,
    "company": pb.MISSION_KIND_COMPANY,
    "university": pb.MISSION_KIND_UNIVERSITY,
}
KIND_NAMES: Final[dict[int, str]] = {value: name for name, value in KINDS.items()}
UNITS_MS: Final = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_DURATION: Final = re.compile(r"(0|[1-9][0-9]{0,9}) ?(ms|s|m|h|d)")
# 9999-12-31: the last moment the calendar of the standard library can show.
_LAST_MS: Final = 253_402_300_799_999


def matches(selector: pb.Selector, mission: pb.Mission) -> bool:
    """Whether a selector chooses a mission; empty fields match every value."""
    return (
        (not selector.party or selector.party == party_of(mission.mission))
        and (selector.kind == pb.MISSION_KIND_UNSPECIFIED or selector.kind == mission.kind)
        and (not selector.mission or selector.mission == mission.mission)
    )


def describe(agreement: pb.Agreement) -> list[str]:
    """The whole agreement, one sentence a line."""
    lines = [f"{what}: {value}" for what, value in _facts(agreement).items()]
    lines += [f"party {p.party}: its first party document is {p.first_party.hex()}" for p in agreement.parties]
    for rule in agreement.channels:
        lines += [f"{rule.channel}: {'; '.join(whom)} may {what}" for what, whom in _together(rule).items()]
        lines.append(f"{rule.channel}: " + "; ".join(f"{what} {value}" for what, value in _duties(rule).items()))
    return lines


def diff(old: pb.Agreement, new: pb.Agreement) -> list[str]:
    """In words, who gains and who loses what between two versions."""
    lines = []
    before, after = ({rule.channel: rule for rule in body.channels} for body in (old, new))
    for name in sorted({*before, *after}):
        was, now = before.get(name), after.get(name)
        if was is None or now is None:
            lines.append(f"{name}: {'the channel is new' if was is None else 'the channel ends'}")
        lost, gained = _grants(was) - _grants(now), _grants(now) - _grants(was)
        lines += [f"{name}: {who} may no longer {what}" for who, what in sorted(lost)]
        lines += [f"{name}: {who} may now {what}" for who, what in sorted(gained)]
        lines += _changes(f"{name}: ", _duties(was), _duties(now))
    lines += _changes("", _facts(old), _facts(new))
    first_before, first_after = ({p.party: p.first_party.hex() for p in body.parties} for body in (old, new))
    lines += _changes("first party document of ", first_before, first_after)
    return lines


def duration(ms: int) -> str:
    """A length of time: 72 h, 35 d, 90 s, and 14 d 10 m where one unit would be a large number."""
    for unit, size in UNITS_MS.items():
        if ms and ms % size == 0 and (unit != "d" or ms >= 4 * size) and ms < 1000 * size:
            return f"{ms // size} {unit}"
    parts, rest = [], ms
    for unit, size in UNITS_MS.items():
        if count := rest // size:
            parts.append(f"{count} {unit}")
        rest %= size
    return " ".join(parts) or "0"


def milliseconds(text: str) -> int:
    """The length of time in "90s", "5m", "72h" or "14d".

    Raises:
        UsageError: Anything else.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        raise UsageError(f"{text!r} is no length of time", hint="write it as 90s, 5m, 72h or 14d")
    return int(found[1]) * UNITS_MS[found[2]]


def moment(ms: int) -> str:
    """A time in UTC to the millisecond."""
    if not 0 < ms <= _LAST_MS:
        return "never" if not ms else f"{ms} ms after 1970"
    whole = datetime.fromtimestamp(ms // 1000, UTC)
    return f"{whole:%Y-%m-%d %H:%M:%S}{f'.{ms % 1000:03}' if ms % 1000 else ''} UTC"


def kind_name(kind: int) -> str:
    """A kind of mission in words, one of a newer version by its number."""
    return KIND_NAMES.get(kind, f"kind {kind}")


def marking_name(marking: int) -> str:
    """A marking in words, one of a newer version by its number."""
    return MARKING_NAMES.get(marking, f"marking {marking}")


def who(selector: pb.Selector) -> str:
    """The missions a selector chooses, in words."""
    what = "missions" if selector.kind == pb.MISSION_KIND_UNSPECIFIED else f"{kind_name(selector.kind)} missions"
    if not selector.mission:
        return f"{what} of {selector.party or 'every party'}"
    if not selector.party and selector.kind == pb.MISSION_KIND_UNSPECIFIED:
        return str(selector.mission)
    return f"{selector.mission} if among {what} of {selector.party or 'every party'}"


def _together(rule: pb.ChannelRule) -> dict[str, list[str]]:
    """What may be done -> by whom, with the four kinds of government as one word where a rule names them all."""
    government = {kind_name(kind) for kind in GOVERNMENT}
    kinds: dict[str, dict[str, set[str]]] = {}
    out: dict[str, list[str]] = {}
    granted = [(s, "publish") for s in rule.publish]
    granted += [(r.who, f"read up to {marking_name(r.highest)}") for r in rule.read]
    for selector, what in granted:
        whom = out.setdefault(what, [])
        if selector.mission or selector.kind == pb.MISSION_KIND_UNSPECIFIED:
            whom.append(who(selector))
        else:
            kinds.setdefault(what, {}).setdefault(selector.party, set()).add(kind_name(selector.kind))
    for what, parties in kinds.items():
        for party, named in parties.items():
            words = [*(["government"] if named >= government else []), *sorted(named - government)]
            words = words if named >= government else sorted(named)
            out[what].append(f"{', '.join(words)} missions of {party or 'every party'}")
    return out


def _grants(rule: pb.ChannelRule | None) -> set[tuple[str, str]]:
    if rule is None:
        return set()
    return {(who(s), "publish") for s in rule.publish} | {
        (who(r.who), f"read up to {marking_name(r.highest)}") for r in rule.read
    }


def _duties(rule: pb.ChannelRule | None) -> dict[str, str]:
    if rule is None:
        return {}
    return {
        "longest silence of a publisher": duration(rule.cadence_ms) if rule.cadence_ms else "none set",
        "kept by nodes for": duration(rule.retention_ms) if rule.retention_ms else "ever",
        "readers acknowledge": "yes" if rule.acknowledge else "no",
        "courier key": rule.courier_group or "none",
        "wait for a missing number": duration(rule.gap_wait_ms),
    }


def _facts(body: pb.Agreement) -> dict[str, str]:
    return {
        "title": body.title or "(none)",
        "kind": "an exercise, never mixed with production" if body.drill else "production",
        "takes effect": moment(body.effective_time_ms),
        "ends": moment(body.expire_time_ms),
        "a revocation may stay unknown for (R)": duration(body.revocation_ms),
        "an envelope may be under way for (L)": duration(body.lifetime_ms),
        "clocks may differ by (S)": duration(body.skew_ms),
        "a new desk waits before it reads (hold)": duration(body.hold_ms),
        "the version before still counts for (grace)": duration(body.grace_ms),
        "when a party's status is older than R": "all stops" if body.stop_when_stale else "all goes on, loudly",
        "suites": ", ".join(map(str, body.suites)) or "none",
        "protocol versions": ", ".join(map(str, body.protocols)) or "none",
        "takes the place of dead lineages": ", ".join(dead.hex() for dead in body.dead_lineages) or "none",
        "desks at one mission": ", ".join(f"{kind_name(c.kind)} at most {c.desks}" for c in body.caps) or "no limit",
    }


def _changes(prefix: str, old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Facts that differ; of something new or gone, the other facts were said by its own sentence."""
    if not old or not new:
        return [f"{prefix}{what} {value}" for what, value in new.items()]
    return [
        f"{prefix}{what} {old.get(what, 'nothing')} -> {new.get(what, 'nothing')}"
        for what in dict.fromkeys((*old, *new))
        if old.get(what) != new.get(what)
    ]
