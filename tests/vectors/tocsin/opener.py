"""An independent opener, written from docs/PROTOCOL.md alone: only `cryptography` and the standard library.

It shares no code with keys/ or exchange/. It reads protobuf by itself, strictly where the protocol is strict, checks
documents as far as opening needs them, and gives the carried bytes of the items. No policy, no clocks, no chains.
"""

import hashlib
import hmac
from typing import Any

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, hpke
from cryptography.hazmat.primitives.asymmetric import ed448, ed25519, mldsa, mlkem, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand


class Refused(Exception):
    """Refused, with the rule id."""


def schema(text: str, **messages: Any) -> dict[int, Any]:
    """Fields numbered from 1, as "name:kind", a message by its name; a star repeats."""
    out: dict[int, Any] = {}
    for number, (name, _, kind) in enumerate((field.partition(":") for field in text.split()), 1):
        plain = kind.rstrip("*")
        out[number] = (name, messages.get(plain, plain), kind.endswith("*"))
    return out


PIN = schema("party:string generation:uint64 version:uint64 digest:bytes")
READER = schema("desk:string card:bytes")
HEADER = schema(
    "suite:uint32 lineage:bytes agreement_version:uint64 agreement:bytes rosters:pin* sender:string key:bytes "
    "channel:string marking:uint32 stream:bytes seq:uint64 prev_seq:uint64 prev_id:bytes audience:reader* "
    "create_time_ms:uint64 expire_time_ms:uint64 courier:bytes random:bytes padded_length:uint64 answers:bytes",
    pin=PIN,
    reader=READER,
)
ENVELOPE = schema(
    "suite:uint32 key:bytes header:bytes commitment:bytes items_root:bytes wraps:wraps ciphertext:bytes "
    "signature:bytes",
    wraps=schema("wrap:bytes*"),
)
PAYLOAD = schema("header:bytes items:bytes*")
SIGNED = schema("type:string body:bytes signatures:one*", one=schema("suite:uint32 key:bytes signature:bytes"))
# Documents are read loosely here: only what opening needs.
KEY = schema("suite:uint32 key:bytes")
ROLE = {2: ("threshold", "uint32", False), 3: ("keys", {1: ("holder", "string", False), 2: ("key", KEY, False)}, True)}
PARTY = {2: ("party", "string", False), 6: ("root", ROLE, False), 7: ("roster", ROLE, False)}
AGREEMENT = {5: ("parties", {1: ("party", "string", False), 2: ("first_party", "bytes", False)}, True)}
DESK = {1: ("desk", "string", False), 2: ("keys", {1: ("key", KEY, False)}, True)}
ROSTER = {1: ("lineage", "bytes", False), 2: ("party", "string", False), 9: ("desks", DESK, True)}
CARD = schema("lineage:bytes desk:string week:uint32 suite:uint32 key:bytes")


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i in range(10):
        if at + i >= len(data):
            raise Refused("NOT_CANONICAL")
        byte = data[at + i]
        value |= (byte & 127) << 7 * i
        if byte < 128:
            if (i and not byte) or value >= 1 << 64:
                raise Refused("NOT_CANONICAL")  # not minimal, or too large
            return value, at + i + 1
    raise Refused("NOT_CANONICAL")


def read(schema: dict[int, Any], data: bytes, *, strict: bool = True) -> dict[str, Any]:
    """One message; strict: fields ascending, none unknown, no defaults, minimal varints."""
    out: dict[str, Any] = {}
    for name, kind, repeated in schema.values():
        empty = {"string": "", "bytes": b""}.get(kind, 0) if isinstance(kind, str) else {}
        out[name] = [] if repeated else empty
    at, last = 0, 0
    while at < len(data):
        tag, at = varint(data, at)
        number, wire = tag >> 3, tag & 7
        value: Any
        if wire == 0:
            value, at = varint(data, at)
        elif wire == 2:
            length, at = varint(data, at)
            value, at = data[at : at + length], at + length
            if at > len(data):
                raise Refused("NOT_CANONICAL")
        else:
            raise Refused("NOT_CANONICAL")
        if number not in schema:
            if strict:
                raise Refused("NOT_CANONICAL")
            continue
        name, kind, repeated = schema[number]
        if strict and (number < last or (number == last and not repeated)):
            raise Refused("NOT_CANONICAL")
        last = number
        if (wire == 0) != (kind in ("uint32", "uint64")) or (kind == "uint32" and value >= 1 << 32):
            raise Refused("NOT_CANONICAL")
        if strict and not repeated and isinstance(kind, str) and not value:
            raise Refused("NOT_CANONICAL")  # a default is left out
        if kind == "string":
            try:
                value = value.decode()
            except UnicodeDecodeError:
                raise Refused("NOT_CANONICAL") from None
        elif not isinstance(kind, str):
            value = read(kind, value, strict=strict)
        if repeated:
            out[name].append(value)
        else:
            out[name] = value
    return out


def h(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def pae(*parts: bytes | str | int) -> bytes:
    def raw(part: bytes | str | int) -> bytes:
        if isinstance(part, int):
            return part.to_bytes(8, "little")
        return part.encode() if isinstance(part, str) else part

    data = [raw(part) for part in parts]
    return len(data).to_bytes(8, "little") + b"".join(len(d).to_bytes(8, "little") + d for d in data)


def verify(suite: int, public: bytes, message: bytes, signature: bytes, ctx: str) -> None:
    """Composite ML-DSA + Edwards: both halves over one representative."""
    try:
        if suite == 1:
            label, prehash, cut, end = b"COMPSIG-MLDSA65-Ed25519-SHA512", hashlib.sha512(message).digest(), 1952, 3309
            lattice: Any = mldsa.MLDSA65PublicKey.from_public_bytes(public[:cut])
            edwards: Any = ed25519.Ed25519PublicKey.from_public_bytes(public[cut:])
        elif suite == 2:
            label, prehash = b"COMPSIG-MLDSA87-Ed448-SHAKE256", hashlib.shake_256(message).digest(64)
            cut, end = 2592, 4627
            lattice = mldsa.MLDSA87PublicKey.from_public_bytes(public[:cut])
            edwards = ed448.Ed448PublicKey.from_public_bytes(public[cut:])
        else:
            raise Refused("SUITE_UNKNOWN")
        over = b"CompositeAlgorithmSignatures2025" + label + bytes([len(ctx)]) + ctx.encode() + prehash
        lattice.verify(signature[:end], over, label)
        edwards.verify(signature[end:], over)
    except (InvalidSignature, ValueError):
        raise Refused("SIGNATURE_BAD") from None


def key_id(key: dict[str, Any], role: str) -> bytes:
    return h(pae("tocsin/1/key", key["suite"], role, key["key"]))


class Exchange:
    """The first documents of an exchange, checked against its lineage."""

    def __init__(self, lineage: bytes, documents: list[bytes]) -> None:
        self.lineage = lineage
        self.desks: dict[bytes, tuple[str, dict[str, Any]]] = {}
        self.cards: dict[bytes, tuple[str, bytes]] = {}
        signed = [read(SIGNED, document) for document in documents]
        by_type: dict[str, list[dict[str, Any]]] = {}
        for document in signed:
            by_type.setdefault(document["type"], []).append(document)
        parties = {}
        for document in by_type["tocsin/1/party"]:
            parties[self._digest(document)] = read(PARTY, document["body"], strict=False)
        agreement = next(d for d in by_type["tocsin/1/agreement"] if self._digest(d) == lineage)
        members = read(AGREEMENT, agreement["body"], strict=False)["parties"]
        self.parties = {member["party"]: parties[member["first_party"]] for member in members}
        for party in self.parties.values():
            self._threshold(agreement, party["root"], "root")
        for document in by_type["tocsin/1/roster"]:
            roster = read(ROSTER, document["body"], strict=False)
            self._threshold(document, self.parties[roster["party"]]["roster"], "roster")
            for desk in roster["desks"]:
                self.desks |= {key_id(k["key"], "desk"): (desk["desk"], k["key"]) for k in desk["keys"]}
        for document in by_type["tocsin/1/card"]:
            card = read(CARD, document["body"])
            desk, key = self.desks[document["signatures"][0]["key"]]
            self._verify(document, document["signatures"][0], key)
            if desk != card["desk"] or card["lineage"] != lineage:
                raise Refused("DOCUMENT_LINEAGE")
            self.cards[self._digest(document)] = (desk, card["key"])

    @staticmethod
    def _digest(document: dict[str, Any]) -> bytes:
        return h(b"\0" + pae("tocsin/1/document", document["type"], document["body"]))

    @staticmethod
    def _verify(document: dict[str, Any], signature: dict[str, Any], key: dict[str, Any]) -> None:
        message = pae("tocsin/1/document", document["type"], document["body"])
        verify(key["suite"], key["key"], message, signature["signature"], document["type"])

    def _threshold(self, document: dict[str, Any], role: dict[str, Any], name: str) -> None:
        holders = set()
        for holder in role["keys"]:
            for signature in document["signatures"]:
                if signature["key"] == key_id(holder["key"], name):
                    self._verify(document, signature, holder["key"])
                    holders.add(holder["holder"])
        if len(holders) < max(1, role["threshold"]):
            raise Refused("DOCUMENT_THRESHOLD")

    def open(self, data: bytes, *, desk: str, seed: bytes, courier: bytes | None = None) -> list[bytes]:
        """The items of an envelope, for one reader."""
        try:
            outer = read(ENVELOPE, data)
        except Refused:
            raise Refused("ENVELOPE_SHAPE") from None
        wraps = outer["wraps"]["wrap"] if outer["wraps"] else []
        sizes = [len(outer[name]) for name in ("key", "commitment", "items_root", "signature")]
        if outer["suite"] != 1:
            raise Refused("SUITE_UNKNOWN")
        if sizes != [32, 32, 32, 3373] or any(len(wrap) != 1168 for wrap in wraps):
            raise Refused("ENVELOPE_SHAPE")
        if padme(len(outer["ciphertext"]) - 16) != len(outer["ciphertext"]) - 16 or len(outer["ciphertext"]) < 4112:
            raise Refused("ENVELOPE_SHAPE")
        if outer["key"] not in self.desks:
            raise Refused("SENDER_UNKNOWN")
        sender, key = self.desks[outer["key"]]
        parts = (outer["header"], outer["commitment"], outer["items_root"], h(pae("tocsin/1/wraps", *wraps)))
        entry = pae("tocsin/1/envelope", *parts, h(outer["ciphertext"]), len(outer["ciphertext"]))
        verify(1, key["key"], pae("tocsin/1/envelope", h(b"\0" + entry)), outer["signature"], "tocsin/1/envelope")
        try:
            header = read(HEADER, outer["header"])
        except Refused:
            raise Refused("ENVELOPE_SHAPE") from None
        names = [reader["desk"] for reader in header["audience"]]
        readers = [reader for reader in header["audience"] if reader["card"]]
        if names != sorted(set(names)) or header["sender"] in names or len(readers) != len(wraps):
            raise Refused("ENVELOPE_SHAPE")
        if (header["suite"], header["key"]) != (1, outer["key"]):
            raise Refused("ENVELOPE_SHAPE")
        if header["padded_length"] != len(outer["ciphertext"]) - 16:
            raise Refused("ENVELOPE_SHAPE")
        if header["sender"] != sender:
            raise Refused("SENDER_UNKNOWN")
        if not header["courier"]:
            courier = None
        elif courier is None or h(pae("tocsin/1/courier", courier))[:16] != header["courier"]:
            raise Refused("COURIER_KEY")
        try:
            return self._unseal(outer, readers, wraps, desk, seed, courier)
        except (InvalidTag, ValueError, StopIteration, Refused):
            raise Refused("OPEN_FAILED") from None

    def _unseal(
        self,
        outer: dict[str, Any],
        readers: list[Any],
        wraps: list[bytes],
        desk: str,
        seed: bytes,
        courier: bytes | None,
    ) -> list[bytes]:
        digest = h(outer["header"])
        index = next(i for i, reader in enumerate(readers) if reader["desk"] == desk)
        expanded = hashlib.shake_256(seed).digest(96)
        private = hpke.MLKEM768X25519PrivateKey(
            mlkem.MLKEM768PrivateKey.from_seed_bytes(expanded[:64]),
            x25519.X25519PrivateKey.from_private_bytes(expanded[64:]),
        )
        suite = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)
        cek = suite.decrypt(wraps[index], private, pae("tocsin/1/wrap", 1, digest, desk, readers[index]["card"]))
        prk = HKDF.extract(hashes.SHA256(), courier or bytes(32), cek)
        keys = HKDFExpand(hashes.SHA256(), 64, pae("tocsin/1/content", digest, outer["items_root"])).derive(prk)
        if not hmac.compare_digest(keys[32:], outer["commitment"]):
            raise ValueError
        text = AESGCM(keys[:32]).decrypt(bytes(12), outer["ciphertext"], digest)
        length = int.from_bytes(text[:8], "little")
        if length > len(text) - 8 or any(text[8 + length :]) or max(4096, padme(8 + length)) != len(text):
            raise ValueError
        payload = read(PAYLOAD, text[8 : 8 + length], strict=False)
        items: list[bytes] = payload["items"]
        if payload["header"] != digest or not 1 <= len(items) <= 1024:
            raise ValueError
        seed_of_salts = HKDFExpand(hashes.SHA256(), 32, pae("tocsin/1/items", digest)).derive(prk)
        salts = hashlib.shake_256(seed_of_salts).digest(16 * len(items))
        leaves = [h(b"\0" + pae("tocsin/1/item", salts[16 * i : 16 * i + 16], item)) for i, item in enumerate(items)]
        if root(leaves) != outer["items_root"]:
            raise ValueError
        return items


def padme(length: int) -> int:
    if length < 2:
        return length
    e = length.bit_length() - 1
    mask = (1 << (e - e.bit_length())) - 1
    return (length + mask) & ~mask


def root(leaves: list[bytes]) -> bytes:
    if len(leaves) == 1:
        return leaves[0]
    k = 1 << (len(leaves) - 1).bit_length() - 1
    return h(b"\1" + root(leaves[:k]) + root(leaves[k:]))
