"""`tocsin-keys ceremony`: the script two operators follow, and the transcript they keep."""

from pathlib import Path
from typing import Annotated

import typer

from keys import terms, transcript, words
from keys.cli import files, record
from keys.cli.parts import require_name
from keys.cli.script import founding_steps
from keys.cli.terminal import Json, answer, say
from keys.errors import UsageError

group = typer.Typer(
    no_args_is_help=True,
    help="The script of a founding, who does and says what in which order, and the transcript that proves it was followed.",
)

Transcript = Annotated[Path, typer.Argument(metavar="TRANSCRIPT", help="The transcript, JSON Lines.")]


@group.command("script")
def script(
    party: Annotated[list[str], typer.Option("--party", help="A party; give it twice.")],
    holder: Annotated[
        list[str] | None, typer.Option("--holder", help="Name of a root holder; three by default.")
    ] = None,
    root_threshold: Annotated[int, typer.Option(min=1, help="How many root holders of a party must sign.")] = 2,
    lost: Annotated[
        list[str] | None,
        typer.Option("--lost", help="A party that lost its roots: found anew, the old exchange listed as dead."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Print the numbered checklist of this founding: every command, who runs it on which machine, and who says what."""
    names = sorted({require_name(each, "party") for each in party})
    holders = [require_name(each, "holder") for each in holder or ("first", "second", "third")]
    if len(names) < 2:
        raise UsageError("a founding has two parties or more", hint="give --party twice")
    if root_threshold > len(holders):
        raise UsageError(f"{root_threshold} of {len(holders)} holders cannot sign", hint="name more holders")
    if unknown := sorted(set(lost or ()) - set(names)):
        raise UsageError(f"{unknown[0]} is no party of this founding", hint="name it with --party too")
    steps = founding_steps(names, holders, root_threshold, lost=lost or ())
    what = "Founding anew" if lost else "Founding"
    lines = [f"{what} by {' and '.join(names)}; {root_threshold} of {len(holders)} root holders sign for each party."]
    for number, step in enumerate(steps, 1):
        lines += ["", f"[ ] {number}. {step.who}: {step.do}"]
        if step.say:
            lines.append(f"      says: {step.say}")
    result = [{"n": n, "who": s.who, "do": s.do, "say": s.say} for n, s in enumerate(steps, 1)]
    answer(result, lines, as_json=as_json)


@group.command("note")
def note(
    transcript_file: Transcript,
    text: Annotated[str, typer.Argument(help="What happened, in one line.")],
    as_json: Json = False,
) -> None:
    """Write a line into the transcript: who is present, what was said, what went wrong."""
    record.keep(transcript_file)
    record.note("note", text=text)
    _show_head(transcript_file, as_json=as_json)


@group.command("close")
def close(transcript_file: Transcript, as_json: Json = False) -> None:
    """End the transcript and print its last hash as words, to be read aloud and written on paper by everybody present."""
    if not transcript_file.exists():
        raise UsageError(f"{transcript_file} does not exist", hint="`ceremony note` begins one")
    record.keep(transcript_file)
    record.note("closed")
    say("write these words on paper; they stand for every line before them")
    _show_head(transcript_file, as_json=as_json)


@group.command("verify")
def verify(
    transcript_file: Transcript,
    expect: Annotated[
        str | None, typer.Option("--expect", help="The words on paper; another transcript is refused.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check the chain of a transcript, print it, and compare its end with the words on paper."""
    lines = transcript.parse(files.read(transcript_file, transcript.MAX_BYTES))
    if expect is not None and words.read(expect) != transcript.head(lines):
        raise transcript.TranscriptError(
            "the transcript does not end in these words", hint="lines were changed, added or left out since"
        )
    rows = [{"n": x.n, "time_ms": x.time_ms, "what": x.what, "facts": dict(x.facts)} for x in lines]
    text = [
        f"{x.n}. {terms.moment(x.time_ms)} {x.what}: {', '.join(f'{k} {v}' for k, v in x.facts.items())}" for x in lines
    ]
    head = transcript.head(lines)
    answer({"lines": rows, "words": list(words.words(head))}, [*text, *words.rows(head)], as_json=as_json)


def _show_head(path: Path, *, as_json: bool) -> None:
    lines = transcript.parse(files.read(path, transcript.MAX_BYTES))
    head = transcript.head(lines)
    answer(
        {"lines": len(lines), "words": list(words.words(head))},
        [f"line {len(lines)}", *words.rows(head)],
        as_json=as_json,
    )
