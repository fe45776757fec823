"""Signed notes: one form, the right key, the right name, cosignatures apart from signatures."""

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange import checkpoint
from exchange.errors import ProofError
from keys import suite

ORIGIN = "tocsin/kr.the-hague-1/1"
NAME = "kr.the-hague-1"
ROOT = bytes(range(32))


@cache
def key(which: int = 0) -> suite.SigningKey:
    return suite.SigningKey.from_seed(suite.DESK_SUITE, bytes([which]) * 64)


@cache
def note() -> bytes:
    return checkpoint.sign(ORIGIN, 42, ROOT, key(), name=NAME, time_ms=1_790_000_000_000)


def test_a_note_says_what_was_signed() -> None:
    head = checkpoint.verify(note(), suite.DESK_SUITE, key().public, name=NAME)
    assert (head.origin, head.size, head.root, head.time_ms) == (ORIGIN, 42, ROOT, 1_790_000_000_000)


def test_another_key_or_name_is_refused() -> None:
    with pytest.raises(ProofError):
        checkpoint.verify(note(), suite.DESK_SUITE, key(1).public, name=NAME)
    with pytest.raises(ProofError):
        checkpoint.verify(note(), suite.DESK_SUITE, key().public, name="kr.the-hague-2")


def test_a_changed_size_is_refused() -> None:
    with pytest.raises(ProofError):
        checkpoint.verify(note().replace(b"\n42\n", b"\n43\n"), suite.DESK_SUITE, key().public, name=NAME)


def test_a_cosignature_is_no_signature_and_the_reverse() -> None:
    cosigned = checkpoint.cosign(note(), key(1), name="nl.seoul-1")
    checkpoint.verify_cosignature(cosigned, suite.DESK_SUITE, key(1).public, name="nl.seoul-1")
    checkpoint.verify(cosigned, suite.DESK_SUITE, key().public, name=NAME)
    with pytest.raises(ProofError):
        checkpoint.verify(cosigned, suite.DESK_SUITE, key(1).public, name="nl.seoul-1")
    with pytest.raises(ProofError):
        checkpoint.verify_cosignature(cosigned, suite.DESK_SUITE, key().public, name=NAME)


@pytest.mark.parametrize(
    "text",
    [b"\n+42\n", b"\n042\n", b"\n 42\n", b"\n4_2\n", b"\n-42\n"],
    ids=["plus", "zero", "space", "underscore", "negative"],
)
def test_a_head_has_one_text(text: bytes) -> None:
    with pytest.raises(ProofError):
        checkpoint.parse(note().replace(b"\n42\n", text))


@pytest.mark.parametrize(("size", "time_ms"), [(2**62 + 1, 1), (2**64, 1), (1, 2**62 + 1), (1, -1)])
def test_a_signed_head_beyond_what_can_be_kept_is_refused(size: int, time_ms: int) -> None:
    signed = checkpoint.sign(ORIGIN, size, ROOT, key(), name=NAME, time_ms=time_ms)
    with pytest.raises(ProofError):
        checkpoint.verify(signed, suite.DESK_SUITE, key().public, name=NAME)


def test_too_many_lines_or_bytes_are_refused() -> None:
    line = note().splitlines(keepends=True)[-1]
    with pytest.raises(ProofError):
        checkpoint.parse(note() + line * checkpoint.MAX_SIGNATURES)
    with pytest.raises(ProofError):
        checkpoint.parse(note() + b"x" * checkpoint.MAX_NOTE_BYTES)


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_but_a_proof_error(junk: bytes) -> None:
    for data in (junk, note()[:40] + junk, note() + junk):
        try:
            checkpoint.parse(data)
        except ProofError:
            continue
