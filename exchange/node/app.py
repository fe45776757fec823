"""The node as a process: its two listeners, its followers, its end."""

import asyncio
import contextlib
import gc
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import InitVar, dataclass
from pathlib import Path
from typing import Final, NoReturn

import grpc
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from exchange import files, retirement, tls, wire
from exchange.clock import now_ms
from exchange.envelope import prune
from exchange.errors import IdentityError
from exchange.history import number_of, origin_of
from exchange.node import authority, quota
from exchange.node.attaching import Attaching
from exchange.node.core import Node
from exchange.node.directory import STATUS, NodeSettings, newest_log
from exchange.node.doors import Doors
from exchange.node.follow import Follower
from exchange.node.service import Callers, EnrolService, ExchangeService
from exchange.node.shelf import Shelf
from exchange.pouch.orders import Tray
from exchange.store.sqlite import SqliteStore
from exchange.v1 import exchange_pb2 as pb
from exchange.v1 import exchange_pb2_grpc as rpc
from exchange.workers import ThreadWorkers
from keys import founding
from keys.errors import TocsinError, UsageError
from keys.trust import Trust, party_of

SERVICE: Final = "exchange.v1.Exchange"
RENEW_BEFORE_DAYS: Final = 10
GRACE_S: Final = 5.0
HOUSEKEEPING_MS: Final = 3_600_000
KEEP_S: Final = 1.0
# Of all callers; each has a bound of its own (exchange/node/quota.py).
CALLS: Final = 4_000
ENROLLING: Final = 256
ENROL_REQUEST_S: Final = 5.0
# A peer that is cut off must not keep a node from starting; who refuses at once costs nothing.
ASK_S: Final = 3.0
MAX_LATER: Final = 64

log = structlog.get_logger("tocsin.node")


def serve(app: "App", *, ready: Callable[[], None]) -> NoReturn:
    """Serve until SIGTERM or SIGINT, finish what waits, and end the process.

    The interpreter is not taken down: gRPC's threads may still be about to call into it, and crash when it is gone.

    Raises:
        TocsinError: It cannot start.
    """
    with contextlib.suppress(ImportError):
        import uvloop

        uvloop.install()
    asyncio.run(app.run(ready=ready))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


@dataclass
class App:
    """A running node."""

    directory: Path
    passphrase: InitVar[bytes] = b""
    clock: Callable[[], int] = now_ms
    log: Path | None = None
    """Database of its log; None = the newest in the directory."""

    def __post_init__(self, passphrase: bytes) -> None:
        """Read settings and keys; nothing runs yet."""
        self.settings = files.load_settings(NodeSettings, self.directory / "node.toml")
        # Stays open: another process puts new keys into it, and a passphrase takes half a second each time.
        self._keystore = authority.open_keystore(self.directory, passphrase)
        self._log_keys = authority.load_log_keys(self._keystore)
        self._cas = authority.load(self._keystore)
        first = next(iter(self._cas.values()))
        self._ca, self._ca_key = first.certificate, first.key
        # One value, for handshakes read it on other threads.
        self._own = self._issue_own()
        self.trust = Trust(bytes.fromhex(self.settings.lineage))
        self._workers = [ThreadWorkers(1, name=name) for name in ("store-read", "store-write", "sign")]
        workers, disk, signer = self._workers
        self.node = Node(
            self.settings.name,
            store=SqliteStore(self.log or newest_log(self.directory)),
            trust=self.trust,
            log_key=next(iter(self._log_keys.values())),
            clock=self.clock,
            workers=workers,
            disk=disk,
            signer=signer,
            quotas=self.settings.quotas(),
        )
        self.node.log_keys.hold(list(self._log_keys.values()))
        self._shelf_workers = ThreadWorkers(1, name="shelf")
        self.shelf = Shelf(
            self.directory / "attachments",
            limit_bytes=self.settings.attachment_bytes,
            keep_ms=self.settings.attachment_days * founding.DAY_MS,
        )
        self._callers = Callers(self.node, self.clock)
        self._followers: dict[str, tuple[Follower, asyncio.Task[None]]] = {}
        self._bundle = (0, 0)
        self._certificates: tuple[int, bytes] = (-1, b"")
        self._tending = asyncio.Lock()
        # What each listener shows: (CAs it trusts, its own certificate); the one that trusts none is that for enrolment.
        self._shown: dict[bool, tuple[bytes, bytes]] = {}

    def _issue_own(self) -> tls.Pair:
        """A certificate of our own, for a new key."""
        key = tls.new_key()
        leaf = tls.issue(self._ca, self._ca_key, self.settings.name, key.public_key(), now_ms=self.clock())
        return tls.Pair(leaf, key)

    def issue(self, desk: str, csr_der: bytes) -> tuple[bytes, bytes]:
        """A certificate for a desk this node hosts, from its request; (certificate, CA), DER.

        Raises:
            IdentityError: A malformed request.
        """
        try:
            csr = x509.load_der_x509_csr(csr_der)
            public = csr.public_key()
            valid = csr.is_signature_valid
        except tls.MALFORMED:
            raise IdentityError("the certificate request is malformed") from None
        if not isinstance(public, ec.EllipticCurvePublicKey) or not valid:
            raise IdentityError("the certificate request is not signed by its own elliptic-curve key")
        leaf = tls.issue(self._ca, self._ca_key, desk, public, now_ms=self.clock())
        der = serialization.Encoding.DER
        return leaf.public_bytes(der), self._ca.public_bytes(der)

    # ---- TLS

    def _roots(self) -> bytes:
        # Without documents nobody is known: who comes by our own CA is let in to be refused with a reason.
        known = tls.trusted_cas(self.trust, now_ms=self.clock()) if self.trust.founded else b""
        return known or tls.pem(self._ca)

    def _configuration(self, roots: bytes) -> grpc.ServerCertificateConfiguration:
        own = self._own
        pair = (tls.key_pem(own.key), tls.pem(own.certificate))
        made = grpc.ssl_server_certificate_configuration([pair], root_certificates=roots or None)
        self._shown[bool(roots)] = (roots, pair[1])
        return made

    def _fetch_configuration(self) -> grpc.ServerCertificateConfiguration | None:
        # Runs at each handshake, on a core thread: a new roster or a renewed leaf takes effect with no restart. Only what
        # is new is given: gRPC swaps a configuration without a lock.
        state = (self.trust.version, tls.pem(self._own.certificate))
        if state == self._certificates:
            return None
        try:
            roots = self._roots()
            configuration = self._configuration(roots) if self._shown.get(True) != (roots, state[1]) else None
        except (TocsinError, ValueError, RuntimeError) as error:
            # The next handshake tries again: RuntimeError means a roster came while this thread read the others.
            log.error("cannot renew TLS configuration", text=str(error))
            return None
        self._certificates = state
        return configuration

    def _fetch_enrol_configuration(self) -> grpc.ServerCertificateConfiguration | None:
        return None if self._shown.get(False) == (b"", tls.pem(self._own.certificate)) else self._configuration(b"")

    def connect(self, peer: str) -> grpc.aio.Channel:
        """A mutual-TLS channel to another node, whose CA alone is trusted for it.

        Raises:
            IdentityError: The peer is in no roster.
        """
        entry = self.trust.node(peer)
        cas = tls.pinned_cas(self.trust, peer, now_ms=self.clock())
        if entry is None or not cas:
            raise IdentityError(f"{peer} is in no roster, or has no usable CA there", name=peer)
        roots = b"".join(tls.pem(ca) for ca in cas)
        credentials = grpc.ssl_channel_credentials(roots, tls.key_pem(self._own.key), tls.pem(self._own.certificate))
        options = [*wire.CLIENT_OPTIONS, ("grpc.ssl_target_name_override", peer)]
        return grpc.aio.secure_channel(entry.endpoint, credentials, options=options)

    # ---- life

    async def run(self, *, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until SIGTERM or SIGINT, then finish what waits."""
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        async with self.serving():
            gc.freeze()
            ready()
            await stopping.wait()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator["App"]:
        """Everything up inside the block, everything finished after it."""
        async with contextlib.AsyncExitStack() as stack:
            await self._start(stack)
            yield self
            log.info("stopping", node=self.settings.name)

    @contextlib.asynccontextmanager
    async def standing(self) -> AsyncIterator[Node]:
        """The node started, serving and following nobody: for work on its log while it is stopped."""
        async with contextlib.AsyncExitStack() as stack:
            await self._stand(stack)
            yield self.node

    async def _stand(self, stack: contextlib.AsyncExitStack) -> None:
        for workers in (*self._workers, self._shelf_workers):
            stack.callback(workers.close)
        stack.push_async_callback(self.node.stop)
        await self.node.start()
        # Once the log gave its documents: what it holds was taken in time.
        retirement.resume(self.directory, self.trust)
        await self._take_bundle()

    async def _take_bundle(self) -> None:
        """Take the documents of the bundle: at start, and whenever the party's authority replaced the file since."""
        if self.node.barred is not None:
            return
        path = self.directory / files.BUNDLE
        try:
            found = path.stat()
            if self._bundle == (found.st_ino, found.st_mtime_ns):
                return
            self._bundle = (found.st_ino, found.st_mtime_ns)
            bundle = files.load_bundle(path)
        except FileNotFoundError:
            return
        except (TocsinError, DecodeError, OSError) as error:
            log.error("cannot read the bundle", text=str(error))
            return
        for _, refused in await self.node.take_documents(bundle, now_ms=self.clock()):
            if refused is not None:
                log.warning("document of the bundle refused", reason=refused.reason, text=str(refused))

    async def _start(self, stack: contextlib.AsyncExitStack) -> None:
        await self._stand(stack)
        await self._ask_peers()
        await self._tend_keys()
        server, enrol = self._server(), self._enrol_server()
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        service = ExchangeService(self.node, self.clock)
        self.node.places.connect = self.node.mending.connect = self.connect
        service.attaching = Attaching(
            self.node, self.shelf, workers=self._shelf_workers, connect=self.connect, clock=self.clock
        )
        rpc.add_ExchangeServicer_to_server(service, server)
        rpc.add_ExchangeServicer_to_server(EnrolService(self.node, self.issue, self.clock), enrol)
        names = [pb.DESCRIPTOR.services_by_name["Exchange"].full_name, health.SERVICE_NAME, reflection.SERVICE_NAME]
        reflection.enable_server_reflection(names, server)
        for each in (server, enrol):
            stack.push_async_callback(each.stop, GRACE_S)
            await each.start()
        await self._health.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
        stack.callback(self.node.wake_readers)
        keeping = asyncio.create_task(self._keep())
        stack.push_async_callback(self._end_tasks, keeping)
        tray = Tray(self.node, self.directory, self.clock)
        stack.push_async_callback(tray.stop)
        tray.start()
        stack.push_async_callback(self._health.enter_graceful_shutdown)
        if waiting_for := self._waiting_for():
            log.warning("waiting for documents", node=self.settings.name, what=waiting_for)
        log.info("serving", node=self.settings.name, endpoint=self.settings.endpoint, entries=self.node.store.size())

    async def _ask_peers(self) -> None:
        """Before anything is appended: whether a peer saw more of our log than is here. Who does not answer is asked later."""
        peers = self.peers()
        answers = await asyncio.gather(*(self.shown_by(peer) for peer in peers), return_exceptions=True)
        for peer, answer in zip(peers, answers, strict=True):
            for note in answer if isinstance(answer, list) else ():
                try:
                    await self.node.hearing.hear(note, by=peer)
                except TocsinError as error:
                    log.warning("a head that is shown as ours is not", peer=peer, text=str(error))

    def peers(self) -> list[str]:
        """The other nodes of the rosters."""
        nodes = self.trust.nodes() if self.trust.founded else ()
        return sorted({node.node for node in nodes} - {self.settings.name})

    async def shown_by(self, peer: str) -> list[bytes]:
        """The newest head that a peer saw of our log, and of each later one; nothing of it is verified.

        Raises:
            TocsinError: It does not answer.
        """
        notes, origin = list[bytes](), self.node.origin
        try:
            # Of all its answers: one that always names a later log, and takes its time, must not keep us from starting.
            async with asyncio.timeout(2 * ASK_S), self.connect(peer) as channel:
                stub = rpc.ExchangeStub(channel)
                while len(notes) < MAX_LATER:
                    answer = await stub.GetCheckpoint(pb.GetCheckpointRequest(origin=origin), timeout=ASK_S)
                    notes += filter(None, (answer.checkpoint, answer.later))
                    if not answer.later:
                        break
                    origin = origin_of(self.settings.name, number_of(origin, self.settings.name) + 1)
        except grpc.aio.AioRpcError as failure:
            raise wire.error_from(failure) from None
        except TimeoutError:
            raise wire.UnreachableError(f"{peer} does not come to an end") from None
        return notes

    async def _end_tasks(self, keeping: asyncio.Task[None]) -> None:
        tasks = [keeping, *(task for _, task in self._followers.values())]
        waiting = set(tasks)
        while waiting:
            # Again, should a library have swallowed it.
            for task in waiting:
                task.cancel()
            _, waiting = await asyncio.wait(waiting, timeout=1)
        self._followers.clear()

    def _server(self) -> grpc.aio.Server:
        credentials = grpc.dynamic_ssl_server_credentials(
            self._configuration(self._roots()),
            self._fetch_configuration,  # type: ignore[arg-type]  # None means: as before
            require_client_authentication=True,
        )
        return _listen(
            self.settings.endpoint, credentials, calls=CALLS, doors=Doors(self._callers.caller_of, most=quota.MAX_OPEN)
        )

    def _enrol_server(self) -> grpc.aio.Server:
        # Renewed at each handshake, as the other listener's: whoever comes here has no other way in.
        credentials = grpc.dynamic_ssl_server_credentials(
            self._configuration(b""),
            self._fetch_enrol_configuration,  # type: ignore[arg-type]  # the same
            require_client_authentication=False,
        )
        # Anybody may come here: nobody keeps a place for long.
        doors = Doors(lambda _: "", most=ENROLLING, request_s=ENROL_REQUEST_S)
        return _listen(self.settings.enrol_endpoint, credentials, calls=ENROLLING, doors=doors)

    async def _keep(self) -> None:
        """Follow every peer of the rosters, take new documents from the bundle, renew our certificate, apply retention."""
        tended_ms: int | None = None
        while True:
            try:
                await self._take_bundle()
            except TocsinError as error:
                log.error("cannot take the bundle", reason=error.reason, text=str(error))
            wanted = set(self.peers())
            for peer, (_, task) in list(self._followers.items()):
                if task.done():
                    # It ends only by a mistake of ours; one peer's bytes must not end it for good.
                    log.error("follower ended", peer=peer, error=repr(task.exception()))
                    del self._followers[peer]
            for peer in wanted - self._followers.keys():
                follower = Follower(self.node, peer, connect=self.connect, clock=self.clock)
                self._followers[peer] = (follower, asyncio.create_task(follower.run()))
            for peer in self._followers.keys() - wanted:
                self._followers.pop(peer)[1].cancel()
            # By the clock that keys and certificates end by, and again when it was set back.
            if tended_ms is None or not 0 <= self.clock() - tended_ms < HOUSEKEEPING_MS:
                tended_ms = self.clock()
                try:
                    await self._tend()
                except TocsinError as error:
                    log.error("housekeeping failed", reason=error.reason, text=str(error))
            try:
                await self.node.mending.again()
            except TocsinError as error:
                log.error("cannot mend", reason=error.reason, text=str(error))
            self._write_status()
            await asyncio.sleep(KEEP_S)

    def _write_status(self) -> None:
        """What `tocsin node status` shows; the log itself is open in this process alone."""
        now = self.clock()
        status = {
            "node": self.settings.name,
            "endpoint": self.settings.endpoint,
            "time_ms": now,
            "pid": os.getpid(),
            "entries": self.node.store.size(),
            "taken": self.node.taken,
            "duplicates": self.node.counters.duplicates,
            "refused": self.node.counters.refused,
            "forks": self.node.forks,
            # Entries that the disk changed: those that nobody gave us yet, and how many were fetched again.
            "damaged": self.node.mending.damaged,
            "mended": self.node.mending.count,
            "log": self.node.origin,
            # Why nothing is appended: restored from a backup, it must go on as a new log.
            "barred": self.node.barred.words() if self.node.barred else "",
            # Lineage of the exchange that took this one's place, once people said so.
            "successor": self.trust.death.successor.hex() if self.trust.death else "",
            "seen_longer": self.node.claims.still(self.node.store.size()),
            # Heads of ours under a log key that has ended, which no node vouches for: by whom, of what size.
            "doubted": self.node.claims.doubted,
            "clashes": [str(clash) for clash in self.node.clashes.held],
            "peers": {
                peer: {"position": follower.position, "state": follower.state}
                for peer, (follower, _) in self._followers.items()
            },
            "stale": list(self.trust.stale(now)) if self.trust.founded else [],
            "waiting_for": self._waiting_for(),
            "roster": self._own_roster(),
        }
        fresh = self.directory / "status.new"
        try:
            fresh.write_text(json.dumps(status))
            fresh.replace(self.directory / STATUS)
        except OSError as error:
            log.error("cannot write the status", text=str(error))

    def _own_roster(self) -> list[int]:
        """Generation and version of our party's newest roster held; empty before the first."""
        party = party_of(self.settings.name)
        return list(self.trust.roster(party).number) if self.trust.has_roster(party) else []

    def _waiting_for(self) -> str:
        """What this node lacks to serve anybody, in words; empty when nothing."""
        if not self.trust.founded:
            return f"the first agreement: put the ministry's bundle at {self.directory / files.BUNDLE}"
        if self.trust.node(self.settings.name) is None:
            return f"a roster of {party_of(self.settings.name)} that lists {self.settings.name}"
        return ""

    async def _tend_keys(self) -> None:
        """Change over to the CA and log keys that count now, take new ones from the keystore, destroy what is over."""
        async with self._tending:
            now, name, store, run = self.clock(), self.settings.name, self._keystore, self._shelf_workers.run
            if self.trust.founded:
                # Documents are read here, for they change on this thread; the disk and the keys are another one's work.
                for judge in (authority.retired, authority.retired_log_keys):
                    for old in judge(store, self.trust, name, now_ms=now):
                        await run(store.delete, old)
                        log.info("old key destroyed", name=old)
            self._log_keys = await run(authority.load_log_keys, store, self._log_keys)
            self._cas = await run(authority.load, store)
            self.node.log_keys.hold(list(self._log_keys.values()))
            chosen = authority.choose(self._cas, self.trust, name, now_ms=now)
            if chosen.certificate != self._ca:
                self._ca, self._ca_key = chosen.certificate, chosen.key
                self._own = self._issue_own()
                log.info("CA changed")

    async def _tend(self) -> None:
        await self._tend_keys()
        left_ms = self._own.certificate.not_valid_after_utc.timestamp() * 1000 - self.clock()
        if left_ms < RENEW_BEFORE_DAYS * founding.DAY_MS:
            self._own = self._issue_own()
            log.info("certificate renewed")
        if dropped := await self._shelf_workers.run(self.shelf.tidy, self.clock()):
            log.info("attachments dropped by age", count=dropped)
        if not self.trust.founded:
            return
        for rule in self.trust.agreement(self.clock()).body.channels:
            if rule.retention_ms:
                count = await self.node.prune(rule.channel, self.clock() - rule.retention_ms, prune)
                if count:
                    log.info("pruned by rule", channel=rule.channel, envelopes=count)
        for party in self.trust.stale(self.clock()):
            log.warning("status is stale: revocations may be unknown", party=party)


_KEPT: Final[list[grpc.ServerCredentials]] = []
"""To the end of the process: gRPC calls their fetcher from a thread of its own with no reference to it, also for a connection
that came in while a server stopped."""


def _listen(endpoint: str, credentials: grpc.ServerCredentials, *, calls: int, doors: Doors) -> grpc.aio.Server:
    _KEPT.append(credentials)
    server = grpc.aio.server(options=wire.SERVER_OPTIONS, maximum_concurrent_rpcs=calls, interceptors=[doors])
    if not server.add_secure_port(endpoint, credentials):
        raise UsageError(f"cannot listen on {endpoint}", hint="is another node running there?")
    return server
