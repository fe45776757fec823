"""Simulated disks fail as disks do: in the middle of a write, not after it."""

import sqlite3
from pathlib import Path
from random import Random
from typing import Any

from tests.simulation import disks


class _Drawn(Random):
    """Draws what it is given."""

    def __init__(self, steps: int) -> None:
        super().__init__(0)
        self._steps = steps

    def randrange(self, *_: Any) -> int:
        return self._steps


def test_a_write_that_looks_failed_is_not_kept_and_what_only_looks_never_fails(tmp_path: Path) -> None:
    outcomes = set()
    for steps in range(1, 60):
        connection = sqlite3.connect(tmp_path / f"{steps}.db", isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE said (what)")
        disks.fail_once(connection, _Drawn(steps))
        assert connection.execute("SELECT count(*) FROM said").fetchone() == (0,)
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO said VALUES (1)")
            connection.execute("COMMIT")
            failed = False
        except sqlite3.OperationalError:
            failed = True
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        assert connection.execute("SELECT count(*) FROM said").fetchone() == (0 if failed else 1,)
        connection.close()
        outcomes.add(failed)
    assert outcomes == {True, False}
