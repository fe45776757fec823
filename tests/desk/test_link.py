"""A desk's TLS key: new with each certificate, replaced with it or not at all, and the old pair works until then."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from exchange import tls
from exchange.demo.found import Founded, found
from exchange.desk import Desk
from exchange.desk import link as links
from exchange.errors import IdentityError
from exchange.node.app import App
from exchange.node.service import EnrolService
from exchange.v1 import exchange_pb2 as pb
from exchange.wire import UnreachableError
from keys import private_file
from keys.errors import KeystoreError, TocsinError
from keys.founding import DAY_MS, HOUR_MS
from keys.keystore import Keystore
from tests.rotation.clock import Clock, bend_certificates

DESK = "kr.motie/supply"
DER = Encoding.DER


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def founded(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Founded:
    bend_certificates(monkeypatch)
    return found(tmp_path / "x", title="test", desks=(DESK, "nl.bz/supply"), clock=clock)


@pytest.fixture
async def node(founded: Founded, clock: Clock) -> AsyncIterator[App]:
    async with App(founded.node("kr"), clock=clock).serving() as app:
        yield app


@pytest.fixture
async def desk(founded: Founded, node: App, clock: Clock) -> AsyncIterator[Desk]:
    opened = Desk.open(founded.desk(DESK), clock=clock)
    yield opened
    await opened.disconnect()
    opened.close()


def on_disk(desk: Desk) -> tuple[bytes, bytes]:
    """The key and the certificate, as a process started now finds them."""
    with Keystore.open(desk.directory / "desk.keys", b"") as store:
        return store.get("tls"), store.entry("tls").public


def turn(clock: Clock, days: float) -> None:
    clock.now_ms += int(days * DAY_MS)


async def test_every_enrolment_has_a_new_key(desk: Desk) -> None:
    first = on_disk(desk)
    assert first[1] == b"", "no certificate yet"
    await desk.synchronise()
    second = on_disk(desk)
    await desk.synchronise()
    assert on_disk(desk) == second, "not before it is due"
    await desk.enrol()
    await desk.synchronise()
    third = on_disk(desk)
    assert len({first[0], second[0], third[0]}) == 3
    for key, certificate in (second, third):
        pair = tls.Pair(tls.x509.load_der_x509_certificate(certificate), tls.load_key(key))
        assert pair.certificate.public_key() == pair.key.public_key()


async def test_the_key_is_replaced_before_its_certificate_ends(desk: Desk, clock: Clock) -> None:
    await desk.synchronise()
    first = on_disk(desk)
    turn(clock, tls.LEAF_DAYS - links.RENEW_MS / DAY_MS + 0.1)
    await desk.synchronise()
    assert on_disk(desk)[0] != first[0]
    assert on_disk(desk)[1] != first[1]


async def test_a_certificate_that_does_not_fit_changes_nothing(
    desk: Desk, node: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.synchronise()
    before = on_disk(desk)
    stranger, now_ms, ca = tls.new_key(), node.clock(), node.own_keys.ca
    strange_ca = tls.make_ca(node.settings.name, stranger, now_ms=now_ms)

    def answer(wrong: str, request: pb.EnrolRequest) -> bytes:
        public = tls.x509.load_der_x509_csr(request.csr).public_key()
        if wrong == "key":
            return tls.issue(ca.certificate, ca.key, DESK, stranger.public_key(), now_ms=now_ms).public_bytes(DER)
        if wrong == "CA":
            return tls.issue(strange_ca, stranger, DESK, public, now_ms=now_ms).public_bytes(DER)
        return node.own_keys.issue("kr.motie/other", request.csr)[0] if wrong == "name" else b"junk"

    for wrong in ("key", "CA", "name", "junk"):

        def enrol(_: object, request: pb.EnrolRequest, wrong: str = wrong) -> tuple[bytes, bytes]:
            return answer(wrong, request), ca.der

        monkeypatch.setattr(EnrolService, "_enrol", enrol)
        with pytest.raises(IdentityError, match="not one for"):
            await desk.enrol()
        assert on_disk(desk) == before, wrong
    await desk.synchronise()


async def test_a_disk_that_fails_leaves_the_old_pair(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    await desk.synchronise()
    before = on_disk(desk)

    def full(*_: object) -> None:
        raise KeystoreError("no space left")

    monkeypatch.setattr(private_file, "replace", full)
    with pytest.raises(KeystoreError):
        await desk.enrol()
    monkeypatch.undo()
    assert on_disk(desk) == before
    await desk.synchronise()


async def test_who_cannot_enrol_goes_on_with_a_certificate_that_is_good(
    desk: Desk, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.synchronise()
    tries: list[int] = []

    async def refused() -> None:
        tries.append(clock())
        raise UnreachableError("nobody there")

    monkeypatch.setattr(desk._link, "enrol", refused)
    turn(clock, tls.LEAF_DAYS - 5)
    for _ in range(3):
        await desk.synchronise()
    assert len(tries) == 1, "an hour apart, not at every call"
    clock.now_ms += HOUR_MS
    await desk.synchronise()
    assert len(tries) == 2
    turn(clock, 6)
    with pytest.raises(TocsinError, match="nobody there"):
        await desk.synchronise()


async def test_it_changes_over_to_what_another_process_got(desk: Desk, founded: Founded, clock: Clock) -> None:
    await desk.synchronise()
    shown = desk._link._shown
    other = Desk.open(founded.desk(DESK), clock=clock)
    await asyncio.create_task(other.enrol())
    await other.disconnect()
    other.close()
    await desk.synchronise()
    assert desk._link._shown == on_disk(desk)[1] != shown
