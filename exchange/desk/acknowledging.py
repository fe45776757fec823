"""Acknowledging: tells senders that their envelopes were given to the reader, many in one envelope, where the rule asks.

What is owed is in the desk's file: an acknowledgement that a crash prevented is made later, one that it repeats does no harm.
"""

import asyncio
from collections.abc import Iterable
from itertools import groupby
from typing import Final

import structlog

from exchange import envelope, policy
from exchange.desk.events import Refused
from exchange.desk.holdings import Holdings
from exchange.desk.queue import URGENT
from exchange.desk.sealing import Sealing
from exchange.desk.stages import Owed
from exchange.errors import StoreError
from exchange.v1 import report_pb2 as rep
from keys.errors import TocsinError
from keys.keystore import KeystoreError

LINGER_S: Final = 5.0
"""One envelope of some 10 KB answers all that was read meanwhile; alerts are answered at once."""
PAUSE_S: Final = 60.0

log = structlog.get_logger("tocsin.desk")


class Acknowledging:
    """Seals what is owed."""

    def __init__(self, holdings: Holdings, sealing: Sealing) -> None:
        self._own, self._sealing = holdings, sealing
        self._owing = asyncio.Event()
        self._sealing_owed = asyncio.Lock()
        # Of an earlier run of the desk.
        self._owing.set()

    def owing(self) -> None:
        """Something is owed."""
        self._owing.set()

    async def run(self) -> None:
        """Acknowledge, for as long as the desk runs."""
        while True:
            await self._owing.wait()
            self._owing.clear()
            try:
                owed = await self._own.workers.run(self._own.archive.owed, 1)
                if owed and owed[0].channel != URGENT:
                    await asyncio.sleep(LINGER_S)
                await self.once()
            except Exception:
                # Its own disk, or a fault of ours: it is owed still.
                log.exception("not acknowledged", desk=self._own.name)
                self._owing.set()
                await asyncio.sleep(PAUSE_S)

    async def once(self) -> int:
        """Acknowledge all that is owed now; how many envelopes. They are in the outbox when this returns.

        Raises:
            StoreError: The disk failed.
        """
        done, archive = 0, self._own.archive
        # What is owed is said once, also when the desk ends meanwhile.
        async with self._sealing_owed:
            while owed := await self._own.workers.run(archive.owed, envelope.MAX_ITEMS):
                for _, group in groupby(sorted(owed, key=_way), key=_way):
                    batch = list(group)
                    await self._acknowledge(batch)
                    await self._own.workers.run(self._settle, [one.id for one in batch])
                    done += len(batch)
        return done

    async def _acknowledge(self, owed: list[Owed]) -> None:
        last = owed[-1]
        items = [rep.Item(acknowledgement=rep.Acknowledgement(envelope=one.id, time_ms=one.time_ms)) for one in owed]
        marking = policy.MARKING_NAMES[last.marking]
        to = (last.sender,) if marking == "RED" else ()
        try:
            await self._sealing.publish_all(last.channel, items, marking=marking, to=to, answers=last.id)
        except (StoreError, KeystoreError):
            raise
        except TocsinError as error:
            # Its channel is gone, or a courier key is: nobody can be told, and the next ones must not wait for it.
            self._own.event(Refused(last.id, error.reason, f"not acknowledged to {last.sender}: {error}"))

    def _settle(self, identities: Iterable[bytes]) -> None:
        # Lost with the power it is said again.
        with self._own.archive.transaction(durable=False):
            self._own.archive.acknowledged(identities)


def _way(owed: Owed) -> tuple[str, str, int]:
    return owed.sender, owed.channel, owed.marking
