"""The deterministic loop itself."""

import asyncio

import pytest

from tests.simulation.loop import DeadlockError, InlineWorkers, SimulatedLoop, TooLongError, run


def _trace(seed: int) -> list[tuple[int, float]]:
    seen: list[tuple[int, float]] = []

    async def main(loop: SimulatedLoop) -> None:
        workers = InlineWorkers(loop, longest_s=1.0)

        async def one(number: int) -> None:
            for _ in range(5):
                await workers.run(seen.append, (number, loop.time()))

        await asyncio.gather(*(one(number) for number in range(4)))

    run(main, seed=seed)
    return seen


def test_the_same_seed_gives_the_same_run_and_another_seed_another() -> None:
    assert _trace(7) == _trace(7)
    assert _trace(7) != _trace(8)


def test_an_hour_passes_at_once() -> None:
    async def main(loop: SimulatedLoop) -> float:
        await asyncio.sleep(3600)
        return loop.time()

    assert run(main, seed=1) == 3600


def test_a_timeout_fires_in_virtual_time() -> None:
    async def main(loop: SimulatedLoop) -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await asyncio.sleep(60)
        return loop.time()

    assert run(main, seed=1) == 30


def test_waiting_for_nobody_is_named() -> None:
    async def main(loop: SimulatedLoop) -> None:
        await loop.create_future()

    with pytest.raises(DeadlockError):
        run(main, seed=1)


def test_spinning_is_named() -> None:
    async def main(loop: SimulatedLoop) -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(TooLongError):
        run(main, seed=1, max_steps=10_000)


def test_an_error_nobody_handles_fails_the_run() -> None:
    async def main(loop: SimulatedLoop) -> None:
        loop.call_soon(lambda: 1 / 0)
        await asyncio.sleep(1)

    with pytest.raises(AssertionError, match="nobody handled"):
        run(main, seed=1)
