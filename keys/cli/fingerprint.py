"""`tocsin-keys fingerprint`: all 32 bytes of what a file is, as words and as digits, to be read to the other side."""

from pathlib import Path
from typing import Annotated, Any

import typer

from keys import words
from keys.ceremony import AlteredError
from keys.cli import files, parts, record, signing
from keys.cli.terminal import Json, answer, say
from keys.documents import Document
from keys.errors import UsageError

File = Annotated[Path, typer.Argument(metavar="FILE", help="A document, a bundle, or the public part of a key.")]
Expect = Annotated[
    str | None, typer.Option("--expect", help="What the other side read out, words or digits; refused when it differs.")
]


def fingerprint(
    file: File,
    expect: Expect = None,
    words_alone: Annotated[
        bool, typer.Option("--words", help="Print the 24 words alone, of a file with one document.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print the fingerprint of a file: 24 words with a checksum, and the 64 digits behind them. Compare all of them.

    Of a bundle, each document has one; that of agreement 1 is the lineage of the exchange. Signatures do not change a
    fingerprint: a draft and its signed copies have the same.
    """
    found = _found(file)
    if expect is not None:
        wanted = words.read(expect)
        if wanted not in [digest for _, digest in found]:
            raise AlteredError(f"{file} has another fingerprint than the one read out")
        say("the same")
    for name, digest in found:
        record.note("fingerprint", of=name, digest=digest.hex())
    rows: list[dict[str, Any]] = [
        {"of": name, "digest": digest.hex(), "words": list(words.words(digest))} for name, digest in found
    ]
    if words_alone:
        if len(found) != 1:
            raise UsageError(
                f"{file} holds {len(found)} documents, each with words of its own", hint="leave --words out"
            )
        answer(rows[0]["words"], words.rows(found[0][1]), as_json=as_json)
        return
    lines = [line for name, digest in found for line in (name, *signing.fingerprint_text(digest))]
    answer(rows, lines, as_json=as_json)


def _found(file: Path) -> list[tuple[str, bytes]]:
    data = files.read(file, files.MAX_BUNDLE_BYTES)
    if parts.is_part(data):
        part = parts.load(file)
        return [(f"{part.role} key of {part.holder} ({part.party})", part.identity)]
    held: list[Document] = files.load(file)
    return [(signing.subject(document), document.digest) for document in held]
