"""`tocsin-keys root new` and `tocsin-keys key`: a holder's keystore, on the holder's own machine."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from keys import founding, suite, words
from keys.cli import files, record
from keys.cli.parts import Part, require_name
from keys.cli.terminal import (
    Json,
    KeystoreFile,
    PassphraseFile,
    answer,
    load_key,
    open_keystore,
    opens_by_itself,
    passphrase,
    say,
)
from keys.errors import UsageError
from keys.keystore import Keystore, SecretExistsError

root_group = typer.Typer(
    no_args_is_help=True, help="The root keys of a party: they sign party documents and agreements."
)
group = typer.Typer(no_args_is_help=True, help="Keys of any role: make one, export its public part, list a keystore.")

SIGNING = "signing"
"""Kind of a signing seed in a keystore."""


class Role(StrEnum):
    """What a holder's key signs."""

    ROOT = "root"
    ROSTER = "roster"
    STATUS = "status"


Party = Annotated[str, typer.Option("--party", help="Two letters, ISO 3166-1 in lower case, such as kr.")]
Holder = Annotated[str, typer.Option("--holder", help="Who holds the key; a holder counts once. Such as first.")]
Out = Annotated[Path, typer.Option("--out", help="File for the public part; it goes to whoever drafts.")]
Machine = Annotated[
    bool,
    typer.Option("--key-file", help="No passphrase: a key file beside the keystore opens it, for unattended services."),
]


@root_group.command("new")
def root_new(
    party: Party,
    holder: Holder,
    keystore: KeystoreFile,
    out: Out,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Draw a root key on this machine, best one that never had a network, and write its public part.

    The private half stays in the keystore. Run it once for each holder, each on a machine of their own, then bring the
    parts together with `party draft`.
    """
    _new(Role.ROOT, party, holder, keystore, out, passphrase_file, key_file=False, as_json=as_json)


@group.command("new")
def key_new(
    role: Annotated[Role, typer.Option(help="What the key signs.")],
    party: Party,
    holder: Holder,
    keystore: KeystoreFile,
    out: Out,
    key_file: Machine = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Draw a key of a role and write its public part. The private half stays in the keystore.

    Roster keys sign who a party's people are; the status key signs a daily word and mostly sits on a machine that runs
    unattended (--key-file).
    """
    _new(role, party, holder, keystore, out, passphrase_file, key_file=key_file, as_json=as_json)


@group.command("part")
def key_part(
    role: Annotated[Role, typer.Option(help="What the key signs.")],
    party: Party,
    holder: Holder,
    keystore: KeystoreFile,
    out: Out,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Write the public part of a key again, when the file was lost on its way."""
    with open_keystore(keystore, passphrase_file) as store:
        _write_part(store, role, party, holder, out, as_json=as_json)


@group.command("list")
def key_list(keystore: KeystoreFile, passphrase_file: PassphraseFile = None, as_json: Json = False) -> None:
    """What a keystore holds: names and public identities, nothing secret."""
    with open_keystore(keystore, passphrase_file) as store:
        rows = [{"name": e.name, "kind": e.kind, "public": e.public.hex()[:16]} for e in store.entries()]
    answer(rows, [f"{r['name']} ({r['kind']}), public half {r['public'] or 'none'}" for r in rows], as_json=as_json)


def entry_name(role: str, party: str, holder: str) -> str:
    """What a holder's key is called in its keystore."""
    return f"{party}/{role}/{holder}"


def _new(
    role: Role,
    party: str,
    holder: str,
    keystore: Path,
    out: Path,
    passphrase_file: Path | None,
    *,
    key_file: bool,
    as_json: bool,
) -> None:
    require_name(party, "party")
    require_name(holder, "holder")
    files.require_fresh(out)
    if key_file and passphrase_file is not None:
        raise UsageError("--key-file and --passphrase-file exclude each other", hint="choose one")
    key = suite.SigningKey.generate(founding.ROLE_SUITES[role])
    with _store(keystore, passphrase_file, key_file=key_file) as store:
        try:
            store.put(entry_name(role, party, holder), key.seed(), kind=SIGNING, public=key.public)
        except SecretExistsError as error:
            error.hint = "its public part is written again by `tocsin-keys key part`"
            raise
        _write_part(store, role, party, holder, out, as_json=as_json)


def _store(keystore: Path, passphrase_file: Path | None, *, key_file: bool) -> Keystore:
    """Opened when it is there, so that a command cut off between the keystore and its key can be run again."""
    if keystore.exists():
        if key_file and not opens_by_itself(keystore):
            raise UsageError(f"{keystore} exists and has a passphrase", hint="leave --key-file out, or choose another")
        return open_keystore(keystore, passphrase_file)
    return Keystore.create(
        keystore, b"" if key_file else passphrase(passphrase_file, what=f"the new {keystore}", new=True)
    )


def _write_part(store: Keystore, role: str, party: str, holder: str, out: Path, *, as_json: bool) -> None:
    key = load_key(store, entry_name(role, party, holder), founding.ROLE_SUITES[role])
    public = founding.public_key(key, lineage=b"", party=party, name=holder, role=role)
    part = Part(party, role, holder, public)
    files.write(out, part.encode())
    record.note("key made", part=f"{party} {role} {holder}", key=part.identity.hex())
    say(f"{role} key of {holder} ({party}); its public part is in {out}. Write the words on paper:")
    answer(
        {
            "party": party,
            "role": role,
            "holder": holder,
            "key": part.identity.hex(),
            "words": words.words(part.identity),
        },
        words.rows(part.identity),
        as_json=as_json,
    )
