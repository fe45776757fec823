"""Some seconds of hostile traffic in the suite; `make faults` does ten minutes."""

from pathlib import Path

from tests.faults import flood


async def test_honest_reports_come_through_a_flood(tmp_path: Path) -> None:
    with flood.crowded(tmp_path / "exchange") as place:
        figures = await flood.run(place, seconds=6, idle=40)
    assert figures["honest_reports"] > 5
    assert figures["memory_mb"]["most"] < 350
    did = figures["hostile"]
    for kind in ("slow readers", "slow writers", "calls of Publish", "handshakes not finished"):
        assert did.get(kind), f"{kind}: {did}"
