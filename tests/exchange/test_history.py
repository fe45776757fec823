"""What a log that continues another must begin with, and what of the old one it may not deny."""

from collections.abc import Callable, Sequence

import pytest

from exchange import checkpoint, history
from exchange.checkpoint import Checkpoint
from exchange.errors import LogForkError, LogRollbackError, ProofError
from exchange.evidence.build import path_of
from exchange.history import Seen, continued, require_continues, require_extends
from exchange.merkle import root_of
from exchange.v1 import exchange_pb2 as pb
from keys import suite

NODE, OTHER = "kr.x-1", "nl.y-1"
KEY = suite.SigningKey.generate(suite.DESK_SUITE)
LEAVES = [bytes([n]) * 32 for n in range(9)]


def seen(number: int, leaves: Sequence[bytes], *, node: str = NODE) -> Seen:
    note = checkpoint.sign(f"tocsin/{node}/{number}", len(leaves), root_of(leaves), KEY, name=node, time_ms=1)
    return Seen.of(note)


def verify(note: bytes) -> Checkpoint:
    return checkpoint.verify(note, KEY.suite, KEY.public, name=NODE)


def log_after(*heads: Seen, number: int = 2) -> tuple[Seen, list[pb.Entry]]:
    """A log that begins with heads, and its first entries."""
    leaves = [*(history.head_leaf(head.note) for head in heads), *LEAVES[:3]]
    entries = [
        pb.Entry(position=at, kind=pb.ENTRY_KIND_HEAD, data=head.note, leaf=leaves[at], proof=path_of(leaves, at))
        for at, head in enumerate(heads)
    ]
    at = len(heads)
    entries.append(pb.Entry(position=at, kind=pb.ENTRY_KIND_ENVELOPE, leaf=leaves[at], proof=path_of(leaves, at)))
    return seen(number, leaves), entries


def test_a_log_begins_with_the_heads_it_continues() -> None:
    second, first = seen(2, LEAVES[:4]), seen(1, LEAVES[:6])
    shown, entries = log_after(second, first, number=3)
    assert continued(shown.head, entries, verify=verify) == [second.head, first.head]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda entries: entries.pop(0),
        lambda entries: entries.clear(),
        lambda entries: setattr(entries[0], "data", seen(1, LEAVES[:5]).note),
        lambda entries: setattr(entries[0], "leaf", LEAVES[0]),
        lambda entries: entries[0].ClearField("proof"),
        lambda entries: setattr(entries[0], "position", 1),
        lambda entries: setattr(entries[0], "kind", pb.ENTRY_KIND_ENVELOPE),
    ],
)
def test_a_log_that_begins_otherwise_is_none(spoil: Callable[[list[pb.Entry]], object]) -> None:
    shown, entries = log_after(seen(1, LEAVES[:6]))
    assert continued(shown.head, entries, verify=verify)
    spoil(entries)
    with pytest.raises(ProofError):
        continued(shown.head, entries, verify=verify)


def test_the_head_of_another_node_or_key_continues_nothing() -> None:
    shown, entries = log_after(seen(1, LEAVES[:6], node=OTHER))
    with pytest.raises(ProofError):
        continued(shown.head, entries, verify=verify)
    # Though the same key signed it.
    with pytest.raises(ProofError, match="does not begin with"):
        continued(shown.head, entries, verify=lambda note: checkpoint.verify(note, KEY.suite, KEY.public, name=OTHER))


def continues(before: Seen | None, *heads: Seen, number: int = 2) -> None:
    shown, entries = log_after(*heads, number=number)
    require_continues(before, shown, continued(shown.head, entries, verify=verify))


def test_what_was_seen_is_not_denied() -> None:
    before = seen(1, LEAVES[:6])
    continues(before, before)
    continues(None, before)
    # Nobody can prove that it extends: it is the node's word, to be held against any other head.
    continues(before, seen(1, LEAVES[:8]))
    continues(before, seen(2, LEAVES[:2]), before, number=3)


@pytest.mark.parametrize(
    ("said", "rule"),
    [
        ([seen(1, LEAVES[:5])], LogRollbackError),
        ([seen(1, LEAVES[3:9])], LogForkError),
        ([seen(2, LEAVES[:8])], LogForkError),
    ],
)
def test_what_was_seen_is_denied(said: list[Seen], rule: type[Exception]) -> None:
    before = seen(1, LEAVES[:6])
    with pytest.raises(rule):
        continues(before, *said, number=3)


@pytest.mark.parametrize("number", [1, 2])
def test_no_log_is_opened_again(number: int) -> None:
    with pytest.raises(LogRollbackError):
        require_continues(seen(2, LEAVES[:6]), seen(number, LEAVES[:6]), [seen(1, LEAVES[:6]).head])


@pytest.mark.parametrize(
    "heads",
    [
        [seen(1, LEAVES[:6]), seen(1, LEAVES[:8])],
        [seen(1, LEAVES[:8]), seen(1, LEAVES[:6])],
        [seen(1, LEAVES[:6]), seen(1, LEAVES[:6])],
        [seen(1, LEAVES[:6]), seen(2, LEAVES[:2])],
        [seen(3, LEAVES[:2]), seen(1, LEAVES[:6])],
    ],
)
def test_a_log_says_once_where_each_log_before_it_ended_the_latest_first(heads: list[Seen]) -> None:
    shown, entries = log_after(*heads, number=3)
    with pytest.raises(ProofError, match="one head of each log before it"):
        continued(shown.head, entries, verify=verify)


def test_a_later_log_does_not_extend_an_earlier_one_and_an_earlier_one_is_over() -> None:
    before, after = seen(1, LEAVES[:6]), seen(2, LEAVES[:6])
    with pytest.raises(LogForkError):
        require_extends(before, after, ())
    with pytest.raises(LogRollbackError):
        require_extends(after, before, ())
