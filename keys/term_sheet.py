"""The term sheet: a readable file of terms -> the body of an agreement, or which line of it is wrong. No I/O, no clock.

The file is TOML; keys/cli/agreement.toml explains every key of it. A key nobody explained is refused: a typing error in
an agreement must not be silence.
"""

import re
import tomllib
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from keys import terms
from keys.errors import UsageError
from keys.v1 import documents_pb2 as pb

_HEADER: Final = re.compile(r"^\s*\[\s*([^\[\]]+?)\s*\]")
_KEY: Final = re.compile(r"""^\s*(?:"([^"]*)"|'([^']*)'|([A-Za-z0-9_.-]+))\s*=""")
_PARTY: Final = re.compile(r"[a-z]{2}")
_MISSION: Final = re.compile(r"[a-z]{2}\.[a-z0-9.-]+")
_CHANNEL: Final = re.compile(r"[a-z0-9-]{1,64}")
_GOVERNMENT: Final = ("embassy", "consulate", "ministry", "agency")


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Bounds(_Table):
    revocation: str
    lifetime: str
    skew: str
    hold: str
    grace: str | None = None
    stop_when_stale: bool = False


class _Channel(_Table):
    publish: list[str]
    read: dict[str, str]
    cadence: str = "0s"
    retention: str = "0s"
    acknowledge: bool = False
    courier_group: str = ""
    gap_wait: str = "0s"


class _Terms(_Table):
    title: str
    expire: datetime | str
    bounds: _Bounds
    channels: dict[str, _Channel]
    effective: datetime | None = None
    caps: dict[str, int] = {}
    suites: list[int]
    protocols: list[int]
    drill: bool = False


def parse(text: str, *, name: str, now_ms: int) -> pb.Agreement:
    """The terms as an agreement of version 1 without its parties.

    Args:
        text: The file.
        name: What the file is called, for errors.
        now_ms: When it takes effect unless it says so itself, ms UTC.

    Raises:
        UsageError: Names the file, the line and the key.
    """
    try:
        read = _Terms.model_validate(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{name}: {error}", hint="compare with `tocsin-keys agreement example`") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise _wrong(text, name, [str(part) for part in first["loc"]], _words(first)) from None
    try:
        return _body(read, now_ms)
    except _BadValueError as error:
        raise _wrong(text, name, error.path, error.text) from None


class _BadValueError(Exception):
    """A value that does not mean anything, and where it stands."""

    def __init__(self, path: list[str], text: str) -> None:
        super().__init__(text)
        self.path, self.text = path, text


def _body(read: _Terms, now_ms: int) -> pb.Agreement:
    bounds = read.bounds
    for what, numbers in (("suites", read.suites), ("protocols", read.protocols)):
        if any(not 0 < number < 2**32 for number in numbers):
            raise _BadValueError([what], "are numbers above 0")
    body = pb.Agreement(
        version=1,
        title=read.title,
        suites=sorted(read.suites),
        protocols=sorted(read.protocols),
        stop_when_stale=bounds.stop_when_stale,
        drill=read.drill,
    )
    if not read.title.isprintable():
        raise _BadValueError(["title"], "is one line of printable characters")
    body.revocation_ms = _ms(bounds.revocation, "bounds", "revocation")
    body.lifetime_ms = _ms(bounds.lifetime, "bounds", "lifetime")
    body.skew_ms = _ms(bounds.skew, "bounds", "skew")
    body.hold_ms = _ms(bounds.hold, "bounds", "hold")
    least = body.lifetime_ms + 2 * body.skew_ms
    body.grace_ms = least if bounds.grace is None else _ms(bounds.grace, "bounds", "grace")
    if body.grace_ms < least:
        raise _BadValueError(["bounds", "grace"], f"is at least L + 2S, {terms.duration(least)}")
    body.effective_time_ms = now_ms if read.effective is None else _time(read.effective, "effective")
    if isinstance(read.expire, str):
        body.expire_time_ms = body.effective_time_ms + _ms(read.expire, "expire")
    else:
        body.expire_time_ms = _time(read.expire, "expire")
    for kind, count in read.caps.items():
        if kind not in terms.KINDS or not 0 < count < 2**32:
            raise _BadValueError(["caps", kind], f"is a number for one of {', '.join(terms.KINDS)}")
    for kind, number in terms.KINDS.items():
        if kind in read.caps:
            body.caps.add(kind=number, desks=read.caps[kind])
    for channel in sorted(read.channels):
        if not _CHANNEL.fullmatch(channel):
            raise _BadValueError(["channels", channel], "is no channel: lower-case letters, digits and hyphens")
        _fill(body.channels.add(channel=channel), read.channels[channel], ["channels", channel])
    return body


def _fill(rule: pb.ChannelRule, read: _Channel, path: list[str]) -> None:
    for text in read.publish:
        rule.publish.extend(_selectors(text, [*path, "publish"]))
    for text, marking in read.read.items():
        if marking not in terms.MARKINGS:
            raise _BadValueError([*path, "read"], f"{marking!r} is none of {', '.join(terms.MARKINGS)}")
        for selector in _selectors(text, [*path, "read"]):
            rule.read.add(who=selector, highest=terms.MARKINGS[marking])
    rule.cadence_ms = _ms(read.cadence, *path, "cadence")
    rule.retention_ms = _ms(read.retention, *path, "retention")
    rule.gap_wait_ms = _ms(read.gap_wait, *path, "gap_wait")
    rule.acknowledge, rule.courier_group = read.acknowledge, read.courier_group


def _selectors(text: str, path: list[str]) -> Iterable[pb.Selector]:
    """The missions a text chooses: "everyone", a kind, "government", a party, a party and a kind, or a mission."""
    if text == "everyone":
        return [pb.Selector()]
    if _MISSION.fullmatch(text):
        return [pb.Selector(mission=text)]
    first, _, second = text.partition(" ")
    party, kind = (first, second) if _PARTY.fullmatch(first) else ("", text)
    if not kind:
        return [pb.Selector(party=party)]
    if kind == "government":
        return [pb.Selector(party=party, kind=terms.KINDS[each]) for each in _GOVERNMENT]
    if kind in terms.KINDS:
        return [pb.Selector(party=party, kind=terms.KINDS[kind])]
    raise _BadValueError(
        path,
        f"{text!r} chooses no missions; one of everyone, government, {', '.join(terms.KINDS)}, a"
        " party, a party and a kind, or a mission",
    )


def _ms(text: str, *path: str) -> int:
    try:
        return terms.milliseconds(text)
    except UsageError:
        raise _BadValueError(list(path), f"{text!r} is no length of time, such as 90s, 5m, 72h or 14d") from None


def _time(value: datetime, *path: str) -> int:
    if value.tzinfo is None:
        raise _BadValueError(list(path), "names no time zone; write 2027-01-01T00:00:00Z")
    ms = round(value.timestamp() * 1000)
    if ms <= 0:
        raise _BadValueError(list(path), "is before 1970")
    return ms


def _words(error: Any) -> str:
    return {
        "extra_forbidden": "is no key of an agreement: a typing error?",
        "missing": "is missing",
    }.get(error["type"], f"is wrong: {error['msg']}")


def _wrong(text: str, name: str, path: list[str], what: str) -> UsageError:
    # pydantic adds the branch of a union to the path; it stands in no file.
    path = [part for part in path if part not in ("datetime", "str")]
    line = _line_of(text, path)
    where = f"{name}, line {line}" if line else name
    return UsageError(f"{where}: {'.'.join(path)} {what}", hint="compare with `tocsin-keys agreement example`")


def _line_of(text: str, path: list[str]) -> int:
    """The line a key stands in, or that of the nearest table around it; 0 when neither is found."""
    here: list[str] = []
    best, nearest = 0, 0
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            here = [part.strip(" \"'") for part in header[1].split(".")]
            depth = len(here) if path[: len(here)] == here else 0
        elif key := _KEY.match(line):
            full = [*here, key[1] or key[2] or key[3]]
            depth = len(full) if path[: len(full)] == full else 0
        else:
            continue
        if depth > nearest:
            best, nearest = number, depth
    return best
