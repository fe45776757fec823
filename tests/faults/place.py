"""Both countries as real processes on real files: nodes and desks that are killed, stopped and started again."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from exchange import files
from exchange.demo.found import NODES, Founded, found, free_ports
from exchange.desk import Desk
from exchange.node.directory import STATUS, NodeSettings

ROOT: Final = Path(__file__).parents[2]
HAGUE, MOTIE = "kr.the-hague/economic", "kr.motie/supply"
SEOUL, BZ = "nl.seoul/economic", "nl.bz/supply"
CHANNELS: Final = ("minerals", "alerts")
START_S: Final = 120.0
TOCSIN: Final = str(Path(sys.executable).with_name("tocsin"))


def environment() -> dict[str, str]:
    """Of every process: this tree's code, not an installed one's."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@dataclass(slots=True)
class Process:
    """A node or desk that may be killed at any moment and started again."""

    name: str
    command: Sequence[str]
    says: Path
    """Holds its process id once it serves."""
    output: Path
    popen: subprocess.Popen[bytes] | None = None
    began: float = 0.0

    def start(self) -> None:
        """Start; returns before it serves."""
        assert self.popen is None, f"{self.name} runs"
        self.began = time.monotonic()
        with self.output.open("ab") as output:
            self.popen = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment(), cwd=ROOT
            )

    @property
    def pid(self) -> int:
        """Of the process that runs."""
        assert self.popen is not None, f"{self.name} does not run"
        return self.popen.pid

    async def serving(self) -> float:
        """Wait until it serves; seconds since it was started."""
        limit = time.monotonic() + START_S
        while not self._serves():
            assert self.popen is not None
            ended = self.popen.poll()
            assert ended is None, f"{self.name} ended with {ended}:\n{self.printed()}"
            assert time.monotonic() < limit, f"{self.name} does not start:\n{self.printed()}"
            await asyncio.sleep(0.01)
        return time.monotonic() - self.began

    def _serves(self) -> bool:
        # What a killed one left there holds another id.
        return self.says.exists() and f'"pid": {self.pid},' in self.says.read_text()

    def printed(self) -> str:
        """The end of what it printed."""
        return self.output.read_text()[-4000:] if self.output.is_file() else ""

    def send(self, number: signal.Signals) -> None:
        """A signal."""
        assert self.popen is not None
        self.popen.send_signal(number)

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        if self.popen is not None:
            self.popen.kill()
            self.popen.wait(10)
            self.popen = None

    async def end(self) -> None:
        """SIGTERM; it must end by itself."""
        if self.popen is None:
            return
        self.send(signal.SIGTERM)
        ended = await asyncio.to_thread(self.popen.wait, 30)
        assert ended == 0, f"{self.name} ended with {ended}:\n{self.printed()}"
        self.popen = None


@dataclass(slots=True)
class Place:
    """Two countries in a directory."""

    founded: Founded
    processes: dict[str, Process] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        """Where everything is."""
        return self.founded.directory

    def node(self, party: str) -> Process:
        """A party's node: `tocsin node run`."""
        directory = self.founded.node(party)
        command = [TOCSIN, "node", "run", str(directory)]
        return self._process(NODES[party], command, directory / STATUS)

    def desk(self, name: str, *, per_s: float, most: int = 64) -> Process:
        """A desk that publishes and reads all channels (tests/faults/worker.py), writing down what it was told."""
        directory = self.founded.desk(name)
        command = [sys.executable, "-m", "tests.faults.worker", str(directory), str(per_s), str(most)]
        return self._process(name, command, directory / "ready")

    def _process(self, name: str, command: Sequence[str], says: Path) -> Process:
        output = self.root / f"{name.replace('/', '-')}.log"
        return self.processes.setdefault(name, Process(name, command, says, output))

    def open(self, name: str) -> Desk:
        """A desk in this process."""
        return Desk.open(self.founded.desk(name))

    def kill_all(self) -> None:
        """End what runs."""
        for process in self.processes.values():
            with suppress(ProcessLookupError):
                process.send(signal.SIGCONT) if process.popen else None
            process.kill()

    def front(self, party: str) -> tuple[int, int]:
        """Move a party's node to other ports; (the port that the roster names, the port it listens on from now on)."""
        path = self.founded.node(party) / "node.toml"
        settings = files.load_settings(NodeSettings, path)
        (behind,) = free_ports(1)
        files.save_settings(settings.model_copy(update={"endpoint": f"127.0.0.1:{behind}"}), path)
        return int(settings.endpoint.rpartition(":")[2]), behind


@contextmanager
def place(directory: Path) -> Iterator[Place]:
    """Both countries, founded; what a test leaves running ends with the block."""
    made = Place(found(directory, title="faults"))
    try:
        yield made
    finally:
        made.kill_all()


def copied(directory: Path, to: Path) -> Path:
    """A copy of a stopped node's or desk's directory."""
    shutil.copytree(directory, to)
    return to


def memory_mb(pid: int, field_name: str = "VmRSS") -> float:
    """One memory figure of a process, MB."""
    rows = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(row.split()[1]) for row in rows if row.startswith(f"{field_name}:")) / 1024
