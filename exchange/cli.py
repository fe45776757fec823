"""`tocsin`: run a node, use a desk. Results on stdout, talk on stderr; exit 0 done, 1 refused, 2 misused."""

import asyncio
import contextlib
import json
import logging
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn, TextIO, cast

import structlog
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from exchange import attachment_cli, files, incident_cli, log_cli, policy, report, reshare_cli, retire_cli, track_cli
from exchange import desk as desks
from exchange.clock import now_ms
from exchange.desk import Delivery, Desk, DeskSettings, Event, rekey
from exchange.desk import holdings as desk_holdings
from exchange.evidence import cli as evidence_cli
from exchange.node import authority
from exchange.node import directory as nodes
from exchange.node.app import App, serve
from exchange.pouch import cli as pouch_cli
from exchange.talk import Talk
from exchange.text import printable
from exchange.watch import alerts_cli, talks_cli
from exchange.watch import cli as watch_cli
from keys import documents, founding, suite, words
from keys.encoding import canonical_bytes
from keys.errors import TocsinError, UsageError
from keys.keystore import Keystore
from keys.pkcs11 import Token
from keys.signer import InToken, read_pin
from keys.v1 import documents_pb2 as pb

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Missions tell each other how the supply of chips and critical materials stands.",
    pretty_exceptions_enable=False,
)
node_app = typer.Typer(no_args_is_help=True, help="The server that keeps envelopes; holds no key that opens them.")
desk_app = typer.Typer(no_args_is_help=True, help="One workplace: its keys and its place at a node.")
documents_app = typer.Typer(no_args_is_help=True, help="What the parties signed.")
app.add_typer(node_app, name="node")
app.add_typer(desk_app, name="desk")
app.add_typer(documents_app, name="documents")
app.add_typer(evidence_cli.app, name="evidence")
app.add_typer(pouch_cli.app, name="pouch")
app.add_typer(attachment_cli.app, name="attachment")
watch_cli.app.command("run")(alerts_cli.run)
for command in (talks_cli.consultations, talks_cli.ask, talks_cli.reply):
    alerts_cli.app.command()(command)
app.add_typer(watch_cli.app, name="watch")
app.add_typer(alerts_cli.app, name="alerts")

out = Console()
err = Console(stderr=True)

DeskDir = Annotated[Path, typer.Option("--desk", help="Directory of the desk.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
PassphraseFile = Annotated[
    Path | None,
    typer.Option("--passphrase-file", help="File with the keystore's passphrase; none = machine-local key."),
]


Lineage = Annotated[
    str | None, typer.Option(help="Digest of the first agreement, 64 hex digits or 24 words; or give --bundle.")
]
InitBundle = Annotated[
    Path | None,
    typer.Option("--bundle", help="Documents from the ministry; the lineage is taken from them, and its words shown."),
]


Module = Annotated[
    str | None, typer.Option("--module", help="Keep the signing key in a token: whole path of its PKCS#11 library.")
]
TokenLabel = Annotated[str | None, typer.Option("--token", help="Label of the token.")]
PinFile = Annotated[
    Path | None, typer.Option("--pin-file", help="File with the PIN of the token, mode 0600; read at each start.")
]


class Marking(StrEnum):
    """TLP 2.0."""

    CLEAR = "CLEAR"
    GREEN = "GREEN"
    AMBER = "AMBER"
    STRICT = "AMBER+STRICT"
    RED = "RED"


@contextlib.contextmanager
def _token(module: str | None, label: str | None, pin_file: Path | None) -> Iterator[InToken | None]:
    """The token a new key is to be made in, open; None when the key stays in the keystore."""
    if module is None and label is None and pin_file is None:
        yield None
        return
    if module is None or label is None or pin_file is None:
        raise UsageError("a key in a token needs --module, --token and --pin-file", hint="give all three, or none")
    path = pin_file.resolve()
    with Token.open(module, label, read_pin(path)) as opened:
        yield InToken(opened, str(path))
        rest = (
            " and the ML-DSA half" if opened.offers_mldsa else "; the ML-DSA half, which it does not offer, in the file"
        )
        err.print(f"in token {label}: the Ed25519 half{rest}")


def _emit(value: Any) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


@node_app.command("init")
def node_init(
    directory: Annotated[Path, typer.Argument(help="Where the node will live.")],
    name: Annotated[str, typer.Option(help="Its name, such as nl.seoul-1.")],
    endpoint: Annotated[str, typer.Option(help="host:port of the exchange service.")],
    enrol_endpoint: Annotated[str, typer.Option(help="host:port of the enrolment listener.")],
    lineage: Lineage = None,
    bundle: InitBundle = None,
    passphrase_file: PassphraseFile = None,
    module: Module = None,
    token: TokenLabel = None,
    pin_file: PinFile = None,
) -> None:
    """Make a node's keys and settings; prints its roster entry (hex) for the ministry."""
    settings = nodes.NodeSettings(
        name=name, lineage=_lineage(lineage, bundle), endpoint=endpoint, enrol_endpoint=enrol_endpoint
    )
    with _token(module, token, pin_file) as where:
        entry = nodes.init(directory, settings, passphrase=files.passphrase(passphrase_file), where=where)
    _keep_bundle(bundle, directory)
    err.print(f"node {name} made in {directory}; give its entry to the ministry that signs the roster")
    _show_words(f"log key of {name}", suite.key_id(entry.log_key.suite, "log", entry.log_key.key))
    sys.stdout.write(canonical_bytes(entry).hex() + "\n")


class NodeKey(StrEnum):
    """What a node replaces under a plan."""

    LOG = "log"
    TLS_CA = "tls-ca"


@node_app.command("prepare")
def node_prepare(
    kind: Annotated[NodeKey, typer.Argument(help="Which key comes.")],
    directory: Annotated[Path, typer.Argument(help="Directory of the node; it may run meanwhile.")],
    output: Annotated[
        Path, typer.Option("--out", help="Where to write the public half, for `tocsin-keys plan rotate`.")
    ],
    passphrase_file: PassphraseFile = None,
) -> None:
    """Draw the node's next log key or CA. A running node finds it within the hour and uses it by the rosters, by itself."""
    settings = files.load_settings(nodes.NodeSettings, directory / "node.toml")
    trust, _ = files.load_trust(directory / files.BUNDLE, bytes.fromhex(settings.lineage), now_ms=now_ms())
    if not trust.founded:
        raise UsageError(f"{directory} holds no documents", hint="put the ministry's bundle there first")
    nodes.require_newest(directory, trust, settings.name)
    with authority.open_keystore(directory, files.passphrase(passphrase_file)) as store:
        if kind is NodeKey.TLS_CA:
            data = authority.prepare(store, trust, settings.name, now_ms=now_ms())
            output.write_bytes(data)
            err.print(f"CA of {settings.name} in {output}")
            return
        key = authority.prepare_log_key(store, trust, settings.name)
    output.write_text(canonical_bytes(key).hex() + "\n")
    _show_words(f"log key of {settings.name}", suite.key_id(key.suite, "log", key.key))


@node_app.command("run")
def node_run(
    directory: Annotated[Path, typer.Argument(help="Directory of the node.")], passphrase_file: PassphraseFile = None
) -> None:
    """Serve until interrupted."""
    running = App(directory, files.passphrase(passphrase_file))
    serve(
        running,
        ready=lambda: err.print(f"{running.settings.name} serves on {running.settings.endpoint}; Ctrl-C stops it"),
    )


@node_app.command("status")
def node_status(
    directory: Annotated[Path, typer.Argument(help="Directory of the node.")], as_json: Json = False
) -> None:
    """Whether the node runs, what its log holds, how far it follows its peers, what it refused, whose status is stale."""
    status = nodes.status(directory)
    if as_json:
        _emit(status)
        return
    table = Table(show_header=False)
    for key, value in status.items():
        table.add_row(key, json.dumps(value) if isinstance(value, (dict, list)) else str(value))
    out.print(table)


@desk_app.command("init")
def desk_init(
    directory: Annotated[Path, typer.Argument(help="Where the desk will live.")],
    name: Annotated[str, typer.Option(help="Its name, such as nl.seoul/economic.")],
    node: Annotated[str, typer.Option(help="The node that hosts its mission.")],
    lineage: Lineage = None,
    bundle: InitBundle = None,
    passphrase_file: PassphraseFile = None,
    module: Module = None,
    token: TokenLabel = None,
    pin_file: PinFile = None,
) -> None:
    """Make a desk's keys; prints its roster entry (hex), with proof of possession, for the ministry.

    The ministry calls back and compares the words of the key before it admits the desk.
    """
    settings = DeskSettings(desk=name, lineage=_lineage(lineage, bundle), node=node)
    with _token(module, token, pin_file) as where:
        key = desks.init(directory, settings, passphrase=files.passphrase(passphrase_file), where=where)
        entry = founding.desk_entry(name, key, lineage=bytes.fromhex(settings.lineage))
    _keep_bundle(bundle, directory)
    err.print(f"desk {name} made in {directory}; give its entry to the ministry that signs the roster")
    _show_words(f"key of {name}", suite.key_id(key.suite, "desk", key.public))
    sys.stdout.write(canonical_bytes(entry).hex() + "\n")


@desk_app.command("enrol")
def desk_enrol(
    desk: DeskDir,
    bundle: Annotated[Path | None, typer.Option(help="Documents to take first, as a file from the ministry.")] = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Take the documents, get a certificate from the node, hand in the key cards."""

    async def enrol() -> None:
        opened = Desk.open(desk, passphrase=files.passphrase(passphrase_file))
        if bundle is not None:
            for error in opened.take_documents(files.load_bundle(bundle)):
                err.print(f"document refused: {error}")
        async with opened:
            await opened.enrol()
            await opened.synchronise()

    asyncio.run(enrol())
    err.print("enrolled: certificate and key cards are in place")


@desk_app.command("rekey")
def desk_rekey(desk: DeskDir, passphrase_file: PassphraseFile = None) -> None:
    """Put the archive under a new key and destroy the old one; stop the desk first. Run it again if it was cut off."""
    with Keystore.open(desk / "desk.keys", files.passphrase(passphrase_file)) as store:
        rekey.rekey(store, desk / desk_holdings.FILE)
    err.print(
        "the archive is under a new key, and the old key is destroyed; older backups need the keystore of their time"
    )


@app.command()
def publish(
    channel: Annotated[str, typer.Argument(help="Channel of the agreement, such as minerals.")],
    file: Annotated[Path, typer.Argument(help="Reports: .json, .jsonl or .csv.")],
    desk: DeskDir,
    marking: Annotated[Marking, typer.Option(help="TLP 2.0 marking of all of them.")] = Marking.AMBER,
    to: Annotated[list[str] | None, typer.Option(help="Desks, for RED alone; may be given again.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for receipts; the rest is sent later.")] = 30.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the file, say who would read it, send nothing.")
    ] = False,
    as_json: Json = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Publish every report of a file, or none: one bad row, named with its column, and nothing is taken."""
    reader = {".json": report.read_json, ".jsonl": report.read_json_lines, ".csv": report.read_csv}.get(file.suffix)
    if reader is None:
        raise UsageError(f"{file.name} is neither .json, .jsonl nor .csv")
    reports = reader(_text(file), now_ms=now_ms())

    async def run() -> dict[str, Any]:
        opened = Desk.open(desk, passphrase=files.passphrase(passphrase_file))
        readers = [r.desk for r in opened.explain(channel, marking.value) if r.reads and (not to or r.desk in to)]
        if dry_run:
            opened.close()
            return {"reports": len(reports), "readers": readers, "published": 0, "waiting": 0}
        async with opened:
            ids = await opened.publish_all(channel, reports, marking=marking.value, to=to or ())
            waiting = await opened.flush(timeout)
            events = [str(event) for event in opened.events()]
            return {
                "reports": len(reports),
                "readers": readers,
                "published": len(ids),
                "envelopes": sorted({i.hex() for i in ids}),
                "waiting": waiting,
                "state": opened.state,
                "events": events,
            }

    result = asyncio.run(run())
    if as_json:
        _emit(result)
    else:
        readers = ", ".join(result["readers"])
        out.print(f"{result['published']} of {result['reports']} reports published on {channel}, readable by {readers}")
        for event in result.get("events", []):
            err.print(f"[yellow]event:[/] {event}")
        if result["waiting"]:
            err.print(
                f"{result['waiting']} envelopes wait in the outbox ({result['state']}); they go out when the node is back"
            )


@app.command()
def inbox(
    desk: DeskDir,
    channel: Annotated[str | None, typer.Option(help="One channel; all by default.")] = None,
    last: Annotated[int, typer.Option(help="Only the newest N; 0 = all.")] = 40,
    as_json: Json = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """What was received and opened here, from the archive; needs no network."""
    opened = Desk.open(desk, passphrase=files.passphrase(passphrase_file))
    deliveries = opened.inbox(channel)
    warnings = _standing(opened)
    opened.close()
    _show(deliveries[-last:] if last else deliveries, as_json=as_json)
    for warning in warnings:
        err.print(Text.assemble(("warning: ", "yellow"), printable(warning)))
    if not as_json:
        err.print(f"{len(deliveries)} items in the archive of {opened.name}")


def _standing(opened: Desk) -> list[str]:
    """What is overdue of what this desk sent, as far as it asked when it last ran, and what it owes others."""
    warnings = [str(late) for late in opened.overdue()]
    if owed := opened.unacknowledged():
        warnings.append(f"{owed} envelopes were read here and are not acknowledged yet; `tocsin follow` does that")
    return warnings


@app.command()
def follow(
    channel: Annotated[str, typer.Argument(help="Channel to follow.")],
    desk: DeskDir,
    once: Annotated[bool, typer.Option("--once", help="Fetch what is new and stop.")] = False,
    as_json: Json = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Receive a channel as it comes: verified, opened, in order. Gaps and staleness are said, not hidden."""

    async def run() -> None:
        async with Desk.open(desk, passphrase=files.passphrase(passphrase_file)) as opened:
            async for delivery in opened.subscribe(channel, follow=not once):
                _show([delivery], as_json=as_json, header=False)
                for event in opened.events():
                    _say_event(event)

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run())


@app.command()
def explain(
    channel: Annotated[str, typer.Argument(help="Channel to explain.")],
    desk: DeskDir,
    marking: Annotated[Marking, typer.Option(help="TLP 2.0 marking.")] = Marking.AMBER,
    sender: Annotated[str | None, typer.Option(help="As if this desk published; yours by default.")] = None,
    as_json: Json = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Who reads a channel at a marking, who does not, and by which rule."""
    opened = Desk.open(desk, passphrase=files.passphrase(passphrase_file))
    readings = opened.explain(channel, marking.value, sender=sender)
    opened.close()
    if as_json:
        _emit([{"desk": r.desk, "reads": r.reads, "why": r.why} for r in readings])
        return
    table = Table("desk", "reads", "why")
    for reading in readings:
        table.add_row(reading.desk, "yes" if reading.reads else "no", reading.why)
    out.print(table)


app.command("track")(track_cli.track)


@documents_app.command("show")
def documents_show(
    directory: Annotated[Path, typer.Argument(help="Directory of a desk or node, or a bundle file.")],
    as_json: Json = False,
) -> None:
    """List the documents a desk or node holds."""
    rows = []
    for data in files.load_bundle(_bundle(directory)):
        document = documents.decode(data)
        body = documents.peek(document)
        rows.append(
            {
                "type": document.type.rpartition("/")[2],
                "of": getattr(body, "party", "") or getattr(body, "desk", "") or "all parties",
                "version": getattr(body, "version", getattr(body, "week", 0)),
                "signatures": len(document.signatures),
                "digest": document.digest.hex(),
            }
        )
    if as_json:
        _emit(rows)
        return
    table = Table("type", "of", "version or week", "signatures", "digest")
    for row in rows:
        table.add_row(
            str(row["type"]),
            printable(str(row["of"])),
            str(row["version"]),
            str(row["signatures"]),
            str(row["digest"])[:16] + "…",
        )
    out.print(table)


@documents_app.command("diff")
def documents_diff(
    old: Annotated[Path, typer.Argument(help="Bundle or directory with the older agreement.")],
    new: Annotated[Path, typer.Argument(help="Bundle or directory with the newer one.")],
    as_json: Json = False,
) -> None:
    """Who gains and who loses what between two agreements, in words."""
    lines = policy.diff(_agreement(old), _agreement(new))
    if as_json:
        _emit(lines)
        return
    for line in lines or ["no difference"]:
        out.print(line)


app.command("push")(incident_cli.push)
app.command("audit")(incident_cli.audit)
desk_app.command("panic")(incident_cli.panic)
desk_app.command("reshare")(reshare_cli.reshare)
node_app.command("touched")(incident_cli.touched)
node_app.command("new-log")(log_cli.node_new_log)
node_app.command("retire")(retire_cli.node_retire)
node_app.command("accept-log")(log_cli.node_accept_log)
node_app.command("clashes")(log_cli.node_clashes)
desk_app.command("retire")(retire_cli.desk_retire)
desk_app.command("accept-log")(log_cli.desk_accept_log)
desk_app.command("clashes")(log_cli.desk_clashes)


@app.command()
def demo(
    directory: Annotated[Path, typer.Option("--dir", help="Where to found the demo; replaced if it is one.")] = Path(
        "demo"
    ),
    as_json: Json = False,
) -> None:
    """Two countries, two nodes, six desks, real input; leaves the directory for a look around."""
    from exchange.demo.run import demo as run

    outcome = asyncio.run(run(directory, err if as_json else out))
    if as_json:
        _emit(
            {"published": outcome.published, "opened": outcome.opened, "refused": outcome.refused, "lost": outcome.lost}
        )
    if outcome.lost or outcome.problems:
        raise typer.Exit(1)


def _lineage(text: str | None, bundle: Path | None) -> str:
    """The lineage as 64 digits: as given, and as the bundle has it."""
    given = words.read(text) if text is not None else None
    if bundle is None:
        if given is None:
            raise UsageError("which exchange is it?", hint="give --bundle FILE from the ministry, or --lineage")
        return given.hex()
    held = [documents.decode(data) for data in files.load_bundle(_bundle(bundle))]
    firsts = [d.digest for d in held if (a := documents.peek(d)) and isinstance(a, pb.Agreement) and a.version == 1]
    if len(firsts) != 1 or (given is not None and firsts != [given]):
        raise UsageError(
            f"{bundle} does not hold the first agreement of this exchange", hint="compare the fingerprints"
        )
    trust, refused = files.load_trust(_bundle(bundle), firsts[0], now_ms=now_ms())
    if not trust.founded:
        raise refused[0] if refused else UsageError(f"{bundle} holds no agreement that can be taken")
    _show_words("lineage; compare with the words of the ceremony", firsts[0])
    return firsts[0].hex()


def _keep_bundle(bundle: Path | None, directory: Path) -> None:
    if bundle is not None:
        files.save_bundle(directory / files.BUNDLE, [documents.decode(data) for data in files.load_bundle(bundle)])


def _show_words(what: str, digest: bytes) -> None:
    err.print(f"{what}, as words:")
    for row in words.rows(digest):
        err.print(f"  {row}", highlight=False)


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {file}: {error}") from None


def _bundle(path: Path) -> Path:
    bundle = path / files.BUNDLE if path.is_dir() else path
    if not bundle.exists():
        raise UsageError(f"{bundle} does not exist", hint="give a desk's or node's directory, or a bundle file")
    return bundle


def _agreement(path: Path) -> pb.Agreement:
    held = [documents.decode(data) for data in files.load_bundle(_bundle(path))]
    agreements = [documents.body(d, pb.Agreement) for d in held if d.type == "tocsin/1/agreement"]
    if not agreements:
        raise UsageError(f"{path} holds no agreement")
    return agreements[-1]


def _say_event(event: Event) -> None:
    # Its words may be those of another node, or of another mission.
    err.print(Text.assemble(("event: ", "yellow"), printable(str(event))))


def _show(deliveries: list[Delivery], *, as_json: bool, header: bool = True) -> None:
    if as_json:
        for delivery in deliveries:
            _emit(_row(delivery))
        return
    table = Table("sent (UTC)", "from", "channel", "marking", "what", show_header=header)
    for delivery in deliveries:
        row = _row(delivery)
        table.add_row(row["sent"], row["sender"], row["channel"], row["marking"], Text(printable(_what(delivery))))
    out.print(table)


def _what(delivery: Delivery) -> str:
    if delivery.kind == "report" and delivery.report.summary:
        passed_on = f" (passed on by {delivery.reshared_by})" if delivery.reshared_by else ""
        return delivery.report.summary[0].text + passed_on
    return delivery.kind or "an item newer than this version reads"


def _row(delivery: Delivery) -> dict[str, Any]:
    from datetime import UTC, datetime

    sent = datetime.fromtimestamp(delivery.create_time_ms / 1000, UTC)
    return {
        "sent": f"{sent:%Y-%m-%d %H:%M:%S}",
        "sender": delivery.sender,
        "passed_on_by": delivery.reshared_by,
        "channel": delivery.channel,
        "marking": policy.MARKING_NAMES.get(delivery.marking, "?"),
        "envelope": delivery.envelope.hex(),
        "position": delivery.receipt.position,
        "kind": delivery.kind,
        "report": report.to_dict(delivery.report) if delivery.kind == "report" else None,
        "warnings": list(delivery.warnings),
    }


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except TocsinError as error:
        err.print(f"tocsin: error: {printable(str(error))}", markup=False, highlight=False)
        if error.hint:
            err.print(f"tocsin: hint: {printable(error.hint)}", markup=False, highlight=False)
        sys.exit(2 if isinstance(error, UsageError) else 1)


def main() -> NoReturn:
    """Entry point."""
    sys.stderr = cast("TextIO", Talk(sys.stderr))
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    with _errors():
        app()
    sys.exit(0)
