"""Every key of the system is replaced and the agreement amended while desks of both countries publish without a pause.

Two nodes and four desks on loopback, with TLS and SQLite, in one process whose clock the test turns through some forty
days. Documents go from the ministries into the nodes' bundles, and from node to node and desk as ever.
"""

import asyncio
from pathlib import Path

import pytest
from typer.testing import CliRunner

from exchange import cli
from exchange.demo.found import NODES
from exchange.desk.events import Conflict, Gap, Refused, Stale
from keys import courier
from keys.trust import party_of
from keys.windows import Kind
from tests.rotation.clock import DAY_MS
from tests.rotation.exchange import DESKS, GROUP, Exchange, exchange
from tests.rotation.ministry import amend

__all__ = ["exchange"]
DAYS = 44
STEP_H = 6
PACE_S = 0.05


def prepare_node(exchange: Exchange, party: str, kind: str, tmp_path: Path) -> bytes:
    """As the node's administrator does, while it runs."""
    out = tmp_path / f"{party}.{kind}"
    done = CliRunner().invoke(cli.app, ["node", "prepare", kind, str(exchange.founded.node(party)), "--out", str(out)])
    assert done.exit_code == 0, done.output
    return out.read_bytes() if kind == "tls-ca" else bytes.fromhex(out.read_text())


def day_0(exchange: Exchange, tmp_path: Path) -> None:
    for party, ministry in exchange.ministries.items():
        ministry.replace_role(Kind.STATUS)
        ministry.plan(Kind.LOG, prepare_node(exchange, party, "log", tmp_path), NODES[party])
        ministry.plan(Kind.TLS_CA, prepare_node(exchange, party, "tls-ca", tmp_path), NODES[party])
    for desk in DESKS:
        exchange.ministries[party_of(desk)].plan(Kind.DESK, exchange.prepare_desk(desk), desk)


def day_1(exchange: Exchange) -> None:
    for ministry in exchange.ministries.values():
        ministry.replace_role(Kind.ROOT)
    first_use_ms = exchange.clock() + 10 * DAY_MS
    exchange.carry(courier.new(GROUP, first_use_ms=first_use_ms // 1000 * 1000))


def day_6(exchange: Exchange) -> None:
    """Signed by the new roots of both; in force once everybody has it."""
    document = amend(exchange.ministries.values(), exchange.clock() + 4 * DAY_MS)
    exchange.ministries["kr"].publish(document)


def day_21(exchange: Exchange) -> None:
    for ministry in exchange.ministries.values():
        ministry.replace_role(Kind.ROSTER)


@pytest.mark.timeout(400)  # some 60 s of CPU
async def test_every_key_and_the_agreement_change_under_traffic(exchange: Exchange, tmp_path: Path) -> None:
    async with exchange.running():
        exchange.tasks += [asyncio.create_task(exchange.publish_on(desk, every_s=0.2)) for desk in DESKS]
        before = exchange.key_ids()
        plan = {0: lambda: day_0(exchange, tmp_path), 1: lambda: day_1(exchange), 6: lambda: day_6(exchange)}
        plan[21] = lambda: day_21(exchange)
        for step in range(DAYS * 24 // STEP_H):
            if step * STEP_H % 24 == 0 and step * STEP_H // 24 in plan:
                plan[step * STEP_H // 24]()
            await exchange.turn(STEP_H, pace_s=PACE_S)
        for task in exchange.tasks[-len(DESKS) :]:
            task.cancel()
        for desk in exchange.desks.values():
            await desk.flush(30)
        await exchange.until(lambda: not any(exchange.missing().values()), f"lost: {exchange.missing()}")
        await asyncio.sleep(1)
        exchange.work()
        after, held = exchange.key_ids(), exchange.secrets_held()
        check_traffic(exchange)
        check_keys(exchange, before, after, held)


def check_traffic(exchange: Exchange) -> None:
    assert len(exchange.said) > 300
    for name, reader in exchange.readers.items():
        wanted = {identity for identity, sender in exchange.said.items() if sender != name}
        assert wanted <= set(reader.given), f"{name} lacks something"
        assert set(reader.given) <= exchange.begun, f"{name} was given what nobody said"
        assert set(reader.given.values()) == {1}, f"{name} was given a report twice"
        assert [str(e) for _, e in reader.events if isinstance(e, Refused | Conflict | Gap)] == [], name
        assert [day for day, e in reader.events if isinstance(e, Stale)] == [], name
        assert reader.agreements == {1, 2}, "the amendment came into force"
    for name, desk in exchange.desks.items():
        assert desk.archive.waiting() == desk.archive.stuck() == 0, name


def check_keys(
    exchange: Exchange, before: dict[str, bytes], after: dict[str, bytes], held: dict[str, set[bytes]]
) -> None:
    assert before.keys() == after.keys()
    assert [name for name in before if before[name] in after.values()] == []
    for ministry in exchange.ministries.values():
        assert len(ministry.finished) == len(ministry.plans) == 7
    old = set(before.values())
    assert {name: kept & old for name, kept in held.items() if kept & old} == {}, "old secrets are destroyed"
