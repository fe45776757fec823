"""desk.toml."""

from exchange.files import Settings


class DeskSettings(Settings):
    """Who this desk is and which node hosts it; the node's address and CA come from the roster."""

    desk: str
    lineage: str
    node: str
