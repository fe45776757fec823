"""What is signed is said: every field an agreement can have shows in its words and in the difference."""

import pytest
from google.protobuf.message import Message

from keys import documents, terms
from keys.v1 import documents_pb2 as pb
from tests.world import world

# Numbers of the chain, which the signer sees as version and digest.
CHAIN = {"lineage", "version", "previous"}


def full() -> pb.Agreement:
    body = documents.body(world().agreement, pb.Agreement)
    body.dead_lineages.append(bytes(32))
    rule = body.channels[0]
    rule.courier_group, rule.retention_ms = "bag", 5
    rule.publish[0].party, rule.publish[0].mission = "kr", "kr.motie"
    rule.read[0].who.party, rule.read[0].who.mission = "kr", "kr.motie"
    return body


def leaves(message: Message, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Paths of every scalar field, through the first element of every list."""
    found = []
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.is_repeated:
            if field.message_type is None:
                found.append((*path, field.name, 0))
            else:
                found += leaves(value[0], (*path, field.name, 0))
        elif field.message_type is not None:
            found += leaves(value, (*path, field.name))
        else:
            found.append((*path, field.name))
    return found


def change(message: Message, path: tuple[str | int, ...]) -> None:
    *way, last = path
    place = message
    for step in way:
        place = place[step] if isinstance(step, int) else getattr(place, step)  # type: ignore[index]
    old = place[last] if isinstance(last, int) else getattr(place, last)  # type: ignore[index]
    new = (
        not old
        if isinstance(old, bool)
        else old + (1 if isinstance(old, int) else type(old)(b"x") if isinstance(old, bytes) else "x")
    )
    if isinstance(last, int):
        place[last] = new  # type: ignore[index]
    else:
        setattr(place, last, new)


PATHS = [path for path in leaves(full()) if path[0] not in CHAIN]


def test_the_walk_reaches_all_fields() -> None:
    assert {path[-1] for path in PATHS} >= {"courier_group", "desks", "first_party", "drill", "highest", "gap_wait_ms"}
    assert len(PATHS) > 25


@pytest.mark.parametrize("path", PATHS, ids=lambda path: ".".join(map(str, path)))
def test_no_field_is_signed_unread(path: tuple[str | int, ...]) -> None:
    old, new = full(), full()
    change(new, path)
    assert terms.diff(old, old) == []
    assert terms.diff(old, new) != []
    assert terms.describe(old) != terms.describe(new)


def test_a_channel_that_comes_or_goes_is_said() -> None:
    old, new = full(), full()
    del new.channels[0]
    name = old.channels[0].channel
    assert terms.diff(old, new)[0] == f"{name}: the channel ends"
    assert terms.diff(new, old)[0] == f"{name}: the channel is new"
    assert any(line.startswith(f"{name}: courier key bag") for line in terms.diff(new, old))


def test_bare_channels_and_values_of_newer_versions() -> None:
    body = pb.Agreement(channels=[pb.ChannelRule(channel="x")], caps=[pb.DeskCap(kind=99, desks=1)])  # type: ignore[arg-type]
    body.channels[0].read.add(highest=77).who.kind = 99  # type: ignore[arg-type, assignment]
    words = terms.describe(body)
    assert "x: kind 99 missions of every party may read up to marking 77" in words
    assert terms.diff(pb.Agreement(), body)[0] == "x: the channel is new"


@pytest.mark.parametrize(
    ("ms", "words"),
    [
        (0, "0"),
        (1, "1 ms"),
        (1000, "1 s"),
        (72 * 3_600_000, "72 h"),
        (14 * 86_400_000, "14 d"),
        (90_000, "90 s"),
        (20_170 * 60_000, "14 d 10 m"),
        (1500, "1 s 500 ms"),
        (4001, "4 s 1 ms"),
    ],
)
def test_durations(ms: int, words: str) -> None:
    assert terms.duration(ms) == words


def test_moments_of_any_size() -> None:
    assert terms.moment(1_790_000_000_001) == "2026-09-21 14:13:20.001 UTC"
    assert terms.moment(0) == "never"
    assert "ms after 1970" in terms.moment(2**63)
