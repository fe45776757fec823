"""The life of an alert, worked out from what was said about it and nothing else, so that every desk sees the same.

A chain is an alert with what refers to it: updates, acknowledgements, its end, and the consultations about it. Only the
mission that raised an alert changes or ends it; anybody who reads it acknowledges, escalates and consults.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from exchange.v1 import report_pb2 as pb
from exchange.watch.alerts import HOUR_MS
from exchange.watch.intake import mission_of
from keys.trust import party_of

MAX_SAID: Final = 1024  # of one chain; who says more is flooding
MAX_CHAINS: Final = 20_000
MAX_TALKS: Final = 4096
MAX_WAITING: Final = 1024  # what refers to an alert that has not come yet


class State(Enum):
    """Where an alert stands; the value is a stable id."""

    ISSUED = "issued"
    ACKNOWLEDGED = "acknowledged"
    ESCALATED = "escalated"
    CONSULTED = "consulted"
    UPDATED = "updated"
    CANCELLED = "cancelled"
    RESOLVED = "resolved"
    FALSE_ALARM = "false alarm"
    EXPIRED = "expired"


class Step(Enum):
    """What can happen to an alert."""

    ACKNOWLEDGE = "acknowledge"
    ESCALATE = "escalate"
    CONSULT = "consult"
    UPDATE = "update"
    CANCEL = "cancel"
    RESOLVE = "resolve"
    FALSE_ALARM = "false alarm"
    EXPIRE = "expire"


_ENDS: Final = {
    Step.CANCEL: State.CANCELLED,
    Step.RESOLVE: State.RESOLVED,
    Step.FALSE_ALARM: State.FALSE_ALARM,
    Step.EXPIRE: State.EXPIRED,
}
TRANSITIONS: Final[dict[State, dict[Step, State]]] = {  # every change of state is in here
    State.ISSUED: {
        **_ENDS, Step.ACKNOWLEDGE: State.ACKNOWLEDGED, Step.ESCALATE: State.ESCALATED,
        Step.CONSULT: State.CONSULTED, Step.UPDATE: State.UPDATED,
    },
    State.ACKNOWLEDGED: {
        **_ENDS, Step.ACKNOWLEDGE: State.ACKNOWLEDGED, Step.ESCALATE: State.ESCALATED,
        Step.CONSULT: State.CONSULTED, Step.UPDATE: State.UPDATED,
    },
    # An acknowledgement does not take an escalation back, nor end a consultation.
    State.ESCALATED: {
        **_ENDS, Step.ACKNOWLEDGE: State.ESCALATED, Step.ESCALATE: State.ESCALATED,
        Step.CONSULT: State.CONSULTED, Step.UPDATE: State.UPDATED,
    },
    State.CONSULTED: {
        **_ENDS, Step.ACKNOWLEDGE: State.CONSULTED, Step.ESCALATE: State.ESCALATED,
        Step.CONSULT: State.CONSULTED, Step.UPDATE: State.UPDATED,
    },
    State.UPDATED: {
        **_ENDS, Step.ACKNOWLEDGE: State.ACKNOWLEDGED, Step.ESCALATE: State.ESCALATED,
        Step.CONSULT: State.CONSULTED, Step.UPDATE: State.UPDATED,
    },
    State.CANCELLED: {}, State.RESOLVED: {}, State.FALSE_ALARM: {},
    # What ran out can still be taken back or put right: its readers may act on it yet.
    State.EXPIRED: {Step.CANCEL: State.CANCELLED, Step.RESOLVE: State.RESOLVED, Step.FALSE_ALARM: State.FALSE_ALARM},
}  # fmt: skip
_OWN: Final = frozenset([Step.UPDATE, Step.CANCEL, Step.RESOLVE, Step.FALSE_ALARM])
ANSWER_MS: Final[dict[int, int]] = {
    pb.URGENCY_IMMEDIATE: 4 * HOUR_MS,
    pb.URGENCY_EXPECTED: 24 * HOUR_MS,
}
"""Until when somebody of another party has acknowledged, by urgency; else ANSWER_ELSE_MS."""
ANSWER_ELSE_MS: Final = 72 * HOUR_MS


def step_of(alert: pb.Alert) -> Step | None:
    """What an alert message does to the chain it refers to; None for one that begins a chain, or is not known."""
    if alert.type == pb.ALERT_TYPE_CANCEL:
        ends = {pb.ALERT_STEP_RESOLVED: Step.RESOLVE, pb.ALERT_STEP_FALSE_ALARM: Step.FALSE_ALARM}
        return ends.get(alert.step, Step.CANCEL)
    if alert.type in (pb.ALERT_TYPE_UPDATE, pb.ALERT_TYPE_ACK) and alert.step == pb.ALERT_STEP_ESCALATED:
        return Step.ESCALATE
    return {pb.ALERT_TYPE_UPDATE: Step.UPDATE, pb.ALERT_TYPE_ACK: Step.ACKNOWLEDGE}.get(alert.type)


@dataclass(frozen=True, slots=True)
class Heard:
    """An alert or consultation message as it came: who, when (by the sender's clock, ms UTC), digest of the item, marking."""

    sender: str
    time_ms: int
    said: pb.Alert | pb.Consultation = field(repr=False)
    digest: bytes
    marking: int
    named: tuple[str, ...] = ()

    @property
    def reference(self) -> pb.Reference:
        """How another item names it."""
        return pb.Reference(sender=self.sender, id=self.said.id, digest=self.digest)


@dataclass(slots=True)
class Chain:
    """An alert with all that was said about it.

    `current` is the newest that stands, the alert or its last update, and `alert` what it says; `acknowledged` is by
    desk, since `current`.
    """

    root: Heard
    current: Heard
    alert: pb.Alert
    state: State = State.ISSUED
    said: list[Heard] = field(default_factory=list)
    acknowledged: dict[str, int] = field(default_factory=dict)
    escalated_ms: int = 0

    @property
    def references(self) -> list[pb.Reference]:
        """The alert and its updates, oldest first: what the next message of the chain refers to."""
        warned = (one for one in self.said if isinstance(one.said, pb.Alert) and one.said.type == pb.ALERT_TYPE_UPDATE)
        return [self.root.reference, *(one.reference for one in warned)]

    def state_at(self, now_ms: int) -> State:
        """The state, with what time alone does to it."""
        if Step.EXPIRE in TRANSITIONS[self.state] and 0 < self.alert.expire_time_ms <= now_ms:
            return TRANSITIONS[self.state][Step.EXPIRE]
        return self.state

    def open_at(self, now_ms: int) -> bool:
        """Whether it still warns."""
        return bool(TRANSITIONS[self.state]) and self.state_at(now_ms) is not State.EXPIRED

    def answer_by_ms(self) -> int:
        """Until when another party has acknowledged what stands, or it is escalated."""
        return self.current.time_ms + ANSWER_MS.get(self.alert.urgency, ANSWER_ELSE_MS)

    def overdue(self, now_ms: int) -> bool:
        """Whether nobody of another party has answered in time, and nobody above was told."""
        own = party_of(self.root.sender)
        answered = any(party_of(desk) != own for desk in self.acknowledged)
        waits = self.state in (State.ISSUED, State.UPDATED, State.ACKNOWLEDGED) and self.open_at(now_ms)
        return waits and not answered and now_ms > self.answer_by_ms()


@dataclass(slots=True)
class Talk:
    """A consultation about no alert that this desk knows; `said` in the order in which it came."""

    thread: bytes
    said: list[Heard] = field(default_factory=list)

    @property
    def opening(self) -> Heard:
        """The request that opened it; the first that came, while that one is missing."""
        return next((one for one in self.said if one.said.id == self.thread), self.said[0])


class Ledger:
    """Every chain this desk knows, from the messages alone; in whatever order they come."""

    def __init__(self) -> None:
        self._chains: dict[tuple[str, bytes], Chain] = {}
        self._of: dict[tuple[str, bytes, bytes], Chain] = {}  # every alert message of a chain, by (sender, id, digest)
        self._threads: dict[bytes, Chain] = {}
        self._talks: dict[bytes, Talk] = {}
        self._waiting: list[Heard] = []

    def chains(self) -> list[Chain]:
        """All, oldest first."""
        return sorted(self._chains.values(), key=lambda one: one.root.time_ms)

    def talks(self) -> list[Talk]:
        """Consultations about no alert known here, oldest first."""
        return sorted(self._talks.values(), key=lambda one: one.opening.time_ms)

    def find(self, prefix: str) -> list[Chain]:
        """Chains whose alert, or a message of theirs, has an id that begins so."""
        found: dict[int, Chain] = {}
        for (_, identity, _), chain in self._of.items():
            if identity.hex().startswith(prefix.replace("-", "").lower()):
                found[id(chain)] = chain
        return list(found.values())

    def take(self, heard: Heard) -> list[str]:
        """File a message; what is wrong with it, in words. Never raises: it comes from elsewhere."""
        problems = self._file(heard)
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            # What waited for an alert that has just come finds it now; what still waits waits on.
            problems += self._file(one)
        return problems

    def _file(self, heard: Heard) -> list[str]:
        said = heard.said
        if isinstance(said, pb.Consultation):
            return self._consult(heard, said)
        key = (heard.sender, bytes(said.id), heard.digest)
        if key in self._of:
            return []
        step = step_of(said)
        if step is None:
            return self._begin(heard, said, key)
        chain = self._chain_of(said.references)
        if chain is None:
            return self._wait(heard)
        if problem := _refused(chain, heard, said, step):
            return [problem]
        self._of[key] = chain
        _apply(chain, heard, said, step)
        return []

    def _begin(self, heard: Heard, said: pb.Alert, key: tuple[str, bytes, bytes]) -> list[str]:
        if said.type != pb.ALERT_TYPE_ALERT:
            return [f"{heard.sender} sent an alert of a type that this version does not know"]
        if key[:2] in self._chains:
            return [f"{heard.sender} sent two alerts with one id"]
        if len(self._chains) >= MAX_CHAINS:
            return [f"more than {MAX_CHAINS} alerts"]
        self._of[key] = self._chains[key[:2]] = Chain(heard, heard, said)
        self._join()
        return []

    def _join(self) -> None:
        """Consultations whose alert has just come go to it."""
        for thread, talk in list(self._talks.items()):
            if any(self._chain_of(one.said.references) is not None for one in talk.said):
                del self._talks[thread]
                for one in talk.said:
                    self._file(one)

    def _chain_of(self, references: Iterable[pb.Reference]) -> Chain | None:
        for one in reversed(list(references)[:64]):
            # By digest: whoever takes another's id takes nothing of its chain.
            chain = self._of.get((one.sender, bytes(one.id), bytes(one.digest)))
            if chain is not None:
                return chain
        return None

    def _wait(self, heard: Heard) -> list[str]:
        if len(self._waiting) >= MAX_WAITING:
            return [f"{heard.sender} refers to an alert that never came"]
        self._waiting.append(heard)
        return []

    def _consult(self, heard: Heard, said: pb.Consultation) -> list[str]:
        thread = bytes(said.thread)
        chain = self._threads.get(thread)
        if chain is None:
            chain = self._chain_of(said.references)
        if chain is None:
            return self._talk(heard, thread)
        if any(one.digest == heard.digest and one.sender == heard.sender for one in chain.said):
            return []
        if len(chain.said) >= MAX_SAID:
            return [f"more than {MAX_SAID} messages about one alert"]
        self._threads.setdefault(thread, chain)
        earlier = self._talks.pop(thread, None)
        for one in earlier.said if earlier else ():
            self._file(one)
        chain.said.append(heard)
        chain.state = TRANSITIONS[chain.state].get(Step.CONSULT, chain.state)
        return []

    def _talk(self, heard: Heard, thread: bytes) -> list[str]:
        talk = self._talks.get(thread) or Talk(thread)
        if any(one.digest == heard.digest and one.sender == heard.sender for one in talk.said):
            return []
        if len(talk.said) >= MAX_SAID or (not talk.said and len(self._talks) >= MAX_TALKS):
            return [f"{heard.sender}: more than {MAX_TALKS} consultations, or {MAX_SAID} messages in one"]
        talk.said.append(heard)
        self._talks[thread] = talk
        return []


def _apply(chain: Chain, heard: Heard, said: pb.Alert, step: Step) -> None:
    chain.said.append(heard)
    chain.state = TRANSITIONS[chain.state].get(step, chain.state)
    if said.type == pb.ALERT_TYPE_ACK:
        chain.acknowledged[heard.sender] = heard.time_ms
    if said.type == pb.ALERT_TYPE_UPDATE:
        chain.current, chain.alert = heard, said
        if step is Step.UPDATE:
            chain.acknowledged.clear()
    if step is Step.ESCALATE:
        chain.escalated_ms = heard.time_ms


def _refused(chain: Chain, heard: Heard, said: pb.Alert, step: Step) -> str:
    """Why a message does not count; empty if it does."""
    if said.status != chain.alert.status:
        return f"{heard.sender} mixes exercise and actual: its message does not count"
    changes = step in _OWN or said.type == pb.ALERT_TYPE_UPDATE
    if changes and mission_of(heard.sender) != mission_of(chain.root.sender):
        return f"{heard.sender} cannot {step.value} what {chain.root.sender} raised"
    if changes and step not in TRANSITIONS[chain.state]:
        return f"{heard.sender} cannot {step.value} an alert that is {chain.state.value}"
    if len(chain.said) >= MAX_SAID:
        return f"more than {MAX_SAID} messages about one alert"
    return ""
