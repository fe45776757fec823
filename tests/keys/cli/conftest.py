"""One founding shared by tests that copy it before they change it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.keys.cli.office import Office, fast, founded, open_office


@pytest.fixture(autouse=True, scope="session")
def _fast() -> Iterator[None]:
    with fast():
        yield


@pytest.fixture(scope="session")
def founding_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return founded(tmp_path_factory.mktemp("ceremony") / "office").directory


@pytest.fixture
def office(founding_directory: Path, tmp_path: Path) -> Office:
    """A copy of the founding."""
    shutil.copytree(founding_directory, tmp_path / "office")
    return Office(tmp_path / "office")


@pytest.fixture
def empty(tmp_path: Path) -> Office:
    return open_office(tmp_path / "office")
