"""Signed documents: thresholds count holders; nothing but the canonical form is read."""

from contextlib import suppress
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keys import documents, founding, suite
from keys.errors import NotCanonicalError, PeerError, SignatureError, UsageError
from keys.trust import Trust
from keys.v1 import documents_pb2 as pb
from tests.world import NOON, world

ROLE = "root"


@cache
def shared_trust() -> Trust:
    """One Trust for tests in which nothing new is ever taken."""
    return world().trust()


def one_status() -> documents.Document:
    return documents.make(pb.Status(party="kr", version=1))


def root_keys(count: int, threshold: int) -> tuple[pb.RoleKeys, list[suite.SigningKey]]:
    keys = [suite.SigningKey.generate(suite.ROOT_SUITE) for _ in range(count)]
    role = pb.RoleKeys(threshold=threshold)
    for number, key in enumerate(keys):
        role.keys.add(holder=f"holder{number}").key.MergeFrom(pb.PublicKey(suite=key.suite, key=key.public))
    return role, keys


def test_a_threshold_is_met_by_enough_holders_and_missing_ones_are_named() -> None:
    role, keys = root_keys(3, 2)
    document = documents.sign(one_status(), keys[0], role=ROLE)
    with pytest.raises(documents.ThresholdError) as failure:
        documents.require(document, role, role=ROLE)
    assert failure.value.metadata == {"signed": "holder0", "missing": "holder1, holder2"}
    documents.require(documents.sign(document, keys[2], role=ROLE), role, role=ROLE)


def test_a_holder_with_two_keys_counts_once() -> None:
    role, keys = root_keys(2, 2)
    role.keys[1].holder = role.keys[0].holder
    document = one_status()
    for key in keys:
        document = documents.sign(document, key, role=ROLE)
    assert documents.explain(document, role.keys, 2, role=ROLE).signed == ("holder0",)
    with pytest.raises(documents.ThresholdError):
        documents.require(document, role, role=ROLE)


def test_one_key_under_two_holders_counts_once() -> None:
    role, keys = root_keys(2, 2)
    role.keys[1].key.CopyFrom(role.keys[0].key)
    document = documents.sign(one_status(), keys[0], role=ROLE)
    with pytest.raises(documents.ThresholdError):
        documents.require(document, role, role=ROLE)


def test_one_signature_twice_counts_once() -> None:
    role, keys = root_keys(2, 2)
    document = documents.sign(one_status(), keys[0], role=ROLE)
    twice = documents.Document(document.type, document.body, document.signatures * 2, document.digest)
    with pytest.raises(documents.ThresholdError):
        documents.require(twice, role, role=ROLE)


def test_a_key_id_is_a_hint_only() -> None:
    role, keys = root_keys(2, 1)
    document = documents.sign(one_status(), keys[0], role=ROLE)
    suite_id, _, signature = document.signatures[0]
    other = suite.key_id(suite_id, ROLE, keys[1].public)
    with pytest.raises(documents.ThresholdError):
        documents.require(
            documents.Document(document.type, document.body, ((suite_id, other, signature),), document.digest),
            role,
            role=ROLE,
        )


def test_a_threshold_of_nothing_is_never_met() -> None:
    role, keys = root_keys(1, 0)
    with pytest.raises(documents.ThresholdError):
        documents.require(documents.sign(one_status(), keys[0], role=ROLE), role, role=ROLE)


def test_a_signature_of_one_type_counts_for_no_other() -> None:
    role, keys = root_keys(1, 1)
    document = documents.sign(one_status(), keys[0], role=ROLE)
    as_roster = documents.Document(
        "tocsin/1/roster",
        document.body,
        document.signatures,
        documents.document_digest("tocsin/1/roster", document.body),
    )
    with pytest.raises(documents.ThresholdError):
        documents.require(as_roster, role, role=ROLE)


def test_signing_twice_adds_nothing() -> None:
    _, keys = root_keys(1, 1)
    document = documents.sign(one_status(), keys[0], role=ROLE)
    assert documents.sign(document, keys[0], role=ROLE) is document


def test_require_key_wants_exactly_this_key() -> None:
    role, keys = root_keys(2, 1)
    document = documents.sign(one_status(), keys[0], role=ROLE)
    documents.require_key(document, role.keys[0].key, role=ROLE)
    with pytest.raises(SignatureError):
        documents.require_key(document, role.keys[1].key, role=ROLE)


def test_documents_come_back_as_they_were() -> None:
    for document in world().documents:
        assert documents.decode(document.encode()) == document


@pytest.mark.parametrize("tail", [b"\x00", b"\x22\x00", b"\x0a\x00"])
def test_trailing_unknown_and_repeated_fields_are_refused(tail: bytes) -> None:
    with pytest.raises(NotCanonicalError):
        documents.decode(world().agreement.encode() + tail)


def test_too_large_unknown_type_and_too_many_signatures_are_refused() -> None:
    with pytest.raises(NotCanonicalError, match="at most"):
        documents.decode(bytes(documents.MAX_DOCUMENT_BYTES + 1))
    with pytest.raises(NotCanonicalError, match="version 2"):
        documents.decode(pb.Signed(type="tocsin/1/new", body=b"x").SerializeToString())
    many = pb.Signed(type="tocsin/1/status", body=b"x")
    for _ in range(documents.MAX_SIGNATURES + 1):
        many.signatures.add(suite=1)
    with pytest.raises(NotCanonicalError, match="signatures"):
        documents.decode(many.SerializeToString())


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_mutated_documents_raise_nothing_but_a_peer_error(data: st.DataObject) -> None:
    trust = shared_trust()
    before = trust.documents()
    encoded = bytearray(data.draw(st.sampled_from(world().documents)).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.sampled_from([len(encoded), len(encoded) // 2, 3]))
    with suppress(PeerError):
        trust.take(documents.decode(bytes(encoded[:cut])), now_ms=world().now_ms)
    assert trust.documents() == before


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=512))
def test_no_bytes_raise_anything_but_a_peer_error(junk: bytes) -> None:
    with suppress(PeerError):
        documents.decode(junk)
    for kind in documents.BODIES:
        unsigned = documents.Document(kind, junk, (), documents.document_digest(kind, junk))
        with suppress(PeerError):
            shared_trust().take(unsigned, now_ms=world().now_ms)


# ---- a roster too long for anyone to take is not made


def _crowded(count: int) -> pb.Roster:
    entry = founding.desk_entry("kr.motie/d", suite.SigningKey.generate(1), lineage=bytes(32))
    body = pb.Roster(party="kr")
    for number in range(count):
        entry.desk = f"kr.motie/desk-{number:04}"
        body.desks.append(entry)
    return body


def test_a_roster_nobody_would_take_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    party = founding.found_party("kr", now_ms=NOON)
    fits = founding.next_roster(party, _crowded(180), lineage=bytes(32), previous=None, now_ms=NOON)
    assert documents.decode(fits.encode()).digest == fits.digest
    with pytest.raises(UsageError) as failure:
        founding.next_roster(party, _crowded(190), lineage=bytes(32), previous=None, now_ms=NOON)
    assert "leave out keys that ended" in failure.value.hint
    monkeypatch.setattr(documents, "_require_size", lambda *_: None)
    made = founding.next_roster(party, _crowded(190), lineage=bytes(32), previous=None, now_ms=NOON)
    with pytest.raises(NotCanonicalError):
        documents.decode(made.encode())


def test_a_signature_too_many_is_not_added() -> None:
    document = documents.make(_crowded(184))
    for _ in range(2):
        document = documents.sign(document, suite.SigningKey.generate(1), role="roster")
    with pytest.raises(UsageError):
        documents.sign(document, suite.SigningKey.generate(1), role="roster")
    assert documents.decode(document.encode()).digest == document.digest
