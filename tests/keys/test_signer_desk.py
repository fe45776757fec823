"""A desk and a node whose signing keys are in a token: cards, envelopes, receipts, and read abroad like any other."""

from pathlib import Path

import pytest

from keys import signer, suite
from keys.errors import UsageError
from keys.keystore import Keystore
from keys.pkcs11 import Token, TokenMissingError
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
    # Without its token the desk does not start, and says why.
    with Token.open(MODULE, "ministry", PIN) as token:
        token.destroy(signer.Reference.decode(apart.get(HAGUE)).identity)
    with pytest.raises(TokenMissingError, match="has no EC_EDWARDS key"):
        exchange.open(HAGUE)
    pin.unlink()
    with pytest.raises(Exception, match="cannot read") as caught:
        exchange.open(HAGUE)
    assert not isinstance(caught.value, UsageError)
