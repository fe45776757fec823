"""`tocsin-keys ceremony`: the script two operators follow, and the transcript they keep."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from keys import terms, transcript, words
from keys.cli import files, record
from keys.cli.parts import require_name
from keys.cli.terminal import Json, answer, say
from keys.errors import UsageError

group = typer.Typer(
    no_args_is_help=True,
    help="The script of a founding, who does and says what in which order, and the transcript that proves it was followed.",
)

Transcript = Annotated[Path, typer.Argument(metavar="TRANSCRIPT", help="The transcript, JSON Lines.")]


@dataclass(frozen=True, slots=True)
class Step:
    """One step: who acts, what they do, and what they say aloud."""

    who: str
    do: str
    say: str = ""


@group.command("script")
def script(
    party: Annotated[list[str], typer.Option("--party", help="A party; give it twice.")],
    holder: Annotated[
        list[str] | None, typer.Option("--holder", help="Name of a root holder; three by default.")
    ] = None,
    root_threshold: Annotated[int, typer.Option(min=1, help="How many root holders of a party must sign.")] = 2,
    as_json: Json = False,
) -> None:
    """Print the numbered checklist of this founding: every command, who runs it on which machine, and who says what."""
    names = sorted({require_name(each, "party") for each in party})
    holders = [require_name(each, "holder") for each in holder or ("first", "second", "third")]
    if len(names) < 2:
        raise UsageError("a founding has two parties or more", hint="give --party twice")
    if root_threshold > len(holders):
        raise UsageError(f"{root_threshold} of {len(holders)} holders cannot sign", hint="name more holders")
    steps = founding_steps(names, holders, root_threshold)
    lines = [f"Founding by {' and '.join(names)}; {root_threshold} of {len(holders)} root holders sign for each party."]
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


def founding_steps(parties: list[str], holders: list[str], root_threshold: int) -> list[Step]:
    """The script of a founding. The commands are those of docs/OPERATIONS.md."""
    first, second = parties[0], parties[1]
    held = " ".join(f"--held {party}.party" for party in parties)
    steps = [
        Step(
            f"operators of {' and '.join(parties)}",
            "begin a transcript each, on a machine without network: tocsin-keys ceremony note PARTY.jsonl 'present: ...'",
            "the date, the names of everybody present, the version of the software",
        )
    ]
    for party in parties:
        steps += _party_steps(party, holders, root_threshold)
    for party in parties:
        other = " and ".join(p for p in parties if p != party)
        steps += [
            Step(f"operator of {party}", f"gives {party}.party to {other}, by hand"),
            Step(
                f"operator of {party}",
                f"runs tocsin-keys fingerprint {party}.party",
                "all 24 words, row by row, by a way that did not carry the file",
            ),
            Step(
                f"operator of {other}",
                f"runs tocsin-keys fingerprint {party}.party --expect 'THE WORDS HEARD' and stops if it is refused",
                "'the same', or 'stop'",
            ),
        ]
    steps += [
        Step(
            f"operator of {first}",
            f"edits terms.toml, then: tocsin-keys agreement draft terms.toml {held} --out agreement.draft",
        ),
        Step(
            f"operators of {' and '.join(parties)}",
            "read the draft on their own machines, whole: tocsin-keys --transcript PARTY.jsonl agreement show agreement.draft",
            "every sentence of it aloud, in turn; then its 24 words",
        ),
    ]
    for party in parties:
        steps.append(
            Step(
                f"{root_threshold} of the root holders of {party} ({', '.join(holders)}), each on their own machine",
                f"tocsin-keys agreement sign agreement.draft {held} --keystore {party}-HOLDER.keys --expect 'THE WORDS'"
                f" --out agreement.{party}-HOLDER",
                "'I have read it', and the first three words",
            )
        )
    return [
        *steps,
        Step(
            f"operator of {second}",
            f"tocsin-keys agreement combine agreement.* {held} --out agreement.signed; then agreement verify, then"
            f" agreement publish agreement.signed {held} --out founding.bundle",
            "the lineage: all 24 words",
        ),
        Step(
            f"operators of {' and '.join(parties)}",
            "compare the lineage with the words of the draft they signed; they are the same words",
            "'the same', or 'stop'",
        ),
        Step(
            f"operators of {' and '.join(parties)}",
            "tocsin-keys ceremony close PARTY.jsonl; everybody present writes the words on paper and signs the paper",
            "all 24 words of their own transcript",
        ),
    ]


def _party_steps(party: str, holders: list[str], root_threshold: int) -> list[Step]:
    return [
        Step(
            f"each root holder of {party} ({', '.join(holders)}), on a machine that never had a network",
            f"tocsin-keys root new --party {party} --holder HOLDER --keystore {party}-HOLDER.keys --out {party}-HOLDER.part;"
            " writes the words of the key on paper",
            "the words, when the operator asks for them",
        ),
        Step(
            f"roster holder and status machine of {party}",
            f"tocsin-keys key new --role roster ... and --role status ...; the parts go to the operator of {party}",
        ),
        Step(
            f"operator of {party}",
            f"compares the words of each part: tocsin-keys fingerprint PART; then: tocsin-keys party draft {party}"
            f" {party}-*.part --root-threshold {root_threshold} --out {party}.draft",
            "the 24 words of the draft",
        ),
        Step(
            f"{root_threshold} root holders of {party}, each on their own machine",
            f"tocsin-keys party sign {party}.draft --keystore {party}-HOLDER.keys --expect 'THE WORDS' --out {party}.HOLDER",
        ),
        Step(
            f"operator of {party}",
            f"tocsin-keys party combine {party}.HOLDER ... --out {party}.party; then party verify",
        ),
    ]


def _show_head(path: Path, *, as_json: bool) -> None:
    lines = transcript.parse(files.read(path, transcript.MAX_BYTES))
    head = transcript.head(lines)
    answer(
        {"lines": len(lines), "words": list(words.words(head))},
        [f"line {len(lines)}", *words.rows(head)],
        as_json=as_json,
    )
