"""Make examples/data/graphite_flows.csv: synthetic imports of natural graphite, of the shape of the published ones.

Not real figures. The shape is that of 2023: 24 reporting places, quiet for years apart from one flag in a few months each,
then most of them at once import twice the usual, one month before a control takes effect. Months count back from the
newest, so that the example is always of today.

    python examples/make_flows.py
"""

import csv
import math
import random
from pathlib import Path

PLACES = {
    "nl.seoul/economic": ("KR", "TW", "SG", "MY", "TH", "VN"),
    "nl.bz/supply": ("NL", "DE", "BE", "FR", "IT", "ES"),
    "kr.the-hague/economic": ("PL", "SE", "AT", "CZ", "HU", "GB"),
    "kr.motie/supply": ("JP", "IN", "US", "CA", "AU", "BR"),
}
MONTHS = 72
SHARE = 0.8
SEED = 20231020


def main() -> None:
    """Write the file."""
    draw = random.Random(SEED)  # noqa: S311 - a fixed example, no secret
    rows = []
    for desk, places in PLACES.items():
        for place in places:
            usual = math.exp(draw.uniform(3.5, 7.0))
            surges = draw.random() < SHARE
            for back in reversed(range(MONTHS)):
                value = usual * math.exp(draw.gauss(0, 0.22))
                if draw.random() < 0.03:
                    value *= 2.2
                if back == 0 and surges:
                    value = usual * draw.uniform(2.1, 3.0)
                rows.append((desk, place, back, round(value, 1)))
    path = Path(__file__).parent / "data" / "graphite_flows.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(("desk", "place", "months_back", "tonnes"))
        out.writerows(rows)


if __name__ == "__main__":
    main()
