"""Where a node keeps its log: one Protocol, several back ends."""
