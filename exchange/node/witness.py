"""Other nodes' cosignatures under this node's checkpoints: checked, kept, handed out with the checkpoint they stand under."""

from typing import Final, TypeVar, TypeVarTuple

from exchange import checkpoint
from exchange.errors import IdentityError, ProofError
from exchange.node.logkeys import LogKeys, listed
from exchange.store.contract import Store
from exchange.workers import Workers
from keys.errors import TocsinError
from keys.trust import Trust, party_of

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")
# The log's own signature needs one line of a note.
MAX_WITNESSES: Final = checkpoint.MAX_SIGNATURES - 1


class Witnesses:
    """The newest cosignature of each witness.

    Args:
        name: This node.
        origin: Its log.
        store: Where they are kept.
        trust: Says who a witness is.
        log_keys: The log's own.
        workers: Read and write the store.
    """

    def __init__(
        self, name: str, origin: str, *, store: Store, trust: Trust, log_keys: LogKeys, workers: Workers
    ) -> None:
        self._name, self._origin = name, origin
        self._store, self._trust, self._log_keys, self._workers = store, trust, log_keys, workers
        self._held: dict[str, bytes] = {}

    def load(self) -> None:
        """Take from the store what the witnesses of today's rosters signed; blocks."""
        for node in self._trust.nodes() if self._trust.founded else ():
            note = self._store.note(self._key(node.node))
            if note is not None:
                try:
                    self.verify(note, node.node)
                except TocsinError:
                    # Its party voided the rosters that named its key: it signs again soon.
                    continue
                self._held[node.node] = note

    def _key(self, witness: str) -> str:
        return f"{self._origin}+{witness}"

    def held(self) -> dict[str, bytes]:
        """The newest cosigned note of each witness."""
        return dict(self._held)

    def verify(self, note: bytes, witness: str) -> checkpoint.Checkpoint:
        """A head of ours that a node of another party cosigned.

        Raises:
            IdentityError: The witness is none.
            ProofError: One of the two did not sign it, or it is of another log.
        """
        seen = self._cosigned(note, witness)
        if seen.origin != self._origin:
            raise ProofError("the cosigned checkpoint is none of this log")
        return seen

    def _cosigned(self, note: bytes, witness: str) -> checkpoint.Checkpoint:
        if self._trust.node(witness) is None or party_of(witness) == party_of(self._name):
            raise IdentityError("only a node of another party cosigns", caller=witness)
        # Both may have replaced their keys since: a cosignature is kept for years, as evidence.
        seen = checkpoint.verify_any(note, self._log_keys.ever(), name=self._name)
        checkpoint.verify_any(note, listed(self._trust, witness), name=witness, context=checkpoint.COSIGNATURE)
        return seen

    def vouch(self, note: bytes, *, by: str) -> bool:
        """Whether a head of any log of ours, signed with whatever key, is to be believed.

        A key that has not ended vouches by itself. Under one that ended, a node must: one that shows what it followed, or one
        of another party that cosigned. A thief of the key has neither, and a node restored to before its end is still told.

        Args:
            note: A head that this node signed once.
            by: Who shows it, as its connection proves.

        Source: docs/PROTOCOL.md section 8.7.
        """
        if self._trust.founded and self._trust.node(by) is not None:
            return True
        try:
            checkpoint.verify_any(note, self._log_keys.counting(), name=self._name)
        except ProofError:
            return any(self._has_cosigned(note, signer) for signer, _, _ in checkpoint.parse(note).signatures)
        return True

    def _has_cosigned(self, note: bytes, witness: str) -> bool:
        try:
            self._cosigned(note, witness)
        except TocsinError:
            return False
        return True

    async def add(self, note: bytes, *, by: str) -> None:
        """Keep a node's signature under one of our checkpoints.

        Raises:
            IdentityError: The caller is no node of another party.
            ProofError: Not one of our checkpoints, or not signed by the caller.
        """
        # A line of each key we know: what else the caller put under the note is not ours to hand on.
        ours, its = self._log_keys.ever(), listed(self._trust, by)
        signers = {(self._name, checkpoint.key_hash(self._name, *key)) for key in ours}
        note = checkpoint.only(note, signers | {(by, checkpoint.key_hash(by, *key)) for key in its})
        seen = self.verify(note, by)
        size = await self._workers.run(self._store.size)
        if seen.size > size or await self._workers.run(self._store.root, seen.size) != seen.root:
            raise ProofError("the cosigned checkpoint is none of this log")
        held = self._held.get(by)
        if held is None or checkpoint.parse(held).size <= seen.size:
            self._held[by] = note
            await self._workers.run(self._store.set_note, self._key(by), note)

    async def freeze(self, party: str, ending: bytes) -> None:
        """Keep the newest checkpoint that a node of a party cosigned, before a document that ends a key of it comes.

        Args:
            party: Whose key ends.
            ending: Digest of the document, which is not in the log yet.

        Source: docs/PROTOCOL.md section 4.7.
        """
        seen = [note for name, note in self._held.items() if party_of(name) == party]
        newest = max(seen, key=_size, default=b"")
        if newest:
            note = checkpoint.join(newest, sorted(seen)[:MAX_WITNESSES])
            await self._workers.run(self._store.set_note, self._before(ending), note)

    def before(self, ending: bytes) -> bytes | None:
        """The checkpoint kept when a document that ended a key came; None when none was cosigned. Blocks."""
        return self._store.note(self._before(ending))

    def _before(self, ending: bytes) -> str:
        return f"{self._origin}<{ending.hex()}"

    def under(self, note: bytes) -> bytes:
        """Our note with the cosignatures under the very same text."""
        return checkpoint.join(note, sorted(self._held.values(), reverse=True)[:MAX_WITNESSES])

    def newest(self) -> bytes:
        """The newest checkpoint that a node of another party cosigned, with all its cosignatures; empty when there is none."""
        newest = max(self._held.values(), key=_size, default=b"")
        return self.under(newest) if newest else b""


def _size(note: bytes) -> int:
    return checkpoint.parse(note).size
