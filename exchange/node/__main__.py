"""`python -m exchange.node DIRECTORY`: the bare process, as a service manager starts it."""

import sys
from pathlib import Path

from exchange.node.app import App, serve

if __name__ == "__main__":
    directory = Path(sys.argv[1])
    ready = directory / "node.ready"
    ready.unlink(missing_ok=True)
    # Whoever starts us waits for this file: it appears once both listeners serve.
    serve(App(directory), ready=ready.touch)
