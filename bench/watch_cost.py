"""Cost of the watch: all items scored at once, and one new report. CPU time of one core; `python -m bench.watch_cost`."""

import statistics
import time

import numpy as np

from exchange.report import new_report_id
from exchange.v1 import report_pb2 as pb
from exchange.watch import pooling
from exchange.watch.board import Board
from exchange.watch.months import month_text
from exchange.watch.screens import screens
from exchange.watch.views import flags

ITEMS, MISSIONS, MONTHS = 4000, 60, 120
MEASURED_ITEMS = 200
CHUNK = 10  # items at once: more would not fit the cache
FIRST = 2015 * 12
NOW_MS = 1_735_689_600_000  # 2025-01-01


def panel_seconds(kind: int) -> float:
    """Seconds of CPU to score and pool ITEMS x MISSIONS x MONTHS, from MEASURED_ITEMS of them."""
    rng = np.random.default_rng(1)
    spent = 0.0
    for _ in range(0, MEASURED_ITEMS, CHUNK):
        values = np.exp(np.cumsum(rng.normal(0, 0.05, (CHUNK, MISSIONS, MONTHS)), axis=-1))
        start = time.process_time()
        for screen in screens(kind):
            pooling.pool(flags(values, kind, pb.MARKET_WORLD, screen), np.ones((CHUNK, MISSIONS)))
        spent += time.process_time() - start
    return spent * ITEMS / MEASURED_ITEMS


def report_ms(kind: int) -> float:
    """Median milliseconds of CPU from one more report of one of MISSIONS to the alarms of its item."""
    rng = np.random.default_rng(1)
    board = Board()

    def tell(mission: int, month: int, value: float) -> None:
        report = pb.Report(
            id=new_report_id(NOW_MS, rng.bytes(10)),
            subject=pb.Subject(hs="811292", item="gallium"),
            level=pb.STATUS_LEVEL_NORMAL,
            indicators=[pb.Indicator(kind=kind, value=value, unit="KGM", period=month_text(month))],  # type: ignore[arg-type]
            sources=[pb.Source(name=f"customs {mission}", reliability=pb.RELIABILITY_A, credibility=pb.CREDIBILITY_1)],
        )
        if kind == pb.INDICATOR_KIND_PRICE:
            report.indicators[0].currency = "USD"
        board.take(report, sender=f"kr.m{mission:02d}/a", received_ms=NOW_MS, now_ms=NOW_MS)

    for mission in range(MISSIONS):
        for month, value in enumerate(np.exp(np.cumsum(rng.normal(0, 0.05, MONTHS - 1)))):
            tell(mission, FIRST + month, float(value))
    (group,) = board.groups()
    times = []
    for mission in range(MISSIONS):
        start = time.process_time()
        tell(mission, FIRST + MONTHS - 1, 1.2)
        board.alarms(group)
        times.append(time.process_time() - start)
    return 1000 * statistics.median(times)


KINDS = {
    "price": pb.INDICATOR_KIND_PRICE,
    "imports": pb.INDICATOR_KIND_IMPORTS,
    "stock": pb.INDICATOR_KIND_STOCK,
}


def figures() -> dict[str, dict[str, float]]:
    """By indicator: `all_s`, seconds of one core for all items, bound 60; `report_ms`, one more report, bound 5."""
    return {name: {"all_s": panel_seconds(kind), "report_ms": report_ms(kind)} for name, kind in KINDS.items()}


def main() -> None:
    """Print the table."""
    for name, row in figures().items():
        all_s, one_ms = row["all_s"], row["report_ms"]
        print(f"{name:<8} {ITEMS} x {MISSIONS} x {MONTHS}: {all_s:5.1f} s of one core; one report: {one_ms:4.1f} ms")


if __name__ == "__main__":
    main()
