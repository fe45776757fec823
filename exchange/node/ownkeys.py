"""A node's own keys while it runs: new ones are taken from its keystore, the one that counts now is used, old ones go."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from exchange import tls
from exchange.errors import IdentityError
from exchange.node import authority
from exchange.node.logkeys import LogKeys
from exchange.workers import Workers
from keys import founding
from keys.trust import Trust

RENEW_BEFORE_DAYS: Final = 10

log = structlog.get_logger("tocsin.node")


class OwnKeys:
    """The log keys at hand by name, the CAs by certificate, the CA that issues now, and the node's own certificate.

    Args:
        directory: The node's.
        passphrase: Of its keystore.
        name: The node.
        trust: Whose rosters say which keys count.
        clock: Milliseconds UTC.

    Raises:
        TocsinError: The keystore does not open, or does not give one.
    """

    def __init__(
        self, directory: Path, passphrase: bytes, *, name: str, trust: Trust, clock: Callable[[], int]
    ) -> None:
        self._name, self._trust, self._clock = name, trust, clock
        # Stays open: another process puts new keys into it, and a passphrase takes half a second each time.
        self._keystore = authority.open_keystore(directory, passphrase)
        self.log_keys = authority.load_log_keys(self._keystore)
        self.cas = authority.load(self._keystore)
        self.ca = next(iter(self.cas.values()))
        # One value, for handshakes read it on other threads.
        self.pair = self._issue_own()
        self._tending = asyncio.Lock()

    def _issue_own(self) -> tls.Pair:
        """A certificate of our own, for a new key."""
        key = tls.new_key()
        leaf = tls.issue(self.ca.certificate, self.ca.key, self._name, key.public_key(), now_ms=self._clock())
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
        leaf = tls.issue(self.ca.certificate, self.ca.key, desk, public, now_ms=self._clock())
        der = serialization.Encoding.DER
        return leaf.public_bytes(der), self.ca.certificate.public_bytes(der)

    async def tend(self, signing: LogKeys, workers: Workers) -> None:
        """Change over to the CA and log keys that count now, take new ones from the keystore, destroy what is over.

        Args:
            signing: Given the log keys at hand.
            workers: For the disk and the keys. Documents are read here, for they change on this thread.

        Raises:
            TocsinError: The keystore, or the token it refers to, fails.
        """
        async with self._tending:
            now, name, store, run = self._clock(), self._name, self._keystore, workers.run
            if self._trust.founded:
                for judge in (authority.retired, authority.retired_log_keys):
                    for old in judge(store, self._trust, name, now_ms=now):
                        await run(store.delete, old)
                        log.info("old key destroyed", name=old)
            self.log_keys = await run(authority.load_log_keys, store, self.log_keys)
            self.cas = await run(authority.load, store)
            signing.hold(list(self.log_keys.values()))
            chosen = authority.choose(self.cas, self._trust, name, now_ms=now)
            if chosen.certificate != self.ca.certificate:
                self.ca = chosen
                self.pair = self._issue_own()
                log.info("CA changed")

    def renew_certificate(self) -> None:
        """Take a new certificate of our own when the one shown ends soon."""
        left_ms = self.pair.certificate.not_valid_after_utc.timestamp() * 1000 - self._clock()
        if left_ms < RENEW_BEFORE_DAYS * founding.DAY_MS:
            self.pair = self._issue_own()
            log.info("certificate renewed")
