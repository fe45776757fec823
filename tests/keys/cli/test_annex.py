"""Annexes: from the thresholds that `tocsin watch tune` writes to what every node and desk takes."""

import json

import pytest

from exchange.watch.annexed import thresholds_of
from exchange.watch.defaults import DEFAULTS
from keys.cli import annex as module
from keys.cli import book as books
from keys.cli.annex import rows_of
from keys.cli.terminal import now_ms
from keys.errors import UsageError
from tests.keys.cli.office import Office

HELD = ("--held", "exchange.bundle")
DAY_MS = 86_400_000


def tuned(office: Office, name: str = "tuned.json", **more: float) -> str:
    data = DEFAULTS.to_json()
    data["thresholds"] += [
        {"rule": "W1", "label": "A", "budget": 0.2, "threshold": value, "item": item} for item, value in more.items()
    ]
    office.path(name).write_text(json.dumps(data))
    return name


def signed(office: Office, draft: str, out: str) -> str:
    for who in ("kr-staff", "nl-staff"):
        office.sign("annex", draft, who, f"{out}.{who}", *HELD)
    office.ok("annex", "combine", f"{out}.kr-staff", f"{out}.nl-staff", *HELD, "--out", out)
    return out


def test_tuned_thresholds_become_an_annex_that_desks_use_from_its_day_on(staffed: Office) -> None:
    shown = staffed.ok("annex", "draft", tuned(staffed, gallium=-0.5), "--out", "annex.draft", "--in", "7d", *HELD).out
    assert "W1 A 0.2 at -0.5, gallium" in shown
    assert "W1 A 0.2 at -0.8084, all items" in shown
    assert "lacks signatures" in staffed.run("annex", "verify", "annex.draft", *HELD).err
    staffed.ok("annex", "draft", tuned(staffed, "other.json", tin=1.0), "--out", "late.draft", *HELD)
    signed(staffed, "annex.draft", "annex.1")
    staffed.ok("annex", "publish", "annex.1", *HELD, "--out", "exchange.bundle", "--replace")
    trust = books.load([staffed.path("exchange.bundle")], now_ms=now_ms()).founded()
    assert trust.annex(now_ms()) is None
    thresholds, unused = thresholds_of(trust.annex(now_ms() + 8 * DAY_MS))
    assert thresholds.for_item("name:gallium").of("W1", "A", 0.2) == -0.5
    for rule, label in (("W1", "A"), ("W2", "B"), ("W5", "B")):
        value = DEFAULTS.of(rule, label, 0.2)
        assert value is not None
        assert value <= (thresholds.of(rule, label, 0.2) or 0) <= value + 1e-6
    # What no screen asks for is said.
    assert any("W3 A 0.2" in one for one in unused)

    # The next one follows it, and takes effect later.
    said = staffed.refused("annex", "draft", "tuned.json", "--out", "early", "--in", "6d", *HELD, code=2)
    assert "no later" in said
    staffed.ok("annex", "draft", "tuned.json", "--out", "annex.draft2", "--in", "8d", *HELD)
    signed(staffed, "annex.draft2", "annex.2")
    # One drafted against older documents is refused before anybody signs it.
    said = staffed.refused(*staffed.signing("annex", "late.draft", "kr-staff", "late", *HELD, "--instead"))
    assert "does not follow" in said


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"thresholds": [1]}',
        '{"thresholds": [{"rule": "W1", "label": "A", "budget": 0.2, "threshold": "1"}]}',
        '{"thresholds": [{"rule": "W1", "label": "A", "budget": 0.2, "threshold": true}]}',
        '{"thresholds": [{"rule": "W1", "label": "A", "budget": 0.2, "threshold": NaN}]}',
        '{"thresholds": [{"rule": "W1", "label": "A", "budget": 0.2, "threshold": 1e300}]}',
        "nonsense",
    ],
)
def test_what_are_no_thresholds_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="these are no thresholds"):
        rows_of(text.encode())


def test_two_for_one_and_none_and_too_many_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"rule": "W1", "label": "A", "budget": 0.2, "threshold": 1}

    def rows(*some: dict[str, object]) -> bytes:
        return json.dumps({"thresholds": some}).encode()

    with pytest.raises(UsageError, match=r"two thresholds for W1 A 0\.2"):
        rows_of(rows(row, row))
    with pytest.raises(UsageError, match="0 thresholds"):
        rows_of(rows())
    monkeypatch.setattr(module, "MAX_THRESHOLDS", 1)
    with pytest.raises(UsageError, match="2 thresholds"):
        rows_of(rows(row, {**row, "item": "tin"}))
