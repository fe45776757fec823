"""Small files both node and desk keep: settings, a bundle of documents, private directories."""

import os
import tomllib
from collections.abc import Iterable
from itertools import zip_longest
from pathlib import Path
from typing import Final, TypeVar

from google.protobuf.message import DecodeError
from pydantic import BaseModel, ConfigDict, ValidationError

from keys import documents
from keys.documents import Document
from keys.errors import TocsinError, UsageError
from keys.trust import Trust
from keys.v1 import documents_pb2 as docs

S = TypeVar("S", bound="Settings")
BUNDLE: Final = "documents.bundle"
MAX_BUNDLE_BYTES: Final = 64 * 1024 * 1024


class Settings(BaseModel):
    """A TOML file; unknown keys are refused, so that a typing error is not silence."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def load_settings(kind: type[S], path: Path) -> S:
    """Read settings.

    Raises:
        UsageError: Names the file and the setting.
    """
    try:
        return kind.model_validate(tomllib.loads(path.read_text()))
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist", hint="run the init command first, or check the path") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def save_settings(settings: Settings, path: Path) -> None:
    """Write settings as TOML; strings, integers and lists of strings are all there is."""
    lines = []
    for name, value in settings.model_dump().items():
        if isinstance(value, list):
            lines.append(f"{name} = [{', '.join(_quote(item) for item in value)}]")
        else:
            lines.append(f"{name} = {_quote(value) if isinstance(value, str) else value}")
    path.write_text("\n".join(lines) + "\n")


def passphrase(path: Path | None) -> bytes:
    """The passphrase of a keystore from a file, without the end of its line; empty without a file: a key file opens it.

    Raises:
        UsageError: The file cannot be read, or is empty and would leave a new keystore without a passphrase.
    """
    if path is None:
        return b""
    try:
        found = path.read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise UsageError(f"cannot read the passphrase: {error}", hint="check --passphrase-file") from None
    if not found:
        raise UsageError(f"{path} is empty", hint="put a passphrase into it, or leave out --passphrase-file")
    return found


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def private_directory(path: Path) -> Path:
    """Make a directory only its owner can read."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
    return path


def save_private(path: Path, data: bytes) -> None:
    """Write a file only its owner can read; replaces the file in one step.

    Raises:
        UsageError: It cannot be written.
    """
    fresh = path.with_name(path.name + ".new")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error}") from None


def save_bundle(path: Path, held: Iterable[Document], *, taken_ms: Iterable[int] = ()) -> None:
    """Write documents, in the order in which they can be taken; replaces the file in one step.

    Args:
        path: The file.
        held: The documents.
        taken_ms: When each came, ms UTC, for a machine's own file.
    """
    data = docs.Bundle(documents=[d.encode() for d in held], taken_ms=taken_ms).SerializeToString()
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def load_bundle(path: Path) -> list[bytes]:
    """Encoded documents of a bundle; unverified."""
    return list(_read_bundle(path).documents)


def load_documents(path: Path) -> list[bytes]:
    """Encoded documents of a file that holds one, or a bundle of them; no signature is checked.

    Raises:
        UsageError: No such file, or it is neither.
    """
    if not path.exists():
        raise UsageError(f"{path} does not exist")
    if path.stat().st_size > MAX_BUNDLE_BYTES:
        raise UsageError(f"{path} is larger than {MAX_BUNDLE_BYTES} bytes")
    data = path.read_bytes()
    try:
        return [documents.decode(data).encode()]
    except TocsinError:
        pass
    bundle = docs.Bundle()
    try:
        bundle.ParseFromString(data)
        found = [documents.decode(each).encode() for each in bundle.documents]
    except (DecodeError, TocsinError):
        found = []
    if not found:
        raise UsageError(f"{path} is neither a document nor a bundle of them", hint="is it the right file?")
    return found


def _read_bundle(path: Path) -> docs.Bundle:
    bundle = docs.Bundle()
    if path.exists():
        if path.stat().st_size > MAX_BUNDLE_BYTES:
            raise UsageError(f"{path} is larger than {MAX_BUNDLE_BYTES} bytes")
        bundle.ParseFromString(path.read_bytes())
    return bundle


def load_trust(path: Path, lineage: bytes, *, now_ms: int) -> tuple[Trust, list[TocsinError]]:
    """A Trust from a bundle, and what of it was refused: a status or card that is too old by now, for example."""
    trust = Trust(lineage)
    refused = []
    bundle = _read_bundle(path)
    for data, taken_ms in zip_longest(bundle.documents, bundle.taken_ms[: len(bundle.documents)]):
        try:
            trust.take(documents.decode(data), now_ms=now_ms, taken_ms=taken_ms)
        except TocsinError as error:
            refused.append(error)
    return trust, refused
