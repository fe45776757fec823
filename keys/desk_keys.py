"""The signing keys of a desk in its own keystore: a new one drawn, the one in use chosen, an old one destroyed.

The roster alone decides; the desk follows it by itself, so that nobody has to be there when a new key's time comes.
"""

from collections.abc import Collection
from typing import Final

from keys import founding, signer, suite
from keys.keystore import Keystore
from keys.trust import Trust, party_of
from keys.v1 import documents_pb2 as pb

FIRST: Final = "signing"
"""Name of a desk's first key; later ones are called after their identity."""


def names(store: Keystore) -> dict[bytes, str]:
    """The desk's signing keys, by identity."""
    return {
        suite.key_id(suite.DESK_SUITE, "desk", entry.public): entry.name
        for entry in store.entries()
        if entry.name == FIRST or entry.name.startswith(f"{FIRST}-")
    }


def next_name(key: suite.Signer) -> str:
    """What a desk's next key is called in its keystore."""
    return f"{FIRST}-{suite.key_id(key.suite, 'desk', key.public).hex()[:16]}"


def prepare(store: Keystore, trust: Trust, desk: str) -> pb.PublicKey:
    """A new key for the next rotation, with its proof of possession; the same one again until a roster lists it.

    Raises:
        KeystoreError: The disk refuses; nothing changed.
    """
    waiting = [name for identity, name in names(store).items() if trust.desk_key(identity) is None and name != FIRST]
    key: suite.Signer
    if waiting:
        key = signer.load(store, waiting[0], suite.DESK_SUITE)
    else:
        drawn = suite.SigningKey.generate(suite.DESK_SUITE)
        store.put(next_name(drawn), drawn.seed(), kind="signing", public=drawn.public)
        key = drawn
    return founding.public_key(key, lineage=trust.lineage, party=party_of(desk), name=desk, role="desk")


def in_use(trust: Trust, desk: str, *, now_ms: int, have: Collection[bytes]) -> bytes | None:
    """The key a desk signs with now, of those it has: the newest that its roster lists as active at this time.

    None: the roster lists none of them; whatever the desk signs would be refused.
    """
    view = trust.roster(party_of(desk)) if party_of(desk) in trust.parties else None
    listed = view.desks.get(desk) if view else None
    usable = [
        key
        for key in (listed.keys.values() if listed else ())
        if key.id in have
        and key.state == pb.KEY_STATE_ACTIVE
        and key.first_use_ms <= now_ms
        and (not key.last_use_ms or now_ms < key.last_use_ms)
        and trust.key_ended(desk, key.id) is None
    ]
    return max(usable, key=lambda key: key.first_use_ms).id if usable else None


def destroy_retired(store: Keystore, trust: Trust, desk: str) -> tuple[str, ...]:
    """Destroy keys that a roster listed and the newest one no longer does; their names.

    A key that waits for its announcement is kept, and so is the last one.
    """
    view = trust.roster(party_of(desk))
    listed = view.desks.get(desk)
    if listed is None:
        # Disabled or left out by mistake: what the desk needs to renounce its key stays.
        return ()
    held = names(store)
    gone = [name for identity, name in held.items() if identity not in listed.keys and trust.desk_key(identity)]
    if len(gone) == len(held):
        return ()
    for name in gone:
        store.delete(name)
    return tuple(gone)
