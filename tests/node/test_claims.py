"""What others say of a log is kept for each of them: nobody fills the place of another."""

from pathlib import Path

import pytest

from exchange import checkpoint
from exchange.errors import LogForkError
from exchange.history import Seen
from exchange.node import claims, clashes
from exchange.node.claims import Claims
from exchange.node.clashes import Clashes
from exchange.store.sqlite import SqliteStore
from exchange.workers import ThreadWorkers
from keys import suite

KEY = suite.SigningKey.generate(suite.DESK_SUITE)


def head(node: str, root: int) -> bytes:
    return checkpoint.sign(f"tocsin/{node}/1", 5, bytes([root]) * 32, KEY, name=node, time_ms=1)


def test_no_party_pushes_out_what_another_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "MAX_CLAIMS", 3)
    store = SqliteStore(tmp_path / "log.db")
    said = Claims("tocsin/kr.x-1/1", store)
    for number in range(9):
        said.note(f"nl.m{number}/desk", 10, 5)
        said.doubt(f"nl.m{number}/desk", Seen.of(head("kr.x-1", 1)).head)
    said.note("kr.m/desk", 10, 5)
    said.note("nl.m0/desk", 12, 5)
    said.doubt("kr.m/desk", Seen.of(head("kr.x-1", 1)).head)
    assert said.sizes == {"nl.m0/desk": 12, "nl.m1/desk": 10, "nl.m2/desk": 10, "kr.m/desk": 10}
    assert list(said.doubted) == ["nl.m0/desk", "nl.m1/desk", "nl.m2/desk", "kr.m/desk"]
    store.close()


async def test_no_node_fills_the_place_of_the_clashes_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clashes, "MAX_CLASHES", 3)
    store, workers = SqliteStore(tmp_path / "log.db"), ThreadWorkers(1, name="t")
    held = Clashes(store, workers)
    for root in range(1, 9):
        await held.keep(LogForkError("two", seen=head("nl.y-1", 0), shown=head("nl.y-1", root)))
    for root in range(1, 3):
        await held.keep(LogForkError("two", seen=head("be.z-1", 0), shown=head("be.z-1", root)))
    assert [clash.node for clash in held.held] == ["nl.y-1"] * 3 + ["be.z-1"] * 2
    again = Clashes(store, workers)
    again.load()
    assert again.held == held.held
    workers.close()
    store.close()
