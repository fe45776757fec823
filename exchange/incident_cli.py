"""`tocsin push`, `audit`, `desk panic`, `node touched`: documents handed over at once, and what the logs say afterwards."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from exchange import files
from exchange.clock import now_ms
from exchange.desk import Desk, DeskSettings
from exchange.desk.pushing import Pushed
from exchange.options_cli import Json, PassphraseFile, emit
from exchange.pouch.cli import carry_out
from exchange.pouch.orders import Order
from exchange.text import printable
from keys import panic as panics
from keys.documents import Document
from keys.encoding import canonical_bytes
from keys.errors import TocsinError, UsageError
from keys.v1 import documents_pb2 as docs

err: Final = Console(stderr=True)
PUSH_S: Final = 15.0
"""A mission that is about to be seized waits no longer for its node."""
CONFIRM_WORD: Final = "destroy"

NodeDir = Annotated[Path | None, typer.Option("--node", help="Directory of the node; it may be running.")]
DeskDir = Annotated[Path | None, typer.Option("--desk", help="Directory of the desk.")]


def push(
    bundle: Annotated[Path, typer.Argument(help="A document, or a bundle of them.")],
    desk: DeskDir = None,
    node: NodeDir = None,
    as_json: Json = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Hand documents to the own node at once; from there they spread. Exit 1 when one is refused."""
    _one_of(desk, node)
    if desk is not None:
        encoded = files.load_documents(bundle)
        said = asyncio.run(_push(desk, encoded, files.passphrase(passphrase_file)))
        refused = [{"digest": p.digest.hex(), "rule": p.rule, "text": p.text} for p in said if p.rule]
        done: dict[str, Any] = {"taken": len(said) - len(refused), "refused": refused}
    else:
        assert node is not None  # noqa: S101 - one of the two is given
        order = Order(do="take", file=str(bundle.absolute()))
        done = asyncio.run(carry_out(node, order, files.passphrase(passphrase_file)))
    if as_json:
        emit(done)
    else:
        err.print(f"{done['taken']} documents taken")
        for one in done["refused"]:
            _tell(f"refused: {one['digest']}: {one['rule']}: {one['text']}")
    if done["refused"]:
        raise typer.Exit(1)


async def _push(directory: Path, encoded: Sequence[bytes], passphrase: bytes) -> list[Pushed]:
    opened = Desk.open(directory, passphrase=passphrase)
    try:
        return await opened.push(encoded)
    finally:
        await opened.disconnect()
        opened.close()


def panic(
    directory: Annotated[Path, typer.Argument(help="Directory of the desk.")],
    out: Annotated[
        Path, typer.Option("--out", help="Where to write the renunciation too, to be sent by every other way.")
    ],
    reason: Annotated[str, typer.Option(help="Everybody reads it.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """The mission is about to be seized: renounce the desk's keys, push that to the node, destroy every secret. No way back.

    A node that does not answer stops nothing. Exit 1 when it did not take the renunciation: send the file.
    """
    settings = files.load_settings(DeskSettings, directory / "desk.toml")
    if not yes:
        err.print(f"this destroys every key of {settings.desk} in {directory}; type {CONFIRM_WORD} to go on")
        if typer.get_text_stream("stdin").readline().strip() != CONFIRM_WORD:
            raise UsageError("not confirmed: nothing was destroyed", hint=f"type {CONFIRM_WORD}, or give --yes")
    passphrase = files.passphrase(passphrase_file)
    pushed: list[str] = []

    def save(renunciations: tuple[Document, ...]) -> None:
        encoded = [document.encode() for document in renunciations]
        files.save_private(out, canonical_bytes(docs.Bundle(documents=encoded)))
        pushed.append(_push_in_time(directory, encoded, passphrase))

    done = panics.panic(
        directory / "desk.keys",
        passphrase,
        settings.desk,
        lineage=bytes.fromhex(settings.lineage),
        now_ms=now_ms(),
        reason=reason,
        save=save,
    )
    (failed,) = pushed
    result = {
        "renunciations": len(done.renunciations),
        "file": str(out),
        "node": failed or "taken",
        "destroyed": [path.name for path in done.destroyed],
        "limits": list(panics.LIMITS),
    }
    for text in panics.LIMITS:
        _tell(f"not in our power: {text}")
    if as_json:
        emit(result)
    else:
        _tell(f"{len(done.renunciations)} renunciations in {out}; the node: {failed or 'taken'}")
        _tell(f"destroyed {', '.join(path.name for path in done.destroyed)}")
    if failed:
        raise typer.Exit(1)


def _push_in_time(directory: Path, encoded: Sequence[bytes], passphrase: bytes) -> str:
    """Why the node did not take the renunciations, in words; empty when it did. Raises nothing: the secrets must go."""

    async def bounded() -> list[Pushed]:
        async with asyncio.timeout(PUSH_S):
            return await _push(directory, encoded, passphrase)

    try:
        refused = [f"{each.rule}: {each.text}" for each in asyncio.run(bounded()) if each.rule]
    except TimeoutError:
        return f"no answer in {PUSH_S:.0f} seconds; send the file"
    except TocsinError as error:
        return f"{error.reason}: {error}; send the file"
    except Exception as error:  # whatever else is broken here, what follows is more important
        return f"{error!r}; send the file"
    return "; ".join(refused)


def touched(
    directory: Annotated[Path, typer.Argument(help="Directory of a node; it may be running.")],
    key: Annotated[str, typer.Option("--key", help="Identity of a desk's key that ended, 64 digits.")],
    out: Annotated[Path, typer.Option("--out", help="File for the list, for `tocsin-keys incident touched`.")],
    as_json: Json = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """List what a key signed, as this node's log proves it: counted, disputed or refused. A node of another party can tell."""
    try:
        if len(bytes.fromhex(key)) != 32:
            raise ValueError
    except ValueError:
        raise UsageError("the key is not 64 hex digits", hint="give all of them") from None
    order = Order(do="touched", file=str(out.absolute()), key=key)
    done = asyncio.run(carry_out(directory, order, files.passphrase(passphrase_file)))
    if as_json:
        emit(done)
    else:
        verdicts = ", ".join(f"{done[v]} {v}" for v in ("counted", "disputed", "refused") if v in done) or "nothing"
        _tell(f"{out}: {done['envelopes']} envelopes of {done['desk']} under that key: {verdicts}")


def audit(
    node: NodeDir = None,
    desk: DeskDir = None,
    as_json: Json = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Check a log: of a node every entry hashed again, its head, who cosigned it, what it saw of others; of a desk its receipts.

    The documents have an audit of their own: `tocsin-keys audit`. Exit 1 when there is something to act on.
    """
    _one_of(desk, node)
    if node is not None:
        found = asyncio.run(carry_out(node, Order(do="audit"), files.passphrase(passphrase_file)))["findings"]
    else:
        assert desk is not None  # noqa: S101 - one of the two is given
        opened = Desk.open(desk, passphrase=files.passphrase(passphrase_file))
        try:
            found = [{"bad": f.bad, "subject": f.subject, "text": f.text} for f in opened.audit()]
        finally:
            opened.close()
    bad = sum(finding["bad"] for finding in found)
    if as_json:
        emit({"bad": bad, "findings": found})
    else:
        for finding in found:
            sys.stdout.write(
                printable(f"{'BAD ' if finding['bad'] else 'ok  '}{finding['subject']}: {finding['text']}") + "\n"
            )
        err.print(f"{bad} findings to act on")
    if bad:
        raise typer.Exit(1)


def _one_of(desk: Path | None, node: Path | None) -> None:
    if (desk is None) == (node is None):
        raise UsageError("one node or one desk", hint="give --node or --desk")


def _tell(text: str) -> None:
    err.print(printable(text), markup=False, highlight=False)
