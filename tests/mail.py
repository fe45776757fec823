"""Sealing as an honest desk does, and as a dishonest one could."""

from collections.abc import Callable, Sequence

from exchange import envelope
from exchange.admission import Admission, Admitted
from exchange.envelope import Parsed
from exchange.v1 import envelope_pb2 as env
from keys import suite
from keys.encoding import canonical_bytes, pae
from keys.trust import Trust
from tests.world import NOON, World, draft, items, public_cards, world

READER = "nl.bz/supply"


def nothing_answered(_: bytes) -> env.Header | None:
    """No envelope is held that could be answered."""
    return None


def send(
    trust: Trust,
    header: env.Header,
    *,
    content: Sequence[bytes] | None = None,
    courier: bytes | None = None,
    key: suite.SigningKey | None = None,
    at: World | None = None,
) -> Parsed:
    """Seal a header as its sender, or with another key."""
    at = at or world()
    return envelope.seal(
        content or items(),
        header,
        key=key or at.desks[header.sender],
        # A header of a bent time has no card of its week; what is sealed to then does not matter.
        cards={r.desk: at.card(r.desk).public for r in header.audience if r.desk in at.desks}
        | public_cards(trust, header),
        courier=courier,
    )


def honest(trust: Trust, **fields: object) -> Parsed:
    """An envelope that is admitted."""
    return send(trust, draft(trust, **fields))  # type: ignore[arg-type]


def admit(trust: Trust, parsed: Parsed, *, now_ms: int = NOON) -> Admitted:
    """Carry over the wire and admit."""
    return Admission(trust).admit(envelope.parse(parsed.data), now_ms=now_ms, answered=nothing_answered)


def altered(parsed: Parsed, bend: Callable[[env.Envelope], None], *, key: suite.SigningKey | None = None) -> bytes:
    """The outside bent; signed again when a key is given."""
    outer = env.Envelope()
    outer.CopyFrom(parsed.outer)
    bend(outer)
    if key is not None:
        outer.signature = key.sign(pae(envelope.CONTEXT, envelope.envelope_id(outer)), ctx=envelope.CONTEXT)
    return canonical_bytes(outer)
