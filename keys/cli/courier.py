"""`tocsin-keys courier`: keys that travel in the diplomatic bag, on two sheets of paper; kept in each desk's keystore."""

from pathlib import Path
from typing import Annotated

import typer

from keys import courier, courier_store, windows
from keys.cli import book as books
from keys.cli import paper, record
from keys.cli.book import HeldFiles
from keys.cli.terminal import DryRun, Json, PassphraseFile, Yes, answer, now_ms, open_keystore, say
from keys.courier import CourierKey
from keys.errors import UsageError
from keys.keystore import Keystore
from keys.windows import Kind, Times, iso

group = typer.Typer(
    no_args_is_help=True,
    help="Courier keys: secrets that both countries carry by hand and mix into every seal of a channel that asks for one.",
)

DeskKeys = Annotated[Path, typer.Option("--keystore", help="The desk's keystore: desk.keys in its directory.")]
GroupName = Annotated[str, typer.Option("--group", help="The group, as the channel rules of the agreement name it.")]
FirstUse = Annotated[
    str, typer.Option("--first-use", help="From when on it seals, such as 2026-12-01T00:00:00Z; by then all have it.")
]
Half1 = Annotated[Path, typer.Option("--half-1", help="New file, or printer, for half 1.")]
Half2 = Annotated[Path, typer.Option("--half-2", help="New file, or printer, for half 2.")]
KeyId = Annotated[
    str, typer.Option("--id", help="Id of the key, as `courier list` shows it; a unique beginning will do.")
]


@group.command("new")
def new(
    keystore: DeskKeys,
    group_name: GroupName,
    first_use: FirstUse,
    half_1: Half1,
    half_2: Half2,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Draw the first key of a group, keep it, and write its two sheets.

    Each half alone says nothing. Send them in different bags, or with different people, to every desk of the group; then
    destroy the files. To replace a key that is in use: `courier rotate`.
    """
    paper.require_room(half_1, half_2)
    key = courier.new(group_name, first_use_ms=courier.parse_time(first_use))
    with open_keystore(keystore, passphrase_file) as store:
        if courier_store.held(store, group_name):
            raise UsageError(
                f"the keystore has keys of group {group_name} already", hint="replace them with `courier rotate`"
            )
        courier_store.keep(store, key)
    _write_sheets(key, half_1, half_2)
    _tell(key, "courier key made", as_json=as_json)


@group.command("rotate")
def rotate(
    keystore: DeskKeys,
    group_name: GroupName,
    first_use: FirstUse,
    half_1: Half1,
    half_2: Half2,
    held: HeldFiles,
    passphrase_file: PassphraseFile = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Draw the next key of a group. Until its first use the old one seals; the old one opens until nothing is under way.

    Every desk of the group must have typed the new key in before its first use: a desk that has not cannot open what is
    sealed from then on. Leave the bag the time it needs.
    """
    paper.require_room(half_1, half_2)
    now, first_use_ms = now_ms(), courier.parse_time(first_use)
    bounds = windows.bounds_of(books.load(held, now_ms=now).founded(), from_ms=now, until_ms=first_use_ms)
    retire_ms = first_use_ms + bounds.in_flight_ms
    windows.check(Kind.COURIER, Times(now, now, first_use_ms, retire_ms), bounds)
    key = courier.new(group_name, first_use_ms=first_use_ms)
    with open_keystore(keystore, passphrase_file) as store:
        old = courier_store.held(store, group_name)
        if not old:
            raise UsageError(f"the keystore has no key of group {group_name}", hint="make one with `courier new`")
        if old[-1].first_use_ms >= first_use_ms:
            raise UsageError(
                f"group {group_name} has a key from {iso(old[-1].first_use_ms)} on", hint="choose a later first use"
            )
        if not dry_run:
            courier_store.keep(store, key)
    until = f"the key before, {old[-1].id.hex()}, opens until {iso(retire_ms)}; desks destroy it then"
    if dry_run:
        answer(
            {"group": group_name, "first_use": iso(first_use_ms), "retire": iso(retire_ms)}, [until], as_json=as_json
        )
        return
    _write_sheets(key, half_1, half_2)
    say(until)
    _tell(key, "courier key made", as_json=as_json)


@group.command("print")
def print_again(
    keystore: DeskKeys,
    key_id: KeyId,
    half_1: Half1,
    half_2: Half2,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Write two new sheets of a key, when a sheet was lost on its way. Sheets of two printings do not fit together.

    A sheet that was lost says nothing as long as the other half of its printing is not lost too.
    """
    paper.require_room(half_1, half_2)
    with open_keystore(keystore, passphrase_file) as store:
        key = _find(store, key_id)
    _write_sheets(key, half_1, half_2)
    _tell(key, "courier key printed", as_json=as_json)


@group.command("enter")
def enter(
    keystore: DeskKeys,
    half: Annotated[
        list[Path] | None, typer.Option("--half", help="File with a half; given twice. What is missing is asked for.")
    ] = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Put a key into a desk's keystore from its two sheets. An error in typing is found and its line named."""
    if len(half or []) > 2:
        raise UsageError("a key has two halves", hint="give --half twice")
    sheets = {sheet.number: sheet for sheet in map(paper.read, half or [])}
    if len(sheets) < len(half or []):
        raise UsageError(f"both files hold half {next(iter(sheets))}", hint="give the file with the other half")
    for number in (1, 2):
        if number not in sheets:
            sheets[number] = paper.ask(number)
    key = courier.join(sheets[1], sheets[2])
    with open_keystore(keystore, passphrase_file) as store:
        courier_store.keep(store, key)
    say("the key is in the keystore; destroy the sheets, or lock them away apart from each other")
    _tell(key, "courier key entered", as_json=as_json)


@group.command("list")
def show(keystore: DeskKeys, passphrase_file: PassphraseFile = None, as_json: Json = False) -> None:
    """Groups, ids and first uses of the keys in a keystore: nothing secret. Both sides compare the ids."""
    with open_keystore(keystore, passphrase_file) as store:
        keys = courier_store.held(store)
    stands = [
        one
        for name in dict.fromkeys(key.group for key in keys)
        for one in courier.describe([key for key in keys if key.group == name], now_ms=now_ms())
    ]
    answer(
        [
            {"group": key.group, "id": key.id.hex(), "first_use": iso(key.first_use_ms), "stands": how}
            for key, how in stands
        ],
        [f"{key.group} {key.id.hex()} first used {iso(key.first_use_ms)}: {how}" for key, how in stands],
        as_json=as_json,
    )


@group.command("forget")
def forget(
    keystore: DeskKeys,
    key_id: KeyId,
    passphrase_file: PassphraseFile = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Destroy a key in a keystore, for good. Desks do it by themselves once a key is no longer needed.

    What is under way under this key can no longer be opened at this desk.
    """
    with open_keystore(keystore, passphrase_file) as store:
        key = _find(store, key_id)
        say(f"courier key {key.id.hex()} of group {key.group}, first used {iso(key.first_use_ms)}")
        if not dry_run:
            if not yes:
                typer.confirm("destroy it?", abort=True, err=True)
            courier_store.forget(store, key)
            record.note("courier key destroyed", group=key.group, id=key.id.hex())
    answer({"group": key.group, "id": key.id.hex(), "destroyed": not dry_run}, [], as_json=as_json)


def _find(store: Keystore, key_id: str) -> CourierKey:
    wanted = key_id.replace(" ", "").lower()
    found = [key for key in courier_store.held(store) if wanted and key.id.hex().startswith(wanted)]
    if len(found) != 1:
        what = "several courier keys begin" if found else "no courier key begins"
        raise UsageError(f"{what} with {key_id}", hint="see `tocsin-keys courier list`")
    return found[0]


def _write_sheets(key: CourierKey, half_1: Path, half_2: Path) -> None:
    for sheet, path in zip(courier.split(key), (half_1, half_2), strict=True):
        paper.write(sheet, path)
    say("print both files, keep the sheets apart, destroy the files; whoever has both halves has the key")


def _tell(key: CourierKey, what: str, *, as_json: bool) -> None:
    record.note(what, group=key.group, id=key.id.hex())
    facts = {"group": key.group, "id": key.id.hex(), "first_use": iso(key.first_use_ms)}
    answer(facts, [f"group {key.group}, key {key.id.hex()}, first use {iso(key.first_use_ms)}"], as_json=as_json)
