"""A desk is seized: panic, push, what the key had signed, and the audit of the logs, as people type it, over real nodes."""

import contextlib
import json
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from exchange.clock import now_ms
from exchange.demo.found import Founded, found
from exchange.demo.run import start_node
from keys import desk_keys, documents, incident, release
from keys.keystore import Keystore
from keys.states import Revoked
from keys.trust import Trust
from keys.v1 import documents_pb2 as docs
from tests.cli.test_cli import HEADER, ROW, tocsin

LOST, COLLEAGUE, ABROAD = "kr.the-hague/economic", "kr.motie/supply", "nl.bz/supply"
KR, NL = "kr.the-hague-1", "nl.seoul-1"


@pytest.fixture
def founded(tmp_path: Path) -> Iterator[Founded]:
    founded = found(tmp_path / "x", title="test", desks=(LOST, COLLEAGUE, ABROAD))
    running: list[subprocess.Popen[bytes]] = []
    try:
        running += [start_node(founded.directory / node) for node in (KR, NL)]
        yield founded
    finally:
        for process in running:
            process.send_signal(signal.SIGTERM)
        for process in running:
            process.wait(30)


def said(*arguments: str | Path, code: int = 0) -> Any:
    done = tocsin(*arguments, "--json")
    assert done.returncode == code, done.stderr + done.stdout
    return json.loads(done.stdout)


def until(found: Callable[[], Any]) -> Any:
    end = time.monotonic() + 40
    while not (result := found()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.5)
    return result


def test_a_seized_desk(founded: Founded, tmp_path: Path) -> None:
    lost, nl = founded.desk(LOST), founded.directory / NL
    with Keystore.open(lost / "desk.keys", b"") as store:
        ((key, _),) = desk_keys.names(store).items()
    rows = tmp_path / "r.csv"
    rows.write_text(HEADER + ROW)
    envelope = said("publish", "minerals", rows, "--desk", lost)["envelopes"][0]
    listed = tmp_path / "touched.jsonl"

    def touched(node: str) -> dict[str, Any]:
        said("node", "touched", founded.directory / node, "--key", key.hex(), "--out", listed)
        return {row["id"]: row for row in map(json.loads, listed.read_text().splitlines())}

    row = until(lambda: touched(NL).get(envelope))
    assert row["verdict"] == "counted"
    # The Korean node has signed what the Dutch log holds now: without it nothing counts later.
    until(lambda: cosigned(nl) > row["position"])
    assert said_bad(nl) == []
    renunciation = tmp_path / "r.bundle"
    done = said("desk", "panic", lost, "--out", renunciation, "--reason", "seized", "--yes")
    assert (done["node"], done["renunciations"]) == ("taken", 1)
    assert not (lost / "desk.keys").exists()
    row = until(lambda: (one := touched(NL)[envelope]) and one["reason"].startswith("the key of") and one)
    assert row["verdict"] == "counted"
    assert "renounced" in row["reason"]
    assert [one.id for one in incident.touched(listed.read_bytes(), (key,))] == [envelope]
    assert touched(KR)[envelope]["verdict"] == "refused", "the log of its own party proves nothing"
    # A second time there is nothing to renounce with, and the node is told nothing new.
    assert tocsin("desk", "panic", lost, "--out", tmp_path / "again", "--yes").returncode != 0
    assert said("push", renunciation, "--node", nl)["known"] == 1
    # The ministry revokes; a colleague pushes it.
    roster = tmp_path / "roster"
    keys = [held for owned in founded.parties["kr"].keys.values() for held in owned.values()]
    made = incident.end(
        trust_of(founded), LOST, Revoked(), reason="seized", now_ms=now_ms(), sign=release.at_hand(keys)
    )
    roster.write_bytes(docs.Bundle(documents=[each.document.encode() for each in made]).SerializeToString())
    assert said("push", roster, "--desk", founded.desk(COLLEAGUE))["refused"] == []
    forged = tmp_path / "forged"
    body = documents.body(made[0].document, docs.Roster)
    body.version += 1
    unsigned = documents.make(body)
    forged.write_bytes(docs.Bundle(documents=[unsigned.encode()]).SerializeToString())
    for target in (("--desk", founded.desk(COLLEAGUE)), ("--node", founded.directory / KR)):
        (refused,) = said("push", forged, *target, code=1)["refused"]
        assert refused["rule"] == "DOCUMENT_THRESHOLD"
    tocsin("follow", "minerals", "--desk", founded.desk(ABROAD), "--once")
    audited = said("audit", "--desk", founded.desk(ABROAD))
    assert audited["bad"] == 0
    assert any("1 envelopes checked" in finding["text"] for finding in audited["findings"])
    assert tocsin("audit").returncode == 2


def trust_of(founded: Founded) -> Trust:
    trust = Trust(founded.lineage)
    for document in founded.held:
        trust.take(document, now_ms=now_ms())
    return trust


def test_a_changed_byte_and_a_log_that_nobody_saw_are_found(tmp_path: Path) -> None:
    founded = found(tmp_path / "x", title="test", desks=(LOST,))
    node = founded.directory / KR
    first = said_bad(node)
    assert {finding["subject"] for finding in first} == {"cosignatures", f"log of {NL}"}
    with contextlib.closing(sqlite3.connect(node / "log.db")) as file, file:
        (data,) = file.execute("SELECT data FROM blob WHERE position = 3").fetchone()
        file.execute("UPDATE blob SET data = ? WHERE position = 3", (data[:80] + bytes([data[80] ^ 1]) + data[81:],))
    assert {finding["subject"] for finding in said_bad(node)} - {"cosignatures", f"log of {NL}"} == {
        "entry 3",
        "own log",
    }


def audited(node: Path) -> list[Any]:
    done = tocsin("audit", "--node", node, "--json")
    assert done.returncode in (0, 1), done.stderr
    return list(json.loads(done.stdout)["findings"])


def said_bad(node: Path) -> list[Any]:
    return [finding for finding in audited(node) if finding["bad"]]


def cosigned(node: Path) -> int:
    """Entries of a node's log under the newest head that the other node cosigned."""
    texts = [finding["text"] for finding in audited(node) if finding["subject"] == f"cosignature of {KR}"]
    return max((int(text.split()[1]) for text in texts), default=0)
