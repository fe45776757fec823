"""Tokens shared by every test of a process: the library reads its configuration once."""

import pytest

from tests.keys import tokens


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> None:
    tokens.make(tmp_path_factory.mktemp("softhsm"), "ministry", "spare")
