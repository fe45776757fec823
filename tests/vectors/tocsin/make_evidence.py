"""Makes evidence.json, once: `python -m tests.vectors.tocsin.make_evidence`. Signatures are randomised, so never again.

A file is `magic` | canonical Evidence made of `rest` and the documents that `documents` names in the pool | `tail`.
"""

import base64
import json
from pathlib import Path
from typing import Any

from exchange.evidence import verify
from exchange.evidence.verify import MAGIC
from exchange.v1 import evidence_pb2 as pb
from keys import documents
from keys.encoding import canonical_bytes, digest
from keys.errors import TocsinError
from keys.v1 import documents_pb2 as docs
from tests import chains
from tests.evidence.logs import Log, sealed, show
from tests.evidence.test_evidence import BENT, bent, ended
from tests.world import NOON, found, world

HERE = Path(__file__).parent
KR, NL = "kr.the-hague-1", "nl.seoul-1"


class Maker:
    """Collects cases over one pool of documents."""

    def __init__(self) -> None:
        self.pool: list[bytes] = []
        self.cases: list[dict[str, Any]] = []

    def add(
        self, comment: str, expect: str, data: bytes, *, magic: bytes = MAGIC, tail: bytes = b"", **said: Any
    ) -> None:
        """One file; `expect` is a rule id, or the standing of what is proved."""
        file = pb.Evidence.FromString(data.removeprefix(MAGIC))
        named = []
        for document in file.documents:
            if document not in self.pool:
                self.pool.append(document)
            named.append(self.pool.index(document))
        file.ClearField("documents")
        whole = magic + data.removeprefix(MAGIC) + tail
        try:
            found = verify.verify(whole, world().lineage).standing
        except TocsinError as error:
            found = error.reason
        assert found == expect, (comment, found)
        case = {"comment": comment, "expect": expect, "magic": magic.hex(), "rest": b64(canonical_bytes(file)),
                "documents": named, "tail": tail.hex(), "sha256": digest(whole).hex(), **said}  # fmt: skip
        self.cases.append(case)


def b64(data: bytes) -> str:
    """Base64."""
    return base64.b64encode(data).decode()


def unsigned(file: pb.Evidence) -> None:
    """The roster loses its signature."""
    signed = docs.Signed.FromString(file.documents[3])
    signed.ClearField("signatures")
    file.documents[3] = canonical_bytes(signed)


def main() -> None:
    """Write the file."""
    maker = Maker()
    trust = world().trust()
    made, log = sealed(trust), Log(world(), NL)
    log.add(*(bytes([i]) * 32 for i in range(5)), made.id)
    plain = show(trust, made, log.view([made.id]))
    maker.add("one item of three, no log", "counted", show(trust, made), item=b64(b"the item that is shown"))
    maker.add("under an uncosigned head", "counted", plain, position=5, cosigners=[])
    cosigned = log.view([made.id], [log.note(cosigners=[KR])])
    maker.add("under a cosigned head", "counted", show(trust, made, cosigned), position=5, cosigners=[KR])
    maker.add("the first item", "counted", show(trust, made, index=0), item=b64(b"first item"))
    rules = {"another signature": "SIGNATURE_BAD", "another commitment": "SIGNATURE_BAD",
             "another items root": "SIGNATURE_BAD", "another ciphertext": "SIGNATURE_BAD"}  # fmt: skip
    for comment, bend in BENT.items():
        maker.add(comment, rules.get(comment, "EVIDENCE_BAD"), bent(plain, bend))
    maker.add("a roster that nobody signed", "EVIDENCE_BAD", bent(plain, unsigned))
    maker.add("another first line", "EVIDENCE_BAD", plain, magic=b"tocsin/2/evidence\n")
    maker.add("an unknown field", "NOT_CANONICAL", plain, tail=b"\xf8\x07\x01")
    card = found(weeks=1).documents[-1]
    maker.add("a key card", "EVIDENCE_BAD", bent(plain, lambda f: f.documents.append(card.encode())))
    company = sealed(trust, sender="nl.asml-like/supply", audience=("nl.bz/supply",))
    maker.add("a desk that may not publish", "EVIDENCE_BAD", show(trust, company))
    _endings(maker)
    pool = [b64(document) for document in maker.pool]
    value = {"lineage": world().lineage.hex(), "documents": pool, "cases": maker.cases}
    (HERE / "evidence.json").write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def _endings(maker: Maker) -> None:
    trust, log = world().trust(), Log(world(), NL)
    made = sealed(trust)
    log.add(b"\1" * 32, made.id)
    before, bare = log.note(cosigners=[KR]), log.note()
    roster = ended(trust)
    log.add(roster.digest)
    view = log.view([made.id, roster.digest], [before, log.note()])
    maker.add("the key ended after the other party's log held it", "counted", show(trust, made, view))
    view = log.view([made.id, roster.digest], [bare, log.note(cosigners=[KR])])
    maker.add("no head cosigned before the end", "refused", show(trust, made, view))
    maker.add("the end is not shown in the log", "refused", show(trust, made, log.view([made.id], [before])))
    late = Log(world(), NL)
    late.add(roster.digest, made.id)
    view = late.view([made.id, roster.digest], [late.note(cosigners=[KR])])
    maker.add("the log held the end first", "refused", show(trust, made, view))
    trust, log = world().trust(), Log(world(), NL)
    log.add(made.id)
    before = log.note(cosigners=[KR])

    def claim(body: docs.Roster) -> None:
        (entry,) = [d for d in body.desks if d.desk == "kr.the-hague/economic"]
        entry.keys[0].state = docs.KEY_STATE_REVOKED
        body.revocations.add(key=made.outer.key, time_ms=NOON - 1000, reason="said to be lost before")

    claimed = chains.next_roster(world(), "kr", claim, now_ms=NOON + 1000)
    trust.take(claimed, now_ms=NOON + 2000)
    log.add(claimed.digest)
    view = log.view([made.id, claimed.digest], [before, log.note()])
    maker.add("the owner claims an earlier loss", "disputed", show(trust, made, view))
    assert documents.decode(claimed.encode()).digest == claimed.digest


if __name__ == "__main__":
    main()
