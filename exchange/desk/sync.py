"""The synchronous face: the same desk for scripts and notebooks, on an event loop in a thread."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from exchange.desk.desk import Desk
from exchange.desk.events import Delivery, Event
from exchange.v1 import report_pb2 as rep

T = TypeVar("T")


class SyncDesk:
    """Use as `with SyncDesk.open("desk.toml") as desk:`. Methods as on Desk, without await."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="desk", daemon=True)

    @classmethod
    def open(cls, path: str | Path, *, passphrase: bytes = b"") -> Self:
        """A desk by its desk.toml or its directory."""
        return cls(Desk.open(path, passphrase=passphrase))

    def __enter__(self) -> Self:
        """Start."""
        self._thread.start()
        self._run(self.desk.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self._run(self.desk.__aexit__(kind, error, trace))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def publish(
        self, channel: str, said: rep.Report | rep.Item, *, marking: str = "AMBER", to: Sequence[str] = ()
    ) -> bytes:
        """See Desk.publish."""
        return self._run(self.desk.publish(channel, said, marking=marking, to=to))

    def publish_all(
        self, channel: str, said: Iterable[rep.Report | rep.Item], *, marking: str = "AMBER", to: Sequence[str] = ()
    ) -> list[bytes]:
        """See Desk.publish_all."""
        return self._run(self.desk.publish_all(channel, said, marking=marking, to=to))

    def flush(self, timeout_s: float | None = None) -> int:
        """See Desk.flush."""
        return self._run(self.desk.flush(timeout_s))

    def subscribe(self, channel: str, *, follow: bool = False) -> Iterator[Delivery]:
        """See Desk.subscribe; ends at the newest entry by default."""
        stream = self.desk.subscribe(channel, follow=follow)

        async def following() -> Delivery | None:
            return await anext(stream, None)

        try:
            while (delivery := self._run(following())) is not None:
                yield delivery
        finally:
            if isinstance(stream, AsyncGenerator) and not self._loop.is_closed():
                self._run(_close(stream))

    def events(self) -> list[Event]:
        """See Desk.events."""
        return self.desk.events()


async def _close(stream: AsyncGenerator[Any, None]) -> None:
    await stream.aclose()
