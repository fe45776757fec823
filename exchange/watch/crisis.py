"""The six points of a crisis report under the IPEF supply-chain agreement, filled from what was assessed.

Impact, cause, expected duration, sectors, measures taken, help wanted. What is not known is said to be so: people put it
right with `tocsin alerts update --crisis`.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

from exchange.report.alerts import CRISIS_POINTS
from exchange.text import printable
from exchange.v1 import report_pb2 as pb
from exchange.watch.assess import named_shock
from exchange.watch.assessment import Assessment, Effect
from keys.errors import UsageError

_STAGES: Final = (("step", "process steps"), ("chip", "chips"), ("packaging", "packaging"), ("product", "products"))


def crisis_of(one: Assessment) -> pb.Crisis | None:
    """The six points; None unless a quarter or more of need is at risk and 13 weeks or fewer are left."""
    if one.severity < pb.SEVERITY_SEVERE or one.urgency < pb.URGENCY_EXPECTED:
        return None
    shock = one.shock
    cause = f"{named_shock(shock)}{f', {shock.reference}' if shock.reference else ''}."
    start = f"from {_day(shock.start_ms)}" if shock.start_ms else "from now on"
    duration = f"{start} to {_day(shock.expected_end_ms)}" if shock.expected_end_ms else f"{start}; no end is known"
    first = next(iter(one.impacts)).path[0] if one.impacts else ", ".join(shock.items[:6])
    wanted = f"{first} for {one.country} from others than {' and '.join(shock.places) or 'where it stopped'}"
    points = {
        "impact": one.sentence,
        "cause": cause,
        "duration": f"{duration}.",
        "sectors": f"{_sectors(one)}.",
        "measures": "Not known yet: no measure was reported.",
        "help": f"{wanted}, and stocks that could be lent.",
    }
    crisis = pb.Crisis()
    for name, text in points.items():
        getattr(crisis, name).add(language="en", text=text[:4000])
    return crisis


def points_of(given: Iterable[str]) -> dict[str, str]:
    """Points as given by hand, "measures=licences are asked for".

    Raises:
        UsageError: No such point, or nothing is said of it.
    """
    out = {}
    for one in given:
        name, _, text = one.partition("=")
        if name not in CRISIS_POINTS or not text.strip():
            hint = f"one of {', '.join(CRISIS_POINTS)}, then = and what is said"
            raise UsageError(f'"{printable(one, max_chars=80)}" is no point of a crisis report', hint=hint)
        out[name] = text.strip()
    return out


def put_points(alert: pb.Alert, points: Mapping[str, str]) -> None:
    """Say some points anew, the others as before.

    Raises:
        UsageError: There is no crisis report yet, and not all six are given.
    """
    missing = [name for name in CRISIS_POINTS if name not in points and not getattr(alert.crisis, name)]
    if missing:
        raise UsageError(
            f"a crisis report has six points; {', '.join(missing)} not given", hint="give all six at first"
        )
    for name, text in points.items():
        alert.crisis.ClearField(name)
        getattr(alert.crisis, name).add(language="en", text=text)


def _sectors(one: Assessment) -> str:
    hit = [impact for impact in one.impacts if impact.effect is Effect.STOPS]
    named = ((words, [impact.node for impact in hit if impact.stage == stage]) for stage, words in _STAGES)
    parts: Iterable[str] = (f"{words}: {', '.join(nodes)}" for words, nodes in named if nodes)
    return "; ".join(parts) or "Not known yet"


def _day(time_ms: int) -> str:
    return f"{datetime.fromtimestamp(time_ms // 1000, UTC):%Y-%m-%d}"
