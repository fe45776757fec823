"""What tests of rotation share: new keys of every kind, and the party's keys at hand."""

from dataclasses import dataclass, field

from keys import documents, drafts, founding, planning, release, suite
from keys.documents import Document
from keys.encoding import canonical_bytes
from keys.plan import Plan
from keys.trust import Trust
from keys.v1 import documents_pb2 as pb
from keys.windows import Kind
from tests.chains import role_keys
from tests.world import World

DESK = "kr.motie/supply"
NODE = "kr.the-hague-1"
NAMES = {Kind.DESK: DESK, Kind.TLS_CA: NODE, Kind.LOG: NODE}
HOLDERS = {Kind.ROOT: ("first", "second", "third"), Kind.ROSTER: ("staff",), Kind.STATUS: ("duty",)}


@dataclass
class Fresh:
    """A new key of some kind: its public part as a plan has it, and the private halves."""

    kind: Kind
    public: bytes
    keys: dict[str, suite.SigningKey] = field(default_factory=dict)


def fresh(world: World, kind: Kind, *, party: str = "kr") -> Fresh:
    if kind is Kind.TLS_CA:
        return Fresh(kind, b"a new certificate, which keys cannot read")
    if kind is Kind.COURIER:
        return Fresh(kind, b"c" * 16)
    if kind in HOLDERS:
        made = {
            holder: suite.SigningKey.generate(suite.ROOT_SUITE if kind is Kind.ROOT else suite.DESK_SUITE)
            for holder in HOLDERS[kind]
        }
        keys = role_keys(
            party, kind.value, made, threshold=2 if kind is Kind.ROOT else 1, generation=0, lineage=world.lineage
        )
        return Fresh(kind, canonical_bytes(keys), made)
    key = suite.SigningKey.generate(suite.DESK_SUITE)
    public = founding.public_key(key, lineage=world.lineage, party=party, name=NAMES[kind], role=kind.value)
    return Fresh(kind, canonical_bytes(public), {NAMES[kind]: key})


def plan_of(world: World, trust: Trust, kind: Kind, new: Fresh, **more: object) -> Plan:
    return planning.make(
        trust,
        party="kr",
        kind=kind,
        name=NAMES.get(kind, ""),
        new=new.public,
        now_ms=world.now_ms,
        **more,  # type: ignore[arg-type]
    )


def hands(world: World, *new: Fresh, party: str = "kr") -> release.Sign:
    """Every key of the party, old and new."""
    old = [key for owned in world.parties[party].keys.values() for key in owned.values()]
    return release.at_hand([*old, *(key for one in new for key in one.keys.values())])


def says_seen(world: World, trust: Trust, *, now_ms: int, party: str = "nl") -> Document:
    """The other party's next status: it holds what `trust` holds."""
    draft = drafts.next_status(trust, party, now_ms=now_ms)
    status = world.parties[party].sign(draft, "status")
    trust.take(status, now_ms=now_ms)
    return status


def listed(trust: Trust, desk: str = DESK) -> dict[bytes, pb.DeskKey]:
    body = trust.roster(desk[:2]).body
    entry = next(d for d in body.desks if d.desk == desk)
    return {suite.key_id(k.key.suite, "desk", k.key.key): k for k in entry.keys}


def again(document: Document) -> Document:
    """Over the wire."""
    return documents.decode(document.encode())
