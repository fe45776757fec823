"""Found a two-country exchange in a directory: keys, documents, two nodes, their desks. For the demo, tests and bench."""

import contextlib
import secrets
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from exchange import desk, files
from exchange.clock import now_ms
from exchange.node import directory as nodes
from keys import founding
from keys.documents import Document
from keys.suite import Signer
from keys.trust import Trust, party_of
from keys.v1 import documents_pb2 as pb

MISSIONS: Final = {
    "kr.motie": (pb.MISSION_KIND_MINISTRY, "Ministry of Trade, Industry and Energy", "산업통상자원부", "KRSEL"),
    "kr.the-hague": (pb.MISSION_KIND_EMBASSY, "Embassy of Korea in The Hague", "주네덜란드 대한민국 대사관", "NLHAG"),
    "nl.bz": (pb.MISSION_KIND_MINISTRY, "Ministry of Foreign Affairs", "네덜란드 외교부", "NLHAG"),
    "nl.seoul": (pb.MISSION_KIND_EMBASSY, "Embassy of the Netherlands in Seoul", "주한 네덜란드 대사관", "KRSEL"),
    "nl.veldhoven-litho": (pb.MISSION_KIND_COMPANY, "An admitted equipment maker", "장비 기업", "NLVEL"),
}
PORTS: Final = (20_000, 32_000)
NODES: Final = {"kr": "kr.the-hague-1", "nl": "nl.seoul-1"}
DESKS: Final = (
    "kr.motie/supply",
    "kr.the-hague/economic",
    "nl.bz/supply",
    "nl.seoul/economic",
    "nl.veldhoven-litho/supply",
)


@dataclass(slots=True)
class Founded:
    """Where everything is; `parties` hold the private keys of the ceremony."""

    directory: Path
    lineage: bytes
    parties: Mapping[str, founding.PartyKeys]
    agreement: Document
    rosters: Mapping[str, Document]
    held: list[Document]

    def node(self, party: str) -> Path:
        """Directory of a party's node."""
        return self.directory / NODES[party]

    def desk(self, name: str) -> Path:
        """Directory of a desk."""
        return self.directory / desk_directory(name)


def desk_directory(name: str) -> str:
    """Directory name of a desk: nl.seoul/economic -> nl.seoul-economic."""
    return name.replace("/", "-")


def free_ports(count: int) -> list[int]:
    """Loopback ports nobody listens on at this moment.

    Of those that a system gives to no connection by itself: else one could be taken before the node listens.
    """
    free: list[int] = []
    for port in secrets.SystemRandom().sample(range(*PORTS), PORTS[1] - PORTS[0]):
        if len(free) == count:
            break
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            free.append(port)
    return free


def found(
    directory: Path,
    *,
    title: str,
    desks: tuple[str, ...] = DESKS,
    extra_missions: Mapping[str, tuple[pb.MissionKind, str, str, str]] | None = None,
    drill: bool = True,
    clock: Callable[[], int] = now_ms,
) -> Founded:
    """Found `kr` and `nl` in a directory that does not exist yet.

    Every key is drawn here, which a real ceremony never does: there each holder draws on its own machine.
    """
    now = clock()
    files.private_directory(directory)
    missions = {**MISSIONS, **(extra_missions or {})}
    parties = {name: founding.found_party(name, now_ms=now) for name in NODES}
    draft = founding.standard_agreement(now_ms=now, title=title, drill=drill)
    agreement = founding.agreement(draft, list(parties.values()))
    lineage = agreement.digest
    ports = iter(free_ports(4))
    entries = {}
    for country, node in NODES.items():
        settings = nodes.NodeSettings(
            name=node,
            lineage=lineage.hex(),
            endpoint=f"127.0.0.1:{next(ports)}",
            enrol_endpoint=f"127.0.0.1:{next(ports)}",
        )
        entries[country] = nodes.init(directory / node, settings, fast_kdf=True)
    keys = {name: _make_desk(directory, name, lineage) for name in desks}
    held = [*(party.document for party in parties.values()), agreement]
    rosters = {}
    for code, party in parties.items():
        body = pb.Roster(nodes=[entries[code]])
        for mission, (kind, english, korean, locode) in missions.items():
            if mission.startswith(f"{code}."):
                added = body.missions.add(mission=mission, kind=kind, locode=locode, node=NODES[code])
                added.names.add(language="en", name=english)
                added.names.add(language="ko", name=korean)
        body.desks.extend(
            founding.desk_entry(d, key, lineage=lineage) for d, key in keys.items() if d.startswith(f"{code}.")
        )
        rosters[code] = founding.next_roster(party, body, lineage=lineage, previous=None, now_ms=now)
        held += [
            rosters[code],
            founding.status(party, lineage=lineage, agreement=agreement, roster=rosters[code], version=1, now_ms=now),
        ]
    # Each document is taken as any member takes it: what would be refused later is refused here.
    trust = Trust(lineage)
    for document in held:
        trust.take(document, now_ms=now)
    for node in NODES.values():
        files.save_bundle(directory / node / files.BUNDLE, held)
    cards = [card for name in desks for card in _first_cards(directory, name, held, clock)]
    for name in desks:
        files.save_bundle(directory / desk_directory(name) / files.BUNDLE, [*held, *cards])
    for node in NODES.values():
        files.save_bundle(directory / node / files.BUNDLE, [*held, *cards])
    return Founded(directory, lineage, parties, agreement, rosters, [*held, *cards])


def _make_desk(directory: Path, name: str, lineage: bytes) -> Signer:
    settings = desk.DeskSettings(desk=name, lineage=lineage.hex(), node=NODES[party_of(name)])
    return desk.init(directory / desk_directory(name), settings, fast_kdf=True)


def _first_cards(directory: Path, name: str, held: list[Document], clock: Callable[[], int]) -> list[Document]:
    """A desk makes its own key cards, in its own directory."""
    path = directory / desk_directory(name)
    files.save_bundle(path / files.BUNDLE, held)
    opened = desk.Desk(path, clock=clock)
    cards = opened.make_cards()
    opened.close()
    return cards
