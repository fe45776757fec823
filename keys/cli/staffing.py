"""`tocsin-keys mission`, `desk`, `node`, `suspend`: changes to the draft of a roster, one at a time."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from keys import staff, suite, terms, words
from keys.ceremony import AlteredError
from keys.cli import book as books
from keys.cli import requests, roster
from keys.cli.book import HeldFiles
from keys.cli.parts import require_name
from keys.cli.roster import DraftFile
from keys.cli.terminal import DryRun, Json, answer, now_ms
from keys.errors import UsageError
from keys.trust import Trust, mission_of, party_of
from keys.v1 import documents_pb2 as pb

mission_group = typer.Typer(no_args_is_help=True, help="Embassies, ministries, companies in the draft of a roster.")
desk_group = typer.Typer(
    no_args_is_help=True, help="Workplaces in the draft of a roster; their keys are made at the desk."
)
node_group = typer.Typer(
    no_args_is_help=True, help="Servers in the draft of a roster; their keys are made at the node."
)

RequestFile = Annotated[Path, typer.Argument(metavar="REQUEST", help="What `tocsin desk init` or `node init` printed.")]
Name = Annotated[str, typer.Argument(help="Its name, such as nl.seoul or nl.seoul/economic.")]
Names = Annotated[
    list[str] | None,
    typer.Option("--name", help="Its name in a language, such as en=Embassy in Seoul; may be repeated."),
]


class Kind(StrEnum):
    """What a mission is."""

    EMBASSY = "embassy"
    CONSULATE = "consulate"
    MINISTRY = "ministry"
    AGENCY = "agency"
    COMPANY = "company"
    UNIVERSITY = "university"


@mission_group.command("add")
def mission_add(
    draft: DraftFile,
    mission: Name,
    kind: Annotated[Kind, typer.Option(help="What it is; it decides what its desks may read.")],
    node: Annotated[str, typer.Option(help="The node that hosts its desks; admit that one first.")],
    held: HeldFiles = None,
    name: Names = None,
    locode: Annotated[str, typer.Option(help="Where it is, UN/LOCODE, such as KRSEL.")] = "",
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Add a mission to the draft."""
    require_name(mission, "mission")

    def change(body: pb.Roster, _: Trust) -> None:
        _own(body, mission)
        if any(m.mission == mission for m in body.missions):
            raise UsageError(f"{mission} is in the draft already", hint="change it with `mission change`")
        if all(n.node != node for n in body.nodes):
            raise UsageError(f"the draft has no node {node}", hint="admit the node first: `node admit`")
        added = body.missions.add(mission=mission, kind=terms.KINDS[kind], locode=locode, node=node)
        _names(added, name)

    roster.edit(draft, held, change, dry_run=dry_run, as_json=as_json)


@mission_group.command("change")
def mission_change(
    draft: DraftFile,
    mission: Name,
    held: HeldFiles = None,
    kind: Annotated[Kind | None, typer.Option(help="A desk of a re-kinded mission passes the hold again.")] = None,
    node: Annotated[str, typer.Option(help="Another node.")] = "",
    name: Names = None,
    locode: Annotated[str, typer.Option(help="Another place.")] = "",
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Change what is said of a mission; what is not given stays."""

    def change(body: pb.Roster, _: Trust) -> None:
        found = _find(body, mission)
        if kind is not None:
            found.kind = terms.KINDS[kind]
        found.node, found.locode = node or found.node, locode or found.locode
        _names(found, name)

    roster.edit(draft, held, change, dry_run=dry_run, as_json=as_json)


@mission_group.command("remove")
def mission_remove(
    draft: DraftFile, mission: Name, held: HeldFiles = None, dry_run: DryRun = False, as_json: Json = False
) -> None:
    """Take a mission and its desks out of the draft."""

    def change(body: pb.Roster, _: Trust) -> None:
        found = _find(body, mission)
        for desk in [d for d in body.desks if mission_of(d.desk) == mission]:
            body.desks.remove(desk)
        for node in body.nodes:
            if mission in node.relays:
                node.relays.remove(mission)
        body.missions.remove(found)

    roster.edit(draft, held, change, dry_run=dry_run, as_json=as_json)


@desk_group.command("request")
def desk_request(request: RequestFile, held: HeldFiles = None, as_json: Json = False) -> None:
    """Check the request of a desk: whose it is, for this exchange, and that its maker holds the key.

    Compare the words with the desk, by telephone or face to face, before it is admitted: whoever controls the file on
    its way could have put a key of their own into it.
    """
    trust = books.load(held, now_ms=now_ms()).founded()
    entry = requests.desk(request, lineage=trust.lineage)
    identity = suite.key_id(entry.keys[0].key.suite, "desk", entry.keys[0].key.key)
    answer(
        {"desk": entry.desk, "key": identity.hex(), "words": list(words.words(identity))},
        [f"{entry.desk}, key {identity.hex()}", *(f"  {row}" for row in words.rows(identity))],
        as_json=as_json,
    )


@desk_group.command("admit")
def desk_admit(
    draft: DraftFile,
    request: RequestFile,
    held: HeldFiles = None,
    expect: Annotated[
        str | None, typer.Option("--expect", help="Words or digits the desk read out; another key is refused.")
    ] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Put a desk into the draft, from its request. Refuses one whose key is not proved or not the one read out."""

    def change(body: pb.Roster, trust: Trust) -> None:
        entry = requests.desk(request, lineage=trust.lineage)
        _own(body, entry.desk)
        _expect(entry.keys[0].key, "desk", entry.desk, expect)
        if any(d.desk == entry.desk for d in body.desks):
            raise UsageError(
                f"{entry.desk} is in the draft already", hint="its keys are replaced with `tocsin-keys rotate`"
            )
        _find(body, mission_of(entry.desk))
        body.desks.append(entry)

    roster.edit(draft, held, change, dry_run=dry_run, as_json=as_json)


@desk_group.command("remove")
def desk_remove(
    draft: DraftFile,
    desk: Name,
    held: HeldFiles = None,
    revoke: Annotated[str, typer.Option(help="Also end its keys, for this reason: lost, stolen, seized.")] = "",
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Take a desk out of the draft. In good standing, what it sent before still counts; with --revoke its keys end."""

    def change(body: pb.Roster, _: Trust) -> None:
        found = next((d for d in body.desks if d.desk == desk), None)
        if found is None:
            raise UsageError(f"the draft has no desk {desk}", hint="`roster show` lists them")
        if revoke:
            for listed in found.keys:
                identity = suite.key_id(listed.key.suite, "desk", listed.key.key)
                body.revocations.add(key=identity, time_ms=now_ms(), reason=revoke)
        body.desks.remove(found)

    roster.edit(draft, held, change, dry_run=dry_run, as_json=as_json)


@node_group.command("admit")
def node_admit(
    draft: DraftFile,
    request: RequestFile,
    held: HeldFiles = None,
    relay: Annotated[
        list[str] | None, typer.Option(help="A mission of the draft it may relay; may be repeated.")
    ] = None,
    expect: Annotated[
        str | None, typer.Option("--expect", help="Words or digits of its log key; another one is refused.")
    ] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Put a node into the draft, or replace its entry there, from what `tocsin node init` printed."""

    def change(body: pb.Roster, trust: Trust) -> None:
        entry = requests.node(request, lineage=trust.lineage)
        _own(body, entry.node)
        _expect(entry.log_key, "log", entry.node, expect)
        entry.relays[:] = sorted({*entry.relays, *(relay or ())})
        for known in [n for n in body.nodes if n.node == entry.node]:
            body.nodes.remove(known)
        body.nodes.append(entry)

    roster.edit(draft, held, change, dry_run=dry_run, as_json=as_json)


@node_group.command("remove")
def node_remove(
    draft: DraftFile, node: Name, held: HeldFiles = None, dry_run: DryRun = False, as_json: Json = False
) -> None:
    """Take a node out of the draft; move its missions to another one first."""

    def change(body: pb.Roster, _: Trust) -> None:
        found = next((n for n in body.nodes if n.node == node), None)
        if found is None:
            raise UsageError(f"the draft has no node {node}", hint="`roster show` lists them")
        hosted = [m.mission for m in body.missions if m.node == node]
        if hosted:
            raise UsageError(f"{node} hosts {', '.join(hosted)}", hint="move them with `mission change --node`")
        body.nodes.remove(found)

    roster.edit(draft, held, change, dry_run=dry_run, as_json=as_json)


def suspension(body: pb.Roster | pb.Status, what: str, channels: set[str], reason: str) -> pb.Suspension:
    """The suspension of a channel, or of a mission or desk of the issuing party.

    Raises:
        UsageError: Neither, or a name of another party.
    """
    if what in channels:
        return pb.Suspension(channel=what, reason=reason)
    require_name(what, "channel or name")
    if party_of(what) != body.party:
        known = ", ".join(sorted(channels))
        raise UsageError(
            f"{what} is no channel and no name of {body.party}",
            hint=f"channels: {known}; names are those of {body.party}",
        )
    return pb.Suspension(name=what, reason=reason)


def suspend_in_draft(
    draft: Path, held: list[Path] | None, what: str, reason: str, *, lift: bool, dry_run: bool, as_json: bool
) -> None:
    """Put a suspension into the draft of a roster, or take it out."""

    def change(body: pb.Roster, trust: Trust) -> None:
        channels = {rule.channel for rule in trust.agreement(now_ms()).body.channels}
        if not lift:
            body.suspensions.append(suspension(body, what, channels, reason))
            return
        found = [s for s in body.suspensions if what in (s.name, s.channel)]
        if not found:
            known = "; ".join(staff.suspended(s) for s in body.suspensions) or "none"
            raise UsageError(f"the draft suspends no {what}", hint=f"suspensions in it: {known}")
        for each in found:
            body.suspensions.remove(each)

    roster.edit(draft, held, change, dry_run=dry_run, as_json=as_json)


def _own(body: pb.Roster, name: str) -> None:
    if party_of(name) != body.party:
        raise UsageError(f"{name} is not of {body.party}, whose draft this is", hint="is it the right draft?")


def _find(body: pb.Roster, mission: str) -> pb.Mission:
    for found in body.missions:
        if found.mission == mission:
            return found
    raise UsageError(f"the draft has no mission {mission}", hint="add it first: `mission add`")


def _names(mission: pb.Mission, names: list[str] | None) -> None:
    for text in names or ():
        language, found, name = text.partition("=")
        if not found or not name or not language.isascii():
            raise UsageError(f"--name {text!r} is no name in a language", hint="write it as en=Embassy in Seoul")
        for known in [n for n in mission.names if n.language == language]:
            mission.names.remove(known)
        mission.names.add(language=language, name=name)
    mission.names.sort(key=lambda each: each.language)


def _expect(key: pb.PublicKey, role: str, name: str, expect: str | None) -> None:
    if expect is not None and words.read(expect) != suite.key_id(key.suite, role, key.key):
        raise AlteredError(f"the request of {name} holds another key than the one read out")
