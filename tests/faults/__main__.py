"""Real faults, long, with real processes and files. Prints figures; ends with an error where something does not hold."""

import argparse
import asyncio
import json
import resource
import tempfile
from pathlib import Path
from typing import Any

from tests.faults import flood, kills, stops
from tests.faults.place import place


def main() -> None:
    """Runs on files in a new directory, which stays for a look around."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="how many processes are killed; 0 = not this run")
    parser.add_argument("--seed", type=int, default=0, help="chooses victims and moments")
    parser.add_argument(
        "--stand", type=int, default=45, help="seconds for which a node and a desk are stopped; 0 = not this run"
    )
    parser.add_argument("--flood", type=int, default=600, help="seconds of hostile traffic; 0 = not this run")
    parser.add_argument("--idle", type=int, default=1000, help="idle subscribers during it")
    given = parser.parse_args()
    # A thousand subscribers, each with a connection, at both ends.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    home = Path(tempfile.mkdtemp(prefix="tocsin-faults-"))
    print(f"files in {home}", flush=True)
    if given.kills:
        with place(home / "kills") as both:
            tell("kills", asyncio.run(kills.run(both, kills=given.kills, seed=given.seed)))
    if given.stand:
        with place(home / "stops") as both:
            tell("stops", asyncio.run(stops.run(both, stand_s=given.stand)))
    if given.flood:
        with flood.crowded(home / "flood") as both:
            tell("flood", asyncio.run(flood.run(both, seconds=given.flood, idle=given.idle)))


def tell(what: str, figures: dict[str, Any]) -> None:
    """Prints."""
    print(json.dumps({what: figures}, indent=2), flush=True)


if __name__ == "__main__":
    main()
