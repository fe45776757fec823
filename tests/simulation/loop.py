"""A deterministic event loop: virtual time, no sockets, no sleeping. The same seed gives the same run, step for step."""

import asyncio
import hashlib
import heapq
import random
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from tests.simulation.stand_ins import seeded

T = TypeVar("T")
START_MS: Final = 1_790_000_000_000
"""Virtual time zero, ms UTC: that of tests.world."""


class DeadlockError(AssertionError):
    """Nothing is ready and no timer is set: whoever waits will wait for ever."""


class TooLongError(AssertionError):
    """The run takes more steps than it may: something spins."""


class SimulatedLoop(asyncio.BaseEventLoop):
    """Runs callbacks in the order asyncio promises and jumps from timer to timer.

    Chance enters through `random` alone: the network, the workers and the faults draw their delays from it.

    Args:
        seed: Of `random`.
        max_steps: Callbacks after which the run is called endless.
    """

    def __init__(self, seed: int, *, max_steps: int = 2_000_000) -> None:
        super().__init__()
        self.random = random.Random(seed)
        self.steps = 0
        self.watchers: list[Callable[[], None]] = []
        """Called before each step: what must hold, and faults that strike between any two awaits."""
        self.calendar_ms = START_MS
        """UTC at virtual time zero; faults move it on, as days pass in which nothing happens."""
        self._trace = hashlib.sha256()
        self._virtual_s = 0.0
        self._max_steps = max_steps
        self.unhandled: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.unhandled.append(context))

    def time(self) -> float:
        """Virtual seconds since the run began."""
        return self._virtual_s

    def now_ms(self) -> int:
        """Virtual time as the product's clocks give it, ms UTC."""
        return self.calendar_ms + round(self._virtual_s * 1000)

    def note(self, *what: object) -> None:
        """Add an event to the trace, with its step and time."""
        self._trace.update(repr((self.steps, self._virtual_s, *what)).encode())

    def trace(self) -> str:
        """Digest of all that was noted and of the steps it took: equal for two runs that are the same."""
        self.note("end")
        return self._trace.hexdigest()

    def _process_events(self, event_list: object) -> None:
        """There are no sockets."""

    def _write_to_self(self) -> None:
        """There is no other thread to wake us."""

    def _run_once(self) -> None:
        ready, scheduled = self._ready, self._scheduled  # type: ignore[attr-defined]
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
        if not ready:
            if self._stopping:  # type: ignore[attr-defined]
                return
            if not scheduled:
                raise DeadlockError("every task waits for another")
            self._virtual_s = max(self._virtual_s, scheduled[0]._when)
        while scheduled and scheduled[0]._when <= self._virtual_s:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            ready.append(handle)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            self.steps += 1
            if self.steps > self._max_steps:
                raise TooLongError(f"{self.steps} steps by virtual second {self._virtual_s:.1f}")
            for watch in tuple(self.watchers):
                watch()
            handle._run()


def run(main: Callable[[SimulatedLoop], Coroutine[Any, Any, T]], *, seed: int, max_steps: int = 2_000_000) -> T:
    """Run a coroutine to its end on a loop of its own; what nobody handled fails the run."""
    loop = SimulatedLoop(seed, max_steps=max_steps)
    asyncio.set_event_loop(loop)
    try:
        with seeded(seed):
            return _run_to_its_end(loop, main)
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def _run_to_its_end(loop: SimulatedLoop, main: Callable[[SimulatedLoop], Coroutine[Any, Any, T]]) -> T:
    result = loop.run_until_complete(main(loop))
    # Sorted: a set's order is that of addresses.
    pending = sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name())
    for task in pending:
        task.cancel()
    if pending:
        loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
    if loop.unhandled:
        raise AssertionError(f"nobody handled: {loop.unhandled[0]}")
    return result


class InlineWorkers:
    """Workers without threads: the function runs on the loop, after a moment of virtual time drawn from its chance.

    Args:
        loop: Whose chance and time.
        longest_s: A piece of work seems to take up to this long.
    """

    def __init__(self, loop: SimulatedLoop, *, longest_s: float = 0.004) -> None:
        self._loop, self._longest_s = loop, longest_s

    async def run(self, func: Callable[..., T], /, *args: object) -> T:
        """Before and after the work others get their turn, as with a thread."""
        await asyncio.sleep(self._loop.random.random() * self._longest_s)
        result = func(*args)
        await asyncio.sleep(self._loop.random.random() * self._longest_s)
        return result

    def close(self) -> None:
        """Nothing to join."""
