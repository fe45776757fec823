"""Sealing: what was said waits here until it is sealed into the outbox; then it is durable, and `publish` returns."""

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from exchange import envelope, policy, report
from exchange.desk.contents import shell_of
from exchange.desk.holdings import Holdings
from exchange.desk.lost import replies_left
from exchange.desk.outbox import Outgoing
from exchange.desk.queue import Batch, Queue, Said, Way
from exchange.errors import PolicyError, StoreError
from exchange.reshare import kind_of
from exchange.v1 import envelope_pb2 as env
from exchange.v1 import report_pb2 as rep
from keys.encoding import parse_canonical
from keys.errors import TocsinError, UsageError
from keys.keystore import KeystoreError
from keys.trust import AgreementView, RosterView, week_of
from keys.v1 import documents_pb2 as docs

LINGER_S: Final = 0.01
BATCH_BYTES: Final = 900_000
# A wrap of 1,168 bytes, its reader's name and card in the header.
READER_BYTES: Final = 1_300
# Checking takes some 12 us a report; between portions the desk sends, receives and keeps its connections alive.
CHECKED_AT_ONCE: Final = 256
MAX_QUEUED: Final = 20_000
# Envelopes that become durable together, with one flush.
SEALED_AT_ONCE: Final = 4

Heads = dict[tuple[str, int, str], tuple[bytes, int, bytes]]
"""Where each stream of ours stands: (channel, marking, audience) to (stream, number, id)."""


class Sealing:
    """Checks, gathers into batches, seals.

    Args:
        holdings: What the desk holds.
        grew: Called when there is more in the outbox.
    """

    def __init__(self, holdings: Holdings, *, grew: Callable[[], None]) -> None:
        self._own, self._grew = holdings, grew
        self._queue = Queue()
        self._wake = asyncio.Event()
        # Whoever gives out numbers of streams holds it until they are durable.
        self._numbering = asyncio.Lock()
        self._allowed: tuple[str, int, int] | None = None
        self._busy = False

    @property
    def queued(self) -> bool:
        """Whether items wait to be sealed, or are being sealed."""
        return self._busy or len(self._queue) > 0

    async def publish_all(
        self,
        channel: str,
        said: Iterable[rep.Report | rep.Item],
        *,
        marking: str,
        to: Sequence[str],
        answers: bytes,
    ) -> list[bytes]:
        """See Desk.publish_all."""
        if marking not in policy.MARKINGS:
            raise UsageError(f"no marking {marking!r}", hint=f"one of {', '.join(policy.MARKINGS)}")
        if not answers and bool(to) != (marking == "RED"):
            raise UsageError("RED goes to named desks, and only RED does", hint="give `to` with RED, and only with RED")
        self._check_may_publish(channel, answers)
        items: list[bytes] = []
        now = self._own.clock()
        for one in said:
            items.append(_encoded(one, now))
            if len(items) % CHECKED_AT_ONCE == 0:
                await asyncio.sleep(0)
                now = self._own.clock()
        if not items:
            return []
        while len(self._queue) >= MAX_QUEUED:
            self._wake.set()
            await asyncio.sleep(LINGER_S)
        way = Way(channel, policy.MARKINGS[marking], tuple(sorted(set(to))), answers)
        done: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()
        self._queue.add(Said(way, items, done))
        self._wake.set()
        return await done

    def _check_may_publish(self, channel: str, answers: bytes) -> None:
        if answers:
            return
        # For a second the answer holds, unless a document comes; the node asks again in any case.
        allowed = (channel, self._own.trust.version, self._own.clock() // 1000)
        if self._allowed == allowed:
            return
        agreement, rosters = self._own.current()
        if policy.may_publish(agreement, rosters, sender=self._own.name, channel=channel):
            self._allowed = allowed
        else:
            raise PolicyError(
                f"agreement {agreement.body.version} does not let {self._own.name} publish on {channel}",
                desk=self._own.name,
                channel=channel,
            )

    async def run(self) -> None:
        """Seal what waits, for as long as the desk runs."""
        loop, last = asyncio.get_running_loop(), 0.0
        while True:
            await self._wake.wait()
            # At once when idle, and when an envelope is full; else at most one seal each LINGER_S, so that batches form.
            if len(self._queue) < envelope.MAX_ITEMS and not self._queue.urgent:
                await asyncio.sleep(max(0.0, last + LINGER_S - loop.time()))
            last = loop.time()
            batches = self._next_batches()
            if not self._queue:
                self._wake.clear()
            self._busy = True
            try:
                await self._seal_batches(batches)
            finally:
                self._busy = False

    def _next_batches(self) -> list[Batch]:
        desks = sum(len(self._own.trust.roster(party).desks) for party in self._own.trust.parties)
        most = max(BATCH_BYTES - READER_BYTES * desks, report.MAX_REPORT_BYTES)
        batches: list[Batch] = []
        while len(batches) < SEALED_AT_ONCE:
            batch = self._queue.next_batch(most_bytes=most)
            if batch is None:
                break
            batches.append(batch)
        return batches

    async def _seal_batches(self, batches: list[Batch]) -> None:
        async with self._numbering:
            try:
                outcomes = await self._own.workers.run(self._sealed_batches, batches)
            except Exception as error:
                # A fault of ours too must reach whoever called `publish`, and must not end the sealing of all others.
                outcomes = [error] * len(batches)
        for batch, outcome in zip(batches, outcomes, strict=True):
            for said, count in batch.parts:
                if isinstance(outcome, Exception):
                    self._queue.drop(said)
                    if not said.done.done():
                        said.done.set_exception(outcome)
                    continue
                said.sealed.extend([outcome] * count)
                if len(said.sealed) == len(said.items) and not said.done.done():
                    said.done.set_result(said.sealed)
        self._grew()

    def _sealed_batches(self, batches: list[Batch]) -> list[bytes | Exception]:
        """The id of each envelope, or why there is none; all of them durable when this returns."""
        outcomes: list[bytes | Exception] = []
        rows: list[Outgoing] = []
        heads: Heads = {}
        for batch in batches:
            try:
                rows.append(self._seal(batch.way, batch.items, heads))
                outcomes.append(rows[-1].id)
            except Exception as error:
                outcomes.append(error)
        with self._own.archive.transaction():
            for row in rows:
                self._own.archive.keep_sealed(row)
        return outcomes

    async def seal_now(self, way: Way, item: bytes, *, audience: str, passing: bool = False) -> bytes | None:
        """Seal a control item, outside the queue; the envelope's id, None when its readers would be others by now.

        Args:
            way: Where it goes; with `answers` to the desks it names.
            item: The item.
            audience: Its readers, one a line: what it says concerns nobody else.
            passing: Nothing goes on in a stream that begins with it.

        Raises:
            TocsinError: It cannot be sealed.
        """
        async with self._numbering:
            identity = await self._own.workers.run(self._sealed_now, way, item, audience, passing)
        self._grew()
        return identity

    def _sealed_now(self, way: Way, item: bytes, audience: str, passing: bool) -> bytes | None:
        row = self._seal(way, [item], {})
        if row.audience != audience:
            return None
        with self._own.archive.transaction():
            self._own.archive.keep_sealed(row)
            self._own.archive.keep_steering(row.id)
            if passing and row.seq == 1:
                self._own.archive.told_ended(row.stream)
        return row.id

    async def seal_again(
        self, stream: bytes, refused: bytes, lost: frozenset[bytes] = frozenset()
    ) -> list[tuple[bytes, TocsinError]]:
        """Seal what waits in a stream again, under the documents of today, in order, in a new stream.

        Args:
            stream: Of an envelope that was refused.
            refused: That envelope's id; it has one try more behind it.
            lost: Ids of envelopes that the node lost: they are not acknowledged any more.

        Returns:
            (id, error) of each envelope that cannot be sealed again: it stays in the outbox as stuck.
        """
        async with self._numbering:
            return await self._own.workers.run(self._sealed_again, stream, refused, lost)

    def _sealed_again(self, stream: bytes, refused: bytes, lost: frozenset[bytes]) -> list[tuple[bytes, TocsinError]]:
        archive = self._own.archive
        with archive.transaction():
            archive.forget_stream(stream)
        failed = []
        for identity in archive.waiting_in(stream):
            try:
                old = archive.unsealed(identity)
                items, answers = replies_left(old.items, old.answers, lost)
                if all(kind_of(item) == "heartbeat" for item in items):
                    # What it says of its readers' streams is said anew, to those who read then.
                    with archive.transaction():
                        archive.withdraw(identity)
                    continue
                way = Way(old.channel, old.marking, old.named, answers)
                row = self._seal(way, items, {}, tries=old.tries + (identity == refused))
                with archive.transaction():
                    archive.withdraw(identity)
                    archive.keep_sealed(row)
                    if archive.steers(identity):
                        archive.keep_steering(row.id)
            except TocsinError as error:
                with archive.transaction():
                    archive.give_up(identity)
                failed.append((identity, error))
        return failed

    async def seal_expired(self, expired: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes | TocsinError]]:
        """Say again what envelopes said that were taken, and that no log takes any more, in new streams, in their order.

        Args:
            expired: (id, header) of each.

        Returns:
            For each what says it now: an id, empty where nothing in it is worth saying again; or why nothing does.
        """
        async with self._numbering:
            outcomes = await self._own.workers.run(self._sealed_expired, expired)
        self._grew()
        return outcomes

    def _sealed_expired(self, expired: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes | TocsinError]]:
        archive, outcomes = self._own.archive, list[tuple[bytes, bytes | TocsinError]]()
        headers = [(identity, parse_canonical(env.Header, data)) for identity, data in expired]
        with archive.transaction():
            # Whoever lacks these misses their numbers for good: what is said from now on must not wait for them.
            for stream in dict.fromkeys(header.stream for _, header in headers):
                archive.forget_stream(stream)
        for identity, header in headers:
            named = tuple(reader.desk for reader in header.audience) if header.marking == docs.MARKING_RED else ()
            try:
                items = [raw for raw in archive.content(identity).items if not _of_its_time(raw)]
                row = (
                    self._seal(Way(header.channel, header.marking, named, header.answers), items, {}) if items else None
                )
                with archive.transaction():
                    if row is not None:
                        archive.keep_sealed(row)
                        archive.keep_sealed_again(identity, row.id)
                    else:
                        archive.give_up_on(identity)
                outcomes.append((identity, row.id if row is not None else b""))
            except (StoreError, KeystoreError):
                # Our own disk: it is tried again.
                raise
            except TocsinError as error:
                with archive.transaction():
                    archive.give_up_on(identity)
                outcomes.append((identity, error))
        return outcomes

    def _seal(self, way: Way, items: Sequence[bytes], heads: Heads, *, tries: int = 0) -> Outgoing:
        """Seal at the next number of the stream; the number is used once this row is durable."""
        self._own.require_living()
        now = self._own.clock()
        agreement, rosters = self._own.current()
        draft = self._draft(way, agreement, rosters, now)
        names = "\n".join(reader.desk for reader in draft.audience)
        head = (way.channel, draft.marking, names)
        held = heads.get(head) or self._own.archive.stream_of(*head)
        draft.stream, draft.prev_seq, draft.prev_id = held or (os.urandom(16), 0, b"")
        draft.seq = draft.prev_seq + 1
        week = week_of(now)
        public = {}
        for reader in draft.audience:
            card = self._own.trust.card(reader.desk, week)
            if card:
                reader.card = card.digest
                public[reader.desk] = card.public
        courier = self._own.couriers.sealing(agreement.channels[way.channel].courier_group)
        sealed = envelope.seal(items, draft, key=self._own.key_at(draft.create_time_ms), cards=public, courier=courier)
        heads[head] = (draft.stream, draft.seq, sealed.id)
        outer = sealed.outer
        return Outgoing(
            id=sealed.id, channel=way.channel, marking=draft.marking, shell=shell_of(outer), ciphertext=outer.ciphertext,
            header=outer.header, outer=envelope.outside(outer), prk=sealed.prk, named=way.named, answers=way.answers,
            audience=names, stream=draft.stream, seq=draft.seq, tries=tries,
        )  # fmt: skip

    def _draft(self, way: Way, agreement: AgreementView, rosters: dict[str, RosterView], now_ms: int) -> env.Header:
        """The header as far as documents and time give it; readers without their cards."""
        draft = env.Header(
            lineage=self._own.trust.lineage,
            agreement_version=agreement.body.version,
            agreement=agreement.digest,
            sender=self._own.name,
            channel=way.channel,
            marking=way.marking,
            create_time_ms=now_ms,
            expire_time_ms=now_ms + agreement.body.lifetime_ms,
            answers=way.answers,
        )
        for party, view in rosters.items():
            body = view.body
            draft.rosters.add(
                party=party, generation=body.generation, version=body.version, digest=view.document.digest
            )
        if way.answers:
            held = self._own.archive.header_of(way.answers)
            if held is None:
                raise UsageError("the envelope that is answered is not in this desk's archive")
            first = parse_canonical(env.Header, held)
            draft.marking = first.marking
            for reader in way.named or (first.sender,):
                draft.audience.add(desk=reader)
            return draft
        audience = self._own.admission.audience(draft, agreement, rosters)
        if outside := sorted(set(way.named) - set(audience)):
            raise PolicyError(f"not among the readers: {', '.join(outside)}", channel=way.channel)
        audience = way.named or audience
        if not audience:
            raise PolicyError(
                f"nobody may read {policy.MARKING_NAMES[way.marking]} on {way.channel}", channel=way.channel
            )
        for reader in audience:
            draft.audience.add(desk=reader)
        return draft


def _of_its_time(raw: bytes) -> bool:
    """Whether an item says only how the exchange stood when it was sealed."""
    item = rep.Item()
    item.ParseFromString(raw)
    return item.WhichOneof("kind") in ("heartbeat", "closing")


def _encoded(one: rep.Report | rep.Item, now_ms: int) -> bytes:
    if isinstance(one, rep.Report):
        return report.encode(one, now_ms=now_ms)
    if one.WhichOneof("kind") == "report":
        report.validate(one.report, now_ms=now_ms)
    if one.WhichOneof("kind") == "alert":
        report.validate_alert(one.alert)
    return one.SerializeToString()
