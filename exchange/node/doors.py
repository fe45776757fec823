"""At the door of a listener: how many calls one caller may hold open, and how long a request may take to come.

gRPC bounds the calls of all callers together and knows no deadline for a request that never comes whole: without this one
member alone could take every place, and nobody else would be served.
"""

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Final

import grpc

from exchange import wire
from exchange.errors import LimitError
from exchange.node.quota import Open
from keys.errors import TocsinError

# The longest honest one is a message of 4 MiB over a slow line.
REQUEST_S: Final = 30.0
UNKNOWN: Final = ""
Requests = AsyncIterator[Any]
Handler = Any
"""grpc.RpcMethodHandler, which is generic for the type checker alone."""


class Doors(grpc.aio.ServerInterceptor):
    """One for each listener.

    Args:
        caller_of: Who is at the other end; what raises is counted as one caller, and refused where it is served.
        most: Calls that one caller may have open.
        request_s: How long the one request of a call may take to come.
    """

    def __init__(self, caller_of: Callable[[wire.Context], str], *, most: int, request_s: float = REQUEST_S) -> None:
        self._caller_of, self._request_s = caller_of, request_s
        self._open = Open(most)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """The same call behind this door."""
        handler = await continuation(handler_call_details)
        return handler and self._behind(handler)

    def _behind(self, handler: Handler) -> Handler:
        # A call with one request is served as one with a stream of them: they are the same on the wire, and only so does it
        # begin before its request is whole.
        kinds = (handler.unary_unary, handler.unary_stream, handler.stream_unary, handler.stream_stream)
        (served,) = filter(None, kinds)
        one = not handler.request_streaming

        async def answer(requests: Requests, context: wire.Context) -> Any:
            with await self._entered(context):
                return await served(await self._only(requests, context) if one else requests, context)

        async def answers(requests: Requests, context: wire.Context) -> AsyncIterator[Any]:
            with await self._entered(context):
                given = served(await self._only(requests, context) if one else requests, context)
                # Closed with this one, not when memory is next tidied up.
                async with contextlib.aclosing(given):
                    async for response in given:
                        yield response

        make = (
            grpc.stream_stream_rpc_method_handler
            if handler.response_streaming
            else grpc.stream_unary_rpc_method_handler
        )
        behaviour = answers if inspect.isasyncgenfunction(served) else answer
        return make(behaviour, handler.request_deserializer, handler.response_serializer)

    async def _entered(self, context: wire.Context) -> contextlib.AbstractContextManager[None]:
        try:
            caller = self._caller_of(context)
        except TocsinError:
            caller = UNKNOWN
        try:
            self._open.enter(caller)
        except LimitError as error:
            await wire.abort(context, error)
        return self._leaving(caller)

    @contextlib.contextmanager
    def _leaving(self, caller: str) -> Iterator[None]:
        try:
            yield
        finally:
            self._open.leave(caller)

    async def _only(self, requests: Requests, context: wire.Context) -> Any:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._request_s):
                async for request in requests:
                    return request
        await wire.abort(context, LimitError(f"no request came within {self._request_s:.0f} s"))
