from pathlib import Path

import pytest

from exchange import files
from keys.errors import UsageError


def test_a_passphrase_is_a_line_of_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "pass"
    secret.write_bytes(b" four words of mine \r\n")
    assert files.passphrase(secret) == b" four words of mine "
    assert files.passphrase(None) == b""


@pytest.mark.parametrize("held", [None, b"", b"\n"])
def test_a_file_without_a_passphrase_is_not_taken_for_none_wanted(tmp_path: Path, held: bytes | None) -> None:
    secret = tmp_path / "pass"
    if held is not None:
        secret.write_bytes(held)
    with pytest.raises(UsageError, match="pass"):
        files.passphrase(secret)
