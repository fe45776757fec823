"""Every key and the agreement change in the simulated exchange. More seeds: `make soak SCENARIO=rotation SEEDS=100`."""

import pytest

from keys import node_keys, rotation
from keys.trust import Trust
from tests.simulation.exchange import simulate
from tests.simulation.rotation import rotate_everything

SEEDS = 2


@pytest.mark.parametrize("seed", range(SEEDS))
def test_every_key_changes_under_delays_and_absences(seed: int) -> None:
    assert len(simulate(rotate_everything, seed=seed).said) > 150


def test_a_log_key_that_nobody_knows_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The new key signs alone as soon as it is there, without its windows."""

    def hasty(_: Trust, __: str, *, now_ms: int, have: dict[bytes, object]) -> tuple[bytes, ...]:
        return (list(have)[-1],)

    monkeypatch.setattr(node_keys, "log_keys_signing", hasty)
    monkeypatch.setattr(rotation.node_keys, "changing", lambda *_, **__: ())
    with pytest.raises(AssertionError):
        simulate(rotate_everything, seed=0)
