"""The clock of the edge; the core never reads one, it is told `now_ms`."""

import time


def now_ms() -> int:
    """Milliseconds UTC since 1970."""
    return time.time_ns() // 1_000_000
