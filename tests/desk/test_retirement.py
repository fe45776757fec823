"""A desk whose people say that another exchange took its one's place: it says nothing more, and forgets nothing."""

import asyncio
import json
from pathlib import Path

import pytest

from exchange import envelope, files, retirement
from exchange.evidence import verify
from exchange.retire_cli import desk_retire
from exchange.v1 import exchange_pb2 as pb
from exchange.v1 import report_pb2 as rep
from keys import founding, words
from keys.documents import Document
from keys.errors import UsageError
from keys.succession import NotSuccessorError
from keys.trust import DeadLineageError
from tests.desk import memory
from tests.desk.memory import Exchange
from tests.desk.test_couriers import HAGUE, SEOUL, read, said, send
from tests.world import NOON


def anew(exchange: Exchange) -> list[Document]:
    """Korea drew new roots; what `tocsin-keys agreement publish` writes."""
    kr = founding.found_party("kr", now_ms=NOON)
    body = founding.standard_agreement(now_ms=NOON, title="anew")
    body.dead_lineages.append(exchange.world.lineage)
    signed = founding.agreement(body, [kr, exchange.world.parties["nl"]])
    return [kr.document, exchange.world.parties["nl"].document, signed]


def retire(exchange: Exchange, desk: str) -> bytes:
    """As `tocsin desk retire`; the new lineage."""
    found, opened = anew(exchange), exchange.open(desk)
    encoded, lineage = [document.encode() for document in found], found[-1].digest
    retirement.retire(opened.directory, opened.trust, desk, encoded, lineage, now_ms=exchange.clock())
    opened.close()
    return lineage


async def test_it_publishes_nothing_more_and_what_it_holds_stays_good(exchange: Exchange) -> None:
    identity = await send(exchange, "plenty")
    async with exchange.open(SEOUL) as reader:
        assert await read(reader) == ["plenty"]
    new, other = retire(exchange, SEOUL), retire(exchange, HAGUE)
    async with exchange.open(HAGUE) as desk:
        with pytest.raises(DeadLineageError) as refused:
            await desk.publish("minerals", said("scarce"))
        assert other.hex() in refused.value.hint
        # Nothing else of it is said either: not an answer, not what a timer would say.
        with pytest.raises(DeadLineageError):
            await desk.publish("minerals", rep.Item(acknowledgement=rep.Acknowledgement()), answers=identity)
        header = desk.archive.header_of(identity)
        assert header is not None
        outcome = await desk._sending.sealing.seal_expired([(identity, header)])
        assert isinstance(outcome[0][1], DeadLineageError)
        assert await desk.flush(1) == 0
    # What is held is read and proved as before, for ever.
    async with exchange.open(SEOUL) as reader:
        assert reader.trust.death is not None, "kept"
        assert reader.trust.death.successor == new
        [delivery] = reader.inbox("minerals")
        data, _ = await reader.evidence(delivery.envelope, 0, ask=False)
    proof = verify.verify(data, exchange.world.lineage)
    assert rep.Item.FromString(proof.item).report.summary[0].text == "plenty"


async def test_a_node_that_was_told_first_keeps_a_desk_waiting_and_says_why(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(request: pb.PublishRequest) -> pb.PublishResponse:
        response = pb.PublishResponse()
        for data in request.envelopes:
            response.results.add(id=envelope.parse(data).id, rule="LINEAGE_DEAD", text="another took its place")
        return response

    monkeypatch.setattr(memory._Stub, "Publish", lambda _: memory._Call(refuse))
    async with exchange.open(HAGUE) as desk:
        identity = await desk.publish("minerals", said("scarce"))
        async with asyncio.timeout(20):
            while "LINEAGE_DEAD" not in desk.state:
                await asyncio.sleep(0.02)
        # It is not sealed again and again: no seal of it is ever taken there.
        assert [row.id for row in desk.archive.outgoing(0, 16)] == [identity]
        assert desk.state == "LINEAGE_DEAD: another took its place"


async def test_the_command_compares_the_words_and_says_what_is_left_unsent(
    exchange: Exchange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(memory._Stub, "Publish", lambda _: memory._Call(lambda _: pb.PublishResponse()))
    async with exchange.open(HAGUE) as desk:
        await desk.publish("minerals", said("scarce"))
    found, directory, path = anew(exchange), exchange.directories[HAGUE], tmp_path / "anew.bundle"
    files.save_bundle(path, found)
    spoken = " ".join(words.words(found[-1].digest))
    with pytest.raises(UsageError, match="is not a word of the list"):
        desk_retire(directory, path, f"{spoken} misheard")
    with pytest.raises(NotSuccessorError, match="has other words"):
        desk_retire(directory, path, " ".join(words.words(bytes(32))))
    for dry_run in (True, False):
        desk_retire(directory, path, spoken, dry_run=dry_run, as_json=True)
        done = json.loads(capsys.readouterr().out)
        assert done == {
            "name": HAGUE,
            "dead": exchange.world.lineage.hex(),
            "successor": found[-1].digest.hex(),
            "waiting": 1,
            "dry_run": dry_run,
        }
        assert (directory / retirement.SUCCESSOR).exists() is not dry_run
    desk_retire(directory, path, spoken)
    assert "1 envelopes wait in the outbox; no node takes them any more" in " ".join(capsys.readouterr().err.split())
