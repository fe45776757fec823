"""What envelopes said, sent or received: kept so that it can be shown, sealed again, and proved item by item."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from exchange import envelope
from exchange.desk.deskfile import DeskFile, failing
from exchange.v1 import envelope_pb2 as pb
from keys.encoding import canonical_bytes, parse_canonical
from keys.errors import UsageError


@dataclass(frozen=True, slots=True)
class Content:
    """What an envelope said and its outside as `Pruned`; with the salt seed it makes evidence of one item."""

    outer: bytes
    items: tuple[bytes, ...] = field(repr=False)
    salt_seed: bytes = field(repr=False)


class Contents(DeskFile):
    """The part of the desk's file that sending and reading share."""

    def content(self, identity: bytes) -> Content:
        """What an envelope said.

        Raises:
            UsageError: None of that id was sealed or opened here.
        """
        with failing(), self._lock:
            row = self._db.execute("SELECT outer, locked, ciphertext FROM content WHERE id = ?", (identity,)).fetchone()
        if row is None:
            raise UsageError(f"no envelope {identity.hex()} in this archive", hint="see `tocsin inbox`")
        outer, locked, ciphertext = row
        if ciphertext is None:
            seed, *items = self._unlock(b"content" + identity, locked)
            return Content(outer, tuple(items), seed)
        (prk,) = self._unlock(b"content" + identity, locked)
        opened = envelope.reopen(_own(identity, outer, ciphertext), prk)
        return Content(outer, opened.items, opened.salt_seed)

    def _keep_received_content(self, identity: bytes, outer: bytes, salt_seed: bytes, items: Sequence[bytes]) -> None:
        locked = self._lock_up(b"content" + identity, [salt_seed, *items])
        self._db.execute("INSERT INTO content (id, outer, locked) VALUES (?, ?, ?)", (identity, outer, locked))

    def _keep_sent_content(self, identity: bytes, outer: bytes, ciphertext: bytes, prk: bytes) -> None:
        # The ciphertext is on disk once, for the outbox and for the archive.
        locked = self._lock_up(b"content" + identity, [prk])
        self._db.execute("INSERT INTO content VALUES (?, ?, ?, ?)", (identity, outer, locked, ciphertext))

    def relock_contents(self) -> None:
        """Put what is still under the key that is left under the new one."""

        def relock(_: int, identity: bytes, locked: bytes) -> None:
            if (parts := self._unlock_left(b"content" + identity, locked)) is not None:
                again = self._lock_up(b"content" + identity, parts)
                self._db.execute("UPDATE content SET locked = ? WHERE id = ?", (again, identity))

        self._each("SELECT rowid, id, locked FROM content", relock)


def shell_of(whole: pb.Envelope) -> bytes:
    """An envelope without its ciphertext."""
    shell = pb.Envelope(
        suite=whole.suite, key=whole.key, header=whole.header, commitment=whole.commitment,
        items_root=whole.items_root, wraps=whole.wraps, signature=whole.signature,
    )  # fmt: skip
    return canonical_bytes(shell)


def whole_of(shell: bytes, ciphertext: bytes) -> bytes:
    """The envelope again, byte for byte."""
    whole = parse_canonical(pb.Envelope, shell)
    whole.ciphertext = ciphertext
    return canonical_bytes(whole)


def _own(identity: bytes, outer: bytes, ciphertext: bytes) -> envelope.Parsed:
    pruned = parse_canonical(pb.Pruned, outer)
    opens = pb.Envelope(
        header=pruned.header, commitment=pruned.commitment, items_root=pruned.items_root, ciphertext=ciphertext
    )
    return envelope.Parsed(b"", opens, identity)
