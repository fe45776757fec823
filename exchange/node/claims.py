"""Who says that our log was longer than it is: it was restored from an older backup, or somebody lies."""

from typing import Final

import structlog

log = structlog.get_logger("tocsin.node")
MAX_CLAIMS: Final = 256


class Claims:
    """The longest each caller says it saw, where that is more than we hold."""

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}

    def note(self, caller: str, seen_size: int, size: int) -> None:
        """A caller, or a peer that we ask, saw a longer log than ours; told once for each, loudly."""
        if self.sizes.get(caller, 0) >= seen_size or len(self.sizes) >= MAX_CLAIMS:
            return
        self.sizes[caller] = seen_size
        log.error(
            "LOG_ROLLBACK: our log is shorter than it was seen: restored from a backup?",
            by=caller,
            seen=seen_size,
            size=size,
        )

    def still(self, size: int) -> dict[str, int]:
        """Claims beyond a size of our log."""
        return {caller: seen for caller, seen in self.sizes.items() if seen > size}
