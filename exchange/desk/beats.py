"""Heartbeats and closings: what a desk says of its streams, so that nobody takes what was withheld for silence.

A heartbeat goes to the readers of some streams and names the last number of each, so that the last one too is missed when it
does not come. A closing ends a stream whose readers changed. Neither is said for each envelope.
Source: docs/PROTOCOL.md section 5.8.
"""

import asyncio
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final, NamedTuple

import grpc
import structlog

from exchange import checkpoint, history, policy
from exchange.desk.gaps import MAX_STREAMS
from exchange.desk.holdings import Holdings
from exchange.desk.link import Link, raise_if_ours
from exchange.desk.queue import Way
from exchange.desk.sealing import Sealing
from exchange.desk.streams import Beat, OwnStream
from exchange.desk.witness import Witness
from exchange.v1 import envelope_pb2 as env
from exchange.v1 import exchange_pb2 as pb
from exchange.v1 import report_pb2 as rep
from keys.errors import TocsinError
from keys.trust import week_of
from keys.v1 import documents_pb2 as docs

LOOK_S: Final = 15.0
"""How often a desk looks what is due."""
QUIET_MS: Final = 60_000
"""After the last envelope of a burst a heartbeat comes this soon."""
SPARING_MS: Final = 600_000
"""But for its hour no heartbeat comes sooner than this after the one before, however many bursts there are."""
LATE_MS: Final = 900_000
"""A heartbeat may come this much later than planned before it breaks a promise: a sleeping machine, a slow line."""
IN_USE_MS: Final = 7 * 24 * 3600_000
"""Where nothing was said for so long no further heartbeat is promised."""
MAX_LOGS: Final = 64
ANSWER_S: Final = 5

log = structlog.get_logger("tocsin.desk")


class Group(NamedTuple):
    """The streams of this desk on one channel to the same readers; the most restricted one carries their heartbeats."""

    channel: str
    audience: str
    streams: tuple[OwnStream, ...]


class Due(NamedTuple):
    """A heartbeat that is due; `said_ms` is when something else was last said, `next_by_ms` 0 when no other will follow."""

    group: Group
    said_ms: int
    next_by_ms: int


class Beats:
    """Says what is due.

    Args:
        holdings: What the desk holds.
        link: To its node.
        sealing: Gives numbers.
        witness: Knows the node's log.
    """

    def __init__(self, holdings: Holdings, link: Link, sealing: Sealing, witness: Witness) -> None:
        self._own, self._link, self._sealing, self._witness = holdings, link, sealing, witness

    async def run(self) -> None:
        """Look again and again, for as long as the desk runs."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.look()
            except asyncio.CancelledError:
                raise_if_ours()
            except TocsinError as error:
                log.info("no heartbeat", desk=self._own.name, reason=error.reason, text=str(error))
            except Exception:
                # A fault of ours must not end the heartbeats in silence.
                log.exception("no heartbeat", desk=self._own.name)

    async def look(self) -> None:
        """Seal every heartbeat and closing that is due, once.

        Raises:
            TocsinError: One cannot be sealed, or a document is missing; it is tried again.
        """
        closing, due = await self._own.workers.run(self._plan)
        for ended in closing:
            await self._close(ended)
        if due:
            logs = await self._logs()
            for one in due:
                await self._beat(one, logs)

    def _plan(self) -> tuple[list[OwnStream], list[Due]]:
        """Streams to be closed, and heartbeats that are due."""
        own, archive = self._own, self._own.archive
        if not own.listed():
            return [], []
        now_ms, closing, groups = own.clock(), archive.streams_ended(), dict[tuple[str, str], list[OwnStream]]()
        for stream in archive.streams_in_use():
            # What waits may be refused and withdrawn yet; and answers are between two desks.
            if archive.waiting_in(stream.stream) or self._header(stream).answers:
                continue
            if self._stands(stream):
                groups.setdefault((stream.channel, stream.audience), []).append(stream)
            else:
                closing.append(stream)
        found = [Group(*key, tuple(streams[:MAX_STREAMS])) for key, streams in groups.items()]
        return closing, [due for group in found if (due := self._due(group, now_ms)) is not None]

    def _header(self, stream: OwnStream) -> env.Header:
        return env.Header.FromString(self._own.archive.header_of(stream.id) or b"")

    def _readers(self, stream: OwnStream) -> tuple[str, ...]:
        """Who reads now what is said on the channel of a stream at its marking; nobody when we may not say anything."""
        own = self._own
        agreement, rosters = own.current()
        if not policy.may_publish(agreement, rosters, sender=own.name, channel=stream.channel):
            return ()
        header = env.Header(sender=own.name, channel=stream.channel, create_time_ms=own.clock())
        header.marking = _marking(stream)
        return own.admission.audience(header, agreement, rosters)

    def _stands(self, stream: OwnStream) -> bool:
        """Whether the next envelope to its readers may go on in a stream."""
        names, readers = _names(stream), self._readers(stream)
        return set(names) <= set(readers) if _red(stream) else names == readers

    def _due(self, group: Group, now_ms: int) -> Due | None:
        last = self._own.archive.beat(group.channel, group.audience)
        heads = _heads(one.id for one in group.streams)
        said = last is None or last.heads != heads
        said_ms = (
            max(self._header(one).create_time_ms for one in group.streams) if said or last is None else last.said_ms
        )
        planned_ms = 1000 * self._own.settings.heartbeat_s
        in_use = now_ms - said_ms < IN_USE_MS
        due = Due(group, said_ms, now_ms + planned_ms + LATE_MS if in_use else 0)
        if last is None:
            return due if now_ms - said_ms >= QUIET_MS or now_ms < said_ms else None
        if not said and not last.next_by_ms:
            return None
        since_ms = now_ms - last.beat_ms
        # A clock that was turned back must not silence us for as long.
        soon = said and now_ms - said_ms >= QUIET_MS and since_ms >= SPARING_MS
        return due if soon or not 0 <= since_ms < planned_ms else None

    async def _beat(self, due: Due, logs: Sequence[rep.LogHead]) -> None:
        group, own = due.group, self._own
        carrier = max(group.streams, key=lambda one: one.marking)
        heads = [rep.StreamHead(stream=one.stream, seq=one.seq, id=one.id) for one in group.streams]
        item = rep.Item(heartbeat=rep.Heartbeat(streams=heads, logs=logs, next_by_ms=due.next_by_ms))
        way = Way(group.channel, _marking(carrier), _names(carrier) if _red(carrier) else (), b"")
        identity = await self._sealing.seal_now(way, item.SerializeToString(), audience=group.audience)
        if identity is not None:
            after = _heads(identity if one is carrier else one.id for one in group.streams)
            await own.workers.run(self._note, group, Beat(after, own.clock(), due.said_ms, due.next_by_ms))

    def _note(self, group: Group, beat: Beat) -> None:
        with self._own.archive.transaction():
            self._own.archive.set_beat(group.channel, group.audience, beat)

    async def _logs(self) -> list[rep.LogHead]:
        """The newest heads seen: of the own node's log, and of the others' as the own node was shown them."""
        own, newest = self._own, self._witness.newest
        found = {newest.head.origin: newest.head} if newest else {}
        try:
            stub = await self._link.stub()
            for node in islice(own.trust.nodes(), MAX_LOGS - 1):
                if node.node == own.settings.node:
                    continue
                request = pb.GetCheckpointRequest(origin=history.origin_of(node.node, 1))
                answer = await stub.GetCheckpoint(request, timeout=ANSWER_S)
                note = answer.later or answer.checkpoint
                keys = [(key.suite, key.key) for key in own.trust.log_keys(node.node)]
                if note:
                    head = checkpoint.verify_any(note, keys, name=node.node)
                    found[head.origin] = head
        except (grpc.aio.AioRpcError, TocsinError):
            # Who is cut off still says what it has said, and what it saw before.
            pass
        return [
            rep.LogHead(origin=origin, size=found[origin].size, root=found[origin].root) for origin in sorted(found)
        ]

    async def _close(self, ended: OwnStream) -> None:
        """Tell the readers of a stream that it ended, as far as they are still desks that can be written to."""
        own, archive = self._own, self._own.archive
        if await own.workers.run(self._stands, ended):
            # The same readers: it was given up for another reason, and goes on elsewhere.
            following = archive.stream_of(ended.channel, ended.marking, ended.audience)
            way = Way(ended.channel, _marking(ended), _names(ended) if _red(ended) else (), b"")
            if await self._sealing.seal_now(way, _closing(ended, following), audience=ended.audience):
                await own.workers.run(self._told, ended)
            return
        readers = await own.workers.run(self._readers, ended)
        following = None if _red(ended) else archive.stream_of(ended.channel, ended.marking, "\n".join(readers))
        reachable = [name for name in _names(ended) if own.trust.card(name, week_of(own.clock())) is not None]
        gone = [name for name in reachable if name not in readers]
        staying = [name for name in reachable if name in readers]
        # Who reads no more is not told where the others go on. An answer may go to a part of the readers (section 6.3).
        for names, after in ((gone, None), (staying, following)):
            if names:
                way = Way(ended.channel, _marking(ended), tuple(names), ended.id)
                await self._sealing.seal_now(way, _closing(ended, after), audience="\n".join(names), passing=True)
        await own.workers.run(self._told, ended)

    def _told(self, ended: OwnStream) -> None:
        archive = self._own.archive
        with archive.transaction():
            archive.told_ended(ended.stream)
            archive.keep_beats([(one.channel, one.audience) for one in archive.streams_in_use()])


def _closing(ended: OwnStream, following: tuple[bytes, int, bytes] | None) -> bytes:
    said = rep.Closing(stream=ended.stream, last_seq=ended.seq, continued_by=following[0] if following else b"")
    return rep.Item(closing=said).SerializeToString()


def _names(stream: OwnStream) -> tuple[str, ...]:
    return tuple(stream.audience.split("\n"))


def _marking(stream: OwnStream) -> docs.Marking:
    return stream.marking  # type: ignore[return-value]


def _red(stream: OwnStream) -> bool:
    return stream.marking == docs.MARKING_RED


def _heads(identities: Iterable[bytes]) -> bytes:
    return b"".join(sorted(identities))
