"""`make bench`: every measurement in one run on one machine; prints a table, writes bench/out/bench.json."""

import argparse
import asyncio
import json
import os
import platform
import sqlite3
import ssl
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from bench import backlog, desk_to_desk, grpc_peer, nats_peer, watch_cost
from bench.process import OUT, scratch
from bench.reports import REPORT_BYTES
from bench.store_growth import growth

PART_S: Final = 150.0
BATCHES: Final = (256, 512, 1024)
AUDIENCES: Final = (1, 10, 200)


def machine() -> dict[str, Any]:
    """Where the figures were taken: they mean nothing elsewhere, their ratios do."""
    model = next(
        (row.split(":")[1].strip() for row in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in row), ""
    )
    before = [_flush_ms() for _ in range(50)]
    return {
        "cpus": os.cpu_count(),
        "processor": model,
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "openssl": ssl.OPENSSL_VERSION,
        "load_average": os.getloadavg()[0],
        "flush_p50_ms": sorted(before)[25],
    }


def _flush_ms() -> float:
    with scratch("flush") as home:
        descriptor = os.open(Path(home) / "file", os.O_CREAT | os.O_WRONLY)
        os.write(descriptor, bytes(4096))
        began = time.perf_counter()
        os.fdatasync(descriptor)
        took = (time.perf_counter() - began) * 1e3
        os.close(descriptor)
    return took


async def ours(audience: int, reports: int, singles: int) -> dict[str, Any]:
    """Throughput by batch, one report alone, memory of both nodes after that."""
    async with desk_to_desk.exchange(audience) as running:
        return {
            "throughput": [
                {"audience": audience, **await desk_to_desk.throughput(running, reports=reports, batch=batch)}
                for batch in (BATCHES if audience == 10 else (512,))
            ],
            "latency": await desk_to_desk.latency(running, reports=singles) if audience == 10 else None,
            "memory_mb": {"after": running.memory("VmRSS"), "peak": running.memory("VmHWM")},
        }


async def shares(reports: int, batch: int = 512) -> dict[str, dict[str, float]]:
    """By process: share of its CPU time by stage, start included; the rest is gRPC, TLS, asyncio and the SDK itself."""
    with scratch("timers") as home:
        timers = Path(home)
        async with desk_to_desk.exchange(10, timers=timers) as running:
            await desk_to_desk.throughput(running, reports=reports, batch=batch, timers=timers)
        found = {}
        for path in sorted(timers.glob("*.json")):
            measured = json.loads(path.read_text())
            stages = {name: seconds / measured["total_s"] for name, seconds in measured["stages"].items()}
            stages["gRPC, TLS, asyncio, rest"] = 1 - sum(stages.values())
            found[path.stem] = stages
    return found


async def measure(reports: int, singles: int, entries: int, waiting: int) -> dict[str, Any]:
    """All figures of one run; a part that fails is named in the result and stops no other.

    Args:
        reports: Reports per throughput measurement.
        singles: Reports or calls per latency measurement.
        entries: Largest log of the growth measurement.
        waiting: Reports that wait in the measurement of catching up.
    """
    result: dict[str, Any] = {"machine": machine(), "failed": {}}

    async def part(name: str, work: Awaitable[Any], limit_s: float = PART_S) -> None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(limit_s):
                result[name] = await work
        except Exception as error:
            result["failed"][name] = repr(error)
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)

    await part("nats", nats_peer.measure(reports=reports, singles=singles))
    for audience in AUDIENCES:
        await part(f"ours_{audience}", ours(audience, reports, singles))
    await part("backlog", backlog.backlog(waiting), backlog.bound_s(waiting))
    await part("grpc", grpc_peer.latency(calls=singles))
    await part("start", desk_to_desk.start())
    await part("watch", asyncio.to_thread(watch_cost.figures))
    await part("shares", shares(reports))
    result["wire"] = {str(batch): desk_to_desk.wire_bytes(10, batch) for batch in (*BATCHES, 1)}
    sizes = [size for size in (10_000, 100_000, 1_000_000) if size <= entries]
    await part("growth", asyncio.to_thread(growth, sizes, limit_s=90.0))
    return result


def show(result: dict[str, Any], console: Console) -> None:
    """The figures, with their ratios to NATS in the same run."""
    table = Table(title=f"Desk to desk through two nodes, {REPORT_BYTES}-byte reports", title_justify="left")
    for column in (
        "audience",
        "batch",
        "reports/s",
        "x NATS default",
        "x NATS always",
        "CPU us/report",
        "disk B/report",
    ):
        table.add_column(column, justify="right")
    nats = result.get("nats")
    mine = [result[name] for name in (f"ours_{audience}" for audience in AUDIENCES) if name in result]
    if mine and nats:
        rates = {sync: nats[sync]["throughput"]["reports_per_s"] for sync in ("default", "always")}
        for row in (row for one in mine for row in one["throughput"]):
            table.add_row(
                str(row["audience"]),
                str(row["batch"]),
                f"{row['reports_per_s']:,.0f}",
                *(f"{row['reports_per_s'] / rates[sync]:.2f}" for sync in ("default", "always")),
                f"{sum(row['cpu_us_per_report'].values()):.0f}",
                f"{sum(row['disk_bytes_per_report'].values()):.0f}",
            )
        console.print(table)
        console.print(f"NATS: {rates['default']:,.0f} reports/s at its default, {rates['always']:,.0f} at always")
        theirs = nats["always"]["latency"]
        for alone in (one["latency"] for one in mine if one["latency"]):
            console.print(
                f"One report alone: p50 {alone['p50_ms']:.1f} ms, p99 {alone['p99_ms']:.1f} ms; NATS at always "
                f"{theirs['p50_ms']:.2f} ms: {alone['p50_ms'] / theirs['p50_ms']:.1f} times"
            )
        console.print("Memory of the nodes, MB:", _rounded([one["memory_mb"] for one in mine]))
    if mine and "backlog" in result:
        caught_up = result["backlog"]["reports_per_s"]
        live = next(
            (row["reports_per_s"] for one in mine for row in one["throughput"] if _like(row, result["backlog"])), 0
        )
        share = f", {caught_up / live:.2f} of the live rate" if live else ""
        peaks = ", ".join(f"{name} {mb:.0f} MB" for name, mb in result["backlog"]["peak_mb"].items())
        console.print(f"Catching up: {caught_up:,.0f} reports/s{share}; at the peak {peaks}")
    for name in ("grpc", "start", "watch", "wire", "growth", "shares", "failed", "machine"):
        console.print(f"[bold]{name}[/]", _rounded(result.get(name)))


def _like(row: dict[str, Any], other: dict[str, Any]) -> bool:
    return bool(row["audience"] == 10 and row["batch"] == other["batch"])


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.3g}") if abs(value) < 1000 else round(value)
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list) else value


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(prog="make bench", description="Measures Tocsin beside NATS and bare gRPC.")
    parser.add_argument("--reports", type=int, default=20_000, help="reports per throughput measurement")
    parser.add_argument("--singles", type=int, default=300, help="reports per latency measurement")
    parser.add_argument("--backlog", type=int, default=backlog.REPORTS, help="reports that wait for who was cut off")
    parser.add_argument("--entries", type=int, default=1_000_000, help="largest log of the growth measurement")
    given = parser.parse_args()
    result = asyncio.run(measure(given.reports, given.singles, given.entries, given.backlog))
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "bench.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    show(result, Console())
    if result["failed"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
