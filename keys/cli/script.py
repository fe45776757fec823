"""The script of a ceremony: who does and says what, in which order. The commands are those of docs/OPERATIONS.md."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """One step: who acts, what they do, and what they say aloud."""

    who: str
    do: str
    say: str = ""


def founding_steps(
    parties: Sequence[str], holders: Sequence[str], root_threshold: int, *, lost: Collection[str] = ()
) -> list[Step]:
    """The script of a founding; with `lost`, of one that takes the place of an exchange whose parties lost their roots."""
    first, second = parties[0], parties[1]
    held = " ".join(f"--held {party}.party" for party in parties)
    steps = [
        Step(
            f"operators of {' and '.join(parties)}",
            "begin a transcript each, on a machine without network: tocsin-keys ceremony note PARTY.jsonl 'present: ...'",
            "the date, the names of everybody present, the version of the software",
        )
    ]
    if lost:
        steps.append(_dying_step(parties, lost))
    for party in parties:
        if not lost or party in lost:
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
            "runs tocsin-keys lineage new exchange.bundle "
            + "".join(f"--lost {party} " for party in lost)
            + f"{held} --out agreement.draft"
            if lost
            else f"edits terms.toml, then: tocsin-keys agreement draft terms.toml {held} --out agreement.draft",
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
        *(_retiring_steps(parties) if lost else ()),
        Step(
            f"operators of {' and '.join(parties)}",
            "tocsin-keys ceremony close PARTY.jsonl; everybody present writes the words on paper and signs the paper",
            "all 24 words of their own transcript",
        ),
    ]


def _dying_step(parties: Sequence[str], lost: Collection[str]) -> Step:
    keeping = [party for party in parties if party not in lost]
    brings = f"; {' and '.join(keeping)} brings {' and '.join(f'{p}.party' for p in keeping)}" if keeping else ""
    return Step(
        f"operators of {' and '.join(parties)}",
        f"bring exchange.bundle, the newest documents of the exchange that is to be dead, into a new directory{brings}, as"
        " they founded it, or one drafted anew with the keys of today if they were replaced since; run tocsin-keys"
        " fingerprint exchange.bundle",
        f"'{' and '.join(lost)} lost its roots', and the 24 words of agreement 1: the lineage that is to be dead",
    )


def _retiring_steps(parties: Sequence[str]) -> list[Step]:
    return [
        Step(
            f"operators of {' and '.join(parties)}",
            "once each node follows the other to its end (tocsin node status), at each of their nodes and desks: tocsin node"
            " retire DIR --successor founding.bundle --lineage 'THE WORDS'; tocsin desk retire DIR, the same",
            "which nodes were told, and when",
        ),
        Step(
            f"operators of {' and '.join(parties)}",
            "make new nodes and desks in new directories, as after any founding; the old nodes go on serving what they hold",
        ),
    ]


def _party_steps(party: str, holders: Sequence[str], root_threshold: int) -> list[Step]:
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
