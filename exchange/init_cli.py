"""What `tocsin node init` and `tocsin desk init` share: the lineage, the token for a new key, the words to compare."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from exchange import files
from exchange.clock import now_ms
from exchange.documents_cli import bundle_in
from keys import documents, words
from keys.errors import UsageError
from keys.pkcs11 import Token
from keys.signer import InToken, read_pin
from keys.v1 import documents_pb2 as pb

err: Final = Console(stderr=True)

Lineage = Annotated[
    str | None, typer.Option(help="Digest of the first agreement, 64 hex digits or 24 words; or give --bundle.")
]
InitBundle = Annotated[
    Path | None,
    typer.Option("--bundle", help="Documents from the ministry; the lineage is taken from them, and its words shown."),
]
Module = Annotated[
    str | None, typer.Option("--module", help="Keep the signing key in a token: whole path of its PKCS#11 library.")
]
TokenLabel = Annotated[str | None, typer.Option("--token", help="Label of the token.")]
PinFile = Annotated[
    Path | None, typer.Option("--pin-file", help="File with the PIN of the token, mode 0600; read at each start.")
]


@contextlib.contextmanager
def token_for_key(module: str | None, label: str | None, pin_file: Path | None) -> Iterator[InToken | None]:
    """The token a new key is to be made in, open; None when the key stays in the keystore."""
    if module is None and label is None and pin_file is None:
        yield None
        return
    if module is None or label is None or pin_file is None:
        raise UsageError("a key in a token needs --module, --token and --pin-file", hint="give all three, or none")
    path = pin_file.resolve()
    with Token.open(module, label, read_pin(path)) as opened:
        yield InToken(opened, str(path))
        rest = (
            " and the ML-DSA half" if opened.offers_mldsa else "; the ML-DSA half, which it does not offer, in the file"
        )
        err.print(f"in token {label}: the Ed25519 half{rest}")


def lineage_of(text: str | None, bundle: Path | None) -> str:
    """The lineage as 64 digits: as given, and as the bundle has it."""
    given = words.read(text) if text is not None else None
    if bundle is None:
        if given is None:
            raise UsageError("which exchange is it?", hint="give --bundle FILE from the ministry, or --lineage")
        return given.hex()
    held = [documents.decode(data) for data in files.load_bundle(bundle_in(bundle))]
    firsts = [d.digest for d in held if (a := documents.peek(d)) and isinstance(a, pb.Agreement) and a.version == 1]
    if len(firsts) != 1 or (given is not None and firsts != [given]):
        raise UsageError(
            f"{bundle} does not hold the first agreement of this exchange", hint="compare the fingerprints"
        )
    trust, refused = files.load_trust(bundle_in(bundle), firsts[0], now_ms=now_ms())
    if not trust.founded:
        raise refused[0] if refused else UsageError(f"{bundle} holds no agreement that can be taken")
    show_words("lineage; compare with the words of the ceremony", firsts[0])
    return firsts[0].hex()


def keep_bundle(bundle: Path | None, directory: Path) -> None:
    """Put the ministry's documents, if there are any, where the node or desk looks for them."""
    if bundle is not None:
        files.save_bundle(directory / files.BUNDLE, [documents.decode(data) for data in files.load_bundle(bundle)])


def show_words(what: str, digest: bytes) -> None:
    """A digest, 32 bytes, as people compare it."""
    err.print(f"{what}, as words:")
    for row in words.rows(digest):
        err.print(f"  {row}", highlight=False)
