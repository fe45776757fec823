"""`tocsin-keys annex`: thresholds of the early warning, drafted from a file, signed by the roster holders of every party."""

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from keys import documents, terms
from keys.cli import book as books
from keys.cli import files, signing
from keys.cli.book import HeldFiles
from keys.cli.terminal import Json, answer, now_ms, printable, say
from keys.documents import Document
from keys.errors import UsageError
from keys.trust import Trust
from keys.v1 import documents_pb2 as pb

TYPE: Final = "tocsin/1/annex"
MAX_THRESHOLDS: Final = 4096
MAX_FILE_BYTES: Final = 1 << 20
_MICRO: Final = 1_000_000

group = typer.Typer(
    no_args_is_help=True,
    help="Thresholds of the early warning, agreed by both parties: draft, sign, combine and publish.",
)
signing.add_commands(group, TYPE)


@group.command("draft")
def draft(
    thresholds: Annotated[Path, typer.Argument(metavar="THRESHOLDS", help="What `tocsin watch tune` wrote.")],
    out: Annotated[Path, typer.Option("--out", help="Where to write the draft.")],
    held: HeldFiles = None,
    after: Annotated[str, typer.Option("--in", help="How long from now it takes effect.")] = "7d",
    as_json: Json = False,
) -> None:
    """Draft the next annex from a file of thresholds; it takes the place of the one before as a whole.

    A row may have an "item", a code or a name, for which alone it holds.
    """
    now = now_ms()
    book = books.load(held, now_ms=now)
    rows = rows_of(files.read(thresholds, MAX_FILE_BYTES))
    document = next_annex(book.founded(), rows, effective_ms=now + terms.milliseconds(after))
    files.write(out, document.encode())
    shown = signing.see(document, book)
    say(f"{shown.subject} drafted in {out}; the roster holders of every party sign it")
    answer({**shown.result(), "file": str(out)}, shown.text(), as_json=as_json)


@group.command("publish")
def publish(
    file: signing.DocumentFile,
    out: signing.BundleOut,
    held: HeldFiles = None,
    replace: signing.Replace = False,
    as_json: Json = False,
) -> None:
    """Check the signed annex as every node will, and write it with all documents before it into one bundle."""
    signing.publish(file, TYPE, held, out, replace=replace, as_json=as_json)


def rows_of(data: bytes) -> list[pb.Threshold]:
    """The thresholds of a file of `tocsin watch tune`, sorted by rule and item.

    Raises:
        UsageError: It is none, a threshold is no finite number, or two are for one rule and item.
    """
    try:
        rows = json.loads(data)["thresholds"]
        found = [_row(row) for row in rows]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        hint = 'an object with a list "thresholds" of {rule, label, budget, threshold} and perhaps item'
        raise UsageError("these are no thresholds", hint=hint) from None
    named = sorted(found, key=lambda one: (one.rule, one.item))
    keys = [(one.rule, one.item) for one in named]
    twice = next((key for key, after in pairwise(keys) if key == after), None)
    if twice is not None:
        words = printable(" ".join(twice).strip())
        raise UsageError(f"two thresholds for {words}", hint="leave one of them out")
    if not 0 < len(named) <= MAX_THRESHOLDS:
        raise UsageError(f"{len(named)} thresholds", hint=f"an annex has 1 to {MAX_THRESHOLDS}")
    return named


def _row(row: dict[str, Any]) -> pb.Threshold:
    value = row["threshold"]
    if isinstance(value, bool) or not math.isfinite(value) or abs(value) > _MICRO:
        raise ValueError("threshold")
    rule = f"{row['rule']} {row['label']} {row['budget']}"
    # Rounded up: one that was measured keeps to its budget in the annex too.
    return pb.Threshold(rule=rule, item=str(row.get("item", "")), micro=math.ceil(round(value * _MICRO, 3)))


def next_annex(trust: Trust, thresholds: list[pb.Threshold], *, effective_ms: int) -> Document:
    """The annex after the newest one held, unsigned.

    Args:
        trust: What is held.
        thresholds: Sorted by rule and item.
        effective_ms: From when on it holds, ms UTC; after the one before.

    Raises:
        UsageError: It would take effect no later than the one before.
    """
    held = [document for document in trust.documents() if document.type == TYPE]
    bodies = [(documents.body(document, pb.Annex), document) for document in held]
    before, document = max(bodies, key=lambda one: one[0].version, default=(pb.Annex(), None))
    if document is not None and effective_ms <= before.effective_time_ms:
        raise UsageError(
            f"annex {before.version} takes effect at {terms.moment(before.effective_time_ms)}, and this one no later",
            hint="give a longer --in",
        )
    return documents.make(
        pb.Annex(
            lineage=trust.lineage,
            version=before.version + 1,
            previous=document.digest if document is not None else b"",
            effective_time_ms=effective_ms,
            thresholds=thresholds,
        )
    )
