"""Pages of documents: none is left out, whatever comes and goes between two of them."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.errors import LimitError
from exchange.node import paging
from keys import documents
from keys.documents import Document
from keys.v1 import documents_pb2 as pb
from tests.chains import next_status
from tests.world import World


def document(number: int, size: int = 0) -> Document:
    return documents.make(pb.Renunciation(time_ms=number, reason="x" * size))


@given(
    st.integers(0, 30),
    st.integers(1, 9),
    # After a page one leaves its place, and at times another one comes to the end, as statuses do.
    st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=12),
)
def test_what_stays_is_given(count: int, most: int, changes: list[tuple[int, bool]]) -> None:
    held = [document(n) for n in range(count)]
    stays, seen, token, left = set(held), set(), "", iter(changes)
    # Each another one: of two alike the pages would begin at the first, for ever.
    fresh = itertools.count(100)
    while True:
        page, token = paging.page(held, token, most=most)
        assert len(page) <= most
        seen |= set(page)
        if not token:
            break
        for place, comes in [change] if (change := next(left, None)) else []:
            if place < len(held):
                stays.discard(held.pop(place))
            if comes:
                held.append(document(next(fresh)))
    assert stays <= seen


def test_a_page_has_a_size() -> None:
    held = [document(n, size=paging.PAGE_BYTES // 4) for n in range(10)]
    page, token = paging.page(held, "", most=0)
    assert page == held[:3]
    assert paging.page(held, token, most=0)[0] == held[3:6]


@pytest.mark.parametrize("token", ["5", "x" * 64, "ab", "A" * 64])
def test_a_token_of_somebody_else(token: str) -> None:
    with pytest.raises(LimitError, match="token"):
        paging.page([document(1)], token, most=5)


def test_a_status_that_comes_between_two_pages(world: World) -> None:
    trust = world.trust()
    before = trust.documents()
    page, token = paging.page(before, "", most=len(before) - 1)
    trust.take(next_status(world, "kr"), now_ms=world.now_ms)
    rest, _ = paging.page(trust.documents(), token, most=0)
    assert set(before) & set(trust.documents()) <= {*page, *rest}
    assert trust.documents()[-1] in rest
