"""A desk takes documents in whichever thread they arrive; of the same one in two threads, one is new and both hold it."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from threading import Barrier

import pytest

from keys import suite
from keys.documents import Document
from keys.trust import Trust
from tests.chains import next_roster
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
