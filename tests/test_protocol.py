"""docs/PROTOCOL.md and the code name the same rule ids, labels and sections."""

import importlib
import pkgutil
import re
from pathlib import Path

import exchange
import keys
from keys.errors import TocsinError

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "PROTOCOL.md").read_text(encoding="utf-8")
# What never leaves the machine is no protocol.
LOCAL_REASONS = re.compile("(KEYSTORE|CEREMONY|TOKEN|COURIER_SHEET|WATCH|DESK_IN_USE).*")
LOCAL_LABELS = {"tocsin/1/keystore", "tocsin/1/archive", "tocsin/1/transcript"}


def sources() -> list[str]:
    files = [path for top in ("keys", "exchange") for path in (ROOT / top).rglob("*.py")]
    return [path.read_text(encoding="utf-8") for path in files if "_pb2" not in path.name]


def subclasses(kind: type[TocsinError]) -> set[type[TocsinError]]:
    return {kind}.union(*(subclasses(child) for child in kind.__subclasses__()))


def test_every_reason_is_a_rule_id_of_section_12_with_its_status() -> None:
    for package in (keys, exchange):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith(("__main__", "_pb2", "_pb2_grpc")):
                importlib.import_module(module.name)
    rows: dict[str, str] = {}
    for line in TEXT.partition("## 12. Rule ids")[2].splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 4:
            statuses = cells[1].split(", ")
            ids = cells[0].split(", ")
            rows |= dict(zip(ids, statuses * len(ids) if len(statuses) == 1 else statuses, strict=True))
    for kind in subclasses(TocsinError):
        own = kind.__module__.startswith(("keys.", "exchange.")) and vars(kind).get("reason")
        if own and not LOCAL_REASONS.fullmatch(kind.reason):
            assert rows.get(kind.reason) == kind.status, kind


def test_every_label_in_the_code_is_in_section_2_4() -> None:
    listed = TEXT.partition("### 2.4")[2].partition("## 3.")[0]
    for label in {found for text in sources() for found in re.findall(r"tocsin/1/[a-z]+", text)} - LOCAL_LABELS:
        assert label in listed or f"`/{label.rpartition('/')[2]}`" in listed, label


def test_every_section_the_code_cites_exists() -> None:
    headings = set(re.findall(r"^#+ ([0-9.]+?)\.? ", TEXT, re.MULTILINE))
    for text in sources():
        for section in re.findall(r"PROTOCOL(?:\.md section)? ([0-9]+(?:\.[0-9]+)?)", text):
            assert section in headings, section
