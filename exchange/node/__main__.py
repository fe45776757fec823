"""`python -m exchange.node DIRECTORY`: the bare process, as a service manager starts it."""

import asyncio
import contextlib
import sys
from pathlib import Path

from exchange.node.app import App

if __name__ == "__main__":
    with contextlib.suppress(ImportError):
        import uvloop

        uvloop.install()
    asyncio.run(App(Path(sys.argv[1])).run(ready=lambda: print("ready", flush=True)))
