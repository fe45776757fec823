"""Every command of docs/OPERATIONS.md runs, in order, as it stands.

Each "##" section that has `sh` blocks is one shell; all sections share one directory, so that a later one goes on with
what an earlier one made. A command that fails ends the test and names its section.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from exchange.demo.found import free_ports

ROOT = Path(__file__).parents[1]
OPERATIONS = (ROOT / "docs" / "OPERATIONS.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Ports that stand in the document, replaced by free ones: several runs share a machine.
PORTS = ("7443", "7444", "8443", "8444")


def sections() -> dict[str, str]:
    """The shell of every section that has any."""
    found = {}
    for part in re.split(r"^## ", OPERATIONS, flags=re.MULTILINE)[1:]:
        title = part.partition("\n")[0].strip()
        blocks = BLOCK.findall(part)
        if blocks:
            found[title] = "".join(blocks)
    return found


@pytest.mark.timeout(600)
def test_the_commands_of_every_section_run(tmp_path: Path) -> None:
    shims = tmp_path / "bin"
    shims.mkdir()
    for program, module in (("tocsin", "exchange.cli"), ("tocsin-keys", "keys.cli")):
        shim = shims / program
        shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "from {module} import main; main()" "$@"\n')
        shim.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{shims}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "NO_COLOR": "1",
        "COLUMNS": "120",
    }
    place = tmp_path / "work"
    place.mkdir()
    ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
    for title, text in sections().items():
        for port, free in ports.items():
            text = text.replace(port, free)
        code, said = run(text, place, environment)
        assert code == 0, f"section {title!r}: exit {code} after\n{said[-4000:]}"


def run(text: str, place: Path, environment: dict[str, str]) -> tuple[int, str]:
    """One shell that stops at the first command that fails; what it left running ends with it."""
    shell = subprocess.Popen(
        ["bash", "-xeuo", "pipefail", "-c", text],
        cwd=place,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = shell.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        end(shell)
        said, _ = shell.communicate()
    finally:
        end(shell)
    return shell.returncode, said


def end(shell: subprocess.Popen[str]) -> None:
    """End a shell and what it left running: its process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(shell.pid, signal.SIGKILL)


def test_the_sections_with_commands_are_found() -> None:
    assert {"Founding", "Staffing", "Watching over"} <= sections().keys()
    assert sum(text.count("tocsin-keys ") for text in sections().values()) > 50
