"""A clock that the test turns, for everything in one process; and TLS under it."""

from datetime import timedelta

import pytest

from exchange import tls
from exchange.clock import now_ms as real_ms

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


class Clock:
    """Milliseconds UTC: begins now, and is turned ahead."""

    def __init__(self) -> None:
        self.now_ms = self.start_ms = real_ms()

    def __call__(self) -> int:
        return self.now_ms

    @property
    def day(self) -> float:
        """Days since the start."""
        return (self.now_ms - self.start_ms) / DAY_MS


def bend_certificates(patch: pytest.MonkeyPatch) -> None:
    """Certificates end by the test's clock and begin by the real one.

    A TLS library has a clock of its own, which nobody turns: what is issued in the test's future must begin by now. The
    clock of the test is ahead of it, so the end, which the product judges and renews by, stays as it is issued.
    """
    built = tls._builder

    def builder(subject: object, issuer: object, public: object, now_ms: int, days: float) -> object:
        began_ms = min(now_ms, real_ms())
        ahead = timedelta(milliseconds=now_ms - began_ms) / timedelta(days=1)
        return built(subject, issuer, public, began_ms, days + ahead)  # type: ignore[arg-type]

    patch.setattr(tls, "_builder", builder)
