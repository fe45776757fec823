"""A node whose people say that another exchange took its one's place; a stranger says so in vain."""

import json
from pathlib import Path

import pytest

from exchange import files, retirement
from exchange.clock import now_ms
from exchange.node.directory import STATUS
from exchange.pouch.cli import carry_out
from exchange.pouch.orders import Order
from exchange.v1 import exchange_pb2 as pb
from exchange.wire import RemoteError
from keys import founding
from keys.errors import UsageError
from keys.succession import NotSuccessorError
from keys.trust import DeadLineageError
from keys.v1 import documents_pb2 as docs
from tests.node.cluster import NODES, Cluster, eventually, found, publish, read

KR, NL = NODES
SENDER, READER = "kr.the-hague/economic", "nl.bz/supply"


def anew(old: Cluster, root: Path) -> Cluster:
    """Korea lost its roots; the Netherlands' keys go on."""
    parties = {"kr": founding.found_party("kr", now_ms=old.world.now_ms), "nl": old.world.parties["nl"]}
    return found(root, parties=parties, dead=old.world.lineage)


def bundle_of(new: Cluster, path: Path) -> Path:
    """What `tocsin-keys agreement publish` writes."""
    files.save_bundle(path, new.world.documents[:3])
    return path


async def retire(old: Cluster, node: str, new: Cluster, path: Path, *, do: str = "retire") -> dict[str, str]:
    order = Order.model_validate({"do": do, "file": str(path), "key": new.world.lineage.hex()})
    return await carry_out(old.directory(node), order, b"")


async def test_the_old_exchange_takes_nothing_new_and_serves_what_it_holds_and_the_new_one_goes_on(
    tmp_path: Path,
) -> None:
    old = found(tmp_path / "old")
    new = anew(old, tmp_path / "new")
    path = bundle_of(new, tmp_path / "new.bundle")
    first = old.seal(old.trust, SENDER)
    async with old.app(KR).serving() as kr:
        sender = await old.enrol(SENDER)
        async with old.connect(sender) as stub:
            # Whoever only shows it changes nothing, member or not; and nothing is believed that people did not compare.
            shown = await stub.PutDocuments(pb.PutDocumentsRequest(documents=files.load_bundle(path)), timeout=10)
            # The Dutch party document is the one that both exchanges have.
            assert [bool(result.rule) for result in shown.results] == [True, False, True]
            status = old.directory(KR) / STATUS
            await eventually(status.exists)
            with pytest.raises(RemoteError, match="has other words"):
                await carry_out(old.directory(KR), Order(do="retire", file=str(path), key="00" * 32), b"")
            await retire(old, KR, new, path, do="successor")
            [answer] = await publish(stub, [first.data])
            assert not answer.results[0].rule
            done = await retire(old, KR, new, path)
            assert done == {"name": KR, "dead": old.world.lineage.hex(), "successor": new.world.lineage.hex()}
            [answer] = await publish(stub, [first.data, old.seal(old.trust, SENDER).data])
            known, dead = answer.results
            assert (known.rule, known.id) == ("", first.id)
            assert dead.rule == "LINEAGE_DEAD"
            assert new.world.lineage.hex() in dead.text
            assert first.id in {entry.leaf for entry in await read(stub)}
            assert (await stub.GetDocuments(pb.GetDocumentsRequest(), timeout=10)).documents
        await eventually(lambda: json.loads(status.read_text())["successor"] == new.world.lineage.hex())
        roster = founding.next_roster(
            old.world.parties["nl"],
            docs.Roster.FromString(old.world.rosters["nl"].body),
            lineage=old.world.lineage,
            previous=old.world.rosters["nl"],
            now_ms=now_ms(),
        )
        [(_, error)] = await kr.node.take_documents([roster.encode()], now_ms=now_ms())
        assert isinstance(error, DeadLineageError)
    # The other node was not told yet: what was under way arrives. Told while it stands still, it is told all the same.
    async with old.app(KR).serving() as kr, old.app(NL).serving() as nl:
        assert kr.trust.death is not None, "kept"
        await eventually(lambda: nl.node.store.position_of(first.id) is not None)
    # It ran in this process, which its status would be taken for a while longer.
    (old.directory(NL) / STATUS).unlink()
    await retire(old, NL, new, path)
    async with old.app(NL).serving() as nl:
        abroad = await old.enrol("nl.seoul/economic")
        async with old.connect(abroad) as stub:
            assert first.id in {entry.leaf for entry in await read(stub)}
            [answer] = await publish(stub, [old.seal(old.trust, "nl.seoul/economic", stream=b"n" * 16).data])
            assert answer.results[0].rule == "LINEAGE_DEAD"
    async with new.app(KR).serving(), new.app(NL).serving() as nl:
        sealed = new.seal(new.trust, SENDER)
        async with new.connect(await new.enrol(SENDER)) as stub:
            [answer] = await publish(stub, [sealed.data])
        assert not answer.results[0].rule
        await eventually(lambda: nl.node.store.position_of(sealed.id) is not None)
        assert new.open(READER, sealed.data)


async def test_it_is_said_once_and_kept(tmp_path: Path) -> None:
    old = found(tmp_path / "old")
    new, other = anew(old, tmp_path / "new"), anew(old, tmp_path / "other")
    directory, trust, path = tmp_path, old.trust, bundle_of(new, tmp_path / "new.bundle")
    encoded = files.load_bundle(path)
    told_ms = now_ms()
    for later in (0, 1000):
        retirement.retire(directory, trust, KR, encoded, new.world.lineage, now_ms=told_ms + later)
    again = files.load_bundle(bundle_of(other, tmp_path / "other.bundle"))
    with pytest.raises(DeadLineageError, match="no third one can replace"):
        retirement.retire(directory, trust, KR, again, other.world.lineage, now_ms=told_ms)
    started = old.trust
    retirement.resume(directory, started)
    assert started.death == trust.death
    assert started.death is not None
    assert (started.death.successor, started.death.told_ms) == (new.world.lineage, told_ms)
    with pytest.raises(NotSuccessorError, match="fr is no party"):
        retirement.check(old.trust, "fr.paris-1", encoded, new.world.lineage, now_ms=told_ms)
    # A file that cannot be read is no reason to go on.
    (directory / retirement.SUCCESSOR).write_bytes(b"junk")
    with pytest.raises(UsageError, match="is damaged"):
        retirement.resume(directory, old.trust)
