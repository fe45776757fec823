"""A few kills in the suite; `make faults` does two hundred and more."""

from pathlib import Path

from tests.faults import kills
from tests.faults.place import HAGUE, SEOUL, place


async def test_what_was_acknowledged_survives_kills_of_nodes_and_desks(tmp_path: Path) -> None:
    with place(tmp_path / "exchange") as both:
        figures = await kills.run(both, kills=4, seed=3, desks=(HAGUE, SEOUL))
    assert figures["reports"] > 20
    assert sum(figures["kills"].values()) >= 4
