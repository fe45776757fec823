"""Both countries under a seeded scheduler: the invariants hold whatever happens, and a seed replays exactly."""

import asyncio

import pytest

from tests.simulation import mutants
from tests.simulation.__main__ import outcome
from tests.simulation.exchange import Simulation, simulate
from tests.simulation.scenarios import talk_through_trouble

WRITERS = ("kr.the-hague/economic", "nl.bz/supply")
SEEDS, PORTIONS = 300, 10


async def _talk(sim: Simulation) -> None:
    for number in range(5):
        for writer in WRITERS:
            await sim.say(writer, number)
        await asyncio.sleep(sim.loop.random.random())
    await sim.settle()


def test_all_arrives_once_in_order_when_nothing_fails() -> None:
    sim = simulate(_talk, seed=1)
    for reader, given in sim.order.items():
        for writer in WRITERS:
            numbers = [sim.said[one].number for one in given if sim.said[one].desk == writer]
            assert numbers == (sorted(numbers) if writer != reader else [])
            assert len(numbers) == (5 if writer != reader else 0)
    assert all(count == 1 for seen in sim.arrived.values() for count in seen.values())


@pytest.mark.parametrize("portion", range(PORTIONS))
def test_the_invariants_hold_through_trouble(portion: int) -> None:
    for seed in range(portion, SEEDS, PORTIONS):
        _, error = outcome(seed)
        assert not error, f"replay: make soak SEEDS=1 FIRST={seed}\n{error}"


def test_a_hostile_node_that_replays_gives_nothing_twice() -> None:
    for seed in range(10):
        simulate(talk_through_trouble, seed=seed, kind=mutants.Replays)


@pytest.mark.parametrize(
    "planted", [mutants.CursorOutsideTheTransaction, mutants.ReceiptBeforeFsync, mutants.MissingReplayCheck]
)
def test_a_planted_bug_is_found(planted: type[Simulation]) -> None:
    assert any(outcome(seed, planted.__name__)[1] for seed in range(200))


def test_a_seed_replays_exactly() -> None:
    def steps(seed: int) -> list[tuple[str, bytes]]:
        sim = simulate(talk_through_trouble, seed=seed)
        return [*sim.order.items(), (str(sim.loop.steps), b"")]  # type: ignore[list-item]

    assert steps(5) == steps(5)
