"""The help blocks of README.md are what `--help` prints.

A help block is a fenced block whose first line is `$ tocsin ... --help` or `$ tocsin-keys ... --help`.
Run as a script (`make readme`) this file rewrites the blocks.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(r"^```[a-z]*\n\$ (tocsin(?:-keys)?(?: [a-z][a-z-]*)* --help)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Anything that asks for help in a fence must match BLOCK, or it would silently go unchecked.
ASKED = re.compile(r"^\$ tocsin.*--help.*$", re.MULTILINE)


def help_of(command: str) -> str:
    """What the command prints, at 100 columns and without colour, trailing spaces removed."""
    program, *arguments = command.split()
    # Typer forces colour when it sees GITHUB_ACTIONS or FORCE_COLOR, and takes its width from TERMINAL_WIDTH.
    environment = {k: v for k, v in os.environ.items() if k not in {"FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS"}}
    environment |= {
        "COLUMNS": "100",
        "TERMINAL_WIDTH": "100",
        "NO_COLOR": "1",
        "TERM": "dumb",
        "PYTHONIOENCODING": "utf-8",
    }
    program = str(Path(sys.executable).parent / program)
    done = subprocess.run(
        [program, *arguments], capture_output=True, encoding="utf-8", env=environment, check=True, timeout=60
    )
    return "".join(line.rstrip() + "\n" for line in done.stdout.strip("\n").splitlines()).lstrip("\n")


def test_help_blocks_are_what_help_prints() -> None:
    text = README.read_text(encoding="utf-8")
    assert [found.group(1) for found in BLOCK.finditer(text)] == [line[2:] for line in ASKED.findall(text)]
    for found in BLOCK.finditer(text):
        assert found.group(2) == help_of(found.group(1)), (
            f"README: `{found.group(1)}` prints something else now: make readme"
        )


if __name__ == "__main__":
    fresh = BLOCK.sub(lambda m: f"```\n$ {m.group(1)}\n{help_of(m.group(1))}```", README.read_text(encoding="utf-8"))
    README.write_text(fresh, encoding="utf-8")
