"""What ends when, the daily status, and the service that issues it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from keys import lifetimes
from keys.cli import book as books
from keys.cli import status as command
from keys.cli.terminal import now_ms
from keys.errors import TocsinError
from keys.lifetimes import DAY_MS, Ending, Level
from tests.keys.cli.office import Office

HELD = ("--held", "exchange.bundle")


@pytest.mark.parametrize(
    ("days", "life", "step", "level"),
    [
        (61, 730, None, Level.OK),
        (60, 730, 60, Level.WARN),
        (31, 730, 60, Level.WARN),
        (30, 90, 30, Level.WARN),
        (14, 90, 14, Level.CRITICAL),
        (3, 90, 3, Level.CRITICAL),
        (0, 90, 0, Level.CRITICAL),
        (-1, 90, 0, Level.CRITICAL),
        (2.5, 3, None, Level.OK),  # a status of today
        (2, 3, 60, Level.WARN),  # not issued for a day
        (0.4, 3, 14, Level.CRITICAL),
    ],
)
def test_steps_and_levels(days: float, life: float, step: int | None, level: Level) -> None:
    ending = Ending("x", round(days * DAY_MS), round(life * DAY_MS), "")
    assert ending.step_days(0) == step
    assert ending.level(0) is level


def test_status_says_what_ends_and_exits_by_it(staffed: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    done = staffed.ok("status", *HELD, "--json")
    rows = done.json
    assert rows["level"] == "ok"
    assert [row["what"] for row in rows["ends"]] == [
        "kr status 1.1",
        "nl status 1.1",
        "kr roster 1.1",
        "nl roster 1.1",
        "agreement 1",
        "TLS CA of kr.the-hague-1",
        "TLS CA of nl.seoul-1",
    ]
    start = now_ms()
    for days, code, critical in ((1.5, 1, ""), (2.6, 2, "status"), (4, 2, "status")):
        monkeypatch.setattr(command, "now_ms", lambda days=days: start + round(days * DAY_MS))
        late = staffed.run("status", *HELD)
        assert late.code == code
        assert [line.split(": ")[1].split()[1] for line in late.out.splitlines() if line.startswith("CRITICAL")] == (
            [critical] * 2 if critical else []
        )
    assert "is `status serve` running?" in late.out
    assert "ended" in late.out


@pytest.mark.parametrize(("days", "code"), [(100, 0), (50, 1), (20, 1), (10, 2), (1, 2), (-1, 2)])
def test_each_kind_of_ending_is_seen(staffed: Office, monkeypatch: pytest.MonkeyPatch, days: int, code: int) -> None:
    """Only the agreement is near its end here; the exit code comes from it alone."""
    real = lifetimes.endings

    def only_agreement(*args: object, **more: int) -> list[Ending]:
        (agreement,) = [e for e in real(*args, **more) if e.what == "agreement 1"]  # type: ignore[arg-type]
        return [Ending(agreement.what, now_ms() + days * DAY_MS + 1000, agreement.life_ms, agreement.advice)]

    monkeypatch.setattr(lifetimes, "endings", only_agreement)
    assert staffed.run("status", *HELD).code == code


def test_what_is_missing_is_critical(office: Office) -> None:
    done = office.run("status", "--held", "founding.bundle", "--json")
    assert done.code == 2
    assert json.loads(done.out)["missing"] == [
        "no roster of kr is held",
        "no status of kr is held",
        "no roster of nl is held",
        "no status of nl is held",
    ]


def test_a_certificate_is_watched(staffed: Office) -> None:
    from exchange import tls

    key = tls.new_key()
    ca = tls.make_ca("nl.seoul-1", key, now_ms=now_ms())
    leaf = tls.issue(ca, key, "nl.seoul/economic", tls.new_key().public_key(), now_ms=now_ms() - 25 * DAY_MS)
    staffed.path("leaf.pem").write_bytes(tls.pem(leaf))
    done = staffed.run("status", *HELD, "--certificate", "leaf.pem")
    assert done.code == 1
    assert "certificate leaf.pem ends" in done.out
    assert "not a certificate" in staffed.refused("status", *HELD, "--certificate", "pw", code=2)


def test_issue_names_the_newest_and_copies_to_the_node(staffed: Office) -> None:
    trust = books.load([staffed.path("exchange.bundle")], now_ms=now_ms()).founded()
    before = trust.status("nl")
    done = staffed.ok(
        *("status", "issue", "--bundle", "exchange.bundle", "--keystore", "nl-duty.keys", "--json"),
        *("--copy-to", "at-nl.seoul-1/documents.bundle"),
    )
    assert before is not None
    assert done.json["document"] == f"nl status 1.{before.version + 1}"
    copy = staffed.path("at-nl.seoul-1") / "documents.bundle"
    assert copy.read_bytes() == staffed.path("exchange.bundle").read_bytes()
    after = books.load([copy], now_ms=now_ms()).founded().status("nl")
    assert after is not None
    assert (after.version, after.roster.version) == (before.version + 1, 1)


def test_several_holders_sign_a_status_together(staffed: Office) -> None:
    staffed.ok("status", "draft", "nl", *HELD, "--out", "s")
    staffed.sign("status", "s", "nl-duty", "s.signed", *HELD)
    staffed.ok("status", "combine", "s.signed", *HELD, "--out", "s.whole")
    staffed.ok("status", "publish", "s.whole", *HELD, "--out", "exchange.bundle", "--replace")
    status = books.load([staffed.path("exchange.bundle")], now_ms=now_ms()).founded().status("nl")
    assert status is not None
    assert status.version == 2


def test_the_service_goes_on_after_a_failure() -> None:
    """Five minutes after a failure, a day after a success."""
    outcomes = iter([{"document": "a"}, TocsinError("disk full", hint="make room"), {"document": "b"}])
    waited: list[float] = []

    def once() -> dict[str, object]:
        outcome = next(outcomes)
        if isinstance(outcome, TocsinError):
            raise outcome
        return outcome

    def wait(seconds: float) -> bool:
        waited.append(seconds)
        return len(waited) == 3

    command.repeat(once, every_ms=DAY_MS, wait=wait, as_json=True)
    assert waited == [86_400, 300, 86_400]


def test_the_service_issues_and_stops_when_told(staffed: Office) -> None:
    arguments = [
        "status",
        "serve",
        "--bundle",
        "exchange.bundle",
        "--keystore",
        "nl-duty.keys",
        "--every",
        "1s",
        "--json",
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    running = subprocess.Popen(
        [sys.executable, "-m", "keys.cli", *arguments],
        cwd=staffed.directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stdout is not None
    issued = [json.loads(running.stdout.readline())["document"] for _ in range(2)]
    assert issued == ["nl status 1.2", "nl status 1.3"]
    running.send_signal(signal.SIGTERM)
    assert running.wait(20) == 0
    status = books.load([staffed.path("exchange.bundle")], now_ms=time.time_ns() // 1_000_000).founded().status("nl")
    assert status is not None
    assert status.version >= 3
    assert "too often" in staffed.refused(*arguments[:-2], "10ms", code=2)
