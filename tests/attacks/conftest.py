"""`ATTACKS=disarmed pytest tests/attacks`: every test with a check to switch off runs with that switch stuck.

Then the check stays on, the attack goes on being refused, and the half of the test that says "it succeeds" must fail:
a test that passes all the same does not bite, and is reported.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.attacks.marks import MARK, Attack

DISARMED = os.environ.get("ATTACKS") == "disarmed"


def _offs(function: Any) -> set[str]:
    marks: tuple[Attack, ...] = getattr(function, MARK, ())
    return {one.off for one in marks if one.off}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not DISARMED:
        return
    for item in items:
        if _offs(getattr(item, "function", None)):
            item.add_marker(pytest.mark.xfail(strict=True, reason="its check cannot be switched off"))
        else:
            item.add_marker(pytest.mark.skip(reason="no check to switch off"))


def _stuck(offs: set[str]) -> pytest.MonkeyPatch:
    """A monkeypatch that leaves these attributes alone."""
    patch = pytest.MonkeyPatch()
    real = patch.setattr

    def setattr_(target: Any, name: Any, *value: Any, **known: Any) -> None:
        if name not in offs:
            real(target, name, *value, **known)

    @contextmanager
    def context() -> Iterator[pytest.MonkeyPatch]:
        inner = _stuck(offs)
        try:
            yield inner
        finally:
            inner.undo()

    patch.setattr, patch.context = setattr_, context  # type: ignore[method-assign,assignment]
    return patch


@pytest.fixture
def monkeypatch(request: pytest.FixtureRequest) -> Iterator[pytest.MonkeyPatch]:
    patch = _stuck(_offs(request.function) if DISARMED else set())
    yield patch
    patch.undo()
