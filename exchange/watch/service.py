"""The watch as a service of a desk: files every report that comes, raises, updates and ends alerts, and survives restarts.

It reads the desk's archive, not the stream, so nothing that another process of the desk received is missed. What it
has worked through, its series and the keys of its alerts are in the desk's encrypted file, in one transaction each.
"""

import asyncio
import contextlib
import json
import os
from collections import deque
from collections.abc import Iterable
from typing import Final

import structlog

from exchange.desk import Desk
from exchange.policy import MARKING_NAMES
from exchange.report import new_report_id
from exchange.v1 import report_pb2 as pb
from exchange.watch import alerts, cadence
from exchange.watch.alerts import Cited, Setting
from exchange.watch.alerts_life import Chain, Ledger
from exchange.watch.annexed import thresholds_of
from exchange.watch.assess import assess_all
from exchange.watch.assessment import Assessment, Shock
from exchange.watch.board import VALID_MONTHS, Alarm, Group
from exchange.watch.facts import Facts
from exchange.watch.filing import Filing, Report
from exchange.watch.graph_data import shipped_facts, shipped_graph
from exchange.watch.intake import item_of, mission_of
from exchange.watch.letters import WARNINGS, heard_in, ledger_of, letter, reports_in
from exchange.watch.months import month_number, month_of_ms
from exchange.watch.notices import Notice, NoticeKind
from exchange.watch.pooling import LEAST_VOICES
from exchange.watch.series import Observation
from exchange.watch.shocks import ShockKey, Shocks
from keys.errors import TocsinError
from keys.trust import Trust, party_of

TICK_S: Final = 30.0
CALM_MONTHS: Final = 2  # in alarm no more for so long, it is over
NEWS_MONTHS: Final = VALID_MONTHS + 3  # with lag; an alarm about older months is history, not news
AT_ONCE: Final = 16
ID_BYTES: Final = 16
MAX_TIMES: Final = 25
MAX_NOTICES: Final = 1000

log = structlog.get_logger("tocsin.watch")


class Watch:
    """One desk's watch.

    Args:
        desk: Open; give the watch a desk of its own, for a desk is used by one process that publishes.
        test: Alerts are technical tests.
    """

    def __init__(self, desk: Desk, *, test: bool = False) -> None:
        self._desk, self._test, self._archive = desk, test, desk.archive
        self._mission, self._party = mission_of(desk.name), party_of(desk.name)
        self._annex = -1
        self._filing = Filing(self._archive, thresholds_of(None)[0])
        self._graph, self._base = shipped_graph(), shipped_facts()
        self._ledger: Ledger = Ledger()
        self._shocks = Shocks()
        self._started = False
        self._wake = asyncio.Event()
        self.notices: deque[Notice] = deque(maxlen=MAX_NOTICES)

    @property
    def ledger(self) -> Ledger:
        """Every alert known."""
        return self._ledger

    async def run(self) -> None:
        """Follow every channel and work, until cancelled."""
        channels = sorted(self._desk.trust.agreement(self._desk.clock()).channels)
        tasks = [asyncio.create_task(self._follow(channel)) for channel in channels]
        try:
            while True:
                self._wake.clear()
                await self.step()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TICK_S):
                        await self._wake.wait()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, channel: str) -> None:
        async for _ in self._desk.subscribe(channel):
            self._wake.set()

    async def step(self) -> int:
        """Work through what came since, then send what follows; returns how many alert messages were sent."""
        run = self._desk.workers.run
        if not self._started:
            await run(self._start)
            self._started = True
        sent = await self._send()
        groups: dict[Group, None] = {}
        shocks: dict[ShockKey, None] = {}
        # All of a backlog first: what is judged half filed would be raised, or not, by the half.
        while found := await run(self._archive.unfiled, AT_ONCE):
            for identity, _ in found:
                touched, shaken = await run(self._file, identity)
                groups |= touched
                shocks |= shaken
        await run(self._judge, groups, shocks)
        await run(self._tend)
        return sent + await self._send()

    def _start(self) -> None:
        self._ledger, problems = ledger_of(self._archive)
        for text in problems:
            self._notice(Notice(NoticeKind.REFUSED, text))
        for data in self._archive.sheets("event", ""):
            row = json.loads(data)
            report = pb.Report.FromString(bytes.fromhex(row["report"]))
            self._shocks.take(report, sender=row["sender"], now_ms=row["now_ms"])

    # ---- filing

    def _file(self, identity: bytes) -> tuple[dict[Group, None], dict[ShockKey, None]]:
        one, now = letter(self._archive, identity), self._desk.clock()
        groups: dict[Group, None] = {}
        shocks: dict[ShockKey, None] = {}
        self._use_annex()
        with self._archive.transaction():
            for report in reports_in(one):
                update = self._filing.take(report, received_ms=now)
                groups |= dict.fromkeys(update.groups)
                for notice in update.notices:
                    self._notice(notice)
                if report.report.events or report.report.withdraws or report.report.supersedes:
                    shocks |= dict.fromkeys(self._file_event(report, now))
                self._note_time(report, one.header.channel, now)
            self._archive.set_filed([identity])
        if one.header.channel in WARNINGS:
            for heard in heard_in(one):
                for text in self._ledger.take(heard):
                    self._notice(Notice(NoticeKind.REFUSED, text))
        return groups, shocks

    def _file_event(self, one: Report, now: int) -> Iterable[ShockKey]:
        row = {"sender": one.sender, "report": one.report.SerializeToString().hex(), "now_ms": now}
        self._archive.put_sheet("event", f"{one.sender} {bytes(one.report.id).hex()}", json.dumps(row).encode())
        return self._shocks.take(one.report, sender=one.sender, now_ms=now).keys

    def _note_time(self, one: Report, channel: str, now: int) -> None:
        name = f"{mission_of(one.sender)}\n{channel}"
        held = json.loads(self._archive.sheet("times", name) or b"{}")
        times = held.get("times", [])
        # A batch is one report for the cadence.
        if not times or now - times[-1] > cadence.DAY_MS / 2:
            row = {"mission": mission_of(one.sender), "channel": channel, "times": [*times, now][-MAX_TIMES:]}
            self._archive.put_sheet("times", name, json.dumps(row).encode())

    def _use_annex(self) -> None:
        annex = self._desk.trust.annex(self._desk.clock())
        version = annex.version if annex else 0
        if version != self._annex:
            self._annex = version
            thresholds, unused = thresholds_of(annex)
            self._filing.use(thresholds)
            for text in unused:
                self._notice(Notice(NoticeKind.REFUSED, text))

    def _notice(self, notice: Notice) -> None:
        self.notices.append(notice)
        log.debug("notice", kind=notice.kind.value, reporter=notice.reporter)

    # ---- judging

    def _setting(self) -> Setting:
        now = self._desk.clock()
        drill = self._desk.trust.agreement(now).body.drill
        status = pb.ALERT_STATUS_EXERCISE if drill else pb.ALERT_STATUS_ACTUAL
        return Setting(pb.ALERT_STATUS_TEST if self._test else status, now, max(self._annex, 0))

    def _duties(self) -> list[cadence.Duty]:
        rules = self._desk.trust.agreement(self._desk.clock()).channels
        out = []
        for data in self._archive.sheets("times", ""):
            row = json.loads(data)
            rule = rules.get(row["channel"])
            if rule is not None and rule.cadence_ms:
                days = rule.cadence_ms / cadence.DAY_MS
                out.append(cadence.Duty(row["mission"], f"reports on {row['channel']}", days, tuple(row["times"])))
        return out

    def _judge(self, groups: dict[Group, None], shocks: dict[ShockKey, None]) -> None:
        setting, duties = self._setting(), self._duties()
        missing = cadence.overdue(duties, now_ms=setting.now_ms)
        overdue = cadence.missing(duties, now_ms=setting.now_ms)
        for group in groups:
            found = self._filing.series(group)
            alarms = self._filing.board.alarms(group, missing=missing)
            doubts = [one.text for one in cadence.conflicts(cadence.said(series) for series in found)]
            reporters = {series.key.reporter for series in found}
            doubts += [one.text for one in overdue if one.reporter in reporters]
            for alarm in worth_raising(alarms, len(found)):
                self._raise_alarm(alarm, setting, doubts)
            self._end_alarms(group, alarms, setting)
        for key in shocks:
            self._raise_shock(key, setting)

    def _raise_alarm(self, alarm: Alarm, setting: Setting, doubts: list[str]) -> None:
        month = month_number(alarm.month) or 0
        if month < month_of_ms(setting.now_ms) - NEWS_MONTHS:
            return
        cited = self._filing.cited(alarm.reports, alarm.group)
        if not cited:
            return
        who = "" if alarm.pooled else alarm.voices[0][0]
        assessed = self._assessed(alarm, setting)
        figures = self._figures(assessed)
        fresh = alerts.of_alarm(
            alarm, cited, setting, random=os.urandom(10), assessed=assessed, figures=figures, doubts=doubts
        )
        key = f"{alarm.screen} {'|'.join(map(str, alarm.group))} {who} {alarm.month}"
        self._raise(key, fresh, alerts.with_figures(cited, figures))

    def _raise_shock(self, key: ShockKey, setting: Setting) -> None:
        shock = self._shocks.shock(key, now_ms=setting.now_ms)
        if shock is None or shock not in self._shocks.current(now_ms=setting.now_ms):
            return  # `_tend` ends its alert
        cited = [
            one
            for mission in shock.reporters
            for report in shock.report_ids
            if (one := self._filing.cite(mission, report))
        ]
        event = alerts.event_of(key, cited)
        if event is None:
            return
        assessed = self._assessed(shock, setting)
        figures = self._figures(assessed)
        fresh = alerts.of_event(event, cited, setting, random=os.urandom(10), assessed=assessed, figures=figures)
        episode = shock.eased_ms.to_bytes(8, "big") if shock.eased_ms else b""
        self._raise(_event_key(key), fresh, alerts.with_figures(cited, figures), episode)

    def _assessed(self, cause: Shock | Alarm, setting: Setting) -> tuple[Assessment, ...]:
        facts: Facts = self._base.with_reports(self._filing.figures(), self._graph, now_ms=setting.now_ms)
        return assess_all(cause, self._graph, facts, countries=countries_of(self._desk.trust), now_ms=setting.now_ms)

    def _figures(self, assessed: Iterable[Assessment]) -> list[Cited]:
        """The reports of missions that assessments rest on."""
        refs = dict.fromkeys(ref for one in assessed for ref in one.figures)
        return [cited for mission, report in refs if (cited := self._filing.cite(mission, report)) is not None]

    def _raise(self, key: str, fresh: pb.Alert, cited: list[Cited], episode: bytes = b"") -> None:
        chain = self._running(fresh)
        if chain is None:
            alerted = self._archive.sheet("alerted", key)
            # A measure that was eased and is taken anew is another thing to warn of.
            if alerted is None or alerted[ID_BYTES:] != episode:
                self._keep(key, fresh, cited, episode=episode)
        elif mission_of(chain.root.sender) == self._mission and not alerts.same_facts(chain.alert, fresh):
            if fresh.certainty < chain.alert.certainty and fresh.basis.period == chain.alert.basis.period:
                why = "Less sure than before."
            else:
                why = "Newer reports."
            self._keep("", alerts.updated(fresh, chain.references, why=why), cited)

    def _running(self, fresh: pb.Alert) -> Chain | None:
        """The open alert of a desk of this party about the same."""
        for chain in self._ledger.chains():
            own = party_of(chain.root.sender) == self._party
            if own and chain.open_at(self._desk.clock()) and _about(chain.alert) == _about(fresh):
                return chain
        return None

    def _end_shock(self, chain: Chain, standing: list[Shock], setting: Setting) -> bool:
        """End the alert of a shock that is withdrawn, eased or over; an easing names it in a report of its own."""
        if chain.alert.basis.screen != alerts.EVENT:
            return False
        keys = dict.fromkeys(key for one in chain.alert.evidence for key in self._shocks.told_by(bytes(one.id)))
        for key in keys:
            alerted = self._archive.sheet("alerted", _event_key(key)) or b""
            if alerted[:ID_BYTES] != bytes(chain.root.said.id):
                continue
            shock = self._shocks.shock(key, now_ms=setting.now_ms)
            if shock is None:
                self._end(chain, setting, pb.ALERT_STEP_UNSPECIFIED, "nobody says so any more")
            elif shock not in standing:
                self._end(chain, setting, pb.ALERT_STEP_RESOLVED, "it has ended or is eased")
            else:
                return False
            return True
        return False

    def _own_chains(self) -> list[Chain]:
        now = self._desk.clock()
        return [one for one in self._ledger.chains() if one.root.sender == self._desk.name and one.open_at(now)]

    def _end_alarms(self, group: Group, alarms: list[Alarm], setting: Setting) -> None:
        still = {(one.screen, "" if one.pooled else one.voices[0][0]) for one in alarms}
        for chain in self._own_chains():
            basis = chain.alert.basis
            about = Group(item_of(chain.alert.subject), basis.indicator, basis.market)
            if about != group or (basis.screen, basis.reporter) in still or basis.screen == alerts.EVENT:
                continue
            newest = max((month_number(one.period[:7]) or 0 for one in self._newest(group)), default=0)
            month = month_number(basis.period) or 0
            if newest <= month:
                self._end(chain, setting, pb.ALERT_STEP_UNSPECIFIED, "Its evidence was withdrawn or revised.")
            elif newest >= month + CALM_MONTHS:
                why = f"No longer in alarm: {CALM_MONTHS} months or more below the threshold."
                self._end(chain, setting, pb.ALERT_STEP_RESOLVED, why)

    def _newest(self, group: Group) -> list[Observation]:
        return [one for series in self._filing.series(group) if (one := series.newest()) is not None]

    def _end(self, chain: Chain, setting: Setting, step: int, why: str) -> None:
        ended = alerts.cancelled(chain.alert, chain.references, setting, why=why, step=step, random=os.urandom(10))
        self._keep("", ended, [], marking=chain.root.marking, named=chain.root.named)

    def _tend(self) -> None:
        """What time alone brings: missing reports, and alerts that nobody answers."""
        setting = self._setting()
        for notice in cadence.missing(self._duties(), now_ms=setting.now_ms):
            if all(notice.text != one.text for one in self.notices):
                self._notice(notice)
        standing = self._shocks.current(now_ms=setting.now_ms)
        waits = self._waiting()
        for chain in self._own_chains():
            # What was decided of it and could not be sent yet is not decided again.
            if bytes(chain.root.said.id) in waits or self._end_shock(chain, standing, setting):
                continue
            if chain.overdue(setting.now_ms):
                fresh = pb.Alert()
                fresh.CopyFrom(chain.alert)
                fresh.id = new_report_id(setting.now_ms, os.urandom(10))
                why = "Nobody of another party acknowledged it in time."
                told = alerts.updated(fresh, chain.references, why=why, escalate=True)
                self._keep("", told, [], marking=chain.root.marking, named=chain.root.named)

    # ---- sending

    def _keep(
        self,
        key: str,
        alert: pb.Alert,
        cited: list[Cited],
        *,
        marking: int = 0,
        named: tuple[str, ...] = (),
        episode: bytes = b"",
    ) -> None:
        """Decide once: the key and the message are durable before it is sent, so that a crash neither loses nor repeats it."""
        if cited:
            marking, named = alerts.strictest(cited)
        to = sorted(set(named) - {self._desk.name})
        row = {"alert": alert.SerializeToString().hex(), "marking": marking, "named": to}
        identity = bytes(alert.id)
        with self._archive.transaction():
            if key:
                self._archive.put_sheet("alerted", key, identity + episode)
            self._archive.put_sheet("pending", identity.hex(), json.dumps(row).encode())

    def _waiting(self) -> set[bytes]:
        """Ids of the alerts that messages which are not sent yet refer to."""
        rows = (json.loads(data) for data in self._archive.sheets("pending", ""))
        said = (pb.Alert.FromString(bytes.fromhex(row["alert"])) for row in rows)
        return {bytes(one.id) for alert in said for one in alert.references}

    async def _send(self) -> int:
        sent = 0
        for data in await self._desk.workers.run(self._archive.sheets, "pending", ""):
            row = json.loads(data)
            item = pb.Item(alert=pb.Alert.FromString(bytes.fromhex(row["alert"])))
            identity = bytes(item.alert.id).hex()
            try:
                if not self._ledger.find(identity):
                    marking = MARKING_NAMES[row["marking"]]
                    to = row["named"] if marking == "RED" else ()
                    envelope = await self._desk.publish("alerts", item, marking=marking, to=to)
                    await self._desk.workers.run(self._file, envelope)
                    sent += 1
            except TocsinError as error:
                # It stays pending: what stands against it may end, a document or the agreement.
                self._notice(Notice(NoticeKind.REFUSED, f"an alert could not be sent: {error.words()}"))
                continue
            with self._archive.transaction():
                self._archive.drop_sheet("pending", identity)
        return sent


def countries_of(trust: Trust) -> list[str]:
    """The countries of the exchange, as assessments name them."""
    return [party.upper() for party in trust.parties]


def worth_raising(found: list[Alarm], series: int) -> list[Alarm]:
    """The alarms to tell others of: where there is a pool, the pool decides; of its series one alone flags too often.

    Prices are the exception: their rules have a measured budget, so one series may speak.
    """
    pooled = {one.screen for one in found if one.pooled}
    price = all(one.group.indicator == pb.INDICATOR_KIND_PRICE for one in found)
    alone = price or series < LEAST_VOICES
    return [one for one in found if one.pooled or (alone and one.screen not in pooled)]


def _event_key(key: ShockKey) -> str:
    return f"event {key.kind} {key.items} {key.places} {key.affected}"


def _about(alert: pb.Alert) -> tuple[object, ...]:
    basis = alert.basis
    period = basis.period if basis.screen == alerts.EVENT else ""
    hs = basis.hs if basis.screen == alerts.EVENT else ""
    return item_of(alert.subject), basis.screen, basis.indicator, basis.market, basis.reporter, period, hs, alert.status
