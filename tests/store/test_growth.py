"""What a commit writes must not grow with the log; counted in bytes, because times depend on the machine."""

import hashlib
from pathlib import Path

import pytest

from exchange.store.contract import NewEntry
from exchange.store.sqlite import SqliteStore

GROUP = 64


def group(start: int) -> list[NewEntry]:
    return [
        NewEntry(
            kind=1,
            id=hashlib.sha256(b"%d" % number).digest(),
            data=b"x" * 100,
            # Each of a group in another stream and lane: the worst case for an index that is written in the commit.
            stream=b"%016d" % (number % 500),
            seq=number // 500 + 1,
            channel="minerals",
            audience=(f"nl.m{number % 50}/x", "nl.z/y"),
            sender=f"kr.m{number % 10}/x",
        )
        for number in range(start, start + GROUP)
    ]


def test_a_commit_writes_the_same_however_long_the_log_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing is copied back, so the WAL grows by what is written.
    monkeypatch.setattr("exchange.store.keeper.CHECKPOINT_BYTES", 10**12)
    store = SqliteStore(tmp_path / "log.db")
    wal = tmp_path / "log.db-wal"
    written: list[int] = []
    for number in range(320):
        before = wal.stat().st_size
        store.append(group(number * GROUP))
        written.append(wal.stat().st_size - before)
    early, late = sum(written[20:60]), sum(written[-40:])
    store.close()
    assert late < 1.2 * early
    assert late / 40 < GROUP * 4096
