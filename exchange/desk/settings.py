"""desk.toml."""

from pydantic import Field

from exchange.files import Settings


class DeskSettings(Settings):
    """Who this desk is and which node hosts it; the node's address and CA come from the roster."""

    desk: str
    lineage: str
    node: str
    heartbeat_s: int = Field(default=3600, ge=60, le=7 * 86_400)
    """How often readers are told what the last numbers are, while something is said now and then."""
