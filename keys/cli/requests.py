"""What desks and nodes hand in: roster entries with proofs of possession, as `tocsin desk init` and `node init` print them."""

from pathlib import Path
from typing import Final, TypeVar

from keys import suite
from keys.cli import files
from keys.encoding import parse_canonical
from keys.errors import NotCanonicalError, SignatureError, UsageError
from keys.trust import party_of
from keys.v1 import documents_pb2 as pb

E = TypeVar("E", pb.Desk, pb.Node)
MAX_REQUEST_BYTES: Final = 128 * 1024


def desk(path: Path, *, lineage: bytes) -> pb.Desk:
    """The entry of a desk, its one key checked and its possession proved.

    Raises:
        UsageError: Not such a file.
        TocsinError: A bad key, or a proof for another exchange or another desk.
    """
    entry = _parse(path, pb.Desk)
    if len(entry.keys) != 1:
        raise UsageError(f"{path} has {len(entry.keys)} keys; a request has one", hint="is it the right file?")
    _check(path, entry.keys[0].key, lineage=lineage, name=entry.desk, role="desk")
    return entry


def node(path: Path, *, lineage: bytes) -> pb.Node:
    """The entry of a node, its log key checked and its possession proved.

    Raises:
        UsageError: Not such a file.
        TocsinError: A bad key, or a proof for another exchange or another node.
    """
    entry = _parse(path, pb.Node)
    _check(path, entry.log_key, lineage=lineage, name=entry.node, role="log")
    if not entry.tls_ca or not entry.endpoint or not entry.enrol_endpoint:
        raise UsageError(f"{path} lacks addresses or the TLS certificate", hint="make it again with `tocsin node init`")
    return entry


def _parse(path: Path, kind: type[E]) -> E:
    what = kind.DESCRIPTOR.name.lower()
    data = files.read(path, MAX_REQUEST_BYTES)
    try:
        entry = parse_canonical(kind, bytes.fromhex(data.decode("ascii").strip()))
        if not entry.ByteSize():
            raise ValueError
        return entry
    except (ValueError, NotCanonicalError):
        raise UsageError(
            f"{path} is not the request of a {what}",
            hint=f"it is what `tocsin {what} init` prints; is it the right file?",
        ) from None


def _check(path: Path, key: pb.PublicKey, *, lineage: bytes, name: str, role: str) -> None:
    suite.check_signing_key(key.suite, key.key)
    try:
        suite.check_possession(
            key.suite, key.key, key.possession, lineage=lineage, party=party_of(name), name=name, role=role
        )
    except SignatureError:
        raise SignatureError(
            f"{path} does not prove that {name} holds its key in this exchange",
            hint="was it made for another lineage, or under another name? make it again",
        ) from None
