"""Attack 41: hostile text in a report, in a refusal, in a file. Inert in terminal, page, plot and log.

Each is refused for its reason, and succeeds once that one check is switched off: so each test is known to bite.
That every text field is cleaned is in tests/exchange/test_text.py.
"""

import io
import re
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import structlog
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from rich.console import Console

from exchange import reading_cli as cli
from exchange import wire
from exchange.desk import Delivery, Refused
from exchange.desk import events as desk_events
from exchange.desk.events import Origin, Receipt
from exchange.v1 import report_pb2 as rep
from exchange.watch import cap, plot
from exchange.watch.alerts_life import Chain, Heard
from exchange.watch.defaults import LEADING
from exchange.watch.tables import Monthly
from exchange.watch.thresholds import BUDGETS
from tests.attacks.marks import attack
from tests.exchange.test_text import HOSTILE, MARKUP, assert_inert, poison
from tests.world import NOON, SENDER

Patch = pytest.MonkeyPatch
ESCAPES = [*HOSTILE.values()]
LINK = "[link=http://evil]click[/link] [bold]loud[/bold]"


@pytest.fixture
def screen(monkeypatch: Patch) -> io.StringIO:
    """What a person sees of `tocsin`, on a terminal."""
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=400, color_system=None)
    monkeypatch.setattr(cli, "out", console)
    monkeypatch.setattr(cli, "err", console)
    return shown


def delivery(text: str, kind: str = "report") -> Delivery:
    """An item with the text in every field that is one."""
    item = rep.Item()
    poison(getattr(item, kind), text)
    origin = Origin(SENDER, "minerals", 3, 1, NOON, Receipt(b"i" * 32, 0, (), b"note"))
    return Delivery(item.SerializeToString(), 0, origin, item)


def visible(text: str) -> str:
    """Without the borders and line ends of the console itself."""
    return re.sub(r"[\n\u2500-\u257f]", "", text)


# ---- terminal


@attack(41, off="clean_message")
@pytest.mark.parametrize("text", ESCAPES, ids=[*HOSTILE])
def test_41_escapes_in_a_report_reach_no_terminal(text: str, screen: io.StringIO, monkeypatch: Patch) -> None:
    cli._show([delivery(text)], as_json=False)
    cli._show([delivery(text)], as_json=True)
    assert_inert(visible(screen.getvalue()))
    # Two lines of defence: what comes is cleaned, and what is shown is escaped. Both off:
    monkeypatch.setattr(desk_events, "clean_message", lambda message: message)
    monkeypatch.setattr(cli, "printable", lambda text: text)
    assert delivery(text).report.summary[0].text == text


@attack(41, off="printable")
def test_41_each_line_of_defence_holds_alone(screen: io.StringIO, monkeypatch: Patch) -> None:
    hostile = HOSTILE["terminal colour"]
    with monkeypatch.context() as patch:
        patch.setattr(desk_events, "clean_message", lambda message: message)
        cli._show([delivery(hostile)], as_json=False)
        assert_inert(visible(screen.getvalue()))
    monkeypatch.setattr(desk_events, "clean_message", lambda message: message)
    monkeypatch.setattr(cli, "printable", lambda text: text)
    cli._show([delivery(hostile)], as_json=False)
    assert "\x1b[31m" in screen.getvalue()


@attack(41, off="Text")
def test_41_markup_in_a_report_is_only_text(screen: io.StringIO, monkeypatch: Patch) -> None:
    for text in (*MARKUP, LINK):
        cli._show([delivery(text)], as_json=False)
        assert text in screen.getvalue().replace("\n", "")
    screen.truncate(0)
    # A plain string in a table is parsed as markup: the words "click" and "loud" stay, the brackets act.
    monkeypatch.setattr(cli, "Text", lambda text: text)
    cli._show([delivery(LINK)], as_json=False)
    assert LINK not in screen.getvalue()


@attack(41, off="printable")
def test_41_what_a_hostile_node_says_drives_no_terminal(screen: io.StringIO, monkeypatch: Patch) -> None:
    """The words of a refusal are the node's own: event of a desk, shown by `tocsin follow`."""
    event = Refused(b"i" * 32, "POLICY_AUDIENCE", f"{HOSTILE['terminal title']} {LINK}")
    cli._say_event(event)
    assert_inert(visible(screen.getvalue()))
    assert LINK in screen.getvalue()
    monkeypatch.setattr(cli, "printable", lambda text: text)
    cli._say_event(event)
    assert "\x1b]0;" in screen.getvalue()


# ---- log


class Failure:
    """A failed call, as gRPC gives it."""

    def __init__(self, message: str) -> None:
        status = status_pb2.Status(code=7, message=message)
        detail = any_pb2.Any()
        detail.Pack(error_details_pb2.ErrorInfo(reason=message, domain=wire.DOMAIN, metadata={"hint": message}))
        status.details.append(detail)
        self._status = status

    def code(self) -> Any:
        return wire.grpc.StatusCode.PERMISSION_DENIED

    def details(self) -> str:
        return self._status.message

    def trailing_metadata(self) -> Any:
        return (("grpc-status-details-bin", self._status.SerializeToString()),)


@attack(41, off="printable")
def test_41_what_the_other_end_answers_drives_no_log(monkeypatch: Patch) -> None:
    """A log line without a space in it is written as it is: the text must be harmless before it comes there."""
    hostile = HOSTILE["terminal colour"]

    def logged() -> str:
        error = wire.error_from(Failure(hostile))  # type: ignore[arg-type]
        assert isinstance(error, wire.RemoteError)
        written = io.StringIO()
        log = structlog.wrap_logger(
            structlog.PrintLogger(written), processors=[structlog.dev.ConsoleRenderer(colors=False)]
        )
        log.warning("following failed", reason=error.rule, text=str(error), hint=error.hint)
        return written.getvalue()

    assert_inert(logged())
    monkeypatch.setattr(wire, "printable", lambda text: text)
    assert "\x1b[31m" in logged()


# ---- page and plot


class Tags(HTMLParser):
    """Which elements and attributes a page has."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


def page(text: str) -> str:
    """A back-test with the text in every name, unit, reason and label."""
    label = next(iter(LEADING))
    alert = {"series": text, "month": "2024-03", "outcome": "hit", "why": text}
    row = {
        "label": label, "rule": LEADING[label], "name": text, "budget": min(BUDGETS), "threshold": 1.0, "recall": 0.5,
        "recall_95": (0.1, 0.9), "false_per_year_95": (0.0, 1.0), "events": 1, "median_lead_months": 2.0,
        "false_per_year": 0.1, "alerts": [alert],
    }  # fmt: skip
    about = {"series": text, f"events_{label}": ["2024-05"], "scored_from": text}
    pool = {
        "rule": text, "name": text, "alone_flags_per_reporter_year": 1, "months": ["2024-01", "2024-02"],
        "share": [0.1, 0.9], "expected": [0.2, 0.2], "alarms": [{"month": "2024-02", "why": text}],
    }  # fmt: skip
    result = {
        "thresholds": text,
        "prices": {"results": [row], "series": [about]},
        "trade": [{"hs": text, "reporters": 3, "pools": [pool]}],
    }
    monthly = Monthly(text, 24_288, np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), unit=text)
    return plot.page(result, [monthly])


MARKUPS = [
    *MARKUP, '"><img src=x onerror=alert(1)>', "</title><script>x</script>", "</svg><iframe>", "' onload='x",
    "<svg onload=x>", "&#60;script&#62;",
]  # fmt: skip


@attack(41, off="escape")
def test_41_markup_is_inert_in_page_and_plot(monkeypatch: Patch) -> None:
    honest = Tags(page("honest"))
    for text in MARKUPS:
        made = page(text)
        tags = Tags(made)
        assert (tags.tags, tags.attributes) == (honest.tags, honest.attributes), text
        # Each plot stands alone as XML, with the text in it as text.
        plots = re.findall(r"<svg.*?</svg>", made, re.DOTALL)
        assert plots
        for one in plots:
            read = ElementTree.fromstring(one)
            assert {element.tag for element in read.iter()} <= {"svg", "line", "text", "path", "rect", "title"}
    assert not honest.tags & {"script", "iframe", "img"}
    assert not any(name.startswith("on") for name in honest.attributes)
    monkeypatch.setattr(plot, "escape", str)
    assert "script" in Tags(page("<script>alert(1)</script>")).tags
    assert "onerror" in Tags(page('"><img src=x onerror=alert(1)>')).attributes


# ---- XML


def exported(text: str) -> bytes:
    """An alert with the text in every field that is one, as CAP 1.2."""
    alert = rep.Alert()
    poison(alert, text)
    alert.id, alert.type, alert.status = b"a" * 16, rep.ALERT_TYPE_ALERT, rep.ALERT_STATUS_ACTUAL
    for reference in alert.references:
        reference.id = b"r" * 16
    heard = Heard(SENDER, NOON, alert, b"d" * 32, 3)
    return cap.xml(Chain(heard, heard, alert), heard, alert)


@attack(41, off="clean")
def test_41_text_in_an_exported_alert_is_only_text(monkeypatch: Patch) -> None:
    honest = {element.tag for element in ElementTree.fromstring(exported("honest")).iter()}
    for text in (*HOSTILE.values(), *MARKUPS):
        read = ElementTree.fromstring(exported(text))
        assert {element.tag for element in read.iter()} == honest
        for element in read.iter():
            assert_inert(element.text or "")
    assert MARKUP[0] in {element.text for element in ElementTree.fromstring(exported(MARKUP[0])).iter()}
    monkeypatch.setattr(cap, "clean", lambda text, **_: text)
    with pytest.raises(ElementTree.ParseError):
        ElementTree.fromstring(exported(HOSTILE["terminal colour"]))
    bidi = HOSTILE["bidi override"]
    assert any(bidi in (element.text or "") for element in ElementTree.fromstring(exported(bidi)).iter())
