"""The hourly look at the node's keys leaves its event loop alone: no passphrase is worked through, no key made on it."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner

from exchange import cli, files
from exchange.node import authority
from exchange.node.app import App
from keys import drafts, private_file, signer, suite
from keys.errors import UsageError
from keys.keystore import Keystore
from tests.node.cluster import NODES, Cluster, give
from tests.rotation.clock import Clock

KR, _ = NODES
PASSPHRASE = b"correct horse battery staple"


@pytest.fixture
def guarded(cluster: Cluster) -> Cluster:
    """The keystore under a passphrase."""
    path = cluster.directory(KR) / authority.KEYSTORE
    old = path.with_name("old.keys")
    path.rename(old)
    path.with_name("node.keys.key").rename(old.with_name("old.keys.key"))
    with Keystore.open(old, b"") as store:
        store.copy_to(path, PASSPHRASE, fast_kdf=True)
    return cluster


async def test_it_is_the_work_of_another_thread(guarded: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    threads: dict[str, set[int]] = {}

    def watch(owner: Any, name: str) -> None:
        real: Callable[..., Any] = getattr(owner, name)

        def seen(*given: Any, **named: Any) -> Any:
            threads.setdefault(name, set()).add(threading.get_ident())
            return real(*given, **named)

        monkeypatch.setattr(owner, name, seen)

    async with App(guarded.directory(KR), PASSPHRASE, clock=clock).serving() as kr:
        with Keystore.open(guarded.directory(KR) / authority.KEYSTORE, PASSPHRASE) as store:
            authority.prepare_log_key(store, kr.trust, KR)
            # As if a roster had ended it; the other one stays.
            gone = authority.prepare(store, kr.trust, KR, now_ms=clock())
        names = authority._names
        monkeypatch.setattr(authority, "retired", lambda s, *_, **__: [n for der, n in names(s).items() if der == gone])
        for owner, name in ((suite, "argon2id"), (signer, "load"), (private_file, "replace")):
            watch(owner, name)
        before = len(kr.own_keys.log_keys)
        await kr._tend_keys()
        assert len(kr.own_keys.log_keys) == before + 1, "another process put it there"
        assert gone not in kr.own_keys.cas
        assert threads.keys() == {"load", "replace"}, "the passphrase was worked through once, at the start"
        assert threading.get_ident() not in set().union(*threads.values())
    assert PASSPHRASE not in repr([vars(kr), vars(kr.own_keys)]).encode()


async def test_a_key_that_is_loaded_is_not_loaded_again(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """One in a token would open the token anew each hour, and never close it."""
    async with cluster.app(KR).serving() as kr:
        held = dict(kr.own_keys.log_keys)
        monkeypatch.setattr(signer, "load", None)
        await kr._tend_keys()
        assert kr.own_keys.log_keys == held


async def test_the_next_key_is_not_drawn_by_documents_the_node_is_ahead_of(cluster: Cluster) -> None:
    """It would be the one that a roster from the network named since."""
    bundle = cluster.directory(KR) / files.BUNDLE
    old = bundle.read_bytes()
    async with cluster.app(KR).serving() as kr:
        draft = drafts.next_roster(kr.trust, "kr", lambda _: None, now_ms=kr.clock())
        await give(cluster.world.parties["kr"].sign(draft, "roster"), kr)
        kr._write_status()
        newest = list(kr.trust.documents())
    words = ["node", "prepare", "log", str(cluster.directory(KR)), "--out", str(cluster.root / "next")]
    assert bundle.read_bytes() == old
    said = CliRunner().invoke(cli.app, words)
    assert isinstance(said.exception, UsageError)
    assert "the node holds [1, 2]" in str(said.exception)
    files.save_bundle(bundle, newest)
    assert CliRunner().invoke(cli.app, words).exit_code == 0
