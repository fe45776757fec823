"""Make a file of evidence: one item, its salt and proof, the envelope's outside, logs and documents. No I/O."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from exchange import envelope, merkle
from exchange.evidence.verify import MAGIC
from exchange.v1 import envelope_pb2 as env
from exchange.v1 import evidence_pb2 as pb
from keys import documents
from keys.documents import Document
from keys.encoding import canonical_bytes, parse_canonical
from keys.trust import Trust
from keys.v1 import documents_pb2 as docs

ROSTER: Final = "tocsin/1/roster"


def evidence(
    trust: Trust,
    *,
    outer: bytes,
    items: Sequence[bytes],
    salt_seed: bytes,
    index: int,
    logs: Iterable[pb.LogView],
) -> bytes:
    """The file that shows item `index` of an envelope and nothing of the others but their number.

    Args:
        trust: Documents held; those that the proof needs are put in.
        outer: The envelope, pruned.
        items: Every item of the envelope, in order.
        salt_seed: As `envelope.open_whole` or `envelope.seal` gave it.
        index: The item to show, from 0.
        logs: What is known of logs that hold the envelope.

    Raises:
        IndexError: No such item.
    """
    shown: list[pb.LogView] = sorted(logs, key=origin_of)
    item, salt = items[index], envelope.salts_of(salt_seed, len(items))[index]
    pruned = parse_canonical(env.Pruned, outer)
    header = parse_canonical(env.Header, pruned.header)
    file = pb.Evidence(
        lineage=trust.lineage,
        item=item,
        salt=salt,
        index=index,
        count=len(items),
        proof=path_of(envelope.item_leaves(salt_seed, items), index),
        envelope=outer,
        logs=shown,
        documents=[document.encode() for document in needed(trust, header)],
    )
    return MAGIC + canonical_bytes(file)


def path_of(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Inclusion proof of one leaf among leaves that are all at hand."""
    made: dict[tuple[int, int], bytes] = {}

    def node_at(level: int, at: int) -> bytes:
        return made[(level, at)]

    made.update({(level, at): value for level, at, value in merkle.new_nodes(0, leaves, node_at)})
    return merkle.inclusion(index, len(leaves), node_at)


def origin_of(view: pb.LogView) -> str:
    """Origin of the log a view shows."""
    return view.heads[0].note.partition(b"\n")[0].decode()


def needed(trust: Trust, header: env.Header) -> list[Document]:
    """Of the documents held, those that a proof about one envelope needs, in an order in which they can be taken.

    Every agreement and party document; of the rosters those that are pinned, the newest of each party, and the first
    that ended the key with the one before it; statuses; a renunciation of the key. Key cards say nothing here.
    """
    rosters = {pin.digest for pin in header.rosters}
    rosters |= {trust.roster(party).document.digest for party in trust.parties}
    endings = ending_documents(trust, header)
    ended_in = [documents.body(d, docs.Roster) for d in trust.documents() if d.digest in endings and d.type == ROSTER]
    rosters |= {digest for body in ended_in for digest in (*endings, body.previous)}
    chosen: dict[str, Callable[[Document], bool]] = {
        "tocsin/1/agreement": lambda _: True,
        "tocsin/1/party": lambda _: True,
        ROSTER: lambda document: document.digest in rosters,
        "tocsin/1/status": lambda _: True,
        "tocsin/1/renunciation": lambda document: documents.body(document, docs.Renunciation).key == header.key,
    }
    return [d for d in trust.documents() if d.type in chosen and chosen[d.type](d)]


def ending_documents(trust: Trust, header: env.Header) -> list[bytes]:
    """Digests of what ended the sender's key first; their places in a log say whether the envelope came before."""
    return [ending.document for ending in trust.endings(header.sender, header.key)]
