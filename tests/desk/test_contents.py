"""What was sent is on the disk once: outbox and archive make the envelope and its content from the same ciphertext."""

import os
from pathlib import Path

import pytest

from exchange import envelope
from exchange.desk import contents
from exchange.desk.archive import Archive
from exchange.desk.outbox import Outgoing
from exchange.errors import StoreError
from exchange.v1 import envelope_pb2 as pb
from keys import suite
from keys.errors import OpenError
from keys.v1 import documents_pb2 as docs

ITEMS = [b"\x0a\x03one", b"\x0a\x03two"]


@pytest.fixture(scope="module")
def sealed() -> envelope.Sealed:
    header = pb.Header(
        lineage=bytes(32), agreement=bytes(32), agreement_version=1, sender="kr.a/b", channel="minerals",
        marking=docs.MARKING_AMBER, stream=bytes(16), seq=1, create_time_ms=1, expire_time_ms=2,
    )  # fmt: skip
    header.audience.add(desk="nl.c/d", card=bytes([1]) * 32)
    cards = {"nl.c/d": suite.CardKey.generate().public}
    return envelope.seal(ITEMS, header, key=suite.SigningKey.generate(suite.DESK_SUITE), cards=cards)


def outgoing(sealed: envelope.Sealed, *, prk: bytes = b"") -> Outgoing:
    outer = sealed.outer
    return Outgoing(
        id=sealed.id, channel="minerals", marking=3, shell=contents.shell_of(outer), ciphertext=outer.ciphertext,
        header=outer.header, outer=envelope.outside(outer), prk=prk or sealed.prk, named=(), answers=b"",
        audience="nl.c/d", stream=bytes(16), seq=1, tries=0,
    )  # fmt: skip


def test_shell_and_ciphertext_are_the_envelope(sealed: envelope.Sealed) -> None:
    shell = contents.shell_of(sealed.outer)
    assert sealed.outer.ciphertext not in shell
    assert contents.whole_of(shell, sealed.outer.ciphertext) == sealed.data


def test_what_waits_is_byte_for_byte_what_was_sealed_also_after_a_restart(
    sealed: envelope.Sealed, tmp_path: Path
) -> None:
    key = os.urandom(32)
    archive = Archive(tmp_path / "desk.db", key)
    with archive.transaction():
        archive.keep_sealed(outgoing(sealed))
    archive.close()
    archive = Archive(tmp_path / "desk.db", key)
    assert [waiting.envelope for waiting in archive.outgoing()] == [sealed.data]
    assert archive.unsealed(sealed.id).items == tuple(ITEMS)
    with archive.transaction():
        archive.settle([(sealed.id, 0, [])], b"note")
    assert (archive.outgoing(), archive.sent()) == ([], [sealed.id])
    held = archive.content(sealed.id)
    assert (held.items, held.salt_seed) == (tuple(ITEMS), sealed.salt_seed)
    archive.close()


def test_the_file_alone_opens_nothing(sealed: envelope.Sealed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = Archive(tmp_path / "desk.db", os.urandom(32))
    with archive.transaction():
        archive.keep_sealed(outgoing(sealed))
    archive.close()
    with pytest.raises(StoreError, match="another archive key"):
        Archive(tmp_path / "desk.db", os.urandom(32))
    monkeypatch.setattr(Archive, "_check_key", lambda *_: None)
    other = Archive(tmp_path / "desk.db", os.urandom(32))
    with pytest.raises(OpenError):
        other.content(sealed.id)
    other.close()
    data = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert sealed.prk not in data
    assert ITEMS[0] not in data


def test_another_prk_is_refused(sealed: envelope.Sealed, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "desk.db", os.urandom(32))
    with archive.transaction():
        archive.keep_sealed(outgoing(sealed, prk=bytes(32)))
    with pytest.raises(OpenError):
        archive.content(sealed.id)
    archive.close()
