"""What a shock does, as values: shocks go in, assessments come out (docs/WATCH.md section 8).

A number that is not known is None and is named in `unknown`; it is never assumed. Shares are in [0, 1], times in weeks.
"""

import math
from dataclasses import dataclass
from enum import Enum
from typing import Final

from exchange.v1 import report_pb2 as pb

WEEK_MS: Final = 7 * 86_400_000

# Least share of need at risk, and least weeks left, as report.proto writes them.
_SEVERITIES: Final = ((0.5, pb.SEVERITY_EXTREME), (0.25, pb.SEVERITY_SEVERE), (0.1, pb.SEVERITY_MODERATE))
IMMEDIATE_WEEKS: Final = 2.0
EXPECTED_WEEKS: Final = 13.0


@dataclass(frozen=True, slots=True)
class Shock:
    """Something that takes away supply, or may.

    Args:
        kind: EventKind; 0 = an alarm of the board.
        items: Items it covers, as in exchange.watch.intake.item_of ("281111", "81129289/CN", "name:neon"); sorted.
        market: Market of the alarm; 0 for events.
        places: ISO 3166-1 codes of the countries whose supply is lost; empty = not known which.
        affected: Countries hit; empty = everybody.
        start_ms: When it takes effect, ms UTC; 0 = not said.
        expected_end_ms: When it is expected to end; 0 = open.
        report_ids: Reports that say so, sorted, each once.
        in_force: It has taken effect and has not ended.
        probability: That it is so, 0 to 1: Admiralty weights of independent origins, or the confidence of the alarm.
        reporters: Missions that say so, sorted.
        reference: Number of the notice, or the reason of the alarm; "" = none.
        eased_ms: When an earlier one of the same kind was eased, ms UTC: this one was taken anew; 0 = no such one.
    """

    kind: int
    items: tuple[str, ...]
    market: int = 0
    places: tuple[str, ...] = ()
    affected: tuple[str, ...] = ()
    start_ms: int = 0
    expected_end_ms: int = 0
    report_ids: tuple[bytes, ...] = ()
    in_force: bool = False
    probability: float = 0.0
    reporters: tuple[str, ...] = ()
    reference: str = ""
    eased_ms: int = 0


class Effect(Enum):
    """How a node of the graph is hit; the value is a stable id."""

    SUPPLY = "supply"  # the thing itself is missing
    STOPS = "stops"  # a step or chip that needs it cannot run
    GROWTH = "growth"  # what runs goes on; new machines and spare parts are missing


@dataclass(frozen=True, slots=True)
class Impact:
    """What happens to one node: an item, a process step, a chip or a product.

    Args:
        node: Id in the graph: "photolithography".
        stage: Its stage in the graph: mineral, material, wafer, equipment, step, chip, packaging or product.
        effect: How it is hit.
        items_at_risk: Ids of the nodes where the loss enters, sorted.
        share_at_risk: Share of its need that is at risk; None = not known.
        weeks_of_cover: Stocks along the path, this node's included; None = none of them is known.
        weeks_to_impact: Transit along the path: how long until what happens at the source is felt; None = not known.
        weeks_until_stop: Weeks from now: until it takes effect, plus transit, plus stocks; None = neither is known.
        at_least: A stock or transit on the path is not known, so the weeks above are the least it can be.
        path: Nodes from where the loss enters to this one, both included.
    """

    node: str
    stage: str
    effect: Effect
    items_at_risk: tuple[str, ...]
    share_at_risk: float | None
    weeks_of_cover: float | None
    weeks_to_impact: float | None
    weeks_until_stop: float | None
    at_least: bool
    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Assessment:
    """What one shock does to one country.

    Args:
        shock: Which.
        country: ISO 3166-1 code of the country it is assessed for.
        impacts: The most need at risk first, then the soonest.
        severity: CAP severity number; 0 = not known.
        urgency: CAP urgency number; 0 = not known.
        certainty: CAP certainty number.
        need_share: Share behind `severity`; None = not known.
        cover_weeks: Stocks behind `urgency`; None = not known.
        impact_weeks: Transit behind `urgency`; None = not known.
        weeks_until_effect: Weeks from now until it takes effect; 0 = it has.
        affected_steps: Node ids of steps, chips and products that stop, in order of the graph.
        unknown: What is not known, one short sentence each; every one lowers the certainty.
        sentence: All of it in one or two sentences with units and dates.
        cancel_condition: What would end it, in words.
        spared: Why it does not touch the country; "" = it does, or may.
        figures: (mission, report id) of the figures it rests on, sorted.
    """

    shock: Shock
    country: str
    impacts: tuple[Impact, ...]
    severity: int
    urgency: int
    certainty: int
    need_share: float | None
    cover_weeks: float | None
    impact_weeks: float | None
    weeks_until_effect: float
    affected_steps: tuple[str, ...]
    unknown: tuple[str, ...]
    sentence: str
    cancel_condition: str
    spared: str = ""
    figures: tuple[tuple[str, bytes], ...] = ()

    @property
    def rank(self) -> tuple[int, ...]:
        """Sorts the country that is hit hardest last."""
        return (not self.spared, self.severity, self.urgency, self.certainty)


def severity_of(share: float | None) -> int:
    """CAP severity of a share of need at risk: 50 % extreme, 25 % severe, 10 % moderate, else minor; None = unknown."""
    if share is None or math.isnan(share):
        return pb.SEVERITY_UNSPECIFIED
    return next((level for least, level in _SEVERITIES if share >= least), pb.SEVERITY_MINOR)


def urgency_of(cover_weeks: float | None, impact_weeks: float | None, *, weeks_until_effect: float = 0.0) -> int:
    """CAP urgency of the weeks left: weeks of cover minus weeks to impact, after what is left until it takes effect.

    That is how long an order placed elsewhere, over the same distance, still arrives in time: at most 2 weeks left is
    immediate, at most 13 expected, more is future. Unknown if either number is.
    """
    if cover_weeks is None or impact_weeks is None:
        return pb.URGENCY_UNSPECIFIED
    left = weeks_until_effect + cover_weeks - impact_weeks
    if left <= IMMEDIATE_WEEKS:
        return pb.URGENCY_IMMEDIATE
    return pb.URGENCY_EXPECTED if left <= EXPECTED_WEEKS else pb.URGENCY_FUTURE
