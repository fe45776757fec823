"""A disk that gets full: a small tmpfs of its own, where the machine lets us mount one."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FILLER: Final = "filler"


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """One directory on a disk of its own."""

    directory: Path

    @property
    def free_bytes(self) -> int:
        """What is left."""
        return shutil.disk_usage(self.directory).free

    def fill(self, leave_bytes: int = 0) -> None:
        """Take all room but so much."""
        with (self.directory / FILLER).open("ab") as filler:
            try:
                while (left := self.free_bytes - leave_bytes) > 0:
                    filler.write(bytes(min(left, 65_536)))
                    filler.flush()
            except OSError:
                pass

    def make_room(self) -> None:
        """Give back what was taken."""
        (self.directory / FILLER).unlink(missing_ok=True)


@contextmanager
def small_disk(directory: Path, mb: int) -> Iterator[SmallDisk | None]:
    """Put a directory and what is in it on a disk of so many MB; None where nothing may be mounted."""
    before = directory.with_name(directory.name + "-before")
    directory.rename(before)
    directory.mkdir(mode=0o700)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={mb}m,mode=0700", "tmpfs", str(directory)],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        directory.rmdir()
        before.rename(directory)
        yield None
        return
    try:
        shutil.copytree(before, directory, dirs_exist_ok=True)
        yield SmallDisk(directory)
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)
