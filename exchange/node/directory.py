"""A node's directory: its settings, its keystore, where its logs are, what it last said of itself."""

import json
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization

from exchange import files, tls
from exchange.clock import now_ms
from exchange.node.quota import Limits, Quotas
from keys import founding, suite
from keys import signer as signers
from keys.errors import TocsinError, UsageError
from keys.keystore import Keystore
from keys.trust import Trust, party_of
from keys.v1 import documents_pb2 as docs

STATUS: Final = "status.json"
FRESH_STATUS_MS: Final = 10_000


class NodeSettings(files.Settings):
    """node.toml."""

    name: str
    lineage: str
    endpoint: str
    enrol_endpoint: str
    desk_envelopes_per_s: int = 500
    desk_bytes_per_s: int = 50_000_000
    desk_documents_per_hour: int = 2_000
    peer_envelopes_per_s: int = 5_000
    peer_bytes_per_s: int = 200_000_000
    peer_documents_per_hour: int = 20_000
    refusals_per_hour: int = 100
    attachment_bytes: int = 20_000_000_000
    attachment_days: int = 90

    def quotas(self) -> Quotas:
        """What each desk and each peer may ask for, as set here."""
        each = self.refusals_per_hour
        return Quotas(
            Limits(self.desk_envelopes_per_s, self.desk_bytes_per_s, self.desk_documents_per_hour, each),
            Limits(self.peer_envelopes_per_s, self.peer_bytes_per_s, self.peer_documents_per_hour, each),
        )


def newest_log(directory: Path) -> Path:
    """The database of a node's newest log: `log.db`, or that of the log that continues it in `log-<n>`."""
    later = [int(path.name[4:]) for path in directory.glob("log-*") if path.name[4:].isdecimal()]
    return directory / f"log-{max(later)}" / "log.db" if later else directory / "log.db"


def status(directory: Path) -> dict[str, object]:
    """What a node last said of itself, with "running" added.

    Raises:
        UsageError: No node ever ran there.
    """
    path = directory / STATUS
    if not path.exists():
        raise UsageError(f"no node has run in {directory}", hint="start it with `tocsin node run`")
    said: dict[str, object] = json.loads(path.read_text())
    return {"running": now_ms() - int(str(said["time_ms"])) < FRESH_STATUS_MS, **said}


def require_newest(directory: Path, trust: Trust, node: str) -> None:
    """Refuse documents from a node's bundle that are behind what the node itself said it holds.

    By an older roster a key that is named already looks as if it still waited, and would be handed out again.

    Raises:
        UsageError: They are.
    """
    said = status(directory).get("roster") if (directory / STATUS).exists() else None
    party = party_of(node)
    held = list(trust.roster(party).number) if trust.has_roster(party) else []
    if isinstance(said, list) and said > held:
        raise UsageError(
            f"{directory / files.BUNDLE} has roster {held or 'none'} of {party}, the node holds {said}",
            hint="put the ministry's newest bundle there; the node takes it by itself",
        )


def init(
    directory: Path,
    settings: NodeSettings,
    *,
    passphrase: bytes = b"",
    fast_kdf: bool = False,
    where: signers.InToken | None = None,
) -> docs.Node:
    """Make a node's directory: settings, keystore with log key and CA. Returns its roster entry, but for relays.

    Args:
        directory: Where.
        settings: Of the node.
        passphrase: Of the keystore; empty for a key file beside it.
        fast_kdf: For tests only.
        where: The token in which the log key is to be made.

    Raises:
        UsageError: The directory holds a node already.
    """
    if (directory / "node.toml").exists():
        raise UsageError(f"{directory} holds a node already", hint="choose another directory")
    files.private_directory(directory)
    ca_key = tls.new_key()
    ca = tls.make_ca(settings.name, ca_key, now_ms=now_ms())
    store = Keystore.create(directory / "node.keys", passphrase, fast_kdf=fast_kdf)
    try:
        log_key = signers.make(store, "log", suite.DESK_SUITE, where=where)
    except TocsinError:
        # So that the command can be run again, with the token in.
        (directory / "node.keys").unlink()
        raise
    store.put("ca", tls.key_pem(ca_key), kind="tls", public=ca.public_bytes(serialization.Encoding.DER))
    store.close()
    files.save_settings(settings, directory / "node.toml")
    lineage = bytes.fromhex(settings.lineage)
    entry = docs.Node(
        node=settings.name,
        endpoint=settings.endpoint,
        enrol_endpoint=settings.enrol_endpoint,
        tls_ca=ca.public_bytes(serialization.Encoding.DER),
    )
    party = party_of(settings.name)
    entry.log_key.CopyFrom(founding.public_key(log_key, lineage=lineage, party=party, name=settings.name, role="log"))
    return entry
