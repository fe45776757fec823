"""The warning of the demonstration, an exercise on made-up figures.

Missions of both countries report imports, a control notice follows, alerts are raised, read at the other country with
their reasons, acknowledged and consulted on.
"""

import asyncio
import contextlib
import csv
import secrets
from collections import defaultdict
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

from exchange.clock import now_ms
from exchange.demo.data import data_dir
from exchange.demo.found import Founded
from exchange.desk import Desk
from exchange.report import new_report_id
from exchange.text import printable
from exchange.v1 import report_pb2 as pb
from exchange.watch.alerts import DAY_MS, EVENT, date_of
from exchange.watch.alerts_cli import acknowledgement, answer, consultation, find, run_once, text_of
from exchange.watch.letters import ledger_of
from exchange.watch.months import month_of_ms, month_text
from exchange.watch.service import Watch

WATCHER: Final = "nl.bz/watch"
READER: Final = "kr.motie/supply"
NOTIFIER: Final = "nl.seoul/economic"
ITEM: Final = pb.Subject(hs="250410", item="natural graphite", stage=pb.STAGE_MINERAL)
EFFECT_DAYS: Final = 42
FLUSH_S: Final = 60.0


def flows(folder: Path | None = None, *, now_ms: int) -> dict[str, list[pb.Report]]:
    """Made-up imports of natural graphite by desk, the newest for the month before this one."""
    last = month_of_ms(now_ms) - 1
    out: dict[str, list[pb.Report]] = defaultdict(list)
    with ((folder or data_dir()) / "graphite_flows.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            period = month_text(last - int(row["months_back"]))
            report = pb.Report(
                id=new_report_id(now_ms, secrets.token_bytes(10)),
                subject=ITEM,
                place=pb.Place(country=row["place"]),
                level=pb.STATUS_LEVEL_NORMAL,
                sources=[_source(f"customs {row['place']} (made up)")],
            )
            report.indicators.add(
                kind=pb.INDICATOR_KIND_IMPORTS,
                market=pb.MARKET_IMPORT,
                value=float(row["tonnes"]),
                unit="TNE",
                period=period,
            )
            out[row["desk"]].append(report)
    return out


def notice(*, now_ms: int) -> pb.Report:
    """A made-up control notice of today, in force in EFFECT_DAYS days."""
    starts = date_of(now_ms + EFFECT_DAYS * DAY_MS)
    words = f"Exercise: exports of natural graphite from CN need a licence from {starts}"
    report = pb.Report(
        id=new_report_id(now_ms, secrets.token_bytes(10)),
        subject=ITEM,
        place=pb.Place(country="CN"),
        level=pb.STATUS_LEVEL_WATCH,
        sources=[_source("exercise script")],
        summary=[pb.Text(language="en", text=f"{words}.")],
    )
    report.events.add(
        kind=pb.EVENT_KIND_EXPORT_CONTROL,
        public_date=date_of(now_ms),
        start_date=starts,
        actors=["CN"],
        hs=["250410"],
        description=[pb.Text(language="en", text=words)],
    )
    return report


def _source(name: str) -> pb.Source:
    return pb.Source(name=name, reliability=pb.RELIABILITY_A, credibility=pb.CREDIBILITY_2)


async def warn(founded: Founded, console: Console) -> list[str]:
    """Report, notify, warn, read abroad, answer; gives what went wrong, in words."""
    said = flows(now_ms=now_ms())
    for name, reports in said.items():
        await _publish(founded, name, reports)
    places = sum(len({one.place.country for one in reports}) for reports in said.values())
    console.print(
        f"[bold]Exercise[/] {len(said)} missions report imports of natural graphite at {places} places (made up)"
    )
    await _arrived(founded, sum(map(len, said.values())))
    before = await _watch(founded)
    await _publish(founded, NOTIFIER, [notice(now_ms=now_ms())])
    raised = await _watch(founded)
    console.print(
        f"  the watch at {WATCHER} raised {before} alerts; a control notice from {NOTIFIER} followed: {raised} more"
    )
    problems = [] if before and raised == 1 else [f"the watch raised {before} and {raised} alerts, not some and one"]
    return problems + await _answered(founded, console)


async def _publish(founded: Founded, name: str, reports: list[pb.Report]) -> None:
    async with Desk.open(founded.desk(name)) as desk:
        await desk.publish_all("minerals", reports)
        await desk.flush(FLUSH_S)


async def _arrived(founded: Founded, count: int) -> None:
    """Wait until the watching desk has read that many of the reports: those of the other country come a moment later."""
    async with Desk.open(founded.desk(WATCHER)) as desk:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_S):
                async for delivery in desk.subscribe("minerals"):
                    report = delivery.item.report
                    count -= report.subject.hs == ITEM.hs and len(report.indicators) == 1
                    if count == 0:
                        break


async def _watch(founded: Founded) -> int:
    async with Desk.open(founded.desk(WATCHER)) as desk:
        return await run_once(desk, Watch(desk))


async def _answered(founded: Founded, console: Console) -> list[str]:
    async with Desk.open(founded.desk(READER)) as desk:
        today = date_of(desk.clock() - DAY_MS)  # midnight may have passed meanwhile
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_S):
                async for delivery in desk.subscribe("alerts"):
                    basis = delivery.item.alert.basis
                    if basis.screen == EVENT and basis.period >= today:
                        break
        chains = ledger_of(desk.archive)[0].chains()
        shown = next(
            (one for one in chains if one.alert.basis.screen == EVENT and one.alert.basis.period >= today), None
        )
        if shown is None or not any(one.alert.basis.pooled for one in chains):
            return [f"an alert did not reach {READER}"]
        which = shown.root.said.id.hex()
        await answer(desk, which, acknowledgement("The ministry has it."))
        text = "How many weeks of graphite do your anode makers hold?"
        await answer(desk, which, consultation(text), "consultation")
        await desk.flush(FLUSH_S)
        console.print(f"[bold]At {READER}[/], the other country:")
        for one in chains:
            if one is not shown:
                console.print(Text(f"  {printable(one.alert.headline[0].text)}"))
        console.print(Text("\n".join(f"  {line}" for line in text_of(find(desk, which), desk.clock()).split("\n"))))
    return []
