"""Hostile files of evidence: only our errors, bounded work; and each check, switched off, lets its forgery through."""

import base64
import hashlib
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exchange import envelope
from exchange.evidence import papers, verify
from exchange.evidence.verify import MAGIC
from exchange.v1 import envelope_pb2 as env
from exchange.v1 import evidence_pb2 as pb
from keys.encoding import canonical_bytes
from keys.errors import TocsinError
from keys.v1 import documents_pb2 as docs
from tests.evidence.logs import CONTENT, Log, sealed, show
from tests.evidence.test_evidence import bent, in_envelope
from tests.mail import send
from tests.world import draft, world

NL = "nl.seoul-1"
Patch = pytest.MonkeyPatch


def made() -> bytes:
    trust = world().trust()
    one, log = sealed(trust), Log(world(), NL)
    log.add(*(bytes([i]) * 32 for i in range(5)), one.id)
    return show(trust, one, log.view([one.id]))


GOOD = made()
WHOLE = pb.Evidence.FromString(GOOD.removeprefix(MAGIC))


@given(st.binary(max_size=2048))
def test_junk_raises_nothing_but_our_errors(junk: bytes) -> None:
    for data in (junk, MAGIC + junk):
        with pytest.raises(TocsinError):
            verify.verify(data, world().lineage)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(["item", "salt", "envelope", "note", "document", "proof", "leaf", "hash"]),
    st.integers(0, 6),
    st.one_of(st.binary(max_size=300), st.just(b"\xff" * 40)),
)
def test_any_part_may_be_junk(what: str, which: int, junk: bytes) -> None:
    def bend(file: pb.Evidence) -> None:
        if what in ("item", "salt", "envelope"):
            setattr(file, what, junk)
        elif what == "note":
            file.logs[0].heads[0].note = junk
        elif what == "document":
            signed = docs.Signed.FromString(file.documents[which])
            signed.body = junk
            file.documents[which] = canonical_bytes(signed)
        elif what == "proof":
            file.proof[0] = junk
        elif what == "leaf":
            file.logs[0].places[0].leaf = junk
        else:
            file.logs[0].places[0].proof[0] = junk

    try:
        verify.verify(bent(GOOD, bend), world().lineage)
    except TocsinError:
        return
    pytest.fail("junk was proved")


def test_a_deep_or_long_file_is_refused_early() -> None:
    many = bent(GOOD, lambda file: file.documents.extend([b"x"] * verify.MAX_DOCUMENTS))
    with pytest.raises(TocsinError, match="more documents"):
        verify.verify(many, world().lineage)
    with pytest.raises(TocsinError):
        verify.verify(MAGIC + bytes(verify.MAX_BYTES), world().lineage)


def other_item(file: pb.Evidence) -> None:
    file.item = b"never said"


def other_place(file: pb.Evidence) -> None:
    file.logs[0].places[0].position = 3


def other_chain(file: pb.Evidence) -> None:
    file.logs[0].heads.add().CopyFrom(file.logs[0].heads[0])
    file.logs[0].heads[0].note = other_head(3)


def other_head(size: int) -> bytes:
    """A head of another history of the same node."""
    log = Log(world(), NL)
    log.add(*(bytes([i + 40]) * 32 for i in range(size)))
    return log.note()


def root_of(file: pb.Evidence) -> bytes:
    return env.Pruned.FromString(file.envelope).items_root


@pytest.mark.parametrize(
    ("forgery", "check", "off"),
    [
        (in_envelope("signature"), "signed_by", lambda *_: True),
        (other_item, "climb", lambda index, size, leaf, proof: root_of(WHOLE) if size == 3 else newest_root(WHOLE)),
        (other_place, "climb", lambda index, size, leaf, proof: root_of(WHOLE) if size == 3 else newest_root(WHOLE)),
        (other_chain, "extends", lambda *_: True),
    ],
)
def test_each_check_off_lets_its_forgery_through(
    forgery: Callable[[pb.Evidence], None], check: str, off: Callable[..., object], monkeypatch: Patch
) -> None:
    data = bent(GOOD, forgery)
    with pytest.raises(TocsinError):
        verify.verify(data, world().lineage)
    monkeypatch.setattr(verify, check, off)
    assert verify.verify(data, world().lineage).standing == "counted"


def newest_root(file: pb.Evidence) -> bytes:
    """The root in the newest head."""
    return base64.b64decode(file.logs[0].heads[-1].note.split(b"\n")[2])


def test_rights_off_lets_a_company_publish(monkeypatch: Patch) -> None:
    trust = world().trust()
    one = send(trust, draft(trust, sender="nl.asml-like/supply", audience=("nl.bz/supply",)), content=CONTENT)
    assert isinstance(one, envelope.Sealed)
    data = show(trust, one)
    with pytest.raises(TocsinError, match="does not let"):
        verify.verify(data, world().lineage)
    need = verify.need
    monkeypatch.setattr(verify, "need", lambda holds, text: need(holds or "does not let" in text, text))
    assert verify.verify(data, world().lineage).standing == "counted"


def test_a_first_agreement_that_was_not_compared_proves_nothing(monkeypatch: Patch) -> None:
    other = hashlib.sha256(b"another exchange").digest()
    data = bent(GOOD, lambda file: setattr(file, "lineage", other))
    with pytest.raises(TocsinError, match="not the one compared"):
        verify.verify(data, other)
    need = papers.need
    monkeypatch.setattr(papers, "need", lambda holds, text: need(holds or "not the one compared" in text, text))
    # Then the header, which names its lineage too, is what refuses.
    with pytest.raises(TocsinError):
        verify.verify(data, other)
