"""`tocsin-keys party`: a party's own document: who holds its root, roster and status keys."""

from pathlib import Path
from typing import Annotated

import typer

from keys import documents, holders, words
from keys.cli import files, parts, record, signing
from keys.cli.terminal import DryRun, Json, answer, now_ms
from keys.errors import UsageError
from keys.trust import party as parties
from keys.v1 import documents_pb2 as pb

group = typer.Typer(
    no_args_is_help=True, help="A party's own document: who holds its keys and how many must sign. Signed by its roots."
)
signing.add_commands(group, "tocsin/1/party")

Threshold = Annotated[int, typer.Option(min=1, help="How many holders of this role must sign.")]


@group.command("draft")
def draft(
    party: Annotated[str, typer.Argument(help="Two letters, such as kr.")],
    public_parts: Annotated[list[Path], typer.Argument(metavar="PART...", help="Public parts of every holder.")],
    out: Annotated[Path, typer.Option("--out", help="Where to write the draft.")],
    root_threshold: Threshold = 2,
    roster_threshold: Threshold = 1,
    status_threshold: Threshold = 1,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Put the public parts of all holders into the first party document. Every part proves that its key exists.

    The draft then goes to each root holder to be signed on their own machine.
    """
    parts.require_name(party, "party")
    body = pb.Party(party=party, version=1, issue_time_ms=now_ms())
    thresholds = {"root": root_threshold, "roster": roster_threshold, "status": status_threshold}
    loaded = [(path, parts.load(path)) for path in public_parts]
    for path, part in loaded:
        if part.party != party:
            raise UsageError(f"{path} is a part of {part.party}, not of {party}", hint="is it the right file?")
    for role, threshold in thresholds.items():
        fill: pb.RoleKeys = getattr(body, role)
        fill.generation, fill.threshold = 1, threshold
        own = sorted((part for _, part in loaded if part.role == role), key=lambda part: part.holder)
        if len({part.holder for part in own}) != len(own):
            raise UsageError(f"two {role} parts of one holder", hint="a holder counts once; give one part each")
        if len(own) < threshold:
            raise UsageError(
                f"{len(own)} {role} parts, but {threshold} must sign",
                hint=f"give more parts of role {role}, or lower --{role}-threshold",
            )
        for part in own:
            fill.keys.add(holder=part.holder).key.CopyFrom(part.key)
    parties.check(body, lineage=b"")
    document = documents.make(body)
    if not dry_run:
        files.write(out, document.encode())
        record.note("drafted", document=signing.subject(document), digest=document.digest.hex())
    lines = [*holders.describe(body), *signing.fingerprint_text(document.digest)]
    result = {"file": str(out), "digest": document.digest.hex(), "words": list(words.words(document.digest))}
    answer({**result, "written": not dry_run, "says": holders.describe(body)}, lines, as_json=as_json)
