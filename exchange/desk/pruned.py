"""What a node keeps of an envelope once its time is over: no content, but its identity, header and signature.

Source: docs/PROTOCOL.md sections 5.8 and 8.4.
"""

from collections.abc import Iterable
from contextlib import suppress

from google.protobuf.message import DecodeError

from exchange import envelope, merkle
from exchange.checkpoint import Checkpoint
from exchange.desk.holdings import Holdings
from exchange.desk.streams import Missing
from exchange.envelope import Parsed
from exchange.errors import SenderError
from exchange.v1 import envelope_pb2 as env
from exchange.v1 import exchange_pb2 as pb
from keys.encoding import canonical_bytes
from keys.errors import PeerError
from keys.trust import MissingDocumentError


def outside(entry: pb.Entry) -> Parsed:
    """An envelope, whole or pruned, as far as its signature reaches. Nothing is verified.

    Raises:
        EnvelopeError: It has not the form of one.
        DecodeError: Nor can it be read.
    """
    if not entry.pruned:
        return envelope.parse(entry.data)
    left = env.Pruned.FromString(entry.data)
    shell = env.Envelope(
        suite=left.suite, key=left.key, header=left.header, commitment=left.commitment,
        items_root=left.items_root, signature=left.signature,
    )  # fmt: skip
    return envelope.parse_shell(
        canonical_bytes(shell),
        wraps_digest=left.wraps_digest,
        ciphertext_digest=left.ciphertext_digest,
        ciphertext_length=left.ciphertext_length,
    )


def signed_header(holdings: Holdings, entry: pb.Entry) -> env.Header:
    """The header of an entry's envelope, signed by a key that a roster lists for its sender.

    Raises:
        PeerError: It is not, or the entry is of another envelope.
        DecodeError: It cannot be read.
    """
    parsed = outside(entry)
    found = holdings.trust.desk_key(parsed.outer.key)
    if parsed.id != entry.leaf or found is None:
        raise SenderError("no roster held lists the signing key, or the leaf is not that envelope")
    header = envelope.check(parsed, found[1].public).header
    if header.sender != found[0]:
        raise SenderError(f"the key belongs to {found[0]}, the header names another sender")
    return header


def ranges(holdings: Holdings, row: Missing, entries: Iterable[pb.Entry], head: Checkpoint) -> list[tuple[int, int]]:
    """Which missing numbers a node is shown to have pruned by rule, (first, last), ascending, not adjoining.

    Raises:
        ProofError: The node's log does not hold what it gives.
    """
    found = list[tuple[int, int]]()
    for entry in entries:
        if not entry.pruned:
            continue
        merkle.verify_inclusion(entry.leaf, entry.position, head.size, list(entry.proof), head.root)
        with suppress(PeerError, DecodeError):
            header = signed_header(holdings, entry)
            asked = (header.sender, header.stream, header.channel) == (row.sender, row.stream, row.channel)
            if asked and row.first <= header.seq <= row.last and _is_over(holdings, header):
                # What its sender withdrew before it goes with it.
                found.append((max(row.first, header.prev_seq + 1), header.seq))
    joined = list[tuple[int, int]]()
    for first, last in sorted(found):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return joined


def _is_over(holdings: Holdings, header: env.Header) -> bool:
    """Whether its channel's rule lets a node drop its content by now, whose clock may run ahead of ours."""
    try:
        agreement = holdings.trust.agreement(holdings.clock())
    except MissingDocumentError:
        return False
    rule = agreement.channels.get(header.channel)
    kept_ms = rule.retention_ms if rule is not None else 0
    return bool(kept_ms) and header.create_time_ms + kept_ms <= holdings.clock() + agreement.body.skew_ms
