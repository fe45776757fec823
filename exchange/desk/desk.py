"""The desk: seals and sends, receives and opens. Everything it believes it has verified itself, whatever its node says."""

import asyncio
import contextlib
import functools
import itertools
import os
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import grpc
import structlog
from cryptography import x509
from google.protobuf.message import DecodeError

from exchange import checkpoint, envelope, files, merkle, policy, report, tls, wire
from exchange.admission import Admission
from exchange.clock import now_ms
from exchange.desk.archive import Archive, Outgoing, Received
from exchange.desk.events import Conflict, Delivery, Event, Gap, Receipt, Refused, Stale
from exchange.desk.settings import DeskSettings
from exchange.errors import PolicyError, ProofError
from exchange.v1 import envelope_pb2 as env
from exchange.v1 import exchange_pb2 as pb
from exchange.v1 import exchange_pb2_grpc as rpc
from exchange.v1 import report_pb2 as rep
from keys import documents, founding, suite
from keys.encoding import digest, pae, parse_canonical
from keys.errors import TocsinError, UsageError
from keys.keystore import Keystore
from keys.trust import CARDS_AHEAD, AgreementView, RosterView, party_of, week_of
from keys.v1 import documents_pb2 as docs

LINGER_S: Final = 0.01
BATCH_BYTES: Final = 900_000
# Checking takes some 50 us a report; between portions the desk sends, receives and keeps its connections alive.
CHECKED_AT_ONCE: Final = 64
MAX_QUEUED: Final = 20_000
IN_FLIGHT: Final = 16
MESSAGE_BYTES: Final = 1_000_000
RETRY_S: Final = (0.2, 60.0)
SAME_AGAIN: Final = frozenset({"LIMIT", "STORE_FAILED", "UNREACHABLE", "STATUS_STALE"})
"""Refusals that say nothing against the envelope itself: the same bytes are sent again later."""
CONTROL: Final = frozenset({"acknowledgement", "heartbeat", "closing", "refusal"})
MAX_EVENTS: Final = 1000
HEARTBEAT_DEADLINE_S: Final = 30.0

log = structlog.get_logger("tocsin.desk")


@dataclass(slots=True)
class _Queued:
    channel: str
    marking: docs.Marking
    named: tuple[str, ...]
    answers: bytes
    item: bytes = field(repr=False)
    done: asyncio.Future[bytes] = field(repr=False)


def init(
    directory: Path, settings: DeskSettings, *, passphrase: bytes = b"", fast_kdf: bool = False
) -> suite.SigningKey:
    """Make a desk's directory: settings, keystore with signing key and archive key.

    Raises:
        UsageError: The directory holds a desk already.
    """
    if (directory / "desk.toml").exists():
        raise UsageError(f"{directory} holds a desk already", hint="choose another directory")
    files.private_directory(directory)
    key = suite.SigningKey.generate(suite.DESK_SUITE)
    store = Keystore.create(directory / "desk.keys", passphrase, fast_kdf=fast_kdf)
    store.put("signing", key.seed(), kind="signing", public=key.public)
    store.put("archive", os.urandom(32), kind="archive")
    store.put("tls", tls.key_pem(tls.new_key()), kind="tls")
    store.close()
    files.save_settings(settings, directory / "desk.toml")
    return key


class Desk:
    """One workplace. Use `Desk.open` and `async with`.

    Args:
        directory: Holds desk.toml, the keystore, the documents and the archive.
        passphrase: Opens the keystore; empty for a machine-local key file.
        clock: Milliseconds UTC.
    """

    def __init__(self, directory: Path, *, passphrase: bytes = b"", clock: Callable[[], int] = now_ms) -> None:
        self.directory = directory
        self.settings = files.load_settings(DeskSettings, directory / "desk.toml")
        self.name = self.settings.desk
        self.clock = clock
        self._keystore = Keystore.open(directory / "desk.keys", passphrase)
        self._key = suite.SigningKey.from_seed(suite.DESK_SUITE, self._keystore.get("signing"))
        self._tls_key = tls.load_key(self._keystore.get("tls"))
        self.archive = Archive(directory / "desk.db", self._keystore.get("archive"))
        self.trust, _ = files.load_trust(directory / files.BUNDLE, bytes.fromhex(self.settings.lineage), now_ms=clock())
        self._saved_version = self.trust.version
        self._admission = Admission(self.trust)
        self._cards: dict[int, suite.CardKey] = {}
        self._queued: deque[_Queued] = deque()
        self._wake = asyncio.Event()
        self._outbox_grew = asyncio.Event()
        self._outbox_empty = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._channel: grpc.aio.Channel | None = None
        self._enrolling = asyncio.Lock()
        self._allowed: tuple[str, int, int] | None = None
        self._events: deque[Event] = deque(maxlen=MAX_EVENTS)
        # Opened envelopes whose reader was given items since the archive last noted it: what is left of each.
        self._left: dict[bytes, tuple[str, set[int]]] = {}
        self.state = "closed"

    @classmethod
    def open(cls, path: str | Path, *, passphrase: bytes = b"", clock: Callable[[], int] = now_ms) -> Self:
        """A desk by its desk.toml or its directory; nothing runs until `async with`."""
        path = Path(path)
        return cls(path.parent if path.name == "desk.toml" else path, passphrase=passphrase, clock=clock)

    def __repr__(self) -> str:
        """Its name alone."""
        return f"Desk({self.name!r})"

    async def __aenter__(self) -> Self:
        """Start sealing and sending."""
        self.make_cards()
        self._tasks = [asyncio.create_task(self._seal_forever()), asyncio.create_task(self._forever(self._send))]
        self._outbox_grew.set()
        self.state = "starting"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Seal what waits (it is durable then), stop, close."""
        while self._queued and not self._tasks[0].done():
            await asyncio.sleep(LINGER_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._channel is not None:
            await self._channel.close(1.0)
        self.close()

    def close(self) -> None:
        """Save the documents and release the files of a desk that does not run."""
        self._note_given()
        self.save_documents()
        self.archive.close()
        self._keystore.close()
        self.state = "closed"

    # ---- keys and documents

    def make_cards(self) -> list[documents.Document]:
        """Key cards for this week and the next five, so that a cut-off desk can still be written to.

        Returns the new ones, which the node must get (`put_documents`); seeds stay in the keystore.
        """
        made = []
        listed = self._listed()
        week_now = week_of(self.clock())
        for week in range(week_now, week_now + CARDS_AHEAD + 1):
            name = f"card-{week}"
            if name not in self._keystore.names():
                self._keystore.put(name, suite.CardKey.generate().seed(), kind="card")
            if listed and self.trust.card(self.name, week) is None:
                card = founding.key_card(self.name, self._key, self._card(week), lineage=self.trust.lineage, week=week)
                self.trust.take(card, now_ms=self.clock())
                made.append(card)
        return made

    def _listed(self) -> bool:
        party = party_of(self.name)
        try:
            return self.name in self.trust.roster(party).desks
        except TocsinError:
            return False

    def _card(self, week: int) -> suite.CardKey:
        if week not in self._cards:
            self._cards[week] = suite.CardKey.from_seed(self._keystore.get(f"card-{week}"))
        return self._cards[week]

    def save_documents(self) -> None:
        """Write the documents held, if they changed."""
        if self.trust.version != self._saved_version:
            files.save_bundle(self.directory / files.BUNDLE, self.trust.documents())
            self._saved_version = self.trust.version

    def take_documents(self, encoded: Iterable[bytes]) -> list[TocsinError]:
        """Take documents from anyone; each is verified, what is refused is returned."""
        refused = []
        for data in encoded:
            try:
                self.trust.take(documents.decode(data), now_ms=self.clock())
            except TocsinError as error:
                refused.append(error)
        return refused

    async def enrol(self) -> None:
        """Get a TLS certificate from the hosting node, by proof of the rostered signing key.

        Raises:
            TocsinError: The node refuses or does not answer.
        """
        entry = self._node_entry()
        credentials = grpc.ssl_channel_credentials(tls.der_to_pem(entry.tls_ca))
        options = [*wire.CLIENT_OPTIONS, ("grpc.ssl_target_name_override", entry.node)]
        csr = tls.request(self.name, self._tls_key)
        request = pb.EnrolRequest(desk=self.name, csr=csr, time_ms=self.clock())
        message = pae("tocsin/1/enrol", self.trust.lineage, entry.node, self.name, csr, request.time_ms)
        request.signature = self._key.sign(message, ctx="tocsin/1/enrol")
        try:
            async with grpc.aio.secure_channel(entry.enrol_endpoint, credentials, options=options) as channel:
                answer = await rpc.ExchangeStub(channel).Enrol(request, timeout=10)
        except grpc.aio.AioRpcError as failure:
            raise wire.error_from(failure) from None
        if answer.ca != entry.tls_ca:
            raise ProofError("the node's CA is not the one in the roster")
        (self.directory / "tls.pem").write_bytes(tls.der_to_pem(answer.certificate))
        if self._channel is not None:
            old, self._channel = self._channel, None
            await old.close(1.0)

    def _node_entry(self) -> docs.Node:
        entry = self.trust.node(self.settings.node)
        if entry is None:
            raise UsageError(f"{self.settings.node} is in no roster this desk holds", hint="load the documents first")
        return entry

    def _needs_certificate(self) -> bool:
        path = self.directory / "tls.pem"
        if not path.exists():
            return True
        until = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
        return until.timestamp() * 1000 - self.clock() < 10 * founding.DAY_MS

    async def _stub(self) -> rpc.ExchangeStub:
        async with self._enrolling:
            if self._needs_certificate():
                await self.enrol()
        if self._channel is None:
            entry = self._node_entry()
            credentials = grpc.ssl_channel_credentials(
                tls.der_to_pem(entry.tls_ca), tls.key_pem(self._tls_key), (self.directory / "tls.pem").read_bytes()
            )
            options = [*wire.CLIENT_OPTIONS, ("grpc.ssl_target_name_override", entry.node)]
            self._channel = grpc.aio.secure_channel(entry.endpoint, credentials, options=options)
        return rpc.ExchangeStub(self._channel)

    async def synchronise(self) -> None:
        """Fetch the node's documents, give it our key cards.

        Raises:
            TocsinError: The node refuses or does not answer.
        """
        stub = await self._stub()
        try:
            token = ""
            while True:
                page = await stub.GetDocuments(pb.GetDocumentsRequest(page_token=token), timeout=20)
                self.take_documents(page.documents)
                token = page.next_page_token
                if not token:
                    break
            self.make_cards()
            week = week_of(self.clock())
            ours = [self.trust.card(self.name, w) for w in range(week, week + CARDS_AHEAD + 1)]
            digests = {card.digest for card in ours if card}
            cards = [d.encode() for d in self.trust.documents() if d.digest in digests]
            if cards:
                await stub.PutDocuments(pb.PutDocumentsRequest(documents=cards), timeout=20)
        except grpc.aio.AioRpcError as failure:
            raise wire.error_from(failure) from None
        self.save_documents()

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
        if marking not in policy.MARKINGS:
            raise UsageError(f"no marking {marking!r}", hint=f"one of {', '.join(policy.MARKINGS)}")
        if bool(to) != (marking == "RED"):
            raise UsageError("RED goes to named desks, and only RED does", hint="give `to` with RED, and only with RED")
        self._check_may_publish(channel, answers)
        checked = []
        for number, one in enumerate(said):
            item = rep.Item(report=one) if isinstance(one, rep.Report) else one
            if item.WhichOneof("kind") == "report":
                report.validate(item.report, now_ms=self.clock())
            checked.append(item.SerializeToString())
            if number % CHECKED_AT_ONCE == CHECKED_AT_ONCE - 1:
                await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        named = tuple(sorted(to))
        waiting: list[asyncio.Future[bytes]] = []
        for data in checked:
            while len(self._queued) >= MAX_QUEUED:
                self._wake.set()
                await asyncio.sleep(LINGER_S)
            waiting.append(loop.create_future())
            self._queued.append(_Queued(channel, policy.MARKINGS[marking], named, answers, data, waiting[-1]))
        self._wake.set()
        return list(await asyncio.gather(*waiting))

    def _check_may_publish(self, channel: str, answers: bytes) -> None:
        if answers:
            return
        # For a second the answer holds, unless a document comes; the node asks again in any case.
        allowed = (channel, self.trust.version, self.clock() // 1000)
        if self._allowed == allowed:
            return
        agreement, rosters = self._current()
        if policy.may_publish(agreement, rosters, sender=self.name, channel=channel):
            self._allowed = allowed
        else:
            raise PolicyError(
                f"agreement {agreement.body.version} does not let {self.name} publish on {channel}",
                desk=self.name,
                channel=channel,
            )

    def _current(self) -> tuple[AgreementView, dict[str, RosterView]]:
        return self.trust.agreement(self.clock()), {party: self.trust.roster(party) for party in self.trust.parties}

    async def flush(self, timeout_s: float | None = None) -> int:
        """Wait until every envelope has its receipt; returns how many are left when the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._queued or self.archive.waiting() > self.archive.stuck():
                    self._outbox_empty.clear()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(0.2):
                            await self._outbox_empty.wait()
        return self.archive.waiting()

    async def _seal_forever(self) -> None:
        last = 0.0
        while True:
            await self._wake.wait()
            # At once when idle; under load at most one seal each LINGER_S, so that batches form.
            urgent = any(queued.channel == "alerts" for queued in self._queued)
            pause = 0.0 if urgent else last + LINGER_S - time.monotonic()
            await asyncio.sleep(max(0.0, pause))
            last = time.monotonic()
            batch = self._next_batch()
            if not self._queued:
                self._wake.clear()
            if batch:
                await self._seal_batch(batch)

    def _next_batch(self) -> list[_Queued]:
        if not self._queued:
            return []
        first = next((q for q in self._queued if q.channel == "alerts"), self._queued[0])
        key = (first.channel, first.marking, first.named, first.answers)
        batch: list[_Queued] = []
        rest: deque[_Queued] = deque()
        size = 0
        full = False
        waiting = iter(self._queued)
        for queued in waiting:
            same = (queued.channel, queued.marking, queued.named, queued.answers) == key
            if same and not full and len(batch) < envelope.MAX_ITEMS and size + len(queued.item) <= BATCH_BYTES:
                batch.append(queued)
                size += len(queued.item)
            else:
                rest.append(queued)
                # What does not fit stays behind what does not fit, so that order holds.
                full = full or same
                if full:
                    rest.extend(waiting)
        self._queued = rest
        return batch

    async def _seal_batch(self, batch: list[_Queued]) -> None:
        first = batch[0]
        try:
            sealed = await asyncio.to_thread(
                self._seal, first.channel, first.marking, first.named, first.answers, tuple(q.item for q in batch)
            )
        except TocsinError as error:
            for queued in batch:
                if not queued.done.done():
                    queued.done.set_exception(error)
            return
        for queued in batch:
            if not queued.done.done():
                queued.done.set_result(sealed)
        self._outbox_grew.set()

    def _seal(
        self,
        channel: str,
        marking: docs.Marking,
        named: tuple[str, ...],
        answers: bytes,
        items: tuple[bytes, ...],
        *,
        replaces: bytes | None = None,
        tries: int = 0,
    ) -> bytes:
        """Seal and put into the outbox in one transaction; the number in the stream is never used again."""
        now = self.clock()
        agreement, rosters = self._current()
        if answers:
            first = parse_canonical(env.Header, self.archive.header_of(answers) or b"")
            audience: tuple[str, ...] = (first.sender,)
            marking = first.marking
        else:
            audience = policy.audience(
                agreement,
                rosters,
                sender=self.name,
                channel=channel,
                marking=marking,
                time_ms=now,
                named=named or None,
            )
        if not audience:
            raise PolicyError(f"nobody may read {policy.MARKING_NAMES[marking]} on {channel}", channel=channel)
        if named and set(named) - set(audience):
            raise PolicyError(
                f"not among the readers: {', '.join(sorted(set(named) - set(audience)))}", channel=channel
            )
        key = "\n".join(audience)
        with self.archive.transaction():
            stream, seq, previous = self.archive.stream_of(channel, marking, key) or (os.urandom(16), 0, b"")
            header = env.Header(
                lineage=self.trust.lineage,
                agreement_version=agreement.body.version,
                agreement=agreement.digest,
                sender=self.name,
                channel=channel,
                marking=marking,
                stream=stream,
                seq=seq + 1,
                prev_seq=seq,
                prev_id=previous,
                create_time_ms=now,
                expire_time_ms=now + agreement.body.lifetime_ms,
                answers=answers,
            )
            for party, view in rosters.items():
                header.rosters.add(
                    party=party,
                    generation=view.body.generation,
                    version=view.body.version,
                    digest=view.document.digest,
                )
            public = {}
            for reader in audience:
                card = self.trust.card(reader, week_of(now))
                header.audience.add(desk=reader, card=card.digest if card else b"")
                if card:
                    public[reader] = card.public
            sealed = envelope.seal(items, header, key=self._key, cards=public)
            if replaces is not None:
                self.archive.settle(replaces)
            self.archive.keep_sealed(
                envelope=sealed.data,
                identity=sealed.id,
                header=sealed.outer.header,
                channel=channel,
                marking=marking,
                items=items,
                named=named,
                answers=answers,
                audience=key,
                stream=stream,
                seq=seq + 1,
                tries=tries,
            )
        return sealed.id

    async def _forever(self, work: Callable[[], Awaitable[None]]) -> None:
        delay = RETRY_S[0]
        while True:
            started = time.monotonic()
            try:
                await work()
            except grpc.aio.AioRpcError as failure:
                self.state = str(wire.error_from(failure))
            except asyncio.CancelledError:
                _raise_if_ours()
            except TocsinError as error:
                self.state = f"{error.reason}: {error}"
            if time.monotonic() - started > RETRY_S[1]:
                delay = RETRY_S[0]
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
            delay = min(2 * delay, RETRY_S[1])

    async def _send(self) -> None:
        """One Publish stream, until it fails or an envelope must be sealed again."""
        await self.synchronise()
        stub = await self._stub()
        self.state = "connected"
        call = stub.Publish()
        in_flight: deque[Outgoing] = deque()
        room = asyncio.Semaphore(IN_FLIGHT)

        async def write() -> None:
            last = 0
            while True:
                self._outbox_grew.clear()
                rows = deque(await asyncio.to_thread(self.archive.outgoing, last, IN_FLIGHT))
                found = bool(rows)
                while rows:
                    request = pb.PublishRequest()
                    size = 0
                    # What waits goes in one message, up to its limit: one commit, one checkpoint, one receipt for all.
                    while rows and (not size or size + len(rows[0].envelope) <= MESSAGE_BYTES):
                        if size and room.locked():
                            break
                        await room.acquire()
                        row = rows.popleft()
                        in_flight.append(row)
                        request.envelopes.append(row.envelope)
                        size += len(row.envelope)
                        last = row.number
                    await call.write(request)
                if not found:
                    await self._outbox_grew.wait()

        writing = asyncio.create_task(write())
        try:
            while (response := await self._read_or_fail(call, writing)) is not None:
                answered = [(in_flight.popleft(), result) for result in response.results]
                taken = list(itertools.takewhile(lambda one: not one[1].rule, answered))
                for _ in answered:
                    room.release()
                if taken and not await asyncio.to_thread(self._settle, taken, response.checkpoint):
                    self._outbox_empty.set()
                if len(taken) < len(answered):
                    await self._refused(*answered[len(taken)])
                    return
        finally:
            writing.cancel()
            call.cancel()

    async def _read_or_fail(
        self, call: "grpc.aio.StreamStreamCall[pb.PublishRequest, pb.PublishResponse]", writing: asyncio.Task[None]
    ) -> pb.PublishResponse | None:
        reading = asyncio.ensure_future(call.read())
        await asyncio.wait({reading, writing}, return_when=asyncio.FIRST_COMPLETED)
        if writing.done() and not reading.done():
            reading.cancel()
            writing.result()
        response = await reading
        return response if isinstance(response, pb.PublishResponse) else None

    def _settle(self, taken: Sequence[tuple[Outgoing, pb.PublishResult]], note: bytes) -> int:
        """Check receipts, empty the outbox of their envelopes; returns how many still wait."""
        head = self._verify_note(note)
        for row, result in taken:
            if result.id != row.id:
                raise ProofError("the receipt is for another envelope")
            merkle.verify_inclusion(row.id, result.position, head.size, list(result.proof), head.root)
        # A receipt lost with the power is asked for again: the envelope still waits, and the node knows it.
        with self.archive.transaction(durable=False):
            for row, result in taken:
                self.archive.settle(row.id, position=result.position, proof=list(result.proof), checkpoint=note)
            return self.archive.waiting()

    async def _refused(self, row: Outgoing, result: pb.PublishResult) -> None:
        """Seal again under the documents of today, in a new stream, in order; after some tries leave it to a person."""
        if result.rule in SAME_AGAIN:
            self.state = f"{result.rule}: {result.text}"
            return
        self._event(Refused(row.id, result.rule, result.text))
        await self.synchronise()
        # Only this stream: what another stream has under way may be taken, and is sent again as it is.
        stream = _stream_of(row)
        with self.archive.transaction():
            self.archive.forget_stream(stream)
        waiting = await asyncio.to_thread(self.archive.outgoing, 0, 10_000)
        for old in (o for o in waiting if _stream_of(o) == stream):
            again = functools.partial(self._seal, replaces=old.id, tries=old.tries + (old.id == row.id))
            try:
                items = self.archive.items_of(old)
                await asyncio.to_thread(again, old.channel, old.marking, old.named, old.answers, items)
            except TocsinError as error:
                with self.archive.transaction():
                    self.archive.give_up(old.id)
                self._event(Refused(old.id, error.reason, str(error)))

    # ---- reading

    def _verify_note(self, note: bytes) -> checkpoint.Checkpoint:
        entry = self._node_entry()
        return checkpoint.verify(note, entry.log_key.suite, entry.log_key.key, name=entry.node)

    async def subscribe(self, channel: str, *, follow: bool = True) -> AsyncIterator[Delivery]:
        """Items of a channel: verified, opened, in order, each once, from where this desk stopped reading.

        Gaps, staleness, conflicts and refusals are events (`events`). Ends at the newest entry unless `follow`.
        An item counts as read when it is given. What was given just before a crash, at most one answer of the node,
        may be given again after it.
        Reconnects by itself; without `follow` it raises when the node does not answer.
        """
        delay = RETRY_S[0]
        while True:
            try:
                await asyncio.to_thread(self._note_given)
                for delivery in await asyncio.to_thread(self._not_given, channel):
                    self._give(delivery)
                    yield delivery
                async for delivery in self._subscribe(channel, follow=follow):
                    delay = RETRY_S[0]
                    self._give(delivery)
                    yield delivery
                if not follow:
                    return
            except (grpc.aio.AioRpcError, TimeoutError, wire.UnreachableError) as failure:
                error = wire.error_from(failure) if isinstance(failure, grpc.aio.AioRpcError) else failure
                self.state = str(error) or "the node fell silent"
                if not follow and isinstance(error, TocsinError):
                    raise error from None
            except asyncio.CancelledError:
                _raise_if_ours()
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
            delay = min(2 * delay, RETRY_S[1])

    def _give(self, delivery: Delivery) -> None:
        self._left[delivery.envelope][1].discard(delivery.index)

    def _note_given(self) -> None:
        if self._left:
            with self.archive.transaction():
                self._write_given()

    def _write_given(self) -> None:
        for identity, (channel, left) in list(self._left.items()):
            # Taken once: a reader of another channel goes on in the event loop meanwhile.
            now_left = sorted(left)
            self.archive.set_unread(identity, channel, now_left)
            if not now_left:
                del self._left[identity]

    def _not_given(self, channel: str) -> list[Delivery]:
        """What was opened, but not given to the reader before it stopped."""
        deliveries = []
        for received, left in self.archive.unread(channel):
            self._left[received.id] = (channel, set(left))
            deliveries += [to_delivery(received, index, received.items[index], ()) for index in left]
        return deliveries

    async def _subscribe(self, channel: str, *, follow: bool) -> AsyncIterator[Delivery]:
        await self.synchronise()
        stub = await self._stub()
        position = self.archive.cursor(channel)
        call = stub.Subscribe(pb.SubscribeRequest(position=position, channels=[channel], follow=follow))
        head: checkpoint.Checkpoint | None = None
        try:
            while True:
                # Not wait_for: before Python 3.12 it can swallow a cancellation, and the desk would not stop.
                async with asyncio.timeout(HEARTBEAT_DEADLINE_S):
                    response = await call.read()
                if not isinstance(response, pb.SubscribeResponse):
                    return
                deliveries, head = await asyncio.to_thread(self._take, channel, response, head)
                for delivery in deliveries:
                    yield delivery
        finally:
            call.cancel()

    def _take(
        self, channel: str, response: pb.SubscribeResponse, before: checkpoint.Checkpoint | None
    ) -> tuple[list[Delivery], checkpoint.Checkpoint]:
        """Verify a batch, archive it and move the cursor in one transaction."""
        head = self._verify_note(response.checkpoint)
        if before is not None and head.size != before.size:
            merkle.verify_consistency(before.size, head.size, before.root, head.root, list(response.consistency))
        stale = self.trust.stale(self.clock())
        if stale and Stale(stale) not in self._events:
            self._event(Stale(stale))
        deliveries: list[Delivery] = []
        with self.archive.transaction():
            self._write_given()
            for entry in response.entries:
                merkle.verify_inclusion(entry.leaf, entry.position, head.size, list(entry.proof), head.root)
                try:
                    if entry.kind == pb.ENTRY_KIND_DOCUMENT:
                        self.take_documents([entry.data])
                    elif entry.kind == pb.ENTRY_KIND_ENVELOPE and not entry.pruned:
                        deliveries += self._open(entry, response.checkpoint)
                except TocsinError as error:
                    # One hostile or broken envelope never stops the others.
                    self._event(Refused(entry.leaf, error.reason, str(error)))
            left: dict[bytes, set[int]] = {}
            for delivery in deliveries:
                left.setdefault(delivery.envelope, set()).add(delivery.index)
            for identity, indexes in left.items():
                self.archive.set_unread(identity, channel, sorted(indexes))
            self.archive.set_cursor(channel, max(response.next_position, self.archive.cursor(channel)))
            self.archive.set_note(head.origin, response.checkpoint)
        self._left.update({identity: (channel, indexes) for identity, indexes in left.items()})
        return deliveries, head

    def _open(self, entry: pb.Entry, note: bytes) -> list[Delivery]:
        parsed = envelope.parse(entry.data)
        if parsed.id != entry.leaf:
            raise ProofError("the leaf is not that envelope")
        if self.archive.knows(parsed.id):
            return []
        admitted = self._admission.admit(parsed, now_ms=self.clock(), answered=self._answered, from_log=True)
        header = admitted.header
        if header.sender == self.name:
            return []
        reader = next((r for r in header.audience if r.desk == self.name), None)
        if reader is None:
            raise PolicyError("this desk is not in the audience")
        self._number(header, parsed.id)
        items = envelope.open_envelope(
            admitted.checked, desk=self.name, card=self._card(week_of(header.create_time_ms))
        )
        if header.answers and not all(_is_control(item) for item in items):
            # A node cannot see what is inside: whoever may only answer must not publish this way (PROTOCOL 6.3).
            raise PolicyError(f"{header.sender} answers an envelope with more than control items", desk=header.sender)
        received = Received(
            parsed.id, entry.position, header.channel, header.sender, header.marking, header.seq,
            header.create_time_ms, parsed.outer.header, items, tuple(entry.proof), note,
        )  # fmt: skip
        self.archive.keep_received(received)
        return self._deliveries(received, admitted.warnings)

    def _answered(self, identity: bytes) -> env.Header | None:
        held = self.archive.header_of(identity)
        return parse_canonical(env.Header, held) if held else None

    def _number(self, header: env.Header, identity: bytes) -> None:
        """Numbers go up; what the sender stands by and we have not is named."""
        last = self.archive.last_read(header.stream)
        held = last[0] if last else 0
        if header.seq <= held:
            self._event(Conflict(header.sender, header.channel, f"number {header.seq} came again: fork or restore"))
            return
        if header.prev_seq > held:
            self._event(Gap(header.sender, header.channel, header.stream, held + 1, header.prev_seq))
        elif last and header.prev_seq == held and header.prev_id != last[1]:
            self._event(
                Conflict(header.sender, header.channel, f"two envelopes stand at number {held}: fork or restore")
            )
        self.archive.set_last_read(header.stream, header.seq, identity)

    def _deliveries(self, received: Received, warnings: tuple[str, ...]) -> list[Delivery]:
        every = [to_delivery(received, index, raw, warnings) for index, raw in enumerate(received.items)]
        reports = [delivery for delivery in every if delivery.kind == "report"]
        named = [(delivery.parsed.report.id, digest(delivery.raw)) for delivery in reports]
        repeated = set()
        for delivery, said in zip(reports, self.archive.said(received.sender, named), strict=True):
            if said == "repeat":
                repeated.add(delivery.index)
            if said == "conflict":
                what = f"report {delivery.parsed.report.id.hex()} has two texts"
                self._event(Conflict(received.sender, received.channel, what))
        return [delivery for delivery in every if delivery.index not in repeated]

    def inbox(self, channel: str | None = None) -> list[Delivery]:
        """Everything opened so far, from the archive, each report once; no network."""
        deliveries = []
        seen: set[tuple[str, bytes, bytes]] = set()
        for received in self.archive.received(channel):
            for index, raw in enumerate(received.items):
                delivery = to_delivery(received, index, raw, ())
                name = (received.sender, delivery.parsed.report.id, digest(raw))
                if delivery.kind != "report" or name not in seen:
                    deliveries.append(delivery)
                    seen.add(name)
        return deliveries

    def check_receipt(self, delivery: Delivery) -> None:
        """Check again, alone, that the node's log holds the envelope of a delivery.

        Raises:
            ProofError: It does not.
        """
        head = self._verify_note(delivery.receipt.checkpoint)
        proof = delivery.receipt.proof
        merkle.verify_inclusion(delivery.envelope, delivery.receipt.position, head.size, proof, head.root)

    def explain(self, channel: str, marking: str = "AMBER", *, sender: str | None = None) -> list[policy.Reading]:
        """Who would read, and by which rule; who would not, and why."""
        agreement, rosters = self._current()
        return policy.explain(
            agreement,
            rosters,
            sender=sender or self.name,
            channel=channel,
            marking=policy.MARKINGS[marking],
            time_ms=self.clock(),
        )

    def _event(self, event: Event) -> None:
        log.warning("event", desk=self.name, kind=type(event).__name__, text=str(event))
        self._events.append(event)

    def events(self) -> list[Event]:
        """Take the events since the last call, oldest first."""
        taken = list(self._events)
        self._events.clear()
        return taken


def _is_control(raw: bytes) -> bool:
    item = rep.Item()
    try:
        item.ParseFromString(raw)
    except DecodeError:
        return False
    return item.WhichOneof("kind") in CONTROL


def _stream_of(row: Outgoing) -> bytes:
    return parse_canonical(env.Header, envelope.parse(row.envelope).outer.header).stream


def _raise_if_ours() -> None:
    """Swapping a channel cancels its calls with the same CancelledError as our own end; only the latter goes on."""
    task = asyncio.current_task()
    if task is None or task.cancelling():
        raise asyncio.CancelledError


def to_delivery(received: Received, index: int, raw: bytes, warnings: tuple[str, ...]) -> Delivery:
    """One archived item as a delivery, its text made inert; unknown fields and kinds are delivered, marked."""
    item = rep.Item()
    try:
        item.ParseFromString(raw)
    except DecodeError:
        item = rep.Item()
        warnings = (*warnings, "this item is not readable: kept as it came")
    if item.WhichOneof("kind") is None:
        warnings = (*warnings, "this item says more than this version reads")
    return Delivery(
        raw=raw,
        sender=received.sender,
        channel=received.channel,
        marking=received.marking,
        envelope=received.id,
        index=index,
        seq=received.seq,
        create_time_ms=received.create_time_ms,
        receipt=Receipt(received.id, received.position, received.proof, received.checkpoint),
        parsed=item,
        warnings=warnings,
    )
