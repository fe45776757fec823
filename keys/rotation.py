"""Rotation: a plan carried out step by step on the documents held. No I/O.

What is done is read from the documents themselves, so that a step is never done twice and a run that broke off goes on
where it was. Nothing is released that a member would not take: each document is taken here first.

Source: docs/PROTOCOL.md sections 4.4 and 4.6; docs/OPERATIONS.md, "Rotation calendar".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from keys import documents, drafts, node_keys, suite, windows
from keys.ceremony import Group
from keys.documents import Document
from keys.encoding import parse_canonical
from keys.plan import ROLE_KINDS, Plan, PlanError, Step, new_identities
from keys.release import Made, Sign, compose
from keys.states import Activated, KeyState, end_key, move_key
from keys.trust import Trust
from keys.v1 import documents_pb2 as pb
from keys.windows import Kind


@dataclass(frozen=True, slots=True)
class Advance:
    """What one run of a plan did, and what comes next.

    Args:
        released: New documents, complete and taken, in order: for the bundle and the nodes.
        drafts: By step, what still lacks signatures; to be signed as they are, and handed in again.
        done: Steps that the documents show as done.
        by_hand: Steps that are due and show in no document: somebody sees to them.
        next: The next step, when the plan is not finished.
        waiting: Why it does not go on now; empty when it is a matter of time alone, or finished.
    """

    released: tuple[Document, ...] = ()
    drafts: Mapping[str, Document] = field(default_factory=dict)
    done: tuple[str, ...] = ()
    by_hand: tuple[Step, ...] = ()
    next: Step | None = None
    waiting: str = ""


def confirmed(plan: Plan, trust: Trust, peer: str) -> bool:
    """Whether a peer says, in its newest status, that it holds the document which announced the new key."""
    status = trust.status(peer)
    said = next((s for s in status.seen if s.party == plan.party), None) if status else None
    if said is None:
        return False
    reference = said.party_document if plan.kind in ROLE_KINDS else said.roster
    found = next((d for d in trust.documents() if d.digest == reference.digest), None)
    if found is None:
        return False
    if plan.kind in ROLE_KINDS:
        return _same_keys(getattr(documents.body(found, pb.Party), plan.kind.value), plan)
    return _announced(plan, documents.body(found, pb.Roster))


def unconfirmed(plan: Plan, trust: Trust) -> tuple[str, ...]:
    """Parties that have not confirmed and are waited for."""
    return tuple(
        peer
        for peer in trust.parties
        if peer != plan.party and peer not in plan.offline and not confirmed(plan, trust, peer)
    )


def advance(
    plan: Plan, trust: Trust, *, now_ms: int, sign: Sign, signed: Mapping[str, Document] | None = None
) -> Advance:
    """Do every step of a plan that is due; the documents it makes are taken into `trust`.

    Args:
        plan: As agreed.
        trust: Every document of the exchange; changed only by what is released.
        now_ms: The time, ms UTC.
        sign: Signs with the keys at hand.
        signed: Drafts of an earlier run, with more signatures, by step.

    Raises:
        PlanError: The documents moved on in a way the plan does not allow.
        WindowError: A step comes so late that a later one would break its window.
        TrustError: A document would be refused by every member.
    """
    _check_plan(plan, trust, now_ms)
    released: list[Document] = []
    done: list[str] = []
    by_hand: list[Step] = []
    for step in plan.steps:
        if is_done(plan, step, trust):
            done.append(step.id)
            continue
        if now_ms < step.due_ms:
            ahead = _ahead(plan, step, trust, sign, signed or {})
            return Advance(tuple(released), ahead, tuple(done), tuple(by_hand), step)
        waiting = _gate(plan, step, trust, now_ms)
        if waiting:
            return Advance(tuple(released), {}, tuple(done), tuple(by_hand), step, waiting)
        if not step.signed_by:
            by_hand.append(step)
            continue
        made = _compose(plan, step, trust, sign, signed or {}, now_ms=now_ms)
        if not all(each.complete for each in made):
            missing = "; ".join(words for each in made for words in each.progress.words())
            incomplete = {each.slot: each.document for each in made}
            return Advance(tuple(released), incomplete, tuple(done), tuple(by_hand), step, missing)
        for each in made:
            trust.take(each.document, now_ms=now_ms)
            released.append(each.document)
        done.append(step.id)
    return Advance(tuple(released), {}, tuple(done), tuple(by_hand))


def is_done(plan: Plan, step: Step, trust: Trust) -> bool:
    """Whether the documents held show a step as done; never for a step that makes no document."""
    if not step.signed_by:
        return False
    if plan.kind in ROLE_KINDS:
        party = trust.party_document(plan.party)
        replaced = _same_keys(getattr(party, plan.kind.value), plan)
        if step.id == "publish":
            return replaced
        return replaced and trust.roster(plan.party).body.generation == party.roster.generation
    body = trust.roster(plan.party).body
    if step.id == "announce" or plan.kind is not Kind.DESK:
        return _announced(plan, body)
    listed = _desk_keys(plan, body)
    new = listed.get(_new_id(plan))
    if step.id == "publish":
        return new is not None and new.state >= KeyState.ACTIVE
    return new is not None and not set(plan.old) & listed.keys()


def _check_plan(plan: Plan, trust: Trust, now_ms: int) -> None:
    if plan.lineage != trust.lineage:
        raise PlanError("the plan is of another exchange", hint="give the documents of the exchange it was made for")
    if plan.emergency:
        return
    widest = windows.bounds_of(trust, from_ms=now_ms, until_ms=2**62)
    names = ("revocation_ms", "lifetime_ms", "skew_ms")
    if any(getattr(widest, name) > getattr(plan.bounds, name) for name in names):
        raise PlanError("the agreement has wider bounds now than the plan was made with", hint="make a new plan")


def _gate(plan: Plan, step: Step, trust: Trust, now_ms: int) -> str:
    """Why a due step waits; refuses one that is so late that what follows would break its window."""
    party = trust.party_document(plan.party)
    replacing = party.roster.generation != trust.roster(plan.party).body.generation
    if replacing and plan.kind is not Kind.ROSTER and step.signed_by == "roster":
        # A roster of this plan would be the first of the new keys, before everybody knows them.
        return "the roster keys are being replaced: the first roster of the new ones comes first"
    if plan.emergency:
        return ""
    if plan.kind is Kind.ROSTER and step.id == "publish":
        nodes = node_keys.changing(trust, plan.party, now_ms=now_ms)
        if nodes:
            return (
                f"a key of {', '.join(nodes)} changed lately; new roster keys would void the roster that names the old"
            )
    # When people did what no document records is theirs to know: told is that it is due.
    if step.signed_by and step.id == "publish" and now_ms > plan.times.publish_ms:
        late = replace(plan.times, publish_ms=now_ms)
        if plan.kind in (Kind.STATUS, Kind.LOG):
            # These are used from the moment they are published, whenever that is.
            late = replace(late, first_use_ms=now_ms)
        windows.check(plan.kind, late, plan.bounds)
    if step.id == CONFIRMED_BEFORE.get(plan.kind) and (waiting := unconfirmed(plan, trust)):
        return (
            f"not confirmed by {', '.join(waiting)}: its status must say that it holds the announcement; take its newest"
            " status, or make the plan again with --offline-peer"
        )
    return ""


# The step that puts an announced key to use, or takes the old one away from those who know no other. A status key
# cannot be announced before it is used; a courier key is confirmed by the people who carry it.
CONFIRMED_BEFORE: Final[Mapping[Kind, str]] = {
    Kind.ROOT: "first-use",
    Kind.ROSTER: "first-use",
    Kind.DESK: "publish",
    Kind.TLS_CA: "first-use",
    Kind.LOG: "retire",
}


def _ahead(plan: Plan, step: Step, trust: Trust, sign: Sign, signed: Mapping[str, Document]) -> dict[str, Document]:
    """The draft of the next step, dated ahead, so that holders elsewhere can sign before it is due."""
    if not step.signed_by:
        return {}
    made = _compose(plan, step, trust, sign, signed, now_ms=step.due_ms)
    return {each.slot: each.document for each in made}


def _compose(
    plan: Plan, step: Step, trust: Trust, sign: Sign, signed: Mapping[str, Document], *, now_ms: int
) -> list[Made]:
    draft = _draft(plan, step, trust, now_ms)
    return compose(
        draft,
        _groups(draft, plan, trust),
        trust,
        plan.party,
        slot=step.id,
        sign=sign,
        signed=signed,
        now_ms=now_ms,
        status_keys=parse_canonical(pb.RoleKeys, plan.new) if plan.kind is Kind.STATUS else None,
    )


def _groups(document: Document, plan: Plan, trust: Trust) -> tuple[Group, ...]:
    held = trust.party_document(plan.party)
    if document.type == "tocsin/1/roster":
        return (Group(f"{plan.party} roster", held.roster, "roster"),)
    new = documents.body(document, pb.Party)
    own = Group(f"{plan.party} root", held.root, "root")
    return (own, Group(f"{plan.party} new root", new.root, "root")) if plan.kind is Kind.ROOT else (own,)


def _draft(plan: Plan, step: Step, trust: Trust, now_ms: int) -> Document:
    if plan.kind in ROLE_KINDS and step.id == "publish":
        keys = parse_canonical(pb.RoleKeys, plan.new)
        return drafts.next_party(trust, plan.party, role=plan.kind.value, keys=keys, now_ms=now_ms)
    return drafts.next_roster(
        trust, plan.party, lambda body: _change(plan, step, body, now_ms), now_ms=now_ms, base=plan.base
    )


def _change(plan: Plan, step: Step, body: pb.Roster, now_ms: int) -> None:
    """What a step changes in a copy of the last roster."""
    if plan.kind is Kind.ROSTER:
        return
    if plan.kind is not Kind.DESK:
        node = next((n for n in body.nodes if n.node == plan.name), None)
        if node is None:
            raise PlanError(f"the roster lists no node {plan.name} any more")
        if plan.kind is Kind.TLS_CA:
            node.tls_ca = plan.new
        else:
            node.log_key.CopyFrom(parse_canonical(pb.PublicKey, plan.new))
        return
    entry = next((d for d in body.desks if d.desk == plan.name), None)
    if entry is None:
        raise PlanError(f"the roster lists no desk {plan.name} any more")
    if step.id == "announce":
        if plan.emergency:
            for identity in plan.old:
                end_key(body, plan.name, identity, reason="replaced in an emergency", now_ms=now_ms)
        listed = entry.keys.add(state=pb.KEY_STATE_PREPARED, first_use_ms=plan.times.first_use_ms)
        listed.key.CopyFrom(parse_canonical(pb.PublicKey, plan.new))
    elif step.id == "publish":
        move_key(body, plan.name, _new_id(plan), Activated()).first_use_ms = plan.times.first_use_ms
        for identity, listed in _desk_keys(plan, body).items():
            if identity in plan.old and listed.state == pb.KEY_STATE_ACTIVE:
                listed.last_use_ms = plan.times.first_use_ms
    else:
        kept = [listed for identity, listed in _desk_keys(plan, body).items() if identity not in plan.old]
        del entry.keys[:]
        entry.keys.extend(kept)


def _desk_keys(plan: Plan, body: pb.Roster) -> dict[bytes, pb.DeskKey]:
    entry = next((d for d in body.desks if d.desk == plan.name), pb.Desk())
    return {suite.key_id(k.key.suite, "desk", k.key.key): k for k in entry.keys}


def _new_id(plan: Plan) -> bytes:
    return new_identities(plan.kind, plan.new)[0]


def _announced(plan: Plan, body: pb.Roster) -> bool:
    if plan.kind is Kind.DESK:
        return _new_id(plan) in _desk_keys(plan, body)
    node = next((n for n in body.nodes if n.node == plan.name), pb.Node())
    return node.tls_ca == plan.new if plan.kind is Kind.TLS_CA else node.log_key.key == new_public(plan)


def new_public(plan: Plan) -> bytes:
    """The public key that a desk's or a log's plan brings in."""
    return parse_canonical(pb.PublicKey, plan.new).key


def _same_keys(keys: pb.RoleKeys, plan: Plan) -> bool:
    wanted = parse_canonical(pb.RoleKeys, plan.new)
    return keys.threshold == wanted.threshold and sorted(k.key.key for k in keys.keys) == sorted(
        k.key.key for k in wanted.keys
    )
