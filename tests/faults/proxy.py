"""A link between two machines that can be slow, cut, or half open: a relay of bytes on loopback."""

import asyncio
import contextlib
from typing import Final

PIECE: Final = 16_384


class Proxy:
    """Listens where the other end is expected and relays to where it is.

    Args:
        port: Where it listens.
        behind: Port it relays to.
    """

    def __init__(self, port: int, behind: int) -> None:
        self._port, self._behind = port, behind
        self.delay_s = 0.0
        self.bytes_per_s = 0.0
        """0 = as fast as it goes."""
        self.connections = 0
        """How many were asked for, since the link was last cut too."""
        self._up, self._mute = True, asyncio.Event()
        self._mute.set()
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Proxy":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()
        self._server.close()
        for task in self._tasks:
            task.cancel()

    def cut(self) -> None:
        """Every connection is reset, and so is whoever comes."""
        self._up, self.connections = False, 0
        for writer in list(self._open):
            writer.transport.abort()

    def hang(self) -> None:
        """Half open: connections stay, and are accepted; no byte passes."""
        self._mute.clear()

    def heal(self) -> None:
        """As good as new. What hung passes after all, as TCP would send it again."""
        self._up = True
        self._mute.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if not self._up:
            writer.transport.abort()
            return
        try:
            back, forth = await asyncio.open_connection("127.0.0.1", self._behind)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, forth}
        for one, other in ((reader, forth), (back, writer)):
            task = asyncio.create_task(self._relay(one, other))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(PIECE):
                await asyncio.sleep(self.delay_s + (len(data) / self.bytes_per_s if self.bytes_per_s else 0))
                await self._mute.wait()
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
        self._open.discard(writer)
