"""The frozen vectors: this implementation and an independent opener give the same answer to each, for ever."""

import ast
import base64
import importlib.util
import json
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from exchange import envelope
from exchange.admission import Admission
from keys import documents, suite
from keys.errors import PeerError
from keys.trust import Trust

VECTORS = Path(__file__).parents[1] / "vectors" / "tocsin"
OPENER = VECTORS / "opener.py"


def load(name: str) -> Any:
    return json.loads((VECTORS / name).read_text(encoding="utf-8"))


EXCHANGE: dict[str, Any] = load("exchange.json")
DOCUMENTS = [base64.b64decode(document) for document in EXCHANGE["documents"]]
ENVELOPES = [pytest.param(case, id=case["comment"]) for case in load("envelopes.json")]
CHAINS = [pytest.param(case, id=case["comment"]) for case in load("documents.json")]


def founded() -> Trust:
    trust = Trust(bytes.fromhex(EXCHANGE["lineage"]))
    for document in DOCUMENTS:
        trust.take(documents.decode(document), now_ms=EXCHANGE["now_ms"])
    return trust


@cache
def opener() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tocsin_opener", OPENER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def independent() -> Any:
    return opener().Exchange(bytes.fromhex(EXCHANGE["lineage"]), DOCUMENTS)


def courier_of(case: dict[str, Any]) -> bytes | None:
    return base64.b64decode(case["courier"]) if "courier" in case else None


def items_of(case: dict[str, Any]) -> list[bytes]:
    return [base64.b64decode(item) for item in case["items"]]


def ours(case: dict[str, Any]) -> tuple[bytes, ...]:
    """Parse, find the key, check, open: what `expect` means on the layers "open" and "keys"."""
    trust = founded()
    parsed = envelope.parse(base64.b64decode(case["envelope"]))
    if case["layer"] == "admit":
        Admission(trust).admit(parsed, now_ms=case["now_ms"], answered=lambda _: None)
        return ()
    found = trust.desk_key(parsed.outer.key)
    if found is None:
        Admission(trust).rights(parsed, answered=lambda _: None)
        pytest.fail("admitted without a key")
    if "id" in case:
        assert parsed.id.hex() == case["id"]
    card = suite.CardKey.from_seed(base64.b64decode(EXCHANGE["card_seeds"][case["desk"]]))
    checked = envelope.check(parsed, found[1].public)
    return envelope.open_envelope(checked, desk=case["desk"], card=card, courier=courier_of(case))


@pytest.mark.parametrize("case", ENVELOPES)
def test_this_implementation_gives_the_frozen_answer(case: dict[str, Any]) -> None:
    if case["expect"] == "ok":
        assert list(ours(case)) == (items_of(case) if "items" in case else [])
        return
    with pytest.raises(PeerError) as failure:
        ours(case)
    assert failure.value.reason == case["expect"]


@pytest.mark.parametrize("case", [case for case in ENVELOPES if case.values[0]["layer"] != "admit"])  # type: ignore[index,call-overload]
def test_the_independent_opener_gives_the_same_answer(case: dict[str, Any]) -> None:
    seed = base64.b64decode(EXCHANGE["card_seeds"][case["desk"]])
    data = base64.b64decode(case["envelope"])
    if case["expect"] == "ok":
        assert independent().open(data, desk=case["desk"], seed=seed, courier=courier_of(case)) == items_of(case)
        return
    with pytest.raises(opener().Refused, match=f"^{case['expect']}$"):
        independent().open(data, desk=case["desk"], seed=seed, courier=courier_of(case))


@pytest.mark.parametrize("case", CHAINS)
def test_documents_get_the_frozen_answer(case: dict[str, Any]) -> None:
    document = documents.decode(base64.b64decode(case["document"]))
    assert document.digest.hex() == case["digest"]
    if case["expect"] == "ok":
        assert founded().take(document, now_ms=EXCHANGE["now_ms"]).new
        return
    with pytest.raises(PeerError) as failure:
        founded().take(document, now_ms=EXCHANGE["now_ms"])
    assert failure.value.reason == case["expect"]


def test_digests_of_documents_are_frozen() -> None:
    assert [documents.decode(document).digest.hex() for document in DOCUMENTS] == EXCHANGE["digests"]


def test_the_opener_is_small_and_independent() -> None:
    source = OPENER.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 300
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name or "").partition(".")[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert imported == {"hashlib", "hmac", "typing", "cryptography"}
