"""Attacks on the core, numbered as in docs/THREATS.md.

Each is refused for its reason, and succeeds once that one check is switched off: so each test is known to bite.
"""

import io
from collections.abc import Callable
from typing import Any

import pytest
import structlog
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from exchange import envelope, errors, policy
from exchange.admission import Admission, check_stream
from exchange.envelope import Checked, Parsed
from exchange.merkle import root_of
from exchange.v1 import envelope_pb2 as env
from keys import founding, points, suite
from keys.encoding import canonical_bytes, digest
from keys.errors import OpenError, SignatureError, UnknownSuiteError
from keys.trust import Trust
from keys.trust.claims import Claims
from keys.v1 import documents_pb2 as pb
from tests import chains, mail
from tests.attacks.marks import attack
from tests.attacks.test_secrets import Sight
from tests.chains import DAY
from tests.world import NOON, SENDER, draft, world

Patch = pytest.MonkeyPatch
READER, COMPANY, EMBASSY = mail.READER, "nl.asml-like/supply", "nl.seoul/economic"
COURIER = bytes(range(32))
SIGNER = world().desks[SENDER]


@pytest.fixture
def trust() -> Trust:
    return world().trust()


def yes(*_: object, **__: object) -> None:
    """A check that is switched off."""


def opened(
    parsed: Parsed, *, desk: str = READER, card: suite.CardKey | None = None, **courier: Any
) -> tuple[bytes, ...]:
    checked = envelope.check(envelope.parse(parsed.data), SIGNER.public)
    return envelope.open_envelope(checked, desk=desk, card=card or world().card(desk), **courier)


def secret_of(checked: Checked, desk: str) -> bytes:
    """What an insider who reads learns: the content secret."""
    sealed_to = [reader for reader in checked.header.audience if reader.card]
    index = [reader.desk for reader in sealed_to].index(desk)
    info = envelope.wrap_info(digest(checked.parsed.outer.header), desk, sealed_to[index].card)
    return world().card(desk).unwrap(checked.parsed.outer.wraps.wrap[index], info=info)


# ---- 1 harvest now, decrypt later


@attack(1, off="hkdf_extract")
def test_01_a_broken_kem_does_not_open_what_a_courier_key_seals(trust: Trust, monkeypatch: Patch) -> None:
    parsed = mail.send(trust, draft(trust), courier=COURIER)
    with pytest.raises(errors.CourierError):
        opened(parsed)

    def attack() -> tuple[bytes, ...]:
        # The KEM fell: the secret is known. The courier key is not.
        checked = envelope.check(envelope.parse(parsed.data), SIGNER.public)
        secret, header_digest = secret_of(checked, READER), digest(parsed.outer.header)
        prk = suite.hkdf_extract(bytes(32), secret)
        key, commitment = envelope.content_keys(prk, header_digest, parsed.outer.items_root)
        if commitment != parsed.outer.commitment:
            raise OpenError("not the key")
        return envelope._unpad(suite.aead_open(key, parsed.outer.ciphertext, header_digest), header_digest)

    with pytest.raises(OpenError):
        attack()
    extract = suite.hkdf_extract
    monkeypatch.setattr(suite, "hkdf_extract", lambda _salt, ikm: extract(bytes(32), ikm))
    parsed = mail.send(trust, draft(trust), courier=COURIER)
    assert attack()


@attack(1)
def test_01_without_the_seed_of_its_card_captured_traffic_stays_closed(trust: Trust) -> None:
    parsed = mail.honest(trust)
    with pytest.raises(OpenError):
        opened(parsed, card=suite.CardKey.generate())
    assert opened(parsed, card=suite.CardKey.from_seed(world().card(READER).seed()))


@attack(1)
def test_01_no_suite_is_classical_only() -> None:
    known = []
    for number in range(0x400):
        try:
            known.append(suite.suite(number).name)
        except UnknownSuiteError:
            continue
    assert len(known) == 2
    assert all(name.startswith("MLDSA") for name in known)


# ---- 2 one signature scheme breaks


@attack(2, off="_public_halves")
@pytest.mark.parametrize("broken", ["edwards", "lattice"])
def test_02_forging_one_half_is_not_enough(trust: Trust, monkeypatch: Patch, broken: str) -> None:
    seed, mine = SIGNER.seed(), suite.SigningKey.generate(1).seed()
    stolen = mine[:32] + seed[32:] if broken == "edwards" else seed[:32] + mine[32:]
    thief = suite.SigningKey.from_seed(1, stolen)
    parsed = envelope.parse(mail.altered(mail.honest(trust), yes, key=thief))
    with pytest.raises(SignatureError):
        envelope.check(parsed, SIGNER.public)
    halves = suite._public_halves

    class Holds:
        verify = staticmethod(yes)

    def one_half(suite_id: int, public: bytes) -> Any:
        pq, ed = halves(suite_id, public)
        return (Holds, ed) if broken == "edwards" else (pq, Holds)

    monkeypatch.setattr(suite, "_public_halves", one_half)
    assert envelope.check(parsed, SIGNER.public)


# ---- 3 half a signature reused elsewhere


@attack(3, off="representative")
def test_03_a_signature_of_one_type_is_none_of_another(monkeypatch: Patch) -> None:
    signature = SIGNER.sign(b"message", ctx="tocsin/1/card")
    with pytest.raises(SignatureError):
        suite.verify(1, SIGNER.public, b"message", signature, ctx=envelope.CONTEXT)
    representative = suite._Scheme.representative
    monkeypatch.setattr(suite._Scheme, "representative", lambda self, message, _ctx: representative(self, message, ""))
    signature = SIGNER.sign(b"message", ctx="tocsin/1/card")
    suite.verify(1, SIGNER.public, b"message", signature, ctx=envelope.CONTEXT)


@attack(3, off="add")
def test_03_a_component_key_in_use_elsewhere_disables_the_desk_that_brings_it(trust: Trust, monkeypatch: Patch) -> None:
    seed, mine = world().desks[EMBASSY].seed(), suite.SigningKey.generate(1).seed()
    grafted = suite.SigningKey.from_seed(1, mine[:32] + seed[32:])

    def bend(body: pb.Roster) -> None:
        body.desks.append(founding.desk_entry("nl.bz/zz", grafted, lineage=trust.lineage))
        body.desks.sort(key=lambda desk: desk.desk)

    roster = chains.next_roster(world(), "nl", bend)
    trust.take(roster, now_ms=NOON)
    assert "in use elsewhere" in trust.roster("nl").disabled["nl.bz/zz"]
    monkeypatch.setattr(Claims, "add", yes)
    careless = world().trust()
    careless.take(roster, now_ms=NOON)
    assert "nl.bz/zz" in careless.roster("nl").desks


# ---- 4 signature malleability


@attack(4, off="envelope_id")
def test_04_another_signature_makes_no_other_envelope(trust: Trust, monkeypatch: Patch) -> None:
    parsed = mail.honest(trust)
    again = envelope.parse(mail.altered(parsed, yes, key=SIGNER))
    assert again.data != parsed.data
    assert mail.admit(trust, again).id == parsed.id
    identity = envelope.envelope_id
    monkeypatch.setattr(envelope, "envelope_id", lambda outer: digest(identity(outer) + outer.signature))
    assert envelope.parse(again.data).id != envelope.parse(parsed.data).id


# ---- 5 surreptitious forwarding


@attack(5, off="verify")
def test_05_an_insider_cannot_wrap_to_a_third_mission(trust: Trust, monkeypatch: Patch) -> None:
    parsed = mail.honest(trust)
    checked = envelope.check(parsed, SIGNER.public)
    secret, friend = secret_of(checked, READER), world().card(COMPANY)
    index = [reader.desk for reader in checked.header.audience].index(READER)
    info = envelope.wrap_info(digest(parsed.outer.header), READER, checked.header.audience[index].card)

    def rewrap(outer: env.Envelope) -> None:
        outer.wraps.wrap[index] = suite.wrap(friend.public, info=info, secret=secret)

    forwarded = envelope.parse(mail.altered(parsed, rewrap))
    with pytest.raises(SignatureError):
        opened(forwarded, card=friend)
    monkeypatch.setattr(suite, "verify", yes)
    assert opened(forwarded, card=friend)


# ---- 6 stripping


@attack(6, off="digest")
def test_06_another_desk_cannot_claim_a_text(trust: Trust, monkeypatch: Patch) -> None:
    thief = "nl.seoul/economic"

    def claim(parsed: Parsed) -> tuple[bytes, ...]:
        def restamp(outer: env.Envelope) -> None:
            header = env.Header.FromString(outer.header)
            header.sender, header.key = thief, suite.key_id(1, "desk", world().desks[thief].public)
            outer.key, outer.header = header.key, canonical_bytes(header)

        claimed = envelope.parse(mail.altered(parsed, restamp, key=world().desks[thief]))
        checked = envelope.check(claimed, world().desks[thief].public)
        return envelope.open_envelope(checked, desk=READER, card=world().card(READER))

    header = draft(trust, marking=pb.MARKING_RED, audience=(READER,))
    with pytest.raises(OpenError):
        claim(mail.send(trust, header))
    # The header's digest is what ties wrap, keys, cipher and payload to the sender.
    start = canonical_bytes(env.Header(suite=1, lineage=trust.lineage))
    monkeypatch.setattr(envelope, "digest", lambda data: bytes(32) if data.startswith(start) else digest(data))
    assert claim(mail.send(trust, header))


# ---- 7 one ciphertext, two texts


def _multiply(x: int, y: int) -> int:
    """GF(2^128) of GCM."""
    z = 0
    for bit in range(127, -1, -1):
        if x >> bit & 1:
            z ^= y
        y = (y >> 1) ^ (0xE1 << 120 if y & 1 else 0)
    return z


def _power(x: int, exponent: int) -> int:
    out = 1 << 127
    while exponent:
        if exponent & 1:
            out = _multiply(out, x)
        x, exponent = _multiply(x, x), exponent >> 1
    return out


def _block(key: bytes, block: bytes) -> int:
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    return int.from_bytes(encryptor.update(block), "big")


def two_key_ciphertext(keys: tuple[bytes, bytes], aad: bytes, size: int) -> bytes:
    """A ciphertext with one tag that AES-GCM accepts under both keys (nonce of zeros)."""
    body = [int.from_bytes(aad[i : i + 16].ljust(16, b"\0"), "big") for i in range(0, len(aad), 16)]
    free = len(body)
    body += [7] * (size // 16)
    body[free] = 0
    body.append(len(aad) * 8 << 64 | size * 8)
    hashes, total, factor = [], 0, 0
    for key in keys:
        h = _block(key, bytes(16))
        mac = 0
        for value in body:
            mac = _multiply(mac ^ value, h)
        mac ^= _block(key, bytes(12) + b"\0\0\0\1")
        hashes.append((h, mac))
        total ^= mac
        factor ^= _power(h, len(body) - free)
    value = _multiply(total, _power(factor, 2**128 - 2))
    tag = hashes[0][1] ^ _multiply(value, _power(hashes[0][0], len(body) - free))
    blocks = [value, *body[free + 1 : -1], tag]
    return b"".join(block.to_bytes(16, "big") for block in blocks)


@attack(7, off="compare_digest")
def test_07_a_ciphertext_that_opens_under_two_keys_is_committed_to_one(trust: Trust, monkeypatch: Patch) -> None:
    header = draft(trust, marking=pb.MARKING_RED, audience=(READER, EMBASSY))
    header.suite, header.key, header.random, header.padded_length = (
        1,
        suite.key_id(1, "desk", SIGNER.public),
        bytes(16),
        4096,
    )
    header_bytes = canonical_bytes(header)
    header_digest, root = digest(header_bytes), bytes(32)
    secrets = {READER: b"1" * 32, EMBASSY: b"2" * 32}
    pairs = {
        desk: envelope.content_keys(suite.hkdf_extract(bytes(32), secret), header_digest, root)
        for desk, secret in secrets.items()
    }
    ciphertext = two_key_ciphertext((pairs[READER][0], pairs[EMBASSY][0]), header_digest, 4096)
    texts = {suite.aead_open(key, ciphertext, header_digest) for key, _ in pairs.values()}
    assert len(texts) == 2, "AES-GCM alone accepts both"
    outer = env.Envelope(suite=1, key=header.key, header=header_bytes, commitment=pairs[READER][1], items_root=root)
    outer.ciphertext = ciphertext
    for reader in header.audience:
        info = envelope.wrap_info(header_digest, reader.desk, reader.card)
        outer.wraps.wrap.append(suite.wrap(world().card(reader.desk).public, info=info, secret=secrets[reader.desk]))
    parsed = Parsed(b"", outer, envelope.envelope_id(outer))
    sealed = Parsed(mail.altered(parsed, yes, key=SIGNER), outer, parsed.id)
    seen: list[bytes] = []

    def unpad(padded: bytes, _: bytes) -> tuple[bytes, ...]:
        seen.append(padded)
        return ()

    monkeypatch.setattr(envelope, "_unpad", unpad)
    monkeypatch.setattr(envelope, "items_root", lambda *_: root)
    opened(sealed, desk=READER)
    with pytest.raises(OpenError):
        opened(sealed, desk=EMBASSY)
    monkeypatch.setattr(envelope.hmac, "compare_digest", lambda *_: True)
    opened(sealed, desk=EMBASSY)
    assert set(seen) == texts


# ---- 8 partitioning oracle


@attack(8, off="WRAP_SIZE")
@pytest.mark.parametrize("length", [0, 1, 1167, 1169, 4096])
def test_08_a_wrap_of_another_length_reaches_no_kem(trust: Trust, monkeypatch: Patch, length: int) -> None:
    calls: list[int] = []

    class Kem:
        def decrypt(self, wrap: bytes, *_: object) -> bytes:
            calls.append(len(wrap))
            raise ValueError

    monkeypatch.setattr(suite, "_HPKE", Kem())
    card = world().card(READER)
    with pytest.raises(OpenError):
        card.unwrap(bytes(length), info=b"")
    parsed = mail.altered(_wraps_of(trust), lambda outer: outer.wraps.wrap.__setitem__(0, bytes(length)))
    with pytest.raises(errors.EnvelopeError):
        envelope.parse(parsed)
    assert calls == []
    monkeypatch.setattr(suite, "WRAP_SIZE", length)
    with pytest.raises(OpenError):
        card.unwrap(bytes(length), info=b"")
    assert calls == [length]


def _wraps_of(_: Trust) -> Parsed:
    outer = env.Envelope(suite=1, key=bytes(32), header=b"h", commitment=bytes(32), items_root=bytes(32))
    outer.signature, outer.ciphertext = bytes(3373), bytes(4096 + 16)
    outer.wraps.wrap.append(bytes(1168))
    return envelope.parse(canonical_bytes(outer))


# ---- 10 replay


@attack(10)
def test_10_a_repeat_has_the_same_identity_and_no_free_number(trust: Trust) -> None:
    parsed = mail.honest(trust)
    first, second = mail.admit(trust, parsed), mail.admit(trust, parsed)
    assert first.id == second.id, "only the stream and the id tell them apart"
    check_stream(first.header, None)
    with pytest.raises(errors.ForkError):
        check_stream(second.header, (1, first.id))


@attack(10)
def test_10_after_its_life_an_envelope_enters_no_log(trust: Trust) -> None:
    parsed = mail.honest(trust)
    with pytest.raises(errors.ExpiredError):
        mail.admit(trust, parsed, now_ms=NOON + 2 * DAY)
    assert Admission(trust).rights(parsed, answered=mail.nothing_answered), "admission without freshness takes it"


@attack(10, off="verify")
def test_10_on_another_channel_the_signature_fails(trust: Trust, monkeypatch: Patch) -> None:
    def move(outer: env.Envelope) -> None:
        header = env.Header.FromString(outer.header)
        header.channel = "chips"
        outer.header = canonical_bytes(header)

    moved = envelope.parse(mail.altered(mail.honest(trust), move))
    with pytest.raises(SignatureError):
        mail.admit(trust, moved)
    monkeypatch.setattr(suite, "verify", yes)
    assert mail.admit(trust, moved)


# ---- 21 insider outside policy


@attack(21, off="may_publish")
def test_21_a_company_does_not_publish_whatever_its_node_takes(trust: Trust, monkeypatch: Patch) -> None:
    parsed = mail.honest(trust, sender=COMPANY)
    with pytest.raises(errors.PolicyError) as failure:
        mail.admit(trust, parsed)
    assert failure.value.reason == "POLICY_PUBLISH"
    monkeypatch.setattr(policy, "may_publish", lambda *_, **__: True)
    assert mail.admit(trust, parsed)


# ---- 22 hostile node


@attack(22, off="aead_seal")
def test_22_a_node_sees_no_plaintext(trust: Trust, monkeypatch: Patch) -> None:
    marked = b"MARKED-PLAINTEXT" * 8
    assert marked not in mail.send(trust, draft(trust), content=[marked]).data
    monkeypatch.setattr(suite, "aead_seal", lambda _key, text, _aad: text + bytes(16))
    assert marked in mail.send(trust, draft(trust), content=[marked]).data


@attack(22, off="verify")
def test_22_altered_and_cross_wired_traffic_is_refused(trust: Trust, monkeypatch: Patch) -> None:
    one, two = mail.honest(trust), mail.honest(trust)
    crossed = envelope.parse(mail.altered(one, lambda outer: setattr(outer, "ciphertext", two.outer.ciphertext)))
    with pytest.raises(SignatureError):
        mail.admit(trust, crossed)
    monkeypatch.setattr(suite, "verify", yes)
    assert mail.admit(trust, crossed), "the node's own check is what keeps it out of the log"
    with pytest.raises(OpenError):
        opened(crossed)


# ---- 24 parser tricks


@attack(24, off="parse_canonical")
@pytest.mark.parametrize("tail", [b"\x4a\x01x", b"\x08\x01", b"\x08\x81\x00"])
def test_24_one_content_has_one_encoding(trust: Trust, monkeypatch: Patch, tail: bytes) -> None:
    tricked = mail.honest(trust).data + tail
    with pytest.raises(errors.EnvelopeError):
        envelope.parse(tricked)
    monkeypatch.setattr(envelope, "parse_canonical", lambda kind, data: kind.FromString(data))
    assert mail.admit(trust, envelope.parse(tricked))


@attack(24, off="parse_canonical")
def test_24_a_padded_varint_is_refused(trust: Trust, monkeypatch: Patch) -> None:
    honest = mail.honest(trust).data
    assert honest[:2] == b"\x08\x01"
    tricked = b"\x08\x81\x00" + honest[2:]
    with pytest.raises(errors.EnvelopeError):
        envelope.parse(tricked)
    monkeypatch.setattr(envelope, "parse_canonical", lambda kind, data: kind.FromString(data))
    assert envelope.parse(tricked)


# ---- 25 length analysis


@attack(25, off="padded_length")
def test_25_only_size_buckets_are_on_the_wire(trust: Trust, monkeypatch: Patch) -> None:
    def sizes() -> set[int]:
        return {len(mail.send(trust, draft(trust), content=[bytes(n)]).outer.ciphertext) for n in range(1, 4000, 97)}

    assert sizes() == {4096 + 16}
    monkeypatch.setattr(envelope, "padded_length", lambda content: 8 + content)
    assert len(sizes()) > 40


# ---- 26 expensive work


@attack(26)
def test_26_bad_envelopes_cost_at_most_one_verification_each(trust: Trust, monkeypatch: Patch) -> None:
    verified: list[int] = []
    verify = suite.verify

    def counted(*args: Any, **fields: Any) -> None:
        verified.append(1)
        verify(*args, **fields)

    monkeypatch.setattr(suite, "verify", counted)
    monkeypatch.setattr(suite.CardKey, "unwrap", lambda *_, **__: pytest.fail("opened"))
    parsed = mail.honest(trust)
    bends: list[Callable[[env.Envelope], None]] = [
        lambda outer: setattr(outer, "signature", bytes(3373)),
        lambda outer: setattr(outer, "key", bytes(32)),
        lambda outer: setattr(outer, "header", b"junk"),
        lambda outer: setattr(outer, "commitment", b"short"),
    ]
    for bend, most in zip(bends, (1, 0, 1, 0), strict=True):
        verified.clear()
        with pytest.raises(errors.PeerError):
            mail.admit(trust, envelope.parse(mail.altered(parsed, bend)))
        assert len(verified) == most


# ---- 27 hidden reader


@attack(27, off="audience")
def test_27_a_reader_outside_the_policy_is_refused(trust: Trust, monkeypatch: Patch) -> None:
    audience = tuple(sorted((COMPANY, "kr.motie/supply", READER, EMBASSY)))
    parsed = mail.honest(trust, audience=audience)
    with pytest.raises(errors.AudienceError) as failure:
        mail.admit(trust, parsed)
    assert failure.value.metadata["extra"] == COMPANY
    monkeypatch.setattr(Admission, "audience", lambda *_: audience)
    assert mail.admit(trust, parsed)


@attack(27, off="_check_header")
def test_27_a_wrap_for_nobody_named_is_refused(trust: Trust, monkeypatch: Patch) -> None:
    parsed = mail.altered(mail.honest(trust), lambda outer: outer.wraps.wrap.append(bytes(1168)), key=SIGNER)
    with pytest.raises(errors.EnvelopeError):
        mail.admit(trust, envelope.parse(parsed))
    monkeypatch.setattr(envelope, "_check_header", yes)
    assert mail.admit(trust, envelope.parse(parsed))


# ---- 37 poison envelope


@attack(37)
def test_37_a_refused_envelope_leaves_no_trace_in_the_rules(trust: Trust) -> None:
    rules = Admission(trust)
    poison = mail.honest(trust, sender=COMPANY)
    taken = 0
    for number in range(20):
        parsed = poison if number == 10 else mail.honest(trust, seq=number + 1)
        try:
            rules.admit(parsed, now_ms=NOON, answered=mail.nothing_answered)
        except errors.PolicyError:
            continue
        taken += 1
    assert taken == 19


# ---- 39 courier-key downgrade; a channel that requires one is in test_chains.py


@attack(39, off="courier_id")
def test_39_an_all_zero_courier_key_is_no_key(trust: Trust, monkeypatch: Patch) -> None:
    with pytest.raises(errors.CourierError):
        mail.send(trust, draft(trust), courier=bytes(32))
    monkeypatch.setattr(envelope, "courier_id", lambda key: digest(key)[:16])
    parsed = mail.send(trust, draft(trust), courier=bytes(32))
    # What it would protect opens to whoever has the secret alone.
    secret = secret_of(envelope.check(parsed, SIGNER.public), READER)
    prk = suite.hkdf_extract(bytes(32), secret)
    _, commitment = envelope.content_keys(prk, digest(parsed.outer.header), parsed.outer.items_root)
    assert commitment == parsed.outer.commitment


# ---- 40 evidence discloses the batch


@attack(40, off="salts")
def test_40_the_leaf_of_an_item_not_disclosed_cannot_be_guessed(trust: Trust, monkeypatch: Patch) -> None:
    content = [b"disclosed", b"status: halted"]

    def guess(parsed: Parsed) -> bool:
        """From one disclosed item with its salt and proof: which of the likely texts is the other?"""
        prk = suite.hkdf_extract(bytes(32), secret_of(envelope.check(parsed, SIGNER.public), READER))
        first_salt = envelope.salts(prk, digest(parsed.outer.header), 2)[0]
        first = envelope.item_leaf(first_salt, content[0])
        likely = (b"status: normal", b"status: halted")
        return any(root_of([first, envelope.item_leaf(bytes(16), text)]) == parsed.outer.items_root for text in likely)

    assert not guess(mail.send(trust, draft(trust), content=content))
    monkeypatch.setattr(envelope, "salts", lambda _prk, _digest, count: [bytes(16)] * count)
    assert guess(mail.send(trust, draft(trust), content=content))


# ---- 43 repeated random numbers


@attack(43, off="content_keys")
def test_43_two_texts_never_share_a_key(trust: Trust, monkeypatch: Patch) -> None:
    monkeypatch.setattr(envelope.os, "urandom", bytes)
    header = draft(trust)
    texts = [b"one text of a batch"], [b"another text, same"]

    def keystreams() -> set[bytes]:
        """First eight bytes of the key stream: the length prefix is known."""
        out = set()
        for text in texts:
            outer = mail.send(trust, header, content=text).outer
            size = len(env.Payload(header=bytes(32), items=text).SerializeToString())
            out.add(bytes(a ^ b for a, b in zip(outer.ciphertext, size.to_bytes(8, "little"), strict=False)))
        return out

    assert len(keystreams()) == 2
    content_keys = envelope.content_keys
    monkeypatch.setattr(envelope, "content_keys", lambda prk, header_digest, _: content_keys(prk, header_digest, b""))
    assert len(keystreams()) == 1


# ---- 9 malformed public keys


@attack(9, off="fault_of")
def test_09_a_bad_key_in_a_roster_of_ten_disables_its_desk_alone(trust: Trust, monkeypatch: Patch) -> None:
    """Its Edwards half is of low order, so one signature by it holds for every message, its proof of possession too."""
    neutral = (1).to_bytes(32, "little")
    thief = suite.SigningKey.generate(1)
    bad = suite.components(1, thief.public)[0] + neutral
    names = [f"nl.bz/d{number}" for number in range(3)]

    def bend(body: pb.Roster) -> None:
        for name in names:
            body.desks.append(founding.desk_entry(name, suite.SigningKey.generate(1), lineage=trust.lineage))
        entry = next(desk for desk in body.desks if desk.desk == names[1])
        entry.keys[0].key.key = bad
        message = suite._possession(1, bad, trust.lineage, "nl", names[1], "desk")
        signature = thief.sign(message, ctx="tocsin/1/possession")
        entry.keys[0].key.possession = signature[: -len(neutral) * 2] + neutral + bytes(32)
        body.desks.sort(key=lambda desk: desk.desk)

    roster = chains.next_roster(world(), "nl", bend)
    trust.take(roster, now_ms=NOON)
    assert set(trust.roster("nl").disabled) == {names[1]}
    assert "low order" in trust.roster("nl").disabled[names[1]]
    assert {names[0], names[2], READER, EMBASSY, COMPANY} <= trust.roster("nl").desks.keys()
    assert mail.admit(trust, mail.honest(trust)), "everybody else goes on"
    monkeypatch.setattr(points, "fault_of", lambda *_: None)
    careless = world().trust()
    careless.take(roster, now_ms=NOON)
    assert names[1] in careless.roster("nl").desks


# ---- 30 a key leaves through a repr


@attack(30, off="__repr__")
def test_30_a_key_that_is_printed_shows_nothing(monkeypatch: Patch) -> None:
    """The flows are searched in test_secrets.py; this is the type that keeps them clean, and what comes without it."""
    card, seed = suite.CardKey.generate(), SIGNER.seed()

    def printed() -> bytes:
        written = io.StringIO()
        log = structlog.wrap_logger(structlog.PrintLogger(written))
        log.warning("event", key=card, keys=[SIGNER], text=f"{card} {SIGNER!r}")
        return written.getvalue().encode() + repr({"card": card, "key": SIGNER}).encode()

    secrets = {"card": card.seed(), "signing": seed}
    assert Sight({"a log": printed()}, secrets).leaks() == []
    for kind in (suite.CardKey, suite.SigningKey):
        monkeypatch.setattr(kind, "__repr__", lambda self: f"Key({self.seed().hex()})")
    assert Sight({"a log": printed()}, secrets).leaks() == [("card", "a log"), ("signing", "a log")]
