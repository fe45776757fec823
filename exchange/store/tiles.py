"""The tree of a log on disk: its nodes in tiles of 256 a level, the newest of them in memory."""

import sqlite3
import threading
import zlib
from collections.abc import Mapping, Sequence
from typing import Final

from exchange import merkle
from exchange.errors import StoreError
from exchange.store.connections import Connections

TILE: Final = 256
HASH: Final = 32
CACHED_TILES: Final = 1024  # 8 KiB each
CACHED_EDGES: Final = 8


class Tiles:
    """The nodes of the tree over the file's log."""

    def __init__(self, file: Connections) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._tiles: dict[tuple[int, int], bytes] = {}
        self._edges: dict[int, list[bytes]] = {}
        self.regrown = 0
        """How often a part of the tree was made again because the disk had changed it."""

    def grow(self, write: sqlite3.Connection, size: int, leaves: Sequence[bytes]) -> dict[tuple[int, int], bytes]:
        """Write the new nodes in the caller's transaction; returns the tiles that changed, to `keep` once durable."""
        changed: dict[tuple[int, int], bytearray] = {}
        for level, index, value in merkle.new_nodes(size, leaves, self.node_at):
            key = (level, index // TILE)
            if key not in changed:
                changed[key] = bytearray(self._tile(*key) if index % TILE else b"")
            changed[key] += value
        tiles = {key: bytes(hashes) for key, hashes in changed.items()}
        write.executemany(
            "INSERT INTO tile (level, tile, hashes, sum) VALUES (?, ?, ?, ?) "
            "ON CONFLICT DO UPDATE SET hashes = excluded.hashes, sum = excluded.sum",
            [(*key, hashes, zlib.crc32(hashes)) for key, hashes in tiles.items()],
        )
        return tiles

    def edge(self, size: int) -> list[bytes]:
        """The incomplete right edge of the tree of that size, the same for all proofs in it; the log is as long."""
        edge = self._edges.get(size)
        if edge is None:
            edge = merkle.right_edge(size, self.node_at)
            with self._lock:
                while len(self._edges) >= CACHED_EDGES:
                    del self._edges[next(iter(self._edges))]
                self._edges[size] = edge
        return edge

    def node_at(self, level: int, index: int) -> bytes:
        """One node, 32 bytes; the leaves are level 0.

        Raises:
            StoreError: It is not there, or the disk failed.
        """
        start = index % TILE * HASH
        value = self._tile(level, index // TILE)[start : start + HASH]
        if len(value) != HASH:
            raise StoreError("the tree on disk is shorter than the log", hint="restore the store")
        return value

    def _tile(self, level: int, tile: int) -> bytes:
        cached = self._tiles.get((level, tile))
        if cached is not None:
            return cached
        row = self._file.one("SELECT hashes, sum FROM tile WHERE level = ? AND tile = ?", level, tile)
        hashes: bytes = row[0] if row else b""
        if row and row[1] not in (None, zlib.crc32(hashes)):
            hashes = self._regrown(level, tile, len(hashes) // HASH)
        if len(hashes) == TILE * HASH:
            # A growing tile is kept by the writer alone: a reader's copy could be older than the one already here.
            self.keep({(level, tile): hashes})
        return hashes

    def _regrown(self, level: int, tile: int, count: int) -> bytes:
        """A tile that the disk changed, made again from what it was made of."""
        self.regrown += 1
        first = tile * TILE
        if level:
            below = [
                (self.node_at(level - 1, 2 * k), self.node_at(level - 1, 2 * k + 1))
                for k in range(first, first + count)
            ]
            return b"".join(merkle.parent(left, right) for left, right in below)
        with self._file.reading() as read:
            sql = "SELECT id FROM log WHERE position >= ? AND position < ? ORDER BY position"
            return b"".join(row[0] for row in read.execute(sql, (first, first + count)).fetchall())

    def keep(self, tiles: Mapping[tuple[int, int], bytes]) -> None:
        """Remember tiles, by (level, tile), that are durable."""
        with self._lock:
            for key, hashes in tiles.items():
                self._tiles.pop(key, None)
                self._tiles[key] = hashes
            while len(self._tiles) > CACHED_TILES:
                del self._tiles[next(iter(self._tiles))]
