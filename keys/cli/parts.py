"""The public part of a holder's key: a small text file that travels from the holder's machine to whoever drafts."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from keys import founding, suite
from keys.cli import files
from keys.errors import TocsinError, UsageError
from keys.holders import ROLES
from keys.trust.names import name_ok
from keys.v1 import documents_pb2 as pb

FORMAT: Final = "tocsin part 1"
MAX_PART_BYTES: Final = 64 * 1024
_FIELDS: Final = {"format", "party", "role", "holder", "suite", "key", "possession"}


@dataclass(frozen=True, slots=True)
class Part:
    """Who holds the key, and the key with its proof of possession."""

    party: str
    role: str
    holder: str
    key: pb.PublicKey

    @property
    def identity(self) -> bytes:
        """Identity of the key, 32 bytes."""
        return suite.key_id(self.key.suite, self.role, self.key.key)

    def encode(self) -> bytes:
        """As a file."""
        return (
            json.dumps(
                {
                    "format": FORMAT,
                    "party": self.party,
                    "role": self.role,
                    "holder": self.holder,
                    "suite": self.key.suite,
                    "key": self.key.key.hex(),
                    "possession": self.key.possession.hex(),
                },
                indent=1,
            ).encode()
            + b"\n"
        )


def require_name(name: str, what: str) -> str:
    """A party's, holder's or desk's name.

    Raises:
        UsageError: Capitals, spaces, or too long.
    """
    if not name_ok(name):
        raise UsageError(f"{what} {name!r} is no name", hint="lower-case letters, digits, - . and /, at most 64 bytes")
    return name


def load(path: Path, *, lineage: bytes = b"") -> Part:
    """Read and verify a part.

    Args:
        path: The file.
        lineage: Of the exchange the key is for; empty before the first agreement.

    Raises:
        UsageError: Not a part.
        TocsinError: A bad key, or no proof that its maker holds it.
    """
    part = _parse(files.read(path, MAX_PART_BYTES), path)
    try:
        suite.check_signing_key(part.key.suite, part.key.key)
        suite.check_possession(
            part.key.suite,
            part.key.key,
            part.key.possession,
            lineage=lineage,
            party=part.party,
            name=part.holder,
            role=part.role,
        )
    except TocsinError as error:
        error.args = (f"{path}: {error}",)
        raise
    return part


def is_part(data: bytes) -> bool:
    """Whether a file looks like a part, to choose how to read it."""
    return data.lstrip().startswith(b"{") and FORMAT.encode() in data


def _parse(data: bytes, path: Path) -> Part:
    try:
        value = json.loads(data)
        if value.keys() != _FIELDS or value["format"] != FORMAT:
            raise ValueError
        part = Part(
            require_name(value["party"], "party"),
            value["role"],
            require_name(value["holder"], "holder"),
            pb.PublicKey(
                suite=value["suite"], key=bytes.fromhex(value["key"]), possession=bytes.fromhex(value["possession"])
            ),
        )
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        raise UsageError(f"{path} is not the public part of a key", hint="is it the right file?") from None
    if part.role not in ROLES or part.key.suite != founding.ROLE_SUITES[part.role]:
        raise UsageError(f"{path} is a part of no role, or of a suite its role does not use")
    return part
