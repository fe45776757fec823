"""`tocsin alerts consultations, ask, reply`: consultations about no alert; those about one are with it."""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from exchange.desk import Desk
from exchange.options_cli import DeskDir, Json, PassphraseFile, emit
from exchange.policy import MARKING_NAMES
from exchange.report import new_report_id, to_dict
from exchange.text import printable
from exchange.v1 import report_pb2 as pb
from exchange.watch.alerts_cli import (
    FLUSH_S,
    LEAST_DIGITS,
    consultation_kind,
    err,
    open_desk,
    time_words,
)
from exchange.watch.alerts_life import Talk
from exchange.watch.letters import ledger_of
from keys.errors import UsageError

Text = Annotated[str, typer.Option("--text", help="What is said.")]


def row_of(talk: Talk) -> dict[str, Any]:
    """A consultation as a listing shows it."""
    opening = talk.opening
    asked = opening.said
    topic = asked.topic if isinstance(asked, pb.Consultation) else ()
    return {
        "id": talk.thread.hex(),
        "from": opening.sender,
        "marking": MARKING_NAMES.get(opening.marking, "?"),
        "topic": "; ".join(one.text for one in topic),
        "answer_by": time_words(asked.answer_by_ms)
        if isinstance(asked, pb.Consultation) and asked.answer_by_ms
        else "",
        "messages": [
            {
                "time": time_words(one.time_ms),
                "from": one.sender,
                "kind": to_dict(one.said).get("kind", ""),
                "text": "; ".join(text.text for text in one.said.body),
            }
            for one in talk.said
            if isinstance(one.said, pb.Consultation)
        ],
    }


def text_of(row: dict[str, Any]) -> str:
    """A consultation as the terminal shows it."""
    due = f", an answer is asked for by {row['answer_by']} UTC" if row["answer_by"] else ""
    out = [f"{row['id'][:13]}  TLP:{row['marking']}  {row['from']}: {row['topic'] or 'no topic'}{due}"]
    out += [f"  {one['time']}  {one['from']}: {one['kind']}: {one['text']}" for one in row["messages"]]
    return "\n".join(printable(line) for line in out)


def find_talk(desk: Desk, which: str) -> Talk:
    """The one consultation whose id begins so.

    Raises:
        UsageError: None does, or several do, or too few digits.
    """
    prefix = which.replace("-", "").lower()
    found = [one for one in ledger_of(desk.archive)[0].talks() if one.thread.hex().startswith(prefix)]
    if len(prefix) < LEAST_DIGITS or len(found) != 1:
        raise UsageError(
            f"{len(found)} consultations have an id that begins {printable(which)}",
            hint=f"{LEAST_DIGITS} digits or more; see `tocsin alerts consultations`; of an alert: `tocsin alerts consult`",
        )
    return found[0]


def asked(topic: str, text: str) -> Callable[[Desk], pb.Consultation]:
    """Makes the message that opens a consultation."""

    def make(desk: Desk) -> pb.Consultation:
        identity = new_report_id(desk.clock(), os.urandom(10))
        said = pb.Consultation(id=identity, thread=identity, kind=pb.CONSULTATION_KIND_REQUEST)
        said.topic.add(language="en", text=topic)
        said.body.add(language="en", text=text)
        return said

    return make


def replied(talk: Talk, text: str, kind: int) -> Callable[[Desk], pb.Consultation]:
    """Makes the next message of a consultation."""

    def make(desk: Desk) -> pb.Consultation:
        said = pb.Consultation(id=new_report_id(desk.clock(), os.urandom(10)), thread=talk.thread, kind=kind)  # type: ignore[arg-type]
        said.in_reply_to = talk.said[-1].said.id
        said.body.add(language="en", text=text)
        return said

    return make


async def say(desk: Desk, make: Callable[[Desk], pb.Consultation], *, marking: str, to: tuple[str, ...] = ()) -> bytes:
    """Send a message of a consultation; its id."""
    said = make(desk)
    await desk.publish("consultation", pb.Item(consultation=said), marking=marking, to=to)
    return bytes(said.id)


def consultations(desk: DeskDir, as_json: Json = False, passphrase_file: PassphraseFile = None) -> None:
    """Consultations about no alert that is known here, oldest first, with what was said."""
    opened = open_desk(desk, passphrase_file)
    for talk in ledger_of(opened.archive)[0].talks():
        row = row_of(talk)
        if as_json:
            emit(row)
        else:
            sys.stdout.write(text_of(row) + "\n")
    opened.close()


def ask(
    desk: DeskDir,
    topic: Annotated[str, typer.Option(help="What it is about.")],
    text: Text,
    marking: Annotated[str, typer.Option(help="CLEAR, GREEN, AMBER or AMBER+STRICT; RED with --to.")] = "AMBER",
    to: Annotated[list[str] | None, typer.Option(help="Desks, for RED alone; may be given again.")] = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Open a consultation about no alert; about one, see `consult`."""
    _say(desk, passphrase_file, lambda _: (asked(topic, text), marking, tuple(to or ())))


def reply(
    which: Annotated[str, typer.Argument(help="The consultation: the start of its id, 6 digits or more.")],
    desk: DeskDir,
    text: Text,
    kind: Annotated[str, typer.Option(help="message, proposal, agreement, refusal or close.")] = "message",
    passphrase_file: PassphraseFile = None,
) -> None:
    """Say the next thing in a consultation about no alert, at its marking."""
    number = consultation_kind(kind)

    def make(opened: Desk) -> tuple[Callable[[Desk], pb.Consultation], str, tuple[str, ...]]:
        talk = find_talk(opened, which)
        named = tuple(sorted(set(talk.opening.named) - {opened.name}))
        return replied(talk, text, number), MARKING_NAMES[talk.opening.marking], named

    _say(desk, passphrase_file, make)


def _say(
    directory: Path,
    secret: Path | None,
    make: Callable[[Desk], tuple[Callable[[Desk], pb.Consultation], str, tuple[str, ...]]],
) -> None:
    async def act() -> None:
        async with open_desk(directory, secret) as desk:
            said, marking, to = make(desk)
            identity = await say(desk, said, marking=marking, to=to)
            left = await desk.flush(FLUSH_S)
            waits = f"; {left} envelopes wait for the node" if left else ""
            err.print(f"{identity.hex()[:13]}: said{waits}", markup=False, highlight=False)

    asyncio.run(act())
