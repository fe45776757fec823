"""`tocsin watch exposure`: single points of failure, what a desk's reports change, and the change since a time."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from exchange.cli import app
from exchange.v1 import report_pb2 as pb
from tests.desk.memory import Exchange
from tests.watch.test_service import HAGUE, SEOUL, fresh_id, tell, watch


def run(*words: str) -> list[dict[str, object]]:
    done = CliRunner().invoke(app, ["watch", "exposure", *words, "--json"])
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def share(percent: float, supplier: str) -> pb.Report:
    return pb.Report(
        id=fresh_id(),
        subject=pb.Subject(hs="250410", item="natural graphite", stage=pb.STAGE_MINERAL),
        place=pb.Place(country=supplier),
        level=pb.STATUS_LEVEL_NORMAL,
        indicators=[pb.Indicator(kind=pb.INDICATOR_KIND_SUPPLIER_SHARE, market=pb.MARKET_IMPORT, value=percent, unit="P1",
                                 period="2026-08")],
        sources=[pb.Source(name="customs", reliability=pb.RELIABILITY_A, credibility=pb.CREDIBILITY_1)],
    )  # fmt: skip


def test_published_single_points_of_both_countries() -> None:
    korea, netherlands = run()
    assert (korea["country"], netherlands["country"]) == ("KR", "NL")
    rows = {row["item"]: row for row in korea["items"]}  # type: ignore[attr-defined]
    assert (rows["gallium"]["top"], rows["gallium"]["stops"]) == ("CN", ["power-rf-gan", "rf-chip"])
    assert rows["gallium"]["hhi"] == pytest.approx(0.98, abs=0.01)
    assert "dram" in {row["item"] for row in netherlands["items"]}  # type: ignore[attr-defined]
    assert "gallium" in CliRunner().invoke(app, ["watch", "exposure", "--for", "KR"]).stdout


async def test_reports_of_a_desk_count_and_their_change_is_told(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    await tell(exchange, share(60, "CN"))
    await watch(exchange)
    exchange.clock.now_ms += 40 * 86_400_000
    await tell(exchange, share(90, "CN"))
    await watch(exchange)
    monkeypatch.setattr("exchange.watch.exposure_cli.now_ms", exchange.clock)
    desk = str(Path(exchange.directories[SEOUL]))
    (korea,) = run("--for", "KR", "--desk", desk, "--node", "graphite", "--since", "2026-10")
    (row,) = korea["items"]  # type: ignore[misc]
    assert (row["of"], row["share"], row["share_before"]) == ("KR", 0.9, 0.6)
    assert row["hhi_change"] == pytest.approx(0.45)
    assert row["source"] == HAGUE.partition("/")[0]


@pytest.mark.parametrize(
    ("words", "said"), [(["--since", "soon"], "no day"), (["--since", "2999-01"], "no day"), (["--node", "x"], "graph")]
)
def test_what_cannot_be_asked_is_refused(words: list[str], said: str) -> None:
    done = CliRunner().invoke(app, ["watch", "exposure", *words])
    assert done.exit_code != 0
    assert said in str(done.exception)
