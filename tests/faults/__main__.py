"""Real faults, long: `python -m tests.faults kills 200`. Prints figures; exits by an error when something does not hold."""

import argparse
import asyncio
import json
import tempfile
from pathlib import Path

from tests.faults import kills
from tests.faults.place import place


def main() -> None:
    """One run, on real files in a directory that goes away unless something failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="how many processes are killed")
    parser.add_argument("--seed", type=int, default=0, help="chooses victims and moments")
    given = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="tocsin-faults-"))
    print(f"files in {home}", flush=True)
    with place(home / "exchange") as both:
        print(json.dumps(asyncio.run(kills.run(both, kills=given.kills, seed=given.seed)), indent=2), flush=True)


if __name__ == "__main__":
    main()
