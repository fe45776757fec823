"""A node's certificate authorities: usually one; two while one replaces the other (keys/node_keys.py says when which)."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from exchange import tls
from keys import node_keys
from keys.encoding import digest
from keys.keystore import Keystore
from keys.trust import Trust

FIRST: Final = "ca"
"""Name of a node's first CA in its keystore; later ones are called after their certificate."""
KEYSTORE: Final = "node.keys"


@dataclass(frozen=True, slots=True)
class Ca:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: tls.TlsKey = field(repr=False)

    @property
    def der(self) -> bytes:
        """The certificate as a roster names it."""
        return self.certificate.public_bytes(Encoding.DER)


def load(store: Keystore) -> dict[bytes, Ca]:
    """The CAs in a node's keystore, by certificate."""
    found = {}
    for name in _names(store).values():
        ca = Ca(x509.load_der_x509_certificate(store.entry(name).public), tls.load_key(store.get(name)))
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


def choose(cas: dict[bytes, Ca], trust: Trust, node: str, *, now_ms: int) -> Ca:
    """The CA that issues and shows certificates now; any while no roster names one of ours."""
    shown = node_keys.ca_shown(trust, node, now_ms=now_ms, have=cas) if trust.founded else None
    return cas[shown] if shown is not None else next(iter(cas.values()))


def destroy_retired(store: Keystore, trust: Trust, node: str, *, now_ms: int) -> tuple[str, ...]:
    """Destroy the keys of CAs that were named once and are accepted by nobody any more; their names."""
    accepted = node_keys.cas_accepted(trust, node, now_ms=now_ms)
    named = _named(trust, node)
    held = _names(store)
    gone = [name for der, name in held.items() if der in named and der not in accepted]
    if not accepted or len(gone) == len(held):
        return ()
    for name in gone:
        store.delete(name)
    return tuple(gone)


def _names(store: Keystore) -> dict[bytes, str]:
    return {e.public: e.name for e in store.entries() if e.name == FIRST or e.name.startswith(f"{FIRST}-")}


def _named(trust: Trust, node: str) -> set[bytes]:
    rosters = (trust.find_roster(d.digest) for d in trust.documents() if d.type == "tocsin/1/roster")
    return {view.nodes[node].tls_ca for view in rosters if node in view.nodes}


def open_keystore(directory: Path, passphrase: bytes) -> Keystore:
    """The keystore of a node.

    Raises:
        KeystoreError: It does not open.
    """
    return Keystore.open(directory / KEYSTORE, passphrase)
