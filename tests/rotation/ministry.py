"""The capital of a party: its holders' keys, its documents, its plans; nothing reaches its node but the bundle."""

from collections.abc import Iterable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

from exchange import files
from keys import documents, drafts, planning, release, rotation, suite
from keys import plan as plans
from keys.ceremony import Group
from keys.documents import Document
from keys.encoding import canonical_bytes
from keys.errors import TocsinError
from keys.founding import PartyKeys
from keys.plan import Plan
from keys.trust import Trust
from keys.v1 import documents_pb2 as pb
from keys.windows import Kind
from tests.chains import role_keys
from tests.keys.rotating import HOLDERS
from tests.rotation.clock import DAY_MS, Clock


@dataclass
class Ministry:
    """Works as `tocsin-keys plan apply` and `status issue` do, run by a timer."""

    party: str
    trust: Trust
    clock: Clock
    node_bundle: Path
    keys: list[suite.SigningKey] = field(repr=False)
    plans: list[Plan] = field(default_factory=list)
    finished: set[bytes] = field(default_factory=set)
    waited: set[str] = field(default_factory=set)
    released: list[tuple[int, bytes]] = field(default_factory=list)
    """(When, digest) of every document but statuses."""
    reachable: bool = True

    @classmethod
    def of(
        cls, party: PartyKeys, held: Iterable[Document], clock: Clock, node_bundle: Path, lineage: bytes
    ) -> "Ministry":
        trust = Trust(lineage)
        for document in held:
            trust.take(document, now_ms=clock())
        keys = [key for role in party.keys.values() for key in role.values()]
        return cls(party.party, trust, clock, node_bundle, keys)

    # ---- plans

    def plan(self, kind: Kind, new: bytes, name: str = "") -> Plan:
        """Made, written, read again by its digest, agreed."""
        made = planning.make(self.trust, party=self.party, kind=kind, name=name, new=new, now_ms=self.clock())
        self.plans.append(plans.decode(made.encode(), expected=made.digest))
        return self.plans[-1]

    def replace_role(self, kind: Kind) -> Plan:
        """New holders' keys for a role."""
        drawn = {
            holder: suite.SigningKey.generate(suite.ROOT_SUITE if kind is Kind.ROOT else suite.DESK_SUITE)
            for holder in HOLDERS[kind]
        }
        threshold = getattr(self.trust.party_document(self.party), kind.value).threshold
        keys = role_keys(self.party, kind.value, drawn, threshold=threshold, generation=0, lineage=self.trust.lineage)
        plan = self.plan(kind, canonical_bytes(keys))
        self.keys += drawn.values()
        return plan

    def sign(self, document: Document, groups: tuple[Group, ...]) -> Document:
        """With every key at hand."""
        return release.at_hand(self.keys)(document, groups)

    def work(self, known: Iterable[Document]) -> None:
        """Take what our node knows, do what is due, issue the daily status, hand the bundle to the node."""
        if not self.reachable:
            return
        for document in known:
            if not self.trust.holds(document.digest):
                # A card of last week; a status that a newer one overtook. All else must be taken.
                passing = document.type in ("tocsin/1/card", "tocsin/1/status")
                with suppress(TocsinError) if passing else nullcontext():
                    self.trust.take(document, now_ms=self.clock())
        changed = self._advance()
        status = self.trust.status(self.party)
        if changed or status is None or self.clock() - status.issue_time_ms >= DAY_MS:
            self._issue_status()
            files.save_bundle(self.node_bundle, self.trust.documents())

    def _advance(self) -> bool:
        changed = False
        for plan in self.plans:
            if plan.digest in self.finished:
                continue
            advanced = rotation.advance(plan, self.trust, now_ms=self.clock(), sign=self.sign)
            self._note(advanced.released)
            changed |= bool(advanced.released)
            if advanced.waiting:
                self.waited.add(f"{plan.kind} {advanced.waiting}")
            if advanced.next is None:
                self.finished.add(plan.digest)
        return changed

    def _issue_status(self) -> None:
        draft = drafts.next_status(self.trust, self.party, now_ms=self.clock())
        group = Group(f"{self.party} status", self.trust.party_document(self.party).status, "status")
        self.trust.take(self.sign(draft, (group,)), now_ms=self.clock())

    def publish(self, document: Document) -> None:
        """A document made elsewhere: an amendment that both parties signed."""
        self.trust.take(document, now_ms=self.clock())
        self._note([document])
        self._issue_status()
        files.save_bundle(self.node_bundle, self.trust.documents())

    def _note(self, released: Iterable[Document]) -> None:
        self.released += [(self.clock(), d.digest) for d in released if d.type != "tocsin/1/status"]


def amend(ministries: Iterable[Ministry], effective_ms: int) -> Document:
    """The next version of the agreement, signed by the roots of every party: reports are due more often."""
    each = list(ministries)
    trust = each[0].trust
    body = pb.Agreement()
    body.CopyFrom(trust.agreement(2**62).body)
    body.version, body.lineage, body.previous = body.version + 1, trust.lineage, trust.agreement(2**62).digest
    body.effective_time_ms = effective_ms
    for rule in body.channels:
        rule.cadence_ms = 28 * DAY_MS
    document = documents.make(body)
    for ministry in each:
        root = ministry.trust.party_document(ministry.party).root
        document = ministry.sign(document, (Group(f"{ministry.party} root", root, "root"),))
    return document
