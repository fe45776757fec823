"""A stage for rehearsals: a copy of an exchange in which every key is another one. No secret of the real one is needed.

The copy has the same parties, holders, thresholds, bounds, channels, missions, desks and nodes; its keys are drawn here
and forgotten with it, and its lineage is its own, so nothing signed on it counts anywhere else.
"""

from dataclasses import dataclass, field

from keys import documents, founding, planning, suite
from keys.documents import Document
from keys.encoding import canonical_bytes, parse_canonical
from keys.founding import PartyKeys, public_key
from keys.plan import ROLE_KINDS, Plan
from keys.trust import Trust, party_of
from keys.v1 import documents_pb2 as pb
from keys.windows import Kind


@dataclass(slots=True)
class Stage:
    """Private keys by their public halves, and the documents in an order in which they can be taken."""

    lineage: bytes
    documents: list[Document]
    keys: dict[bytes, suite.SigningKey] = field(repr=False)
    cards: dict[bytes, suite.CardKey] = field(default_factory=dict, repr=False)

    def trust(self, *, now_ms: int) -> Trust:
        """A member who holds all of it."""
        trust = Trust(self.lineage)
        for document in self.documents:
            trust.take(document, now_ms=now_ms)
        return trust

    def new_key(self, suite_id: int) -> suite.SigningKey:
        """Draw a key and keep it."""
        key = suite.SigningKey.generate(suite_id)
        self.keys[key.public] = key
        return key


def copy(trust: Trust, *, now_ms: int) -> Stage:
    """A stage like an exchange, with every desk and node of the newest rosters, as of now.

    Raises:
        MissingDocumentError: A party has no roster: there is nothing to rehearse with.
    """
    stage = Stage(b"", [], {})
    parties = {party: _party(stage, trust, party, now_ms) for party in trust.parties}
    body = pb.Agreement()
    body.CopyFrom(trust.agreement(now_ms).body)
    body.lineage, body.previous, body.version = b"", b"", 1
    for member in body.parties:
        member.first_party = parties[member.party].document.digest
    agreement = founding.agreement(body, list(parties.values()))
    stage.lineage = agreement.digest
    stage.documents = [*(keys.document for keys in parties.values()), agreement]
    for party, keys in parties.items():
        roster = keys.sign(documents.make(_roster(stage, trust, party, now_ms)), "roster")
        stage.documents.append(roster)
        stage.documents.append(
            founding.status(keys, lineage=stage.lineage, agreement=agreement, roster=roster, version=1, now_ms=now_ms)
        )
    return stage


def restage(stage: Stage, plan: Plan, trust: Trust) -> Plan:
    """The same plan, at the same times, for the keys of a stage.

    Args:
        stage: Gets the new keys.
        plan: Of the real exchange.
        trust: Of the stage.

    Raises:
        PlanError: The stage does not have what the plan replaces.
    """
    times = {name: getattr(plan.times, name) for name in ("announce_ms", "publish_ms", "first_use_ms", "retire_ms")}
    return planning.make(
        trust,
        party=plan.party,
        kind=plan.kind,
        name=plan.name,
        new=_new(stage, plan),
        now_ms=plan.times.announce_ms,
        times=times,
        offline=plan.offline,
        emergency=plan.emergency,
    )


def _new(stage: Stage, plan: Plan) -> bytes:
    if plan.kind in ROLE_KINDS:
        keys = parse_canonical(pb.RoleKeys, plan.new)
        for holder in keys.keys:
            _redraw(stage, holder.key, stage.lineage, plan.party, holder.holder, plan.kind.value)
        return canonical_bytes(keys)
    if plan.kind in (Kind.DESK, Kind.LOG):
        key = parse_canonical(pb.PublicKey, plan.new)
        _redraw(stage, key, stage.lineage, plan.party, plan.name, plan.kind.value)
        return canonical_bytes(key)
    return plan.new


def _redraw(stage: Stage, key: pb.PublicKey, lineage: bytes, party: str, name: str, role: str) -> None:
    drawn = stage.new_key(key.suite)
    key.CopyFrom(public_key(drawn, lineage=lineage, party=party, name=name, role=role))


def _party(stage: Stage, trust: Trust, party: str, now_ms: int) -> PartyKeys:
    held = trust.party_document(party)
    body = pb.Party(party=party, version=1, issue_time_ms=now_ms)
    drawn: dict[str, dict[str, suite.SigningKey]] = {}
    for role in founding.ROLE_SUITES:
        before, after = getattr(held, role), getattr(body, role)
        after.CopyFrom(before)
        after.generation = 1
        drawn[role] = {}
        for holder in after.keys:
            _redraw(stage, holder.key, b"", party, holder.holder, role)
            drawn[role][holder.holder] = stage.keys[holder.key.key]
    document = documents.make(body)
    keys = PartyKeys(party, drawn, document)
    keys.document = keys.sign(document, "root")
    return keys


def _roster(stage: Stage, trust: Trust, party: str, now_ms: int) -> pb.Roster:
    body = pb.Roster()
    body.CopyFrom(trust.roster(party).body)
    body.lineage, body.generation, body.version, body.previous = stage.lineage, 1, 1, b""
    body.issue_time_ms, body.expire_time_ms = now_ms, now_ms + (body.expire_time_ms - body.issue_time_ms)
    del body.revocations[:]
    for desk in body.desks:
        # Keys that ended, or wait for another rotation, play no part in this one.
        live = [
            k for k in desk.keys if k.state == pb.KEY_STATE_ACTIVE and (not k.last_use_ms or k.last_use_ms > now_ms)
        ]
        kept = [pb.DeskKey.FromString(k.SerializeToString()) for k in live]
        del desk.keys[:]
        desk.keys.extend(kept)
        for listed in desk.keys:
            _redraw(stage, listed.key, stage.lineage, party_of(desk.desk), desk.desk, "desk")
    for node in body.nodes:
        _redraw(stage, node.log_key, stage.lineage, party_of(node.node), node.node, "log")
    return body
