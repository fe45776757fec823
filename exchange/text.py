"""Text from elsewhere is hostile until it is cleaned: no escapes, no direction tricks, nothing invisible.

Markup is another matter: "<b>" and "[red]" are plain characters here and stay. Whoever shows text escapes for the
place it is shown: HTML and XML by their escapers, a terminal by `printable` and never through a markup parser.
"""

import re
import unicodedata
from typing import Final

MAX_MARKS: Final = 4  # Marks stacked on one letter; real orthographies need 3, a heap of 500 hides the lines above.
ELLIPSIS: Final = "\u2026"

# Invisible though not in category Cf: Hangul and Khmer fillers, variation selectors, grapheme joiner, braille blank.
_INVISIBLE: Final = frozenset(
    [
        *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F, 0x2800, 0x3164, 0xFFA0),
        *range(0xFE00, 0xFE10),
        *range(0xE0100, 0xE01F0),
    ]
)
# Cc control, Cf format (bidi, zero width, tags), Cs surrogates, Co private use (a font's secret), Cn unassigned.
_STRIPPED: Final = frozenset(["Cc", "Cf", "Cs", "Co", "Cn"])
# Printable ASCII, Latin-1 letters, Hangul syllables, common Han: visible, no marks, and NFC in any order.
_WORD: Final = "[!-~\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u00ff\u4e00-\u9fa5\uac00-\ud7a3]++"
# Words with one space between them: what `clean` leaves as it is. Possessive, so the time is linear.
_ORDINARY: Final = re.compile(f"(?:{_WORD}(?: {_WORD})*+)?")


def _kept(text: str, *, lines: bool) -> str:
    out: list[str] = []
    for char in text:
        if " " <= char <= "~":
            out.append(char)
            continue
        category = unicodedata.category(char)
        if char in "\n\r\x0b\x0c\x85" or category in ("Zl", "Zp"):
            out.append("\n" if lines else " ")
        elif char == "\t" or category == "Zs":
            out.append(" ")
        elif category not in _STRIPPED and ord(char) not in _INVISIBLE:
            out.append(char)
    return "".join(out)


def _few_marks(text: str) -> str:
    out: list[str] = []
    marks = 0
    for char in text:
        marks = marks + 1 if unicodedata.category(char) in ("Mn", "Me") else 0
        if marks <= MAX_MARKS:
            out.append(char)
    return "".join(out)


def clean(text: str, *, max_chars: int, lines: bool = False) -> str:
    """The text without what could deceive a reader or drive a terminal; cleaning twice changes nothing more.

    Removes control, format (direction, zero-width, tag), surrogate, private and unassigned characters and invisible
    fillers; turns every kind of space into a space; keeps at most MAX_MARKS marks on a letter; NFC; trims.

    Args:
        text: Anything.
        max_chars: Longest result in characters; a longer one is cut and ends with an ellipsis.
        lines: Keep line breaks, as line feeds, at most one empty line in a row; otherwise they become spaces.

    Source: docs/PROTOCOL.md section 10.
    """
    # One pass in C; most texts are done here.
    if len(text) <= max_chars and _ORDINARY.fullmatch(text):
        return text
    # Marks can only get fewer; the cut before the slow part keeps the work bounded whatever arrives.
    kept = unicodedata.normalize("NFC", _kept(text[: max_chars * 4 + 64].replace("\r\n", "\n"), lines=lines))
    kept = unicodedata.normalize("NFC", _few_marks(kept))
    kept = re.sub(r" +", " ", kept)
    if lines:
        kept = re.sub(r"\n{3,}", "\n\n", re.sub(r" ?\n ?", "\n", kept))
    kept = kept.strip()
    if len(kept) > max_chars:
        kept = kept[: max_chars - 1].rstrip() + ELLIPSIS
    return kept


def is_clean(text: str, *, max_chars: int, lines: bool = False) -> bool:
    """Whether `clean` would leave the text as it is."""
    if len(text) <= max_chars and _ORDINARY.fullmatch(text):
        return True
    return clean(text, max_chars=max_chars, lines=lines) == text


def printable(text: str, *, max_chars: int = 4000) -> str:
    r"""One line that any terminal shows as it is: whatever is not visible is written as an escape, `\x1b`.

    For text that was not cleaned (names in errors, foreign file names). Do not hand the result to a markup parser.
    """
    out: list[str] = []
    for char in text[:max_chars]:
        category = unicodedata.category(char)
        if category in _STRIPPED or category in ("Zl", "Zp") or ord(char) in _INVISIBLE:
            code = ord(char)
            out.append(f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
        else:
            out.append(" " if category == "Zs" else char)
    return _few_marks("".join(out)) + (ELLIPSIS if len(text) > max_chars else "")
