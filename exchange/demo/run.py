"""`tocsin demo`: the main job on real input, with two node processes, six desks and an outsider."""

import asyncio
import contextlib
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import grpc
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from exchange import tls, wire
from exchange.clock import now_ms
from exchange.demo import data
from exchange.demo.found import DESKS, NODES, Founded, found
from exchange.demo.warn import WATCHER, warn
from exchange.desk import Delivery, Desk
from exchange.v1 import exchange_pb2 as pb
from exchange.v1 import exchange_pb2_grpc as rpc
from keys.errors import UsageError

MARKER: Final = ".tocsin-demo"
TITLE: Final = "Demo exchange on supply chains, KR-NL"
PUBLISHER: Final = "kr.the-hague/economic"
ABROAD: Final = "nl.seoul/economic"
COMPANY: Final = "nl.veldhoven-litho/supply"
SINCE: Final = "2016-01"
START_S: Final = 60.0
ARRIVE_S: Final = 60.0


@dataclass(slots=True)
class Outcome:
    """What the last line says."""

    published: int = 0
    opened: int = 0
    refused: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """Published and not opened at the other country."""
        return self.published - self.opened


def prepare(directory: Path) -> None:
    """An empty place for the demo; an earlier demo there is replaced, anything else is left alone.

    Raises:
        UsageError: The directory holds something that is not a demo.
    """
    if not directory.exists():
        return
    if not (directory / MARKER).exists() and any(directory.iterdir()):
        raise UsageError(f"{directory} exists and is no demo", hint="choose another --dir, or move it away")
    shutil.rmtree(directory)


@contextlib.contextmanager
def nodes(founded: Founded) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Both nodes as processes; stopped, and waited for, at the end.

    Raises:
        UsageError: A node did not start; names its log.
    """
    running = []
    try:
        running = [start_node(founded.node(party)) for party in NODES]
        yield running
    finally:
        for process in running:
            process.send_signal(signal.SIGTERM)
        for process in running:
            process.wait(20)


def start_node(directory: Path) -> subprocess.Popen[bytes]:
    """One node process, serving when this returns; its log is node.log in its directory.

    Raises:
        UsageError: It ended, or did not serve within START_S.
    """
    ready = directory / "node.ready"
    ready.unlink(missing_ok=True)
    with (directory / "node.log").open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - this interpreter, a module of ours
            [sys.executable, "-m", "exchange.node", str(directory)], stdout=output, stderr=output
        )
    limit = time.monotonic() + START_S
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > limit:
            process.kill()
            raise UsageError(f"the node in {directory} does not start", hint=f"read {directory / 'node.log'}")
        time.sleep(0.02)
    return process


async def demo(directory: Path, console: Console) -> Outcome:
    """Found, publish, read abroad, explain, refuse; leaves the nodes stopped and the directory for a look around."""
    prepare(directory)
    console.print(f"[bold]Founding[/] kr and nl in {directory}: keys, agreement signed by both, rosters, key cards …")
    founded = await asyncio.to_thread(found, directory, title=TITLE, desks=(*DESKS, WATCHER))
    (directory / MARKER).touch()
    console.print(f"  lineage {founded.lineage.hex()[:16]}…, {len(founded.held)} documents")
    outcome = Outcome()
    with nodes(founded):
        console.print("[bold]Nodes[/] " + " and ".join(NODES.values()) + " serve on loopback over mutual TLS 1.3")
        published = await _publish(founded, console, outcome)
        abroad = await _read(founded, ABROAD, published)
        outcome.opened = sum(abroad.counts.values())
        _show_abroad(console, published, abroad)
        company = await _read(founded, COMPANY, Counter(), wait=False)
        _show_company(console, founded, company, published)
        await _outsider(founded, console, outcome)
        outcome.problems += await warn(founded, console)
    outcome.problems += abroad.problems
    for problem in outcome.problems:
        console.print(f"[red]problem:[/] {problem}")
    console.print(
        f"[bold]{outcome.published} published, {outcome.opened} opened at the other country, "
        f"{outcome.refused} refused, {outcome.lost} lost[/]"
    )
    return outcome


async def _publish(founded: Founded, console: Console, outcome: Outcome) -> Counter[str]:
    """Month by month, then one control notice; the counts by channel."""
    months = list(data.monthly_reports(now_ms=now_ms(), since=SINCE))
    notice = data.control_notice(now_ms=now_ms())
    counts: Counter[str] = Counter()
    bar = Progress(
        TextColumn("publishing {task.fields[month]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )
    async with Desk.open(founded.desk(PUBLISHER)) as desk:
        with bar:
            task = bar.add_task("", total=sum(len(batch) for _, batch in months) + 1, month="")
            for month, batch in months:
                # Chip figures are open to companies, mineral prices to governments: two markings, two audiences.
                for channel, marking in (("chips", "GREEN"), ("minerals", "AMBER")):
                    said = [row.report for row in batch if row.channel == channel]
                    await desk.publish_all(channel, said, marking=marking)
                counts.update(row.channel for row in batch)
                bar.update(task, advance=len(batch), month=month)
            await desk.publish(notice.channel, notice.report, marking="AMBER+STRICT")
            counts[notice.channel] += 1
            bar.update(task, advance=1, month="control notice")
        left = await desk.flush(ARRIVE_S)
        if left:
            outcome.problems.append(f"{left} envelopes have no receipt: {desk.state}")
        outcome.problems += [str(event) for event in desk.events()]
    outcome.published = sum(counts.values())
    return counts


@dataclass(slots=True)
class Read:
    """What one desk got."""

    counts: Counter[str] = field(default_factory=Counter)
    receipts: Counter[str] = field(default_factory=Counter)
    last: dict[str, Delivery] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


async def _read(founded: Founded, name: str, wanted: Counter[str], *, wait: bool = True) -> Read:
    """Everything on the channels, until all that is wanted came or time is up."""
    read = Read()
    async with Desk.open(founded.desk(name)) as desk:
        channels = sorted(desk.trust.agreement(now_ms()).channels)
        limit = time.monotonic() + (ARRIVE_S if wait else 0)
        while True:
            for channel in channels:
                async for delivery in desk.subscribe(channel, follow=False):
                    desk.check_receipt(delivery)
                    read.receipts[channel] += 1
                    read.counts[channel] += 1
                    read.last[channel] = delivery
            if read.counts >= wanted or time.monotonic() > limit:
                break
            await asyncio.sleep(0.1)
        read.problems = [str(event) for event in desk.events()]
    return read


def _show_abroad(console: Console, published: Counter[str], abroad: Read) -> None:
    table = Table(title=f"At {ABROAD}: opened and verified there", title_justify="left")
    for column in ("channel", "published", "opened", "receipts checked", "newest"):
        table.add_column(column, justify="left" if column in ("channel", "newest") else "right")
    for channel in sorted(published):
        last = abroad.last.get(channel)
        newest = last.report.summary[0].text if last and last.report.summary else ""
        table.add_row(
            channel,
            str(published[channel]),
            str(abroad.counts[channel]),
            str(abroad.receipts[channel]),
            Text(newest[:60]),
        )
    console.print(table)


def _show_company(console: Console, founded: Founded, company: Read, published: Counter[str]) -> None:
    table = Table(title=f"At {COMPANY}: what the agreement gives it, and why", title_justify="left")
    for column in ("channel", "marking", "given", "why"):
        table.add_column(column)
    desk = Desk.open(founded.desk(COMPANY))
    for channel, marking in (("chips", "GREEN"), ("minerals", "AMBER"), ("materials", "AMBER+STRICT")):
        if not published[channel]:
            continue
        reading = next(r for r in desk.explain(channel, marking, sender=PUBLISHER) if r.desk == COMPANY)
        table.add_row(channel, marking, f"{company.counts[channel]} of {published[channel]}", reading.why)
    desk.close()
    console.print(table)


async def _outsider(founded: Founded, console: Console, outcome: Outcome) -> None:
    """Someone with a CA of his own, named like the node's, tries to subscribe as a desk: refused."""
    reason = await try_as_outsider(founded)
    outcome.refused += 1
    console.print(f"[bold]Outsider[/] with a certificate of his own that claims to be {PUBLISHER}: refused, {reason}")


async def try_as_outsider(founded: Founded) -> str:
    """The reason an outsider is given.

    Raises:
        UsageError: He was let in.
    """
    entry = Desk.open(founded.desk(PUBLISHER))
    node = entry.trust.node(NODES["kr"])
    entry.close()
    if node is None:
        raise UsageError("the demo has no node")
    key, leaf_key = tls.new_key(), tls.new_key()
    ca = tls.make_ca(node.node, key, now_ms=now_ms())
    leaf = tls.issue(ca, key, PUBLISHER, leaf_key.public_key(), now_ms=now_ms())
    credentials = grpc.ssl_channel_credentials(tls.der_to_pem(node.tls_ca), tls.key_pem(leaf_key), tls.pem(leaf))
    options = [*wire.CLIENT_OPTIONS, ("grpc.ssl_target_name_override", node.node)]
    async with grpc.aio.secure_channel(node.endpoint, credentials, options=options) as channel:
        try:
            await rpc.ExchangeStub(channel).GetCheckpoint(pb.GetCheckpointRequest(), timeout=5)
        except grpc.aio.AioRpcError as failure:
            error = wire.error_from(failure)
            return (
                "the TLS handshake ends: his CA is pinned for nobody" if error.reason == "UNREACHABLE" else str(error)
            )
    raise UsageError("the outsider was let in")
