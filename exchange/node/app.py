"""The node as a process: its two listeners, its followers, its end."""

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import InitVar, dataclass
from pathlib import Path
from typing import Final, NoReturn

import grpc
import structlog
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from exchange import files, retirement, tls, wire
from exchange.clock import now_ms
from exchange.envelope import prune
from exchange.errors import IdentityError
from exchange.history import number_of, origin_of
from exchange.node import quota, status
from exchange.node.attaching import Attaching
from exchange.node.core import Node
from exchange.node.directory import NodeSettings, newest_log
from exchange.node.doors import Doors
from exchange.node.follow import Follower
from exchange.node.ownkeys import OwnKeys
from exchange.node.service import Callers, EnrolService, ExchangeService
from exchange.node.shelf import Shelf
from exchange.pouch.orders import Tray
from exchange.store.sqlite import SqliteStore
from exchange.v1 import exchange_pb2 as pb
from exchange.v1 import exchange_pb2_grpc as rpc
from exchange.workers import ThreadWorkers
from keys import founding
from keys.errors import TocsinError, UsageError
from keys.trust import Trust

SERVICE: Final = "exchange.v1.Exchange"
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
        self.trust = Trust(bytes.fromhex(self.settings.lineage))
        self.own_keys = OwnKeys(self.directory, passphrase, name=self.settings.name, trust=self.trust, clock=self.clock)
        self._workers = [ThreadWorkers(1, name=name) for name in ("store-read", "store-write", "sign")]
        workers, disk, signer = self._workers
        self.node = Node(
            self.settings.name,
            store=SqliteStore(self.log or newest_log(self.directory)),
            trust=self.trust,
            log_key=next(iter(self.own_keys.log_keys.values())),
            clock=self.clock,
            workers=workers,
            disk=disk,
            signer=signer,
            quotas=self.settings.quotas(),
        )
        self.node.log_keys.hold(list(self.own_keys.log_keys.values()))
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
        # What each listener shows: (CAs it trusts, its own certificate); the one that trusts none is that for enrolment.
        self._shown: dict[bool, tuple[bytes, bytes]] = {}

    # ---- TLS

    def _roots(self) -> bytes:
        # Without documents nobody is known: who comes by our own CA is let in to be refused with a reason.
        known = tls.trusted_cas(self.trust, now_ms=self.clock()) if self.trust.founded else b""
        return known or tls.pem(self.own_keys.ca.certificate)

    def _configuration(self, roots: bytes) -> grpc.ServerCertificateConfiguration:
        own = self.own_keys.pair
        pair = (tls.key_pem(own.key), tls.pem(own.certificate))
        made = grpc.ssl_server_certificate_configuration([pair], root_certificates=roots or None)
        self._shown[bool(roots)] = (roots, pair[1])
        return made

    def _fetch_configuration(self) -> grpc.ServerCertificateConfiguration | None:
        # Runs at each handshake, on a core thread: a new roster or a renewed leaf takes effect with no restart. Only what
        # is new is given: gRPC swaps a configuration without a lock.
        state = (self.trust.version, tls.pem(self.own_keys.pair.certificate))
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
        shown = (b"", tls.pem(self.own_keys.pair.certificate))
        return None if self._shown.get(False) == shown else self._configuration(b"")

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
        own = self.own_keys.pair
        credentials = grpc.ssl_channel_credentials(roots, tls.key_pem(own.key), tls.pem(own.certificate))
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
        rpc.add_ExchangeServicer_to_server(EnrolService(self.node, self.own_keys.issue, self.clock), enrol)
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
        if waiting_for := status.waiting_for(self.trust, self.settings.name, self.directory):
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
        followers = {peer: follower for peer, (follower, _) in self._followers.items()}
        status.write(self.directory, self.node, followers, endpoint=self.settings.endpoint, now_ms=self.clock())

    async def _tend_keys(self) -> None:
        await self.own_keys.tend(self.node.log_keys, self._shelf_workers)

    async def _tend(self) -> None:
        await self._tend_keys()
        self.own_keys.renew_certificate()
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
