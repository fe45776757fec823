"""Envelopes: what is sealed opens, for its readers alone; no bytes raise anything but a PeerError."""

from contextlib import suppress
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange import envelope
from exchange.admission import Admission
from exchange.envelope import Checked, Parsed
from exchange.errors import CourierError, EnvelopeError
from exchange.v1 import envelope_pb2 as env
from keys import suite
from keys.encoding import canonical_bytes, digest, pae
from keys.errors import OpenError, PeerError, SignatureError, UnknownSuiteError
from keys.trust import Trust
from tests import mail
from tests.world import NOON, SENDER, draft, world

COURIER = bytes(range(32))


@cache
def trust() -> Trust:
    return world().trust()


def checked(parsed: Parsed) -> Checked:
    return envelope.check(envelope.parse(parsed.data), world().desks[SENDER].public)


def opened(parsed: Parsed, *, desk: str = mail.READER, courier: bytes | None = None) -> tuple[bytes, ...]:
    return envelope.open_envelope(checked(parsed), desk=desk, card=world().card(desk), courier=courier)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(max_size=3000), min_size=1, max_size=20), st.sampled_from([None, COURIER]))
def test_what_is_sealed_opens_to_the_same_bytes_for_every_reader(content: list[bytes], courier: bytes | None) -> None:
    parsed = mail.send(trust(), draft(trust()), content=content, courier=courier)
    for reader in checked(parsed).header.audience:
        assert opened(parsed, desk=reader.desk, courier=courier) == tuple(content)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 1_000_000))
def test_padding_costs_at_most_an_eighth_and_is_idempotent(length: int) -> None:
    padded = envelope.padme(length)
    assert length <= padded <= length * 1.12 + 1
    assert envelope.padme(padded) == padded


def test_padding_starts_at_its_least() -> None:
    assert envelope.padded_length(0) == envelope.padded_length(4088) == 4096
    assert envelope.padded_length(4089) == 4352
    assert envelope.padme(0) == 0
    assert envelope.padme(1) == 1
    assert envelope.padme(9) == 10


def test_each_seal_draws_fresh_keys() -> None:
    one, two = mail.honest(trust()), mail.honest(trust())
    for part in ("header", "commitment", "items_root", "ciphertext", "wraps"):
        assert getattr(one.outer, part) != getattr(two.outer, part)


@pytest.mark.parametrize("content", [[], [b""] * (envelope.MAX_ITEMS + 1), [bytes(envelope.MAX_ENVELOPE_BYTES)]])
def test_no_too_many_or_too_large_items_are_not_sealed(content: list[bytes]) -> None:
    with pytest.raises(EnvelopeError):
        envelope.seal(
            content,
            draft(trust()),
            key=world().desks[SENDER],
            cards={r.desk: world().card(r.desk).public for r in draft(trust()).audience},
        )


# ---- courier keys


@pytest.mark.parametrize("key", [b"", bytes(32), bytes(16), bytes(33)])
def test_an_empty_short_or_zero_courier_key_is_refused(key: bytes) -> None:
    with pytest.raises(CourierError):
        mail.send(trust(), draft(trust()), courier=key)


@pytest.mark.parametrize("key", [None, COURIER[::-1]])
def test_without_the_right_courier_key_nothing_is_unwrapped(key: bytes | None, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = mail.send(trust(), draft(trust()), courier=COURIER)
    monkeypatch.setattr(suite.CardKey, "unwrap", lambda *_, **__: pytest.fail("unwrapped"))
    with pytest.raises(CourierError):
        opened(parsed, courier=key)


def test_a_courier_key_the_header_does_not_name_is_not_used() -> None:
    assert opened(mail.honest(trust()), courier=COURIER)


# ---- the outside


def bent(**fields: object) -> env.Envelope:
    outer = env.Envelope()
    outer.CopyFrom(mail.honest(trust()).outer)
    for name, value in fields.items():
        setattr(outer, name, value)
    return outer


@pytest.mark.parametrize(
    "fields",
    [
        {"key": b"k" * 31},
        {"commitment": b""},
        {"items_root": b"r" * 33},
        {"signature": b"s" * 3372},
        {"header": b""},
        {"header": b"h" * (envelope.MAX_HEADER_BYTES + 1)},
        {"ciphertext": b"c" * (4096 + 15)},
        {"ciphertext": b"c" * (4097 + 16)},
        {"suite": suite.ROOT_SUITE},
    ],
)
def test_any_other_length_outside_is_refused_before_the_signature(fields: dict[str, object]) -> None:
    with pytest.raises(EnvelopeError):
        envelope.parse(canonical_bytes(bent(**fields)))


def test_an_unknown_suite_is_refused() -> None:
    with pytest.raises(UnknownSuiteError):
        envelope.parse(canonical_bytes(bent(suite=3)))


@pytest.mark.parametrize("tail", [b"\x00", b"\x4a\x00", b"\x08\x01", b"\x80"])
def test_trailing_unknown_and_repeated_fields_are_refused(tail: bytes) -> None:
    with pytest.raises(EnvelopeError):
        envelope.parse(mail.honest(trust()).data + tail)


def test_more_than_the_largest_envelope_is_refused_unparsed() -> None:
    with pytest.raises(EnvelopeError, match="at most"):
        envelope.parse(bytes(envelope.MAX_ENVELOPE_BYTES + 1))


@pytest.mark.parametrize("part", ["header", "commitment", "items_root", "ciphertext", "signature", "wrap", "key"])
def test_every_part_is_under_the_signature(part: str) -> None:
    outer = bent()
    if part == "wrap":
        outer.wraps.wrap[0] = bytes(1168)
    else:
        value = bytearray(getattr(outer, part))
        value[-1] ^= 1
        setattr(outer, part, bytes(value))
    parsed = envelope.parse(canonical_bytes(outer))
    with pytest.raises((SignatureError, EnvelopeError)):
        envelope.check(parsed, world().desks[SENDER].public)


# ---- the header


def resigned(bend: object) -> Parsed:
    """An envelope whose sender signed a header no honest software makes."""

    def apply(outer: env.Envelope) -> None:
        header = env.Header.FromString(outer.header)
        bend(header)  # type: ignore[operator]
        outer.header = canonical_bytes(header)

    return envelope.parse(mail.altered(mail.honest(trust()), apply, key=world().desks[SENDER]))


def set_fields(**fields: object) -> object:
    def bend(header: env.Header) -> None:
        for name, value in fields.items():
            setattr(header, name, value)

    return bend


@pytest.mark.parametrize(
    "bend",
    [
        set_fields(suite=2),
        set_fields(key=bytes(32)),
        set_fields(lineage=b""),
        set_fields(agreement=b"short"),
        set_fields(stream=b""),
        set_fields(random=bytes(15)),
        set_fields(seq=0),
        set_fields(seq=2**62 + 1),
        set_fields(prev_seq=1),
        set_fields(prev_id=bytes(32)),
        set_fields(seq=2, prev_seq=1),
        set_fields(courier=b"short"),
        set_fields(answers=b"short"),
        set_fields(padded_length=4097),
        set_fields(expire_time_ms=NOON),
        set_fields(sender=mail.READER),
        lambda header: header.audience.reverse(),
        lambda header: header.audience.append(header.audience[0]),
        lambda header: header.ClearField("audience"),
        lambda header: setattr(header.audience[0], "card", b"short"),
        lambda header: setattr(header.audience[0], "card", b""),
        lambda header: header.rosters.reverse(),
        lambda header: setattr(header.rosters[0], "digest", b"short"),
    ],
)
def test_a_signed_header_that_is_not_self_consistent_is_refused(bend: object) -> None:
    with pytest.raises(EnvelopeError):
        envelope.check(resigned(bend), world().desks[SENDER].public)


def test_a_signed_header_with_an_unknown_field_is_refused() -> None:
    data = mail.altered(
        mail.honest(trust()),
        lambda outer: setattr(outer, "header", outer.header + b"\xf8\x07\x01"),
        key=world().desks[SENDER],
    )
    with pytest.raises(EnvelopeError, match="version 2"):
        envelope.check(envelope.parse(data), world().desks[SENDER].public)


# ---- opening: one error


def test_a_stranger_and_a_wrong_card_do_not_open() -> None:
    parsed = checked(mail.honest(trust()))
    with pytest.raises(OpenError):
        envelope.open_envelope(parsed, desk="nl.asml-like/supply", card=world().card("nl.asml-like/supply"))
    with pytest.raises(OpenError):
        envelope.open_envelope(parsed, desk=mail.READER, card=world().card("kr.motie/supply"))


def crafted(padded: bytes, *, root: bytes | None = None) -> Parsed:
    """What a dishonest sender can seal: any padded bytes, any root."""
    header = draft(trust())
    key = world().desks[SENDER]
    header.suite, header.key, header.random = 1, suite.key_id(1, "desk", key.public), bytes(16)
    header.padded_length = len(padded)
    header_bytes = canonical_bytes(header)
    header_digest = digest(header_bytes)
    secret = bytes(32)
    prk = suite.hkdf_extract(bytes(32), secret)
    root = root or envelope.items_root(prk, header_digest, [b"x"])
    content_key, commitment = envelope.content_keys(prk, header_digest, root)
    wraps = [
        suite.wrap(world().card(r.desk).public, info=envelope.wrap_info(header_digest, r.desk, r.card), secret=secret)
        for r in header.audience
    ]
    outer = env.Envelope(
        suite=1,
        key=header.key,
        header=header_bytes,
        commitment=commitment,
        items_root=root,
        wraps=env.Wraps(wrap=wraps),
        ciphertext=suite.aead_seal(content_key, padded.replace(MARK, header_digest), header_digest),
    )
    outer.signature = key.sign(pae(envelope.CONTEXT, envelope.envelope_id(outer)), ctx=envelope.CONTEXT)
    data = canonical_bytes(outer)
    return Parsed(data, outer, envelope.envelope_id(outer))


def padded(payload: bytes, *, length: int | None = None, size: int = 4096, fill: bytes = b"\0") -> bytes:
    head = (len(payload) if length is None else length).to_bytes(8, "little")
    return head + payload + fill * (size - 8 - len(payload))


MARK = b"HEADERDIGESTHEADERDIGESTHEADERDI"
GOOD = env.Payload(header=MARK, items=[b"x"]).SerializeToString()


def test_a_crafted_envelope_that_keeps_the_rules_opens() -> None:
    assert opened(crafted(padded(GOOD))) == (b"x",)


@pytest.mark.parametrize(
    "content",
    [
        padded(GOOD, fill=b"\1"),
        padded(GOOD, length=2**64 - 1),
        padded(GOOD, length=4089),
        padded(GOOD, length=len(GOOD) + 1),
        padded(GOOD, size=8192),
        padded(b"\xff" + GOOD),
        padded(env.Payload(header=b"", items=[b"x"]).SerializeToString()),
        padded(env.Payload(header=bytes(32), items=[b"x"]).SerializeToString()),
        padded(env.Payload(header=MARK).SerializeToString()),
        padded(env.Payload(header=MARK, items=[b"y"]).SerializeToString()),
        padded(env.Payload(header=MARK, items=[b"x", b"x"]).SerializeToString()),
    ],
)
def test_bad_padding_payload_or_items_have_one_error(content: bytes) -> None:
    with pytest.raises(OpenError, match=r"^the envelope does not open$"):
        opened(crafted(content))


# ---- pruning and bytes at large


def test_a_pruned_envelope_keeps_its_identity_and_signature() -> None:
    parsed = mail.honest(trust())
    kept = env.Pruned.FromString(envelope.prune(parsed.data))
    entry = pae(
        envelope.CONTEXT,
        kept.header,
        kept.commitment,
        kept.items_root,
        kept.wraps_digest,
        kept.ciphertext_digest,
        kept.ciphertext_length,
    )
    identity = digest(b"\x00" + entry)
    assert identity == parsed.id
    suite.verify(1, world().desks[SENDER].public, pae(envelope.CONTEXT, identity), kept.signature, ctx=envelope.CONTEXT)


def everything(data: bytes) -> None:
    """Each door foreign bytes pass: parse, admit (check inside), check, open."""
    parsed = envelope.parse(data)
    with suppress(PeerError):
        Admission(trust()).admit(parsed, now_ms=NOON, answered=mail.nothing_answered)
    verified = envelope.check(parsed, world().desks[SENDER].public)
    envelope.open_envelope(verified, desk=mail.READER, card=world().card(mail.READER))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutated_envelopes_raise_nothing_but_a_peer_error(data: st.DataObject) -> None:
    encoded = bytearray(mail.honest(trust()).data)
    for _ in range(data.draw(st.integers(1, 4))):
        encoded[data.draw(st.integers(0, min(len(encoded), 1200) - 1))] = data.draw(st.integers(0, 255))
    with pytest.raises(PeerError) if bytes(encoded) != mail.honest(trust()).data else suppress(PeerError):
        everything(bytes(encoded))
        raise EnvelopeError("not changed after all")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_mutated_headers_signed_by_an_insider_raise_nothing_but_a_peer_error(data: st.DataObject) -> None:
    def bend(outer: env.Envelope) -> None:
        header = bytearray(outer.header)
        for _ in range(data.draw(st.integers(1, 3))):
            header[data.draw(st.integers(0, len(header) - 1))] = data.draw(st.integers(0, 255))
        outer.header = bytes(header)

    with suppress(PeerError):
        everything(mail.altered(mail.honest(trust()), bend, key=world().desks[SENDER]))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=2048))
def test_no_bytes_raise_anything_but_a_peer_error(junk: bytes) -> None:
    with pytest.raises(PeerError):
        everything(junk)
    with suppress(PeerError):
        opened(crafted(padded(junk)))
