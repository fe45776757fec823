"""`python -m exchange.node DIRECTORY`: the bare process, as a service manager starts it."""

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import TextIO, cast

from exchange.node.app import App
from exchange.talk import Talk

if __name__ == "__main__":
    with contextlib.suppress(ImportError):
        import uvloop

        uvloop.install()
    sys.stdout = cast("TextIO", Talk(sys.stdout))
    directory = Path(sys.argv[1])
    ready = directory / "node.ready"
    ready.unlink(missing_ok=True)
    # Whoever starts us waits for this file: it appears once both listeners serve.
    asyncio.run(App(directory).run(ready=ready.touch))
