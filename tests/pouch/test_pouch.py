"""A pouch between two nodes: everything arrives once, by the rules of live traffic; damage is named and stops nothing else."""

from collections.abc import Callable
from pathlib import Path

import pytest

from exchange import checkpoint
from exchange.errors import LogForkError, PouchError, ProofError
from exchange.history import Seen
from exchange.node import renewal
from exchange.pouch import format as pouch
from exchange.pouch.pack import pack, pack_outbox, packed_up_to
from exchange.pouch.unpack import Unpacked, unpack
from exchange.store.sqlite import SqliteStore
from exchange.v1 import exchange_pb2 as api
from exchange.v1 import pouch_pb2 as pb
from keys import founding
from keys.documents import Document
from keys.encoding import canonical_bytes, digest, le64
from keys.v1 import documents_pb2 as docs
from tests import chains
from tests.mail import send
from tests.pouch.nodes import KR, NL, Clock, holds, node, opened, publish, take
from tests.world import NOON, World, draft, found, world

DAY = founding.DAY_MS
BZ = "nl.bz/supply"


async def carry(tmp_path: Path, clock: Clock, count: int = 3) -> tuple[Path, list[bytes]]:
    """A pouch from kr to nl with some envelopes."""
    async with node(world(), KR, tmp_path, clock) as sender:
        made = await publish(sender, world(), count)
        path = tmp_path / "one.pouch"
        pack(sender, NL, path, position=0, seen=0, now_ms=clock())
    return path, [one.id for one in made]


def parts_of(path: Path) -> list[tuple[int, int, int]]:
    """(kind, offset, length) of every part."""
    with path.open("rb") as file:
        manifest = pouch.read_manifest(file)
    at, out = pouch.HEAD_BYTES + manifest.ByteSize(), []
    for part in manifest.parts:
        out.append((part.kind, at, part.length))
        at += part.length
    return out


def damage(path: Path, kind: int, which: int = 0) -> int:
    """Flip a bit in the middle of a part of a kind; returns its number."""
    number, (_, at, length) = [(n, p) for n, p in enumerate(parts_of(path), 1) if p[0] == kind][which]
    data = bytearray(path.read_bytes())
    data[at + length // 2] ^= 1
    path.write_bytes(data)
    return number


# ---- the whole way


async def test_what_one_node_holds_for_the_other_arrives_and_is_read(tmp_path: Path) -> None:
    clock = Clock()
    async with node(world(), KR, tmp_path, clock) as sender, node(world(), NL, tmp_path, clock) as receiver:
        made = await publish(sender, world(), 3)
        packed = pack(sender, NL, tmp_path / "p", position=0, seen=0, now_ms=NOON)
        assert packed.counts["entry"] == 3
        done = await unpack(receiver, tmp_path / "p", clock=clock)
        assert (done.taken, done.known, done.refused, done.damaged, done.moved) == (3, 0, [], [], True)
        assert [opened(world(), BZ, receiver, one) for one in made] == [
            f"kr.the-hague/economic {n}".encode() for n in (1, 2, 3)
        ]
        assert await receiver.cursor(sender.origin) == packed.next_position
        assert checkpoint.parse(await receiver.stored_checkpoint(sender.origin)).size == packed.next_position


async def test_a_node_that_knows_nothing_is_brought_up_by_one_pouch(tmp_path: Path) -> None:
    clock = Clock()
    path, ids = await carry(tmp_path, clock)
    async with node(world(), NL, tmp_path, clock, empty=True) as receiver:
        done = await unpack(receiver, path, clock=clock)
        assert (done.taken, done.documents, done.refused) == (3, len(world().documents), [])
        assert all(receiver.store.position_of(one) is not None for one in ids)


async def test_twice_does_no_harm(tmp_path: Path) -> None:
    clock = Clock()
    path, _ = await carry(tmp_path, clock)
    async with node(world(), NL, tmp_path, clock) as receiver:
        await unpack(receiver, path, clock=clock)
        size = receiver.store.size()
        again = await unpack(receiver, path, clock=clock)
        assert (again.taken, again.known, again.documents, again.moved) == (0, 3, 0, False)
        assert receiver.store.size() == size
    async with node(world(), NL, tmp_path, clock) as restarted:
        assert (await unpack(restarted, path, clock=clock)).known == 3


async def test_one_way_pouches_follow_each_other_and_a_lost_one_is_named(tmp_path: Path) -> None:
    clock = Clock()
    async with node(world(), KR, tmp_path, clock) as sender, node(world(), NL, tmp_path, clock) as receiver:
        made = []
        for number in range(3):
            made += await publish(sender, world(), 2, stream=bytes([number]) * 16)
            start = packed_up_to(sender, NL)
            pack(sender, NL, tmp_path / f"{number}", position=start, seen=start, now_ms=NOON)
        assert (await unpack(receiver, tmp_path / "0", clock=clock)).moved
        late = await unpack(receiver, tmp_path / "2", clock=clock)
        # Its envelopes are in the packer's log, so they are taken; that the log only grew is not yet shown.
        assert (late.taken, late.linked, late.moved) == (2, False, False)
        assert "packed from there" in late.notes[0]
        assert (await unpack(receiver, tmp_path / "1", clock=clock)).moved
        again = await unpack(receiver, tmp_path / "2", clock=clock)
        assert (again.known, again.linked, again.moved) == (2, True, True)
        assert all(holds(receiver, one) for one in made)


async def test_a_log_that_continues_another_is_taken_when_a_person_accepts_it(tmp_path: Path) -> None:
    clock = Clock()
    async with node(world(), KR, tmp_path, clock) as sender, node(world(), NL, tmp_path, clock) as receiver:
        made = await publish(sender, world(), 2)
        pack(sender, NL, tmp_path / "0", position=0, seen=0, now_ms=NOON)
        assert (await unpack(receiver, tmp_path / "0", clock=clock)).moved
        renewal.copy(sender.store, tmp_path / "log-2", {1: Seen.of(sender.checkpoint)})
    store = SqliteStore(tmp_path / "log-2" / "log.db")
    async with (
        node(world(), KR, tmp_path, clock, store=store) as sender,
        node(world(), NL, tmp_path, clock) as receiver,
    ):
        more = await publish(sender, world(), 1, stream=b"t" * 16)
        assert packed_up_to(sender, NL) == 0
        pack(sender, NL, tmp_path / "1", position=0, seen=0, now_ms=NOON)
        with pytest.raises(LogForkError) as caught:
            await unpack(receiver, tmp_path / "1", clock=clock)
        assert f"accept-log DIR {sender.origin}" in caught.value.hint
        assert not holds(receiver, more[0])
        await receiver.followed.accept(sender.origin)
        done = await unpack(receiver, tmp_path / "1", clock=clock)
        assert (done.taken, done.known, done.moved) == (1, len(made), True)
        # Who saw no log of it takes the one it shows, and goes on in that.
    async with node(world(), NL, tmp_path / "fresh", clock) as fresh:
        assert (await unpack(fresh, tmp_path / "1", clock=clock)).moved
        assert fresh.followed.of(KR) == f"tocsin/{KR}/2"


async def test_receipts_and_cosignatures_come_back_in_the_other_pouch(tmp_path: Path) -> None:
    clock = Clock()
    async with node(world(), KR, tmp_path, clock) as kr, node(world(), NL, tmp_path, clock) as nl:
        made = await publish(kr, world(), 2)
        pack(kr, NL, tmp_path / "there", position=0, seen=0, now_ms=NOON)
        await unpack(nl, tmp_path / "there", clock=clock)
        packed = pack(nl, KR, tmp_path / "back", position=0, seen=0, now_ms=NOON)
        assert (packed.counts["receipt"], packed.counts["cosignature"]) == (2, 1)
        done = await unpack(kr, tmp_path / "back", clock=clock)
        assert done.delivered == [one.id for one in made]
        assert done.cosigned
        assert [name for name, _, _ in checkpoint.parse(kr.witnesses.newest()).signatures] == [KR, NL]


# ---- attack 33: the bag is slow, rosters change meanwhile


def other_rosters(at: World, *, revoke: str = "") -> list[Document]:
    """Two more kr rosters and two more nl ones, days apart; the last kr one may revoke a desk."""

    def end(body: docs.Roster) -> None:
        for desk in body.desks:
            if desk.desk == revoke:
                desk.keys[0].state = docs.KEY_STATE_REVOKED

    made = []
    for party in ("kr", "nl"):
        second = chains.next_roster(at, party, now_ms=NOON + 3 * DAY)
        third = chains.next_roster(at, party, end, after=second, now_ms=NOON + 8 * DAY)
        made += [second, third]
    return made


@pytest.mark.parametrize("how", ["log", "outbox"])
async def test_33_a_pouch_under_way_for_13_days_through_three_rosters_is_taken(tmp_path: Path, how: str) -> None:
    at, clock = found(weeks=3), Clock()
    async with node(at, KR, tmp_path, clock) as sender, node(at, NL, tmp_path, clock) as receiver:
        trust = sender.trust
        header = draft(trust, sender="kr.the-hague/economic")
        header.expire_time_ms = NOON + 14 * DAY
        made = send(trust, header, at=at)
        path = tmp_path / "slow"
        if how == "log":
            _, receipt = await sender.publish(made.data, by=header.sender, now_ms=NOON)
            await receipt
            pack(sender, NL, path, position=0, seen=0, now_ms=NOON)
        else:
            pack_outbox(trust, header.sender, NL, path, envelopes=[made.data], now_ms=NOON)
        clock.now_ms = NOON + 13 * DAY
        await take(receiver, *other_rosters(at), now_ms=clock())
        done = await unpack(receiver, path, clock=clock)
        assert [one for one in done.refused if one.what != "document"] == []
        assert done.taken == 1
        assert holds(receiver, made)


async def test_33_an_outbox_older_than_its_life_is_not_taken_by_any_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at, clock = found(weeks=3), Clock()
    async with node(at, NL, tmp_path, clock) as receiver:
        header = draft(receiver.trust, sender="kr.the-hague/economic")
        header.expire_time_ms = NOON + 14 * DAY
        made = send(receiver.trust, header, at=at)
        pack_outbox(receiver.trust, header.sender, NL, tmp_path / "p", envelopes=[made.data], now_ms=NOON)
        clock.now_ms = NOON + 15 * DAY
        done = await unpack(receiver, tmp_path / "p", clock=clock)
        assert [one.rule for one in done.refused if one.what == "envelope"] == ["ENVELOPE_TIME"]
        assert not holds(receiver, made)


async def test_33_a_sender_revoked_meanwhile_is_refused(tmp_path: Path) -> None:
    at, clock = found(weeks=3), Clock()
    async with node(at, KR, tmp_path, clock) as sender, node(at, NL, tmp_path, clock) as receiver:
        made = await publish(sender, at, 1)
        pack(sender, NL, tmp_path / "p", position=0, seen=0, now_ms=NOON)
        clock.now_ms = NOON + 13 * DAY
        await take(receiver, *other_rosters(at, revoke="kr.the-hague/economic"), now_ms=clock())
        done = await unpack(receiver, tmp_path / "p", clock=clock)
        assert [one.rule for one in done.refused if one.what == "entry"] == ["SENDER_ENDED"]
        assert not holds(receiver, made[0])


# ---- damage


async def test_a_damaged_part_is_named_and_the_others_are_taken(tmp_path: Path) -> None:
    clock = Clock()
    path, ids = await carry(tmp_path, clock)
    number = damage(path, pb.PART_KIND_ENTRY, 1)
    async with node(world(), NL, tmp_path, clock) as receiver:
        done = await unpack(receiver, path, clock=clock)
        assert [(one.number, one.what) for one in done.damaged] == [(number, "entry")]
        assert [receiver.store.position_of(one) is not None for one in ids] == [True, False, True]
        # The place in the log is kept, so that the network or the next pouch brings it.
        assert not done.moved
        assert await receiver.cursor(f"tocsin/{KR}/1") == 0


async def test_without_the_digests_damage_would_be_blamed_on_the_sender(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    path, _ = await carry(tmp_path, clock)
    damage(path, pb.PART_KIND_ENTRY, 1)
    with path.open("rb") as file:
        manifest = pouch.read_manifest(file)
    digests = iter([part.digest for part in manifest.parts])
    monkeypatch.setattr(
        pouch, "digest", lambda data: digest(data) if len(data) == len(canonical_bytes(manifest)) else next(digests)
    )
    async with node(world(), NL, tmp_path, clock) as receiver:
        done = await unpack(receiver, path, clock=clock)
        assert done.damaged == []
        assert len(done.refused) == 1


async def test_a_cut_off_pouch_gives_what_is_whole_and_goes_on_when_it_is_whole(tmp_path: Path) -> None:
    clock = Clock()
    path, ids = await carry(tmp_path, clock)
    whole = path.read_bytes()
    _, at, length = parts_of(path)[-1]
    path.write_bytes(whole[: at + length // 2])
    async with node(world(), NL, tmp_path, clock) as receiver:
        done = await unpack(receiver, path, clock=clock)
        assert (done.taken, len(done.damaged), done.moved) == (2, 1, False)
        assert "cut off" in done.damaged[0].text
        path.write_bytes(whole)
        again = await unpack(receiver, path, clock=clock)
        assert (again.taken, again.known, again.moved) == (1, 2, True)
        assert all(receiver.store.position_of(one) is not None for one in ids)


async def test_a_damaged_document_parks_what_needs_it_and_stops_nothing_else(tmp_path: Path) -> None:
    clock = Clock()
    path, _ = await carry(tmp_path, clock)
    number = damage(path, pb.PART_KIND_DOCUMENT, len(world().documents) - 1)
    card = world().documents[-1]
    async with node(world(), NL, tmp_path, clock, empty=True) as receiver:
        done = await unpack(receiver, path, clock=clock)
        assert [one.number for one in done.damaged] == [number]
        assert not receiver.trust.holds(card.digest)
        assert done.taken == 3


async def test_an_outbox_after_a_damaged_envelope_waits_for_it(tmp_path: Path) -> None:
    clock = Clock()
    async with node(world(), KR, tmp_path, clock) as receiver:
        prev, sealed = (0, b""), []
        for seq in (1, 2, 3):
            sealed.append(send(receiver.trust, draft(receiver.trust, seq=seq, prev=prev)))
            prev = (seq, sealed[-1].id)
        other = send(receiver.trust, draft(receiver.trust, stream=b"t" * 16))
        data = [one.data for one in (*sealed, other)]
        path = tmp_path / "out"
        pack_outbox(receiver.trust, "kr.the-hague/economic", KR, path, envelopes=data, now_ms=NOON)
        damage(path, pb.PART_KIND_ENVELOPE, 1)
        done = await unpack(receiver, path, clock=clock)
        assert [holds(receiver, one) for one in (*sealed, other)] == [True, False, False, True]
        assert [one.rule for one in done.refused] == ["STREAM_ORDER"]


@pytest.mark.parametrize("at", [0, len(pouch.MAGIC), len(pouch.MAGIC) + 9, pouch.HEAD_BYTES + 5])
async def test_a_damaged_manifest_gives_nothing(tmp_path: Path, at: int) -> None:
    clock = Clock()
    path, _ = await carry(tmp_path, clock)
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    async with node(world(), NL, tmp_path, clock, empty=True) as receiver:
        with pytest.raises(PouchError):
            await unpack(receiver, path, clock=clock)
        assert receiver.store.size() == 0


# ---- hostile pouches


def forge(path: Path, bend: Callable[[pb.Manifest, list[bytes]], None]) -> None:
    """The pouch with another manifest and other parts, all digests right again."""
    with path.open("rb") as file:
        manifest = pouch.read_manifest(file)
        parts = [part.data for part in pouch.read_parts(file, manifest)]
    bend(manifest, parts)
    manifest.total = 0
    for part, data in zip(manifest.parts, parts, strict=False):
        part.length, part.digest = len(data), digest(data)
        manifest.total += len(data)
    head = canonical_bytes(manifest)
    path.write_bytes(pouch.MAGIC + le64(len(head)) + digest(head) + head + b"".join(parts))


@pytest.mark.parametrize(
    ("what", "bend"),
    [
        ("another exchange", lambda manifest, _: setattr(manifest, "lineage", bytes(32))),
        ("for another", lambda manifest, _: setattr(manifest, "receiver", KR)),
        ("documents not first", lambda manifest, _: manifest.parts.reverse()),
        ("a kind unknown", lambda manifest, _: setattr(manifest.parts[-1], "kind", 77)),
    ],
)
async def test_a_manifest_that_is_not_right_is_refused(
    tmp_path: Path, what: str, bend: Callable[[pb.Manifest, list[bytes]], None]
) -> None:
    clock = Clock()
    path, _ = await carry(tmp_path, clock)
    forge(path, bend)
    async with node(world(), NL, tmp_path, clock, empty=True) as receiver:
        with pytest.raises(PouchError):
            await unpack(receiver, path, clock=clock)
        assert receiver.store.size() == 0


async def refusals(tmp_path: Path, bend: Callable[[pb.Manifest, list[bytes]], None]) -> Unpacked:
    clock = Clock()
    path, _ = await carry(tmp_path, clock)
    forge(path, bend)
    async with node(world(), NL, tmp_path, clock) as receiver:
        return await unpack(receiver, path, clock=clock)


async def test_an_entry_that_no_proof_leads_from_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stranger(manifest: pb.Manifest, parts: list[bytes]) -> None:
        # Never logged: it would come past its life if the claim of a log were believed.
        made = send(world().trust(), draft(world().trust(), stream=b"x" * 16), at=world())
        entry = api.Entry.FromString(parts[-1])
        entry.data, entry.leaf = made.data, made.id
        parts[-1] = entry.SerializeToString()

    done = await refusals(tmp_path, stranger)
    assert [(one.what, one.rule) for one in done.refused] == [("entry", "PROOF_BAD")]
    (tmp_path / f"{NL}.db").unlink()
    monkeypatch.setattr("exchange.pouch.unpack.verify_inclusion", lambda *_: None)
    (tmp_path / f"{KR}.db").unlink()
    assert (await refusals(tmp_path, stranger)).refused == []


async def test_a_head_that_the_packer_did_not_sign_is_refused(tmp_path: Path) -> None:
    def other(manifest: pb.Manifest, _: list[bytes]) -> None:
        manifest.checkpoint = manifest.checkpoint.replace(b"time 17", b"time 18")

    with pytest.raises(ProofError):
        await refusals(tmp_path, other)


async def test_a_fork_of_the_packers_log_is_seen_and_nothing_taken(tmp_path: Path) -> None:
    clock = Clock()
    path, _ = await carry(tmp_path, clock)
    async with node(world(), KR, tmp_path / "fork", clock) as fork:
        made = await publish(fork, world(), 3, stream=b"f" * 16)
        pack(fork, NL, tmp_path / "forked", position=0, seen=0, now_ms=NOON)
    async with node(world(), NL, tmp_path, clock) as receiver:
        await unpack(receiver, path, clock=clock)
        with pytest.raises(ProofError, match="fork"):
            await unpack(receiver, tmp_path / "forked", clock=clock)
        assert not any(holds(receiver, one) for one in made)


async def test_a_part_that_is_no_such_thing_is_refused_alone(tmp_path: Path) -> None:
    def junk(manifest: pb.Manifest, parts: list[bytes]) -> None:
        parts[0], parts[-1] = b"\xff" * 9, b"\xff" * 9

    done = await refusals(tmp_path, junk)
    assert [one.what for one in done.refused] == ["document", "entry"]
    assert done.taken == 2


async def test_sizes_are_bounded_before_anything_is_read(tmp_path: Path) -> None:
    huge = pb.Manifest(lineage=bytes(32), total=2**60)
    huge.parts.add(kind=pb.PART_KIND_ENTRY, length=2**60, digest=bytes(32))
    head = canonical_bytes(huge)
    for data in (
        pouch.MAGIC + le64(len(head)) + digest(head) + head,
        pouch.MAGIC + le64(2**62) + bytes(32),
    ):
        (tmp_path / "huge").write_bytes(data)
        with (tmp_path / "huge").open("rb") as file, pytest.raises(PouchError):
            pouch.read_manifest(file)
