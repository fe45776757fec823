"""The one seam for threads: work that blocks (disk, signatures) leaves the event loop through here and nowhere else.

A simulation passes workers that run the call where they are asked, on a loop whose time is its own, so that a seed
replays exactly.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar, TypeVarTuple

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


class Workers(Protocol):
    """Where calls that block are run."""

    async def run(self, func: Callable[[*Arguments], T], /, *args: *Arguments) -> T:
        """The result of `func(*args)`; what it raises is raised here. A cancelled wait does not stop the call."""


class ThreadWorkers:
    """Real threads. With one thread calls run in the order they were asked for, one at a time.

    Args:
        threads: At most this many; made when first needed. What finds none free waits its turn.
        name: Of the threads, for whoever looks at the process.
    """

    def __init__(self, threads: int, *, name: str) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)

    async def run(self, func: Callable[[*Arguments], T], /, *args: *Arguments) -> T:
        """See Workers."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, func, *args)

    def close(self) -> None:
        """Wait until what was asked for is done; nothing more may be asked for."""
        self._pool.shutdown(wait=True)
