"""Show, sign, combine, verify: the same four steps for every document that holders sign together.

Each holder signs a copy on a machine of their own. What is signed are the bytes that were read and shown, once.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from keys import ceremony, documents, succession, words
from keys.audit import subject
from keys.ceremony import AlteredError, Group, SecondSignatureError, StrangerError, UnconfirmedError
from keys.cli import book as books
from keys.cli import files, ready, record
from keys.cli.book import HeldFiles
from keys.cli.sight import Shown, fingerprint_text, see
from keys.cli.terminal import (
    DryRun,
    Json,
    KeystoreFile,
    PassphraseFile,
    Yes,
    answer,
    load_key,
    now_ms,
    open_keystore,
    say,
    show,
)
from keys.documents import Document, ThresholdError
from keys.keystore import Keystore

__all__ = ["add_commands", "fingerprint_text", "see", "subject"]
CONFIRM_WORDS: Final = 3
MEMORY: Final = "digest"
"""Kind of the keystore entries that remember what was signed; they are no secrets."""

DocumentFile = Annotated[Path, typer.Argument(metavar="FILE", help="The document.")]
Expect = Annotated[
    str | None,
    typer.Option(
        "--expect", help="The fingerprint both sides compared, as 24 words or 64 digits; else nothing is signed."
    ),
]
OutFile = Annotated[Path | None, typer.Option("--out", help="Where to write the result.")]
BundleOut = Annotated[Path, typer.Option("--out", help="Where to write the bundle.")]
Replace = Annotated[bool, typer.Option("--replace", help="Replace the file that is there, in one step.")]


def sign(
    path: Path,
    type_: str,
    held: Sequence[Path] | None,
    keystore: Path,
    passphrase_file: Path | None,
    *,
    expect: str | None,
    yes: bool,
    dry_run: bool,
    out: Path | None,
    instead: bool,
    as_json: bool,
) -> None:
    """Sign a copy: check, show, confirm, sign, write; in that order, over the bytes that were read once."""
    now = now_ms()
    document = files.load_one(path, type_)
    book = books.load(held, now_ms=now)
    ready.require(document, book, now_ms=now)
    groups = books.groups(document, book)
    ceremony.require_known_signatures(document, groups, what=str(path))
    shown = see(document, book)
    (show if not as_json else say)(*shown.text())
    _require_expected(shown, expect, yes=yes)
    with open_keystore(keystore, passphrase_file) as store:
        names, counted = _own_keys(document, store, groups)
        _require_one_story(store, document, shown, instead=instead)
        if dry_run:
            say(f"dry run: nothing was signed; it would count as {', '.join(counted)}")
            return
        target = out or path.with_name(f"{path.name}.{counted[0].rpartition(': ')[2]}")
        files.require_fresh(target)
        if not yes:
            _confirm(shown.digest)
        _remember(store, document, shown)
        signed = document
        for name, suite_id in names.items():
            signed = ceremony.sign(signed, load_key(store, name, suite_id), groups)
    files.write(target, signed.encode())
    record.note("signed", document=shown.subject, digest=shown.digest.hex(), by=", ".join(counted))
    progress = ceremony.progress(signed, groups)
    say(f"signed as {', '.join(counted)}; take {target} to whoever combines the copies")
    answer(_progress_result(shown, progress, str(target)), progress.words(), as_json=as_json)


def combine(paths: Sequence[Path], type_: str, held: Sequence[Path] | None, out: Path, *, as_json: bool) -> None:
    """Put the signatures of all copies under one document."""
    now = now_ms()
    copies = [(str(path), files.load_one(path, type_)) for path in paths]
    book = books.load(held, now_ms=now)
    ready.require(copies[0][1], book, now_ms=now)
    groups = books.groups(copies[0][1], book)
    document = ceremony.combine(copies, groups)
    progress = ceremony.progress(document, groups)
    files.write(out, document.encode())
    record.note("combined", document=subject(document), digest=document.digest.hex())
    say(f"{len(document.signatures)} signatures in {out}" + ("" if progress.complete else "; not enough yet"))
    answer(_progress_result(see(document, book), progress, str(out)), progress.words(), as_json=as_json)


def verify(path: Path, type_: str, held: Sequence[Path] | None, *, as_json: bool) -> None:
    """Say who signed and who is missing.

    Raises:
        ThresholdError: Too few.
    """
    document = files.load_one(path, type_)
    book = books.load(held, now_ms=now_ms())
    ready.require(document, book, now_ms=now_ms())
    groups = books.groups(document, book)
    ceremony.require_known_signatures(document, groups, what=str(path))
    progress = ceremony.progress(document, groups)
    lines = [*progress.words(), *fingerprint_text(document.digest)]
    answer(_progress_result(see(document, book), progress, str(path)), lines, as_json=as_json)
    if not progress.complete:
        short = [f"{group.name}: {', '.join(s.missing)}" for group, s in progress.groups if not s.complete]
        raise ThresholdError(f"{subject(document)} lacks signatures; could sign: {'; '.join(short)}")


def publish(
    path: Path, type_: str, held: Sequence[Path] | None, out: Path, *, replace: bool, as_json: bool, then: str = ""
) -> None:
    """Check a signed document as every node will, and write it with all documents before it into one bundle.

    Raises:
        TrustError: No node would take it; the subclass names the rule.
        FileError: There is a file, and `replace` is off.
    """
    now = now_ms()
    document = files.load_one(path, type_)
    book = books.extend(books.load(held, now_ms=now), document, now_ms=now)
    files.save_bundle(out, list(book.documents), fresh=not replace)
    record.note("published", document=subject(document), digest=document.digest.hex())
    say(f"{len(book.documents)} documents in {out}{then}")
    answer({"file": str(out), "document": subject(document), "digest": document.digest.hex()}, [], as_json=as_json)


def show_document(path: Path, type_: str, held: Sequence[Path] | None, *, as_json: bool) -> None:
    """Print a document in words; the transcript remembers which one was shown."""
    document = files.load_one(path, type_)
    shown = see(document, books.load(held, now_ms=now_ms()))
    record.note("shown", document=shown.subject, digest=shown.digest.hex())
    answer(shown.result(), shown.text(), as_json=as_json)


def add_commands(group: typer.Typer, type_: str) -> None:
    """The four commands of a document type."""
    noun = files.noun(type_).split(" ", 1)[1]

    @group.command("show", help=f"Print the {noun} in plain words, with its whole fingerprint.")
    def _show(file: DocumentFile, held: HeldFiles = None, as_json: Json = False) -> None:
        show_document(file, type_, held, as_json=as_json)

    @group.command(
        "sign",
        help=f"Sign the {noun} with the key in a keystore, after showing what it says or changes. Writes a signed copy."
        " Asks for the first words of the fingerprint; --expect refuses any document but the one compared before.",
    )
    def _sign(
        file: DocumentFile,
        keystore: KeystoreFile,
        held: HeldFiles = None,
        passphrase_file: PassphraseFile = None,
        expect: Expect = None,
        out: OutFile = None,
        instead: Annotated[
            bool,
            typer.Option(
                "--instead", help="Sign although this keystore signed another one of this number: that was given up."
            ),
        ] = False,
        yes: Yes = False,
        dry_run: DryRun = False,
        as_json: Json = False,
    ) -> None:
        sign(
            file,
            type_,
            held,
            keystore,
            passphrase_file,
            expect=expect,
            yes=yes,
            dry_run=dry_run,
            out=out,
            instead=instead,
            as_json=as_json,
        )

    @group.command(
        "combine",
        help=f"Put the signatures of several copies under one {noun}. Refuses copies that differ, and signatures of strangers.",
    )
    def _combine(
        copies: Annotated[list[Path], typer.Argument(metavar="COPY...", help="Signed copies.")],
        out: Annotated[Path, typer.Option("--out", help="Where to write the result.")],
        held: HeldFiles = None,
        as_json: Json = False,
    ) -> None:
        combine(copies, type_, held, out, as_json=as_json)

    @group.command(
        "verify", help=f"Check the {noun} and say who signed it and who is missing; exit 1 until it is complete."
    )
    def _verify(file: DocumentFile, held: HeldFiles = None, as_json: Json = False) -> None:
        verify(file, type_, held, as_json=as_json)


def _require_expected(shown: Shown, expect: str | None, *, yes: bool) -> None:
    record.require_shown(shown.subject, shown.digest)
    if expect is not None and words.read(expect) != shown.digest:
        raise AlteredError(f"{shown.subject} has another fingerprint than the one expected")
    if yes and expect is None:
        say("nobody compared this fingerprint: give it with --expect to be sure")


def _confirm(digest: bytes) -> None:
    wanted = words.words(digest)[:CONFIRM_WORDS]
    say(f"to sign, type the first {CONFIRM_WORDS} words of the fingerprint; anything else signs nothing")
    if sys.stdin.readline().lower().split() != list(wanted):
        raise UnconfirmedError("the words typed are not the first words of this fingerprint: nothing was signed")


def _require_one_story(store: Keystore, document: Document, shown: Shown, *, instead: bool) -> None:
    """Two documents at one number, both signed, are evidence against their party for ever: never by mistake.

    A first agreement that lists the one signed before as dead is no second story: it ends the first.
    """
    name = _memory(document, shown)
    if instead or name not in store.names() or store.get(name) in (shown.digest, *succession.listed_as_dead(document)):
        return
    raise SecondSignatureError(
        f"this keystore signed another {shown.subject}, {store.get(name).hex()}",
        hint="if that one was given up and every copy of it destroyed, sign with --instead",
    )


def _remember(store: Keystore, document: Document, shown: Shown) -> None:
    name = _memory(document, shown)
    if name in store.names():
        store.replace(name, shown.digest)
    else:
        store.put(name, shown.digest, kind=MEMORY)


def _memory(document: Document, shown: Shown) -> str:
    """By lineage: a key may serve a drill too, and goes on into the exchange that takes the place of a dead one."""
    lineage = getattr(documents.peek(document), "lineage", b"")
    return f"signed {shown.subject}" + (f" of {lineage.hex()}" if lineage else "")


def _own_keys(document: Document, store: Keystore, groups: Sequence[Group]) -> tuple[dict[str, int], tuple[str, ...]]:
    """Every key of the keystore that may sign and has not, with its suite; and what their signatures count for."""
    names: dict[str, int] = {}
    counted: list[str] = []
    again: SecondSignatureError | None = None
    listed = {holder.key.key: holder.key.suite for group in groups for holder in group.keys.keys}
    for entry in store.entries():
        if entry.public not in listed:
            continue
        try:
            roles = ceremony.standing(document, entry.public, groups)
        except SecondSignatureError as error:
            again = error
            continue
        names[entry.name] = listed[entry.public]
        counted += [name for found in roles.values() for name in found]
    if names:
        return names, tuple(counted)
    if again is not None:
        raise again
    wanted = ", ".join(group.name for group in groups)
    raise StrangerError(
        f"this keystore holds no key of {wanted}", hint="is it the right keystore, and the right party?"
    )


def _progress_result(shown: Shown, progress: ceremony.Progress, path: str) -> dict[str, Any]:
    return {
        **shown.result(),
        "file": path,
        "complete": progress.complete,
        "groups": [
            {"group": group.name, "signed": s.signed, "missing": s.missing, "threshold": s.threshold}
            for group, s in progress.groups
        ],
    }
