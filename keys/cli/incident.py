"""`tocsin-keys incident`: a key is suspected or lost, a mission is seized."""

from pathlib import Path
from typing import Annotated

import typer

from keys import incident, panic, suite
from keys.cli import files, parts, record
from keys.cli.release import Bundle, CopyTo, Desk, Keystores, Signed, bring_up, keys_of, load, publish
from keys.cli.terminal import (
    DryRun,
    Json,
    KeystoreFile,
    PassphraseFile,
    Yes,
    answer,
    now_ms,
    opens_by_itself,
    passphrase,
    say,
)
from keys.documents import Document
from keys.encoding import canonical_bytes
from keys.errors import UsageError
from keys.release import Made
from keys.states import Revoked, Tainted
from keys.trust import party_of
from keys.v1 import documents_pb2 as pb

CONFIRM_WORD = "destroy"

group = typer.Typer(
    no_args_is_help=True,
    help="A key is suspected or lost, a mission is seized: end keys at once, see what was sent with them. A stolen roster"
    " or status key is voided with `plan rotate --emergency`, by the party's roots alone.",
)

DeskName = Annotated[str, typer.Argument(metavar="DESK", help="Such as nl.seoul/economic.")]
KeyId = Annotated[
    str, typer.Option("--key", help="One key by its identity, 64 digits; all of the desk's unless given.")
]


@group.command("taint")
def taint(
    desk: DeskName,
    bundle: Bundle,
    keystore: Keystores = None,
    passphrase_file: PassphraseFile = None,
    key: KeyId = "",
    signed: Signed = None,
    copy_to: CopyTo = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """A desk's key is suspected: nothing new under it is believed. What follows is `revoke`, never trust again."""
    _end(desk, Tainted(), "", bundle, keystore, passphrase_file, key, signed, copy_to, dry_run=dry_run, as_json=as_json)


@group.command("revoke")
def revoke(
    desk: DeskName,
    bundle: Bundle,
    reason: Annotated[str, typer.Option(help="Why; everybody reads it.")],
    keystore: Keystores = None,
    passphrase_file: PassphraseFile = None,
    key: KeyId = "",
    signed: Signed = None,
    copy_to: CopyTo = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """End a desk's keys for good, with its cards. Then give it a new one: `plan rotate desk --emergency`.

    The new roster and status in the bundle carry it; hand the bundle to the nodes at once (--copy-to, or push it).
    """
    _end(
        desk,
        Revoked(),
        reason,
        bundle,
        keystore,
        passphrase_file,
        key,
        signed,
        copy_to,
        dry_run=dry_run,
        as_json=as_json,
    )


@group.command("touched")
def touched(
    desk: DeskName,
    positions: Annotated[Path, typer.Argument(help="The exported list: one JSON object a line.")],
    bundle: Bundle,
    as_json: Json = False,
) -> None:
    """List the envelopes under keys of the desk that ended: counted, disputed or refused, by their place in a log."""
    trust = load(bundle, now_ms=now_ms())
    entry = next((d for d in trust.roster(party_of(desk)).body.desks if d.desk == desk), None)
    if entry is None:
        raise UsageError(f"the newest roster lists no desk {desk!r}", hint="check the name")
    ended = {r.key for r in trust.roster(party_of(desk)).body.revocations}
    ended |= {identity for identity in _listed(entry) if trust.key_ended(desk, identity)}
    found = incident.touched(files.read(positions, incident.MAX_POSITIONS_BYTES), tuple(ended))
    counts = incident.summary(found)
    rows = [
        {"id": t.id, "verdict": t.verdict, "channel": t.channel, "create_time_ms": t.create_time_ms, "reason": t.reason}
        for t in found
    ]
    lines = [f"{verdict}: {count}" for verdict, count in counts.items()]
    lines += [f"{t.verdict} {t.id} on {t.channel or 'an unnamed channel'}: {t.reason}" for t in found]
    answer({"desk": desk, **counts, "envelopes": rows}, lines, as_json=as_json)


@group.command("panic")
def seized(
    desk: DeskName,
    keystore: KeystoreFile,
    lineage: Annotated[str, typer.Option(help="Of the exchange, 64 digits; it stands in desk.toml.")],
    out: Annotated[
        Path, typer.Option("--out", help="Where to write the renunciation, to be sent by every way there is.")
    ],
    reason: Annotated[str, typer.Option(help="Everybody reads it.")] = "",
    passphrase_file: PassphraseFile = None,
    without_renouncing: Annotated[
        bool,
        typer.Option(help="Destroy a keystore that does not open (no passphrase, damaged); the ministry must revoke."),
    ] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """The mission is about to be seized: renounce the desk's keys, then destroy every secret it has. There is no way back.

    Needs no network. Prints what destroying cannot do.
    """
    identity = _identity(lineage, "--lineage")
    parts.require_name(desk, "desk")
    if not keystore.exists():
        raise UsageError(f"{keystore} does not exist", hint="it may be destroyed already; check the path")
    if not yes:
        say(f"this destroys every key of {desk} in {keystore}; type {CONFIRM_WORD} to go on")
        if typer.get_text_stream("stdin").readline().strip() != CONFIRM_WORD:
            raise UsageError("not confirmed: nothing was destroyed", hint=f"type {CONFIRM_WORD}, or give --yes")
    if without_renouncing:
        destroyed, made = panic.destroy(keystore), 0
    else:
        secret = b"" if opens_by_itself(keystore) else passphrase(passphrase_file, what=str(keystore))

        def save(documents: tuple[Document, ...]) -> None:
            files.write(out, canonical_bytes(pb.Bundle(documents=[d.encode() for d in documents])), fresh=False)

        done = panic.panic(keystore, secret, desk, lineage=identity, now_ms=now_ms(), reason=reason, save=save)
        destroyed, made = done.destroyed, len(done.renunciations)
    record.note("panicked", desk=desk)
    say(*(f"not in our power: {text}" for text in panic.LIMITS))
    lines = [f"{made} renunciations in {out}: send it to any node or colleague" if made else "nothing was renounced"]
    lines += [f"destroyed {path.name}" for path in destroyed]
    result = {"renunciations": made, "file": str(out) if made else None, "destroyed": [p.name for p in destroyed]}
    answer({**result, "limits": list(panic.LIMITS)}, lines, as_json=as_json)


def _end(
    desk: str,
    move: Tainted | Revoked,
    reason: str,
    bundle: Path,
    keystores: list[Path] | None,
    passphrase_file: Path | None,
    key: str,
    signed: list[Path] | None,
    copy_to: list[Path] | None,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    waiting = Desk(bundle.with_name(f"{bundle.name}.{type(move).__name__.lower()}.{desk.replace('/', '-')}"))
    with files.locked(bundle):
        now = now_ms()
        trust = load(bundle, now_ms=now)
        if not dry_run:
            # An earlier run may have been cut off here, with nothing left to end.
            bring_up(copy_to or (), bundle)
        with keys_of(keystores or (), trust, passphrase_file) as sign:
            made = incident.end(
                trust,
                parts.require_name(desk, "desk"),
                move,
                reason=reason,
                now_ms=now,
                sign=sign,
                signed=waiting.drafts(signed or ()),
                key=_identity(key, "--key") if key else None,
            )
        complete = all(each.complete for each in made)
        if not dry_run:
            if complete:
                for each in made:
                    trust.take(each.document, now_ms=now)
                publish(bundle, copy_to or (), trust, [each.document for each in made])
            for path in waiting.keep({} if complete else {each.slot: each.document for each in made}):
                say(f"waits for signatures: {path}; sign it with `roster sign`, bring the copy back with --signed")
    _answer_end(desk, move, made, complete, dry_run=dry_run, as_json=as_json)
    if not complete:
        raise typer.Exit(1)


def _answer_end(
    desk: str, move: Tainted | Revoked, made: list[Made], complete: bool, *, dry_run: bool, as_json: bool
) -> None:
    status = any(each.slot.endswith("-status") for each in made)
    lines = [line for each in made for line in each.progress.words()]
    if complete:
        lines.append(f"the keys of {desk} are {type(move).__name__.lower()}; hand the bundle to every node at once")
        if not status:
            lines.append("no status key at hand: issue a status now, so that everybody fetches the roster")
    result = {
        "desk": desk,
        "move": type(move).__name__.lower(),
        "complete": complete,
        "documents": [each.document.digest.hex() for each in made],
        "status": status,
        "written": complete and not dry_run,
    }
    answer(result, lines, as_json=as_json)


def _listed(entry: pb.Desk) -> list[bytes]:
    return [suite.key_id(k.key.suite, "desk", k.key.key) for k in entry.keys]


def _identity(text: str, what: str) -> bytes:
    try:
        data = bytes.fromhex(text)
    except ValueError:
        data = b""
    if len(data) != 32:
        raise UsageError(f"{what} is not 64 hex digits", hint="give all of them")
    return data
