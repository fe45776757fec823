"""`tocsin-keys status`: what ends when; and the daily word of a party, issued by hand or by a service."""

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from keys import ceremony, documents, drafts, lifetimes, terms
from keys.ceremony import StrangerError
from keys.cli import book as books
from keys.cli import files, signing, staffing
from keys.cli.book import HeldFiles
from keys.cli.terminal import (
    DryRun,
    Json,
    KeystoreFile,
    PassphraseFile,
    answer,
    emit,
    load_key,
    now_ms,
    open_keystore,
    say,
)
from keys.documents import Document
from keys.errors import TocsinError, UsageError
from keys.keystore import Keystore
from keys.lifetimes import Ending, Level
from keys.trust import Trust
from keys.v1 import documents_pb2 as pb

if TYPE_CHECKING:
    from cryptography import x509

TYPE: Final = "tocsin/1/status"
RETRY_MS: Final = 5 * 60_000
_MAX_CERTIFICATE_BYTES: Final = 64 * 1024

group = typer.Typer(
    invoke_without_command=True,
    help="What ends when (exit 0 ok, 1 soon, 2 critical); and the daily word of a party on what is newest, which its"
    " status key signs.",
)
signing.add_commands(group, TYPE)

Bundle = Annotated[
    Path, typer.Option("--bundle", help="The party's documents; replaced in one step by those with the new status.")
]
CopyTo = Annotated[
    list[Path] | None,
    typer.Option("--copy-to", help="Also write the bundle here, such as a node's documents.bundle; may be repeated."),
]


@group.callback()
def status(
    context: typer.Context,
    held: HeldFiles = None,
    certificate: Annotated[
        list[Path] | None, typer.Option(help="A TLS certificate, PEM or DER, to watch as well; may be repeated.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what ends when. Warns 60, 30, 14 and 3 days ahead, or at the same shares of a shorter life."""
    if context.invoked_subcommand is not None:
        return
    now = now_ms()
    trust = books.load(held, now_ms=now).founded()
    found = lifetimes.endings(trust, now_ms=now) + _node_cas(trust) + [_certificate(p) for p in certificate or ()]
    found.sort(key=lambda ending: (ending.ends_ms, ending.what))
    lacking = lifetimes.missing(trust)
    level = lifetimes.worst(found, lacking, now_ms=now)
    rows = [_row(ending, now) for ending in found]
    answer(
        {"level": level.name.lower(), "time_ms": now, "lineage": trust.lineage.hex(), "ends": rows, "missing": lacking},
        [f"missing: {line}" for line in lacking] + [_line(ending, now) for ending in found],
        as_json=as_json,
    )
    raise typer.Exit(int(level))


@group.command("draft")
def draft(
    party: Annotated[str, typer.Argument(help="Two letters, such as kr.")],
    out: Annotated[Path, typer.Option("--out", help="Where to write the draft.")],
    held: HeldFiles = None,
    as_json: Json = False,
) -> None:
    """Draft a status, for parties where several holders sign it; `status issue` does all of it where one is enough."""
    now = now_ms()
    book = books.load(held, now_ms=now)
    document = drafts.next_status(book.founded(), party, now_ms=now)
    files.write(out, document.encode())
    shown = signing.see(document, book)
    answer({**shown.result(), "file": str(out)}, shown.text(), as_json=as_json)


@group.command("publish")
def publish(
    file: signing.DocumentFile,
    out: signing.BundleOut,
    held: HeldFiles = None,
    replace: signing.Replace = False,
    as_json: Json = False,
) -> None:
    """Check the signed status as every node will, and write it with all documents before it into one bundle."""
    signing.publish(file, TYPE, held, out, replace=replace, as_json=as_json)


@group.command("issue")
def issue(
    bundle: Bundle,
    keystore: KeystoreFile,
    passphrase_file: PassphraseFile = None,
    copy_to: CopyTo = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Issue the next status: it names the newest documents of the bundle, and is added to it. Once a day is right.

    Suspensions of the status before are repeated until the next roster.
    """
    with open_keystore(keystore, passphrase_file) as store:
        result = _issue(bundle, store, copy_to, dry_run=dry_run)
    answer(result, [f"{result['document']} issued"], as_json=as_json)


@group.command("serve")
def serve(
    bundle: Bundle,
    keystore: KeystoreFile,
    passphrase_file: PassphraseFile = None,
    copy_to: CopyTo = None,
    every: Annotated[str, typer.Option(help="How often.")] = "24h",
    as_json: Json = False,
) -> None:
    """Issue a status now and again and again, until SIGTERM: a service on the machine of the party's authority.

    When one fails (a full disk, a broken bundle) it says so and tries again in five minutes. The bundle is read afresh
    each time: replace it with `roster publish --replace` while this runs.
    """
    every_ms = terms.milliseconds(every)
    if every_ms < 1000:
        raise UsageError(f"every {every} is too often", hint="24h is right")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with open_keystore(keystore, passphrase_file) as store:
        repeat(
            lambda: _issue(bundle, store, copy_to, dry_run=False), every_ms=every_ms, wait=stop.wait, as_json=as_json
        )


def suspend(
    what: Annotated[str, typer.Argument(metavar="CHANNEL|NAME", help="A channel, or a mission or desk of your party.")],
    reason: Annotated[str, typer.Option(help="Why; everybody reads it.")] = "",
    bundle: Annotated[
        Path | None, typer.Option("--bundle", help="Suspend at once, by a status added to this bundle.")
    ] = None,
    keystore: Annotated[Path | None, typer.Option("--keystore", help="The status key, with --bundle.")] = None,
    draft_file: Annotated[
        Path | None, typer.Option("--draft", help="Suspend, or lift, in this draft of the roster.")
    ] = None,
    held: HeldFiles = None,
    lift: Annotated[bool, typer.Option("--lift", help="Take the suspension out of the draft.")] = False,
    passphrase_file: PassphraseFile = None,
    copy_to: CopyTo = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Stop a channel for everybody, or a mission or desk of your own party.

    At once with --bundle and the status key; it holds until the party's next roster. For longer, and to lift it, with
    --draft: the next roster decides.
    """
    if (bundle is None) == (draft_file is None):
        raise UsageError("give --bundle or --draft", hint="--bundle suspends at once, --draft in the next roster")
    if not lift and not reason:
        raise UsageError("a suspension needs its reason", hint="everybody will read it: --reason TEXT")
    if draft_file is not None:
        staffing.suspend_in_draft(draft_file, held, what, reason, lift=lift, dry_run=dry_run, as_json=as_json)
        return
    if lift:
        raise UsageError("no status lifts a suspension", hint="the next roster does: --draft DRAFT --lift")
    if bundle is None or keystore is None:
        raise UsageError("the status key is needed", hint="give its keystore with --keystore")
    with open_keystore(keystore, passphrase_file) as store:
        result = _issue(bundle, store, copy_to, dry_run=dry_run, suspend=(what, reason))
    answer(result, [f"{what} is suspended by {result['document']}"], as_json=as_json)


def repeat(once: Callable[[], dict[str, Any]], *, every_ms: int, wait: Callable[[float], bool], as_json: bool) -> None:
    """Do it now and every so often, sooner after a failure, until `wait` (seconds) answers True."""
    while True:
        pause_ms = every_ms
        try:
            result = once()
            emit(result) if as_json else say(f"{result['document']} issued")
        except TocsinError as error:
            pause_ms = min(every_ms, RETRY_MS)
            say(f"no status issued: {error}", f"hint: {error.hint}")
        if wait(pause_ms / 1000):
            return


def _issue(
    bundle: Path, store: Keystore, copy_to: list[Path] | None, *, dry_run: bool, suspend: tuple[str, str] | None = None
) -> dict[str, Any]:
    with files.locked(bundle):
        now = now_ms()
        book = books.load([bundle], now_ms=now)
        trust = book.founded()
        party, name, suite_id = _own(trust, store)
        suspensions = []
        if suspend is not None:
            channels = {rule.channel for rule in trust.agreement(now).body.channels}
            suspensions = [staffing.suspension(pb.Status(party=party), suspend[0], channels, suspend[1])]
        document = drafts.next_status(trust, party, now_ms=now, suspensions=suspensions)
        document = ceremony.sign(document, load_key(store, name, suite_id), books.groups(document, book))
        after = books.extend(book, document, now_ms=now)
        if not dry_run:
            # The party's own bundle first: were a copy first, a second run would make another status of the same number.
            for path in (bundle, *(copy_to or ())):
                files.save_bundle(path, list(after.documents), fresh=False)
    return _issued(document, dry_run)


def _issued(document: Document, dry_run: bool) -> dict[str, Any]:
    body = documents.body(document, pb.Status)
    return {
        "document": signing.subject(document),
        "digest": document.digest.hex(),
        "issue_time_ms": body.issue_time_ms,
        "suspensions": len(body.suspensions),
        "written": not dry_run,
    }


def _own(trust: Trust, store: Keystore) -> tuple[str, str, int]:
    """Party, name and suite of the status key in a keystore.

    Raises:
        StrangerError: None of any party.
    """
    held = {entry.public: entry.name for entry in store.entries()}
    for party in trust.parties:
        for listed in trust.party_document(party).status.keys:
            if listed.key.key in held:
                return party, held[listed.key.key], listed.key.suite
    raise StrangerError("this keystore holds no status key of any party", hint="is it the right keystore?")


def _node_cas(trust: Trust) -> list[Ending]:
    from cryptography import x509  # slow to load, and only this command reads certificates

    found = []
    for node in trust.nodes():
        try:
            certificate = x509.load_der_x509_certificate(node.tls_ca)
        except ValueError:
            continue
        found.append(_ending(f"TLS CA of {node.node}", certificate, "make a new one and put it into the roster"))
    return found


def _certificate(path: Path) -> Ending:
    from cryptography import x509

    data = files.read(path, _MAX_CERTIFICATE_BYTES)
    try:
        pem = data.lstrip().startswith(b"-----")
        certificate = x509.load_pem_x509_certificate(data) if pem else x509.load_der_x509_certificate(data)
    except ValueError:
        raise UsageError(f"{path} is not a certificate", hint="is it the right file?") from None
    return _ending(f"certificate {path}", certificate, "it renews by itself while its desk or node runs")


def _ending(what: str, certificate: "x509.Certificate", advice: str) -> Ending:
    start, end = (
        int(t.timestamp() * 1000) for t in (certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    )
    return Ending(what, end, end - start, advice)


def _row(ending: Ending, now: int) -> dict[str, Any]:
    return {
        "what": ending.what,
        "ends_ms": ending.ends_ms,
        "ends": terms.moment(ending.ends_ms),
        "level": ending.level(now).name.lower(),
        "step_days": ending.step_days(now),
        "advice": ending.advice,
    }


def _line(ending: Ending, now: int) -> str:
    left = ending.ends_ms - now
    word = {Level.OK: "ok", Level.WARN: "soon", Level.CRITICAL: "CRITICAL"}[ending.level(now)]
    when = (
        f"ends {terms.moment(ending.ends_ms)}, in {_left(left)}"
        if left > 0
        else f"ended {terms.moment(ending.ends_ms)}"
    )
    return f"{word}: {ending.what} {when}" + ("" if word == "ok" else f"; {ending.advice}")


def _left(ms: int) -> str:
    days, hours = divmod(ms // 3_600_000, 24)
    return f"{days} d {hours} h" if days < 10 else f"{days} d"
