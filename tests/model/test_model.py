"""The formal model of the envelope: no attack within its bound, and each attack it knows once its defence is off.

The second half is what gives the first its worth: a model that finds nothing at all proves nothing.
"""

from functools import cache
from pathlib import Path
from typing import Any

import maude
import pytest

MODEL = Path(__file__).parents[2] / "docs" / "model" / "envelope.maude"


@cache
def module() -> Any:
    maude.init(advise=False, handleInterrupts=False)
    assert maude.load(str(MODEL))
    return maude.getModule("INTRUDER")


def found(start: str, off: str, what: str) -> bool:
    """Whether a state of which `what` holds is reachable from `start` with some defences off."""
    states = module()
    condition = maude.EqualityCondition(states.parseTerm(f"{what}(ST:State)"), states.parseTerm("true"))
    first = states.parseTerm(f"{start}({off})")
    assert first is not None, off
    return next(iter(first.search(maude.ANY_STEPS, states.parseTerm("ST:State"), [condition])), None) is not None


@pytest.mark.parametrize(
    ("start", "what"),
    [
        ("posing", "wrong"),
        ("writing", "wrong"),
        ("passed", "wrong"),
        ("fallen", "wrong"),
        ("cloned", "wrong"),
        ("forging", "wrong"),
        ("told", "guessed"),
        ("told", "lied"),
    ],
)
def test_no_attack_with_every_defence_on(start: str, what: str) -> None:
    assert not found(start, "all-on", what)


def test_what_was_sent_is_read() -> None:
    assert found("passed", "all-on", "delivered")


@pytest.mark.parametrize(
    ("attack", "start", "off", "what"),
    [
        ("a reader passes words on as if to another", "posing", "audience, saltheader", "forged"),
        ("words are taken from a key that is not the sender's", "posing", "signer", "forged"),
        ("a signature for another purpose", "posing", "context", "forged"),
        ("stripping: signing words one cannot read", "writing", "wrapinfo, derivation, aad, inside, saltheader", "claimed"),
        ("one ciphertext, two texts", "writing", "commitment, rootcheck", "doubled"),
        ("a cloned machine repeats its random numbers", "cloned", "rootkey", "leaked"),
        ("the key encapsulation falls", "fallen", "courier", "leaked"),
        ("the rest of a batch is guessed from evidence", "told", "salts", "guessed"),
        ("evidence of words never said", "forging", "rootsigned", "lied"),
        ("the same envelope again", "passed", "once", "replayed"),
    ],
)  # fmt: skip
def test_the_attack_is_found_with_its_defence_off(attack: str, start: str, off: str, what: str) -> None:
    assert found(start, off, what), attack


@pytest.mark.parametrize(
    ("start", "off"),
    [
        ("posing", "audience"),  # the salts carry the header, so items_root, which is signed, does too
        ("writing", "rootcheck"),  # kc alone stops two texts
        ("writing", "commitment"),  # and so does items_root alone
        ("writing", "derivation, aad, inside, saltheader"),  # the wraps alone stop stripping
        ("writing", "wrapinfo, aad, inside, saltheader"),
        ("writing", "wrapinfo, derivation, inside, saltheader"),
        ("writing", "wrapinfo, derivation, aad, saltheader"),
        ("writing", "wrapinfo, derivation, aad, inside"),
    ],
)
def test_a_second_line_holds_where_there_is_one(start: str, off: str) -> None:
    assert not found(start, off, "wrong")
