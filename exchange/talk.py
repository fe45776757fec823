"""What a process says on the side: its log and its messages to people. Failing to say it must not fail what is done."""

import contextlib
from typing import Any, TextIO


class Talk:
    """A stream whose full disk, or whose reader that went away, costs the words and nothing else.

    A node's log is often on the disk of the node. When that is full a line more would raise in whatever had it to say: in
    the writer, which is about to tell everybody who waits that the disk is full.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        """All else is the stream's."""
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, or not."""
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, or not."""
        with contextlib.suppress(OSError):
            self._stream.flush()
