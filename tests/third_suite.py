"""A third suite, for tests alone: it proves that suites can be added and retired by agreement.

The registry of the product is a read-only table that nothing adds to. Here the whole table is replaced, for one test:
an installed package has no door through which that could be done.
"""

from dataclasses import replace
from types import MappingProxyType

import pytest

from keys import suite

THIRD = 0x7F


def register(monkeypatch: pytest.MonkeyPatch) -> int:
    """Put the third suite into the registry until the test ends; its id."""
    first = suite._SCHEMES[suite.DESK_SUITE]
    third = replace(first, suite=replace(first.suite, id=THIRD, name="test only"), label=b"TOCSIN-TEST-ONLY-SUITE")
    monkeypatch.setattr(suite, "_SCHEMES", MappingProxyType({**suite._SCHEMES, THIRD: third}))
    return THIRD
