"""Component keys are never reused: each half belongs to one key, owner and role in the lineage (PROTOCOL 3.3)."""

from keys import suite
from keys.errors import BadKeyError
from keys.v1 import documents_pb2 as pb

ROLES = ("root", "roster", "status")
Components = dict[bytes, tuple[str, str, bytes]]
"""Half of a public key -> (owner, role, identity of the key)."""


class Claims:
    """Who uses which component key, changed only as a whole: a document that is refused claims nothing."""

    def __init__(self, held: Components) -> None:
        self._held = held
        self._new: Components = {}

    def add(self, key: pb.PublicKey, owner: str, role: str) -> None:
        """Claim both halves of a key.

        Raises:
            BadKeyError: One of them is claimed otherwise.
        """
        claim = (owner, role, suite.key_id(key.suite, role, key.key))
        halves = suite.components(key.suite, key.key)
        if any(self._held.get(half, self._new.get(half, claim)) != claim for half in halves):
            raise BadKeyError(f"a component key of {owner} ({role}) is in use elsewhere", owner=owner)
        self._new.update(dict.fromkeys(halves, claim))

    def add_role_keys(self, body: pb.Party) -> None:
        """Claim the keys of every role of a party."""
        for role in ROLES:
            for holder in getattr(body, role).keys:
                self.add(holder.key, f"{body.party}:{holder.holder}", role)

    def commit(self) -> None:
        """Make the claims last."""
        self._held.update(self._new)
