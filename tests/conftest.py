"""Fixtures that several rooms of the suite share; a module that needs another of the same name makes its own."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import structlog

from exchange.node.app import App
from tests.desk import memory
from tests.desk.memory import Exchange
from tests.node.cluster import NODES, Cluster
from tests.node.cluster import found as found_cluster
from tests.world import World, found

# The programs that tests start by the dozen compile the product once, not each time.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Modules with a test of most of a minute: they go first, so that none of them is what the last worker waits for.
LONG = ("test_operations.py", "keys/test_rotation_traffic.py", "rotation/test_every_key.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long modules first, each whole; the others keep their order."""
    first = [Path(__file__).parent / name for name in LONG]
    items.sort(key=lambda item: first.index(item.path) if item.path in first else len(first))


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """Whoever sets up the log in a test, a command or a simulation, sets it up for that test alone."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture(scope="module")
def world() -> World:
    """A world without key cards: desks in memory make their own."""
    return found(weeks=0)


@pytest.fixture(scope="module")
def first_exchange(tmp_path_factory: pytest.TempPathFactory, world: World) -> Exchange:
    """Two desks of two countries on a node in memory, who know each other's key cards; each test has a copy."""
    made = memory.exchange(tmp_path_factory.mktemp("exchange"), world, "kr.the-hague/economic", "nl.seoul/economic")
    asyncio.run(made.synchronise())
    return made


@pytest.fixture
async def exchange(tmp_path: Path, first_exchange: Exchange) -> Exchange:
    """Two desks of two countries on a node in memory."""
    return first_exchange.copied(tmp_path)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Both countries' nodes on loopback; none runs yet, none outlives the test."""
    made = found_cluster(tmp_path)
    yield made
    made.kill_all()


@pytest.fixture
async def both(cluster: Cluster) -> AsyncIterator[tuple[App, App]]:
    """Both nodes, serving in this process."""
    async with AsyncExitStack() as stack:
        kr, nl = [await stack.enter_async_context(cluster.app(node).serving()) for node in NODES]
        yield kr, nl
