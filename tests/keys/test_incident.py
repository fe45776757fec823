"""Keys suspected, revoked and renounced: what everybody believes afterwards, and what is left on the disk."""

import json
import os
from pathlib import Path

import pytest

from keys import desk_keys, documents, drafts, incident, panic, planning, release, rotation, suite
from keys import plan as plans
from keys.documents import Document
from keys.encoding import canonical_bytes
from keys.errors import UsageError
from keys.keystore import Keystore, KeystoreError, KeystorePassphraseError
from keys.states import Revoked, StateError, Tainted
from keys.trust import Trust, week_of
from keys.v1 import documents_pb2 as pb
from keys.windows import Kind
from tests.keys.rotating import DESK, fresh, hands, listed, plan_of, says_seen
from tests.world import NOON, World, found


@pytest.fixture
def own() -> World:
    return found()


def end(own: World, trust: Trust, move: Tainted | Revoked, **more: object) -> list[Document]:
    fields = {"reason": "laptop stolen", "now_ms": NOON, "sign": hands(own), **more}
    made = incident.end(trust, DESK, move, **fields)  # type: ignore[arg-type]
    assert all(each.complete for each in made)
    for each in made:
        trust.take(each.document, now_ms=NOON)
    return [each.document for each in made]


# ---- suspected, revoked


def test_taint_then_revoke_and_every_member_knows(own: World) -> None:
    trust, member = own.trust(), own.trust()
    (key,) = incident.live_keys(trust, DESK)
    for move, said in ((Tainted(), "tainted"), (Revoked(), "revoked")):
        for document in end(own, trust, move):
            member.take(document, now_ms=NOON)
        assert said in str(member.key_ended(DESK, key))
    (revocation,) = member.roster("kr").body.revocations
    assert (revocation.key, revocation.reason) == (key, "laptop stolen")
    assert member.status("kr").roster.digest == member.roster("kr").document.digest
    assert member.card(DESK, week_of(NOON)) is None, "cards die with their key"
    with pytest.raises(StateError, match="no key left"):
        end(own, trust, Revoked())
    with pytest.raises(StateError, match="no key left"):
        end(own, trust, Tainted())


def test_a_revocation_says_why_and_of_whom(own: World) -> None:
    trust = own.trust()
    with pytest.raises(UsageError, match="reason"):
        end(own, trust, Revoked(), reason="")
    with pytest.raises(StateError, match="no roster held lists"):
        incident.end(trust, "kr.motie/nobody", Tainted(), reason="x", now_ms=NOON, sign=hands(own))
    with pytest.raises(StateError, match="no roster held lists"):
        incident.end(trust, "jp.x/y", Tainted(), reason="x", now_ms=NOON, sign=hands(own))
    with pytest.raises(StateError, match="lists no key"):
        end(own, trust, Revoked(), key=b"x" * 32)
    assert trust.roster("kr").body.version == 1, "nothing changed"


def test_without_its_holders_nothing_is_released(own: World) -> None:
    trust = own.trust()
    made = incident.end(trust, DESK, Revoked(), reason="x", now_ms=NOON, sign=release.at_hand([]))
    assert [each.complete for each in made] == [False]
    again = incident.end(
        trust, DESK, Revoked(), reason="x", now_ms=NOON, sign=hands(own), signed={"roster": made[0].document}
    )
    assert again[0].complete
    assert again[0].document.digest == made[0].document.digest


def test_suspensions_outlive_the_incident(own: World) -> None:
    trust = own.trust()
    stop = pb.Suspension(name=DESK, reason="seized")
    said = own.parties["kr"].sign(drafts.next_status(trust, "kr", now_ms=NOON, suspensions=[stop]), "status")
    trust.take(said, now_ms=NOON)
    end(own, trust, Tainted())
    assert trust.suspended(desk=DESK, channel="chips")


def test_after_a_taint_the_emergency_plan_brings_a_new_key(own: World) -> None:
    trust, new = own.trust(), fresh(own, Kind.DESK)
    end(own, trust, Tainted())
    (old,) = incident.live_keys(trust, DESK)
    plan = plan_of(own, trust, Kind.DESK, new, emergency=True)
    rotation.advance(plan, trust, now_ms=NOON, sign=hands(own, new))
    assert {k.state for k in listed(trust).values()} == {pb.KEY_STATE_REVOKED, pb.KEY_STATE_ACTIVE}
    (live,) = incident.live_keys(trust, DESK)
    assert live != old
    says_seen(own, trust, now_ms=NOON)


# ---- what was sent with it


def row(number: int, **fields: object) -> bytes:
    said = {"id": f"{number:064x}", "key": "aa" * 32, "verdict": "counted", "create_time_ms": NOON - number, **fields}
    return json.dumps(said).encode()


def test_the_envelopes_touched_are_listed_by_what_they_are_worth() -> None:
    rows = [row(1), row(2, verdict="disputed"), row(3, key="bb" * 32), row(4, verdict="refused", more=1), b""]
    found = incident.touched(b"\n".join(rows), (bytes.fromhex("aa" * 32),))
    assert [each.verdict for each in found] == ["refused", "disputed", "counted"]
    assert incident.summary(found) == {"counted": 1, "disputed": 1, "refused": 1}


@pytest.mark.parametrize("junk", [b"x", b"[]", b"{}", b"3", b"\xff", row(1, verdict="maybe"), b"[" * 100_000])
def test_junk_is_no_list_and_the_line_is_named(junk: bytes) -> None:
    with pytest.raises(UsageError, match="line 2"):
        incident.touched(row(1) + b"\n" + junk, (b"\xaa" * 32,))


# ---- the embassy is seized


PASSPHRASE = b"four random words here"


def desk_keystore(own: World, path: Path, passphrase: bytes = PASSPHRASE) -> tuple[Path, list[bytes]]:
    file = path / "desk.keys"
    secrets = []
    with Keystore.create(file, passphrase, fast_kdf=True) as store:
        key = own.desks[DESK]
        store.put("signing", key.seed(), kind="signing", public=key.public)
        card = suite.CardKey.generate()
        store.put("card-1", card.seed(), kind="card")
        desk_keys.prepare(store, own.trust(), DESK)
        secrets = [store.get(name) for name in store.names()]
    return file, secrets


def run_panic(own: World, file: Path, saved: list[Document], passphrase: bytes = PASSPHRASE) -> panic.Panicked:
    return panic.panic(
        file, passphrase, DESK, lineage=own.lineage, now_ms=NOON, reason="seized", save=lambda made: saved.extend(made)
    )


@pytest.mark.parametrize("passphrase", [PASSPHRASE, b""])
def test_panic_ends_the_keys_everywhere_and_destroys_the_seeds(own: World, tmp_path: Path, passphrase: bytes) -> None:
    file, _ = desk_keystore(own, tmp_path, passphrase)
    # Whoever kept the file open sees what became of its blocks.
    held = [os.open(path, os.O_RDONLY) for path in sorted(tmp_path.iterdir()) if path.suffix != ".lock"]
    before = [os.pread(descriptor, 1 << 20, 0) for descriptor in held]
    saved: list[Document] = []
    done = run_panic(own, file, saved, passphrase)
    assert len(done.renunciations) == 2
    assert saved == list(done.renunciations)
    assert [path.name for path in tmp_path.iterdir()] == ["desk.keys.lock"]
    for descriptor, was in zip(held, before, strict=True):
        now = os.pread(descriptor, 1 << 20, 0)
        os.close(descriptor)
        assert len(now) == len(was)
        assert now != was
        assert not {now[i : i + 8] for i in range(0, len(now) - 8, 8)} & {was[i : i + 8] for i in range(len(was))}
    member = own.trust()
    (key,) = incident.live_keys(member, DESK)
    taken = [document for document in saved if documents.body(document, pb.Renunciation).key == key]
    member.take(taken[0], now_ms=NOON)
    assert member.key_ended(DESK, key) == "renounced by its desk"
    with pytest.raises(KeystoreError):
        Keystore.open(file, passphrase)


def test_nothing_is_destroyed_before_the_renunciation_is_safe(own: World, tmp_path: Path) -> None:
    file, secrets = desk_keystore(own, tmp_path)

    def full(_: object) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="full"):
        panic.panic(file, PASSPHRASE, DESK, lineage=own.lineage, now_ms=NOON, reason="", save=full)
    with pytest.raises(KeystorePassphraseError):
        run_panic(own, file, [], b"wrong")
    with Keystore.open(file, PASSPHRASE) as store:
        assert [store.get(name) for name in store.names()] == secrets


def test_panic_broken_off_at_any_point_can_be_done_again(
    own: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, _ = desk_keystore(own, tmp_path, b"")
    real = panic._overwrite

    class PowerLostError(BaseException):
        pass

    def dies(victim: Path) -> bool:
        if victim == file.resolve():
            raise PowerLostError
        return real(victim)

    monkeypatch.setattr(panic, "_overwrite", dies)
    saved: list[Document] = []
    with pytest.raises(PowerLostError):
        run_panic(own, file, saved, b"")
    assert saved, "the renunciation was safe first"
    monkeypatch.setattr(panic, "_overwrite", real)
    assert [path.name for path in panic.destroy(file)] == ["desk.keys"]
    assert panic.destroy(file) == ()


def test_what_cannot_be_destroyed_is_said(own: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, _ = desk_keystore(own, tmp_path, b"")
    real = os.write

    def fails(descriptor: int, data: bytes) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "write", fails)
    with pytest.raises(panic.DestroyError, match="Input/output"):
        panic.destroy(file)
    monkeypatch.setattr(os, "write", real)
    assert not file.exists(), "unlinked all the same"


def test_a_keystore_without_desk_keys_is_not_renounced(tmp_path: Path) -> None:
    with Keystore.create(tmp_path / "k", b"", fast_kdf=True) as store, pytest.raises(KeystoreError, match="no signing"):
        panic.renounce(store, DESK, lineage=b"l" * 32, now_ms=NOON, reason="")


def test_no_secret_shows(own: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, secrets = desk_keystore(own, tmp_path, b"")
    saved: list[Document] = []
    done = run_panic(own, file, saved, b"")
    told = repr(done) + repr(saved) + "".join(capsys.readouterr())
    for secret in secrets:
        assert secret.hex() not in told
        assert repr(secret)[2:-1] not in told


# ---- a desk follows its roster


def test_a_desk_prepares_one_key_uses_it_in_time_and_destroys_the_old(own: World, tmp_path: Path) -> None:
    trust = own.trust()
    with Keystore.create(tmp_path / "k", b"", fast_kdf=True) as store:
        key = own.desks[DESK]
        store.put("signing", key.seed(), kind="signing", public=key.public)
        public = desk_keys.prepare(store, trust, DESK)
        assert desk_keys.prepare(store, trust, DESK).key == public.key, "one waits already"
        new = suite.key_id(public.suite, "desk", public.key)
        (old,) = incident.live_keys(trust, DESK)
        have = desk_keys.names(store)
        assert set(have) == {old, new}
        plan = planning.make(
            trust, party="kr", kind=Kind.DESK, name=DESK, new=canonical_bytes(public), now_ms=NOON, offline=["nl"]
        )
        for step in plan.steps:
            rotation.advance(plan, trust, now_ms=step.due_ms, sign=hands(own))
            if step.id != "retire":
                assert desk_keys.destroy_retired(store, trust, DESK) == ()
            before = plan.times.first_use_ms - 1
            assert desk_keys.in_use(trust, DESK, now_ms=before, have=have) == (None if step.id == "retire" else old)
        after = plan.times.first_use_ms
        assert desk_keys.in_use(trust, DESK, now_ms=after, have=have) == new
        assert desk_keys.in_use(trust, DESK, now_ms=after, have=[old]) is None
        assert desk_keys.destroy_retired(store, trust, DESK) == ("signing",)
        assert set(desk_keys.names(store)) == {new} == set(plans.new_identities(Kind.DESK, plan.new))
        assert desk_keys.destroy_retired(store, trust, DESK) == (), "the last key stays"


def test_a_desk_has_no_key_to_use_when_its_only_one_ended(own: World) -> None:
    trust = own.trust()
    (key,) = incident.live_keys(trust, DESK)
    assert desk_keys.in_use(trust, DESK, now_ms=NOON, have=[key]) == key
    end(own, trust, Tainted())
    assert desk_keys.in_use(trust, DESK, now_ms=NOON, have=[key]) is None
    assert desk_keys.in_use(trust, "jp.x/y", now_ms=NOON, have=[key]) is None
