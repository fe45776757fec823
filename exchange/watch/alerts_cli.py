"""`tocsin alerts`: what warns, and what people do about it; `tocsin watch run`."""

import asyncio
import os
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from exchange import files
from exchange.desk import Desk
from exchange.options_cli import DeskDir, Json, PassphraseFile, emit
from exchange.policy import MARKING_NAMES
from exchange.report import new_report_id, to_dict
from exchange.report.alerts import CRISIS_POINTS
from exchange.text import printable
from exchange.v1 import report_pb2 as pb
from exchange.watch import alerts, cap, recompute
from exchange.watch.alerts import OPEN, Setting
from exchange.watch.alerts_life import Chain
from exchange.watch.annexed import thresholds_of
from exchange.watch.crisis import points_of, put_points
from exchange.watch.letters import ledger_of
from exchange.watch.service import Watch, countries_of
from keys.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="Warnings: read, acknowledge, consult, end them.")
err = Console(stderr=True)

Which = Annotated[str, typer.Argument(help="The alert: the start of its id, 6 digits or more.")]
Why = Annotated[str, typer.Option("--why", help="In words; goes to all who read the alert.")]
LEAST_DIGITS: Final = 6
FLUSH_S: Final = 30.0


def open_desk(directory: Path, passphrase_file: Path | None) -> Desk:
    """The desk in a directory, not at work yet."""
    return Desk.open(directory, passphrase=files.passphrase(passphrase_file))


def find(desk: Desk, which: str) -> Chain:
    """The one alert whose id begins so.

    Raises:
        UsageError: None does, or several do.
    """
    if len(which.replace("-", "")) < LEAST_DIGITS:
        raise UsageError(f"{printable(which)} is too short", hint="the first 6 digits of the id, or more")
    found = ledger_of(desk.archive)[0].find(which)
    if len(found) != 1:
        what = "no alert has" if not found else f"{len(found)} alerts have"
        raise UsageError(f"{what} an id that begins {printable(which)}", hint="see `tocsin alerts list`")
    return found[0]


def setting_of(desk: Desk) -> Setting:
    """Exercise or actual, and the annex in force."""
    now = desk.clock()
    annex = desk.trust.annex(now)
    drill = desk.trust.agreement(now).body.drill
    status = pb.ALERT_STATUS_EXERCISE if drill else pb.ALERT_STATUS_ACTUAL
    return Setting(status, now, annex.version if annex else 0)


async def answer(desk: Desk, which: str, make: Callable[[Desk, Chain], pb.Item], channel: str = "alerts") -> Chain:
    """Send what follows on an alert, at its marking, to those who read it."""
    chain = find(desk, which)
    marking = MARKING_NAMES[chain.current.marking]
    to = sorted(set(chain.current.named) - {desk.name}) if marking == "RED" else ()
    await desk.publish(channel, make(desk, chain), marking=marking, to=to)
    return find(desk, which)


def acknowledgement(why: str = "", *, escalate: bool = False) -> Callable[[Desk, Chain], pb.Item]:
    """Makes an acknowledgement."""

    def make(desk: Desk, chain: Chain) -> pb.Item:
        said = alerts.acknowledged(
            chain.alert, chain.references, setting_of(desk), why=why, escalate=escalate, random=os.urandom(10)
        )
        return pb.Item(alert=said)

    return make


def consultation(text: str, *, kind: int = 0, language: str = "en") -> Callable[[Desk, Chain], pb.Item]:
    """Makes a consultation message: the request that opens a thread about the alert, or the next message in it."""

    def make(desk: Desk, chain: Chain) -> pb.Item:
        identity = new_report_id(desk.clock(), os.urandom(10))
        talk = [one for one in chain.said if isinstance(one.said, pb.Consultation)]
        said = pb.Consultation(id=identity, thread=identity, kind=pb.CONSULTATION_KIND_REQUEST)
        if talk and isinstance(talk[-1].said, pb.Consultation):
            said.thread, said.in_reply_to = talk[-1].said.thread, talk[-1].said.id
            said.kind = kind or pb.CONSULTATION_KIND_MESSAGE  # type: ignore[assignment]
        said.topic.extend(chain.alert.headline)
        said.body.add(language=language, text=text)
        said.references.extend(chain.references[-64:])
        return pb.Item(consultation=said)

    return make


def ending(step: int, why: str) -> Callable[[Desk, Chain], pb.Item]:
    """Makes the end of an alert."""

    def make(desk: Desk, chain: Chain) -> pb.Item:
        said = alerts.cancelled(
            chain.alert, chain.references, setting_of(desk), why=why, step=step, random=os.urandom(10)
        )
        return pb.Item(alert=said)

    return make


def updating(why: str, points: Mapping[str, str] | None = None) -> Callable[[Desk, Chain], pb.Item]:
    """Makes an update that says more, or puts points of its crisis report right.

    Raises:
        UsageError: The alert has no crisis report, and not all six points are given.
    """

    def make(desk: Desk, chain: Chain) -> pb.Item:
        fresh = pb.Alert()
        fresh.CopyFrom(chain.alert)
        fresh.id = new_report_id(desk.clock(), os.urandom(10))
        if points:
            put_points(fresh, points)
        return pb.Item(alert=alerts.updated(fresh, chain.references, why=why))

    return make


def _do(
    directory: Path, secret: Path | None, which: str, make: Callable[[Desk, Chain], pb.Item], channel: str = "alerts"
) -> None:
    async def act() -> None:
        async with open_desk(directory, secret) as desk:
            chain = await answer(desk, which, make, channel)
            left = await desk.flush(FLUSH_S)
            waits = f"; {left} envelopes wait for the node" if left else ""
            err.print(f"{chain.root.said.id.hex()[:13]}: {chain.state.value}{waits}", markup=False, highlight=False)

    asyncio.run(act())


@app.command("list")
def list_alerts(
    desk: DeskDir,
    all_: Annotated[bool, typer.Option("--all", help="Also those that are over.")] = False,
    as_json: Json = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Alerts that stand, oldest first: state, urgency, until when an answer is due."""
    opened = open_desk(desk, passphrase_file)
    ledger, problems = ledger_of(opened.archive)
    now = opened.clock()
    for chain in ledger.chains():
        if all_ or chain.open_at(now):
            row = row_of(chain, now)
            if as_json:
                emit(row)
            else:
                _line(line_of(row))
    for text in problems:
        err.print(printable(text), markup=False, highlight=False)
    opened.close()


def row_of(chain: Chain, now_ms: int) -> dict[str, Any]:
    """An alert as a listing shows it."""
    alert = chain.alert
    words = to_dict(alert)
    return {
        "id": chain.root.said.id.hex(),
        "state": chain.state_at(now_ms).value,
        "status": words.get("status", ""),
        "from": chain.root.sender,
        "severity": words.get("severity", "unknown"),
        "urgency": words.get("urgency", "unknown"),
        "certainty": words.get("certainty", "unknown"),
        "marking": MARKING_NAMES.get(chain.current.marking, "?"),
        "headline": alert.headline[0].text if alert.headline else "",
        "acknowledged": sorted(chain.acknowledged),
        "answer_by": time_words(chain.answer_by_ms()),
        "overdue": chain.overdue(now_ms),
    }


def line_of(row: dict[str, Any]) -> str:
    """One line of the listing."""
    late = "  OVERDUE" if row["overdue"] else ""
    words = f"{row['severity']}/{row['urgency']}/{row['certainty']}"
    return f"{row['id'][:13]}  {row['state']:<12} {row['status']:<9} {words:<30} {row['from']}: {row['headline']}{late}"


def text_of(chain: Chain, now_ms: int) -> str:
    """An alert as the terminal shows it, with all that was said about it."""
    alert, row = chain.alert, row_of(chain, now_ms)
    out = [
        f"{row['status'].upper()}  {row['headline']}",
        f"  {row['state']}; severity {row['severity']}, urgency {row['urgency']}, certainty {row['certainty']}",
        f"  from {row['from']}, {time_words(chain.current.time_ms)} UTC, TLP:{row['marking']}, alert {row['id'][:13]}",
    ]
    out += [f"  {line}" for one in alert.description for line in one.text.split("\n")]
    out += [f"  Ends if: {one.text}" for one in alert.cancel_condition]
    out += [f"  To do: {one.text}" for one in alert.instruction]
    if alert.affected_steps:
        out.append(f"  Hit: {', '.join(alert.affected_steps)}")
    if alert.HasField("crisis"):
        out.append("  Crisis report:")
        for name in CRISIS_POINTS:
            out += [f"    {name}: {one.text}" for one in getattr(alert.crisis, name)]
    for heard in chain.said:
        said = heard.said
        what = to_dict(said).get("step") or to_dict(said).get("type") or to_dict(said).get("kind", "")
        texts = said.note if isinstance(said, pb.Alert) else said.body
        words = "; ".join(one.text for one in texts)
        out.append(
            f"  {time_words(heard.time_ms)}  {heard.sender}: {str(what).replace('_', ' ')}{f': {words}' if words else ''}"
        )
    return "\n".join(printable(line) for line in out)


def time_words(time_ms: int) -> str:
    """A time as "2026-11-24 10:18", UTC."""
    return f"{datetime.fromtimestamp(time_ms // 1000, UTC):%Y-%m-%d %H:%M}"


@app.command("show")
def show(
    which: Which,
    desk: DeskDir,
    form: Annotated[str, typer.Option("--as", help="text, json, cap (CAP 1.2 XML) or article-22.")] = "text",
    passphrase_file: PassphraseFile = None,
) -> None:
    """One alert with its reasons, its evidence and all that was said about it."""
    opened = open_desk(desk, passphrase_file)
    chain = find(opened, which)
    if form == "cap":
        _line(cap.xml(chain, chain.current, chain.alert).decode())
    elif form == "article-22":
        _line(cap.article_22(chain))
    elif form == "json":
        emit({**row_of(chain, opened.clock()), "alert": to_dict(chain.alert)})
    elif form == "text":
        _line(text_of(chain, opened.clock()))
    else:
        raise UsageError(f"no form {printable(form)}", hint="text, json, cap or article-22")
    opened.close()


@app.command("ack")
def ack(which: Which, desk: DeskDir, why: Why = "", passphrase_file: PassphraseFile = None) -> None:
    """Say that somebody here has read it and acts on it."""
    _do(desk, passphrase_file, which, acknowledgement(why))


@app.command("escalate")
def escalate(which: Which, desk: DeskDir, why: Why, passphrase_file: PassphraseFile = None) -> None:
    """Ask those above to look at it."""
    _do(desk, passphrase_file, which, acknowledgement(why, escalate=True))


def consultation_kind(word: str) -> int:
    """The kind of a consultation message by its word.

    Raises:
        UsageError: There is no such kind.
    """
    name = f"CONSULTATION_KIND_{word.upper()}"
    if name not in set(pb.ConsultationKind.keys()) or word in ("unspecified", "request"):
        raise UsageError(f"no kind {printable(word)}", hint="message, proposal, agreement, refusal or close")
    return int(pb.ConsultationKind.Value(name))


@app.command("consult")
def consult(
    which: Which,
    desk: DeskDir,
    text: Annotated[str, typer.Option("--text", help="What is said.")],
    kind: Annotated[str, typer.Option(help="message, proposal, agreement, refusal or close.")] = "message",
    passphrase_file: PassphraseFile = None,
) -> None:
    """Open a consultation about it, or say the next thing in the one that is open."""
    _do(desk, passphrase_file, which, consultation(text, kind=consultation_kind(kind)), "consultation")


@app.command("update")
def update(
    which: Which,
    desk: DeskDir,
    why: Why,
    crisis: Annotated[
        list[str] | None,
        typer.Option(help=f'A point of the crisis report, "measures=..."; {", ".join(CRISIS_POINTS)}.'),
    ] = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Say more about an alert of this mission, or put its crisis report right; its readers acknowledge again."""
    _do(desk, passphrase_file, which, updating(why, points_of(crisis or ())))


@app.command("cancel")
def cancel(which: Which, desk: DeskDir, why: Why, passphrase_file: PassphraseFile = None) -> None:
    """Take back an alert of this mission."""
    _do(desk, passphrase_file, which, ending(pb.ALERT_STEP_UNSPECIFIED, why))


@app.command("resolve")
def resolve(which: Which, desk: DeskDir, why: Why, passphrase_file: PassphraseFile = None) -> None:
    """The danger of an alert of this mission is over."""
    _do(desk, passphrase_file, which, ending(pb.ALERT_STEP_RESOLVED, why))


@app.command("false-alarm")
def false_alarm(which: Which, desk: DeskDir, why: Why, passphrase_file: PassphraseFile = None) -> None:
    """An alert of this mission was wrong from the start."""
    _do(desk, passphrase_file, which, ending(pb.ALERT_STEP_FALSE_ALARM, why))


@app.command("recompute")
def recompute_alert(
    which: Which,
    desk: DeskDir,
    releasable: Annotated[bool, typer.Option(help="From the reports marked CLEAR or GREEN alone.")] = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Compute it again from the reports this desk had before it, and say where the two differ."""
    opened = open_desk(desk, passphrase_file)
    found = again(opened, find(opened, which), releasable=releasable)
    opened.close()
    for line in found.missing + found.differences:
        _line(line)
    if found.alert is None:
        raise typer.Exit(1)
    same = "" if found.differences or found.missing else "the same: "
    _line(same + "; ".join(one.text for one in found.alert.headline))
    if releasable:
        _line("\n".join(one.text for one in found.alert.description))


def again(desk: Desk, chain: Chain, *, releasable: bool = False) -> recompute.Recomputed:
    """An alert computed again at a desk."""
    position = recompute.position_of(desk.archive, chain)
    # Clocks of desks may differ by as much as the agreement allows.
    until = recompute.known_until(chain) + desk.trust.agreement(desk.clock()).body.skew_ms
    held = recompute.held_before(
        desk.archive, position, sealed_by_ms=until, **({"highest": OPEN} if releasable else {})
    )
    thresholds, _ = thresholds_of(desk.trust.annex(chain.alert.effective_time_ms))
    countries = countries_of(desk.trust)
    return recompute.again(chain, held, thresholds, countries=countries, random=os.urandom(10))


def _line(text: str) -> None:
    sys.stdout.write(text + "\n")


def run(
    desk: DeskDir,
    once: Annotated[bool, typer.Option("--once", help="Work through what is there and stop.")] = False,
    test: Annotated[bool, typer.Option("--test", help="Alerts are technical tests.")] = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Watch: file every report that comes, raise, update and end alerts. Give it a desk of its own."""

    async def act() -> None:
        async with open_desk(desk, passphrase_file) as opened:
            watch = Watch(opened, test=test)
            await (run_once(opened, watch) if once else watch.run())

    try:
        asyncio.run(act())
    except KeyboardInterrupt:
        err.print("stopped", highlight=False)


async def run_once(desk: Desk, watch: Watch) -> int:
    """Fetch what is new, work through it, send what follows; returns how many alert messages were sent."""
    for channel in sorted(desk.trust.agreement(desk.clock()).channels):
        async for _ in desk.subscribe(channel, follow=False):
            pass
    sent = await watch.step()
    await desk.flush(FLUSH_S)
    return sent
