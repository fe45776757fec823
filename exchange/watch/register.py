"""The register of items: stage, name and critical lists of the HS codes of the chip supply chain, shipped as data."""

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

from exchange.report.rules import hs_problem
from exchange.v1 import report_pb2 as pb
from exchange.watch.errors import WatchInputError

_STAGES: Final = {name.removeprefix("STAGE_").lower(): number for name, number in pb.Stage.items() if number} | {
    # The register's finer words, as report.proto counts them.
    "gas": pb.STAGE_MATERIAL,
    "chemical": pb.STAGE_MATERIAL,
    "mask": pb.STAGE_MATERIAL,
    "component": pb.STAGE_EQUIPMENT,
}


@dataclass(frozen=True, slots=True)
class Item:
    """One HS 2022 code.

    Args:
        hs: Six digits.
        stage: Stage of report.proto.
        name: Short, this project's own.
        lists: Parties on whose critical list a material under this code stands: {"EU", "KR"}.
        text: How the nomenclature begins.
    """

    hs: str
    stage: int
    name: str
    lists: frozenset[str]
    text: str


@dataclass(frozen=True, slots=True)
class CriticalMaterial:
    """One entry of a critical list: "EU_2023", "KR_2023", "KR_2025"; where it is from, in words."""

    list: str
    material: str
    strategic: bool
    source: str


def parse_items(text: str) -> dict[str, Item]:
    """The items of a register in CSV, by code.

    Raises:
        WatchInputError: A code is none or there twice, or a stage is unknown.
    """
    out: dict[str, Item] = {}
    for row, cells in enumerate(csv.DictReader(io.StringIO(text)), start=2):
        hs, stage = cells["hs6"], cells["stage"]
        if len(hs) != 6 or hs_problem(hs) or hs in out or stage not in _STAGES:
            raise WatchInputError(f"row {row}: {hs} is no code, or there twice, or {stage} is no stage")
        lists = frozenset(re.findall(r"\b(?:EU|KR)\b", cells["critical_lists"]))
        out[hs] = Item(hs, _STAGES[stage], cells["short_name"], lists, cells["hs2022_official_text_start"])
    return out


@cache
def items() -> Mapping[str, Item]:
    """The shipped register, by six-digit code."""
    return parse_items(_data("items.csv"))


@cache
def critical_materials() -> tuple[CriticalMaterial, ...]:
    """The shipped critical lists."""
    rows = csv.DictReader(io.StringIO(_data("critical_materials.csv")))
    return tuple(CriticalMaterial(r["list"], r["material"], r["strategic"] == "1", r["source"]) for r in rows)


def find(hs: str) -> Item | None:
    """The item of a code of 6, 8 or 10 digits: its heading's, since the register is international; None if not there."""
    return items().get(hs[:6])


def _data(name: str) -> str:
    return (resources.files("exchange.watch") / "data" / name).read_text(encoding="utf-8")
