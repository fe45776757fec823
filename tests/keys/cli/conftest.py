"""One founding shared by tests that copy it before they change it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.keys.cli.office import Office, fast, founded, open_office, staff


@pytest.fixture(autouse=True, scope="package")
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


@pytest.fixture(scope="session")
def staffed_directory(founding_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("staffed") / "office"
    shutil.copytree(founding_directory, place)
    office = Office(place)
    shutil.copy(office.path("founding.bundle"), office.path("exchange.bundle"))
    for party in ("kr", "nl"):
        staff(office, party, "exchange.bundle")
    return place


@pytest.fixture
def staffed(staffed_directory: Path, tmp_path: Path) -> Office:
    """A copy of the founding with both rosters and statuses in exchange.bundle."""
    shutil.copytree(staffed_directory, tmp_path / "office")
    return Office(tmp_path / "office")


@pytest.fixture
def empty(tmp_path: Path) -> Office:
    return open_office(tmp_path / "office")
