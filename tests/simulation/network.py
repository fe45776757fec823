"""A network under the deterministic loop: gRPC channels whose messages take time, and links that fail.

It stands where grpc.aio.Channel stands, so the product's own stubs, services and error mapping run on it. As with gRPC,
one stream keeps its order and loses nothing while it lives; what happens is that it ends, hangs or never starts.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
from google.protobuf.message import Message

from exchange.v1 import exchange_pb2_grpc as rpc
from tests.simulation.loop import SimulatedLoop

WINDOW: Final = 8
"""Messages a stream may have under way in one direction before its writer waits."""
SILENCE_S: Final = 30.0
"""After this long without the link both ends of a stream know it, as by keepalive."""


class _AbortError(Exception):
    def __init__(self, code: grpc.StatusCode, details: str, trailing: tuple[tuple[str, bytes], ...]) -> None:
        super().__init__(details)
        self.code, self.details, self.trailing = code, details, trailing


def failure(code: grpc.StatusCode, details: str, trailing: Any = ()) -> grpc.aio.AioRpcError:
    """A failed call as a stub raises it."""
    metadata = grpc.aio.Metadata(*trailing)
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), metadata, details=details)


class Context:
    """What a servicer sees of its caller."""

    def __init__(self, caller: str) -> None:
        self.caller = caller

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> None:
        """End the call with a status."""
        raise _AbortError(code, details, tuple(trailing_metadata))


@dataclass(eq=False)
class _Pipe:
    """One direction of a stream: ordered, delayed, bounded; ends by `finish` or `fail`."""

    net: "Network"
    ends: tuple[str, str]
    _row: deque[Callable[[], None]] = field(default_factory=deque)
    _arrived: deque[bytes] = field(default_factory=deque)
    _under_way: int = 0
    _last_s: float = 0.0
    _error: Exception | None = None
    _finished: bool = False
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    _no_reader: Exception | None = None
    _no_writer: Exception | None = None

    def abandon(self, error: Exception, *, by: str) -> None:
        """One end is gone and the other does not know."""
        if by == self.ends[0]:
            self._no_writer = error
        else:
            self._no_reader = error
        self._news.set()

    async def put(self, data: bytes) -> None:
        self.net.watch(self.ends, data)
        while self._under_way + len(self._arrived) >= WINDOW and self._error is None:
            self._news.clear()
            await self._news.wait()
        if self._no_writer is not None:
            raise self._no_writer
        if self._error is not None:
            raise self._error
        self._under_way += 1
        self._later(lambda: self._arrive(data))

    def _later(self, act: Callable[[], None]) -> None:
        # Each timer carries what is first in the row, so a stream keeps its order even when two are due at once.
        loop = self.net.loop
        self._row.append(act)
        self._last_s = max(self._last_s, loop.time() + self.net.delay_s())
        loop.call_at(self._last_s, self._pass)

    def _pass(self) -> None:
        if self._error is None and not self.net.is_up(*self.ends):
            # Held by the cut link; sent again by TCP once it is back, or lost with the stream.
            self.net.loop.call_later(0.2, self._pass)
            return
        self._row.popleft()()

    def _arrive(self, data: bytes) -> None:
        self._under_way -= 1
        if self._error is None:
            self._arrived.append(data)
            self._news.set()

    def finish(self) -> None:
        """No more will be put; what is under way still arrives."""

        def end() -> None:
            self._finished = True
            self._news.set()

        self._later(end)

    def fail(self, error: Exception) -> None:
        """The stream is gone with all that is under way."""
        if self._error is None and not self._finished:
            self._error = error
            self._arrived.clear()
            self._news.set()

    def fail_in_order(self, error: Exception) -> None:
        """The other end refused: what it said before still arrives."""
        self._later(lambda: self.fail(error) if not self._arrived else self._fail_after(error))

    def _fail_after(self, error: Exception) -> None:
        self._error_after = error
        self._news.set()

    _error_after: Exception | None = None

    async def get(self) -> bytes | None:
        """The next message, None at the end."""
        while True:
            if self._no_reader is not None:
                raise self._no_reader
            if self._arrived:
                self._news.set()
                return self._arrived.popleft()
            if self._error is not None:
                raise self._error
            if self._error_after is not None:
                raise self._error_after
            if self._finished:
                return None
            self._news.clear()
            await self._news.wait()


class _Call:
    """One call: a task at the server, two pipes, and the face a stub's caller uses."""

    def __init__(
        self, net: "Network", caller: str, server: str, method: str, parse: Callable[[bytes], Message]
    ) -> None:
        self._net, self.caller, self.server = net, caller, server
        self._up, self._down = _Pipe(net, (caller, server)), _Pipe(net, (server, caller))
        self._parse = parse
        self._ended = self._half_open = False
        self._opening = net.loop.create_task(self._open(method))
        self._serving: asyncio.Task[None] | None = None
        net.calls[self] = None

    async def _open(self, method: str) -> None:
        await asyncio.sleep(self._net.delay_s())
        service = self._net.services.get(self.server)
        if service is None or not self._net.is_up(self.caller, self.server):
            await asyncio.sleep(1.0)
            self.break_(failure(grpc.StatusCode.UNAVAILABLE, "failed to connect"))
            return
        self._serving = self._net.loop.create_task(self._serve(service, method))

    async def _serve(self, service: rpc.ExchangeServicer, method: str) -> None:
        context = Context(self.caller)
        handler = getattr(service, method)
        request_type, streams_in, streams_out = METHODS[method]

        async def requests() -> AsyncIterator[Message]:
            while (data := await self._up.get()) is not None:
                yield request_type.FromString(data)

        try:
            if streams_in:
                given: Any = requests()
            else:
                data = await self._up.get()
                if data is None:
                    return
                given = request_type.FromString(data)
            if streams_out:
                async for response in handler(given, context):
                    await self._down.put(response.SerializeToString())
            else:
                await self._down.put((await handler(given, context)).SerializeToString())
            self._down.finish()
        except _AbortError as error:
            self._down.fail_in_order(failure(error.code, error.details, error.trailing))
        except grpc.aio.AioRpcError:
            pass
        except Exception as error:
            self._net.crashes.append(error)
            self._down.fail_in_order(failure(grpc.StatusCode.UNKNOWN, repr(error)))

    # ---- the caller's face

    async def write(self, request: Message) -> None:
        """Send one request."""
        await self._up.put(request.SerializeToString())

    async def done_writing(self) -> None:
        """No more requests."""
        self._up.finish()

    async def read(self) -> Any:
        """The next response, or EOF."""
        data = await self._down.get()
        if data is None:
            self._end()
            return grpc.aio.EOF
        return self._parse(data)

    async def __aiter__(self) -> AsyncIterator[Any]:
        """Responses until the end."""
        while (response := await self.read()) is not grpc.aio.EOF:
            yield response

    def cancel(self) -> bool:
        """The caller goes away."""
        if self._half_open:
            return True
        self.break_(failure(grpc.StatusCode.CANCELLED, "cancelled by the caller"))
        return True

    def done(self) -> bool:
        """Whether the call is over."""
        return self._ended

    def break_(self, error: Exception) -> None:
        """The stream is gone at both ends; the handler is cancelled as grpc.aio does."""
        self._up.fail(error)
        self._down.fail(error)
        self._opening.cancel()
        if self._serving is not None:
            self._serving.cancel()
        self._end()

    def half_open(self) -> None:
        """The caller's end breaks; the server's lives on, takes what is under way, and knows after SILENCE_S."""
        if self._serving is None or self._half_open or self._ended:
            return
        self._half_open = self._ended = True
        error = failure(grpc.StatusCode.UNAVAILABLE, "connection reset")
        self._up.abandon(error, by=self.caller)
        self._down.abandon(error, by=self.caller)
        self._net.loop.call_later(SILENCE_S, self.break_, error)

    def _end(self) -> None:
        self._ended = True
        self._net.calls.pop(self, None)


def _methods() -> dict[str, tuple[type[Message], bool, bool]]:
    from exchange.v1 import exchange_pb2 as pb

    service = pb.DESCRIPTOR.services_by_name["Exchange"]
    return {
        method.name: (getattr(pb, method.input_type.name), method.client_streaming, method.server_streaming)
        for method in service.methods
    }


METHODS: Final = _methods()


class Channel:
    """Stands for a mutual-TLS grpc.aio.Channel from one named caller to one node."""

    def __init__(self, net: "Network", caller: str, server: str) -> None:
        self._net, self._caller, self._server = net, caller, server
        self._calls: list[_Call] = []

    async def __aenter__(self) -> "Channel":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """End its calls."""
        for call in self._calls:
            call.cancel()

    def _start(self, path: str, parse: Callable[[bytes], Message]) -> _Call:
        self._calls = [call for call in self._calls if not call.done()]
        self._calls.append(_Call(self._net, self._caller, self._server, path.rpartition("/")[2], parse))
        return self._calls[-1]

    def unary_unary(
        self, path: str, *_: object, response_deserializer: Callable[[bytes], Message], **__: object
    ) -> Any:
        """A call with one request and one response."""

        async def call(request: Message, *, timeout: float | None = None, **_: object) -> Any:
            started = self._start(path, response_deserializer)
            try:
                async with asyncio.timeout(timeout):
                    await started.write(request)
                    return await started.read()
            except TimeoutError:
                raise failure(grpc.StatusCode.DEADLINE_EXCEEDED, "deadline exceeded") from None
            finally:
                started.cancel()

        return call

    def unary_stream(
        self, path: str, *_: object, response_deserializer: Callable[[bytes], Message], **__: object
    ) -> Any:
        """A call with one request and many responses."""

        def call(request: Message, **_: object) -> _Call:
            started = self._start(path, response_deserializer)
            self._net.loop.create_task(_quietly(started.write(request)))
            return started

        return call

    def stream_stream(
        self, path: str, *_: object, response_deserializer: Callable[[bytes], Message], **__: object
    ) -> Any:
        """A call with many of both."""

        def call(requests: AsyncIterator[Message] | None = None, **_: object) -> _Call:
            started = self._start(path, response_deserializer)
            if requests is not None:
                self._net.loop.create_task(_quietly(_pour(requests, started)))
            return started

        return call

    stream_unary = stream_stream


async def _pour(requests: AsyncIterator[Message], call: _Call) -> None:
    async for request in requests:
        await call.write(request)
    await call.done_writing()


async def _quietly(writing: Any) -> None:
    """A reader of the call learns of its end; the writer need not."""
    try:
        await writing
    except grpc.aio.AioRpcError:
        return


class Network:
    """Every link of a simulated exchange.

    Args:
        loop: Whose chance and time.
        longest_s: A message takes up to this long.
    """

    def __init__(self, loop: SimulatedLoop, *, longest_s: float = 0.05) -> None:
        self.loop, self.longest_s = loop, longest_s
        self.services: dict[str, rpc.ExchangeServicer] = {}
        self.calls: dict[_Call, None] = {}
        """Not a set: broken in the order in which they began, so that a run repeats."""
        self.watch: Callable[[tuple[str, str], bytes], None] = lambda _, __: None
        """Sees every message, and between whom."""
        self.crashes: list[Exception] = []
        """What a handler raised and did not mean to."""
        self._cut: dict[frozenset[str], float] = {}

    def connect(self, caller: str, server: str) -> Channel:
        """A channel by which a desk or node reaches a node."""
        return Channel(self, caller, server)

    def delay_s(self) -> float:
        """How long the next message takes."""
        return self.loop.random.random() * self.longest_s

    def is_up(self, one: str, other: str) -> bool:
        """Whether messages pass."""
        return frozenset((one, other)) not in self._cut

    def cut(self, one: str, other: str) -> None:
        """Messages stop; both ends know after SILENCE_S."""
        link = frozenset((one, other))
        began = self._cut.setdefault(link, self.loop.time())

        def notice() -> None:
            if self._cut.get(link) == began:
                self.reset(one, other)

        self.loop.call_later(SILENCE_S, notice)

    def heal(self, one: str, other: str) -> None:
        """Messages pass again."""
        self._cut.pop(frozenset((one, other)), None)

    def reset(self, one: str, other: str) -> None:
        """Every stream between the two breaks now."""
        for call in [c for c in self.calls if {c.caller, c.server} == {one, other}]:
            call.break_(failure(grpc.StatusCode.UNAVAILABLE, "connection reset"))

    def half_open(self, one: str, other: str) -> None:
        """Every stream between the two breaks at its caller alone, which calls again: two connections at the server."""
        for call in [c for c in self.calls if {c.caller, c.server} == {one, other}]:
            call.half_open()

    def crash(self, name: str) -> None:
        """A process is gone: its service, and every stream from or to it."""
        self.services.pop(name, None)
        for call in [c for c in self.calls if name in (c.caller, c.server)]:
            call.break_(failure(grpc.StatusCode.UNAVAILABLE, "connection reset by peer"))
