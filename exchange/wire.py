"""gRPC at both ends: channel options, credentials, and errors as google.rpc.Status with ErrorInfo.

The options carry their reasons: defaults let a stalled reader grow without bound and notice a hung peer after a minute.
"""

import contextlib
from collections.abc import Iterator
from typing import Any, Final, NoReturn, TypeAlias

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from exchange.errors import IdentityError
from exchange.text import printable
from keys.errors import PeerError, TocsinError

DOMAIN: Final = "tocsin"
MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024
KEEPALIVE: Final = [
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Without it a stopped peer, whose kernel still acknowledges, is noticed after a minute.
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # The bandwidth estimate has no useful bound: a stalled reader on a slow link would grow to hundreds of megabytes.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 8 * 1024 * 1024),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
]
SERVER_OPTIONS: Final = [
    *KEEPALIVE,
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    # Two nodes on one port would share its callers; the second must fail to start.
    ("grpc.so_reuseport", 0),
]
CLIENT_OPTIONS: Final = [
    *KEEPALIVE,
    ("grpc.initial_reconnect_backoff_ms", 200),
    # The time a connection has to come about, TLS handshake and all: three round trips of a link around the world that
    # loses a packet or two, or a machine that is busy. Less fails every attempt there.
    ("grpc.min_reconnect_backoff_ms", 10_000),
    ("grpc.max_reconnect_backoff_ms", 5_000),
]
HINT: Final = "hint"
Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
"""A call at its server."""


class RemoteError(PeerError):
    """The other end refused; `reason` is its rule id."""

    def __init__(self, message: str, *, reason: str, status: str, hint: str, metadata: dict[str, str]) -> None:
        super().__init__(message, hint=hint, **metadata)
        self.rule = reason
        self.grpc_status = status


class UnreachableError(TocsinError):
    """No answer from the node."""

    status, reason = "UNAVAILABLE", "UNREACHABLE"
    hint = "check that the node runs (`tocsin node status`) and that the network is up"


def status_of(error: TocsinError) -> status_pb2.Status:
    """An error of ours as google.rpc.Status with ErrorInfo."""
    metadata = {**error.metadata, HINT: error.hint}
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)
    detail = any_pb2.Any()
    detail.Pack(info)
    code = grpc.StatusCode[error.status].value[0]
    return status_pb2.Status(code=code, message=str(error), details=[detail])


async def abort(context: Context, error: TocsinError) -> NoReturn:
    """End a call with an error of ours."""
    status = rpc_status.to_status(status_of(error))
    await context.abort(status.code, status.details, status.trailing_metadata)
    raise AssertionError("abort raises")


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """A call that fails in here raises what the other end said of it.

    Raises:
        TocsinError: See `error_from`.
    """
    try:
        yield
    except grpc.aio.AioRpcError as failure:
        raise error_from(failure) from None


def error_from(failure: grpc.aio.AioRpcError) -> TocsinError:
    """A failed call as an error of ours, with the rule and hint the other end gave: its words, made harmless."""
    status = rpc_status.from_call(failure)  # type: ignore[arg-type]  # has what it reads
    for detail in status.details if status else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info) and info.domain == DOMAIN:
            metadata = {printable(key): printable(value) for key, value in info.metadata.items() if key != HINT}
            hint, reason = printable(info.metadata[HINT]), printable(info.reason)
            name = failure.code().name
            return RemoteError(printable(status.message), reason=reason, status=name, hint=hint, metadata=metadata)
    if failure.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED):
        return UnreachableError(f"the node does not answer: {printable(failure.details() or '')}")
    name = failure.code().name
    return RemoteError(
        printable(failure.details() or "the node refused"), reason=name, status=name, hint="", metadata={}
    )


def peer_pem(context: Context) -> bytes:
    """The certificate the caller proved to hold, over TLS 1.3.

    Raises:
        IdentityError: No certificate, or an older TLS.
    """
    auth = context.auth_context()
    certificates = list(auth.get("x509_pem_cert", []))
    versions = [value.decode() for value in auth.get("ssl_tls_version", [])]
    if not certificates:
        raise IdentityError("the call carries no certificate")
    if versions and versions[0] != "TLSv1.3":
        raise IdentityError(f"{versions[0]} is too old: TLS 1.3 is required")
    return next(iter(certificates))
