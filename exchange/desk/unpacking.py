"""A pouch that a desk's own node packed for it: what the node would have sent, from a file (PROTOCOL.md section 14.3)."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from google.protobuf.message import DecodeError

from exchange.desk.holdings import Holdings
from exchange.desk.reading import Reading
from exchange.errors import PouchError
from exchange.pouch import format as pouch
from exchange.v1 import envelope_pb2 as env
from exchange.v1 import exchange_pb2 as api
from exchange.v1 import pouch_pb2 as pb

BATCH: Final = 32


@dataclass(slots=True)
class Taken:
    """What became of it; refusals and gaps are events of the desk."""

    entries: int = 0
    documents: int = 0
    moved: bool = False
    damaged: list[str] = field(default_factory=list)


class Unpacking:
    """Reads pouches into the archive."""

    def __init__(self, holdings: Holdings, reading: Reading) -> None:
        self._own, self._reading = holdings, reading

    def take(self, path: Path) -> Taken:
        """Verify and open what a pouch holds; what it says is unread then, as if it had come over the network. Blocks.

        Raises:
            PouchError: Not for this desk, not from its node, or its manifest is damaged.
            ProofError: The node did not sign what the entries stand under.
        """
        with path.open("rb") as file:
            manifest = pouch.read_manifest(file)
            for what, said, ours in (
                ("lineage", manifest.lineage, self._own.trust.lineage),
                ("receiver", manifest.receiver, self._own.name),
                ("sender", manifest.sender, self._own.settings.node),
            ):
                if said != ours:
                    raise PouchError(f"the pouch has another {what} than this desk takes", hint="pass it on")
            return self._take(file, manifest)

    def _take(self, file: BinaryIO, manifest: pb.Manifest) -> Taken:
        done, waiting = Taken(), dict[str, list[api.Entry]]()
        for part in pouch.read_parts(file, manifest):
            if part.fault:
                done.damaged.append(f"part {part.number} ({pouch.name_of(part.kind)}): {part.fault}")
            elif part.kind == pb.PART_KIND_DOCUMENT:
                done.documents += not self._own.take_documents([part.data])
            elif part.kind == pb.PART_KIND_ENTRY:
                entry = api.Entry.FromString(part.data)
                batch = waiting.setdefault(_channel(entry), [])
                batch.append(entry)
                done.entries += 1
                if len(batch) >= BATCH:
                    self._give(manifest, waiting)
        self._give(manifest, waiting)
        if not done.damaged:
            done.moved = self._move(manifest)
        self._own.save_documents()
        return done

    def _give(self, manifest: pb.Manifest, waiting: dict[str, list[api.Entry]]) -> None:
        for channel, entries in waiting.items():
            self._reading.take(channel, api.SubscribeResponse(entries=entries, checkpoint=manifest.checkpoint))
        waiting.clear()

    def _move(self, manifest: pb.Manifest) -> bool:
        """Each channel's place in the log, where the pouch goes on from it without a gap."""
        moved = False
        for rule in self._own.trust.agreement(self._own.clock()).body.channels:
            if manifest.position <= self._own.archive.cursor(rule.channel) < manifest.next_position:
                response = api.SubscribeResponse(checkpoint=manifest.checkpoint, next_position=manifest.next_position)
                self._reading.take(rule.channel, response)
                moved = True
        return moved


def _channel(entry: api.Entry) -> str:
    """The channel an entry claims; it only chooses the place that moves."""
    try:
        return env.Header.FromString(env.Envelope.FromString(entry.data).header).channel
    except DecodeError:
        return ""
