"""`tocsin-keys backup` and `restore`: an encrypted copy of a keystore, opened again before it is called a copy."""

from pathlib import Path
from typing import Annotated, Any

import typer

from keys.cli import record
from keys.cli.terminal import Json, PassphraseFile, answer, open_keystore, opens_by_itself, passphrase, say
from keys.errors import UsageError

Source = Annotated[Path, typer.Argument(metavar="KEYSTORE", help="The keystore file.")]
CopyPassphrase = Annotated[
    Path | None,
    typer.Option(
        "--new-passphrase-file", help="File with the passphrase of the copy, mode 0600; asked for when not given."
    ),
]


def backup(
    keystore: Source,
    out: Annotated[Path, typer.Option("--out", help="The copy; nothing may be there yet.")],
    passphrase_file: PassphraseFile = None,
    new_passphrase_file: CopyPassphrase = None,
    as_json: Json = False,
) -> None:
    """Write an encrypted copy of a keystore under a passphrase of its own, and open it again to be sure.

    Keep the copy and its passphrase in two places. A keystore that opens with a key file is backed up with a passphrase
    too: its key file stays on its machine.
    """
    _copy(keystore, out, passphrase_file, new_passphrase_file, key_file=False, what="backup", as_json=as_json)


def restore(
    copy: Annotated[Path, typer.Argument(metavar="COPY", help="What `backup` wrote.")],
    out: Annotated[Path, typer.Option("--out", help="The keystore to make; never replaces one.")],
    passphrase_file: PassphraseFile = None,
    new_passphrase_file: CopyPassphrase = None,
    key_file: Annotated[
        bool, typer.Option("--key-file", help="The restored keystore opens with a key file beside it, unattended.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a keystore from its copy, open it again, and list what it holds. Refuses to replace a keystore."""
    _copy(copy, out, passphrase_file, new_passphrase_file, key_file=key_file, what="restored", as_json=as_json)


def _copy(
    source: Path,
    out: Path,
    passphrase_file: Path | None,
    new_passphrase_file: Path | None,
    *,
    key_file: bool,
    what: str,
    as_json: bool,
) -> None:
    if out.exists():
        raise UsageError(f"{out} exists already", hint="choose another name; a keystore is never replaced")
    if key_file and new_passphrase_file is not None:
        raise UsageError("--key-file and --new-passphrase-file exclude each other", hint="choose one")
    with open_keystore(source, passphrase_file) as store:
        new = b"" if key_file else _new_passphrase(source, out, passphrase_file, new_passphrase_file)
        entries = store.copy_to(out, new)
    record.note(what, keystore=str(source), copy=str(out), entries=str(len(entries)))
    say(f"{len(entries)} secrets in {out}, opened again and compared")
    rows: list[dict[str, Any]] = [{"name": e.name, "kind": e.kind} for e in entries]
    answer({"file": str(out), "entries": rows}, [f"{e.name} ({e.kind})" for e in entries], as_json=as_json)


def _new_passphrase(source: Path, out: Path, old: Path | None, new: Path | None) -> bytes:
    if new is None and old is not None and not opens_by_itself(source):
        return passphrase(old, what=str(out))
    return passphrase(new, what=f"the new {out}", new=True)
