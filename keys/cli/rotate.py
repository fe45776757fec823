"""`tocsin-keys plan`: replace any key of the exchange on a plan that people read, compare and rehearse first."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from keys import desk_keys, planning, rehearsal, rotation, stage, windows, words
from keys import plan as plans
from keys.cli import files, parts, record
from keys.cli.book import HeldFiles
from keys.cli.book import load as load_book
from keys.cli.release import Bundle, CopyTo, Desk, Keystores, Signed, keys_of, load, publish
from keys.cli.terminal import DryRun, Json, KeystoreFile, PassphraseFile, answer, now_ms, open_keystore, say
from keys.encoding import canonical_bytes, digest, parse_canonical
from keys.errors import NotCanonicalError, UsageError
from keys.plain_mail import PlainMail
from keys.plan import ROLE_KINDS, Plan
from keys.trust import party_of
from keys.v1 import documents_pb2 as pb
from keys.windows import Kind

MAX_KEY_FILE_BYTES: Final = 64 * 1024
AGREED: Final = ".agreed"

group = typer.Typer(
    no_args_is_help=True,
    help="Replace a key under full traffic: root, roster, status, desk, log, tls-ca or courier. A plan says what changes,"
    " when, who signs, and what breaks if a party is offline; it is rehearsed, agreed by its digest, then carried out.",
)

PlanFile = Annotated[Path, typer.Argument(metavar="PLAN", help="The plan.")]
When = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%dT%H:%M:%SZ"], help="UTC, 2026-12-01T00:00:00Z.")]


@group.command("prepare")
def prepare(
    desk: Annotated[str, typer.Option(help="The desk, such as nl.seoul/economic.")],
    keystore: KeystoreFile,
    out: Annotated[Path, typer.Option("--out", help="Where to write the public half, for the ministry.")],
    held: HeldFiles = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """On a desk's machine: draw its next signing key. The desk uses it by itself once its roster says so."""
    trust = load_book(held, now_ms=now_ms()).founded()
    with open_keystore(keystore, passphrase_file) as store:
        public = desk_keys.prepare(store, trust, parts.require_name(desk, "desk"))
    identity = plans.new_identities(Kind.DESK, canonical_bytes(public))[0]
    files.write(out, canonical_bytes(public).hex().encode() + b"\n", fresh=False)
    answer({"file": str(out), "key": identity.hex()}, [f"key {identity.hex()} of {desk} in {out}"], as_json=as_json)


@group.command("rotate")
def rotate(
    kind: Annotated[Kind, typer.Argument(help="Which kind of key.")],
    new: Annotated[
        list[Path],
        typer.Option(
            "--new",
            help="What comes: the public parts of every holder (root, roster, status), the file of `plan prepare` (desk),"
            " the public key as hex (log), the certificate, DER (tls-ca), the key id as hex (courier).",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Where to write the plan.")],
    held: HeldFiles = None,
    name: Annotated[str, typer.Option(help="The desk, node or courier group.")] = "",
    party: Annotated[str, typer.Option(help="Whose key; that of --name unless given.")] = "",
    threshold: Annotated[
        int, typer.Option(min=0, help="How many holders of the role must sign; as before when 0.")
    ] = 0,
    announce: When = None,
    publish_at: Annotated[
        datetime | None, typer.Option("--publish", formats=["%Y-%m-%dT%H:%M:%SZ"], help="T, UTC.")
    ] = None,
    first_use: When = None,
    retire: When = None,
    offline_peer: Annotated[
        list[str] | None,
        typer.Option(help="A party whose confirmation is not waited for, because somebody knows that it is away."),
    ] = None,
    emergency: Annotated[
        bool, typer.Option("--emergency", help="The old key is in wrong hands: all at once, no window is kept.")
    ] = False,
    base: Annotated[
        str, typer.Option(help="For new roster keys: digest of the last roster that is believed, 64 digits.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Write a plan; refuse times that would refuse honest mail, naming the rule and the earliest time that works."""
    now = now_ms()
    trust = load_book(held, now_ms=now).founded()
    whose = party or party_of(name)
    times = {
        field: int(time.replace(tzinfo=UTC).timestamp() * 1000)
        for field, time in (
            ("announce_ms", announce),
            ("publish_ms", publish_at),
            ("first_use_ms", first_use),
            ("retire_ms", retire),
        )
        if time is not None
    }
    if whose not in trust.parties:
        raise UsageError(f"whose key: {whose!r} is no party", hint="give --party, or --name for a desk or a node")
    before = getattr(trust.party_document(whose), kind.value).threshold if kind in ROLE_KINDS else 0
    made = planning.make(
        trust,
        party=whose,
        kind=kind,
        name=name,
        new=_new(kind, new, threshold or before),
        now_ms=now,
        times=times,
        offline=offline_peer or (),
        emergency=emergency,
        base=_hex(base, 32, "--base"),
    )
    files.write(out, made.encode())
    record.note("planned", digest=made.digest.hex())
    _show(made, out, as_json=as_json)


@group.command("show")
def show(file: PlanFile, as_json: Json = False) -> None:
    """Print a plan in words, with its whole digest: people compare it before anything is done."""
    _show(plans.decode(files.read(file, plans.MAX_PLAN_BYTES)), file, as_json=as_json)


@group.command("rehearse")
def rehearse(
    file: PlanFile,
    held: HeldFiles = None,
    runs: Annotated[int, typer.Option(min=1, max=1000, help="How many, each with other delays and clocks.")] = 10,
    as_json: Json = False,
) -> None:
    """Run the plan on a copy of the exchange with other keys, in simulated time.

    Documents come late, clocks are wrong, a party is cut off, mail passes through every moment. Exit 1 when a letter is
    refused for good.
    """
    real = plans.decode(files.read(file, plans.MAX_PLAN_BYTES))
    trust = load_book(held, now_ms=now_ms()).founded()
    if real.emergency or real.kind is Kind.COURIER:
        raise UsageError(
            "an emergency keeps no window, and a courier key is in no document: there is nothing to rehearse"
        )
    if real.lineage != trust.lineage:
        raise UsageError("the plan is of another exchange", hint="give the documents it was made for")
    start = real.times.announce_ms
    scene = stage.copy(trust, now_ms=start)
    copied = stage.restage(scene, real, scene.trust(now_ms=start))
    outcomes = [rehearsal.Rehearsal(scene, [copied], PlainMail(), seed=n, now_ms=start).run() for n in range(runs)]
    refused = [why for outcome in outcomes for why in outcome.refused]
    sent, taken, waited = (sum(getattr(o, field) for o in outcomes) for field in ("sent", "taken", "waited"))
    result: dict[str, Any] = {"runs": runs, "sent": sent, "taken": taken, "waited": waited, "refused": refused}
    lines = [f"{runs} runs: {sent} letters, taken {taken} times, {waited} times after waiting for a document"]
    answer(result, [*lines, f"refused for good: {len(refused)}", *refused[:20]], as_json=as_json)
    if refused:
        raise typer.Exit(1)


@group.command("apply")
def apply(
    file: PlanFile,
    bundle: Bundle,
    keystore: Keystores = None,
    passphrase_file: PassphraseFile = None,
    agreed: Annotated[
        str | None, typer.Option("--digest", help="The digest people compared, 64 digits or 24 words; needed once.")
    ] = None,
    signed: Signed = None,
    copy_to: CopyTo = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Do every step that is due, once; run it again at any time, also after it broke off. Prints what comes next.

    What lacks signatures waits in files beside the plan: holders sign them with `roster sign`, `party sign` or `status
    sign`, and the copies come back with --signed. Exit 1 while it waits for a signature or a confirmation.
    """
    data = files.read(file, plans.MAX_PLAN_BYTES)
    with files.locked(bundle):
        now = now_ms()
        trust = load(bundle, now_ms=now)
        plan = plans.decode(data, expected=_agreed(file, data, agreed))
        waiting = Desk(file)
        drafts = waiting.drafts(signed or ())
        new = [parse_canonical(pb.RoleKeys, plan.new)] if plan.kind in ROLE_KINDS else []
        with keys_of(keystore or (), trust, passphrase_file, *new) as sign:
            advanced = rotation.advance(plan, trust, now_ms=now, sign=sign, signed=drafts)
        if not dry_run:
            agreement = file.with_name(file.name + AGREED)
            files.write(agreement, plan.digest.hex().encode() + b"\n", fresh=False)
            publish(bundle, copy_to or (), trust, advanced.released)
            for path in waiting.keep(dict(advanced.drafts)):
                say(f"waits for signatures: {path}")
    _answer_advance(advanced, now, dry_run=dry_run, as_json=as_json)
    if advanced.waiting:
        raise typer.Exit(1)


def _answer_advance(advanced: rotation.Advance, now: int, *, dry_run: bool, as_json: bool) -> None:
    lines = [f"done: {', '.join(advanced.done) or 'nothing yet'}"]
    lines += [f"by hand, due since {windows.iso(step.due_ms)}: {step.words}" for step in advanced.by_hand]
    step = advanced.next
    if step is None:
        lines.append("finished, but for what is done by hand" if advanced.by_hand else "finished")
    elif advanced.waiting:
        lines.append(f"{step.id} waits: {advanced.waiting}")
    else:
        lines.append(f"next: {step.id} at {windows.iso(step.due_ms)}: {step.words}")
    result = {
        "done": list(advanced.done),
        "released": [document.digest.hex() for document in advanced.released],
        "by_hand": [step.id for step in advanced.by_hand],
        "next": step.id if step else None,
        "due_ms": step.due_ms if step else None,
        "waiting": advanced.waiting,
        "time_ms": now,
        "written": not dry_run,
    }
    answer(result, lines, as_json=as_json)


def _agreed(file: Path, data: bytes, said: str | None) -> bytes:
    """The digest this plan must have: as said now, and as said the first time.

    Raises:
        UsageError: Nobody ever said it.
        AlteredPlanError: The two differ.
    """
    kept = file.with_name(file.name + AGREED)
    before = _hex(files.read(kept, 100).decode(errors="replace").strip(), 32, str(kept)) if kept.exists() else None
    now = words.read(said) if said is not None else None
    if now is None and before is None:
        raise UsageError(
            f"nobody has agreed to this plan yet; its digest is {digest(data).hex()}",
            hint="read it with `plan show`, compare the digest with the other holders, give it with --digest",
        )
    if now is not None and before is not None and now != before:
        raise plans.AlteredPlanError(f"agreed before was {before.hex()}, now {now.hex()}")
    return now or before or b""


def _new(kind: Kind, paths: list[Path], threshold: int) -> bytes:
    if kind in ROLE_KINDS:
        keys = pb.RoleKeys(threshold=threshold)
        for path in paths:
            part = parts.load(path)
            if part.role != kind.value:
                raise UsageError(f"{path} is a part of role {part.role}, not {kind}", hint="is it the right file?")
            keys.keys.add(holder=part.holder).key.CopyFrom(part.key)
        keys.keys.sort(key=lambda holder: holder.holder)
        return canonical_bytes(keys)
    if len(paths) != 1:
        raise UsageError(f"one {kind} key comes; {len(paths)} files were given", hint="give one --new")
    data = files.read(paths[0], MAX_KEY_FILE_BYTES)
    if kind is Kind.TLS_CA:
        return data
    try:
        return _key_in(bytes.fromhex(data.decode().strip()))
    except ValueError:
        raise UsageError(f"{paths[0]} is not a public key as hex digits", hint="is it the right file?") from None


def _key_in(data: bytes) -> bytes:
    """The key itself, also out of the entry that `tocsin desk init` or `node init` prints."""
    for kind in (pb.Desk, pb.Node):
        try:
            entry = parse_canonical(kind, data)
        except NotCanonicalError:
            continue
        if isinstance(entry, pb.Desk) and len(entry.keys) == 1:
            return canonical_bytes(entry.keys[0].key)
        if isinstance(entry, pb.Node):
            return canonical_bytes(entry.log_key)
    return data


def _hex(text: str, size: int, what: str) -> bytes:
    try:
        data = bytes.fromhex(text)
    except ValueError:
        data = b"?"
    if text and len(data) != size:
        raise UsageError(f"{what} is not {2 * size} hex digits", hint="give all of them")
    return data if text else b""


def _show(plan: Plan, file: Path, *, as_json: bool) -> None:
    result = {
        "file": str(file),
        "digest": plan.digest.hex(),
        "words": list(words.words(plan.digest)),
        "says": plan.words(),
        "steps": [{"id": s.id, "due_ms": s.due_ms, "signed_by": s.signed_by, "words": s.words} for s in plan.steps],
    }
    lines = [*plan.words(), "digest, as words:", *(f"  {row}" for row in words.rows(plan.digest))]
    answer(result, [*lines, f"as digits: {words.digits(plan.digest)}"], as_json=as_json)
