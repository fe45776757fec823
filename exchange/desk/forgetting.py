"""Forgetting: seeds of past key cards and courier keys are destroyed once nothing under way can need them.

That alone keeps old traffic closed to whoever steals the desk later. A seed is needed until its week + L + 2S, and for
as long as the desk has not read past that time what its node holds: what was sealed in time may wait there.

Source: docs/PROTOCOL.md sections 4.5 and 5.6; keys/windows.py.
"""

import asyncio
from typing import Final

import structlog

from exchange import policy
from exchange.desk.events import Overdue
from exchange.desk.holdings import Holdings
from keys import windows
from keys.errors import TocsinError
from keys.trust import FIRST_MONDAY_MS, WEEK_MS, AgreementView, mission_of, party_of, week_of
from keys.windows import Bounds

DAY_MS: Final = 24 * 3_600_000
LOOK_S: Final = 60.0

log = structlog.get_logger("tocsin.desk")


class Forgetting:
    """Destroys what is due, at the start of a desk and daily."""

    def __init__(self, holdings: Holdings) -> None:
        self._own = holdings
        self._told: set[int] = set()

    async def run(self) -> None:
        """Once now, then once a day by the clock, for as long as the desk runs."""
        done_ms: int | None = None
        while True:
            # A machine that sleeps at night has the days of its clock, not those of its timers.
            if done_ms is not None and 0 <= self._own.clock() - done_ms < DAY_MS:
                await asyncio.sleep(LOOK_S)
                continue
            done_ms = self._own.clock()
            try:
                await self._own.workers.run(self.once)
            except TocsinError as error:
                # A full disk, a keystore that somebody has taken away: tomorrow is another day, and this is loud.
                log.error("seeds not destroyed", desk=self._own.name, reason=error.reason, text=str(error))

    def once(self) -> list[int]:
        """Destroy what is due; returns the weeks whose seeds are gone.

        Raises:
            KeystoreError: The keystore cannot be written.
            StoreError: The desk's file cannot be read.
        """
        own, gone = self._own, []
        if not own.trust.founded or not own.listed():
            return []
        for name in own.destroy_retired_keys():
            log.info("old signing key destroyed", desk=own.name, key=name)
        now = own.clock()
        for week in own.cards.weeks():
            if week >= week_of(now):
                continue
            due_ms = windows.card_kept_until_ms(week, self._bounds(week))
            if now < due_ms:
                continue
            behind = [channel for channel in self.channels(week) if own.archive.drained_ms(channel) < due_ms]
            if behind:
                self._tell(week, due_ms, behind)
            else:
                own.cards.destroy(week)
                gone.append(week)
        if gone:
            log.info("card seeds destroyed", desk=own.name, weeks=gone)
        self._couriers(now)
        return gone

    def channels(self, week: int) -> list[str]:
        """Channels on which this desk may have been written to in a week or later, by any agreement that counted then.

        What it may publish on counts too: answers go to the sender.
        """
        own = self._own
        found = set()
        for view in self._agreements(week):
            mission = own.trust.roster(party_of(own.name)).missions[mission_of(own.name)]
            for rule in view.channels.values():
                if any(policy.matches(read.who, mission) for read in rule.read) or any(
                    policy.matches(who, mission) for who in rule.publish
                ):
                    found.add(rule.channel)
        return sorted(found)

    def _agreements(self, week: int) -> list[AgreementView]:
        trust, start_ms = self._own.trust, FIRST_MONDAY_MS + week * WEEK_MS
        return [view for view in trust.agreements if trust.agreement_ends_ms(view) > start_ms]

    def _bounds(self, week: int) -> Bounds:
        bodies = [view.body for view in self._agreements(week)]
        return windows.widest(bodies or [self._own.trust.agreement(self._own.clock()).body])

    def _couriers(self, now: int) -> None:
        own = self._own
        if not (held := own.couriers.held()):
            return
        week = week_of(min(now, *(key.first_use_ms for key in held)))
        drained_ms = min((own.archive.drained_ms(channel) for channel in self.channels(week)), default=0)
        for group, identity in own.couriers.destroy(self._bounds(week), drained_ms=drained_ms):
            log.info("courier key destroyed", desk=own.name, group=group, id=identity.hex())

    def _tell(self, week: int, due_ms: int, behind: list[str]) -> None:
        if week not in self._told:
            self._told.add(week)
            self._own.event(Overdue(week, due_ms, tuple(behind)))
