"""Courier keys in a keystore: one entry each, by id, with group and first use."""

import json
from typing import Final

from keys.courier import CourierKey
from keys.errors import UsageError
from keys.keystore import Keystore, KeystoreError
from keys.windows import iso

KIND: Final = "courier"


def keep(store: Keystore, key: CourierKey) -> str:
    """Put a key into a keystore; returns the name of its entry. The same again changes nothing.

    Raises:
        SecretExistsError: The keystore has that key with another group or first use.
        UsageError: Another key of the group has the same first use: nobody could say which one seals.
    """
    for other in held(store, key.group):
        if other.first_use_ms == key.first_use_ms and other.key != key.key:
            raise UsageError(f"group {key.group} has another key from {iso(key.first_use_ms)} on")
    # By its id alone: one key in two groups would join what the agreement keeps apart.
    name = f"courier-{key.id.hex()}"
    said = {"group": key.group, "first_use_ms": key.first_use_ms, "key": key.key.hex()}
    store.put(name, json.dumps(said).encode(), kind=KIND, public=key.id)
    return name


def held(store: Keystore, group: str | None = None) -> list[CourierKey]:
    """The keys in a keystore, of one group or all, by group and first use.

    Raises:
        KeystoreError: An entry that this version cannot read.
    """
    found = []
    for name, secret in store.of_kind(KIND):
        try:
            said = json.loads(secret)
            key = CourierKey(said["group"], said["first_use_ms"], bytes.fromhex(said["key"]))
        except (ValueError, KeyError, TypeError, UsageError):
            raise KeystoreError(f"the courier key {name} is not of this version") from None
        if group in (None, key.group):
            found.append(key)
    return sorted(found, key=lambda key: (key.group, key.first_use_ms))


def forget(store: Keystore, key: CourierKey) -> None:
    """Destroy a key in a keystore.

    Raises:
        UnknownSecretError: It is not there.
    """
    store.delete(f"courier-{key.id.hex()}")
