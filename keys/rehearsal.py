"""Rehearsing plans: simulated time, clocks, delays, a party cut off, and mail through every moment of the windows. No I/O.

The plans run on a stage (keys/stage.py), each member with a Trust of its own that learns of documents late. How a letter
is made and admitted is passed in: `PlainMail` asks Trust alone; a test passes the real envelope and admission.
"""

import heapq
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol

from keys import desk_keys, documents, drafts, founding, node_keys, release, rotation, suite, windows
from keys.ceremony import Group
from keys.documents import Document
from keys.errors import TocsinError
from keys.plan import Plan
from keys.stage import Stage
from keys.trust import CARDS_AHEAD, FIRST_MONDAY_MS, WEEK_MS, Trust, party_of, week_of
from keys.v1 import documents_pb2 as pb
from keys.windows import Bounds, Kind

WAITS: Final = frozenset({"DOCUMENT_MISSING", "STATUS_STALE"})
"""Rules that say: not yet. Any other refusal is for good."""
LIFE_MS: Final = 10 * 60 * 1000
"""The shortest life of a letter."""
LINK_SHARE: Final = 0.5
"""Of letters, by a link; the rest goes in pouches."""


class Mail(Protocol):
    """Makes and admits letters; a letter is whatever it likes."""

    def seal(self, trust: Trust, sender: str, key: suite.SigningKey, *, create_ms: int, expire_ms: int) -> Any:
        """A letter of a desk, by the documents it holds."""

    def may_send(self, trust: Trust, desk: str) -> bool:
        """Whether a desk sends letters at all."""

    def readers(self, letter: Any) -> tuple[str, ...]:
        """The desks it is for."""

    def admit(self, letter: Any, trust: Trust, reader: str, *, now_ms: int) -> None:
        """Raises the PeerError whose rule refuses it."""


@dataclass(slots=True)
class Outcome:
    """How a rehearsal went. A refusal is one letter at one reader, or a step of a plan, in words."""

    sent: int = 0
    taken: int = 0
    waited: int = 0
    refused: list[str] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Every letter was taken by every reader and every plan was carried out."""
        return not self.refused


@dataclass(frozen=True, slots=True)
class _Parcel:
    """A letter under way to one reader.

    Args:
        letter: Made by the mail.
        made_ms: By its sender's clock.
        sender: The desk.
        signed: The log keys that signed its receipt, by node, for nodes whose log key changes.
        along: Documents its link gives the reader first, as nodes do; none in a pouch.
    """

    letter: Any
    made_ms: int
    sender: str
    signed: dict[str, tuple[bytes, ...]]
    along: tuple[Document, ...]


@dataclass(slots=True)
class _Member:
    """A desk or a ministry: what it holds, how wrong its clock is, when it is cut off (true times)."""

    name: str
    party: str
    trust: Trust
    clock_ms: int
    away: tuple[int, int] = (0, 0)
    newest_ms: dict[str, int] = field(default_factory=dict)
    waiting: list[_Parcel] = field(default_factory=list)


class Rehearsal:
    """One run of plans, the same for the same seed.

    Args:
        stage: Keys and documents.
        plans: Made for the stage.
        mail: Makes and admits letters.
        seed: Of delays, clocks, letters and who is cut off.
        now_ms: The stage's time.
        letters: How many, at any time.
        around: How many more around each time of each plan.
        per_party: Most desks of a party that take part; the desks of the plans do in any case.
    """

    def __init__(
        self,
        stage: Stage,
        plans: Sequence[Plan],
        mail: Mail,
        *,
        seed: int,
        now_ms: int,
        letters: int = 10,
        around: int = 2,
        per_party: int = 2,
    ) -> None:
        self.outcome = Outcome()
        self._stage, self._plans, self._mail = stage, plans, mail
        self._random = random.Random(seed)  # noqa: S311 - a simulation, repeatable
        self._sign = release.at_hand(stage.keys.values())
        trust = stage.trust(now_ms=now_ms)
        self._start_ms = now_ms
        self._end_ms = max(plan.times.retire_ms for plan in plans) + plans[0].bounds.in_flight_ms
        self._bounds: Bounds = windows.bounds_of(trust, from_ms=now_ms, until_ms=self._end_ms)
        self._queue: list[tuple[int, int, Callable[[int], None]]] = []
        self._count = 0
        self._ministries = {party: self._member(party, party, now_ms) for party in trust.parties}
        self._desks = {name: self._member(name, party_of(name), now_ms) for name in self._cast(trust, per_party)}
        self._cut_off()
        self._identities = {suite.key_id(key.suite, "desk", public): public for public, key in stage.keys.items()}
        self._found_cards()
        self._schedule(letters, around)

    def run(self) -> Outcome:
        """Everything, to the end."""
        while self._queue:
            time_ms, _, act = heapq.heappop(self._queue)
            act(time_ms)
        for member in self._desks.values():
            for parcel in member.waiting:
                self._refuse(parcel, member, "it waited to the end")
        for plan in self._plans:
            missing = [s.id for s in plan.steps if s.signed_by and not self._is_done(plan, s.id)]
            what = f"{plan.kind} {plan.name or plan.party}"
            if missing:
                self.outcome.refused.append(f"{what}: not carried out: {', '.join(missing)}")
            else:
                self.outcome.finished.append(what)
        return self.outcome

    # ---- who takes part

    def _member(self, name: str, party: str, now_ms: int) -> _Member:
        # Half of S to either side: any two differ by S at most.
        half = self._bounds.skew_ms // 2
        clock = self._random.choice((-half, 0, half, self._random.randint(-half, half)))
        return _Member(name, party, self._stage.trust(now_ms=now_ms + half), clock)

    def _cast(self, trust: Trust, per_party: int) -> list[str]:
        chosen = {plan.name for plan in self._plans if plan.kind is Kind.DESK}
        for party in trust.parties:
            desks = sorted(trust.roster(party).desks)
            self._random.shuffle(desks)
            desks.sort(key=lambda desk: not self._mail.may_send(trust, desk))
            chosen.update(desks[:per_party])
        return sorted(chosen)

    def _cut_off(self) -> None:
        """One party hears nothing for R, at some time around a time of a plan, and so does one desk of each."""
        times = [getattr(plan.times, name) for plan in self._plans for name in ("publish_ms", "first_use_ms")]
        party = self._random.choice(sorted(self._ministries))
        for member in (*self._ministries.values(), *self._desks.values()):
            if member.party == party or self._random.random() < 0.3:
                begin = self._random.choice(times) - self._random.randint(0, self._bounds.revocation_ms)
                member.away = (begin, begin + self._bounds.revocation_ms)

    # ---- the queue

    def _at(self, time_ms: int, act: Callable[[int], None]) -> None:
        self._count += 1
        heapq.heappush(self._queue, (time_ms, self._count, act))

    def _schedule(self, letters: int, around: int) -> None:
        for week in range(week_of(self._start_ms) + 1, week_of(self._end_ms) + 1):
            for member in self._desks.values():
                monday = FIRST_MONDAY_MS + week * WEEK_MS
                self._at(monday, partial(self._make_cards, member))
        for ministry in self._ministries.values():
            every = self._bounds.revocation_ms // 2
            for time_ms in range(self._start_ms + self._random.randrange(every), self._end_ms, every):
                self._at(time_ms, partial(self._issue_status, ministry))
        for plan in self._plans:
            for step in plan.steps:
                if step.signed_by:
                    late = self._random.choice((0, release.LATE_MS // 2))
                    self._at(step.due_ms + late, partial(self._advance, plan))
        last_ms = max(plan.times.retire_ms for plan in self._plans) + self._bounds.skew_ms
        times = [self._random.randint(self._start_ms + self._bounds.skew_ms, last_ms) for _ in range(letters)]
        for plan in self._plans:
            for name in ("publish_ms", "first_use_ms", "retire_ms"):
                skew = self._bounds.skew_ms
                times += [
                    getattr(plan.times, name) + self._random.choice((-skew, -1, 0, 1, skew)) for _ in range(around)
                ]
            # While some know of the change and others do not.
            unsure = (plan.times.announce_ms, plan.times.first_use_ms + self._bounds.revocation_ms)
            times += [self._random.randint(*unsure) for _ in range(around)]
        for time_ms in times:
            if time_ms > self._start_ms + self._bounds.skew_ms:
                self._at(time_ms, self._send)

    # ---- documents

    def _publish(self, document: Document, issuer: _Member, now: int) -> None:
        issued = now + issuer.clock_ms
        for member in (*self._ministries.values(), *self._desks.values()):
            if member is not issuer:
                # R: a member's own clock shows no more than this when the document comes. Order is kept.
                latest = issued + self._bounds.revocation_ms - member.clock_ms
                # The extremes bite: its own people know at once, the others as late as R allows.
                wait = max(0, latest - now)
                choices = (0, self._random.randint(0, wait), wait)
                arrives = now + self._random.choice((*choices, 0 if member.party == issuer.party else wait))
                if member.away[0] <= arrives < member.away[1]:
                    arrives = min(member.away[1], latest)
                arrives = max(arrives, member.newest_ms.get(issuer.name, 0), now)
                member.newest_ms[issuer.name] = arrives
                self._at(arrives, partial(self._arrive, document, member))

    def _arrive(self, document: Document, member: _Member, now: int) -> None:
        try:
            member.trust.take(document, now_ms=now + member.clock_ms)
        except TocsinError as error:
            # A status that a newer one overtook by a link, a card of last week: what matters shows in the mail.
            if document.type not in ("tocsin/1/status", "tocsin/1/card"):
                self.outcome.refused.append(f"{document.type} at {member.name}: {error.reason}: {error}")
        waiting, member.waiting = member.waiting, []
        for parcel in waiting:
            self._deliver(parcel, member, now)

    def _found_cards(self) -> None:
        """Everybody begins with everybody's cards."""
        for desk in self._desks.values():
            for card in self._new_cards(desk, self._start_ms):
                for member in (*self._ministries.values(), *self._desks.values()):
                    member.trust.take(card, now_ms=self._start_ms + member.clock_ms)

    def _make_cards(self, member: _Member, now: int) -> None:
        for card in self._new_cards(member, now):
            member.trust.take(card, now_ms=now + member.clock_ms)
            self._publish(card, member, now)

    def _new_cards(self, member: _Member, now: int) -> list[Document]:
        time_ms = now + member.clock_ms
        key = self._key(member, time_ms)
        made = []
        for week in range(week_of(time_ms), week_of(time_ms) + CARDS_AHEAD + 1):
            if key is not None and member.trust.card(member.name, week) is None:
                card = suite.CardKey.generate()
                self._stage.cards[card.public] = card
                made.append(founding.key_card(member.name, key, card, lineage=self._stage.lineage, week=week))
        return made

    def _issue_status(self, ministry: _Member, now: int) -> None:
        trust, time_ms = ministry.trust, now + ministry.clock_ms
        draft = drafts.next_status(trust, ministry.party, now_ms=time_ms)
        group = Group(f"{ministry.party} status", trust.party_document(ministry.party).status, "status")
        status = self._sign(draft, (group,))
        trust.take(status, now_ms=time_ms)
        self._publish(status, ministry, now)

    def _advance(self, plan: Plan, now: int) -> None:
        ministry = self._ministries[plan.party]
        time_ms = now + ministry.clock_ms
        try:
            advanced = rotation.advance(plan, ministry.trust, now_ms=time_ms, sign=self._sign)
        except TocsinError as error:
            self.outcome.refused.append(f"{plan.kind} {plan.name or plan.party}: {error}")
            return
        for document in advanced.released:
            self._publish(document, ministry, now)
        step = advanced.next
        if step is not None and (advanced.waiting or time_ms < step.due_ms) and now < self._end_ms:
            again = now + self._bounds.revocation_ms // 12 if advanced.waiting else now + (step.due_ms - time_ms)
            self._at(again, partial(self._advance, plan))

    def _is_done(self, plan: Plan, step: str) -> bool:
        found = next(s for s in plan.steps if s.id == step)
        return rotation.is_done(plan, found, self._ministries[plan.party].trust)

    # ---- letters

    def _key(self, member: _Member, time_ms: int) -> suite.SigningKey | None:
        have = self._identities
        identity = desk_keys.in_use(member.trust, member.name, now_ms=time_ms, have=have)
        return self._stage.keys[have[identity]] if identity else None

    def _send(self, now: int) -> None:
        busy = [plan.name for plan in self._plans if plan.name in self._desks]
        able = [name for name in (*self._desks, *busy, *busy) if self._mail.may_send(self._desks[name].trust, name)]
        sender = self._desks[self._random.choice(able)]
        time_ms = now + sender.clock_ms
        key = self._key(sender, time_ms)
        if key is None:
            self.outcome.refused.append(f"{sender.name} has no key to sign with at {windows.iso(time_ms)}")
            return
        # By a link the documents come first, however short the letter lives; in a pouch it lives long enough to wait.
        by_link = self._random.random() < LINK_SHARE
        shortest = LIFE_MS if by_link else self._bounds.revocation_ms + 2 * self._bounds.skew_ms
        longest = self._bounds.lifetime_ms
        lives = self._random.choice((shortest, longest, self._random.randint(shortest, longest)))
        letter = self._mail.seal(sender.trust, sender.name, key, create_ms=time_ms, expire_ms=time_ms + lives)
        self.outcome.sent += 1
        along = tuple(sender.trust.documents()) if by_link else ()
        parcel = _Parcel(letter, time_ms, sender.name, self._receipts(now), along)
        for reader in self._mail.readers(letter):
            if reader in self._desks:
                travels = self._random.choice((0, 0, lives - 1, self._random.randrange(lives)))
                self._at(now + travels, partial(self._deliver, parcel, self._desks[reader]))

    def _deliver(self, parcel: _Parcel, reader: _Member, now: int) -> None:
        self._connect(parcel, reader, now)
        for document in parcel.along:
            if not reader.trust.holds(document.digest):
                with suppress(TocsinError):
                    reader.trust.take(document, now_ms=now + reader.clock_ms)
        try:
            self._mail.admit(parcel.letter, reader.trust, reader.name, now_ms=now + reader.clock_ms)
        except TocsinError as error:
            if error.reason in WAITS:
                self.outcome.waited += 1
                reader.waiting.append(parcel)
            else:
                self._refuse(parcel, reader, f"{error.reason}: {error}")
        else:
            self.outcome.taken += 1

    def _refuse(self, parcel: _Parcel, reader: _Member, why: str) -> None:
        self.outcome.refused.append(
            f"letter of {parcel.sender} made {windows.iso(parcel.made_ms)} at {reader.name}: {why}"
        )

    # ---- nodes whose CA or log key changes

    def _receipts(self, now: int) -> dict[str, tuple[bytes, ...]]:
        signed = {}
        for plan in self._plans:
            if plan.kind is Kind.LOG:
                ministry = self._ministries[plan.party]
                time_ms = now + ministry.clock_ms
                have = set(self._stage.keys)
                if time_ms < plan.times.announce_ms:
                    have.discard(rotation.new_public(plan))
                named = {key.key for key in ministry.trust.log_keys(plan.name)} | {rotation.new_public(plan)}
                have &= named
                signed[plan.name] = node_keys.log_keys_signing(ministry.trust, plan.name, now_ms=time_ms, have=have)
        return signed

    def _connect(self, parcel: _Parcel, reader: _Member, now: int) -> None:
        """The reader fetches the letter: it must take the node's certificate, and its checkpoint."""
        for plan in self._plans:
            if plan.kind is Kind.TLS_CA:
                ministry = self._ministries[plan.party]
                have = {self._first_ca(plan), plan.new}
                shown = node_keys.ca_shown(ministry.trust, plan.name, now_ms=now + ministry.clock_ms, have=have)
                if shown not in node_keys.cas_accepted(reader.trust, plan.name, now_ms=now + reader.clock_ms):
                    self._refuse(parcel, reader, f"{plan.name} shows a certificate of a CA it does not take")
        for node, signed in parcel.signed.items():
            entry = reader.trust.node(node)
            if entry is not None and entry.log_key.key not in signed:
                self._refuse(parcel, reader, f"the checkpoint of {node} lacks the signature it looks for")

    def _first_ca(self, plan: Plan) -> bytes:
        first = next(d for d in self._stage.documents if d.type == "tocsin/1/roster" and _party(d) == plan.party)
        body = documents.body(first, pb.Roster)
        return next(node.tls_ca for node in body.nodes if node.node == plan.name)


def _party(document: Document) -> str:
    return documents.body(document, pb.Roster).party
