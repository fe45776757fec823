"""Makes the frozen vectors, once: `python -m tests.vectors.tocsin.make`. Signatures are randomised, so never again.

A change that needs other vectors is another protocol version: it adds a directory beside this one.
"""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from exchange import envelope
from exchange.envelope import Parsed
from exchange.v1 import envelope_pb2 as env
from keys import documents, founding, suite
from keys.documents import Document
from keys.encoding import canonical_bytes, digest, pae
from keys.v1 import documents_pb2 as pb
from tests import chains, mail
from tests.world import NOON, SENDER, World, draft, found

HERE = Path(__file__).parent
READER, OTHER, COMPANY = "nl.bz/supply", "nl.seoul/economic", "nl.asml-like/supply"
COURIER = bytes(range(32))


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


class Maker:
    """One world and the cases over it."""

    def __init__(self) -> None:
        self.world: World = found(weeks=1)
        self.trust = self.world.trust()
        self.key = self.world.desks[SENDER]
        self.cases: list[dict[str, Any]] = []

    def header(self, audience: tuple[str, ...] = (READER,), **fields: Any) -> env.Header:
        return draft(self.trust, marking=fields.pop("marking", pb.MARKING_RED), audience=audience, **fields)

    def seal(self, header: env.Header, content: list[bytes] | None = None, **fields: Any) -> Parsed:
        return mail.send(self.trust, header, content=content or [b"one", b"two"], at=self.world, **fields)

    def add(self, layer: str, comment: str, expect: str, data: bytes, **fields: Any) -> None:
        case = {"comment": comment, "layer": layer, "expect": expect, "desk": READER, "now_ms": NOON}
        self.cases.append({**case, **fields, "envelope": b64(data)})

    # ---- layer "open"

    def accepted(self) -> None:
        for comment, header, content in (
            ("two items, one reader", self.header(), [b"one", b"two"]),
            (
                "four readers, an empty item, padding to the next bucket",
                self.header(("kr.motie/supply", COMPANY, READER, OTHER), marking=pb.MARKING_GREEN),
                [b"", bytes(5000)],
            ),
            ("three items: an uneven tree", self.header(), [b"a", b"b", b"c"]),
        ):
            parsed = self.seal(header, content)
            self.add("open", comment, "ok", parsed.data, items=[b64(i) for i in content], id=parsed.id.hex())
        uncarded = self.header((READER, OTHER))
        uncarded.audience[1].card = b""
        parsed = self.seal(uncarded)
        self.add(
            "open",
            "a reader without a card has no wrap",
            "ok",
            parsed.data,
            items=[b64(b"one"), b64(b"two")],
            id=parsed.id.hex(),
        )
        parsed = self.seal(self.header(), courier=COURIER)
        items = [b64(b"one"), b64(b"two")]
        self.add(
            "keys",
            "a courier key is mixed in",
            "ok",
            parsed.data,
            items=items,
            courier=b64(COURIER),
            id=parsed.id.hex(),
        )
        self.add("keys", "its courier key is missing", "COURIER_KEY", parsed.data)
        self.add("keys", "another courier key", "COURIER_KEY", parsed.data, courier=b64(COURIER[::-1]))

    def bent(self, comment: str, expect: str, bend: Callable[[env.Envelope], None], *, signed: bool) -> None:
        data = mail.altered(self.seal(self.header()), bend, key=self.key if signed else None)
        self.add("open", comment, expect, data)

    def outside(self) -> None:
        plain = self.seal(self.header()).data
        for comment, data in (
            ("a trailing unknown field", plain + b"\x4a\x01x"),
            ("a repeated field", plain + b"\x08\x01"),
            ("a varint that is not minimal", b"\x08\x81\x00" + plain[2:]),
            ("a byte too many", plain + b"\x00"),
            ("a byte too few", plain[:-1]),
        ):
            self.add("open", comment, "ENVELOPE_SHAPE", data)

        def zero(start: int, end: int) -> Callable[[env.Envelope], None]:
            def bend(outer: env.Envelope) -> None:
                outer.signature = outer.signature[:start] + bytes(end - start) + outer.signature[end:]

            return bend

        self.bent("the ML-DSA half is zeros", "SIGNATURE_BAD", zero(0, 3309), signed=False)
        self.bent("the Ed25519 half is zeros", "SIGNATURE_BAD", zero(3309, 3373), signed=False)

        def other_context(outer: env.Envelope) -> None:
            outer.signature = self.key.sign(pae(envelope.CONTEXT, envelope.envelope_id(outer)), ctx="tocsin/1/card")

        self.bent("the signature has another context", "SIGNATURE_BAD", other_context, signed=False)
        self.bent("the commitment is altered", "SIGNATURE_BAD", self.flip("commitment"), signed=False)
        self.bent("the ciphertext is altered", "SIGNATURE_BAD", self.flip("ciphertext"), signed=False)
        self.bent("a wrap of 1,167 bytes", "ENVELOPE_SHAPE", self.first_wrap(bytes(1167)), signed=True)
        self.bent("a wrap too many", "ENVELOPE_SHAPE", lambda outer: outer.wraps.wrap.append(bytes(1168)), signed=True)
        stranger = suite.SigningKey.generate(1)
        self.add("open", "a key no roster lists", "SENDER_UNKNOWN", self.seal(self.header(), key=stranger).data)

    @staticmethod
    def flip(name: str) -> Callable[[env.Envelope], None]:
        def bend(outer: env.Envelope) -> None:
            value = bytearray(getattr(outer, name))
            value[0] ^= 1
            setattr(outer, name, bytes(value))

        return bend

    @staticmethod
    def first_wrap(value: bytes) -> Callable[[env.Envelope], None]:
        def bend(outer: env.Envelope) -> None:
            outer.wraps.wrap[0] = value

        return bend

    def headers(self) -> None:
        def in_header(bend: Callable[[env.Header], None]) -> Callable[[env.Envelope], None]:
            def apply(outer: env.Envelope) -> None:
                header = env.Header.FromString(outer.header)
                bend(header)
                outer.header = canonical_bytes(header)

            return apply

        def unknown(outer: env.Envelope) -> None:
            outer.header += b"\xf8\x07\x01"

        self.bent("an unknown field in the header", "ENVELOPE_SHAPE", unknown, signed=True)
        for comment, bend in (
            ("the suite inside differs from outside", lambda header: setattr(header, "suite", 2)),
            ("the key inside differs from outside", lambda header: setattr(header, "key", bytes(32))),
            ("the sender reads", lambda header: setattr(header, "sender", READER)),
            ("the audience is not unique", lambda header: header.audience.append(header.audience[0])),
            ("the padded length differs", lambda header: setattr(header, "padded_length", 8192)),
        ):
            self.bent(comment, "ENVELOPE_SHAPE", in_header(bend), signed=True)

    def contents(self) -> None:
        for name in ("commitment", "ciphertext", "items_root"):
            self.bent(f"the sender signed another {name}", "OPEN_FAILED", self.flip(name), signed=True)
        two = mail.altered(self.seal(self.header((READER, OTHER))), self.swap_wraps, key=self.key)
        self.add("open", "the wraps are swapped", "OPEN_FAILED", two)
        head = env.Payload(header=bytes(32), items=[b"x"])
        good = len(head.SerializeToString())
        for comment, bend in (
            ("the padding is not zeros", lambda text: text[:-1] + b"\1"),
            ("the length is beyond the end", lambda text: b"\xff" * 8 + text[8:]),
            ("the payload names another header", lambda text: text[:10] + bytes(32) + text[42:]),
            ("another item than the root says", lambda text: text.replace(b"\x12\x01x", b"\x12\x01y")),
            ("no items", lambda text: (good - 3).to_bytes(8, "little") + text[8:].replace(b"\x12\x01x", bytes(3))),
        ):
            self.add("open", comment, "OPEN_FAILED", self.crafted(bend))

    @staticmethod
    def swap_wraps(outer: env.Envelope) -> None:
        outer.wraps.wrap[0], outer.wraps.wrap[1] = outer.wraps.wrap[1], outer.wraps.wrap[0]

    def crafted(self, bend: Callable[[bytes], bytes]) -> bytes:
        header = self.header()
        header.suite, header.key, header.random = 1, suite.key_id(1, "desk", self.key.public), bytes(16)
        header.padded_length = 4096
        header_bytes = canonical_bytes(header)
        header_digest, secret = digest(header_bytes), b"s" * 32
        prk = suite.hkdf_extract(bytes(32), secret)
        root = envelope.items_root(prk, header_digest, [b"x"])
        content_key, commitment = envelope.content_keys(prk, header_digest, root)
        payload = env.Payload(header=header_digest, items=[b"x"]).SerializeToString()
        text = bend(len(payload).to_bytes(8, "little") + payload + bytes(4096 - 8 - len(payload)))
        outer = env.Envelope(suite=1, key=header.key, header=header_bytes, commitment=commitment, items_root=root)
        info = envelope.wrap_info(header_digest, READER, header.audience[0].card)
        outer.wraps.wrap.append(suite.wrap(self.world.card(READER).public, info=info, secret=secret))
        outer.ciphertext = suite.aead_seal(content_key, text, header_digest)
        outer.signature = self.key.sign(pae(envelope.CONTEXT, envelope.envelope_id(outer)), ctx=envelope.CONTEXT)
        return canonical_bytes(outer)

    # ---- layer "admit"

    def admission(self) -> None:
        def case(comment: str, expect: str, *, now_ms: int = NOON, **fields: Any) -> None:
            header = self.header()
            for name, value in fields.items():
                setattr(header, name, value)
            self.add("admit", comment, expect, self.seal(header).data, now_ms=now_ms)

        case("admitted", "ok")
        case("of another exchange", "DOCUMENT_LINEAGE", lineage=bytes(32))
        case("an agreement that is not held", "DOCUMENT_MISSING", agreement=bytes(32))
        case("an agreement of another number", "DOCUMENT_PINNED", agreement_version=2)
        case("a channel the agreement has not", "POLICY_PUBLISH", channel="gossip")
        case("no marking", "POLICY_PUBLISH", marking=0)
        case("past its life by S", "ENVELOPE_TIME", now_ms=NOON + 3600_000 + 300_000)
        case("the last millisecond of its life and S", "ok", now_ms=NOON + 3600_000 + 300_000 - 1)
        case("made in the future by more than S", "ENVELOPE_TIME", now_ms=NOON - 300_001)
        case("lives longer than L", "ENVELOPE_TIME", expire_time_ms=NOON + 14 * founding.DAY_MS + 1)
        for comment, audience, marking in (
            ("a company reads RED", (COMPANY, READER), pb.MARKING_RED),
            ("a reader of AMBER is left out", (READER,), pb.MARKING_AMBER),
        ):
            self.add("admit", comment, "POLICY_AUDIENCE", self.seal(self.header(audience, marking=marking)).data)
        company = draft(self.trust, sender=COMPANY)
        self.add("admit", "a company publishes", "POLICY_PUBLISH", self.seal(company).data)
        roster = self.header()
        roster.rosters[1].version = 2
        self.add("admit", "a roster of another number", "DOCUMENT_PINNED", self.seal(roster).data)
        courier = self.seal(self.header(), courier=COURIER)
        self.add("admit", "a courier key where none is used", "COURIER_KEY", courier.data)

    # ---- documents

    def documents(self) -> list[dict[str, Any]]:
        world = self.world
        body = pb.KeyCard(
            lineage=world.lineage,
            desk=SENDER,
            week=next(iter(world.cards))[1],
            suite=1,
            key=suite.CardKey.generate().public,
        )
        second_card = documents.sign(documents.make(body), self.key, role="desk")

        def put(**fields: Any) -> Callable[[Any], None]:
            def bend(body: Any) -> None:
                for name, value in fields.items():
                    setattr(body, name, value)

            return bend

        made: list[tuple[str, str, Document]] = [
            ("the next roster", "ok", chains.next_roster(world, "kr")),
            ("a roster two ahead", "DOCUMENT_GAP", chains.next_roster(world, "kr", put(version=3))),
            ("a roster behind", "DOCUMENT_ROLLBACK", chains.next_roster(world, "kr", put(version=0))),
            ("a second roster 1", "DOCUMENT_EQUIVOCATION", chains.next_roster(world, "kr", put(version=1))),
            (
                "a roster of another exchange",
                "DOCUMENT_LINEAGE",
                chains.next_roster(world, "kr", put(lineage=bytes(32))),
            ),
            ("a roster for the other party", "DOCUMENT_THRESHOLD", chains.next_roster(world, "kr", put(party="nl"))),
            (
                "a roster for 91 days",
                "DOCUMENT_RULE",
                chains.next_roster(world, "kr", put(expire_time_ms=NOON + 91 * founding.DAY_MS)),
            ),
            ("the next status", "ok", chains.next_status(world, "kr")),
            ("a second status 1", "DOCUMENT_EQUIVOCATION", chains.next_status(world, "kr", version=1)),
            ("a status two ahead", "ok", chains.next_status(world, "kr", version=3)),
            ("an amendment", "ok", chains.next_agreement(world)),
            ("an amendment by one party", "DOCUMENT_THRESHOLD", chains.next_agreement(world, signers=("kr",))),
            ("an amendment without grace", "DOCUMENT_RULE", chains.next_agreement(world, put(grace_ms=1))),
            ("a second card for one week", "DOCUMENT_EQUIVOCATION", second_card),
            (
                "new status keys",
                "ok",
                chains.next_party(world, "kr", {"status": {"duty": suite.SigningKey.generate(1)}}),
            ),
            (
                "new status keys, same generation",
                "DOCUMENT_RULE",
                chains.next_party(
                    world,
                    "kr",
                    {"status": {"duty": suite.SigningKey.generate(1)}},
                    lambda b: put(generation=1)(b.status),
                ),
            ),
            (
                "a key of another role",
                "KEY_BAD",
                chains.next_party(world, "kr", {"roster": {"staff": world.parties["kr"].keys["status"]["duty"]}}),
            ),
        ]
        return [
            {"comment": comment, "expect": expect, "digest": d.digest.hex(), "document": b64(d.encode())}
            for comment, expect, d in made
        ]


def write(name: str, value: object) -> None:
    (HERE / name).write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Write the three files."""
    maker = Maker()
    maker.accepted()
    maker.outside()
    maker.headers()
    maker.contents()
    maker.admission()
    write(
        "exchange.json",
        {
            "lineage": maker.world.lineage.hex(),
            "now_ms": NOON,
            "documents": [b64(document.encode()) for document in maker.world.documents],
            "digests": [document.digest.hex() for document in maker.world.documents],
            "card_seeds": {desk: b64(card.seed()) for (desk, _), card in maker.world.cards.items()},
        },
    )
    write("envelopes.json", maker.cases)
    write("documents.json", maker.documents())


if __name__ == "__main__":
    main()
