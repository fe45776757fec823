"""Processes and directories of a measurement; each is gone when it is over."""

import asyncio
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
OUT: Final = ROOT / "bench" / "out"
END_S: Final = 10.0


def scratch(name: str) -> "tempfile.TemporaryDirectory[str]":
    """A directory under bench/out that goes away by itself.

    Everything measured writes here, ours and others': /tmp may be memory, where a flush costs nothing.
    """
    OUT.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(prefix=f"{name}-", dir=OUT)


@asynccontextmanager
async def child(*command: str, log: Path | None = None) -> AsyncIterator[asyncio.subprocess.Process]:
    """Runs one process from the project's root and ends it, and only it, on the way out.

    Args:
        command: Program and arguments.
        log: Where its standard error goes; None leaves it with ours.
    """
    talk = log.open("wb") if log else None
    try:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=ROOT, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=talk
        )
    finally:
        if talk:
            talk.close()
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), END_S)
        except TimeoutError:
            process.kill()
            await process.wait()


async def line(process: asyncio.subprocess.Process) -> str:
    """The next line the process prints.

    Raises:
        RuntimeError: It ended instead.
    """
    assert process.stdout is not None
    printed = (await process.stdout.readline()).decode().strip()
    if not printed:
        raise RuntimeError(f"a process of the measurement ended early, with exit code {await process.wait()}")
    return printed
