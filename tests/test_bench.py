"""The measurements run and measure what they say; no figure is asserted, for a timed test fails on a busy machine."""

import subprocess
import sys

import pytest

from bench import backlog, grpc_peer, nats_peer
from bench.figures import percentile
from bench.process import ROOT
from bench.reports import REPORT_BYTES, report_item
from exchange.report import validate
from exchange.v1 import report_pb2

NOW_MS = 1_790_000_000_000


@pytest.mark.parametrize("index", [0, 1, 999_999, 2**30])
def test_the_report_is_valid_and_always_as_long(index: int) -> None:
    encoded = report_item(index)
    assert len(encoded) == REPORT_BYTES
    validate(report_pb2.Item.FromString(encoded).report, now_ms=NOW_MS)


def test_reports_differ() -> None:
    assert len({report_item(index) for index in range(5000)}) == 5000


def test_percentile_is_the_nearest_rank() -> None:
    assert [percentile(range(100), share) for share in (0.0, 0.5, 0.99, 1.0)] == [0, 50, 99, 99]
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


async def test_every_report_crosses_both_nats_servers() -> None:
    # throughput() itself raises unless both servers store, and the consumer acknowledged, all of them.
    figures = await nats_peer.throughput("always", reports=200, timeout_s=60)
    assert figures["reports_per_s"] > 0


async def test_one_report_at_a_time_crosses_both_nats_servers() -> None:
    figures = await nats_peer.latency("default", reports=20)
    assert 0 < figures["p50_ms"] <= figures["p99_ms"]


async def test_the_bare_call_is_mutual_tls() -> None:
    figures = await grpc_peer.latency(calls=20)
    assert 0 < figures["p50_ms"] <= figures["p99_ms"]


async def test_a_desk_catches_up_with_what_was_said_while_its_node_was_down() -> None:
    # backlog() itself ends only when the reading desk has opened every report.
    figures = await backlog.backlog(600, audience=1, batch=100)
    assert figures["reports_per_s"] > 0
    assert set(figures["peak_mb"]) == {"its node", "other node", "desk reading"}


def test_every_stage_under_timers_is_a_function_that_exists() -> None:
    # In a process of its own: the timers stay in.
    subprocess.run([sys.executable, "-c", "from bench import timed; timed.install()"], check=True, cwd=ROOT)
