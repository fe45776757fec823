"""`make bench`: every measurement in one run; prints them and writes bench/out/bench.json."""

import argparse
import asyncio
import json
import os
import platform
from typing import Any

from bench import grpc_peer, nats_peer
from bench.process import OUT


async def measure(reports: int, singles: int) -> dict[str, Any]:
    """All figures of one run, with the machine they were taken on.

    Args:
        reports: Reports per throughput measurement.
        singles: Reports or calls per latency measurement.
    """
    return {
        "machine": {"cpus": os.cpu_count(), "architecture": platform.machine(), "python": platform.python_version()},
        "grpc": await grpc_peer.latency(calls=singles),
        "nats": await nats_peer.measure(reports=reports, singles=singles),
    }


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(prog="make bench", description="Measures Tocsin beside NATS and bare gRPC.")
    parser.add_argument("--reports", type=int, default=20_000, help="reports per throughput measurement")
    parser.add_argument("--singles", type=int, default=500, help="reports per latency measurement")
    given = parser.parse_args()
    figures = json.dumps(asyncio.run(measure(given.reports, given.singles)), indent=2)
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "bench.json").write_text(figures + "\n", encoding="utf-8")
    print(figures)


if __name__ == "__main__":
    main()
