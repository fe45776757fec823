"""A new archive key: what the desk's file says goes under it row by row, then the old key is destroyed.

Both keys are in the keystore until the last row is moved, so a loss of power at any moment is followed by going on. Nobody
else has the file open meanwhile: whoever had would write under a key that is gone a moment later.
"""

import os
from pathlib import Path
from typing import Final

from exchange.desk.archive import Archive
from keys.keystore import Keystore

KEY: Final = "archive"
"""Name in the keystore of the key in use."""
NEXT: Final = "archive-next"
"""Name of the one that everything is being moved to."""
KEY_BYTES: Final = 32


def make(store: Keystore) -> None:
    """The first archive key.

    Raises:
        KeystoreError: The keystore cannot be written, or has one.
    """
    store.put(KEY, os.urandom(KEY_BYTES), kind="archive")


def unfinished(store: Keystore) -> bool:
    """Whether a move was cut off."""
    return NEXT in store.names()


def rekey(store: Keystore, path: Path) -> None:
    """Put the desk's file under a new key, or go on where that was cut off; the old key is gone when this returns. Blocks.

    Args:
        store: The desk's keystore.
        path: The desk's file.

    Raises:
        StoreError: Somebody else has the file open, or the disk failed.
        KeystoreError: The keystore cannot be written.
    """
    old, new = store.get(KEY), store.get(NEXT) if unfinished(store) else os.urandom(KEY_BYTES)
    if new != old:
        # The file first: when somebody has it open nothing has changed.
        archive = Archive(path, new, leaving=old)
        try:
            store.put(NEXT, new, kind="archive")
            archive.relock()
            store.replace(KEY, new)
        finally:
            archive.close()
    store.delete(NEXT)
