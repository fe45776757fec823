"""`tocsin documents`: what the parties signed, and what changed from one agreement to the next."""

from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from exchange import files, policy
from exchange.options_cli import Json, emit
from exchange.text import printable
from keys import documents
from keys.errors import UsageError
from keys.v1 import documents_pb2 as pb

app = typer.Typer(no_args_is_help=True, help="What the parties signed.")
out: Final = Console()


@app.command("show")
def show(
    directory: Annotated[Path, typer.Argument(help="Directory of a desk or node, or a bundle file.")],
    as_json: Json = False,
) -> None:
    """List the documents a desk or node holds."""
    rows = []
    for data in files.load_bundle(bundle_in(directory)):
        document = documents.decode(data)
        body = documents.peek(document)
        rows.append(
            {
                "type": document.type.rpartition("/")[2],
                "of": getattr(body, "party", "") or getattr(body, "desk", "") or "all parties",
                "version": getattr(body, "version", getattr(body, "week", 0)),
                "signatures": len(document.signatures),
                "digest": document.digest.hex(),
            }
        )
    if as_json:
        emit(rows)
        return
    table = Table("type", "of", "version or week", "signatures", "digest")
    for row in rows:
        table.add_row(
            str(row["type"]),
            printable(str(row["of"])),
            str(row["version"]),
            str(row["signatures"]),
            str(row["digest"])[:16] + "…",
        )
    out.print(table)


@app.command("diff")
def diff(
    old: Annotated[Path, typer.Argument(help="Bundle or directory with the older agreement.")],
    new: Annotated[Path, typer.Argument(help="Bundle or directory with the newer one.")],
    as_json: Json = False,
) -> None:
    """Who gains and who loses what between two agreements, in words."""
    lines = policy.diff(_agreement(old), _agreement(new))
    if as_json:
        emit(lines)
        return
    for line in lines or ["no difference"]:
        out.print(line)


def bundle_in(path: Path) -> Path:
    """The file with the documents of a desk or a node, or the bundle that `path` is itself.

    Raises:
        UsageError: There is none.
    """
    bundle = path / files.BUNDLE if path.is_dir() else path
    if not bundle.exists():
        raise UsageError(f"{bundle} does not exist", hint="give a desk's or node's directory, or a bundle file")
    return bundle


def _agreement(path: Path) -> pb.Agreement:
    held = [documents.decode(data) for data in files.load_bundle(bundle_in(path))]
    agreements = [documents.body(d, pb.Agreement) for d in held if d.type == "tocsin/1/agreement"]
    if not agreements:
        raise UsageError(f"{path} holds no agreement")
    return agreements[-1]
