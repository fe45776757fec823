"""The transcript of the ceremony under way: what a command did is noted in it when one is kept."""

from pathlib import Path
from typing import Final

from keys import transcript
from keys.ceremony import AlteredError
from keys.cli import files
from keys.cli.terminal import now_ms

_kept: Final[list[Path]] = []
"""The transcript of this process, none or one."""


def keep(path: Path | None) -> None:
    """Note what this process does in the transcript at `path`."""
    _kept.clear()
    if path is not None:
        _kept.append(path)


def lines() -> list[transcript.Line]:
    """The transcript so far.

    Raises:
        TranscriptError: Its chain does not hold.
    """
    if not _kept or not _kept[0].exists():
        return []
    return transcript.parse(files.read(_kept[0], transcript.MAX_BYTES))


def note(what: str, **facts: str) -> None:
    """Append an event; synced when this returns."""
    for path in _kept:
        files.append(
            path,
            lambda held: transcript.next_line(transcript.parse(held), what, facts, now_ms=now_ms()),
            limit=transcript.MAX_BYTES,
            whole=transcript.complete,
        )


def require_shown(subject: str, digest: bytes) -> None:
    """Refuse a document that is not the one the transcript says was shown last under that name.

    Raises:
        AlteredError: Another one was shown.
    """
    shown = [line for line in lines() if line.what == "shown" and line.facts.get("document") == subject]
    if shown and shown[-1].facts.get("digest") != digest.hex():
        raise AlteredError(
            f"the {subject} to sign is not the one shown before: it was altered in between",
            shown=shown[-1].facts.get("digest"),
            found=digest.hex(),
        )
