"""An entry that the disk changed is fetched again from a peer that holds it.

Only bytes that have the leaf and the sums that were kept of the entry take its place, so a peer can change nothing. What
nobody holds is not served: it would look like a lie of its sender, or of this node.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

import grpc
import structlog

from exchange.node.leaves import leaf_of
from exchange.store.contract import Row, Store
from exchange.v1 import exchange_pb2 as pb
from exchange.v1 import exchange_pb2_grpc as rpc
from exchange.workers import Workers
from keys.errors import TocsinError

ASK_S: Final = 5.0
# Whoever reads on waits for it once; then it is passed by, and asked for again at this pace.
RETRY_S: Final = 60.0
TRIED_AT_ONCE: Final = 8

log = structlog.get_logger("tocsin.node")


class Mending:
    """Knows what is damaged, and mends it.

    Args:
        store: The log.
        workers: Read and write it.
        peers: The other nodes of the rosters.
        mended: Told of each entry that is whole again: its kind and bytes.
    """

    def __init__(
        self,
        store: Store,
        workers: Workers,
        *,
        peers: Callable[[], Sequence[str]],
        mended: Callable[[int, bytes], Awaitable[None]],
    ) -> None:
        self._store, self._workers, self._peers, self._mended = store, workers, peers, mended
        self.connect: Callable[[str], grpc.aio.Channel] | None = None
        """Opens a channel to a peer; None where peers are not asked."""
        self._damaged: dict[int, float] = {}
        self._lock = asyncio.Lock()
        self.count = 0
        """How many entries were mended since the start."""

    @property
    def damaged(self) -> list[int]:
        """Positions that are known to be damaged."""
        return sorted(self._damaged)

    def note(self, rows: Iterable[Row]) -> list[int]:
        """Remember which of some rows are damaged; any thread may call. Their positions."""
        found = [row.position for row in rows if row.damaged]
        for position in found:
            if position not in self._damaged:
                self._damaged[position] = float("-inf")
                log.error("the disk changed an entry", position=position)
        return found

    async def mend(self, positions: Iterable[int]) -> bool:
        """Fetch entries again, each at most once in RETRY_S; whether one is whole now."""
        now, some = asyncio.get_running_loop().time(), False
        due = [position for position in positions if self._damaged.get(position, now) <= now - RETRY_S]
        if not due or self.connect is None:
            return False
        async with self._lock:
            for position in due:
                if position in self._damaged:
                    self._damaged[position] = now
                    some |= await self._mend(position)
        return some

    async def again(self) -> None:
        """Try once more some of what is still damaged."""
        oldest = sorted(self._damaged, key=lambda position: self._damaged[position])
        await self.mend(oldest[:TRIED_AT_ONCE])

    async def _mend(self, position: int) -> bool:
        for peer in self._peers():
            try:
                leaf = await self._workers.run(self._store.leaf, position)
                async with asyncio.timeout(ASK_S):
                    entry = await self._fetch(peer, leaf)
                if entry is None or not await self._workers.run(self._store.mend, position, entry.data):
                    continue
                await self._mended(entry.kind, entry.data)
            except (grpc.aio.AioRpcError, grpc.aio.UsageError, TimeoutError, TocsinError) as error:
                log.warning("cannot mend from there", position=position, peer=peer, text=str(error))
                continue
            del self._damaged[position]
            self.count += 1
            log.warning("entry mended", position=position, peer=peer)
            return True
        log.error("nobody gives the entry that the disk changed", position=position)
        return False

    async def _fetch(self, peer: str, leaf: bytes) -> pb.Entry | None:
        """The entry as a peer holds it, if it is that; else None."""
        assert self.connect is not None  # noqa: S101 - `mend` looked
        async with self.connect(peer) as channel:
            stub = rpc.ExchangeStub(channel)
            places = (await stub.GetPlaces(pb.GetPlacesRequest(leaves=[leaf]), timeout=ASK_S)).places
            if not places:
                return None
            call = stub.Subscribe(pb.SubscribeRequest(position=places[0].position, echo=True), timeout=ASK_S)
            answer = await call.read()
            call.cancel()
        for entry in answer.entries if isinstance(answer, pb.SubscribeResponse) else ():
            row = Row(0, entry.kind, b"", entry.data, "", "", 0, entry.pruned)
            if entry.leaf == leaf and leaf_of(row) == leaf:
                return entry
        return None
