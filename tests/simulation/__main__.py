"""Many seeds: `python -m tests.simulation 10000`. A seed that fails is printed with the command that replays it."""

import argparse
import functools
import itertools
import logging
import multiprocessing
import os
import sys
import time
import traceback
from typing import Final

import structlog

from tests.simulation import hostile, mutants, restored_node, scenarios
from tests.simulation.exchange import Scenario, Simulation, simulate, template
from tests.simulation.rotation import rotate_everything

KINDS: Final[dict[str, type[Simulation]]] = {
    kind.__name__: kind for kind in (Simulation, hostile.Hostile, *mutants.HARMLESS, *mutants.BUGS)
}
SCENARIOS: Final[dict[str, Scenario]] = {
    "trouble": scenarios.talk_through_trouble,
    "backups": scenarios.backups,
    "restored": restored_node.restored_node,
    "outage": scenarios.long_outage,
    "months": scenarios.months_apart,
    "lies": hostile.among_liars,
    "rotation": rotate_everything,
}


def outcome(seed: int, kind: str = "Simulation", scenario: str = "trouble") -> tuple[int, str]:
    """A seed and how it failed; empty when it did not."""
    try:
        simulate(SCENARIOS[scenario], seed=seed, kind=KINDS[kind])
    except Exception:
        return seed, traceback.format_exc()
    return seed, ""


def trace(seed: int, kind: str = "Simulation", scenario: str = "trouble") -> str:
    """What a seed does, as a digest: steps, times, what was said and given."""
    return simulate(SCENARIOS[scenario], seed=seed, kind=KINDS[kind]).loop.trace()


def quietly() -> None:
    """No log: runs fail on purpose all the time."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def main() -> int:
    """Run the seeds on every core; 0 when all of them hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seeds", type=int, nargs="?", default=1000, help="how many seeds")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--kind", choices=KINDS, default="Simulation", help="the product, or a bug planted in it")
    parser.add_argument(
        "--scenario", choices=SCENARIOS, default="trouble", help="what happens; lies need a kind that tells them"
    )
    parser.add_argument("--trace", action="store_true", help="print the digest of each run: steps, times, deliveries")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="how many at once")
    given = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":
        # Sets iterate by hash: without this the same seed is not the same run.
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.simulation", *sys.argv[1:]],
            {**os.environ, "PYTHONHASHSEED": "0"},
        )
    template()
    quietly()
    if given.trace:
        for seed in range(given.first, given.first + given.seeds):
            print(seed, trace(seed, given.kind, given.scenario))
        return 0
    failed, began = [], time.monotonic()
    seeds = range(given.first, given.first + given.seeds)
    with multiprocessing.get_context("fork").Pool(given.processes) as pool:
        results = pool.imap_unordered(
            functools.partial(outcome, kind=given.kind, scenario=given.scenario), seeds, chunksize=4
        )
        for done, (seed, error) in zip(itertools.count(1), results, strict=False):
            if error:
                failed.append(seed)
                last = error.strip().splitlines()[-1]
                replay = f"make soak SEEDS=1 FIRST={seed} KIND={given.kind} SCENARIO={given.scenario}"
                print(f"seed {seed}: {last}\n  replay: {replay}", flush=True)
                if given.seeds == 1:
                    print(error)
            if done % 100 == 0 or done == given.seeds:
                speed = (time.monotonic() - began) / done
                print(f"{done} of {given.seeds} seeds, {len(failed)} failed, {speed:.2f} s each", flush=True)
    print(f"{given.seeds} seeds, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
