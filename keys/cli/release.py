"""What `plan apply` and `incident` share: the keys at hand, drafts that wait for signatures, the bundle replaced at once."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from keys import release, suite
from keys.cli import book as books
from keys.cli import files, record, signing
from keys.cli.terminal import load_key, open_keystore
from keys.documents import Document
from keys.errors import UsageError
from keys.trust import Trust
from keys.v1 import documents_pb2 as pb

Bundle = Annotated[
    Path, typer.Option("--bundle", help="The party's documents; replaced in one step by those with the new ones.")
]
Keystores = Annotated[
    list[Path] | None, typer.Option("--keystore", help="A keystore with keys that may sign; may be given again.")
]
Signed = Annotated[
    list[Path] | None,
    typer.Option("--signed", help="A copy of a waiting draft that a holder signed elsewhere; may be given again."),
]
CopyTo = Annotated[
    list[Path] | None,
    typer.Option("--copy-to", help="Also write the bundle here, such as a node's documents.bundle; may be repeated."),
]
DRAFT: str = ".draft"


@dataclass(frozen=True, slots=True)
class Desk:
    """Where drafts wait: files called after what they belong to and their slot."""

    base: Path

    def drafts(self, signed: Sequence[Path]) -> dict[str, Document]:
        """The drafts that wait, by slot, with every signature brought in.

        Raises:
            UsageError: A signed copy of none of them.
        """
        found = {self._slot(path): _one(path) for path in sorted(self.base.parent.glob(f"{self.base.name}.*{DRAFT}"))}
        for path in signed:
            copy = _one(path)
            slot = next((slot for slot, draft in found.items() if draft.digest == copy.digest), None)
            if slot is None:
                raise UsageError(f"{path} is a copy of no draft that waits here", hint="sign the draft that is there")
            found[slot] = release.merge(found[slot], copy)
        return found

    def keep(self, drafts: dict[str, Document]) -> list[Path]:
        """Write the drafts that wait now; what waited before and no longer does is removed."""
        written = []
        for slot, draft in drafts.items():
            path = self.base.with_name(f"{self.base.name}.{slot}{DRAFT}")
            files.write(path, draft.encode(), fresh=False)
            written.append(path)
        for path in self.base.parent.glob(f"{self.base.name}.*{DRAFT}"):
            if path not in written:
                path.unlink()
        return written

    def _slot(self, path: Path) -> str:
        return path.name.removeprefix(f"{self.base.name}.").removesuffix(DRAFT)


def _one(path: Path) -> Document:
    held = files.load(path)
    if len(held) != 1:
        raise UsageError(f"{path} is a bundle, not one document", hint="give the signed copy itself")
    return held[0]


@contextmanager
def keys_of(
    paths: Sequence[Path], trust: Trust, passphrase_file: Path | None, *new: pb.RoleKeys
) -> Iterator[release.Sign]:
    """Signs with what the keystores hold of the parties' keys, and of `new` ones; nothing else in them is touched."""
    listed = {holder.key.key: holder.key.suite for keys in new for holder in keys.keys}
    for party in trust.parties:
        document = trust.party_document(party)
        for role in (document.root, document.roster, document.status):
            listed |= {holder.key.key: holder.key.suite for holder in role.keys}
    with ExitStack() as stack:
        found: list[suite.Signer] = []
        for path in paths:
            store = stack.enter_context(open_keystore(path, passphrase_file))
            own = [entry for entry in store.entries() if entry.public in listed]
            if not own:
                raise UsageError(f"{path} holds no key that may sign", hint="is it the right keystore, and party?")
            found += [load_key(store, entry.name, listed[entry.public]) for entry in own]
        yield release.at_hand(found)


def publish(bundle: Path, copies: Sequence[Path], trust: Trust, released: Sequence[Document]) -> None:
    """Write what was released: into the party's own bundle, then into its copies.

    In this order: were a copy first, a node could hold a document that a second run, after a cut, makes anew at the same
    number. Cut off in between, the next run brings the copies up, whatever it releases.
    """
    if released:
        files.save_bundle(bundle, list(trust.documents()), fresh=False)
        for document in released:
            record.note("published", document=signing.subject(document), digest=document.digest.hex())
    bring_up(copies, bundle)


def bring_up(copies: Sequence[Path], bundle: Path) -> None:
    """Give every copy what the bundle holds; one that is the same is not touched."""
    data = files.read(bundle, files.MAX_BUNDLE_BYTES) if copies else b""
    for path in copies:
        if not path.exists() or files.read(path, files.MAX_BUNDLE_BYTES) != data:
            files.write(path, data, fresh=False)


def load(bundle: Path, *, now_ms: int) -> Trust:
    """The documents of a bundle, verified.

    Raises:
        UsageError: No agreement in it.
    """
    return books.load([bundle], now_ms=now_ms).founded()
