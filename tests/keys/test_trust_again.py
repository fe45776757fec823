"""A document that comes twice: in many threads at once, as desks take them; or late, from a page made up before."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from threading import Barrier

import pytest

from keys import documents, suite
from keys.documents import Document
from keys.trust import Trust
from keys.v1 import documents_pb2 as pb
from tests.chains import next_roster, next_status
from tests.world import NOON, World, found

THREADS = 4


@pytest.fixture(scope="module")
def world() -> World:
    return found()


def in_all_threads(trust: Trust, document: Document) -> list[str]:
    """How each thread's taking ended, all of them at once."""

    def take(_: int) -> str:
        try:
            return str(trust.take(document, now_ms=NOON).new)
        except Exception as error:
            return type(error).__name__

    with ThreadPoolExecutor(THREADS) as threads:
        return sorted(threads.map(take, range(THREADS)))


def test_a_status_that_was_replaced_may_come_again(world: World) -> None:
    """A page of documents that a node made up a moment before the new status came."""
    trust, old = world.trust(), next(d for d in world.documents if d.type == "tocsin/1/status")
    trust.take(next_status(world, old_party(old), now_ms=NOON), now_ms=NOON)
    assert not trust.take(old, now_ms=NOON, taken_ms=NOON - 1).new
    assert old not in trust.documents()


def old_party(status: Document) -> str:
    return documents.body(status, pb.Status).party


def test_one_document_in_many_threads(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    document = next_roster(world, "kr")
    verify, together = suite.verify, Barrier(THREADS)

    def at_once(*arguments: object, **more: object) -> None:
        # What verifies lets the others run, so all are in the midst of it: if they may be.
        together.wait(1)
        verify(*arguments, **more)  # type: ignore[arg-type]

    trust = world.trust()
    assert in_all_threads(trust, document) == ["False"] * (THREADS - 1) + ["True"]
    assert trust.take(document, now_ms=NOON, taken_ms=NOON).document.digest == document.digest
    careless = world.trust()
    monkeypatch.setattr(careless, "_taking", nullcontext())
    monkeypatch.setattr(suite, "verify", at_once)
    assert in_all_threads(careless, document) != ["False"] * (THREADS - 1) + ["True"]
