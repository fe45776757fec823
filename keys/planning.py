"""Making a plan by the documents held: what goes, whether what comes can be taken, and times that keep every window. No I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Final

from keys import suite, windows
from keys.encoding import digest, parse_canonical
from keys.errors import SignatureError, TocsinError, UsageError
from keys.plan import NODE_KINDS, ROLE_KINDS, Plan, PlanError, new_identities
from keys.trust import Trust
from keys.v1 import documents_pb2 as pb
from keys.windows import Bounds, Kind, Times

# Everything is a little late: a holder on leave, a courier delayed. Within a day the plan still stands.
MARGIN_MS: Final = 24 * 3600 * 1000
FAR_MS: Final = 2**62
"""A time after every amendment held."""


def make(
    trust: Trust,
    *,
    party: str,
    kind: Kind,
    name: str,
    new: bytes,
    now_ms: int,
    times: Mapping[str, int] | None = None,
    offline: Sequence[str] = (),
    emergency: bool = False,
    base: bytes = b"",
) -> Plan:
    """Plan a rotation by the documents held.

    Args:
        trust: Every document of the exchange.
        party: Whose key.
        kind: Which kind; cards rotate by themselves.
        name: Desk, node or courier group; "" for a role.
        new: As in Plan.
        now_ms: The first step is due now, unless `times` says otherwise.
        times: "announce_ms", "publish_ms", "first_use_ms", "retire_ms" where a person wants other times than the
            earliest with a margin of a day.
        offline: Parties whose confirmation is not waited for.
        emergency: All at once; no window is kept.
        base: For new roster keys: digest of the last roster that is believed, when the newest is a thief's.

    Raises:
        WindowError: Times that break the algebra: the rule, and the earliest that works.
        PlanError: Nothing to replace, or a new key that could never be taken.
    """
    if kind is Kind.CARD:
        raise PlanError("key cards rotate by themselves, every week", hint="to end cards, revoke the desk's key")
    if party not in trust.parties:
        raise PlanError(f"{party} is no party of this exchange", hint=f"one of {', '.join(trust.parties)}")
    strangers = sorted(set(offline) - (set(trust.parties) - {party}))
    if strangers:
        raise PlanError(f"not another party: {', '.join(strangers)}")
    if base and (kind is not Kind.ROSTER or trust.find_roster(base).party != party):
        raise PlanError("only new roster keys begin with a copy of an earlier roster, of the same party")
    old = _old(trust, party, kind, name, emergency)
    _check_new(trust, party, kind, name, new, old)
    wanted = dict(times or {})
    start = wanted.get("announce_ms", now_ms)
    if start < now_ms:
        raise PlanError(f"the first step lies in the past: {windows.iso(start)}")
    bounds = windows.bounds_of(trust, from_ms=now_ms, until_ms=FAR_MS)
    if emergency:
        chosen = Times(start, start, start, start)
    else:
        chosen = _times(kind, bounds, start, wanted)
        windows.check(kind, chosen, bounds)
        ends = trust.agreement(FAR_MS).body.expire_time_ms
        if chosen.retire_ms > ends:
            raise PlanError(
                f"the agreement ends {windows.iso(ends)}, before the plan does", hint="renew the agreement first"
            )
    said = tuple(sorted(set(offline)))
    return Plan(trust.lineage, party, kind, name, old, new, chosen, bounds, said, emergency, base)


def _times(kind: Kind, bounds: Bounds, start_ms: int, wanted: Mapping[str, int]) -> Times:
    """The earliest with a margin, each time given instead where a person gave one; later ones follow from those."""
    times = Times(start_ms, start_ms, start_ms, start_ms)
    for name, time in (("publish_ms", "publish"), ("first_use_ms", "first-use"), ("retire_ms", "retire")):
        value = max(times.announce_ms, times.publish_ms if name != "publish_ms" else 0)
        for rule in windows.RULES[kind]:
            if rule.time == time and rule.earliest is not None:
                # Where a rule fixes one moment there is nothing to be late for.
                exact = rule.latest is not None and rule.latest(times, bounds) == rule.earliest(times, bounds)
                # A peer may take R to hear of an announcement, and its answer R to come back.
                patience = 2 * bounds.revocation_ms if rule.id == "desk.publish" else 0
                value = max(value, rule.earliest(times, bounds) + patience + (0 if exact else MARGIN_MS))
        times = _with(times, name, wanted.get(name, value))
    return times


def _with(times: Times, name: str, value: int) -> Times:
    fields = asdict(times)
    order = list(fields)
    for later in order[order.index(name) :]:
        fields[later] = max(value, fields[later]) if later != name else value
    return Times(**fields)


def _old(trust: Trust, party: str, kind: Kind, name: str, emergency: bool) -> tuple[bytes, ...]:
    if kind in ROLE_KINDS:
        if name:
            raise PlanError(f"{kind} keys belong to the party, not to {name!r}")
        keys: pb.RoleKeys = getattr(trust.party_document(party), kind.value)
        return tuple(suite.key_id(k.key.suite, kind.value, k.key.key) for k in keys.keys)
    view = trust.roster(party)
    if kind is Kind.DESK:
        entry = next((d for d in view.body.desks if d.desk == name), None)
        if entry is None:
            raise PlanError(f"no desk {name!r} in roster {view.body.generation}.{view.body.version} of {party}")
        live = (pb.KEY_STATE_ACTIVE, pb.KEY_STATE_TAINTED) if emergency else (pb.KEY_STATE_ACTIVE,)
        used = [k.key for k in entry.keys if k.state in live and (emergency or not k.last_use_ms)]
        if len(used) != 1 and not emergency:
            raise PlanError(
                f"{name} has {len(used)} keys in use; a rotation replaces one",
                hint="finish the rotation under way, or plan with --emergency if the key is suspected",
            )
        return tuple(suite.key_id(key.suite, "desk", key.key) for key in used)
    if kind in NODE_KINDS:
        node = view.nodes.get(name)
        if node is None:
            raise PlanError(f"no node {name!r} in roster {view.body.generation}.{view.body.version} of {party}")
        return (
            digest(node.tls_ca) if kind is Kind.TLS_CA else suite.key_id(node.log_key.suite, "log", node.log_key.key),
        )
    if not any(rule.courier_group == name for rule in trust.agreement(FAR_MS).body.channels):
        raise PlanError(f"no channel has a courier group {name!r}")
    return ()


def _check_new(trust: Trust, party: str, kind: Kind, name: str, new: bytes, old: Sequence[bytes]) -> None:
    try:
        identities = new_identities(kind, new)
        if kind in (Kind.DESK, Kind.LOG):
            _check_key(trust, party, parse_canonical(pb.PublicKey, new), name, kind.value, suite.DESK_SUITE)
        elif kind in ROLE_KINDS:
            keys = parse_canonical(pb.RoleKeys, new)
            wanted = suite.ROOT_SUITE if kind is Kind.ROOT else suite.DESK_SUITE
            if not 1 <= keys.threshold <= len({k.holder for k in keys.keys}) == len(keys.keys):
                raise PlanError("a role has distinct holders, and a threshold between 1 and their number")
            for holder in keys.keys:
                _check_key(trust, party, holder.key, holder.holder, kind.value, wanted)
        elif kind is Kind.COURIER and len(new) != 16:
            raise PlanError("a courier key is named by its id of 16 bytes")
    except UsageError:
        raise
    except TocsinError as error:
        raise PlanError(f"the new {kind} key cannot be used: {error}", hint=error.hint) from None
    if not new or set(identities) == set(old):
        raise PlanError("the new key is the old one", hint="draw a new one first")


def _check_key(trust: Trust, party: str, key: pb.PublicKey, name: str, role: str, wanted: int) -> None:
    if key.suite != wanted:
        raise PlanError(f"a {role} key is of suite {wanted}, not {key.suite}")
    suite.check_signing_key(key.suite, key.key)
    # Holders' keys may be drawn before there is a lineage (docs/PROTOCOL.md section 3.3); those of machines may not.
    for lineage in (trust.lineage, b"") if role in ("root", "roster", "status") else (trust.lineage,):
        try:
            suite.check_possession(
                key.suite, key.key, key.possession, lineage=lineage, party=party, name=name, role=role
            )
        except SignatureError:
            continue
        return
    raise PlanError(f"the {role} key of {name} lacks its proof of possession", hint="give the part as it was written")
