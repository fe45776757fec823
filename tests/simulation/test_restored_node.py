"""A node whose disk comes back from a backup, under a few seeds; `make soak SCENARIO=restored` runs many."""

from tests.simulation.__main__ import outcome, quietly

SEEDS = (0, 1, 6)


def test_nothing_is_lost_when_a_node_comes_back_from_a_backup() -> None:
    quietly()
    for seed in SEEDS:
        _, error = outcome(seed, "Simulation", "restored")
        assert not error, f"replay: make soak SEEDS=1 FIRST={seed} SCENARIO=restored\n{error}"
