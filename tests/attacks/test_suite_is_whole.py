"""Every attack has its tests, with both halves: refused as it stands, successful once its one check is off."""

import ast
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import tests.attacks
from tests.attacks.marks import ELSEWHERE, ROWS

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@dataclass(frozen=True, slots=True)
class Found:
    """A test of a row, as its source says."""

    row: int
    file: str
    test: str
    off: str


@cache
def functions(file: str) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse((ROOT / file).read_text())
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def marks(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[tuple[int, str]]:
    found = []
    for call in node.decorator_list:
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "attack":
            given = {known.arg: known.value.value for known in call.keywords if isinstance(known.value, ast.Constant)}
            assert isinstance(call.args[0], ast.Constant)
            found.append((int(str(call.args[0].value)), str(given.get("off", ""))))
    return found


@cache
def everything() -> tuple[Found, ...]:
    found = [Found(link.row, link.file, link.test, link.off) for link in ELSEWHERE]
    for path in sorted(HERE.glob("test_*.py")):
        file = str(path.relative_to(ROOT))
        for name, node in functions(file).items():
            found += [Found(row, file, name, off) for row, off in marks(node)]
    return tuple(found)


def switched(file: str, name: str, seen: frozenset[str] = frozenset()) -> set[str]:
    """What a test, or a function of its file that it calls, patches: names of attributes, and of variables that hold them."""
    names: set[str] = set()
    for node in ast.walk(functions(file)[name]):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Attribute) and node.func.attr == "setattr" and len(node.args) >= 2:
            what = node.args[1]
            names |= (
                {str(what.value)}
                if isinstance(what, ast.Constant)
                else {what.id}
                if isinstance(what, ast.Name)
                else set()
            )
            if isinstance(what, ast.Name):
                names |= {str(one.value) for one in ast.walk(functions(file)[name]) if isinstance(one, ast.Constant)}
        if isinstance(node.func, ast.Name) and node.func.id in functions(file) and node.func.id not in {*seen, name}:
            names |= switched(file, node.func.id, seen | {name})
    return names


def claims(file: str, name: str) -> int:
    """How many things a test, or a function of its file that it calls, says must be so."""
    count = 0
    for node in ast.walk(functions(file)[name]):
        count += isinstance(node, ast.Assert)
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            count += called in ("raises", "refused", "ok", "sign", "suppress") or called.startswith(
                ("check_", "assert_")
            )
    return count


@pytest.mark.parametrize("row", ROWS)
def test_each_attack_is_refused_and_succeeds_with_its_check_off(row: int) -> None:
    ours = [found for found in everything() if found.row == row]
    assert ours, f"no test of attack {row}"
    assert any(found.off for found in ours), f"no test switches a check of attack {row} off"


@pytest.mark.parametrize("found", everything(), ids=lambda found: f"{found.row}-{found.test}")
def test_what_a_test_switches_off_is_what_it_says(found: Found) -> None:
    assert found.test in functions(found.file), "it was renamed or removed"
    assert found.row in ROWS
    assert claims(found.file, found.test) >= (2 if found.off else 1)
    if found.off:
        assert found.off in switched(found.file, found.test)


def test_each_test_here_that_bears_a_number_is_marked_with_it() -> None:
    for path in HERE.glob("test_*.py"):
        for name, node in functions(str(path.relative_to(ROOT))).items():
            number = name.removeprefix("test_")[:2]
            if name.startswith("test_") and number.isdigit() and path.name != "test_secrets.py":
                assert int(number) in {row for row, _ in marks(node)}, name


def table() -> str:
    """The rows, the tests of each, and the check that each switches off."""
    rows: dict[int, list[str]] = defaultdict(list)
    for found in everything():
        where = found.file.removeprefix("tests/").removesuffix(".py")
        rows[found.row].append(f"{where}: {found.test}" + (f" [{found.off}]" if found.off else ""))
    return "\n".join(f"{row:2} {test}" for row in ROWS for test in sorted(rows[row]))


def test_the_table_is_the_one_in_the_package() -> None:
    """After a change: `python -m tests.attacks`."""
    assert table() in (tests.attacks.__doc__ or "")


def test_nothing_installed_reads_a_switch() -> None:
    """What an attack test does cannot be done to an installed node: the product knows no such word."""
    for package in ("keys", "exchange"):
        for path in (ROOT / package).rglob("*.py"):
            if path.parent.name == "v1":
                continue  # generated
            text = path.read_text()
            for word in ("monkeypatch", "TOCSIN_TEST", "ATTACKS", "skip_check", "insecure", "pytest"):
                assert word not in text, f"{word} in {path}"
