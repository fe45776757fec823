"""What one node took and the other refuses, through two real nodes: the refusal travels back, and its desk can prove it."""

import asyncio
import json
from pathlib import Path

from exchange.clock import now_ms
from exchange.demo.found import found
from exchange.desk import Desk, Refused
from exchange.node.app import App
from tests.cli.test_cli import tocsin
from tests.desk.test_desk import HAGUE, SEOUL, said
from tests.node.cluster import eventually

KR, NL = "kr.the-hague-1", "nl.seoul-1"
MINUTE_MS = 60_000


async def test_the_other_node_refuses_and_the_sender_is_shown_it_verified(tmp_path: Path) -> None:
    founded = found(tmp_path / "x", title="refused", clock=lambda: now_ms() - 60 * MINUTE_MS)
    async with (
        App(founded.node("kr")).serving() as kr,
        # Its clock is slow, and that of the desk is fast: no farther from that of the node between than the five minutes
        # that are agreed, but farther from each other.
        App(founded.node("nl"), clock=lambda: now_ms() - 3 * MINUTE_MS).serving() as nl,
    ):
        async with Desk.open(founded.desk(HAGUE), clock=lambda: now_ms() + 4 * MINUTE_MS) as sender:
            await sender.synchronise()
            identity = await sender.publish("minerals", said("is your clock right?"))
            assert await sender.flush(20) == 0
            assert kr.node.store.position_of(identity) is not None
            await eventually(lambda: nl.node.store.refusals())
            [record] = nl.node.store.refusals()
            assert (record.id, record.rule, record.origin) == (identity, "ENVELOPE_TIME", kr.node.origin)
            assert nl.node.store.position_of(identity) is None
            told = list[Refused]()

            def is_told() -> bool:
                told.extend(event for event in sender.events() if isinstance(event, Refused))
                return bool(told)

            reading = asyncio.create_task(_read(sender))
            await eventually(is_told)
            reading.cancel()
            assert [(one.id, one.rule, one.node) for one in told] == [(identity, "ENVELOPE_TIME", NL)]
            by = {reader.desk: reader.refused for reader in sender.track(identity).readers}
            assert by[SEOUL] is not None
            assert (by[SEOUL].node, by[SEOUL].rule) == (NL, "ENVELOPE_TIME")
        command = ("track", identity.hex(), "--desk", founded.desk(HAGUE), "--verify", "--json")
        done = await asyncio.to_thread(tocsin, *command)
        assert done.returncode == 0, done.stderr
        [shown] = json.loads(done.stdout)
        assert [(each["subject"], each["bad"]) for each in shown["verified"]] == [
            (f"taken by {KR}", False),
            (f"refused by {NL}", False),
        ]


async def _read(desk: Desk) -> None:
    async for _ in desk.subscribe("minerals"):
        pass
