"""Attacks on, by and between running nodes, numbered as in docs/THREATS.md: real processes, real TLS, real files.

Each is refused for its reason, and succeeds once that one check is switched off: so each test is known to bite.
"""

import asyncio
import os
import re
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from exchange import envelope, files, tls, wire
from exchange.envelope import Parsed
from exchange.node.refusals import Refusals
from exchange.v1 import exchange_pb2 as pb
from keys import documents, founding, suite
from keys.documents import Document
from keys.errors import SignatureError
from keys.v1 import documents_pb2 as docs
from tests.attacks.marks import attack
from tests.mail import altered
from tests.node.cluster import NODES, Cluster, Identity, eventually, found, now_ms, publish, read
from tests.node.test_node import Running, held, poisoned

Patch = pytest.MonkeyPatch
KR, NL = NODES
SENDER, READER = "kr.the-hague/economic", "nl.bz/supply"


# ---- 22 hostile node: memory, disk, log


def memory_of(pid: int) -> bytes:
    """What a process holds in memory that it may write."""
    parts = []
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            bounds, rights, *_ = line.split()
            start, end = (int(number, 16) for number in bounds.split("-"))
            if rights.startswith("rw") and "[v" not in line:
                try:
                    memory.seek(start)
                    parts.append(memory.read(end - start))
                except (OSError, OverflowError, ValueError):
                    continue
    return b"".join(parts)


@attack(22, off="aead_seal")
async def test_22_no_memory_disk_or_log_of_a_node_holds_the_text(cluster: Cluster, monkeypatch: Patch) -> None:
    nodes = {name: cluster.start(name) for name in NODES}
    trust = cluster.trust

    async def carried(mark: bytes, number: int) -> Parsed:
        sealed = cluster.seal(trust, SENDER, content=[mark * 8])
        async with cluster.connect(await cluster.enrol(SENDER)) as stub:
            [answer] = await publish(stub, [sealed.data])
            assert not answer.results[0].rule
        async with cluster.connect(await cluster.enrol(READER)) as stub:
            await read(stub, until=number)
        return sealed

    def places(mark: bytes) -> set[str]:
        seen = {f"memory of {name}": memory_of(process.pid) for name, process in nodes.items()}
        seen |= {
            str(path.relative_to(cluster.root)): path.read_bytes() for path in cluster.root.rglob("*") if path.is_file()
        }
        assert any(place.endswith(".log") for place in seen), "what the nodes print is searched too"
        return {place for place, data in seen.items() if mark in data}

    mark = b"MARKED-" + os.urandom(8).hex().encode()
    sealed = await carried(mark, 1)
    assert places(mark) == set()
    # What the node does hold is found: the search works.
    assert {f"memory of {KR}"} <= places(sealed.outer.ciphertext[:64])
    assert places(cluster.world.card(READER, now_ms()).seed()) == set()
    monkeypatch.setattr(suite, "aead_seal", lambda _key, text, _aad: text + bytes(16))
    open_mark = b"MARKED-" + os.urandom(8).hex().encode()
    await carried(open_mark, 2)
    found_in = places(open_mark)
    assert {f"memory of {KR}", f"memory of {NL}"} <= found_in
    assert any("/" in place for place in found_in), "and on the disks"


@attack(22, off="verify")
async def test_22_what_a_node_injects_or_alters_reaches_no_other_log(cluster: Cluster, monkeypatch: Patch) -> None:
    """A node that admits anything offers what it altered and what it made up; the follower refuses both."""
    async with AsyncExitStack() as stack:
        nl = await stack.enter_async_context(cluster.app(NL).standing())
        honest, other = (cluster.seal(cluster.trust, SENDER) for _ in range(2))

        async def offered(data: bytes, identity: bytes) -> bool:
            taken = await nl.follow(data, identity, origin=f"tocsin/{KR}/1", now_ms=now_ms())
            if taken is not None:
                await taken.durable
            return nl.store.position_of(identity) is not None

        crossed = envelope.parse(altered(honest, lambda outer: setattr(outer, "ciphertext", other.outer.ciphertext)))
        made_up = envelope.parse(altered(honest, lambda outer: None, key=suite.SigningKey.generate(1)))
        for bad in (crossed, made_up):
            with pytest.raises(SignatureError):
                await offered(bad.data, bad.id)
        assert nl.store.position_of(crossed.id) is None
        monkeypatch.setattr(suite, "verify", lambda *_, **__: None)
        assert await offered(crossed.data, crossed.id)


# ---- 26 slow reader, slow writer


def rss_mb(pid: int) -> float:
    (kb,) = re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(kb) / 1024


@attack(26)
async def test_26_readers_and_writers_that_stand_still_cost_a_bounded_memory(cluster: Cluster) -> None:
    """Twelve readers that never read, and a writer that never takes an answer, on a log of some 40 MB."""
    node, trust = cluster.start(KR), cluster.trust
    sealed = [cluster.seal(trust, SENDER, content=[os.urandom(400_000)]).data for _ in range(96)]
    async with cluster.connect(await cluster.enrol(SENDER)) as stub:
        for data in sealed:
            [answer] = await publish(stub, [data])
            assert not answer.results[0].rule
        before = rss_mb(node.pid)
        reader = await cluster.enrol("kr.motie/supply")
        async with cluster.connect(reader) as slow:
            calls = [slow.Subscribe(pb.SubscribeRequest(follow=True), timeout=60) for _ in range(12)]
            writer = stub.Publish(timeout=60)

            async def write() -> None:
                # The same again and again: answered, and never read.
                for data in sealed * 4:
                    await writer.write(pb.PublishRequest(envelopes=[data]))

            writing = asyncio.create_task(write())
            peak = before
            for _ in range(40):
                await asyncio.sleep(0.1)
                peak = max(peak, rss_mb(node.pid))
            # Others are served meanwhile.
            async with cluster.connect(await cluster.enrol("kr.motie/supply")) as other:
                assert (await other.GetCheckpoint(pb.GetCheckpointRequest(), timeout=10)).checkpoint
            writing.cancel()
            for call in (*calls, writer):
                call.cancel()
    # 12 x 40 MB are waiting to be read, and 150 MB to be written: none of it is in memory.
    assert peak - before < 120, f"{before:.0f} MB before, {peak:.0f} MB at most"


# ---- 29 a CA vouches for another's name


async def answers(cluster: Cluster, identity: Identity, node: str) -> str:
    """The rule that refuses a caller; "" when it is served."""
    async with cluster.connect(identity, node) as stub:
        try:
            await stub.GetCheckpoint(pb.GetCheckpointRequest(), timeout=5)
        except grpc.aio.AioRpcError as failure:
            error = wire.error_from(failure)
            return error.rule if isinstance(error, wire.RemoteError) else error.reason
    return ""


@attack(29, off="issued_by")
async def test_29_a_ca_vouches_for_its_own_names_alone(cluster: Cluster, monkeypatch: Patch) -> None:
    async with cluster.app(NL).serving(), cluster.app(KR).serving() as kr:
        key, ca = tls.new_key(), kr.own_keys.ca
        forged = [
            Identity(key, tls.issue(ca.certificate, ca.key, name, key.public_key(), now_ms=now_ms()), name)
            for name in (READER, NL)
        ]
        assert [await answers(cluster, one, NL) for one in forged] == ["CALLER", "CALLER"]
        assert await answers(cluster, await cluster.enrol(READER), NL) == ""
        # Off: a chain to some pinned CA is enough.
        monkeypatch.setattr(tls, "issued_by", lambda *_: True)
        fresh = tls.new_key()
        again = Identity(fresh, tls.issue(ca.certificate, ca.key, READER, fresh.public_key(), now_ms=now_ms()), READER)
        assert await answers(cluster, again, NL) == ""


def copied(original: x509.Certificate) -> tuple[x509.Certificate, tls.TlsKey]:
    """A CA with the subject, issuer and key identifier of another, under a key of one's own."""
    key = tls.new_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(original.subject)
        .issuer_name(original.issuer)
        .public_key(key.public_key())
        .serial_number(original.serial_number)
        .not_valid_before(original.not_valid_before_utc)
        .not_valid_after(original.not_valid_after_utc)
    )
    for extension in original.extensions:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    return builder.sign(key, hashes.SHA256()), key


@attack(29, off="pinned_ca")
async def test_29_a_copied_ca_first_in_the_bundle_keeps_no_honest_desk_out(
    cluster: Cluster, monkeypatch: Patch
) -> None:
    """The roster of kr names, for its own node, a CA that says it is that of nl; kr comes first in every bundle."""
    entry = cluster.entries[NL]
    ca, ca_key = copied(x509.load_der_x509_certificate(entry.tls_ca))
    body = docs.Roster.FromString(cluster.world.rosters["kr"].body)
    next(node for node in body.nodes if node.node == KR).tls_ca = ca.public_bytes(Encoding.DER)
    party = cluster.world.parties["kr"]
    roster = founding.next_roster(
        party, body, lineage=cluster.world.lineage, previous=cluster.world.rosters["kr"], now_ms=now_ms()
    )
    files.save_bundle(cluster.directory(NL) / files.BUNDLE, [*cluster.world.documents, roster])
    key = tls.new_key()
    thief = Identity(key, tls.issue(ca, ca_key, READER, key.public_key(), now_ms=now_ms()), READER)

    async def tried() -> tuple[str, str]:
        async with cluster.app(NL).serving():
            return await answers(cluster, await cluster.enrol(READER), NL), await answers(cluster, thief, NL)

    honest, stolen = await tried()
    assert honest == ""
    assert stolen in ("UNREACHABLE", "CALLER"), "it does not even pass the handshake"

    def any_name(node: docs.Node) -> x509.Certificate | None:
        return x509.load_der_x509_certificate(node.tls_ca) if node.tls_ca else None

    monkeypatch.setattr(tls, "pinned_ca", any_name)
    # The TLS library finds the copy first: whoever is honest is kept out.
    assert (await tried())[0] == "UNREACHABLE"


# ---- 16 documents of another exchange


@attack(16, off="require_lineage")
async def test_16_a_stranger_founds_nothing_at_a_running_node(
    cluster: Cluster, tmp_path: Path, monkeypatch: Patch
) -> None:
    stranger = found(tmp_path / "stranger").world
    # The worst of them: its keys are those of the parties, who signed it for another exchange.
    ours = founding.next_roster(
        cluster.world.parties["nl"],
        documents.body(cluster.world.rosters["nl"], docs.Roster),
        lineage=stranger.lineage,
        previous=cluster.world.rosters["nl"],
        now_ms=now_ms(),
    )
    async with cluster.app(KR).serving() as kr:
        identity = await cluster.enrol(SENDER)

        async def shown(*offered: Document) -> set[str]:
            async with cluster.connect(identity) as stub:
                request = pb.PutDocumentsRequest(documents=[document.encode() for document in offered])
                answer = await stub.PutDocuments(request, timeout=10)
            return {result.rule for result in answer.results}

        size = kr.node.store.size()
        assert "" not in await shown(*stranger.documents)
        assert await shown(ours) == {"DOCUMENT_LINEAGE"}
        assert kr.node.store.size() == size
        assert (kr.trust.lineage, kr.trust.roster("nl").document) == (
            cluster.world.lineage,
            cluster.world.rosters["nl"],
        )
        monkeypatch.setattr(type(kr.trust._held), "require_lineage", lambda *_: None)
        assert await shown(ours) == {""}
        assert kr.node.store.position_of(ours.digest) is not None


# ---- 37 poison envelope


@attack(37, off="refuse")
async def test_37_a_poison_envelope_stops_no_link(cluster: Cluster, monkeypatch: Patch) -> None:
    async with cluster.app(KR).serving() as kr, cluster.app(NL).serving() as nl:
        running, trust = Running(cluster, kr, nl), cluster.trust

        async def sent(count: int) -> list[Parsed]:
            """So many honest ones around a poisoned one; those that are honest."""
            honest = [cluster.seal(trust, SENDER) for _ in range(count)]
            [poison] = poisoned(running, monkeypatch, 1)
            late = [cluster.seal(trust, SENDER) for _ in range(count)]
            async with cluster.connect(await cluster.enrol(SENDER)) as stub:
                replies = await publish(stub, *([one.data] for one in (*honest, poison, *late)))
            assert not any(reply.results[0].rule for reply in replies)
            return [*honest, *late]

        sealed = await sent(10)
        await eventually(lambda: all(held(nl, each) for each in sealed))
        assert [record.rule for record in nl.node.store.refusals()] == ["POLICY_AUDIENCE"]

        async def give_up(self: Refusals, entry: pb.Entry, origin: str, error: Exception) -> None:
            raise error

        # Off: what is refused is not recorded and passed over, it ends the link.
        monkeypatch.setattr(Refusals, "refuse", give_up)
        late = (await sent(3))[3:]
        await asyncio.sleep(2)
        assert not any(held(nl, each) for each in late)
