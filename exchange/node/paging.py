"""A page of the documents a node shows. Whatever comes or goes between two pages, none that stays is left out."""

import re
from collections.abc import Sequence
from typing import Final

from exchange.errors import LimitError
from keys.documents import Document

DOCUMENTS_PER_PAGE: Final = 64
PAGE_BYTES: Final = 2_000_000
"""More than any document has, less than a message may have."""
_TOKEN: Final = re.compile(r"[0-9a-f]{64}")


def page(held: Sequence[Document], token: str, *, most: int) -> tuple[list[Document], str]:
    """The documents after those of the page before, and the token of the page after, empty when this is the last.

    A token names the last document that was given, not its number: a status leaves its place when the next one comes,
    and what stood behind it moves up. If it was itself that status, the pages begin again: taking a document twice is
    harmless, missing one is not.

    Args:
        held: What is shown, in an order in which it can be taken.
        token: Of the page before; empty for the first.
        most: At most this many; 0 = DOCUMENTS_PER_PAGE, which is also the most there are.

    Raises:
        LimitError: The token is not one of ours.
    """
    if token and not _TOKEN.fullmatch(token):
        raise LimitError("the page token is not one of ours", hint="begin again without one")
    last = bytes.fromhex(token)
    start = next((n + 1 for n, document in enumerate(held) if document.digest == last), 0)
    given, size = [], 0
    for document in held[start : start + min(most or DOCUMENTS_PER_PAGE, DOCUMENTS_PER_PAGE)]:
        size += len(document.encode())
        if size > PAGE_BYTES:
            break
        given.append(document)
    more = start + len(given) < len(held)
    return given, given[-1].digest.hex() if more else ""
