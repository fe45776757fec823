"""Refusals that stand in logs: a node's signed word that it did not take an envelope of a followed log. No I/O.

Source: docs/PROTOCOL.md section 8.5.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError

from exchange.errors import ProofError
from exchange.v1 import exchange_pb2 as pb
from keys import suite
from keys.encoding import digest, pae, parse_canonical
from keys.errors import SignatureError
from keys.suite import Signer
from keys.trust import Trust

LABEL: Final = "tocsin/1/refusal"
MAX_BYTES: Final = 16_384


@dataclass(frozen=True, slots=True)
class Opened:
    """A refusal whose signature was checked, and its log leaf."""

    refusal: pb.NodeRefusal
    leaf: bytes


def sign(refusal: pb.NodeRefusal, key: Signer) -> bytes:
    """A refusal as a SignedRefusal, by the log key of the node that refuses."""
    body = refusal.SerializeToString(deterministic=True)
    signed = pb.SignedRefusal(refusal=body, signature=key.sign(pae(LABEL, body), ctx=LABEL))
    return signed.SerializeToString(deterministic=True)


def verify(data: bytes, trust: Trust) -> Opened:
    """Read a SignedRefusal.

    Raises:
        NotCanonicalError: Not in canonical form.
        ProofError: Too long, or of a node that is in no roster.
        SignatureError: Not signed by that node's log key.
    """
    if len(data) > MAX_BYTES:
        raise ProofError("the refusal is too long")
    signed = parse_canonical(pb.SignedRefusal, data)
    hint = pb.NodeRefusal()
    try:
        # The name chooses the key; all else is read once the signature holds.
        hint.ParseFromString(signed.refusal)
    except DecodeError:
        raise ProofError("the bytes are no refusal") from None
    if trust.node(hint.node) is None:
        raise ProofError("the refusal is of a node that is in no roster")
    _require_signed(signed, trust, hint.node)
    return Opened(parse_canonical(pb.NodeRefusal, signed.refusal), leaf_of(signed.refusal))


def _require_signed(signed: pb.SignedRefusal, trust: Trust, node: str) -> None:
    # A follower that was away reads what was signed before the key was replaced.
    for key in trust.log_keys(node):
        with suppress(SignatureError):
            suite.verify(key.suite, key.key, pae(LABEL, signed.refusal), signed.signature, ctx=LABEL)
            return
    raise SignatureError(f"the refusal is signed by no log key of {node}")


def body_of(data: bytes) -> bytes:
    """The encoded NodeRefusal in a SignedRefusal that was verified or is our own."""
    return pb.SignedRefusal.FromString(data).refusal


def leaf_of(body: bytes) -> bytes:
    """The log leaf of an encoded NodeRefusal: its signature is not part of it."""
    return digest(b"\x00" + pae(LABEL, body))
