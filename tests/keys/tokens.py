"""A SoftHSM2 token for tests, made in a directory of its own."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

MODULE = next(
    (
        str(path)
        for path in (
            Path("/usr/lib/softhsm/libsofthsm2.so"),
            Path("/usr/lib64/softhsm/libsofthsm2.so"),
            Path("/usr/local/lib/softhsm/libsofthsm2.so"),
        )
        if path.exists()
    ),
    "",
)
TOOL = shutil.which("softhsm2-util") or ""
PIN = b"4711-pin-of-the-token"
needs_token = pytest.mark.skipif(
    not (MODULE and TOOL), reason="SoftHSM2 IS NOT INSTALLED: keys in tokens are NOT tested (apt-get install softhsm2)"
)


def make(root: Path, *labels: str) -> None:
    """Make tokens in an empty directory and point SoftHSM at it.

    The library reads its configuration and its directory once in a process: all tests of a process share the first.
    """
    tokens = root / "tokens"
    tokens.mkdir()
    config = root / "softhsm2.conf"
    config.write_text(f"directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n")
    os.environ["SOFTHSM2_CONF"] = str(config)
    for label in labels:
        subprocess.run(
            [TOOL, "--init-token", "--free", "--label", label, "--pin", PIN.decode(), "--so-pin", "0815-officer"],
            check=True,
            capture_output=True,
        )
