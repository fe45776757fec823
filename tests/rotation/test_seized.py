"""A mission is seized, a key is revoked: known everywhere in seconds, to whoever was away when he is back."""

import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from exchange import files
from exchange.desk import Desk
from exchange.desk.events import Refused
from exchange.v1 import exchange_pb2 as pb
from keys import incident, panic
from keys.documents import Document
from keys.keystore import KeystoreError
from keys.states import Revoked
from keys.trust import Trust
from tests.rotation.clock import Clock
from tests.rotation.exchange import DESKS, Exchange, two_channels

HAGUE, MOTIE = "kr.the-hague/economic", "kr.motie/supply"
BZ, SEOUL = "nl.bz/supply", "nl.seoul/economic"
AT_ONCE_S = 60.0


@pytest.fixture
def exchange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Exchange:
    """By the real clock: how fast it is counts."""
    two_channels(monkeypatch)
    return Exchange.found(tmp_path, Clock())


def key_of(exchange: Exchange, desk: str) -> bytes:
    (key,) = exchange.ministries[desk[:2]].trust.roster(desk[:2]).desks[desk].keys
    return key


async def known(exchange: Exchange, trusts: Iterable[Trust], desk: str, key: bytes) -> float:
    """Seconds until all of them know that a key ended."""
    began, members = time.monotonic(), list(trusts)
    await exchange.until(lambda: all(trust.key_ended(desk, key) for trust in members), "the end of a key, everywhere")
    return time.monotonic() - began


def machines(exchange: Exchange) -> list[Trust]:
    return [app.trust for app in exchange.apps.values()] + [desk.trust for desk in exchange.desks.values()]


async def renounce(exchange: Exchange) -> dict[Path, bytes]:
    """Panic at HAGUE; a colleague sends what is left of it to the node. What a thief copied the night before."""
    saved: list[Document] = []
    file = exchange.founded.desk(HAGUE) / "desk.keys"
    copied = {each: each.read_bytes() for each in (file, file.with_name("desk.keys.key"))}
    done = panic.panic(
        file, b"", HAGUE, lineage=exchange.founded.lineage, now_ms=exchange.clock(), reason="seized", save=saved.extend
    )
    assert not file.exists()
    assert list(done.renunciations) == saved
    stub = await exchange.desks[MOTIE]._link.stub()
    answer = await stub.PutDocuments(pb.PutDocumentsRequest(documents=[d.encode() for d in saved]))
    assert [result.rule for result in answer.results] == [""] * len(saved)
    return copied


async def test_panic_reaches_the_other_country_at_once(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    async with exchange.running():
        first = await exchange.publish(HAGUE)
        await exchange.until(lambda: not any(exchange.missing().values()), "the first report")
        key = key_of(exchange, HAGUE)
        copied = await renounce(exchange)
        assert await known(exchange, machines(exchange), HAGUE, key) < AT_ONCE_S
        with pytest.raises(KeystoreError):
            await exchange.publish(HAGUE)
        for file, data in copied.items():
            file.touch(0o600)
            file.write_bytes(data)
        stolen = await exchange.publish(HAGUE)
        thief = exchange.desks[HAGUE]
        await exchange.until(lambda: thief.archive.stuck() or refusals(exchange), "a refusal")
        assert {event.rule for event in refusals(exchange)} == {"SENDER_ENDED"}
        honest = await exchange.publish(MOTIE)
        for name in (BZ, SEOUL):
            await exchange.until(lambda name=name: exchange.readers[name].given[honest], "colleagues go on")  # type: ignore[misc]
            assert (exchange.readers[name].given[first], exchange.readers[name].given[stolen]) == (1, 0)
        # Off: nobody asks whether a key has ended.
        monkeypatch.setattr(Trust, "key_ended", lambda *_: None)
        again = await exchange.publish(HAGUE)
        await exchange.until(lambda: exchange.readers[SEOUL].given[again], "without the check it is believed")


def refusals(exchange: Exchange) -> list[Refused]:
    exchange.work()
    return [event for _, event in exchange.readers[HAGUE].events if isinstance(event, Refused)]


async def test_a_revocation_is_everywhere_in_seconds_and_with_the_absent_when_they_are_back(exchange: Exchange) -> None:
    present = tuple(desk for desk in DESKS if desk != SEOUL)
    async with exchange.running(desks=present):
        ministry, key = exchange.ministries["kr"], key_of(exchange, HAGUE)
        made = incident.end(
            ministry.trust, HAGUE, Revoked(), reason="lost", now_ms=exchange.clock(), sign=ministry.sign
        )
        assert all(each.complete for each in made)
        for each in made:
            ministry.trust.take(each.document, now_ms=exchange.clock())
        files.save_bundle(ministry.node_bundle, ministry.trust.documents())
        assert await known(exchange, machines(exchange), HAGUE, key) < AT_ONCE_S
        async with Desk.open(exchange.founded.desk(SEOUL)) as back:
            assert back.trust.key_ended(HAGUE, key) is None
            assert await known(exchange, [back.trust], HAGUE, key) < AT_ONCE_S
