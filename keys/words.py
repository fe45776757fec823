"""A digest to be read aloud: all 32 bytes as 24 words with a checksum, or as 64 digits (docs/PROTOCOL.md section 2.5)."""

from functools import cache
from typing import Final

from mnemonic import Mnemonic

from keys.errors import UsageError

WORD_COUNT: Final = 24
_ROW: Final = 6
_DIGITS_IN_GROUP: Final = 4


@cache
def _list() -> Mnemonic:
    return Mnemonic("english")


def words(digest: bytes) -> tuple[str, ...]:
    """The 24 words of 32 bytes: BIP-39, English list; the last one carries 8 bits of checksum.

    Raises:
        UsageError: Not 32 bytes; a shorter fingerprint could be matched by search.
    """
    if len(digest) != 32:
        raise UsageError(f"a fingerprint is of 32 bytes, not {len(digest)}")
    return tuple(_list().to_mnemonic(digest).split(" "))


def rows(digest: bytes) -> tuple[str, ...]:
    """The words in four numbered rows of six, as two people read them to each other."""
    all_words = words(digest)
    return tuple(
        f"{start + 1:2} to {start + _ROW:2}: {' '.join(all_words[start : start + _ROW])}"
        for start in range(0, WORD_COUNT, _ROW)
    )


def digits(digest: bytes) -> str:
    """The 64 hexadecimal digits in groups of four."""
    text = digest.hex()
    return " ".join(text[i : i + _DIGITS_IN_GROUP] for i in range(0, len(text), _DIGITS_IN_GROUP))


def read(text: str) -> bytes:
    """The 32 bytes of 24 words or 64 digits as someone typed them; spaces, line ends, row numbers and case do not matter.

    Raises:
        UsageError: Neither, a word that is not on the list, or a checksum that fails: something was misheard.
    """
    typed = text.lower().split()
    compact = "".join(typed)
    if compact and all(c in "0123456789abcdef" for c in compact):
        if len(compact) != 2 * 32:
            raise UsageError(f"{len(compact)} digits; a fingerprint has 64 hex digits", hint="or give its 24 words")
        return bytes.fromhex(compact)
    known = _list()
    # "7 to 12:" stands before a row of ours; "to" is on no list of words.
    spoken = [part for part in typed if part != "to" and not part.rstrip(":").isdigit()]
    wrong = [word for word in spoken if word not in known.wordlist]
    if wrong:
        raise UsageError(f"{wrong[0]!r} is not a word of the list", hint="listen again, or compare the digits")
    if len(spoken) != WORD_COUNT:
        raise UsageError(
            f"{len(spoken)} words; a fingerprint has {WORD_COUNT} words or 64 digits", hint="give all of them"
        )
    try:
        return bytes(known.to_entropy(spoken))
    except ValueError:
        raise UsageError("the checksum of the words fails: one is wrong", hint="listen again, row by row") from None
