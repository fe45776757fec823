"""Verify a file of evidence, offline and alone: `python -m exchange.evidence.verify FILE LINEAGE`.

Written from docs/PROTOCOL.md section 13 and apart from the rest of Tocsin: of it this program uses the signature
suites, PAE and the message definitions, nothing else. It holds no key, opens nothing, asks nobody.
"""

import base64
import hmac
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Final

from exchange.errors import EvidenceError
from exchange.evidence.papers import Papers, desk_key, need, party_of, signed_by
from exchange.v1 import envelope_pb2 as env
from exchange.v1 import evidence_pb2 as pb
from keys import suite
from keys.encoding import digest, leaf_digest, pae, parse_canonical
from keys.errors import SignatureError, TocsinError, UsageError
from keys.v1 import documents_pb2 as docs

MAGIC: Final = b"tocsin/1/evidence\n"
MAX_BYTES: Final = 64 * 1024 * 1024
MAX_DOCUMENTS: Final = 1024
MAX_LOGS, MAX_HEADS, MAX_PLACES, MAX_HASHES = 16, 8, 8, 128
MARKINGS: Final = {1: "CLEAR", 2: "GREEN", 3: "AMBER", 4: "AMBER+STRICT", 5: "RED"}


@dataclass(frozen=True, slots=True)
class Witness:
    """One log that holds the envelope; `size` and `time_ms` are those of its newest head shown."""

    origin: str
    node: str
    position: int
    size: int
    time_ms: int
    cosigners: tuple[str, ...]
    counts: bool
    """A head that a node of the sender's party cosigned holds it, before what ended the key came into this log."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What a file proves. `standing`: "counted", "disputed" (counts; its party claims the key was lost before), "refused"."""

    lineage: bytes
    item: bytes
    index: int
    count: int
    id: bytes
    header: env.Header
    agreement: docs.Agreement
    witnesses: tuple[Witness, ...]
    standing: str
    proved: tuple[str, ...]
    not_proved: tuple[str, ...]


def climb(index: int, size: int, leaf: bytes, proof: Sequence[bytes]) -> bytes:
    """The root that an inclusion proof leads to (RFC 9162 section 2.1.3.2)."""
    need(0 <= index < size and len(proof) <= MAX_HASHES and all(len(h) == 32 for h in proof), "a proof is malformed")
    value, last = leaf, size - 1
    for sibling in proof:
        need(last > 0, "a proof is too long")
        if index % 2 or index == last:
            value = digest(b"\x01" + sibling + value)
            while not index % 2 and index:
                index, last = index // 2, last // 2
        else:
            value = digest(b"\x01" + value + sibling)
        index, last = index // 2, last // 2
    need(last == 0, "a proof is too short")
    return value


def extends(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether one head extends another (RFC 9162 section 2.1.4.2)."""
    if old == new:
        return not proof and old_root == new_root
    if not 0 < old < new or len(proof) > MAX_HASHES or any(len(h) != 32 for h in proof):
        return False
    path = [old_root, *proof] if not old & (old - 1) else list(proof)
    at, last = old - 1, new - 1
    while at % 2:
        at, last = at // 2, last // 2
    if not path:
        return False
    before = after = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if at % 2 or at == last:
            before, after = digest(b"\x01" + sibling + before), digest(b"\x01" + sibling + after)
            while not at % 2 and at:
                at, last = at // 2, last // 2
        else:
            after = digest(b"\x01" + after + sibling)
        at, last = at // 2, last // 2
    return not last and (before, after) == (old_root, new_root)


@dataclass(frozen=True, slots=True)
class Note:
    """A log's head as its node signed it."""

    origin: str
    node: str
    size: int
    root: bytes
    time_ms: int
    cosigners: tuple[str, ...]


def read_note(data: bytes, papers: Papers) -> Note:
    """Parse a signed note; refuse one that its node did not sign. Cosignatures that do not hold are left out."""
    try:
        head, _, rest = data.decode().rpartition("\n\n")
        origin, size, root, time = head.split("\n")
        lines = [line.removeprefix("— ").split(" ") for line in rest.splitlines()]
        signatures = [(name, base64.b64decode(blob, validate=True)[4:]) for name, blob in lines]
        note = Note(
            origin, origin.split("/")[1], int(size), base64.b64decode(root), int(time.removeprefix("time ")), ()
        )
    except (ValueError, IndexError):
        raise EvidenceError("a log head is malformed") from None
    text = f"{origin}\n{note.size}\n{base64.b64encode(note.root).decode()}\ntime {note.time_ms}\n".encode()
    need(text == f"{head}\n".encode() and note.size > 0, "a log head is not in its one form")
    need(len(signatures) <= 16 and origin.startswith(f"tocsin/{note.node}/"), "a log head has 1 to 16 signatures")

    def holds(name: str, signature: bytes, ctx: str) -> bool:
        return any(signed_by(key, text, signature, ctx) for key in papers.log_keys(name))

    own = any(name == note.node and holds(name, s, "tocsin/1/checkpoint") for name, s in signatures)
    need(own, f"the head of {note.node} is not signed by its log key")
    others = {n for n, s in signatures if party_of(n) != party_of(note.node) and holds(n, s, "tocsin/1/cosignature")}
    return Note(origin, note.node, note.size, note.root, note.time_ms, tuple(sorted(others)))


def witness(view: pb.LogView, identity: bytes, papers: Papers, sender: str, endings: set[bytes]) -> Witness:
    """Check what is shown of one log."""
    need(1 <= len(view.heads) <= MAX_HEADS and 1 <= len(view.places) <= MAX_PLACES, "a log is shown by 1 to 8 heads")
    notes = [read_note(head.note, papers) for head in view.heads]
    for i, (old, new) in enumerate(pairwise(notes)):
        proof = view.heads[i + 1].consistency
        grows = old.origin == new.origin and extends(old.size, new.size, old.root, new.root, proof)
        need(grows, f"two heads of {old.origin} do not belong to one history")
    last = notes[-1]
    for place in view.places:
        need(climb(place.position, last.size, place.leaf, place.proof) == last.root, f"not in the log of {last.node}")
    need(view.places[0].leaf == identity, "a log is shown for another envelope")
    at = view.places[0].position
    places = {place.leaf: place.position for place in view.places}
    # All that ended the key must be shown: what is left out could have come first.
    ended_at = min(places[leaf] for leaf in endings) if endings and endings <= places.keys() else -1
    counts = party_of(last.node) != party_of(sender) and any(
        at < note.size <= ended_at and any(party_of(c) == party_of(sender) for c in note.cosigners) for note in notes
    )
    cosigners = sorted({name for note in notes if note.size > at for name in note.cosigners})
    return Witness(last.origin, last.node, at, last.size, last.time_ms, tuple(cosigners), counts)


def check_envelope(pruned: env.Pruned, papers: Papers) -> tuple[bytes, env.Header]:
    """Identity, signature and header of the envelope."""
    parts = (pruned.header, pruned.commitment, pruned.items_root, pruned.wraps_digest, pruned.ciphertext_digest)
    identity = leaf_digest(pae("tocsin/1/envelope", *parts, pruned.ciphertext_length))
    listed = [(d, k) for r in papers.rosters.values() for d in r.desks for k in d.keys if k.key.suite == pruned.suite]
    found = (x for x in listed if suite.key_id(x[1].key.suite, "desk", x[1].key.key) == pruned.key)
    desk, key = next(found, (None, None))
    if desk is None or key is None:
        raise EvidenceError("no roster here lists the key that signed")
    if not signed_by(key.key, pae("tocsin/1/envelope", identity), pruned.signature, "tocsin/1/envelope"):
        raise SignatureError("the envelope is not signed by the key it names")
    header = parse_canonical(env.Header, pruned.header)
    same = (header.suite, header.key, header.padded_length) == (pruned.suite, pruned.key, pruned.ciphertext_length - 16)
    need(same and header.sender == desk.desk and header.lineage == papers.lineage, "the header contradicts its outside")
    names = [reader.desk for reader in header.audience]
    need(names == sorted(set(names)) and header.sender not in names and header.seq > 0, "the header is not well-formed")
    return identity, header


def check_rights(header: env.Header, papers: Papers) -> docs.Agreement:
    """The agreement and the roster that the envelope pins let its sender publish it with this key at that time."""
    agreement, time, party = papers.agreements.get(header.agreement), header.create_time_ms, party_of(header.sender)
    pin = next((pin for pin in header.rosters if pin.party == party), env.RosterPin())
    pinned = papers.rosters.get(pin.digest)
    if agreement is None or pinned is None:
        raise EvidenceError("the agreement or the roster that the envelope pins is not in the file")
    numbered = (agreement.version, pinned.generation, pinned.version) == (
        header.agreement_version, pin.generation, pin.version)  # fmt: skip
    need(numbered and pinned.party == party, "a pinned document has another number than its digest says")
    need(header.suite in agreement.suites, f"agreement {agreement.version} does not allow suite {header.suite}")
    successors = [a for a in papers.agreements.values() if a.version == agreement.version + 1]
    end = min([agreement.expire_time_ms, *(a.effective_time_ms + a.grace_ms for a in successors)])
    need(agreement.effective_time_ms - agreement.skew_ms <= time < end, "the agreement was not in force at that time")
    need(time < header.expire_time_ms <= time + agreement.lifetime_ms, "the envelope claims another life than agreed")
    live = pinned.issue_time_ms - agreement.skew_ms <= time < pinned.expire_time_ms
    need(live, "the roster was not in force at that time")
    used = desk_key(pinned, header.sender, header.key)
    active = used is not None and used.state == docs.KEY_STATE_ACTIVE and used.first_use_ms <= time
    need(
        active and used is not None and (not used.last_use_ms or time < used.last_use_ms), "the key was not in use then"
    )
    mission = next((m for m in pinned.missions if m.mission == header.sender.partition("/")[0]), docs.Mission())
    selectors = (s for c in agreement.channels if c.channel == header.channel for s in c.publish)
    may = any(
        s.party in ("", party) and s.kind in (0, mission.kind) and s.mission in ("", mission.mission) for s in selectors
    )
    need(may or bool(header.answers), f"the agreement does not let {header.sender} publish on {header.channel}")
    return agreement


def verify(data: bytes, lineage: bytes) -> Proof:
    """Check a file of evidence against a lineage that was compared out of band.

    Raises:
        EvidenceError: It proves nothing; the text says where it fails.
        SignatureError: The envelope's signature does not hold.
        NotCanonicalError: Bytes in another form than the one form.
    """
    need(len(data) <= MAX_BYTES and data.startswith(MAGIC), "not a file of evidence of this version")
    file = parse_canonical(pb.Evidence, data.removeprefix(MAGIC))
    need(len(file.documents) <= MAX_DOCUMENTS and len(file.logs) <= MAX_LOGS, "more documents or logs than allowed")
    need(hmac.compare_digest(file.lineage, lineage), "evidence of another exchange than the lineage given")
    papers = Papers(lineage)
    for document in file.documents:
        papers.take(document)
    pruned = parse_canonical(env.Pruned, file.envelope)
    identity, header = check_envelope(pruned, papers)
    agreement = check_rights(header, papers)
    need(len(file.salt) == 16 and 1 <= file.count <= 1024, "the salt is 16 bytes, a batch has 1 to 1,024 items")
    leaf = leaf_digest(pae("tocsin/1/item", file.salt, file.item))
    need(climb(file.index, file.count, leaf, file.proof) == pruned.items_root, "the item is not in the envelope")
    ended, endings, claimed_ms = papers.endings(header.sender, header.key)
    logs = tuple(witness(view, identity, papers, header.sender, endings) for view in file.logs)
    need([log.origin for log in logs] == sorted({log.origin for log in logs}), "the logs are not sorted and unique")
    standing = "counted" if not ended or any(log.counts for log in logs) else "refused"
    if ended and standing == "counted" and claimed_ms <= header.create_time_ms:
        standing = "disputed"
    proved, open_ = words(file, header, agreement, logs, standing if ended else "", papers)
    return Proof(lineage, file.item, file.index, file.count, identity, header, agreement, logs, standing, proved, open_)


def words(
    file: pb.Evidence,
    header: env.Header,
    agreement: docs.Agreement,
    logs: Iterable[Witness],
    standing: str,
    papers: Papers,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is proved, and what is not, in sentences; `standing` is empty while the key has not ended."""
    readers = ", ".join(reader.desk for reader in header.audience)
    said = f"number {header.seq} of its stream on {header.channel}, {MARKINGS.get(header.marking, '?')}, for {readers}"
    proved = [
        f"{header.sender} signed an envelope with this item in it: item {file.index + 1} of {file.count}; {said}.",
        f"It did so under agreement {agreement.version}, which every party signed and which allows it, with a key that "
        f"the {party_of(header.sender)} roster it names lists as in use.",
    ]
    for log in logs:
        seen = f"cosigned by {', '.join(log.cosigners)}" if log.cosigners else f"on the word of {log.node} alone"
        proved.append(
            f"{log.node} holds it at position {log.position} of its log of {log.size}, signed {when(log.time_ms)}, {seen}."
        )
    unproved = []
    if standing in ("counted", "disputed"):
        proved.append(
            "The key ended since; a head that its own side cosigned before that reached the log holds the envelope."
        )
    if standing == "disputed":
        unproved.append("Whether the key was lost before: its party claims so. The claim moves no position.")
    if standing == "refused":
        unproved.append(
            "That its owner sealed it: the key ended, and no log of another party shows that this came first."
        )
    newest = {p: s.issue_time_ms for p, s in papers.statuses.items()}
    until = ", ".join(f"{p} {when(newest[p]) if p in newest else 'unknown'}" for p in sorted(papers.parties))
    unproved += [
        "That what it says is true; only who said it.",
        f"When it was sealed: {when(header.create_time_ms)} is its sender's claim. A log's time is its node's.",
        f"That no document newer than the file ended the key. Newest word of each party: {until}.",
        "That anybody read it, or that its readers were all whom the agreement lets read.",
        f"Anything about the other {file.count - 1} items of the batch."
        if file.count > 1
        else "Anything left out of it.",
    ]
    return tuple(proved), tuple(unproved)


def when(time_ms: int) -> str:
    """A time in words, UTC."""
    try:
        return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d %H:%M:%S UTC}"
    except (ValueError, OverflowError, OSError):
        return f"{time_ms} ms"


def main(arguments: Sequence[str]) -> int:
    """Print what is proved and what is not; 0 proved, 1 refused, 2 misused."""
    from keys import words as spoken

    try:
        path, *lineage = arguments
        wanted = spoken.read(" ".join(lineage))
        data = Path(path).read_bytes() if Path(path).stat().st_size <= MAX_BYTES else b""
    except (ValueError, OSError, UsageError) as error:
        sys.stderr.write(f"usage: python -m exchange.evidence.verify FILE LINEAGE (24 words or 64 digits): {error}\n")
        return 2
    try:
        proof = verify(data, wanted)
    except TocsinError as error:
        sys.stderr.write(f"refused by {error.reason}: {error}\n")
        return 1
    sys.stdout.write(f"{told(proof)}\nThe item, as carried (hex): {proof.item.hex()}\n")
    return 0


def told(proof: Proof) -> str:
    """What is proved and what is not, one sentence a line."""
    return "\n".join(
        ["Proved:", *(f"  {text}" for text in proof.proved), "Not proved:", *(f"  {text}" for text in proof.not_proved)]
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
