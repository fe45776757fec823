"""Evidence: what a stranger can check from one file, and what he cannot learn from it."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from exchange import envelope
from exchange.errors import EvidenceError
from exchange.evidence import papers, verify
from exchange.evidence.verify import MAGIC
from exchange.v1 import envelope_pb2 as env
from exchange.v1 import evidence_pb2 as pb
from keys import documents, suite
from keys.encoding import canonical_bytes
from keys.errors import SignatureError, TocsinError
from keys.trust import Trust
from keys.v1 import documents_pb2 as docs
from tests import chains
from tests.evidence.logs import CONTENT, Log, sealed, show
from tests.mail import send
from tests.world import NOON, SENDER, draft, world

KR, NL = "kr.the-hague-1", "nl.seoul-1"
Patch = pytest.MonkeyPatch


@pytest.fixture
def trust() -> Trust:
    return world().trust()


def ended(trust: Trust, *, after: documents.Document | None = None) -> documents.Document:
    """The next kr roster, in which the sender's key is revoked."""

    def revoke(body: docs.Roster) -> None:
        (entry,) = [d for d in body.desks if d.desk == SENDER]
        entry.keys[0].state = docs.KEY_STATE_REVOKED

    made = chains.next_roster(world(), "kr", revoke, after=after, now_ms=NOON + 1000)
    trust.take(made, now_ms=NOON + 2000)
    return made


def bent(data: bytes, bend: Callable[[pb.Evidence], None]) -> bytes:
    file = pb.Evidence.FromString(data.removeprefix(MAGIC))
    bend(file)
    return MAGIC + canonical_bytes(file)


def test_a_stranger_learns_who_said_what_under_which_agreement_and_where_it_is_logged(trust: Trust) -> None:
    made, log = sealed(trust), Log(world(), NL)
    log.add(*(bytes([i]) * 32 for i in range(5)), made.id, *(bytes([i]) * 32 for i in range(9, 12)))
    note = log.note(cosigners=[KR])
    proof = verify.verify(show(trust, made, log.view([made.id], [note])), world().lineage)
    assert (proof.item, proof.index, proof.count, proof.id) == (CONTENT[1], 1, 3, made.id)
    assert proof.header.sender == SENDER
    assert proof.agreement.title == "test"
    assert proof.standing == "counted"
    [witness] = proof.witnesses
    assert (witness.node, witness.position, witness.size, witness.cosigners) == (NL, 5, 9, (KR,))
    assert any("position 5 of its log of 9" in text and KR in text for text in proof.proved)
    assert any("true" in text for text in proof.not_proved)


def test_the_program_runs_alone(trust: Trust, tmp_path: Path) -> None:
    made = sealed(trust)
    (tmp_path / "e").write_bytes(show(trust, made))
    command = [sys.executable, "-m", "exchange.evidence.verify", str(tmp_path / "e")]
    done = subprocess.run([*command, world().lineage.hex()], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Proved:")
    assert CONTENT[1].hex() in done.stdout
    refused = subprocess.run([*command, "00" * 32], capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "EVIDENCE_BAD" in refused.stderr
    assert subprocess.run([*command, "junk"], capture_output=True, check=False).returncode == 2


def test_the_program_shares_only_suites_encoding_and_messages() -> None:
    code = "import sys, exchange.evidence.verify; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    tops = ("exchange", "keys", "grpc", "sqlite3", "asyncio")
    ours = {name for name in loaded if name.partition(".")[0] in tops and not name.endswith("_pb2")}
    assert ours <= {
        "exchange", "exchange.errors", "exchange.evidence", "exchange.evidence.papers", "exchange.evidence.verify",
        "exchange.v1", "keys", "keys.encoding", "keys.errors", "keys.points", "keys.suite", "keys.v1",
    }  # fmt: skip


# ---- attack 40: what is shown of one item says nothing of the others


def test_40_no_other_item_can_be_read_or_guessed_from_the_file(trust: Trust, monkeypatch: Patch) -> None:
    likely = [b"status: normal", b"status: strained", b"status: halted"]

    def guess(data: bytes) -> bool:
        """Try each likely text as the sibling of what is shown: item 2 stands alone in the last place of three."""
        file = pb.Evidence.FromString(data.removeprefix(MAGIC))
        return any(envelope.item_leaf(salt, text) in file.proof for text in likely for salt in (bytes(16), file.salt))

    data = show(trust, sealed(trust))
    assert CONTENT[0] not in data
    assert CONTENT[2] not in data
    assert not guess(data)
    monkeypatch.setattr(envelope, "salts", lambda _prk, _digest, count: [bytes(16)] * count)
    monkeypatch.setattr(envelope, "salts_of", lambda _seed, count: [bytes(16)] * count)
    unsalted = show(trust, sealed(trust))
    assert verify.verify(unsalted, world().lineage).item == CONTENT[1]
    assert guess(unsalted)


def test_40_one_salt_for_all_would_give_the_others_away(trust: Trust, monkeypatch: Patch) -> None:
    monkeypatch.setattr(envelope, "salts", lambda _prk, _digest, count: [b"s" * 16] * count)
    monkeypatch.setattr(envelope, "salts_of", lambda _seed, count: [b"s" * 16] * count)
    file = pb.Evidence.FromString(show(trust, sealed(trust)).removeprefix(MAGIC))
    assert envelope.item_leaf(file.salt, b"status: halted") in file.proof


# ---- what does not hold


def flip(value: bytes, at: int = 0) -> bytes:
    return value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :]


def in_envelope(name: str) -> Callable[[pb.Evidence], None]:
    def bend(file: pb.Evidence) -> None:
        pruned = env.Pruned.FromString(file.envelope)
        setattr(pruned, name, flip(getattr(pruned, name), 8))
        file.envelope = canonical_bytes(pruned)

    return bend


BENT: dict[str, Callable[[pb.Evidence], None]] = {
    "another item": lambda f: setattr(f, "item", b"the item that was never said"),
    "another salt": lambda f: setattr(f, "salt", flip(f.salt)),
    "a short salt": lambda f: setattr(f, "salt", f.salt[:-1]),
    "another place in the batch": lambda f: setattr(f, "index", 0),
    "another number of items": lambda f: setattr(f, "count", 5),
    "a step of the path missing": lambda f: f.proof.pop(),
    "a step of the path too many": lambda f: f.proof.append(bytes(32)),
    "another items root": in_envelope("items_root"),
    "another commitment": in_envelope("commitment"),
    "another signature": in_envelope("signature"),
    "another ciphertext": in_envelope("ciphertext_digest"),
    "no documents": lambda f: f.ClearField("documents"),
    "no agreement": lambda f: f.documents.pop(2),
    "no roster of the sender": lambda f: f.documents.pop(3),
    "another exchange": lambda f: setattr(f, "lineage", bytes(32)),
    "another position": lambda f: setattr(f.logs[0].places[0], "position", 4),
    "another leaf": lambda f: setattr(f.logs[0].places[0], "leaf", b"\3" * 32),
    "a head of another log": lambda f: setattr(f.logs[0].heads[0], "note", f.logs[0].heads[0].note.replace(b"nl.", b"kr.")),
    "a head of another size": lambda f: setattr(f.logs[0].heads[0], "note", f.logs[0].heads[0].note.replace(b"\n6\n", b"\n7\n")),
    "no head": lambda f: f.logs[0].ClearField("heads"),
    "one log twice": lambda f: f.logs.append(f.logs[0]),
}  # fmt: skip


@pytest.fixture(scope="module")
def good() -> bytes:
    trust = world().trust()
    made, log = sealed(trust), Log(world(), NL)
    log.add(*(bytes([i]) * 32 for i in range(5)), made.id)
    return show(trust, made, log.view([made.id]))


@pytest.mark.parametrize("what", BENT)
def test_refused(what: str, good: bytes) -> None:
    verify.verify(good, world().lineage)
    with pytest.raises((EvidenceError, SignatureError)):
        verify.verify(bent(good, BENT[what]), world().lineage)


def test_a_document_signed_by_nobody_is_refused_until_thresholds_are_not_checked(
    good: bytes, monkeypatch: Patch
) -> None:
    def unsign(file: pb.Evidence) -> None:
        signed = docs.Signed.FromString(file.documents[3])
        signed.ClearField("signatures")
        file.documents[3] = canonical_bytes(signed)

    with pytest.raises(EvidenceError, match="0 of 1 roster holders"):
        verify.verify(bent(good, unsign), world().lineage)
    monkeypatch.setattr(papers, "require", lambda *_: None)
    assert verify.verify(bent(good, unsign), world().lineage).standing == "counted"


def test_any_flipped_bit_is_refused(good: bytes) -> None:
    whole = verify.verify(good, world().lineage)
    for at in range(0, len(good), len(good) // 150):
        try:
            proof = verify.verify(flip(good, at), world().lineage)
        except TocsinError:
            continue
        # A cosignature or an unneeded signature may be damaged: what is proved then stays the same.
        assert (proof.item, proof.id, proof.standing) == (whole.item, whole.id, whole.standing)


def test_a_desk_that_may_not_publish_proves_nothing(trust: Trust) -> None:
    made = sealed(trust, sender="nl.asml-like/supply", audience=("nl.bz/supply",))
    with pytest.raises(EvidenceError, match="does not let"):
        verify.verify(show(trust, made), world().lineage)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"agreement_version": 2}, "another number"),
        ({"expire_time_ms": NOON + 15 * 24 * 3600_000}, "another life"),
        ({"create_time_ms": NOON - 3600_000}, "not in force"),
        ({"channel": "gossip"}, "does not let"),
        ({"agreement": bytes(32)}, "not in the file"),
        ({"lineage": bytes(32)}, "contradicts"),
    ],
)
def test_a_header_outside_the_agreement_proves_nothing(trust: Trust, fields: dict[str, object], text: str) -> None:
    header = draft(trust)
    for name, value in fields.items():
        setattr(header, name, value)
    made = send(trust, header, content=CONTENT)
    with pytest.raises(EvidenceError, match=text):
        verify.verify(show(trust, made), world().lineage)


def test_a_suite_the_agreement_does_not_list_proves_nothing(trust: Trust, monkeypatch: Patch) -> None:
    made = sealed(trust)
    rights = verify.check_rights

    def retired(header: env.Header, held: papers.Papers) -> docs.Agreement:
        for agreement in held.agreements.values():
            del agreement.suites[:]
        return rights(header, held)

    monkeypatch.setattr(verify, "check_rights", retired)
    with pytest.raises(EvidenceError, match="does not allow suite"):
        verify.verify(show(trust, made), world().lineage)


def test_a_key_of_another_desk_proves_nothing(trust: Trust) -> None:
    made = send(trust, draft(trust), content=CONTENT, key=world().desks["nl.bz/supply"])
    assert isinstance(made, envelope.Sealed)
    with pytest.raises(EvidenceError, match="contradicts"):
        verify.verify(show(trust, made), world().lineage)


# ---- a key that ended: the derived position (attack 19)


def test_19_what_another_party_logged_before_the_revocation_came_still_counts(trust: Trust) -> None:
    made, log = sealed(trust), Log(world(), NL)
    log.add(b"\1" * 32, made.id)
    before = log.note(cosigners=[KR])
    roster = ended(trust)
    log.add(roster.digest)
    data = show(trust, made, log.view([made.id, roster.digest], [before, log.note()]))
    proof = verify.verify(data, world().lineage)
    assert proof.standing == "counted"
    assert proof.witnesses[0].counts


def refused(trust: Trust, made: envelope.Sealed, *views: pb.LogView) -> bool:
    return verify.verify(show(trust, made, *views), world().lineage).standing == "refused"


def test_19_logged_after_the_revocation_came_is_refused_whatever_time_it_claims(trust: Trust) -> None:
    made, log = sealed(trust), Log(world(), NL)
    roster = ended(trust)
    log.add(b"\1" * 32, roster.digest, made.id)
    assert refused(trust, made, log.view([made.id, roster.digest], [log.note(cosigners=[KR])]))


def test_19_a_head_that_the_senders_side_did_not_cosign_does_not_count(trust: Trust) -> None:
    made, log = sealed(trust), Log(world(), NL)
    log.add(b"\1" * 32, made.id)
    before = log.note()
    roster = ended(trust)
    log.add(roster.digest)
    assert refused(trust, made, log.view([made.id, roster.digest], [before, log.note(cosigners=[KR])]))


def test_19_the_senders_own_log_does_not_count(trust: Trust) -> None:
    made, log = sealed(trust), Log(world(), KR)
    log.add(b"\1" * 32, made.id)
    before = log.note(cosigners=[NL])
    roster = ended(trust)
    log.add(roster.digest)
    assert refused(trust, made, log.view([made.id, roster.digest], [before, log.note()]))


def test_19_a_log_that_hides_the_revocation_does_not_count(trust: Trust) -> None:
    made, log = sealed(trust), Log(world(), NL)
    log.add(b"\1" * 32, made.id)
    ended(trust)
    assert refused(trust, made, log.view([made.id], [log.note(cosigners=[KR])]))


def test_19_a_later_roster_does_not_stand_for_the_first_that_ended_the_key(trust: Trust) -> None:
    """The log took the revocation first, then the envelope; the forger shows only the roster after that."""
    made, log = sealed(trust), Log(world(), NL)
    first = ended(trust)
    log.add(first.digest, made.id)
    before = log.note(cosigners=[KR])
    later = ended(trust, after=first)
    log.add(later.digest)
    view = log.view([made.id, later.digest], [before, log.note()])
    data = show(trust, made, view)

    def drop_first(file: pb.Evidence) -> None:
        kept = [d for d in file.documents if documents.decode(d).digest != first.digest]
        del file.documents[:]
        file.documents.extend(kept)

    assert verify.verify(data, world().lineage).standing == "refused"
    assert verify.verify(bent(data, drop_first), world().lineage).standing == "refused"


def test_two_heads_that_are_not_one_history_are_refused(trust: Trust) -> None:
    made, log, fork = sealed(trust), Log(world(), NL), Log(world(), NL)
    log.add(b"\1" * 32, made.id)
    fork.add(b"\2" * 32, made.id, b"\3" * 32)
    view = log.view([made.id])
    other = fork.view([made.id])
    view.heads.add(note=other.heads[0].note)
    view.places[0].CopyFrom(other.places[0])
    with pytest.raises(EvidenceError, match="one history"):
        verify.verify(show(trust, made, view), world().lineage)


def test_party_and_agreement_chains_are_followed(trust: Trust) -> None:
    kept = {"staff": suite.SigningKey.generate(1)}
    party = chains.next_party(world(), "kr", {"roster": kept})
    trust.take(party, now_ms=NOON)
    trust.take(chains.next_agreement(world()), now_ms=NOON)
    made = sealed(trust)
    proof = verify.verify(show(trust, made), world().lineage)
    assert proof.agreement.version == 1
    assert proof.standing == "counted"
