"""Tokens shared by every test of a process: the library reads its configuration once."""

from collections.abc import Iterator

import pytest

from keys import pkcs11
from tests.keys import tokens


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> None:
    tokens.make(tmp_path_factory.mktemp("softhsm"), "ministry", "spare")


@pytest.fixture(autouse=True)
def _logged_out() -> Iterator[None]:
    """A key that was loaded keeps its token open to the end of the process; the next test begins without."""
    yield
    for token in list(pkcs11._OPEN.values()):
        token._users = 1
        token.close()
