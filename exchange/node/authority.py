"""A node's own keys in its keystore: CAs and log keys; usually one of each, two while one replaces the other.

keys/node_keys.py says when which.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from exchange import tls
from keys import founding, node_keys, signer, suite
from keys.encoding import digest
from keys.keystore import Keystore
from keys.trust import Trust, party_of
from keys.v1 import documents_pb2 as pb

FIRST: Final = "ca"
"""Name of a node's first CA in its keystore; later ones are called after their certificate."""
FIRST_LOG: Final = "log"
"""Name of its first log key; later ones are called after their identity."""
KEYSTORE: Final = "node.keys"


def load(store: Keystore) -> dict[bytes, tls.Pair]:
    """The CAs in a node's keystore, by certificate."""
    found = {}
    for name in _names(store).values():
        ca = tls.Pair(x509.load_der_x509_certificate(store.entry(name).public), tls.load_key(store.get(name)))
        found[ca.der] = ca
    return found


def prepare(store: Keystore, trust: Trust, node: str, *, now_ms: int) -> bytes:
    """A new CA for the next rotation, DER; the same one again until a roster names it.

    Raises:
        KeystoreError: The disk refuses; nothing changed.
    """
    named = _named(trust, node)
    waiting = [der for der, name in _names(store).items() if der not in named and name != FIRST]
    if waiting:
        return waiting[0]
    key = tls.new_key()
    der = tls.make_ca(node, key, now_ms=now_ms).public_bytes(Encoding.DER)
    store.put(f"{FIRST}-{digest(der).hex()[:16]}", tls.key_pem(key), kind="tls", public=der)
    return der


def choose(cas: dict[bytes, tls.Pair], trust: Trust, node: str, *, now_ms: int) -> tls.Pair:
    """The CA that issues and shows certificates now; any while no roster names one of ours."""
    shown = node_keys.ca_shown(trust, node, now_ms=now_ms, have=cas) if trust.founded else None
    return cas[shown] if shown is not None else next(iter(cas.values()))


def retired(store: Keystore, trust: Trust, node: str, *, now_ms: int) -> tuple[str, ...]:
    """Names of CAs that were named once and are accepted by nobody any more: to be destroyed."""
    accepted = node_keys.cas_accepted(trust, node, now_ms=now_ms)
    named = _named(trust, node)
    held = _names(store)
    gone = [name for der, name in held.items() if der in named and der not in accepted]
    return () if not accepted or len(gone) == len(held) else tuple(gone)


# ---- log keys


def load_log_keys(store: Keystore, have: Mapping[str, suite.Signer] | None = None) -> dict[str, suite.Signer]:
    """The log keys in a node's keystore by name, the first one first; those that are loaded already as they are. Blocks.

    Raises:
        TocsinError: The keystore, or the token it refers to, does not give one.
    """
    loaded = have or {}
    names = sorted(_log_names(store).values(), key=_age)
    return {name: loaded.get(name) or signer.load(store, name, suite.DESK_SUITE) for name in names}


def prepare_log_key(store: Keystore, trust: Trust, node: str) -> pb.PublicKey:
    """A new log key for the next rotation, with its proof of possession; the same one again until a roster names it.

    It signs along from the moment the node finds it.

    Raises:
        KeystoreError: The disk refuses; nothing changed.
    """
    named = {key.key for key in trust.log_keys(node)}
    waiting = [name for public, name in _log_names(store).items() if public not in named and name != FIRST_LOG]
    key: suite.Signer
    if waiting:
        key = signer.load(store, waiting[0], suite.DESK_SUITE)
    else:
        drawn = suite.SigningKey.generate(suite.DESK_SUITE)
        name = f"{FIRST_LOG}-{suite.key_id(drawn.suite, 'log', drawn.public).hex()[:16]}"
        store.put(name, drawn.seed(), kind=signer.SIGNING, public=drawn.public)
        key = drawn
    return founding.public_key(key, lineage=trust.lineage, party=party_of(node), name=node, role="log")


def retired_log_keys(store: Keystore, trust: Trust, node: str, *, now_ms: int) -> tuple[str, ...]:
    """Names of log keys that were named once and sign no more: to be destroyed."""
    held = _log_names(store)
    signing = node_keys.log_keys_signing(trust, node, now_ms=now_ms, have=held)
    named = {key.key for key in trust.log_keys(node)}
    return tuple(name for public, name in held.items() if public in named and public not in signing) if signing else ()


def _log_names(store: Keystore) -> dict[bytes, str]:
    return _names(store, FIRST_LOG)


def _age(name: str) -> tuple[bool, str]:
    return name != FIRST_LOG, name


def _names(store: Keystore, first: str = FIRST) -> dict[bytes, str]:
    return {e.public: e.name for e in store.entries() if e.name == first or e.name.startswith(f"{first}-")}


def _named(trust: Trust, node: str) -> set[bytes]:
    rosters = (trust.find_roster(d.digest) for d in trust.documents() if d.type == "tocsin/1/roster")
    return {view.nodes[node].tls_ca for view in rosters if node in view.nodes}


def open_keystore(directory: Path, passphrase: bytes) -> Keystore:
    """The keystore of a node.

    Raises:
        KeystoreError: It does not open.
    """
    return Keystore.open(directory / KEYSTORE, passphrase)
