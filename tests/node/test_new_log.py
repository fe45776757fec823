"""A node whose disk came back from a backup: it stands back, goes on in a new log, and cannot use that to hide anything."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from exchange import checkpoint, history
from exchange.clock import now_ms
from exchange.demo.found import found
from exchange.desk import Desk, NewLog
from exchange.desk.events import Clash
from exchange.envelope import Parsed
from exchange.errors import StoreError
from exchange.evidence import verify
from exchange.history import Seen
from exchange.node import follow, renewal
from exchange.node.app import App
from exchange.node.audit import audit
from exchange.node.directory import newest_log
from exchange.node.renewal import new_log
from exchange.v1 import exchange_pb2 as pb
from exchange.wire import UnreachableError
from keys import founding
from keys.documents import Document
from keys.errors import UsageError
from tests.cli.test_cli import tocsin
from tests.desk.test_desk import said, texts
from tests.node.cluster import NODES, Cluster, Identity, eventually, give, publish, read

KR, NL = NODES
SENDER, READER, COLLEAGUE = "kr.the-hague/economic", "nl.bz/supply", "kr.motie/supply"
Patch = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def impatient(monkeypatch: Patch) -> None:
    """Followers try again at once: what is tested is not how long they wait."""
    monkeypatch.setattr(follow, "BACKOFF_S", (0.05, 0.2))


@contextmanager
def lost(directory: Path) -> Iterator[None]:
    """What is written to a node's log inside is gone after it: its disk comes back from a copy made before."""
    kept = {path.name: path.read_bytes() for path in directory.glob("log.db*")}
    yield
    for path in directory.glob("log.db*"):
        path.unlink()
    for name, data in kept.items():
        (directory / name).write_bytes(data)


def held(app: App, *sealed: Parsed) -> bool:
    return all(app.node.store.position_of(each.id) is not None for each in sealed)


async def send(cluster: Cluster, identity: Identity, *sealed: Parsed) -> None:
    async with cluster.connect(identity) as stub:
        for response in await publish(stub, [each.data for each in sealed]):
            assert not any(result.rule for result in response.results), response


class Lost:
    """kr kept `old` and lost `new`, all of which nl took."""

    def __init__(self, cluster: Cluster, nl: App, identity: Identity, old: list[Parsed], new: list[Parsed]) -> None:
        self.cluster, self.nl, self.identity, self.old, self.new = cluster, nl, identity, old, new

    @property
    def directory(self) -> Path:
        return self.cluster.directory(KR)

    @property
    def seen(self) -> Seen:
        """What nl saw last of the logs of kr."""
        note = self.nl.node.store.note(self.nl.node.followed.of(KR))
        assert note is not None
        return Seen.of(note)


def newer_status(cluster: Cluster) -> Document:
    world = cluster.world
    return founding.status(
        world.parties["kr"],
        lineage=world.lineage,
        agreement=world.agreement,
        roster=world.rosters["kr"],
        version=2,
        now_ms=now_ms() - 1000,
    )


@asynccontextmanager
async def restored(cluster: Cluster) -> AsyncIterator[Lost]:
    trust = cluster.trust
    old, new = ([cluster.seal(trust, SENDER) for _ in range(3)] for _ in range(2))
    async with cluster.app(NL).serving() as nl:
        async with cluster.app(KR).serving() as kr:
            identity = await cluster.enrol(SENDER)
            await send(cluster, identity, *old)
            await eventually(lambda: held(nl, *old))
            # A log that is read from its start again begins with a status that was replaced since.
            await give(newer_status(cluster), kr)
        with lost(cluster.directory(KR)):
            async with cluster.app(KR).serving() as kr:
                await send(cluster, identity, *new)
                await eventually(lambda: nl.node.store.cursor(kr.node.origin) == kr.node.store.size())
        yield Lost(cluster, nl, identity, old, new)


async def test_a_restored_node_goes_on_in_a_new_log_and_nothing_is_lost(cluster: Cluster) -> None:
    async with restored(cluster) as was:
        seen = was.seen
        done = await new_log(was.directory)
        assert (done.origin, done.heads) == (f"tocsin/{KR}/2", {f"tocsin/{KR}/1": seen.head.size})
        assert done.fetched >= 3
        assert newest_log(was.directory).parent.name == "log-2"
        more = cluster.seal(cluster.trust, SENDER)
        async with cluster.app(KR).serving() as kr:
            assert kr.node.barred is None
            assert held(kr, *was.old, *was.new)
            await send(cluster, was.identity, more)
            await eventually(lambda: held(was.nl, more))
            await eventually(lambda: was.seen.head.size == kr.node.store.size())
            assert was.nl.node.clashes.held == []
            assert was.nl.node.store.refusals() == []
            # It is vouched for again, and what it says of itself is whole.
            await eventually(lambda: NL in kr.node.witnesses.held())
            assert was.seen.head.origin == checkpoint.parse(kr.node.witnesses.held()[NL]).origin == done.origin
            assert [finding for finding in await asyncio.to_thread(audit, kr.node) if finding.bad] == []
            async with cluster.connect(await cluster.enrol(READER)) as stub:
                entries = await read(stub, until=7)
                assert [entry.leaf for entry in entries] == [each.id for each in (*was.old, *was.new, more)]
        # Both keep to it after they start again.
        async with cluster.app(KR).serving() as kr:
            assert kr.node.origin == done.origin
            await eventually(lambda: was.nl._followers[KR][0].state == "following")


async def test_a_restored_node_takes_nothing_and_says_what_to_do(cluster: Cluster) -> None:
    async with restored(cluster) as was, cluster.app(KR).serving() as kr, cluster.connect(was.identity) as stub:
        # Before it serves: what it took now would be at places that it signed for something else.
        assert kr.node.barred is not None
        assert "new-log" in kr.node.barred.hint
        size = kr.node.store.size()
        [response] = await publish(stub, [was.new[0].data])
        assert response.results[0].rule == "STORE_FAILED"
        assert "new-log" in response.results[0].text
        await eventually(lambda: any(clash.rule == "LOG_ROLLBACK" for clash in was.nl.node.clashes.held))
        assert kr.node.store.size() == size
    # It remembers, also when nobody is there to tell it.
    async with cluster.app(KR).serving() as kr:
        assert kr.node.barred is not None
        findings = await asyncio.to_thread(audit, kr.node)
        assert any(finding.bad and "new-log" in finding.text for finding in findings)


async def seen_by_a_desk_alone(cluster: Cluster) -> tuple[Identity, bytes]:
    """kr lost two envelopes that no other node took; their sender, and the head that it saw."""
    sealed = [cluster.seal(cluster.trust, SENDER) for _ in range(2)]
    async with cluster.app(KR).serving():
        identity = await cluster.enrol(SENDER)
    with lost(cluster.directory(KR)):
        async with cluster.app(KR).serving() as kr:
            await send(cluster, identity, *sealed)
            return identity, kr.node.checkpoint


async def test_a_desk_that_saw_more_of_the_log_tells_its_node(cluster: Cluster) -> None:
    identity, seen = await seen_by_a_desk_alone(cluster)
    async with cluster.app(KR).serving() as kr, cluster.connect(identity) as stub:
        assert kr.node.barred is None
        forged = seen.replace(b"\ntime ", b"\ntime 1")
        await stub.GetCheckpoint(pb.GetCheckpointRequest(seen=forged))
        assert kr.node.barred is None
        await stub.GetCheckpoint(pb.GetCheckpointRequest(seen=seen))
        assert kr.node.barred is not None
    done = await new_log(cluster.directory(KR), without=[NL])
    assert done.heads == {f"tocsin/{KR}/1": checkpoint.parse(seen).size}


async def test_a_log_that_went_two_ways_goes_on_behind_the_longer_one(cluster: Cluster) -> None:
    """Only a desk saw what was lost, and the node went on before the desk was there to tell it."""
    identity, seen = await seen_by_a_desk_alone(cluster)
    since = [cluster.seal(cluster.trust, SENDER, stream=b"t" * 16) for _ in range(3)]
    async with cluster.app(NL).serving() as nl:
        async with cluster.app(KR).serving() as kr, cluster.connect(identity) as stub:
            await send(cluster, identity, *since)
            await eventually(lambda: nl.node.store.cursor(kr.node.origin) == kr.node.store.size())
            await stub.GetCheckpoint(pb.GetCheckpointRequest(seen=seen), timeout=10)
            await eventually(lambda: kr.node.barred is not None)
            size = kr.node.store.size()
        assert size > checkpoint.parse(seen).size
        done = await new_log(cluster.directory(KR))
        assert done.heads == {f"tocsin/{KR}/1": size}
        async with cluster.app(KR).serving() as kr:
            assert kr.node.barred is None
            assert held(kr, *since)
            await eventually(lambda: nl.node.followed.of(KR) == done.origin)
            assert nl.node.clashes.held == []


async def test_a_new_log_needs_a_reason_and_every_peer(cluster: Cluster) -> None:
    async with cluster.app(NL).serving():
        async with cluster.app(KR).serving():
            with pytest.raises(StoreError, match="another process"):
                await new_log(cluster.directory(KR))
        with pytest.raises(UsageError, match="needs no new log"):
            await new_log(cluster.directory(KR))
    async with restored(cluster) as was:
        done = await new_log(was.directory, dry_run=True)
        assert done.origin == f"tocsin/{KR}/2"
        with pytest.raises(UsageError, match="no other node"):
            await new_log(was.directory, without=["nl.nowhere-1"])
    with pytest.raises(UnreachableError) as caught:
        await new_log(was.directory)
    assert f"--without {NL}" in str(caught.value.hint)
    assert not list(was.directory.glob("log-*"))


async def test_power_lost_before_the_new_log_is_whole_leaves_the_old_one(cluster: Cluster, monkeypatch: Patch) -> None:
    async with restored(cluster) as was:
        with monkeypatch.context() as patched:
            patched.setattr(renewal, "_fetch", _power_cut)
            with pytest.raises(KeyboardInterrupt):
                await new_log(was.directory)
        assert newest_log(was.directory) == was.directory / "log.db"
        assert (was.directory / "log-2.new" / "log.db").exists()
        done = await new_log(was.directory)
        assert not (was.directory / "log-2.new").exists()
        async with cluster.app(KR).serving() as kr:
            assert (kr.node.origin, held(kr, *was.old, *was.new)) == (done.origin, True)


async def _power_cut(*_: object) -> int:
    raise KeyboardInterrupt


async def test_what_only_the_lost_disk_had_comes_back_from_its_sender(tmp_path: Path) -> None:
    founded = found(tmp_path / "exchange", title="restored")
    kr_directory, nl_directory = founded.node("kr"), founded.node("nl")

    async def say(word: str) -> None:
        async with Desk.open(founded.desk(SENDER)) as desk:
            await desk.synchronise()
            await desk.publish("minerals", said(word))
            assert await desk.flush(20) == 0

    async def reports(*, until: int, of: str = READER) -> list[str]:
        async with Desk.open(founded.desk(of)) as desk:
            await eventually(lambda: desk.state == "connected")
            got: list[str] = []
            async with asyncio.timeout(20):
                while len(got) < until:
                    got += texts([delivery async for delivery in desk.subscribe("minerals", follow=False)])
                    await asyncio.sleep(0.05)
            return got

    def read_by(other: App, log: App) -> bool:
        return other.node.store.cursor(log.node.origin) == log.node.store.size()

    async with App(nl_directory).serving() as nl, App(kr_directory).serving() as kr:
        # The reader's key cards must be known before it can be written to.
        await reports(until=0)
        await reports(until=0, of=COLLEAGUE)
        await eventually(lambda: read_by(kr, nl))
        await say("one")
        await eventually(lambda: read_by(nl, kr))
        assert await reports(until=1) == ["one"]
        assert await reports(until=1, of=COLLEAGUE) == ["one"]
    with lost(kr_directory):
        async with App(nl_directory).serving() as nl, App(kr_directory).serving() as kr:
            await say("two")
            await eventually(lambda: read_by(nl, kr))
        async with App(kr_directory).serving():
            await say("three")
    async with App(kr_directory).serving() as kr, Desk.open(founded.desk(SENDER)):
        # It has a receipt under a head that nobody else saw.
        await eventually(lambda: kr.node.barred)
    async with App(nl_directory).serving() as nl:
        done = await new_log(kr_directory)
        async with App(kr_directory).serving() as kr, Desk.open(founded.desk(SENDER)) as desk:
            await eventually(lambda: NewLog(done.origin, 1) in desk._own.events)
            assert await desk.flush(20) == 0
            assert not [event for event in desk.events() if isinstance(event, Clash)]
            assert sorted(await reports(until=2)) == ["three", "two"]
            await eventually(lambda: NL in kr.node.witnesses.held())
        # What was read in the old log is proved in the new one, which others vouch for.
        async with App(kr_directory).serving() as kr, Desk.open(founded.desk(COLLEAGUE)) as desk:
            await eventually(lambda: desk.state == "connected")
            [one] = [delivery.envelope for delivery in desk.inbox()]
            data, missing = await desk.evidence(one, 0)
            assert missing == []
            [log] = verify.verify(data, desk.trust.lineage).witnesses
            assert (log.origin, log.cosigners) == (done.origin, (NL,))


async def test_a_node_without_any_backup_gets_back_what_its_peers_took(cluster: Cluster) -> None:
    async with restored(cluster) as was:
        for path in was.directory.glob("log.db*"):
            path.unlink()
        done = await new_log(was.directory)
        assert done.heads == {f"tocsin/{KR}/1": was.seen.head.size}
        async with cluster.app(KR).serving() as kr:
            assert held(kr, *was.old, *was.new)
            await eventually(lambda: was.seen.head.origin == done.origin)
            assert was.nl.node.clashes.held == []


# ---- tricks


async def hidden(was: Lost, monkeypatch: Patch) -> None:
    """kr opens a new log that says its old one ended before what nl saw of it."""
    async with was.cluster.app(KR).standing() as node:
        older = Seen.of(node.checkpoint)

    async def heads(*_: object) -> tuple[dict[int, Seen], dict[str, str]]:
        return {1: older}, {}

    with monkeypatch.context() as patched:
        patched.setattr(renewal, "_heads", heads)
        await new_log(was.directory, without=[NL])


def command(*arguments: str | Path) -> None:
    done = tocsin(*arguments)
    assert done.returncode == 0, done.stderr


async def test_a_new_log_with_an_older_head_is_refused_and_proved(
    cluster: Cluster, monkeypatch: Patch, tmp_path: Path
) -> None:
    async with restored(cluster) as was:
        await hidden(was, monkeypatch)
        seen = was.seen
        async with cluster.app(KR).serving() as kr:
            await eventually(lambda: was.nl.node.clashes.held)
            [clash] = was.nl.node.clashes.held
            assert (clash.rule, clash.seen.note) == ("LOG_ROLLBACK", seen.note)
            assert clash.shown.head.origin == kr.node.origin == f"tocsin/{KR}/2"
            assert was.seen == seen
            assert kr.node.witnesses.held() == {}
            # Written down, the two heads convince anyone who has the log's key.
            nl_directory, proof = cluster.directory(NL), tmp_path / "proof"
            await asyncio.to_thread(command, "node", "clashes", nl_directory, "--out", proof)
            heads = [cluster.verify(KR, path.read_bytes()) for path in sorted(proof.iterdir())]
            assert [head.origin for head in heads] == [seen.head.origin, kr.node.origin]
            # A person may accept it all the same: then it is followed, and the evidence stays.
            refused = await asyncio.to_thread(tocsin, "node", "accept-log", nl_directory, f"tocsin/{KR}/3")
            assert (refused.returncode, "was refused" in refused.stderr) == (1, True)
            await asyncio.to_thread(command, "node", "accept-log", nl_directory, kr.node.origin)
            await eventually(lambda: was.seen.head.origin == kr.node.origin)
            await eventually(lambda: NL in kr.node.witnesses.held())
            assert was.nl.node.clashes.held == [clash]


async def test_without_the_check_what_was_hidden_stays_hidden(cluster: Cluster, monkeypatch: Patch) -> None:
    async with restored(cluster) as was:
        await hidden(was, monkeypatch)
        monkeypatch.setattr(history, "require_continues", lambda *_: None)
        async with cluster.app(KR).serving() as kr:
            await eventually(lambda: was.seen.head.origin == kr.node.origin)
            assert not held(kr, *was.new)
            assert was.nl.node.clashes.held == []


async def test_nobody_goes_back_to_the_log_before_or_opens_one_twice(cluster: Cluster) -> None:
    async with restored(cluster) as was:
        await new_log(was.directory)
        async with cluster.app(KR).serving() as kr:
            await eventually(lambda: was.seen.head.origin == kr.node.origin)
        shutil.move(was.directory / "log-2", was.directory / "aside")
        async with cluster.app(KR).serving() as kr:
            # An honest node notices; nl refuses a dishonest one.
            assert kr.node.barred is not None
            await eventually(lambda: was.nl.node.clashes.held)
            [clash] = was.nl.node.clashes.held
            assert (clash.rule, clash.shown.head.origin) == ("LOG_ROLLBACK", f"tocsin/{KR}/1")
        # So the honest one opens the log after the one that nl saw.
        done = await new_log(was.directory)
        assert (done.origin, sorted(done.heads)) == (f"tocsin/{KR}/3", [f"tocsin/{KR}/1", f"tocsin/{KR}/2"])
        async with cluster.app(KR).serving() as kr:
            await eventually(lambda: was.seen.head.origin == done.origin)
            assert held(kr, *was.old, *was.new)
            assert len(was.nl.node.clashes.held) == 1
