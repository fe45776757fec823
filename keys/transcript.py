"""The record of a ceremony: JSON Lines, each bound to the one before by its hash. No I/O, no clock.

Whoever has the last hash, read out as words when the ceremony ends, can show later that no line was changed, added
or left out.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from keys.encoding import digest, pae
from keys.errors import PeerError

MAX_BYTES: Final = 16 * 1024 * 1024
_FIELDS: Final = {"n", "time_ms", "what", "facts", "previous"}
START: Final = bytes(32)
"""What the first line names as the hash before it."""


class TranscriptError(PeerError):
    """A transcript whose chain does not hold."""

    status, reason = "FAILED_PRECONDITION", "CEREMONY_TRANSCRIPT"
    hint = "compare with the paper copy; go on with a new transcript that says why"


@dataclass(frozen=True, slots=True)
class Line:
    """One event; `hash` covers it and, through `previous`, every line before."""

    n: int
    time_ms: int
    what: str
    facts: Mapping[str, str]
    previous: bytes
    hash: bytes


def line_hash(line: bytes) -> bytes:
    """H(PAE("tocsin/1/transcript", line)), the line without its line end."""
    return digest(pae("tocsin/1/transcript", line))


def next_line(lines: list[Line], what: str, facts: Mapping[str, str], *, now_ms: int) -> bytes:
    """The bytes to append, with their line end."""
    value = {
        "n": len(lines) + 1,
        "time_ms": now_ms,
        "what": what,
        "facts": dict(facts),
        "previous": head(lines).hex(),
    }
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"


def head(lines: list[Line]) -> bytes:
    """The hash that stands for the whole transcript."""
    return lines[-1].hash if lines else START


def complete(data: bytes) -> bytes:
    """What power loss left whole: the part up to the last line end."""
    return data[: data.rfind(b"\n") + 1]


def parse(data: bytes) -> list[Line]:
    """Every line, checked.

    Raises:
        TranscriptError: Names the first line that does not follow from the one before.
    """
    if len(data) > MAX_BYTES:
        raise TranscriptError(f"a transcript of {len(data)} bytes; at most {MAX_BYTES}")
    lines: list[Line] = []
    for raw in complete(data).splitlines():
        number = len(lines) + 1
        try:
            value = json.loads(raw)
            line = Line(
                value["n"],
                value["time_ms"],
                value["what"],
                value["facts"],
                bytes.fromhex(value["previous"]),
                line_hash(raw),
            )
            sound = value.keys() == _FIELDS and line.n == number and line.previous == head(lines)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise TranscriptError(f"line {number} of the transcript is not one of ours") from None
        if not sound:
            raise TranscriptError(f"line {number} of the transcript does not follow from the one before", line=number)
        lines.append(line)
    return lines
