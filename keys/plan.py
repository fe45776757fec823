"""A plan: one rotation as a canonical file, which people read, compare by its digest and keep. No I/O.

The file holds the facts and the words that follow from them; a reader makes the words again and compares, so that the
text people agree to is the plan the machine runs. Its digest is the SHA-256 of the file.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from keys import suite, windows
from keys.encoding import digest, parse_canonical
from keys.errors import TocsinError, UsageError
from keys.v1 import documents_pb2 as pb
from keys.windows import Bounds, Kind, Times

FORMAT: Final = 1
MAX_PLAN_BYTES: Final = 200_000
ROLE_KINDS: Final = frozenset({Kind.ROOT, Kind.ROSTER, Kind.STATUS})
NODE_KINDS: Final = frozenset({Kind.TLS_CA, Kind.LOG})


class PlanError(UsageError):
    """A plan that cannot be made or run as it is."""

    hint = "read the newest roster with `tocsin-keys roster show`, and `tocsin-keys plan rotate --help`"


class AlteredPlanError(PlanError):
    """Not the plan whose digest people compared."""

    hint = "stop; find out who changed the file, then use the copy whose digest was agreed"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do.

    Args:
        id: "announce", "publish", "first-use" or "retire".
        due_ms: Not before.
        signed_by: Role that signs a document, or "" when there is none and people or machines act.
        words: What.
    """

    id: str
    due_ms: int
    signed_by: str
    words: str


@dataclass(frozen=True, slots=True)
class Plan:
    """One rotation of one key, or of the keys of one role.

    Args:
        lineage: The exchange.
        party: Whose key.
        kind: Which kind.
        name: Desk, node or courier group; "" for a role.
        old: Identities of the keys that go (a CA: SHA-256 of its certificate; a courier key: its id).
        new: What comes: encoded PublicKey (desk, log), RoleKeys (roles), certificate (CA), id (courier).
        times: When.
        bounds: R, L, S it was computed with.
        offline: Parties whose confirmation is not waited for, because somebody said so.
        emergency: The old key is in wrong hands: no window protects it.
        base: Digest of the roster that the first one of new roster keys copies; empty = the newest then.
    """

    lineage: bytes
    party: str
    kind: Kind
    name: str
    old: tuple[bytes, ...]
    new: bytes
    times: Times
    bounds: Bounds
    offline: tuple[str, ...] = ()
    emergency: bool = False
    base: bytes = b""

    @property
    def steps(self) -> tuple[Step, ...]:
        """What is done, in order."""
        return _steps(self)

    def encode(self) -> bytes:
        """The file: JSON with sorted keys, one line."""
        said: dict[str, Any] = {
            "plan": FORMAT,
            "lineage": self.lineage.hex(),
            "party": self.party,
            "kind": self.kind.value,
            "name": self.name,
            "old": [identity.hex() for identity in self.old],
            "new": self.new.hex(),
            "times": asdict(self.times),
            "bounds": asdict(self.bounds),
            "offline": list(self.offline),
            "emergency": self.emergency,
            "base": self.base.hex(),
            "words": self.words(),
        }
        return (json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=True) + "\n").encode()

    @property
    def digest(self) -> bytes:
        """SHA-256 of the file, 32 bytes."""
        return digest(self.encode())

    def words(self) -> list[str]:
        """The plan for people, one sentence a line."""
        what = f"the {self.kind} key of {self.name}" if self.name else f"the {self.kind} keys of {self.party}"
        lines = [f"{'EMERGENCY: ' if self.emergency else ''}replace {what}"]
        lines += [f"old: {identity.hex()}" for identity in self.old]
        lines += [f"new: {identity.hex()}" for identity in new_identities(self.kind, self.new)]
        for step in self.steps:
            signed = f"; signed by the {step.signed_by} holders" if step.signed_by else ""
            lines.append(f"{windows.iso(step.due_ms)} {step.id}: {step.words}{signed}")
        lines += [f"if a party is offline: {text}" for text in OFFLINE[self.kind]]
        if self.offline:
            lines.append(f"not waited for, because said so: {', '.join(self.offline)}")
        if self.emergency:
            lines.append("no window protects the old key: what it signed and is still under way is refused")
        return lines


def decode(data: bytes, *, expected: bytes | None = None) -> Plan:
    """Read a plan file.

    Args:
        data: The file.
        expected: Digest that people compared; None before they did.

    Raises:
        AlteredPlanError: Another digest than expected, or words that do not follow from the facts.
        PlanError: No plan of this version.
    """
    if expected is not None and digest(data) != expected:
        raise AlteredPlanError(
            f"this plan has digest {digest(data).hex()}; agreed was {expected.hex()}", digest=digest(data).hex()
        )
    if len(data) > MAX_PLAN_BYTES:
        raise PlanError(f"a plan has at most {MAX_PLAN_BYTES} bytes", hint="is it the right file?")
    try:
        said = json.loads(data)
        if said["plan"] != FORMAT:
            raise PlanError(f"a plan of version {said['plan']}", hint="use the software that made it")
        plan = Plan(
            lineage=bytes.fromhex(said["lineage"]),
            party=str(said["party"]),
            kind=Kind(said["kind"]),
            name=str(said["name"]),
            old=tuple(bytes.fromhex(each) for each in said["old"]),
            new=bytes.fromhex(said["new"]),
            times=Times(**{name: int(value) for name, value in said["times"].items()}),
            bounds=Bounds(**{name: int(value) for name, value in said["bounds"].items()}),
            offline=tuple(str(each) for each in said["offline"]),
            emergency=bool(said["emergency"]),
            base=bytes.fromhex(said["base"]),
        )
        again = plan.encode()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise PlanError("the file is no plan", hint="make one with `tocsin-keys rotate plan`") from None
    except PlanError:
        raise
    except TocsinError as error:
        raise PlanError(f"the plan's new key is not readable: {error}") from None
    if again != data:
        raise AlteredPlanError("the words of the plan do not follow from its facts")
    return plan


def new_identities(kind: Kind, new: bytes) -> tuple[bytes, ...]:
    """The identities of what comes, as in `Plan.old`.

    Raises:
        NotCanonicalError: The bytes are not of that kind.
    """
    if kind in ROLE_KINDS:
        keys = parse_canonical(pb.RoleKeys, new)
        return tuple(suite.key_id(k.key.suite, kind.value, k.key.key) for k in keys.keys)
    if kind in (Kind.DESK, Kind.LOG):
        key = parse_canonical(pb.PublicKey, new)
        return (suite.key_id(key.suite, kind.value, key.key),)
    return (digest(new),) if kind is Kind.TLS_CA else (new,)


OFFLINE: Final[Mapping[Kind, tuple[str, ...]]] = {
    Kind.ROOT: ("it keeps accepting what the old roots signed, and takes the new document when it is back",),
    Kind.ROSTER: (
        "it keeps the old roster, and refuses newer ones until it has the Party document; mail pinning the old roster"
        " is taken for R + L + 2S",
        "between the Party document and the first new roster no roster can be issued; suspend by the status if need be",
    ),
    Kind.STATUS: ("it keeps the old status, which is stale after R; from then on it warns, or stops if so agreed",),
    Kind.DESK: (
        "its mail is taken as before; it takes mail under the new key as soon as it holds the roster, which travels"
        " before that mail",
        "a desk cut off for longer than R goes on with the old key under the old roster, for R + L + 2S",
    ),
    Kind.TLS_CA: ("after the change it reaches the node only once it holds the roster: bring it by hand",),
    Kind.LOG: ("after the old key's end it refuses the node's checkpoints until it holds the roster",),
    Kind.COURIER: ("a member without the key cannot open what is sealed with it: do not begin before all have it",),
}


def _steps(plan: Plan) -> tuple[Step, ...]:
    t = plan.times
    return tuple(Step(id_, getattr(t, field), role, words) for id_, field, role, words in STEPS[plan.kind](plan))


def _role_steps(plan: Plan) -> list[tuple[str, str, str, str]]:
    role = plan.kind.value
    copied = f"roster {plan.base.hex()}" if plan.base else "the last one"
    first_use = {
        Kind.ROOT: [("first-use", "first_use_ms", "", "the new root keys sign from here on")],
        Kind.ROSTER: [("first-use", "first_use_ms", "roster", f"the first roster of the new keys, a copy of {copied}")],
        Kind.STATUS: [],
    }
    with_status = ", together with the first status of the new key" if plan.kind is Kind.STATUS else ""
    return [
        ("publish", "publish_ms", "root", f"a new Party document names the new {role} keys{with_status}"),
        *first_use[plan.kind],
        ("retire", "retire_ms", "", f"each old {role} holder destroys the old key and its backups"),
    ]


def _desk_steps(plan: Plan) -> list[tuple[str, str, str, str]]:
    if plan.emergency:
        return [
            ("announce", "announce_ms", "roster", f"the roster revokes the old key of {plan.name}, lists the new one"),
            ("publish", "publish_ms", "roster", "the roster makes the new key active"),
        ]
    first_use = windows.iso(plan.times.first_use_ms)
    return [
        ("announce", "announce_ms", "roster", f"the roster lists the new key of {plan.name} as prepared"),
        (
            "publish",
            "publish_ms",
            "roster",
            f"once every party confirmed: the new key is active from {first_use}, the old one until then",
        ),
        ("first-use", "first_use_ms", "", "the desk changes over by itself"),
        ("retire", "retire_ms", "roster", "the roster drops the old key; the desk destroys it; its cards live on"),
    ]


def _ca_steps(plan: Plan) -> list[tuple[str, str, str, str]]:
    return [
        ("publish", "publish_ms", "roster", f"the roster names the new CA of {plan.name}; the node shows the old one"),
        ("first-use", "first_use_ms", "", "the node issues and shows certificates of the new CA; desks enrol again"),
        ("retire", "retire_ms", "", "the node destroys the old CA's key"),
    ]


def _log_steps(plan: Plan) -> list[tuple[str, str, str, str]]:
    return [
        ("announce", "announce_ms", "", f"{plan.name} signs its checkpoints with both keys from here on"),
        ("publish", "publish_ms", "roster", "the roster names the new log key"),
        ("retire", "retire_ms", "", "the node signs with the new key alone and destroys the old one"),
    ]


def _courier_steps(plan: Plan) -> list[tuple[str, str, str, str]]:
    return [
        ("publish", "publish_ms", "", f"every member of {plan.name} has loaded the new key and said so"),
        ("first-use", "first_use_ms", "", "desks seal with the new key and open with both"),
        ("retire", "retire_ms", "", "every member destroys the old key"),
    ]


STEPS: Final = {
    Kind.ROOT: _role_steps,
    Kind.ROSTER: _role_steps,
    Kind.STATUS: _role_steps,
    Kind.DESK: _desk_steps,
    Kind.TLS_CA: _ca_steps,
    Kind.LOG: _log_steps,
    Kind.COURIER: _courier_steps,
}
