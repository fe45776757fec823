"""Firms in reports: their Legal Entity Identifiers."""

import re
from collections.abc import Iterable
from typing import Final

from exchange.report.faults import Problem
from exchange.v1 import report_pb2 as pb

_LEI: Final = re.compile(r"[0-9A-Z]{18}[0-9]{2}\Z")


def lei_problem(lei: str) -> str:
    """What is wrong with a Legal Entity Identifier, in words; empty = nothing.

    Source: ISO 17442-1: 18 letters or digits, then two check digits by ISO 7064 MOD 97-10.
    """
    if not _LEI.match(lei):
        return "is not a LEI of 18 letters or digits and two check digits"
    if int("".join(str(int(char, 36)) for char in lei)) % 97 != 1:
        return "has check digits that do not fit; one character is mistyped"
    return ""


def company_problems(companies: Iterable[pb.Company], path: str) -> Iterable[Problem]:
    """What is wrong with the firms of a report or an event."""
    for i, company in enumerate(companies):
        if company.lei and (wrong := lei_problem(company.lei)):
            yield Problem(f"{path}[{i}].lei", wrong)
        if not company.lei and not company.name:
            yield Problem(f"{path}[{i}].name", "is missing, and lei too: a firm has one or the other")
