"""Tracking: asks nodes for proof that they hold what was sent, says what is overdue, seals again what no log takes any more.

One call asks one node for many envelopes: what it costs does not grow with each envelope. A node that proves nothing is
asked less and less often. Nothing is believed that is not proved under the log key which the rosters list for that node.

Source: docs/PROTOCOL.md sections 8.3 and 9.6.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final

import grpc
import structlog

from exchange import checkpoint, history, merkle, tls, wire
from exchange.desk.events import Refused, SealedAgain, Undelivered, Unopened
from exchange.desk.holdings import Holdings
from exchange.desk.link import ANSWER_S, CHANNEL_CLOSED, Link, raise_if_ours
from exchange.desk.sealing import Sealing
from exchange.desk.stages import UNOPENED_KEPT_MS
from exchange.desk.tracked import acknowledged_by_rule, opened_within_ms, sent_header
from exchange.errors import ProofError
from exchange.v1 import envelope_pb2 as env
from exchange.v1 import exchange_pb2 as pb
from keys.encoding import parse_canonical
from keys.errors import TocsinError

LEAVES: Final = 256
"""As many as a node answers for in one call."""
FIRST_S: Final = 1.0
"""Nodes that run pass an envelope on well within it."""
PACE_S: Final = (2.0, 60.0)
"""Between two calls about one node: while it proves what is asked, and at most."""
LOOK_S: Final = 60.0
FETCH_S: Final = 300.0
"""Acknowledgements on a channel that nobody reads here are fetched this often, while some are awaited."""
AGAIN_MS: Final = 24 * 3_600_000
"""What stays overdue is told once a day."""
PLACED_AT_ONCE: Final = 512
SEALED_AT_ONCE: Final = 64
UNPROVED: Final = "it says that it does and proves nothing"

log = structlog.get_logger("tocsin.desk")


@dataclass(slots=True)
class _Pace:
    """When a node is asked next, by the loop's time; `why` it was not; `after`: what was asked for last and not proved."""

    next_s: float
    asked_s: float = 0.0
    delay_s: float = PACE_S[0]
    failed: bool = False
    why: str = ""
    after: int = 0


class Tracking:
    """Follows what was sent until every log that should hold it proves that it does.

    Args:
        holdings: What the desk holds.
        link: To the node.
        sealing: Seals again.
        fetch: Takes what the node has of a channel, for the acknowledgements among it; raises TocsinError.
    """

    def __init__(
        self, holdings: Holdings, link: Link, sealing: Sealing, fetch: Callable[[str], Awaitable[None]]
    ) -> None:
        self._own, self._link, self._sealing, self._fetch = holdings, link, sealing, fetch
        self._grown = asyncio.Event()
        self._paces: dict[str, _Pace] = {}
        self._told: dict[tuple[str, str], int] = {}

    def grew(self) -> None:
        """Envelopes were taken."""
        self._grown.set()

    async def run(self) -> None:
        """Ask, look, tell, for as long as the desk runs."""
        loop = asyncio.get_running_loop()
        # Whoever runs a desk for a moment has expired envelopes sealed again all the same.
        look_s, fetch_s = loop.time(), loop.time() + LOOK_S
        while True:
            grown = self._grown.is_set()
            self._grown.clear()
            pause_s: float | None = LOOK_S
            try:
                nodes, channels = await self._own.workers.run(self._awaited)
                times = [await self._ask_paced(node, grown=grown) for node in nodes]
                if loop.time() >= look_s:
                    await self._look(channels if loop.time() >= fetch_s else [])
                    fetch_s = loop.time() + FETCH_S if loop.time() >= fetch_s else fetch_s
                    look_s = loop.time() + LOOK_S
                # Nothing awaited, nothing overdue: nothing to do until something is sent.
                pause_s = max(FIRST_S, min([*times, look_s]) - loop.time()) if nodes or channels else None
            except asyncio.CancelledError:
                raise_if_ours()
            except Exception:
                # A fault of ours, or of the disk, must not end this in silence.
                log.exception("tracking failed", desk=self._own.name)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._grown.wait()
                # What is taken in the next moment is asked for in the same call.
                await asyncio.sleep(FIRST_S)

    # ---- delivered

    def _awaited(self) -> tuple[list[str], list[str]]:
        """Nodes that should prove something, channels on which acknowledgements may come."""
        self.place()
        return self._own.archive.nodes_awaited(), self._own.archive.channels_unopened()

    def place(self) -> None:
        """Work out which nodes must hold what was taken; the hosting node's receipt is its proof."""
        own = self._own
        while rows := own.archive.unplaced(PLACED_AT_ONCE):
            # Made again after a loss of power: nobody waits for it.
            with own.archive.transaction(durable=False):
                for number, identity, data in rows:
                    header = parse_canonical(env.Header, data)
                    created_ms = header.create_time_ms
                    # A heartbeat that does not come is noticed where it should: it is worth no question, and no proof.
                    passing = not header.answers and own.archive.steers(identity)
                    nodes = set() if passing else self._nodes(header) - {own.settings.node}
                    own.archive.place(number, identity, nodes, since_ms=created_ms, expire_ms=header.expire_time_ms)
                    if acknowledged_by_rule(own, header) and not passing:
                        due_ms = created_ms + opened_within_ms(header.channel)
                        own.archive.await_opening(identity, header.channel, due_ms)

    def _nodes(self, header: env.Header) -> set[str]:
        """The nodes that host readers; who is in no roster any more has none."""
        hosts = {tls.hosting_node(self._own.trust, reader.desk) for reader in header.audience}
        return {host for host in hosts if host}

    async def _ask_paced(self, node: str, *, grown: bool) -> float:
        """Ask a node when its time has come; when to ask it again, by the loop's time."""
        now_s = asyncio.get_running_loop().time()
        pace = self._paces.setdefault(node, _Pace(now_s))
        if grown and not pace.failed:
            # What was taken just now comes soon, however long something before it has not.
            pace.next_s, pace.delay_s = min(pace.next_s, pace.asked_s + PACE_S[0]), PACE_S[0]
        if pace.next_s > now_s:
            return pace.next_s
        archive, found, pace.failed, pace.why = self._own.archive, 0, True, ""
        rows = await self._own.workers.run(archive.awaited_at, node, pace.after, LEAVES)
        if not rows and pace.after:
            # All was asked for once: from the front again, at once.
            rows = await self._own.workers.run(archive.awaited_at, node, 0, LEAVES)
        try:
            found = await self.ask(node, [row.id for row in rows]) if rows else 0
            pace.failed = False
        except ProofError as error:
            pace.why = f"{UNPROVED}: {error}"
            self._once(node, "", Undelivered(node, len(rows), self._own.clock(), pace.why))
        except TocsinError as error:
            # Told when it is overdue.
            pace.why = str(error)
        if not pace.failed:
            # What is at the front may never come, and must not keep what is behind it from being asked for.
            pace.after = rows[-1].number if rows and not found else 0
        pace.asked_s, pace.delay_s = now_s, PACE_S[0] if found else min(2 * pace.delay_s, PACE_S[1])
        pace.next_s = now_s + pace.delay_s * (1.0 if found else random.uniform(0.5, 1.0))  # noqa: S311 - not a secret
        return pace.next_s

    async def ask(self, node: str, identities: list[bytes]) -> int:
        """Ask a node, through our own, for proof that it holds envelopes; how many it proved, which are kept.

        Raises:
            ProofError: It claims what it does not prove.
            TocsinError: One of the two nodes does not answer.
        """
        stub = await self._link.stub()
        try:
            request = pb.GetPlacesRequest(leaves=identities, node=node)
            answer = await stub.GetPlaces(request, timeout=ANSWER_S)
        except grpc.aio.AioRpcError as failure:
            raise wire.error_from(failure) from None
        except grpc.aio.UsageError:
            raise wire.UnreachableError(CHANNEL_CLOSED) from None
        return await self._own.workers.run(self._take_places, node, frozenset(identities), answer)

    def _take_places(self, node: str, asked: frozenset[bytes], answer: pb.GetPlacesResponse) -> int:
        """Verify what a node shows, keep it."""
        entry = self._own.trust.node(node)
        if entry is None:
            raise ProofError(f"{node} is in no roster", signer=node)
        head = checkpoint.verify(answer.checkpoint, entry.log_key.suite, entry.log_key.key, name=node)
        history.number_of(head.origin, node)
        places = [(place.leaf, place.position, list(place.proof)) for place in answer.places if place.leaf in asked]
        for leaf, position, proof in places:
            merkle.verify_inclusion(leaf, position, head.size, proof, head.root)
        if places:
            # Lost with the power it is asked for again.
            with self._own.archive.transaction(durable=False):
                self._own.archive.keep_delivered(node, answer.checkpoint, places)
        return len(places)

    async def ask_all(self, identities: Iterable[bytes]) -> list[str]:
        """Ask every node that may hold some envelopes, and for acknowledgements, now; what could not be asked, in words.

        Raises:
            DeskInUseError: Another process works with the desk, and asks by itself.
            UsageError: One of them was not sent by this desk.
        """
        self._own.archive.hold()
        own, problems, channels = self._own, list[str](), set[str]()
        wanted: dict[str, list[bytes]] = {}
        for identity in identities:
            header = sent_header(own, identity)
            known = {place.node for place in own.archive.delivered(identity)} | {own.settings.node}
            for node in self._nodes(header) - known:
                wanted.setdefault(node, []).append(identity)
            if acknowledged_by_rule(own, header) and len(own.archive.opened(identity)) < len(header.audience):
                channels.add(header.channel)
        await own.workers.run(self.place)
        for node, leaves in sorted(wanted.items()):
            try:
                await self.ask(node, leaves)
            except TocsinError as error:
                problems.append(f"{node} was not asked: {error}")
        for channel in sorted(channels):
            try:
                await self._fetch(channel)
            except TocsinError as error:
                problems.append(f"acknowledgements on {channel} were not fetched: {error}")
        return problems

    # ---- what is overdue

    async def _look(self, channels: Iterable[str]) -> None:
        """Seal again what expired, fetch acknowledgements, tell what is overdue."""
        await self._seal_expired()
        for channel in channels:
            # Fetched again later; what does not come is told when it is overdue.
            with contextlib.suppress(TocsinError):
                await self._fetch(channel)
        for event in await self._own.workers.run(self._overdue):
            name, channel = (event.node, "") if isinstance(event, Undelivered) else (event.desk, event.channel)
            self._once(name, channel, event)

    def _once(self, name: str, channel: str, event: Undelivered | Unopened) -> None:
        now_ms, key = self._own.clock(), (name, channel)
        if not 0 <= now_ms - self._told.get(key, -AGAIN_MS) < AGAIN_MS:
            self._told[key] = now_ms
            self._own.event(event)

    def overdue(self) -> list[Undelivered | Unopened]:
        """Nodes that should have envelopes and readers that should have acknowledged some, by now, as far as was asked."""
        late = self._own.archive.late_nodes(self._own.clock())
        whys = {node: pace.why for node, pace in self._paces.items()}
        return [
            *(Undelivered(each.name, each.count, each.since_ms, whys.get(each.name, "")) for each in late),
            *self._unopened()[0],
        ]

    def _overdue(self) -> list[Undelivered | Unopened]:
        _, complete = self._unopened()
        with self._own.archive.transaction(durable=False):
            self._own.archive.forget_unopened(complete, due_ms=self._own.clock() - UNOPENED_KEPT_MS)
        return self.overdue()

    def _unopened(self) -> tuple[list[Undelivered | Unopened], list[bytes]]:
        """Readers that are late, and envelopes that all acknowledged."""
        own, now_ms = self._own, self._own.clock()
        missing: dict[tuple[str, str], list[int]] = {}
        complete = []
        for identity, data in own.archive.unopened(now_ms, PLACED_AT_ONCE):
            header = parse_canonical(env.Header, data)
            silent = self._silent(identity, header)
            if not silent:
                complete.append(identity)
            for desk in silent:
                missing.setdefault((desk, header.channel), []).append(header.create_time_ms)
        late: list[Undelivered | Unopened] = []
        for (desk, channel), times in missing.items():
            late.append(Unopened(desk, channel, len(times), times[0]))
        return late, complete

    def _silent(self, identity: bytes, header: env.Header) -> list[str]:
        """Readers of an envelope of ours that have it and did not acknowledge it."""
        archive = self._own.archive
        said = {one.desk for one in archive.opened(identity)}
        # Whom it did not reach owes nothing: that it did not is told by itself.
        out = {None, *archive.undelivered_at(identity), *(one.node for one in archive.refused(identity))}
        desks = [reader.desk for reader in header.audience if reader.desk not in said]
        return [desk for desk in desks if tls.hosting_node(self._own.trust, desk) not in out]

    # ---- sealed again

    async def _seal_expired(self) -> None:
        own = self._own
        if not await own.workers.run(own.archive.expired, own.clock(), 1):
            return
        try:
            # What was refused for want of a document is sealed with it.
            await self._link.synchronise()
        except TocsinError as error:
            log.info("not sealed again yet", desk=own.name, text=str(error))
            return
        while rows := await own.workers.run(own.archive.expired, own.clock(), SEALED_AT_ONCE):
            nodes = {identity: tuple(sorted(lacking)) for identity, _, lacking in rows}
            for old, outcome in await self._sealing.seal_expired([(identity, header) for identity, header, _ in rows]):
                if isinstance(outcome, TocsinError):
                    own.event(Refused(old, outcome.reason, f"it was not delivered and is not sealed again: {outcome}"))
                elif outcome:
                    own.event(SealedAgain(old, outcome, nodes[old]))
