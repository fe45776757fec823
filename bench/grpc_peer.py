"""The floor under a single report: a bare gRPC unary call with mutual TLS, one process to another over loopback.

No keys, no log, no store: the server answers at once with the bytes it got. What one report costs above this is ours.
"""

import argparse
import asyncio
import datetime
import ipaddress
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bench.figures import percentile
from bench.process import child, line, scratch
from bench.reports import REPORT_BYTES, report_item

METHOD: Final = "/bench.Echo/Echo"
WARM_UP: Final = 50
# A call every 5 ms, as in the measurements it is compared with.
IDLE_S: Final = 0.005


@dataclass(frozen=True, slots=True, repr=False)
class Identity:
    """PEM of a private key, its certificate, and the CA that issued it."""

    key: bytes
    certificate: bytes
    ca: bytes

    def save(self, directory: Path) -> None:
        """Writes the three files that `load` reads."""
        for name, pem in (("key", self.key), ("certificate", self.certificate), ("ca", self.ca)):
            (directory / f"{name}.pem").write_bytes(pem)

    @classmethod
    def load(cls, directory: Path) -> "Identity":
        """Reads what `save` wrote."""
        return cls(*((directory / f"{name}.pem").read_bytes() for name in ("key", "certificate", "ca")))


def identities() -> tuple[Identity, Identity]:
    """Server and client under one CA made for this run: P-256, valid for a day, for 127.0.0.1."""
    now = datetime.datetime.now(datetime.UTC)
    ca_key = ec.generate_private_key(ec.SECP256R1())

    def builder(name: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench-ca")]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(days=1))
        )

    ca = builder("bench-ca", ca_key).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    ca_pem = ca.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def issue(name: str, usage: x509.ObjectIdentifier) -> Identity:
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = (
            builder(name, key)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
            .add_extension(x509.ExtendedKeyUsage([usage]), False)
            .sign(ca_key, hashes.SHA256())
        )
        return Identity(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
            leaf.public_bytes(serialization.Encoding.PEM),
            ca_pem,
        )

    return issue("server", ExtendedKeyUsageOID.SERVER_AUTH), issue("client", ExtendedKeyUsageOID.CLIENT_AUTH)


async def _echo(request: bytes, _: Any) -> bytes:
    return request


async def _serve(directory: Path) -> None:
    """Serves until the process is ended; prints the port when ready."""
    identity = Identity.load(directory)
    server = grpc.aio.server()
    handlers: dict[str, Any] = {"Echo": grpc.unary_unary_rpc_method_handler(_echo)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Echo", handlers),))
    credentials = grpc.ssl_server_credentials(
        [(identity.key, identity.certificate)], root_certificates=identity.ca, require_client_auth=True
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


async def latency(*, calls: int = 500, timeout_s: float = 60.0) -> dict[str, Any]:
    """Time of one call with one report as request and as answer, idle in between.

    Args:
        calls: How many are measured, one after the other, IDLE_S seconds apart.
        timeout_s: Bound on the whole measurement.

    Returns:
        `calls`, `report_bytes`, `p50_ms`, `p99_ms`.

    Raises:
        TimeoutError: It took longer.
    """
    server_identity, client_identity = identities()
    taken_ms: list[float] = []
    with scratch("grpc") as directory:
        server_identity.save(Path(directory))
        command = (sys.executable, "-m", "bench.grpc_peer", "--serve", directory)
        async with asyncio.timeout(timeout_s), child(*command) as server:
            credentials = grpc.ssl_channel_credentials(
                client_identity.ca, client_identity.key, client_identity.certificate
            )
            address = f"127.0.0.1:{await line(server)}"
            async with grpc.aio.secure_channel(address, credentials) as channel:
                echo = channel.unary_unary(METHOD, request_serializer=bytes, response_deserializer=bytes)
                for index in range(calls + WARM_UP):
                    payload = report_item(index)
                    started = time.perf_counter()
                    answer = await echo(payload, timeout=10)
                    if index >= WARM_UP:
                        taken_ms.append((time.perf_counter() - started) * 1e3)
                    if answer != payload:
                        raise RuntimeError("the answer is not the request")
                    await asyncio.sleep(IDLE_S)
    return {
        "calls": calls,
        "report_bytes": REPORT_BYTES,
        "p50_ms": percentile(taken_ms, 0.5),
        "p99_ms": percentile(taken_ms, 0.99),
    }


def main() -> None:
    """Measures and prints one JSON object; with --serve it is the server of a measurement."""
    parser = argparse.ArgumentParser(description="A bare gRPC unary call with mutual TLS.")
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        asyncio.run(_serve(given.serve))
    else:
        print(json.dumps(asyncio.run(latency(calls=given.calls))), flush=True)


if __name__ == "__main__":
    main()
