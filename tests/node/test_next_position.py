"""A following node holds its place in a peer's log within what the peer's checkpoint covers (PROTOCOL 9.2)."""

import pytest

from exchange import checkpoint
from exchange.errors import ProofError
from exchange.node.app import App
from exchange.v1 import exchange_pb2 as pb
from tests.node.cluster import NODES, eventually

KR, NL = NODES


@pytest.mark.parametrize("beyond", [1, 2**62, -1])
async def test_a_peer_that_counts_beyond_its_checkpoint_or_backwards_is_not_followed_there(
    both: tuple[App, App], beyond: int
) -> None:
    kr, nl = both
    origin = f"tocsin/{KR}/1"
    await eventually(lambda: nl._followers[KR][0].position == kr.node.store.size())
    follower = nl._followers[KR][0]
    note, before = kr.node.checkpoint, follower.position
    size = checkpoint.parse(note).size
    answer = pb.SubscribeResponse(checkpoint=note, next_position=size + beyond)
    with pytest.raises(ProofError, match="beyond its own checkpoint, or backwards"):
        await follower._take(None, origin, answer)  # type: ignore[arg-type]
    assert (follower.position, nl.node.store.cursor(origin)) == (before, before)
    answer.next_position = size
    await follower._take(None, origin, answer)  # type: ignore[arg-type]
    assert follower.position == size
