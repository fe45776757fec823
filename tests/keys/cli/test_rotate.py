"""`tocsin-keys plan` and `incident`, as holders type them: far apart, interrupted, mistaken."""

import json
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner

from exchange import cli as node_cli
from keys import documents, panic
from keys.cli import book as books
from keys.cli import files
from keys.cli import incident as incident_cli
from keys.cli import rotate as rotate_cli
from keys.keystore import Keystore
from keys.suite import DESK_SUITE, SigningKey
from keys.trust import EquivocationError, Trust
from tests.keys.cli.office import PASSPHRASE, Office, lineage_of
from tests.keys.cli.test_power import PowerLost, power_lost_after

DESK = "kr.motie/supply"
HOUR = 3600 * 1000
DAY = 24 * HOUR
BUNDLE = ("--bundle", "exchange.bundle")
STAFF = ("--keystore", "kr-staff.keys", "--passphrase-file", "pw")
DUTY = ("--keystore", "kr-duty.keys")


class Clock:
    """The clock of every command."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def clock(staffed: Office, monkeypatch: pytest.MonkeyPatch) -> Clock:
    from keys.cli import status as status_cli

    start = documents.peek(files.load(staffed.path("exchange.bundle"))[-1])
    clock = Clock(start.issue_time_ms + HOUR)  # type: ignore[union-attr]
    for module in (rotate_cli, incident_cli, status_cli):
        monkeypatch.setattr(module, "now_ms", clock)
    return clock


def trust_of(office: Office, clock: Clock, bundle: str = "exchange.bundle") -> Trust:
    return books.load([office.path(bundle)], now_ms=clock()).founded()


def desk_machine(office: Office) -> None:
    with Keystore.create(office.path("desk.keys"), b"", fast_kdf=True) as store:
        key = SigningKey.generate(DESK_SUITE)
        store.put("signing", key.seed(), kind="signing", public=key.public)
    office.ok(
        *(
            "plan",
            "prepare",
            "--desk",
            DESK,
            "--keystore",
            "desk.keys",
            "--held",
            "exchange.bundle",
            "--out",
            "next.key",
        )
    )


def plan_desk(office: Office, *more: str) -> str:
    desk_machine(office)
    done = office.ok(
        *(
            "plan",
            "rotate",
            "desk",
            "--name",
            DESK,
            "--new",
            "next.key",
            "--held",
            "exchange.bundle",
            "--out",
            "p.plan",
        ),
        *("--json", *more),
    )
    return done.json["digest"]


def apply(office: Office, *more: str | Path) -> dict[str, object]:
    done = office.run("plan", "apply", "p.plan", *BUNDLE, *STAFF, "--json", *more)
    assert done.code in (0, 1), done.err
    return json.loads(done.out)


def confirm(office: Office, clock: Clock) -> None:
    """The other party takes what was published, and issues its daily status."""
    office.ok("status", "issue", *BUNDLE, "--keystore", "nl-duty.keys")


def test_a_desk_key_from_draft_to_end(staffed: Office, clock: Clock) -> None:
    digest = plan_desk(staffed)
    shown = staffed.ok("plan", "show", "p.plan")
    assert "if a party is offline" in shown.out
    said = apply(staffed, "--digest", digest, *DUTY)
    assert said["done"] == ["announce"]
    assert len(said["released"]) == 2, "the roster, and the status that names it"
    assert said["next"] == "publish"
    again = apply(staffed, *DUTY)
    assert again["released"] == []
    clock.now_ms = said["due_ms"]
    waits = apply(staffed, *DUTY)
    assert "not confirmed by nl" in str(waits["waiting"])
    confirm(staffed, clock)
    said = apply(staffed, *DUTY)
    assert said["done"] == ["announce", "publish"]
    clock.now_ms = json.loads(staffed.ok("plan", "show", "p.plan", "--json").out)["steps"][-1]["due_ms"]
    said = apply(staffed, *DUTY)
    assert said["next"] is None
    entry = next(d for d in trust_of(staffed, clock).roster("kr").body.desks if d.desk == DESK)
    assert len(entry.keys) == 1


ROLE_HOLDERS = {"root": ("first", "second", "third"), "roster": ("staff",), "status": ("duty",)}


def new_part(office: Office, kind: str) -> tuple[list[str], list[str]]:
    """The next key of a kind, drawn where it belongs: the words that name it, and the keystores it lies in."""
    if kind in ROLE_HOLDERS:
        holders = ROLE_HOLDERS[kind]
        draw = ("root", "new") if kind == "root" else ("key", "new", "--role", kind)
        new, stores = [], []
        for holder in holders:
            store, part = f"new-{holder}.keys", f"new-{holder}.part"
            office.ok(
                *(*draw, "--party", "kr", "--holder", holder, "--keystore", store),
                *("--passphrase-file", "pw", "--out", part),
            )
            new += ["--new", part]
            stores += ["--keystore", store]
        return ["--party", "kr", *new], stores
    done = CliRunner().invoke(
        node_cli.app, ["node", "prepare", kind, str(office.path("at-kr.the-hague-1")), "--out", str(office.path("new"))]
    )
    assert done.exit_code == 0, done.output
    return ["--name", "kr.the-hague-1", "--new", "new"], []


def in_use(trust: Trust, kind: str) -> list[bytes]:
    if kind in ROLE_HOLDERS:
        return [holder.key.key for holder in getattr(trust.party_document("kr"), kind).keys]
    node = trust.node("kr.the-hague-1")
    assert node is not None
    return [node.tls_ca if kind == "tls-ca" else node.log_key.key]


@pytest.mark.parametrize("kind", ["root", "roster", "status", "log", "tls-ca"])
def test_a_key_of_each_kind_from_plan_to_end(staffed: Office, clock: Clock, kind: str) -> None:
    shutil.copy(staffed.path("exchange.bundle"), staffed.path("at-kr.the-hague-1") / "documents.bundle")
    before = in_use(trust_of(staffed, clock), kind)
    words, stores = new_part(staffed, kind)
    made = staffed.ok("plan", "rotate", kind, *words, "--held", "exchange.bundle", "--out", "p.plan", "--json")
    staffed.ok("plan", "show", "p.plan")
    agreed = ["--digest", made.json["digest"]]
    old = ["--keystore", "kr-first.keys", "--keystore", "kr-second.keys"] if kind in ROLE_HOLDERS else []
    for _ in range(12):
        done = staffed.run("plan", "apply", "p.plan", *BUNDLE, *STAFF, *DUTY, *old, *stores, "--json", *agreed)
        if "holds no key that may sign" in done.err:
            # It was replaced a step ago, and its holder is not asked any more.
            gone = {f"kr-{name}.keys" for name in ROLE_HOLDERS[kind]}
            keep = [f for f in ("kr-first.keys", "kr-second.keys", "kr-staff.keys", "kr-duty.keys") if f not in gone]
            words = [word for file in keep for word in ("--keystore", file)]
            done = staffed.run(
                *("plan", "apply", "p.plan", *BUNDLE, *words, "--passphrase-file", "pw", *stores, "--json", *agreed)
            )
        assert done.code in (0, 1), done.err
        said, agreed = done.json, []
        if said["next"] is None:
            break
        # The other party takes it and says so; then it is the next step's time, or the confirmation's.
        confirm(staffed, clock)
        clock.now_ms = max(clock.now_ms + HOUR, int(str(said["due_ms"])))
    assert said["next"] is None, said
    trust = trust_of(staffed, clock)
    after = in_use(trust, kind)
    assert not set(before) & set(after)
    assert len(before) == len(after)


def test_a_courier_key_is_planned_though_people_carry_it(staffed: Office, clock: Clock) -> None:
    staffed.path("next.id").write_text("7a" * 16)
    made = staffed.ok(
        *("plan", "rotate", "courier", "--name", "bag", "--party", "kr", "--new", "next.id"),
        *("--held", "exchange.bundle", "--out", "p.plan", "--json"),
    )
    assert "do not begin before all have it" in staffed.ok("plan", "show", "p.plan").out
    agreed, by_hand = ["--digest", made.json["digest"]], []
    for _ in range(4):
        said = staffed.ok("plan", "apply", "p.plan", *BUNDLE, "--json", *agreed).json
        agreed, by_hand = [], said["by_hand"]
        # It is in no document: nothing is published, people are told what is due.
        assert said["released"] == []
        if said["next"] is None:
            break
        clock.now_ms = int(said["due_ms"])
        confirm(staffed, clock)
    assert by_hand == ["publish", "first-use", "retire"]


def test_a_plan_is_not_applied_before_it_is_agreed_nor_after_it_was_altered(staffed: Office, clock: Clock) -> None:
    digest = plan_desk(staffed)
    said = staffed.refused("plan", "apply", "p.plan", *BUNDLE, *STAFF, code=2)
    assert digest in said
    staffed.refused("plan", "apply", "p.plan", *BUNDLE, *STAFF, "--digest", "0" * 64, code=2)
    apply(staffed, "--digest", digest)
    text = staffed.path("p.plan").read_text()
    staffed.path("p.plan").write_text(text.replace('"offline":[]', '"offline":["nl"]'))
    staffed.refused("plan", "apply", "p.plan", *BUNDLE, *STAFF, code=2)


def test_times_that_break_a_window_are_refused_with_the_earliest(staffed: Office, clock: Clock) -> None:
    desk_machine(staffed)
    said = staffed.refused(
        *(
            "plan",
            "rotate",
            "desk",
            "--name",
            DESK,
            "--new",
            "next.key",
            "--held",
            "exchange.bundle",
            "--out",
            "p.plan",
        ),
        *("--first-use", "2030-01-01T00:00:00Z", "--publish", "2029-12-31T00:00:00Z"),
        code=2,
    )
    assert "desk.first-use" in said
    assert "the earliest that works is 2030-01-03T00:00:00Z" in said


def test_what_is_misused_is_refused(staffed: Office, clock: Clock) -> None:
    desk_machine(staffed)
    held = ("--held", "exchange.bundle", "--out", "p.plan")
    for arguments in (
        ("desk", "--name", "kr.motie/nobody", "--new", "next.key"),
        ("desk", "--name", "jp.x/y", "--new", "next.key"),
        ("desk", "--name", DESK, "--new", "pw"),
        ("desk", "--name", DESK, "--new", "next.key", "--new", "next.key"),
        ("roster", "--party", "kr", "--new", "kr-first.part"),
        ("roster", "--party", "kr", "--new", "kr-staff.part"),
        ("card", "--name", DESK, "--new", "next.key"),
        ("roster", "--party", "kr", "--new", "kr-staff.part", "--base", "zz"),
        ("desk", "--name", DESK, "--new", "next.key", "--offline-peer", "jp"),
    ):
        staffed.refused("plan", "rotate", *arguments, *held, code=2)
    staffed.refused("plan", "show", "pw", code=2)
    staffed.refused("plan", "apply", "pw", *BUNDLE, "--digest", "0" * 64, code=2)


def test_a_rehearsal_reports_and_changes_nothing(staffed: Office, clock: Clock) -> None:
    plan_desk(staffed)
    before = staffed.files()
    done = staffed.ok("plan", "rehearse", "p.plan", "--held", "exchange.bundle", "--runs", "2", "--json")
    assert done.json["refused"] == []
    assert done.json["taken"] > 0
    assert staffed.files() == before


def test_roots_far_apart_replace_a_stolen_roster_key_alone(staffed: Office, clock: Clock) -> None:
    staffed.ok(
        *("key", "new", "--role", "roster", "--party", "kr", "--holder", "staff"),
        *("--keystore", "kr-new.keys", "--passphrase-file", "pw", "--out", "kr-new.part"),
    )
    plan = staffed.ok(
        *("plan", "rotate", "roster", "--party", "kr", "--new", "kr-new.part", "--held", "exchange.bundle"),
        *("--emergency", "--out", "p.plan", "--json"),
    )
    one = staffed.run(
        *("plan", "apply", "p.plan", *BUNDLE, "--keystore", "kr-first.keys", "--keystore", "kr-new.keys"),
        *("--passphrase-file", "pw", "--digest", plan.json["digest"], "--json"),
    )
    assert one.code == 1
    assert "1 more of" in one.json["waiting"]
    (waiting,) = [p for p in staffed.directory.iterdir() if p.name.startswith("p.plan.") and p.suffix == ".draft"]
    staffed.sign("party", waiting.name, "kr-second", "copy.signed", "--held", "exchange.bundle")
    two = staffed.ok(
        *("plan", "apply", "p.plan", *BUNDLE, "--signed", "copy.signed", "--keystore", "kr-new.keys"),
        *("--keystore", "kr-duty.keys", "--passphrase-file", "pw", "--json"),
    )
    assert two.json["next"] is None
    trust = trust_of(staffed, clock)
    assert trust.roster("kr").number == (2, 1)
    assert not [p for p in staffed.directory.iterdir() if p.suffix == ".draft" and p.name.startswith("p.plan.")]
    staffed.refused(*("plan", "apply", "p.plan", *BUNDLE, "--signed", "copy.signed", "--passphrase-file", "pw"), code=2)


CUT = {
    "apply": ("plan", "apply", "p.plan", *BUNDLE, *STAFF, *DUTY, "--copy-to", "node.bundle"),
    "apply, a holder is away": ("plan", "apply", "p.plan", *BUNDLE, *DUTY, "--copy-to", "node.bundle"),
    "revoke": ("incident", "revoke", DESK, "--reason", "lost", *BUNDLE, *STAFF, *DUTY, "--copy-to", "node.bundle"),
    "status": ("status", "issue", *BUNDLE, *DUTY, "--copy-to", "node.bundle"),
}


@pytest.mark.parametrize("name", CUT)
def test_cut_off_between_its_writes_and_run_again_later(
    staffed: Office, clock: Clock, tmp_path: Path, name: str
) -> None:
    assert cut_everywhere(staffed, clock, tmp_path, name) >= 6, "nothing was cut"


def test_a_copy_that_is_written_first_makes_two_documents_of_one_number(
    staffed: Office, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copies_first(bundle: Path, copies: list[Path], trust: Trust, released: list[documents.Document]) -> None:
        for path in (*copies, bundle) if released else ():
            files.save_bundle(path, list(trust.documents()), fresh=False)

    monkeypatch.setattr(rotate_cli, "publish", copies_first)
    with pytest.raises(EquivocationError):
        cut_everywhere(staffed, clock, tmp_path, "apply")


def cut_everywhere(office: Office, clock: Clock, place: Path, name: str) -> int:
    """Cut a command off at each step it has on the disk, and run it again an hour later; how many steps there are."""
    digest = plan_desk(office)
    agreed = ("--digest", digest) if name.startswith("apply") else ()
    start = clock()
    for calls in range(100):
        clock.now_ms = start
        attempt = Office(place / f"cut-{calls}")
        shutil.copytree(office.directory, attempt.directory)
        cut = True
        with power_lost_after(calls), suppress(PowerLost):
            attempt.run(*CUT[name], *agreed)
            cut = False
        # What a node took of the copy in the meantime.
        node = Trust(lineage_of(office))
        copy = attempt.path("node.bundle")
        for document in files.load(copy) if copy.exists() else ():
            node.take(document, now_ms=clock())
        clock.now_ms += HOUR
        attempt.run(*CUT[name], *agreed)
        held = {document.digest for document in files.load(attempt.path("exchange.bundle"))}
        if copy.exists():
            assert {document.digest for document in files.load(copy)} == held, f"after {calls} steps"
            for document in files.load(copy):
                node.take(document, now_ms=clock())
        keys = trust_of(attempt, clock).roster("kr").desks[DESK].keys
        if name == "apply":
            assert len(keys) == 2, "announced once"
        if name == "revoke":
            assert copy.exists()
            assert trust_of(attempt, clock, "node.bundle").key_ended(DESK, next(iter(keys)))
        assert attempt.path("p.plan.announce.draft").exists() == ("away" in name)
        if not cut:
            return calls
    pytest.fail("the command never ended")


# ---- incidents


def test_taint_then_revoke_with_a_new_status_and_copies_for_the_nodes(staffed: Office, clock: Clock) -> None:
    staffed.ok("incident", "taint", DESK, *BUNDLE, *STAFF, *DUTY)
    trust = trust_of(staffed, clock)
    (key,) = trust.roster("kr").desks[DESK].keys
    assert trust.key_ended(DESK, key) == "tainted: its party suspects it"
    staffed.ok("incident", "revoke", DESK, "--reason", "stolen", *BUNDLE, *STAFF, *DUTY, "--copy-to", "node.bundle")
    after = trust_of(staffed, clock, "node.bundle")
    assert after.key_ended(DESK, key) == "revoked by its party"
    assert after.status("kr").roster.digest == after.roster("kr").document.digest
    staffed.refused("incident", "revoke", DESK, "--reason", "again", *BUNDLE, *STAFF, code=2)
    rows = [
        {"id": "aa", "key": key.hex(), "verdict": "counted", "create_time_ms": 1},
        {"id": "bb", "key": key.hex(), "verdict": "disputed", "create_time_ms": 2},
        {"id": "cc", "key": "00" * 32, "verdict": "counted", "create_time_ms": 3},
    ]
    staffed.path("positions").write_text("\n".join(map(json.dumps, rows)))
    told = staffed.ok("incident", "touched", DESK, "positions", *BUNDLE, "--json").json
    assert (told["counted"], told["disputed"], len(told["envelopes"])) == (1, 1, 2)


def test_a_revocation_waits_for_its_holder(staffed: Office, clock: Clock) -> None:
    arguments = ("incident", "revoke", DESK, "--reason", "stolen", *BUNDLE, "--json")
    dry = staffed.files()
    assert staffed.run(*arguments, "--dry-run").code == 1
    assert staffed.files() == dry
    assert staffed.run(*arguments).code == 1
    (waiting,) = [p for p in staffed.directory.iterdir() if ".revoked." in p.name]
    staffed.sign("roster", waiting.name, "kr-staff", "copy.signed", "--held", "exchange.bundle")
    done = staffed.ok(*arguments, "--signed", "copy.signed")
    assert done.json["complete"]
    assert not waiting.exists()


def test_a_broken_disk_leaves_the_old_bundle(staffed: Office, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    before = staffed.path("exchange.bundle").read_bytes()
    real = Path.replace

    def broken(self: Path, target: Path) -> Path:
        if Path(target).name == "exchange.bundle":
            raise OSError(28, "No space left on device")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", broken)
    done = staffed.run("incident", "taint", DESK, *BUNDLE, *STAFF)
    assert done.code == 1
    assert "No space left" in done.err
    assert staffed.path("exchange.bundle").read_bytes() == before


def test_panic_at_a_desk(staffed: Office, clock: Clock) -> None:
    with Keystore.create(staffed.path("desk.keys"), PASSPHRASE.encode(), fast_kdf=True) as store:
        key = SigningKey.generate(DESK_SUITE)
        store.put("signing", key.seed(), kind="signing", public=key.public)
        secret = store.get("signing")
    shutil.copy(staffed.path("desk.keys"), staffed.path("copy.keys"))
    arguments = ("incident", "panic", DESK, "--keystore", "desk.keys", "--passphrase-file", "pw", "--out", "r.bundle")
    lineage = ("--lineage", lineage_of(staffed).hex())
    staffed.refused(*arguments, *lineage, typed="no\n", code=2)
    staffed.refused(*arguments, "--lineage", "12", "--yes", code=2)
    done = staffed.ok(*arguments, *lineage, typed="destroy\n")
    assert not staffed.path("desk.keys").exists()
    assert all(text in done.err for text in panic.LIMITS)
    (renunciation,) = files.load(staffed.path("r.bundle"))
    assert renunciation.type == "tocsin/1/renunciation"
    staffed.refused(*arguments, *lineage, "--yes", code=2)
    told = "".join(staffed.said)
    assert secret.hex() not in told
    assert PASSPHRASE not in told
    # Nobody has the passphrase: it can still be destroyed.
    shutil.move(staffed.path("copy.keys"), staffed.path("desk.keys"))
    staffed.path("wrong").touch(0o600)
    staffed.path("wrong").write_text("something else\n")
    wrong = ("incident", "panic", DESK, "--keystore", "desk.keys", "--passphrase-file", "wrong", "--out", "r2", "--yes")
    staffed.refused(*wrong, *lineage)
    staffed.ok(*wrong, *lineage, "--without-renouncing")
    assert not staffed.path("desk.keys").exists()
    assert not staffed.path("r2").exists()
