"""The command line as a user runs it: the demo twice, files good and bad, exit codes, and every line of the README."""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from exchange.demo.run import start_node

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
PUBLISHER, ABROAD, COMPANY = "kr.the-hague-economic", "nl.seoul-economic", "nl.veldhoven-litho-supply"
WIDE = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
ROW = "250410,natural graphite,mineral,CN,watch,licence rule\n"
HEADER = "hs,item,stage,country,level,summary\n"


def tocsin(*arguments: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / "tocsin", *arguments], capture_output=True, encoding="utf-8", env=WIDE, timeout=100, cwd=cwd
    )


def answer(*arguments: str | Path) -> Any:
    done = tocsin(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def sealed(desk: Path) -> int:
    """How many envelopes a desk ever sealed."""
    with contextlib.closing(sqlite3.connect(desk / "desk.db")) as file:
        return int(file.execute("SELECT count(*) FROM sent").fetchone()[0])


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What `tocsin demo` leaves after its second run, with both nodes started again."""
    place = tmp_path_factory.mktemp("cli") / "demo"
    first, second = (tocsin("demo", "--dir", place, "--json") for _ in range(2))
    for done in (first, second):
        assert done.returncode == 0, done.stderr
        outcome = json.loads(done.stdout)
        assert outcome["published"] == outcome["opened"] > 1000
        assert (outcome["refused"], outcome["lost"]) == (1, 0)
    running = [start_node(place / node) for node in ("kr.the-hague-1", "nl.seoul-1")]
    yield place
    for process in running:
        process.send_signal(signal.SIGTERM)
    assert [process.wait(20) for process in running] == [0, 0]


def test_the_demo_replaces_nothing_but_a_demo(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    done = tocsin("demo", "--dir", tmp_path)
    assert done.returncode == 2
    assert "is no demo" in done.stderr
    assert "hint: choose another --dir" in done.stderr
    assert (tmp_path / "thesis.txt").exists()


def test_the_inbox_shows_what_the_demo_sent(demo: Path) -> None:
    rows = answer("inbox", "--desk", demo / ABROAD, "--channel", "minerals", "--last", "0")
    assert len(rows) > 900
    assert {row["sender"] for row in rows} >= {"kr.the-hague/economic"}
    assert len({row["report"]["id"] for row in rows}) == len(rows)
    company = answer("inbox", "--desk", demo / COMPANY, "--last", "0")
    assert {(row["channel"], row["marking"]) for row in company} == {("chips", "GREEN")}
    done = tocsin("inbox", "--desk", demo / ABROAD, "--channel", "minerals", "--last", "2")
    assert done.returncode == 0
    assert "kr.the-hague/economic" in done.stdout
    assert "items in the archive of nl.seoul/economic" in done.stderr


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl"])
def test_a_good_file_is_published_whole(demo: Path, tmp_path: Path, kind: str) -> None:
    report = {"subject": {"hs": "250410", "item": f"graphite by {kind}", "stage": "mineral"}, "level": "watch"}
    file = tmp_path / f"reports.{kind}"
    file.write_text(
        {
            "csv": HEADER + 2 * ROW.replace("natural graphite", f"graphite by {kind}"),
            "json": json.dumps([report, report]),
            "jsonl": 2 * (json.dumps(report) + "\n"),
        }[kind]
    )
    (dry,) = answer("publish", "materials", file, "--desk", demo / PUBLISHER, "--dry-run")
    assert (dry["reports"], dry["published"]) == (2, 0)
    (done,) = answer("publish", "materials", file, "--desk", demo / PUBLISHER)
    assert (done["published"], done["waiting"], done["events"]) == (2, 0, [])
    assert done["readers"] == ["kr.motie/supply", "nl.bz/supply", "nl.bz/watch", "nl.seoul/economic"]
    limit, rows = time.monotonic() + 30, list[Any]()
    while len(rows) < 2 and time.monotonic() < limit:
        rows += answer("follow", "materials", "--desk", demo / ABROAD, "--once")
    assert [row["report"]["subject"]["item"] for row in rows] == [f"graphite by {kind}"] * 2


def test_what_became_of_a_report_is_shown_for_each_reader(demo: Path, tmp_path: Path) -> None:
    file = tmp_path / "reports.csv"
    file.write_text(HEADER + ROW)
    (done,) = answer("publish", "consultation", file, "--desk", demo / PUBLISHER)
    (envelope,) = done["envelopes"]

    def stages() -> dict[str, Any]:
        ((shown,),) = answer("track", envelope, "--desk", demo / PUBLISHER)
        assert shown["taken"]["node"] == "kr.the-hague-1"
        return {reader["desk"]: reader for reader in shown["readers"]}

    limit = time.monotonic() + 30
    while not stages()["nl.bz/supply"]["delivered"] and time.monotonic() < limit:
        time.sleep(0.1)
    assert stages()["nl.bz/supply"]["delivered"]["node"] == "nl.seoul-1"
    (read,) = answer("follow", "consultation", "--desk", demo / ABROAD, "--once")[-1:]
    assert read["envelope"] == envelope
    while not stages()["nl.seoul/economic"]["opened_ms"] and time.monotonic() < limit:
        time.sleep(0.1)
    found = stages()
    assert found["nl.seoul/economic"]["opened_ms"]
    assert not found["nl.bz/supply"]["opened_ms"]
    ((held,),) = answer("track", read["report"]["id"], "--desk", demo / PUBLISHER, "--verify")
    assert [(each["subject"], each["bad"]) for each in held["verified"]] == [
        ("taken by kr.the-hague-1", False),
        ("delivered at nl.seoul-1", False),
        ("opened by nl.seoul/economic", False),
    ]
    shown = tocsin("track", envelope, "--desk", demo / PUBLISHER, "--offline")
    assert "nl.bz/supply" in shown.stdout
    assert "not yet" in shown.stdout
    assert "delivered: " in shown.stderr, "what it proves is said"


def test_a_kept_proof_that_does_not_hold_is_named(demo: Path, tmp_path: Path) -> None:
    desk = tmp_path / "desk"
    shutil.copytree(demo / PUBLISHER, desk)
    with contextlib.closing(sqlite3.connect(desk / "desk.db")) as file, file:
        (envelope,) = file.execute("SELECT id FROM delivered ORDER BY rowid DESC LIMIT 1").fetchone()
        file.execute("UPDATE delivered SET proof = zeroblob(length(proof)) WHERE id = ?", (envelope,))
    done = tocsin("track", envelope.hex(), "--desk", desk, "--verify")
    assert done.returncode == 1
    assert "BAD delivered at nl.seoul-1: PROOF_BAD" in done.stdout
    for unknown, reason in (("00" * 32, "sent no envelope"), ("00" * 16, "sent no report"), ("it", "is no id")):
        done = tocsin("track", unknown, "--desk", desk)
        assert done.returncode == 2
        assert reason in done.stderr


BAD = {
    "missing column": ("x.csv", "hs,item,stage,level\n250410,graphite,mineral,watch\n", r"row 1, country"),
    "bad level": ("x.csv", HEADER + ROW + ROW.replace("watch", "awful"), r"row 3, level"),
    "bad number": (
        "x.csv",
        "hs,item,stage,country,level,indicator,value,unit,period\n"
        "250410,graphite,mineral,CN,watch,stock,1.528.25,TNE,2023-11\n",
        r"row 2, value",
    ),
    "unknown unit": (
        "x.csv",
        "hs,item,stage,country,level,indicator,value,unit,period\n"
        "250410,graphite,mineral,CN,watch,stock,15,BUCKETS,2023-11\n",
        r"row 2, unit",
    ),
    "bad code": ("x.csv", HEADER + ROW.replace("250410", "25041"), r"row 2, hs"),
    "bad object": ("x.json", '[{"level": "watch", "subjekt": {}}]', r"row 1, subjekt"),
    "bad line": ("x.jsonl", '{"level": "watch"\n', r"row 1, .*JSON"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_named_by_row_and_column_and_nothing_is_taken(demo: Path, tmp_path: Path, case: str) -> None:
    name, text, named = BAD[case]
    file = tmp_path / name
    file.write_text(text)
    before = sealed(demo / PUBLISHER)
    done = tocsin("publish", "minerals", file, "--desk", demo / PUBLISHER, "--json")
    assert done.returncode == 1
    assert re.search(named, done.stderr), done.stderr
    assert "hint:" in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert sealed(demo / PUBLISHER) == before > 0


def test_a_company_is_refused_with_the_rule(demo: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text(HEADER + ROW)
    done = tocsin("publish", "chips", file, "--desk", demo / COMPANY, "--marking", "GREEN")
    assert done.returncode == 1
    assert "agreement 1 does not let nl.veldhoven-litho/supply publish on chips" in done.stderr
    assert "hint: see `tocsin explain`" in done.stderr


def test_explain_says_who_reads_and_why(demo: Path) -> None:
    (rows,) = answer("explain", "chips", "--desk", demo / COMPANY, "--sender", "kr.the-hague/economic")
    reads = {row["desk"]: row for row in rows}
    assert not reads["nl.veldhoven-litho/supply"]["reads"]
    assert "reads up to GREEN, this is AMBER" in reads["nl.veldhoven-litho/supply"]["why"]
    assert reads["nl.seoul/economic"]["reads"]
    (rows,) = answer("explain", "chips", "--desk", demo / COMPANY, "--marking", "GREEN", "--sender", "kr.motie/supply")
    assert {row["desk"]: row["reads"] for row in rows}["nl.veldhoven-litho/supply"]


def test_documents_and_status_can_be_looked_at_while_the_node_runs(demo: Path) -> None:
    (rows,) = answer("documents", "show", demo / ABROAD)
    assert {row["type"] for row in rows} == {"party", "agreement", "roster", "status", "card"}
    assert {row["signatures"] for row in rows if row["type"] == "agreement"} == {6}
    assert answer("documents", "diff", demo / ABROAD, demo / COMPANY) == [[]]
    (status,) = answer("node", "status", demo / "nl.seoul-1")
    assert status["node"] == "nl.seoul-1"
    assert status["entries"] > 0
    assert not status["refused"]
    assert status["peers"]["kr.the-hague-1"]["position"] > 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["publish", "minerals", "absent.csv", "--desk", "PUB"], 2, "cannot read absent.csv"),
        (["publish", "minerals", "report.xlsx", "--desk", "PUB"], 2, "neither .json, .jsonl nor .csv"),
        (["publish", "minerals", "examples/reports.csv", "--desk", "PUB", "--marking", "RED"], 2, "named desks"),
        (["publish", "gossip", "examples/reports.csv", "--desk", "PUB"], 1, "publish on gossip"),
        (["inbox", "--desk", "nowhere"], 2, "nowhere/desk.toml does not exist"),
        (["node", "status", "nowhere"], 2, "no node has run in nowhere"),
        (["node", "run", "nowhere"], 2, "nowhere/node.toml does not exist"),
        (["documents", "show", "nowhere"], 2, "nowhere does not exist"),
        (["desk", "init", "x", "--name", "nl.seoul/x", "--node", "nl.seoul-1", "--lineage", "12"], 2, "64 hex digits"),
        (["publish"], 2, "Missing argument"),
        (["--help"], 0, ""),
    ],
)
def test_exit_codes_and_hints(demo: Path, arguments: list[str], code: int, said: str) -> None:
    done = tocsin(*(str(demo / PUBLISHER) if word == "PUB" else word for word in arguments))
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_new_keys_are_made_by_hand(tmp_path: Path) -> None:
    lineage = "ab" * 32
    node = ["node", "init", str(tmp_path / "node"), "--name", "nl.seoul-2", "--lineage", lineage]
    node += ["--endpoint", "127.0.0.1:7443", "--enrol-endpoint", "127.0.0.1:7444"]
    desk = ["desk", "init", str(tmp_path / "desk"), "--name", "nl.seoul/trade", "--node", "nl.seoul-2"]
    for command in (node, [*desk, "--lineage", lineage]):
        done = tocsin(*command)
        assert done.returncode == 0, done.stderr
        assert len(bytes.fromhex(done.stdout.strip())) > 1000
        again = tocsin(*command)
        assert again.returncode == 2
        assert "already" in again.stderr
    assert {path.stat().st_mode & 0o077 for path in tmp_path.rglob("*.keys*")} == {0}


def by_hand() -> list[str]:
    """Commands of the README's section "By hand", in order."""
    section = (ROOT / "README.md").read_text().partition("## By hand")[2].partition("\n## ")[0]
    lines = "\n".join(re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)).splitlines()
    return [line.partition(" #")[0].rstrip() for line in lines if line.strip()]


def test_the_readme_by_hand_runs_as_it_stands(tmp_path: Path) -> None:
    for name in (".venv", "examples"):
        (tmp_path / name).symlink_to(ROOT / name if name != ".venv" else BIN.parent)
    commands = by_hand()
    assert len(commands) > 10
    running: list[subprocess.Popen[bytes]] = []
    printed: dict[str, str] = {}
    lineage = ""
    try:
        for command in commands:
            if command.endswith("&"):
                words = shlex.split(command[:-1])
                running.append(subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE))
                pipe = running[-1].stderr
                assert pipe is not None
                assert any(b"serves on" in line for line in pipe)
                continue
            if command.startswith("kill"):
                break
            command = command.replace("LINEAGE", lineage)
            limit = time.monotonic() + 30
            while True:
                words = shlex.split(command)
                done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60, env=WIDE)
                assert done.returncode == 0, (command, done.stderr)
                printed[command] = done.stdout
                if "found.py" in command:
                    lineage = done.stdout.split()[1]
                # Federation takes a moment; a person would look again.
                if "follow" not in command or done.stdout or time.monotonic() > limit:
                    break
    finally:
        for process in running:
            process.send_signal(signal.SIGINT)
        codes = [process.wait(20) for process in running]
    assert len(running) == 2
    assert codes == [0, 0]
    (followed,) = [text for command, text in printed.items() if " follow " in command]
    assert "Buyers report longer" in followed


def test_the_example_scripts_of_the_readme_run(demo: Path) -> None:
    text = (ROOT / "README.md").read_text()
    for name in ("publish.py", "subscribe.py"):
        assert (ROOT / "examples" / name).read_text() in text, f"README shows another examples/{name}"
    marked = f"by script {time.time_ns()}"
    run = [sys.executable, ROOT / "examples" / "publish.py", demo / PUBLISHER, marked]
    done = subprocess.run(run, capture_output=True, text=True, timeout=60)
    assert "has its receipt" in done.stdout, done.stderr
    reader = subprocess.Popen(
        [sys.executable, ROOT / "examples" / "subscribe.py", demo / "nl.bz-supply", "minerals"],
        stdout=subprocess.PIPE,
        text=True,
        # A test run in the background of a shell ignores it, and its children with it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert reader.stdout is not None
    assert any(f"kr.the-hague/economic [en] {marked}\n" == line for line in reader.stdout)
    reader.send_signal(signal.SIGINT)
    assert reader.wait(20) == 0
