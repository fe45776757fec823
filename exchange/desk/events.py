"""What a desk hears: deliveries, and the facts that must never be silence."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from exchange.report import clean_message
from exchange.v1 import report_pb2 as rep


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that a node took an envelope: its leaf (the envelope id) at `position` under a signed checkpoint.

    `proof` is the RFC 6962 inclusion proof, `checkpoint` the signed note.
    """

    id: bytes
    position: int
    proof: tuple[bytes, ...]
    checkpoint: bytes


@dataclass(frozen=True, slots=True)
class Origin:
    """What all items of one envelope share.

    Of what a colleague passed on all but the receipt is that of the earlier envelope, whose id is `original`; the receipt
    is that of the envelope in which `reshared_by` passed it on. Else both are empty.
    """

    sender: str
    channel: str
    marking: int
    seq: int
    create_time_ms: int
    receipt: Receipt
    reshared_by: str = ""
    original: bytes = b""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One item, verified, opened, in order. Made for every report, so it holds little and works out the rest when asked."""

    raw: bytes = field(repr=False)
    index: int
    origin: Origin
    parsed: rep.Item = field(repr=False, compare=False)
    """As it came: its text may deceive a reader or drive a terminal. Show `item`."""
    warnings: tuple[str, ...] = ()
    _cleaned: rep.Item | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def item(self) -> rep.Item:
        """The item with harmless text; cleaned when first asked for, since many are only counted or passed on."""
        cleaned = self._cleaned
        if cleaned is None:
            cleaned = clean_message(self.parsed)
            object.__setattr__(self, "_cleaned", cleaned)
        return cleaned

    @property
    def report(self) -> rep.Report:
        """The report; empty when the item is of another kind."""
        return self.item.report

    @property
    def kind(self) -> str:
        """Name of the item's kind; empty for one newer than this version reads."""
        return self.parsed.WhichOneof("kind") or ""

    @property
    def sender(self) -> str:
        """The desk that said it."""
        return self.origin.sender

    @property
    def channel(self) -> str:
        """Where it was said."""
        return self.origin.channel

    @property
    def reshared_by(self) -> str:
        """The colleague who passed it on, because this desk could not open it when it was said; else empty."""
        return self.origin.reshared_by

    @property
    def marking(self) -> int:
        """How far it may go, as in documents.proto."""
        return self.origin.marking

    @property
    def seq(self) -> int:
        """The envelope's number in its stream."""
        return self.origin.seq

    @property
    def create_time_ms(self) -> int:
        """When the envelope was sealed, ms UTC, by its sender's clock."""
        return self.origin.create_time_ms

    @property
    def envelope(self) -> bytes:
        """Id of the envelope."""
        return self.origin.receipt.id

    @property
    def receipt(self) -> Receipt:
        """Proof that the node's log holds the envelope."""
        return self.origin.receipt

    @property
    def confirmed(self) -> bool:
        """Whether a node has it on disk: false for what was asked for early, until its receipt comes."""
        return bool(self.origin.receipt.checkpoint)


@dataclass(frozen=True, slots=True)
class Gap:
    """Numbers of a stream that its sender stands by and that could not be had.

    `node` was asked for them and gave nothing that counts; `holders` proved that the last of them is in their log: a node
    that is both withholds it. Both are empty where nobody could be asked. `pruned`: the node proved that it had them, and
    keeps no content of them any more, as the rule of their channel lets it.
    """

    sender: str
    channel: str
    stream: bytes
    first: int
    last: int
    node: str = ""
    holders: tuple[str, ...] = ()
    pruned: bool = False

    def __str__(self) -> str:
        """In words."""
        text = f"numbers {self.first} to {self.last} of {self.sender} on {self.channel} are missing"
        if self.pruned:
            return f"{text}: {self.node} held them, pruned by rule since"
        if self.node:
            text += f": {self.node} gives nothing that counts for them"
        for holder in self.holders:
            text += f", {'and' if holder == self.node else 'but'} {holder} holds number {self.last}"
        return text


@dataclass(frozen=True, slots=True)
class Silent:
    """A sender promised to be heard by a time that is over: it is down, or one of the nodes between holds it back."""

    sender: str
    channel: str
    next_by_ms: int
    nodes: tuple[str, ...]

    def __str__(self) -> str:
        """In words."""
        by = datetime.fromtimestamp(self.next_by_ms / 1000, UTC)
        return (
            f"{self.sender} promised to be heard on {self.channel} by {by:%Y-%m-%dT%H:%MZ} and is not: it is down, or "
            f"{' or '.join(self.nodes)} holds it back"
        )


@dataclass(frozen=True, slots=True)
class Split:
    """A colleague saw another log of this desk's node than is shown here: its signed word is in an archived envelope."""

    origin: str
    sender: str
    envelope: bytes
    size: int

    def __str__(self) -> str:
        """In words."""
        return (
            f"{self.sender} says that it saw another {self.origin} at size {self.size} than this desk is shown: one desk's "
            f"signed word (envelope {self.envelope.hex()[:16]}) against the node's. Either the node shows two logs, or "
            f"{self.sender} is mistaken or lies: ask other readers of the node, and the nodes that cosign its log, what they saw"
        )


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """An envelope was given early, and the call ended before the node had it on disk: it is not archived."""

    sender: str
    channel: str
    envelope: bytes

    def __str__(self) -> str:
        """In words."""
        return f"envelope {self.envelope.hex()[:16]} of {self.sender} on {self.channel} was shown early and is not kept yet"


@dataclass(frozen=True, slots=True)
class DiskFailed:
    """This desk's own disk does not keep what it is given: nothing is read or promised meanwhile. Or it changed what it held."""

    text: str
    hint: str

    def __str__(self) -> str:
        """In words."""
        return f"the disk of this desk: {self.text}; {self.hint}"


@dataclass(frozen=True, slots=True)
class Stale:
    """Parties whose newest status is older than the agreed bound."""

    parties: tuple[str, ...]

    def __str__(self) -> str:
        """In words."""
        return f"no fresh status of {', '.join(self.parties)}: revocations may be unknown"


@dataclass(frozen=True, slots=True)
class Conflict:
    """One id bears two texts, or a sender used one number for two envelopes, or said two things of one stream."""

    sender: str
    channel: str
    what: str

    def __str__(self) -> str:
        """In words."""
        return f"conflict from {self.sender} on {self.channel}: {self.what}"


@dataclass(frozen=True, slots=True)
class Refused:
    """An envelope that was not opened here, or one of ours that was refused for good; `node` says so, where another one does."""

    id: bytes
    rule: str
    text: str
    node: str = ""

    def __str__(self) -> str:
        """In words."""
        return f"refused{f' at {self.node}' if self.node else ''} by {self.rule}: {self.text}"


@dataclass(frozen=True, slots=True)
class Overdue:
    """The seed of a week's key card is kept past its time, because not all was read that it may be needed for."""

    week: int
    due_ms: int
    channels: tuple[str, ...]

    def __str__(self) -> str:
        """In words."""
        return (
            f"the seed of the key card of week {self.week} is not destroyed yet: "
            f"{', '.join(self.channels)} not read to the end since it fell due"
        )


@dataclass(frozen=True, slots=True)
class Clash:
    """The node showed a log that does not extend what it showed before: rolled back, forked, or replaced.

    Both signed heads are kept in the archive (`Archive.clashes`); `rule` is LOG_ROLLBACK or LOG_FORK.
    """

    origin: str
    rule: str
    text: str

    def __str__(self) -> str:
        """In words."""
        return f"{self.rule}: {self.text}; both signed heads are kept"


@dataclass(frozen=True, slots=True)
class Restored:
    """The node holds an envelope of this desk that this desk does not know: restored from a backup, or copied.

    The streams in use are given up. If nobody restored this desk, somebody else has its keys. `shown`: the node showed the
    envelope, signed by this desk; else it is the node's word alone. `held_seq` is 0 for a stream that this desk does not know.
    """

    channel: str
    stream: bytes
    held_seq: int
    last_seq: int
    shown: bool = True

    def __str__(self) -> str:
        """In words."""
        on = f"up to number {self.last_seq}{f' on {self.channel}' if self.channel else ''}"
        knows = f"knows up to {self.held_seq}" if self.held_seq else "does not know that stream"
        if not self.shown:
            return (
                f"the node says that this desk sent {on}, and does not show it; "
                f"this desk {knows} and begins new streams: ask the node's operator"
            )
        return f"this desk sent {on} and {knows}: restored from a backup? if not, another machine has its keys: revoke them"


@dataclass(frozen=True, slots=True)
class Undelivered:
    """A node did not prove in time that it holds what was sent to desks it hosts; `why` where it said anything."""

    node: str
    count: int
    since_ms: int
    why: str = ""

    def __str__(self) -> str:
        """In words."""
        text = f"{self.node} did not show that it has {envelopes(self.count)}, the oldest of {utc(self.since_ms)}"
        return f"{text}: {self.why}" if self.why else text


@dataclass(frozen=True, slots=True)
class Unopened:
    """A desk did not acknowledge in time what its node has."""

    desk: str
    channel: str
    count: int
    since_ms: int

    def __str__(self) -> str:
        """In words."""
        what = envelopes(self.count)
        return f"{self.desk} did not acknowledge {what} on {self.channel}, the oldest of {utc(self.since_ms)}"


@dataclass(frozen=True, slots=True)
class SealedAgain:
    """What an envelope said is said again in another: its time ended before these nodes had it, or one refuses it."""

    old: bytes
    new: bytes
    nodes: tuple[str, ...]

    def __str__(self) -> str:
        """In words."""
        lacking = ", ".join(self.nodes)
        return f"envelope {self.old.hex()[:16]} will not come to {lacking}: sealed again as {self.new.hex()[:16]}"


def envelopes(count: int) -> str:
    """A number of envelopes in words."""
    return "1 envelope" if count == 1 else f"{count} envelopes"


def utc(time_ms: int) -> str:
    """A time for people."""
    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"


@dataclass(frozen=True, slots=True)
class NewLog:
    """The node was restored from a backup and goes on in a new log, which continues the one that this desk read.

    `sealed_again` envelopes of this desk were acknowledged and then lost: nobody had taken them. They are sent again.
    """

    origin: str
    sealed_again: int = 0

    def __str__(self) -> str:
        """In words."""
        if self.sealed_again:
            return f"{self.origin} does not hold {envelopes(self.sealed_again)} of this desk: sealed and sent again"
        return f"the node was restored from a backup and goes on in {self.origin}: it is read from its start"


Event = (
    Restored
    | NewLog
    | Clash
    | Gap
    | Silent
    | Split
    | Stale
    | Conflict
    | Refused
    | Overdue
    | Unconfirmed
    | DiskFailed
    | Undelivered
    | Unopened
    | SealedAgain
)
