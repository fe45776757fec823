"""Windows: how long each kind of key is announced, used and kept, so that no honest message is refused. No I/O.

One rule a line, each with its reason; `tests/keys/test_windows_z3.py` proves them, and shows for each part left out a
message that would be refused or a use that would be accepted too long. R, L and S are those of the agreement: R is the
longest time until every member holds what was published (or says loudly that it does not), L the longest life of an
envelope, S the largest difference between two clocks.

Source: docs/PROTOCOL.md sections 4.4 to 4.6; docs/OPERATIONS.md, "Rotation calendar".
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from keys.errors import UsageError
from keys.trust import FIRST_MONDAY_MS, WEEK_MS, Trust
from keys.v1 import documents_pb2 as pb


class Kind(StrEnum):
    """Every kind of key there is, by the word the plan and the command line use."""

    ROOT = "root"
    ROSTER = "roster"
    STATUS = "status"
    DESK = "desk"
    CARD = "card"
    TLS_CA = "tls-ca"
    LOG = "log"
    COURIER = "courier"


@dataclass(frozen=True, slots=True)
class Bounds:
    """R, L and S of an agreement, in ms."""

    revocation_ms: int
    lifetime_ms: int
    skew_ms: int

    @property
    def in_flight_ms(self) -> int:
        """L + 2S: from the last use of something until nothing that used it is still under way, by anyone's clock."""
        return self.lifetime_ms + 2 * self.skew_ms

    @property
    def pinned_ms(self) -> int:
        """R + L + 2S: how long a superseded roster still gives rights to what pins it."""
        return self.revocation_ms + self.in_flight_ms


@dataclass(frozen=True, slots=True)
class Times:
    """The times of one rotation, ms UTC, each by the clock of whoever acts then.

    Args:
        announce_ms: The new key is shown to everybody, not yet used.
        publish_ms: T: the document that fixes the change is issued.
        first_use_ms: A: the first use of the new key.
        retire_ms: The old key is taken out and destroyed.
    """

    announce_ms: int
    publish_ms: int
    first_use_ms: int
    retire_ms: int


@dataclass(frozen=True, slots=True)
class Rule:
    """One bound: `time` ("publish", "first-use", "retire") lies between `earliest` and `latest`, because of `why`."""

    id: str
    time: str
    why: str
    earliest: Callable[[Times, Bounds], int] | None = None
    latest: Callable[[Times, Bounds], int] | None = None


class WindowError(UsageError):
    """A plan breaks the algebra; metadata `rule` is the id below, `earliest_ms` the first time that works."""


def _published(times: Times, _: Bounds) -> int:
    return times.publish_ms


def _known(times: Times, bounds: Bounds) -> int:
    return times.publish_ms + bounds.revocation_ms


def _known_by_clocks(times: Times, bounds: Bounds) -> int:
    return _known(times, bounds) + bounds.skew_ms


def _landed(times: Times, bounds: Bounds) -> int:
    return times.first_use_ms + bounds.in_flight_ms


RULES: Final[Mapping[Kind, tuple[Rule, ...]]] = {
    Kind.ROOT: (
        Rule(
            "root.first-use",
            "first-use",
            "A >= T + R + S: who lacks the new Party document refuses what the new roots sign alone, and a document that"
            " is refused does not wait as an envelope does",
            _known_by_clocks,
        ),
        Rule("root.retire", "retire", "the old roots stay until the new ones are in use", lambda t, _: t.first_use_ms),
    ),
    Kind.ROSTER: (
        Rule(
            "roster.first-use",
            "first-use",
            "A >= T + R + S: who lacks the new Party document refuses the roster of the new keys, and what pins it",
            _known_by_clocks,
        ),
        Rule(
            "roster.retire",
            "retire",
            "the old roster keys end with T; kept until the new ones are in use, never used in between",
            lambda t, _: t.first_use_ms,
        ),
    ),
    Kind.STATUS: (
        Rule(
            "status.first-use",
            "first-use",
            "A = T: taking the Party document drops the old status, so the first new one travels with it, or the party"
            " is stale at once",
            _published,
            _published,
        ),
        Rule("status.retire", "retire", "the old status key ends with T", _published),
    ),
    Kind.DESK: (
        Rule(
            "desk.publish",
            "publish",
            "T >= announcement + S: a key that no roster held lists is refused at once and waits for nothing, so everybody"
            " knows it as prepared before its first use, by any clock; every party confirmed that, or was said to be away",
            lambda t, b: t.announce_ms + b.skew_ms,
        ),
        Rule(
            "desk.first-use",
            "first-use",
            "A >= T + R: a reader learns of the roster by T + R; what a desk makes before waits, and may expire waiting",
            _known,
        ),
        Rule(
            "desk.retire",
            "retire",
            "at least A + L + 2S: what the old key signed just before A lives for L; two clocks stand between signer,"
            " reader and roster",
            _landed,
        ),
    ),
    Kind.TLS_CA: (
        Rule(
            "tls-ca.first-use",
            "first-use",
            "T + R + S <= A: who lacks the roster refuses the new CA, and a connection does not wait; A + S <= T + R + L"
            " + 2S: who holds it accepts the old CA no longer than a superseded roster",
            _known_by_clocks,
            lambda t, b: t.publish_ms + b.pinned_ms - b.skew_ms,
        ),
        Rule(
            "tls-ca.retire",
            "retire",
            "at least T + R + L + 2S: until then the old CA's certificates are good, and desks enrol again",
            lambda t, b: t.publish_ms + b.pinned_ms,
        ),
    ),
    Kind.LOG: (
        Rule(
            "log.publish",
            "publish",
            "T >= start + L + 2S: from the start the node signs its checkpoints with both keys; a checkpoint carried"
            " in a pouch for L is read by someone who holds the new roster",
            lambda t, b: t.announce_ms + b.in_flight_ms,
        ),
        Rule("log.first-use", "first-use", "A = T: the roster names the new key from then on", _published, _published),
        Rule(
            "log.retire",
            "retire",
            "at least T + R + S: who lacks the roster still looks for the old key's line",
            _known_by_clocks,
        ),
    ),
    Kind.COURIER: (
        Rule(
            "courier.first-use",
            "first-use",
            "every member of the group has loaded the key: it travels by hand, so no R bounds it; 2S for the clocks",
            lambda t, b: t.publish_ms + 2 * b.skew_ms,
        ),
        Rule(
            "courier.retire",
            "retire",
            "at least A + L + 2S: what was sealed with the old key just before A lives for L",
            _landed,
        ),
    ),
}


def check(kind: Kind, times: Times, bounds: Bounds) -> None:
    """Refuse times that break a rule.

    Raises:
        WindowError: Names the first rule broken, why it is, and the earliest (or latest) time that works.
    """
    found = {"publish": times.publish_ms, "first-use": times.first_use_ms, "retire": times.retire_ms}
    for rule in RULES[kind]:
        time_ms = found[rule.time]
        if rule.earliest is not None and time_ms < (earliest := rule.earliest(times, bounds)):
            raise WindowError(
                f"{rule.id}: {rule.time} at {iso(time_ms)} is too early; {rule.why}",
                hint=f"the earliest that works is {iso(earliest)}",
                rule=rule.id,
                earliest_ms=earliest,
            )
        if rule.latest is not None and time_ms > (latest := rule.latest(times, bounds)):
            raise WindowError(
                f"{rule.id}: {rule.time} at {iso(time_ms)} is too late; {rule.why}",
                hint=f"the latest that works is {iso(latest)}",
                rule=rule.id,
                latest_ms=latest,
            )


def earliest(kind: Kind, bounds: Bounds, *, start_ms: int) -> Times:
    """The soonest times that keep every rule, when the first step is taken at `start_ms`."""
    times = Times(start_ms, start_ms, start_ms, start_ms)
    # Rules stand in the order of the times they bound, so one pass settles all.
    for rule in RULES[kind]:
        if rule.earliest is None:
            continue
        time_ms = rule.earliest(times, bounds)
        publish = max(times.publish_ms, time_ms) if rule.time == "publish" else times.publish_ms
        first_use = max(times.first_use_ms, publish, time_ms if rule.time == "first-use" else 0)
        retire = max(times.retire_ms, first_use, time_ms if rule.time == "retire" else 0)
        times = Times(start_ms, publish, first_use, retire)
    return times


def bounds_of(trust: Trust, *, from_ms: int, until_ms: int) -> Bounds:
    """The widest R, L and S of any agreement in force in a span: a rotation must keep the windows of all of them.

    Raises:
        MissingDocumentError: No agreement is held.
    """
    first, last = trust.agreement(from_ms).body.version, trust.agreement(until_ms).body.version
    return widest(view.body for view in trust.agreements if first <= view.body.version <= last)


def widest(bodies: Iterable[pb.Agreement]) -> Bounds:
    """The widest R, L and S of some agreements, at least one."""
    held = list(bodies)
    return Bounds(
        max(body.revocation_ms for body in held),
        max(body.lifetime_ms for body in held),
        max(body.skew_ms for body in held),
    )


def card_kept_until_ms(week: int, bounds: Bounds) -> int:
    """When the seed of a week's card may be destroyed, if the desk has read its node past this time (else: then).

    A letter sealed in the last minute of the week lives for L and enters a log by its node's clock, 2S apart at most
    from the desk's; what the log holds by then the desk may still have to open.

    Source: docs/PROTOCOL.md section 4.5.
    """
    return FIRST_MONDAY_MS + (week + 1) * WEEK_MS + bounds.in_flight_ms


def check_amendment(*, publish_ms: int, effective_ms: int, grace_ms: int, bounds: Bounds) -> None:
    """Refuse an amendment that would refuse honest mail: effective >= T + R, grace >= L + 2S.

    Raises:
        WindowError: Names the rule and the earliest time, or the shortest grace, that works.
    """
    if effective_ms < publish_ms + bounds.revocation_ms:
        first = publish_ms + bounds.revocation_ms
        raise WindowError(
            f"amendment.effective: {iso(effective_ms)} is too early; who does not know of it by then seals under the"
            " version before, and readers disagree about rights",
            hint=f"the earliest that works is {iso(first)}",
            rule="amendment.effective",
            earliest_ms=first,
        )
    if grace_ms < bounds.in_flight_ms:
        raise WindowError(
            f"amendment.grace: {grace_ms} ms is too short; what was sealed just before it takes effect lives for L",
            hint=f"the shortest that works is {bounds.in_flight_ms} ms (L + 2S)",
            rule="amendment.grace",
            shortest_ms=bounds.in_flight_ms,
        )


def iso(time_ms: int) -> str:
    """A time for people: 2026-09-21T13:33:20Z, rounded up to the second, so that it still works when typed."""
    try:
        return datetime.fromtimestamp(-(-time_ms // 1000), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        # A document from elsewhere may name a time beyond every calendar.
        return f"{time_ms} ms"
