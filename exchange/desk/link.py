"""The link of a desk to its node: certificate, channel, documents."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final

import grpc
import structlog
from cryptography import x509

from exchange import tls, wire
from exchange.desk.holdings import Holdings
from exchange.errors import ProofError
from exchange.v1 import exchange_pb2 as pb
from exchange.v1 import exchange_pb2_grpc as rpc
from keys import founding, node_keys
from keys.encoding import pae
from keys.errors import TocsinError

log = structlog.get_logger("tocsin.desk")
RETRY_S: Final = (0.2, 60.0)
DAY_MS: Final = founding.DAY_MS
STEP_MS: Final = founding.HOUR_MS
"""A desk that is connected asks for documents, hands in cards and looks at its certificate this often."""
LOOK_S: Final = 30.0
LOOK_AGAIN_MS: Final = 60_000
"""A certificate that was found good is looked at again after so long, or when documents came."""
RENEW_MS: Final = 10 * DAY_MS
ENROL_S: Final = 10
ANSWER_S: Final = 20
RETIRE_S: Final = 20.0
"""A channel under an old certificate stays open this long, for calls that are under way on it."""


CHANNEL_CLOSED: Final = "the channel was closed for a new certificate"


class Link:
    """One channel to the hosting node, opened when first needed, opened again with each new certificate."""

    def __init__(self, holdings: Holdings) -> None:
        self._own = holdings
        self._channel: grpc.aio.Channel | None = None
        self._retiring: dict[grpc.aio.Channel, asyncio.Task[None]] = {}
        self._enrolling = asyncio.Lock()
        self._tried_ms: int | None = None
        self._shown = b""
        self._looked: tuple[bytes, int, int] | None = None

    async def enrol(self) -> None:
        """Get a certificate for a new TLS key from the hosting node, by proof of the rostered signing key.

        The old key and certificate stay until the new ones are at hand, and are replaced by both at once.

        Raises:
            TocsinError: The node refuses, does not answer, or answers with what would not be let in; the old ones stay.
        """
        own, entry = self._own, self._own.node_entry()
        cas = tls.pinned_cas(own.trust, entry.node, now_ms=own.clock())
        credentials = grpc.ssl_channel_credentials(b"".join(tls.pem(ca) for ca in cas) or tls.der_to_pem(entry.tls_ca))
        options = [*wire.CLIENT_OPTIONS, ("grpc.ssl_target_name_override", entry.node)]
        key = tls.new_key()
        csr = tls.request(own.name, key)
        request = pb.EnrolRequest(desk=own.name, csr=csr, time_ms=own.clock())
        message = pae("tocsin/1/enrol", own.trust.lineage, entry.node, own.name, csr, request.time_ms)
        request.signature = own.key.sign(message, ctx="tocsin/1/enrol")
        with wire.answering():
            async with grpc.aio.secure_channel(entry.enrol_endpoint, credentials, options=options) as channel:
                answer = await rpc.ExchangeStub(channel).Enrol(request, timeout=ENROL_S)
        if answer.ca not in node_keys.cas_accepted(own.trust, entry.node, now_ms=own.clock()):
            raise ProofError("the node's CA is not the one in the roster")
        await own.workers.run(own.replace_tls, tls.pair(own.name, key, answer.certificate, ca=answer.ca))

    async def _renew(self) -> bytes:
        """The certificate to show, DER; for a new key first when there is none, or it is to be renewed."""
        own = self._own
        held = own.tls_certificate()
        looked = (held, own.trust.version, own.clock() // LOOK_AGAIN_MS)
        if looked == self._looked:
            return held
        if held and not self._due(held):
            self._looked = looked
            return held
        usable, now_ms = bool(held) and self._usable(held), own.clock()
        if usable and self._tried_ms is not None and 0 <= now_ms - self._tried_ms < STEP_MS:
            return held
        self._tried_ms = now_ms
        try:
            await self.enrol()
        except TocsinError as error:
            if not usable:
                raise
            # The old one is good for days yet; who cannot enrol now must not stop for it.
            log.warning("certificate not renewed", desk=own.name, reason=error.reason, text=str(error))
        return own.tls_certificate()

    def _usable(self, der: bytes) -> bool:
        """Whether the node will take it: in date, and issued by a CA that is accepted."""
        own, certificate = self._own, x509.load_der_x509_certificate(der)
        cas = tls.pinned_cas(own.trust, own.settings.node, now_ms=own.clock())
        in_date = own.clock() < _ms(certificate.not_valid_after_utc)
        return in_date and (not cas or any(tls.issued_by(certificate, ca) for ca in cas))

    def _due(self, der: bytes) -> bool:
        own, certificate = self._own, x509.load_der_x509_certificate(der)
        if not self._usable(der) or _ms(certificate.not_valid_after_utc) - own.clock() < RENEW_MS:
            return True
        # While the node's CA is replaced the certificate is renewed daily, until the new one has issued it.
        cas = tls.pinned_cas(own.trust, own.settings.node, now_ms=own.clock())
        age_ms = own.clock() - _ms(certificate.not_valid_before_utc)
        return bool(cas) and age_ms > DAY_MS and not tls.issued_by(certificate, cas[0])

    async def stub(self) -> rpc.ExchangeStub:
        """The node's service, over mutual TLS; enrols first when the certificate is missing or ends soon."""
        async with self._enrolling:
            certificate = await self._renew()
        if certificate != self._shown:
            # Ours or another process of this desk renewed it: the streams of this channel begin again on the next.
            self._retire()
        if self._channel is None:
            entry, held = self._own.node_entry(), self._own.tls_pair()
            self._shown = held.der
            cas = tls.pinned_cas(self._own.trust, entry.node, now_ms=self._own.clock())
            roots = b"".join(tls.pem(ca) for ca in cas) or tls.der_to_pem(entry.tls_ca)
            credentials = grpc.ssl_channel_credentials(roots, tls.key_pem(held.key), tls.pem(held.certificate))
            options = [*wire.CLIENT_OPTIONS, ("grpc.ssl_target_name_override", entry.node)]
            self._channel = grpc.aio.secure_channel(entry.endpoint, credentials, options=options)
        return rpc.ExchangeStub(self._channel)

    async def synchronise(self) -> None:
        """Fetch the node's documents, give it our key cards.

        Raises:
            TocsinError: The node refuses or does not answer.
        """
        own, stub = self._own, await self.stub()
        try:
            token = ""
            while True:
                page = await stub.GetDocuments(pb.GetDocumentsRequest(page_token=token), timeout=ANSWER_S)
                own.take_documents(page.documents, taken_ms=page.taken_ms)
                token = page.next_page_token
                if not token:
                    break
            own.cards.make(listed=own.listed())
            cards = [card.encode() for card in own.cards.published()]
            if cards:
                await stub.PutDocuments(pb.PutDocumentsRequest(documents=cards), timeout=ANSWER_S)
        except grpc.aio.AioRpcError as failure:
            raise wire.error_from(failure) from None
        except grpc.aio.UsageError:
            raise wire.UnreachableError(CHANNEL_CLOSED) from None
        own.save_documents()

    async def keep_in_step(self) -> None:
        """Synchronise hourly by the clock, for as long as the desk runs: one connection may last longer than a key."""
        stepped_ms = self._own.clock()
        while True:
            # Looked at often: a machine that slept has the time of its clock, not that of its timers.
            await asyncio.sleep(LOOK_S)
            now_ms = self._own.clock()
            if 0 <= now_ms - stepped_ms < STEP_MS:
                continue
            try:
                await self.synchronise()
                stepped_ms = now_ms
            except asyncio.CancelledError:
                raise_if_ours()
            except TocsinError as error:
                # Sending and reading say what is wrong with the node; here it is tried again soon.
                log.info("not in step with the node", desk=self._own.name, text=str(error))
            except Exception:
                # A fault of ours must not leave the desk without cards and certificate weeks later.
                log.exception("not in step with the node", desk=self._own.name)

    def _retire(self) -> None:
        """Use another channel from now on; the streams of this one end soon, and begin again on that."""
        if self._channel is not None:
            old, self._channel = self._channel, None
            self._retiring[old] = asyncio.create_task(self._close_later(old))

    async def _close_later(self, old: grpc.aio.Channel) -> None:
        await asyncio.sleep(RETIRE_S)
        await old.close(1.0)
        del self._retiring[old]

    async def close(self) -> None:
        """Close the channel; the next `stub` opens another."""
        for old, closing in list(self._retiring.items()):
            closing.cancel()
            await old.close(1.0)
        self._retiring.clear()
        if self._channel is not None:
            current, self._channel = self._channel, None
            await current.close(1.0)


def _ms(time: datetime) -> int:
    return int(time.timestamp() * 1000)


class Backoff:
    """Waits that double, up to a minute, each by a random share shorter, so that a node that comes back is not stormed."""

    def __init__(self) -> None:
        self._delay_s = RETRY_S[0]

    def reset(self) -> None:
        """Something worked."""
        self._delay_s = RETRY_S[0]

    async def wait(self) -> None:
        """Wait before the next try."""
        await asyncio.sleep(self._delay_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
        self._delay_s = min(2 * self._delay_s, RETRY_S[1])


async def forever(holdings: Holdings, work: Callable[[], Awaitable[None]]) -> None:
    """Do the work again and again; a failure is the desk's state, and a pause."""
    loop, backoff = asyncio.get_running_loop(), Backoff()
    while True:
        started = loop.time()
        try:
            await work()
        except grpc.aio.AioRpcError as failure:
            holdings.state = str(wire.error_from(failure))
        except grpc.aio.UsageError:
            holdings.state = CHANNEL_CLOSED
        except asyncio.CancelledError:
            raise_if_ours()
        except TocsinError as error:
            holdings.state = f"{error.reason}: {error}"
        except Exception as error:
            # A fault of ours must not end sending in silence.
            holdings.state = f"failed: {error!r}"
            log.exception("work failed", desk=holdings.name)
        if loop.time() - started > RETRY_S[1]:
            backoff.reset()
        await backoff.wait()


def raise_if_ours() -> None:
    """Swapping a channel cancels its calls with the same CancelledError as our own end; only the latter goes on."""
    task = asyncio.current_task()
    if task is None or task.cancelling():
        raise asyncio.CancelledError
