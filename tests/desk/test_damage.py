"""Bits that the disk flipped in a desk's file: named, and none of the others is lost for it."""

import sqlite3
from contextlib import closing

import pytest

from exchange.desk import DiskFailed
from tests.desk.memory import Exchange
from tests.desk.test_couriers import SEOUL, read, send


def flip(exchange: Exchange, table: str, column: str) -> None:
    """A bit of what is kept of the second envelope that was read."""
    with closing(sqlite3.connect(exchange.directories[SEOUL] / "desk.db")) as file:
        (identity,) = file.execute("SELECT id FROM received ORDER BY position LIMIT 1 OFFSET 1").fetchone()
        (value,) = file.execute(f"SELECT {column} FROM {table} WHERE id = ?", (identity,)).fetchone()
        changed = bytes([*value[:40], value[40] ^ 4, *value[41:]])
        file.execute(f"UPDATE {table} SET {column} = ? WHERE id = ?", (changed, identity))
        file.commit()


@pytest.mark.parametrize(("table", "column"), [("content", "locked"), ("content", "outer"), ("received", "header")])
async def test_one_that_changed_is_named_and_the_others_are_shown(exchange: Exchange, table: str, column: str) -> None:
    for text in ("one", "two", "three"):
        await send(exchange, text)
    async with exchange.open(SEOUL) as desk:
        assert await read(desk) == ["one", "two", "three"]
    flip(exchange, table, column)
    desk = exchange.open(SEOUL)
    assert [d.report.summary[0].text for d in desk.inbox("minerals")] == ["one", "three"]
    assert [event for event in desk.events() if isinstance(event, DiskFailed)]
    (bad,) = [finding.text for finding in desk.audit() if finding.bad]
    assert "the disk changed it" in bad
    # Reading goes on.
    await send(exchange, "four")
    assert await read(desk) == ["four"]
    desk.close()
