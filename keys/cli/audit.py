"""`tocsin-keys audit`: walk every chain of an exchange from its first document, and say what is wrong."""

from pathlib import Path
from typing import Annotated, Any

import typer

from keys import audit as audits
from keys import transcript, words
from keys.audit import Finding
from keys.cli import book as books
from keys.cli import files
from keys.cli.terminal import Json, answer, now_ms
from keys.errors import TocsinError

Inputs = Annotated[
    list[Path],
    typer.Argument(metavar="FILE...", help="Bundles and documents, also of the other party, and transcripts (.jsonl)."),
]


def audit(inputs: Inputs, as_json: Json = False) -> None:
    """Check every signature and every chain again: agreements, party documents, rosters, statuses, transcripts.

    Give it what both parties hold: two documents at one number show only side by side. Exit 1 when something is wrong.
    """
    now = now_ms()
    records = [path for path in inputs if path.suffix == ".jsonl"]
    found = {d.digest: d for path in inputs if path not in records for d in files.load(path)}
    findings: list[Finding] = []
    lineage = b""
    if found:
        book = books.verify(list(found.values()), now_ms=now)
        trust = book.founded()
        lineage = trust.lineage
        findings += audits.audit(list(found.values()), trust, book.refused, now_ms=now)
    findings += [_record(path) for path in records]
    bad = sum(f.bad for f in findings)
    result: dict[str, Any] = {
        "lineage": lineage.hex(),
        "documents": len(found),
        "wrong": bad,
        "findings": [{"bad": f.bad, "subject": f.subject, "text": f.text} for f in findings],
    }
    lines = [f"{'WRONG' if f.bad else 'ok'}: {f.subject}: {f.text}" for f in findings]
    lines.append(f"{len(found)} documents, {len(records)} transcripts, {bad} things wrong")
    answer(result, lines, as_json=as_json)
    if bad:
        raise typer.Exit(1)


def _record(path: Path) -> Finding:
    try:
        lines = transcript.parse(files.read(path, transcript.MAX_BYTES))
    except TocsinError as error:
        return Finding(True, str(path), str(error))
    return Finding(False, str(path), f"{len(lines)} lines, ends in: {' '.join(words.words(transcript.head(lines)))}")
