"""`tocsin-keys token`: signing keys with a half in a PKCS#11 token: a smart card, a security module."""

import getpass
import sys
from pathlib import Path
from typing import Annotated

import typer

from keys import desk_keys, pkcs11, signer, suite
from keys.cli import record
from keys.cli.terminal import Json, PassphraseFile, answer, open_keystore
from keys.errors import UsageError
from keys.pkcs11 import Token

group = typer.Typer(
    no_args_is_help=True,
    help="Keys in a token: the Ed25519 or Ed448 half is made there and never leaves it; the ML-DSA half too where the token"
    " offers it, else it stays in the keystore file. The commands say which.",
)

Module = Annotated[str, typer.Option("--module", help="Whole path of the PKCS#11 library of the token's maker.")]
Keys = Annotated[Path, typer.Option("--keystore", help="The keystore that refers to the token.")]


@group.command("list")
def show(module: Module, as_json: Json = False) -> None:
    """Labels of the tokens that are in."""
    labels = pkcs11.labels(module)
    answer(list(labels), list(labels), as_json=as_json)


@group.command("new")
def new(
    keystore: Keys,
    module: Module,
    token: Annotated[str, typer.Option("--token", help="Label of the token.")],
    name: Annotated[
        str | None,
        typer.Option(
            "--name", help="Name of the key in the keystore. Not given: it is the next signing key of a desk."
        ),
    ] = None,
    root: Annotated[bool, typer.Option("--root", help="A root key (suite 2); else suite 1.")] = False,
    pin_file: Annotated[
        Path | None,
        typer.Option(
            "--pin-file",
            help="File with the PIN, mode 0600, for a machine that runs unattended; it is read at each start. Asked for"
            " when not given.",
        ),
    ] = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Draw a signing key in a token and name it in a keystore. It says where each half lies."""
    if name is None and root:
        raise UsageError("a root key needs a --name", hint="such as kr/root/first")
    suite_id = suite.ROOT_SUITE if root else suite.DESK_SUITE
    pin_path = "" if pin_file is None else str(pin_file.resolve())
    pin = pin_of(pin_file, token)
    with open_keystore(keystore, passphrase_file) as store, Token.open(module, token, pin) as opened:
        key, reference = signer.make_in_token(store, name or desk_keys.next_name, suite_id, opened, pin_file=pin_path)
    called = name or desk_keys.next_name(key)
    record.note("key made in token", name=called, token=token, where=reference.where())
    facts = {
        "name": called,
        "suite": suite_id,
        "public": key.public.hex(),
        "mldsa_in_token": not reference.mldsa_seed,
        "where": reference.where(),
    }
    answer(facts, [f"{called}: {reference.where()}"], as_json=as_json)


@group.command("where")
def where(
    keystore: Keys,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Where the halves of each signing key of a keystore lie; no token is asked."""
    with open_keystore(keystore, passphrase_file) as store:
        rows = [
            {"name": entry.name, "where": signer.where(store, entry.name)}
            for entry in store.entries()
            if entry.kind in (signer.SIGNING, signer.REFERENCE)
        ]
    answer(rows, [f"{row['name']}: {row['where']}" for row in rows], as_json=as_json)


def pin_of(file: Path | None, token: str) -> bytes:
    """The PIN from a file or the prompt; never from arguments or the environment.

    Raises:
        UsageError: No terminal to ask at.
        KeystoreError: A file that others can read.
    """
    if file is not None:
        return signer.read_pin(file)
    return ask_pin(token)


def ask_pin(token: str) -> bytes:
    """The PIN from the prompt.

    Raises:
        UsageError: No terminal to ask at.
    """
    if not sys.stdin.isatty():
        raise UsageError(f"no terminal to ask for the PIN of token {token!r} at", hint="give it with --pin-file")
    return getpass.getpass(f"PIN of token {token!r}: ").encode()
