"""Sealing: what was said waits here until it is sealed into the outbox; then it is durable, and `publish` returns."""

import asyncio
import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from exchange import envelope, policy, report
from exchange.desk.holdings import Holdings
from exchange.errors import PolicyError
from exchange.v1 import envelope_pb2 as env
from exchange.v1 import report_pb2 as rep
from keys.encoding import parse_canonical
from keys.errors import TocsinError, UsageError
from keys.trust import week_of
from keys.v1 import documents_pb2 as docs

LINGER_S: Final = 0.01
BATCH_BYTES: Final = 900_000
# Checking takes some 50 us a report; between portions the desk sends, receives and keeps its connections alive.
CHECKED_AT_ONCE: Final = 64
MAX_QUEUED: Final = 20_000


@dataclass(slots=True)
class _Queued:
    channel: str
    marking: docs.Marking
    named: tuple[str, ...]
    answers: bytes
    item: bytes = field(repr=False)
    done: asyncio.Future[bytes] = field(repr=False)


class Sealing:
    """Checks, gathers into batches, seals.

    Args:
        holdings: What the desk holds.
        grew: Called when there is more in the outbox.
    """

    def __init__(self, holdings: Holdings, *, grew: Callable[[], None]) -> None:
        self._own, self._grew = holdings, grew
        self._queued: deque[_Queued] = deque()
        self._wake = asyncio.Event()
        self._allowed: tuple[str, int, int] | None = None

    @property
    def queued(self) -> bool:
        """Whether items wait to be sealed."""
        return bool(self._queued)

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
        if bool(to) != (marking == "RED"):
            raise UsageError("RED goes to named desks, and only RED does", hint="give `to` with RED, and only with RED")
        self._check_may_publish(channel, answers)
        checked = []
        for number, one in enumerate(said):
            item = rep.Item(report=one) if isinstance(one, rep.Report) else one
            if item.WhichOneof("kind") == "report":
                report.validate(item.report, now_ms=self._own.clock())
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
            # At once when idle; under load at most one seal each LINGER_S, so that batches form.
            urgent = any(queued.channel == "alerts" for queued in self._queued)
            pause = 0.0 if urgent else last + LINGER_S - loop.time()
            await asyncio.sleep(max(0.0, pause))
            last = loop.time()
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
            sealed = await self._own.workers.run(
                self.seal, first.channel, first.marking, first.named, first.answers, tuple(q.item for q in batch)
            )
        except TocsinError as error:
            for queued in batch:
                if not queued.done.done():
                    queued.done.set_exception(error)
            return
        for queued in batch:
            if not queued.done.done():
                queued.done.set_result(sealed)
        self._grew()

    def seal(
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
        now = self._own.clock()
        agreement, rosters = self._own.current()
        if answers:
            first = parse_canonical(env.Header, self._own.archive.header_of(answers) or b"")
            audience: tuple[str, ...] = (first.sender,)
            marking = first.marking
        else:
            audience = policy.audience(
                agreement,
                rosters,
                sender=self._own.name,
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
        courier = self._own.couriers.sealing(agreement.channels[channel].courier_group)
        key = "\n".join(audience)
        with self._own.archive.transaction():
            stream, seq, previous = self._own.archive.stream_of(channel, marking, key) or (os.urandom(16), 0, b"")
            header = env.Header(
                lineage=self._own.trust.lineage,
                agreement_version=agreement.body.version,
                agreement=agreement.digest,
                sender=self._own.name,
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
                card = self._own.trust.card(reader, week_of(now))
                header.audience.add(desk=reader, card=card.digest if card else b"")
                if card:
                    public[reader] = card.public
            sealed = envelope.seal(items, header, key=self._own.key, cards=public, courier=courier)
            if replaces is not None:
                self._own.archive.settle(replaces)
            self._own.archive.keep_sealed(
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
                outer=envelope.outside(sealed.outer),
                salt_seed=sealed.salt_seed,
            )
        return sealed.id
