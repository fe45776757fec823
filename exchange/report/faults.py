"""What can be wrong with a report or a file of reports, as values and as errors."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from keys.errors import PeerError

MAX_PROBLEMS: Final = 200  # enough to mend a file by; a hostile one must not make a list of millions


class Problem(NamedTuple):
    """One thing wrong: the field by its path ("indicators[0].unit"; "" = the whole report), and what, in words."""

    field: str
    text: str


class ReportError(PeerError):
    """A report breaks the rules of docs/PROTOCOL.md section 10; `field` is the first field, `problems` are all."""

    reason = "REPORT_BAD"
    hint = "mend the fields named; clean_report() removes characters that are not allowed"

    def __init__(self, problems: Sequence[Problem]) -> None:
        first = problems[0]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(f"report, {first.field or 'as a whole'}: {first.text}{more}", field=first.field)
        self.field: str = first.field
        self.problems: tuple[Problem, ...] = tuple(problems)


class RowError(NamedTuple):
    """One thing wrong in a file: its row (CSV: header = 1; JSON Lines: the line; JSON: from 1), column, and what."""

    row: int
    column: str
    problem: str


class RowErrors(PeerError):
    """A file of reports has faults; none of its rows was taken. `rows` lists all faults, up to MAX_PROBLEMS."""

    reason = "REPORT_ROWS"
    hint = "mend the rows named and read the file again; nothing of it was taken"

    def __init__(self, rows: Sequence[RowError]) -> None:
        kept = tuple(rows[:MAX_PROBLEMS])
        shown = "; ".join(f"row {row.row}, {row.column or 'whole row'}: {row.problem}" for row in kept[:5])
        more = f"; and {len(rows) - 5} more" if len(rows) > 5 else ""
        first = kept[0]
        super().__init__(f"{shown}{more}", row=first.row, column=first.column, faults=len(rows))
        self.rows: tuple[RowError, ...] = kept
