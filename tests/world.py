"""A founded two-country exchange in memory, for tests: real keys, real documents, no shortcuts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache

from exchange.v1 import envelope_pb2 as env
from exchange.v1 import report_pb2 as rep
from keys import founding, suite
from keys.documents import Document
from keys.trust import Trust, week_of
from keys.v1 import documents_pb2 as pb

NOON = 1_790_000_000_000
"""A moment in September 2026, ms UTC."""

MISSIONS = {
    "kr.motie": (pb.MISSION_KIND_MINISTRY, "kr.the-hague-1"),
    "kr.the-hague": (pb.MISSION_KIND_EMBASSY, "kr.the-hague-1"),
    "nl.asml-like": (pb.MISSION_KIND_COMPANY, "nl.seoul-1"),
    "nl.bz": (pb.MISSION_KIND_MINISTRY, "nl.seoul-1"),
    "nl.seoul": (pb.MISSION_KIND_EMBASSY, "nl.seoul-1"),
}
DESKS = ("kr.motie/supply", "kr.the-hague/economic", "nl.asml-like/supply", "nl.bz/supply", "nl.seoul/economic")
SENDER = "kr.the-hague/economic"


@dataclass
class World:
    """Both countries' keys and documents, in an order in which they can be taken."""

    parties: dict[str, founding.PartyKeys]
    agreement: Document
    lineage: bytes
    rosters: dict[str, Document]
    documents: list[Document]
    desks: dict[str, suite.Signer]
    cards: dict[tuple[str, int], suite.CardKey]
    log_keys: dict[str, suite.Signer]
    now_ms: int = NOON
    card_documents: dict[tuple[str, int], Document] = field(default_factory=dict)

    def trust(self, *, without: tuple[str, ...] = ()) -> Trust:
        """A Trust that took every document but those types left out."""
        trust = Trust(self.lineage)
        for document in self.documents:
            if document.type not in without:
                trust.take(document, now_ms=self.now_ms)
        return trust

    def card(self, desk: str, time_ms: int | None = None) -> suite.CardKey:
        """The private card of a desk for the week of a time."""
        return self.cards[(desk, week_of(time_ms or self.now_ms))]


def found(
    now_ms: int = NOON,
    weeks: int = 2,
    change: Callable[[pb.Agreement], object] | None = None,
    keys: Mapping[str, suite.Signer] | None = None,
) -> World:
    """Found kr and nl with five desks and two nodes.

    `change` may edit the agreement before it is signed; `keys` are those of desks and nodes that are not drawn here.
    """
    given = keys or {}
    parties = {name: founding.found_party(name, now_ms=now_ms - 1000) for name in ("kr", "nl")}
    draft = founding.standard_agreement(now_ms=now_ms - 1000, title="test")
    if change is not None:
        change(draft)
    signed = founding.agreement(draft, list(parties.values()))
    lineage = signed.digest
    drawn = (*DESKS, "kr.the-hague-1", "nl.seoul-1")
    made = {name: given.get(name) or suite.SigningKey.generate(suite.DESK_SUITE) for name in drawn}
    desks, log_keys = {name: made[name] for name in DESKS}, {name: made[name] for name in drawn[len(DESKS) :]}
    order = [parties["kr"].document, parties["nl"].document, signed]
    rosters = {}
    for name, party in parties.items():
        body = pb.Roster()
        for mission, (kind, node) in MISSIONS.items():
            if mission.startswith(name + "."):
                body.missions.add(mission=mission, kind=kind, node=node)
        for desk, key in desks.items():
            if desk.startswith(name + "."):
                body.desks.append(founding.desk_entry(desk, key, lineage=lineage))
        for node, key in log_keys.items():
            if node.startswith(name + "."):
                entry = body.nodes.add(node=node, endpoint="127.0.0.1:1", enrol_endpoint="127.0.0.1:2")
                entry.log_key.CopyFrom(founding.public_key(key, lineage=lineage, party=name, name=node, role="log"))
        rosters[name] = founding.next_roster(party, body, lineage=lineage, previous=None, now_ms=now_ms - 500)
        order.append(rosters[name])
        order.append(
            founding.status(
                party, lineage=lineage, agreement=signed, roster=rosters[name], version=1, now_ms=now_ms - 400
            )
        )
    cards, card_documents = {}, {}
    for week in range(week_of(now_ms), week_of(now_ms) + weeks):
        for desk, key in desks.items():
            cards[(desk, week)] = suite.CardKey.generate()
            card_documents[(desk, week)] = founding.key_card(desk, key, cards[(desk, week)], lineage=lineage, week=week)
    order += card_documents.values()
    return World(parties, signed, lineage, rosters, order, desks, cards, log_keys, now_ms, card_documents)


@cache
def world() -> World:
    """One world shared by tests that do not change it."""
    return found()


def draft(
    trust: Trust,
    *,
    sender: str = SENDER,
    channel: str = "minerals",
    marking: pb.Marking = pb.MARKING_AMBER,
    audience: tuple[str, ...] | None = None,
    create_ms: int = NOON,
    seq: int = 1,
    prev: tuple[int, bytes] = (0, b""),
    stream: bytes = b"s" * 16,
) -> env.Header:
    """A header as an honest desk drafts it."""
    from exchange import policy

    agreement = trust.agreement(create_ms)
    rosters = {party: trust.roster(party) for party in trust.parties}
    if audience is None:
        audience = policy.audience(
            agreement, rosters, sender=sender, channel=channel, marking=marking, time_ms=create_ms
        )
    header = env.Header(
        lineage=trust.lineage,
        agreement_version=agreement.body.version,
        agreement=agreement.digest,
        sender=sender,
        channel=channel,
        marking=marking,
        stream=stream,
        seq=seq,
        prev_seq=prev[0],
        prev_id=prev[1],
        create_time_ms=create_ms,
        expire_time_ms=create_ms + 3600_000,
    )
    for party, view in rosters.items():
        header.rosters.add(
            party=party, generation=view.body.generation, version=view.body.version, digest=view.document.digest
        )
    for desk in audience:
        card = trust.card(desk, week_of(create_ms))
        header.audience.add(desk=desk, card=card.digest if card else b"")
    return header


def public_cards(trust: Trust, header: env.Header) -> dict[str, bytes]:
    """Public card of each reader of a header."""
    week = week_of(header.create_time_ms)
    return {r.desk: card.public for r in header.audience if (card := trust.held_card(r.desk, week))}


def items(count: int = 2) -> list[bytes]:
    """Encoded report items."""
    return [rep.Item(report=rep.Report(id=bytes([i]) * 16)).SerializeToString() for i in range(count)]
