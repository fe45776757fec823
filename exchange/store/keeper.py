"""The thread beside the writer: it copies the WAL back and fills the index, so that no commit waits for either."""

import contextlib
import threading
from typing import Final

from exchange.errors import StoreError
from exchange.store.connections import Connections, failing
from exchange.store.index import FLUSHED_ROWS, MAX_WAITING_ROWS, Index
from exchange.store.schema import PAGE

# Copying the WAL back inside a commit stalls it for 5 to 15 ms, so another thread does it each 4 MB; under constant
# writing that thread cannot start the WAL anew, so above 64 MB the writer does, with next to nothing left to copy.
CHECKPOINT_BYTES: Final = 4_000_000
RESTART_FRAMES: Final = 64_000_000 // PAGE


class Keeper:
    """Looks after one file and its index; the thread starts with the first work."""

    def __init__(self, file: Connections, index: Index) -> None:
        self._file = file
        self._index = index
        self._uncopied_bytes = 0
        self._restart_due = False
        self._closing = False
        self._work_due = threading.Event()
        self._copying = threading.Lock()
        self._thread: threading.Thread | None = None

    def written(self, count: int) -> None:
        """Have the WAL copied back and the index filled once enough was written. The caller holds the writing lock."""
        self._uncopied_bytes += count
        waiting = self._index.waiting
        if (self._uncopied_bytes < CHECKPOINT_BYTES and waiting < FLUSHED_ROWS) or self._closing:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._keep, name="store-keeper", daemon=True)
            self._thread.start()
        self._work_due.set()

    def _keep(self) -> None:
        while not self._closing:
            self._work_due.wait()
            self._work_due.clear()
            # A failure here loses nothing: WAL and memory have it all, and the next commit on a broken disk says so.
            with contextlib.suppress(StoreError):
                if self._index.waiting >= FLUSHED_ROWS:
                    self._index.flush()
            with contextlib.suppress(StoreError):
                if self._uncopied_bytes >= CHECKPOINT_BYTES:
                    self._copy_wal()

    def _copy_wal(self) -> None:
        self._uncopied_bytes = 0
        with self._copying, self._file.reading() as connection:
            _, frames, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        self._restart_due = frames > RESTART_FRAMES

    def make_room(self) -> None:
        """Before a commit: what the thread could not do beside the writer.

        Raises:
            StoreError: The disk or database failed.
        """
        if self._restart_due:
            self._restart_wal()
        if self._index.waiting > MAX_WAITING_ROWS:
            self._index.flush()

    def _restart_wal(self) -> None:
        with failing("checkpoint"), self._file.lock, self._copying:
            self._file.write.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
            self._restart_due = False

    def stop(self) -> None:
        """End the thread; what is written from now on is left to the caller."""
        with self._file.lock:
            self._closing = True
        self._work_due.set()
        if self._thread is not None:
            self._thread.join()
