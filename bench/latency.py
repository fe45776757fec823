"""Where the time of one report alone goes: `python -m bench.latency`.

Each process notes when a stage begins and ends (the monotonic clock is one for all processes of a machine). Reports are
sent one after the other, so what is noted between two calls of `publish` belongs to the first. Prints for each stage the
median time since that call; a stage that runs more than once for a report is shown for its first run.
"""

import argparse
import asyncio
import functools
import importlib
import inspect
import itertools
import json
import runpy
import signal
import sqlite3
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from bench.desk_to_desk import PUBLISHER, READER, Running, node, place
from bench.figures import percentile
from bench.process import child, line, scratch
from exchange.demo.found import NODES, desk_directory

WARM_UP: Final = 30
NOTED: "list[tuple[float, str]]" = []
STAGES: Final = (
    ("seal", "exchange.envelope", "seal"),
    ("sign", "keys.suite", "SigningKey.sign"),
    ("open", "exchange.envelope", "open_envelope"),
    ("admit", "exchange.admission", "Admission.admit"),
    ("check note", "exchange.checkpoint", "verify"),
    ("take publish", "exchange.node.core", "Node.publish"),
    ("take early", "exchange.node.core", "Node.preview"),
    ("take followed", "exchange.node.core", "Node.follow"),
    ("commit log", "exchange.node.writer", "Writer._append"),
    ("sign head", "exchange.node.writer", "Writer._prove"),
    ("read batch", "exchange.node.reading", "Readers._batch"),
    ("take batch", "exchange.node.follow", "Follower._take"),
)


def noted(stage: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """`call`, with its beginning and end noted."""
    if inspect.iscoroutinefunction(call):

        @functools.wraps(call)
        async def waiting(*args: Any, **kwargs: Any) -> Any:
            NOTED.append((time.monotonic(), f"{stage} ["))
            try:
                return await call(*args, **kwargs)
            finally:
                NOTED.append((time.monotonic(), f"{stage} ]"))

        return waiting

    @functools.wraps(call)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        NOTED.append((time.monotonic(), f"{stage} ["))
        try:
            return call(*args, **kwargs)
        finally:
            NOTED.append((time.monotonic(), f"{stage} ]"))

    return wrapper


class _Connection(sqlite3.Connection):
    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        if sql != "COMMIT":
            return super().execute(sql, *args)
        NOTED.append((time.monotonic(), "flush ["))
        cursor = super().execute(sql, *args)
        NOTED.append((time.monotonic(), "flush ]"))
        return cursor


def _trace(out: Path, module: str) -> None:
    setattr(sqlite3, "connect", functools.partial(sqlite3.connect, factory=_Connection))  # noqa: B010
    for stage, where, name in STAGES:
        owner: Any = importlib.import_module(where)
        *outer, name = name.split(".")
        for part in outer:
            owner = getattr(owner, part)
        if hasattr(owner, name):
            setattr(owner, name, noted(stage, getattr(owner, name)))
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        out.write_text(json.dumps(NOTED))


async def measure(reports: int) -> tuple[list[float], dict[tuple[str, str], list[float]]]:
    """Times from publish to delivery, and for each (process, stage) the times since publish; all in ms."""
    async with asyncio.timeout(120), AsyncExitStack() as stack:
        home = Path(stack.enter_context(scratch("latency")))
        founded = await asyncio.to_thread(place, home / "place", 10)
        traces = {"desk publishing": home / "publish.json", "desk reading": home / "read.json"}
        nodes = []
        async with AsyncExitStack() as inner:
            for party, name in zip(NODES, ("its node", "other node"), strict=True):
                traces[name] = home / f"{party}.json"
                before = ("bench.latency", "--trace", str(traces[name]))
                nodes.append(await node(inner, founded.node(party), *before))
            running = Running(founded, nodes)
            given = ("--reports", str(reports + WARM_UP), "--single", "--first", "0")
            desks = []
            for role, name in (("read", READER), ("publish", PUBLISHER)):
                directory = str(founded.directory / desk_directory(name))
                command = ["--trace", str(home / f"{role}.json"), "bench.desk_to_desk", "--role", role]
                log = home / f"{role}.log"
                desks.append(
                    await inner.enter_async_context(
                        child(sys.executable, "-m", "bench.latency", *command, "--desk", directory, *given, log=log)
                    )
                )
            for process in desks:
                await line(process)
            desks[1].send_signal(signal.SIGUSR1)
            sent = json.loads(await line(desks[1]))["times"]
            got = json.loads(await line(desks[0]))["times"]
            for process in desks:
                process.send_signal(signal.SIGUSR1)
                await process.wait()
            del running
        return _sorted(sent, got, {name: json.loads(path.read_text()) for name, path in traces.items()})


def _sorted(
    sent: dict[str, float], got: dict[str, float], traces: dict[str, list[tuple[float, str]]]
) -> tuple[list[float], dict[tuple[str, str], list[float]]]:
    began = list(sent.values())[WARM_UP:]
    whole = [(got[name] - sent[name]) * 1e3 for name in list(sent)[WARM_UP:]]
    stages: dict[tuple[str, str], list[float]] = defaultdict(list)
    for process, trace in traces.items():
        for start, end in itertools.pairwise(began):
            first: dict[str, float] = {}
            for at, stage in trace:
                if start <= at < end:
                    first.setdefault(stage, at)
            for stage, at in first.items():
                stages[(process, stage)].append((at - start) * 1e3)
    return whole, stages


def show(whole: Sequence[float], stages: dict[tuple[str, str], list[float]]) -> None:
    """The stages in the order of their medians."""
    print(f"publish to delivered: p50 {percentile(whole, 0.5):.1f} ms, p99 {percentile(whole, 0.99):.1f} ms")
    rows = [(percentile(times, 0.5), *name, len(times)) for name, times in stages.items()]
    for at, process, stage, count in sorted(rows):
        if count >= len(whole) // 2:
            print(f"{at:8.2f}  {process:16} {stage}")


def main() -> None:
    """Measure, or be one of the traced processes."""
    if sys.argv[1:2] == ["--trace"]:
        out, module = Path(sys.argv[2]), sys.argv[3]
        sys.argv = sys.argv[3:]
        _trace(out, module)
        return
    parser = argparse.ArgumentParser(description="Where the time of one report alone goes.")
    parser.add_argument("--reports", type=int, default=200, help="reports sent, one after the other")
    show(*asyncio.run(measure(parser.parse_args().reports)))


if __name__ == "__main__":
    main()
