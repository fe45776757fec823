"""What one entry costs the store as the log grows: small entries, so that what grows is the index and the tree."""

import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.process import scratch
from exchange.store.contract import NewEntry
from exchange.store.sqlite import SqliteStore

GROUP: Final = 64
DATA_BYTES: Final = 64
AUDIENCE: Final = tuple(f"nl.agency-0/d{index}" for index in range(10))
MEASURED: Final = 4096


def growth(sizes: Sequence[int] = (10_000, 100_000, 1_000_000), *, limit_s: float = 120.0) -> list[dict[str, float]]:
    """Microseconds per entry appended (in groups of 64, fsync included and apart) and read, around each size.

    Args:
        sizes: Log sizes, rising.
        limit_s: Sizes not reached by then are left out.
    """
    figures = []
    started = time.monotonic()
    with scratch("store") as home:
        store = SqliteStore(Path(home) / "log.db")
        size = 0
        for goal in sizes:
            while size + MEASURED < goal and time.monotonic() - started < limit_s:
                size = _append(store, size, GROUP * 32)
            if size + MEASURED < goal:
                break
            began, cpu = time.perf_counter(), time.process_time()
            for _ in range(MEASURED // GROUP):
                size = _append(store, size, GROUP)
            took, cpu = time.perf_counter() - began, time.process_time() - cpu
            began = time.perf_counter()
            position, read = size - MEASURED, 0
            while position < size:
                rows, position = store.read(
                    position, limit_bytes=1_000_000, limit_rows=256, desks=frozenset({AUDIENCE[0]}), channels=None
                )
                read += len(rows)
            figures.append(
                {
                    "entries": size,
                    "append_us": took / MEASURED * 1e6,
                    "append_cpu_us": cpu / MEASURED * 1e6,
                    "read_us": (time.perf_counter() - began) / max(read, 1) * 1e6,
                }
            )
        store.close()
    return figures


def _append(store: SqliteStore, size: int, count: int) -> int:
    data = os.urandom(DATA_BYTES)
    entries = [
        NewEntry(
            kind=1,
            id=hashlib.sha256(index.to_bytes(8, "little")).digest(),
            data=data,
            stream=b"s" * 16,
            seq=index + 1,
            channel="minerals",
            audience=AUDIENCE,
            sender="kr.the-hague/economic",
            create_time_ms=1_700_000_000_000 + index,
        )
        for index in range(size, size + count)
    ]
    store.append(entries)
    return size + count
