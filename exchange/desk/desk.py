"""The desk: seals and sends, receives and opens. Everything it believes it has verified itself, whatever its node says."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from exchange import files, policy, tls
from exchange.clock import now_ms
from exchange.desk import rekey
from exchange.desk.acknowledging import Acknowledging
from exchange.desk.archive import Archive
from exchange.desk.attaching import Attaching
from exchange.desk.audit import audit
from exchange.desk.beats import Beats
from exchange.desk.events import Delivery, Event, Undelivered, Unopened
from exchange.desk.forgetting import Forgetting
from exchange.desk.holdings import TLS, Holdings
from exchange.desk.link import Link
from exchange.desk.proving import Found, Proving
from exchange.desk.pushing import Pushed, push
from exchange.desk.reading import Reading
from exchange.desk.resharing import PassedOn, Resharing
from exchange.desk.sending import Sending
from exchange.desk.settings import DeskSettings
from exchange.desk.tracked import Tracked, tracked, verify
from exchange.desk.tracking import Tracking
from exchange.desk.unpacking import Taken, Unpacking
from exchange.desk.witness import Witness
from exchange.errors import StoreError
from exchange.v1 import report_pb2 as rep
from exchange.workers import ThreadWorkers, Workers
from keys import documents, signer, suite
from keys.audit import Finding
from keys.errors import TocsinError, UsageError
from keys.keystore import Keystore
from keys.trust import Trust

ENDING_POLL_S: Final = 0.01
ENDING_S: Final = 3.0
"""A desk that ends gives what it has just acknowledged this long to reach its node."""
# One seals, one sends, one settles, one reads.
THREADS: Final = 4


def init(
    directory: Path,
    settings: DeskSettings,
    *,
    passphrase: bytes = b"",
    fast_kdf: bool = False,
    where: signer.InToken | None = None,
) -> suite.Signer:
    """Make a desk's directory: settings, keystore with signing key and archive key.

    Args:
        directory: Where.
        settings: Of the desk.
        passphrase: Of the keystore; empty for a key file beside it.
        fast_kdf: For tests only.
        where: The token in which the signing key is to be made.

    Raises:
        UsageError: The directory holds a desk already.
    """
    if (directory / "desk.toml").exists():
        raise UsageError(f"{directory} holds a desk already", hint="choose another directory")
    files.private_directory(directory)
    store = Keystore.create(directory / "desk.keys", passphrase, fast_kdf=fast_kdf)
    try:
        key = signer.make(store, "signing", suite.DESK_SUITE, where=where)
    except TocsinError:
        # So that the command can be run again, with the token in.
        (directory / "desk.keys").unlink()
        raise
    rekey.make(store)
    store.put(TLS, tls.key_pem(tls.new_key()), kind="tls")
    store.close()
    files.save_settings(settings, directory / "desk.toml")
    return key


class Desk:
    """One workplace. Use `Desk.open` and `async with`.

    Args:
        directory: Holds desk.toml, the keystore, the documents and the archive.
        passphrase: Opens the keystore; empty for a machine-local key file.
        clock: Milliseconds UTC.
        workers: Run what blocks: cryptography and the disk; None makes threads, and ends them with the desk.
        link: Makes the link to the node; another one only where there is no network.
    """

    def __init__(
        self,
        directory: Path,
        *,
        passphrase: bytes = b"",
        clock: Callable[[], int] = now_ms,
        workers: Workers | None = None,
        link: Callable[[Holdings], Link] = Link,
    ) -> None:
        self._threads: ThreadWorkers | None = None
        if workers is None:
            workers = self._threads = ThreadWorkers(THREADS, name="desk")
        self._own = Holdings(directory, passphrase=passphrase, clock=clock, workers=workers)
        self._link = link(self._own)
        self._witness = witness = Witness(self._own)
        self._sending = Sending(self._own, self._link, witness, taken=lambda: self._tracking.grew())
        self._acknowledging = Acknowledging(self._own, self._sending.sealing)
        self._beats = Beats(self._own, self._link, self._sending.sealing, witness)
        self._reading = Reading(self._own, self._link, witness, owing=self._acknowledging.owing)
        self._tracking = Tracking(self._own, self._link, self._sending.sealing, self._reading.fetch)
        self._forgetting = Forgetting(self._own)
        self._proving = Proving(self._own, self._link)
        self._resharing = Resharing(self._own, self._sending.sealing)
        self._attaching = Attaching(self._own, self._link)
        self._unpacking = Unpacking(self._own, self._reading)
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        passphrase: bytes = b"",
        clock: Callable[[], int] = now_ms,
        workers: Workers | None = None,
        link: Callable[[Holdings], Link] = Link,
    ) -> Self:
        """A desk by its desk.toml or its directory; nothing runs until `async with`."""
        path = Path(path)
        directory = path.parent if path.name == "desk.toml" else path
        return cls(directory, passphrase=passphrase, clock=clock, workers=workers, link=link)

    def __repr__(self) -> str:
        """Its name alone."""
        return f"Desk({self.name!r})"

    @property
    def directory(self) -> Path:
        """Where its files are."""
        return self._own.directory

    @property
    def name(self) -> str:
        """Which desk this is: `nl.seoul/economic`."""
        return self._own.name

    @property
    def settings(self) -> DeskSettings:
        """What desk.toml says."""
        return self._own.settings

    @property
    def clock(self) -> Callable[[], int]:
        """Milliseconds UTC."""
        return self._own.clock

    @property
    def workers(self) -> Workers:
        """Run what blocks, for services of this desk too."""
        return self._own.workers

    @property
    def trust(self) -> Trust:
        """The documents held."""
        return self._own.trust

    @property
    def archive(self) -> Archive:
        """Outbox and archive."""
        return self._own.archive

    @property
    def state(self) -> str:
        """How it stands with the node, in words; `connected` when all is well."""
        return self._own.state

    async def __aenter__(self) -> Self:
        """Start sealing and sending; destroy what is due.

        Raises:
            DeskInUseError: Another process works with this desk.
        """
        try:
            self.archive.hold()
        except TocsinError:
            self.close()
            raise
        self.make_cards()
        work = (
            self._sending.sealing.run(),
            self._sending.run(),
            self._forgetting.run(),
            self._link.keep_in_step(),
            self._acknowledging.run(),
            self._tracking.run(),
            self._beats.run(),
        )
        self._tasks = [asyncio.create_task(one) for one in work]
        self._own.state = "starting"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Acknowledge what was given, seal what waits (it is durable then), stop, close."""
        await self._finish()
        while self._sending.sealing.queued and not self._tasks[0].done():
            await asyncio.sleep(ENDING_POLL_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._link.close()
        self.close()

    async def _finish(self) -> None:
        """Work out who must get what was taken last; acknowledge what the reader was given last, to the node if it answers."""
        # A full disk, or sealing that ended: all of it is done when the desk runs again.
        with contextlib.suppress(TocsinError, TimeoutError):
            async with asyncio.timeout(ENDING_S):
                await self.workers.run(self._reading.note_given)
                await self.workers.run(self._tracking.place)
                if await self._acknowledging.once() and self.state == "connected":
                    await self.flush(ENDING_S)

    def close(self) -> None:
        """Save the documents and release the files of a desk that does not run."""
        try:
            self._reading.note_given()
        except StoreError as error:
            self._own.disk_failed(error)
        self._own.close()
        if self._threads is not None:
            self._threads.close()

    # ---- keys and documents

    def make_cards(self) -> list[documents.Document]:
        """Key cards for this week and the next five, so that a cut-off desk can still be written to.

        Returns the new ones, which the node must get (`put_documents`); seeds stay in the keystore.
        """
        return self._own.cards.make(listed=self._own.listed())

    def save_documents(self) -> None:
        """Write the documents held, if they changed."""
        self._own.save_documents()

    def take_documents(self, encoded: Iterable[bytes]) -> list[TocsinError]:
        """Take documents from anyone; each is verified, what is refused is returned."""
        return self._own.take_documents(encoded)

    async def enrol(self) -> None:
        """Get a TLS certificate from the hosting node, by proof of the rostered signing key.

        Raises:
            TocsinError: The node refuses or does not answer.
        """
        await self._link.enrol()

    async def synchronise(self) -> None:
        """Fetch the node's documents, give it our key cards.

        Raises:
            TocsinError: The node refuses or does not answer.
        """
        await self._link.synchronise()

    async def push(self, encoded: Sequence[bytes]) -> list[Pushed]:
        """Give documents to the hosting node at once; what it said of each.

        Raises:
            TocsinError: The node does not answer.
        """
        return await push(self._link, encoded)

    def audit(self) -> list[Finding]:
        """What can be shown of the hosting node's log: every kept receipt verified again. Blocks."""
        return list(audit(self._own, self._reading))

    async def disconnect(self) -> None:
        """Close the channel to the node, when nothing runs."""
        await self._link.close()

    # ---- publishing

    async def publish(
        self,
        channel: str,
        said: rep.Report | rep.Item,
        *,
        marking: str = "AMBER",
        to: Sequence[str] = (),
        answers: bytes = b"",
    ) -> bytes:
        """Seal an item into the outbox; returns the envelope id once that is durable. Sent when the node is reachable.

        Args:
            channel: A channel of the agreement.
            said: A report, or any item.
            marking: CLEAR, GREEN, AMBER, AMBER+STRICT or RED (then `to` names the desks).
            to: Desks, for RED alone.
            answers: Envelope id that a control item answers.

        Raises:
            ReportError: The report breaks the vocabulary; names the field.
            PolicyError: The agreement does not let this desk publish here.
        """
        (identity,) = await self.publish_all(channel, [said], marking=marking, to=to, answers=answers)
        return identity

    async def publish_all(
        self,
        channel: str,
        said: Iterable[rep.Report | rep.Item],
        *,
        marking: str = "AMBER",
        to: Sequence[str] = (),
        answers: bytes = b"",
    ) -> list[bytes]:
        """Like `publish`, for many items at once: all are checked before the first is sealed, so all are taken or none.

        Returns:
            The envelope id of each item, in their order; items share envelopes.
        """
        return await self._sending.sealing.publish_all(channel, said, marking=marking, to=to, answers=answers)

    async def flush(self, timeout_s: float | None = None) -> int:
        """Wait until every envelope has its receipt; returns how many are left when the time is over."""
        return await self._sending.flush(timeout_s)

    # ---- what became of it

    def undelivered(self) -> int:
        """How many envelopes the own node took and another that hosts readers did not prove to hold."""
        return self._own.archive.undelivered()

    def track(self, envelope: bytes) -> Tracked:
        """The stages of an envelope that this desk sent, for each reader, as far as they are proved; no network.

        Raises:
            UsageError: It sent none of that id.
        """
        return tracked(self._own, envelope)

    async def ask_stages(self, envelopes: Iterable[bytes]) -> list[str]:
        """Ask now for what a running desk asks for by itself; what could not be asked, in words.

        Raises:
            DeskInUseError: Another process works with this desk.
            UsageError: One of the envelopes was not sent by this desk.
        """
        return await self._tracking.ask_all(envelopes)

    async def verify_stages(self, envelope: bytes) -> list[Finding]:
        """Every kept proof of the stages of an envelope, verified again; no network.

        Raises:
            UsageError: This desk sent none of that id.
        """
        return [finding async for finding in verify(self._own, self._proving, envelope)]

    def overdue(self) -> list[Undelivered | Unopened]:
        """Nodes that should have, and readers that should have acknowledged, what was sent, as far as was asked. Blocks."""
        return self._tracking.overdue()

    def unacknowledged(self) -> int:
        """How many envelopes the reader here was given and this desk has not acknowledged yet."""
        return self._own.archive.owing()

    async def reshare(self, desk: str, channel: str, *, since_ms: int = 0) -> PassedOn:
        """Pass on to a colleague what it could not open: it was admitted late, or had no key card.

        Original signatures and proofs go with it; it is given what it may read by the agreement of today, and nothing RED.

        Args:
            desk: A desk of the own party.
            channel: A channel of the agreement.
            since_ms: Nothing that was sealed before, ms UTC.

        Raises:
            UsageError: No such colleague, or it has no key card.
        """
        return await self._resharing.pass_on(desk, channel, since_ms=since_ms)

    def explain(self, channel: str, marking: str = "AMBER", *, sender: str | None = None) -> list[policy.Reading]:
        """Who would read, and by which rule; who would not, and why."""
        agreement, rosters = self._own.current()
        return policy.explain(
            agreement,
            rosters,
            sender=sender or self._own.name,
            channel=channel,
            marking=policy.MARKINGS[marking],
            time_ms=self._own.clock(),
        )

    # ---- reading

    def subscribe(self, channel: str, *, follow: bool = True, early: bool = False) -> AsyncIterator[Delivery]:
        """Items of a channel: verified, opened, in order, each once, from where this desk stopped reading.

        Gaps, staleness, conflicts and refusals are events (`events`). Ends at the newest entry unless `follow`.
        An item counts as read when it is given. What was given just before a crash, at most one answer of the node,
        may be given again after it.
        Reconnects by itself; without `follow` it raises when the node does not answer.

        With `early` an item may be given before any node has it on disk, some ten milliseconds sooner: `confirmed` of
        the delivery is false, and turns true with its receipt. What is never confirmed is an event (`Unconfirmed`) and
        may be given again; so may a repeat.
        """
        return self._reading.subscribe(channel, follow=follow, early=early)

    def inbox(self, channel: str | None = None) -> list[Delivery]:
        """Everything opened so far, from the archive, each report once; no network."""
        return self._reading.inbox(channel)

    def check_receipt(self, delivery: Delivery) -> None:
        """Check again, alone, that the node's log holds the envelope of a delivery.

        Raises:
            ProofError: It does not.
        """
        self._reading.check_receipt(delivery)

    async def attach(self, path: Path, *, media_type: str = "application/octet-stream") -> rep.Attachment:
        """Seal a file and send it to the node; what it returns goes into `Report.attachments`.

        Raises:
            AttachmentError: Longer than 1 GiB.
            TocsinError: The node refuses or does not answer; `send_attachment` goes on from there.
        """
        said = await self._attaching.seal(path, media_type=media_type)
        await self._attaching.send(said)
        return said

    async def send_attachment(self, said: rep.Attachment) -> None:
        """Send what `attach` sealed and could not send, from where the node has it.

        Raises:
            TocsinError: The node refuses or does not answer.
        """
        await self._attaching.send(said)

    async def fetch(self, said: rep.Attachment, target: Path) -> None:
        """Fetch the attachment of a report and open it; goes on where an earlier try ended.

        Raises:
            AttachmentError: Not to be had yet, or not what the report names; then there is no target.
            TocsinError: The node does not answer.
        """
        await self._attaching.fetch(said, target)

    def take_pouch(self, path: Path) -> Taken:
        """Take a pouch that this desk's node packed for it; `subscribe` and `inbox` then give what it holds. Blocks.

        Raises:
            PouchError: Not for this desk, not from its node, or its manifest is damaged.
            ProofError: The node did not sign what the entries stand under.
        """
        return self._unpacking.take(path)

    def accept_log(self, origin: str) -> None:
        """Read a log of the node that denies what was seen of the one before: a person decided. The evidence stays.

        Raises:
            UsageError: No such log was refused.
        """
        self._witness.accept(origin)

    def find_report(self, report: bytes) -> list[Found]:
        """Every place in the archive where a report of this id stands, sent or read; no network."""
        return self._proving.find(report)

    async def evidence(self, envelope: bytes, index: int, *, ask: bool = True) -> tuple[bytes, list[str]]:
        """A file that proves one item to a stranger and shows nothing of the others, and what it lacks, in words.

        Args:
            envelope: Id of an envelope sent or read here.
            index: The item in it, from 0.
            ask: Ask the node for heads that other parties cosigned.

        Raises:
            UsageError: No such item here, or no receipt of it yet.
        """
        return await self._proving.evidence(envelope, index, ask=ask)

    def events(self) -> list[Event]:
        """Take the events since the last call, oldest first."""
        taken = list(self._own.events)
        self._own.events.clear()
        return taken
