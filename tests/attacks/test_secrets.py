"""Attack 30: a key leaves through logs, errors or arguments. The main flows run as real processes, and everything they
leave in sight is searched: arguments, environments, output, logs, and every file that is no keystore."""

import base64
import gc
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from exchange import tls
from exchange.demo import found as founding_demo
from exchange.demo.found import NODES, Founded
from keys import courier, founding, suite
from keys.keystore import Keystore
from keys.v1 import documents_pb2 as docs
from tests.desk import memory
from tests.desk.test_couriers import BAG, HAGUE, SEOUL, enter, require_couriers, send
from tests.keys import tokens
from tests.keys.tokens import MODULE, PIN
from tests.world import found as found_world

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
PASSPHRASE = b"passphrase-d41d8cd98f00b204"
MARK = "plaintext-9e107d9d372bb682"
REPORT = f'{{"subject": {{"item": "graphite", "stage": "mineral"}}, "level": "watch", "summary": "{MARK}"}}\n'
PIECE = 12
"""So many bytes of a secret in a row are a leak; fewer could be chance."""


@dataclass
class Sight:
    """What could be seen: by name, the bytes. `secrets` by name; `allowed` are the places where one may stand."""

    seen: dict[str, bytes] = field(default_factory=dict)
    secrets: dict[str, bytes] = field(default_factory=dict)

    def add(self, where: str, data: bytes | str) -> None:
        self.seen[where] = self.seen.get(where, b"") + (data.encode() if isinstance(data, str) else data)

    def leaks(self, only: str = "") -> list[tuple[str, str]]:
        """(secret, place) of each that is in sight."""
        needles = [(name, form) for name, secret in self.secrets.items() for form in forms(secret) if only in name]
        return sorted({(name, where) for where, data in self.seen.items() for name, form in needles if form in data})


def forms(secret: bytes) -> list[bytes]:
    """Ways in which the head, middle or end of a secret could be printed."""
    cuts = {0, max(0, len(secret) // 2 - PIECE), max(0, len(secret) - PIECE)}
    found = []
    for part in (secret[cut : cut + PIECE] for cut in cuts):
        found += [part, part.hex().encode(), part.hex().upper().encode(), repr(part)[2:-1].encode()]
        found += [base64.b64encode(part), base64.urlsafe_b64encode(part), str(list(part))[1:-1].encode()]
        # Base64 of something longer, in which the secret begins at any of three places.
        for shift in (1, 2):
            found.append(base64.b64encode(bytes(shift) + part)[4:-4])
    return [form for form in found if len(form) >= PIECE]


class Watch:
    """Reads arguments and environment of every process that carries the mark of this test, again and again."""

    def __init__(self, sight: Sight) -> None:
        self.mark = f"TOCSIN_WATCHED={uuid.uuid4().hex}"
        self.pids: set[int] = set()
        self._sight, self._stop = sight, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def env(self) -> dict[str, str]:
        name, _, value = self.mark.partition("=")
        return {**os.environ, name: value, "PYTHONPATH": str(ROOT)}

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            for process in Path("/proc").iterdir():
                if process.name.isdigit():
                    self._look(process)

    def _look(self, process: Path) -> None:
        try:
            environ = (process / "environ").read_bytes()
            if self.mark.encode() not in environ:
                return
            arguments = (process / "cmdline").read_bytes()
        except OSError:
            return
        self.pids.add(int(process.name))
        self._sight.seen[f"environment of {process.name}"] = environ
        self._sight.seen[f"arguments of {process.name} {len(arguments)}"] = arguments


@dataclass
class Flow:
    """Runs commands as a person does, and keeps all they say."""

    root: Path
    sight: Sight
    watch: Watch

    def run(self, *arguments: str | Path, code: int = 0, plain: bool = False) -> str:
        """A command; `plain` says that its output is the text of a report, which is then not searched."""
        program, *rest = map(str, arguments)
        done = subprocess.run(
            [str(BIN / program), *rest], cwd=self.root, env=self.watch.env(), capture_output=True, timeout=60
        )
        said = f"{program} {' '.join(rest[:2])}"
        assert done.returncode == code, (said, done.stdout, done.stderr)
        self.sight.add(f"stderr of {said}", done.stderr)
        if not plain:
            self.sight.add(f"stdout of {said}", done.stdout)
        return done.stdout.decode()


def give_passphrase(directory: Path) -> None:
    """Put a desk's secrets under a passphrase instead of a key file."""
    path = directory / "desk.keys"
    old = path.with_name("old.keys")
    path.rename(old)
    Path(f"{path}.key").rename(f"{old}.key")
    with Keystore.open(old, b"") as store:
        store.copy_to(path, PASSPHRASE, fast_kdf=True)
    for file in (old, Path(f"{old}.key"), Path(f"{old}.lock")):
        file.unlink(missing_ok=True)


def keystores(root: Path) -> Iterator[tuple[Path, Keystore]]:
    for path in sorted(root.rglob("*.keys")):
        with Keystore.open(path, b"" if Path(f"{path}.key").exists() else PASSPHRASE) as store:
            yield path, store


def learn(sight: Sight, root: Path, founded: Founded) -> None:
    """Everything secret there is by now."""
    for path, store in keystores(root):
        for entry in store.entries():
            where = f"{path.relative_to(root)} {entry.name}"
            secret = store.get(entry.name)
            if entry.kind == "tls":
                # The number alone: the point that goes with it is in the certificate.
                secret = tls.load_key(secret).private_numbers().private_value.to_bytes(32, "big")
            if entry.kind == "courier":
                continue  # as its key and halves, below
            sight.secrets[where] = secret
        if Path(f"{path}.key").exists():
            sight.secrets[f"{path.relative_to(root)}.key"] = Path(f"{path}.key").read_bytes()
    for party in founded.parties.values():
        for role, held in party.keys.items():
            for holder, key in held.items():
                sight.secrets[f"{party.party} {role} {holder}"] = key.seed()
    for name in ("half-1", "half-2"):
        sheet = courier.parse_sheet((root / name).read_text())
        sight.secrets[name] = sheet.half
        for line in sheet.text().splitlines()[6:]:
            sight.secrets[f"{name} line {line[0]}"] = line[3:].encode()
            sight.secrets[f"{name} digits {line[0]}"] = line[3:].replace(" ", "").encode()
    sight.secrets["courier key"] = courier.join(
        *(courier.parse_sheet((root / name).read_text()) for name in ("half-1", "half-2"))
    ).key
    sight.secrets |= {"passphrase": PASSPHRASE, "PIN": PIN, "plaintext": MARK.encode()}


def look_at_files(sight: Sight, root: Path) -> None:
    for path in root.rglob("*"):
        if path.is_file() and not path.name.endswith(".keys.key") and path.name not in SECRET_FILES:
            sight.add(f"file {path.relative_to(root)}", path.read_bytes())


SECRET_FILES = {"passphrase", "pin", "half-1", "half-2", "report.jsonl"}
"""What a person wrote, or had written, on purpose."""


def with_couriers(**given: object) -> docs.Agreement:
    draft = _standard(**given)  # type: ignore[arg-type]
    for rule in draft.channels:
        rule.courier_group = "bag" if rule.channel == "minerals" else ""
    return draft


_standard = founding.standard_agreement


@pytest.fixture(scope="module")
def sight(tmp_path_factory: pytest.TempPathFactory) -> Sight:
    root = tmp_path_factory.mktemp("secrets")
    seen = Sight()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(founding, "standard_agreement", with_couriers)
        founded = founding_demo.found(root / "exchange", title="secrets")
    for name in (HAGUE, SEOUL):
        give_passphrase(founded.desk(name))
    for name, text in (("passphrase", PASSPHRASE + b"\n"), ("pin", PIN), ("report.jsonl", REPORT.encode())):
        (root / name).touch(0o600)
        (root / name).write_bytes(text)
    nodes: list[subprocess.Popen[bytes]] = []
    with Watch(seen) as watch:
        flow = Flow(root, seen, watch)
        try:
            carry_a_courier_key(flow, founded)
            nodes += [start_node(flow, founded.node(party)) for party in NODES]
            publish_and_read(flow, founded)
        finally:
            for node in nodes:
                node.terminate()
                node.wait(20)
        replace_keys(flow, founded)
        assert len(watch.pids) > 10, "the watch saw the processes"
    for log in root.glob("*.log"):
        assert log.stat().st_size, "the nodes log"
    learn(seen, root, founded)
    look_at_files(seen, root)
    return seen


def start_node(flow: Flow, directory: Path) -> subprocess.Popen[bytes]:
    with (flow.root / f"{directory.name}.log").open("wb") as log:
        node = subprocess.Popen(
            [sys.executable, "-m", "exchange.node", str(directory)], env=flow.watch.env(), stdout=log, stderr=log
        )
    end = time.monotonic() + 30
    while not (directory / "node.ready").exists():
        assert node.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    return node


def carry_a_courier_key(flow: Flow, founded: Founded) -> None:
    first, second = (founded.desk(name) / "desk.keys" for name in (HAGUE, SEOUL))
    secret = ("--passphrase-file", "passphrase")
    flow.run(
        "tocsin-keys", "courier", "new", "--keystore", first, "--group", "bag", "--first-use", "2026-01-01T00:00:00Z",
        "--half-1", "half-1", "--half-2", "half-2", *secret,
    )  # fmt: skip
    halves = ("--half", "half-1", "--half", "half-2")
    flow.run("tocsin-keys", "courier", "enter", "--keystore", second, *halves, *secret)
    flow.run("tocsin-keys", "courier", "list", "--keystore", second, *secret, "--json")
    # Errors: a mistyped digit, a wrong passphrase, a key that is there already.
    lines = (flow.root / "half-1").read_text().splitlines()
    wrong = flow.root / "half-1-mistyped"
    wrong.touch(0o600)
    wrong.write_text("\n".join([*lines[:6], "1: 00000 00000 0000", *lines[7:]]))
    flow.run(
        "tocsin-keys", "courier", "enter", "--keystore", second, "--half", wrong, "--half", "half-2", *secret, code=1
    )
    wrong.unlink()
    flow.run("tocsin-keys", "courier", "list", "--keystore", second, "--passphrase-file", "pin", code=1)


def publish_and_read(flow: Flow, founded: Founded) -> None:
    sender, reader = founded.desk(HAGUE), founded.desk(SEOUL)
    secret = ("--passphrase-file", "passphrase")
    flow.run("tocsin", "publish", "minerals", "report.jsonl", "--desk", sender, *secret)
    end = time.monotonic() + 60
    while MARK not in flow.run("tocsin", "inbox", "--desk", reader, *secret, "--json", plain=True):
        assert time.monotonic() < end
        read_once(flow, reader)
    # Errors: a wrong passphrase, a channel that is none, a desk that lacks the courier key.
    flow.run("tocsin", "publish", "minerals", "report.jsonl", "--desk", sender, "--passphrase-file", "pin", code=1)
    flow.run("tocsin", "publish", "nothing", "report.jsonl", "--desk", sender, *secret, code=1)
    flow.run("tocsin", "publish", "minerals", "report.jsonl", "--desk", founded.desk("nl.bz/supply"), code=1)
    flow.run("tocsin", "explain", "minerals", "--desk", sender, *secret)


READER = """
import asyncio, pathlib, sys
from exchange.desk import Desk

async def main():
    secret = pathlib.Path("passphrase").read_bytes().strip()
    async with Desk.open(sys.argv[1], passphrase=secret) as desk:
        print(desk, desk._own, desk._own.couriers, desk._own.cards, desk.archive, desk._own.key)
        async for delivery in desk.subscribe("minerals", follow=False):
            print(delivery)
        print(desk.events())

asyncio.run(main())
"""


def read_once(flow: Flow, reader: Path) -> None:
    """A program of somebody's own, which prints what it gets."""
    done = subprocess.run(
        [sys.executable, "-c", READER, str(reader)],
        cwd=flow.root,
        env=flow.watch.env(),
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    flow.sight.add("output of a reader", done.stdout + done.stderr)


def replace_keys(flow: Flow, founded: Founded) -> None:
    """Keys of holders, made, shown, copied and restored; a half in a token where there is one."""
    secret = ("--passphrase-file", "passphrase")
    making = ("--party", "kr", "--holder", "first", "--keystore", "holder.keys", *secret)
    flow.run("tocsin-keys", "root", "new", *making, "--out", "first.part")
    flow.run("tocsin-keys", "root", "new", *making, "--out", "again.part", code=1)
    flow.run("tocsin-keys", "key", "list", "--keystore", "holder.keys", *secret)
    flow.run("tocsin-keys", "key", "list", "--keystore", "holder.keys", "--passphrase-file", "pin", code=1)
    if MODULE:
        tokens.make(flow.root, "ministry")
        in_token = ("--module", MODULE, "--token", "ministry", "--keystore", "holder.keys")
        flow.run("tocsin-keys", "token", "new", *in_token, "--name", "signing", "--pin-file", "pin", *secret)
        flow.run(
            "tocsin-keys", "token", "new", *in_token, "--name", "other", "--pin-file", "passphrase", *secret, code=1
        )


def test_30_nothing_secret_is_in_sight(sight: Sight) -> None:
    assert len(sight.secrets) > 60
    assert len(sight.seen) > 60
    assert sight.leaks() == []


def test_30_the_search_finds_what_is_there(sight: Sight) -> None:
    """Each secret, in each form, is found in a log line; so the empty result above is one."""
    for name, secret in sight.secrets.items():
        for printed in (
            secret, secret.hex().encode(), repr(secret).encode(), str(list(secret)).encode(),
            base64.b64encode(secret), base64.b64encode(b"x" + secret), base64.b64encode(b"xx" + secret),
        ):  # fmt: skip
            alone = Sight({"a log": b"2026-11-24 key=" + printed + b" done"}, {name: secret})
            assert alone.leaks() == [(name, "a log")], (name, printed[:20])


def test_30_the_watch_sees_arguments_and_environment() -> None:
    seen = Sight(secrets={"passphrase": PASSPHRASE})
    with Watch(seen) as watch:
        for env, argument in (({}, PASSPHRASE.decode()), ({"SECRET": PASSPHRASE.decode()}, "x")):
            subprocess.run(["sh", "-c", "sleep 0.3", argument], env={**watch.env(), **env}, check=True)
    assert {where.partition(" ")[0] for _, where in seen.leaks()} == {"arguments", "environment"}


async def test_30_no_object_shows_a_secret(tmp_path: Path) -> None:
    """The repr of everything alive that is ours: a traceback or a careless log line shows it."""
    exchange = memory.exchange(tmp_path, found_world(weeks=0, change=require_couriers), HAGUE, SEOUL)
    await exchange.synchronise()
    enter(exchange, HAGUE, BAG)
    enter(exchange, SEOUL, BAG)
    alive: list[object] = []
    await send(exchange, MARK)
    sheets = courier.split(BAG)
    card = suite.CardKey.generate()
    split = suite.SplitKey(1, pq=suite.mldsa_half(1, bytes(range(32))), ed=_half())
    async with exchange.open(SEOUL) as desk:
        alive += [one async for one in desk.subscribe("minerals", follow=False)]
        alive += [desk, *desk.archive.received()]
        secrets = {"plaintext": MARK.encode(), "bag": BAG.key, "half": sheets[0].half, "card": card.seed()}
        for name in (HAGUE, SEOUL):
            with exchange.keystore(name) as store:
                secrets |= {f"{name} {entry}": store.get(entry) for entry in store.names() if entry[:7] != "courier"}
        secrets |= {name: key.seed() for name, key in exchange.world.desks.items()}
        shown = shown_of_ours()
        assert len(shown) > 15, sorted(shown)
        assert Sight(shown, secrets).leaks() == []
    assert split.public


def _half() -> suite.Half:
    key = suite.SigningKey.generate(1)
    return suite.Half(suite.components(1, key.public)[1], lambda message, _: key._ed.sign(message))


def shown_of_ours() -> dict[str, bytes]:
    """By class, what repr and str of it show. Messages of the wire are what they are, and no class of ours."""
    shown: dict[str, bytes] = {}
    for one in gc.get_objects():
        module = getattr(type(one), "__module__", None)
        if isinstance(module, str) and module.startswith(("keys.", "exchange.")) and "_pb2" not in module:
            name = f"{module}.{type(one).__qualname__}"
            shown[name] = shown.get(name, b"") + repr(one).encode() + str(one).encode()
    return shown
