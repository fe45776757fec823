"""One process works with a desk at a time; others may look into it."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from exchange.desk.tenure import DeskInUseError
from tests.desk.memory import Exchange

HAGUE = "kr.the-hague/economic"
HOLDER = """
import sys, time
from pathlib import Path
from exchange.desk.tenure import Tenure
held = Tenure(Path(sys.argv[2]))
held.begin()
print("held", flush=True)
time.sleep(60)
"""


async def test_a_desk_at_work_is_worked_with_by_nobody_else_and_says_who_works(exchange: Exchange) -> None:
    async with exchange.open(HAGUE):
        second = exchange.open(HAGUE)
        with pytest.raises(DeskInUseError, match=f"process {os.getpid()}, since") as refused:
            async with second:
                pass
        assert "a desk of its own" in str(refused.value.hint)
        # Looking into it stays free.
        looking = exchange.open(HAGUE)
        assert looking.inbox() == []
        looking.close()
    async with exchange.open(HAGUE) as third:
        assert third.name == HAGUE


async def test_another_process_holds_it_until_it_is_killed(exchange: Exchange) -> None:
    database = Path(exchange.directories[HAGUE]) / "desk.db"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, "--secret=1", str(database), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"held\n"
    with pytest.raises(DeskInUseError, match=f"process {process.pid}") as refused:
        async with exchange.open(HAGUE):
            pass
    assert "secret" not in str(refused.value)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    async with exchange.open(HAGUE) as desk:
        assert desk.name == HAGUE
