"""Entries of a log and what they carry."""

from collections.abc import Sequence

from google.protobuf.message import DecodeError

from exchange import envelope
from exchange.store.contract import NewEntry, Row
from exchange.v1 import envelope_pb2 as env
from exchange.v1 import exchange_pb2 as pb
from keys import documents
from keys.encoding import digest, pae


def hinted(parsed: envelope.Parsed) -> env.Header:
    """The header as it claims to be, unverified: good to choose a row, for nothing else."""
    header = env.Header()
    try:
        header.ParseFromString(parsed.outer.header)
    except DecodeError:
        return env.Header()
    return header


def stream_of(header: env.Header) -> bytes:
    """The name of a stream in the store: a desk that uses another's random id neither blocks nor accuses it."""
    return stream_name(header.sender, header.stream)


def stream_name(sender: str, stream: bytes) -> bytes:
    """See `stream_of`."""
    return digest(pae(sender, stream))[:16]


def claimed_sender(data: bytes) -> str:
    """Whom an envelope that was refused names as its sender, unverified; empty when it cannot be read."""
    try:
        return env.Header.FromString(env.Envelope.FromString(data).header).sender
    except DecodeError:
        return ""


def header_of(data: bytes, *, pruned: bool = False) -> env.Header:
    """The header of an envelope that was admitted, whole or pruned."""
    message = env.Pruned() if pruned else env.Envelope()
    message.ParseFromString(data)
    return env.Header.FromString(message.header)


def entry_message(row: Row, proof: Sequence[bytes]) -> pb.Entry:
    """A stored entry as it travels."""
    entry = pb.Entry(position=row.position, data=row.data, leaf=row.id, proof=proof, pruned=row.pruned)
    # An open enum: a kind of a later version is stored and sent as it is.
    entry.kind = row.kind  # type: ignore[assignment]
    return entry


def envelope_entry(parsed: envelope.Parsed, header: env.Header, *, origin: str = "") -> NewEntry:
    """An admitted envelope as an entry; `origin` is the followed log it came from."""
    return NewEntry(
        kind=pb.ENTRY_KIND_ENVELOPE,
        id=parsed.id,
        data=parsed.data,
        stream=stream_of(header),
        seq=header.seq,
        channel=header.channel,
        audience=tuple(reader.desk for reader in header.audience),
        sender=header.sender,
        create_time_ms=header.create_time_ms,
        origin=origin,
    )


def document_entry(document: documents.Document, *, taken_ms: int, origin: str = "") -> NewEntry:
    """A document as an entry; when it came is kept beside it, for the hold of PROTOCOL 6.4 lasts through restarts."""
    return NewEntry(
        kind=pb.ENTRY_KIND_DOCUMENT,
        id=document.digest,
        data=document.encode(),
        create_time_ms=taken_ms,
        origin=origin,
    )
