"""Where the CPU time of a process goes, by stage: `python -m bench.timed OUT MODULE ARGUMENT...`.

Wraps the functions of each stage with timers of the thread's own CPU time, runs the module as the main program, and at
its end writes {"total_s": ..., "stages": {stage: seconds}} to OUT. A stage inside another counts for itself alone.
The timers cost some 10 % themselves, so shares are measured in a run of their own.
"""

import functools
import json
import runpy
import sqlite3
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

SECONDS: "defaultdict[str, float]" = defaultdict(float)
_LOCAL: Final = threading.local()


def timed(stage: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """`call`, with the CPU time it takes added to its stage, less that of the stages inside it."""

    @functools.wraps(call)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        outer = getattr(_LOCAL, "inner", 0.0)
        _LOCAL.inner = 0.0
        started = time.thread_time()
        try:
            return call(*args, **kwargs)
        finally:
            took = time.thread_time() - started
            SECONDS[stage] += took - _LOCAL.inner
            _LOCAL.inner = outer + took

    return wrapper


class _Connection(sqlite3.Connection):
    execute = timed("SQLite", sqlite3.Connection.execute)
    executemany = timed("SQLite", sqlite3.Connection.executemany)


def install() -> None:
    """Put the timers in."""
    from exchange import admission, envelope, policy, report
    from exchange.desk import contents, opening, sealing
    from keys import suite

    setattr(sqlite3, "connect", functools.partial(sqlite3.connect, factory=_Connection))  # noqa: B010
    wraps: list[tuple[str, Any, str]] = [
        ("signature", suite, "verify"),
        ("signature", suite.SigningKey, "sign"),
        ("wrap", suite, "wrap"),
        ("wrap", suite.CardKey, "unwrap"),
        ("AEAD", suite, "aead_seal"),
        ("AEAD", suite, "aead_open"),
        ("hash", envelope, "items_root"),
        ("hash", envelope, "envelope_id"),
        ("envelope, rest", envelope, "seal"),
        ("envelope, rest", envelope, "open_whole"),
        ("envelope, rest", envelope, "outside"),
        ("policy", admission.Admission, "admit"),
        ("policy", policy, "audience"),
        ("report rules", report, "encode"),
        ("report rules", report, "clean_message"),
    ]
    wraps += [("protobuf", module, "parse_canonical") for module in (envelope, contents, opening, sealing)]
    wraps += [("protobuf", envelope, "canonical_bytes")]
    for stage, owner, name in wraps:
        # A stage that is called otherwise by now must fail here: else it would silently count as "rest".
        setattr(owner, name, timed(stage, getattr(owner, name)))


def main() -> None:
    """Run a module under timers."""
    out, module = Path(sys.argv[1]), sys.argv[2]
    sys.argv = sys.argv[2:]
    install()
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        out.write_text(json.dumps({"total_s": time.process_time(), "stages": SECONDS}))


if __name__ == "__main__":
    main()
