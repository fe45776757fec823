"""A desk and a node whose signing keys are in a token: cards, envelopes, receipts, and read abroad like any other."""

import subprocess
import sys
from pathlib import Path

import pytest

from exchange.desk import DeskSettings, init
from keys import desk_keys, signer, suite
from keys.keystore import Keystore, KeystoreError
from keys.pkcs11 import Token, TokenMissingError
from keys.v1 import documents_pb2 as docs
from tests.desk import memory
from tests.desk.test_couriers import HAGUE, SEOUL, read, send
from tests.keys.tokens import MODULE, PIN, needs_token
from tests.world import found

NODE = "kr.the-hague-1"


@needs_token
async def test_a_desk_and_a_node_sign_with_a_token(made: None, tmp_path: Path) -> None:
    pin = tmp_path / "pin"
    pin.touch(0o600)
    pin.write_bytes(PIN)
    apart = Keystore.create(tmp_path / "apart.keys", b"")
    with Token.open(MODULE, "ministry", PIN) as token:
        keys = {
            name: signer.make_in_token(apart, name, suite.DESK_SUITE, token, pin_file=str(pin))[0]
            for name in (HAGUE, NODE)
        }
    world = found(weeks=0, keys={name: signer.load(apart, name, suite.DESK_SUITE) for name in keys})
    world_of_seeds = {name: key for name, key in world.desks.items() if name != HAGUE}
    assert all(isinstance(key, suite.SigningKey) for key in world_of_seeds.values())
    # The desk's keystore gets the reference, never a seed.
    exchange = memory.exchange(tmp_path, world, SEOUL)
    directory = memory.make_desk(tmp_path, world, HAGUE, signing=(apart.get(HAGUE), signer.REFERENCE))
    exchange.directories = {**exchange.directories, HAGUE: directory}
    with exchange.keystore(HAGUE) as store:
        assert store.entry("signing").kind == signer.REFERENCE
        assert signer.where(store, "signing").startswith("Ed25519 half in token 'ministry'")
    await exchange.synchronise()
    await send(exchange, "signed in the token", channel="materials")
    async with exchange.open(SEOUL) as desk:
        assert await read(desk, "materials") == ["signed in the token"]
        assert desk.events() == []
    # Without its token, or without its PIN, the desk says so instead of sending.
    with Token.open(MODULE, "ministry", PIN) as token:
        token.destroy(signer.Reference.decode(apart.get(HAGUE)).identity)
    with pytest.raises(TokenMissingError, match="has no EC_EDWARDS key"):
        await send(exchange, "never", channel="materials")
    pin.unlink()
    with pytest.raises(KeystoreError, match="cannot read"):
        await send(exchange, "never", channel="materials")


def command(*arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    tocsin = Path(sys.executable).parent / "tocsin"
    done = subprocess.run([str(tocsin), *map(str, arguments)], capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    assert PIN.decode() not in done.stdout + done.stderr
    return done


@needs_token
def test_desks_and_nodes_are_made_with_their_key_in_a_token(made: None, tmp_path: Path) -> None:
    pin = tmp_path / "pin"
    pin.touch(0o600)
    pin.write_bytes(PIN)
    in_token = ("--module", MODULE, "--token", "spare", "--pin-file", pin)
    desk = ("desk", "init", tmp_path / "desk", "--name", SEOUL, "--node", "nl.seoul-1", "--lineage", "0" * 64)
    assert "needs --module, --token and --pin-file" in command(*desk, *in_token[:4], code=2).stderr
    pin.write_bytes(b"wr0ng-pin")
    assert "not the PIN of token 'spare'" in command(*desk, *in_token, code=1).stderr
    pin.write_bytes(PIN)
    done = command(*desk, *in_token)
    assert "the Ed25519 half; the ML-DSA half, which it does not offer, in the file" in " ".join(done.stderr.split())
    entry = docs.Desk.FromString(bytes.fromhex(done.stdout))
    with Keystore.open(tmp_path / "desk" / "desk.keys", b"") as store:
        assert store.entry("signing").kind == signer.REFERENCE
        assert entry.keys[0].key.key == store.entry("signing").public
    node = (
        "node", "init", tmp_path / "node", "--name", "nl.seoul-1", "--lineage", "0" * 64,
        "--endpoint", "127.0.0.1:1", "--enrol-endpoint", "127.0.0.1:2",
    )  # fmt: skip
    done = command(*node, *in_token)
    log_key = docs.Node.FromString(bytes.fromhex(done.stdout)).log_key
    lineage = bytes(32)
    suite.check_possession(
        1, log_key.key, log_key.possession, lineage=lineage, party="nl", name="nl.seoul-1", role="log"
    )


@needs_token
def test_a_token_that_fails_leaves_nothing_half_made(
    made: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = DeskSettings(desk=SEOUL, lineage="0" * 64, node="nl.seoul-1")

    def failing(*_: object, **__: object) -> None:
        raise TokenMissingError("taken out")

    with Token.open(MODULE, "spare", PIN) as token:
        with monkeypatch.context() as patch:
            patch.setattr(Token, "make_edwards", failing)
            with pytest.raises(TokenMissingError):
                init(tmp_path / "desk", settings, where=signer.InToken(token, str(tmp_path / "pin")))
        key = init(tmp_path / "desk", settings, where=signer.InToken(token, str(tmp_path / "pin")))
    assert isinstance(key, suite.SplitKey)


@needs_token
def test_the_next_key_of_a_desk_may_be_in_a_token(made: None, tmp_path: Path) -> None:
    """Drawn there, it is the one that the desk's rotation announces."""
    pin = tmp_path / "pin"
    pin.touch(0o600)
    pin.write_bytes(PIN)
    world = found()
    with Keystore.create(tmp_path / "desk.keys", b"") as store, Token.open(MODULE, "spare", PIN) as token:
        store.put("signing", world.desks[SEOUL].seed(), kind="signing", public=world.desks[SEOUL].public)
        key, _ = signer.make_in_token(store, desk_keys.next_name, suite.DESK_SUITE, token, pin_file=str(pin))
        announced = desk_keys.prepare(store, world.trust(), SEOUL)
        assert announced.key == key.public
        assert len(desk_keys.names(store)) == 2
