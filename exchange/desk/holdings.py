"""What a desk holds: settings, keys, documents, archive, clock, workers, and the events nobody has asked for yet."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import zip_longest
from pathlib import Path
from typing import Final

import structlog
from cryptography import x509

from exchange import checkpoint, files, retirement, tls
from exchange.admission import Admission
from exchange.desk import rekey
from exchange.desk.archive import Archive
from exchange.desk.cards import Cards
from exchange.desk.couriers import Couriers
from exchange.desk.events import DiskFailed, Event
from exchange.desk.settings import DeskSettings
from exchange.errors import StoreError
from exchange.workers import Workers
from keys import desk_keys, documents, signer, suite
from keys.errors import TocsinError, UsageError
from keys.keystore import Keystore
from keys.trust import AgreementView, DeadLineageError, RosterView, party_of
from keys.v1 import documents_pb2 as docs

MAX_EVENTS: Final = 1000
FILE: Final = "desk.db"
TLS: Final = "tls"
"""Name in the keystore of the TLS key; its certificate, once there is one, is its public half."""

log = structlog.get_logger("tocsin.desk")


class Holdings:
    """All that sealing, sending and reading share.

    Args:
        directory: Holds desk.toml, the keystore, the documents and the archive.
        passphrase: Opens the keystore; empty for a machine-local key file.
        clock: Milliseconds UTC.
        workers: Run what blocks.
    """

    def __init__(self, directory: Path, *, passphrase: bytes, clock: Callable[[], int], workers: Workers) -> None:
        self.directory, self.clock, self.workers = directory, clock, workers
        self.settings = files.load_settings(DeskSettings, directory / "desk.toml")
        self.name = self.settings.desk
        self._keystore = Keystore.open(directory / "desk.keys", passphrase)
        self._signers: dict[str, suite.Signer] = {}
        self._key_names: tuple[int, dict[bytes, str]] = (-1, {})
        if rekey.unfinished(self._keystore):
            log.warning("the archive goes on being put under a new key", desk=self.name)
            rekey.rekey(self._keystore, directory / FILE)
        self.archive = Archive(directory / FILE, self._keystore.get(rekey.KEY))
        lineage = bytes.fromhex(self.settings.lineage)
        self.trust, _ = files.load_trust(directory / files.BUNDLE, lineage, now_ms=clock())
        self._saved_version = self.trust.version
        retirement.resume(directory, self.trust)
        self.admission = Admission(self.trust)
        self.cards = Cards(self.name, lambda: self.key, keystore=self._keystore, trust=self.trust, clock=clock)
        self.couriers = Couriers(self._keystore, clock=clock)
        self.events: deque[Event] = deque(maxlen=MAX_EVENTS)
        self.state = "closed"

    def __repr__(self) -> str:
        """Never a key."""
        return f"Holdings({self.name!r})"

    @property
    def key(self) -> suite.Signer:
        """The signing key in use now, as `key_at`."""
        return self.key_at(self.clock())

    def key_at(self, time_ms: int) -> suite.Signer:
        """The signing key in use at a time, by our own roster; one of ours all the same while a roster lists none.

        Raises:
            TocsinError: The keystore, or the token it refers to, does not give it.
        """
        # A new key matters once a roster lists it, so the keystore is only looked at again when documents came.
        if self._key_names[0] != self.trust.version:
            self._key_names = (self.trust.version, desk_keys.names(self._keystore))
        names = self._key_names[1]
        identity = desk_keys.in_use(self.trust, self.name, now_ms=time_ms, have=names) if self.listed() else None
        name = names[identity] if identity else min(names.values(), default=desk_keys.FIRST)
        if name not in self._signers:
            self._signers[name] = signer.load(self._keystore, name, suite.DESK_SUITE)
        return self._signers[name]

    def destroy_retired_keys(self) -> tuple[str, ...]:
        """Destroy signing keys that our roster no longer lists; their names.

        Raises:
            KeystoreError: The keystore cannot be written.
        """
        gone = desk_keys.destroy_retired(self._keystore, self.trust, self.name)
        self._key_names = (-1, {})
        for name in gone:
            self._signers.pop(name, None)
        return gone

    def tls_certificate(self) -> bytes:
        """The TLS certificate, DER, as another process may have renewed it since; empty before the first.

        Raises:
            KeystoreError: The keystore cannot be read.
        """
        return self._keystore.entry(TLS).public

    def tls_pair(self) -> tls.Pair:
        """The TLS certificate and its key; there is one since the first enrolment.

        Raises:
            KeystoreError: The keystore cannot be read.
        """
        key = tls.load_key(self._keystore.get(TLS))
        return tls.Pair(x509.load_der_x509_certificate(self.tls_certificate()), key)

    def replace_tls(self, new: tls.Pair) -> None:
        """Keep a TLS key with its certificate in the place of the old ones, both or neither. Blocks.

        Raises:
            KeystoreError: The keystore cannot be written; the old ones stay.
        """
        self._keystore.replace(TLS, tls.key_pem(new.key), public=new.der)
        # A copy for people and `tocsin-keys status --certificate`; nothing here reads it.
        with suppress(OSError):
            (self.directory / "tls.pem").write_bytes(tls.pem(new.certificate))

    def listed(self) -> bool:
        """Whether the newest roster held lists this desk."""
        try:
            return self.name in self.trust.roster(party_of(self.name)).desks
        except TocsinError:
            return False

    def require_living(self) -> None:
        """Refuse to say anything new in an exchange that people ended on this machine.

        Raises:
            DeadLineageError: They did.
        """
        if (death := self.trust.death) is not None:
            raise DeadLineageError(death.successor, "takes no new envelope")

    def current(self) -> tuple[AgreementView, dict[str, RosterView]]:
        """The agreement in force and the rosters to pin now (docs/PROTOCOL.md section 6.4).

        Raises:
            MissingDocumentError: One is not held.
        """
        now_ms, own = self.clock(), party_of(self.name)
        rosters = {party: self.trust.roster_to_pin(party, by=own, now_ms=now_ms) for party in self.trust.parties}
        return self.trust.agreement(now_ms), rosters

    def node_entry(self) -> docs.Node:
        """The hosting node, as its roster describes it.

        Raises:
            UsageError: No roster held lists it.
        """
        entry = self.trust.node(self.settings.node)
        if entry is None:
            raise UsageError(f"{self.settings.node} is in no roster this desk holds", hint="load the documents first")
        return entry

    def verify_note(self, note: bytes) -> checkpoint.Checkpoint:
        """The checkpoint in a note of the hosting node.

        Raises:
            ProofError: The node did not sign it.
        """
        entry = self.node_entry()
        return checkpoint.verify(note, entry.log_key.suite, entry.log_key.key, name=entry.node)

    def verify_kept_note(self, note: bytes, *, node: str = "") -> checkpoint.Checkpoint:
        """The checkpoint in a note that is kept: by a key that any roster lists for the hosting node, or cosigned by `node`.

        Raises:
            ProofError: It is not.
        """
        name = node or self.settings.node
        keys = [(key.suite, key.key) for key in self.trust.log_keys(name)]
        context = checkpoint.COSIGNATURE if node else checkpoint.CHECKPOINT
        return checkpoint.verify_any(note, keys, name=name, context=context)

    def take_documents(self, encoded: Iterable[bytes], *, taken_ms: Sequence[int] = ()) -> list[TocsinError]:
        """Take documents from anyone; each is verified, what is refused is returned.

        Args:
            encoded: Signed documents.
            taken_ms: When the hosting node took each, ms UTC, where it says so.
        """
        refused = []
        offered = list(encoded)
        for data, came_ms in zip_longest(offered, taken_ms[: len(offered)]):
            try:
                self.trust.take(documents.decode(data), now_ms=self.clock(), taken_ms=came_ms)
            except TocsinError as error:
                refused.append(error)
        return refused

    def save_documents(self) -> None:
        """Write the documents held, if they changed.

        Raises:
            StoreError: The disk failed; they are held in memory, and fetched again after a restart.
        """
        if self.trust.version != self._saved_version:
            held = self.trust.documents()
            taken_ms = [self.trust.taken_ms(document.digest) for document in held]
            try:
                files.save_bundle(self.directory / files.BUNDLE, held, taken_ms=taken_ms)
            except OSError as error:
                raise StoreError(f"cannot save the documents: {error}") from error
            self._saved_version = self.trust.version

    def event(self, event: Event) -> None:
        """Keep an event until `Desk.events` is asked; beyond MAX_EVENTS the oldest goes of the kind and sender of most."""
        log.warning("event", desk=self.name, kind=type(event).__name__, text=str(event))
        held = list(self.events)
        if len(held) >= MAX_EVENTS:
            # Else whoever causes many would push out what is to be told of others.
            most, _ = Counter(map(_cause, held)).most_common(1)[0]
            # Somebody may have taken them meanwhile.
            with suppress(ValueError):
                self.events.remove(next(one for one in held if _cause(one) == most))
        self.events.append(event)

    def disk_failed(self, error: TocsinError) -> None:
        """Our own disk does not keep what it is given: told once while nobody looks, and what failed is tried again."""
        self.state = f"{error.reason}: {error}"
        if not any(isinstance(event, DiskFailed) for event in self.events):
            self.event(DiskFailed(str(error), error.hint))

    def close(self) -> None:
        """Save the documents and release the files."""
        try:
            self.save_documents()
        except StoreError as error:
            log.warning("documents not saved", desk=self.name, text=str(error))
        self.archive.close()
        self._keystore.close()
        self.state = "closed"


def _cause(event: Event) -> tuple[type, str]:
    return type(event), getattr(event, "sender", "")
